//! What upstreams do, row by row, over a network that makes trouble or from a KMS that
//! does. `gate.rs` and `seals.rs` have what a single answer means; here traffic goes on
//! all the while, and every answer with a signature is checked.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io};

use system_tests::{
    Client, Fault, FaultProxy, Key, Kind, NetworkFault, Operation, Proxy, World, eventually,
};
use tokio::task::JoinHandle;

use super::{all_verify, asked, verified_journal};
use crate::ALICE;
use crate::doctor::agreed;

/// The clocks of an upstream here, short; the probe's longer than those.
const KMS: &str = "call_timeout_ms = 700\nconnect_timeout_ms = 300";
const GATE: &str = "lease_ms = 3000\nprobe_interval_ms = 100\nprobe_timeout_ms = 1500\n\
                    recovery_probe_interval_ms = 20\nrecovery_min_ms = 0\nsuccesses_to_open = 2\n\
                    key_state_interval_ms = 500";

/// Where a fault is made.
#[derive(Clone, Debug)]
enum Made {
    /// On the way to the KMS.
    OnTheWay(NetworkFault),
    /// By the KMS itself.
    ByKms(Fault),
}

/// One row of the matrix: its name, the fault, the reason of the refusals while it lasts.
const fn row(name: &'static str, made: Made, reason: &'static str) -> Row {
    Row { name, made, reason }
}

struct Row {
    name: &'static str,
    made: Made,
    reason: &'static str,
}

fn rows() -> Vec<Row> {
    use Made::{ByKms, OnTheWay};
    const UNHEALTHY: &str = "upstream_unhealthy";
    let error = |code| ByKms(Fault::Error(code, 400));
    let millis = Duration::from_millis;
    vec![
        row("nobody listens", OnTheWay(NetworkFault::Refuse), UNHEALTHY),
        row("connect time-out", OnTheWay(NetworkFault::NoConnect), UNHEALTHY),
        row("operation time-out", OnTheWay(NetworkFault::BlackHole), UNHEALTHY),
        row(
            "answers later than the time-out",
            OnTheWay(NetworkFault::Delay(millis(2500))),
            UNHEALTHY,
        ),
        row("reset before an answer", OnTheWay(NetworkFault::Reset(0)), UNHEALTHY),
        row("reset mid-answer", OnTheWay(NetworkFault::Reset(60)), UNHEALTHY),
        row("closed before an answer", OnTheWay(NetworkFault::Truncate(0)), UNHEALTHY),
        row("closed mid-answer", OnTheWay(NetworkFault::Truncate(200)), UNHEALTHY),
        // A byte in 20 ms: each read is quick, the whole takes many seconds.
        row("slow loris upstream", OnTheWay(NetworkFault::Drip(millis(20))), UNHEALTHY),
        row("an answer of the KMS that never comes", ByKms(Fault::Hang), UNHEALTHY),
        row("5xx without a code", ByKms(Fault::Bare503), UNHEALTHY),
        row("5xx", ByKms(Fault::Error("KMSInternalException", 500)), UNHEALTHY),
        row("throttling", error("ThrottlingException"), "upstream_throttled"),
        row(
            "throttling by HTTP",
            ByKms(Fault::Error("TooManyRequestsException", 429)),
            "upstream_throttled",
        ),
        row("disabled", error("DisabledException"), "key_unavailable"),
        row("pending deletion", error("KMSInvalidStateException"), "key_unavailable"),
        row("not found", error("NotFoundException"), "key_unavailable"),
        row("access denied", error("AccessDeniedException"), "key_unavailable"),
        row("clock skew: expired", error("RequestExpired"), "key_unavailable"),
        row("clock skew: not current", error("InvalidSignatureException"), "key_unavailable"),
        row("clock skew: mismatch", error("SignatureDoesNotMatch"), "key_unavailable"),
        row("credentials expired", error("ExpiredTokenException"), "key_unavailable"),
    ]
}

/// Doubt, which only an operator ends.
fn doubts() -> Vec<Row> {
    let by_kms = |name, fault| row(name, Made::ByKms(fault), "sealed");
    vec![
        by_kms("wrong key", Fault::WrongKey),
        by_kms("corrupt signature", Fault::CorruptSignature),
        by_kms("short signature", Fault::ShortSignature),
        by_kms("non-canonical signature", Fault::PaddedSignature),
        by_kms("no signature", Fault::NoSignature),
        by_kms("answer names another key", Fault::OtherKeyId),
        by_kms("answer names another algorithm", Fault::OtherAlgorithm),
    ]
}

