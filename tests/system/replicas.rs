//! A journal begins without a person only where nobody ever had one: `signing-trail register` asks the
//! sink, `init --if-absent` believes nothing but a clear answer. An emptied volume is no first start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use system_tests::breakglass::SignerBuilder;
use system_tests::client::plain;
use system_tests::postgres::Postgres;
use system_tests::trail::Trail;
use system_tests::{Kind, World, eventually};

use crate::ALICE;

/// A volume with the parts that a pod's has, and what runs before a start.
struct Volume {
    program: &'static str,
    config: PathBuf,
    journal: PathBuf,
    state: PathBuf,
    answer: PathBuf,
    name: &'static str,
}

impl Volume {
    fn of_proxy(config: PathBuf, directory: &Path) -> Self {
        Self {
            program: "signing-proxy",
            config,
            journal: directory.join("journal"),
            state: directory.join("state/freeze-and-seals.json"),
            answer: directory.join("state/replica.json"),
            name: "test/p-0",
        }
    }

    fn of_signer(config: PathBuf, directory: &Path) -> Self {
        Self {
            program: "breakglass-signer",
            state: directory.join("state/breakglass-signer.json"),
            ..Self::of_proxy(config, directory)
        }
    }

    /// `init --if-absent`: its exit status, and what it says.
    fn init(&self) -> (i32, String) {
        self.init_as(self.name)
    }

    fn init_as(&self, name: &str) -> (i32, String) {
        let mut command = Command::new(system_tests::programs::ours(self.program));
        command.arg("init").arg("--config").arg(&self.config);
        command.args(["--if-absent", "--replica", name, "--answer"]).arg(&self.answer);
        said(command)
    }

    /// Without the journal, the state and whatever else was written: an empty volume under the same name.
    fn empty(&self) {
        let _ = fs::remove_dir_all(&self.journal);
        for file in fs::read_dir(self.state.parent().unwrap()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }

    /// `signing-trail register`: what it says. It always writes an answer.
    fn register(&self, trail: &Trail) -> String {
        let journal = if self.program == "signing-proxy" { "proxy" } else { "signer" };
        let mut command = trail.verb("register");
        command.args(["--journal", journal, "--answer"]).arg(&self.answer);
        let (status, said) = said(command);
        assert_eq!(status, 0, "{said}");
        assert!(self.answer.exists());
        said
    }

    fn journal_is_there(&self) -> bool {
        self.journal.exists() && fs::read_dir(&self.journal).unwrap().count() > 0
    }

    fn refuses(&self, why: &str) {
        let (status, said) = self.init();
        assert_eq!(status, 1, "{said}");
        assert!(said.contains(why) && said.contains("nothing was made"), "{why}: {said}");
    }
}

fn said(mut command: Command) -> (i32, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

/// A proxy's volume that was never used, and a trail that asks for it.
fn proxy_and_trail(world: &World, postgres: &Postgres) -> (Volume, Trail) {
    let key = world.kms.key(Kind::P256);
    let config = world.proxy().signer("s", &key).caller(ALICE, &["s"]).write();
    let volume = Volume::of_proxy(config, &world.scratch.path("proxy"));
    let registry = world.scratch.path("proxy/signers.json");
    let trail = Trail::new(&[("proxy", &volume.journal)], &registry, postgres).replica(volume.name);
    (volume, trail)
}

fn answers(postgres: &Postgres) -> String {
    postgres
        .sql("SELECT string_agg(answer, ' ' ORDER BY at) FROM signing_proxy.trail_replica_events")
}

#[tokio::test]
async fn an_emptied_volume_is_refused_and_the_sink_has_it_until_a_person_makes_a_new_journal() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let (volume, mut trail) = proxy_and_trail(&world, &postgres);

    assert!(volume.register(&trail).contains("new: "));
    let (status, said_first) = volume.init();
    assert_eq!(status, 0, "{said_first}");
    assert!(said_first.contains("begins") && volume.journal_is_there());
    assert!(!volume.answer.exists(), "an answer is good for one journal");
    let first = fs::read_dir(&volume.journal).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(first).unwrap();
    let recorded = br#""new_replica":"test/p-0""#;
    assert!(bytes.windows(recorded.len()).any(|window| window == recorded));

    // Each later start of the pod.
    assert!(volume.register(&trail).contains("present: "));
    let (status, said_again) = volume.init();
    assert_eq!((status, said_again.contains("nothing was made")), (0, true), "{said_again}");

    volume.empty();
    assert!(volume.register(&trail).contains("known: "));
    volume.refuses("the sink postgres knows test/p-0 since ");
    volume.refuses("docs/operating/lost-journal.md");
    assert!(!volume.journal_is_there());
    assert_eq!(answers(&postgres).trim(), "new journal refused");

    // Another replica's trail tells Prometheus of it: this one's pod does not even start.
    trail.start();
    let metrics = trail.metrics().await;
    let shows = |line: &'static str| {
        let metrics = metrics.clone();
        async move { plain(&metrics, "/metrics").await.text.contains(line).then_some(()) }
    };
    eventually("the refused replica", || shows("\naudit_trail_replicas_refused 1\n")).await;
    assert!(shows("\naudit_trail_newest_replica_timestamp_seconds 1").await.is_some());

    // A person decides, and the trail notes the new log.
    let mut by_hand = Command::new(system_tests::programs::ours("signing-proxy"));
    by_hand.arg("init").arg("--config").arg(&volume.config);
    let (status, made) = said(by_hand);
    assert_eq!(status, 0, "{made}");
    eventually("no replica is refused", || shows("\naudit_trail_replicas_refused 0\n")).await;
    assert_eq!(answers(&postgres).trim(), "new journal refused journal");
}

