#!/usr/bin/env bash
# A new program for a node that runs somewhere: over SSH, on trial for a minute, taken back by the device itself when it is
# worse than the one before. `scripts/update.sh --help` says how.
#
# What has to go on without the desk is the device's side, scripts/update/device.sh, which is brought along; this one looks,
# sends, and follows. Nothing that a host says is run or written unread: only lines KEY=VALUE that are known, printable.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/board.sh
. "$root/scripts/board.sh"
# shellcheck source=scripts/update/fleet.sh
. "$root/scripts/update/fleet.sh"

usage() {
    cat <<'HELP'
Puts a new program in the place of a node's, over SSH. It is on trial for a minute: the device watches it by itself, keeps it
if the node is as well as before, and else puts the old one back.

    scripts/update.sh HOST --board NAME | --binary FILE | --package DIR
    scripts/update.sh --hosts FILE --board NAME [--canary 5] [--max-failures 2] [--parallel 4]
    scripts/update.sh --rollback HOST

  HOST                as ssh knows it: a name of ~/.ssh/config, user@address; root, or a user who may `sudo` without a password
  --board NAME        the program that scripts/build.sh made for that board
  --binary FILE       this program
  --package DIR       the program in a folder that build.sh made, checked against its SHA256SUMS
  --ssh "COMMAND"     how to reach hosts, in place of `ssh`: "ssh -p 2222 -i key"; split at blanks
  --rate NUMBER       sends at most so many bytes a second: 16k is 16,384, 1M is 1,048,576
  --watch SECONDS     how long the trial takes (60)
  --patience SECONDS  how long a host may be away before it is given up (600); the trial goes on without the desk
  --rollback          puts the program before back, on trial too; not if it cannot read what was written since
  --dry-run           looks at the host, says what would be done, changes nothing
  --json              the results as lines of JSON on standard output, all else on standard error

Many hosts:

  --hosts FILE        a host a line; `#` begins a comment
  --canary N          the first N must be confirmed before others begin (1); one that is not ends the run
  --max-failures N    after so many failures no other host is begun (1)
  --parallel N        so many at a time (1)
  --state FILE        what became of each host (FILE.state beside --hosts): hosts that are confirmed with this program are left
                      out when the same is run again; all others are tried

It can be run again after any interruption, here or there: what was sent is not sent again, a trial that is under way is
followed. One update of a device at a time.

Exit codes: 0 confirmed, or nothing to do; 1 nothing was changed; 2 wrong usage; 3 rolled back; 4 not heard of again, the
device decides alone; 5 worse, but the program before is damaged there: see to that host; of many hosts 0 all, 1 not all.

    scripts/build.sh rpi4 && scripts/update.sh pump-07 --board rpi4
    scripts/update.sh admin@192.0.2.7 --binary target/dist/headwater --ssh "ssh -p 2222" --rate 16k
    scripts/update.sh --hosts pumps.txt --package target/boards/rpi4 --canary 5 --max-failures 2 --rate 16k
    scripts/update.sh pump-07 --rollback
HELP
}

# ------------------------------------------------------------------------------------------------ arguments

usage_error() { printf 'error: %s\n' "$1" >&2; exit 2; }
host='' board_name='' binary='' package='' hosts_file='' state_file='' ssh_words=ssh rate='' watch=60 patience=600
canary=1 max_failures=1 parallel=1 dry='' back='' json=''
options=()
while [ $# -gt 0 ]; do
    case $1 in
        --board | --binary | --package | --hosts | --state | --ssh | --rate | --watch | --patience | --canary | --max-failures | --parallel)
            [ -n "${2-}" ] || usage_error "$1 needs a value" ;;
    esac
    case $1 in
        --board) board_name=$2 && shift ;;
        --binary) binary=$2 && shift ;;
        --package) package=$2 && shift ;;
        --hosts) hosts_file=$2 && shift ;;
        --state) state_file=$2 && shift ;;
        --ssh) ssh_words=$2 && options+=("$1" "$2") && shift ;;
        --rate) rate=$2 && options+=("$1" "$2") && shift ;;
        --watch) watch=$2 && options+=("$1" "$2") && shift ;;
        --patience) patience=$2 && options+=("$1" "$2") && shift ;;
        --canary) canary=$2 && shift ;;
        --max-failures) max_failures=$2 && shift ;;
        --parallel) parallel=$2 && shift ;;
        --dry-run) dry=1 && options+=("$1") ;;
        --rollback) back=1 && options+=("$1") ;;
        --json) json=1 ;;
        -h | --help) usage && exit ;;
        -*) usage_error "$1 is not known; --help says what is" ;;
        *)
            [ -z "$host" ] || usage_error "one host at a time, or --hosts FILE: $host or $1"
            host=$1 ;;
    esac
    shift
