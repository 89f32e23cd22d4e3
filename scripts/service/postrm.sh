#!/bin/sh
# What was collected and not sent stays, also when the package is purged: it is the user's to remove.
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
    rm -rf /etc/headwater
    [ ! -d /var/lib/headwater ] || echo "headwater: /var/lib/headwater is left; remove it by hand"
fi
exit 0
