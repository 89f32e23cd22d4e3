#!/usr/bin/env bash
# scripts/flash.sh held to what it says, on stock-like images that are made here: flashed to files and to loop devices,
# mounted and looked into; wrong images, short and failing devices, interruptions, cards that forget what was written.
# Needs root. After each test nothing may be mounted, attached or left lying about.
#
#   scripts/test-flash.sh           all
#   scripts/test-flash.sh NAME      only the tests whose name contains NAME
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"
export PATH="$PATH:/usr/sbin:/sbin" MTOOLS_SKIP_CHECK=1

[ "$(id -u)" -eq 0 ] || fail "this needs root: loop devices and mounts"
need sfdisk fdisk
need mkfs.vfat dosfstools
need mkfs.ext4 e2fsprogs
need mcopy mtools
need xz xz-utils
need zstd zstd
need cpio cpio
need python3 python3
need dmsetup dmsetup

flash=$root/scripts/flash.sh
work=$(mktemp -d "${TMPDIR:-/var/tmp}/test-flash.XXXXXX")
own_loops=() own_mounts=()
sweep() {
    local at
    for at in "${own_mounts[@]}"; do
        ! mountpoint -q "$at" || umount "$at"
    done
    for at in "${own_loops[@]}"; do
        losetup -d "$at" 2>/dev/null || true
    done
    own_loops=() own_mounts=()
}
trap 'sweep; rm -rf "$work"' EXIT

# ------------------------------------------------------------------------------------------------ stock images

# program FILE MACHINE: as much of a program as says what it is for.
program() {
    mkdir -p "$(dirname "$1")"
    printf '\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0%b\0the rest' "$2" >"$1"
    chmod 755 "$1"
}

# tree KIND FOLDER: the root that such an image has, as far as flash.sh looks at it.
tree() {
    local kind=$1 at=$2 id=debian
    mkdir -p "$at"/{etc/ssh/sshd_config.d,etc/sudoers.d,etc/init.d,etc/rc3.d,etc/skel,home,root,boot/firmware,dev,proc,sys,tmp,usr/bin,usr/sbin}
    mkdir -p "$at"/{usr/lib/systemd/system,usr/share/zoneinfo/Europe,var/lib/systemd/rfkill,usr/lib/raspberrypi-sys-mods}
    ln -s usr/lib "$at/lib"
    echo TZif2 >"$at/usr/share/zoneinfo/Europe/London"
    printf 'ID=%s\nVERSION_CODENAME=bookworm\n' "$id" >"$at/usr/lib/os-release"
    ln -s ../usr/lib/os-release "$at/etc/os-release"
    echo 12.5 >"$at/etc/debian_version"
    echo stock >"$at/etc/hostname"
    printf '127.0.0.1\tlocalhost\n127.0.1.1\tstock\n' >"$at/etc/hosts"
    printf 'root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\nsystemd-timesync:x:997:997::/:/usr/sbin/nologin\n' >"$at/etc/passwd"
    printf 'root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\nsystemd-timesync:!*:19000::::::\n' >"$at/etc/shadow"
    printf 'root:x:0:\nadm:x:4:\nsudo:x:27:\ndialout:x:20:\nsystemd-journal:x:999:\nsystemd-timesync:x:997:\n' >"$at/etc/group"
    printf 'root:*::\nadm:*::\nsudo:*::\ndialout:*::\n' >"$at/etc/gshadow"
    chmod 640 "$at/etc/shadow" "$at/etc/gshadow"
    echo "[Unit]" >"$at/usr/lib/systemd/system/ssh.service"
    echo 1 >"$at/etc/ssh/ssh_host_ed25519_key"
    program "$at/usr/bin/dpkg" "${machine:-\\xb7}"
    head -c 6000000 /dev/urandom >"$at/usr/lib/modules.bin"
    printf 'proc /proc proc defaults 0 0\nPARTUUID=1a2b3c4d-01 /boot/firmware vfat defaults 0 2\nPARTUUID=1a2b3c4d-02 / ext4 defaults,noatime 0 1\n/var/swap none swap sw 0 0\n' >"$at/etc/fstab"
    case $kind in
        bookworm | trixie)
            echo "Raspberry Pi reference 2024-11-19" >"$at/etc/rpi-issue"
            echo 'pi:x:1000:1000:,,,:/home/pi:/bin/bash' >>"$at/etc/passwd"
            echo 'pi:!:19000:0:99999:7:::' >>"$at/etc/shadow"
            echo 'pi:x:1000:' >>"$at/etc/group"
            echo 'pi:!::' >>"$at/etc/gshadow"
            sed -i -E 's/^(sudo|adm|dialout):(.*)$/\1:\2pi/' "$at/etc/group" "$at/etc/gshadow"
            mkdir -p "$at/home/pi" "$at/usr/sbin" "$at/etc/NetworkManager/system-connections"
            echo alias >"$at/home/pi/.bashrc"
            chown -R 1000:1000 "$at/home/pi"
            echo 'pi ALL=(ALL) NOPASSWD: ALL' >"$at/etc/sudoers.d/010_pi-nopasswd"
            program "$at/usr/sbin/NetworkManager" '\xb7'
            echo 1 >"$at/var/lib/systemd/rfkill/platform-3f300000.mmcnr:wlan"
            echo banner >"$at/etc/ssh/sshd_config.d/rename_user.conf"
            program "$at/usr/lib/raspberrypi-sys-mods/imager_custom" '\xb7' ;;
        debian)
            echo "image based on revision: 1" >"$at/etc/raspi-image-id"
            sed -i 's/^root:\*/root:/' "$at/etc/shadow"
            rmdir "$at/etc/sudoers.d"
            program "$at/usr/sbin/ifup" '\xb7'
            mkdir -p "$at/etc/network/interfaces.d"
            echo "source /etc/network/interfaces.d/*" >"$at/etc/network/interfaces"
            sed -i 's/PARTUUID=1a2b3c4d-01/LABEL=RASPIFIRM/; s/PARTUUID=1a2b3c4d-02/LABEL=RASPIROOT/' "$at/etc/fstab" ;;
        unknown) sed -i 's/^ID=.*/ID=alpine/' "$at/usr/lib/os-release" && rm "$at/etc/debian_version" ;;
    esac
    case $kind in
        bookworm)
            echo '#!/bin/sh' >"$at/etc/init.d/resize2fs_once"
            ln -s ../init.d/resize2fs_once "$at/etc/rc3.d/S01resize2fs_once"
            head -c 100000 /dev/zero >"$at/var/swap" ;;
        trixie)
            mkdir -p "$at/etc/cloud/cloud.cfg.d" "$at/etc/rpi"
            echo '[Main]' >"$at/etc/rpi/swap.conf" ;;
    esac
}

