#!/usr/bin/env bash
# Builds and packages Headwater for the boards people have and runs each binary under qemu-user: it must take its own starter
# config, run a node that keeps what it is sent, stop in good order, and read its ring again.
#
#   scripts/cross.sh            an aarch64 board and a 32-bit one
#   scripts/cross.sh BOARD...   these only
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/board.sh
. "$(dirname "$0")/board.sh"
cd "$root"

need_compiler
# shellcheck disable=SC2119  # no component is needed to build
need_rust
need_emulators

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

# packaged DIR: what scripts/build.sh made is whole, and says of itself what it is.
packaged() {
    local dir=$1 deb contents
    (cd "$dir" && sha256sum --quiet --check SHA256SUMS)
    deb=$(echo "$dir"/*.deb)
    [ "$(dpkg-deb --field "$deb" Architecture)" = "$(board debian)" ] || fail "$deb is for another architecture"
    contents=$(dpkg-deb --contents "$deb")
    grep -q ' \./usr/lib/systemd/system/headwater.service$' <<<"$contents" || fail "$deb has no unit"
    tar -xzOf "$dir"/*.tar.gz --wildcards '*/usr/bin/headwater' | cmp - "$dir/headwater"
    python3 - "$dir"/*.cdx.json Cargo.lock <<'END'
import json, re, sys
bom = json.load(open(sys.argv[1]))
named = {(part["name"], part["version"]) for part in bom["components"]}
locked = set(re.findall(r'name = "(.*)"\nversion = "(.*)"', open(sys.argv[2]).read()))
assert named and named <= locked, sorted(named - locked)[:5]
assert {"tokio", "rustls", "wasmi", "zstd-sys"} <= {name for name, _ in named}
assert "proptest" not in {name for name, _ in named}, "what only tests is no part of it"
print(f"{len(named)} crates in the SBOM")
END
}

build() {
    local name=$1 dir=$target_dir/boards/$1 target
    use_board "$name"
    target=$(board target)
    # The size script optimises the whole program; here a quicker build does.
    scripts/build.sh "$name" --quick
    packaged "$dir"
    say "$name: running"
    try "$target" "$dir/headwater"
    rows+=("$(printf '%-16s %-32s %10s bytes without LTO' "$name" "$target" "$(stat -c %s "$dir/headwater")")")
}

rows=()
if [ $# -eq 0 ]; then
    set -- rpi4 generic-armv7
fi
for name in "$@"; do
    build "$name"
done
say "cross builds"
printf '%s\n' "${rows[@]}"
