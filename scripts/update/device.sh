#!/bin/sh
# The device's side of update.sh, which brings it along: everything that has to go on without the desk. Run as root.
# For dash or a busybox's shell, with systemd 252 or later, sed, awk, gzip, sha256sum and flock.
#
# One file says where an update stands, written whole and synced: $home/state. Its steps are
#
#   ready            the new program lies beside the old one and runs; nothing was switched
#   armed            the trial: from here on the unit headwater-update.service has it, also after a reboot
#   confirming       it was well for as long as it was to be: nothing takes it back any more
#   rolling-back     the old program is put back, whatever happens meanwhile
#   confirmed, rolled-back
#   stuck            it is worse and stays: the old program is damaged on the disk, or cannot be put back
#
# The program's name always leads to a whole program: it changes by rename, on one file system, and the old one has a second
# name before. Each step is repeated until the next one is on the disk, so the power may go at any moment.
set -eu
umask 022
LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH

unit=headwater.service
own_unit=headwater-update.service
home=/var/lib/headwater-update
units=/etc/systemd/system
lock=/run/headwater-update.lock
# In the data directory; the node looks for it.
mark=update-on-trial
# Starts of the trial, by reboots and power cuts, until it is given up.
most_runs=5
# How long a link is waited for that was up before and went in the trial: it may be the world's doing or the program's.
link_s=3600

refuse() {
    printf 'refused=%s\n' "$*"
    exit 10
}

# ------------------------------------------------------------------------------------------------ the state

get() { sed -n "s/^$1=//p" "$home/state" 2>/dev/null | head -n 1; }

# settle FILE...: on the disk. A sync that knows no files syncs all.
settle() { sync "$@" 2>/dev/null || sync; }

# put KEY VALUE ...: all of them at once, or none; false where the disk does not take them.
put() {
    now_told=''
    [ ! -f "$home/state" ] || now_told=$(cat "$home/state") || return 1
    while [ $# -gt 1 ]; do
        now_told=$(
            printf '%s\n' "$now_told" | sed "/^$1=/d; /^\$/d"
            printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr '\n' ' ')"
        )
        shift 2
    done
    { printf '%s\n' "$now_told" >"$home/state.new"; } 2>/dev/null || return 1
    settle "$home/state.new" || return 1
    mv -f "$home/state.new" "$home/state" 2>/dev/null || return 1
    settle "$home" || return 1
}

# note WORDS: for the journal, and for who follows as far as the disk takes it.
note() {
    printf '%s\n' "$*"
    { printf '%s\n' "$*" | tr -c '[:print:]\n' '?' >>"$home/log"; } 2>/dev/null || :
    # The desk counts the lines: one that it has seen is there after a power cut.
    settle "$home/log" || :
}

# same FILE FILE: two names of one.
# shellcheck disable=SC3013  # dash and busybox know it
same() { [ "$1" -ef "$2" ]; }
# runs PID PROGRAM: that process is of the program that is there now.
runs() { [ "${1:-0}" -gt 0 ] && same "/proc/$1/exe" "$2"; }

hash_of() { sha256sum <"$1" 2>/dev/null | cut -d' ' -f1; }
uptime_s() { cut -d. -f1 </proc/uptime; }
boot_id() { cat /proc/sys/kernel/random/boot_id; }
shown() { systemctl show -p "$1" --value "$unit" 2>/dev/null || :; }

# ------------------------------------------------------------------------------------------------ where things are

# find_program: $program and $config, as the unit has them.
find_program() {
    local_exec=$(shown ExecStart)
    program=$(printf '%s\n' "$local_exec" | sed -n 's/^{ path=\([^ ;]*\) ;.*/\1/p' | head -n 1)
    program=$(readlink -f "${program:-/usr/bin/headwater}" || echo /usr/bin/headwater)
    config=/etc/headwater/headwater.toml
    previous=''
    for word in $(printf '%s\n' "$local_exec" | sed -n 's/.*argv\[\]=\([^;]*\) ;.*/\1/p' | head -n 1); do
        case $previous in -c | --config) config=$word ;; esac
        case $word in --config=*) config=${word#*=} ;; esac
        previous=$word
    done
}

