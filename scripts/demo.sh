#!/usr/bin/env bash
# Shows Headwater at work on this machine: installs what is missing to build it, builds it, runs `headwater demo`. With less than
# 2.5 GiB of memory it does not compile by itself: it offers a program that was built elsewhere, or says how to get one.
#
#   scripts/demo.sh                        builds it here and runs the demo
#   scripts/demo.sh --seconds 30           what it does not know goes to the demo
#   scripts/demo.sh -- --help              what the demo knows
#   scripts/demo.sh --binary ./headwater   runs that program and builds nothing
#   scripts/demo.sh --compile              builds it here, however little memory there is
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/board.sh
. "$(dirname "$0")/board.sh"

# Of memory, to compile without asking: the largest of the compilers takes 1.9 GiB, measured, and others run beside it.
ENOUGH_KIB=$((2560 * 1024))
# Where the kernel says what this machine is; the test of this script says otherwise.
meminfo=${HEADWATER_MEMINFO:-/proc/meminfo}
model_file=${HEADWATER_MODEL:-/proc/device-tree/model}

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

binary='' compile='' arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --binary) binary=${2:?--binary needs a file}; shift ;;
        --compile) compile=1 ;;
        -h | --help) usage; exit ;;
        --) shift; arguments+=("$@"); break ;;
        *) arguments+=("$1") ;;
    esac
    shift
done
[ -z "$binary" ] || [ -z "$compile" ] || fail "--binary or --compile, not both"

# runs_here FILE: it is a Headwater that has a demo and runs on this machine. What it is built for says nobody better.
runs_here() { [ -f "$1" ] && [ -x "$1" ] && "$1" demo --help >/dev/null 2>&1; }

# run FILE
run() { exec "$1" demo ${arguments[@]+"${arguments[@]}"}; }

compile_and_run() {
    cd "$root"
    need_compiler
    need curl curl ca-certificates
    # shellcheck disable=SC2119  # no component is needed to build
    need_rust
    say "building headwater (a few minutes the first time)"
    cargo build --release --locked --bin headwater
    run "$target_dir/release/headwater"
}

# built: the programs that were built already and run here, one a line.
built() {
    local file installed
    installed=$(command -v headwater || true)
    for file in "$root/headwater" ${installed:+"$installed"} "$target_dir"/boards/*/headwater "$target_dir/release/headwater"; do
        if runs_here "$file"; then
            echo "$file"
        fi
    done
}

# elsewhere: how a program for this machine is built on a larger one, and brought here.
elsewhere() {
    local architecture model='' board='' made
    architecture=$(dpkg --print-architecture 2>/dev/null || uname -m)
    # The device tree ends its texts with a zero byte.
    [ ! -r "$model_file" ] || model=$(tr -d '\0' <"$model_file")
    case $(uname -m) in
        armv6*) echo "Headwater is not built for ARMv6, which this machine is: the first Raspberry Pi and the Zero without a 2."; return ;;
    esac
    board=$(fitting_board "$architecture" "$model")
    echo "On a machine with more memory, in the same sources:"
    if [ -n "$board" ]; then
        made=target/boards/$board/headwater
        echo "    scripts/build.sh $board"
    else
        made=target/release/headwater
        echo "    cargo build --release --locked     # on $architecture: no board of boards/ is one"
    fi
    echo "    scp $made $(id -un)@$(uname -n):$root/"
    echo "and then here, once more: scripts/demo.sh"
}

# choose FILE...: asks which of them is to run, or whether to compile nevertheless.
choose() {
    local answer number=0 file
    for file in "$@"; do
        number=$((number + 1))
        echo "    $number  $file ($("$file" --version))"
    done
    echo "    c  compile here"
    while printf 'Which one? (nothing: %s; q: none) ' "$([ $# -gt 0 ] && echo 1 || echo q)"; do
        read -r answer || answer=q
        [ -n "$answer" ] || answer=$([ $# -gt 0 ] && echo 1 || echo q)
        case $answer in
            c | C) compile_and_run ;;
            q | Q) fail "nothing was run" ;;
            *[!0-9]*) ;;
            *) if [ "$answer" -ge 1 ] && [ "$answer" -le $# ]; then run "${!answer}"; fi ;;
        esac
    done
}

if [ -n "$binary" ]; then
    # A name without a slash would be looked for in PATH.
    case $binary in */*) ;; *) binary=./$binary ;; esac
    [ -f "$binary" ] || fail "there is no file $binary"
    runs_here "$binary" || fail "$binary does not run here as a Headwater with a demo: built for another machine, or not executable?"
    run "$binary"
fi

have_kib=$(awk '$1 == "MemTotal:" { print $2 }' "$meminfo" 2>/dev/null || true)
# Nobody knows: as if it were enough.
if [ -n "$compile" ] || [ "${have_kib:-$ENOUGH_KIB}" -ge "$ENOUGH_KIB" ]; then
    compile_and_run
fi

say "this machine has $((have_kib / 1024)) MiB of memory: to compile here needs 2 GiB, or an hour or more of swapping"
mapfile -t found < <(built)
if [ ${#found[@]} -eq 0 ]; then
    echo "No program that was built already and runs here was found: not $root/headwater, none called"
    echo "\`headwater\` in PATH, none in $target_dir/boards."
    elsewhere
fi
if [ -t 0 ] && [ -t 1 ]; then
    choose ${found[@]+"${found[@]}"}
fi
for file in ${found[@]+"${found[@]}"}; do
    echo "Built already, and runs here ($("$file" --version)):"
    echo "    scripts/demo.sh --binary $file"
done
fail "nothing was run: say which program with --binary FILE, or --compile to compile here nevertheless"
