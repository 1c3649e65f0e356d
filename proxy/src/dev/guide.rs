//! What `dev` prints for a person: every indented block can be pasted as it stands.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use development::Material;

use super::MIN_OUTAGE;
use super::child::beside_me;
use super::config::{LOCAL_DOOR, has_local_door};
use super::emergency::{DEVELOPMENT_PASSPHRASE, Ready};
use super::trail;
use crate::app::App;

/// What a person pastes, whose gates are open or not.
pub(super) fn guide(
    material: &Material,
    app: &App,
    healthy: bool,
    (breakglass, (trail, is_in_fleet)): (Result<&Ready, &str>, (Option<SocketAddr>, bool)),
) -> String {
    let dir = quoted(&material.dir);
    let url = format!("https://{}", app.listen);
    let metrics = app.metrics_listen;
    let signctl = beside_me("signctl").map_or_else(|| "signctl".into(), |path| quoted(&path));
    let breakglass_is_here = breakglass.is_ok();
    let breakglass = match breakglass {
        Ok(ready) => walk(material, ready, &signctl, &url, &format!("{metrics}")),
        Err(why) => format!("NO BREAK-GLASS HERE: {why}"),
    };
    let evidence = match trail {
        Some(status) => carried(&dir, &signctl, status, breakglass_is_here),
        None => "With --trail postgres://... both journals are also carried to a database (docs/start/trail.md).".to_owned(),
    };
    let fleet = if is_in_fleet { fleet(material, &signctl) } else { String::new() };
    let evidence = format!("{evidence}{fleet}");
    let local_door = if has_local_door() {
        format!(
            r#"Without a certificate, through the local door (a unix socket; the proxy asks the kernel which user calls):
  curl -s --unix-socket {dir}/{LOCAL_DOOR} \
    -H 'content-type: application/json' -d "{{\"message\":\"$(base64 -w0 < {dir}/message.txt)\"}}" http://localhost/v1/sign
"#
        )
    } else {
        "NO LOCAL DOOR HERE: the user nobody is no proof of who calls.\n".to_owned()
    };
    let state = if healthy {
        "Every gate is open."
    } else {
        "NOT every gate is open (a freeze or a seal of an earlier run?): see `status` below."
    };
    format!(
        r#"
DEVELOPMENT: the signing keys lie in plain files under {dir}/keys. {state}

Sign a file (what was signed, by which key, in which mode, verified under the registry):
  . {dir}/env
  {signctl} sign {dir}/message.txt

Sign a message with curl:
  curl -s --cacert {dir}/pki/ca.pem --cert {dir}/pki/client.pem --key {dir}/pki/client.key \
    -H 'content-type: application/json' -d "{{\"message\":\"$(base64 -w0 < {dir}/message.txt)\"}}" {url}/v1/sign | tee {dir}/signed.json

Verify it with openssl:
  sed -n 's/.*"signature":"\([^"]*\)".*/\1/p' {dir}/signed.json | base64 -d > {dir}/signature.bin
  openssl pkeyutl -verify -pubin -inkey {dir}/keys/dev-ed25519.pub.pem -rawin -in {dir}/message.txt -sigfile {dir}/signature.bin

The same with P-256:
  curl -s --cacert {dir}/pki/ca.pem --cert {dir}/pki/client.pem --key {dir}/pki/client.key \
    -H 'content-type: application/json' -d "{{\"signer_kid\":\"dev-p256\",\"message\":\"$(base64 -w0 < {dir}/message.txt)\"}}" {url}/v1/sign | tee {dir}/signed.json
  sed -n 's/.*"signature":"\([^"]*\)".*/\1/p' {dir}/signed.json | base64 -d > {dir}/signature.bin
  openssl dgst -sha256 -verify {dir}/keys/dev-p256.pub.pem -signature {dir}/signature.bin {dir}/message.txt

The same with RSA: many clients of KMS ask for it by name:
  curl -s --cacert {dir}/pki/ca.pem --cert {dir}/pki/client.pem --key {dir}/pki/client.key \
    -H 'content-type: application/json' -d "{{\"signer_kid\":\"dev-rsa\",\"algorithm\":\"RSASSA_PKCS1_V1_5_SHA_256\",\"message\":\"$(base64 -w0 < {dir}/message.txt)\"}}" {url}/v1/sign | tee {dir}/signed.json
  sed -n 's/.*"signature":"\([^"]*\)".*/\1/p' {dir}/signed.json | base64 -d > {dir}/signature.bin
  openssl dgst -sha256 -verify {dir}/keys/dev-rsa.pub.pem -signature {dir}/signature.bin {dir}/message.txt

{local_door}
Look:
  curl -s http://{metrics}/health
  curl -s http://{metrics}/metrics
  {signctl} --socket {dir}/run/admin.sock status
Or look at it live, in a second terminal: {signctl} --socket {dir}/run/admin.sock watch

Look at what was recorded, and check all of it (with --follow, tail goes on):
  {signctl} audit tail --journal {dir}/journal
  {signctl} audit verify --journal {dir}/journal --signers {dir}/signers.json

Stop all signing, and allow it again:
  {signctl} --socket {dir}/run/admin.sock freeze --reason "trying it out"
  {signctl} --socket {dir}/run/admin.sock unfreeze --reason "tried it"

{evidence}

{breakglass}

Ctrl-C stops it all. The next `dev` on {dir} uses the same keys and certificates.
"#
    )
}

