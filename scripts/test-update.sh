#!/usr/bin/env bash
# scripts/update.sh held to what it says: against a real sshd, with the real program, on devices that are namespaces of this
# machine, each with a file system of its own and a small stand-in for systemd (scripts/test-update/init.py). Good updates and
# bad ones, copies that are cut or damaged, a link that goes, power that goes before every sync, fleets.
# Needs root. After all of it nothing runs, is mounted or lies about.
#
#   scripts/test-update.sh           all
#   scripts/test-update.sh NAME      only the tests whose name contains NAME
#
# What it does not hold: that the stand-in is like systemd, and what a power cut does to what was not synced: here the page
# cache outlives it.
# shellcheck disable=SC2016,SC2317  # much is for the shell of a device, and called by name
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"
export PATH="$PATH:/usr/sbin:/sbin"

[ "$(id -u)" -eq 0 ] || fail "this needs root: namespaces and mounts"
need sshd openssh-server
need ssh openssh-client
need mkfs.ext4 e2fsprogs
need unshare util-linux
need losetup mount
need xz xz-utils
need /usr/bin/python3 python3
need strip binutils
need_compiler
# shellcheck disable=SC2119  # no component is needed to build
need_rust

work=$(mktemp -d "${TMPDIR:-/var/tmp}/test-update.XXXXXX")
declare -A booted=()
# power_off DEVICE: at once, and all of it.
power_off() {
    local pid=${booted[$1]-}
    [ -n "$pid" ] || return 0
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    unset "booted[$1]"
    await "what ran on $1 to be gone" gone "$1"
}
gone() { [ -z "$(losetup -n -O NAME -j "$work/$1/root.img")" ]; }
sweep() {
    local code=$? name
    trap '' INT TERM HUP
    # shellcheck disable=SC2046  # the desks, by their numbers
    kill $(jobs -p) 2>/dev/null || true
    for name in "${!booted[@]}"; do
        power_off "$name"
    done
    rm -rf "$work"
    exit "$code"
}
trap sweep EXIT
trap 'exit 130' INT TERM HUP
# What a desk that is killed leaves behind goes with the rest.
export TMPDIR=$work

# await WORDS COMMAND...: until it is so; not for ever.
await() {
    local what=$1 n
    shift
    for ((n = 0; n < 600; n++)); do
        if "$@"; then
            return 0
        fi
        sleep 0.1
    done
    wrong "waited in vain for $what"
}
wrong() {
    printf 'FAILED: %s: %s\n' "$test" "$1" >&2
    [ ! -f "$work/said" ] || sed 's/^/    | /' "$work/said" >&2
    exit 1
}

# ------------------------------------------------------------------------------------------------ programs

say "building"
cargo build --locked --quiet
cp "$target_dir/debug/headwater" "$work/old"
strip "$work/old"
# The same, and another program by its bytes.
{ cat "$work/old" && echo 1; } >"$work/good"
{ cat "$work/old" && echo 2; } >"$work/better"
for how in crash exit hang late config alarm loss; do
    cc -DHOW="\"$how\"" -o "$work/$how" scripts/test-update/shim.c
done
# For another machine: ELF's field of it says AArch64.
{ head -c 18 "$work/old" && printf '\xb7\x00' && tail -c +21 "$work/old"; } >"$work/foreign"
chmod 755 "$work"/{old,good,better,foreign}
# Packed once.
mkdir "$work/packings"
export HEADWATER_UPDATE_PACKED=$work/packings
# packed PROGRAM: the file that is sent.
packed() {
    local at
    at=$HEADWATER_UPDATE_PACKED/$(sha "$work/$1").xz
    [ -f "$at" ] || xz -6 -T1 -c "$work/$1" >"$at"
    echo "$at"
}

# ------------------------------------------------------------------------------------------------ devices

ssh-keygen -q -t ed25519 -N '' -f "$work/key"
ssh-keygen -q -t ed25519 -N '' -f "$work/host-key"

