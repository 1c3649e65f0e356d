//! The log on stderr: one JSON object a line, written by a thread of its own
//! from a bounded queue, so that a reader that stalls holds up nobody. Events that
//! find the queue full are dropped: what must not be lost is in the journal.

mod levels;

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use host::clock::now;
use host::environment::Environment;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signing_core::Moment;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::conditions::LogState;

use self::levels::Levels;

/// The variable that says which levels are logged.
const SETTING: &str = "RUST_LOG";
/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;
/// Lines written with one system call, at most.
const BATCH_MAX: usize = 256;
/// How long a write may take before the log counts as stuck.
const STUCK: Duration = Duration::from_secs(3);
/// How often a log without lines is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the last line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who may say more than `info`, if `RUST_LOG` asks for it: what the SDK and the
/// HTTP library say below that could hold a caller's message or a credential.
const MAY_SAY_MORE: [&str; 6] = ["signing_proxy", "admin", "audit", "gate", "outcome", "refusal"];

/// Whose events are not taken at all: the SDK's say what profiles, tokens' files and a
/// `credential_process` hold. What fails shows in the gates' own events, in words of ours.
const SAYS_NOTHING: &str = "aws_";

/// Writes lines to stderr.
#[derive(Clone, Debug)]
pub struct Log {
    queue: SyncSender<Line>,
    sink: Arc<Sink>,
}

/// How stderr takes what is written.
#[derive(Debug, Default)]
struct Sink {
    /// Since when the write under way has not come back, in nanoseconds of the boot-time clock; 0: none is.
    writing_since: AtomicU64,
    /// Why the newest write failed.
    failing: ArcSwapOption<String>,
}

#[derive(Debug)]
enum Line {
    /// An event, whole.
    Event(Vec<u8>),
    /// Tells once every event before it is written.
    Mark(SyncSender<()>),
}

/// What `check` says of a setting that the log would set aside.
#[must_use]
pub fn note(environment: &Environment) -> Option<String> {
    let Levels { set_aside, .. } = Levels::of(environment.as_given(SETTING).map(OsStr::new));
    set_aside.map(|why| {
        format!(
            "{SETTING}: {why}; the default applies: {}. Correct it, or unset it",
            levels::DEFAULT
        )
    })
}

impl Log {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let (queue, lines) = mpsc::sync_channel(LINES_MAX);
        let sink = Arc::new(Sink::default());
        let written = Arc::clone(&sink);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&lines, &written))?;
        Ok(Self { queue, sink })
    }

    /// What becomes of the lines.
    pub(crate) fn state(&self) -> LogState {
        let since = self.sink.writing_since.load(Ordering::Acquire);
        let stuck = now().since(Moment::from_nanos(since));
        if since > 0 && stuck > STUCK {
            return LogState::Stuck(stuck.as_secs());
        }
        match self.sink.failing.load().as_deref() {
            Some(why) => LogState::Failing(why.clone()),
            None => LogState::Written,
        }
    }

    /// Makes it the log of `tracing`'s events: JSON for a program, text for a
    /// person at a terminal. Levels by `RUST_LOG`.
    pub fn take_events(&self) {
        let Levels { targets: asked, set_aside } = Levels::of(std::env::var_os(SETTING).as_deref());
        let capped = filter_fn(|event| {
            let is_ours = MAY_SAY_MORE.iter().any(|target| event.target().starts_with(target));
            is_ours || (*event.level() <= Level::INFO && !event.target().starts_with(SAYS_NOTHING))
        });
        let events = tracing_subscriber::fmt::layer()
            .with_writer(self.clone())
            .log_internal_errors(false)
            .with_ansi(false);
        let registry = tracing_subscriber::registry();
        if io::stderr().is_terminal() {
            registry.with(events.with_filter(asked.and(capped))).init();
        } else {
            let events = events.json().flatten_event(true);
            registry.with(events.with_filter(asked.and(capped))).init();
        }
        if let Some(why) = set_aside {
            tracing::warn!(
                why,
                "{SETTING} is set aside, and the default applies: {}",
                levels::DEFAULT
            );
        }
    }

    /// Waits until everything logged so far is written, at most for a second: for
    /// the end of the process.
    pub fn flush(&self) {
        let (written, answer) = mpsc::sync_channel(1);
        if self.queue.try_send(Line::Mark(written)).is_ok() {
            // A log that is stuck is not waited for.
            let _ = answer.recv_timeout(PATIENCE);
        }
    }
}

/// Runs until every [`Log`] is gone.
fn write_all(queue: &Receiver<Line>, sink: &Sink) {
    let is_person = io::stderr().is_terminal();
    loop {
        let first = match queue.recv_timeout(LOOK_EVERY) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                // A quiet log shows that nobody reads it any more, too.
                sink.look();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut bytes = Vec::new();
        let mut marks = Vec::new();
        for line in std::iter::once(first).chain(queue.try_iter().take(BATCH_MAX - 1)) {
            match line {
                Line::Event(event) => bytes.extend_from_slice(&event),
                Line::Mark(mark) => marks.push(mark),
            }
        }
        // A line can hold what a caller or an upstream said.
        let lines = String::from_utf8_lossy(&bytes);
        let shown = if is_person { text::lines(&lines) } else { text::json(&lines) };
        sink.write(shown.as_bytes());
        for mark in marks {
            // Whoever waited may have lost patience.
            let _ = mark.try_send(());
        }
    }
}

impl Sink {
    /// What cannot be written is lost; health says so.
    fn write(&self, bytes: &[u8]) {
        self.writing_since.store(now().as_nanos().max(1), Ordering::Release);
        let written = io::stderr().lock().write_all(bytes);
        self.writing_since.store(0, Ordering::Release);
        if !bytes.is_empty() {
            self.failing.store(written.err().map(|error| Arc::new(error.to_string())));
        }
    }

    /// Whether the other end of a pipe or a socket is closed: without writing, the kernel says so.
    fn look(&self) {
        let stderr = io::stderr();
        let mut polled = [PollFd::new(stderr.as_fd(), PollFlags::empty())];
        let answer = poll(&mut polled, PollTimeout::ZERO);
        let closed = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let [polled] = polled;
        if answer.is_ok() && polled.revents().is_some_and(|shown| shown.intersects(closed)) {
            self.failing.store(Some(Arc::new("its other end is closed".to_owned())));
        }
    }
}

/// One event at a time, as tracing hands it over: whole.
impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Full: the event is lost, and nothing waits.
        let _ = self.queue.try_send(Line::Event(bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}
