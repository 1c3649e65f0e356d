//! Freezes, seals, gate changes and reloads race thousands of requests in flight, and no
//! late signature gets out: each answer is held against what the journal says happened.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use audit::scan::{Frames, Step, segments};
use http::Method;
use serde_json::{Value, json};
use signing_core::journal::{Frame, Outline};
use system_tests::{
    Certificate, Chance, Client, Fault, Key, Kind, Profile, Protocol, Proxy, World, eventually,
    is_campaign,
};

use crate::ALICE;

const BOB: &str = "bob.example";

/// One request: when it was sent and answered, and what came.
#[derive(Clone, Debug)]
struct Asked {
    caller: &'static str,
    sent: Instant,
    received: Instant,
    reason: String,
    /// The number of its record, if it was signed.
    signed: Option<u64>,
}

/// A time in which `caller` (none: everybody) is signed nothing: from the answer that says
/// so to the request that may end it.
#[derive(Clone, Copy, Debug)]
struct Closed {
    caller: Option<&'static str>,
    from: Instant,
    to: Instant,
}

impl Closed {
    fn covers(&self, asked: &Asked) -> bool {
        self.caller.is_none_or(|caller| caller == asked.caller)
            && self.from <= asked.sent
            && asked.received <= self.to
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_no_change_of_anything_lets_a_late_signature_out() {
    let world = World::new();
    let key = world.kms.key(Kind::P256);
    let gate = "lease_ms = 4000\nprobe_interval_ms = 200\nprobe_timeout_ms = 2500\n\
                recovery_probe_interval_ms = 20\nrecovery_min_ms = 0\nsuccesses_to_open = 1\n\
                failures_to_shut = 2";
    let builder = world.proxy().gate(gate).signer("ec", &key);
    let proxy = builder.caller(ALICE, &["ec"]).caller(BOB, &["ec"]).start().await;
    let ends = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for number in 0..12 {
        let caller = if number % 3 == 0 { BOB } else { ALICE };
        let protocol = if number % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
        let traffic = Traffic {
            address: proxy.listen.clone(),
            ca_pem: world.pki.ca_pem.clone(),
            certificate: world.pki.issue(&Profile::client(caller)),
            caller,
            protocol,
        };
        clients.push(tokio::spawn(traffic.run(Arc::clone(&ends))));
    }
    let mut chance = Chance::of("fences");
    let operator = Operator { world: &world, proxy: &proxy, key: &key };
    let mut closed = Vec::new();
    let rounds = if is_campaign() { 400 } else { 40 };
    for round in 0..rounds {
        proxy.healthy().await;
        operator.some_are_signed().await;
        // Each kind in turn first, then by chance.
        let kind = if round < 4 { round } else { chance.below(4) };
        match kind {
            0 => closed.push(operator.freezes().await),
            1 => operator.shuts().await,
            2 => closed.push(operator.seals().await),
            _ => closed.push(operator.takes_bob_out().await),
        }
    }
    ends.store(true, Ordering::SeqCst);
    let mut asked = Vec::new();
    for client in clients {
        asked.extend(client.await.unwrap());
    }
    proxy.stop().await;
    let history = History::read(&world);
    let signed: Vec<_> = asked.iter().filter(|asked| asked.signed.is_some()).collect();
    for asked in &signed {
        let late = closed.iter().find(|closed| closed.covers(asked));
        assert!(late.is_none(), "{asked:?} was signed within {late:?}");
        history.allows(asked.signed.unwrap());
    }
    let refused = |reason: &str| asked.iter().filter(|asked| asked.reason == reason).count();
    let inside = asked.iter().filter(|asked| closed.iter().any(|closed| closed.covers(asked)));
    println!(
        "{} requests, {} signed, {} wholly within a closed time; withheld {}, frozen {}, sealed {}, \
         unhealthy {}, not authorized {}",
        asked.len(),
        signed.len(),
        inside.count(),
        refused("gate_closed_in_flight"),
        refused("frozen"),
        refused("sealed"),
        refused("upstream_unhealthy"),
        refused("caller_not_authorized"),
    );
    // It was a race: there were late signatures, and they were withheld.
    assert!(signed.len() > 1000, "{} signed", signed.len());
    assert!(history.withheld.len() > 10, "{} withheld", history.withheld.len());
    for reason in ["frozen", "sealed", "upstream_unhealthy", "caller_not_authorized"] {
        assert!(refused(reason) > 0, "nobody was refused for {reason}");
    }
}

struct Operator<'o> {
    world: &'o World,
    proxy: &'o Proxy<'o>,
    key: &'o Key,
}

impl Operator<'_> {
    async fn freezes(&self) -> Closed {
        let frozen = self.proxy.admin("POST", "/v1/freeze", json!({"reason": "race"})).await;
        assert_eq!(frozen.status, 200, "{frozen:?}");
        let from = Instant::now();
        self.some_are_refused("frozen").await;
        let to = Instant::now();
        let ended = self.proxy.admin("POST", "/v1/unfreeze", json!({"reason": "over"})).await;
        assert_eq!(ended.status, 200, "{ended:?}");
        Closed { caller: None, from, to }
    }

    /// When it shuts nobody is told, so only the journal knows.
    async fn shuts(&self) {
        self.key.break_with(Fault::Error("KMSInternalException", 500));
        self.proxy.unhealthy_for("upstream_unhealthy").await;
        self.key.mend();
    }

