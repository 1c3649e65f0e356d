#!/usr/bin/env bash
# The game day: an outage from the page to the post-mortem, with the programs that are built, on `dev`.
#
#   cargo build --release --locked --workspace && tests/game-day.sh
#
# It prints what a person sees, and fails at the first thing that is not as it has to be. A world of its own
# breaks the KMS: twelve regions (tests/src/game_day.rs), each with another cause. A real Prometheus watches with
# the rules of config/prometheus as they are. Needs root, for a hosts file of its own.
set -euo pipefail
[ -n "${GAME_DAY_APART:-}" ] || exec env GAME_DAY_APART=1 unshare --mount --propagation private "$0" "$@"

repository=$(cd "$(dirname "$0")/.." && pwd)
programs=${GAME_DAY_PROGRAMS:-$repository/target/release}
# Nothing of whoever starts it is meant for this.
for name in $(compgen -e); do
  case $name in AWS_* | KMS_* | REQUIRE_* | SIGN* | BREAKGLASS* | DEPLOY_* | *_PROXY | *_proxy) unset "$name" ;; esac
done
most_commands=12 most_pasted=3
commands=0 pasted=0
work=$(mktemp -d)
chmod 711 "$work"
dev_pid='' prometheus_pid='' postgres_pid='' trail_pid=''

ended() {
  local status=$?
  for pid in $trail_pid $dev_pid $prometheus_pid $postgres_pid; do
    kill -INT "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  if [ "$status" != 0 ]; then
    printf '\nTHE GAME DAY FAILED; the log of dev:\n' >&2
    tail -n 40 "$work/dev.log" >&2 || true
  fi
  umount /etc/hosts 2>/dev/null || true
  rm -rf "$work"
}
trap ended EXIT
cd "$work"

fail() { printf 'game-day.sh: %s\n' "$*" >&2; exit 1; }
# What happens by itself, or in the world.
world() { printf '\n== %s\n' "$*"; }
# A command that a person types: `types [-i INPUT] STATUS COMMAND...`. What it prints is in $said.
types() {
  local input='' expected status=0
  if [ "$1" = -i ]; then input=$2; shift 2; fi
  expected=$1; shift
  commands=$((commands + 1))
  printf '\n[%d] $' "$commands"; printf ' %q' "$@"; printf '\n'
  PATH=$programs:$PATH "$@" >said 2>&1 <<<"$input" || status=$?
  sed 's/^/    /' said
  said=$(<said)
  [ "$status" = "$expected" ] || fail "the exit status is $status, and $expected was expected"
}
# A value that a person copies from somewhere: `pastes WHAT FROM`.
pastes() { pasted=$((pasted + 1)); printf '    (pasted: %s, from %s)\n' "$1" "$2"; }
has() { [[ $said == *"$1"* ]] || fail "it does not say: $1"; }
# Waits for a condition: `until_true WHAT COMMAND...`.
until_true() {
  local what=$1 deadline=$((SECONDS + 60)); shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || fail "still not so after a minute: $what"
    sleep 0.1
  done
}
# The KMS does what it is told, and says so.
kms() {
  local answer
  printf '%s\n' "$*" >&"${KMS[1]}"
  read -r -t 60 -u "${KMS[0]}" answer && [ "$answer" = done ] || fail "the KMS did not do: $*"
}
of_json() { python3 -c "import json,sys; it = json.load(open(sys.argv[1])); print($2)" "$1"; }
get() { curl --silent --show-error --max-time 5 "$@"; }

world 'before: dev, its KMS with twelve regions, the emergency signer, the trail with its database, Prometheus'
mkdir -m 700 dev dev/keys
: >hosts
mount --bind hosts /etc/hosts
coproc KMS { exec "$programs/game-day-kms" hosts dev/keys ca.pem; }
read -r -t 60 -u "${KMS[0]}" told || fail 'the KMS does not start'
printf '%s\n' "$told" >kms.json
SIGNING_PROXY__SIGNERS=$(of_json kms.json 'it["signers"]')
# Whoever compares with KMS's own log has to know the keys too.
export SIGNING_PROXY__SIGNERS
AWS_ACCESS_KEY_ID=game AWS_SECRET_ACCESS_KEY=day SSL_CERT_FILE=$work/ca.pem \
  BREAKGLASS_SIGNER__EMERGENCY_KEYS='[{kid = "emergency-dev", file = "breakglass/keys/emergency-dev.pem", copies = ["laptop"]}]' \
  "$programs/signing-proxy" dev --dir dev --listen 127.0.0.1:0 --metrics 127.0.0.1:0 --min-outage 1s \
  >ready 2>dev.log &