stock() {
    local at=$work/stock
    mkdir -p "$at"/{usr,proc,dev,run,tmp,standin,root,etc/systemd/system/multi-user.target.wants,etc/headwater,opt/headwater,var/lib/headwater}
    for name in bin sbin lib lib64; do
        [ ! -e "/usr/$name" ] || ln -s "usr/$name" "$at/$name"
    done
    cp -a /etc/alternatives "$at/etc/"
    printf 'root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n' >"$at/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$at/etc/group"
    printf 'root:*:19000:0:99999:7:::\n' >"$at/etc/shadow"
    install -m 600 "$work/host-key" "$at/etc/host-key"
    install -m 644 "$work/key.pub" "$at/etc/authorized-keys"
    cat >"$at/etc/sshd_config" <<'SSHD'
ListenAddress 127.0.0.1
HostKey /etc/host-key
AuthorizedKeysFile /etc/authorized-keys
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
PidFile none
SetEnv PATH=/standin:/usr/sbin:/usr/bin:/sbin:/bin
SSHD
    # The unit is the real one, with the program where a device of this test can have a file system.
    sed 's,^ExecStart=.*,ExecStart=/opt/headwater/headwater run -c /etc/headwater/headwater.toml,; s/^RestartSec=.*/RestartSec=1s/' \
        scripts/service/headwater.service >"$at/etc/systemd/system/headwater.service"
    ln -s /etc/systemd/system/headwater.service "$at/etc/systemd/system/multi-user.target.wants/headwater.service"
    install -m 755 "$work/old" "$at/opt/headwater/headwater"
    install -m 755 "$work/old" "$at/opt/headwater/behind"
    # The upstream is never there: what comes stays, and the level is a warning before and after.
    cat >"$at/etc/headwater/headwater.toml" <<'CONFIG'
[node]
id = "dev"
[ring]
max_bytes = "8MiB"
keep_free = "0B"
linger = "100ms"
[http]
listen = "127.0.0.1:0"
[sources.log]
type = "file"
paths = ["/var/lib/headwater/in.log"]
topic = "log"
[sinks.hq]
type = "fluvio"
endpoint = ["127.0.0.1:1"]
topics = ["*"]
CONFIG
    echo line-0 >"$at/var/lib/headwater/in.log"
    mkfs.ext4 -q -F -d "$at" "$work/stock.img" 260M >"$work/mkfs" 2>&1 || fail "mkfs.ext4: $(cat "$work/mkfs")"
}
stock

port=$((20000 + RANDOM % 20000))
# device NAME: a new one, switched off.
device() {
    mkdir -p "$work/$1/mnt"
    rm -f "$work/$1"/{cut,ro}
    cp --sparse=always "$work/stock.img" "$work/$1/root.img"
    [ -f "$work/$1/port" ] || { port=$((port + 1)) && echo "$port" >"$work/$1/port"; }
}

boot() {
    local at
    at=$(cat "$work/$1/port")
    unshare --mount --pid --fork --kill-child=KILL --propagation slave scripts/test-update/boot.sh "$work/$1" "$at" >"$work/$1/console" 2>&1 &
    booted[$1]=$!
    await "$1 to answer" answers "$1"
}
answers() { on "$1" true 2>/dev/null; }
# The power went, as it was to.
is_off() { ! kill -0 "${booted[$1]}" 2>/dev/null; }

ssh_to() { echo "ssh -F none -i $work/key -p $(cat "$work/$1/port") -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"; }
# on DEVICE COMMAND: there.
on() {
    local name=$1
    shift
    # shellcheck disable=SC2046  # words
    $(ssh_to "$name") -o ConnectTimeout=5 root@127.0.0.1 -- "$@" </dev/null
}
ready() { [ "$(on "$1" systemctl show -p ActiveState --value headwater.service)" = active ]; }
# fresh NAME: a new device that runs.
fresh() {
    power_off "$1"
    device "$1"
    boot "$1"
    await "the node of $1" ready "$1"
}

# desk COMMAND...: in the background it is that process, which a test may end.
desk() {
    [ "$BASHPID" = $$ ] || exec "$@"
    "$@"
}
# update DEVICE PROGRAM [OPTION...]: update.sh, what it says in $work/said; its exit code.
update() {
    local name=$1 program=$2
    shift 2
    desk scripts/update.sh root@127.0.0.1 --binary "$work/$program" --ssh "$(ssh_to "$name")" --watch 3 --patience 120 "$@" >"$work/said" 2>&1
}
# ends CODE COMMAND...
ends() {
    local want=$1 code=0
    shift
    "$@" || code=$?
    [ "$code" -eq "$want" ] || wrong "exit code $code, not $want"
}
says() { grep -qF -- "$1" "$work/said" || wrong "does not say: $1"; }