# ask PROGRAM ARGUMENT...: a command of the program, as the service would have it, for half a minute at most.
ask() {
    (
        exec 9>&-
        [ -n "${CREDENTIALS_DIRECTORY-}" ] || [ ! -d /etc/headwater/credentials ] ||
            export CREDENTIALS_DIRECTORY=/etc/headwater/credentials
        exec timeout 30 "$@" </dev/null
    )
}

# data_dir PROGRAM: the node's, as the config has it.
data_dir() { ask "$1" check -c "$config" 2>/dev/null | sed -n 's/^node .*, data in //p' | head -n 1; }

# mount_of PATH: type, options and mount point of the file system that it is on.
mount_of() {
    at=$(readlink -f "$1" || echo "$1")
    awk -v at="$at/" '
        { point = $2 == "/" ? "/" : $2 "/" }
        index(at, point) == 1 && length(point) >= best { best = length(point); found = $3 " " $4 " " $2 }
        END { print found }
    ' /proc/self/mounts
}

# A place that is forgotten at the next boot is none for a program.
keeps() {
    for at in "$(dirname "$program")" /var/lib "$units"; do
        kind=$(mount_of "$at" | cut -d' ' -f1)
        case $kind in
            overlay | tmpfs | ramfs | squashfs | erofs | aufs)
                refuse "$at is on $kind, which forgets at a reboot or cannot be written: switch the overlay off (raspi-config," \
                    "Performance Options, Overlay File System), reboot, and update again; or flash a new card" ;;
        esac
    done
}

# A root that is mounted read-only is made writable as long as it takes, and read-only again however this ends: by who holds the
# lock.
opened=''
open_root() {
    otherwise=${1:-refuse}
    trap close_root EXIT
    # A signal ends dash without what it has for its end.
    trap 'exit 129' HUP
    trap 'exit 141' PIPE
    trap 'exit 143' TERM
    for at in "$(dirname "$program")" /var/lib "$units"; do
        # shellcheck disable=SC2046  # three words
        set -- $(mount_of "$at")
        case ",${2-}," in
            *,ro,*)
                if mount -o remount,rw "$3" 2>/dev/null; then
                    opened="$opened $3"
                else
                    $otherwise "$3 is mounted read-only and cannot be remounted: is the card dying (dmesg)?"
                fi ;;
        esac
    done
}
close_root() {
    for at in $opened; do
        settle "$at"
        mount -o remount,ro "$at" 2>/dev/null || printf 'note=%s stays writable until the next reboot: something there is in use\n' "$at"
    done
}

# alone: one update at a time, until this ends. A connection that died holds it for half a minute at most.
alone() {
    exec 9>"$lock"
    flock -w "${1:-40}" 9 || refuse "another update of this device is under way"
}

under_way() {
    case $(get state) in armed | confirming | rolling-back) return 0 ;; esac
    return 1
}

# ------------------------------------------------------------------------------------------------ how the node is

