#!/usr/bin/env bash
# What demo.sh does on machines of every size: it compiles where there is memory for it, and elsewhere offers what is built
# already, asks on a terminal and refuses without one. A copy of the scripts runs between stand-ins for the machine: its memory,
# its model, its architecture, its compiler. Nothing is built.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need script bsdutils

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sources=$work/sources
mkdir -p "$sources" "$work/stand-ins" "$work/installed"
cp -r "$root/scripts" "$root/boards" "$root/Cargo.toml" "$sources/"

# program FILE WORDS: a Headwater that says so, and what its demo was asked.
program() {
    mkdir -p "$(dirname "$1")"
    cat >"$1" <<END
#!/bin/sh
case "\$1 \$2" in
    "--version ") echo "headwater 9.$2" ;;
    "demo --help") echo help of the demo ;;
    *) echo "ran $2: \$*" ;;
esac
END
    chmod +x "$1"
}
# stand_in NAME SCRIPT: a program of the machine.
stand_in() {
    printf '#!/bin/sh\n%s\n' "$2" >"$work/stand-ins/$1"
    chmod +x "$work/stand-ins/$1"
}
# shellcheck disable=SC2016  # the stand-in's own argument
an_arm_called_pump_07() { stand_in uname 'case $1 in -m) echo aarch64 ;; *) echo pump-07 ;; esac'; }
program "$work/compiled" compiled
stand_in cargo "echo compiled with: \$*; mkdir -p '$sources/target/release'; cp '$work/compiled' '$sources/target/release/headwater'"
stand_in rustc 'echo rustc 99.0.0'
stand_in cc 'cat >/dev/null'
stand_in curl 'exit 0'
stand_in dpkg 'echo arm64'
an_arm_called_pump_07
stand_in id 'echo tech'