sha() { sha256sum <"$1" | cut -d' ' -f1; }
program_of() { on "$1" sha256sum /opt/headwater/headwater | cut -d' ' -f1; }
# has DEVICE PROGRAM: that is its program, it runs, and nothing of an update is left but the program before.
has() {
    await "the update of $1 to be over" over "$1"
    [ "$(program_of "$1")" = "$(sha "$work/$2")" ] || wrong "$1 does not have $2"
    await "the node of $1" ready "$1"
    on "$1" 'pid=$(systemctl show -p MainPID --value headwater.service); [ /proc/$pid/exe -ef /opt/headwater/headwater ] || [ /proc/$pid/exe -ef /opt/headwater/behind ]' ||
        wrong "$1 runs another program than it has"
    local left
    left=$(on "$1" 'ls /etc/systemd/system /etc/systemd/system/multi-user.target.wants | grep update; ls /var/lib/headwater/update-on-trial /opt/headwater/*.new /opt/headwater/*.back /var/lib/headwater-update/part-* 2>/dev/null' || true)
    [ -z "$left" ] || wrong "left behind: $left"
}
# over DEVICE: it runs, and has nothing to do with an update.
over() { on "$1" '[ ! -e /etc/systemd/system/headwater-update.service ] && ! systemctl is-active --quiet headwater-update.service' 2>/dev/null; }
# collects DEVICE FROM TO: lines come.
collects() { on "$1" "for n in \$(seq $2 $3); do echo line-\$n >>/var/lib/headwater/in.log; done"; }
# kept DEVICE COUNT: that many lines are there, each once, in order, under offsets without a gap; none is lost.
kept() {
    local got want
    want=$(for ((n = 0; n < $2; n++)); do echo "$n line-$n"; done)
    got=$(on "$1" "timeout 20 /opt/headwater/headwater tail log --from-beginning -n $2 --json -c /etc/headwater/headwater.toml" |
        sed -n 's/.*"offset":\([0-9]*\).*"value":"\([^"]*\)".*/\1 \2/p')
    [ "$got" = "$want" ] || wrong "the records are not as they were: $(diff <(echo "$want") <(echo "$got") | head -n 5)"
}

# ------------------------------------------------------------------------------------------------ tests

a_good_program_is_confirmed_and_the_backlog_goes_on() {
    fresh one
    collects one 1 20
    ends 0 update one good
    says "confirmed"
    has one good
    collects one 21 40
    kept one 41
    ends 0 update one good
    says "nothing to do"
    # And back, by hand, which is a trial as well.
    ends 0 scripts/update.sh --rollback root@127.0.0.1 --ssh "$(ssh_to one)" --watch 2 >"$work/said" 2>&1
    has one old
    kept one 41
}

a_dry_run_changes_nothing() {
    fresh one
    local before
    before=$(on one find /opt /etc /var/lib/headwater-update 2>/dev/null || true)
    ends 0 update one good --dry-run
    says "would send"
    [ "$(on one find /opt /etc /var/lib/headwater-update 2>/dev/null || true)" = "$before" ] || wrong "something is there that was not"
    has one old
}

the_node_knows_that_it_is_on_trial_and_when_it_is_not() {
    fresh one
    update one good --watch 15 &
    local desk=$!
    status() { on one /opt/headwater/headwater status -c /etc/headwater/headwater.toml; }
    on_trial() { status 2>/dev/null | grep -q 'on trial since'; }
    off_trial() { ! on_trial; }
    await "the trial to show" on_trial
    wait "$desk" || wrong "it was not confirmed"
    await "the trial to be over" off_trial
    has one good
}

# bad PROGRAM WORDS [OPTION...]: it is taken back, and what came meanwhile is kept.
bad() {
    fresh one
    collects one 1 10
    ends 3 update one "$1" "${@:3}"
    says "$2"
    has one old
    collects one 11 20
    kept one 21
}
a_program_that_crashes_at_start_is_taken_back() {
    bad crash "ended and was started again"
    says "the last words of a program that crashes"
}
a_program_that_ends_for_good_is_taken_back() { bad exit "exit status 2"; }
a_program_that_dies_later_is_taken_back() { bad late "ended and was started again" --watch 10; }
a_program_that_raises_an_alarm_is_taken_back() { bad alarm "rule shape has stopped"; }
a_program_that_loses_records_is_taken_back() { bad loss "21 records were lost"; }