done

# is_host NAME: one that ssh takes for a host and for nothing else.
is_host() {
    local names='^[][A-Za-z0-9_.:%@][][A-Za-z0-9_.:%@-]*$'
    [[ $1 =~ $names && $1 != *@-* && $1 != @* && $1 != *@ ]]
}

for number in watch patience canary max_failures parallel; do
    [[ ${!number} =~ ^[0-9]{1,6}$ ]] || usage_error "--${number//_/-} takes a number"
done
for number in watch parallel max_failures; do
    [ "${!number}" -ge 1 ] || usage_error "--${number//_/-} takes 1 at least"
done
rate_bytes=0
if [ -n "$rate" ]; then
    [[ $rate =~ ^([1-9][0-9]{0,8})([kKM]?)$ ]] || usage_error "--rate takes bytes a second, like 16k"
    case ${BASH_REMATCH[2]} in
        k | K) rate_bytes=$((BASH_REMATCH[1] << 10)) ;;
        M) rate_bytes=$((BASH_REMATCH[1] << 20)) ;;
        *) rate_bytes=${BASH_REMATCH[1]} ;;
    esac
fi
[ -n "$host$hosts_file" ] || usage_error "HOST or --hosts FILE is missing; --help shows examples"
[ -z "$host" ] || [ -z "$hosts_file" ] || usage_error "HOST or --hosts, not both"
[ -z "$host" ] || is_host "$host" || usage_error "\`$host\` is no host's name"
sources=0
for given in "$board_name" "$binary" "$package"; do
    [ -z "$given" ] || sources=$((sources + 1))
done
if [ -n "$back" ]; then
    [ "$sources" -eq 0 ] || usage_error "--rollback takes the program that is there"
else
    [ "$sources" -eq 1 ] || usage_error "one of --board, --binary and --package is to be given"
fi
read -ra ssh <<<"$ssh_words"
# What --ssh and ssh's config say goes before.
ssh+=(-o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=3 -o Compression=yes -T)

# With --json standard output is for programs.
exec 3>&1
[ -z "$json" ] || exec 1>&2

# ------------------------------------------------------------------------------------------------ what is sent

work=$(mktemp -d "${TMPDIR:-/var/tmp}/headwater-update.XXXXXX")
sender=''
cleanup() {
    local code=$?
    trap '' INT TERM HUP
    [ -z "$sender" ] || kill "$sender" 2>/dev/null || true
    # The desks of a fleet, which do not hear an interruption from the terminal.
    if [ "${#job[@]}" -gt 0 ]; then
        kill "${!job[@]}" 2>/dev/null || true
        wait "${!job[@]}" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$code"
}
trap cleanup EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
trap 'interrupted 129' HUP
interrupted() {
    printf '%s: interrupted. A trial that is under way goes on; the same again follows it, or goes on with what was sent\n' "${host:-the hosts}" >&2
    exit "$1"
}

sha_of() { sha256sum <"$1" | cut -d' ' -f1; }
# elf FILE: the class and the machine that a program is for, of the first 20 bytes.
elf() { od -An -tx1 -N20 "$1" | tr -d ' \n'; }
same_machine() { [ "${1:0:10}" = "${2:0:10}" ] && [ "${1:36:4}" = "${2:36:4}" ]; }

new_sha='' new_elf=''
find_binary() {
    [ -z "$back" ] || return 0
    if [ -n "$board_name" ]; then
        use_board "$board_name"
        package=$target_dir/boards/$board_name
        [ -f "$package/headwater" ] || fail "nothing was built for $board_name: scripts/build.sh $board_name"
    fi
    if [ -n "$package" ]; then
        binary=$package/headwater
        [ -f "$package/SHA256SUMS" ] || fail "$package has no SHA256SUMS"
        grep -qx "$(sha_of "$binary" 2>/dev/null)  headwater" "$package/SHA256SUMS" || fail "$binary is not what $package/SHA256SUMS says"
    fi
    [ -f "$binary" ] || fail "there is no program $binary"
    new_sha=$(sha_of "$binary")
    new_elf=$(elf "$binary")
}

