# shellcheck shell=bash
# shellcheck disable=SC2154  # what flash.sh and its other parts set
# What flash.sh makes of a stock image: which generation it is, its partitions, and what goes onto root and boot.
# Sourced by flash.sh.
#
# Nothing of the image is run: a chroot into ARM would need an emulator, and everything that is wanted is files. A service
# is enabled by its link; one that must not run is masked, which a first boot's presets do not undo. Users are written
# into passwd, shadow and group rather than left to sysusers.d: their numbers own files that are written here, and the
# node is to start before anything that a first boot may do.
#
# The boot partition is read and written by mtools, without mounting it.

# ------------------------------------------------------------------------------------------------ what it is

# unpack IMAGE TO: the image as it is on a disk.
unpack() {
    local with=cat
    case $1 in
        *.xz) with="xz -dc" ;;
        *.gz) with="gzip -dc" ;;
        *.zst) with="zstd -qdc" ;;
        *.zip | *.7z | *.bz2 | *.tar) fail "$1: unpack it first; .xz, .gz and .zst are known here" ;;
    esac
    $with <"$1" 2>"$work/unpack" | dd of="$2" bs="$MIB" iflag=fullblock conv=sparse status=none 2>>"$work/unpack" ||
        fail "$1 cannot be unpacked: $(tail -n 1 "$work/unpack")"
    [ -s "$2" ] || fail "$1 is empty"
}

# read_table FILE: the partition table, checked against the board's; sets $boot_start, $root_start, $root_bytes, ...
read_table() {
    local numbers kind
    sfdisk -d "$1" >"$work/table" 2>/dev/null || fail "$image has no partition table: it is no image of a disk"
    kind=$(sed -n 's/^label: //p' "$work/table")
    [ "$kind" = "$(board image.table)" ] || fail "$image has a partition table of kind $kind; $board_name expects $(board image.table)"
    # `/path/image1 : start= 8192, size= 1048576, type=c`; the number follows the file's name.
    awk -v file="$1" 'index($0, file) == 1 {
        number = substr($1, length(file) + 1); sub(/^p/, "", number)
        gsub(/[a-z]+= */, "&|"); split($0, part, /[|,]/)
        print number, part[2] + 0, part[4] + 0, part[6]
    }' "$work/table" >"$work/partitions"
    numbers=$(cut -d' ' -f1 "$work/partitions" | paste -sd ' ')
    [ "$numbers" = "$(board image.boot_number) $(board image.root_number)" ] ||
        fail "$image has the partitions ${numbers:-none}; $board_name expects $(board image.boot_number) (boot) and" \
            "$(board image.root_number) (root). A card that was flashed before is no stock image"
    read -r _ boot_sector boot_sectors _ <<<"$(head -n 1 "$work/partitions")"
    read -r _ root_sector root_sectors _ <<<"$(tail -n 1 "$work/partitions")"
    [ "$((boot_sector + boot_sectors))" -le "$root_sector" ] || fail "$image: root does not come after boot"
    [ "$(stat -c %s "$1")" -ge $(((root_sector + root_sectors) * 512)) ] ||
        fail "$image ends before its root partition does: it is cut short"
    boot_at="$1@@$((boot_sector * 512))"
    disk_id=$(sed -n 's/^label-id: 0x//p' "$work/table")
}

# label_is FILE OFFSET TYPE KEY NAME: the file system there is of this type, its label one of the board's.
label_is() {
    local type label wanted
    type=$(blkid -p -O "$2" -o value -s TYPE "$1" || true)
    label=$(blkid -p -O "$2" -o value -s LABEL "$1" || true)
    wanted=$(board "$4")
    [ "$type" = "$3" ] || fail "$image: the $5 partition has ${type:-no file system}, not $3"
    [ -z "$wanted" ] || grep -qxF -- "$label" <<<"$wanted" ||
        fail "$image: the $5 partition is called \`$label\`; $board_name expects $(paste -sd ',' <<<"$wanted")"
}

# machine FILE: the processor that a program is for, by its ELF header.
machine() {
    case $(od -An -tx2 --endian=little -j18 -N2 "$1" 2>/dev/null | tr -d ' ') in
        00b7) echo arm64 ;;
        0028) echo armhf ;;
        *) echo other ;;
    esac
}

boot_has() { mdir -i "$boot_at" -b "::$1" >/dev/null 2>&1; }