a_program_that_never_gets_ready_is_taken_back() {
    fresh one
    # The service's own limit, which the stand-in does not know.
    scripts/update.sh root@127.0.0.1 --binary "$work/hang" --ssh "$(ssh_to one)" >"$work/said" 2>&1 &
    local desk=$!
    hangs() { [ "$(program_of one)" = "$(sha "$work/hang")" ] && [ "$(on one systemctl show -p ActiveState --value headwater.service)" = activating ]; }
    await "the program to hang" hangs
    on one 'kill -9 $(systemctl show -p MainPID --value headwater.service)'
    ends 3 wait "$desk"
    has one old
}

a_node_that_keeps_its_ring_in_memory_is_left_alone() {
    fresh one
    # A place where no directory can be made.
    on one 'sed -i "s,^id = .*,&\ndata_dir = \"/proc/none\"\ncontrol = \"/run/control.sock\"," /etc/headwater/headwater.toml; systemctl stop headwater.service; systemctl start headwater.service'
    in_memory() { on one /opt/headwater/headwater status -c /etc/headwater/headwater.toml 2>/dev/null | grep -q 'IN MEMORY'; }
    await "the ring to be in memory" in_memory
    local pid
    pid=$(on one systemctl show -p MainPID --value headwater.service)
    ends 1 update one good
    says "keeps its ring in memory"
    has one old
    [ "$(on one systemctl show -p MainPID --value headwater.service)" = "$pid" ] || wrong "it was restarted"
    ! on one test -e /opt/headwater/headwater.old || wrong "what a rollback would put back is another"
}

a_program_that_does_not_fit_is_refused_before_anything_is_switched() {
    fresh one
    ends 1 update one foreign
    says "for another machine"
    ends 1 update one config
    says "another age"
    { cat "$work/good" && head -c 300M /dev/zero; } >"$work/huge"
    chmod 755 "$work/huge"
    ends 1 update one huge
    says "no room there"
    rm "$work/huge"
    # What was sent stays, for when the config is another.
    on one 'rm /var/lib/headwater-update/part-*'
    has one old
    ! on one ls /opt/headwater | grep -qvx -e headwater -e behind || wrong "something is left"
}

# ssh_when VERB WORDS: an ssh that does this, each time that verb is asked for.
ssh_when() {
    cat >"$work/ssh-that" <<SSH
#!/usr/bin/env bash
case "\$*" in
    *' $1 '*) $2 ;;
    *) exec $(ssh_to one) "\$@" ;;
esac
SSH
    chmod 755 "$work/ssh-that"
}

# ssh_that WORDS: an ssh that does this with what is sent, each time a copy begins.
ssh_that() { ssh_when receive "$1"; }

a_copy_that_is_cut_goes_on_where_it_stopped() {
    fresh one
    rm -f "$work"/sent "$work"/cut-once
    ssh_that "if [ -e $work/cut-once ]; then tee >(wc -c >>$work/sent) | $(ssh_to one) \"\$@\"; else touch $work/cut-once; head -c 1000000 | tee >(wc -c >>$work/sent) | $(ssh_to one) \"\$@\"; exit 255; fi"
    ends 0 scripts/update.sh root@127.0.0.1 --binary "$work/good" --ssh "$work/ssh-that" --watch 2 >"$work/said" 2>&1
    says "1000000 are there"
    [ "$(awk '{ n += $1 } END { print n }' "$work/sent")" -eq "$(stat -c %s "$(packed good)")" ] || wrong "sent more than there is: $(cat "$work/sent")"
    has one good
}

a_copy_is_resumed_by_another_run_and_its_rate_is_held_to_by_pieces() {
    fresh one
    scripts/update.sh root@127.0.0.1 --binary "$work/good" --ssh "$(ssh_to one)" --watch 2 --rate 256k >"$work/said" 2>&1 &
    local desk=$! before
    some() { [ "$(on one 'cat /var/lib/headwater-update/part-* 2>/dev/null | wc -c')" -gt 500000 ]; }
    await "some of it to be there" some
    kill -TERM "$desk"
    wait "$desk" || true
    before=$(on one 'cat /var/lib/headwater-update/part-* | wc -c')
    [ "$before" -lt "$(stat -c %s "$(packed good)")" ] || wrong "all of it was there"
    ends 0 scripts/update.sh root@127.0.0.1 --binary "$work/good" --ssh "$(ssh_to one)" --watch 2 --rate 4M >"$work/said" 2>&1
    grep -qE '[1-9][0-9]{5,} are there' "$work/said" || wrong "began anew"
    has one good
}

