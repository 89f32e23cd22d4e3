#!/usr/bin/env bash
# The test suites as programs of ARM, under qemu-user: what an address of 32 bits, other float units and another C library change
# shows nowhere else before a board has it. Built as `cargo test` builds them, with checks of arithmetic and debug assertions.
#
#   scripts/test-arm.sh                  both processors: aarch64 (musl) and armv7 (glibc)
#   scripts/test-arm.sh armv7            one of them
#   scripts/test-arm.sh armv7 lib sim    these suites only
#   scripts/test-arm.sh --quick          armv7, where the surprises are: lib, format and a little of the simulation
#   scripts/test-arm.sh --long           the simulation as large as scripts/test.sh has it: hours
#
# It runs lib (unit tests and properties), format (rings of every format that was ever written), sim (fewer seeds), fuzz (the corpus and
# inputs from seeds), rules, sql (beside a PostgreSQL of this machine), alloc, and those that start the program: demo, wrong_hands,
# node, endpoint, mqtt (a broker of this machine), disk, service. For these the kernel must know who runs a program of ARM
# (binfmt_misc); it is told for as long as this runs, as root, and else they are named as not run. Tests that qemu-user cannot
# run are named at the end, each with its reason (`left_out` below). Not run: tidy, which reads sources; scripts and benches.
#
# On two processors of x86-64 that had other work as well, as armv7: 8 min to build node and service where nothing was built, 15 min for node
# (one test at a time), 45 s for service, 51 s for wrong_hands. A suite that has not ended after two hours is ended, and the tests that it had not done are named.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/board.sh
. "$(dirname "$0")/board.sh"
cd "$root"

ALL_SUITES=(lib format sim fuzz rules sql alloc demo wrong_hands node endpoint mqtt disk service)
# These start the program itself: the kernel must know who runs it.
STARTING='demo wrong_hands node endpoint mqtt disk service rules'

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

seeds=30 states=5000 flips=2000 garbage=400 quick=''
processors=() suites=()
while [ $# -gt 0 ]; do
    case $1 in
        aarch64 | armv7) processors+=("$1") ;;
        all) processors=(aarch64 armv7) ;;
        --quick) quick=1 processors=(armv7) suites=(lib format sim) seeds=5 states=1000 flips=400 garbage=100 ;;
        --long) seeds='' states='' flips='' garbage='' ;;
        -h | --help) usage; exit ;;
        *)
            [[ " ${ALL_SUITES[*]} " == *" $1 "* ]] || fail "no suite and no option is called \`$1\`; suites: ${ALL_SUITES[*]}"
            suites+=("$1")
            ;;
    esac
    shift
