//! The emergency key is in its own process's memory while a session lasts, and nowhere else: in no
//! other process, file, log or core; and not even there after the end.

use std::fs;
use std::os::unix::fs::FileExt as _;

use serde_json::json;
use system_tests::breakglass::{PASSPHRASE, Signer, succeeds};
use system_tests::programs::system;

use super::{KID, Site};

const NOWHERE: [String; 0] = [];

/// The 32 bytes of the private key.
fn seed(signer: &Signer<'_>) -> Vec<u8> {
    let mut openssl = system("openssl");
    openssl.args(["pkey", "-outform", "DER", "-passin", &format!("pass:{PASSPHRASE}"), "-in"]);
    let der = succeeds(openssl.arg(signer.builder.path("emergency.pem")));
    der[der.len() - 32..].to_vec()
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

/// Where in the memory of a process `secret` is.
fn places(pid: u32, secret: &[u8]) -> Vec<String> {
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // Some are the kernel's, and not read.
        if memory.read_exact_at(&mut bytes, from).is_ok() && holds(&bytes, secret) {
            found.push(line.to_owned());
        }
    }
    found
}

#[tokio::test]
async fn i4_the_key_is_in_the_signers_memory_during_a_session_and_nowhere_else_and_never() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let seed = seed(&signer);
    let pid = signer.process.pid();
    assert_eq!(places(pid, &seed), NOWHERE, "it is open before a session");
    let mut proxy = signer.connect().await;
    let session = signer.activated(&mut proxy, &signer.request()).await;
    assert!(proxy.sign(&session, KID, b"hello").await["signed"].is_object());
    assert!(!places(pid, &seed).is_empty(), "this test can not find a key that is there");
    assert_eq!(places(pid, PASSPHRASE.as_bytes()), NOWHERE, "the passphrase is still there");
    proxy.ask(json!({"end": {"reason": "over", "by": "uid 0"}})).await;
    assert_eq!(places(pid, &seed), NOWHERE, "it is there after the end");
    let said = signer.process.output();
    let secrets = [seed.clone(), hex::encode(&seed).into_bytes(), PASSPHRASE.as_bytes().to_vec()];
    for secret in &secrets {
        assert!(!holds(said.as_bytes(), secret), "{said}");
        for file in ["state", "journal"] {
            for entry in fs::read_dir(signer.builder.path(file)).unwrap() {
                let path = entry.unwrap().path();
                assert!(!holds(&fs::read(&path).unwrap(), secret), "{}", path.display());
            }
        }
    }
}

#[tokio::test]
async fn i4_the_process_is_confined_locked_and_dumps_no_core() {
    let site = Site::new();
    let signer = site.signer().start().await;
    let pid = signer.process.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!((value("Seccomp:").as_str(), value("NoNewPrivs:").as_str()), ("2", "1"));
    assert_ne!(value("VmLck:"), "0", "its memory is not locked");
    // Every thread: the journal's and the log's too.
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4).unwrap(), "0", "{core}");
    // Not dumpable: what is in /proc of it belongs to root, whoever it runs as.
    let sockets = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let inet = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    for link in sockets.filter(|link| link.to_string_lossy().starts_with("socket:[")) {
        let inode =
            link.to_string_lossy().trim_start_matches("socket:[").trim_end_matches(']').to_owned();
        assert!(
            !inet.contains(&format!(" {inode} ")),
            "it has an internet socket: {}",
            link.display()
        );
    }
}