# archive NAME...: files of an initrd.
archive() {
    rm -rf "$work/files"
    local name
    for name in "$@"; do
        mkdir -p "$work/files/$(dirname "$name")"
        echo "$name, as it was" >"$work/files/$name"
    done
    (cd "$work/files" && find . -mindepth 1 | cut -c3- | cpio --quiet -o -H newc)
}

# stock KIND FILE: an image of 4 MiB of nothing, 16 MiB of FAT and 32 MiB of ext4.
stock() {
    local kind=$1 to=$2 boot=bootfs top=rootfs line
    rm -rf "$work/tree"
    tree "$kind" "$work/tree"
    [ "$kind" != debian ] || boot=RASPIFIRM top=RASPIROOT
    truncate -s 52M "$to"
    printf 'label: dos\nlabel-id: 0x1a2b3c4d\nstart=8192, size=32768, type=c\nstart=40960, size=65536, type=83\n' |
        sfdisk --quiet "$to" >/dev/null
    mkfs.vfat -n "$boot" --offset 8192 "$to" 16384 >/dev/null 2>&1
    mkfs.ext4 -q -F -L "$top" -d "$work/tree" -E offset=$((40960 * 512)) "$to" 32768k
    line="console=serial0,115200 console=tty1 root=PARTUUID=1a2b3c4d-02 rootfstype=ext4 fsck.repair=yes rootwait"
    case $kind in
        bookworm) line+=" quiet init=/usr/lib/raspberrypi-sys-mods/firstboot" ;;
        trixie) line+=" resize" ;;
        debian) line="console=tty0 root=LABEL=RASPIROOT rw fsck.repair=yes rootwait" ;;
    esac
    echo "$line" >"$work/cmdline.txt"
    mcopy -i "$to@@4M" "$work/cmdline.txt" ::cmdline.txt
    case $kind in
        trixie)
            echo '#cloud-config' | mcopy -i "$to@@4M" - ::user-data
            echo 'instance-id: rpi' | mcopy -i "$to@@4M" - ::meta-data
            echo '#' | mcopy -i "$to@@4M" - ::network-config ;;
        debian)
            # One that grows root, behind microcode as some have it; one that has no script of that kind; one without compression.
            archive kernel/firmware.bin >"$work/early"
            { cat "$work/early"; archive scripts/local-bottom/ORDER scripts/local-bottom/rpi-resizerootfs | gzip; } |
                mcopy -i "$to@@4M" - ::initrd.img-6.1.0-arm64
            { cat "$work/early"; archive scripts/init-bottom/ORDER | zstd -q; } | mcopy -i "$to@@4M" - ::initrd.img-6.1.0-small
            archive scripts/local-bottom/ORDER | mcopy -i "$to@@4M" - ::initrd.img-6.1.0-plain ;;
    esac
}

say "making stock-like images"
for kind in bookworm trixie debian unknown; do
    stock "$kind" "$work/$kind.img"
done
machine='\x28' stock bookworm "$work/armhf.img"
xz -0 -k "$work/bookworm.img"
zstd -q "$work/trixie.img"
gzip -k "$work/debian.img"
program "$work/headwater" '\xb7'
program "$work/headwater-armhf" '\x28'

# The site of most tests.
site=$work/site.toml
mkdir -p "$work/secrets"
printf '[sources.log]\ntype = "file"\n' >"$work/headwater.toml"
echo "a passphrase" >"$work/wifi.psk"
echo "the key" >"$work/secrets/site-key"
echo "the authority" >"$work/ca.pem"
cat >"$site" <<'SITE'
node = "pump-07"
config = "headwater.toml"   # beside this file
user = "tech"
ssh_keys = ["ssh-ed25519 AAAAC3Nza tech@desk", 'ecdsa-sha2-nistp256 AAAAE2 other']
timezone = "Europe/London"
time_servers = ["192.0.2.1", "time.example"]
country = "GB"
root_size = "48MiB"
data_size = "24MiB"

[wifi]
ssid = "Pump \"7\" \\ station"
psk_file = "wifi.psk"

[network]
interface = "eth0"
address = "192.0.2.7/24"
gateway = "192.0.2.1"
dns = ["192.0.2.1", "192.0.2.2"]

[credentials]
site-key = "secrets/site-key"

[files]
"ca.pem" = "ca.pem"
SITE

