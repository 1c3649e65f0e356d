//! `config/signing-trail.toml` has every key, and is loaded.

use std::fs;
use std::process::Command;

use system_tests::audit_key::example_registry;
use system_tests::programs::{ours, repository};
use system_tests::{Pki, Profile, Scratch};

fn check(scratch: &Scratch, text: &str) -> (i32, String) {
    let file = scratch.write("signing-trail.toml", text);
    let output =
        Command::new(ours("signing-trail")).arg("check").arg("--config").arg(file).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn the_example_has_every_key_and_is_loaded() {
    let scratch = Scratch::new();
    let registry = example_registry(&scratch.path("audit.key"));
    scratch.write("signers.json", registry);
    scratch.write("postgres.password", "secret\n");
    let (pki, key) =
        (Pki::new(), format!("whsec_{}\n", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="));
    let client = pki.issue(&Profile::client("trail"));
    for (name, content) in [
        ("internal-ca.pem", pki.ca_pem.as_str()),
        ("client.pem", &client.certificate_pem),
        ("client.key", &client.key_pem),
        ("hmac.key", &key),
        ("webhook.token", "token\n"),
        ("policy.token", "token\n"),
    ] {
        scratch.write(name, content);
    }
    fs::create_dir(scratch.path("state")).unwrap();
    let text = fs::read_to_string(repository().join("config/signing-trail.toml")).unwrap();
    let text = text.replace("/etc/signing-trail/", "").replace("/etc/signing-proxy/", "");
    let text = text.replace("/var/lib/signing-trail", "state");
    let (code, said) = check(&scratch, &text);
    assert_eq!(code, 0, "{said}");
    // The parser lists what it knows beside a key that it does not.
    for section in [
        "[journals]",
        "[audit]",
        "[registry]",
        "[postgres]",
        "[archive]",
        "[fleet]",
        "[required]",
        "[replica]",
        "[notify]",
        "[[notify.webhooks]]",
        "[policy]",
        "[metrics]",
    ] {
        let spoilt = text.replace(&format!("{section}\n"), &format!("{section}\nx = 1\n"));
        let (code, said) = check(&scratch, &spoilt);
        assert_eq!(code, 1);
        let known = said.split_once("no such key; known here: ").unwrap().1;
        for key in known.lines().next().unwrap().split(", ") {
            let is_there = [
                format!("\n{key} = "),
                format!("\n# {key} = "),
                format!(".{key}]\n"),
                format!("[[notify.{key}]]\n"),
            ];
            let is_there = is_there.iter().any(|line| text.contains(line));
            assert!(is_there, "{section} {key} is not in the example");
        }
    }
}

#[test]
fn a_server_elsewhere_is_never_spoken_to_without_tls_and_no_password_is_repeated() {
    let scratch = Scratch::new();
    scratch.write("signers.json", example_registry(&scratch.path("audit.key")));
    let text = "[journals]\nproxy = \"j\"\n[audit]\nkey_file = \"audit.key\"\n[registry]\nfile = \"signers.json\"\n\
                [postgres]\nurl = \"postgres://u:hunter2@db.internal/d?sslmode=disable\"\n";
    let (code, said) = check(&scratch, text);
    assert_eq!(code, 1);
    assert!(
        said.contains(
            "postgres.url: says sslmode=disable for a server that is not on this machine"
        ),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
}
