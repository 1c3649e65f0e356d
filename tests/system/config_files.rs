//! Configuration: the examples load, and every mistake is told at once.

use std::process::{Command, Output};

use serde_json::json;
use system_tests::audit_key::example_registry;
use system_tests::proxy::entry;
use system_tests::{Kind, Profile, Scratch, SoftHsm, World, programs};

use crate::ALICE;

pub(crate) fn check(config: &std::path::Path, environment: &[(&str, &str)]) -> Output {
    Command::new(programs::ours("signing-proxy"))
        .args(["check", "--config"])
        .arg(config)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn the_example_configuration_and_registry_have_no_mistakes() {
    let world = World::new();
    let server = world.pki.issue(&Profile::server());
    let certificate = world.scratch.write("server.pem", &server.certificate_pem);
    let key = world.scratch.write("server.key", &server.key_pem);
    let ca = world.scratch.write("ca.pem", &world.pki.ca_pem);
    let audit = world.scratch.path("audit.key");
    let registry = world.scratch.write("signers.json", example_registry(&audit));
    let environment = [
        ("SIGNING_PROXY__SERVER__TLS__CERTIFICATE_FILE", certificate.to_str().unwrap()),
        ("SIGNING_PROXY__SERVER__TLS__PRIVATE_KEY_FILE", key.to_str().unwrap()),
        ("SIGNING_PROXY__SERVER__TLS__CLIENT_CA_FILE", ca.to_str().unwrap()),
        ("SIGNING_PROXY__AUDIT__KEY_FILE", audit.to_str().unwrap()),
        ("SIGNING_PROXY__REGISTRY__FILE", registry.to_str().unwrap()),
    ];
    let output = check(&programs::repository().join("config/signing-proxy.toml"), &environment);
    assert!(output.status.success(), "{}", said(&output));
}

/// Every key of every section, as the parser names it in its messages.
#[test]
fn the_example_configuration_documents_every_key() {
    let example =
        std::fs::read_to_string(programs::repository().join("config/signing-proxy.toml")).unwrap();
    let scratch = Scratch::new();
    // An unknown key in each section makes the parser list the known ones.
    let config = scratch.write(
        "c.toml",
        "x = 1\n[deployment]\nx = 1\n[server]\nx = 1\n[server.tls]\nx = 1\n[metrics]\nx = 1\n[admin]\nx = 1\n\
         [state]\nx = 1\n[registry]\nx = 1\n[gate]\nx = 1\n[fleet]\nx = 1\n[fleet.approvers]\nx = 1\n\
         [[fleet.approvers.roles]]\nrole = \"r\"\nprincipals = [\"a\"]\nx = 1\n[[signers]]\nkid = \"k\"\nx = 1\n\
         [[signers.upstreams]]\nprovider = \"aws-kms\"\nx = 1\n[[callers]]\nname = \"c.example\"\nx = 1\n\
         [[callers.signers]]\nkid = \"k\"\nx = 1\n",
    );
    let said = said(&check(&config, &[]));
    let lists: Vec<_> = said.lines().filter_map(|line| line.split_once("known here: ")).collect();
    assert_eq!(lists.len(), 16, "{said}");
    for (section, keys) in lists {
        for key in keys.split(", ") {
            let documented = example.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ']);
                let line = line.trim_start_matches('[');
                line.starts_with(&format!("{key} ="))
                    || line.split(['.', ']']).any(|part| part == key)
            });
            assert!(documented, "{key} ({section}) is not in config/signing-proxy.toml");
        }
    }
}

#[test]
fn every_mistake_is_told_at_once_with_key_value_and_fix() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    assert!(check(&config, &[]).status.success());
    let text = std::fs::read_to_string(&config).unwrap();
    let spoilt = text
        .replace("environment = \"test\"", "environment = \"tset\"")
        .replace("lease_ms = 4000", "lease_ms = 1000")
        .replace(
            "listen = \"127.0.0.1:0\"\n\n[server.tls]",
            "listen = \"everywhere\"\nlimits = 3\n\n[server.tls]",
        )
        .replace("algorithms = [\"ECDSA_SHA_256\"]", "algorithms = [\"ROT13\"]")
        .replace("default_signer = \"ec\"", "default_signer = \"ce\"")
        .replace("region = \"eu-test-1\"", "region = 7")
        .replace("name = \"spiffe://test/alice\"", "name = \"spiffe://\"");
    std::fs::write(&config, spoilt).unwrap();
    let output = check(&config, &[]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in [
        "deployment.environment: is \"tset\", expected production, test or development",
        "gate.lease_ms: is 1000, expected at least",
        "server.listen: \"everywhere\" is not an address and port",
        "server.limits: no such key; known here:",
        "algorithms: \"ROT13\" is not one of",
        "default_signer: \"ce\" is not one of this caller's signers",
        "region: is the number 7, expected a text",
        "callers[0].name: \"spiffe://\" is not a SPIFFE ID",
        // Since the environment is none, it counts as production.
        "endpoint: \"http://",
    ] {
        assert!(said.contains(expected), "missing: {expected}\n{said}");
    }
}