done
[ ${#processors[@]} -gt 0 ] || processors=(aarch64 armv7)
[ ${#suites[@]} -gt 0 ] || suites=("${ALL_SUITES[@]}")

# left_out PROCESSOR SUITE: the tests that cannot run under qemu-user, one a line, and why not.
left_out() {
    local processors suite test reason
    while IFS='|' read -r processors suite test reason; do
        if [[ " $processors " == *" $1 "* ]] && [ "${suite// /}" = "$2" ]; then printf '%s|%s\n' "${test// /}" "${reason# }"; fi
    done <<END
armv7 | lib | cli::doctor::bundle::tests::a_program_that_is_not_there_and_one_that_fails_are_said | $FORKS
armv7 | lib | sources::tests::exec::a_program_that_is_not_there_is_named_with_what_to_do | $FORKS
armv7 | wrong_hands | machine::what_is_missing_on_this_machine_is_named_part_by_part | $FORKS
END
    if [ "$2" = sim ] && [ -n "$quick" ]; then
        printf 'proof::faults::%s|%s\n' a_recovery_that_fails_takes_nothing_from_the_next "$MINUTES" \
            whatever_call_fails_the_bounds_hold_and_nothing_acknowledged_is_lost "$MINUTES"
    fi
    if [ "$2" = sim ] && [ -n "$seeds" ]; then
        printf 'every_bug_planted_in_a_%s_is_found|%s\n' ring "$PLANTED" node "$PLANTED"
    fi
}
MINUTES='takes minutes; it runs without --quick'
PLANTED='asks whether the simulation finds what it should, up to 1,000 seeds for each bug; --long runs it'
# glibc is told of a program that cannot be started through memory that it shares with the child; qemu-user forks instead.
FORKS='qemu-user: a program that cannot be started ends with 127, where glibc would say why'

target_of() {
    case $1 in
        aarch64) echo aarch64-unknown-linux-musl ;;
        armv7) echo armv7-unknown-linux-gnueabihf ;;
    esac
}

need_compiler
# shellcheck disable=SC2119  # no component is needed to test
need_rust
need python3 python3
need_emulators
need openssl openssl
need mosquitto mosquitto mosquitto-clients
need mosquitto_pub mosquitto-clients
need psql postgresql
# Debian keeps daemons where the path of a user does not look.
export PATH="$PATH:/usr/sbin:/sbin"
venv=$target_dir/zig
python_with "$venv" ziglang ziglang cargo-zigbuild
HEADWATER_SMARTMODULES=$(scripts/smartmodules.sh | tail -n 1)
export HEADWATER_SMARTMODULES
python_with "$target_dir/python" fluvio 'fluvio==0.21.0'
export HEADWATER_TEST_PYTHON=$target_dir/python/bin/python
# What has not happened by then never does: an emulated node is ten times slower, and may have one of two processors.
export HEADWATER_TEST_PATIENCE=${HEADWATER_TEST_PATIENCE:-300}
# QEMU before 8.0 translates in the child of a fork with GLib's own allocator, whose locks another thread may have held:
# the child hangs before it becomes the program. With malloc's, which knows of forks, it does not (its issue 285).
export G_SLICE=always-malloc
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}
[ -z "$seeds" ] || export HEADWATER_SIM_SEEDS=$seeds HEADWATER_CRASH_STATES=$states HEADWATER_FLIPS=$flips HEADWATER_GARBAGE=$garbage

work=$(mktemp -d)
told=()
cleanup() {
    local entry
    rm -rf "$work"
    for entry in ${told[@]+"${told[@]}"}; do
        as_root sh -c "echo -1 >/proc/sys/fs/binfmt_misc/$entry" || true
    done
}
trap cleanup EXIT

# kernel_starts TARGET BINARY: the kernel starts such a program by itself, told so for as long as this script runs if need be.
kernel_starts() {
    local entry file=/proc/sys/fs/binfmt_misc
    if "$2" --version >/dev/null 2>&1; then
        return
    fi
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || return
    case $1 in aarch64-*) entry=qemu-aarch64 ;; *) entry=qemu-arm ;; esac
    [ -r "/usr/lib/binfmt.d/$entry.conf" ] || return
    [ -e $file/register ] || as_root mount -t binfmt_misc binfmt_misc $file || return
    as_root sh -c "cat /usr/lib/binfmt.d/$entry.conf >$file/register" || return
    told+=("$entry")
    "$2" --version >/dev/null 2>&1
}

# build TARGET: the suites' programs; `NAME<tab>PATH` a line, in $built.
build() {
    local suite
    local -a what=()
    for suite in "${suites[@]}"; do
        if [ "$suite" = lib ]; then what+=(--lib); else what+=(--test "$suite"); fi
    done
    PATH="$venv/bin:$PATH" cargo-zigbuild test --no-run --locked "${what[@]}" --target "$(linked "$1")" \
        --message-format=json-render-diagnostics >"$work/messages"
    python3 - "$work/messages" >"$built" <<'END'
import json, sys
for line in open(sys.argv[1]):
    if not line.startswith("{"):
        continue
    message = json.loads(line)
    if message["reason"] != "compiler-artifact" or not message.get("executable"):
        continue
    kind, name = message["target"]["kind"][0], message["target"]["name"]
    if kind == "bin":
        name = "program"
    elif kind == "lib":
        name = "lib"
    print(name, message["executable"], sep="\t")
END
    for suite in "${suites[@]}"; do
        [ -x "$(program_of "$suite")" ] || fail "$suite was not built for $1"
    done
}
program_of() { awk -F'\t' -v name="$1" '$1 == name { print $2 }' "$built"; }