# identify: which generation the image is, in $generation, with root mounted. Refuses what it does not know.
identify() {
    local id for_what cmdline='' found=()
    id=$(sed -n 's/^ID="\{0,1\}\([a-z]*\)"\{0,1\}$/\1/p' "$(within etc/os-release)" 2>/dev/null || true)
    boot_has cmdline.txt && cmdline=" $(mtype -i "$boot_at" ::cmdline.txt | tr -d '\r\n') "
    case $cmdline in
        *" init=/usr/lib/raspberrypi-sys-mods/firstboot "* | *" init=/usr/lib/raspi-config/init_resize.sh "*) found+=(firstboot) ;;
        *" resize "*) [ ! -e "$(within usr/lib/raspberrypi-sys-mods/imager_custom)" ] || found+=(firstboot) ;;
    esac
    [ ! -f "$(within etc/rpi-issue)" ] || found+=(rpi-issue)
    [ ! -d "$(within etc/cloud/cloud.cfg.d)" ] || found+=(cloud.cfg.d)
    boot_has user-data && boot_has meta-data && found+=(user-data)
    case " ${found[*]-} " in
        *" rpi-issue "*cloud.cfg.d*user-data*) generation=rpi-cloud-init ;;
        *" firstboot rpi-issue "*) generation=rpi-firstboot ;;
        *rpi-issue* | *firstboot* | *cloud.cfg.d* | *user-data*) generation= ;;
        *) [ "$id" != debian ] || [ ! -f "$(within etc/debian_version)" ] || generation=debian ;;
    esac
    [ -n "$generation" ] || fail "$image is of no generation that is known here. Looked for: Raspberry Pi OS with cloud-init" \
        "(/etc/rpi-issue, /etc/cloud/cloud.cfg.d, user-data and meta-data on the boot partition), Raspberry Pi OS with" \
        "its firstboot (/etc/rpi-issue, cmdline.txt with firstboot, init_resize or resize), Debian (/etc/debian_version," \
        "none of these). Found: ID=${id:-none} ${found[*]-}. A card that has booted once is no stock image"
    board image.generations | grep -xF "$generation" >/dev/null ||
        fail "$image is of the generation $generation; $board_name takes $(board image.generations | paste -sd ' ')"
    for_what=$(machine "$(within usr/bin/dpkg)")
    [ "$for_what" = "$(board debian)" ] || fail "$image is for $for_what; $board_name is $(board debian)"
    say "the image is of the generation $generation, for $for_what"
}

# ------------------------------------------------------------------------------------------------ partitions

# lay_out: root as large as it shall be, the data partition behind it, and no room that a first boot could take.
lay_out() {
    local root_size=${site[root_size]-} data_size=${site[data_size]-} align=8192
    root_size=$(bytes "${root_size:-$(board image.root_size)}")
    data_size=${data_size:-$(board image.data_size)}
    root_new=$((root_size / 512))
    [ "$root_new" -ge "$root_sectors" ] ||
        fail "root_size: $((root_size / MIB)) MiB; the image's root has $((root_sectors / 2048)) MiB already"
    data_sector=$(((root_sector + root_new + align - 1) / align * align))
    root_new=$((data_sector - root_sector))
    if [ "$data_size" = rest ]; then
        [ -n "$device" ] || fail "data_size = \"rest\" needs --device: a file has no size of its own"
        data_sectors=$(((device_bytes / 512 - data_sector) / align * align))
    else
        data_sectors=$(($(bytes "$data_size") / 512))
    fi
    [ "$data_sectors" -ge $((16 * 2048)) ] || fail "data_size: 16MiB at least; there are $((data_sectors / 2048))"
    total_bytes=$(((data_sector + data_sectors) * 512))
    if [ -n "$device" ] && [ "$total_bytes" -gt "$device_bytes" ]; then
        fail "$device is too small: $((total_bytes / MIB)) MiB are needed (boot and root end at" \
            "$((data_sector / 2048)) MiB, data has $((data_sectors / 2048))), it has $((device_bytes / MIB))"
    fi
    [ $((data_sector + data_sectors)) -lt 4294967296 ] || fail "more than this partition table can tell: at most 2 TiB"
}

