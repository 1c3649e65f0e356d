//! Names with a line end or a blank: a mistake in the file, left out of a variable. Either way
//! nothing starts that would never serve.

use std::path::{Path, PathBuf};

use system_tests::{Key, Kind, World};

use crate::ALICE;
use crate::config_files::{check, said};

/// The four names of a KMS key: what the file calls each, and which variable fills it in.
const NAMES: [(&str, &str); 4] = [
    ("key_id", "KMS_KEY_ID"),
    ("region", "AWS_REGION"),
    ("region", "AWS_DEFAULT_REGION"),
    ("endpoint", "KMS_ENDPOINT"),
];

/// What an editor, a Secret or a copy leaves around a value, as TOML writes it.
const AROUND: [(&str, &str); 4] =
    [("\n", r"\n"), ("\r\n", r"\r\n"), (" ", " "), ("\u{200b}", r"\u200b")];

/// A configuration of one KMS key, and the key.
fn written(world: &World) -> (PathBuf, Key) {
    let key = world.kms.key(Kind::P256);
    (world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).write(), key)
}

fn value_of<'a>(world: &'a World, key: &'a Key, name: &str) -> &'a str {
    match name {
        "key_id" => &key.id,
        "region" => world.kms.region,
        _ => &world.kms.endpoint,
    }
}

fn edited(config: &Path, edit: impl Fn(&str) -> String) {
    let text = std::fs::read_to_string(config).unwrap();
    std::fs::write(config, edit(&text)).unwrap();
}

#[test]
fn a_name_with_something_around_it_is_a_mistake_in_the_file_that_shows_it() {
    let world = World::new();
    let (config, key) = written(&world);
    let whole = std::fs::read_to_string(&config).unwrap();
    for (name, value) in [
        ("key_id", key.id.as_str()),
        ("region", world.kms.region),
        ("endpoint", &world.kms.endpoint),
        ("kid", "ec"),
        ("name", ALICE),
        ("name", "test"),
        ("socket", "admin.sock"),
        ("listen", "127.0.0.1:0"),
        ("file", "signers.json"),
        ("key_file", "audit.key"),
        ("certificate_file", "server.pem"),
        ("environment", "test"),
    ] {
        let line = format!("{name} = \"{value}\"");
        assert!(whole.contains(&line), "no {line} in {whole}");
        for (_, written) in AROUND {
            let spoilt = whole.replace(&line, &format!("{name} = \"{value}{written}\""));
            std::fs::write(&config, spoilt).unwrap();
            let output = check(&config, &[]);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(1), "{line} and {written}: {said}");
            let shown = written.replace(r"\u200b", r"\u{200b}");
            let mistake = format!("{name}: is \"{value}{shown}\", which ends with a ");
            assert!(said.contains(&mistake) && said.contains("; remove it"), "{mistake}: {said}");
        }
    }
}

#[tokio::test]
async fn a_variable_is_taken_without_what_is_around_it_which_check_says_and_it_serves() {
    let world = World::new();
    let (config, key) = written(&world);
    edited(&config, |text| {
        let named =
            |line: &&str| NAMES.iter().any(|(name, _)| line.starts_with(&format!("{name} =")));
        text.lines().filter(|line| !named(line)).collect::<Vec<_>>().join("\n")
    });
    for (padded, variable) in NAMES {
        for (around, _) in AROUND {
            let environment: Vec<_> = NAMES
                .into_iter()
                // One of the two regions is enough, and the second is not asked beside the first.
                .filter(|(name, other)| *other == variable || *name != padded)
                .map(|(name, other)| {
                    let value = value_of(&world, &key, name);
                    let value =
                        if other == variable { format!("{value}{around}") } else { value.into() };
                    (other, value)
                })
                .collect();
            let environment: Vec<_> =
                environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let output = check(&config, &environment);
            let said = said(&output);
            assert!(output.status.success(), "{variable}: {said}");
            let value = value_of(&world, &key, padded);
            let note = format!(
                "note: {variable}: is {:?}, and is taken as {value:?}",
                format!("{value}{around}")
            );
            assert!(said.contains(&note), "{note}: {said}");
        }
    }
    // Nothing of it is left in what KMS is asked.
    let builder = NAMES.into_iter().fold(world.proxy(), |builder, (name, variable)| {
        builder.environment(variable, &format!(" {}\n", value_of(&world, &key, name)))
    });
    let builder = builder.environment("SIGNING_PROXY__METRICS__LISTEN", "127.0.0.1:0\n");
    assert!(builder.verb("init", &config).status().unwrap().success());
    let command = builder.verb("serve", &config);
    let proxy = builder.started(command).await;
    proxy.healthy().await;
    assert_eq!(proxy.client(ALICE).await.sign_message("ec", b"hi").await.status, 200);
}

#[test]
fn a_name_of_another_form_is_a_mistake_wherever_it_is_from() {
    let world = World::new();
    let (config, key) = written(&world);
    let whole = std::fs::read_to_string(&config).unwrap();
    for (name, variable, mistaken, words) in [
        ("key_id", "KMS_KEY_ID", "payments", "expected a key id such as"),
        (
            "key_id",
            "KMS_KEY_ID",
            "arn:aws:kms:eu-test-1:000000000000:k",
            "or the ARN of one of them",
        ),
        ("region", "AWS_REGION", "EU (Frankfurt)", "expected a region such as eu-central-1"),
        ("endpoint", "KMS_ENDPOINT", "kms.example.com", "is not a URL such as"),
        ("endpoint", "KMS_ENDPOINT", "https://a:b@kms.example.com", "has a user name in it"),
    ] {
        let line = format!("{name} = \"{}\"", value_of(&world, &key, name));
        std::fs::write(&config, whole.replace(&line, &format!("{name} = \"{mistaken}\""))).unwrap();
        let in_the_file = said(&check(&config, &[]));
        std::fs::write(&config, whole.replace(&line, "")).unwrap();
        let in_a_variable = said(&check(&config, &[(variable, mistaken)]));
        for said in [&in_the_file, &in_a_variable] {
            assert!(
                // A password in it is not repeated.
                said.contains(&format!("{mistaken:?}")) != mistaken.contains('@')
                    && said.contains(words),
                "{words}: {said}"
            );
        }
        assert!(
            in_a_variable.contains(&format!("(of the variable {variable})")),
            "{in_a_variable}"
        );
    }
}

#[test]
fn what_the_sdk_reads_by_itself_is_a_mistake_with_something_around_it() {
    let world = World::new();
    let (config, _) = written(&world);
    let environment = [("AWS_PROFILE", "payments\n"), ("AWS_SECRET_ACCESS_KEY", "hush\n")];
    let said = said(&check(&config, &environment));
    assert!(said.contains(r#"AWS_PROFILE: "payments\n" ends with a line end"#), "{said}");
    assert!(said.contains("AWS_SECRET_ACCESS_KEY: its value ends with a line end"), "{said}");
    assert!(!said.contains("hush"), "{said}");
}
