#!/usr/bin/env bash
# What cargo-auditable runs as cargo, for packaging/build.sh: names the wrapper of rustc
# without its directory. Cargo hashes that name into the symbols of our crates, so a path
# there would make the bytes depend on where they are built.
set -euo pipefail
RUSTC_WORKSPACE_WRAPPER=cargo-auditable exec cargo "$@"