# partition FILE: writes that, with a disk id of its own, as the first boot would have: two cards in one machine differ.
partition() {
    # For as long as it lies here the image ends where data begins; the target is longer.
    truncate -s "$total_bytes" "$1"
    new_id=$(od -An -tx4 -N4 /dev/urandom | tr -d ' ')
    awk -v file="$1" -v id="0x$new_id" -v root="$root_new" '
        /^label-id:/ { print "label-id: " id; next }
        /^last-lba:/ { next }
        index($0, file) == 1 { line[++n] = $0; next }
        { print }
        END {
            sub(/size= *[0-9]+/, "size=" root, line[2])
            print line[1]; print line[2]
        }' "$work/table" >"$work/table.new"
    printf 'start=%d, size=%d, type=83\n' "$data_sector" "$data_sectors" >>"$work/table.new"
    sfdisk --quiet --wipe never --wipe-partitions never --no-reread --no-tell-kernel "$1" <"$work/table.new" >/dev/null 2>"$work/sfdisk" ||
        fail "the partitions could not be written: $(tail -n 1 "$work/sfdisk")"
    truncate -s $((data_sector * 512)) "$1"
}

grow_root() {
    local code=0
    attach "$work/image" $((root_sector * 512)) $((root_new * 512))
    e2fsck -fp "$loop" >"$work/fsck" 2>&1 || code=$?
    [ "$code" -lt 8 ] || fail "the image's root is of a kind that this machine's e2fsck does not know: $(tail -n 2 "$work/fsck" | tr '\n' ' ')"
    [ "$code" -le 1 ] || fail "the image's root is damaged: $(tail -n 2 "$work/fsck" | tr '\n' ' ')"
    resize2fs "$loop" >"$work/resize" 2>&1 || fail "root could not be grown: $(tail -n 1 "$work/resize")"
    detach
}

# ------------------------------------------------------------------------------------------------ files of root

