//! Signals in the first milliseconds of each program that runs for long: kept and obeyed, also
//! where the program is PID 1 of its container, for which the kernel drops what nobody handles.
//! Before `main` nothing can hold a signal back, so each test begins when `main` has.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use system_tests::programs::{ours, system};
use system_tests::{Chance, Process, Scratch, World, eventually, is_campaign};

/// How a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runs {
    Plainly,
    AsPid1,
}

/// A program whose `main` has begun.
struct Begun {
    /// It, or what holds its namespace, and ends as it does.
    process: Process,
    pid: Pid,
}

impl Begun {
    async fn start(command: &Command, runs: Runs) -> Self {
        let process = match runs {
            Runs::Plainly => Process::start_with(&mut again(command, None), Stdio::piped()),
            Runs::AsPid1 => {
                let mut unshare = again(command, Some(system("unshare")));
                Process::start_with(&mut unshare, Stdio::piped())
            }
        };
        let pid = eventually("main has begun", || {
            let pid = match runs {
                Runs::Plainly => Some(process.pid()),
                Runs::AsPid1 => child_of(process.pid()),
            };
            std::future::ready(pid.filter(|pid| holds_back_or_handles(*pid, Signal::SIGTERM)))
        })
        .await;
        Self { process, pid: Pid::from_raw(i32::try_from(pid).unwrap()) }
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Waits for its end by that status; what a signal ends counts as a shell counts it.
    async fn ends_with(&mut self, expected: i32, what: &str) {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.process.ended().await;
        let found = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        assert_eq!(found, Some(expected), "{what}: {status}\n{}", self.process.output());
    }
}

/// The same command, perhaps as the argument of `unshare`.
fn again(command: &Command, before: Option<Command>) -> Command {
    let mut again = match before {
        Some(mut unshare) => {
            unshare.args(["--pid", "--fork", "--kill-child"]).arg(command.get_program());
            unshare
        }
        None => Command::new(command.get_program()),
    };
    again.args(command.get_args());
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            again.env(key, value);
        }
    }
    if let Some(directory) = command.get_current_dir() {
        again.current_dir(directory);
    }
    again
}

fn child_of(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// By its masks; of the program itself, not of what started it.
fn holds_back_or_handles(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        u64::from_str_radix(mask.trim(), 16).unwrap()
    };
    let is_ours = !status.lines().next().unwrap_or_default().ends_with("unshare");
    let both = mask("SigBlk:") | mask("SigCgt:");
    is_ours && both & (1 << (signal as i32 - 1)) != 0
}

/// Moments after `main` began, whichever: any has to be right.
fn moments() -> Vec<Duration> {
    let mut chance = Chance::of("early signals");
    let millis: Vec<usize> = if is_campaign() {
        (0..150).collect()
    } else {
        (0..3).map(|step| (20 * step) + chance.below(1 + 20 * step)).collect()
    };
    millis.into_iter().map(|millis| Duration::from_millis(millis as u64)).collect()
}

/// Has the program at each moment get `signal`; `then` says what has to follow.
async fn at_each_moment(command: &Command, signal: Signal, then: impl AsyncFn(Begun, &str)) {
    for runs in [Runs::Plainly, Runs::AsPid1] {
        for moment in moments() {
            let begun = Begun::start(command, runs).await;
            // A pause: the moment of the signal is what is tried.
            tokio::time::sleep(moment).await;
            begun.signal(signal);
            then(begun, &format!("{signal} {moment:?} after main began, {runs:?}")).await;
        }
    }
}

#[tokio::test]
async fn a_serving_proxy_stops_in_order() {
    let (world, key) = World::one_signer();
    let command = world.proxy_of(&key).command();
    at_each_moment(&command, Signal::SIGTERM, async |mut begun, what| {
        begun.ends_with(0, what).await;
    })
    .await;
}

#[tokio::test]
async fn a_serving_proxy_reads_its_configuration_again_once_it_serves() {
    let (world, key) = World::one_signer();
    let command = world.proxy_of(&key).command();
    at_each_moment(&command, Signal::SIGHUP, async |mut begun, what| {
        begun.process.says("\"reloaded\",\"by\":\"signal SIGHUP\"").await;
        begun.signal(Signal::SIGTERM);
        begun.ends_with(0, what).await;
    })
    .await;
}

