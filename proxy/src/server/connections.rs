//! The open connections of the data plane, and which of them still carry an
//! answer with a signature that is not written yet.
//!
//! A freeze is answered only after every earlier release is written to its
//! socket or its connection is cut. HTTP/1.1 shows that by a flush after the
//! answer's body. HTTP/2 does not, since flow control may hold a body back
//! below us: those connections are asked to go, which they do once all their
//! streams are through.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use signing_core::{Caller, Moment};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::tls::{ServerTls, Shaken};
use crate::time::now;

/// How long a connection that was cut may take to end. A socket is never waited for: this is
/// for a thread that gets no time.
const CUT_MAX: Duration = Duration::from_secs(1);

/// All open connections.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: BTreeMap<u64, Arc<Connection>>,
    /// By caller; certificates that name nobody count as one.
    of_caller: HashMap<Option<Arc<Caller>>, usize>,
}

/// One connection, as its driver, its answers and its socket share it.
#[derive(Debug)]
pub(super) struct Connection {
    is_http2: bool,
    /// As what the client came in.
    shaken: Shaken,
    /// Whether it ever carried a signature.
    carried: AtomicBool,
    /// Answers with a signature that hyper still holds, by number: since when.
    leaving: Mutex<BTreeMap<u64, Moment>>,
    next_answer: AtomicU64,
    /// Set when such an answer was handed to hyper's buffer, until a flush.
    unflushed: AtomicBool,
    /// Since when the socket takes no more bytes; 0: it does.
    stuck_since: AtomicU64,
    /// Requests being answered.
    active: AtomicUsize,
    /// When the newest request began or ended.
    newest_request: AtomicU64,
    asked_to_go: AtomicBool,
    cut: AtomicBool,
    told: Notify,
}

/// Takes the connection off the list when its driver ends.
#[derive(Debug)]
pub(super) struct Listed {
    connections: Connections,
    id: u64,
    caller: Option<Arc<Caller>>,
    connection: Arc<Connection>,
}

/// An answer that carries a signature, from before the last look at the gate
/// until hyper has taken its last byte.
#[derive(Debug)]
pub(super) struct Leaving {
    connection: Arc<Connection>,
    number: u64,
    taken: bool,
}

/// A request being answered.
#[derive(Debug)]
pub(super) struct Active(Arc<Connection>);

/// What a connection's driver was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Finish what is under way, take no more.
    Go,
    /// Drop the connection.
    Cut,
}

impl Connections {
    /// Lists a connection; None if `caller` has `of_caller_max` already.
    pub(super) fn list(
        &self,
        is_http2: bool,
        shaken: Shaken,
        caller: Option<Arc<Caller>>,
        of_caller_max: usize,
    ) -> Option<Listed> {
        let mut open = self.lock();
        let count = open.of_caller.entry(caller.clone()).or_default();
        if *count >= of_caller_max {
            return None;
        }
        *count += 1;
        open.next += 1;
        let id = open.next;
        let connection = Arc::new(Connection::new(is_http2, shaken));
        open.connections.insert(id, Arc::clone(&connection));
        Some(Listed { connections: self.clone(), id, caller, connection })
    }

    /// Waits until every signature released so far is written or its connection
    /// is gone; cuts what is not, once `patience` is over, and waits for the
    /// write that may be under way. Returns how many connections it cut.
    pub async fn settle(&self, patience: Duration) -> usize {
        let mut pending = self.snapshot();
        let settled = wait_until(Instant::now() + patience, || {
            pending.retain(|(id, connection)| {
                if connection.is_http2_with_signatures() {
                    connection.tell(Told::Go);
                }
                !connection.is_settled() && self.has(*id)
            });
            pending.is_empty()
        });
        if settled.await {
            return 0;
        }
        for (_, connection) in &pending {
            connection.tell(Told::Cut);
        }
        // The cut forbids writes that have not begun; a driver that is gone has none under way.
        wait_until(Instant::now() + CUT_MAX, || !pending.iter().any(|(id, _)| self.has(*id))).await;
        pending.len()
    }

    /// Asks all to go, and cuts at `deadline` what is still there. Returns how
    /// many it cut.
    pub async fn close(&self, deadline: Instant) -> usize {
        // Again and again: a handshake may still end in a connection.
        let closed = wait_until(deadline, || {
            let open = self.snapshot();
            for (_, connection) in &open {
                connection.tell(Told::Go);
            }
            open.is_empty()
        });
        if closed.await {
            return 0;
        }
        let rest = self.snapshot();
        for (_, connection) in &rest {
            connection.tell(Told::Cut);
        }
        wait_until(Instant::now() + CUT_MAX, || self.count() == 0).await;
        rest.len()
    }