# within PATH: where that lies under the mounted root. A link in the image that leads out of it ends the script: as root
# it would be this machine's own file that is written.
within() {
    local real
    real=$(realpath -m -- "$mnt/$1")
    case $real in
        "$mnt"/*) echo "$mnt/$1" ;;
        *) # Links from / are the image's own /.
            real=$(chroot_path "$1")
            case $(realpath -m -- "$real") in
                "$mnt"/*) echo "$real" ;;
                *) fail "$image: $1 leads out of the image" ;;
            esac ;;
    esac
}

# chroot_path PATH: one step of a link that begins with /.
chroot_path() {
    if [ -L "$mnt/$1" ]; then
        echo "$mnt/$(readlink "$mnt/$1")"
    else
        echo "$mnt/$1"
    fi
}

# put PATH MODE [OWNER]: writes what comes in, in place of what is there.
put() {
    local to
    to=$(within "$1")
    mkdir -p "$(dirname "$to")"
    rm -f "$to"
    (umask 077 && cat >"$to")
    chown "${3:-0:0}" "$to"
    chmod "$2" "$to"
}

# folder PATH MODE OWNER
folder() {
    local to
    to=$(within "$1")
    mkdir -p "$to"
    chown "$3" "$to"
    chmod "$2" "$to"
}

# edit PATH SED...: changes a file that may be there, which keeps owner and mode.
edit() {
    local file
    file=$(within "$1")
    [ -f "$file" ] || return 0
    sed "${@:2}" "$file" >"$work/edit"
    cat "$work/edit" >"$file"
}

# remove FOLDER PATTERN...: files of a folder. The folder is found first: an empty word before a slash would be this machine's.
remove() {
    local at pattern
    at=$(within "$1")
    for pattern in "${@:2}"; do
        # shellcheck disable=SC2086  # a pattern is to be spread
        (cd "$at" 2>/dev/null && rm -f -- $pattern) || true
    done
}

link() { local at; at=$(within "$(dirname "$2")"); mkdir -p "$at"; ln -sfn "$1" "$at/$(basename "$2")"; }
mask() { link /dev/null "etc/systemd/system/$1"; }
enable() { link "/etc/systemd/system/$1" "etc/systemd/system/multi-user.target.wants/$1"; }

# add_line FILE NAME LINE: unless a line of that name is there.
add_line() {
    local file
    file=$(within "$1")
    [ -f "$file" ] || return 0
    grep -q "^$2:" "$file" || echo "$3" >>"$file"
}

# id_of FILE NAME: a user's or group's number.
id_of() { awk -F: -v name="$2" '$1 == name { print $3; exit }' "$(within "$1")"; }

# free_id FROM STEP: a number that is neither a user's nor a group's.
free_id() {
    local id=$1
    while cut -d: -f3 "$(within etc/passwd)" "$(within etc/group)" | grep -x "$id" >/dev/null; do
        id=$((id + $2))
    done
    echo "$id"
}

# make_user NAME ID COMMENT HOME SHELL PASSWORD: with a group of its own, unless it is there; its numbers in $uid and $gid.
make_user() {
    add_line etc/group "$1" "$1:x:$2:"
    add_line etc/gshadow "$1" "$1:!::"
    gid=$(id_of etc/group "$1")
    add_line etc/passwd "$1" "$1:x:$2:$gid:$3:$4:$5"
    # The day of the last change is unknown on purpose: the machine's clock may say 1970.
    add_line etc/shadow "$1" "$1:$6::0:99999:7:::"
    uid=$(id_of etc/passwd "$1")
}

# join_group USER GROUP: if there is such a group.
join_group() {
    local file
    for file in etc/group etc/gshadow; do
        edit "$file" -E "/^$2:/{/[:,]$1(,|\$)/!{s/\$/,$1/;s/:,$1\$/:$1/}}"
    done
}

service_user() {
    make_user headwater "$(free_id 999 -1)" "Headwater stream node" /var/lib/headwater /usr/sbin/nologin '!*'
    # shellcheck disable=SC2034  # whose the data partition is: flash.sh
    node_uid=$uid node_gid=$gid
}

# login_user: the stock image's first user under the site's name, or a new one; it may use sudo, and logs in by key.
login_user() {
    local name=${site[user]-} old password=${site[password_hash]-} group home skeleton shadow
    # Some images let root in at the console without a password.
    edit etc/shadow 's/^root::/root:*:/'
    [ -n "$name" ] || return 0
    password=${password:-*}
    old=$(awk -F: '$3 == 1000 { print $1; exit }' "$(within etc/passwd)")
    if [ -n "$old" ] && [ "$old" != "$name" ]; then
        edit etc/passwd -E "s#^$old:(.*):/home/$old:#$name:\\1:/home/$name:#; s/^$old:/$name:/"
        edit etc/shadow "s/^$old:/$name:/"
        for group in etc/group etc/gshadow; do
            edit "$group" -E "s/^$old:/$name:/; s/([:,])$old(,|\$)/\\1$name\\2/g"
        done
        edit etc/subuid "s/^$old:/$name:/"
        edit etc/subgid "s/^$old:/$name:/"
        home=$(within home)
        [ ! -d "$home/$old" ] || mv "$home/$old" "$home/$name"
        remove etc/sudoers.d "010_$old-nopasswd" 010_pi-nopasswd
    fi
    make_user "$name" "$(free_id 1000 1)" "" "/home/$name" /bin/bash "$password"
    shadow=$(within etc/shadow)
    NEW=$password awk -F: -v OFS=: -v name="$name" '$1 == name { $2 = ENVIRON["NEW"] } { print }' "$shadow" >"$work/edit"
    cat "$work/edit" >"$shadow"
    for group in adm sudo dialout video plugdev input gpio spi i2c netdev systemd-journal headwater; do
        join_group "$name" "$group"
    done
    if [ ! -d "$(within "home/$name")" ]; then
        skeleton=$(within etc/skel)
        home=$(within home)
        mkdir -p "$home"
        [ ! -d "$skeleton" ] || cp -r --no-dereference "$skeleton" "$home/$name"
        mkdir -p "$home/$name"
        chown -R -h "$uid:$gid" "$home/$name"
    fi
    folder "home/$name" 0700 "$uid:$gid"
    if [ -d "$(within etc/sudoers.d)" ]; then
        echo "$name ALL=(ALL) NOPASSWD: ALL" | put "etc/sudoers.d/010_$name-nopasswd" 0440
    fi
    [ -n "$ssh_keys" ] || return 0
    folder "home/$name/.ssh" 0700 "$uid:$gid"
    put "home/$name/.ssh/authorized_keys" 0600 "$uid:$gid" <<<"$ssh_keys"
    if [ ! -d "$(within etc/sudoers.d)" ]; then
        say "the image has no sudo: the keys open root as well"
        folder root/.ssh 0700 0:0
        put root/.ssh/authorized_keys 0600 <<<"$ssh_keys"
    fi
    put etc/ssh/sshd_config.d/headwater.conf 0644 <<<"PasswordAuthentication no"
}

# ssh_server: on, with host keys that the machine makes itself before it first listens.
ssh_server() {
    local unit
    for unit in lib/systemd/system/ssh.service usr/lib/systemd/system/ssh.service; do
        [ ! -f "$(within "$unit")" ] || link "/lib/systemd/system/ssh.service" etc/systemd/system/multi-user.target.wants/ssh.service
    done
    remove etc/ssh 'ssh_host_*_key*'
    put etc/systemd/system/headwater-ssh-keys.service 0644 <<'UNIT'
# The SSH server's keys, once: no two cards of one image have the same.
[Unit]
Description=SSH host keys
Before=ssh.service sshd.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
UNIT
    enable headwater-ssh-keys.service
    # The wizard that would ask for a user at the screen, and its words to who logs in meanwhile.
    mask userconfig.service
    link /lib/systemd/system/getty@.service etc/systemd/system/getty.target.wants/getty@tty1.service
    remove etc/ssh/sshd_config.d rename_user.conf
}

# the_node: binary, unit, config, identity, credentials.
the_node() {
    local program key name loads=''
    program=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$service_dir/headwater.service")
    put "${program#/}" 0755 <"$binary"
    put etc/systemd/system/headwater.service 0644 <"$service_dir/headwater.service"
    enable headwater.service
    put usr/lib/sysusers.d/headwater.conf 0644 <"$service_dir/sysusers.conf"
    data_partition
    [ ! -f "$service_dir/watchdog.conf" ] ||
        put etc/systemd/system.conf.d/headwater-watchdog.conf 0644 <"$service_dir/watchdog.conf"
    folder etc/headwater 0750 "0:$node_gid"
    folder etc/headwater/conf.d 0750 "0:$node_gid"
    folder etc/headwater/credentials 0700 0:0
    put etc/headwater/headwater.toml 0640 "0:$node_gid" <"${site[config]}"
    put etc/headwater/site-id 0644 <<<"${site[node]}"
    site_config | put etc/headwater/conf.d/10-site.toml 0640 "0:$node_gid"
    for key in "${!site[@]}"; do
        name=${key#*.}
        case $key in
            files.*) put "etc/headwater/$name" 0640 "0:$node_gid" <"${site[$key]}" ;;
            credentials.*)
                put "etc/headwater/credentials/$name" 0600 <"${site[$key]}"
                loads+="LoadCredential=$name:/etc/headwater/credentials/$name"$'\n' ;;
        esac
    done
    put etc/systemd/system/headwater.service.d/10-site.conf 0644 <<UNIT
# What this site adds to the service. The data partition comes first, but a card without it keeps nothing from starting.
[Unit]
Wants=var-lib-headwater.mount
After=var-lib-headwater.mount

[Service]
MemoryHigh=$(($(bytes "$(board budget.memory_max)") * 3 / 4))
MemoryMax=$(bytes "$(board budget.memory_max)")
$loads
UNIT
}

# data_partition: where it is mounted the node cannot write without it. It would begin a second ring on root, which nobody
# sees again once the partition is there; so it keeps what comes in memory, and says so, until then. A disk that comes later
# than the mount waits for it is mounted all the same.
data_partition() {
    folder var/lib/headwater 0555 0:0
    # Nor does a package that is installed later change that.
    link /dev/null etc/tmpfiles.d/headwater.conf
    put etc/udev/rules.d/60-headwater.rules 0644 <<RULE
ACTION!="remove", SUBSYSTEM=="block", ENV{ID_FS_LABEL}=="$(board image.data_label)", TAG+="systemd", ENV{SYSTEMD_WANTS}+="var-lib-headwater.mount"
RULE
}

# config_has SECTION KEY: whether the site's config sets it. A key set twice would be an error.
config_has() {
    awk -v section="$1" -v key="$2" '
        /^\[/ { now = $0; gsub(/[][ ]/, "", now); sub(/#.*/, "", now) }
        now == section && $0 ~ "^ *" key " *=" { found = 1 }
        $0 ~ "^ *" section "\\." key " *=" || $0 ~ "^ *" section " *= *\\{.*" key { found = 1 }
        END { exit !found }
    ' "${site[config]}"
}

