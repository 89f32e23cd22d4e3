#!/usr/bin/env bash
# The host of SmartModules beside the reference, fluvio-smartengine (tests/smartengine). The reference brings wasmtime, a
# compiler: the first build takes some minutes.
#
#   scripts/smartengine.sh          compares results: every kind, generated records, modules that lie
#   scripts/smartengine.sh bench    start-up, memory and speed, side by side
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

HEADWATER_SMARTMODULES=$(scripts/smartmodules.sh | tail -n 1)
export HEADWATER_SMARTMODULES
export CARGO_TARGET_DIR=$target_dir/smartengine
manifest=tests/smartengine/Cargo.toml
case ${1:-} in
    '')
        say "results, beside the reference"
        cargo test --locked --manifest-path "$manifest" -- --nocapture
        ;;
    bench)
        say "figures, beside the reference"
        cargo run --locked --release --manifest-path "$manifest" --bin bench
        ;;
    *) fail "usage: scripts/smartengine.sh [bench]" ;;
esac
