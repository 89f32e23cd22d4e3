#!/usr/bin/env bash
# Inside of namespaces of its own: a device of test-update.sh starts. boot.sh DEVICE PORT: its root is DEVICE/root.img, its
# first process the stand-in for systemd. The power goes before the CUT-th sync of what runs there, if DEVICE/cut has a number;
# DEVICE/ro: its root is mounted read-only.
set -euo pipefail
device=$1 port=$2 at=$1/mnt here=$(cd "$(dirname "$0")" && pwd)
mount -t ext4 -o loop "$device/root.img" "$at"
mount --bind /usr "$at/usr"
mount -t tmpfs tmpfs "$at/run"
mount -t tmpfs tmpfs "$at/tmp"
mount -t tmpfs tmpfs "$at/standin"
mount -t proc proc "$at/proc"
mount --rbind /dev "$at/dev"
mkdir -p "$at/run/systemd/system" "$at/run/sshd"
for name in init systemctl journalctl; do
    install -m 755 "$here/init.py" "$at/standin/$name"
done
cat /proc/sys/kernel/random/uuid >"$at/run/boot_id"
mount --bind "$at/run/boot_id" "$at/proc/sys/kernel/random/boot_id"
[ ! -f "$device/cut" ] || cp "$device/cut" "$at/run/cut"
cat >"$at/standin/sync" <<'SYNC'
#!/bin/sh
# The device's side syncs at the end of each step.
if [ -f /run/cut ]; then
    n=$(($(cat /run/syncs 2>/dev/null || echo 0) + 1))
    echo "$n" >/run/syncs
    [ "$n" -lt "$(cat /run/cut)" ] || { systemctl power-cut; sleep 10; }
fi
exec /usr/bin/sync "$@"
SYNC
chmod 755 "$at/standin/sync"
[ ! -f "$device/ro" ] || mount -o remount,ro "$at"
export PATH=/standin:/usr/sbin:/usr/bin:/sbin:/bin
exec chroot "$at" /standin/init /usr/sbin/sshd -D -e -p "$port" -f /etc/sshd_config -E /run/sshd.log
