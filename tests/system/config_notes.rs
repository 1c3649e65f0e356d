//! `check` on configurations without mistakes: what deserves attention all the
//! same, for people and for programs.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use system_tests::proxy::entry;
use system_tests::{Kind, Pki, Profile, World, programs};

use crate::ALICE;
use crate::config_files::{check, said};

fn check_json(config: &Path) -> (Output, Value) {
    let output = Command::new(programs::ours("signing-proxy"))
        .args(["check", "--json", "--config"])
        .arg(config)
        .env_clear()
        .output()
        .unwrap();
    let found = serde_json::from_slice(&output.stdout).unwrap();
    (output, found)
}

/// The notes of a configuration that has no mistakes.
fn notes(config: &Path) -> Vec<String> {
    let (output, found) = check_json(config);
    assert!(output.status.success(), "{found:#}");
    assert_eq!(found.get("ok"), Some(&json!(true)));
    assert_eq!(found.get("mistakes"), Some(&json!([])));
    serde_json::from_value(found.get("notes").unwrap().clone()).unwrap()
}

#[track_caller]
fn assert_notes(config: &Path, expected: &[&[&str]]) {
    let notes = notes(config);
    for words in expected {
        let found = notes.iter().any(|note| words.iter().all(|word| note.contains(word)));
        assert!(found, "missing: {words:?}\n{notes:#?}");
    }
    assert_eq!(notes.len(), expected.len(), "{notes:#?}");
}

#[test]
fn a_good_configuration_has_no_notes() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    lasting(&world);
    assert_notes(&config, &[]);
    let output = check(&config, &[]);
    assert!(output.status.success());
    assert!(said(&output).ends_with("no mistakes; 1 signer, 1 caller\n"), "{}", said(&output));
}

#[test]
fn limits_of_answers_that_do_not_fit_each_other_are_noted() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let server = "answers_max_bytes = 65536\nanswers_per_caller_max_bytes = 131072\n\
                  answers_per_connection_max_bytes = 262144";
    let config = world.proxy().server(server).signer("ec", &key).caller(ALICE, &["ec"]).write();
    lasting(&world);
    assert_notes(
        &config,
        &[
            &["server.answers_per_caller_max_bytes: is 131072, above answers_max_bytes 65536"],
            &[
                "server.answers_per_connection_max_bytes: is 262144, above",
                "caller_max_bytes 131072",
            ],
            &["server.answers_per_connection_max_bytes: is 262144, room for 64", "streams_max 128"],
            &["server.answers_max_bytes: is 65536, room for 16", "requests_in_flight_max 512"],
        ],
    );
}

#[test]
fn the_defaults_have_room_for_the_answers_of_every_kind_of_key() {
    let world = World::new();
    let kinds = [
        Kind::Ed25519,
        Kind::P256,
        Kind::Secp256k1,
        Kind::P384,
        Kind::P521,
        Kind::MlDsa44,
        Kind::MlDsa65,
        Kind::MlDsa87,
        Kind::Rsa2048,
        Kind::Rsa4096,
    ];
    for kind in kinds {
        let key = world.kms.key(kind);
        let config = world.proxy().signer("key", &key).caller(ALICE, &["key"]).write();
        lasting(&world);
        let found = notes(&config);
        assert!(!found.iter().any(|note| note.contains("room for")), "{kind:?}: {found:#?}");
    }
}

#[test]
fn limits_that_do_not_fit_each_other_are_noted() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let config = world
        .proxy()
        .server(
            "request_timeout_ms = 3000\nconnections_max = 10\nconnections_per_caller_max = 11\n\
             drain_timeout_ms = 2999\nheaders_max_bytes = 100\nhandshakes_max = 10",
        )
        .kms("call_timeout_ms = 3000")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .write();
    lasting(&world);
    assert_notes(
        &config,
        &[
            &[
                "server.request_timeout_ms: is 3000, not above call_timeout_ms 3000 of signer \"ec\"",
            ],
            &["server.connections_per_caller_max: is 11, above connections_max 10"],
            &["server.handshakes_per_address_max: is 256, above handshakes_max 10"],
            &["server.drain_timeout_ms: is 2999, below request_timeout_ms 3000"],
            &["server.headers_max_bytes: is 100"],
        ],
    );
}

#[test]
fn signers_and_grants_that_sign_nothing_are_noted() {
    let world = World::new();
    let keys = [(); 4].map(|()| world.kms.key(Kind::P256));
    let mut revoked = entry("revoked", &keys[1]);
    revoked["revokedAt"] = "2026-01-01T00:00:00Z".into();
    let mut over = entry("over", &keys[2]);
    over["notAfter"] = "2026-01-01T00:00:00Z".into();
    let config = world
        .proxy()
        .signer("ec", &keys[0])
        .signer("revoked", &keys[1])
        .signer("over", &keys[2])
        .signer("unused", &keys[3])
        .registered(revoked)
        .registered(over)
        .caller(ALICE, &["ec", "revoked", "over"])
        .write();
    lasting(&world);
    assert_notes(
        &config,
        &[
            &["signers \"unused\": was granted to no caller"],
            &[
                "callers \"spiffe://test/alice\": the grant for \"revoked\" signs nothing",
                "revoked at",
            ],
            &["callers \"spiffe://test/alice\": the grant for \"over\" signs nothing", "notAfter"],
            &["signers \"revoked\":", "/health says 503"],
            &["signers \"over\":", "/health says 503"],
        ],
    );
}

