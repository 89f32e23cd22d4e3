#!/bin/sh
# Makes the user and a first config, and has systemd know the unit. Nothing is started by the first installation: the config is
# to be looked at before.
set -e
[ "$1" = configure ] || exit 0
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers headwater.conf
elif ! getent passwd headwater >/dev/null; then
    useradd --system --home-dir /var/lib/headwater --shell /usr/sbin/nologin headwater
fi
# A directory that cannot be made keeps nothing from being installed: the node says so, and keeps records in memory.
if command -v systemd-tmpfiles >/dev/null; then
    systemd-tmpfiles --create headwater.conf || true
fi
mkdir -p /etc/headwater
if [ ! -e /etc/headwater/headwater.toml ]; then
    headwater init /etc/headwater/headwater.toml >/dev/null
    chgrp headwater /etc/headwater/headwater.toml
    chmod 640 /etc/headwater/headwater.toml
    echo "headwater: edit /etc/headwater/headwater.toml, then: headwater check && systemctl enable --now headwater"
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    # After an upgrade what ran runs on, as the new one.
    if [ -n "${2:-}" ] && systemctl is-active --quiet headwater; then
        systemctl restart headwater
    fi
fi
exit 0
