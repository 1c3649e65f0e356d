//! `config/pipelines/read_only_webhook.py` follows the freezes of all machines by signed webhooks of real
//! trails, loses none while it or Kubernetes is away, and believes nobody else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use system_tests::postgres::Postgres;
use system_tests::programs::{repository, system};
use system_tests::trail::Trail;
use system_tests::{Kind, Process, Profile, Proxy, World, eventually};

use crate::ALICE;

const KEY: &str = "whsec_bm90aWZpY2F0aW9ucyBhcmUgc2lnbmVkIHdpdGggdGhpcw==";

/// A kubectl that writes down what it is told, and fails where a file `broken` is.
fn kubectl(world: &World) {
    let directory = world.scratch.path("bin");
    let script = format!(
        "#!/bin/sh\nif [ -e {0}/broken ]; then echo failed >>{0}/told; exit 1; fi\n\
         echo \"$*\" >>{0}/told\n",
        directory.display()
    );
    let program = world.scratch.write("bin/kubectl", script);
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What kubectl was told, without what comes again.
fn told(world: &World) -> Vec<String> {
    let text = std::fs::read_to_string(world.scratch.path("bin/told")).unwrap_or_default();
    let set = "set env deployment/orders deployment/ledger READ_ONLY=";
    let mut lines: Vec<_> = text.lines().map(|line| line.replace(set, "")).collect();
    lines.dedup();
    lines
}

async fn is_told(world: &World, wanted: &[&str]) {
    eventually(&format!("kubectl is told {wanted:?}"), || {
        let found = told(world);
        std::future::ready((found == wanted).then_some(()))
    })
    .await;
}

/// The receiver at that address.
fn receiver(world: &World, listen: &str) -> Process {
    let server = world.pki.issue(&Profile::server());
    let file =
        |name: &str, text: &str| world.scratch.write(name, text).to_str().unwrap().to_owned();
    let bin = world.scratch.path("bin");
    let mut command = system("python3");
    command.arg("-B").arg(repository().join("config/pipelines/read_only_webhook.py"));
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    command.env("WEBHOOK_KEY_FILE", file("hmac.key", &format!("{KEY}\n")));
    command.env("WEBHOOK_STATE", world.scratch.path("frozen.json"));
    command.env("TLS_CERT", file("server.pem", &server.certificate_pem));
    command.env("TLS_KEY", file("server.key", &server.key_pem));
    command.env("READ_ONLY_WORKLOADS", "deployment/orders deployment/ledger").env("LISTEN", listen);
    Process::start(command)
}

/// A trail of the machine `name`, whose proxy is in that directory.
fn trail(world: &World, name: &str, postgres: &Postgres, url: &str) -> Trail {
    let (journal, registry) = (
        world.scratch.path(&format!("{name}/journal")),
        world.scratch.path(&format!("{name}/signers.json")),
    );
    let lines = format!(
        "hmac_key_file = \"hmac.key\"\nca_file = \"ca.pem\"\nurl = {url:?}\nevents = [\"frozen\", \"unfrozen\"]"
    );
    let files = [("hmac.key", KEY), ("ca.pem", world.pki.ca_pem.as_str())];
    let mut trail = Trail::new(&[("proxy", &journal)], &registry, postgres);
    trail = trail.webhook("read-only", &lines, &files);
    let mut command = trail.verb("serve");
    command.env("SIGNING_TRAIL__NOTIFY__INSTANCE", name);
    trail.start_as(command);
    trail
}

async fn ask(proxy: &Proxy<'_>, path: &str) {
    assert_eq!(proxy.admin("POST", path, json!({"reason": "incident 7"})).await.status, 200);
}

#[tokio::test]
async fn the_flag_follows_signed_webhooks_of_all_machines_and_misses_none() {
    let world = World::new();
    let (key, other) = (world.kms.key(Kind::P256), world.kms.key(Kind::P256));
    let first =
        world.proxy().directory("one").signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let second =
        world.proxy().directory("two").signer("ec", &other).caller(ALICE, &["ec"]).start().await;
    let postgres = Postgres::start().await;
    kubectl(&world);
    let mut running = receiver(&world, "127.0.0.1:0");
    let port = running
        .line("its port", |line| line.strip_prefix("listening at 127.0.0.1:").map(str::to_owned))
        .await;
    let (listen, url) = (format!("127.0.0.1:{port}"), format!("https://localhost:{port}/"));
    let (one, two) = (trail(&world, "one", &postgres, &url), trail(&world, "two", &postgres, &url));
    for trail in [&one, &two] {
        let state = trail.path("state/read-only.json");
        eventually("a place", || async {
            std::fs::read_to_string(&state).ok()?.contains("signing-proxy").then_some(())
        })
        .await;
    }
    ask(&first, "/v1/freeze").await;
    is_told(&world, &["true"]).await;
    ask(&second, "/v1/freeze").await;
    let state = world.scratch.path("frozen.json");
    is_kept(&state, &json!({"one": true, "two": true})).await;
    // One that is frozen is enough.
    ask(&first, "/v1/unfreeze").await;
    is_kept(&state, &json!({"one": false, "two": true})).await;
    assert_eq!(told(&world), ["true"]);
    // Kubernetes is away, then the receiver is.
    std::fs::write(world.scratch.path("bin/broken"), "").unwrap();
    ask(&second, "/v1/unfreeze").await;
    is_told(&world, &["true", "failed"]).await;
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.ended().await;
    std::fs::remove_file(world.scratch.path("bin/broken")).unwrap();
    ask(&first, "/v1/freeze").await;
    let _again = receiver(&world, &listen);
    is_kept(&state, &json!({"one": true, "two": false})).await;
    ask(&first, "/v1/unfreeze").await;
    is_kept(&state, &json!({"one": false, "two": false})).await;
    assert_eq!(told(&world).last().unwrap(), "false");
}

async fn is_kept(file: &Path, wanted: &Value) {
    eventually(&format!("{wanted} is kept"), || async {
        let kept: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        (kept["frozen"] == *wanted).then_some(())
    })
    .await;
}

/// What is believed, without a clock or a socket.
#[test]
fn only_what_is_signed_with_the_key_and_not_long_ago_is_believed_and_each_event_is_done_once() {
    let key = STANDARD.decode(KEY.strip_prefix("whsec_").unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let sign = |key: &hmac::Key, id: &str, at: &str, body: &str| {
        let content = format!("{id}.{at}.{body}");
        format!("v1,{}", STANDARD.encode(hmac::sign(key, content.as_bytes())))
    };
    let body = r#"{"id":"a","event":"frozen"}"#;
    let good = sign(&key, "a", "1000", body);
    let stranger = hmac::Key::new(hmac::HMAC_SHA256, b"another key of 24 bytes.");
    let by_stranger = sign(&stranger, "a", "1000", body);
    let both = format!("{by_stranger} {good}");
    let of_other = sign(&key, "b", "1000", body);
    let of_text = sign(&key, "a", "1000", "text");
    let of_list = sign(&key, "a", "1000", "[]");
    // id, timestamp, signature, body, now; whether it is believed.
    let cases = [
        ("a", "1000", good.as_str(), body, 1000, true),
        ("a", "1000", &both, body, 1000, true),
        ("a", "1000", &good, body, 1300, true),
        ("a", "1000", &good, body, 700, true),
        ("a", "1000", &good, body, 1301, false),
        ("a", "1000", &good, body, 699, false),
        ("a", "1001", &good, body, 1000, false),
        ("b", "1000", &good, body, 1000, false),
        ("b", "1000", &of_other, body, 1000, false),
        ("a", "1000", &good, r#"{"id":"a","event":"unfrozen"}"#, 1000, false),
        ("a", "1000", &by_stranger, body, 1000, false),
        ("a", "1000", &good.replace("v1,", "v2,"), body, 1000, false),
        ("a", "1000", "", body, 1000, false),
        ("a", "1000", "v1,", body, 1000, false),
        ("a", "", &good, body, 1000, false),
        ("a", "-1000", &good, body, 1000, false),
        ("a", "1e3", &good, body, 1000, false),
        ("a", "1000", &of_text, "text", 1000, false),
        ("a", "1000", &of_list, "[]", 1000, false),
    ];
    let script = "import sys, json, tempfile, os; sys.path.insert(0, sys.argv[1]); import read_only_webhook as w\n\
        open('k', 'w').write(sys.argv[3]); secret = w.key('k')\n\
        print(json.dumps([w.verified(secret, {'webhook-id': i, 'webhook-timestamp': t, 'webhook-signature': s},\n\
            b.encode(), n) is not None for i, t, s, b, n, _ in json.loads(sys.argv[2])]))\n\
        told = []\n\
        def flag(value):\n    told.append(value)\n    return len(told) != 2\n\
        state = w.State('s')\n\
        event = lambda i, e, frozen: {'id': i, 'event': e, 'instance': 'x', 'data': {'frozen': frozen}}\n\
        done = [state.take(event(*one), flag) for one in [('1', 'frozen', True), ('1', 'frozen', True),\n\
            ('2', 'unfrozen', False), ('2', 'unfrozen', False), ('3', 'unfrozen', True), ('4', 'new', None)]]\n\
        again = w.State('s').take(event('3', 'unfrozen', True), flag)\n\
        print(json.dumps([done, again, told]))";
    let scratch = system_tests::Scratch::new();
    let output = system("python3")
        .args(["-B", "-c", script])
        .arg(repository().join("config/pipelines"))
        .arg(json!(cases).to_string())
        .arg(KEY)
        .current_dir(scratch.dir())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let mut lines = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let wanted: Vec<_> = cases.iter().map(|(.., believed)| *believed).collect();
    assert_eq!(lines.next().unwrap(), json!(wanted));
    // What was done is done once, also after a restart; what kubectl did not do is done again.
    let state = json!([[true, true, false, true, true, true], true, [true, false, false, true]]);
    assert_eq!(lines.next().unwrap(), state);
}