dev_pid=$!
until_true 'dev is ready' grep -q '^ready ' ready
sed -n 's/^ready //p' ready >ready.json
[ "$(of_json ready.json 'it["healthy"], bool(it["breakglass"])')" = 'True True' ] || fail "$(<ready.json)"
. dev/env
# PostgreSQL refuses to run as root.
database() { setpriv --reuid=65534 --regid=65534 --clear-groups "$(compgen -G '/usr/lib/postgresql/*/bin' | tail -n 1)/$1" "${@:2}"; }
install -d -m 700 -o 65534 -g 65534 pg
(cd pg && database initdb --no-sync --auth=trust --username=postgres --encoding=UTF8 -D "$work/pg/data") >initdb.log
(cd pg && exec setpriv --reuid=65534 --regid=65534 --clear-groups \
  "$(compgen -G '/usr/lib/postgresql/*/bin' | tail -n 1)/postgres" -D "$work/pg/data" -k "$work/pg" -c listen_addresses=) >pg.log 2>&1 &
postgres_pid=$!
until_true 'PostgreSQL is up' grep -q 'ready to accept connections' pg.log
SIGNCTL_DATABASE_URL=postgres://postgres@${work//\//%2F}%2Fpg/postgres
export SIGNCTL_DATABASE_URL
(umask 077; openssl genpkey -algorithm ed25519 -out trail.key) 2>/dev/null
openssl pkey -in trail.key -pubout -out trail.pub
"$programs/signctl" signers add --kid trail-audit --algorithm ed25519 --purpose audit --public-key trail.pub \
  --signers dev/signers.json >/dev/null