# health PROGRAM: `level`, as `status --check` has it, and counts, each as KEY=NUMBER.
health() {
    level=0
    ask "$1" status --check -c "$config" >/dev/null 2>&1 || level=$?
    [ "$level" -le 3 ] || level=3
    printf 'level=%s\n' "$level"
    ask "$1" status --json -c "$config" 2>/dev/null | awk '
        function number(line) { gsub(/[^0-9]/, "", line); return line + 0 }
        /^  "ring": \{/ { ring = 1 }
        /^  "sinks": \[/ { sinks = 1 }
        /^  [}\]]/ { ring = 0; sinks = 0 }
        ring && /^    "lanes": \[/ { lanes = 1 }
        ring && /^    \]/ { lanes = 0 }
        lanes && /^        "(corrupt|lost_unsynced)": / { lost += number($2) }
        ring && /^    "commits": / { commits = number($2) }
        ring && /^    "in_memory": true/ { memory = 1 }
        ring && /^    "health": "failed"/ { failed = 1 }
        ring && /^      "set_aside": true/ { aside = 1 }
        ring && /^    "failed_syncs": / { syncs = number($2) }
        ring && /^    "state_refused": / { state = number($2) }
        sinks && /^      "refused": / { refused += number($2) }
        sinks && /^      "state": "down"/ { down++ }
        /^  "rule_errors": / { rules = number($2) }
        END {
            if (NR < 20) exit
            printf "asked=1\nlost=%d\ncommits=%d\nin_memory=%d\nfailed=%d\nset_aside=%d\n", lost, commits, memory, failed, aside
            printf "failed_syncs=%d\nstate_refused=%d\nrefused=%d\nrule_errors=%d\nlinks_down=%d\n", syncs, state, refused, rules, down
        }'
}

# of KEY: a number of the health just taken; 0 where it was not told.
of() {
    found=$(printf '%s\n' "$now_is" | sed -n "s/^$1=//p" | head -n 1)
    printf '%s' "${found:-0}"
}
before() {
    found=$(get "before_$1")
    printf '%s' "${found:-0}"
}

# worse: says what is worse than before the update and cannot be the world's doing.
worse() {
    [ "$(of asked)" = 1 ] || return 0
    lost=$(($(of lost) - $(before lost)))
    [ "$lost" -le 0 ] || echo "$lost records were lost or are corrupt that were not before"
    [ "$(of in_memory)" -le "$(before in_memory)" ] || echo "its ring is in memory, and was on the disk"
    [ "$(of failed)" -le "$(before failed)" ] || echo "its ring has failed"
    [ "$(of set_aside)" -le "$(before set_aside)" ] || echo "it sets slots of the ring aside that the program before read"
    for name in failed_syncs state_refused refused rule_errors; do
        if [ "$(before "$name")" -eq 0 ] && [ "$(of "$name")" -gt 0 ]; then
            echo "$name went from 0 to $(of "$name")"
        fi
    done
}

# not_well: what keeps it from being confirmed now.
not_well() {
    [ "$(of asked)" = 1 ] || { echo "it does not answer \`headwater status\`"; return 0; }
    most=$(before level)
    [ "$most" -ne 3 ] || most=2
    if [ "$(of level)" -gt "$most" ]; then
        said=$(ask "$program" status --check -c "$config" 2>/dev/null | sed 's/ | .*//' | head -n 1 || :)
        echo "\`status --check\` is $(of level) and was $most: $said"
    elif [ "$(of links_down)" -gt "$(before links_down)" ]; then
        echo "a link is down that was up"
    elif [ "$(of commits)" -le "$(get commits_at)" ]; then
        echo "its ring has written nothing"
    fi
}

# ------------------------------------------------------------------------------------------------ looking

# kept_on_disk: refuses a node that keeps its ring in memory, where a restart ends it; $now_is is its health.
kept_on_disk() {
    now_is=$(health "$program")
    [ "$(of in_memory)" = 0 ] ||
        refuse "the node keeps its ring in memory, and with a restart all of it would be lost: mend the disk first, \`headwater doctor\` says what is wrong"
}

