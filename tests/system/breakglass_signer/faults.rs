//! The signer killed and its disk failing at its system calls: what was received is in its
//! journal, nothing is armed after, and a failed sync ends the process.

use nix::sys::signal::Signal;
use serde_json::json;
use system_tests::breakglass::sign;
use system_tests::{Chance, Exchange, Happens, Strace, Tail, When, is_campaign};

use super::session::{checked, checked_in, received};
use super::{KID, Site};

/// Calls on the journal's one segment, with about how many of each there are.
const CALLS: [(&str, usize); 2] = [("pwrite64", 14), ("fdatasync", 14)];
/// Signatures that are asked for.
const SIGNATURES: usize = 12;

/// Lets `happens` happen at the `number`th `call`; whether there was one.
async fn struck_at(call: &str, happens: Happens, number: usize) -> bool {
    println!("{happens:?} at {call} {number}");
    let site = Site::new();
    let builder = site.signer();
    drop(builder.command());
    let segment = builder.journal().join("00000000000000000001.journal");
    let strace =
        Strace::inject(call, happens, When::Only(number), &site.world.scratch.path("trace"));
    let strace = strace.on(&segment);
    let mut got: Vec<Exchange> = Vec::new();
    let struck = match builder.clone().try_start(Some(&strace)).await {
        Err(said) => {
            println!("{said}");
            true
        }
        Ok(mut signer) => {
            // It may be gone before it says a word: an idle writer writes too.
            if let Some(mut proxy) = signer.try_connect().await
                && signer.unlock_with(system_tests::breakglass::PASSPHRASE).await.0
            {
                proxy.send(signer.activation(&signer.request())).await;
                if let Some(answer) = proxy.next().await
                    && let Some(session) = answer["activated"]["session"]["session"].as_str()
                {
                    let asks: Vec<_> = (0..SIGNATURES)
                        .map(|number| sign(session, KID, format!("message {number}").as_bytes()))
                        .collect();
                    for ask in &asks {
                        proxy.send(ask.clone()).await;
                        let Some(answer) = proxy.next().await else { break };
                        if answer["signed"].is_object() {
                            got.push(received(ask, &answer));
                        }
                    }
                }
            }
            if signer.process.is_running() && got.len() == SIGNATURES {
                signer.process.signal(Signal::SIGTERM);
            }
            !signer.process.ended().await.success()
        }
    };
    let tail = if struck { Tail::MayBeTorn } else { Tail::Whole };
    checked_in(&builder, &got, tail);
    assert!(struck || got.len() == SIGNATURES, "{} of {SIGNATURES}", got.len());
    // It starts again, nothing is armed, and it serves a new session.
    let signer = builder.start().await;
    let mut proxy = signer.connect().await;
    let status = proxy.ask(json!({"status": {}})).await;
    assert!(status["status"]["state"]["session"].is_null(), "{status}");
    let session = signer.activated(&mut proxy, &signer.request()).await;
    let ask = sign(&session, KID, b"again");
    got.push(received(&ask, &proxy.ask(ask.clone()).await));
    checked(&signer, &got, Tail::Whole);
    struck
}

#[tokio::test]
async fn i6_a_signer_struck_at_any_call_lost_no_record_of_what_was_received() {
    let mut chance = Chance::of("breakglass faults");
    let all = [Happens::Kills, Happens::Fails("EIO"), Happens::Fails("ENOSPC")];
    for (call, about) in CALLS {
        for happens in all {
            if is_campaign() {
                let mut number = 1;
                while struck_at(call, happens, number).await {
                    number += 1;
                }
                println!("{call}: {} calls", number - 1);
            } else {
                struck_at(call, happens, 1 + chance.below(about)).await;
            }
        }
    }
}

#[tokio::test]
async fn i6_a_strike_takes_effect_and_one_that_does_not_leaves_all_well() {
    assert!(struck_at("fdatasync", Happens::Kills, 5).await);
    assert!(struck_at("fdatasync", Happens::Fails("EIO"), 6).await);
    assert!(!struck_at("fdatasync", Happens::Fails("EIO"), 60_000).await);
}