#[tokio::test]
async fn dev_stops_in_order_and_takes_its_emergency_signer_with_it() {
    let scratch = Scratch::new();
    let mut command = Command::new(ours("signing-proxy"));
    command.args(["dev", "--dir", "dev", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]);
    command.current_dir(scratch.dir());
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        at_each_moment(&command, signal, async |mut begun, what| {
            begun.ends_with(0, what).await;
            eventually("nobody is left", || {
                std::future::ready(crate::dev::processes_in(&scratch).is_empty().then_some(()))
            })
            .await;
        })
        .await;
    }
}

#[tokio::test]
async fn the_emergency_signer_stops_in_order_and_no_hangup_ends_it() {
    let scratch = Scratch::new();
    let command = system_tests::breakglass::SignerBuilder::new(&scratch).command();
    at_each_moment(&command, Signal::SIGTERM, async |mut begun, what| {
        begun.ends_with(0, what).await;
    })
    .await;
    at_each_moment(&command, Signal::SIGHUP, async |mut begun, what| {
        begun.process.says("SIGHUP: nothing is read anew").await;
        begun.signal(Signal::SIGTERM);
        begun.ends_with(0, what).await;
    })
    .await;
}

#[tokio::test]
async fn what_signctl_waits_for_ends_at_a_signal() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let journal = builder.journal();
    let proxy = builder.start().await;
    let mut tail = Command::new(ours("signctl"));
    tail.args(["audit", "tail", "--follow", "--journal"]).arg(&journal);
    // A drill that waits for ever: nobody answers at this socket.
    let silent = std::os::unix::net::UnixListener::bind(world.scratch.path("silent")).unwrap();
    let mut drill = Command::new(ours("signctl"));
    drill.args(["drill", "--json", "--socket"]).arg(world.scratch.path("silent"));
    for (command, signal, status) in [
        (&tail, Signal::SIGTERM, 0),
        (&tail, Signal::SIGINT, 0),
        (&tail, Signal::SIGHUP, 128 + 1),
        (&drill, Signal::SIGTERM, 128 + 15),
        (&drill, Signal::SIGHUP, 128 + 1),
    ] {
        at_each_moment(command, signal, async |mut begun, what| {
            begun.ends_with(status, &format!("{command:?} {what}")).await;
        })
        .await;
    }
    drop(silent);
    proxy.stop().await;
}

#[tokio::test]
async fn a_worker_is_not_stopped_by_what_stops_all_processes_of_a_unit() {
    let (ours_end, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = Command::new(ours("pkcs11-worker"));
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    eventually("main has begun", || {
        let begun = holds_back_or_handles(child.id(), Signal::SIGTERM);
        std::future::ready(begun.then_some(()))
    })
    .await;
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    }
    assert!(child.try_wait().unwrap().is_none(), "it ended at a signal");
    // The proxy closes the socket: that ends it.
    drop(ours_end);
    eventually("its end", || std::future::ready(child.try_wait().unwrap())).await;
}

#[tokio::test]
async fn a_terminal_that_goes_does_not_stop_what_was_started_with_nohup() {
    let (world, key) = World::one_signer();
    let builder = world.proxy_of(&key);
    let journal = builder.journal();
    let proxy = builder.start().await;
    let mut tail = system("nohup");
    tail.arg(ours("signctl")).args(["audit", "tail", "--follow", "--journal"]).arg(&journal);
    let mut tail = Process::start(tail);
    let pid = Pid::from_raw(i32::try_from(tail.pid()).unwrap());
    tail.says("gate").await;
    kill(pid, Signal::SIGHUP).unwrap();
    assert_eq!(proxy.signctl(&["freeze", "--reason", "after the hangup"]).0, 0);
    tail.says("after the hangup").await;
    kill(pid, Signal::SIGTERM).unwrap();
    assert!(tail.ended().await.success());
}