look() {
    find_program
    printf 'machine=%s\n' "$(uname -m)"
    printf 'uid=%s\n' "$(id -u)"
    [ -d /run/systemd/system ] || refuse "there is no systemd"
    for tool in flock sha256sum gzip timeout awk; do
        command -v "$tool" >/dev/null || refuse "there is no $tool"
    done
    [ -f "$program" ] || refuse "there is no $program: this updates a node; install it first"
    keeps
    printf 'program=%s\nconfig=%s\n' "$program" "$config"
    printf 'program_sha=%s\n' "$(hash_of "$program")"
    printf 'elf=%s\n' "$(od -An -tx1 -N20 "$program" | tr -d ' \n')"
    printf 'version=%s\n' "$(ask "$program" --version 2>/dev/null | head -n 1)"
    active=$(shown ActiveState)
    printf 'active=%s\n' "$active"
    [ "$active" != inactive ] || under_way || refuse "the node is stopped there: a trial needs one that runs"
    under_way || kept_on_disk
    pid=$(shown MainPID)
    ! runs "$pid" "$program" || printf 'running=1\n'
    [ ! -f "$program.old" ] || printf 'former=%s\n' "$(ask "$program.old" --version 2>/dev/null | head -n 1 | grep . || echo unknown)"
    at=$home
    [ -d "$at" ] || at=/var/lib
    printf 'room_home=%s\n' "$(df -P -k "$at" | awk 'NR == 2 { print $4 }')"
    printf 'room_program=%s\n' "$(df -P -k "$(dirname "$program")" | awk 'NR == 2 { print $4 }')"
    for tool in xz zstd; do
        ! command -v "$tool" >/dev/null || printf '%s=1\n' "$tool"
    done
    printf 'state=%s\nnew=%s\nreason=%s\n' "$(get state)" "$(get new)" "$(get reason)"
}

# part ID: how much of what is sent is there already.
part() {
    if [ -f "$home/part-$1" ]; then
        printf 'part_bytes=%s\npart_sha=%s\n' "$(wc -c <"$home/part-$1" | tr -d ' ')" "$(hash_of "$home/part-$1")"
    fi
}

# take_script: this script, from the standard input, to its place.
take_script() {
    find_program
    alone
    open_root
    mkdir -p "$home"
    chmod 700 "$home"
    # A trial goes on as it began.
    under_way || {
        cat >"$home/device.sh.new"
        settle "$home/device.sh.new"
        mv -f "$home/device.sh.new" "$home/device.sh"
    }
}

# receive ID FROM: appends the standard input to the part, which is cut to FROM bytes before. Ends when nothing came for half
# a minute: what a dead connection has left running must not hold the next one up.
receive() {
    find_program
    alone
    open_root
    ! under_way || refuse "another update of this device is on trial"
    for at in "$home"/part-*; do
        [ "$at" = "$home/part-$1" ] || rm -f "$at"
    done
    [ "$2" -gt 0 ] || true >"$home/part-$1"
    # A connection that was thought dead may have sent more: the desk asks again.
    [ "$(wc -c <"$home/part-$1")" -eq "$2" ] || return 0
    cat <&3 >>"$home/part-$1" &
    writer=$!
    size=$2 still=0
    while kill -0 "$writer" 2>/dev/null; do
        sleep 1
        now=$(wc -c <"$home/part-$1")
        still=$((still + 1))
        [ "$now" -eq "$size" ] || still=0
        size=$now
        if [ "$still" -ge 30 ]; then
            kill "$writer" 2>/dev/null || :
            break
        fi
    done
    wait "$writer" 2>/dev/null || :
    settle "$home/part-$1"
}

# ------------------------------------------------------------------------------------------------ checking

# check ID SHA PACKED: what has arrived becomes PROGRAM.new, if it is what was sent and runs here with this config.
check() {
    find_program
    alone
    open_root
    ! under_way || refuse "another update of this device is on trial"
    case $3 in xz | gzip | zstd) ;; *) refuse "packed by $3, which is not known" ;; esac
    new=$program.new
    if [ "$(hash_of "$new")" = "$2" ]; then
        # The answer was lost on the way, or the power went.
        try "$new"
        rm -f "$home/part-$1"
        return 0
    fi
    if ! "$3" -dc <"$home/part-$1" >"$new" 2>/dev/null; then
        rm -f "$new" "$home/part-$1"
        refuse "what arrived is damaged: it cannot be unpacked (or there was no room)"
    fi
    settle "$new"
    if [ "$(hash_of "$new")" != "$2" ]; then
        rm -f "$new" "$home/part-$1"
        refuse "what arrived is damaged: its SHA-256 is not that of what was sent"
    fi
    try "$new"
    rm -f "$home/part-$1"
}