"$programs/signctl" reload >/dev/null
cat >signing-trail.toml <<EOF
[journals]
proxy = "dev/journal"
signer = "dev/breakglass/journal"
[audit]
key_file = "trail.key"
[registry]
file = "dev/signers.json"
[postgres]
url = "$SIGNCTL_DATABASE_URL"
EOF
"$programs/signing-trail" serve --config signing-trail.toml 2>trail.log &
trail_pid=$!
metrics=$(of_json ready.json 'it["metrics_url"]')
address=${metrics#http://}; address=${address%/metrics}
cat >prometheus.yml <<EOF
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: ["$repository/config/prometheus/recording.yml", "$repository/config/prometheus/alerts.yml"]
scrape_configs: [{job_name: signing-proxy, static_configs: [{targets: ["$address"]}]}]
EOF
prometheus --config.file prometheus.yml --storage.tsdb.path prometheus --web.listen-address 127.0.0.1:0 \
  >prometheus.log 2>&1 &
prometheus_pid=$!
until_true 'Prometheus listens' grep -q '"Listening on"' prometheus.log
alerts=http://$(sed -n 's/.*"Listening on".*address=\([0-9.:]*\).*/\1/p' prometheus.log | head -n 1)/api/v1
up() { get "$alerts/query" --data-urlencode 'query=up{job="signing-proxy"} == 1' | grep '"instance"' >/dev/null; }
until_true 'Prometheus scrapes the proxy' up
# An alert whose condition is true waits (`for: 1m`) as pending before it fires.
is_true() { get "$alerts/alerts" | grep "\"alertname\":\"$1\"[^}]*\"signer_kid\":\"dev-ed25519\"" >/dev/null; }
! is_true SigningOutageFull || fail 'SigningOutageFull is true before the outage'
printf '    dev signs; SigningOutageFull is not true\n'

world 'the outage: each of the twelve regions fails, for a cause of its own'
began=$SECONDS
kms causes
until_true 'the alert condition' is_true SigningOutageFull
printf '    the condition of the alert SigningOutageFull is true for dev-ed25519\n'

types 1 signctl doctor
python3 - <<'EOF'
import json, re
rows, region = {}, None
for line in open("said"):
    if match := re.match(r"(dev-\S+)  aws-kms (\S+)", line):
        region = match[2]
        rows[region] = []
    elif region and (match := re.match(r"  (\S+) +FAILED +(.*)", line)):
        rows[region].append((match[1], match[2]))
print("\n    injected                       the doctor says")
for row in json.load(open("kms.json"))["table"]:
    said = [(check, why) for check, why in rows[row["region"]] if check != "gate"]
    assert said and said[0][0] == row["check"] and row["words"] in said[0][1], (row, said)
    print(f"    {row['injected']:<30} {said[0][0]}: ... {row['words']} ...")
EOF
printf '    12 causes, 12 named\n'

types 0 signctl incident begin --id INC-42 --reason 'signing fails in every region' --out bundle \
  --config dev/signing-proxy.toml --signer-config dev/breakglass-signer.toml --signer-journal dev/breakglass/journal --metrics-url "$metrics"
has 'frozen (freeze '
qualifies() { "$programs/signctl" breakglass status --json | grep '"qualifies": true' >/dev/null; }
until_true 'the outage is long enough' qualifies

types 0 signctl breakglass request --incident INC-42 --justification 'releases wait for signatures' --out request.json
types -i yes 0 signctl breakglass approve request.json --key dev/approvers/security \
  --signer-config dev/breakglass-signer.toml
types -i yes 0 signctl breakglass approve request.json --key dev/approvers/finance \
  --signer-config dev/breakglass-signer.toml
types -i development-passphrase 0 signctl breakglass unlock --operator-socket dev/run/operator.sock
pastes 'the passphrase of the emergency key' 'the safe'
types 0 signctl breakglass activate --request request.json --approval request.json.security.sig \
  --approval request.json.finance.sig

types 0 signctl sign dev/message.txt
has "BREAK-GLASS, an emergency key"

world 'the provider is back'
kms mend
well() {
  "$programs/signctl" status --json >status.json || true
  [ "$(of_json status.json 'all(one["upstream_ok"] for one in it["signers"])')" = True ]
}
until_true 'each signer is well' well
recover=(signctl recover --reason 'KMS is back' --signers dev/signers.json --with dev/breakglass/journal
  --all-rotated 'alice: none left the machine' --not-reconciled 'alice, with the report: the log is some minutes late')
types 1 "${recover[@]}"
has 'the session has ended'
has 'Destroy the emergency key'
has 'each of its copies: laptop'
# The key's own file alone is not enough.
types 1 "${recover[@]}" --destroy
has 'the emergency key emergency-dev is destroyed; who attests that its copies are too'
types 0 "${recover[@]}" --destroy --attest 'laptop=alice, disk shredded 06:40'
pastes 'the name of the copy' 'what recover says'
has 'has ended. Next: section 6'

world 'afterwards, on another machine: copies of both journals, and the log of KMS, which has come by now'
kill -INT "$dev_pid"
wait "$dev_pid" || fail 'dev did not stop in order'
dev_pid=''
kms log AWSLogs
mkdir copies
cp -r dev/journal copies/journal
cp -r dev/breakglass/journal copies/signer-journal
types 0 signctl report --incident INC-42 --signers dev/signers.json --journal copies/journal --with copies/signer-journal \
  --cloudtrail AWSLogs --config dev/signing-proxy.toml --grace 0 --out inc-42
has 'nobody signed around the journals'
has 'none only in KMS'
for part in INC-42 emergency-dev 'laptop: alice, disk shredded 06:40' security@dev.localhost finance@dev.localhost 'KMS is back'; do
  grep -q "$part" inc-42.md && grep -q "$part" inc-42.html || fail "the report does not say: $part"
done

[ "$commands" -le "$most_commands" ] || fail "$commands commands, at most $most_commands"
[ "$pasted" -le "$most_pasted" ] || fail "$pasted pasted values, at most $most_pasted"
printf '\ngame day: 12 causes named, %s commands (at most %s), %s pasted values (at most %s), reconcile found 0 gaps, %s s\n' \
  "$commands" "$most_commands" "$pasted" "$most_pasted" "$((SECONDS - began))"
