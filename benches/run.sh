#!/usr/bin/env bash
# Measures the proxy side by side with what it cannot do without; see docs/internals/performance.md.
#   benches/run.sh                          about 7 minutes
#   benches/run.sh --quick                  half a minute: does it work
#   benches/run.sh --seconds 2 --json FILE  all options: --help
#   benches/run.sh peers                    beside aws-sdk-kms, SoftHSM, Node and nginx, which it installs
#   benches/run.sh doorway                  HTTP/2, handshakes, the memory of idle connections
set -euo pipefail
cd "$(dirname "$0")/.."

# What the proxy is measured beside, from Debian's packages. nginx is unpacked and not installed: no service starts.
case " $* " in
*" peers "*)
  missing=()
  command -v node >/dev/null || missing+=(nodejs)
  command -v softhsm2-util >/dev/null || missing+=(softhsm2)
  if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || { echo "install ${missing[*]} first: apt-get install --no-install-recommends ${missing[*]}" >&2; exit 1; }
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends --yes "${missing[@]}"
  fi
  nginx=target/tools/nginx
  if ! command -v nginx >/dev/null && [ ! -x "$nginx/usr/sbin/nginx" ]; then
    [ "$(id -u)" != 0 ] || apt-get update -qq
    mkdir -p "$nginx"
    (cd "$nginx" && apt-get download -qq nginx)
    dpkg -x "$nginx"/nginx_*.deb "$nginx"
  fi
  ;;
esac

# The proxy as it is shipped, then the harness beside it.
cargo build --release --locked --quiet
cargo run --release --locked --quiet -p benches --bin side-by-side -- "$@"