# former: the program before becomes PROGRAM.new.
former() {
    find_program
    alone
    open_root
    ! under_way || refuse "another update of this device is on trial"
    [ -f "$program.old" ] || refuse "there is no $program.old: nothing was updated here"
    [ "$(hash_of "$program.old")" != "$(hash_of "$program")" ] || refuse "the program before is the one that is there: the last update was taken back"
    [ -z "$(get old)" ] || [ "$(hash_of "$program.old")" = "$(get old)" ] || refuse "$program.old is damaged on the disk"
    dir=$(data_dir "$program")
    if [ -n "$dir" ]; then
        now=$(aside "$program" "$dir") then=$(aside "$program.old" "$dir")
        [ "${then:-0}" -le "${now:-0}" ] ||
            refuse "the program before cannot read $then slots of the ring, which were written in a newer format since it was confirmed"
    fi
    cp -p "$program.old" "$program.new"
    settle "$program.new"
    try "$program.new"
    printf 'new_sha=%s\n' "$(hash_of "$program.new")"
}

# aside PROGRAM DIR: slots that a program does not read.
aside() { ask "$1" ring stat --json "$2" 2>/dev/null | sed -n 's/^ *"set_aside": \([0-9]*\).*/\1/p' | head -n 1; }

# try PROGRAM: it runs here, and takes the config.
try() {
    chmod 755 "$1"
    chown 0:0 "$1"
    version=$(ask "$1" --version 2>/dev/null | head -n 1) || version=''
    case $version in
        headwater\ *) printf 'new_version=%s\n' "$version" ;;
        *)
            rm -f "$1"
            refuse "the new program does not run on this machine ($(uname -m))" ;;
    esac
    if ! said=$(ask "$1" check -c "$config" 2>&1); then
        # Where the old one does not take it either, by hand, the service has something that is not here.
        if ask "$program" check -c "$config" >/dev/null 2>&1; then
            rm -f "$1"
            printf '%s\n' "$said" | sed 's/^/said=/' | head -n 20
            refuse "the new program does not take $config"
        fi
        printf 'note=neither program takes %s outside of its service: the trial will tell\n' "$config"
    fi
}

# ------------------------------------------------------------------------------------------------ beginning

# begin WATCH SHA ATTEMPT: the trial, of PROGRAM.new. What the desk asks again, since the answer was lost, is not begun again.
begin() {
    find_program
    # A trial holds the lock for as long as it takes.
    ! is_begun "$2" "$3" || return 0
    alone
    open_root
    ! is_begun "$2" "$3" || return 0
    [ "$(hash_of "$program.new")" = "$2" ] || refuse "there is no checked program to begin with"
    kept_on_disk
    old=$(hash_of "$program")
    dir=$(data_dir "$program")
    [ -n "$dir" ] || dir=$(data_dir "$program.new")
    [ -n "$dir" ] || dir=$(get data_dir)
    [ -n "$dir" ] || grep -qs data_dir "$config" || dir=/var/lib/headwater
    [ -n "$dir" ] || refuse "where the node keeps its data is not known: neither program takes $config"
    rm -f "$home/journal"
    set -- state ready attempt "$3" new "$2" watch "$1" program "$program" config "$config" data_dir "$dir" runs 0 \
        reason '' boot "$(boot_id)" commits_at "$(of commits)"
    for name in level lost in_memory failed set_aside failed_syncs state_refused refused rule_errors links_down; do
        set -- "$@" "before_$name" "$(of "$name")"
    done
    # One that did not answer is no example.
    [ "$(of asked)" = 1 ] || set -- "$@" before_level 2 before_in_memory 1 before_set_aside 1
    if ! { true >"$home/log"; } 2>/dev/null || ! put "$@"; then
        refuse "$home cannot be written"
    fi
    enable_own_unit || give_up "systemd does not take $units/$own_unit, or it cannot be written"
    set_mark ||
        give_up "$dir cannot be written: without it the new program would not know that it is on trial; look at the card and its mount"
    keep_old || give_up "$program.old cannot be written"
    sync
    # From here on it goes on by itself.
    put state armed old "$old" || give_up "$home cannot be written"
    systemctl start --no-block "$own_unit" || :
}

