#!/usr/bin/env bash
# Makes what the pod of sidecar.yaml needs to be tried on one machine: keys, certificates and configurations in DIR, and
# DIR/config.yaml with all of them as ConfigMaps. The signing key is a file here, so nothing of it is for production.
#   files.sh DIR                   makes everything, once
#   files.sh DIR register ENTRY    puts an entry, one line of JSON, into the registry of all programs
# docs/operating/kubernetes.md says when. POSTGRES names another database.
set -euo pipefail
dir="${1:?usage: files.sh DIR [register ENTRY]}"
database="${POSTGRES:-postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable}"
programs=(signing-proxy breakglass-signer signing-trail)

config_maps() {
  for program in "${programs[@]}"; do
    cp "$dir/signers.json" "$dir/$program/"
    printf 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n' "$program"
    for file in "$dir/$program"/*; do
      printf '  %s: |\n' "${file##*/}"
      sed 's/^/    /' "$file"
    done
    printf -- '---\n'
  done >"$dir/config.yaml"
}

if [ "${2:-}" = register ]; then
  entry="${3:?files.sh DIR register ENTRY: name the entry that the log of init-signer shows}"
  case "$entry" in '{"'*'}') ;; *) echo "files.sh: this is no entry of a registry: $entry" >&2; exit 1 ;; esac
  registry="$(cat "$dir/signers.json")"
  printf '%s,\n%s]}\n' "${registry%]\}}" "$entry" >"$dir/signers.json"
  config_maps
  exit
fi
[ ! -e "$dir" ] || { echo "files.sh: $dir is there already; remove it, or name another directory" >&2; exit 1; }
umask 077
mkdir -p "$dir"/{people,signing-proxy,breakglass-signer,signing-trail}

# The registry has the public half of every key.
entry() { # KID PURPOSE PUBLIC_PEM_FILE
  printf '{"signer_kid":"%s","algorithm":"ed25519","purpose":"%s","public_key_pem":"%s"}' \
    "$1" "$2" "$(awk '{printf "%s\\n", $0}' "$3")"
}
key() { # KID PURPOSE FILE
  openssl genpkey -algorithm ed25519 -out "$3"
  openssl pkey -in "$3" -pubout -out "$dir/people/$1.pub"
  entries+=("$(entry "$1" "$2" "$dir/people/$1.pub")")
}
entries=()
key try signing "$dir/signing-proxy/try.key"
key proxy-audit audit "$dir/signing-proxy/audit.key"
key trail-audit audit "$dir/signing-trail/trail.key"
# The emergency key, under a passphrase.
echo "correct horse battery staple" >"$dir/people/passphrase"
openssl genpkey -algorithm ed25519 -aes256 -pass "file:$dir/people/passphrase" -out "$dir/breakglass-signer/emergency.pem"
openssl pkey -in "$dir/breakglass-signer/emergency.pem" -passin "file:$dir/people/passphrase" -pubout -out "$dir/people/emergency.pub"
entries+=("$(entry emergency breakglass "$dir/people/emergency.pub")")
(IFS=,; printf '{"signers":[%s]}\n' "${entries[*]}") >"$dir/signers.json"

# Who approves: two people, each with a key.
for person in security finance; do
  ssh-keygen -q -t ed25519 -N "" -C "$person" -f "$dir/people/$person"
  echo "$person@example namespaces=\"breakglass@signing-proxy\" $(cat "$dir/people/$person.pub")"
done >"$dir/breakglass-signer/approvers"

# The certificate of the proxy signs itself, and is the authority of its clients.
openssl req -x509 -newkey ed25519 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
  -keyout "$dir/signing-proxy/server.key" -out "$dir/signing-proxy/server.pem" 2>/dev/null
cp "$dir/signing-proxy/server.pem" "$dir/signing-proxy/ca.pem"

cat >"$dir/signing-proxy/signing-proxy.toml" <<'END'
[deployment]
name = "try"
environment = "development"
[server]
listen = "127.0.0.1:8443"
[server.tls]
certificate_file = "server.pem"
private_key_file = "server.key"
client_ca_file = "ca.pem"
[[server.local]]
listen = "127.0.0.1:8444"
[[server.local.callers]]
name = "service"
uid = 10001
[metrics]
listen = "127.0.0.1:9464"
[admin]
socket = "/var/lib/signing-proxy/admin.sock"
allowed_uids = [65532]
[state]
dir = "/var/lib/signing-proxy"
[audit]
dir = "/var/lib/signing-proxy/journal"
key_file = "audit.key"
reader_group = 65532
[registry]
file = "signers.json"
[breakglass]
signer_socket = "/run/breakglass-signer/signer.sock"
[[signers]]
kid = "try"
[[signers.upstreams]]
provider = "development"
key_file = "try.key"
[[callers]]
name = "local:service"
[[callers.signers]]
kid = "try"
algorithms = ["ED25519_SHA_512"]
END
cat >"$dir/breakglass-signer/breakglass-signer.toml" <<'END'
[deployment]
name = "try"
environment = "development"
[signer]
socket = "/run/breakglass-signer/signer.sock"
allowed_uids = [65532]
[operator]
socket = "/run/breakglass-signer/operator.sock"
allowed_uids = [65530]
[state]
dir = "/var/lib/breakglass-signer"
[audit]
dir = "/var/lib/breakglass-signer/journal"
key_file = "/var/lib/breakglass-signer/audit.key"
reader_group = 65532
[registry]
file = "signers.json"
[approvers]
file = "approvers"
hardware_required = false
[[approvers.roles]]
role = "Security"
principals = ["security@example"]
[[approvers.roles]]
role = "Finance"
principals = ["finance@example"]
[[emergency_keys]]
kid = "emergency"
file = "emergency.pem"
END
cat >"$dir/signing-trail/signing-trail.toml" <<END
[journals]
proxy = "/var/lib/signing-proxy/journal"
signer = "/var/lib/breakglass-signer/journal"
[audit]
key_file = "trail.key"
[registry]
file = "signers.json"
[postgres]
url = "$database"
timeout_ms = 5000
END
config_maps