#[test]
fn mistakes_in_the_files_are_told_at_once_too() {
    let world = World::new();
    let (key, other) = (world.kms.key(Kind::P256), world.kms.key(Kind::Ed25519));
    let config =
        world.proxy().signer("ec", &key).signer("ed", &other).caller(ALICE, &["ec"]).write();
    let pem = &key.public_key_pem;
    let registry = json!({"signers": [
        {"signer_kid": "ec", "algorithm": "ed25519", "public_key_pem": pem},
        {"signer_kid": "twice", "algorithm": "ecdsa-p256-sha256", "public_key_pem": pem},
        {"signer_kid": "thrice", "algorithm": "ecdsa-p256-sha256", "public_key_pem": pem},
    ]});
    world.scratch.write("proxy/signers.json", registry.to_string());
    world.scratch.write("proxy/server.key", "no key");
    world.scratch.write("proxy/ca.pem", "");
    let output = check(&config, &[]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1));
    for expected in [
        "signer \"ec\": public_key_pem is a key of kind P-256",
        "signer \"thrice\": has the same key as signer \"twice\"",
        "server.tls.private_key_file:",
        "server.tls.client_ca_file:",
    ] {
        assert!(said.contains(expected), "missing: {expected}\n{said}");
    }
}

#[test]
fn an_ml_dsa_key_is_not_asked_of_a_token() {
    let world = World::new();
    let hsm = SoftHsm::new("payments");
    let key = world.kms.key(Kind::MlDsa65);
    let config = world.proxy().token("ml", &hsm, &key, "").caller(ALICE, &["ml"]).write();
    let output = check(&config, &[]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let why =
        "signers: \"ml\": the registered key is of kind ML-DSA-65, which a PKCS#11 upstream does";
    assert!(said.contains(why), "{said}");
}

#[test]
fn mistakes_of_the_configuration_and_of_its_files_are_told_in_one_run() {
    let world = World::new();
    let (key, other) = (world.kms.key(Kind::P256), world.kms.key(Kind::Ed25519));
    let config =
        world.proxy().signer("ec", &key).signer("ed", &other).caller(ALICE, &["ec"]).write();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("lease_ms = 4000", "lease_ms = \"long\"")
            .replace("client_ca_file = \"ca.pem\"", "")
            // "ed" has no upstream that can be read; it has to be registered all the same.
            .replace(
                "kid = \"ed\"\n[[signers.upstreams]]\nprovider = \"aws-kms\"",
                "kid = \"ed\"\n[[signers.upstreams]]\nprovider = \"gcp\"",
            ),
    )
    .unwrap();
    world.scratch.write(
        "proxy/signers.json",
        json!({"signers": [{"signer_kid": "ec", "algorithm": "ed25519", "public_key_pem": key.public_key_pem}]}).to_string(),
    );
    world.scratch.write("proxy/server.key", "no key");
    let output = check(&config, &[]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in [
        "gate.lease_ms: is the text \"long\", expected a whole number from 100 to 600000",
        "signers[1].upstreams[0].provider: is \"gcp\", expected \"aws-kms\", \"pkcs11\" or \"development\"",
        "server.tls.client_ca_file: is missing; name the PEM",
        "server.tls.private_key_file:",
        "signer \"ec\": public_key_pem is a key of kind P-256",
        "signers: \"ed\" is not registered in",
    ] {
        assert!(said.contains(expected), "missing: {expected}\n{said}");
    }
    assert!(said.contains(": 6 mistakes"), "each once, and nothing that follows from them: {said}");
}

#[test]
fn a_registry_that_can_not_be_read_is_one_mistake_and_not_one_for_each_signer() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    for spoil in [
        |registry: &std::path::Path| std::fs::write(registry, "{\"signers\": 7}").unwrap(),
        |registry: &std::path::Path| std::fs::remove_file(registry).unwrap(),
    ] {
        spoil(&world.scratch.path("proxy/signers.json"));
        let said = said(&check(&config, &[]));
        assert!(said.contains(": 1 mistake\n  - registry.file: "), "{said}");
    }
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("file = \"signers.json\"", "")).unwrap();
    let said = said(&check(&config, &[]));
    assert!(said.contains(": 1 mistake\n  - registry.file: is missing"), "{said}");
}

#[test]
fn a_kid_that_the_registry_can_not_serve_says_why() {
    let world = World::new();
    let keys = [(); 3].map(|()| world.kms.key(Kind::P256));
    let mut audit = entry("audit", &keys[1]);
    audit["purpose"] = "audit".into();
    let mut unknown = entry("unknown", &keys[2]);
    unknown["algorithm"] = "sm2-sm3".into();
    let config = world
        .proxy()
        .signer("ec", &keys[0])
        .signer("audit", &keys[1])
        .signer("unknown", &keys[2])
        .registered(audit)
        .registered(unknown)
        .caller(ALICE, &["ec"])
        .write();
    let said = said(&check(&config, &[]));
    assert!(said.contains("\"audit\" is registered in"), "{said}");
    assert!(said.contains("for another purpose than signing, \"audit\""), "{said}");
    assert!(said.contains("with algorithm \"sm2-sm3\", which is not supported"), "{said}");
    assert!(said.contains(": 2 mistakes"), "{said}");
}

