//! "SoftHSM in five minutes" of `docs/operating/hsm.md`, pasted as it stands, through to a signature that
//! openssl verifies.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::client::plain;
use system_tests::programs::{ours, repository, system};
use system_tests::{Process, Scratch, eventually};

/// The addresses that the page names. Others serve there while the tests run.
const DATA: &str = "127.0.0.1:8443";
const METRICS: &str = "127.0.0.1:9464";

/// The `sh` blocks of the section, in order.
fn blocks() -> Vec<String> {
    let page = std::fs::read_to_string(repository().join("docs/operating/hsm.md")).unwrap();
    let (_, section) = page.split_once("\n## SoftHSM in five minutes\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let blocks = section.split("\n```").skip(1).step_by(2);
    blocks
        .map(|block| {
            let (language, text) = block.split_once('\n').unwrap();
            assert_eq!(language, "sh", "nobody runs this block: {text}");
            text.to_owned()
        })
        .collect()
}

/// A shell in which the page is pasted, block by block.
struct Shell {
    scratch: Scratch,
    /// What stays from one block to the next: variables and the directory.
    stays: String,
}

impl Shell {
    fn bash(&self, block: &str) -> Command {
        let mut bash = system("bash");
        bash.arg("-c").arg(format!("set -e -o pipefail\n{}{block}", self.stays));
        bash.current_dir(self.scratch.dir());
        bash
    }

    fn paste(&mut self, block: &str) -> String {
        let output = self.bash(block).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{block}\n{said}");
        let lines =
            block.lines().filter(|line| ["export ", "cd "].iter().any(|w| line.starts_with(w)));
        lines.for_each(|line| self.stays.push_str(&format!("{line}\n")));
        said
    }

    /// Pastes a block that goes on until it is stopped.
    fn begin(&self, block: &str) -> Process {
        Process::start(self.bash(&format!("exec {block}")))
    }
}

#[tokio::test]
async fn softhsm_in_five_minutes_works_as_it_stands() {
    for program in ["softhsm2-util", "openssl", "curl", "awk", "base64"] {
        let _ = system(program);
    }
    let mut shell = Shell { scratch: Scratch::new(), stays: String::new() };
    // Where it was built.
    std::fs::create_dir(shell.scratch.path("target")).unwrap();
    let built = ours("signing-proxy").parent().unwrap().to_owned();
    std::os::unix::fs::symlink(built, shell.scratch.path("target/release")).unwrap();
    let (mut said, mut serving) = (String::new(), None);
    let mut blocks = blocks().into_iter();
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