fn make(key: &Key, way: &FaultProxy, made: &Made) {
    match made {
        Made::OnTheWay(trouble) => way.set(*trouble),
        Made::ByKms(fault) => key.break_with(fault.clone()),
    }
}

fn mend(key: &Key, way: &FaultProxy) {
    way.set(NetworkFault::None);
    key.mend();
}

/// A proxy whose way to the KMS can be troubled.
struct Site<'w> {
    proxy: Proxy<'w>,
    key: Key,
    way: FaultProxy,
    traffic: Traffic,
}

impl<'w> Site<'w> {
    /// `client` is who asks the KMS for signatures.
    async fn start(world: &'w World, client: &str) -> Self {
        let key = world.kms.key(Kind::P256);
        let way = FaultProxy::start(world.kms.endpoint.trim_start_matches("http://"));
        let kms = format!("{KMS}\nclient = \"{client}\"");
        let builder = world.proxy().gate(GATE).kms(&kms);
        let builder = builder.endpoint(&format!("http://{}", way.address));
        let proxy = builder.signer("ec", &key).caller(ALICE, &["ec"]).start().await;
        let clients = vec![proxy.client(ALICE).await, proxy.http2_client(ALICE).await];
        let traffic = Traffic::start(clients);
        Self { proxy, key, way, traffic }
    }

    fn make(&self, made: &Made) {
        make(&self.key, &self.way, made);
    }

    /// How often the fault was met.
    fn met(&self) -> u64 {
        self.way.hits() + self.key.calls(Operation::Sign)
    }

    fn mend(&self) {
        mend(&self.key, &self.way);
    }

