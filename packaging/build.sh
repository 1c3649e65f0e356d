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
# Absolute and without symbolic links, since rustc names files by both of their paths if
# these differ: the one it is given, and the one of its working directory.
target="$(realpath -m "${CARGO_TARGET_DIR:-target}")"
cargo_home="$(realpath -m "${CARGO_HOME:-$HOME/.cargo}")"
registries="$cargo_home/registry/src"
[ "$(realpath -m "$registries")" = "$registries" ] || fail "$registries is a symbolic link, or under one"
export CARGO_TARGET_DIR="$target" CARGO_HOME="$cargo_home"
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH
# Both split their flags at white space.
case "$PWD$target$cargo_home" in *[[:space:]]*) fail "a path with white space in it: $PWD, $target or $cargo_home";; esac

packaging/tools.sh cargo-auditable cargo-cyclonedx
export PATH="$PWD/target/tools/bin:$PATH"
# All sources have to be there before their directories can be named.
cargo fetch --locked --quiet

# From the outer directory to the inner one: where several fit, the last counts.
maps=("$PWD=/src")
for registry in "$registries"/*/; do maps+=("${registry%/}=/cargo"); done
sysroot="$(rustc --print sysroot)"
commit="$(rustc -vV | sed -n 's/^commit-hash: //p')"
maps+=("$target=/target" "$sysroot/lib/rustlib/src/rust=/rustc/$commit")
# Debug information is most of a program; a backtrace reads it compressed, too.
rustflags="-Clink-arg=-Wl,--compress-debug-sections=zlib"
cflags=""
for map in "${maps[@]}"; do
  rustflags+=$'\x1f'"--remap-path-prefix=$map"
  cflags+=" -ffile-prefix-map=$map"
done

# These variables replace all other flags, so that no setting of this machine counts.
CARGO_ENCODED_RUSTFLAGS="$rustflags" CFLAGS="${cflags# }" CARGO_INCREMENTAL=0 \
  CARGO="$PWD/packaging/cargo.sh" cargo-auditable auditable build --release --locked

rm -rf "$out"
mkdir -p "$out"
for program in "${programs[@]}"; do
  install -m 0755 "$target/release/$program" "$out/$program"
done
# It writes beside each Cargo.toml, whatever one asks for.
cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries
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
