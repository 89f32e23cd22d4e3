#!/usr/bin/env bash
# Shows Headwater at work on this machine: installs what is missing to build it, builds it, runs `headwater demo`.
# Arguments go to the demo: scripts/demo.sh --seconds 30, scripts/demo.sh --help.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

need_compiler
need curl curl ca-certificates
# shellcheck disable=SC2119  # the arguments are for the demo
need_rust
say "building headwater (a few minutes the first time)"
cargo build --release --locked --bin headwater
exec "$target_dir/release/headwater" demo "$@"