    /// Signs again, without a restart.
    async fn signs(&self, name: &str) {
        self.proxy.healthy().await;
        let client = self.proxy.client(ALICE).await;
        eventually(&format!("signs after {name}"), || async {
            let answer = asked(&client).await;
            (answer?.status == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn i1_i8_every_upstream_fault_is_refused_for_its_reason_and_its_end_signs_again() {
    every_fault_is_refused("lean").await;
}

#[tokio::test]
async fn i1_i8_every_upstream_fault_is_refused_for_its_reason_by_the_sdks_client_too() {
    every_fault_is_refused("sdk").await;
}

async fn every_fault_is_refused(client: &str) {
    let world = World::new();
    let site = Site::start(&world, client).await;
    for Row { name, made, reason } in rows() {
        println!("{name}");
        let met = site.met();
        site.make(&made);
        site.proxy.unhealthy_for(reason).await;
        // It took effect: it was met, and no request gets through; each is told at once.
        if !matches!(made, Made::OnTheWay(NetworkFault::Refuse | NetworkFault::NoConnect)) {
            assert!(site.met() > met, "{name} was never met");
        }
        let client = site.proxy.client(ALICE).await;
        let before = Instant::now();
        for _ in 0..20 {
            let answer = asked(&client).await.unwrap();
            assert_eq!((answer.status, answer.reason()), (503, reason), "{name}: {answer:?}");
            assert!(!answer.header("retry-after").is_empty(), "{name}");
        }
        // Had each waited for the upstream, this would have taken 14 s.
        assert!(before.elapsed() < Duration::from_secs(5), "{name}: refusals waited");
        site.mend();
        site.signs(name).await;
    }
    // One signature at most for each that was asked for, and none that does not verify.
    let signed = site.traffic.stop().await;
    // Also on a slow disk there is one after each of most faults.
    assert!(signed.len() > 20, "{} signatures between the faults", signed.len());
    all_verify(&site.key, &signed);
    site.proxy.stop().await;
    verified_journal(&world);
}

#[tokio::test]
async fn of_every_row_the_doctor_says_what_the_next_signature_shows() {
    let world = World::new();
    let site = Site::start(&world, "lean").await;
    drop(site.traffic.stop().await);
    let (proxy, key, way) = (&site.proxy, &site.key, &site.way);
    assert!(agreed(proxy, "no fault").await);
    for Row { name, made, reason } in rows() {
        println!("{name}");
        make(key, way, &made);
        proxy.unhealthy_for(reason).await;
        assert!(!agreed(proxy, name).await, "{name}");
        mend(key, way);
        proxy.healthy().await;
        assert!(agreed(proxy, &format!("after {name}")).await, "after {name}");
    }
    // What the canary of the doctor does not meet: the state of the key, and the operator's stop.
    key.set_state("PendingDeletion", None);
    proxy.unhealthy_for("key_unavailable").await;
    assert!(!agreed(proxy, "a key that waits for its deletion").await);
    key.set_state("Enabled", None);
    proxy.healthy().await;
    assert_eq!(proxy.signctl(&["freeze", "--reason", "INC-1"]).0, 0);
    assert!(!agreed(proxy, "a freeze").await);
    assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
    assert!(agreed(proxy, "no freeze").await);
    for Row { name, made, .. } in doubts() {
        println!("{name}");
        make(key, way, &made);
        proxy.unhealthy_for("sealed").await;
        assert!(!agreed(proxy, name).await, "{name}");
        mend(key, way);
        // The upstream is well again, and nothing is signed.
        assert!(!agreed(proxy, &format!("sealed by {name}")).await, "{name}");
        assert_eq!(proxy.signctl(&["unseal", "ec", "--reason", "looked"]).0, 0, "{name}");
        proxy.healthy().await;
        assert!(agreed(proxy, &format!("after {name}")).await, "after {name}");
    }
}

/// What becomes of a development key's file, and whether the key still signs.
type OfFile = (&'static str, fn(&Path) -> io::Result<()>, bool);

const OF_FILE: [OfFile; 5] = [
    ("its file is gone", |file| fs::remove_file(file), false),
    (
        "its file leads nowhere",
        |file| {
            fs::remove_file(file)?;
            symlink("nowhere", file)
        },
        false,
    ),
    (
        "its directory has another name",
        |file| {
            let directory = file.parent().unwrap();
            fs::rename(directory, directory.with_file_name("moved"))
        },
        false,
    ),
    // It was read at the start.
    ("its file is empty", |file| fs::write(file, ""), true),
    (
        "nobody may read its file",
        |file| fs::set_permissions(file, fs::Permissions::from_mode(0o000)),
        true,
    ),
];

#[tokio::test]
async fn of_the_development_provider_the_doctor_says_what_the_next_signature_shows() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let (directory, moved) = (world.scratch.path("keys"), world.scratch.path("moved"));
    let builder = world.proxy().gate(GATE).development("ec", &key).caller(ALICE, &["ec"]);
    let proxy = builder.start().await;
    let file = directory.join("ec.pem");
    let pem = fs::read(&file).unwrap();
    assert!(agreed(&proxy, "no fault").await);
    for (name, spoil, signs) in OF_FILE {
        println!("{name}");
        spoil(&file).unwrap();
        if !signs {
            proxy.unhealthy_for("upstream_unhealthy").await;
        }
        assert_eq!(agreed(&proxy, name).await, signs, "{name}");
        if moved.exists() {
            fs::rename(&moved, &directory).unwrap();
        }
        let _ = fs::remove_file(&file);
        fs::write(&file, &pem).unwrap();
        proxy.healthy().await;
        assert!(agreed(&proxy, &format!("after {name}")).await, "after {name}");
    }
    assert_eq!(proxy.signctl(&["freeze", "--reason", "INC-1"]).0, 0);
    assert!(!agreed(&proxy, "a freeze").await);
    assert_eq!(proxy.signctl(&["unfreeze", "--reason", "over"]).0, 0);
    assert!(agreed(&proxy, "no freeze").await);
}

#[tokio::test]
async fn i10_every_doubt_seals_under_load_and_its_signature_never_leaves() {
    let world = World::new();
    let site = Site::start(&world, "lean").await;
    for Row { name, made, .. } in doubts() {
        println!("{name}");
        site.make(&made);
        site.proxy.unhealthy_for("sealed").await;
        let calls = site.key.calls(Operation::Sign);
        let client = site.proxy.client(ALICE).await;
        for _ in 0..20 {
            assert_eq!(asked(&client).await.unwrap().reason(), "sealed", "{name}");
        }
        site.mend();
        assert_eq!(
            asked(&client).await.unwrap().reason(),
            "sealed",
            "{name}: mended is not enough"
        );
        assert!(site.key.calls(Operation::Sign) <= calls + 2, "{name}: asked although sealed");
        assert_eq!(site.proxy.signctl(&["unseal", "ec", "--reason", "looked"]).0, 0, "{name}");
        site.signs(name).await;
    }
    let signed = site.traffic.stop().await;
    all_verify(&site.key, &signed);
}

#[tokio::test]
async fn throttling_is_met_with_fewer_calls_and_not_with_more() {
    let world = World::new();
    let site = Site::start(&world, "lean").await;
    site.key.break_with(Fault::Error("ThrottlingException", 400));
    site.proxy.unhealthy_for("upstream_throttled").await;
    let client = site.proxy.client(ALICE).await;
    let (start, calls) = (Instant::now(), site.key.calls(Operation::Sign));
    let mut refused = 0;
    while start.elapsed() < Duration::from_secs(1) || refused <= 100 {
        assert_eq!(asked(&client).await.unwrap().reason(), "upstream_throttled");
        refused += 1;
    }
    let asked = site.key.calls(Operation::Sign) - calls;
    // Canaries every 20 ms at most, whatever callers do.
    let most = 10 + u64::try_from(start.elapsed().as_millis()).unwrap() / 20;
    assert!(asked <= most, "{asked} calls for {refused} requests, and {most} canaries at most");
    site.mend();
    site.signs("throttling").await;
}

#[tokio::test]
async fn a_flapping_upstream_opens_the_gate_only_once_it_has_been_well_for_a_while() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let way = FaultProxy::start(world.kms.endpoint.trim_start_matches("http://"));
    let gate = "lease_ms = 3000\nprobe_interval_ms = 100\nprobe_timeout_ms = 1500\n\
                recovery_probe_interval_ms = 50\nrecovery_min_ms = 600\nsuccesses_to_open = 3\n\
                failures_to_shut = 2";
    let builder = world.proxy().gate(gate).kms(KMS).endpoint(&format!("http://{}", way.address));
    let proxy = builder.signer("ec", &key).caller(ALICE, &["ec"]).start().await;
    let traffic = Traffic::start(vec![proxy.client(ALICE).await]);
    way.set(NetworkFault::Reset(0));
    proxy.unhealthy_for("upstream_unhealthy").await;
    let opened =
        r#"signing_proxy_gate_transitions_total{signer_kid="ec",from="probing",to="open"}"#;
    let before = proxy.metric(opened).await;
    for _ in 0..8 {
        // Well until a canary got through, which takes less than recovery_min_ms.
        let calls = key.calls(Operation::Sign);
        way.set(NetworkFault::None);
        eventually("a canary that gets through", || async {
            (key.calls(Operation::Sign) > calls).then_some(())
        })
        .await;
        let hits = way.hits();
        way.set(NetworkFault::Reset(0));
        eventually("one that does not", || async { (way.hits() > hits).then_some(()) }).await;
    }
    assert_eq!(proxy.metric(opened).await, before, "it opened while the upstream flapped");
    way.set(NetworkFault::None);
    proxy.healthy().await;
    assert!(proxy.metric(opened).await > before);
    all_verify(&key, &traffic.stop().await);
}

/// Requests without pause, whatever comes of them.
struct Traffic {
    ends: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Vec<u8>>>>,
}

impl Traffic {
    fn start(clients: Vec<Client>) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let clients = clients.into_iter().map(|client| {
            let ends = Arc::clone(&ends);
            tokio::spawn(async move {
                let mut signatures = Vec::new();
                while !ends.load(Ordering::SeqCst) {
                    let Some(answer) = asked(&client).await else { break };
                    match answer.status {
                        200 => signatures.push(answer.signature()),
                        503 | 504 => tokio::task::yield_now().await,
                        _ => panic!("{answer:?}"),
                    }
                }
                signatures
            })
        });
        Self { clients: clients.collect(), ends }
    }

    /// Every signature that came.
    async fn stop(self) -> Vec<Vec<u8>> {
        self.ends.store(true, Ordering::SeqCst);
        let mut signatures = Vec::new();
        for client in self.clients {
            signatures.extend(client.await.unwrap());
        }
        signatures
    }
}
