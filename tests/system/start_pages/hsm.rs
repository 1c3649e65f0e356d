//! `docs/start/hsm.md`, pasted as it stands, through to a signature that openssl verifies.

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::client::plain;
use system_tests::programs::system;
use system_tests::{Process, eventually};

use super::{Shell, blocks};

/// The addresses that the page names. Others serve there while the tests run.
const DATA: &str = "127.0.0.1:8443";
const METRICS: &str = "127.0.0.1:9464";

#[tokio::test]
async fn softhsm_in_five_minutes_works_as_it_stands() {
    for program in ["softhsm2-util", "openssl", "curl", "awk", "base64"] {
        let _ = system(program);
    }
    let mut shell = Shell::where_it_was_built();
    let (mut said, mut serving) = (String::new(), None);
    let mut blocks = blocks("docs/start/hsm.md").into_iter().map(|(language, block)| {
        assert_eq!(language, "sh", "nobody runs this block: {block}");
        block
    });
    assert_eq!(blocks.next().unwrap(), "apt-get install -y softhsm2 openssl curl");
    for block in blocks {
        if block.starts_with("signing-proxy dev ") {
            let block = format!("{block} --listen 127.0.0.1:0 --metrics 127.0.0.1:0");
            let mut dev = shell.begin(&block);
            dev.line("ready", |line| line.starts_with("ready ").then_some(())).await;
            dev.signal(Signal::SIGINT);
            assert!(dev.ended().await.success(), "{}", dev.output());
        } else if block.starts_with("signing-proxy serve ") {
            serving = Some(serve(shell.begin(&block)).await);
        } else {
            let [data, metrics] = match &serving {
                Some((_, addresses)) => addresses.clone(),
                None => ["127.0.0.1:0"; 2].map(str::to_owned),
            };
            said += &shell.paste(&block.replace(DATA, &data).replace(METRICS, &metrics));
        }
    }
    for expected in [
        "no mistakes; 1 signer, 1 caller",
        "payments-2026  pkcs11 payments",
        "\"signer_kid\":\"payments-2026\"",
        "Verified OK",
    ] {
        assert!(said.contains(expected), "missing: {expected}\n{said}");
    }
    let (mut proxy, _) = serving.unwrap();
    let workers = system_tests::softhsm::workers_of(proxy.pid());
    assert_eq!(workers.len(), 1);
    proxy.signal(Signal::SIGINT);
    assert!(proxy.ended().await.success(), "{}", proxy.output());
    eventually("the worker ends too", || {
        std::future::ready((!system_tests::softhsm::is_worker(workers[0])).then_some(()))
    })
    .await;
}

/// Waits for what the page says that it logs; where it serves and where its metrics are.
async fn serve(mut process: Process) -> (Process, [String; 2]) {
    let addresses = process
        .line("the line that it serves", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let text = |key: &str| line[key].as_str().map(str::to_owned);
            (line["message"] == "serving").then(|| Some([text("listen")?, text("metrics")?]))?
        })
        .await;
    process.says("the worker serves").await;
    eventually("healthy", || async {
        (plain(&addresses[1], "/health").await.status == 200).then_some(())
    })
    .await;
    process.says(r#""to":"open""#).await;
    (process, addresses)
}
