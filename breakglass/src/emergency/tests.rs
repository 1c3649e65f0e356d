//! A session that a new freeze ends, with a real monitor, and an emergency signer of which only the answers are real.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use audit::{AuditKey, Clock, Identity, Journal, Observer, Opened, init};
use host::clock::wall_now;
use monitor::{Monitor, Store, Stored};
use release::Probes;
use signing_core::breakglass::wire::JournalRecord;
use signing_core::gate::{Armed, Gates, Slots, Thresholds};
use signing_core::journal::{AuditKeys, InForce, Init, Kind, PeerLogs, Record};
use signing_core::key::Batching;
use signing_core::monitor::Probe;
use signing_core::{Kid, Policy, Rulebook, Signer};
use telemetry::metrics::Metrics;
use tokio::task::JoinHandle;

use super::*;
use crate::{Breakglass, keep};

const SESSION: &str = "INC-7/1a2b3c4d";
/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const SEGMENT_BYTES: u64 = 1 << 20;

/// A proxy without upstreams.
struct World {
    breakglass: Arc<Breakglass>,
    monitor: Monitor,
    monitoring: JoinHandle<()>,
    known: Arc<ArcSwapOption<Known>>,
    jobs: mpsc::Receiver<Job>,
    /// The keeper ends with it.
    notices: mpsc::Sender<Notice>,
    heard: Option<mpsc::Receiver<Notice>>,
    key: AuditKey,
    directory: PathBuf,
}

#[derive(Debug)]
struct Deaf;

