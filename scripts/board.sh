# shellcheck shell=bash
# Reads boards/NAME.toml: what each board is, for the scripts. Sourced after lib.sh, not run.
#
#   use_board rpi4              takes that board, or fails and names those there are
#   board target                one value; `board image.table` and `board budget.memory_max` are those of a section
#   board image.bases           a list: its elements, one a line
#   fitting_board arm64 MODEL   the board that a machine is
#
# The files keep to what awk can read: flat sections, one value a line, each a text or a list of texts.

# shellcheck disable=SC2154  # root is of lib.sh
boards_dir=$root/boards
board_file=

# board_names: the boards there are, one a line.
board_names() {
    local file
    for file in "$boards_dir"/*.toml; do
        basename "$file" .toml
    done
}

# use_board NAME: the board that `board` speaks of from here on.
use_board() {
    case $1 in
        '' | */* | .*) fail "a board's name is that of a file in boards/ without .toml, not \`$1\`" ;;
    esac
    board_file=$boards_dir/$1.toml
    [ -f "$board_file" ] || fail "no board is called \`$1\`; there are: $(board_names | paste -sd ' ')"
}

# board [SECTION.]KEY: its value; a key that the file does not have ends the script.
board() {
    [ -n "$board_file" ] || fail "no board was chosen before \`board $1\`"
    awk -v wanted="$1" '
        function texts(rest) {
            while (match(rest, /"([^"\\]|\\.)*"/)) {
                text = substr(rest, RSTART + 1, RLENGTH - 2)
                gsub(/\\"/, "\"", text)
                gsub(/\\\\/, "\\", text)
                print text
                rest = substr(rest, RSTART + RLENGTH)
            }
        }
        /^\[[a-z_]+\]/ { section = substr($0, 2, index($0, "]") - 2) "."; next }
        /^[a-z0-9_]+ *=/ {
            key = section $1
            sub(/=$/, "", key)
            if (key == wanted) { found = 1; texts(substr($0, index($0, "=") + 1)) }
        }
        END { exit !found }
    ' "$board_file" || fail "$board_file has no \`$1\`"
}

# fitting_board ARCHITECTURE MODEL: the board that a machine is, by Debian's name of its architecture and the model that its device
# tree names; else the one for any machine of that architecture; nothing where there is none.
fitting_board() {
    local name model any=''
    for name in $(board_names); do
        use_board "$name"
        [ "$(board debian)" = "$1" ] || continue
        [ -n "$(board models)" ] || any=$name
        while read -r model; do
            case $2 in "$model"*) echo "$name"; return ;; esac
        done < <(board models)
    done
    echo "$any"
}

# need_emulators: what `emulator` names, and the C library of the target that is not static.
need_emulators() {
    need qemu-aarch64-static qemu-user-static
    [ -e /usr/arm-linux-gnueabihf/lib/libc.so.6 ] || apt libc6-armhf-cross
}

# emulator TARGET: what runs its programs here.
emulator() {
    case $1 in
        aarch64-*) echo qemu-aarch64-static ;;
        # Linked with the C library of the target's Debian.
        armv7-*-gnueabihf) echo "qemu-arm-static -L /usr/arm-linux-gnueabihf" ;;
        *) fail "no emulator is known for $1" ;;
    esac
}

# linked TARGET: as zig names it, with the C library that it is linked against: what a board's system has at least.
linked() {
    case $1 in
        *-gnueabihf | *-gnu) echo "$1.2.31" ;;
        *) echo "$1" ;;
    esac
}

# bytes 4GiB: a size in bytes.
bytes() {
    local number=${1%%[KMGTB]*}
    case $number in '' | *[!0-9]*) fail "\`$1\` is no size; sizes look like 512MiB" ;; esac
    case ${1#"$number"} in
        B) echo "$number" ;;
        KiB) echo $((number << 10)) ;;
        MiB) echo $((number << 20)) ;;
        GiB) echo $((number << 30)) ;;
        *) fail "\`$1\` is no size; sizes look like 512MiB" ;;
    esac
}
