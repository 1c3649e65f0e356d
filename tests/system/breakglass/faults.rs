//! The signer killed, and its disk failing, under load through the proxy; and where the
//! emergency key is meanwhile.

use std::fs;
use std::os::unix::fs::FileExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use system_tests::breakglass::{EMERGENCY_KID, PASSPHRASE, succeeds};
use system_tests::journal::{check, read};
use system_tests::programs::system;
use system_tests::{Chance, Happens, Strace, Tail, When, eventually, is_campaign};

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
    // A torn end is cut by the next start.
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

#[tokio::test]
async fn i4_the_emergency_key_is_in_no_memory_log_or_file_of_the_proxy() {
    let site = Site::new();
    let (signer, proxy, _) = site.in_session().await;
    let alice = proxy.client(ALICE).await;
    for number in 0..50 {
        assert_eq!(alice.sign_message(KID, format!("m{number}").as_bytes()).await.status, 200);
    }
    let mut openssl = system("openssl");
    openssl.args(["pkey", "-outform", "DER", "-passin", &format!("pass:{PASSPHRASE}"), "-in"]);
    let der = succeeds(openssl.arg(signer.builder.path("emergency.pem")));
    let seed = der[der.len() - 32..].to_vec();
    assert!(in_memory(signer.process.pid(), &seed), "this test can not find a key that is there");
    let secrets =
        [seed.clone(), hex::encode(&seed).into(), STANDARD.encode(&seed).into(), PASSPHRASE.into()];
    connected(&proxy).await;
    let metrics = proxy.metrics().await;
    let told = super::status(&proxy).await.to_string();
    for secret in &secrets {
        assert!(!in_memory(proxy.process.pid(), secret), "in the proxy's memory");
        for text in [&metrics, &told, &proxy.process.output()] {
            assert!(!holds(text.as_bytes(), secret));
        }
        for dir in ["proxy/state", "proxy/journal"] {
            for entry in fs::read_dir(site.world.scratch.path(dir)).unwrap() {
                let path = entry.unwrap().path();
                assert!(!holds(&fs::read(&path).unwrap(), secret), "{}", path.display());
            }
        }
    }
    assert_eq!(
        proxy.admin("POST", "/v1/breakglass/end", json!({"reason": "over"})).await.status,
        200
    );
    super::over(&proxy).await;
    assert!(!in_memory(signer.process.pid(), &seed), "it is there after the end");
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    let first = secret[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(secret) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Whether `secret` is in the memory of a process.
fn in_memory(pid: u32, secret: &[u8]) -> bool {
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().any(|line| {
        let mut words = line.split(' ');
        let (from, to) = words.next().unwrap().split_once('-').unwrap();
        // What is not written to holds no secret, and what is only reserved is not read.
        if !words.next().unwrap().starts_with("rw") {
            return false;
        }
        let [mut from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; 1 << 20];
        while from < to {
            let length = usize::try_from((to - from).min(1 << 20)).unwrap();
            if memory.read_exact_at(&mut bytes[..length], from).is_ok()
                && holds(&bytes[..length], secret)
            {
                return true;
            }
            // The next block begins before this one ends: a secret may lie across.
            from += if length < 1 << 20 { length as u64 } else { (1 << 20) - 64 };
        }
        false
    })
}
