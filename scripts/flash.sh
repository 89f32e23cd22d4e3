#!/usr/bin/env bash
# A stock image, a site's particulars and a board make a card that collects from its first second.
# `scripts/flash.sh --help` says how. What it knows of disks, images and sites stands in scripts/flash/.
#
# The stock image is not touched: a copy is, in a temporary folder, and what is written is read back and compared.
# For tests, $HEADWATER_FLASH_STOP_AT names a step (`write`, `write@50`, ...) before which the script sends itself
# $HEADWATER_FLASH_SIGNAL (INT), and $HEADWATER_FLASH_CORRUPT=1 spoils a byte of what was written before it is read back.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/board.sh
. "$root/scripts/board.sh"
# shellcheck source=scripts/flash/site.sh
. "$root/scripts/flash/site.sh"
# shellcheck source=scripts/flash/disk.sh
. "$root/scripts/flash/disk.sh"
# shellcheck source=scripts/flash/image.sh
. "$root/scripts/flash/image.sh"
# shellcheck source=scripts/flash/initrd.sh
. "$root/scripts/flash/initrd.sh"
# Debian keeps these tools where the path of a user does not look.
export PATH="$PATH:/usr/sbin:/sbin"
# An image's boot partition may be smaller or odder than mtools likes.
export MTOOLS_SKIP_CHECK=1

service_dir=$root/scripts/service # the unit, and what lies beside it

usage() {
    cat <<'HELP'
Makes a card, or an image of one, from the stock image of Raspberry Pi OS or Debian that you downloaded.

    sudo scripts/flash.sh --board BOARD --image IMG[.xz|.gz|.zst] --site SITE.toml --device /dev/sdX
    sudo scripts/flash.sh --board BOARD --image IMG[.xz|.gz|.zst] --site SITE.toml --output FILE
    sudo scripts/flash.sh --board BOARD --image IMG[.xz|.gz|.zst] [--site COMMON.toml] --sites FILE.csv --output FOLDER

  --board NAME        a file of boards/: what it is built for, how its images are laid out
  --image FILE        the stock image; never changed
  --sha256 HEX        its checksum; without, FILE.sha256 beside it is read
  --site FILE         the site; --example prints one with every key explained
  --set KEY=VALUE     a key of the site, in place of the file's; the elements of a list divided by `;`;
                      KEY= takes away what the file says
  --sites FILE.csv    many sites: the first row names keys (`node,config,wifi.ssid`), each other row is a site and
                      goes over what --site says; paths are relative to the CSV
  --device DISK       writes to this disk and erases what is on it. Mounted disks and the system disk are refused
  --allow-fixed --and-erase DISK     both, to write to a disk that is not removable
  --output PATH       writes a file; with --sites a folder, NODE.img in it
  --binary FILE       the program to install; otherwise what scripts/build.sh made for the board, built if missing
  --dry-run           shows every step and changes nothing
  --example           prints a site's file

Needs root: it attaches loop devices and mounts the copy of the image. What is needed beyond is installed and named.
The temporary folder ($TMPDIR, else /var/tmp) needs room for the unpacked image.

    scripts/flash.sh --example > pump-07.toml
    sudo scripts/flash.sh --board rpi4 --image raspios.img.xz --site pump-07.toml --device /dev/sda --dry-run
    sudo scripts/flash.sh --board rpi4 --image raspios.img.xz --site pump-07.toml --device /dev/sda
    sudo scripts/flash.sh --board rpi4 --image raspios.img.xz --site common.toml --sites pumps.csv --output cards/
    sudo scripts/flash.sh --board rpi4 --image raspios.img.xz --site common.toml --set node=pump-08 --output pump-08.img
HELP
}

# ------------------------------------------------------------------------------------------------ arguments

board_name='' image='' sha256='' site_file='' sites_file='' device='' output='' binary='' dry='' allow_fixed='' and_erase=''
sets=() given=("$@")
usage_error() { printf 'error: %s\n' "$1" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
        --board | --image | --sha256 | --site | --set | --sites | --device | --output | --binary | --and-erase)
            [ -n "${2-}" ] || usage_error "$1 needs a value" ;;
    esac
    case $1 in
        --board) board_name=$2 && shift ;;
        --image) image=$2 && shift ;;
        --sha256) sha256=${2,,} && shift ;;
        --site) site_file=$2 && shift ;;
        --set) sets+=("$2") && shift ;;
        --sites) sites_file=$2 && shift ;;
        --device) device=$2 && shift ;;
        --output) output=$2 && shift ;;
        --binary) binary=$2 && shift ;;
        --and-erase) and_erase=$2 && shift ;;
        --allow-fixed) allow_fixed=1 ;;
        --dry-run) dry=1 ;;
        --example) site_example && exit ;;
        -h | --help) usage && exit ;;
        *) usage_error "$1 is not known; --help says what is" ;;
    esac
    shift
