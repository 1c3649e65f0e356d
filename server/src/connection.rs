//! One open connection, as its driver, its answers, its socket and a freeze share it: what it
//! still carries of what was released, and the way to cut it.
//!
//! A release has left for good only once the client's kernel has acknowledged it. Until then it is
//! in one of three places, each seen here: with the HTTP library (`answers`), in buffers that a
//! flush empties (`taken` and `flushed`), or in the kernel's send queue (`mark`).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use host::clock::now;
use mtls::ServerTls;
use signing_core::Moment;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::let_in::LetIn;
use super::shared::Shared;
use super::stream::Stream;

/// How often a connection that ends looks whether its client has everything.
const PACE_MIN: Duration = Duration::from_millis(1);
const PACE_MAX: Duration = Duration::from_millis(50);

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// What let its client in.
    let_in: LetIn,
    /// Whether HTTP/2 is spoken.
    is_http2: bool,
    /// None: cut or closed. Whoever cuts takes it away, so that nothing is written after.
    stream: Mutex<Option<Stream>>,
    /// Whether it ever carried a signature.
    carried: AtomicBool,
    /// What its answers and request bodies take memory from: at a local door the caller shows
    /// with its requests only.
    shared: ArcSwap<Shared>,
    /// Answers that the HTTP library still holds, in the order of their numbers.
    answers: Mutex<VecDeque<Waiting>>,
    next_answer: AtomicU64,
    /// How many answers with a signature the HTTP library has let go of, to its own buffer or to
    /// nowhere.
    taken: AtomicU64,
    /// As `taken` was before the newest flush.
    flushed: AtomicU64,
    /// How many bytes the kernel had when `flushed` grew last.
    mark: AtomicU64,
    /// Its driver has ended: nothing more is written.
    ended: AtomicBool,
    /// Since when the socket takes no more bytes; 0: it does.
    stuck_since: AtomicU64,
    /// Requests being answered.
    active: AtomicUsize,
    /// When the newest request began or ended.
    newest_request: AtomicU64,
    asked_to_go: AtomicBool,
    cut: AtomicBool,
    close_changed: Notify,
}

/// An answer that the HTTP library holds.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    number: u64,
    is_release: bool,
    /// When the client took some of it, or it was made.
    since: Moment,
}

/// A request being answered.
#[derive(Debug)]
pub(super) struct Active(Arc<Connection>);

/// What a connection's driver was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseRequest {
    /// Finish what is under way, take no more.
    Drain,
    /// Drop the connection.
    Cut,
}

/// How far a look at a connection has come: what was released before it has to be delivered,
/// whatever is released or refused after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settling {
    /// Answers below this number have to leave the HTTP library,
    before: u64,
    /// then as many have to be flushed,
    taken: Option<u64>,
    /// then as many bytes have to be acknowledged.
    mark: Option<u64>,
}

impl Connection {
    pub(super) fn new(stream: Stream, let_in: LetIn, is_http2: bool, shared: Shared) -> Self {
        Self {
            let_in,
            is_http2,
            stream: Mutex::new(Some(stream)),
            carried: AtomicBool::new(false),
            shared: ArcSwap::from_pointee(shared),
            answers: Mutex::default(),
            next_answer: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            mark: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            stuck_since: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            newest_request: AtomicU64::new(now().as_nanos()),
            asked_to_go: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            close_changed: Notify::new(),
        }
    }

    /// Whether `tls` would let its client in now; until then, if so, it may stay.
    pub(super) fn is_let_in(&self, tls: &ServerTls, wall: OffsetDateTime) -> bool {
        self.let_in.is_let_in(tls, wall)
    }

    /// Whether its client's certificate, or what vouched for it, has expired.
    pub(super) fn is_expired(&self, now: Moment, wall: OffsetDateTime) -> bool {
        self.let_in.is_expired(now, wall)
    }

