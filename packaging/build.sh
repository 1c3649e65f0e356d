#!/usr/bin/env bash
# Builds what is delivered: the programs, each with the list of its dependencies inside
# (cargo-auditable) and an SBOM beside it (cargo-cyclonedx), and, under share, their man
# pages and completions for shells. Two builds of the same
# sources with the same tool chain give the same bytes, wherever they are built.
#   packaging/build.sh [OUT]     OUT is made anew; default: target/package. A directory
#                                that holds anything but an earlier build is left alone.
# Environment: CARGO_TARGET_DIR as with cargo; SOURCE_DATE_EPOCH, the date in the SBOMs,
# in seconds (default: that of the last commit).
set -euo pipefail
fail() { printf 'packaging/build.sh: %s\n' "$*" >&2; exit 1; }
[ $# -le 1 ] || { echo "usage: packaging/build.sh [OUT]" >&2; exit 2; }
# As the caller means it, before the directory changes.
out="${1:+$(realpath -m -- "$1")}"
cd -P "$(dirname "$0")/.."

programs=(signing-proxy signctl pkcs11-worker breakglass-signer signing-trail)
out="${out:-$PWD/target/package}"
if [ -e "$out" ] && [ ! -f "$out/SHA256SUMS" ]; then
  { [ -d "$out" ] && [ -z "$(ls -A -- "$out")" ]; } || fail "$out is in the way, and not of this script"
fi
date="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
packaging/tools.sh cargo-auditable cargo-cyclonedx
# shellcheck source=packaging/flags.sh
. packaging/flags.sh
export CARGO_TARGET_DIR="$target" CARGO_HOME="$cargo_home"
CARGO="$PWD/packaging/cargo.sh" cargo-auditable auditable build --release --locked

rm -rf "$out"
mkdir -p "$out"
for program in "${programs[@]}"; do
  install -m 0755 "$target/release/$program" "$out/$program"
done
# It writes beside each Cargo.toml, whatever one asks for.
SOURCE_DATE_EPOCH="$date" cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries
for program in "${programs[@]}"; do
  sboms=(./*/"${program}_bin.cdx.json")
  [ ${#sboms[@]} = 1 ] || fail "several SBOMs of $program: ${sboms[*]}"
  sbom="$(<"${sboms[0]}")"
  printf '%s\n' "${sbom//"$PWD"//src}" >"$out/$program.cdx.json"
done
rm -f ./*/*_bin.cdx.json
packaging/manual.sh "$out" "$out/share"
(cd "$out" && find . -type f ! -name SHA256SUMS -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum -- >SHA256SUMS)
cat "$out/SHA256SUMS"
