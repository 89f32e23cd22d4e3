#!/usr/bin/env bash
# The release binary under mixed load for a while, with what it takes from the machine: memory, open files, threads, disk
# and CPU, sampled into a table. Ends with the table by minute and a verdict; exit code 1 when memory or files grow after
# the warm-up, or the disk is ever above the cap. Memory is judged by what is the node's own (RssAnon): the rest of what is
# resident are pages of the binary, which come in as its code is first run. And by its floor: what the heap keeps of the
# buffers of a burst (the upstream is back) goes to the system at some later moment, so that single samples go up and
# down by a MiB, and a line through them says where the last burst was. What leaks lifts the lowest sample as well. How
# high it gets has a bound of its own.
#
#   scripts/soak.sh              half an hour
#   scripts/soak.sh MINUTES
#
# The load: MQTT through a Mosquitto, syslog over UDP and TCP, `headwater send`, a `host` source; out through a file sink
# and a Fluvio sink to a second node, which goes away and comes back. RATE is lines a second for each (50).
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

minutes=${1:-30}
case $minutes in '' | *[!0-9]* | 0) fail "usage: scripts/soak.sh [MINUTES]" ;; esac
RATE=${RATE:-50}
SAMPLE=5 # seconds
CAP_MIB=4 # small, so that the ring goes around every few minutes
MAX_KIB_A_MINUTE=32 # of the floor; over half an hour that would be one MiB; what a page of heap here and there is, is less
MAX_OWN_KIB=8192
MAX_FDS_A_MINUTE=1

need_compiler
need curl curl ca-certificates
# shellcheck disable=SC2119  # no component is needed to build
need_rust
export PATH="$PATH:/usr/sbin:/sbin"
say "building the release binary"
cargo build --release --locked --bin headwater
bin=$target_dir/release/headwater