    /// A request has arrived; what comes back lives until its answer is made.
    pub(super) fn request(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::AcqRel);
        self.newest_request.store(now().as_nanos(), Ordering::Release);
        Active(Arc::clone(self))
    }

    /// What its answers and bodies take memory from. Whoever takes some gives it back to what
    /// this returned: it may be another's by then.
    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.load_full()
    }

    /// From here on they are those of another caller.
    pub(super) fn share(&self, shared: Shared) {
        self.shared.store(Arc::new(shared));
    }

    /// An answer is made, or its signature is about to ask the gate; its number.
    pub(super) fn announce(&self, is_release: bool) -> u64 {
        let mut answers = self.answers();
        let number = self.next_answer.fetch_add(1, Ordering::SeqCst);
        if is_release {
            self.carried.store(true, Ordering::SeqCst);
        }
        answers.push_back(Waiting { number, is_release, since: now() });
        number
    }

    /// The client took some of that answer.
    pub(super) fn progressed(&self, number: u64) {
        let mut answers = self.answers();
        let found = answers.binary_search_by_key(&number, |answer| answer.number);
        if let Some(answer) = found.ok().and_then(|at| answers.get_mut(at)) {
            answer.since = now();
        }
    }

    /// The HTTP library has let go of that answer; `taken`: it had the bytes of a release, and they
    /// may be in its buffer.
    pub(super) fn answered(&self, number: u64, taken: bool) {
        // In this order: the answer is never in neither place.
        if taken {
            self.taken.fetch_add(1, Ordering::SeqCst);
        }
        let mut answers = self.answers();
        if let Ok(at) = answers.binary_search_by_key(&number, |answer| answer.number) {
            answers.remove(at);
        }
    }

    /// Whether nothing has been asked for `limit`.
    pub(super) fn is_idle(&self, limit: Duration) -> bool {
        let newest = Moment::from_nanos(self.newest_request.load(Ordering::Acquire));
        self.active.load(Ordering::Acquire) == 0 && now().since(newest) > limit
    }

    /// Whether the client has not read what is there for it for `limit`.
    pub(super) fn is_stuck(&self, limit: Duration) -> bool {
        let now = now();
        let since = self.stuck_since.load(Ordering::Acquire);
        let socket = since > 0 && now.since(Moment::from_nanos(since)) > limit;
        socket || self.answers().iter().any(|answer| now.since(answer.since) > limit)
    }

    /// Whether a connection without a request under way has no answer to write either.
    /// HTTP/2 may hold one back where this does not see it.
    pub(super) fn has_nothing_to_write(&self) -> bool {
        !self.is_http2 && self.stuck_since.load(Ordering::Acquire) == 0 && self.answers().is_empty()
    }

    /// Does something with the stream. After a cut there is none, even if the driver is polled
    /// once more.
    pub(super) fn with_stream<T>(
        &self,
        act: impl FnOnce(Pin<&mut Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.stream().as_mut() {
            Some(stream) => act(Pin::new(stream)),
            None => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection is cut",
            ))),
        }
    }

    /// Notes whether the socket takes bytes.
    pub(super) fn took_bytes(&self, took: bool) {
        if took {
            self.stuck_since.store(0, Ordering::Release);
        } else {
            let since = now().as_nanos().max(1);
            // Only the first time counts; losing this race keeps the earlier one.
            let _ =
                self.stuck_since.compare_exchange(0, since, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// How many answers the HTTP library has let go of.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::SeqCst)
    }

    /// The first `taken` of these answers are in the kernel, which has `written` bytes by now.
    pub(super) fn flushed(&self, taken: u64, written: u64) {
        if self.flushed.load(Ordering::SeqCst) < taken {
            // In this order: who sees that these are flushed sees their mark.
            self.mark.store(written, Ordering::SeqCst);
            self.flushed.store(taken, Ordering::SeqCst);
        }
    }

    /// Whether it is cut.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// Asks it to finish what is under way and to take no more.
    pub(super) fn ask_to_go(&self) {
        if !self.asked_to_go.swap(true, Ordering::SeqCst) {
            self.close_changed.notify_one();
        }
    }

    /// Resets the connection, at once: when this returns nothing is written any more, and the
    /// kernel has thrown away what it had not sent. A write under way is waited for; it never
    /// waits itself. Whether there was anything to reset.
    pub(super) fn cut(&self) -> bool {
        let stream = self.stream().take();
        self.cut.store(true, Ordering::SeqCst);
        self.close_changed.notify_one();
        stream.map(|stream| stream.into_socket().reset()).is_some()
    }

    /// Waits until the driver is told something; each thing is told once.
    pub(super) async fn close_requested(&self, already_going: bool) -> CloseRequest {
        loop {
            let changed = self.close_changed.notified();
            if self.is_cut() {
                return CloseRequest::Cut;
            }
            if !already_going && self.asked_to_go.load(Ordering::SeqCst) {
                return CloseRequest::Drain;
            }
            changed.await;
        }
    }

    /// What was released up to now is to be delivered; None if nothing ever was.
    pub(super) fn settling(&self) -> Option<Settling> {
        let carried = self.carried.load(Ordering::SeqCst);
        let before = self.next_answer.load(Ordering::SeqCst);
        carried.then_some(Settling { before, taken: None, mark: None })
    }

    /// Whether all that `settling` is about is delivered, or never will be.
    pub(super) fn is_settled(&self, settling: &mut Settling) -> bool {
        if self.ended.load(Ordering::SeqCst) {
            return !self.owes();
        }
        let is_earlier = |answer: &Waiting| answer.is_release && answer.number < settling.before;
        if self.answers().iter().any(is_earlier) {
            return self.stream().is_none();
        }
        let taken = *settling.taken.get_or_insert_with(|| self.taken());
        if self.flushed.load(Ordering::SeqCst) < taken {
            // Its driver flushes whenever it is polled.
            self.close_changed.notify_one();
            return self.stream().is_none();
        }
        let mark = *settling.mark.get_or_insert_with(|| self.mark.load(Ordering::SeqCst));
        self.stream().as_ref().is_none_or(|stream| stream.socket().has_delivered(mark))
    }

    /// Whether the kernel may still deliver a release.
    fn owes(&self) -> bool {
        if !self.carried.load(Ordering::SeqCst) {
            return false;
        }
        let all_flushed = self.flushed.load(Ordering::SeqCst) == self.taken();
        let mark = self.mark.load(Ordering::SeqCst);
        self.stream().as_ref().is_some_and(|stream| {
            let socket = stream.socket();
            // Of what was not flushed the kernel may have some.
            let mark = if all_flushed { mark } else { socket.written() };
            !socket.has_delivered(mark)
        })
    }

    /// Its driver has ended: the HTTP library writes nothing more. Waits until the client has what
    /// was released, for `patience` at most; the kernel delivers nothing behind our back.
    pub(super) async fn deliver(&self, patience: Duration) {
        self.ended.store(true, Ordering::SeqCst);
        let (deadline, mut pace) = (Instant::now() + patience, PACE_MIN);
        while self.owes() && Instant::now() < deadline {
            tokio::time::sleep(pace).await;
            pace = (pace * 2).min(PACE_MAX);
        }
    }

    /// Closes it. Resets it if the kernel still has a release; whether it did that.
    pub(super) fn close(&self) -> bool {
        self.ended.store(true, Ordering::SeqCst);
        if self.owes() {
            return self.cut();
        }
        drop(self.stream().take());
        false
    }

    fn stream(&self) -> MutexGuard<'_, Option<Stream>> {
        // A panic while it was written to ends the driver, and with it the connection.
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answers(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        // Every change is one step.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.newest_request.store(now().as_nanos(), Ordering::Release);
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}
