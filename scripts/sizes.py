#!/usr/bin/env python3
"""What makes up a binary's size: its symbols, summed by the crate that they come from.

    sizes.py BINARY-WITH-SYMBOLS

Code that is generic counts for the crate whose source it is, not for the one that uses it; what has no name in Rust (zstd,
ring's assembler, the C library) stands together. What is left is data and tables without symbols.
"""

import collections
import os
import re
import subprocess
import sys

# `_ZN3std2io5stdio6_print17h...E` and `_RNvCs..._7mycrate3foo`.
LEGACY = re.compile(r"^_ZN(?:\d+_\$LT\$)?(\d+)")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def crate(symbol):
    if symbol.startswith("_R"):
        found = re.search(r"C(?:s[0-9A-Za-z]*_)?(\d+)_?([A-Za-z_][A-Za-z0-9_]*)", symbol)
        return found[2][: int(found[1])] if found else "other Rust"
    if not symbol.startswith("_ZN"):
        return "C and assembler"
    length, rest = re.match(r"_ZN(\d+)(.*)", symbol).groups()
    first = rest[: int(length)]
    if not first.startswith("_$LT$"):
        return first
    # `<crate::Type as other::Trait>::method`: the type's crate.
    first = first.removeprefix("_$LT$")
    first = re.sub(r"^(\$[A-Z0-9a-z]+\$|\.\.|dyn|mut|u20|_)+", "", first)
    found = NAME.match(first)
    # A single letter is a parameter: code for every type that is such and such.
    return found[0] if found and len(found[0]) > 1 else "generic over all types"


def main():
    binary = sys.argv[1]
    words = ["nm", "--print-size", "--defined-only", binary]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    seen, sums = set(), collections.Counter()
    for line in lines:
        fields = line.split(maxsplit=3)
        # Symbols at one place are one.
        if len(fields) < 4 or fields[2] in "bB" or fields[0] in seen:
            continue
        seen.add(fields[0])
        sums[crate(fields[3])] += int(fields[1], 16)
    whole = os.path.getsize(binary)
    rows = [row for row in sums.most_common() if row[1] >= 8192]
    rest = sum(sums.values()) - sum(size for _, size in rows)
    for name, size in rows:
        print(f"{name:<28} {size:>10}")
    print(f"{'all others':<28} {rest:>10}")
    print(f"{'with symbols, the file':<28} {whole:>10}")


if __name__ == "__main__":
    main()
