#!/usr/bin/env python3
"""Checks what packaging/build.sh made: that both lists of dependencies of each program,
the SBOM beside it and the one inside it, are true, and that each program has its man pages
and, where it has verbs, its completions.

    packaging/check.py [BUILT]     default: target/package
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zlib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# Each program, and what its SBOM has to name.
PROGRAMS = {"signing-proxy": ["aws-sdk-kms", "signing-core"], "signctl": ["hyper"],
            "pkcs11-worker": ["cryptoki", "signing-core"],
            "breakglass-signer": ["ed25519-dalek", "signing-core"],
            "signing-trail": ["tokio-postgres", "audit"]}
# The package of a program, where it has another name.
PACKAGES = {"signing-trail": "trail"}
# The one without verbs: nothing to complete.
WITHOUT_VERBS = ["pkcs11-worker"]
# What must never be linked into a program: the emergency signer has no HTTP stack, no SDK,
# and only the trail and signctl speak to a database and to a bucket.
UNWANTED = {"breakglass-signer": ["hyper", "h2", "rustls", "aws-sdk-kms", "signing-proxy", "tokio-postgres", "aws-sdk-s3"],
            "signing-proxy": ["tokio-postgres", "aws-sdk-s3"], "signing-trail": ["aws-sdk-kms", "signing-proxy"]}


def main():
    built = Path(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY / "target/package")
    for program, wanted in PROGRAMS.items():
        package = PACKAGES.get(program, program)
        linked, may_be = linked_into(package), locked_for(package)
        banned = [name for name, _ in linked if name in UNWANTED.get(program, [])]
        assert not banned, f"{program} links {banned}"
        lists = {
            f"inside {program}": auditable(built / program),
            f"in the SBOM of {program}": sbom(built / f"{program}.cdx.json", program),
        }
        for place, found in lists.items():
            assert linked <= found, f"missing {place}: {sorted(linked - found)}"
            assert found <= may_be, f"not locked, but {place}: {sorted(found - may_be)}"
            for name in wanted:
                assert any(name == other for other, _ in found), f"no {name} {place}"
            print(f"{place}: {len(found)} packages, among them all {len(linked)} linked ones")
        no_path_of_this_machine(program, whole(built / program))
        no_path_of_this_machine(f"{program}.cdx.json", (built / f"{program}.cdx.json").read_bytes())
        print(f"{program}: {manual(built / 'share', program)} man pages")
    is_whole(built)


def manual(share, program):
    """The man page of the program and of each of its verbs, and completions; how many pages."""
    pages, left = set(), [program]
    while left:
        page = left.pop()
        pages.add(page)
        path = share / f"man/man1/{page}.1"
        text = path.read_text()
        for begin in ["NAME", "SYNOPSIS", "DESCRIPTION"]:
            assert f".SH {begin}\n" in text, f"{path} has no {begin}"
        # Each verb that a page names has a page.
        plain = text.replace("\\-", "-")
        left += re.findall(rf"^({re.escape(page)}-[a-z0-9-]+)\(1\)$", plain, re.MULTILINE)
        if shutil.which("groff"):
            formatted = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", path], check=True, capture_output=True, text=True)
            assert not formatted.stderr, formatted.stderr
    if program not in WITHOUT_VERBS:
        assert len(pages) > 3, f"{program} has few pages: {pages}"
        for place in [f"bash-completion/completions/{program}", f"zsh/site-functions/_{program}",
                      f"fish/vendor_completions.d/{program}.fish"]:
            assert (share / place).stat().st_size > 500, f"{place} is short"
    return len(pages)


def is_whole(built):
    """The list of files has every file, as it is."""
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=built, check=True)
    listed = {line.split(maxsplit=1)[1] for line in (built / "SHA256SUMS").read_text().splitlines()}
    there = {str(path.relative_to(built)) for path in built.rglob("*") if path.is_file()}
    assert listed == there - {"SHA256SUMS"}, f"SHA256SUMS: {sorted(listed ^ there)}"


def linked_into(package):
    """What goes into the package's program, or builds it, on this machine."""
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "--package", package, "--edges", "normal,build"]
        + ["--prefix", "none", "--no-dedupe", "--format", "{p}"],
        cwd=REPOSITORY, check=True, capture_output=True, text=True,
    ).stdout
    words = (line.split() for line in tree.splitlines() if line)
    return {(name, version.removeprefix("v")) for name, version, *_ in words}


def locked_for(root):
    """What Cargo.lock has under the package `root`, optional packages included. Both tools list
    some of those: they join the features that anything in the workspace asks for."""
    with open(REPOSITORY / "Cargo.lock", "rb") as lock:
        packages = tomllib.load(lock)["package"]
    found, left = set(), [(root, None)]
    while left:
        name, version = left.pop()
        for package in packages:
            key = (package["name"], package["version"])
            if package["name"] == name and version in (None, key[1]) and key not in found:
                found.add(key)
                # "name", or "name version" where there are several.
                for dependency in package.get("dependencies", []):
                    words = dependency.split()
                    left.append((words[0], words[1] if len(words) > 1 else None))
    return found


def auditable(program):
    """The packages in the section that cargo-auditable adds: JSON, compressed."""
    with tempfile.TemporaryDirectory() as scratch:
        section, copy = Path(scratch, "section"), Path(scratch, "copy")
        dump = ["objcopy", "--dump-section", f".dep-v0={section}", program, copy]
        subprocess.run(dump, check=True, capture_output=True)
        assert section.exists() and section.stat().st_size, f"{program} has no section .dep-v0"
        data = json.loads(zlib.decompress(section.read_bytes()))
    return {(package["name"], package["version"]) for package in data["packages"]}


def sbom(path, program):
    data = json.loads(path.read_text())
    assert data["bomFormat"] == "CycloneDX", path
    assert data["metadata"]["component"]["name"] == program, path
    # The program itself is named as such there, and as its package everywhere else.
    itself = (PACKAGES.get(program, program), data["metadata"]["component"]["version"])
    return {itself} | {(component["name"], component["version"]) for component in data["components"]}


def whole(program):
    """The program with its debug information, which has most paths, not compressed."""
    with tempfile.NamedTemporaryFile() as copy:
        subprocess.run(["objcopy", "--decompress-debug-sections", program, copy.name], check=True)
        return Path(copy.name).read_bytes()


def no_path_of_this_machine(name, data):
    home = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
    target = os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")
    for place in (home, target, REPOSITORY):
        place = os.path.abspath(place)
        # In the image's build stage the sources really lie where others only seem to.
        if place not in ("/src", "/src/target"):
            assert f"{place}/".encode() not in data, f"{name} names {place}"


if __name__ == "__main__":
    main()
