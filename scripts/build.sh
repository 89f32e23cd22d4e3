#!/usr/bin/env bash
# Builds Headwater for a board: a stripped binary, a Debian package, a .tar.gz, what it is made of (SBOM) and checksums, in
# target/boards/BOARD. The same sources give the same bytes, wherever and whenever they are built.
#
#   scripts/build.sh rpi4               with zig (installed from PyPI): no container, no cross compiler
#   scripts/build.sh rpi4 --with cross  with `cross` and a container engine, as cross.toml says
#   scripts/build.sh rpi4 --quick       without optimising the whole program: minutes less, larger, not for shipping
#   scripts/build.sh rpi4 --twice       builds a second time in another folder, and compares every byte
#   scripts/build.sh --list             the boards there are
#
# --output DIR puts the results elsewhere.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/board.sh
. "$(dirname "$0")/board.sh"
cd "$root"

BUDGET_BYTES=$((8 * 1024 * 1024)) # of the aarch64 binary, stripped

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

name='' with=zig quick='' twice='' output=''
while [ $# -gt 0 ]; do
    case $1 in
        --with) with=${2:?--with zig or --with cross}; shift ;;
        --quick) quick=1 ;;
        --twice) twice=1 ;;
        --output) output=${2:?--output needs a directory}; shift ;;
        --list) board_names; exit ;;
        -h | --help) usage; exit ;;
        -*) fail "unknown option $1; scripts/build.sh --help" ;;
        *) [ -z "$name" ] || fail "one board at a time: $name or $1"; name=$1 ;;
    esac
    shift
done
[ -n "$name" ] || { usage >&2; exit 2; }
use_board "$name"
target=$(board target)
architecture=$(board debian)
version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
output=${output:-$target_dir/boards/$name}

# Of the newest commit; of a tree without one, of its newest change to Cargo.lock.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
export SOURCE_DATE_EPOCH

need_compiler
# shellcheck disable=SC2119  # no component is needed to build
need_rust
need_rust_target "$target"
need python3 python3
need dpkg-deb dpkg
need nm binutils

# compile SOURCES TARGET_DIR: the binary with its symbols. Where it was built stands nowhere in it.
compile() {
    local sources=$1 into=$2 home=${CARGO_HOME:-$HOME/.cargo} remap='' flags=''
    local path
    # Of several that fit the last counts.
    for path in "$home=/cargo" "$sources=/headwater" "$into=/build"; do
        remap+="--remap-path-prefix=$path "
        flags+="-ffile-prefix-map=$path "
    done
    local -a command=(build)
    local -a settings=(
        "CARGO_TARGET_DIR=$into" "RUSTFLAGS=${remap% }" "CFLAGS=${flags% }"
        # Symbols say what makes up its size; they are taken off below.
        CARGO_PROFILE_DIST_STRIP=none CARGO_INCREMENTAL=0
    )
    [ -z "$quick" ] || settings+=(CARGO_PROFILE_DIST_LTO=off CARGO_PROFILE_DIST_CODEGEN_UNITS=16)
    case $with in
        zig) command=(zigbuild --target "$(linked "$target")") ;;
        cross)
            command -v cross >/dev/null || fail "cross is not here: cargo install cross, and docker or podman; or --with zig"
            settings+=("CROSS_CONFIG=$root/cross.toml")
            command+=(--target "$target")
            ;;
        *) fail "--with zig or --with cross, not $with" ;;
    esac
    local cargo=cargo
    [ "$with" = zig ] || cargo=cross
    (cd "$sources" && env "${settings[@]}" "$cargo" "${command[@]}" --profile dist --locked --bin headwater)
}

# strip_into SYMBOLS BINARY: by the tool that comes with Rust, which knows every target.
strip_into() {
    local tool
    tool=$(rustc --print target-libdir)/../bin/rust-objcopy
    [ -x "$tool" ] || tool=$(command -v llvm-objcopy) || { apt llvm; tool=$(command -v llvm-objcopy); }
    LD_LIBRARY_PATH=$(rustc --print sysroot)/lib "$tool" --strip-all "$1" "$2"
}

