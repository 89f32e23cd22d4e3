#!/usr/bin/env bash
# Builds the binary for the boards people have and runs each under qemu-user: it must take its own starter config, run a
# node that keeps what it is sent, stop in good order, and read its ring again.
#
#   scripts/cross.sh             every target below
#   scripts/cross.sh TARGET...   these only
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

need_compiler
# shellcheck disable=SC2119  # no component is needed to build
need_rust
need qemu-aarch64-static qemu-user-static
[ -e /usr/arm-linux-gnueabihf/lib/libc.so.6 ] || apt libc6-armhf-cross

# zig is the C compiler and the linker: one tool for every target, from PyPI.
venv=$target_dir/zig
python_with "$venv" ziglang ziglang cargo-zigbuild
export PATH="$venv/bin:$PATH"

work=$(mktemp -d)
node=
cleanup() {
    # A node that is still there belongs to a target that failed.
    if [ -n "$node" ]; then
        kill -KILL "$node" 2>/dev/null || true
        wait "$node" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

# emulator TARGET: what runs its programs here.
emulator() {
    case $1 in
        aarch64-*) echo qemu-aarch64-static ;;
        # Linked with the C library of the target's Debian.
        armv7-*-gnueabihf) echo "qemu-arm-static -L /usr/arm-linux-gnueabihf" ;;
        *) fail "no emulator is known for $1" ;;
    esac
}

# try TARGET BINARY: runs a node under emulation.
try() {
    local target=$1 bin=$2 run home config sent answers=
    read -r -a run <<<"$(emulator "$target")"
    home=$work/$target
    config=$home/headwater.toml
    mkdir -p "$home"
    "${run[@]}" "$bin" --version
    "${run[@]}" "$bin" init "$home/starter.toml" >/dev/null
    "${run[@]}" "$bin" check -c "$home/starter.toml" >/dev/null
    printf '[node]\nid = "cross"\ndata_dir = "%s/data"\n[ring]\nmax_bytes = "4MiB"\nkeep_free = "0B"\n[http]\nlisten = "off"\n' \
        "$home" >"$config"
    "${run[@]}" "$bin" run -c "$config" 2>"$home/log" &
    node=$!
    local _
    for _ in $(seq 100); do
        if "${run[@]}" "$bin" status -c "$config" >/dev/null 2>&1; then
            answers=1
            break
        fi
        sleep 0.2
    done
    [ -n "$answers" ] || fail "$target: the node does not answer: $(cat "$home/log")"
    sent=$(seq 3 | "${run[@]}" "$bin" send notes -c "$config" | tr '\n' ' ')
    kill "$node"
    wait "$node" || fail "$target: the node did not stop in good order: $(cat "$home/log")"
    node=
    [ "$sent" = "0 1 2 " ] || fail "$target: offsets 0 1 2 were expected, not: $sent"
    [ "$("${run[@]}" "$bin" tail notes --data-dir "$home/data" | tr '\n' ' ')" = "1 2 3 " ] ||
        fail "$target: the ring does not hold what was sent"
    "${run[@]}" "$bin" ring verify "$home/data"
}

build() {
    local target=$1 bin
    rustup target list --installed | grep -qx "$target" || rustup target add "$target"
    say "$target: building"
    # The size script optimises the whole program; here a quicker build does.
    CARGO_PROFILE_DIST_LTO=${CARGO_PROFILE_DIST_LTO:-off} CARGO_PROFILE_DIST_CODEGEN_UNITS=16 \
        cargo zigbuild --profile dist --locked --bin headwater --target "$target"
    bin=$target_dir/$target/dist/headwater
    say "$target: running"
    try "$target" "$bin"
    rows+=("$(printf '%-36s %10s bytes without LTO' "$target" "$(stat -c %s "$bin")")")
}

rows=()
if [ $# -eq 0 ]; then
    set -- aarch64-unknown-linux-musl armv7-unknown-linux-gnueabihf
fi
for target in "$@"; do
    build "$target"
done
say "cross builds"
printf '%s\n' "${rows[@]}"