# ------------------------------------------------------------------------------------------------ helpers

export TMPDIR=$work/tmp
mkdir "$TMPDIR"

# run ARGUMENT...: flash.sh for rpi4, with the program; its code in $code, what it said in $work/said.
run() {
    code=0
    "$flash" --board rpi4 --binary "$work/headwater" --site "$site" "$@" >"$work/said" 2>&1 || code=$?
}

wrong() { echo "WRONG: $*" >&2; tail -n 20 "$work/said" >&2; exit 1; }
said() { grep -qF -- "$1" "$work/said" || wrong "it did not say: $1"; }
succeeds() { [ "$code" -eq 0 ] || wrong "it failed with $code"; }
# refuses CODE WORDS: that failed, for that reason.
refuses() { [ "$code" -eq "$1" ] || wrong "it ended with $code, not $1"; said "$2"; }
is() { [ "$1" = "$2" ] || wrong "\`$1\` is not \`$2\`"; }

# new_loop FILE: a loop device over a file.
new_loop() {
    disk=$(losetup --find --show "$@")
    own_loops+=("$disk")
}

# card BYTES: a loop device of that size, in $disk.
card() {
    truncate -s "$1" "$work/card"
    new_loop "$work/card"
}

# open_card FILE: its boot partition in $boot, root and data mounted under $work/r and $work/d; the table in $table.
open_card() {
    local at size
    table=$(sfdisk -d "$1" | awk -F'[=,]' '/start=/ { print $2 + 0, $4 + 0, $6 }')
    is "$(wc -l <<<"$table")" 3
    boot="$1@@4M"
    mkdir -p "$work/r" "$work/d"
    for at in r d; do
        read -r start size _ <<<"$(tail -n "$([ $at = r ] && echo 2 || echo 1)" <<<"$table" | head -n 1)"
        new_loop --offset $((start * 512)) --sizelimit $((size * 512)) "$1"
        e2fsck -fn "$disk" >"$work/said" 2>&1 || wrong "the file system $at is not clean"
        mount -o ro "$disk" "$work/$at"
        own_mounts+=("$work/$at")
    done
}

