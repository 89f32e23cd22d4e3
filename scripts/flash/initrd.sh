# shellcheck shell=bash
# shellcheck disable=SC2154  # what flash.sh and its other parts set
# What flash.sh does to an initrd. Sourced by flash.sh.
#
# Debian's images for the Raspberry Pi grow root from within the initrd, whenever the disk has room at its end, and cannot
# boot where another partition stands in the way. A second archive behind the first puts an empty script in its place; the
# kernel unpacks one after the other. The next kernel's initrd has no such script: on root it is not there any more.
#
# Only where there is one: an initrd without scripts of that kind has no ORDER beside them, and does not boot with a
# folder that lacks it.

growing=scripts/local-bottom/rpi-resizerootfs

# initrd_body FILE: where what is compressed begins in an initrd, behind archives that are not (microcode), and by what:
# `OFFSET COMMAND`. Its format is initramfs-buffer-format of the kernel's documentation.
initrd_body() {
    python3 - "$1" <<'PYTHON'
import sys
data = open(sys.argv[1], "rb").read()
at = 0
while data[at:at + 6] in (b"070701", b"070702"):
    size, name = int(data[at + 54:at + 62], 16), int(data[at + 94:at + 102], 16)
    last = data[at + 110:at + 110 + name].rstrip(b"\0") == b"TRAILER!!!"
    at += (110 + name + 3) // 4 * 4
    at += (size + 3) // 4 * 4
    if last:
        while data[at:at + 1] == b"\0":
            at += 1
kinds = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"]\0\0": "xz", b"\x28\xb5\x2f\xfd": "zstd",
         b"\x02\x21\x4c\x18": "lz4", b"BZh": "bzip2", b"\x89LZO": "lzop"}
kind = next((kind for magic, kind in kinds.items() if data[at:].startswith(magic)), "cat" if at == len(data) else "unknown")
print(at, kind)
PYTHON
}

# grows FILE: whether that initrd has the script.
grows() {
    local at by
    read -r at by <<<"$(initrd_body "$1")"
    # What is not compressed at all.
    if head -c "$at" "$1" | grep -acF "$growing" >/dev/null; then
        return 0
    fi
    case $by in
        cat) return 1 ;;
        unknown) fail "$image: the initrd is compressed in a way that is not known here, and may grow root on first boot" ;;
        *) need "$by" "$([ "$by" = xz ] && echo xz-utils || echo "$by")" ;;
    esac
    # What follows the archive is no error: this asks for a name.
    { tail -c +$((at + 1)) "$1" | "$by" -dc 2>/dev/null || true; } | grep -acF "$growing" >/dev/null
}

# initrds: those of the boot partition, with the empty script where there is one.
initrds() {
    local name
    remove etc/initramfs-tools "$growing" hooks/rpi-resizerootfs
    rm -rf "$work/cpio"
    mkdir -p "$work/cpio/$(dirname $growing)"
    printf '#!/bin/sh\n# The partitions stay as they are.\nexit 0\n' >"$work/cpio/$growing"
    chmod 755 "$work/cpio/$growing"
    (cd "$work/cpio" && printf '%s\n' scripts scripts/local-bottom "$growing" | cpio --quiet -o -H newc -R 0:0) >"$work/no-grow"
    while IFS= read -r name; do
        mcopy -n -i "$boot_at" "::$name" "$work/initrd"
        if grows "$work/initrd"; then
            # An archive begins at a multiple of four.
            truncate -s %4 "$work/initrd"
            cat "$work/no-grow" >>"$work/initrd"
            boot_put "$work/initrd" "$name"
        fi
        rm -f "$work/initrd"
    done < <(mdir -b -i "$boot_at" ::initrd* 2>/dev/null | sed 's#^::/##')
}
