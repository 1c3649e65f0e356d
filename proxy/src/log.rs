//! The log on stderr: one JSON object a line, written by a thread of its own
//! from a bounded queue, so that a reader that stalls holds up nobody. Events that
//! find the queue full are dropped: what must not be lost is in the journal.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;
/// Lines written with one system call, at most.
const BATCH_MAX: usize = 256;
/// How long the end of the process waits for the last line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who may say more than `info`, if `RUST_LOG` asks for it: what the SDK and the
/// HTTP library say below that could hold a caller's message or a credential.
const MAY_SAY_MORE: [&str; 6] = ["signing_proxy", "admin", "audit", "gate", "outcome", "refusal"];

/// Writes lines to stderr.
#[derive(Clone, Debug)]
pub struct Log {
    queue: SyncSender<Line>,
}

#[derive(Debug)]
enum Line {
    /// An event, whole.
    Event(Vec<u8>),
    /// Tells once every event before it is written.
    Mark(SyncSender<()>),
}

impl Log {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let (queue, lines) = mpsc::sync_channel(LINES_MAX);
        std::thread::Builder::new().name("log".into()).spawn(move || write_all(&lines))?;
        Ok(Self { queue })
    }

    /// Makes it the log of `tracing`'s events: JSON for a program, text for a
    /// person at a terminal. Levels by `RUST_LOG`.
    pub fn take_events(&self) {
        let asked = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let capped = filter_fn(|event| {
            *event.level() <= Level::INFO
                || MAY_SAY_MORE.iter().any(|target| event.target().starts_with(target))
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
fn write_all(queue: &Receiver<Line>) {
    while let Ok(first) = queue.recv() {
        let mut bytes = Vec::new();
        let mut marks = Vec::new();
        for line in std::iter::once(first).chain(queue.try_iter().take(BATCH_MAX - 1)) {
            match line {
                Line::Event(event) => bytes.extend_from_slice(&event),
                Line::Mark(mark) => marks.push(mark),
            }
        }
        // Nobody is left to tell that it could not be written.
        let _ = io::stderr().lock().write_all(&bytes);
        for mark in marks {
            // Whoever waited may have lost patience.
            let _ = mark.try_send(());
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