# pack TOOL: the program as it is sent, in $packed; the same bytes each time, so that what is there already counts. The desks of
# a fleet share what one of them packed.
packed='' packer=''
pack() {
    local begun=$work/packing
    packer=$1 packed=${HEADWATER_UPDATE_PACKED:-$work}/$new_sha.$1
    [ ! -f "$packed" ] || return 0
    case $1 in
        # What takes more memory to unpack would be no smaller.
        xz) xz -6 -T1 -c "$binary" >"$begun" ;;
        zstd) zstd -q -19 -c "$binary" >"$begun" ;;
        gzip) gzip -9n -c "$binary" >"$begun" ;;
    esac
    mv "$begun" "$packed"
}

# ------------------------------------------------------------------------------------------------ the host

sudo='' # of the host
# Each of these takes the place of a shell of its own, so that one signal ends it.
# installed VERB [ARGUMENT...]: the device's side, from where it stays; arguments are of letters and digits.
installed() { exec "${ssh[@]}" -- "$host" "$sudo sh /var/lib/headwater-update/device.sh $*"; }
there() { exec "${ssh[@]}" -- "$host" "$1"; }
stdin_from() { exec "${ssh[@]}" -- "$host" "$2" <"$1"; }

declare -A fact
# heed: takes the facts that come, and says the notes among them. False where the device refused.
heed() {
    local line key value good=0
    while IFS= read -r line; do
        line=$(printf '%s' "${line:0:600}" | LC_ALL=C tr -c '[:print:]' '?')
        key=${line%%=*} value=${line#*=}
        heard=$SECONDS
        case $key in
            refused) words=$value good=1 ;;
            note | said) tell "$value" ;;
            log) tell "$value" && seen=$((seen + 1)) ;;
            journal) tell "  journal: $value" ;;
            machine | uid | may_sudo | program | config | program_sha | elf | version | active | running | former | room_home | room_program | \
                xz | zstd | state | new | reason | part_bytes | part_sha | new_version | new_sha) fact[$key]=$value ;;
        esac
    done
    return "$good"
}

tell() { printf '%s: %s\n' "$host" "$1"; }

# Numbers are only that.
number() { [[ ${fact[$1]-} =~ ^[0-9]{1,15}$ ]] && echo "$((10#${fact[$1]}))" || echo 0; }

# calls WHAT COMMAND...: its answer, heeded; tried again while the host is away. False where it refused, and where there is
# no answer: then $away says so.
words='' away='' heard=0
calls() {
    local what=$1 began=$SECONDS code out=$work/answer
    shift
    away=''
    while :; do
        code=0
        # In the background, so that an interruption is heard while it lasts.
        "$@" >"$out" 2>"$work/ssh" </dev/null &
        sender=$!
        wait "$sender" || code=$?
        sender=''
        heed <"$out" || return 1
        [ "$code" -ne 0 ] || return 0
        away=1
        # 255 is ssh's own; anything else is an answer.
        if [ "$code" -ne 255 ]; then
            words="$what failed there (exit code $code): $(last_line "$work/ssh")"
            return 1
        fi
        if grep -qiE 'permission denied|host key verification|could not resolve|identification has changed' "$work/ssh" ||
            [ $((SECONDS - began)) -ge "$patience" ]; then
            words="cannot be reached: $(last_line "$work/ssh")"
            return 1
        fi
        away=''
        sleep 3
    done
}

last_line() { tail -n 1 "$1" | LC_ALL=C tr -c '[:print:]\n' '?' | cut -c 1-200; }

who_am_i() {
    fact=() sudo=''
    # shellcheck disable=SC2016  # by the shell there
    calls "asking who it is" there \
        'id=$(id -u); printf "uid=%s\n" "$id"; [ "$id" = 0 ] || { sudo -n true && printf "may_sudo=1\n"; }; true' || return 1
    [ "${fact[uid]-}" != 0 ] || return 0
    if [ -z "${fact[may_sudo]-}" ]; then
        words="needs root: log in as root, or let this user \`sudo\` without a password ($(last_line "$work/ssh"))"
        return 1
    fi
    sudo='sudo -n'
}

look() {
    fact=()
    calls "looking" stdin_from "$root/scripts/update/device.sh" "$sudo sh -s -- look"
}

