#!/usr/bin/env bash
# The fuzz targets of tests/fuzz, each for a while, from the committed corpus on. What they find beside it is kept in the
# target directory. An input that fails is kept as well, with how to run it again.
#
#   scripts/fuzz.sh              a minute each
#   scripts/fuzz.sh SECONDS [TARGET...]
#   scripts/fuzz.sh --minimise [TARGET...]   makes the committed corpus anew from it and what was found since
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

seconds=${1:-60}
shift || true
targets=${*:-decode recover batch request answer text sql parse bundled wasm}
case $seconds in
    --minimise) ;;
    '' | *[!0-9]*) fail "usage: scripts/fuzz.sh [SECONDS | --minimise] [TARGET...]" ;;
esac

need_compiler
need c++ g++
# shellcheck disable=SC2119  # no component is needed to fuzz
need_rust
if ! cargo fuzz --version >/dev/null 2>&1; then
    say "installing cargo-fuzz (crates.io, some minutes)"
    cargo install cargo-fuzz --locked --target-dir "$target_dir/cargo-fuzz" || fail "cargo-fuzz could not be installed"
fi

# The stable compiler: coverage is a pass of LLVM that it has too. Without a sanitizer, since ours is safe code; whatever
# overflows or is out of bounds panics.
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=$target_dir/fuzz
say "building the fuzz targets"
cargo fuzz build --fuzz-dir tests/fuzz --sanitizer none

host=$(rustc -vV | sed -n 's/^host: //p')
failed=
for target in $targets; do
    bin=$CARGO_TARGET_DIR/$host/release/$target
    found=$CARGO_TARGET_DIR/found/$target
    corpus=tests/fuzz/corpus/$target
    mkdir -p "$found"
    if [ "$seconds" = --minimise ]; then
        fresh=$(mktemp -d)
        "$bin" -merge=1 -max_len=128 -use_counters=0 "$fresh" "$corpus" "$found" 2>&1 | tail -n 1
        # What has a name of its own once failed, and stays; the rest is what the merge took: a few tens of KiB.
        find "$corpus" -type f -regextype egrep -regex '.*/[0-9a-f]{40}' -delete
        cp "$fresh"/* "$corpus"/
        rm -rf "$fresh"
        say "$target: $(find "$corpus" -type f | wc -l) inputs, $(du -b -s "$corpus" | cut -f1) bytes"
        continue
    fi
    say "$target: $seconds s"
    log=$CARGO_TARGET_DIR/$target.log
    if "$bin" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=512 -max_len=512 -len_control=0 -print_final_stats=1 \
        -artifact_prefix="$found/failed-" "$found" "$corpus" >"$log" 2>&1; then
        grep -E '^#[0-9]+.*DONE' "$log"
        grep -E 'number_of_executed_units|average_exec_per_sec|peak_rss_mb' "$log"
    else
        grep -E 'panicked|ERROR|SUMMARY' -A 2 "$log" || tail -n 20 "$log"
        for input in "$found"/failed-*; do
            [ -e "$input" ] || continue
            say "again: $bin $input"
            say "as base64: $(base64 -w 0 "$input")"
        done
        failed="$failed $target"
    fi
done
[ -z "$failed" ] || fail "failed:$failed (all output: $CARGO_TARGET_DIR/*.log)"