/// What the trail carried to the database, and how to check it.
fn carried(dir: &str, signctl: &str, status: SocketAddr, has_signer: bool) -> String {
    let config = trail::CONFIG;
    let trail =
        beside_me("signing-trail").map_or_else(|| "signing-trail".into(), |path| quoted(&path));
    let with = if has_signer { format!(" --with {dir}/breakglass/journal") } else { String::new() };
    // The URL may hold a password: it is read from the file where it stands.
    let database = format!("DB=$(sed -n 's/^url = \"\\(.*\\)\"$/\\1/p' {dir}/{config})");
    format!(
        r#"The trail carries both journals to the database. How far it is, what is there, and check all of it (again after a
break-glass: each emergency signature has a row of service:signing-breakglass):
  {database}
  {trail} status --metrics {status}
  psql "$DB" -c "SELECT created_at, actor_id, event_type, payload->>'justification' AS why FROM signing_proxy.audit_events ORDER BY created_at"
  {signctl} audit reconcile --journal {dir}/journal{with} --database-url "$DB" --signers {dir}/signers.json
  {signctl} audit verify --database-url "$DB" --signers {dir}/signers.json"#
    )
}

/// All members of the fleet, stopped by one command and started by a person's signature.
fn fleet(material: &Material, signctl: &str) -> String {
    let dir = quoted(&material.dir);
    let key = material.approvers().find(|approver| approver.role == "Security");
    let key = key.map(|approver| quoted(&approver.key_file)).unwrap_or_default();
    format!(
        r#"

This proxy is a member of a fleet. All members at once (another member: `dev --fleet` with the same name and database, and
--fleet-approvers {dir}/approvers/allowed_signers):
  {signctl} fleet status --database-url "$DB"
  {signctl} fleet freeze --reason "INC-2: KMS signs wrongly" --database-url "$DB"
  {signctl} fleet statement --reason "INC-2: KMS is well again" --out {dir}/statement.json --database-url "$DB"
  ssh-keygen -Y sign -n fleet@signing-proxy -f {key} {dir}/statement.json
  {signctl} fleet unfreeze --statement {dir}/statement.json --database-url "$DB""#
    )
}