# has PATH MODE OWNER [LINE]: a file or folder of root.
has() {
    is "$1 $(stat -c '%a %u:%g' "$work/r/$1")" "$1 $2 $3"
    [ $# -lt 4 ] || grep -qxF -- "$4" "$work/r/$1" || wrong "$1 has no line: $4; it has: $(cat "$work/r/$1")"
}

# ------------------------------------------------------------------------------------------------ what must be on a card

# whole_card FILE: all that does not depend on the generation.
whole_card() {
    local uid gid program unit
    open_card "$1"
    # Boot as it was, root as large as asked, data right behind it; no room before data that a first boot could take.
    is "$(head -n 1 <<<"$table")" "8192 32768 c"
    is "$(sed -n 2p <<<"$table")" "40960 98304 83"
    is "$(sed -n 3p <<<"$table")" "139264 49152 83"
    is "$(df -B1 --output=size "$work/r" | tail -n 1 | awk '{ print ($1 > 30000000) }')" 1
    uid=$(awk -F: '$1 == "headwater" { print $3 }' "$work/r/etc/passwd")
    gid=$(awk -F: '$1 == "headwater" { print $3 }' "$work/r/etc/group")
    is "$uid $gid" "998 998" # 999 and 997 are taken
    grep -q '^headwater:!\*:' "$work/r/etc/shadow" || wrong "the service's user has a password"
    is "$(stat -c '%a %u' "$work/r/etc/shadow")" "640 0"
    program=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' scripts/service/headwater.service)
    cmp "$work/headwater" "$work/r$program"
    has "${program#/}" 755 0:0
    cmp scripts/service/headwater.service "$work/r/etc/systemd/system/headwater.service"
    is "$(readlink "$work/r/etc/systemd/system/multi-user.target.wants/headwater.service")" /etc/systemd/system/headwater.service
    cmp scripts/service/sysusers.conf "$work/r/usr/lib/sysusers.d/headwater.conf"
    # Without the data partition there is nothing that the node could write to.
    has var/lib/headwater 555 0:0
    is "$(readlink "$work/r/etc/tmpfiles.d/headwater.conf")" /dev/null
    has etc/udev/rules.d/60-headwater.rules 644 0:0
    cmp scripts/service/watchdog.conf "$work/r/etc/systemd/system.conf.d/headwater-watchdog.conf"
    has etc/headwater 750 0:998
    has etc/headwater/headwater.toml 640 0:998 '[sources.log]'
    has etc/headwater/site-id 644 0:0 pump-07
    has etc/headwater/conf.d/10-site.toml 640 0:998 'id = { file = "/etc/headwater/site-id" }'
    has etc/headwater/conf.d/10-site.toml 640 0:998 'max_bytes = "15MiB"'
    has etc/headwater/conf.d/10-site.toml 640 0:998 'control = "/run/headwater/control.sock"'
    has etc/headwater/conf.d/10-site.toml 640 0:998 'keep_free = "3MiB"'
    has etc/headwater/credentials 700 0:0
    has etc/headwater/credentials/site-key 600 0:0 "the key"
    has etc/headwater/ca.pem 640 0:998 "the authority"
    has etc/systemd/system/headwater.service.d/10-site.conf 644 0:0 "LoadCredential=site-key:/etc/headwater/credentials/site-key"
    has etc/hostname 644 0:0 pump-07
    has etc/hosts 644 0:0 $'127.0.1.1\tpump-07'
    is "$(grep -c 127.0.1.1 "$work/r/etc/hosts")" 1
    is "$(readlink "$work/r/etc/localtime")" /usr/share/zoneinfo/Europe/London
    has etc/systemd/timesyncd.conf.d/headwater.conf 644 0:0 "NTP=192.0.2.1 time.example"
    has etc/fstab 644 0:0 "LABEL=headwater-data /var/lib/headwater ext4 noatime,commit=30,nofail,x-systemd.device-timeout=30s 0 2"
    awk '$2 == "/" && $4 ~ /noatime/ && $4 ~ /commit=120/ { found = 1 } END { exit !found }' "$work/r/etc/fstab" || wrong "root is mounted as before"
    ! grep -q '^[^#].*swap' "$work/r/etc/fstab" || wrong "the swap is there"
    [ ! -e "$work/r/var/swap" ] || wrong "the swap file is there"
    has etc/systemd/journald.conf.d/headwater.conf 644 0:0 Storage=volatile
    for unit in resize2fs_once dphys-swapfile rpi-resize userconfig; do
        is "$(readlink "$work/r/etc/systemd/system/$unit.service")" /dev/null
    done
    [ -z "$(find "$work/r/etc/init.d" "$work/r/etc/rc3.d" -name '*resize*')" ] || wrong "resize2fs_once is there"
    [ ! -e "$work/r/etc/ssh/ssh_host_ed25519_key" ] || wrong "the image's host key is every card's"
    is "$(readlink "$work/r/etc/systemd/system/multi-user.target.wants/ssh.service")" /lib/systemd/system/ssh.service
    has etc/ssh/sshd_config.d/headwater.conf 644 0:0 "PasswordAuthentication no"
    # The one who logs in.
    is "$(awk -F: '$1 == "tech" { print $3, $4, $6, $7 }' "$work/r/etc/passwd")" "1000 1000 /home/tech /bin/bash"
    grep -q '^tech:\*:' "$work/r/etc/shadow" || wrong "the user has a password"
    for unit in sudo adm dialout headwater; do
        awk -F: -v g="$unit" '$1 == g && $4 ~ /(^|,)tech(,|$)/ { found = 1 } END { exit !found }' "$work/r/etc/group" || wrong "not in $unit: $(cat "$work/r/etc/group")"
    done
    has home/tech 700 1000:1000
    has home/tech/.ssh 700 1000:1000
    has home/tech/.ssh/authorized_keys 600 1000:1000 "ssh-ed25519 AAAAC3Nza tech@desk"
    is "$(wc -l <"$work/r/home/tech/.ssh/authorized_keys")" 2
    # The data partition is the node's.
    is "$(stat -c '%a %u:%g' "$work/d")" "750 998:998"
    is "$(blkid -p -o value -s LABEL "$(findmnt -no SOURCE "$work/d")")" headwater-data
    ! grep -rq "a passphrase" "$work/r/etc" || wrong "the passphrase itself is on the card"
}

cmdline() { mtype -i "$boot" ::cmdline.txt | tr -d '\n'; }
# The key of "Pump \"7\" \\ station" and "a passphrase", from wpa_passphrase's own formula.
psk() { python3 -c 'import hashlib; print(hashlib.pbkdf2_hmac("sha1", b"a passphrase", b"Pump \"7\" \\ station", 4096, 32).hex())'; }

bookworm_card() {
    local id
    whole_card "$1"
    id=$(sfdisk -d "$1" | sed -n 's/^label-id: 0x//p')
    [ "$id" != 1a2b3c4d ] || wrong "the disk id is the image's"
    is "$(cmdline)" "console=serial0,115200 console=tty1 root=PARTUUID=$id-02 rootfstype=ext4 fsck.repair=yes rootwait quiet cfg80211.ieee80211_regdom=GB cgroup_enable=memory"
    grep -q "^PARTUUID=$id-01 /boot/firmware" "$work/r/etc/fstab" || wrong "fstab has another disk id"
    [ ! -e "$work/r/home/pi" ] || wrong "the home of pi is there"
    has home/tech/.bashrc 644 1000:1000 alias
    ! grep -rqw pi "$work/r/etc/passwd" "$work/r/etc/group" "$work/r/etc/sudoers.d" || wrong "pi is still there"
    has etc/sudoers.d/010_tech-nopasswd 440 0:0
    has etc/NetworkManager/system-connections/headwater.nmconnection 600 0:0 "address1=192.0.2.7/24,192.0.2.1"
    has etc/NetworkManager/system-connections/headwater.nmconnection 600 0:0 "dns=192.0.2.1;192.0.2.2;"
    has etc/NetworkManager/system-connections/headwater-wifi.nmconnection 600 0:0 "psk=$(psk)"
    has etc/NetworkManager/system-connections/headwater-wifi.nmconnection 600 0:0 "ssid=80;117;109;112;32;34;55;34;32;92;32;115;116;97;116;105;111;110;"
    is "$(cat "$work/r/var/lib/systemd/rfkill/platform-3f300000.mmcnr:wlan")" 0
    [ ! -e "$work/r/etc/ssh/sshd_config.d/rename_user.conf" ] || wrong "the banner is there"
}

trixie_card() {
    whole_card "$1"
    case " $(cmdline) " in *" resize "*) wrong "root would grow: $(cmdline)" ;; esac
    mtype -i "$boot" ::user-data >"$work/said"
    said "#cloud-config"
    said "hostname: pump-07"
    said '  mode: "off"'
    said "resize_rootfs: false"
    said "users: []"
    mtype -i "$boot" ::meta-data >"$work/said"
    said "instance-id: headwater-pump-07-"
    mtype -i "$boot" ::network-config >"$work/said"
    said '      addresses: ["192.0.2.7/24"]'
    said '        addresses: ["192.0.2.1", "192.0.2.2"]'
    said '        "Pump \"7\" \\ station":'
    said "          password: \"$(psk)\""
    has etc/rpi/swap.conf.d/headwater.conf 644 0:0 Mechanism=zram
    [ -z "$(ls "$work/r/etc/NetworkManager/system-connections")" ] || wrong "two who set up the network"
}