site_config() {
    echo "# Written by flash.sh: what the config leaves to the site and the board."
    local node=''
    config_has node id || node+='id = { file = "/etc/headwater/site-id" }'$'\n'
    # Commands reach the node where the data partition is not there, too.
    config_has node control || node+='control = "/run/headwater/control.sock"'$'\n'
    [ -z "$node" ] || printf '[node]\n%s' "$node"
    local data=$((data_sectors * 512)) ring=''
    # A data partition smaller than the board's ring would never hold it.
    config_has ring max_bytes || ring+="max_bytes = \"$(at_most "$(board ring.max_bytes)" $((data * 5 / 8)))\""$'\n'
    config_has ring keep_free || ring+="keep_free = \"$(at_most "$(board ring.keep_free)" $((data / 8)))\""$'\n'
    [ -z "$ring" ] || printf '[ring]\n%s' "$ring"
}

# at_most SIZE BYTES: SIZE as it is, or those bytes if it is more.
at_most() {
    if [ "$(bytes "$1")" -le "$2" ]; then
        echo "$1"
    else
        echo "$(($2 / MIB))MiB"
    fi
}

identity() {
    local name=${site[node]} zone=${site[timezone]-}
    put etc/hostname 0644 <<<"$name"
    edit etc/hosts '/^127\.0\.1\.1[[:space:]]/d'
    [ -f "$(within etc/hosts)" ] || put etc/hosts 0644 <<<$'127.0.0.1\tlocalhost'
    edit etc/hosts "\$a 127.0.1.1\t$name"
    # An id that came with the image would be that of every machine made from it.
    if grep -qxE '[0-9a-f]{32}' "$(within etc/machine-id)" 2>/dev/null; then
        put etc/machine-id 0444 </dev/null
    fi
    if [ -n "$zone" ]; then
        [ -e "$(within "usr/share/zoneinfo/$zone")" ] || fail "timezone: the image knows no \`$zone\`"
        link "/usr/share/zoneinfo/$zone" etc/localtime
        put etc/timezone 0644 <<<"$zone"
    fi
    [ -z "${site[time_servers]-}" ] ||
        put etc/systemd/timesyncd.conf.d/headwater.conf 0644 <<<$'[Time]\nNTP='"${site[time_servers]//$'\n'/ }"
}