#[test]
fn a_grant_without_the_registered_algorithm_is_noted_and_one_that_no_key_signs_is_a_mistake() {
    let world = World::new();
    let key = world.kms.key(Kind::Rsa2048);
    let granting = |algorithm| {
        let granted = [("rsa", &[algorithm][..])];
        world.proxy().signer("rsa", &key).caller_with(ALICE, &granted).write()
    };
    let config = granting("RSASSA_PSS_SHA_512");
    lasting(&world);
    assert_notes(
        &config,
        &[&["has RSASSA_PSS_SHA_512, without RSASSA_PKCS1_V1_5_SHA_256", "name none are refused"]],
    );
    let output = check(&granting("ECDSA_SHA_256"), &[]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "callers: \"spiffe://test/alice\" is granted ECDSA_SHA_256 with \"rsa\", whose key \
                    signs with RSASSA_PKCS1_V1_5_SHA_256,";
    assert!(said(&output).contains(expected), "{}", said(&output));
}

#[test]
fn certificates_and_lists_that_are_soon_or_already_over_are_noted() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let config = world
        .proxy()
        .tls("client_crl_files = [\"old.crl\", \"new.crl\"]")
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .write();
    let soon = world.pki.issue(&Profile { days: (-1, 29), ..Profile::server() });
    world.scratch.write("proxy/server.pem", soon.certificate_pem);
    world.scratch.write("proxy/server.key", soon.key_pem);
    world.scratch.write("proxy/old.crl", world.pki.revocation_list(&[], -1));
    world.scratch.write("proxy/new.crl", Pki::named("other").revocation_list(&[], 7));
    assert_notes(
        &config,
        &[
            &["server.tls.certificate_file:", "server.pem ends at", "28 days from now; renew it"],
            &["server.tls.client_crl_files: list 1 of", "old.crl expired at", "fetch the current"],
            &["server.tls.client_crl_files: list 1 of", "new.crl", "is not in client_ca_file"],
        ],
    );
    let early = world.pki.issue(&Profile { days: (1, 90), ..Profile::server() });
    world.scratch.write("proxy/server.pem", early.certificate_pem);
    world.scratch.write("proxy/server.key", early.key_pem);
    let notes = notes(&config);
    assert!(notes.iter().any(|note| note.contains("server.pem is valid only from")), "{notes:#?}");
}

#[test]
fn what_is_missing_on_this_machine_or_reaches_nobody_is_noted() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    lasting(&world);
    let text = std::fs::read_to_string(&config).unwrap();
    let uid = format!("allowed_uids = [{}]", nix::unistd::geteuid());
    let arn = "arn:aws:kms:eu-test-2:111122223333:key/1a2b3c4d-5e6f-4a1b-8c2d-3e4f5a6b7c8d";
    let text = text
        .replace("dir = \"state\"", "dir = \"nowhere\"")
        .replace("socket = \"admin.sock\"", "socket = \"run/admin.sock\"")
        .replace(&uid, "allowed_uids = []")
        .replace(&key.id, arn);
    std::fs::write(&config, text).unwrap();
    assert_notes(
        &config,
        &[
            &["state.dir:", "nowhere is no directory on this machine"],
            &["admin.socket:", "run is no directory on this machine"],
            &[
                "admin.allowed_uids: is [], and no role that may freeze has a user: nobody can freeze",
            ],
            &["signers \"ec\": region is \"eu-test-1\", but key_id", "is in \"eu-test-2\""],
        ],
    );
}

#[test]
fn a_program_reads_the_mistakes_as_json_and_the_exit_status_is_one() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let config =
        world.proxy().server("limits = 3").signer("ec", &key).caller(ALICE, &["ec"]).write();
    world.scratch.write("proxy/server.key", "no key");
    let (output, found) = check_json(&config);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((&found["ok"], &found["notes"]), (&json!(false), &json!([])));
    let mistakes: Vec<String> = serde_json::from_value(found["mistakes"].clone()).unwrap();
    assert_eq!(mistakes.len(), 2, "{mistakes:#?}");
    assert!(mistakes[0].starts_with("server.limits: no such key"), "{mistakes:#?}");
    assert!(mistakes[1].starts_with("server.tls.private_key_file: "), "{mistakes:#?}");
    let (output, found) = check_json(&world.scratch.path("none.toml"));
    assert_eq!(output.status.code(), Some(1));
    assert!(found["mistakes"][0].as_str().unwrap().starts_with("cannot be read"), "{found:#}");
}

/// Gives the proxy a server certificate that does not end soon, which is noted.
fn lasting(world: &World) {
    let server = world.pki.issue(&Profile { days: (-1, 90), ..Profile::server() });
    world.scratch.write("proxy/server.pem", server.certificate_pem);
    world.scratch.write("proxy/server.key", server.key_pem);
}
