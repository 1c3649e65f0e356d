#!/usr/bin/env bash
# All tests, with what they need installed first when it is missing.
#   tests/run.sh             the fast tier
#   tests/run.sh --campaign  the fast tier with far more random cases, the journal's faults at
#                            every call instead of a sample, a disk with real errors, each
#                            parser fuzzed for an hour (FUZZ_SECONDS), and two builds of what
#                            is delivered, which have to be the same bytes; and the images,
#                            built from the Dockerfile itself
set -euo pipefail
cd "$(dirname "$0")/.."

campaign=no
case "${1:-}" in
  "") ;;
  --campaign) campaign=yes ;;
  *) echo "usage: tests/run.sh [--campaign]" >&2; exit 2 ;;
esac

step() { printf '\n== %s\n' "$*"; }
fail() { printf 'tests/run.sh: %s\n' "$*" >&2; exit 1; }

step "programs"
# program:Debian package
wanted="curl:curl openssl:openssl prometheus:prometheus promtool:prometheus setpriv:util-linux
  python3:python3 cc:gcc readelf:binutils strace:strace ssh-keygen:openssh-client mkfs.ext4:e2fsprogs
  mount:mount softhsm2-util:softhsm2 swtpm:swtpm tpm2-abrmd:tpm2-abrmd dbus-daemon:dbus-daemon
  tpm2_getcap:tpm2-tools tpm2_ptool:libtpm2-pkcs11-tools pkcsslotd:opencryptoki pkcs11-tool:opensc
  nsenter:util-linux ip:iproute2 nft:nftables faketime:faketime prlimit:util-linux unshare:util-linux
  systemd-analyze:systemd systemd-creds:systemd psql:postgresql-client pgrep:procps groff:groff-base buildah:buildah
  podman:podman runc:runc conmon:conmon catatonit:catatonit
  node:nodejs npm:npm go:golang-go javac:default-jdk-headless tmux:tmux chromium:chromium"
[ "$campaign" = no ] || wanted="$wanted mmdebstrap:mmdebstrap c++:g++ nbdkit:nbdkit nbdfuse:libnbd-bin fusermount3:fuse3"
missing=""
for pair in $wanted; do
  command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
# Libraries of tokens, and of the way to a TPM.
for pair in pkcs11/libtpm2_pkcs11.so:libtpm2-pkcs11-1 libtss2-tcti-swtpm.so.0:libtss2-tcti-swtpm0 \
  libtss2-tcti-tabrmd.so.0:libtss2-tcti-tabrmd0; do
  compgen -G "/usr/lib/*/${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
# A database for the trail. Its programs are in no PATH.
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || missing="$missing postgresql"
# For the examples in config/clients: the fetch that takes a certificate.
[ -e /usr/share/nodejs/undici/package.json ] || missing="$missing node-undici"
# FIDO keys without hardware.
[ -e /usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so ] || missing="$missing openssh-tests"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null || fail "missing:$missing; install these packages and run again"
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  # Its daemons must not start: only the tools are used, and they bring their own ports.
  $sudo mkdir -p /usr/sbin
  [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' | $sudo tee /usr/sbin/policy-rc.d >/dev/null
    $sudo chmod +x /usr/sbin/policy-rc.d; trap "$sudo rm -f /usr/sbin/policy-rc.d" EXIT; }
  $sudo apt-get update -qq
  # shellcheck disable=SC2086
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
for pair in $wanted; do
  command -v "${pair%%:*}" >/dev/null || fail "the program ${pair%%:*} (package ${pair##*:}) is still missing"
  printf '  %-10s %s\n' "${pair%%:*}" "$(command -v "${pair%%:*}")"
done
# Programs of others, each set in a place of its own: venv NAME REQUIREMENTS.
venv() {
  local place="$PWD/target/tools/$1"
  # A venv cannot be moved: the place is part of what was installed.
  local installed="$place $(sha256sum <"$2")"
  if [ ! -x "$place/bin/python" ] || [ "$(cat "$place/installed" 2>/dev/null)" != "$installed" ]; then
    rm -rf "$place"
    python3 -m venv "$place"
    "$place/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: \
      --require-hashes --requirement "$2"
    echo "$installed" >"$place/installed"
  fi
  printf '  %-10s %s\n' "$1" "$place"
}
# An emulator of AWS that others wrote, as a second KMS beside our own.
venv ministack tests/requirements.txt
# A second one of S3, for the trail's archive.
venv moto tests/requirements-moto.txt
# It holds the API's description against a running proxy.
venv schemathesis tests/requirements-openapi.txt
# It reads the spans that the proxy sends.
venv opentelemetry-proto tests/requirements-traces.txt
# KMS's own client for Node.
node_modules=target/tools/node
if ! cmp -s tests/node/package-lock.json "$node_modules/package-lock.json"; then
  rm -rf "$node_modules"
  mkdir -p "$node_modules"
  cp tests/node/package.json "$node_modules"
  # The lock file comes last: what stopped half-way is done again.
  cp tests/node/package-lock.json "$node_modules/npm-shrinkwrap.json"
  (cd "$node_modules" && npm ci --ignore-scripts --no-audit --no-fund --silent)
  cp tests/node/package-lock.json "$node_modules"
fi
printf '  %-10s %s\n' node "$PWD/$node_modules"
[ "$(id -u)" = 0 ] || fail "run it as root: the tests act as other users to see them refused"

# Random cases differ from run to run; the seed repeats one.
export PROPTEST_RNG_SEED="${PROPTEST_RNG_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}"
if [ "$campaign" = yes ]; then export CAMPAIGN=1 PROPTEST_CASES="${PROPTEST_CASES:-50000}"; fi
echo "  seed       PROPTEST_RNG_SEED=$PROPTEST_RNG_SEED (set it to repeat this run)"

step "build (one profile for the product and its tests)"
cargo build --release --locked --workspace --all-targets

step "tests"
# Twice as many at once as there are cores: most of a test's time is waiting.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((2 * $(nproc)))}"
# Whoever started this with nohup or in the background had signals ignored, and a child inherits that.
env --default-signal=HUP,INT,QUIT cargo test --release --locked --workspace --no-fail-fast

step "Kubernetes"
tests/kubernetes.sh

if [ "$campaign" = yes ]; then
  step "fuzzing"
  tests/fuzz.sh

  step "the images, from the Dockerfile itself"
  tests/images.sh

  step "two builds, the same bytes"
  packaging/reproduce.sh
fi