debian_card() {
    whole_card "$1"
    case $(cmdline) in *"root=LABEL=RASPIROOT rw"*regdom=GB) ;; *) wrong "$(cmdline)" ;; esac
    grep -q '^root:\*:' "$work/r/etc/shadow" || wrong "root has no password and may come in"
    has root/.ssh/authorized_keys 600 0:0
    has etc/network/interfaces.d/eth0 600 0:0 "    address 192.0.2.7/24"
    has etc/network/interfaces.d/wlan0 600 0:0 "    wpa-psk $(psk)"
    # The initrd as it was, and behind it an archive in which what grows root is empty.
    mcopy -n -o -i "$boot" ::initrd.img-6.1.0-arm64 "$work/initrd"
    mcopy -n -o -i "$work/debian.img@@4M" ::initrd.img-6.1.0-arm64 "$work/initrd.before"
    cmp -n "$(stat -c %s "$work/initrd.before")" "$work/initrd" "$work/initrd.before"
    rm -rf "$work/cpio" && mkdir "$work/cpio"
    tail -c "+$((($(stat -c %s "$work/initrd.before") + 3) / 4 * 4 + 1))" "$work/initrd" | (cd "$work/cpio" && cpio -id --quiet)
    "$work/cpio/scripts/local-bottom/rpi-resizerootfs"
    # One without such a script is left alone: with that folder and without its ORDER it would not boot.
    for name in small plain; do
        mcopy -n -o -i "$boot" "::initrd.img-6.1.0-$name" "$work/initrd"
        mcopy -n -o -i "$work/debian.img@@4M" "::initrd.img-6.1.0-$name" "$work/initrd.before"
        cmp "$work/initrd" "$work/initrd.before" || wrong "the initrd $name is another"
    done
}

# ------------------------------------------------------------------------------------------------ tests

an_image_of_bookworm_becomes_a_whole_card_in_a_file() {
    sha256sum "$work/bookworm.img.xz" >"$work/bookworm.img.xz.sha256"
    run --image "$work/bookworm.img.xz" --output "$work/out.img"
    rm "$work/bookworm.img.xz.sha256"
    succeeds
    said "generation rpi-firstboot"
    said "100 %"
    ! grep -q WARNING "$work/said" || wrong "it warns of what it has checked"
    bookworm_card "$work/out.img"
}

an_image_of_trixie_is_told_by_cloud_init() {
    run --image "$work/trixie.img.zst" --output "$work/out.img"
    succeeds
    said "generation rpi-cloud-init"
    said "is not checked"
    trixie_card "$work/out.img"
}

an_image_of_debian_is_written_directly() {
    run --image "$work/debian.img.gz" --output "$work/out.img"
    succeeds
    said "generation debian"
    debian_card "$work/out.img"
}

a_device_gets_the_same_and_data_takes_the_rest_if_asked() {
    card 128M
    # What was on the card before is gone.
    yes | head -c 134217728 >"$work/card" || true
    run --image "$work/bookworm.img" --device "$disk" --allow-fixed --and-erase "$disk"
    succeeds
    bookworm_card "$disk"
    sweep
    card 128M
    run --image "$work/bookworm.img" --set data_size=rest --device "$disk" --allow-fixed --and-erase "$disk"
    succeeds
    is "$(sfdisk -d "$disk" | awk -F'[=,]' '/start=/ { end = $2 + $4 } END { print end * 512 }')" 134217728
    run --image "$work/bookworm.img" --set data_size=rest --output "$work/out.img"
    refuses 1 "needs --device"
}

a_32_bit_board_takes_its_own_image_and_program() {
    code=0
    "$flash" --board generic-armv7 --binary "$work/headwater-armhf" --site "$site" --image "$work/armhf.img" --output "$work/out.img" >"$work/said" 2>&1 || code=$?
    succeeds
    said "for armhf"
    open_card "$work/out.img"
    has etc/headwater/conf.d/10-site.toml 640 0:998 'max_bytes = "15MiB"'
    has etc/systemd/system/headwater.service.d/10-site.conf 644 0:0 "MemoryMax=$((128 << 20))"
}

the_stock_image_is_never_changed() {
    local before
    before=$(sha256sum <"$work/bookworm.img")
    run --image "$work/bookworm.img" --output "$work/out.img"
    succeeds
    is "$(sha256sum <"$work/bookworm.img")" "$before"
}

a_wrong_checksum_is_refused_and_a_right_one_taken() {
    local sum
    sum=$(sha256sum <"$work/bookworm.img.xz" | cut -d' ' -f1)
    run --image "$work/bookworm.img.xz" --sha256 "${sum/[0-4]/9}" --output "$work/out.img"
    refuses 1 "has the checksum"
    echo "${sum/[5-9]/0}  bookworm.img.xz" >"$work/bookworm.img.xz.sha256"
    run --image "$work/bookworm.img.xz" --output "$work/out.img"
    rm "$work/bookworm.img.xz.sha256"
    refuses 1 "has the checksum"
    [ ! -e "$work/out.img" ] || wrong "something was written"
    run --image "$work/bookworm.img.xz" --sha256 "${sum^^}" --dry-run --output "$work/out.img"
    succeeds
}