# fewer_writes: what the board does not need to write, it does not. And nothing on first boot that would grow root.
fewer_writes() {
    put etc/systemd/journald.conf.d/headwater.conf 0644 <<'CONF'
# The journal stays in RAM: the card is for the node's records.
[Journal]
Storage=volatile
RuntimeMaxUse=16M
CONF
    local unit fstab
    fstab=$(within etc/fstab)
    [ -f "$fstab" ] || fail "$image has no /etc/fstab"
    awk -v data="$(board image.data_label)" '
        /^#/ || NF < 4 { print; next }
        $3 == "swap" { print "#" $0; next }
        $2 == "/var/lib/headwater" { next }
        $2 == "/" {
            if ($4 !~ /noatime/) $4 = $4 ",noatime"
            if ($4 !~ /commit=/) $4 = $4 ",commit=120"
        }
        { print }
        END { print "LABEL=" data " /var/lib/headwater ext4 noatime,commit=30,nofail,x-systemd.device-timeout=30s 0 2" }
    ' "$fstab" >"$work/edit"
    cat "$work/edit" >"$fstab"
    edit etc/fstab "s/PARTUUID=$disk_id-/PARTUUID=$new_id-/"
    remove var swap
    remove etc init.d/resize2fs_once 'rc?.d/S??resize2fs_once'
    if [ -f "$(within etc/rpi/swap.conf)" ]; then
        put etc/rpi/swap.conf.d/headwater.conf 0644 <<<$'# Compressed memory, no file on the card.\n[Main]\nMechanism=zram'
    fi
    for unit in dphys-swapfile resize2fs_once rpi-resize rpi-resizerootfs; do
        mask "$unit.service"
    done
}

# ------------------------------------------------------------------------------------------------ network

# network: a fixed address and the Wi-Fi, in the words of what the image has.
network() {
    [ -n "${site[wifi.ssid]-}${site[network.address]-}" ] || return 0
    interface=${site[network.interface]-}
    [ -n "$interface" ] || interface=$([ -n "${site[wifi.ssid]-}" ] && echo wlan0 || echo eth0)
    if [ "$generation" = rpi-cloud-init ]; then
        : # network-config on the boot partition, see there
    elif [ -x "$(within usr/sbin/NetworkManager)" ]; then
        network_manager
    elif [ -x "$(within usr/sbin/ifup)" ] || [ -x "$(within sbin/ifup)" ]; then
        ifupdown
    elif [ -x "$(within usr/lib/systemd/systemd-networkd)" ] && [ -z "${site[wifi.ssid]-}" ]; then
        networkd
    else
        fail "$image has nothing known here that would set up [wifi] or [network]: looked for NetworkManager, ifup and" \
            "(without Wi-Fi) systemd-networkd"
    fi
    # What remembers that the radio is off until a country is chosen.
    local file folder
    folder=$(within var/lib/systemd/rfkill)
    for file in "$folder"/*:wlan; do
        [ ! -f "$file" ] || echo 0 >"$file"
    done
    edit var/lib/NetworkManager/NetworkManager.state 's/^WirelessEnabled=.*/WirelessEnabled=true/'
}