done
for wanted in board_name:--board image:--image; do
    name=${wanted%%:*}
    [ -n "${!name}" ] || usage_error "${wanted#*:} is missing; --help shows examples"
done
if [ -n "$device" ] && [ -n "$output" ] || [ -z "$device$output" ]; then
    usage_error "one of --device and --output is to be given"
fi
use_board "$board_name"
[ -f "$image" ] || fail "there is no image $image"

# In a namespace of its own for mounts. A service or a container that starts meanwhile would have a copy of root's mount and
# hold it for as long as it lives: the file system would be written to after it was unmounted here, checked and copied.
if [ -z "$dry${HEADWATER_FLASH_APART-}" ] && [ "$(id -u)" -eq 0 ] && unshare --mount true 2>/dev/null; then
    HEADWATER_FLASH_APART=1 exec unshare --mount --propagation slave "$BASH" "$root/scripts/flash.sh" "${given[@]}"
fi

# ------------------------------------------------------------------------------------------------ what is left behind

generation='' interface='' work='' mnt='' loop='' loops=() mounted='' part=''
# Whatever happens: nothing stays mounted, no loop device stays, nothing half-made has the name of something whole.
cleanup() {
    local code=$? at
    trap '' INT TERM HUP
    [ -z "$mounted" ] || umount "$mnt" || umount -l "$mnt" || true
    for at in "${loops[@]}"; do
        losetup -d "$at" 2>/dev/null || true
    done
    [ -z "$part" ] || rm -f "$part"
    [ -z "$work" ] || rm -rf "$work"
    if [ "$code" -ne 0 ] && [ -n "$touched" ]; then
        printf '%s holds half of what it should: flash it again before use\n' "$device" >&2
    fi
    exit "$code"
}
touched=''
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# stop_here NAME: the tests' interruption.
stop_here() {
    [ "${HEADWATER_FLASH_STOP_AT-}" != "$1" ] || kill "-${HEADWATER_FLASH_SIGNAL:-INT}" $$
}

steps=13 step=0
# begin NAME WORDS: says what is done now. With --dry-run that is all: it returns false.
begin() {
    step=$((step + 1))
    printf -- '-- %d/%d %s: %s\n' "$step" "$steps" "$1" "$2"
    stop_here "$1"
    [ -z "$dry" ]
}

# ------------------------------------------------------------------------------------------------ the steps

tools() {
    # A dry run installs nothing either.
    [ -z "$dry" ] || return 0
    [ "$(id -u)" -eq 0 ] || fail "this needs root: loop devices and mounts (sudo $0 ...)"
    need sfdisk fdisk
    need mkfs.vfat dosfstools
    need mkfs.ext4 e2fsprogs
    need mcopy mtools
    need losetup mount
    need python3 python3
    need cpio cpio
    case $image in
        *.xz) need xz xz-utils ;;
        *.gz) need gzip gzip ;;
        *.zst) need zstd zstd ;;
    esac
}

checksum() {
    local found
    if [ -z "$sha256" ] && [ -f "$image.sha256" ]; then
        sha256=$(grep -oiE -m1 '^[0-9a-f]{64}' "$image.sha256" | tr 'A-F' 'a-f') || fail "$image.sha256 has no SHA-256 in it"
    fi
    if [ -z "$sha256" ]; then
        printf 'WARNING: %s is not checked: there is neither --sha256 nor %s.sha256.\nWARNING: a damaged or forged download would go onto the card unnoticed.\n' \
            "$image" "$image" >&2
        return 0
    fi
    [[ $sha256 =~ ^[0-9a-f]{64}$ ]] || fail "--sha256 takes 64 hexadecimal digits"
    found=$(sha256sum <"$image" | cut -d' ' -f1)
    [ "$found" = "$sha256" ] || fail "$image has the checksum $found, not $sha256: download it again"
}