/// Break-glass, from the outage to the end.
fn walk(material: &Material, ready: &Ready, signctl: &str, url: &str, metrics: &str) -> String {
    let dir = quoted(&material.dir);
    let Ready { kid, kids, min_outage } = ready;
    let others: String = kids.iter().filter(|other| *other != kid).map(String::as_str).collect();
    let min = spoken(*min_outage);
    let note = if *min_outage < MIN_OUTAGE {
        let usual = spoken(MIN_OUTAGE);
        format!("SHORT MINIMUM OUTAGE: {min} instead of {usual}, to try it; never so for real.\n")
    } else {
        "Started with --min-outage 10s it takes seconds.\n".to_owned()
    };
    let approve = material.approvers().map(|approver| {
        let key = quoted(&approver.key_file);
        let name = approver.role.to_lowercase();
        format!(
            "  ssh-keygen -Y sign -n breakglass@signing-proxy -f {key} {dir}/request.json\n  \
             mv {dir}/request.json.sig {dir}/request.json.{name}.sig\n"
        )
    });
    let approve: String = approve.collect();
    let proxy = format!("{signctl} --socket {dir}/run/admin.sock");
    format!(
        r#"BREAK-GLASS, after an outage of {min} (docs/operating/breakglass.md).
{note}
Two emergency keys are registered. Where callers ask for RSA by name (dev-rsa), take {others} instead of {kid}.
An outage: the key is out of reach while its file is not there. Signing is refused until the end of this:
  mv {dir}/keys/dev-ed25519.pem {dir}/keys/dev-ed25519.pem.away
  until curl -s --cacert {dir}/pki/ca.pem --cert {dir}/pki/client.pem --key {dir}/pki/client.key \
    -H 'content-type: application/json' -d '{{"message":"aGVsbG8="}}' {url}/v1/sign | grep upstream_unhealthy; do sleep 1; done

Wait until it lasted long enough, then write the request:
  until {proxy} breakglass status --json | grep -q '"qualifies": true'; do sleep 1; done
  rm -f {dir}/request.json*
  {proxy} breakglass request --incident INC-1 --justification "trying it out" \
    --emergency-kid {kid} --minutes 10 --max-signatures 100 --out {dir}/request.json

Security and Finance approve it, each with a key of their own:
{approve}
Unlock the emergency key (without the pipe it asks), and activate:
  echo {DEVELOPMENT_PASSPHRASE} | {signctl} breakglass unlock --operator-socket {dir}/run/operator.sock
  {proxy} breakglass activate --request {dir}/request.json \
    --approval {dir}/request.json.security.sig --approval {dir}/request.json.finance.sig

Sign: the answer says "mode":"breakglass", and verifies under the emergency key:
  curl -s --cacert {dir}/pki/ca.pem --cert {dir}/pki/client.pem --key {dir}/pki/client.key \
    -H 'content-type: application/json' -d "{{\"message\":\"$(base64 -w0 < {dir}/message.txt)\"}}" {url}/v1/sign | tee {dir}/signed.json
  sed -n 's/.*"signature":"\([^"]*\)".*/\1/p' {dir}/signed.json | base64 -d > {dir}/signature.bin
  openssl pkeyutl -verify -pubin -inkey {dir}/keys/{kid}.pub.pem -rawin -in {dir}/message.txt -sigfile {dir}/signature.bin
  {signctl} audit tail --journal {dir}/breakglass/journal

The key is back: end the session, and sign as before once the gate is open:
  mv {dir}/keys/dev-ed25519.pem.away {dir}/keys/dev-ed25519.pem
  {proxy} breakglass end --reason "INC-1 is over"
  until curl -sf http://{metrics}/health; do sleep 1; done
  curl -s --cacert {dir}/pki/ca.pem --cert {dir}/pki/client.pem --key {dir}/pki/client.key \
    -H 'content-type: application/json' -d '{{"message":"aGVsbG8="}}' {url}/v1/sign

Destroy the emergency key (the next `dev` makes another one), and check both journals:
  {proxy} breakglass destroy {kid} --reason "INC-1 is over" --signers {dir}/signers.json
  {proxy} reload
  {signctl} audit verify --journal {dir}/journal --signers {dir}/signers.json
  {signctl} audit verify --journal {dir}/breakglass/journal --signers {dir}/signers.json"#
    )
}

fn spoken(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        120.. if seconds.is_multiple_of(60) => format!("{} minutes", seconds / 60),
        1 => "1 second".to_owned(),
        _ => format!("{seconds} seconds"),
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain =
        text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-'));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
