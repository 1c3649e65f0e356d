#!/usr/bin/env bash
# Builds the three images from the Dockerfile itself, all of its stages, without a registry. The base image is made here:
# Debian with a C compiler, and the Rust tool chain of this machine. Takes as long as a cold build, and about 15 GB below
# TMPDIR (30 GB where overlay cannot be mounted) until it ends. Part of the campaign.
#   tests/images.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { printf 'tests/images.sh: %s\n' "$*" >&2; exit 1; }
took() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
[ "$(id -u)" = 0 ] || fail "run it as root: mmdebstrap and buildah mount"
# What they mount is seen by nobody else, and is gone with this process, however it ends.
[ -n "${MOUNTS_OF_ITS_OWN:-}" ] || MOUNTS_OF_ITS_OWN=1 exec unshare --mount --propagation private "$PWD/tests/images.sh"
scratch="$(mktemp -d)"
ended() {
  umount --recursive --lazy "$scratch/graph/overlay" 2>/dev/null || true
  rm -rf --one-file-system "$scratch"
}
trap ended EXIT
trap 'exit 1' HUP INT TERM

# With vfs each step of a build is a whole copy of the step before it. In a container overlay may be refused.
mkdir "$scratch"/{below,above,work,both}
driver=vfs
if mount -t overlay -o "lowerdir=$scratch/below,upperdir=$scratch/above,workdir=$scratch/work" overlay "$scratch/both" 2>/dev/null; then
  umount "$scratch/both"
  driver=overlay
fi
printf '[storage]\ndriver = "%s"\ngraphroot = "%s/graph"\nrunroot = "%s/run"\n' "$driver" "$scratch" "$scratch" >"$scratch/storage.conf"
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$scratch/policy.json"
export CONTAINERS_STORAGE_CONF="$scratch/storage.conf"
# Its copies of layers, too.
export TMPDIR="$scratch"

# apt's own sources and settings are those of this machine.
root="$scratch/root"
. /etc/os-release
# No more than the image rust has, which has no cmake. Nobody needs what a failure of power would leave.
mmdebstrap --quiet --variant=apt --include=gcc,libc6-dev,make,ca-certificates --dpkgopt=force-unsafe-io "$VERSION_CODENAME" "$root"
# rustup's programs choose a tool chain; the tool chain itself needs nobody. Its manual is half of it.
mkdir -p "$root/usr/local/rust" "$root/usr/local/cargo"
for part in bin lib libexec; do cp -rL "$(rustc --print sysroot)/$part" "$root/usr/local/rust/"; done
cp -L --remove-destination /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
settings="${CARGO_HOME:-$HOME/.cargo}/config.toml"
if [ -e "$settings" ]; then cp "$settings" "$root/usr/local/cargo/"; fi
base="$(buildah --log-level error from scratch)"
buildah copy --quiet "$base" "$root" / >/dev/null
rm -rf "$root"
buildah config --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  --env CARGO_HOME=/usr/local/cargo "$base"
buildah commit --quiet --rm --signature-policy "$scratch/policy.json" "$base" localhost/rust:tests >/dev/null
took "the base: $PRETTY_NAME, $(rustc --version) ($driver)"

# What a clone has, and nothing of this machine's builds.
mkdir "$scratch/source"
git archive HEAD | tar -x -C "$scratch/source"
# Asked for once: with another date the stages that all three images have would be built again.
date="$(git log -1 --format=%ct)"
for image in signing-proxy breakglass-signer signing-trail; do
  # The stages that all three have are built once.
  buildah bud --isolation chroot --network host --format docker --layers --signature-policy "$scratch/policy.json" \
    --build-arg RUST_IMAGE=localhost/rust:tests --build-arg SOURCE_DATE_EPOCH="$date" \
    --target "$image" --tag "$image" "$scratch/source" >"$scratch/log" 2>&1 ||
    { tail -n 60 "$scratch/log" >&2; fail "buildah cannot build $image; its last lines are above"; }
  container="$(buildah --log-level error from --pull-never --signature-policy "$scratch/policy.json" "localhost/$image")"
  inside="$(buildah mount "$container")"
  for program in "$inside"/usr/bin/*; do
    program="${program##*/}"
    said="$(buildah run --isolation chroot "$container" -- "/usr/bin/$program" --version)"
    case "$said" in "$program "*) ;; *) fail "$image: $program --version says: $said" ;; esac
    # cargo-auditable's list is in the program, and cargo-cyclonedx's beside it.
    readelf --section-headers --wide "$inside/usr/bin/$program" | grep '\.dep-v0' >/dev/null || fail "$image: $program has no list of its dependencies"
    grep -q '"bomFormat": "CycloneDX"' "$inside/usr/share/sbom/$program.cdx.json" || fail "$image: no SBOM of $program"
  done
  user="$(buildah inspect --type image --format '{{.Docker.Config.User}}' "localhost/$image")"
  took "$image: $(du -sm "$inside" | cut -f1) MB, $(find "$inside" -type f | wc -l) files, user $user"
  buildah rm "$container" >/dev/null
done
echo "three images, built from the Dockerfile"