impl Observer for Deaf {
    fn record(&mut self, _: Kind) {}
    fn appended(&mut self, _: Duration) {}
    fn synced(&mut self, _: Duration) {}
    fn batch(&mut self, _: usize) {}
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl World {
    async fn new(name: &str) -> Self {
        let directory = Path::new("/dev/shm").join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        let key = key();
        let place = directory.join("journal");
        let journal = tokio::task::spawn_blocking(move || journal(&place)).await.unwrap();
        let metrics = Arc::new(Metrics::new(Vec::new(), &[], Slots::new(1)));
        let registry = Registry::from_json(&format!(
            r#"{{"signers": [{{"signer_kid": "emergency", "algorithm": "ed25519", "public_key_pem": "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----"}}]}}"#,
            STANDARD.encode(key.public().spki_der())
        ));
        let rulebook = Rulebook::new(registry.unwrap(), Policy::default());
        let store = Store::open(&directory).unwrap().0;
        let (monitor, tasks) = Monitor::new(
            Gates::new(Thresholds::default(), Vec::<Kid>::new(), Arc::new(rulebook), now()),
            (store, Stored::default()),
            (String::new(), None),
            journal.clone(),
            Vec::new(),
            (Probe::default(), Duration::from_secs(1)),
            (metrics, Probes::new(now())),
        )
        .unwrap();
        let monitoring = tokio::spawn(tasks.run());
        let heads = Heads::new(journal.clone(), None, AuditKeys::default(), PeerLogs::default());
        let (jobs, inbox) = mpsc::channel(ASKS_MAX);
        let known = Arc::new(ArcSwapOption::empty());
        let client = Client {
            jobs,
            known: Arc::clone(&known),
            sign_timeout: Duration::from_secs(1),
            ended: Arc::default(),
            heads,
            one: Mutex::default(),
        };
        let emergency = Emergency(Some(Arc::new(client)));
        let breakglass =
            Breakglass::new(emergency, monitor.clone(), journal, Duration::from_secs(1));
        let (notices, heard) = mpsc::channel(NOTICES_MAX);
        Self {
            breakglass: Arc::new(breakglass),
            monitor,
            monitoring,
            known,
            jobs: inbox,
            notices,
            heard: Some(heard),
            key,
            directory,
        }
    }

    /// What the signer says of itself.
    fn state(&self, session: Option<&str>) -> wire::State {
        let session = session.map(|session| wire::SessionState {
            session: session.to_owned(),
            incident: "INC-7".to_owned(),
            justification: "KMS is down".to_owned(),
            emergency_kid: "emergency".to_owned(),
            algorithm: "ED25519_SHA_512".to_owned(),
            public_key: String::new(),
            replaces: Vec::new(),
            callers: Vec::new(),
            activated_at: String::new(),
            expires_at: String::new(),
            expires_in_ms: 60_000,
            remaining: 10,
            max_signatures: 10,
            under_freeze: None,
            approved_by: Vec::new(),
            record: JournalRecord { log: String::new(), seq: 1, leaf: String::new() },
        });
        let journal = &self.breakglass.journal;
        wire::State {
            instance: String::new(),
            deployment: "d".to_owned(),
            signer_version: "1".to_owned(),
            audit_public_key: String::new(),
            audit_kid: "audit".to_owned(),
            head: JournalHead::new(journal.log(), journal.head()),
            session,
            keys: Vec::new(),
            unlocked: false,
            min_outage_s: 1,
            session_max_s: 60,
            signatures_max: 10,
            signatures_per_second_max: 10,
            required_roles: Vec::new(),
            approvers_sha256: String::new(),
            hardware_required: false,
            development: true,
            sealed: None,
            refused_proxy: None,
            cannot_arm: Vec::new(),
        }
    }

    /// It is connected, and said that of itself last.
    fn said(&self, session: Option<&str>) {
        self.known.store(Some(Arc::new(Known::new(self.state(session), now(), 1))));
    }

    /// A session begins under a freeze.
    async fn begun(&self) {
        self.monitor.freeze("KMS is down".to_owned(), "uid 0".to_owned()).await.unwrap();
        let under_freeze = self.monitor.gates().freeze().and_then(|freeze| freeze.id);
        assert!(under_freeze.is_some());
        let signer = Signer {
            kid: Kid::parse("emergency").unwrap(),
            public_key: self.key.public().clone(),
            purpose: Purpose::Breakglass,
            batch: Batching::No,
            not_after: None,
            revoked_at: None,
        };
        let armed = Armed {
            session: SESSION.to_owned(),
            incident: "INC-7".to_owned(),
            justification: "KMS is down".to_owned(),
            signer: Arc::new(signer),
            replaces: BTreeSet::new(),
            callers: BTreeSet::new(),
            under_freeze,
            since: now(),
            lease_until: now().after(Duration::from_secs(3600)),
            expires_at: wall_now() + Duration::from_secs(3600),
        };
        self.monitor.arm(armed).await.unwrap().unwrap();
        assert!(self.monitor.gates().session_in_force().is_some());
    }

    /// A session begins under a freeze, and a new freeze ends it at once.
    async fn begun_and_frozen_anew(&self) {
        self.begun().await;
        self.freeze_anew().await;
    }

    async fn freeze_anew(&self) {
        self.monitor.freeze("stop that too".to_owned(), "uid 0".to_owned()).await.unwrap();
        assert!(self.monitor.gates().session_in_force().is_none());
    }

    /// As what and why the signer is told to end its session; None: as an operator's. Looks at it are answered by nothing.
    async fn told_to_end(&mut self) -> (Option<End>, String) {
        let telling = async {
            loop {
                if let Ask::End(end) = self.jobs.recv().await.unwrap().ask {
                    return end;
                }
            }
        };
        let told = tokio::time::timeout(PATIENCE, telling).await.expect("the signer is told");
        assert_eq!(told.by, if told.own.is_some() { "this proxy" } else { "uid 0" });
        (told.own, told.reason)
    }

    /// Answers one whole look at the signer, which has the session. Before the last answer a new freeze ends it here.
    async fn answers_a_look(&mut self) {
        loop {
            let Job { ask, reply } = self.jobs.recv().await.unwrap();
            let state = self.state(Some(SESSION));
            let (answer, is_last) = match ask {
                Ask::Status(wire::Status { id }) => {
                    (Answer::Status(wire::Stated { id, state, known: None }), false)
                }
                Ask::Extend(wire::Extend { id, .. }) => {
                    self.freeze_anew().await;
                    let checkpoint = self.breakglass.journal.checkpoint();
                    (Answer::Extends(wire::Extends::new(id, &checkpoint, None)), true)
                }
                _ => continue,
            };
            reply.send(Ok(answer)).unwrap();
            if is_last {
                return;
            }
        }
    }
}

fn key() -> AuditKey {
    // PKCS#8 of an Ed25519 seed (RFC 8410).
    let der = [&[48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32][..], &[7; 32]].concat();
    let label = ["PRIVATE", "KEY"].join(" ");
    let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    AuditKey::from_pem(pem.as_bytes()).unwrap()
}

fn journal(directory: &Path) -> Journal {
    let (key, mut keys) = (key(), AuditKeys::default());
    keys.add(key.public().clone());
    let record = Record::Init(Init {
        audit_key: &STANDARD.encode(key.public().spki_der()),
        audit_kid: "audit",
        by: "uid 0",
        deployment: "d",
        new_replica: None,
        replaces: None,
    });
    init(directory, SEGMENT_BYTES, &key, &record, wall_now()).unwrap();
    let opened = Opened::open(directory, key.into(), &keys, None).unwrap();
    let in_force = &InForce::default();
    let (deployment, audit_kid, version) = ("d", "audit", "1");
    let identity = Identity { deployment, audit_kid, version, required_trail: None, in_force };
    let clock = Clock { now, wall: wall_now };
    opened.start(&identity, SEGMENT_BYTES, clock, Box::new(Deaf)).unwrap()
}

#[tokio::test]
async fn the_signer_is_told_of_a_new_freeze_though_nobody_looked_between_and_none_is_left() {
    let mut world = World::new("keeper-frozen").await;
    world.said(Some(SESSION));
    world.begun_and_frozen_anew().await;
    world.monitor.unfreeze("over".to_owned(), "uid 0".to_owned()).await.unwrap();
    assert!(world.monitor.gates().freeze().is_none());
    let keeper = tokio::spawn(keep(Arc::clone(&world.breakglass), world.heard.take().unwrap()));
    let (own, why) = world.told_to_end().await;
    assert_eq!((own, why.as_str()), (Some(End::Proxy), "frozen anew: stop that too"));
    keeper.abort();
}

#[tokio::test]
async fn a_signer_that_is_not_known_to_have_the_session_yet_is_told_once_it_is() {
    let mut world = World::new("keeper-waits").await;
    world.said(None);
    world.begun_and_frozen_anew().await;
    world.monitor.unfreeze("over".to_owned(), "uid 0".to_owned()).await.unwrap();
    let keeper = tokio::spawn(keep(Arc::clone(&world.breakglass), world.heard.take().unwrap()));
    // The keeper looks at the signer as it begins: by then it has heard of the freeze, or hears of it later.
    let first = world.jobs.recv().await.unwrap().ask;
    assert!(matches!(first, Ask::Status(_)), "{first:?}");
    world.said(Some(SESSION));
    let (own, why) = world.told_to_end().await;
    assert_eq!((own, why.as_str()), (Some(End::Proxy), "frozen anew: stop that too"));
    keeper.abort();
}

#[tokio::test]
async fn a_session_that_a_new_freeze_ended_while_the_signer_was_asked_is_refused() {
    let mut world = World::new("keeper-begins").await;
    world.said(Some(SESSION));
    world.begun().await;
    let breakglass = Arc::clone(&world.breakglass);
    let (refused, ()) = tokio::join!(breakglass.still_there(SESSION), world.answers_a_look());
    let refused = refused.unwrap_err();
    assert_eq!(refused.reason.word(), "not_in_force", "{}", refused.detail);
}

#[tokio::test]
async fn the_signer_is_told_of_an_end_though_the_monitor_is_gone() {
    let mut world = World::new("keeper-gone").await;
    world.said(Some(SESSION));
    world.begun().await;
    world.monitoring.abort();
    assert!((&mut world.monitoring).await.is_err());
    let breakglass = Arc::clone(&world.breakglass);
    let (ended, told) = tokio::join!(breakglass.end("over", "uid 0"), world.told_to_end());
    let ended = ended.unwrap_err();
    assert_eq!((ended.reason.word(), told), ("not_ended", (None, "over".to_owned())));
    assert!(ended.detail.contains("did not confirm"), "{}", ended.detail);
    world.notices.send(Notice::Lost { detail: "in a test".to_owned() }).await.unwrap();
    let keeper = tokio::spawn(keep(Arc::clone(&world.breakglass), world.heard.take().unwrap()));
    let (own, why) = world.told_to_end().await;
    assert_eq!(own, Some(End::Proxy));
    assert!(why.starts_with("the connection to the emergency signer is gone"), "{why}");
    keeper.abort();
}