program() {
    [ -n "$binary" ] || binary=$target_dir/$(board target)/dist/headwater
    if [ ! -f "$binary" ]; then
        [ "$binary" = "$target_dir/$(board target)/dist/headwater" ] || fail "there is no program $binary"
        "$root/scripts/build.sh" "$board_name" || fail "scripts/build.sh $board_name failed"
    fi
    [ "$(machine "$binary")" = "$(board debian)" ] || fail "$binary is not for $(board debian), which $board_name is"
}

mount_root() {
    attach "$work/image" $((root_sector * 512)) "$1"
    mounted=1
    mount -t ext4 -o "$2" "$loop" "$mnt" 2>"$work/mount" || { mounted=''; fail "$image: root cannot be mounted: $(head -n 1 "$work/mount")"; }
}

unmount_root() {
    umount "$mnt"
    mounted=''
}

look() {
    read_table "$work/image"
    label_is "$work/image" $((boot_sector * 512)) vfat image.boot_labels boot
    label_is "$work/image" $((root_sector * 512)) ext4 image.root_labels root
    mount_root $((root_sectors * 512)) ro,noload
    identify
    unmount_root
    detach
    lay_out
}

fill_root() {
    mount_root $((root_new * 512)) rw
    service_user
    login_user
    ssh_server
    identity
    the_node
    network
    fewer_writes
}

close_root() {
    unmount_root
    check_ext4 "$loop" root
    detach
}

make_data() {
    local data_at=$((data_sector * 512)) bytes=$((data_sectors * 512)) features
    mapfile -t features < <(older_ext4)
    [ -n "$device" ] || truncate -s "$total_bytes" "$target"
    attach "$target" "$data_at" "$bytes"
    mkfs.ext4 -q -F "${features[@]}" -L "$(board image.data_label)" -m 1 -E "root_owner=$node_uid:$node_gid,nodiscard" "$loop" 2>"$work/mkfs" ||
        fail "the data partition could not be made: $(tail -n 1 "$work/mkfs")"
    # Nobody else's: what sets this on the machine may come before the mount.
    debugfs -w -R "set_inode_field <2> mode 040750" "$loop" >/dev/null 2>&1
    detach
    # Looked at as the disk has it.
    sync "$target" || fail "writing to $target failed at the end"
    [ -z "$device" ] || blockdev --flushbufs "$device"
    attach "$target" "$data_at" "$bytes"
    check_ext4 "$loop" data
    [ "$(blkid -p -o value -s LABEL "$loop")" = "$(board image.data_label)" ] || fail "$target: the data partition was not kept"
    detach
}

read_back() {
    local found
    [ "${HEADWATER_FLASH_CORRUPT-}" != 1 ] ||
        printf 'x' | dd of="$target" bs=1 seek=$((root_sector * 512 + 4 * MIB + 7)) conv=notrunc status=none
    found=$(hash_of "$target" "$image_bytes")
    [ "$found" = "$image_hash" ] ||
        fail "$target does not give back what was written (SHA-256 $found, not $image_hash): the card or its reader is bad"
}

prepare() {
    if begin check "board, site, target and tools"; then :; fi
    [ -z "$site_file" ] || read_site "$site_file"
    for name in "${sets[@]}"; do
        set_site "$name" "$PWD"
    done
    tools
    check_site
    [ -f "$service_dir/headwater.service" ] || fail "there is no unit $service_dir/headwater.service"
    if [ -n "$device" ]; then
        refuse_device "$device"
        device=$(readlink -f "$device")
        device_bytes=$(($(cat "/sys/class/block/$(basename "$device")/size") * 512))
        target=$device
        say "$device will be erased: $(describe "$(basename "$device")")"
    else
        [ -d "$(dirname "$output")" ] || [ -n "$dry" ] || fail "there is no folder $(dirname "$output")"
        [ ! -e "$output" ] || [ -f "$output" ] || fail "$output is not a file; disks are written with --device"
        target=$output.part
    fi
    say "${site[node]} on $board_name: $(board title)"
}

