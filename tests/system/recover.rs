//! A recovery: what is left before it, what it does by itself, what it asks for, and the gate until it is done.

use host::user::LocalUsers;
use nix::unistd::geteuid;
use serde_json::{Value, json};
use system_tests::breakglass::succeeds;
use system_tests::programs::ours;
use system_tests::{Fault, Kind, Proxy, Tail, World, journal};

use crate::ALICE;
use crate::kms_log::{deliver, sign_around};
use crate::roles::{ask, open_to_all};

/// `signctl recover`, while somebody compares the rows and KMS's log later; its exit status and what it said.
fn recover(proxy: &Proxy<'_>, more: &[&str]) -> (i32, Value) {
    recover_with(proxy, &[&["--not-reconciled", "bob, by 08:00"], more].concat())
}

/// `signctl recover`; its exit status and what it said.
fn recover_with(proxy: &Proxy<'_>, more: &[&str]) -> (i32, Value) {
    let signers = proxy.socket.with_file_name("signers.json");
    let words =
        [&["recover", "--json", "--reason", "well", "--signers", signers.to_str().unwrap()], more];
    let (code, said, errors) = proxy.signctl(&words.concat());
    (code, serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{errors}")))
}

fn step<'v>(said: &'v Value, section: &str) -> &'v Value {
    said["steps"].as_array().unwrap().iter().find(|step| step["section"] == section).unwrap()
}

/// `signctl gate` at the health listener; its exit status and what it said.
fn gate(proxy: &Proxy<'_>) -> (i32, String) {
    let url = format!("http://{}", proxy.metrics);
    let output =
        std::process::Command::new(ours("signctl")).args(["gate", "--url", &url]).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn records(proxy: &Proxy<'_>, kind: &str) -> Vec<Value> {
    let lines = journal::read(&proxy.socket.with_file_name("journal"), kind);
    lines.into_iter().map(|line| line["record"]["data"].clone()).collect()
}

#[tokio::test]
async fn a_recovery_ends_the_incident_once_everything_is_done_and_answered_for() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let proxy = builder.clone().start().await;
    assert_eq!(gate(&proxy).0, 0);
    let begun = json!({"incident": "INC-1", "reason": "it fails"});
    assert_eq!(proxy.admin("POST", "/v1/incident/begin", begun).await.status, 200);
    let captured = json!({"incident": "INC-1", "sha256": "0".repeat(64)});
    assert_eq!(proxy.admin("POST", "/v1/incident/captured", captured).await.status, 200);
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);

    // Callers are served, and no pipeline goes on. Who may not know the name is not told it.
    let (code, said) = gate(&proxy);
    assert!(code == 2 && said.contains("an incident is open") && !said.contains("INC-1"), "{said}");
    let health = proxy.client(ALICE).await.get("/health").await;
    assert_eq!(health.body["open_incident"], json!({"incident": "INC-1"}), "{}", health.text);

    // While the provider fails, nothing is loosened, whoever answers for the credentials.
    proxy.admin("POST", "/v1/freeze", json!({"reason": "why"})).await;
    key.break_with(Fault::Bare503);
    proxy.unhealthy_for("frozen").await;
    let (code, said) = recover(&proxy, &["--all-rotated", "alice, CHG-7"]);
    assert_eq!(
        (code, &said["ended"], &step(&said, "5.1")["ok"]),
        (1, &json!(false), &json!(false))
    );
    assert!(records(&proxy, "unfreeze").is_empty(), "{said}");
    // What was answered for is recorded, one by one.
    let items = records(&proxy, "incident_item");
    let caller = format!("{ALICE} (mtls): alice, CHG-7");
    assert!(items.iter().any(|item| item["detail"] == json!(caller)), "{items:?}");
    assert!(items.iter().any(|item| item["section"] == "5.2" && item["done"] == true), "{items:?}");
    assert!(items.iter().any(|item| item["section"] == "5.3" && item["done"] == true), "{items:?}");

    // A restart forgets none of it.
    key.mend();
    proxy.stop().await;
    let proxy = builder.start_shut().await;
    assert_eq!(gate(&proxy).0, 2);
    let begin = std::time::Instant::now();
    let (mut code, mut said) = recover(&proxy, &[]);
    // Its gate is to open first, which takes some canaries.
    while code != 0 && begin.elapsed() < std::time::Duration::from_secs(30) {
        (code, said) = recover(&proxy, &[]);
    }
    assert_eq!((code, &said["ended"]), (0, &json!(true)), "{said}");
    let how = step(&said, "5.2")["how"].as_str().unwrap();
    assert!(how.ends_with("credentials are answered for"), "{said}");
    assert_eq!(records(&proxy, "unfreeze")[0]["reason"], "well");
    assert_eq!(records(&proxy, "incident_ended")[0]["left"], json!([]));
    proxy.healthy().await;
    assert_eq!(gate(&proxy).0, 0);
    let (code, said) = recover(&proxy, &[]);
    assert_eq!((code, &said["incident"]), (1, &Value::Null), "{said}");
    // Whoever reads the journal by its page alone finds nothing wrong.
    let [directory, registry] =
        ["journal", "signers.json"].map(|name| proxy.socket.with_file_name(name));
    proxy.stop().await;
    journal::check(&directory, &registry, &[], Tail::Whole).unwrap();
}

