//! `signctl watch` in a real terminal, against a real proxy: what it shows, the one thing that it does, and that the
//! terminal is given back however it ends.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system_tests::programs::ours;
use system_tests::tmux::Tmux;
use system_tests::{Kind, Process, Proxy, World, eventually};

use crate::ALICE;

async fn proxy(world: &World) -> Proxy<'_> {
    let key = world.kms.key(Kind::P256);
    world.proxy().signer("ec", &key).caller(ALICE, &["ec"]).start().await
}

fn watch(world: &World, proxy: &Proxy<'_>, before: &str, after: &str) -> Tmux {
    let (signctl, socket) = (ours("signctl"), proxy.socket.display());
    let line = format!("{before} {} watch --socket {socket} {after}", signctl.display());
    Tmux::run(&world.scratch, &line)
}

async fn frozen(proxy: &Proxy<'_>) -> Value {
    proxy.admin("GET", "/v1/status", Value::Null).await.body["freeze"].clone()
}

#[tokio::test]
async fn it_shows_an_open_gate_freezes_for_a_typed_reason_and_says_when_the_proxy_dies() {
    let world = World::new();
    let mut proxy = proxy(&world).await;
    let terminal = watch(&world, &proxy, "", "");
    let screen = terminal.shows("ec      open").await;
    assert!(screen.contains(" · signing · up "), "{screen}");
    assert_eq!(screen.trim_end().lines().last(), Some("f freeze · q leave"), "{screen}");
    terminal.shows("probing -> open").await;

    // Escape leaves, and an empty reason does not count.
    terminal.press(&["f"]);
    terminal.shows("FREEZE stops all signing at once.").await;
    terminal.press(&["Enter"]);
    terminal.shows("not frozen: a reason is one line").await;
    terminal.type_text("not this one");
    terminal.shows("reason: not this one_").await;
    terminal.press(&["Escape"]);
    terminal.shows("nothing was frozen").await;
    assert_eq!(frozen(&proxy).await, Value::Null);

    terminal.press(&["f"]);
    terminal.type_text("INC-42: qq");
    terminal.press(&["BSpace"]);
    terminal.shows("reason: INC-42: q_").await;
    terminal.press(&["Enter"]);
    terminal.shows("frozen: nothing is signed until `signctl unfreeze`").await;
    terminal.shows("FROZEN since ").await;
    let screen = terminal.shows("NOT SIGNING (frozen)").await;
    assert!(screen.contains(": INC-42: q"), "{screen}");
    assert_eq!(frozen(&proxy).await["reason"], "INC-42: q");
    terminal.shows("freeze      by uid 0 (root): INC-42: q").await;

    // Somebody else ends it, and callers are refused or served meanwhile.
    let reason = json!({"reason": "looked at it"});
    assert_eq!(proxy.admin("POST", "/v1/unfreeze", reason).await.status, 200);
    terminal.shows(" · signing · up ").await;
    terminal.shows("unfreeze").await;

    // It hangs: that is said, and what is old is marked.
    proxy.process.signal(Signal::SIGSTOP);
    let screen = terminal.shows("NO ANSWER since ").await;
    assert!(screen.contains("NOT KNOWN: the proxy does not answer"), "{screen}");
    assert!(screen.contains("OLD: what follows is of "), "{screen}");
    for row in screen.lines().filter(|row| row.contains("ec      open")) {
        assert!(row.starts_with("~ "), "{screen}");
    }
    proxy.process.signal(Signal::SIGCONT);
    terminal.shows(" · signing · up ").await;

    // It dies.
    proxy.process.signal(Signal::SIGKILL);
    proxy.process.ended().await;
    let screen = terminal.shows("is signing-proxy running").await;
    assert!(screen.contains("NO ANSWER since ") && !screen.contains(" · signing · "), "{screen}");
    terminal.press(&["q"]);
    assert!(terminal.is_given_back().await.contains("ended with 0"));
}