# of_family 4|6 ADDRESS...: those of that family.
of_family() {
    local address
    for address in "${@:2}"; do
        case $1$address in
            6*:* | 4*.*) echo "$address" ;;
        esac
    done
}

network_manager() {
    local family
    {
        printf '[connection]\nid=headwater\nuuid=%s\ntype=%s\n' "$(cat /proc/sys/kernel/random/uuid)" \
            "$([ "$interface" = wlan0 ] && echo wifi || echo ethernet)"
        printf 'interface-name=%s\n' "$interface"
        if [ "$interface" = wlan0 ]; then
            nm_wifi
        fi
        for family in 4 6; do
            nm_address "$family"
        done
    } | put etc/NetworkManager/system-connections/headwater.nmconnection 0600
    if [ -n "${site[wifi.ssid]-}" ] && [ "$interface" != wlan0 ]; then
        {
            printf '[connection]\nid=headwater-wifi\nuuid=%s\ntype=wifi\n' "$(cat /proc/sys/kernel/random/uuid)"
            nm_wifi
        } | put etc/NetworkManager/system-connections/headwater-wifi.nmconnection 0600
    fi
}

# The name as the numbers of its bytes: no letter of it means anything to the file's format.
nm_wifi() {
    printf '\n[wifi]\nmode=infrastructure\nssid=%s\n' "$(printf %s "${site[wifi.ssid]}" | od -An -v -tu1 -w1 | tr -d ' ' | tr '\n' ';')"
    [ -z "$wifi_psk" ] || printf '\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=%s\n' "$wifi_psk"
}

nm_address() {
    local address gateway dns servers
    address=$(of_family "$1" "${site[network.address]-}")
    gateway=$(of_family "$1" "${site[network.gateway]-}")
    mapfile -t servers <<<"${site[network.dns]-}"
    dns=$(of_family "$1" "${servers[@]}" | tr '\n' ';')
    printf '\n[ipv%s]\n' "$1"
    if [ -z "$address" ]; then
        echo "method=auto"
        return
    fi
    printf 'method=manual\naddress1=%s%s\n' "$address" "${gateway:+,$gateway}"
    [ -z "$dns" ] || echo "dns=$dns"
}

ifupdown() {
    local family=inet
    case ${site[network.address]-} in *:*) family=inet6 ;; esac
    {
        printf 'allow-hotplug %s\niface %s %s %s\n' "$interface" "$interface" "$family" \
            "$([ -n "${site[network.address]-}" ] && echo static || echo dhcp)"
        if [ -n "${site[network.address]-}" ]; then
            printf '    address %s\n' "${site[network.address]}"
            [ -z "${site[network.gateway]-}" ] || printf '    gateway %s\n' "${site[network.gateway]}"
            [ -z "${site[network.dns]-}" ] || printf '    dns-nameservers %s\n' "${site[network.dns]//$'\n'/ }"
        fi
        [ "$interface" != wlan0 ] || ifupdown_wifi
    } | put "etc/network/interfaces.d/$interface" 0600
    if [ -n "${site[wifi.ssid]-}" ] && [ "$interface" != wlan0 ]; then
        { printf 'allow-hotplug wlan0\niface wlan0 inet dhcp\n'; ifupdown_wifi; } | put etc/network/interfaces.d/wlan0 0600
    fi
    local file
    file=$(within etc/network/interfaces)
    grep -qE '^source(-directory)? +/etc/network/interfaces.d' "$file" 2>/dev/null ||
        echo "source /etc/network/interfaces.d/*" >>"$file"
}

ifupdown_wifi() {
    printf '    wpa-ssid %s\n' "${site[wifi.ssid]}"
    if [ -n "$wifi_psk" ]; then
        printf '    wpa-psk %s\n' "$wifi_psk"
    else
        printf '    wpa-key-mgmt NONE\n'
    fi
}