an_image_that_is_not_known_is_refused_with_what_was_looked_for() {
    run --image "$work/unknown.img" --output "$work/out.img"
    refuses 1 "is of no generation that is known here. Looked for"
    head -c 60000000 /dev/urandom >"$work/garbage.img"
    run --image "$work/garbage.img" --output "$work/out.img"
    refuses 1 "no partition table"
    head -c 3000000 "$work/bookworm.img.xz" >"$work/cut.img.xz"
    run --image "$work/cut.img.xz" --output "$work/out.img"
    refuses 1 "cannot be unpacked"
    head -c 40000000 "$work/bookworm.img" >"$work/cut.img"
    run --image "$work/cut.img" --output "$work/out.img"
    refuses 1 "cut short"
    : >"$work/empty.img"
    run --image "$work/empty.img" --output "$work/out.img"
    refuses 1 "is empty"
    run --image "$work/armhf.img" --output "$work/out.img"
    refuses 1 "is for armhf; rpi4 is arm64"
    run --image "$work/bookworm.img" --binary "$work/headwater-armhf" --output "$work/out.img"
    refuses 1 "is not for arm64"
    code=0
    "$flash" --board generic-aarch64 --binary "$work/headwater" --site "$site" --image "$work/bookworm.img" --output "$work/out.img" >"$work/said" 2>&1 || code=$?
    refuses 1 "generic-aarch64 takes debian"
    run --image "$work/debian.img" --output "$work/done.img"
    succeeds
    run --image "$work/done.img" --output "$work/out.img"
    refuses 1 "was flashed before"
    [ ! -e "$work/out.img" ] || wrong "something was written"
}

# root_of IMAGE: its root on a loop device, in $disk.
root_of() { new_loop --offset $((40960 * 512)) --sizelimit $((65536 * 512)) "$1"; }

a_damaged_root_is_refused() {
    cp "$work/bookworm.img" "$work/damaged.img"
    root_of "$work/damaged.img"
    debugfs -w -R "clri /usr/share" "$disk" >/dev/null 2>&1
    sync "$disk"
    sweep
    run --image "$work/damaged.img" --output "$work/out.img"
    refuses 1 "the image's root is damaged"
    head -c 6000000 /dev/urandom | dd of="$work/damaged.img" bs=512 seek=$((40960 + 8)) conv=notrunc status=none
    run --image "$work/damaged.img" --output "$work/out.img"
    refuses 1 "root cannot be mounted"
    [ ! -e "$work/out.img" ] || wrong "something was written"
}

