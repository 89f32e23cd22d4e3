# shellcheck shell=bash
# What the scripts share: installing what is missing, each thing named as it is done. Sourced, not run.

say() { printf '== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export root
# rustup's default place, in case this shell has not read the profile it wrote.
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
target_dir=${CARGO_TARGET_DIR:-$root/target}
export target_dir

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "installing needs root: run this as root, or install sudo, or install by hand: $*"
    fi
}

apt_updated=
# apt PACKAGE...: installs Debian packages.
apt() {
    command -v apt-get >/dev/null || fail "no apt-get here; install by hand: $*"
    say "installing $* (apt-get)"
    if [ -z "$apt_updated" ]; then
        as_root apt-get update -qq || say "apt-get update failed; trying with what is known"
        apt_updated=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install $*"
}

# need COMMAND PACKAGE...: installs the packages if the command is not there.
need() {
    local command=$1
    shift
    command -v "$command" >/dev/null || PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null || apt "$@"
}

# older_ext4: options of mkfs.ext4, one a line, without what this machine's may know and an older Debian's fsck does not.
older_ext4() { ! grep -qs orphan_file /etc/mke2fs.conf || printf '%s\n' -O ^orphan_file; }

need_compiler() {
    need cc gcc libc6-dev
    # cc alone may be there without the C library's headers.
    if ! echo '#include <stdlib.h>' | cc -E - >/dev/null 2>&1; then
        apt libc6-dev
    fi
}

# The oldest Rust that builds this, from Cargo.toml.
rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml"; }

rust_is_new_enough() {
    local have
    have=$(cd "$root" && rustc --version 2>/dev/null | cut -d' ' -f2) || return 1
    [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$(rust_wanted)" "${have%%-*}" | sort -V | head -n 1)" = "$(rust_wanted)" ]
}

# need_rust [COMPONENT...]: a Rust new enough, with these components.
need_rust() {
    if ! command -v cargo >/dev/null || ! rust_is_new_enough; then
        if command -v rustup >/dev/null; then
            say "installing the stable Rust tool chain (rustup)"
            rustup toolchain install stable --profile minimal --no-self-update
            export RUSTUP_TOOLCHAIN=stable
        else
            need curl curl ca-certificates
            say "installing Rust (rustup, into ${CARGO_HOME:-$HOME/.cargo})"
            curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
                sh -s -- -y --quiet --profile minimal --no-modify-path || fail "rustup could not install Rust"
            # A Rust of the distribution, too old, must not stand before it.
            export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        fi
        rust_is_new_enough || fail "Rust $(rust_wanted) or newer is needed; $(rustc --version 2>&1) is what there is"
    fi
    local component
    for component in "$@"; do
        if ! cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1; then
            command -v rustup >/dev/null || fail "cargo $component is missing and there is no rustup to install it"
            say "installing $component (rustup)"
            rustup component add "$component"
        fi
    done
}

# need_rust_target TRIPLE: the standard library for that target.
need_rust_target() {
    local dir
    dir=$(rustc --print target-libdir --target "$1" 2>/dev/null || true)
    if [ -n "$dir" ] && [ -n "$(find "$dir" -name 'libcore-*' -print -quit 2>/dev/null)" ]; then
        return
    fi
    command -v rustup >/dev/null || fail "the Rust standard library for $1 is missing and there is no rustup to install it"
    say "installing the Rust standard library for $1 (rustup)"
    rustup target add "$1"
}

# python_with DIR MODULE PACKAGE...: a Python environment of its own in DIR, with these packages, of which MODULE is one.
python_with() {
    local dir=$1 module=$2
    shift 2
    need python3 python3
    if "$dir/bin/python" -c "import $module" >/dev/null 2>&1; then
        return
    fi
    mkdir -p "$(dirname "$dir")"
    rm -rf "$dir"
    if ! python3 -m venv "$dir" >/dev/null 2>&1; then
        apt python3-venv
        rm -rf "$dir"
        python3 -m venv "$dir"
    fi
    say "installing $* (pip, into $dir)"
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check "$@" || fail "pip could not install $*"
}