what_is_damaged_on_the_way_is_never_run() {
    fresh one
    rm -f "$work/damaged-once"
    ssh_that "if [ -e $work/damaged-once ]; then $(ssh_to one) \"\$@\"; else touch $work/damaged-once; { head -c 5000; head -c 8 >/dev/null; printf 'DAMAGED!'; cat; } | $(ssh_to one) \"\$@\"; fi"
    ends 0 scripts/update.sh root@127.0.0.1 --binary "$work/good" --ssh "$work/ssh-that" --watch 2 >"$work/said" 2>&1
    [ "$(grep -c ' 0 are there' "$work/said")" -eq 2 ] || wrong "what was damaged was not sent again"
    has one good
    fresh one
    ssh_that "{ head -c 5000; head -c 8 >/dev/null; printf 'DAMAGED!'; cat; } | $(ssh_to one) \"\$@\""
    ends 1 scripts/update.sh root@127.0.0.1 --binary "$work/good" --ssh "$work/ssh-that" --patience 3 >"$work/said" 2>&1
    has_program_alone
}
has_program_alone() { [ "$(program_of one)" = "$(sha "$work/old")" ] || wrong "the program is another"; }

the_link_goes_in_the_trial_and_the_device_goes_on() {
    fresh one
    update one good --watch 6 &
    local desk=$!
    await "the trial" watched
    # Every connection there is, but the listener's.
    on one 'for at in $(pgrep -f "sshd: root"); do kill -9 $at; done' || true
    wait "$desk" || wrong "did not hear how it ended"
    [ "$(grep -c 'watched for' "$work/said")" -eq 1 ] || wrong "told twice"
    has one good
    # And where nobody is there any more at all.
    fresh one
    update one crash --watch 3 &
    desk=$!
    await "the trial" trial_begun
    kill -KILL "$desk"
    wait "$desk" || true
    rolled_back() { on one 'grep -q state=rolled-back /var/lib/headwater-update/state'; }
    await "the device to take it back" rolled_back
    has one old
}
trial_begun() { on one 'grep -qE "^state=(armed|rolling-back|rolled-back)" /var/lib/headwater-update/state 2>/dev/null'; }

# upstream: a node of this machine with an endpoint, where the sink of `one` looks for it; its process in $upstream.
upstream() {
    mkdir -p "$work/upstream"
    cat >"$work/upstream.toml" <<CONFIG
[node]
id = "up"
data_dir = "$work/upstream"
[endpoint]
sc_listen = "127.0.0.1:$1"
spu_listen = "127.0.0.1:$(($1 + 1))"
CONFIG
    "$work/old" run -c "$work/upstream.toml" >"$work/upstream.log" 2>&1 &
    upstream=$!
}

a_link_that_goes_in_the_trial_is_waited_for() {
    local at
    fresh one
    port=$((port + 3)) at=$((port - 2))
    upstream "$at"
    on one "sed -i 's/127.0.0.1:1\"/127.0.0.1:$at\"/' /etc/headwater/headwater.toml; systemctl stop headwater.service; systemctl start headwater.service"
    linked() { on one /opt/headwater/headwater status -c /etc/headwater/headwater.toml 2>/dev/null | grep -q 'hq.* up '; }
    await "the link" linked
    update one good --watch 15 &
    local desk=$!
    await "the trial" watched
    await "the link" linked
    kill -9 "$upstream"
    wait "$upstream" || true
    waits() { on one 'grep -q "waited for, an hour" /var/lib/headwater-update/log'; }
    await "the device to wait" waits
    [ "$(program_of one)" = "$(sha "$work/good")" ] || wrong "it was taken back"
    upstream "$at"
    wait "$desk" || wrong "was not confirmed"
    kill "$upstream"
    wait "$upstream" || true
    has one good
}
watched() { on one 'grep -q watched /var/lib/headwater-update/log 2>/dev/null'; }