a_link_that_leads_out_of_the_image_is_not_followed() {
    local outside=$work/outside link
    echo mine >"$outside"
    for link in "$outside" "../../../../../../../../../..$outside"; do
        cp "$work/bookworm.img" "$work/evil.img"
        root_of "$work/evil.img"
        debugfs -w -R "rm /etc/fstab" "$disk" >/dev/null 2>&1
        debugfs -w -R "symlink /etc/fstab $link" "$disk" >/dev/null 2>&1
        sync "$disk"
        sweep
        run --image "$work/evil.img" --output "$work/out.img"
        # A path from / is the image's own /, where there is no such file.
        case $link in
            /*) refuses 1 "has no /etc/fstab" ;;
            *) refuses 1 "etc/fstab leads out of the image" ;;
        esac
        is "$(cat "$outside")" mine
    done
}

a_short_device_is_refused_before_anything_is_written() {
    card 64M
    run --image "$work/bookworm.img" --device "$disk" --allow-fixed --and-erase "$disk"
    refuses 1 "is too small"
    ! tr -d '\0' <"$work/card" | grep -q . || wrong "something was written"
}

writes_that_fail_are_told_and_leave_nothing() {
    local full=$work/full
    mkdir -p "$full"
    mount -t tmpfs -o size=4m none "$full"
    own_mounts+=("$full")
    run --image "$work/bookworm.img" --output "$full/out.img"
    refuses 1 "failed"
    [ -z "$(ls "$full")" ] || wrong "left: $(ls "$full")"
    truncate -s 128M "$full/card"
    new_loop "$full/card"
    run --image "$work/bookworm.img" --device "$disk" --allow-fixed --and-erase "$disk"
    refuses 1 "writing to $disk failed"
    said "holds half of what it should"
    # The loop device goes before what it stands on.
    losetup -d "$disk"
}

a_device_that_takes_no_writes_behind_a_point_is_told() {
    card 128M
    if ! printf '0 100000 linear %s 0\n100000 162144 error\n' "$disk" | dmsetup create headwater-test-flash 2>/dev/null; then
        echo "not available here: device-mapper, for a device that fails from a sector on"
        return 0
    fi
    run --image "$work/bookworm.img" --device /dev/mapper/headwater-test-flash --allow-fixed --and-erase /dev/mapper/headwater-test-flash
    dmsetup remove headwater-test-flash
    refuses 1 "failed"
}

what_is_not_read_back_as_it_was_written_is_no_card() {
    export HEADWATER_FLASH_CORRUPT=1
    run --image "$work/bookworm.img" --output "$work/out.img"
    refuses 1 "does not give back what was written"
    [ ! -e "$work/out.img" ] || wrong "it has its name"
    card 128M
    run --image "$work/bookworm.img" --device "$disk" --allow-fixed --and-erase "$disk"
    refuses 1 "does not give back what was written"
    said "holds half of what it should"
}

an_interruption_at_any_step_leaves_nothing_behind() {
    local name
    card 128M
    for name in check checksum program unpack identify partition grow root boot write write@50 verify data finish; do
        HEADWATER_FLASH_STOP_AT=$name run --image "$work/bookworm.img" --output "$work/out.img"
        [ "$code" -eq 130 ] || wrong "stopped at $name it ended with $code"
        clean "$name"
        [ -z "$(find "$work" -maxdepth 1 -name 'out.img*')" ] || wrong "stopped at $name it leaves a file"
    done
    for name in identify root boot write@50 data; do
        HEADWATER_FLASH_STOP_AT=$name HEADWATER_FLASH_SIGNAL=TERM run --image "$work/bookworm.img" --device "$disk" --allow-fixed --and-erase "$disk"
        [ "$code" -eq 143 ] || wrong "stopped at $name it ended with $code"
        clean "$name"
        case $name in
            write@50 | data) said "holds half of what it should" ;;
            *) ! grep -q "holds half" "$work/said" || wrong "at $name nothing was written" ;;
        esac
    done
}

what_starts_meanwhile_with_mounts_of_its_own_holds_nothing() {
    local pid holder mounts held
    HEADWATER_FLASH_STOP_AT=boot HEADWATER_FLASH_SIGNAL=STOP "$flash" --board rpi4 --binary "$work/headwater" --site "$site" \
        --image "$work/bookworm.img" --output "$work/out.img" >"$work/said" 2>&1 &
    pid=$!
    # Root is mounted there.
    until [ "$(awk '{ print $3 }' "/proc/$pid/stat")" = T ]; do sleep 0.1; done
    mounts=$(grep -c "$TMPDIR" "/proc/$pid/mountinfo" || true)
    unshare --mount --propagation private sleep 600 &
    holder=$!
    until [ "$(readlink "/proc/$holder/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ]; do sleep 0.1; done
    held=$(grep "$TMPDIR" "/proc/$holder/mountinfo" || true)
    kill -CONT "$pid"
    code=0
    wait "$pid" || code=$?
    kill "$holder"
    wait "$holder" || true
    [ "$mounts" -gt 0 ] || wrong "nothing was mounted"
    is "$held" ""
    succeeds
}

a_disk_in_use_is_refused_whatever_is_said() {
    local system
    card 64M
    mkfs.ext4 -q "$disk"
    mkdir -p "$work/m"
    mount "$disk" "$work/m"
    own_mounts+=("$work/m")
    run --image "$work/bookworm.img" --device "$disk" --allow-fixed --and-erase "$disk"
    refuses 1 "$disk is mounted at $work/m"
    run --image "$work/bookworm.img" --device /dev/null
    refuses 1 "no block device"
    system=$(findmnt -no SOURCE /)
    if [ -b "$system" ]; then
        system=$(lsblk -no PKNAME "$system" | grep . || basename "$system")
        run --image "$work/bookworm.img" --device "/dev/$system" --allow-fixed --and-erase "/dev/$system" --dry-run
        refuses 1 "is the system disk"
    else
        echo "not available here: the disk of /, which is $system"
    fi
}

a_disk_that_is_not_removable_wants_to_be_named_twice() {
    card 128M
    run --image "$work/bookworm.img" --device "$disk"
    refuses 1 "is not removable"
    run --image "$work/bookworm.img" --device "$disk" --allow-fixed
    refuses 1 "is not removable"
    run --image "$work/bookworm.img" --device "$disk" --and-erase "$disk"
    refuses 1 "is not removable"
    run --image "$work/bookworm.img" --device "$disk" --allow-fixed --and-erase /dev/loop99
    refuses 1 "is not removable"
    ! tr -d '\0' <"$work/card" | grep -q . || wrong "something was written"
}

a_dry_run_shows_every_step_and_changes_nothing() {
    local number
    card 128M
    run --image "$work/bookworm.img.xz" --device "$disk" --allow-fixed --and-erase "$disk" --dry-run
    succeeds
    for number in $(seq 13); do
        said "-- $number/13 "
    done
    ! tr -d '\0' <"$work/card" | grep -q . || wrong "something was written"
    run --image "$work/bookworm.img.xz" --output "$work/dry.img" --dry-run
    succeeds
    [ -z "$(find "$work" -maxdepth 1 -name 'dry.img*')" ] || wrong "something was written"
}

every_error_of_a_site_is_told_at_once() {
    printf 'node = "Pump"\nconfig = "none.toml"\nusr = "tech"\ncountry = GB\nuser = ["a"]\n[wlan]\nssid = "x"\n[wifi]\nssid = "x"\nssid = "y"\n[network]\ngateway = "x"\n' >"$work/bad.toml"
    code=0
    "$flash" --board rpi4 --image "$work/bookworm.img" --site "$work/bad.toml" --output "$work/out.img" >"$work/said" 2>&1 || code=$?
    refuses 2 "bad.toml:3: \`usr\` is no key of a site"
    said "bad.toml:4: the value of \`country\` is to stand in quotes"
    said "bad.toml:5: \`user\` takes a text"
    said "bad.toml:6: [wlan] is no section"
    said "bad.toml:10: \`wifi.ssid\` stands there twice"
    said "there is no file $work/none.toml"
    said "\`node\`: small letters"
    said "\`network.gateway\`: an address"
    said "[wifi] needs \`country\`"
    run --image "$work/bookworm.img" --set nod=x --output "$work/out.img"
    refuses 2 "\`nod\` is no key of a site"
    run --image "$work/bookworm.img" --set wifi.psk_file= --set wifi.psk_env=NO_SUCH_VARIABLE --output "$work/out.img"
    refuses 2 "NO_SUCH_VARIABLE is not set"
    run --image "$work/bookworm.img" --set wifi.ssid= --set wifi.psk_file= --set network.interface=wlan0 --output "$work/out.img"
    refuses 2 "is wlan0, without [wifi]"
    run --image "$work/bookworm.img" --set root_size=8MiB --output "$work/out.img"
    refuses 1 "the image's root has 32 MiB already"
}

the_example_of_a_site_is_one() {
    local dir=$work/example
    mkdir -p "$dir/secrets"
    "$flash" --example >"$dir/site.toml"
    touch "$dir/headwater.toml" "$dir/secrets/site-key.pem" "$dir/ca.pem"
    echo "a passphrase" >"$dir/wifi.psk"
    code=0
    "$flash" --board rpi4 --image "$work/bookworm.img" --site "$dir/site.toml" --output "$work/out.img" --dry-run >"$work/said" 2>&1 || code=$?
    succeeds
    # Each key stands in it.
    for key in node config user ssh_keys ssh_key_files password_hash timezone time_servers country root_size data_size ssid psk_file psk_env interface address gateway dns; do
        grep -qw "$key" "$dir/site.toml" || wrong "the example says nothing of $key"
    done
}

what_a_config_sets_is_not_set_again() {
    printf '[node]\nid = "other"\ncontrol = "/run/headwater/other.sock"\n[ring]\nmax_bytes = "64MiB"\nkeep_free = "1MiB"\n' >"$work/own.toml"
    run --image "$work/bookworm.img" --set config=own.toml --output "$work/out.img"
    refuses 2 "there is no file"
    run --image "$work/bookworm.img" --set "config=$work/own.toml" --output "$work/out.img"
    succeeds
    open_card "$work/out.img"
    is "$(grep -v '^#' "$work/r/etc/headwater/conf.d/10-site.toml" || true)" ""
}

many_sites_become_many_images() {
    printf 'node,network.address,wifi.ssid\npump-1,192.0.2.11/24,"A, ""B"""\npump-2,nonsense,C\npump-3,,\n' >"$work/sites.csv"
    run --image "$work/bookworm.img.xz" --sites "$work/sites.csv" --output "$work/cards"
    refuses 1 "2 made, 1 failed: pump-2"
    is "$(cd "$work/cards" && echo *)" "pump-1.img pump-3.img"
    open_card "$work/cards/pump-1.img"
    has etc/hostname 644 0:0 pump-1
    has etc/NetworkManager/system-connections/headwater.nmconnection 600 0:0 "address1=192.0.2.11/24,192.0.2.1"
    has etc/NetworkManager/system-connections/headwater-wifi.nmconnection 600 0:0 "ssid=65;44;32;34;66;34;"
    sweep
    open_card "$work/cards/pump-3.img"
    has etc/hostname 644 0:0 pump-3
    sweep
    run --image "$work/bookworm.img" --sites "$work/sites.csv" --output "$work/dry" --dry-run
    refuses 1 "2 made, 1 failed: pump-2"
    [ ! -e "$work/dry" ] || wrong "a dry run wrote"
    printf 'node,node\na,b\n' >"$work/sites.csv"
    run --image "$work/bookworm.img" --sites "$work/sites.csv" --output "$work/cards"
    refuses 2 "names a key twice"
    printf 'node\na\na\n' >"$work/sites.csv"
    run --image "$work/bookworm.img" --sites "$work/sites.csv" --output "$work/cards"
    refuses 2 "stands there twice"
}

# ------------------------------------------------------------------------------------------------ running them

# clean WHEN: nothing of flash.sh's is left.
clean() {
    [ -z "$(ls "$TMPDIR")" ] || wrong "after $1 there is: $(ls -R "$TMPDIR")"
    ! grep -F "$TMPDIR" /proc/self/mountinfo || wrong "after $1 something is mounted"
    ! losetup --noheadings --output BACK-FILE | grep -F "$TMPDIR" || wrong "after $1 a loop device is attached"
}

# How many loop devices stand on this test's files, or on other loop devices.
attached() { losetup --noheadings --output BACK-FILE | grep -cE "^($work|/dev/loop)" || true; }

passed=0 failed=0 missing=()
mapfile -t tests < <(sed -n '/^# -* tests$/,/^# -* running them$/s/^\([a-z0-9_]*\)() {$/\1/p' "$root/scripts/test-flash.sh")
for test in "${tests[@]}"; do
    [[ $test == *"${1-}"* ]] || continue
    before=$(attached)
    code=0
    set +e
    (
        set -e
        trap sweep EXIT
        "$test"
        sweep
        clean "$test"
    ) >"$work/log" 2>&1
    code=$?
    set -e
    if [ "$code" -eq 0 ] && [ "$(attached)" -ne "$before" ]; then
        losetup >>"$work/log"
        code=1
    fi
    rm -rf "$work"/out.img "$work"/card "$work"/cards "$work"/done.img "$work"/out.img.part
    if [ "$code" -eq 0 ]; then
        passed=$((passed + 1))
        printf 'ok    %s\n' "$test"
        while IFS= read -r line; do
            missing+=("$line")
        done < <(grep 'not available here' "$work/log" || true)
    else
        failed=$((failed + 1))
        printf 'FAIL  %s\n' "$test"
        sed 's/^/      /' "$work/log"
    fi
done
for line in "${missing[@]}"; do
    say "$line"
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