work=$(mktemp -d)
table=$target_dir/soak.tsv
pids=()
cleanup() {
    local pid
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${pids[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT

broker=
command -v mosquitto >/dev/null && command -v mosquitto_pub >/dev/null && broker=1
[ -n "$broker" ] || say "mosquitto: not available here; no load over MQTT"

# Ports that others do not use by habit.
mqtt=41883 syslog=41514 sc=41003 spu=41010 http=41104
mkdir -p "$work/edge" "$work/up" "$work/mqtt"
cat >"$work/edge.toml" <<CONFIG
[node]
id = "soak-edge"
data_dir = "$work/edge"
heartbeat = "1m"
[ring]
max_bytes = "${CAP_MIB}MiB"
keep_free = "1MiB"
[http]
listen = "127.0.0.1:$http"
[sources.devices]
type = "syslog"
topic = "syslog"
listen = ["udp://127.0.0.1:$syslog", "tcp://127.0.0.1:$syslog"]
[sources.machine]
type = "host"
topic = "host"
every = "5s"
[[rules]]
name = "no-debug"
topics = ["lines"]
uses = "filter"
with = { not = { contains = "DEBUG" } }
[sinks.copy]
type = "file"
path = "$work/copy.log"
topics = ["*"]
rotate_bytes = "4MiB"
keep = 2
[sinks.up]
type = "fluvio"
endpoint = ["127.0.0.1:$sc"]
topics = ["*"]
upstream_topic = "from-{topic}"
CONFIG
if [ -n "$broker" ]; then
    cat >>"$work/edge.toml" <<CONFIG
[sources.broker]
type = "mqtt"
url = "mqtt://127.0.0.1:$mqtt"
subscribe = [{ filter = "soak/+/value", topic = "telemetry" }]
key = "{mqtt.1}"
CONFIG
    printf 'listener %s 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/mqtt/\nuser %s\n' \
        "$mqtt" "$work" "$(id -un)" >"$work/mosquitto.conf"
    mosquitto -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
    pids+=($!)
    # Who publishes ends at once where nobody listens yet.
    for _ in $(seq 100); do
        if mosquitto_pub -p "$mqtt" -t soak/ready -n >/dev/null 2>&1; then break; fi
        sleep 0.1
    done
fi
cat >"$work/up.toml" <<CONFIG
[node]
id = "soak-up"
data_dir = "$work/up"
[ring]
max_bytes = "64MiB"
keep_free = "1MiB"
[http]
listen = "off"
[endpoint]
sc_listen = "127.0.0.1:$sc"
spu_listen = "127.0.0.1:$spu"
CONFIG
"$bin" check -c "$work/edge.toml" >"$work/check" || fail "$(cat "$work/check")"

# start NAME: runs a node; its process id is in $started.
start() {
    "$bin" run -c "$work/$1.toml" >>"$work/$1.log" 2>&1 &
    started=$!
    pids+=("$started")
}
start edge
edge=$started
for _ in $(seq 100); do
    if "$bin" status -c "$work/edge.toml" >/dev/null 2>&1; then break; fi
    sleep 0.1
done
"$bin" status -c "$work/edge.toml" >/dev/null || fail "the node does not answer: $(cat "$work/edge.log")"

# pace COMMAND: RATE lines a second on its standard output, for good; every tenth is dropped by a rule.
pace() {
    local n=0 k
    while :; do
        for k in $(seq "$RATE"); do
            n=$((n + 1))
            if [ $((n % 10)) -eq 0 ]; then echo "$1 $n DEBUG $k"; else
                echo "$1{\"n\":$n,\"temperature\":$((RANDOM % 40)),\"text\":\"$RANDOM$RANDOM$RANDOM$RANDOM\"}"
            fi
        done
        sleep 1
    done
}
# Whoever reads is the last of its pipeline: its number is in $!; with it gone, the writer ends.
pace "" 2>/dev/null | "$bin" send lines -c "$work/edge.toml" >/dev/null 2>&1 &
pids+=($!)
pace "<13>Oct 11 22:14:15 pump app: " 2>/dev/null >"/dev/tcp/127.0.0.1/$syslog" &
pids+=($!)
pace "<14>Oct 11 22:14:15 mast app: " 2>/dev/null >"/dev/udp/127.0.0.1/$syslog" &
pids+=($!)
if [ -n "$broker" ]; then
    pace "" 2>/dev/null | mosquitto_pub -p "$mqtt" -t soak/pump-1/value -q 1 -l >/dev/null 2>&1 &
    pids+=($!)
fi
# The upstream: two minutes there, one away. The process id of the one that runs is in a file.
upstream() {
    local up=
    trap 'kill "$up" 2>/dev/null; wait "$up" 2>/dev/null; exit 0' TERM
    while :; do
        "$bin" run -c "$work/up.toml" >>"$work/up.log" 2>&1 &
        up=$!
        sleep 120 &
        wait $!
        kill -KILL "$up" 2>/dev/null || true
        wait "$up" 2>/dev/null || true
        sleep 60 &
        wait $!
    done
}
upstream 2>/dev/null &
pids+=($!)

field() { awk -v field="$1:" '$1 == field { print $2 }' "/proc/$edge/status"; }
ring_kib() { find "$work/edge" \( -name 'slot-*' -o -name root \) -printf '%k\n' | awk '{ sum += $1 } END { print sum + 0 }'; }
say "$minutes minutes, each source at $RATE lines a second; samples in $table"
printf 'second\trss_kib\town_kib\tfds\tthreads\tdisk_kib\tcpu_ticks\tadmitted\n' >"$table"
began=$SECONDS
while [ $((SECONDS - began)) -lt $((minutes * 60)) ]; do
    kill -0 "$edge" 2>/dev/null || fail "the node is gone: $(tail -n 20 "$work/edge.log")"
    fds=("/proc/$edge/fd/"*)
    admitted=$(curl -s "http://127.0.0.1:$http/metrics" | awk '/^headwater_lane_admitted/ { sum += $2 } END { printf "%d", sum }')
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$((SECONDS - began))" "$(field VmRSS)" "$(field RssAnon)" "${#fds[@]}" "$(field Threads)" \
        "$(ring_kib)" "$(awk '{ print $14 + $15 }' "/proc/$edge/stat")" "$admitted" >>"$table"
    sleep "$SAMPLE"
done
"$bin" status -c "$work/edge.toml" || true

say "by minute"
# The warm-up is the first third, and at least a minute: caches and windows fill, the ring goes around once.
awk -F '\t' -v hertz="$(getconf CLK_TCK)" -v cap=$((CAP_MIB * 1024)) -v most=$MAX_KIB_A_MINUTE \
    -v most_own=$MAX_OWN_KIB -v most_fds=$MAX_FDS_A_MINUTE -v all=$((minutes * 60)) '
    BEGIN { warm = all / 3 > 60 ? all / 3 : 60 }
    function slope(sy, sxy) { d = n * sxx - sx * sx; return d ? 60 * (n * sxy - sx * sy) / d : 0 }
    function line() {
        printf "%6d %9d %9d %5d %8d %9d %7.2f %10d  ", minute, rss / k, own / k, fds / k, threads, disk,
            100 * (ticks - ticks0) / hertz / (t > t0 ? t - t0 : 1), admitted
        for (i = 0; i < own / k / 128; i++) printf "#"
        print ""
    }
    NR == 1 {
        print "minute   RSS KiB   own KiB   fds  threads  disk KiB   CPU %   admitted   (# = 128 KiB of its own)"
        next
    }
    NR == 2 { ticks0 = $7; t0 = $1 }
    {
        if (int($1 / 60) != minute) {
            line()
            minute = int($1 / 60); k = rss = own = fds = disk = 0; ticks0 = ticks; t0 = t
        }
        k++; rss += $2; own += $3; fds += $4; threads = $5; ticks = $7; admitted = $8; t = $1
        if ($6 > disk) disk = $6
        if ($6 > disk_peak) disk_peak = $6
        if ($1 >= warm) {
            n++; sx += $1; sxx += $1 * $1; sf += $4; sxf += $1 * $4
            third = int(3 * ($1 - warm) / (all - warm))
            if (third > 2) third = 2
            if (!(third in floor) || $3 < floor[third]) floor[third] = $3
            if ($3 > own_peak) own_peak = $3
        }
    }
    END {
        line()
        fds_slope = slope(sf, sxf)
        own_slope = (floor[2] - floor[0]) / ((all - warm) * 2 / 3 / 60)
        printf "after the warm-up: own memory from %d KiB at least in the first third to %d in the last, %+.1f KiB a minute (at most %d); never above %d KiB (at most %d)\n",
            floor[0], floor[2], own_slope, most, own_peak, most_own
        printf "files %+.2f a minute (at most %d); disk at most %d KiB of %d\n", fds_slope, most_fds, disk_peak, cap
        flat = (0 in floor) && (2 in floor) && own_slope <= most && own_peak <= most_own && fds_slope <= most_fds && disk_peak <= cap
        print flat ? "flat" : "NOT FLAT"
        exit !flat
    }' "$table" || fail "not flat: $table"