# bring_script: the device's side, to where it stays; sent to itself, as what follows its own last line.
bring_script() {
    {
        cat "$root/scripts/update/device.sh"
        printf "take_script <<'HEADWATER_DEVICE_END'\n"
        cat "$root/scripts/update/device.sh"
        printf 'HEADWATER_DEVICE_END\n'
    } >"$work/bring"
    calls "bringing the script" stdin_from "$work/bring" "$sudo sh -s -- none"
}

# from_here FROM: what is sent, from that byte on, at the rate that was asked for.
from_here() {
    local at=$1 piece=$((rate_bytes / 4))
    if [ "$rate_bytes" -eq 0 ]; then
        tail -c "+$((at + 1))" "$packed"
        return
    fi
    [ "$piece" -gt 0 ] || piece=1
    while [ "$at" -lt "$total" ]; do
        dd if="$packed" bs=64K iflag=skip_bytes,count_bytes skip="$at" count="$piece" status=none || return 1
        at=$((at + piece))
        sleep 0.25
    done
}

# send: the part that is not there yet, again where the link is lost, for as long as it gets on.
total=0 part_id=''
send() {
    local at=0 before=-1 moved=$SECONDS
    total=$(stat -c %s "$packed")
    part_id=$(sha_of "$packed")
    part_id=${part_id:0:16}
    while :; do
        fact[part_bytes]=0
        calls "asking what is there" installed part "$part_id" || return 1
        at=$(number part_bytes)
        # Of another program, or damaged: from the beginning.
        if [ "$at" -gt "$total" ] || [ "$(head -c "$at" "$packed" | sha256sum | cut -d' ' -f1)" != "${fact[part_sha]-}" ]; then
            at=0
        fi
        [ "$at" -lt "$total" ] || return 0
        [ "$at" -le "$before" ] || moved=$SECONDS
        if [ $((SECONDS - moved)) -ge "$patience" ]; then
            words="cannot be reached: $at of $total bytes are there, and no more get through"
            return 1
        fi
        before=$at
        tell "sends $((total - at)) of $total bytes ($packer${rate:+, $rate a second}); $at are there"
        # In the background, so that an interruption is heard while it lasts.
        "${ssh[@]}" -- "$host" "$sudo sh /var/lib/headwater-update/device.sh receive $part_id $at" \
            < <(from_here "$at" 2>/dev/null) >"$work/answer" 2>"$work/ssh" &
        sender=$!
        wait "$sender" || sleep 1
        sender=''
        heed <"$work/answer" || return 1
    done
}

# follow: until the trial is over, whatever becomes of the link meanwhile.
seen=0
follow() {
    # A node may take a quarter of an hour to come up, the new one and then the old, and the power go each time.
    local before began=$SECONDS most=$((7200 + 3 * watch))
    seen=0 heard=$SECONDS
    fact[state]='' fact[reason]=''
    [ -p "$work/told" ] || mkfifo "$work/told"
    while :; do
        before=$seen
        installed follow "$seen" 2>"$work/ssh" </dev/null >"$work/told" &
        sender=$!
        if ! heed <"$work/told"; then
            return 1
        fi
        wait "$sender" || true
        sender=''
        case ${fact[state]-} in
            confirmed) result=confirmed && return 0 ;;
            rolled-back | stuck) result=${fact[state]} words=${fact[reason]-} && return 0 ;;
        esac
        if [ $((SECONDS - heard)) -ge "$patience" ]; then
            result=unknown words="not heard of again after $patience s: the device decides alone; run this again to hear how"
            return 0
        fi
        if [ $((SECONDS - began)) -ge "$most" ]; then
            result=unknown words="the trial does not end: look at \`journalctl -u headwater-update\` there"
            return 0
        fi
        [ "$seen" -ne "$before" ] || sleep 2
    done
}

# ------------------------------------------------------------------------------------------------ one host

