# shellcheck shell=bash
# shellcheck disable=SC2154  # what test-board.sh sets
# A stock-like image for the emulated board: Debian for arm64 as its images for the Raspberry Pi are laid out, a FAT
# partition with kernel, initrd and cmdline.txt, and root on ext4. Sourced by test-board.sh, not run.
#
# Beyond what such an image has are two units: one through which the tests ask the machine without a network, and one that
# writes a log from the first second on, as the machinery of a site does.

mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
suite=bookworm
boot_mib=96
# No recommended packages; what a board needs to boot, to be reached and to be looked after.
packages=systemd-sysv,udev,dbus,linux-image-arm64,initramfs-tools,busybox,kmod,iproute2,ifupdown,openssh-server,sudo,systemd-timesyncd

# arm_runs: whether this kernel hands programs for arm64 to qemu-user; it is told to if it may be told.
arm_runs() {
    local at=/proc/sys/fs/binfmt_misc
    [ -e $at/register ] || mount -t binfmt_misc binfmt_misc $at || fail "binfmt_misc cannot be mounted: an arm64 system cannot be set up here"
    [ -e $at/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf >$at/register ||
        fail "binfmt_misc takes no qemu-aarch64: an arm64 system cannot be set up here"
}

# The initrd has the few modules that the machine needs: a generic one takes a minute to unpack under emulation.
before_the_kernel() {
    cat <<'HOOK'
mkdir -p "$1/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=gzip\nFSTYPE=ext4\n' >"$1/etc/initramfs-tools/conf.d/board"
printf 'virtio_pci\nvirtio_blk\next4\n' >"$1/etc/initramfs-tools/modules"
HOOK
}

# stock_tree FOLDER: the system.
stock_tree() {
    mmdebstrap --quiet --mode=root --architectures=arm64 --variant=minbase --include="$packages" --format=dir \
        --aptopt='Acquire::Retries "3"' --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --essential-hook="$(before_the_kernel)" \
        "$suite" "$1" "$mirror" || fail "mmdebstrap could not make an arm64 system from $mirror"
}

# stock_units FOLDER: what only the tests need.
stock_units() {
    local at=$1/etc/systemd/system
    mkdir -p "$at/multi-user.target.wants" "$1/var/log/plant" "$1/usr/local/lib"
    cat >"$at/board-console.service" <<'UNIT'
[Unit]
Description=What the tests ask
DefaultDependencies=no
After=dev-virtio\x2dports-board.device
StartLimitIntervalSec=0

[Service]
ExecStart=/bin/sh /usr/local/lib/board-console
Restart=always
RestartSec=1s

[Install]
WantedBy=dev-virtio\x2dports-board.device
UNIT
    mkdir -p "$at/dev-virtio\\x2dports-board.device.wants"
    ln -s ../board-console.service "$at/dev-virtio\\x2dports-board.device.wants/board-console.service"
    cat >"$1/usr/local/lib/board-console" <<'CONSOLE'
# A line each: a number and a command in base64; the number, and what the command wrote with its exit code behind it.
exec 3<>/dev/virtio-ports/board
while read -r number line <&3; do
    out=$(sh -c "$(echo "$line" | base64 -d)" 2>&1 </dev/null; echo "$?")
    printf '%s %s\n' "$number" "$(printf %s "$out" | base64 -w0)" >&3
done
CONSOLE
    cat >"$at/plant.service" <<'UNIT'
[Unit]
Description=Machinery that writes a log
DefaultDependencies=no
After=local-fs.target

[Service]
ExecStart=/bin/sh /usr/local/lib/plant

[Install]
WantedBy=multi-user.target
UNIT
    ln -s ../plant.service "$at/multi-user.target.wants/plant.service"
    cat >"$1/usr/local/lib/plant" <<'PLANT'
read -r boot </proc/sys/kernel/random/boot_id
n=0
while :; do
    echo "$boot $n"
    n=$((n + 1))
    sleep 1
done >>/var/log/plant/boot.log
PLANT
}

# stock_image FILE: all of it, as a disk.
stock_image() {
    local to=$1 tree=$work/tree root_mib features
    arm_runs
    stock_tree "$tree"
    stock_units "$tree"
    echo "image based on revision: 1" >"$tree/etc/raspi-image-id"
    printf 'LABEL=RASPIROOT / ext4 rw 0 1\nLABEL=RASPIFIRM /boot/firmware vfat rw 0 2\n' >"$tree/etc/fstab"
    mkdir -p "$tree/boot/firmware"
    echo rpi >"$tree/etc/hostname"
    root_mib=$(($(du -sm "$tree" | cut -f1) + 200))
    truncate -s $((4 + boot_mib + root_mib))M "$to.part"
    printf 'label: dos\nstart=8192, size=%d, type=c\nstart=%d, size=%d, type=83\n' \
        $((boot_mib * 2048)) $((8192 + boot_mib * 2048)) $((root_mib * 2048)) | sfdisk --quiet "$to.part" >/dev/null
    truncate -s ${boot_mib}M "$work/boot"
    mkfs.vfat -n RASPIFIRM "$work/boot" >/dev/null
    mcopy -i "$work/boot" "$tree"/boot/vmlinuz-* "$tree"/boot/initrd.img-* ::
    echo "console=ttyS1,115200 console=ttyAMA0 root=LABEL=RASPIROOT rw fsck.repair=yes net.ifnames=0 rootwait" |
        mcopy -i "$work/boot" - ::cmdline.txt
    dd if="$work/boot" of="$to.part" bs=1M seek=4 conv=notrunc,sparse status=none
    mapfile -t features < <(older_ext4)
    mkfs.ext4 -q -F "${features[@]}" -L RASPIROOT -d "$tree" -E offset=$(((4 + boot_mib) << 20)) "$to.part" "${root_mib}M"
    rm -rf "$tree" "${work:?}/boot"
    mv "$to.part" "$to"
    sha256sum <"$to" | cut -d' ' -f1 >"$to.sha256"
}
