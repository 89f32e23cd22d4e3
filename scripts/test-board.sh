#!/usr/bin/env bash
# An emulated board: a Debian for arm64, laid out like a stock image, goes through flash.sh and is booted by QEMU. What the
# node does there, under a real systemd, without a network, with its power pulled, is looked at by tests/board.
#
#   scripts/test-board.sh             all of it: 20 minutes
#   scripts/test-board.sh NAME        only the tests whose name contains NAME
#   scripts/test-board.sh --long      400 moments of a power cut rather than 200, and 20 hard kills rather than 3
#
# Needs root, binfmt_misc and loop mounts. The stock image stays in target/board and is made anew when what makes it changes.
# $DEBIAN_MIRROR names another mirror than deb.debian.org. $HEADWATER_BOARD_BUILT names what
# scripts/build.sh made for rpi4; otherwise it is made, quickly.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/board.sh
. "$root/scripts/board.sh"
# shellcheck source=scripts/test-board/stock.sh
. "$root/scripts/test-board/stock.sh"
cd "$root"
export PATH="$PATH:/usr/sbin:/sbin" MTOOLS_SKIP_CHECK=1

long=''
if [ "${1-}" = --long ]; then
    long=1
    shift
fi

[ "$(id -u)" -eq 0 ] || fail "this needs root: loop devices, mounts and binfmt_misc"
need_compiler
# shellcheck disable=SC2119  # no component is needed to test
need_rust
need mmdebstrap mmdebstrap
need arch-test arch-test
need qemu-aarch64-static qemu-user-static
need qemu-system-aarch64 qemu-system-arm
need sfdisk fdisk
need mkfs.vfat dosfstools
need mkfs.ext4 e2fsprogs
need mcopy mtools
need ssh-keygen openssh-client
need xz xz-utils
need python3 python3

board_name=rpi4
use_board $board_name
home=$target_dir/board
mkdir -p "$home"
work=$(mktemp -d "${TMPDIR:-/var/tmp}/test-board.XXXXXX")
trap 'rm -rf "$work"' EXIT

# ------------------------------------------------------------------------------------------------ the image

recipe=$(sha256sum <scripts/test-board/stock.sh | cut -c1-16)
stock=$home/stock-$recipe.img
if [ ! -f "$stock" ] || [ ! -f "$stock.sha256" ]; then
    say "a stock-like image: Debian $suite for arm64 (some minutes)"
    rm -f "$home"/stock-*
    stock_image "$stock"
fi

# What scripts/build.sh made: the program, and its package.
built=${HEADWATER_BOARD_BUILT-}
if [ -z "$built" ]; then
    scripts/build.sh $board_name --quick
    built=$target_dir/boards/$board_name
fi

# Programs for updates: the one that was flashed, another by its bytes, and bad ones.
rm -rf "$home/programs"
mkdir "$home/programs"
cp "$built/headwater" "$home/programs/flashed"
{ cat "$built/headwater" && echo 1; } >"$home/programs/good"
python_with "$target_dir/zig" ziglang ziglang cargo-zigbuild
for how in crash late; do
    "$target_dir/zig/bin/python" -m ziglang cc -target aarch64-linux-musl -O1 -s -DHOW="\"$how\"" \
        -DBEHIND='"/usr/local/lib/headwater-behind"' -o "$home/programs/$how" scripts/test-update/shim.c
done
chmod 755 "$home"/programs/*

# A port nobody listens at: where the site's sink looks for its cluster.
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port >"$home/upstream-sc"
port >"$home/upstream-spu"
for key in memory_idle memory_busy cpu_idle cpu_busy; do
    board budget.$key >"$home/budget.$key"
done
cat >"$work/headwater.toml" <<TOML
[http]
listen = "127.0.0.1:9090"

[sources.machinery]
type = "file"
paths = ["/var/log/plant/boot.log"]
topic = "plant"

[sources.load]
type = "file"
paths = ["/var/log/plant/load*.log"]
topic = "load"

[sources.host]
type = "host"
topic = "host"

# A broker that is not there, with a secret of systemd's.
[sources.bus]
type = "mqtt"
url = "mqtt://127.0.0.1:1883"
password = { credential = "bus" }
subscribe = [{ filter = "#", topic = "bus" }]

[sinks.hq]
type = "fluvio"
endpoint = ["10.0.2.2:$(cat "$home/upstream-sc")"]
topics = ["*"]
TOML
rm -f "$home"/key "$home"/key.pub
ssh-keygen -q -t ed25519 -N '' -C board -f "$home/key"
echo "a secret of the bus" >"$work/bus.secret"
cat >"$work/site.toml" <<TOML
node = "board-1"
config = "headwater.toml"
user = "tech"
ssh_key_files = ["$home/key.pub"]
time_servers = ["10.0.2.2"]
root_size = "1100MiB"
data_size = "64MiB"
[credentials]
bus = "bus.secret"
[network]
interface = "eth0"
address = "10.0.2.15/24"
gateway = "10.0.2.2"
TOML
rm -f "$home/card.img"
scripts/flash.sh --board $board_name --image "$stock" --site "$work/site.toml" --binary "$built/headwater" --output "$home/card.img"

# What the firmware would take from the boot partition, QEMU is given.
boot=$home/card.img@@4M
mtype -i "$boot" ::cmdline.txt | tr -d '\r\n' >"$home/cmdline.txt"
for file in vmlinuz:kernel initrd.img:initrd; do
    mcopy -n -o -i "$boot" "::$(mdir -b -i "$boot" "::${file%:*}*" | sed -n 's#^::/##p' | head -n 1)" "$home/${file#*:}"
done
# For the tests to install there.
mcopy -o -i "$boot" "$built"/headwater_*_arm64.deb ::headwater.deb

# ------------------------------------------------------------------------------------------------ the tests

if [ -n "$long" ]; then
    export HEADWATER_POWER_CUTS=${HEADWATER_POWER_CUTS:-400} HEADWATER_KILLS=${HEADWATER_KILLS:-20}
fi
say "$board_name, emulated"
HEADWATER_BOARD=$home cargo test --locked --test board -- --nocapture --test-threads=1 "$@"