result=''
# look_over: whether there is anything to be done, and whether it can be; false where not.
look_over() {
    who_am_i || return 1
    look || return 1
    case ${fact[state]-} in
        armed | confirming | rolling-back)
            [ -n "$back" ] || [ "${fact[new]-}" = "$new_sha" ] || { words="another update is on trial there"; return 1; }
            return 0 ;;
    esac
    if [ -n "$back" ]; then
        [ -n "${fact[former]-}" ] || { words="there is no program before: nothing was updated there"; return 1; }
        return 0
    fi
    if [ "${fact[new]-}" = "$new_sha" ]; then
        case ${fact[state]-} in
            stuck)
                if [ "${fact[program_sha]-}" = "$new_sha" ]; then
                    result=stuck words=${fact[reason]-}
                    return 1
                fi ;;
            rolled-back) tell "this program was taken back there before: ${fact[reason]-}; it is tried again" ;;
        esac
    fi
    if [ "${fact[program_sha]-}" = "$new_sha" ]; then
        result=same words="nothing to do: ${fact[version]-} is there already"
        return 1
    fi
    same_machine "${fact[elf]-}" "$new_elf" || { words="$binary is for another machine than ${fact[program]-} there (${fact[machine]-})"; return 1; }
    for tool in xz zstd gzip; do
        if [ "$tool" = gzip ] || { [ -n "${fact[$tool]-}" ] && command -v "$tool" >/dev/null; }; then
            pack "$tool"
            break
        fi
    done
    local needed=$((($(stat -c %s "$packed") + 2 * $(stat -c %s "$binary")) / 1024 + 2048))
    if [ "$(number room_home)" -lt "$needed" ] || [ "$(number room_program)" -lt "$needed" ]; then
        words="no room there: $needed KiB are needed, and there are $(number room_program) beside the program, $(number room_home) in /var/lib"
        return 1
    fi
}

update_host() {
    # By this the device knows a question that is asked again.
    local attempt=$EPOCHSECONDS$RANDOM
    result=refused words=''
    look_over || return 0
    case ${fact[state]-} in
        armed | confirming | rolling-back)
            tell "a trial is under way: it is followed"
            follow || result=refused
            return 0 ;;
    esac
    tell "${fact[program]-} is ${fact[version]:-of an unknown version}, the node is ${fact[active]:-unknown}"
    if [ -n "$dry" ]; then
        result=planned
        [ -n "$back" ] || tell "would send $(stat -c %s "$packed") bytes ($packer), check the program with ${fact[config]-} there,"
        tell "would put ${back:+${fact[former]-} back}${back:-it in its place}, watch it for $watch s, and keep it or take it back"
        return 0
    fi
    bring_script || return 0
    if [ -n "$back" ]; then
        calls "the check" installed former || return 0
        new_sha=${fact[new_sha]-}
        [[ $new_sha =~ ^[0-9a-f]{64}$ ]] || { words="the device did not say what the program before is"; return 0; }
    else
        send || return 0
        calls "the check" installed check "$part_id" "$new_sha" "$packer" || return 0
    fi
    tell "${fact[new_version]-} runs there and takes ${fact[config]-}"
    if ! calls "the beginning" installed begin "$watch" "$new_sha" "$attempt"; then
        # What was asked for may have been done, and only the answer be lost.
        [ -z "$away" ] || result=unknown words="it was told to begin, and $words; the device decides alone: run this again to hear how"
        return 0
    fi
    tell "on trial; from here on the device needs nobody"
    follow || result=refused
}

# outcome: what became of it, in a line; the exit code.
outcome() {
    case $result in
        confirmed) tell "confirmed: ${fact[new_version]:-the new program} stays" ;;
        same | planned) [ -z "$words" ] || tell "$words" ;;
        rolled-back) tell "ROLLED BACK: $words" ;;
        stuck) tell "WORSE, AND NOT TAKEN BACK: $words" ;;
        unknown) tell "UNKNOWN: $words" ;;
        *) result=refused && tell "FAILED, nothing was changed: $words" ;;
    esac
    [ -z "$json" ] || json_line "$host" "$result" "$words" >&3
    case $result in
        confirmed | same | planned) return 0 ;;
        rolled-back) return 3 ;;
        unknown) return 4 ;;
        stuck) return 5 ;;
        *) return 1 ;;
    esac
}

# json_line HOST RESULT WORDS: all of them printable.
json_line() {
    local text=${3//\\/\\\\}
    printf '{"host":"%s","result":"%s","words":"%s"}\n' "$1" "$2" "${text//\"/\\\"}"
}

need ssh openssh-client
find_binary
if [ -n "$hosts_file" ]; then
    fleet
else
    update_host
    code=0
    outcome || code=$?
    [ -z "${HEADWATER_UPDATE_RESULT-}" ] || printf '%s\t%s\n' "$result" "$words" >"$HEADWATER_UPDATE_RESULT"
    exit "$code"
fi
