#!/usr/bin/env python3
"""What a binary is made of, as CycloneDX 1.5 (JSON), from `cargo metadata`: the crates that its target needs, no others.

    sbom.py TARGET BINARY > headwater.cdx.json

Nothing in it depends on when or where it was made, so the same sources give the same bytes. Written here because the tools
that do it for cargo are larger than the file that they write, and compile for minutes.
"""

import hashlib
import json
import subprocess
import sys


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package):
    made = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if package.get("license"):
        made["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if package.get("description"):
        made["description"] = " ".join(package["description"].split())
    if package.get("repository"):
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def needed(metadata):
    """The graph from the root on: what is built in, not what only builds or tests."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found, todo = {}, [metadata["resolve"]["root"]]
    while todo:
        at = todo.pop()
        if at in found:
            continue
        normal = [
            dep["pkg"] for dep in nodes[at]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])
        ]
        found[at] = sorted(normal)
        todo += normal
    return found


def main():
    target, binary = sys.argv[1:]
    words = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    graph = needed(metadata)
    root = metadata["resolve"]["root"]
    with open(binary, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    top = component(packages[root]) | {"type": "application", "hashes": [{"alg": "SHA-256", "content": digest}]}
    parts = sorted((packages[at] for at in graph if at != root), key=purl)
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": top, "properties": [{"name": "headwater:target", "value": target}]},
        "components": [component(package) for package in parts],
        "dependencies": sorted(
            ({"ref": purl(packages[at]), "dependsOn": sorted(purl(packages[dep]) for dep in deps)} for at, deps in graph.items()),
            key=lambda entry: entry["ref"],
        ),
    }
    json.dump(bom, sys.stdout, indent=1, sort_keys=True)
    print()


if __name__ == "__main__":
    main()
