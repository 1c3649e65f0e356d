//! A token that takes its time is no token that is ill. However many callers ask, it signs at its
//! own rate, nothing is taken for a hang, no gate shuts, and what cannot be served in time is
//! refused at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use system_tests::{Answer, Client, Key, Kind, Proxy, SoftHsm, World};

use crate::ALICE;

/// How a token of that pace takes calls that come at once.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Takes {
    /// As many as there are threads.
    AtOnce,
    /// One after the other, as a TPM does.
    InTurn,
}

const THREADS: usize = 4;

/// What came of one load.
#[derive(Debug)]
struct Outcome {
    per_second: f64,
    /// How often each refusal was heard.
    refused: BTreeMap<String, usize>,
}

struct Slow<'w> {
    hsm: SoftHsm,
    key: Key,
    proxy: Proxy<'w>,
    alice: Client,
}

impl<'w> Slow<'w> {
    /// A token that takes so long, behind the thresholds of a configuration that names none.
    async fn token(world: &'w World, takes: Takes, call: Duration) -> Self {
        let hsm = SoftHsm::new("payments");
        let key = hsm.key("ec", Kind::P256);
        let word = match takes {
            Takes::AtOnce => "delay",
            Takes::InTurn => "serial",
        };
        hsm.order(&format!("{word}={:x}", call.as_millis()));
        let builder = world.proxy().directory(&format!("{word}-{}", call.as_millis())).gate("");
        let lines = format!("threads = {THREADS}");
        let proxy = builder.token("ec", &hsm, &key, &lines).caller(ALICE, &["ec"]).start().await;
        let alice = proxy.http2_client(ALICE).await;
        Self { hsm, key, proxy, alice }
    }

    /// So many clients ask one call after the other until `wanted` signatures are made.
    async fn loaded(&self, clients: usize, wanted: usize, deadline: Option<Duration>) -> Outcome {
        let signed = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let ask = |_| {
            let (alice, signed) = (self.alice.clone(), Arc::clone(&signed));
            tokio::spawn(async move {
                let mut refused: BTreeMap<String, usize> = BTreeMap::new();
                while signed.load(Ordering::Relaxed) < wanted {
                    let answer = sign(&alice, deadline).await;
                    if answer.status == 200 {
                        signed.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    assert!(answer.body.get("signature").is_none(), "{answer:?}");
                    let heard = format!("{} {}", answer.status, answer.reason());
                    *refused.entry(heard).or_default() += 1;
                    // A pause: whoever is refused does not ask again at once.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                refused
            })
        };
        let asking: Vec<_> = (0..clients).map(ask).collect();
        let mut refused: BTreeMap<String, usize> = BTreeMap::new();
        for asked in asking {
            for (heard, count) in asked.await.unwrap() {
                *refused.entry(heard).or_default() += count;
            }
        }
        // The last ones of each client were under way when there were enough.
        let signed = signed.load(Ordering::Relaxed);
        let per_second = f64::from(u32::try_from(signed).unwrap()) / began.elapsed().as_secs_f64();
        Outcome { per_second, refused }
    }

    /// The gate's transitions, the workers that were killed as hanging, and those started anew.
    async fn disturbances(&self) -> [f64; 3] {
        let text = self.proxy.metrics().await;
        ["signing_proxy_gate_transitions_total", "pkcs11_worker_hangs", "pkcs11_worker_restarts"]
            .map(|name| {
                let samples = text.lines().filter(|line| line.starts_with(name));
                samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
            })
    }
}

async fn sign(alice: &Client, deadline: Option<Duration>) -> Answer {
    let deadline = deadline.map(|deadline| deadline.as_millis().to_string());
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(deadline.as_deref().map(|deadline| ("signing-deadline-ms", deadline)));
    let body = json!({"signer_kid": "ec", "message": "aGk="}).to_string();
    alice.send(Method::POST, "/v1/sign", &headers, body).await.unwrap()
}

async fn is_no_trouble(takes: Takes, call: Duration) {
    let world = World::new();
    let slow = Slow::token(&world, takes, call).await;
    let before = slow.disturbances().await;
    // The token's own rate, as those see it who never wait for each other.
    let (places, wanted) = match takes {
        Takes::AtOnce => (THREADS, 60),
        Takes::InTurn => (1, 15),
    };
    let own = slow.loaded(places, wanted, None).await;
    assert!(own.refused.is_empty(), "{own:?}");
    for (clients, deadline) in
        [(4 * THREADS, None), (16 * THREADS, Some(10 * call)), (16 * THREADS, Some(30 * call))]
    {
        let outcome = slow.loaded(clients, wanted, deadline).await;
        let ratio = outcome.per_second / own.per_second;
        let what = format!("{takes:?} {call:?}, {clients} clients, {deadline:?}: {outcome:?}");
        println!("{what}, {ratio:.2} of {own:?}");
        assert!(ratio > 0.85, "{what} beside {own:?}");
        let others = outcome.refused.iter().filter(|(heard, _)| *heard != "503 overloaded");
        let others: usize = others.map(|(_, count)| count).sum();
        // On a busy machine a deadline may pass while a signature is recorded. Where nothing is shed,
        // that happens to nearly all.
        assert!(others < deadline.map_or(1, |_| wanted), "{what}");
        let is_too_much = deadline == Some(10 * call);
        assert!(!is_too_much || !outcome.refused.is_empty(), "nothing was shed: {what}");
    }
    assert_eq!(slow.disturbances().await, before, "{takes:?} {call:?}");
    slow.proxy.healthy().await;
    let answer = slow.alice.sign_message("ec", b"hi").await;
    assert!(system_tests::openssl::verifies(&slow.key, b"hi", &answer.signature()));
    assert!(slow.hsm.said("C_Login") == 1);
}

async fn at_every_pace(takes: Takes) {
    // Each with a proxy of its own, all at once: they sleep.
    let paces = [30, 100, 200].map(|ms| is_no_trouble(takes, Duration::from_millis(ms)));
    let [fast, slow, slowest] = paces;
    tokio::join!(fast, slow, slowest);
}

#[tokio::test]
async fn a_slow_token_signs_at_its_own_rate_however_many_ask() {
    at_every_pace(Takes::AtOnce).await;
}

#[tokio::test]
async fn a_token_that_signs_in_turn_does_so_at_its_own_rate_however_many_ask() {
    at_every_pace(Takes::InTurn).await;
}