    /// Cuts the connections of clients that `tls` would not let in any more. Returns
    /// how many.
    pub fn cut_those_not_let_in(&self, tls: &ServerTls, now: OffsetDateTime) -> usize {
        let open = self.snapshot();
        let strangers = open.iter().filter(|(_, open)| !open.is_let_in(tls, now));
        strangers.map(|(_, connection)| connection.tell(Told::Cut)).count()
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().connections.len()
    }

    fn has(&self, id: u64) -> bool {
        self.lock().connections.contains_key(&id)
    }

    fn snapshot(&self) -> Vec<(u64, Arc<Connection>)> {
        let open = self.lock();
        open.connections.iter().map(|(id, connection)| (*id, Arc::clone(connection))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Inserting and removing are whole steps: a panic leaves whole maps.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.connections.remove(&self.id);
        if let Some(count) = open.of_caller.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                open.of_caller.remove(&self.caller);
            }
        }
    }
}

impl Connection {
    fn new(is_http2: bool, shaken: Shaken) -> Self {
        Self {
            is_http2,
            shaken,
            carried: AtomicBool::new(false),
            leaving: Mutex::default(),
            next_answer: AtomicU64::new(0),
            unflushed: AtomicBool::new(false),
            stuck_since: AtomicU64::new(0),
            active: AtomicUsize::new(0),
            newest_request: AtomicU64::new(now().as_nanos()),
            asked_to_go: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            told: Notify::new(),
        }
    }

    /// Whether `tls` would let its client in now.
    pub(super) fn is_let_in(&self, tls: &ServerTls, now: OffsetDateTime) -> bool {
        tls.lets_in(&self.shaken, now)
    }

    /// A request has arrived; what comes back lives until its answer is made.
    pub(super) fn request(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::AcqRel);
        self.newest_request.store(now().as_nanos(), Ordering::Release);
        Active(Arc::clone(self))
    }

    /// An answer with a signature is about to ask the gate.
    pub(super) fn leaving(self: Arc<Self>) -> Leaving {
        let number = self.next_answer.fetch_add(1, Ordering::Relaxed);
        self.carried.store(true, Ordering::SeqCst);
        self.answers().insert(number, now());
        Leaving { connection: self, number, taken: false }
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
        socket || self.answers().values().next().is_some_and(|since| now.since(*since) > limit)
    }

    /// Whether a connection without a request under way has no answer to write either.
    /// HTTP/2 may hold one back where this does not see it.
    pub(super) fn has_nothing_to_write(&self) -> bool {
        !self.is_http2 && self.stuck_since.load(Ordering::Acquire) == 0 && self.answers().is_empty()
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

    /// Everything that was handed over is written to the socket.
    pub(super) fn flushed(&self) {
        self.unflushed.store(false, Ordering::SeqCst);
    }

    /// Whether nothing may be written any more.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    pub(super) fn tell(&self, what: Told) {
        let flag = match what {
            Told::Go => &self.asked_to_go,
            Told::Cut => &self.cut,
        };
        if !flag.swap(true, Ordering::SeqCst) {
            self.told.notify_one();
        }
    }

    /// Waits until the driver is told something; each thing is told once.
    pub(super) async fn told(&self, already_going: bool) -> Told {
        loop {
            let told = self.told.notified();
            if self.is_cut() {
                return Told::Cut;
            }
            if !already_going && self.asked_to_go.load(Ordering::SeqCst) {
                return Told::Go;
            }
            told.await;
        }
    }

    fn is_http2_with_signatures(&self) -> bool {
        self.is_http2 && self.carried.load(Ordering::SeqCst)
    }

    fn is_settled(&self) -> bool {
        !self.is_http2_with_signatures()
            && self.answers().is_empty()
            && !self.unflushed.load(Ordering::SeqCst)
    }

    fn answers(&self) -> MutexGuard<'_, BTreeMap<u64, Moment>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leaving {
    /// hyper took the answer's bytes.
    pub(super) fn taken(&mut self) {
        self.taken = true;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // In this order: the answer is never in neither place.
        if self.taken {
            self.connection.unflushed.store(true, Ordering::SeqCst);
        }
        self.connection.answers().remove(&self.number);
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.newest_request.store(now().as_nanos(), Ordering::Release);
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Looks every millisecond: this runs for freezes and drains only.
async fn wait_until(deadline: Instant, mut done: impl FnMut() -> bool) -> bool {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout_at(deadline, waiting).await.is_ok()
}
