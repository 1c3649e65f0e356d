//! The signer killed, and its disk failing, under load through the proxy; and where the
//! emergency key is meanwhile.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use system_tests::breakglass::{EMERGENCY_KID, PASSPHRASE};
use system_tests::journal::{check, read};
use system_tests::memory::{holds, scan, scan_while};
use system_tests::{Chance, Client, Happens, Strace, Tail, When, eventually, is_campaign};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{KID, Site, connected, verifies};
use crate::ALICE;

/// Requests of each of two clients.
const REQUESTS: usize = 10;

/// Lets `happens` happen at the `number`th `call` of the signer on its journal, while clients ask
/// through the proxy; whether there was one.
async fn struck_at(call: &str, happens: Happens, number: usize) -> bool {
    println!("{happens:?} at {call} {number}");
    let site = Site::new();
    let builder = site.signer();
    drop(builder.command());
    let segment = builder.journal().join("00000000000000000001.journal");
    let trace = site.world.scratch.path("trace");
    let strace = Strace::inject(call, happens, When::Only(number), &trace).on(&segment);
    let Ok(mut signer) = builder.clone().try_start(Some(&strace)).await else { return true };
    let proxy = site.proxy(builder.registry_entries()).start().await;
    // A signer that was struck before may be gone already.
    eventually("connected, or gone", || {
        let gone = !signer.process.is_running();
        let proxy = &proxy;
        async move {
            let is = proxy.metric("breakglass_signer_connected").await == Some(1.0);
            (gone || is).then_some(())
        }
    })
    .await;
    site.out(&proxy).await;
    let (unlocked, _) = signer.unlock_with(PASSPHRASE).await;
    let mut got = Vec::new();
    if unlocked && super::activate(&proxy, &signer.papers(&signer.request())).await.status == 200 {
        let asked: Vec<_> = ["one", "two"]
            .into_iter()
            .map(async |name| {
                let client = proxy.client(ALICE).await;
                let mut got = Vec::new();
                for number in 0..REQUESTS {
                    let message = format!("{name} {number}").into_bytes();
                    let answer = client.sign_message(KID, &message).await;
                    if answer.status == 200 {
                        got.push((message, answer.body));
                    }
                }
                got
            })
            .collect();
        let [one, two] = <[_; 2]>::try_from(asked).unwrap_or_else(|_| panic!("two"));
        let (one, two) = tokio::join!(one, two);
        got.extend(one);
        got.extend(two);
    }
    let all = got.len() == 2 * REQUESTS;
    if all && signer.process.is_running() {
        signer.process.signal(nix::sys::signal::Signal::SIGTERM);
    }
    let struck = !signer.process.ended().await.success();
    assert!(struck || all, "{} of {}", got.len(), 2 * REQUESTS);
    // Every signature that a client has is in the signer's journal.
    let tail = if struck { Tail::MayBeTorn } else { Tail::Whole };
    check(&builder.journal(), &builder.path("signers.json"), &[], tail).unwrap();
    let keys = site.public_keys(&builder);
    // A torn write is cut by the next start.
    drop(builder.clone().start().await);
    let made = read(&builder.journal(), "emergency_signed");
    let made: String = made.iter().map(ToString::to_string).collect();
    for (message, body) in &got {
        assert_eq!(body["signer_kid"], EMERGENCY_KID, "{body}");
        let text = body["signature"].as_str().unwrap();
        assert!(verifies(&keys, EMERGENCY_KID, message, &STANDARD.decode(text).unwrap()));
        assert!(made.contains(text), "not in the signer's journal: {body}");
    }
    struck
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_signer_struck_under_load_lost_no_record_of_what_a_client_received() {
    let mut chance = Chance::of("breakglass switch faults");
    let calls = ["pwrite64", "fdatasync"];
    let all = [Happens::Kills, Happens::Fails("EIO"), Happens::Fails("ENOSPC")];
    if is_campaign() {
        for call in calls {
            for happens in all {
                let mut number = 1;
                while struck_at(call, happens, number).await {
                    number += 1;
                }
                println!("{call}: {} calls", number - 1);
            }
        }
        return;
    }
    for happens in all {
        let call = calls[chance.below(2)];
        struck_at(call, happens, 4 + chance.below(10)).await;
    }
}

/// A session's quota: far more than the pieces in which all memory is read three times.
const QUOTA: usize = 100_000;
/// Requests for which there is a permit and no client yet.
const AHEAD_MAX: usize = 8;

/// Asks for a signature for each permit that it finds, until there are no more to come.
async fn load(client: Client, permits: Arc<Semaphore>, signed: Arc<AtomicUsize>) {
    while let Ok(permit) = permits.acquire().await {
        permit.forget();
        let number = signed.load(Ordering::SeqCst);
        let answer = client.sign_message(KID, format!("m{number}").as_bytes()).await;
        // A machine that has other things to do may answer too late; never may it sign otherwise.
        match answer.status {
            200 => assert_eq!(answer.body["signer_kid"], EMERGENCY_KID, "{}", answer.text),
            503 | 504 if SLOW.contains(&answer.reason()) => continue,
            _ => panic!("{}", answer.text),
        }
        signed.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a request is refused for on a machine that is busy.
const SLOW: [&str; 4] =
    ["deadline_exceeded", "indeterminate", "overloaded", "breakglass_signer_unavailable"];

/// The proxy's memory is looked at again and again while it serves: with each piece of memory that
/// is read another request may be made. So they go on for as long as it takes, however fast the
/// machine is, and are far fewer than the session's quota.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_the_emergency_key_is_in_no_memory_log_or_file_of_the_proxy() {
    let site = Site::new();
    let (signer, proxy) = site.both().await;
    site.out(&proxy).await;
    let mut request = signer.request();
    request["max_signatures"] = json!(QUOTA);
    super::activated(&signer, &proxy, &request).await;
    let (permits, signed) = (Arc::new(Semaphore::new(AHEAD_MAX)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..2 {
        let client = proxy.client(ALICE).await;
        clients.spawn(load(client, Arc::clone(&permits), Arc::clone(&signed)));
    }
    let secrets = signer.secrets();
    let held = scan(signer.process.pid(), &secrets);
    assert!(held.has("key"), "this test cannot find a key that is there: {held:?}");
    connected(&proxy).await;
    for _ in 0..3 {
        let before = signed.load(Ordering::SeqCst);
        let (pid, secrets, permits) = (proxy.process.pid(), secrets.clone(), Arc::clone(&permits));
        // On a thread of its own: the clients are not held up.
        let scanned = tokio::task::spawn_blocking(move || {
            scan_while(pid, &secrets, || {
                if permits.available_permits() < AHEAD_MAX {
                    permits.add_permits(1);
                }
            })
        });
        let found = scanned.await.unwrap();
        assert!(found.found.is_empty(), "{:?}", found.found);
        assert!(found.bytes > 10 << 20, "only {} bytes could be read", found.bytes);
        eventually("it went on meanwhile", || {
            std::future::ready((signed.load(Ordering::SeqCst) > before).then_some(()))
        })
        .await;
    }
    let signatures = signed.load(Ordering::SeqCst);
    assert!(signatures < QUOTA / 2, "{signatures} signatures are near the session's quota");
    let metrics = proxy.metrics().await;
    let told = super::status(&proxy).await.to_string();
    for (name, secret) in &secrets {
        for text in [&metrics, &told, &proxy.process.output()] {
            assert!(!holds(text.as_bytes(), secret), "{name}");
        }
        for dir in ["proxy/state", "proxy/journal"] {
            for entry in fs::read_dir(site.world.scratch.path(dir)).unwrap() {
                let path = entry.unwrap().path();
                assert!(!holds(&fs::read(&path).unwrap(), secret), "{name}: {}", path.display());
            }
        }
    }
    permits.close();
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    assert_eq!(super::end(&proxy).await.status, 200);
    super::over(&proxy).await;
    let after = scan(signer.process.pid(), &secrets);
    assert!(after.found.is_empty(), "it is there after the end: {:?}", after.found);
}