# is_begun SHA ATTEMPT: that trial is under way, or was.
is_begun() {
    if under_way; then
        [ "$(get new)" = "$1" ] || refuse "another update of this device is on trial"
        systemctl start --no-block "$own_unit" || :
        return 0
    fi
    [ "$(get attempt)" = "$2" ] && [ "$(get state)" != ready ]
}

# give_up WORDS: before anything was switched.
give_up() {
    close_up
    refuse "$@"
}

enable_own_unit() {
    { own_unit >"$units/$own_unit.new"; } 2>/dev/null && mv -f "$units/$own_unit.new" "$units/$own_unit" || return 1
    systemctl daemon-reload && systemctl enable "$own_unit" >/dev/null 2>&1 || return 1
    settle "$units/$own_unit" "$units"
}

# keep_old: what a rollback puts back, PROGRAM.old. Two names of one file, from a beginning that was cut: `mv` would refuse.
keep_old() {
    same "$program" "$program.old" || {
        ln -f "$program" "$program.old.new" 2>/dev/null || cp -p "$program" "$program.old.new" || return 1
        mv -f "$program.old.new" "$program.old" || return 1
    }
    settle "$program.old" "$(dirname "$program")"
}

own_unit() {
    cat <<UNIT
# Written by update.sh; removed when the trial of the new program is over.
[Unit]
Description=Headwater: a new program on trial
# Not after headwater.service: one that does not come up is what this is for.
After=local-fs.target var-lib-headwater.mount
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=/bin/sh $home/device.sh trial
Restart=on-failure
RestartSec=5s
TimeoutStopSec=10s
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
UNIT
}

# set_mark: the file that tells the node. The directory is the node's: a link that lies there is not followed.
set_mark() {
    dir=$(get data_dir)
    [ -d "$dir" ] || return 1
    [ ! -f "$dir/$mark" ] || [ -L "$dir/$mark" ] || return 0
    rm -f "${dir:?}/$mark" || return 1
    (
        set -C
        printf 'update.sh: %s is on trial\n' "$(get new)" >"$dir/$mark"
    ) 2>/dev/null || return 1
    settle "$dir/$mark" "$dir"
}

clear_mark() {
    dir=$(get data_dir)
    [ -n "$dir" ] || return 0
    rm -f "$dir/$mark" 2>/dev/null || :
    [ ! -d "$dir" ] || settle "$dir"
}

# ------------------------------------------------------------------------------------------------ the trial

trial() {
    program=$(get program) config=$(get config)
    [ -n "$program" ] || find_program
    alone 600
    # A bad program is taken back all the same, where its own file system can be written.
    open_root note
    case $(get state) in
        armed) on_trial ;;
        confirming) confirm ;;
        rolling-back) roll_back "$(get reason)" ;;
        stuck) remove_own_unit ;;
        '') later "$home/state cannot be read" ;;
        *) close_up ;;
    esac
}

