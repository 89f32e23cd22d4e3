#!/bin/sh
# Refuses what the binary cannot run on with a sentence: an illegal instruction says nothing.
set -e
if [ "${DPKG_MAINTSCRIPT_ARCH:-}" = armhf ]; then
    case $(uname -m) in
        armv5* | armv6*)
            echo "headwater: this processor is an ARMv6 ($(uname -m)); the armhf package needs ARMv7 or newer." >&2
            echo "The first Raspberry Pi and the Zero (without a 2) cannot run it; a Zero 2, a Pi 2 or newer can." >&2
            exit 1
            ;;
    esac
fi
exit 0