/// Relations between values that keep the proxy from ever working.
#[test]
fn values_that_can_not_work_together_are_mistakes() {
    let world = World::new();
    let (key, other) = (world.kms.key(Kind::P256), world.kms.key(Kind::Ed25519));
    let config = world
        .proxy()
        .server("body_max_bytes = 17")
        .signer("ec", &key)
        .signer("twin", &other)
        .caller(ALICE, &["ec"])
        .write();
    let text = std::fs::read_to_string(&config).unwrap();
    let long = format!("{}/admin.sock", "d".repeat(107));
    let spoilt = text
        .replace("listen = \"127.0.0.1:0\"\nbody", "listen = \"0.0.0.0:9464\"\nbody")
        .replace("[metrics]\nlisten = \"127.0.0.1:0\"", "[metrics]\nlisten = \"127.0.0.1:9464\"")
        .replace("socket = \"admin.sock\"", &format!("socket = \"/{long}\""))
        .replace("dir = \"state\"", "dir = \"\"")
        .replace(&other.id, &key.id);
    std::fs::write(&config, spoilt).unwrap();
    let output = check(&config, &[]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in [
        "server.body_max_bytes: is 17, expected at least 18",
        "metrics.listen: is 127.0.0.1:9464, which server.listen 0.0.0.0:9464 takes already; give one",
        "with 119 bytes, expected at most 107, the limit of a unix socket's path; name a shorter",
        "state.dir: is empty; name a directory",
        "of signer \"ec\"; a key has one kid, so name another key",
    ] {
        assert!(said.contains(expected), "missing: {expected}\n{said}");
    }
    assert!(said.contains(": 5 mistakes"), "{said}");
}

#[test]
fn a_value_that_is_mistaken_in_itself_is_in_no_relation() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let gate = "lease_ms = 4000\nprobe_interval_ms = 9000000\nprobe_timeout_ms = 2500";
    let kms = "connect_timeout_ms = 1900\ncall_timeout_ms = \"2 s\"";
    let server = "bodies_max_bytes = 1000\nbody_max_bytes = 99999999";
    let config = world
        .proxy()
        .gate(gate)
        .kms(kms)
        .server(server)
        .signer("ec", &key)
        .caller(ALICE, &["ec"])
        .write();
    let said = said(&check(&config, &[]));
    for expected in ["probe_interval_ms: is 9000000", "call_timeout_ms: is", "body_max_bytes: is"] {
        assert!(said.contains(expected), "missing: {expected}\n{said}");
    }
    assert!(said.contains(": 3 mistakes"), "{said}");
}

#[test]
fn a_server_certificate_that_is_over_is_a_mistake() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    let old = world.pki.issue(&Profile { days: (-9, -2), ..Profile::server() });
    world.scratch.write("proxy/server.pem", old.certificate_pem);
    world.scratch.write("proxy/server.key", old.key_pem);
    // Told also when another file keeps TLS from being read.
    world.scratch.write("proxy/ca.pem", "");
    let output = check(&config, &[]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("server.pem ended at 20") && said.contains("; renew it"), "{said}");
    assert!(said.contains("server.tls.client_ca_file:"), "{said}");
}

#[test]
fn i3_http_endpoints_and_the_development_provider_are_refused_in_production() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    let production = [("SIGNING_PROXY__DEPLOYMENT__ENVIRONMENT", "production")];
    let output = check(&config, &production);
    assert!(!output.status.success());
    assert!(said(&output).contains("is not encrypted; use https://"), "{}", said(&output));
    let elsewhere = std::fs::read_to_string(&config)
        .unwrap()
        .replace("http://127.0.0.1", "http://198.51.100.7");
    std::fs::write(&config, &elsewhere).unwrap();
    assert!(
        said(&check(&config, &[])).contains("is not encrypted"),
        "only loopback, even in tests"
    );
    let development =
        elsewhere.replace("provider = \"aws-kms\"", "provider = \"development\"\nkey_file = \"k\"");
    std::fs::write(&config, development).unwrap();
    assert!(said(&check(&config, &[])).contains("needs deployment.environment = \"development\""));
}

#[test]
fn a_key_that_is_set_by_the_ecosystems_variables_needs_no_line_in_the_file() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    let text = std::fs::read_to_string(&config).unwrap();
    let without: Vec<_> = text
        .lines()
        .filter(|line| !["key_id", "region", "endpoint"].iter().any(|key| line.starts_with(key)))
        .collect();
    std::fs::write(&config, without.join("\n")).unwrap();
    let missing = said(&check(&config, &[]));
    assert!(
        missing.contains("set it or KMS_KEY_ID") && missing.contains("set it or AWS_REGION"),
        "{missing}"
    );
    let environment = [
        ("KMS_KEY_ID", key.id.as_str()),
        ("AWS_DEFAULT_REGION", "eu-test-1"),
        ("KMS_ENDPOINT", world.kms.endpoint.as_str()),
    ];
    let output = check(&config, &environment);
    assert!(output.status.success(), "{}", said(&output));
}
