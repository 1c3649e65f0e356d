//! `docs/start/first-signature.md`, pasted as it stands: a signature that openssl verifies, one for
//! Python, a freeze that both meet, and the end of the freeze.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Shell, blocks};

/// The address that the page names. Others serve there while the tests run.
const DATA: &str = "127.0.0.1:8443";

#[tokio::test]
async fn the_first_signature_comes_as_the_page_says() {
    let mut shell = Shell::where_it_was_built();
    let mut blocks = blocks("docs/start/first-signature.md").into_iter();
    let (_, begin) = blocks.next().unwrap();
    let (build, dev) = begin.split_once('\n').unwrap();
    assert_eq!(build, "cargo build --release --locked");
    let mut dev = shell.begin(&format!("{dev} --listen 127.0.0.1:0 --metrics 127.0.0.1:0"));
    let ready: Value = dev
        .line("ready", |line| line.strip_prefix("ready ").map(serde_json::from_str))
        .await
        .unwrap();
    let (host, port) = DATA.split_once(':').unwrap();
    let (_, real) = ready["url"].as_str().unwrap().rsplit_once(':').unwrap();

    let mut said = String::new();
    let mut python = String::new();
    for (language, block) in blocks {
        // Python names host and port apart.
        let python_names = format!("\"{host}\", {port}");
        let block = block
            .replace(DATA, &format!("{host}:{real}"))
            .replace(&python_names, &format!("\"{host}\", {real}"));
        match language.as_str() {
            "sh" => said += &shell.paste(&block),
            "python" => {
                python = format!("python3 - <<'END'\n{block}\nEND\n");
                said += &shell.paste(&python);
            }
            other => panic!("nobody runs this block: {other}\n{block}"),
        }
        if block.contains(" freeze ") {
            let refused = shell.paste(&python);
            assert!(refused.starts_with("503 "), "{refused}");
            assert!(refused.contains("my first freeze"), "{refused}");
        }
    }
    for expected in
        ["\"signer_kid\":\"dev-p256\"", "Verified OK", "200 {", "my first freeze", "not frozen"]
    {
        assert!(said.contains(expected), "missing: {expected}\n{said}");
    }
    assert!(shell.paste(&python).starts_with("200 "));
    dev.signal(Signal::SIGINT);
    assert!(dev.ended().await.success(), "{}", dev.output());
}
