#!/usr/bin/env bash
# The slow suites: more seeds of the simulation and more kills of the real binary than a test run has time for, and the
# fuzzer.
#
#   scripts/slow.sh           some minutes
#   scripts/slow.sh --long    hours: before a release
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

seeds=3000 kills=120 cases=2000 fuzz=60 interop=1000000
states=300000 flips=300000 ways=8 fault_seeds=1 garbage=20000 cuts=200 flow=60 flow_records=200000 smart=0
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-2}
case ${1:-} in
    '') ;;
    --long)
        seeds=200000 kills=2000 cases=20000 fuzz=3600
        states=10000000 flips=all fault_seeds=10 garbage=200000 cuts=10000 flow=500 flow_records=1000000 smart=5000
        unset PROPTEST_RNG_SEED # others each time; a failing one is printed
        ;;
    *) fail "usage: scripts/slow.sh [--long]" ;;
esac

need_compiler
need mosquitto mosquitto mosquitto-clients
need mkfs.ext4 e2fsprogs
need qemu-storage-daemon qemu-utils
need qemu-storage-daemon qemu-system-common
venv=$target_dir/python
python_with "$venv" fluvio 'fluvio==0.21.0'
export HEADWATER_TEST_PYTHON=$venv/bin/python
# shellcheck disable=SC2119  # no component is needed to test
need_rust
export PATH="$PATH:/usr/sbin:/sbin"

say "properties: $cases cases each"
PROPTEST_CASES=$cases cargo test --locked --lib
say "simulation: $seeds seeds, $states states after a crash, $flips bits flipped"
HEADWATER_SIM_SEEDS=$seeds HEADWATER_CRASH_STATES=$states HEADWATER_FLIPS=$flips HEADWATER_GARBAGE=$garbage \
    HEADWATER_FAULT_WAYS=$ways HEADWATER_FAULT_SEEDS=$fault_seeds cargo test --locked --test sim -- --nocapture
say "the real binary: $kills kills"
HEADWATER_KILLS=$kills cargo test --locked --test node -- --nocapture kill
say "a flow of $flow_records records through $flow cuts and kills, asked and by markers"
HEADWATER_FLOW_CUTS=$flow HEADWATER_FLOW_RECORDS=$flow_records cargo test --locked --test node -- --nocapture flow
say "the official clients: $interop records by each"
HEADWATER_INTEROP_RECORDS=$interop cargo test --locked --test endpoint -- --nocapture interop
say "the power goes under the real binary: $cuts moments"
HEADWATER_POWER_CUTS=$cuts cargo test --locked --test disk -- --nocapture power
# The reference engine takes minutes to build.
if [ "$smart" -gt 0 ]; then
    say "SmartModules beside the reference engine: $smart batches for each"
    HEADWATER_SEEDS=$smart scripts/smartengine.sh
fi
say "fuzzing: $fuzz s for each target"
scripts/fuzz.sh "$fuzz"