make_image() {
    if begin checksum "of $image"; then :; fi
    checksum
    if begin program "${binary:-for $(board target), built by scripts/build.sh if it is missing}"; then program; fi
    if begin unpack "a copy of the image, in ${TMPDIR:-/var/tmp}"; then
        work=$(mktemp -d "${TMPDIR:-/var/tmp}/headwater-flash.XXXXXX")
        mnt=$work/root
        mkdir "$mnt"
        unpack "$image" "$work/image"
    fi
    if begin identify "which generation of $(board image.generations | paste -sd ' ') it is"; then look; fi
    if begin partition "root ${site[root_size]-$(board image.root_size)}, data ${site[data_size]-$(board image.data_size)} right behind it"; then partition "$work/image"; fi
    if begin grow "root's file system to that size, and no further on first boot"; then grow_root; fi
    if begin root "user headwater${site[user]+ and ${site[user]}}, program, unit, config, identity, credentials, network, fewer writes"; then fill_root; fi
    if begin boot "the kernel's command line without what grows root; what the first boot is told"; then
        boot_files
        close_root
    fi
}

write_target() {
    if begin write "to $target"; then
        image_bytes=$(stat -c %s "$work/image")
        image_hash=$(hash_of "$work/image" "$image_bytes")
        if [ -n "$device" ]; then
            # Held while it is written, so that nothing mounts what appears on it.
            exec 9<"$device"
            flock -n 9 || fail "another program holds $device"
            touched=1
        else
            part=$target
        fi
        write_out "$work/image" "$target" "$image_bytes"
    fi
    if begin verify "reads it back and compares"; then read_back; fi
    if begin data "ext4 for /var/lib/headwater, labelled $(board image.data_label)"; then make_data; fi
    if begin finish "${output:+$output has its name once all of it is well}${device:+$device may be taken out}"; then
        if [ -n "$device" ]; then
            blockdev --flushbufs "$device"
            touched=''
        else
            sync "$target"
            mv "$target" "$output"
            part=''
        fi
        say "done: ${output:-$device} is ${site[node]}"
    fi
}

# ------------------------------------------------------------------------------------------------ many sites

# Each row by this script itself, from an image that was checked and unpacked once.
many() {
    local row=() field made=0 failed=() node key dir arguments sum
    [ -n "$output" ] || fail "--sites needs --output FOLDER"
    dir=$(cd "$(dirname "$sites_file")" && pwd)
    tools
    checksum
    [ -n "$dry" ] || program
    [ -n "$dry" ] || mkdir -p "$output"
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/headwater-flash.XXXXXX")
    csv_rows "$sites_file" >"$work/rows" || exit 2
    [ -s "$work/rows" ] || fail "$sites_file names no site"
    if [ -n "$dry" ]; then
        sum=$(sha256sum <"$image" | cut -d' ' -f1)
    else
        say "unpacking $image once"
        unpack "$image" "$work/stock.img"
        sum=$(sha256sum <"$work/stock.img" | cut -d' ' -f1)
    fi
    while IFS= read -r -d '' field; do
        if [ -n "$field" ]; then
            key=${field%%=*}
            node=$([ "$key" = node ] && echo "${field#*=}" || echo "${node-}")
            row+=(--set "$(whole "$dir" "$field")")
            continue
        fi
        say "site $node"
        arguments=(--board "$board_name" --image "$([ -n "$dry" ] && echo "$image" || echo "$work/stock.img")" --sha256 "$sum")
        [ -z "$site_file" ] || arguments+=(--site "$site_file")
        [ -z "$binary" ] || arguments+=(--binary "$binary")
        [ -z "$dry" ] || arguments+=(--dry-run)
        for field in "${sets[@]}"; do
            arguments+=(--set "$field")
        done
        if TMPDIR=$work "$root/scripts/flash.sh" "${arguments[@]}" "${row[@]}" --output "$output/$node.img" </dev/null; then
            made=$((made + 1))
        else
            failed+=("$node")
        fi
        row=() node=''
    done <"$work/rows"
    say "${dry:+dry run: }$made made, ${#failed[@]} failed${failed[*]+: ${failed[*]}}"
    [ "${#failed[@]}" -eq 0 ]
}

# whole DIR KEY=VALUE: paths in it made whole.
whole() {
    local key=${2%%=*} value=${2#*=}
    if site_path "$key" && [[ $value != /* ]]; then
        value=$1/$value
    fi
    printf '%s=%s' "$key" "$value"
}

if [ -n "$sites_file" ]; then
    [ -f "$sites_file" ] || fail "there is no file $sites_file"
    many
else
    prepare
    make_image
    write_target
fi