# machine KIB [MODEL]: the machine's memory and what its device tree calls it.
machine() {
    printf 'MemTotal:       %s kB\nMemFree:        100 kB\n' "$1" >"$work/meminfo"
    printf '%s\0' "${2:-}" >"$work/model"
    rm -rf "$sources/target" "$sources/headwater" "$work/installed/headwater"
}
# demo [ARGUMENT...]: without a terminal; what it said is in $said, its exit code in $code. The caller's PATH is not looked at.
demo() {
    code=0
    said=$(env -u CARGO_TARGET_DIR PATH="$work/stand-ins:$work/installed:/usr/bin:/bin" CARGO_HOME="$work/cargo" \
        HEADWATER_MEMINFO="$work/meminfo" HEADWATER_MODEL="$work/model" "$sources/scripts/demo.sh" "$@" 2>&1 </dev/null) || code=$?
}
# demo_at_terminal ANSWERS [ARGUMENT...]: the same on a terminal, where this is typed.
demo_at_terminal() {
    local answers=$1
    shift
    code=0
    said=$(printf '%b' "$answers" | env -u CARGO_TARGET_DIR PATH="$work/stand-ins:$work/installed:/usr/bin:/bin" CARGO_HOME="$work/cargo" \
        HEADWATER_MEMINFO="$work/meminfo" HEADWATER_MODEL="$work/model" \
        script -qec "'$sources/scripts/demo.sh' $*" /dev/null 2>&1) || code=$?
}
# says WORDS... and says_not WORDS...: each of them, in what was said last.
says() {
    local words
    for words in "$@"; do
        grep -qF -- "$words" <<<"$said" || fail "$law: \`$words\` is not in what was said (exit code $code):
$said"
    done
}
says_not() {
    local words
    for words in "$@"; do
        ! grep -qF -- "$words" <<<"$said" || fail "$law: \`$words\` is in what was said:
$said"
    done
}
ends_with() { [ "$code" = "$1" ] || fail "$law: exit code $code, not $1:
$said"; }
laws=0
law() {
    law=$*
    laws=$((laws + 1))
    say "$law"
}

law "a machine with memory compiles without asking"
machine 3900000
demo --seconds 12
says "compiled with: build --release --locked --bin headwater" "ran compiled: demo --seconds 12"
ends_with 0

law "a machine whose memory nobody knows compiles"
machine 8000000
rm "$work/meminfo"
demo
says "ran compiled: demo"

law "a small machine without a terminal refuses and names the board to build"
machine 427000 "Raspberry Pi Zero 2 W Rev 1.0"
demo
says "416 MiB" "an hour or more" "scripts/build.sh rpi-zero2w" "scp target/boards/rpi-zero2w/headwater tech@pump-07:$sources/" \
    "--compile"
says_not "compiled with" "ran "
ends_with 1

law "a board that would swap is a small machine"
machine 1900000 "Raspberry Pi 4 Model B Rev 1.5"
demo
says "1855 MiB" "scripts/build.sh rpi4"
says_not "compiled with" "ran "
ends_with 1

law "a board is told by its model and architecture"
for pair in "arm64:Raspberry Pi 3 Model B Plus Rev 1.3:rpi3" "arm64:Raspberry Pi 400 Rev 1.0:rpi4" "arm64:Some Board:generic-aarch64" \
    "arm64::generic-aarch64" "armhf:Raspberry Pi 3 Model B Rev 1.2:generic-armv7"; do
    IFS=: read -r architecture model board <<<"$pair"
    machine 427000 "$model"
    stand_in dpkg "echo $architecture"
    demo
    says "scripts/build.sh $board
    scp target/boards/$board/headwater"
done

law "a machine that no board is gets the plain build"
machine 427000
stand_in dpkg 'echo riscv64'
demo
says "cargo build --release --locked" "scp target/release/headwater"

law "an ARMv6 is told that there is nothing for it"
stand_in dpkg 'echo armhf'
stand_in uname 'echo armv6l'
demo
says "not built for ARMv6"
says_not "scripts/build.sh"
ends_with 1
stand_in dpkg 'echo arm64'
an_arm_called_pump_07

law "--compile compiles however small the machine is"
machine 427000
demo --compile --seconds 12
says "ran compiled: demo --seconds 12"
says_not "an hour"
ends_with 0

law "--binary runs that program on any machine, and what follows -- goes to the demo"
for memory in 427000 8000000; do
    machine $memory
    program "$work/elsewhere/headwater" elsewhere
    demo --binary "$work/elsewhere/headwater" --seconds 12 -- --help --compile
    says "ran elsewhere: demo --seconds 12 --help --compile"
    says_not "compiled with"
    ends_with 0
done

law "--binary is refused where it does not run, is not there, or stands beside --compile"
printf 'not a program' >"$work/elsewhere/other"
chmod +x "$work/elsewhere/other"
demo --binary "$work/elsewhere/other"
says "does not run here"
ends_with 1
demo --binary "$work/elsewhere/none"
says "there is no file"
ends_with 1
demo --binary "$work/elsewhere/headwater" --compile
says "not both"
ends_with 1

law "what is built already is named, and what does not run here is not"
machine 427000
program "$sources/headwater" beside
program "$work/installed/headwater" installed
program "$sources/target/boards/rpi3/headwater" board
mkdir -p "$sources/target/boards/generic-armv7"
cp "$work/elsewhere/other" "$sources/target/boards/generic-armv7/headwater"
demo
says "(headwater 9.beside)" "scripts/demo.sh --binary $work/installed/headwater" "--binary $sources/target/boards/rpi3/headwater"
says_not "generic-armv7" "ran " "scp "
ends_with 1

law "on a terminal it asks, and takes the first for nothing"
demo_at_terminal '\n' --seconds 12
says "1  $sources/headwater" "2  $work/installed/headwater" "3  $sources/target/boards/rpi3/headwater" "ran beside: demo --seconds 12"
ends_with 0

law "on a terminal any of them can be chosen, and what is no answer is asked again"
demo_at_terminal '7\nx\n3\n'
says "ran board: demo"
says_not "ran beside" "ran installed"
demo_at_terminal 'c\n'
says "ran compiled: demo"
demo_at_terminal 'q\n'
says_not "ran "
ends_with 1

law "on a terminal with nothing built, nothing is compiled unless asked for"
machine 427000 "Raspberry Pi Zero 2 W Rev 1.0"
demo_at_terminal '\n'
says "scripts/build.sh rpi-zero2w"
says_not "compiled with"
ends_with 1
demo_at_terminal 'c\n'
says "ran compiled: demo"

law "help builds nothing and shows how it is called"
demo --help
says "scripts/demo.sh --binary ./headwater" "scripts/demo.sh --compile"
says_not "compiled with" "set -euo"
ends_with 0

say "demo.sh: $laws laws hold"