on_trial() {
    runs=$(($(get runs) + 1))
    # It is watched all the same; but a restart that cannot be counted is the last one.
    if ! put runs "$runs"; then
        note "$home cannot be written now"
        if [ "$(get boot)" != "$(boot_id)" ]; then
            roll_back "the device was restarted in the trial, and $home cannot be written"
            return 0
        fi
    fi
    if [ "$runs" -gt "$most_runs" ]; then
        roll_back "the trial was cut short $most_runs times: the device restarts, or loses its power"
        return 0
    fi
    [ "$runs" -eq 1 ] || note "the trial begins again: the device was restarted, or the trial was"
    set_mark || note "the data directory cannot be written now"
    if [ "$(hash_of "$program")" != "$(get new)" ]; then
        if [ "$(hash_of "$program.new")" != "$(get new)" ]; then
            roll_back "the new program is damaged on the disk"
            return 0
        fi
        mv -f "$program.new" "$program"
        settle "$(dirname "$program")"
        note "switched to the new program"
    fi
    start_node
    if ! await_node; then
        roll_back "$trouble"
        return 0
    fi
    if [ "$(get boot)" != "$(boot_id)" ]; then
        # What the power cut took is not the new program's doing, and the counts of a process begin anew.
        now_is=$(health "$program")
        [ "$(of asked)" != 1 ] || put before_lost "$(of lost)" boot "$(boot_id)" || note "$home cannot be written now"
    fi
    watch_node
}

# start_node: anew, unless it runs as the program that is there. Not `restart`: starts are counted anew after a stop.
start_node() {
    pid=$(shown MainPID)
    if runs "$pid" "$program" && [ "$(shown NRestarts)" = 0 ]; then
        return 0
    fi
    start_anew
}
start_anew() {
    systemctl stop "$unit" || :
    systemctl reset-failed "$unit" 2>/dev/null || :
    systemctl start --no-block "$unit" || :
}

# await_node: until it is ready; false, with $trouble, when it does not come up. The service's own limits say how long that is.
await_node() {
    began=$(uptime_s)
    while [ $(($(uptime_s) - began)) -lt 900 ]; do
        broken && return 1
        [ "$(shown ActiveState)" != active ] || { note "it is up"; return 0; }
        sleep 1
    done
    trouble="it was not ready after 15 minutes"
    return 1
}

# broken: it ended, in $trouble.
broken() {
    if [ "$(shown ActiveState)" = failed ]; then
        trouble="it ended ($(shown Result), exit status $(shown ExecMainStatus)) and is not started again"
    elif [ "$(shown NRestarts)" -gt 0 ] 2>/dev/null; then
        trouble="it ended and was started again ($(how_it_ended))"
    else
        return 1
    fi
}

# how_it_ended: of a program that was started again since, when only the journal knows it.
how_it_ended() {
    said=$(journalctl -u "$unit" -n 50 --no-pager -o cat 2>/dev/null | sed -n 's/^.*: Main process exited, //p' | tail -n 1)
    printf '%s' "${said:-$(shown Result), exit status $(shown ExecMainStatus)}"
}

watch_node() {
    seconds=$(get watch) began=$(uptime_s) asked_at=0
    said_link=''
    note "watched for $seconds s"
    while :; do
        sleep 1
        passed=$(($(uptime_s) - began))
        if broken; then
            roll_back "$trouble"
            return 0
        fi
        if [ "$(shown ActiveState)" != active ]; then
            # Somebody has it started anew; one that does not come back is told by the next look.
            await_node || { roll_back "$trouble"; return 0; }
        fi
        [ "$passed" -ge "$seconds" ] || [ $((passed - asked_at)) -ge 10 ] || continue
        asked_at=$passed
        now_is=$(health "$program")
        bad=$(worse | paste -sd ';' -)
        if [ -n "$bad" ]; then
            roll_back "$bad"
            return 0
        fi
        [ "$passed" -ge "$seconds" ] || continue
        bad=$(not_well | paste -sd ';' -)
        if [ -z "$bad" ]; then
            confirm
            return 0
        fi
        # A sink may need another minute to connect.
        most=$((seconds * 2))
        if [ "$(of links_down)" -gt "$(before links_down)" ] && [ "$most" -lt "$link_s" ]; then
            most=$link_s
            [ -n "$said_link" ] || note "$bad: it is waited for, an hour at most"
            said_link=1
        fi
        if [ "$passed" -ge "$most" ]; then
            roll_back "$bad"
            return 0
        fi
    done
}

