//! Signals that ask a program to stop or to read its configuration again. What comes in the first
//! milliseconds must not be lost: so `main` holds signals back before all else, until somebody
//! listens. A signal that is held back is kept, also for a process that is PID 1 of its container,
//! for which the kernel drops signals that nobody handles.

use std::fs;
use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::thread;

pub use nix::sys::signal::Signal;
use nix::sys::signal::{SigSet, SigmaskHow, raise};

/// A supervisor that stops, Ctrl-C, a terminal that goes, Ctrl-\\.
const HELD: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// What a shell says of a process that a signal ended is this much more than the signal's number.
const OF_A_SIGNAL: i32 = 128;

/// Signals are held back, in this thread and in those that it starts.
#[derive(Debug)]
#[must_use = "who holds signals back has to say who listens to them"]
pub struct Held(());

/// How a process ends at SIGTERM or SIGINT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As the signal ends a process that does not handle it.
    BySignal,
    /// In order: nothing is left to do.
    InOrder,
}

type Undo = Box<dyn FnOnce() + Send>;

/// What has to be undone before a signal ends the process.
static UNDO: Mutex<Option<Undo>> = Mutex::new(None);

impl Held {
    /// Holds them back: the first statement of `main`.
    pub fn back() -> Self {
        // It fails for no set of signals that exist.
        let _ = held().thread_block();
        Self(())
    }

    /// Lets them through. Whoever calls it has installed handlers, and has started no thread.
    pub fn let_through(self) {
        let _ = held().thread_unblock();
    }

    /// Keeps them back until the end of the process: it ends in another way.
    pub fn for_ever(self) {
        let Self(()) = self;
    }

    /// Lets the first that comes end the process, whatever it is doing then.
    pub fn end_process(self, end: End) {
        // What was ignored for us, as by nohup, stays so.
        let (ignored, ours): (Vec<_>, Vec<_>) = HELD.into_iter().partition(|one| is_ignored(*one));
        let _ = ignored.into_iter().collect::<SigSet>().thread_unblock();
        let ours: SigSet = ours.into_iter().collect();
        let waiting = thread::Builder::new().name("signals".into()).spawn(move || wait(ours, end));
        if waiting.is_err() {
            // Then they do what they do by themselves.
            self.let_through();
        }
    }
}

fn held() -> SigSet {
    HELD.into_iter().collect()
}

fn wait(signals: SigSet, end: End) {
    let Ok(signal) = signals.wait() else { return };
    let undo = UNDO.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(undo) = undo {
        undo();
    }
    let in_order = matches!(signal, Signal::SIGTERM | Signal::SIGINT) && end == End::InOrder;
    if !in_order {
        let _ = signals.thread_unblock();
        let _ = raise(signal);
        // PID 1 is still here.
    }
    leave(if in_order { 0 } else { OF_A_SIGNAL + signal as i32 });
}

/// Ends this process, at once. Threads may still run, such as one that waits for a far side that hangs. At an
/// orderly exit C libraries take themselves down under these: AWS-LC then aborts the process in a thread that
/// asks for random bytes for the first time. Nothing waits in a buffer: what is printed is written at once
/// ([`crate::out`]). The worker of a token ends in order all the same: it has no thread of AWS-LC, and the vendor's
/// library may have to tell its token.
pub fn leave(code: i32) -> ! {
    signal_hook::low_level::exit(code)
}

/// Has `undo` called before a signal ends the process, in place of what was there.
pub fn undo_before_end(undo: impl FnOnce() + Send + 'static) {
    *UNDO.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(undo));
}

/// Nothing has to be undone any more.
pub fn nothing_to_undo() {
    *UNDO.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Whether this process was started with that signal ignored.
#[must_use]
pub fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & (1 << (signal as i32 - 1)) != 0
}

/// Starts a program of ours that looks at signals itself: none reaches it before it does.
///
/// # Errors
/// As of [`Command::spawn`].
pub fn spawn_held(command: &mut Command) -> io::Result<Child> {
    let before = held().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let child = command.spawn();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    child
}
