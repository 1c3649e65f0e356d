//! Lines to stderr, written by a thread of its own from a bounded queue, so that a reader that
//! stalls holds up nobody. Lines that find the queue full are lost: what must not be lost is in
//! the journal.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signing_core::Moment;

use crate::clock::now;
use crate::journald::{self, Level};
use crate::stack;

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

/// The way to the thread that writes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogThread {
    queue: SyncSender<Item>,
    sink: Arc<Sink>,
    /// Whether systemd's journal reads: it finds a line's level before the line.
    is_journal: bool,
}

/// What becomes of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogState {
    /// They are written.
    Written,
    /// The newest ones could not be written.
    Failing(String),
    /// A write has not come back for so many seconds.
    Stuck(u64),
}

/// How stderr takes what is written.
#[derive(Debug, Default)]
struct Sink {
    /// Since when the write under way has not come back, in nanoseconds of the boot-time clock; 0: none is.
    writing_since: AtomicU64,
    /// Why the newest write failed.
    failing: Mutex<Option<String>>,
}

#[derive(Debug)]
enum Item {
    /// A line, whole.
    Line(Vec<u8>),
    /// Tells once every line before it is written.
    Mark(SyncSender<()>),
}

impl LogThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start() -> io::Result<Self> {
        let (queue, items) = mpsc::sync_channel(LINES_MAX);
        let sink = Arc::new(Sink::default());
        let written = Arc::clone(&sink);
        std::thread::Builder::new()
            .name("log".into())
            .stack_size(stack::PLAIN_BYTES)
            .spawn(move || write_all(&items, &written))?;
        Ok(Self { queue, sink, is_journal: journald::takes_stderr() })
    }

    /// Has a line written, with its end; nothing waits for that.
    pub fn write(&self, level: Level, mut line: Vec<u8>) {
        if self.is_journal {
            line.splice(..0, level.prefix().bytes());
        }
        // Full: the line is lost.
        let _ = self.queue.try_send(Item::Line(line));
    }

    /// What becomes of the lines.
    #[must_use]
    pub fn state(&self) -> LogState {
        let since = self.sink.writing_since.load(Ordering::Acquire);
        let stuck = now().since(Moment::from_nanos(since));
        if since > 0 && stuck > STUCK {
            return LogState::Stuck(stuck.as_secs());
        }
        match self.sink.failing.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(why) => LogState::Failing(why),
            None => LogState::Written,
        }
    }

    /// Waits until every line so far is written, at most for a second: for the end of the
    /// process.
    pub fn flush(&self) {
        let (written, answer) = mpsc::sync_channel(1);
        if self.queue.try_send(Item::Mark(written)).is_ok() {
            // A log that is stuck is not waited for.
            let _ = answer.recv_timeout(PATIENCE);
        }
    }
}

/// Runs until every [`LogThread`] is gone.
fn write_all(queue: &Receiver<Item>, sink: &Sink) {
    let is_person = io::stderr().is_terminal();
    loop {
        let first = match queue.recv_timeout(LOOK_EVERY) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                // A quiet log shows that nobody reads it any more, too.
                sink.check_reader();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut bytes = Vec::new();
        let mut marks = Vec::new();
        for item in std::iter::once(first).chain(queue.try_iter().take(BATCH_MAX - 1)) {
            match item {
                Item::Line(line) => bytes.extend_from_slice(&line),
                Item::Mark(mark) => marks.push(mark),
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
    /// What cannot be written is lost; the state says so.
    fn write(&self, bytes: &[u8]) {
        self.writing_since.store(now().as_nanos().max(1), Ordering::Release);
        let written = io::stderr().lock().write_all(bytes);
        self.writing_since.store(0, Ordering::Release);
        if !bytes.is_empty() {
            self.fails(written.err().map(|error| error.to_string()));
        }
    }

    /// Whether the other end of a pipe or a socket is closed: without writing, the kernel says so.
    fn check_reader(&self) {
        let stderr = io::stderr();
        let mut polled = [PollFd::new(stderr.as_fd(), PollFlags::empty())];
        let answer = poll(&mut polled, PollTimeout::ZERO);
        let closed = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        let [polled] = polled;
        if answer.is_ok() && polled.revents().is_some_and(|shown| shown.intersects(closed)) {
            self.fails(Some("its other end is closed".to_owned()));
        }
    }

    fn fails(&self, why: Option<String>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}
