//! KMS's own log against the journals of real proxies that sign, time out, are throttled and are killed, while
//! somebody signs around them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system_tests::client::post_plain;
use system_tests::{Fault, Key, Kind, Kms, Operation, World, eventually, journal};

use crate::ALICE;
use crate::audit_tools::audit;

/// Writes CloudTrail's files as it delivers them: packed, in directories; and a digest file beside them.
pub(crate) fn deliver(directory: &Path, records: &[Value]) -> PathBuf {
    let day = directory.join("AWSLogs/000000000000/CloudTrail/eu-test-1/2026/11/26");
    fs::create_dir_all(&day).unwrap();
    for (number, some) in records.chunks(7).enumerate() {
        let text = json!({"Records": some}).to_string();
        let name =
            day.join(format!("000000000000_CloudTrail_eu-test-1_20261126T05{number:02}Z_x.json"));
        if number % 2 == 0 {
            let packed = fs::File::create(name.with_extension("json.gz")).unwrap();
            let mut packed = GzEncoder::new(packed, Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            packed.finish().unwrap();
        } else {
            fs::write(name, text).unwrap();
        }
    }
    fs::write(day.join("digest.json"), "{\"digestStartTime\":\"2026-11-26T05:00:00Z\"}").unwrap();
    fs::write(day.join("notes.txt"), "no file of CloudTrail").unwrap();
    directory.to_owned()
}

/// `signctl audit reconcile --cloudtrail`; its exit status and what it said.
fn reconcile(proxy: &Path, log: &Path, more: &[&str]) -> (i32, Value) {
    let [journal, signers] = ["journal", "signers.json"].map(|name| proxy.join(name));
    let words = [
        &["reconcile", "--json", "--grace", "0", "--signers", signers.to_str().unwrap()][..],
        &["--cloudtrail", log.to_str().unwrap()],
        more,
    ];
    let (code, said, errors) = audit(&journal, &words.concat());
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{errors}"));
    (code, said["kms"].clone())
}

/// Somebody with credentials of his own asks KMS for a signature.
pub(crate) async fn sign_around(kms: &Kms, key: &Key, agent: &str, target: &str) {
    let headers = [
        ("x-amz-target", target),
        ("user-agent", agent),
        ("authorization", "AWS4-HMAC-SHA256 Credential=EVE/20261126/eu-test-1/kms/aws4_request"),
    ];
    let body = json!({"KeyId": key.id, "Message": "aGk=", "MessageType": "RAW", "SigningAlgorithm": "ECDSA_SHA_256"});
    let address = kms.endpoint.trim_start_matches("http://");
    let answer = post_plain(address, &headers, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

fn counts(kms: &Value) -> [u64; 7] {
    let count = |pointer: &str| kms.pointer(pointer).unwrap().as_u64().unwrap();
    [
        count("/bypass/count"),
        count("/ghost/count"),
        count("/contradicted/count"),
        count("/settled/signed/count"),
        count("/settled/not_signed/count"),
        count("/unsettled/count"),
        kms["unrecorded"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["count"].as_u64().unwrap())
            .sum(),
    ]
}

#[tokio::test]
async fn whoever_signs_around_the_proxy_is_named_and_everything_else_is_accounted_for() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let builder = world
        .proxy()
        .rare_canaries()
        .kms("call_timeout_ms = 700\nconnect_timeout_ms = 100\nretries_per_second_max = 0")
        .signer("ec", &key)
        .caller(ALICE, &["ec"]);
    let mut proxy = builder.clone().start().await;
    let directory = proxy.socket.parent().unwrap().to_owned();
    let alice = proxy.client(ALICE).await;
    for _ in 0..3 {
        assert_eq!(alice.sign_message("ec", b"hi").await.status, 200);
    }
    key.break_with(Fault::Error("ThrottlingException", 400));
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "upstream_throttled");
    // KMS signs, and its answer does not come; and something before KMS fails.
    key.break_with(Fault::Hang);
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "indeterminate");
    key.break_with(Fault::Bare503);
    assert_eq!(alice.sign_message("ec", b"hi").await.reason(), "indeterminate");
    // It is killed while KMS holds a call.
    key.break_with(Fault::Hang);
    let before = key.calls(Operation::Sign);
    let asked = tokio::spawn(async move { alice.sign_message("ec", b"lost").await });
    eventually("the intent is on disk and KMS has the call", || async {
        let (_, said, _) = audit(&directory.join("journal"), &["tail", "-n", "1", "--json"]);
        (said.contains("\"intent\"") && key.calls(Operation::Sign) > before).then_some(())
    })
    .await;
    proxy.process.signal(Signal::SIGKILL);
    proxy.process.ended().await;
    asked.abort();
    key.mend();
    let proxy = builder.start().await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);

    sign_around(&world.kms, &key, "aws-cli/2.0", "TrentService.Sign").await;
    sign_around(&world.kms, &key, "aws-cli/2.0", "TrentService.GetPublicKey").await;
    // With the User-Agent of a call that was made.
    let ours = key.received().iter().find(|call| call.attempt().is_some()).unwrap().clone();
    sign_around(&world.kms, &key, &ours.user_agents[0], "TrentService.Sign").await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    proxy.stop().await;

    let records = world.kms.cloudtrail();
    let log = deliver(&world.scratch.path("all"), &records);
    let (code, kms) = reconcile(&directory, &log, &[]);
    assert_eq!((code, &counts(&kms)[..6]), (1, &[2, 0, 0, 2, 1, 0][..]), "{kms:#}");
    // The canaries of the killed process were not recorded yet.
    let lost = kms["unrecorded"][0]["by"].as_str().unwrap().to_owned();
    let explained = ["--explained", lost.as_str()];
    for bypass in kms["bypass"]["named"].as_array().unwrap() {
        assert_eq!(bypass["principal"], "arn:aws:iam::000000000000:user/EVE");
        assert_eq!(bypass["region"], "eu-test-1");
    }
    let refused = &kms["refused"].as_array().unwrap()[0];
    assert_eq!(
        (&refused["kind"], &refused["ours"], &refused["count"]),
        (&json!("throttled"), &json!(true), &json!(1))
    );

    // Without her all is well, and the answer says so in one sentence.
    let is_hers = |record: &Value| record["userIdentity"]["userName"] == "EVE";
    let mut records: Vec<_> = records.into_iter().filter(|record| !is_hers(record)).collect();
    let log = deliver(&world.scratch.path("ours"), &records);
    let (code, kms) = reconcile(&directory, &log, &explained);
    assert_eq!((code, &kms["ok"]), (0, &json!(true)), "{kms:#}");
    let signers = directory.join("signers.json");
    let words =
        ["reconcile", "--grace", "0", "--signers", signers.to_str().unwrap(), "--cloudtrail"];
    let words = [&words[..], &[log.to_str().unwrap()], &explained].concat();
    let (code, said, errors) = audit(&directory.join("journal"), &words);
    assert!(code == 0 && said.contains("nobody signed around the journals"), "{said}{errors}");
    assert!(said.contains("grace: 0 s") && said.contains("settled, KMS signed"), "{said}");

    // A signature that KMS never logged.
    let signed = &journal::read(&directory.join("journal"), "signed")[1]["record"]["data"];
    records.retain(|record| record["requestID"] != signed["upstream_request_id"]);
    let log = deliver(&world.scratch.path("gone"), &records);
    let (code, kms) = reconcile(&directory, &log, &explained);
    assert_eq!((code, counts(&kms)[..2].to_vec()), (1, vec![0, 1]), "{kms:#}");
    assert_eq!(kms["ghost"]["named"][0]["attempt"], signed["attempt"], "{kms:#}");

    // What cannot be read, and a log that is of another region, is no proof of anything.
    fs::write(world.scratch.path("gone").join("cut.json"), "{\"Records\":[").unwrap();
    let (code, kms) = reconcile(&directory, &world.scratch.path("gone"), &explained);
    assert!(code == 1 && kms["lacks"][0].as_str().unwrap().contains("cut off"), "{kms:#}");
    let empty = deliver(&world.scratch.path("empty"), &[]);
    let (code, kms) = reconcile(&directory, &empty, &["--until", "2020-01-01T00:00:00Z"]);
    assert_eq!((code, &kms["ok"]), (1, &json!(false)), "{kms:#}");
}

