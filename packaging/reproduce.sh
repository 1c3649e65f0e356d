#!/usr/bin/env bash
# Builds what is delivered twice, from two directories into two target directories with
# two cargo homes, and compares the bytes. Takes twice as long as packaging/build.sh.
#   packaging/reproduce.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'packaging/reproduce.sh: %s\n' "$*" >&2; exit 1; }
[ $# = 0 ] || { echo "usage: packaging/reproduce.sh" >&2; exit 2; }
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
packaging/tools.sh cargo-auditable cargo-cyclonedx
cargo fetch --locked --quiet
home="$(realpath "${CARGO_HOME:-$HOME/.cargo}")"
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH

# Of different lengths, so that a path which is left moves what follows it.
for place in one another/longer/place; do
  here="$scratch/$place"
  mkdir -p "$here/source/target/tools" "$here/home"
  tar --exclude=./target --exclude=./.git -c . | tar -x -C "$here/source"
  cp -a target/tools/bin target/tools/.crates.toml "$here/source/target/tools/"
  # The same downloads in another place; cargo unpacks them there.
  mkdir "$here/home/registry"
  cp -a "$home/registry/cache" "$home/registry/index" "$here/home/registry/"
  if [ -e "$home/config.toml" ]; then cp "$home/config.toml" "$here/home/"; fi
  CARGO_HOME="$here/home" CARGO_TARGET_DIR="$here/target" \
    "$here/source/packaging/build.sh" "$here/out"
  # Gigabytes that nobody needs any more.
  rm -rf "${here:?}/target" "${here:?}/home"
done
cmp "$scratch/one/out/SHA256SUMS" "$scratch/another/longer/place/out/SHA256SUMS" ||
  fail "the two builds differ"
echo "two builds, the same bytes"