an_answer_to_the_beginning_that_is_lost_is_asked_for_again() {
    fresh one
    rm -f "$work/begun-once"
    # Until long after the trial is over.
    ssh_when begin "if [ -e $work/begun-once ]; then exec $(ssh_to one) \"\$@\"; fi; touch $work/begun-once; $(ssh_to one) \"\$@\" >/dev/null; sleep 20; exit 255"
    ends 0 scripts/update.sh root@127.0.0.1 --binary "$work/good" --ssh "$work/ssh-that" --watch 2 >"$work/said" 2>&1
    says "confirmed"
    has one good
    # Nor does a trial that is under way keep it from the answer.
    fresh one
    rm -f "$work/begun-once"
    ssh_when begin "if [ -e $work/begun-once ]; then exec $(ssh_to one) \"\$@\"; fi; touch $work/begun-once; $(ssh_to one) \"\$@\" >/dev/null; exit 255"
    ends 0 scripts/update.sh root@127.0.0.1 --binary "$work/good" --ssh "$work/ssh-that" --watch 60 >"$work/said" 2>&1
    says "confirmed"
    has one good
    # And where none ever comes, the desk does not say that nothing was changed.
    ssh_when begin "$(ssh_to one) \"\$@\" >/dev/null; exit 255"
    ends 4 scripts/update.sh root@127.0.0.1 --binary "$work/better" --ssh "$work/ssh-that" --watch 2 --patience 2 >"$work/said" 2>&1
    says "the device decides alone"
    has one better
}

a_state_that_cannot_be_written_keeps_no_bad_program() {
    fresh one
    update one late --watch 15 &
    local desk=$!
    await "the trial" trial_begun
    on one 'cd /var/lib/headwater-update && mount --bind . . && mount -o remount,ro,bind /var/lib/headwater-update'
    back() { [ "$(program_of one)" = "$(sha "$work/old")" ]; }
    await "the program before" back
    await "the node" ready one
    # It may be looking there.
    freed() { on one umount /var/lib/headwater-update 2>/dev/null; }
    await "the state to be let go" freed
    ends 3 wait "$desk"
    has one old
}

a_program_before_that_is_damaged_is_not_put_back_and_the_desk_is_told() {
    fresh one
    update one late --watch 15 &
    local desk=$!
    await "the trial" trial_begun
    on one 'rm /opt/headwater/headwater.old; echo rubbish >/opt/headwater/headwater.old'
    ends 5 wait "$desk"
    says "damaged on the disk"
    await "the update to be over" over one
    [ "$(program_of one)" = "$(sha "$work/late")" ] || wrong "the program is another"
    # The same again does not call it done.
    ends 5 update one late
    says "damaged on the disk"
    # What it writes can be read by the one before still.
    on one test -f /var/lib/headwater/update-on-trial || wrong "the program counts as confirmed"
    ends 1 scripts/update.sh --rollback root@127.0.0.1 --ssh "$(ssh_to one)" >"$work/said" 2>&1
    says "damaged on the disk"
    ends 0 update one good
    has one good
}

two_updates_of_a_device_do_not_meet() {
    fresh one
    update one good --watch 8 &
    local desk=$!
    await "the trial" trial_begun
    ends 1 scripts/update.sh root@127.0.0.1 --binary "$work/better" --ssh "$(ssh_to one)" >"$work/said-too" 2>&1
    grep -q 'another update' "$work/said-too" || wrong "$(cat "$work/said-too")"
    # The same again follows.
    ends 0 scripts/update.sh root@127.0.0.1 --binary "$work/good" --ssh "$(ssh_to one)" >"$work/said-too" 2>&1
    grep -q 'it is followed' "$work/said-too" || wrong "$(cat "$work/said-too")"
    wait "$desk" || wrong "was not confirmed"
    has one good
}

a_root_that_is_read_only_is_so_again_afterwards() {
    fresh one
    # As such a root is made: what changes is elsewhere. Here the data directory.
    power_off one
    touch "$work/one/ro"
    boot one
    on one 'mount -t tmpfs tmpfs /var/lib/headwater && echo line-0 >/var/lib/headwater/in.log && systemctl stop headwater.service && systemctl start headwater.service'
    await "the node" ready one
    ends 0 update one good
    is_ro() { on one 'grep -q " / ext4 ro" /proc/self/mounts'; }
    await "root to be read-only" is_ro
    [ "$(program_of one)" = "$(sha "$work/good")" ] || wrong "the program is another"
    # However the desk ends.
    update one better --rate 64k &
    local desk=$!
    is_rw() { ! is_ro; }
    await "root to be written to" is_rw
    kill -KILL "$desk"
    wait "$desk" || true
    on one 'for at in $(pgrep -f "sshd: root"); do kill -9 $at; done' || true
    await "root to be read-only again" is_ro
    # And one that forgets is refused.
    fresh one
    on one 'mkdir -p /tmp/o/u /tmp/o/w; mount -t overlay overlay -o lowerdir=/opt/headwater,upperdir=/tmp/o/u,workdir=/tmp/o/w /opt/headwater'
    ends 1 update one good
    says "overlay"
}