# package BINARY DIR: everything that is made of a binary.
package() {
    local binary=$1 dir=$2 stem=headwater-$version-$target tree
    tree=$(mktemp -d)
    install -D -m 755 "$binary" "$tree/usr/bin/headwater"
    install -D -m 644 scripts/service/headwater.service "$tree/usr/lib/systemd/system/headwater.service"
    install -D -m 644 scripts/service/sysusers.conf "$tree/usr/lib/sysusers.d/headwater.conf"
    install -D -m 644 scripts/service/tmpfiles.conf "$tree/usr/lib/tmpfiles.d/headwater.conf"
    install -D -m 644 scripts/service/watchdog.conf "$tree/usr/lib/systemd/system.conf.d/headwater-watchdog.conf"
    install -D -m 644 LICENSE "$tree/usr/share/doc/headwater/copyright"
    install -D -m 644 README.md "$tree/usr/share/doc/headwater/README.md"
    scripts/sbom.py "$target" "$binary" >"$dir/$stem.cdx.json"
    install -D -m 644 "$dir/$stem.cdx.json" "$tree/usr/share/doc/headwater/sbom.cdx.json"
    chmod 755 "$tree"
    find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    tar -C "$tree" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --format=gnu \
        --transform "s,^\.,$stem," -cf - . | gzip -9n >"$dir/$stem.tar.gz"
    debian "$tree" "$dir"
    rm -rf "$tree"
    install -m 755 "$binary" "$dir/headwater"
    (cd "$dir" && sha256sum headwater ./*.deb ./*.tar.gz ./*.cdx.json | sed 's,\./,,' >SHA256SUMS)
}

# debian TREE DIR: the package.
debian() {
    local tree=$1 dir=$2 control=$1/DEBIAN depends=''
    mkdir -p "$control"
    case $target in *-gnu*) depends='libc6 (>= 2.31)' ;; esac
    {
        printf 'Package: headwater\nVersion: %s\nArchitecture: %s\nSection: net\nPriority: optional\n' "$version" "$architecture"
        printf 'Maintainer: Headwater maintainers <headwater@localhost>\n'
        [ -z "$depends" ] || printf 'Depends: %s\n' "$depends"
        printf 'Recommends: ca-certificates, tzdata\n'
        printf 'Installed-Size: %s\n' "$(du -sk --apparent-size "$tree/usr" | cut -f1)"
        printf 'Description: edge stream node: local events, kept through power cuts, forwarded to Fluvio\n'
        printf ' Collects MQTT, syslog, files and more, filters them by rules, keeps them in a bounded\n'
        printf ' ring on the disk and forwards them whenever there is a link.\n'
    } >"$control/control"
    install -m 755 scripts/service/preinst.sh "$control/preinst"
    install -m 755 scripts/service/postinst.sh "$control/postinst"
    install -m 755 scripts/service/prerm.sh "$control/prerm"
    install -m 755 scripts/service/postrm.sh "$control/postrm"
    (cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$control/md5sums"
    find "$control" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --build "$tree" "$dir/headwater_${version}_$architecture.deb" >/dev/null
}

# make SOURCES TARGET_DIR OUTPUT
make() {
    local symbols=$2/$target/dist/headwater
    compile "$1" "$2"
    rm -rf "$3"
    mkdir -p "$3"
    strip_into "$symbols" "$3/stripped"
    package "$3/stripped" "$3"
    rm "$3/stripped"
}

if [ "$with" = zig ]; then
    venv=$target_dir/zig
    python_with "$venv" ziglang ziglang cargo-zigbuild
    export PATH="$venv/bin:$PATH"
fi

say "$name: building for $target${quick:+, quickly}"
make "$root" "$target_dir" "$output"
say "$name: its size by crate"
scripts/sizes.py "$target_dir/$target/dist/headwater"
bytes=$(stat -c %s "$output/headwater")
printf '%-28s %10s of %s\n' "stripped" "$bytes" "$BUDGET_BYTES"
if [ -z "$quick" ] && [ "${target%%-*}" = aarch64 ] && [ "$bytes" -gt "$BUDGET_BYTES" ]; then
    fail "the binary is $((bytes - BUDGET_BYTES)) bytes over its budget"
fi

if [ -n "$twice" ]; then
    say "$name: building once more, elsewhere"
    again=$(mktemp -d)
    trap 'rm -rf "$again"' EXIT
    mkdir "$again/sources"
    tar -cf - --exclude=./target --exclude=./.git . | tar -xf - -C "$again/sources"
    make "$again/sources" "$again/target" "$again/output"
    for file in "$output"/*; do
        cmp "$file" "$again/output/$(basename "$file")" || fail "two builds of the same sources differ: $(basename "$file")"
    done
    say "$name: both builds are the same, byte for byte"
fi
say "$name: in $output"
cat "$output/SHA256SUMS"
