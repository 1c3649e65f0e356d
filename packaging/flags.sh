# To be sourced, in the root of the sources: the flags of what is delivered. They replace all other
# flags, so that no setting of a machine counts, and they name no path of it. Cargo builds a crate
# again if its flags differ: whoever builds both tests and packages sources this first (.ci/run).
# Sets: target and cargo_home, absolute and without symbolic links, since rustc names files by both
# of their paths if these differ: the one it is given, and the one of its working directory.
target="$(realpath -m "${CARGO_TARGET_DIR:-target}")"
cargo_home="$(realpath -m "${CARGO_HOME:-$HOME/.cargo}")"
registries="$cargo_home/registry/src"
if [ "$(realpath -m "$registries")" != "$registries" ]; then
  echo "packaging/flags.sh: $registries is a symbolic link, or under one" >&2
  exit 1
fi
# Both split their flags at white space.
case "$PWD$target$cargo_home" in
  *[[:space:]]*) echo "packaging/flags.sh: a path with white space in it: $PWD, $target or $cargo_home" >&2; exit 1 ;;
esac
# All sources have to be there before their directories can be named.
cargo fetch --locked --quiet

# From the outer directory to the inner one: where several fit, the last counts.
maps=("$PWD=/src")
for registry in "$registries"/*/; do maps+=("${registry%/}=/cargo"); done
sysroot="$(rustc --print sysroot)"
commit="$(rustc -vV | sed -n 's/^commit-hash: //p')"
maps+=("$target=/target" "$sysroot/lib/rustlib/src/rust=/rustc/$commit")
# Debug information is most of a program; a backtrace reads it compressed, too.
CARGO_ENCODED_RUSTFLAGS="-Clink-arg=-Wl,--compress-debug-sections=zlib"
CFLAGS=""
for map in "${maps[@]}"; do
  CARGO_ENCODED_RUSTFLAGS+=$'\x1f'"--remap-path-prefix=$map"
  CFLAGS+=" -ffile-prefix-map=$map"
done
CFLAGS="${CFLAGS# }"
CARGO_INCREMENTAL=0
# What C code takes for the date of its build: mimalloc has it inside. Always the same, since all C code
# is compiled again if it differs.
SOURCE_DATE_EPOCH=0
# cargo-auditable is named without its directory (cargo.sh). C code is compiled again if PATH differs.
case ":$PATH:" in
  *":$PWD/target/tools/bin:"*) ;;
  *) PATH="$PWD/target/tools/bin:$PATH" ;;
esac
export CARGO_ENCODED_RUSTFLAGS CFLAGS CARGO_INCREMENTAL SOURCE_DATE_EPOCH PATH