#[tokio::test]
async fn a_sink_that_cannot_be_asked_starts_no_journal_and_stops_none_that_is_there() {
    let (world, mut postgres) = (World::new(), Postgres::start().await);
    let (volume, trail) = proxy_and_trail(&world, &postgres);
    postgres.kill().await;
    assert!(volume.register(&trail).contains("unknown: the sink postgres: "));
    volume.refuses("no sink said that this replica is new: the sink postgres: ");
    postgres.up().await;
    assert!(volume.register(&trail).contains("new: "));
    assert_eq!(volume.init().0, 0);
    postgres.kill().await;
    assert!(volume.register(&trail).contains("present: "));
    assert_eq!(volume.init().0, 0);
    volume.empty();
    assert!(volume.register(&trail).contains("unknown: "));
    volume.refuses("no sink said");
}

#[tokio::test]
async fn a_database_that_would_forget_is_no_witness() {
    let (world, postgres) = (World::new(), Postgres::start_with(&["fsync=off"]).await);
    let (volume, trail) = proxy_and_trail(&world, &postgres);
    assert!(volume.register(&trail).contains("unknown: the sink postgres: the database has fsync"));
    volume.refuses("fsync = off");
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_goes_on_and_a_fresh_volume_does_not() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let (volume, trail) = proxy_and_trail(&world, &postgres);
    // Stopped between the two: the volume still has the nonce.
    assert!(volume.register(&trail).contains("new: "));
    assert!(volume.register(&trail).contains("new: "));
    let answer = fs::read(&volume.answer).unwrap();
    // Another volume under the same name has not.
    fs::remove_file(&volume.answer).unwrap();
    assert!(volume.register(&trail).contains("known: "));
    volume.refuses("the volume was emptied or replaced");
    // The first one, brought back, is new, and once only.
    fs::write(&volume.answer, &answer).unwrap();
    assert!(volume.register(&trail).contains("new: "));
    assert_eq!(volume.init().0, 0);
    assert!(volume.register(&trail).contains("present: "));
    volume.empty();
    fs::write(&volume.answer, &answer).unwrap();
    assert!(volume.register(&trail).contains("known: "), "a journal was seen here");
    volume.refuses("the volume was emptied or replaced");
}

#[tokio::test]
async fn half_of_a_volume_and_an_answer_about_somebody_else_are_refused() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let (volume, trail) = proxy_and_trail(&world, &postgres);
    volume.refuses("is not there; run first: signing-trail register");
    let _ = volume.register(&trail);
    let (status, other) = volume.init_as("test/p-1");
    assert_eq!((status, volume.journal_is_there()), (1, false), "{other}");
    assert!(other.contains("of test/p-0, not the signing-proxy of test/p-1"), "{other}");
    fs::write(&volume.answer, "{").unwrap();
    volume.refuses("no sink said");
    let _ = fs::remove_file(&volume.answer);
    fs::write(&volume.state, "{}").unwrap();
    volume.refuses("the state is there, and the journal is not");
    fs::remove_file(&volume.state).unwrap();
    let aside = world.scratch.path("aside");
    let mut by_hand = Command::new(system_tests::programs::ours("signing-proxy"));
    by_hand.arg("init").arg("--config").arg(&volume.config);
    assert_eq!(said(by_hand).0, 0);
    fs::rename(&volume.state, aside).unwrap();
    let _ = volume.register(&trail);
    volume.refuses("signing-proxy state rebuild");
}

#[tokio::test]
async fn the_emergency_signer_makes_its_own_audit_key_and_loses_it_with_the_volume() {
    let (world, postgres) = (World::new(), Postgres::start().await);
    let key = world.kms.key(Kind::Ed25519);
    let builder: SignerBuilder<'_> = world.signer().replaces("payments", &key);
    let config = builder.write();
    let registry = builder.path("signers.json");
    let trail = Trail::new(&[("signer", &builder.journal())], &registry, &postgres);
    let trail = trail.replica("test/p-0");
    // The key is in the volume: beside the state, and in no Secret.
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("key_file = \"audit.key\"", "key_file = \"state/audit.key\"");
    fs::write(&config, text).unwrap();
    let volume = Volume::of_signer(config, &builder.path(""));
    let audit_key = builder.path("state/audit.key");

    assert!(volume.register(&trail).contains("new: "));
    let (status, unregistered) = volume.init();
    assert_eq!((status, volume.journal_is_there()), (1, false), "{unregistered}");
    let made = fs::read(&audit_key).unwrap();
    // What it says is the entry to copy.
    let (_, entry) = unregistered.split_once("one of \"signers\": ").unwrap();
    let entry: serde_json::Value = serde_json::from_str(entry.lines().next().unwrap()).unwrap();
    assert_eq!(entry["purpose"], "audit");
    let mut signers: serde_json::Value =
        serde_json::from_slice(&fs::read(&registry).unwrap()).unwrap();
    signers["signers"].as_array_mut().unwrap().push(entry);
    fs::write(&registry, signers.to_string()).unwrap();
    let (status, made_now) = volume.init();
    assert_eq!(status, 0, "{made_now}");
    assert_eq!(fs::read(&audit_key).unwrap(), made, "the key that was registered");

    volume.empty();
    assert!(volume.register(&trail).contains("known: "));
    volume.refuses("breakglass-signer init --config FILE");
    assert!(!audit_key.exists(), "a refused start makes no key");
}