#[tokio::test]
async fn a_call_that_a_crash_left_unrecorded_is_named_with_the_start_until_somebody_explains_it() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let mut proxy = builder.clone().start().await;
    let directory = proxy.socket.parent().unwrap().to_owned();
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    // Canaries go on, and are recorded every ten seconds: those of now are lost with the process.
    let before = key.calls(Operation::Sign);
    eventually("a canary", || async { (key.calls(Operation::Sign) > before).then_some(()) }).await;
    proxy.process.signal(Signal::SIGKILL);
    proxy.process.ended().await;
    let proxy = builder.start().await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
    proxy.stop().await;

    let log = deliver(&world.scratch.path("log"), &world.kms.cloudtrail());
    let (code, kms) = reconcile(&directory, &log, &[]);
    let lost = &kms["unrecorded"].as_array().unwrap()[0];
    assert!(code == 1 && lost["count"].as_u64().unwrap() > 0, "{kms:#}");
    assert_eq!(counts(&kms)[0], 0, "{kms:#}");
    let by = lost["by"].as_str().unwrap();
    let (code, kms) = reconcile(&directory, &log, &["--explained", by]);
    assert_eq!((code, &kms["ok"]), (0, &json!(true)), "{kms:#}");
}

#[tokio::test]
async fn all_journals_of_a_deployment_are_needed_and_one_that_is_known_and_missing_is_named() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let mut directories = Vec::new();
    for name in ["proxy", "other"] {
        let builder = world.proxy().directory(name).rare_canaries().signer("ec", &key);
        let proxy = builder.caller(ALICE, &["ec"]).start().await;
        assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
        directories.push(proxy.socket.parent().unwrap().to_owned());
        proxy.stop().await;
    }
    let [one, other] = &directories[..] else { panic!("{directories:?}") };
    let log = deliver(&world.scratch.path("log"), &world.kms.cloudtrail());
    let signers = registry_of_both(one, other);
    let journal = other.join("journal");
    let also = ["--also", journal.to_str().unwrap()];
    let (code, kms) = reconcile(&signers, &log, &also);
    assert_eq!((code, &kms["ok"]), (0, &json!(true)), "{kms:#}");
    let journals = kms["journals"].as_array().unwrap();
    let logs: Vec<_> = journals.iter().map(|one| one["log"].as_str().unwrap()).collect();

    let (code, kms) = reconcile(&signers, &log, &["--known", logs[1]]);
    let lacks = kms["lacks"][0].as_str().unwrap();
    assert!(code == 1 && lacks.contains(logs[1]) && lacks.contains("not given"), "{kms:#}");
    // Its configuration names the key, by an id.
    let config = one.join("signing-proxy.toml");
    let (code, kms) =
        reconcile(&signers, &log, &[&also[..], &["--config", config.to_str().unwrap()]].concat());
    assert!(code == 0 && kms["keys"].as_array().unwrap().len() == 2, "{kms:#}");
    let twice = one.join("journal");
    let (registry, log) = (signers.join("signers.json"), log.to_str().unwrap());
    let words = ["reconcile", "--signers", registry.to_str().unwrap(), "--cloudtrail", log];
    let words = [&words[..], &["--also", twice.to_str().unwrap()]].concat();
    let (code, _, errors) = audit(&twice, &words);
    assert!(code == 1 && errors.contains("given twice"), "{errors}");
}

/// The registry of the one with the audit key of the other one too.
fn registry_of_both(one: &Path, other: &Path) -> PathBuf {
    let read = |directory: &Path| -> Value {
        serde_json::from_slice(&fs::read(directory.join("signers.json")).unwrap()).unwrap()
    };
    let (mut both, other) = (read(one), read(other));
    let entries = other["signers"].as_array().unwrap().iter();
    let mut audit = entries.clone().find(|entry| entry["purpose"] == "audit").unwrap().clone();
    audit["signer_kid"] = json!("other-audit");
    both["signers"].as_array_mut().unwrap().push(audit);
    fs::write(one.join("signers.json"), both.to_string()).unwrap();
    one.to_owned()
}