    async fn seals(&self) -> Closed {
        self.key.break_with(Fault::CorruptSignature);
        self.proxy.unhealthy_for("sealed").await;
        let from = Instant::now();
        self.key.mend();
        self.some_are_refused("sealed").await;
        let to = Instant::now();
        let body = json!({"signer_kid": "ec", "reason": "race"});
        let ended = self.proxy.admin("POST", "/v1/unseal", body).await;
        assert_eq!(ended.status, 200, "{ended:?}");
        Closed { caller: None, from, to }
    }

    async fn takes_bob_out(&self) -> Closed {
        self.edit("name = \"bob.example\"", "name = \"nobody.example\"");
        self.reload().await;
        let from = Instant::now();
        self.some_are_refused("caller_not_authorized").await;
        let to = Instant::now();
        self.edit("name = \"nobody.example\"", "name = \"bob.example\"");
        self.reload().await;
        Closed { caller: Some(BOB), from, to }
    }

    fn edit(&self, from: &str, to: &str) {
        let file = self.world.scratch.path("proxy/signing-proxy.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from));
        std::fs::write(file, text.replace(from, to)).unwrap();
    }

    async fn reload(&self) {
        let reloaded = self.proxy.admin("POST", "/v1/reload", json!({})).await;
        assert_eq!(reloaded.status, 200, "{reloaded:?}");
    }

    /// Waits until traffic met it.
    async fn some_are_refused(&self, reason: &str) {
        self.more(&format!("reason=\"{reason}\""), 5.0).await;
    }

    /// Waits until traffic is under way again.
    async fn some_are_signed(&self) {
        self.more("result=\"signed\"", 50.0).await;
    }

    /// Waits for so many more requests of that label.
    async fn more(&self, label: &str, more: f64) {
        let count = || async {
            let metrics = self.proxy.metrics().await;
            let counts = metrics.lines().filter(|line| {
                line.starts_with("signing_proxy_requests_total") && line.contains(label)
            });
            counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
        };
        let before = count().await;
        eventually(label, || async { (count().await > before + more).then_some(()) }).await;
    }
}

struct Traffic {
    address: String,
    ca_pem: String,
    certificate: Certificate,
    caller: &'static str,
    protocol: Protocol,
}

impl Traffic {
    /// Asks without pause; connections that are cut or asked to go are made anew.
    async fn run(self, ends: Arc<AtomicBool>) -> Vec<Asked> {
        let mut all = Vec::new();
        let headers = [("content-type", "application/json")];
        while !ends.load(Ordering::SeqCst) {
            let connecting =
                Client::connect(&self.address, &self.ca_pem, &self.certificate, self.protocol);
            let Ok(client) = connecting.await else { continue };
            while !ends.load(Ordering::SeqCst) {
                let sent = Instant::now();
                let body = r#"{"message":"aGk="}"#;
                let Ok(answer) = client.send(Method::POST, "/v1/sign", &headers, body).await else {
                    break;
                };
                all.push(Asked {
                    caller: self.caller,
                    sent,
                    received: Instant::now(),
                    reason: answer.reason().to_owned(),
                    signed: (answer.status == 200)
                        .then(|| answer.body["audit"]["seq"].as_u64().unwrap()),
                });
            }
        }
        all
    }
}

/// What the journal says happened.
struct History {
    /// Type and data of each record, by its number.
    records: Vec<(u64, String, Value)>,
    /// The numbers of signatures that did not leave.
    withheld: BTreeSet<u64>,
    /// The numbers of records after which nothing that was under way may leave: freezes, and
    /// gates that were open and are so no more. Each is in force before it is recorded.
    fences: BTreeSet<u64>,
}

impl History {
    fn read(world: &World) -> Self {
        let mut records = Vec::new();
        for segment in segments(&world.scratch.path("proxy/journal")).unwrap() {
            let mut frames = Frames::open(&segment).unwrap();
            while let Step::Frame(_, frame) = frames.step().unwrap() {
                let Frame::Entry(entry) = frame else { continue };
                let (Outline { data, r#type, .. }, _) = Outline::parse(entry.body).unwrap();
                records.push((entry.seq, r#type, data));
            }
        }
        let of_type = |word: &'static str| records.iter().filter(move |(_, kind, _)| kind == word);
        let withheld = of_type("withheld").map(|(_, _, data)| data["signed"].as_u64().unwrap());
        let withheld = withheld.collect();
        let left_open = of_type("gate").filter(|(_, _, data)| data["from"] == "open");
        let fences = of_type("freeze").chain(left_open).map(|(seq, _, _)| *seq).collect();
        Self { records, withheld, fences }
    }

    /// Whether the signature of the record `signed` may have left.
    fn allows(&self, signed: u64) {
        let first = self.records[0].0;
        let (seq, kind, data) = &self.records[usize::try_from(signed - first).unwrap()];
        assert_eq!((*seq, kind.as_str()), (signed, "signed"));
        assert!(!self.withheld.contains(&signed), "{signed} left, and was withheld");
        let intent = data["intent"].as_u64().unwrap();
        let fence = self.fences.range(intent..signed).next();
        assert!(
            fence.is_none(),
            "{signed} left, although {fence:?} came after its intent {intent}"
        );
        // Between a freeze and its end there is no signature that left, however it came there.
        let before = self.records[..usize::try_from(signed - first).unwrap()].iter().rev();
        let last = before
            .map(|(_, kind, _)| kind)
            .find(|kind| matches!(kind.as_str(), "freeze" | "unfreeze"));
        assert_ne!(last.map(String::as_str), Some("freeze"), "{signed} left during a freeze");
    }
}