#[tokio::test]
async fn who_recovers_for_the_first_time_in_the_run_that_ends_the_incident_has_answered_in_its_report()
 {
    let (world, key) = World::one_signer();
    let begins = 7007;
    let builder = world.proxy_of(&key).admin(&format!("operator_uids = [{begins}]"));
    let proxy = builder.start().await;
    open_to_all(&world, &proxy);
    let begun =
        ask(&proxy, begins, "/v1/incident/begin", r#"{"incident": "INC-1", "reason": "it fails"}"#);
    assert_eq!(begun["open"]["incident"], "INC-1", "{begun}");
    let body = format!(r#"{{"incident": "INC-1", "sha256": "{}"}}"#, "0".repeat(64));
    ask(&proxy, begins, "/v1/incident/captured", &body);
    let own = LocalUsers::read().named(geteuid().as_raw());
    let other = format!("uid {begins} (no name)");
    // No record has it yet.
    let answer = format!("{own}=alice, CHG-7");
    let (code, said) = recover(&proxy, &["--rotated", &answer, "--all-rotated", "bob, CHG-7"]);
    assert_eq!((code, &said["ended"]), (0, &json!(true)), "{said}");
    let items = records(&proxy, "incident_item");
    let says = |item: &&Value| item["detail"] == json!(format!("{own}: alice, CHG-7"));
    assert_eq!(items.iter().filter(says).count(), 1, "{items:?}");
    let [journal, out] = ["journal", "report"].map(|name| proxy.socket.with_file_name(name));
    let mut report = std::process::Command::new(ours("signctl"));
    report
        .args(["report", "--incident", "INC-1", "--journal"])
        .arg(&journal)
        .arg("--out")
        .arg(&out);
    succeeds(&mut report);
    let text = std::fs::read_to_string(out.with_extension("md")).unwrap();
    let answered = |name: &str| {
        let line = text.lines().find(|line| line.contains(&format!("| {name} |")));
        line.is_some_and(|line| line.trim_end().ends_with("| yes |"))
    };
    assert!(answered(&own) && answered(&other), "{text}");
}

#[tokio::test]
async fn a_credential_that_nobody_answers_for_is_named_and_keeps_the_incident_open() {
    let (world, key) = World::one_signer();
    let proxy = world.proxy_of(&key).start().await;
    let begun = json!({"incident": "INC-1", "reason": "it fails"});
    assert_eq!(proxy.admin("POST", "/v1/incident/begin", begun).await.status, 200);
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    let caller = format!("{ALICE} (mtls)");
    let (code, said) = recover(&proxy, &[]);
    let how = step(&said, "5.2")["how"].as_str().unwrap();
    assert!(code == 1 && how.contains(&caller), "{said}");
    let (_, said) = recover(&proxy, &["--rotated", &format!("{caller}=bob")]);
    let how = step(&said, "5.2")["how"].as_str().unwrap();
    assert!(!how.contains(&caller) && how.contains("uid "), "{said}");
    // An answer is not asked for again.
    let (_, said) = recover(&proxy, &[]);
    let how = step(&said, "5.2")["how"].as_str().unwrap();
    assert!(!how.contains(&caller) && how.contains("uid "), "{said}");
    let (_, said) = recover(&proxy, &["--rotated", "nobody=bob"]);
    assert!(step(&said, "5.2")["how"].as_str().unwrap().contains("no such credential"), "{said}");
    let open = proxy.admin("GET", "/v1/incident", Value::Null).await.body["open"].clone();
    assert_eq!(open["incident"], "INC-1");
    // What the proxy sees by itself, nobody says.
    let odd = json!({"section": "5.1", "detail": "well", "done": true});
    assert_eq!(proxy.admin("POST", "/v1/incident/item", odd).await.status, 400);
}

#[tokio::test]
async fn a_recovery_reconciles_with_kms_own_log_and_what_cannot_be_somebody_answers_for() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world.proxy().rare_canaries().signer("ec", &key).caller(ALICE, &["ec"]);
    let proxy = builder.clone().start().await;
    let begun = json!({"incident": "INC-1", "reason": "it fails"});
    assert_eq!(proxy.admin("POST", "/v1/incident/begin", begun).await.status, 200);
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    let well = deliver(&world.scratch.path("well"), &world.kms.cloudtrail());
    sign_around(&world.kms, &key, "aws-cli/2.0", "TrentService.Sign").await;
    let copy = world.scratch.path("copy");
    let directory = proxy.socket.with_file_name("journal");
    proxy.stop().await;
    let around = deliver(&world.scratch.path("around"), &world.kms.cloudtrail());
    succeeds(std::process::Command::new("cp").arg("-r").arg(&directory).arg(&copy));
    let proxy = builder.start().await;

    let how = |said: &Value| step(said, "5.3")["how"].as_str().unwrap().to_owned();
    let (code, said) = recover_with(&proxy, &[]);
    assert!(code == 1 && how(&said).contains("--not-reconciled WHO"), "{said}");
    assert!(how(&said).contains("--database-url") && how(&said).contains("--cloudtrail"), "{said}");
    let copy = ["--journal", copy.to_str().unwrap(), "--grace", "0", "--cloudtrail"];
    let (code, said) = recover(&proxy, &[&copy[..], &[around.to_str().unwrap()]].concat());
    assert!(code == 1 && step(&said, "5.3")["ok"] == false, "{said}");
    assert!(how(&said).contains("1 bypass"), "{said}");
    let (_, said) = recover(&proxy, &[&copy[..], &[well.to_str().unwrap()]].concat());
    assert_eq!(step(&said, "5.3")["ok"], true, "{said}");
    let items = records(&proxy, "incident_item");
    let item = items.iter().find(|item| item["section"] == "5.3").unwrap();
    let detail = item["detail"].as_str().unwrap();
    assert!(detail.contains("nobody signed around") && detail.contains("bob, by 08:00"), "{item}");
}