# The power goes before each sync of the device's side, one device after the other; then it comes back.
cut_at_each_step() {
    local program=$1 after=$2 n
    for ((n = 1; ; n++)); do
        rm -f "$work/said"
        power_off one
        device one
        echo "$n" >"$work/one/cut"
        boot one
        await "the node of one" ready one
        collects one 1 5
        rm -f "$work/one/cut"
        update one "$program" --watch 2 &
        local desk=$! code=0 went=''
        # The device has something to do after the desk has heard how it ended.
        while kill -0 "$desk" 2>/dev/null || ! over one; do
            if [ -z "$went" ] && is_off one; then
                went=1
                power_off one
                boot one
                # Whatever the step: there is a program, and it works or is being taken back.
                case $(program_of one) in
                    "$(sha "$work/old")" | "$(sha "$work/$program")") ;;
                    *) wrong "cut $n: neither program is there" ;;
                esac
            fi
            sleep 0.2
        done
        wait "$desk" || code=$?
        if [ "$code" -ne "$3" ]; then
            # Where the desk had given up, it goes on.
            code=0
            update one "$program" --watch 2 || code=$?
        fi
        [ "$code" -eq "$3" ] || wrong "cut $n: exit code $code, not $3"
        has one "$after"
        kept one 6
        [ -n "$went" ] || break
        printf '%s ' "$n"
    done
    # Fewer would mean that the power does not go: the state alone is written ten times.
    [ "$n" -gt "$4" ] || wrong "only $n steps were cut"
    printf 'cuts\n'
}
the_power_goes_at_each_step_of_a_good_update() { cut_at_each_step good good 0 20; }
the_power_goes_at_each_step_of_a_rollback() { cut_at_each_step crash old 3 20; }

a_power_that_goes_again_and_again_ends_the_trial() {
    fresh one
    update one good --watch 60 &
    local desk=$! run
    for run in 1 2 3 4 5; do
        runs() { [ "$(on one 'sed -n s/^runs=//p /var/lib/headwater-update/state' 2>/dev/null)" = "$run" ]; }
        await "run $run of the trial" runs
        power_off one
        boot one
    done
    ends 3 wait "$desk"
    says "cut short 5 times"
    has one old
}

# ------------------------------------------------------------------------------------------------ fleets

# fleet_of N: devices d1 to dN that run, and an ssh that finds them by these names.
fleet_of() {
    local n
    {
        printf '#!/usr/bin/env bash\nfor word in "$@"; do case $word in\n'
        for ((n = 1; n <= $1; n++)); do
            fresh "d$n" >&2
            printf '    d%s) port=%s ;;\n' "$n" "$(cat "$work/d$n/port")"
        done
        printf 'esac; done\nexec ssh -F none -i %s -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o HostName=127.0.0.1 -p "${port-1}" -l root "$@"\n' "$work/key"
    } >"$work/ssh-fleet"
    chmod 755 "$work/ssh-fleet"
    { echo '# pumps'; for ((n = 1; n <= $1; n++)); do echo "d$n   # pump $n"; done; } >"$work/hosts"
    rm -f "$work/hosts.state"
}
fleet() { desk scripts/update.sh --hosts "$work/hosts" --ssh "$work/ssh-fleet" --watch 2 --patience 3 "$@" >"$work/said" 2>&1; }

a_canary_that_is_taken_back_stops_the_fleet() {
    fleet_of 3
    ends 1 fleet --binary "$work/crash" --canary 1 --max-failures 3
    says "not every canary was confirmed"
    has d1 old
    [ "$(cut -f1,3 "$work/hosts.state")" = "$(printf 'd1\trolled-back')" ] || wrong "$(cat "$work/hosts.state")"
    # What is done is not done again: another program is another matter.
    ends 0 fleet --binary "$work/good" --canary 2 --parallel 3
    for name in d1 d2 d3; do
        has "$name" good
    done
    ends 0 fleet --binary "$work/good" --canary 2 --json
    says "d3: done before"
    grep -qx '{"host":"d2","result":"confirmed","words":""}' "$work/said" || wrong "no line of JSON"
    ! grep -q 'on trial' "$work/said" || wrong "did something again"
}

