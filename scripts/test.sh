#!/usr/bin/env bash
# Formatting, lints and every test. Installs what is missing, runs all of it even when a part fails, and ends with what
# ran, what was not available here, and one line that says whether all is well.
#
#   scripts/test.sh                 everything
#   scripts/test.sh NAME            only the tests whose name contains NAME (no formatting, no lints)
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

need_compiler
need curl curl ca-certificates
need mosquitto mosquitto mosquitto-clients
need mosquitto_pub mosquitto-clients
need openssl openssl
need strace strace
# What judges the unit of the service.
need systemd-analyze systemd
need mkfs.ext4 e2fsprogs
# The weather of a network namespace: its loss also without netem.
need tc iproute2
need unshare util-linux
need iptables iptables
# A device that remembers its writes; older Debians have it in a package of its own.
need qemu-storage-daemon qemu-utils
need qemu-storage-daemon qemu-system-common
# Of use only where the kernel can mount it.
if grep -qw f2fs /proc/filesystems; then
    need mkfs.f2fs f2fs-tools
fi
# The real one that `sql` rules are held against.
need psql postgresql
need python3 python3
# How open the unit leaves the node; nothing is run by it.
need systemd-analyze systemd
# The zones that PostgreSQL knows, and SQL rules.
[ -e /usr/share/zoneinfo/Europe/Berlin ] || apt tzdata
need_rust rustfmt clippy
# Debian keeps daemons where the path of a user does not look.
export PATH="$PATH:/usr/sbin:/sbin"

# A Python of the tests' own, with the official Fluvio client in it.
venv=$target_dir/python
python_with "$venv" fluvio 'fluvio==0.21.0'
export HEADWATER_TEST_PYTHON=$venv/bin/python

# The SmartModules of the tests, from source.
HEADWATER_SMARTMODULES=$(scripts/smartmodules.sh | tail -n 1)
export HEADWATER_SMARTMODULES

log=$target_dir/test.log
: >"$log"
failed=()
# step NAME COMMAND...: runs it, remembers whether it failed.
step() {
    local name=$1
    shift
    say "$name: $*"
    if ! "$@" 2>&1 | tee -a "$log"; then
        failed+=("$name")
    fi
}

if [ $# -eq 0 ]; then
    step formatting cargo fmt --all --check
    step lints cargo clippy --locked --all-targets -- -D warnings
    # It is not run here, and `--all-targets` leaves it out.
    step lints-of-the-board cargo clippy --locked --test board -- -D warnings
fi
# The same cases each time, so that a commit is judged the same twice; scripts/slow.sh --long takes others.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}
# Passing tests show their output too: that is where one says that something is not available here.
step tests cargo test --locked --no-fail-fast -- --show-output "$@"

say "what ran"
awk '
    /^ +Running / { name = $2 == "unittests" ? $3 : $2 }
    /^ +Doc-tests / { name = "documentation" }
    # test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s
    /^test result: / {
        passed += $4; failed += $6; ignored += $8
        printf "%-28s %5d passed %3d failed %3d ignored  %s\n", name, $4, $6, $8, $NF
    }
    END { printf "%-28s %5d passed %3d failed %3d ignored\n", "all tests", passed, failed, ignored }
' "$log"
if grep -qi 'not available here' "$log"; then
    say "not available here"
    grep -i 'not available here' "$log" | sort -u
fi
if [ ${#failed[@]} -gt 0 ]; then
    fail "failed: ${failed[*]} (all output: $log)"
fi
say "all is well"
