//! Every mistake that keeps a daemon from doing its work, or will one day: `check` finds each, of both
//! daemons, and says the key, the value and what to do.

mod proxy;
mod signer;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use system_tests::breakglass::SignerBuilder;
use system_tests::{Kind, ProxyBuilder, World};

use crate::ALICE;

/// How `check` has to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// Exit 1.
    Mistake,
    Note,
    /// A mistake in production, and a note elsewhere.
    MistakeInProduction,
}

/// One thing that is wrong.
struct Row {
    name: &'static str,
    spoil: fn(&Place),
    environment: &'static [(&'static str, &'static str)],
    is: Is,
    /// The key, the value and what to do, in one sentence.
    says: &'static [&'static str],
}

const fn row(name: &'static str, is: Is, spoil: fn(&Place), says: &'static [&'static str]) -> Row {
    Row { name, spoil, environment: &[], is, says }
}

const fn variable(
    variable: &'static [(&'static str, &'static str)],
    is: Is,
    says: &'static [&'static str],
) -> Row {
    Row { name: variable[0].0, spoil: |_| {}, environment: variable, is, says }
}

/// A daemon's configuration with its files.
struct Place<'w> {
    world: &'w World,
    directory: PathBuf,
    config: &'static str,
}

impl Place<'_> {
    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(file), bytes).unwrap();
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        self.write(file, text.replacen(from, to, 1));
    }

    /// Edits the configuration.
    fn configure(&self, from: &str, to: &str) {
        self.edit(self.config, from, to);
    }

    fn chmod(&self, file: &str, mode: u32) {
        fs::set_permissions(self.path(file), fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// A daemon: how its files are written, and how it is asked.
trait Daemon {
    const PROGRAM: &'static str;
    fn place<'w>(world: &'w World, in_production: bool) -> (Place<'w>, Command);
}

struct Proxy;
struct Signer;

impl Daemon for Proxy {
    const PROGRAM: &'static str = "signing-proxy";

    fn place<'w>(world: &'w World, in_production: bool) -> (Place<'w>, Command) {
        let key = world.kms.key(Kind::P256);
        let builder: ProxyBuilder<'_> = world.proxy().signer("ec", &key).caller(ALICE, &["ec"]);
        let builder = builder.tls("client_crl_files = [\"clients.crl\"]\n");
        let config = builder.write();
        world.scratch.write("proxy/clients.crl", world.pki.revocation_list(&[], 60));
        if in_production {
            let text = fs::read_to_string(&config).unwrap();
            let text = text.replacen("environment = \"test\"", "environment = \"production\"", 1);
            // Nothing is asked: it is looked at alone.
            fs::write(&config, text.replacen("http://", "https://", 1)).unwrap();
        }
        assert!(builder.verb("init", &config).output().unwrap().status.success());
        let directory = config.parent().unwrap().to_owned();
        let check = builder.verb("check", &config);
        (Place { world, directory, config: "signing-proxy.toml" }, check)
    }
}

impl Daemon for Signer {
    const PROGRAM: &'static str = "breakglass-signer";

    fn place<'w>(world: &'w World, in_production: bool) -> (Place<'w>, Command) {
        let key = world.kms.key(Kind::Ed25519);
        let mut builder: SignerBuilder<'_> =
            world.signer().replaces("payments", &key).min_outage_s(300);
        if in_production {
            builder = builder.production();
        }
        let config = builder.write();
        assert!(builder.verb("init", &config).output().unwrap().status.success());
        let directory = config.parent().unwrap().to_owned();
        let check = builder.verb("check", &config);
        (Place { world, directory, config: "breakglass-signer.toml" }, check)
    }
}

/// What `check` says, after that: its mistakes and its notes.
fn checked(mut check: Command, row: &Row) -> (bool, Vec<String>, Vec<String>) {
    let output = check.arg("--json").envs(row.environment.iter().copied()).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{}: {}", row.name, String::from_utf8_lossy(&output.stderr));
    });
    let texts = |key: &str| serde_json::from_value(found[key].clone()).unwrap();
    assert_eq!(found["ok"], output.status.success(), "{}: {found:#}", row.name);
    (output.status.success(), texts("mistakes"), texts("notes"))
}

/// What is wrong with how `check` takes that row.
fn judge<D: Daemon>(row: &Row, in_production: bool) -> Option<String> {
    let world = World::new();
    let (place, check) = D::place(&world, in_production);
    (row.spoil)(&place);
    let (ok, mistakes, notes) = checked(check, row);
    let has =
        |said: &[String]| said.iter().any(|one| row.says.iter().all(|words| one.contains(words)));
    let is_mistake = row.is == Is::Mistake || (row.is == Is::MistakeInProduction && in_production);
    let is_found = if is_mistake { !ok && has(&mistakes) } else { has(&notes) };
    // A note alone keeps nobody from starting.
    let is_right = is_found && (is_mistake || (ok && mistakes.is_empty()));
    (!is_right).then(|| {
        format!(
            "{} {} (in production: {in_production}) is {:?} {:?}; mistakes {mistakes:#?}, notes {notes:#?}",
            D::PROGRAM, row.name, row.is, row.says
        )
    })
}

fn finds_all<D: Daemon>(rows: &[Row]) {
    let nothing = row("nothing", Is::Note, |_| {}, &[]);
    for in_production in [false, true] {
        let world = World::new();
        let (_, check) = D::place(&world, in_production);
        let (ok, mistakes, _) = checked(check, &nothing);
        assert!(ok, "{}, in production: {in_production}: {mistakes:#?}", D::PROGRAM);
    }
    let modes = |is: Is| if is == Is::MistakeInProduction { &[false, true][..] } else { &[false] };
    let wrong: Vec<_> = rows
        .iter()
        .flat_map(|row| modes(row.is).iter().filter_map(|production| judge::<D>(row, *production)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn check_of_the_proxy_says_key_value_and_fix_of_whatever_is_wrong() {
    finds_all::<Proxy>(proxy::ROWS);
}

#[test]
fn check_of_the_emergency_signer_says_key_value_and_fix_of_whatever_is_wrong() {
    finds_all::<Signer>(signer::ROWS);
}
