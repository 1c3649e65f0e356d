//! The open connections of the data plane, and which of them still carry an
//! answer with a signature that is not written yet.
//!
//! A freeze is answered only after every earlier release is written to its
//! socket or its connection is cut. HTTP/1.1 shows that by a flush after the
//! answer's body. HTTP/2 does not, since flow control may hold a body back
//! below us: those connections are asked to go, which they do once all their
//! streams are through.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// All open connections.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    open: Arc<Mutex<BTreeMap<u64, Arc<Connection>>>>,
    next: Arc<AtomicU64>,
}

/// One connection, as its driver, its answers and its socket share it.
#[derive(Debug, Default)]
pub(super) struct Connection {
    is_http2: AtomicBool,
    /// Whether it ever carried a signature.
    carried: AtomicBool,
    /// Answers with a signature that hyper still holds.
    leaving: AtomicUsize,
    /// Set when such an answer was handed to hyper's buffer, until a flush.
    unflushed: AtomicBool,
    /// Requests seen so far.
    requests: AtomicU64,
    asked_to_go: AtomicBool,
    cut: AtomicBool,
    told: Notify,
}

/// Takes the connection off the list when its driver ends.
#[derive(Debug)]
pub(super) struct Listed {
    connections: Connections,
    id: u64,
    connection: Arc<Connection>,
}

/// An answer that carries a signature, from before the last look at the gate
/// until hyper has taken its last byte.
#[derive(Debug)]
pub(super) struct Leaving(Arc<Connection>);

/// What a connection's driver was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Finish what is under way, take no more.
    Go,
    /// Drop the connection.
    Cut,
}

impl Connections {
    pub(super) fn list(&self) -> Listed {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection::default());
        self.lock().insert(id, Arc::clone(&connection));
        Listed { connections: self.clone(), id, connection }
    }

    /// Waits until every signature released so far is written or its connection
    /// is gone; cuts what is not, once `patience` is over. Returns how many
    /// connections it cut.
    pub async fn settle(&self, patience: Duration) -> usize {
        let mut pending = self.snapshot();
        for (_, connection) in &pending {
            if connection.is_http2_with_signatures() {
                connection.tell(Told::Go);
            }
        }
        let is_settled = |(id, connection): &(u64, Arc<Connection>)| {
            connection.is_settled() || !self.lock().contains_key(id)
        };
        let settled = wait_until(Instant::now() + patience, || {
            pending.retain(|one| !is_settled(one));
            pending.is_empty()
        });
        if settled.await {
            return 0;
        }
        for (_, connection) in &pending {
            connection.tell(Told::Cut);
        }
        let cut = pending.len();
        // A cut connection is off the list as soon as its driver is polled; with a
        // driver that is never polled again nothing is written either.
        wait_until(Instant::now() + patience, || {
            pending.retain(|(id, _)| self.lock().contains_key(id));
            pending.is_empty()
        })
        .await;
        cut
    }

    /// Asks all to go, and cuts at `deadline` what is still there. Returns how
    /// many it cut.
    pub async fn close(&self, deadline: Instant) -> usize {
        for (_, connection) in self.snapshot() {
            connection.tell(Told::Go);
        }
        if wait_until(deadline, || self.lock().is_empty()).await {
            return 0;
        }
        let rest = self.snapshot();
        for (_, connection) in &rest {
            connection.tell(Told::Cut);
        }
        wait_until(Instant::now() + Duration::from_secs(1), || self.lock().is_empty()).await;
        rest.len()
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn snapshot(&self) -> Vec<(u64, Arc<Connection>)> {
        self.lock().iter().map(|(id, connection)| (*id, Arc::clone(connection))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        // Inserting and removing are whole steps: a panic leaves a whole map.
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
        self.connections.lock().remove(&self.id);
    }
}

impl Connection {
    pub(super) fn is_http2(&self) {
        self.is_http2.store(true, Ordering::Release);
    }

    pub(super) fn request_seen(&self) {
        self.requests.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn saw_a_request(&self) -> bool {
        self.requests.load(Ordering::Acquire) > 0
    }

    pub(super) fn leaving(self: Arc<Self>) -> Leaving {
        self.leaving.fetch_add(1, Ordering::SeqCst);
        self.carried.store(true, Ordering::SeqCst);
        Leaving(self)
    }

    pub(super) fn tell(&self, what: Told) {
        match what {
            Told::Go => self.asked_to_go.store(true, Ordering::Release),
            Told::Cut => self.cut.store(true, Ordering::Release),
        }
        self.told.notify_one();
    }

    /// Waits until the driver is told something; each thing is told once.
    pub(super) async fn told(&self, already_going: bool) -> Told {
        loop {
            let told = self.told.notified();
            if self.cut.load(Ordering::Acquire) {
                return Told::Cut;
            }
            if !already_going && self.asked_to_go.load(Ordering::Acquire) {
                return Told::Go;
            }
            told.await;
        }
    }

    fn is_http2_with_signatures(&self) -> bool {
        self.is_http2.load(Ordering::SeqCst) && self.carried.load(Ordering::SeqCst)
    }

    fn is_settled(&self) -> bool {
        !self.is_http2_with_signatures()
            && self.leaving.load(Ordering::SeqCst) == 0
            && !self.unflushed.load(Ordering::SeqCst)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // In this order: the answer is never in neither place.
        self.0.unflushed.store(true, Ordering::SeqCst);
        self.0.leaving.fetch_sub(1, Ordering::SeqCst);
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

/// A socket that tells its connection when everything written was flushed.
/// hyper flushes the socket only once its own buffer is empty.
#[derive(Debug)]
pub(super) struct Flushes<S> {
    inner: S,
    connection: Arc<Connection>,
}

impl<S> Flushes<S> {
    pub(super) fn new(inner: S, connection: Arc<Connection>) -> Self {
        Self { inner, connection }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flushes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flushes<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Taken before the flush: an answer that joins during it counts for the next.
        // hyper's driver is the only one that flushes or drops answers' bodies, and
        // it does both from one task.
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(context));
        if flushed.is_ok() {
            self.connection.unflushed.store(false, Ordering::SeqCst);
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
