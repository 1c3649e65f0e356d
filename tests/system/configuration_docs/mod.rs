//! `docs/reference/configuration.md` says nothing by itself: its tables are made here, out of
//! the comments in `config/signing-proxy.toml` and of what the parser says of each key;
//! the defaults that stand there, and what a reload takes, are those of the code.
//!
//! `UPDATE_DOCS=1 cargo test --release --workspace --test system configuration_docs` writes them anew.

mod example;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use configuration::{Config, Environment};

use signing_proxy::materials::Materials;
use system_tests::audit_key::example_registry;
use system_tests::programs::repository;
use system_tests::{Pki, Profile, Scratch};

use example::{Example, Key, Name, Section, Variable};

const PAGE: &str = "docs/reference/configuration.md";
const BEGIN: &str = "<!-- made by tests/system/configuration_docs/mod.rs: begin -->\n";
const END: &str = "<!-- made by tests/system/configuration_docs/mod.rs: end -->\n";

/// What the example's approvers file may hold.
const APPROVERS: &[u8] = b"alice@example.com ssh-ed25519 \
    AAAAC3NzaC1lZDI1NTE5AAAAIAQAxQiHONhJxhKb1jHr+c5KS0J/Er3qYrdtFx6sl0Te\n";

/// The files that the example names, each also under another name.
struct Files {
    scratch: Scratch,
}

impl Files {
    fn make() -> Self {
        let (scratch, pki) = (Scratch::new(), Pki::new());
        let server = pki.issue(&Profile::server());
        let registry = example_registry(&scratch.path("audit.key"));
        let audit_key = std::fs::read(scratch.path("audit.key")).unwrap();
        for (name, content) in [
            ("server.pem", server.certificate_pem.as_bytes()),
            ("server.key", server.key_pem.as_bytes()),
            ("client-ca.pem", pki.ca_pem.as_bytes()),
            ("signers.json", registry.as_bytes()),
            ("audit.key", &audit_key),
            ("approvers", APPROVERS),
        ] {
            scratch.write(name, content);
            scratch.write(&format!("other-{name}"), content);
        }
        Self { scratch }
    }

    /// What the parser makes of `text`, in which the example's files are these, and the proxy is of a
    /// fleet, so that its section says something.
    fn load(&self, text: &str) -> Result<Config, Vec<String>> {
        let text = text.replace("/etc/signing-proxy/tls/", "").replace("/etc/signing-proxy/", "");
        let text = text.replace("\nname = \"\"\n", "\nname = \"all\"\n");
        let file = self.scratch.write("signing-proxy.toml", text);
        let loaded = Materials::load(&file, &Environment::default());
        loaded.map(|materials| materials.config).map_err(|error| error.mistakes)
    }
}

/// Every mistake that the parser finds.
fn mistakes(text: &str) -> Vec<String> {
    let scratch = Scratch::new();
    let file = scratch.write("signing-proxy.toml", text);
    let mistakes = Materials::load(&file, &Environment::default()).err().unwrap().mistakes;
    mistakes.iter().map(|mistake| mistake.replace("[0]", "")).collect()
}

/// Every key that the parser knows, by section: it lists them beside an unknown one.
fn known(example: &Example) -> BTreeMap<String, BTreeSet<String>> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for provider in ["aws-kms", "pkcs11", "development"] {
        let mut text = "x = 1\n".to_owned();
        for section in example.sections.iter().filter(|section| section.name() != "aliases") {
            text += &format!("{}x = 1\n", section.open(Some(provider)));
        }
        // Lists that were opened for the lists in them hold more than one entry then.
        let text = text.replace("[[signers]]\n[[signers.upstreams]]", "[[signers.upstreams]]");
        let text = text.replace("[[callers]]\n[[callers.signers]]", "[[callers.signers]]");
        let local = "[[server.local.callers]]";
        let text = text.replace(&format!("[[server.local]]\n{local}"), local);
        for mistake in mistakes(&text) {
            let Some((path, keys)) = mistake.split_once(": no such key; known here: ") else {
                continue;
            };
            let section = path.strip_suffix('x').unwrap().trim_end_matches('.').to_owned();
            known.entry(section).or_default().extend(keys.split(", ").map(str::to_owned));
        }
    }
    known
}