/// Whether that call sent a word without a signature or a session: `believed` waits for no record, since what is
/// known of a proxy's log is only noted.
fn is_short(line: &str) -> bool {
    sent(line).is_some_and(|sent| sent < 64)
}

/// How many bytes that call was to send. Its result is on another line if another thread called meanwhile.
fn sent(line: &str) -> Option<u64> {
    let (_, arguments) = line.split_once('(')?;
    // The descriptor, the bytes, and how many: `sendto(17<...>, ""..., 25, MSG_NOSIGNAL, NULL, 0) = 25`.
    let (_, counted) = arguments.split_once("\"..., ")?;
    counted.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[test]
fn what_is_sent_is_counted_on_a_line_without_its_result_too() {
    let call = r#"4525  17.09 sendto(17<UNIX-STREAM:[8->7,"/tmp/signer.sock"]>, ""..., 25, MSG_NOSIGNAL, NULL, 0"#;
    for end in [" <unfinished ...>", ") = 25", ") = -1 EPIPE (Broken pipe)"] {
        assert_eq!(sent(&format!("{call}{end}")), Some(25));
    }
    assert_eq!(sent(r#"1 2.0 write(9<pipe:[8]>, ""..., 369 <unfinished ...>"#), Some(369));
    assert_eq!(sent("1 2.0 <... sendto resumed>) = 25"), None);
}

#[tokio::test]
async fn i6_a_signature_is_sent_after_its_record_is_synced() {
    let site = Site::new();
    let calls = ["pwrite64", "fdatasync", "write", "sendto", "writev", "sendmsg"];
    let strace = Strace::record(&calls, &site.world.scratch.path("trace"));
    let signer = site.signer().try_start(Some(&strace)).await.unwrap();
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    for number in 0..10 {
        let answer = proxy.sign(&session, KID, format!("message {number}").as_bytes()).await;
        assert!(answer["signed"].is_object());
    }
    drop(proxy);
    signer.stop().await;
    let (mut dirty, mut answers, mut synced) = (false, 0, 0);
    let trace = strace.recorded();
    for line in trace.lines() {
        let is = |call: &str| line.contains(&format!(" {call}("));
        if is("pwrite64") && line.contains(".journal") {
            dirty = true;
        } else if line.contains("fdatasync") && line.ends_with("= 0") {
            (dirty, synced) = (false, synced + 1);
        } else if (is("write") || is("sendto") || is("writev") || is("sendmsg"))
            && line.contains("signer.sock")
            && !is_short(line)
        {
            assert!(!dirty, "sent before it was synced: {line}\n{trace}");
            answers += 1;
        }
    }
    // The welcome, the session, the signatures.
    assert!(answers >= 12 && synced >= 11, "{answers} sent, {synced} synced\n{trace}");
}

#[tokio::test]
async fn many_signatures_that_are_asked_for_at_once_share_their_syncs() {
    let site = Site::new();
    let strace = Strace::record(&["fdatasync"], &site.world.scratch.path("trace"));
    let signer = site
        .signer()
        .caps("signatures_per_second_max = 100000")
        .try_start(Some(&strace))
        .await
        .unwrap();
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    let asks: Vec<_> =
        (0..400).map(|number| sign(&session, KID, format!("m{number}").as_bytes())).collect();
    for ask in &asks {
        proxy.send(ask.clone()).await;
    }
    let mut got = Vec::new();
    for ask in &asks {
        let answer = proxy.next().await.unwrap();
        got.push(received(ask, &answer));
    }
    let syncs = strace.recorded().lines().filter(|line| line.contains("fdatasync")).count();
    println!("400 signatures, {syncs} syncs");
    assert!(syncs < 200, "{syncs} syncs for 400 signatures");
    checked(&signer, &got, Tail::Whole);
}
