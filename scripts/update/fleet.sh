# shellcheck shell=bash
# Many hosts: the first alone as canaries, the others some at a time, until too many fail. Sourced by update.sh, not run.
#
# Each host is one run of update.sh. What became of it goes to the state file, a line each (host, SHA-256 of the program, result,
# words, with tabs between), the last of a host counts.

# shellcheck disable=SC2154  # its variables are those of update.sh

hosts=() failures=0
declare -A job=() result_of=() words_of=()

# read_hosts: the hosts of the file, each once.
read_hosts() {
    local line number=0
    local -A known=()
    [ -f "$hosts_file" ] || fail "there is no file $hosts_file"
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        line=${line%%#*}
        line=${line//[$' \t\r']/}
        [ -n "$line" ] || continue
        is_host "$line" || usage_error "$hosts_file, line $number: \`$line\` is no host's name"
        [ -z "${known[$line]-}" ] || continue
        known[$line]=1
        hosts+=("$line")
    done <"$hosts_file"
    [ "${#hosts[@]}" -gt 0 ] || usage_error "$hosts_file names no host"
}

# read_state: what became of each with this program. The last line of a host counts: after another program it is to be done again.
read_state() {
    local name sha what rest
    state_file=${state_file:-$hosts_file.state}
    [ -z "$dry" ] || return 0
    exec 8>>"$state_file" || fail "$state_file cannot be written"
    flock -n 8 || fail "another run has $state_file"
    while IFS=$'\t' read -r name sha what rest; do
        if [ "$sha" = "${new_sha:-rollback}" ]; then
            result_of[$name]=$what words_of[$name]=$rest
        else
            unset "result_of[$name]" "words_of[$name]"
        fi
    done <"$state_file"
}

is_done() { case ${result_of[$1]-} in confirmed | same) return 0 ;; esac; return 1; }

# start HOST: its run, in the background.
start() {
    local from=(--binary "$binary")
    [ -z "$back" ] || from=()
    HEADWATER_UPDATE_RESULT=$work/result-$1 HEADWATER_UPDATE_PACKED=$work "$root/scripts/update.sh" "$1" "${from[@]}" "${options[@]}" 8>&- &
    job[$!]=$1
}

# finish: waits for one of them, and notes what became of it.
finish() {
    local pid='' name what words
    wait -n -p pid "${!job[@]}" || true
    name=${job[$pid]}
    unset "job[$pid]"
    what=refused words='ended without a word'
    [ ! -s "$work/result-$name" ] || IFS=$'\t' read -r what words <"$work/result-$name" || true
    result_of[$name]=$what words_of[$name]=$words
    [ -n "$dry" ] || printf '%s\t%s\t%s\t%s\n' "$name" "${new_sha:-rollback}" "$what" "$words" >&8
    case $what in confirmed | same | planned) ;; *) failures=$((failures + 1)) ;; esac
}

# run_all AT-A-TIME HOST...: those that are not done; ends begun ones when too many have failed.
run_all() {
    local most=$1 name
    shift
    for name in "$@"; do
        if is_done "$name"; then
            continue
        fi
        while [ "${#job[@]}" -ge "$most" ]; do
            finish
        done
        [ "$failures" -lt "$max_failures" ] || break
        start "$name"
    done
    while [ "${#job[@]}" -gt 0 ]; do
        finish
    done
}

fleet() {
    local name stopped='' failed=0 open=0
    need flock util-linux
    read_hosts
    read_state
    for name in "${hosts[@]}"; do
        ! is_done "$name" || say "$name: done before"
    done
    # One that fails is enough: what is wrong with it may be wrong with all.
    local most=$max_failures
    max_failures=1
    run_all "$parallel" "${hosts[@]:0:canary}"
    max_failures=$most
    if [ "$failures" -gt 0 ]; then
        stopped="not every canary was confirmed: no other host was begun"
    else
        run_all "$parallel" "${hosts[@]:canary}"
        [ "$failures" -lt "$max_failures" ] || stopped="$failures failed: no other host was begun"
    fi
    printf '\n%-32s %-12s %s\n' host result ''
    for name in "${hosts[@]}"; do
        printf '%-32s %-12s %s\n' "$name" "${result_of[$name]:--}" "${words_of[$name]-}"
        [ -z "$json" ] || json_line "$name" "${result_of[$name]:-not-begun}" "${words_of[$name]-}" >&3
        case ${result_of[$name]-} in
            confirmed | same | planned) ;;
            '') open=$((open + 1)) ;;
            *) failed=$((failed + 1)) ;;
        esac
    done
    [ -z "$stopped" ] || say "stopped: $stopped"
    say "${#hosts[@]} hosts, $failed failed, $open not begun${stopped:+; run it again to go on}"
    [ "$((failed + open))" -eq 0 ]
}
