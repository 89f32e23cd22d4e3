#!/usr/bin/env bash
# Builds the SmartModules that the tests run (tests/smartmodules), from source with the published SDK. The last line of its
# output is the directory in which they lie.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

need_compiler >&2
# shellcheck disable=SC2119  # no component is needed
need_rust >&2
need_rust_target wasm32-unknown-unknown >&2
need_rust_target wasm32-wasip1 >&2

# Nothing of a build that this one may be part of.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
export CARGO_TARGET_DIR=$target_dir/smartmodules
manifest=tests/smartmodules/Cargo.toml
say "building the SmartModules (wasm32)" >&2
cargo build --quiet --locked --release --manifest-path "$manifest" --examples --target wasm32-unknown-unknown >&2
cargo build --quiet --locked --release --manifest-path "$manifest" --example wasi --target wasm32-wasip1 >&2

built=$CARGO_TARGET_DIR
out=$built/modules
mkdir -p "$out"
for source in tests/smartmodules/examples/*.rs; do
    name=$(basename "$source" .rs)
    cp "$built/wasm32-unknown-unknown/release/examples/$name.wasm" "$out/"
done
cp "$built/wasm32-wasip1/release/examples/wasi.wasm" "$out/wasi-wasip1.wasm"
echo "$out"
