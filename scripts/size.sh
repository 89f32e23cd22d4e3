#!/usr/bin/env bash
# The footprint against its budget: the shipped binary's size, and what a running node takes, idle and while it drains
# a backlog. Ends with a table and fails when a figure is over its budget.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

BUDGET_BYTES=$((8 * 1024 * 1024)) # the dist binary, stripped
BUDGET_IDLE_KIB=$((10 * 1024))    # resident, idle
BUDGET_DRAIN_KIB=$((24 * 1024))   # resident at most, while draining
BUDGET_THREADS=7
BUDGET_CPU_PERMILLE=2 # of a core, idle
BACKLOG_MIB=200
IDLE_SECONDS=${IDLE_SECONDS:-30}

need_compiler
# shellcheck disable=SC2119  # no component is needed to build
need_rust
say "building the dist profile (fat LTO: some minutes)"
cargo build --profile dist --locked --bin headwater
bin=$target_dir/dist/headwater

work=$(mktemp -d)
pids=()
cleanup() {
    local pid
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT

rows=()
over=0
# row NAME VALUE BUDGET UNIT
row() {
    local mark=ok
    if [ "$2" -gt "$3" ]; then
        mark=OVER
        over=1
    fi
    rows+=("$(printf '%-34s %10s of %10s %-9s %s' "$1" "$2" "$3" "$4" "$mark")")
}

status_field() { awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"; }
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

# Two nodes on loopback: the edge sends to the upstream.
sc_port=39003
spu_port=39010
cat >"$work/edge.toml" <<CONFIG
[node]
id = "size-edge"
data_dir = "$work/edge"
[ring]
max_bytes = "320MiB"
keep_free = "1MiB"
[http]
listen = "127.0.0.1:39104"
[sinks.up]
type = "fluvio"
endpoint = ["127.0.0.1:$sc_port"]
topics = ["*"]
CONFIG
cat >"$work/up.toml" <<CONFIG
[node]
id = "size-up"
data_dir = "$work/up"
[ring]
max_bytes = "512MiB"
keep_free = "1MiB"
[http]
listen = "127.0.0.1:39204"
[endpoint]
sc_listen = "127.0.0.1:$sc_port"
spu_listen = "127.0.0.1:$spu_port"
CONFIG
mkdir -p "$work/edge" "$work/up"

# start NAME: runs a node and waits until it answers; its process id is in $started.
start() {
    "$bin" run -c "$work/$1.toml" >"$work/$1.log" 2>&1 &
    started=$!
    pids+=("$started")
    local _
    for _ in $(seq 100); do
        if "$bin" status -c "$work/$1.toml" >/dev/null 2>&1; then
            return
        fi
        sleep 0.1
    done
    cat "$work/$1.log" >&2
    fail "the node \`$1\` does not answer"
}

row "binary (dist, stripped)" "$(stat -c %s "$bin")" "$BUDGET_BYTES" bytes

say "an idle node for $IDLE_SECONDS s"
start edge
edge=$started
sleep 3
before=$(cpu_ticks "$edge")
sleep "$IDLE_SECONDS"
ticks=$(($(cpu_ticks "$edge") - before))
# Rounded up, so that a tick too many shows.
permille=$(((ticks * 1000 + $(getconf CLK_TCK) * IDLE_SECONDS - 1) / ($(getconf CLK_TCK) * IDLE_SECONDS)))
row "resident, idle" "$(status_field "$edge" VmRSS)" "$BUDGET_IDLE_KIB" KiB
row "threads" "$(status_field "$edge" Threads)" "$BUDGET_THREADS" threads
row "CPU, idle" "$permille" "$BUDGET_CPU_PERMILLE" "permille"

say "a backlog of $BACKLOG_MIB MiB"
# Random: all that compresses away is what base64 adds, so the disk holds that many bytes.
head -c $((BACKLOG_MIB * 1024 * 1024)) /dev/urandom | base64 -w 1000 |
    "$bin" send backlog --ack memory -c "$work/edge.toml" >/dev/null
# The peak counts from here.
echo 5 >"/proc/$edge/clear_refs" 2>/dev/null || say "not available here: the peak cannot be reset and counts from the start"
start up
say "draining"
timeout 600 "$bin" drain -c "$work/edge.toml" >/dev/null || fail "the backlog was not drained within 10 minutes"
row "resident at most, draining" "$(status_field "$edge" VmHWM)" "$BUDGET_DRAIN_KIB" KiB

say "footprint"
printf '%s\n' "${rows[@]}"
if [ "$over" -ne 0 ]; then
    fail "over budget"
fi
