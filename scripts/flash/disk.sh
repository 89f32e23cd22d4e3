# shellcheck shell=bash
# shellcheck disable=SC2154  # what flash.sh set before it sourced this
# What flash.sh knows of disks: which must not be written, writing with progress, reading back. Sourced by flash.sh.

MIB=$((1 << 20))
CHUNK=$((64 * MIB)) # written and reported at a time; an interruption waits for one at most

# disk_of MAJOR:MINOR: the names of the disks that this block device is of, through partitions, LVM, RAID and encryption.
disk_of() {
    local at slave
    at=$(readlink -f "/sys/dev/block/$1") || return 0
    [ -d "$at" ] || return 0
    if [ -f "$at/partition" ]; then
        at=$(dirname "$at")
    fi
    basename "$at"
    for slave in "$at"/slaves/*; do
        [ ! -e "$slave/dev" ] || disk_of "$(cat "$slave/dev")"
    done
}

# refuse_device DEVICE: ends the script unless the device is there, is a whole disk, serves nobody and may be erased.
refuse_device() {
    local device=$1 real name number where swap users
    real=$(readlink -f "$device")
    [ -b "$real" ] || fail "$device is no block device"
    number=$(mountpoint -x "$real")
    name=$(basename "$(readlink -f "/sys/dev/block/$number")")
    [ ! -f "/sys/dev/block/$number/partition" ] ||
        fail "$device is a partition; name the whole disk, /dev/$(disk_of "$number" | head -n 1)"
    while read -r number where; do
        if disk_of "$number" | grep -xF "$name" >/dev/null; then
            case $where in
                / | /usr | /boot | /boot/* | /var | /home)
                    fail "$device is the system disk (it carries $where): it is never written" ;;
                *) fail "$device is mounted at $where: unmount it first (umount $where)" ;;
            esac
        fi
    done < <(awk '{ print $3, $5 }' /proc/self/mountinfo | awk '$2 == "/" { print; next } { later = later $0 "\n" } END { printf "%s", later }')
    while read -r swap _; do
        [ -b "$swap" ] || continue
        if disk_of "$(mountpoint -x "$swap")" | grep -xF "$name" >/dev/null; then
            fail "$device is the system disk (it carries the swap $swap): it is never written"
        fi
    done < <(tail -n +2 /proc/swaps)
    users=$(find "/sys/class/block/$name/" -path '*/holders/*' -print -quit 2>/dev/null)
    [ -z "$users" ] || fail "$device is in use by $(basename "$users") (LVM, RAID or encryption)"
    [ "$(cat "/sys/class/block/$name/ro")" = 0 ] || fail "$device is write-protected"
    if ! removable "$name" && ! { [ "$allow_fixed" = 1 ] && [ "$and_erase" = "$device" ]; }; then
        fail "$device is not removable ($(describe "$name")): it may be a disk that somebody needs." \
            "If it is the right one, say so twice: --allow-fixed --and-erase $device"
    fi
}

# removable NAME: a card or a stick. Cards in a built-in reader do not call themselves removable.
removable() {
    [ "$(cat "/sys/class/block/$1/removable" 2>/dev/null)" = 1 ] ||
        [ "$(cat "/sys/class/block/$1/device/type" 2>/dev/null)" = SD ]
}

# describe NAME: what the disk says it is.
describe() {
    local model
    model=$(cat "/sys/class/block/$1/device/model" "/sys/class/block/$1/device/name" 2>/dev/null | head -n 1)
    printf '%s, %s MiB' "${model:-no name}" $(($(cat "/sys/class/block/$1/size") / 2048))
}

# write_out FROM TO BYTES: copies with progress. To a device past the page cache, so that the progress is the card's own.
write_out() {
    local from=$1 to=$2 bytes=$3 at=0 start how=oflag=direct length shown=-10
    if [ ! -b "$to" ]; then
        # Holes stay holes.
        truncate -s "$bytes" "$to" || fail "$to cannot be written"
        how=conv=sparse
    fi
    start=$(date +%s)
    while [ "$at" -lt "$bytes" ]; do
        length=$((bytes - at < CHUNK ? bytes - at : CHUNK))
        dd if="$from" of="$to" bs=$((4 * MIB)) iflag=fullblock,skip_bytes,count_bytes oflag=seek_bytes \
            skip="$at" seek="$at" count="$length" conv=notrunc "$how" status=none 2>"$work/dd" ||
            fail "writing to $to failed at $((at / MIB)) MiB: $(tail -n 1 "$work/dd")"
        at=$((at + length))
        progress "$at" "$bytes" "$start"
        stop_here "write@$((at * 100 / bytes / 50 * 50))"
    done
    sync "$to" 2>"$work/dd" || fail "writing to $to failed at the end: $(tail -n 1 "$work/dd")"
}

# progress AT BYTES START: on a terminal one line that moves, elsewhere a line each tenth.
progress() {
    local percent=$(($1 * 100 / $2)) seconds=$(($(date +%s) - $3))
    seconds=$((seconds > 0 ? seconds : 1))
    if [ -t 1 ]; then
        printf '\r   %3d %%  %d of %d MiB, %d MiB/s ' "$percent" $(($1 / MIB)) $(($2 / MIB)) $(($1 / MIB / seconds))
        [ "$1" -lt "$2" ] || echo
    elif [ $((percent / 10)) -ge $((shown / 10 + 1)) ]; then
        shown=$percent
        printf '   %3d %%  %d of %d MiB\n' "$percent" $(($1 / MIB)) $(($2 / MIB))
    fi
}

# hash_of FILE BYTES: the SHA-256 of its beginning, as the disk has it: not as memory remembers it.
hash_of() {
    local how=fullblock,count_bytes
    if [ -b "$1" ]; then
        how+=,direct
    else
        dd of="$1" oflag=nocache conv=notrunc,fdatasync count=0 status=none
    fi
    dd if="$1" bs=$((4 * MIB)) iflag="$how" count="$2" status=none | sha256sum | cut -d' ' -f1
}

# attach FILE OFFSET BYTES: a loop device over a part of a file or disk, in $loop. Partition nodes are not asked for:
# they need udev, or a kernel that makes them.
attach() {
    loop=$(losetup --find --show --offset "$2" --sizelimit "$3" "$1") || fail "no loop device could be had for $1"
    loops+=("$loop")
}

# detach: gives the last one back.
detach() {
    local last=$((${#loops[@]} - 1))
    losetup -d "${loops[$last]}"
    unset "loops[$last]"
}

# check_ext4 DEVICE NAME: the file system is without fault. 1 is "mended", which a fresh one must not need.
check_ext4() {
    e2fsck -fn "$1" >"$work/fsck" 2>&1 || fail "the file system of $2 is damaged: $(tail -n 3 "$work/fsck" | tr '\n' ' ')"
}