#[tokio::test]
async fn the_terminal_is_given_back_at_every_end() {
    let world = World::new();
    let proxy = proxy(&world).await;
    for (end, status) in [
        (None, "ended with 0"),
        (Some(Signal::SIGTERM), "ended with 143"),
        (Some(Signal::SIGINT), "ended with 130"),
        (Some(Signal::SIGQUIT), "ended with 131"),
    ] {
        // A shell that SIGINT reaches as well would end itself.
        let terminal = watch(&world, &proxy, "trap : INT;", "");
        terminal.shows("ec      open").await;
        match end {
            Some(signal) => terminal.signal(signal),
            None => terminal.press(&["C-c"]),
        }
        let screen = terminal.is_given_back().await;
        assert!(screen.contains(status), "{end:?}: {screen}");
    }
}

#[tokio::test]
async fn any_size_fits_and_without_colours_there_are_none() {
    let world = World::new();
    let proxy = proxy(&world).await;
    // A foreground colour: 30 to 37; 39 is the terminal's own.
    let coloured = |screen: &str| {
        let mut codes = screen.split('\u{1b}').filter_map(|code| code.strip_prefix('['));
        codes.any(|code| {
            let code = code.split('m').next().unwrap_or_default();
            code.split(';').any(|code| code.len() == 2 && code.starts_with('3') && code != "39")
        })
    };
    let terminal = watch(&world, &proxy, "", "");
    terminal.shows("ec      open").await;
    assert!(coloured(&terminal.coloured_screen()), "{}", terminal.coloured_screen());
    for (width, height) in [(30, 5), (200, 60), (80, 24)] {
        terminal.resize(width, height);
        eventually("it is drawn anew", || {
            let screen = terminal.screen();
            let rows: Vec<_> = screen.lines().collect();
            let fits =
                rows.len() == usize::from(height) && rows[rows.len() - 1] == "f freeze · q leave";
            std::future::ready(fits.then_some(()))
        })
        .await;
    }
    drop(terminal);
    let terminal = watch(&world, &proxy, "NO_COLOR=1", "");
    terminal.shows("ec      open").await;
    assert!(!coloured(&terminal.coloured_screen()), "{}", terminal.coloured_screen());
}

#[tokio::test]
async fn what_is_no_terminal_is_told_what_to_use() {
    let world = World::new();
    let proxy = proxy(&world).await;
    let (code, shown, said) = proxy.signctl(&["watch"]);
    assert_eq!((code, shown.as_str()), (1, ""), "{said}");
    assert!(said.contains("is no terminal") && said.contains("signctl status --json"), "{said}");
    let (code, _, said) = proxy.signctl(&["watch", "--json"]);
    assert!(code == 1 && said.contains("signctl status --json"), "{said}");
    // Standard output goes to a file, or the terminal can do nothing.
    for (before, after, why) in
        [("", "> /dev/null", "standard output is no terminal"), ("TERM=dumb", "", "TERM names no")]
    {
        let terminal = watch(&world, &proxy, before, after);
        let screen = terminal.is_given_back().await;
        assert!(screen.contains(why) && screen.contains("ended with 1"), "{screen}");
    }
}

#[tokio::test]
async fn it_asks_the_trail_where_it_is_told_of_one() {
    let world = World::new();
    let proxy = proxy(&world).await;
    let terminal = watch(&world, &proxy, "", "--trail 127.0.0.1:1");
    terminal.shows("trail      NO ANSWER: ").await;
    // Without one it says how to ask.
    drop(terminal);
    let terminal = watch(&world, &proxy, "", "");
    terminal.shows("trail      not asked; --trail HOST:PORT").await;
    drop(terminal);
    // A command that only looks like a terminal leaves nothing behind.
    let mut signctl = std::process::Command::new(ours("signctl"));
    signctl.args(["watch", "--socket"]).arg(&proxy.socket);
    let mut process = Process::start_with(&mut signctl, Stdio::piped());
    assert_eq!(process.ended().await.code(), Some(1), "{}", process.output());
}
