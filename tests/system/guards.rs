//! Guards of the environment: what asks for the real thing gets it, or nothing.

use std::process::Command;

use system_tests::{Scratch, World, programs};

use crate::config_files::{check, said};

/// Every way in which an environment asks for the real thing.
const GUARDS: [(&str, &str); 6] = [
    ("REQUIRE_KMS", "1"),
    ("REQUIRE_KMS", "TRUE"),
    ("REQUIRE_SIGNING_PROXY", "Yes"),
    ("REQUIRE_SIGNING_PROXY", "y"),
    ("REQUIRE_MTLS", "on"),
    ("NODE_ENV", "production"),
];

/// One key of the development provider beside one behind `http://`.
const UNREAL: &str = "[[signers]]\nkid = \"ed\"\n[[signers.upstreams]]\nprovider = \"development\"\n\
                      key_file = \"ed.pem\"\n";

#[test]
fn i3_every_guard_lists_everything_that_is_not_the_real_thing() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}{UNREAL}")).unwrap();
    for (variable, value) in GUARDS {
        let output = check(&config, &[(variable, value)]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{variable}={value}: {said}");
        for key in [
            "deployment.environment: is \"test\"",
            "signers[0].upstreams[0].endpoint: \"http://127.0.0.1:",
            "signers[1].upstreams[0].provider: is \"development\"",
        ] {
            let line = said.lines().find(|line| line.contains(key));
            let line = line.unwrap_or_else(|| panic!("{variable} says nothing of {key}: {said}"));
            assert!(line.contains(variable), "{line}");
            assert!(line.contains("asks for the real thing; "), "the fix is missing: {line}");
        }
    }
}

#[test]
fn i3_a_guard_refuses_unreal_things_whatever_the_configuration_calls_itself() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}{UNREAL}")).unwrap();
    for environment in ["production", "test", "development"] {
        let variables =
            [("SIGNING_PROXY__DEPLOYMENT__ENVIRONMENT", environment), ("REQUIRE_KMS", "1")];
        let said = said(&check(&config, &variables));
        assert!(said.contains("endpoint: \"http://"), "{environment}: {said}");
        assert!(said.contains("provider: is \"development\""), "{environment}: {said}");
        let itself = said.contains("deployment.environment: is");
        assert_eq!(itself, environment != "production", "{environment}: {said}");
    }
}

#[test]
fn i3_guards_are_content_with_the_real_thing_and_silent_when_false() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    for value in ["0", "false", "no", "n", "off", "", " "] {
        let output = check(&config, &[("REQUIRE_KMS", value), ("REQUIRE_MTLS", value)]);
        assert!(output.status.success(), "{value:?}: {}", said(&output));
    }
    let text = std::fs::read_to_string(&config).unwrap();
    let real = text
        .replace("environment = \"test\"", "environment = \"production\"")
        .replace("endpoint = \"http://", "endpoint = \"https://");
    std::fs::write(&config, real).unwrap();
    for guard in GUARDS {
        let output = check(&config, &[guard]);
        assert!(output.status.success(), "{guard:?}: {}", said(&output));
    }
}

#[test]
fn i3_a_misspelt_guard_refuses_check_serve_and_dev_and_says_what_it_may_be() {
    let (world, key) = World::one_signer();
    for variable in ["REQUIRE_KMS", "REQUIRE_SIGNING_PROXY", "REQUIRE_MTLS"] {
        let line = format!("{variable}: is \"enabled\", expected 1, true, yes, y or on");
        let config = world.proxy_of(&key).write();
        let checked = check(&config, &[(variable, "enabled")]);
        let proxy = world.proxy_of(&key);
        let served = proxy.environment(variable, "enabled").command().output().unwrap();
        let dev = Command::new(programs::ours("signing-proxy"))
            .args(["dev", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--dir"])
            .arg(world.scratch.path("dev"))
            .env_clear()
            .env(variable, "enabled")
            .output()
            .unwrap();
        for output in [checked, served, dev] {
            let said = said(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(&line), "missing: {line}\n{said}");
            assert!(said.contains(&format!("{variable} asks for the real thing")), "{said}");
        }
    }
}

#[test]
fn i3_mutual_tls_is_asked_for_by_what_is_missing() {
    let (world, key) = World::one_signer();
    let config = world.proxy_of(&key).write();
    let text = std::fs::read_to_string(&config).unwrap();
    let files = [
        "certificate_file = \"server.pem\"",
        "private_key_file = \"server.key\"",
        "client_ca_file = \"ca.pem\"",
    ];
    let without = files.iter().fold(text, |text, line| text.replace(line, ""));
    std::fs::write(&config, without).unwrap();
    let said = said(&check(&config, &[("REQUIRE_MTLS", "1")]));
    for key in ["certificate_file", "private_key_file", "client_ca_file"] {
        assert!(said.contains(&format!("server.tls.{key}: is missing; name")), "{said}");
    }
    assert!(said.contains("deployment.environment: is \"test\", but REQUIRE_MTLS asks"), "{said}");
}

#[test]
fn i3_serve_does_not_start_under_a_guard_without_the_real_thing() {
    let (world, key) = World::one_signer();
    for (variable, value) in GUARDS {
        let proxy = world.proxy_of(&key);
        let output = proxy.environment(variable, value).command().output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{variable}: {said}");
        assert!(said.contains("2 mistakes"), "environment and endpoint: {said}");
        assert!(said.contains(variable), "{said}");
        assert!(!said.contains("serving"), "{said}");
        assert!(!world.scratch.path("proxy/admin.sock").exists());
    }
}

#[test]
fn i3_dev_does_not_start_under_a_guard() {
    for (variable, value) in GUARDS {
        let scratch = Scratch::new();
        let output = Command::new(programs::ours("signing-proxy"))
            .args(["dev", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--dir"])
            .arg(scratch.path("dev"))
            .env_clear()
            .env(variable, value)
            .output()
            .unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{variable}: {said}");
        assert!(said.contains("deployment.environment: is \"development\""), "{said}");
        let providers = said.matches("provider: is \"development\"").count();
        assert_eq!(providers, 3, "each development key: {said}");
        assert!(!said.contains("ready {"), "{said}");
    }
}