# run_suite NAME LOG: its tests but those left out.
run_suite() {
    local test reason hung status=0
    local -a skip=()
    # Its deadlines are meant for nodes that are ten times faster.
    [ "$1" != node ] || skip+=(--test-threads 1)
    while IFS='|' read -r test reason; do
        [ -n "$test" ] || continue
        skip+=(--skip "$test")
        printf '%s %s %s: %s\n' "$processor" "$1" "$test" "$reason" >>"$work/left-out"
    done < <(left_out "$processor" "$1")
    timeout 7200 "${run[@]}" "$(program_of "$1")" --exact ${skip[@]+"${skip[@]}"} >"$2" 2>&1 || status=$?
    if [ $status -eq 124 ]; then
        hung=$(unfinished "$1" "$2" ${skip[@]+"${skip[@]}"})
        printf '\ntests that had not ended: %s\n' "${hung//$'\n'/ }" >>"$2"
        echo "test result: FAILED. 0 passed; 1 failed; it did not end" >>"$2"
    fi
    return $status
}

# unfinished NAME LOG ARGUMENTS...: the tests of a suite of which its log tells no end. Of those that run one at a time the first is
# the one that hung.
unfinished() {
    local name=$1 log=$2 test
    shift 2
    timeout 60 "${run[@]}" "$(program_of "$name")" --list --exact "$@" 2>/dev/null | sed -n 's/: test$//p' | while read -r test; do
        grep -qE "^test $test( - should panic)? \.\.\. (ok|FAILED|ignored)" "$log" || printf '%s\n' "$test"
    done | head -n 3
}

# summary PROCESSOR SUITE LOG SECONDS
summary() {
    awk -v name="$1 $2" -v took="$4" '
        # test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s
        /^test result: / { passed += $4; failed += $6; ignored += $8; out += $12 }
        END { printf "%-22s %5d passed %3d failed %3d ignored %3d left out %6d s\n", name, passed, failed, ignored, out, took }
    ' "$3"
}

built=$work/built
logs=$target_dir/test-arm
rm -rf "$logs"
mkdir -p "$logs"
rows=() failed=() not_run=()
: >"$work/left-out"
for processor in "${processors[@]}"; do
    target=$(target_of "$processor")
    need_rust_target "$target"
    say "$processor: building"
    build "$target"
    read -r -a run <<<"$(emulator "$target")"
    # For what the tests start; a program of another processor does not look at it.
    case $target in *-gnueabihf) export QEMU_LD_PREFIX=/usr/arm-linux-gnueabihf ;; *) unset QEMU_LD_PREFIX ;; esac
    # Cargo builds it for the suites that start it.
    starts=1 program=$(program_of program)
    [ -z "$program" ] || kernel_starts "$target" "$program" || starts=
    for suite in "${suites[@]}"; do
        if [ -z "$starts" ] && [[ " $STARTING " == *" $suite "* ]]; then
            not_run+=("$processor $suite: not available here: the kernel cannot be told to start its programs (binfmt_misc, root)")
            continue
        fi
        say "$processor: $suite"
        log=$logs/$processor-$suite.log
        began=$SECONDS
        if ! run_suite "$suite" "$log"; then
            failed+=("$processor $suite")
            grep -E '^test .*FAILED|panicked at|^tests that had not ended' -A 3 "$log" || tail -n 20 "$log"
        fi
        rows+=("$(summary "$processor" "$suite" "$log" $((SECONDS - began)))")
    done
done

say "what ran, under qemu-user"
printf '%s\n' ${rows[@]+"${rows[@]}"}
say "what did not"
sort -u "$work/left-out"
for suite in ${not_run[@]+"${not_run[@]}"}; do echo "$suite"; done
for suite in "${ALL_SUITES[@]}"; do
    [[ " ${suites[*]} " == *" $suite "* ]] || echo "$suite: not asked for"
done
echo "tidy: reads the sources, which are the same everywhere"
grep -hi 'not available here' "$logs"/*.log | sort -u || true
[ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]} (all output: $logs)"
say "all is well"