networkd() {
    {
        printf '[Match]\nName=%s\n\n[Network]\nAddress=%s\n' "$interface" "${site[network.address]}"
        [ -z "${site[network.gateway]-}" ] || printf 'Gateway=%s\n' "${site[network.gateway]}"
        [ -z "${site[network.dns]-}" ] || printf 'DNS=%s\n' "${site[network.dns]//$'\n'/ }"
    } | put etc/systemd/network/10-headwater.network 0644
    link /lib/systemd/system/systemd-networkd.service etc/systemd/system/multi-user.target.wants/systemd-networkd.service
}

# ------------------------------------------------------------------------------------------------ files of boot

boot_put() { mcopy -o -i "$boot_at" "$1" "::$2" 2>"$work/boot" || fail "the boot partition: $(tail -n 1 "$work/boot")"; }

# boot_files: the kernel's command line without what grows root, and what the generation's own tool is told.
boot_files() {
    if boot_has cmdline.txt; then
        mtype -i "$boot_at" ::cmdline.txt | tr -d '\r\n' >"$work/cmdline"
        sed -i -E 's# (resize|init=/usr/lib/(raspberrypi-sys-mods/firstboot|raspi-config/init_resize\.sh))( |$)# #g' "$work/cmdline"
        sed -i -E 's/ cfg80211\.ieee80211_regdom=[^ ]*//; s/ +$//' "$work/cmdline"
        sed -i "s/PARTUUID=$disk_id-/PARTUUID=$new_id-/" "$work/cmdline"
        [ -z "${site[country]-}" ] || printf ' cfg80211.ieee80211_regdom=%s' "${site[country]}" >>"$work/cmdline"
        # Without it the kernels of Raspberry Pi OS count no memory, and the service has no limit.
        grep -q 'cgroup_enable=memory' "$work/cmdline" || [ "$generation" = debian ] || printf ' cgroup_enable=memory' >>"$work/cmdline"
        echo >>"$work/cmdline"
        boot_put "$work/cmdline" cmdline.txt
    fi
    case $generation in
        rpi-cloud-init) cloud_init ;;
        debian) initrds ;;
    esac
}

# cloud_init: told not to grow anything, and not to make a user: that is done.
cloud_init() {
    local zone=${site[timezone]-}
    {
        printf '#cloud-config\n# Written by flash.sh. Users are in place already.\n'
        printf 'hostname: %s\nmanage_etc_hosts: false\nusers: []\nssh_pwauth: false\n' "${site[node]}"
        printf 'growpart:\n  mode: "off"\nresize_rootfs: false\n'
        [ -z "$zone" ] || printf 'timezone: %s\n' "$zone"
    } >"$work/user-data"
    printf 'instance-id: headwater-%s-%s\n' "${site[node]}" "$new_id" >"$work/meta-data"
    boot_put "$work/user-data" user-data
    boot_put "$work/meta-data" meta-data
    [ -n "${site[wifi.ssid]-}${site[network.address]-}" ] || return 0
    netplan >"$work/network-config"
    boot_put "$work/network-config" network-config
}

# quoted TEXT: as YAML has it.
quoted() { local text=${1//\\/\\\\}; printf '"%s"' "${text//\"/\\\"}"; }

netplan() {
    printf '# Written by flash.sh.\nnetwork:\n  version: 2\n'
    if [ "$interface" != wlan0 ]; then
        printf '  ethernets:\n    %s:\n' "$interface"
        netplan_address
    fi
    [ -n "${site[wifi.ssid]-}" ] || return 0
    printf '  wifis:\n    wlan0:\n      regulatory-domain: %s\n' "${site[country]}"
    if [ "$interface" = wlan0 ]; then
        netplan_address
    else
        printf '      dhcp4: true\n'
    fi
    printf '      optional: true\n      access-points:\n        %s:' "$(quoted "${site[wifi.ssid]}")"
    if [ -n "$wifi_psk" ]; then
        printf '\n          password: "%s"\n' "$wifi_psk"
    else
        printf ' {}\n'
    fi
}

netplan_address() {
    if [ -z "${site[network.address]-}" ]; then
        printf '      dhcp4: true\n'
        return
    fi
    printf '      dhcp4: false\n      optional: true\n      addresses: [%s]\n' "$(quoted "${site[network.address]}")"
    [ -z "${site[network.gateway]-}" ] ||
        printf '      routes:\n        - to: default\n          via: %s\n' "$(quoted "${site[network.gateway]}")"
    [ -z "${site[network.dns]-}" ] ||
        printf '      nameservers:\n        addresses: ["%s"]\n' "${site[network.dns]//$'\n'/\", \"}"
}