/// What the parser expects of a key: it says so beside a value of no kind it takes.
fn expected(section: &Section, key: &str, known: &BTreeMap<String, BTreeSet<String>>) -> String {
    let provider = match key {
        "provider" => None,
        "key_file" => Some("development"),
        "module" | "token_label" | "key_label" | "pin_file" | "pin_credential" | "threads"
        | "start_timeout_ms" | "worker" => Some("pkcs11"),
        _ => Some("aws-kms"),
    };
    let text = format!("{}{key} = 1979-05-27\n", section.open(provider));
    let begin = format!("{}.{key}: is the time 1979-05-27, expected ", section.name());
    let said = mistakes(&text).iter().find_map(|said| Some(said.strip_prefix(&begin)?.to_owned()));
    let said =
        said.unwrap_or_else(|| panic!("{begin}? in {:?}, known: {known:?}", mistakes(&text)));
    match said.as_str() {
        "a text in quotes" => "text".to_owned(),
        "a list of texts in quotes: [...]" => "list of texts".to_owned(),
        "a list of numeric ids: [...]" => "list of numbers".to_owned(),
        "a numeric id, without quotes" => "number".to_owned(),
        "true or false" => said,
        range => range.strip_prefix("a whole number from ").unwrap().to_owned(),
    }
}

/// What a key takes: as the parser says, but for a least value that the example's
/// comment says more closely (`18 to 16777216`, `body_max_bytes to ...`).
fn value(
    section: &Section,
    key: &Key,
    name: &str,
    known: &BTreeMap<String, BTreeSet<String>>,
) -> String {
    let expected = expected(section, name, known);
    let Some((_, most)) = expected.split_once(" to ") else { return expected };
    let said = key.comment.split_once(&format!(" to {most}")).map(|(before, _)| before);
    match said.and_then(|before| before.rsplit(' ').next()) {
        Some(least) => format!("{least} to {most}"),
        None => expected,
    }
}

/// The part of the page that is made.
fn made(example: &Example) -> String {
    let known = known(example);
    let mut page = BEGIN.to_owned();
    for section in &example.sections {
        write!(page, "\n### `{}`\n\n", section.header).unwrap();
        if !section.comment.is_empty() {
            write!(page, "{}\n\n", section.comment).unwrap();
        }
        page +=
            "| key | value | default | takes effect | meaning |\n| --- | --- | --- | --- | --- |\n";
        for key in &section.keys {
            let (name, value) = match &key.name {
                Name::Fixed(name) => (format!("`{name}`"), value(section, key, name, &known)),
                Name::Users => ("any name".to_owned(), "text".to_owned()),
            };
            let takes_effect = section.takes_effect();
            let meaning = key.comment.strip_prefix("Required. ").unwrap_or(&key.comment);
            assert!(!meaning.contains('|'), "{name}: a table has no place for: {meaning}");
            writeln!(page, "| {name} | {value} | {} | {takes_effect} | {meaning} |", key.default())
                .unwrap();
        }
    }
    page += "\n### Environment variables\n\n| variable | meaning |\n| --- | --- |\n";
    for Variable { names, meaning } in &example.variables {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        writeln!(page, "| {} | {meaning} |", names.join(", ")).unwrap();
    }
    page + "\n" + END
}

#[test]
fn the_page_is_what_the_example_and_the_parser_say() {
    let path = repository().join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{}{after}", made(&Example::read()));
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    let differing = page.lines().zip(expected.lines()).find(|(found, wanted)| found != wanted);
    assert!(
        page == expected,
        "{PAGE} is not what config/signing-proxy.toml and the parser say: {differing:?}\n\
         UPDATE_DOCS=1 cargo test --release --workspace --test system configuration_docs writes it anew"
    );
}

#[test]
fn the_example_has_every_key_that_the_parser_knows_and_no_other() {
    let example = Example::read();
    let names = example.names();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (section, _, key) in example.keys() {
        found.entry(section.name()).or_default().insert(key.to_owned());
    }
    // A section is a key of the one above it.
    for name in &names {
        let (above, key) = name.rsplit_once('.').unwrap_or(("", name));
        found.entry(above.to_owned()).or_default().insert(key.to_owned());
    }
    assert_eq!(found, known(&example));
}

#[test]
fn a_default_that_the_example_shows_is_what_holds_without_its_line() {
    let (example, files) = (Example::read(), Files::make());
    let whole = format!("{:?}", files.load(&example.text).unwrap());
    for (section, key, name) in example.keys() {
        let path = format!("{}.{name}", section.name());
        let Some(line) = key.line else {
            if key.is_required() {
                assert_missing(&mistakes(&section.open(Some("development"))), &path);
            }
            continue;
        };
        let without = files.load(&example.with_line(line, ""));
        if key.is_required() {
            assert_missing(&without.unwrap_err(), &path);
        } else {
            let without = without.unwrap_or_else(|mistakes| panic!("{path}: {mistakes:?}"));
            let is_the_same = format!("{without:?}") == whole;
            assert!(is_the_same || key.comment.contains("Default: "), "{path}: another default");
        }
    }
}

