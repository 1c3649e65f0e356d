#!/usr/bin/env bash
# Builds the three images from the Dockerfile itself, all of its stages, without a registry. The base image is made here:
# Debian with a C compiler, and the Rust tool chain of this machine. Takes as long as a cold build. Part of the campaign.
#   tests/images.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'tests/images.sh: %s\n' "$*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "run it as root: mmdebstrap and buildah mount"
# What they mount is seen by nobody else, and is gone with this process, however it ends.
[ -n "${MOUNTS_OF_ITS_OWN:-}" ] || MOUNTS_OF_ITS_OWN=1 exec unshare --mount --propagation private "$PWD/tests/images.sh"
scratch="$(mktemp -d)"
trap 'rm -rf --one-file-system "$scratch"' EXIT
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/graph"\nrunroot = "%s/run"\n' "$scratch" "$scratch" >"$scratch/storage.conf"
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$scratch/policy.json"
export CONTAINERS_STORAGE_CONF="$scratch/storage.conf"

# apt's own sources and settings are those of this machine.
root="$scratch/root"
. /etc/os-release
mmdebstrap --quiet --variant=apt --include=gcc,libc6-dev,ca-certificates,cmake,make,git "$VERSION_CODENAME" "$root"
mkdir -p "$root/usr/local/rust"
# rustup's programs choose a tool chain; the tool chain itself needs nobody.
cp -rL "$(rustc --print sysroot)/." "$root/usr/local/rust/"
cp -rL /etc/ssl/certs/. "$root/etc/ssl/certs/"
mkdir -p "$root/usr/local/cargo"
settings="${CARGO_HOME:-$HOME/.cargo}/config.toml"
if [ -e "$settings" ]; then cp "$settings" "$root/usr/local/cargo/"; fi
base="$(buildah --log-level error from scratch)"
buildah copy --quiet "$base" "$root" / >/dev/null
rm -rf "$root"
buildah config --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  --env CARGO_HOME=/usr/local/cargo "$base"
buildah commit --quiet --signature-policy "$scratch/policy.json" "$base" localhost/rust:tests >/dev/null
buildah rm "$base" >/dev/null

# What a clone has, and nothing of this machine's builds.
mkdir "$scratch/source"
git archive HEAD | tar -x -C "$scratch/source"
for image in signing-proxy breakglass-signer signing-trail; do
  # The stages that all three have are built once.
  buildah bud --isolation chroot --network host --format docker --layers --quiet \
    --signature-policy "$scratch/policy.json" --build-arg RUST_IMAGE=localhost/rust:tests \
    --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" --target "$image" --tag "$image" "$scratch/source" >/dev/null
  buildah inspect --type image --format '{{.Docker.Config.Entrypoint}} {{.Docker.Config.User}}' "$image"
done
echo "three images, built from the Dockerfile"