# later WORDS: what the disk does not take now; the unit is started again, and goes on with it.
later() {
    note "$1: it is tried again"
    exit 1
}

confirm() {
    # Before this stands on the disk, the program before has to be able to read all that is written.
    put state confirming || later "$home cannot be written"
    clear_mark
    note "confirmed"
    put state confirmed || later "$home cannot be written"
    close_up
}

# put_back: the program before, under its name again; needs no room but for the name.
put_back() {
    [ "$(hash_of "$program")" != "$(get old)" ] || return 0
    ln -f "$program.old" "$program.back" 2>/dev/null || cp -p "$program.old" "$program.back" 2>/dev/null || return 1
    settle "$program.back" && mv -f "$program.back" "$program" 2>/dev/null || return 1
    settle "$(dirname "$program")"
}

# roll_back REASON
roll_back() {
    [ "$(get state)" = rolling-back ] || {
        { journalctl -u "$unit" -n 20 --no-pager -o cat 2>/dev/null | tr -c '[:print:]\n' '?' | cut -c 1-300 >"$home/journal"; } 2>/dev/null || :
        note "rolled back: $1"
        put state rolling-back reason "$1" || note "$home cannot be written now"
    }
    if [ "$(hash_of "$program.old")" != "$(get old)" ]; then
        stuck "$1; it stays, as the program before is damaged on the disk: update to a good one"
        return 0
    fi
    put_back || later "$program cannot be written"
    pid=$(shown MainPID)
    if ! runs "$pid" "$program"; then
        start_anew
    fi
    if await_node; then
        note "the program before runs again"
    else
        note "the program before does not come up: $trouble"
    fi
    clear_mark
    rm -f "$program.new"
    put state rolled-back || later "$home cannot be written"
    close_up
}

# stuck WORDS: it can be neither kept nor taken back. The node goes on writing what a program before can read.
stuck() {
    note "$1"
    put state stuck reason "$1" || later "$home cannot be written"
    remove_own_unit
}

# close_up: nothing of an update is left to be done.
close_up() {
    clear_mark
    remove_own_unit
}
remove_own_unit() {
    systemctl disable "$own_unit" >/dev/null 2>&1 || :
    rm -f "${units:?}/$own_unit"
    systemctl daemon-reload || :
    settle "$units"
}

# ------------------------------------------------------------------------------------------------ following

# follow FROM: the lines of the log from there on, until the trial is over.
follow() {
    from=$1 idle=0
    while :; do
        state=$(get state)
        lines=$(wc -l <"$home/log" 2>/dev/null || echo 0)
        if [ "$lines" -gt "$from" ]; then
            sed -n "$((from + 1)),${lines}s/^/log=/p" "$home/log"
            from=$lines
        fi
        case $state in
            confirmed | rolled-back | stuck)
                [ ! -f "$home/journal" ] || [ "$state" = confirmed ] || sed 's/^/journal=/' "$home/journal"
                printf 'reason=%s\nstate=%s\n' "$(get reason)" "$state"
                return 0 ;;
            armed | confirming | rolling-back) ;;
            *) refuse "there is no update on trial" ;;
        esac
        idle=$((idle + 1))
        if [ $((idle % 20)) -eq 0 ]; then
            printf 'beat=%s\n' "$idle"
            systemctl is-active --quiet "$own_unit" || systemctl start --no-block "$own_unit" || :
        fi
        sleep 1
    done
}

case ${1-} in
    look) look ;;
    part) part "$2" ;;
    receive) exec 3<&0 && receive "$2" "$3" ;;
    check) check "$2" "$3" "$4" ;;
    former) former ;;
    begin) begin "$2" "$3" "$4" ;;
    trial) trial ;;
    follow) follow "$2" ;;
    # The desk's next line is a call.
    none) ;;
    *) refuse "unknown: ${1-}" ;;
esac