#[test]
fn a_key_takes_effect_when_the_page_says_so() {
    let (example, files) = (Example::read(), Files::make());
    let running = files.load(&example.text).unwrap();
    let mut unchanged = Vec::new();
    for (section, key, name) in example.keys() {
        let changed = key.line.and_then(|line| {
            let with = |other: &String| example.with_line(line, &format!("{name} = {other}"));
            key.others().iter().map(with).find_map(|text| files.load(&text).ok())
        });
        let path = format!("{}.{name}", section.name());
        let Some(changed) = changed else {
            unchanged.push(path);
            continue;
        };
        let refused = running.takes_a_restart(&changed);
        assert_eq!(refused.is_empty(), section.takes_effect() == "reload", "{path}: {refused:?}");
    }
    // Each of these would need another line or file changed with it.
    assert_eq!(
        unchanged,
        [
            "server.tls.client_crl_files",
            "server.local.listen",
            "server.local.callers.name",
            "server.local.callers.uid",
            "server.local.callers.token_sha256",
            "server.local.callers.access_key_id",
            "server.local.callers.secret_access_key_file",
            "server.local.callers.secret_access_key_credential",
            "server.local.callers.anyone",
            "audit.previous_key_file",
            "audit.reader_group",
            "trail.required_socket",
            "trail.uid",
            "traces.endpoint",
            "fleet.approvers.unfreeze_roles",
            "fleet.approvers.roles.role",
            "fleet.approvers.roles.principals",
            "signers.kid",
            "signers.upstreams.provider",
            "signers.upstreams.endpoint",
            "signers.upstreams.module",
            "signers.upstreams.token_label",
            "signers.upstreams.key_label",
            "signers.upstreams.key_id",
            "signers.upstreams.pin_file",
            "signers.upstreams.pin_credential",
            "signers.upstreams.threads",
            "signers.upstreams.start_timeout_ms",
            "signers.upstreams.worker",
            "signers.upstreams.key_file",
            "dialects.digest_field",
            "dialects.echo_field",
            "callers.requests_per_second_max",
            "callers.burst_max",
            "callers.signers.kid",
            "callers.signers.algorithms",
        ]
    );
}

fn assert_missing(mistakes: &[String], path: &str) {
    let begin = format!("{path}: is missing");
    let is_it = |said: &String| said.replace("[0]", "").starts_with(&begin);
    assert!(mistakes.iter().any(is_it), "{path}: {mistakes:?}");
}

#[test]
fn the_example_says_every_limit_that_the_parser_holds_to() {
    let example = Example::read();
    let known = known(&example);
    for (section, key, name) in example.keys() {
        let expected = expected(section, name, &known);
        let Some((_, most)) = expected.split_once(" to ") else { continue };
        let for_all = section.keys.iter().find(|key| key.comment.contains("every *_ms key"));
        let said = match for_all {
            Some(first) if name.ends_with("_ms") => &first.comment,
            _ => &key.comment,
        };
        assert!(said.contains(&format!(" to {most}")), "{name}: {expected}, but: {said}");
    }
}

#[test]
fn every_variable_that_the_programs_read_is_on_the_page() {
    let page = std::fs::read_to_string(repository().join(PAGE)).unwrap();
    let sources = [
        "host/src/environment.rs",
        "configuration/src/aws_kms.rs",
        "upstream/src/settings/proxies.rs",
        "signctl/src/main.rs",
        "signctl/src/breakglass/unlock.rs",
        "signctl/src/signers.rs",
    ]
    .map(|file| std::fs::read_to_string(repository().join(file)).unwrap());
    let code = sources.iter().filter_map(|text| text.split("#[cfg(test)]").next());
    let is_variable = |word: &&str| {
        word.len() > 5
            && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    let read: BTreeSet<&str> = code.flat_map(|text| text.split('"')).filter(is_variable).collect();
    assert!(read.len() >= 20, "{read:?}");
    for variable in read.iter().chain([&"RUST_LOG"]) {
        assert!(page.contains(&format!("`{variable}")), "{variable} is not on {PAGE}");
    }
}