too_many_failures_stop_the_fleet_and_it_goes_on_when_run_again() {
    fleet_of 4
    # Two that are away.
    power_off d2
    power_off d3
    ends 1 fleet --binary "$work/good" --canary 1 --max-failures 2
    says "2 failed: no other host was begun"
    has d1 good
    has d4 old
    boot d2
    boot d3
    ends 0 fleet --binary "$work/good" --canary 1 --max-failures 2
    says "d1: done before"
    for name in d1 d2 d3 d4; do
        has "$name" good
    done
}

what_became_of_a_host_last_is_what_counts() {
    fleet_of 2
    there_and_back() {
        ends 0 fleet --binary "$work/good" --canary 1
        has d1 good
        has d2 good
        ends 0 fleet --rollback --canary 1
        has d1 old
        has d2 old
    }
    there_and_back
    there_and_back
    # The same once more is done before.
    ends 0 fleet --rollback --canary 1
    says "d1: done before"
    has d1 old
}

a_fleet_that_is_interrupted_leaves_no_desk_and_goes_on_when_run_again() {
    fleet_of 2
    fleet --binary "$work/good" --canary 2 --parallel 2 --rate 64k &
    local run=$!
    desks() { pgrep -f "update.sh d[12] --binary $work/good" >"$work/desks"; }
    both() { desks && [ "$(wc -l <"$work/desks")" -ge 2 ]; }
    await "both desks" both
    kill -TERM "$run"
    wait "$run" || true
    none() { ! desks; }
    await "the desks to end" none
    ends 0 fleet --binary "$work/good" --canary 2 --parallel 2
    has d1 good
    has d2 good
}

what_is_no_hosts_name_is_refused() {
    for name in -oProxyCommand=x 'a b' 'a;b' '@x' 'u@-x' ''; do
        ends 2 scripts/update.sh "$name" --binary "$work/good" >"$work/said" 2>&1
    done
    printf 'd1\n-oProxyCommand=touch /tmp/x\n' >"$work/hosts"
    ends 2 fleet --binary "$work/good"
    says "is no host's name"
    ends 2 scripts/update.sh d1 --binary "$work/good" --rate 0k >"$work/said" 2>&1
    ends 2 scripts/update.sh d1 >"$work/said" 2>&1
}

tests=(
    what_is_no_hosts_name_is_refused
    a_good_program_is_confirmed_and_the_backlog_goes_on
    a_dry_run_changes_nothing
    the_node_knows_that_it_is_on_trial_and_when_it_is_not
    a_program_that_crashes_at_start_is_taken_back
    a_program_that_ends_for_good_is_taken_back
    a_program_that_dies_later_is_taken_back
    a_program_that_never_gets_ready_is_taken_back
    a_program_that_raises_an_alarm_is_taken_back
    a_program_that_loses_records_is_taken_back
    a_program_that_does_not_fit_is_refused_before_anything_is_switched
    a_node_that_keeps_its_ring_in_memory_is_left_alone
    a_copy_that_is_cut_goes_on_where_it_stopped
    a_copy_is_resumed_by_another_run_and_its_rate_is_held_to_by_pieces
    what_is_damaged_on_the_way_is_never_run
    the_link_goes_in_the_trial_and_the_device_goes_on
    a_link_that_goes_in_the_trial_is_waited_for
    an_answer_to_the_beginning_that_is_lost_is_asked_for_again
    a_state_that_cannot_be_written_keeps_no_bad_program
    a_program_before_that_is_damaged_is_not_put_back_and_the_desk_is_told
    two_updates_of_a_device_do_not_meet
    a_root_that_is_read_only_is_so_again_afterwards
    the_power_goes_at_each_step_of_a_good_update
    the_power_goes_at_each_step_of_a_rollback
    a_power_that_goes_again_and_again_ends_the_trial
    a_canary_that_is_taken_back_stops_the_fleet
    too_many_failures_stop_the_fleet_and_it_goes_on_when_run_again
    what_became_of_a_host_last_is_what_counts
    a_fleet_that_is_interrupted_leaves_no_desk_and_goes_on_when_run_again
)
ran=0
for test in "${tests[@]}"; do
    [[ $test == *"${1-}"* ]] || continue
    say "$test"
    rm -f "$work/said"
    "$test"
    ran=$((ran + 1))
done
[ "$ran" -gt 0 ] || fail "no test has \`${1-}\` in its name"
say "$ran tests, all well"
