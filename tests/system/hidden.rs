//! Characters that turn the direction of a line, show nothing, or are obeyed by a terminal: none
//! reaches a person through anything that our programs print or log.

use std::process::Command;

use serde_json::{Value, json};
use system_tests::World;
use system_tests::programs::ours;

/// Bidirectional controls, zero-width ones, a line separator, a tag, a C1 control.
const HIDDEN: &str = "\u{61c}\u{200b}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2028}\
    \u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}\u{e0041}";

#[track_caller]
fn assert_seen(what: &str, printed: &str) {
    let hidden = printed.chars().find(|c| *c != '\n' && text::is_hidden(*c));
    assert_eq!(hidden, None, "{what}: {printed:?}");
}

#[tokio::test]
async fn nothing_hidden_is_printed_or_logged() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let journal = builder.journal();
    let proxy = builder.start().await;
    let reason = format!("INC-9 {HIDDEN} end");
    let (code, said, errors) = proxy.signctl(&["freeze", "--reason", &reason]);
    assert_eq!(code, 0, "{said}{errors}");
    let journal = journal.to_str().unwrap();
    let escaped = format!("INC-9 {} end", HIDDEN.escape_default());
    for (arguments, is_json) in [
        (&["status"][..], false),
        (&["status", "--json"], true),
        (&["audit", "tail", "--type", "freeze", "--journal", journal], false),
        (&["audit", "tail", "--type", "freeze", "--json", "--journal", journal], true),
        (&["audit", "export", "--journal", journal], true),
    ] {
        let (_, said, errors) = proxy.signctl(arguments);
        assert_seen(&arguments.join(" "), &(said.clone() + &errors));
        if is_json {
            let lines = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
            let values: Vec<_> = lines.map(Result::unwrap).collect();
            let found = values.iter().any(|value| {
                let places = ["/freeze/reason", "/record/data/reason"];
                places.iter().any(|place| value.pointer(place) == Some(&json!(reason)))
            });
            assert!(found, "{arguments:?} says something else: {said}");
        } else {
            assert!(said.contains(&escaped), "{arguments:?}: {said}");
        }
    }
    let log = proxy.process.says("INC-9").await;
    assert_seen("the log", &log);
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    assert!(lines.into_iter().any(|line| line["reason"] == json!(reason)), "{log}");
    // What a person typed is printed too.
    for program in
        ["signctl", "signing-proxy", "breakglass-signer", "signing-trail", "pkcs11-worker"]
    {
        let output = Command::new(ours(program)).arg(format!("x{HIDDEN}\u{1b}[2J")).output();
        let output = output.unwrap();
        assert_seen(program, &String::from_utf8([output.stdout, output.stderr].concat()).unwrap());
    }
}
