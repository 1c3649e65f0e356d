//! The log on stderr: one JSON object a line, written by a thread of its own
//! from a bounded queue, so that a reader that stalls holds up nobody. Only what
//! certainly need not wait is written without it.
//!
//! Events (`tracing`) are dropped when the queue is full. Outcomes are not
//! events: whoever writes one learns whether it was written, and no variable
//! filters them.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use signing_core::{Reason, Refusal};
use tokio::sync::oneshot;
use tracing::Level;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::pipe::{Pipe, Wrote};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;
/// Lines written with one system call, at most.
const BATCH_MAX: usize = 256;
/// How long an outcome may wait for its line; then nothing is signed.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who may say more than `info`, if `RUST_LOG` asks for it: what the SDK and the
/// HTTP library say below that could hold a caller's message or a credential.
const MAY_SAY_MORE: [&str; 5] = ["signing_proxy", "admin", "gate", "outcome", "refusal"];

/// Writes lines to stderr.
#[derive(Clone, Debug)]
pub struct Log {
    queue: SyncSender<Line>,
    pen: Arc<Pen>,
}

/// Stderr as all its writers share it.
#[derive(Debug)]
struct Pen {
    /// None: whatever is written goes through the queue.
    pipe: Option<Pipe>,
    /// Read by whoever writes a line into the pipe, where lines do not mix; written
    /// by the thread, whose writes may be torn.
    turn: RwLock<()>,
}

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    written: Option<oneshot::Sender<bool>>,
}

impl Log {
    /// Starts the writing thread. Before the process denies itself to others, or
    /// stderr can not be opened once more.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let (queue, lines) = mpsc::sync_channel(LINES_MAX);
        let pen = Arc::new(Pen { pipe: Pipe::of_stderr(), turn: RwLock::default() });
        let of_thread = Arc::clone(&pen);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_all(&lines, &of_thread))?;
        Ok(Self { queue, pen })
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
        let (written, answer) = oneshot::channel();
        if self.queue.try_send(Line { bytes: Vec::new(), written: Some(written) }).is_ok() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            if let Ok(runtime) = runtime {
                // A log that is stuck is not waited for.
                let _ = runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
            }
        }
    }

    /// Writes one line; returns once it is written.
    ///
    /// # Errors
    /// `audit_unavailable` if it can not be, or not soon.
    pub async fn outcome(&self, line: &impl Serialize) -> Result<(), Refusal> {
        let unavailable = |why: &str| Err(Refusal::new(Reason::AuditUnavailable, why));
        let Ok(mut bytes) = serde_json::to_vec(line) else {
            return unavailable("the outcome has no form as JSON, and none goes unlogged");
        };
        bytes.push(b'\n');
        match self.pen.write_at_once(&bytes) {
            Wrote::Whole => return Ok(()),
            Wrote::Failed => {
                return unavailable("the log can not be written, and no outcome goes unlogged");
            }
            Wrote::Nothing => {}
        }
        let (written, answer) = oneshot::channel();
        let line = Line { bytes, written: Some(written) };
        if self.queue.try_send(line).is_err() {
            return unavailable("the log does not keep up, and no outcome goes unlogged");
        }
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(true)) => Ok(()),
            Ok(_) => unavailable("the log can not be written, and no outcome goes unlogged"),
            Err(_) => unavailable("the log is stuck, and no outcome goes unlogged"),
        }
    }
}

impl Pen {
    /// Writes a line if that takes no waiting: neither for a reader, nor for the
    /// thread, which may be waiting for one.
    fn write_at_once(&self, line: &[u8]) -> Wrote {
        match (&self.pipe, self.turn.try_read()) {
            (Some(pipe), Ok(_turn)) => pipe.write(line),
            _ => Wrote::Nothing,
        }
    }
}

/// Runs until every [`Log`] is gone.
fn write_all(queue: &Receiver<Line>, pen: &Pen) {
    while let Ok(first) = queue.recv() {
        let mut bytes = first.bytes;
        let mut waiting = vec![first.written];
        while waiting.len() < BATCH_MAX
            && let Ok(line) = queue.try_recv()
        {
            bytes.extend_from_slice(&line.bytes);
            waiting.push(line.written);
        }
        let written = {
            // It guards no data.
            let _turn = pen.turn.write().unwrap_or_else(PoisonError::into_inner);
            io::stderr().lock().write_all(&bytes).is_ok()
        };
        for one in waiting.into_iter().flatten() {
            // Whoever waited may have lost patience.
            let _ = one.send(written);
        }
    }
}

/// One event at a time, as tracing hands it over: whole.
impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Full: the event is lost, and nothing waits.
        let _ = self.queue.try_send(Line { bytes: bytes.to_vec(), written: None });
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
