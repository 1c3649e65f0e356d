//! The open connections of the data plane, and the end of those that still carry what was
//! released before a stop.
//!
//! A stop is answered only after every earlier release is acknowledged by its client's kernel, or
//! its connection is reset: "written" alone means that our kernel has it, and goes on delivering.
//! The kernel is asked only then, and when a connection that carried a signature closes.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::clock::now;
use monitor::Stops;
use mtls::ServerTls;
use signing_core::{Caller, Reason, Refusal};
use telemetry::metrics::{Metrics, ResetReason};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answers::Answers;
use super::bodies::Bodies;
use super::connection::Connection;
use super::let_in::LetIn;
use super::share::Share;
use super::shared::Shared;
use super::stream::Stream;
use super::unproved::Unproved;

/// How long a stop waits for signatures released before it to be delivered; a connection that
/// still carries one then is reset.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a connection that was cut may take to end. Nothing leaves it any more: this is for a
/// thread that gets no time.
const CUT_MAX: Duration = Duration::from_secs(1);

/// How often a wait looks: at first, and when it lasts.
const PACE_MIN: Duration = Duration::from_millis(1);
const PACE_MAX: Duration = Duration::from_millis(20);

/// All open connections.
#[derive(Clone, Debug)]
pub struct Connections {
    limits: Arc<configuration::Server>,
    metrics: Arc<Metrics>,
    open: Arc<Mutex<Open>>,
    /// What all answers take memory from.
    answers: Arc<Share>,
    /// What all request bodies take memory from.
    bodies: Arc<Share>,
    /// Of these, what those take whose senders have not proved who calls.
    unproved: Unproved,
    /// How many were reset since something released before a stop was not delivered.
    reset_by_stops: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: BTreeMap<u64, Arc<Connection>>,
    of_owner: HashMap<Owner, CallerConnections>,
}

/// Whose a connection is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// A caller's.
    Caller(Arc<Caller>),
    /// That of a certificate which names nobody: all of these together count as one caller.
    Nameless,
    /// That of a client of a local door which has not proved who calls. Places of their own limit these, of
    /// which the oldest gives way.
    Newcomer,
}

/// What all connections of a caller have in common.
#[derive(Debug)]
struct CallerConnections {
    count: usize,
    answers: Arc<Share>,
    bodies: Bodies,
}

/// Takes the connection off the list, and closes it, when it is dropped.
#[derive(Debug)]
pub(super) struct Listed {
    connections: Connections,
    id: u64,
    /// Whose it is. Locked before the list, never after.
    owner: Mutex<Owner>,
    connection: Arc<Connection>,
}

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(limits: &configuration::Server, metrics: Arc<Metrics>) -> Self {
        let bodies = Bodies::of_all(limits);
        Self {
            limits: Arc::new(limits.clone()),
            metrics,
            open: Arc::default(),
            answers: Answers::of_all(limits),
            unproved: Unproved::new(limits, Arc::clone(&bodies)),
            bodies,
            reset_by_stops: Arc::default(),
        }
    }

    /// Lists a connection; None if `owner` has `connections_per_caller_max` already.
    pub(super) fn list(
        &self,
        stream: Stream,
        let_in: LetIn,
        is_http2: bool,
        owner: Owner,
    ) -> Option<Listed> {
        let mut open = self.lock();
        let shared = self.counted(&mut open, &owner)?;
        open.next += 1;
        let id = open.next;
        let connection = Arc::new(Connection::new(stream, let_in, is_http2, shared));
        open.connections.insert(id, Arc::clone(&connection));
        Some(Listed { connections: self.clone(), id, owner: Mutex::new(owner), connection })
    }

    /// Counts one more connection of `owner`, unless it has all of its own.
    fn counted(&self, open: &mut Open, owner: &Owner) -> Option<Shared> {
        let of_owner = open.of_owner.entry(owner.clone()).or_insert_with(|| CallerConnections {
            count: 0,
            answers: Answers::of_caller(&self.limits),
            bodies: Bodies::of_caller(&self.limits, &self.bodies),
        });
        let is_limited = *owner != Owner::Newcomer;
        if is_limited && of_owner.count >= self.limits.connections_per_caller_max {
            return None;
        }
        of_owner.count += 1;
        let answers = Arc::clone(&of_owner.answers);
        let answers = Answers::new(&self.limits, answers, Arc::clone(&self.answers));
        Some(Shared { answers, bodies: of_owner.bodies.clone() })
    }

    /// What request bodies take memory from before it is proved who calls.
    pub(super) fn unproved(&self) -> &Unproved {
        &self.unproved
    }

    /// Waits until every signature released so far is delivered or its connection is gone; resets
    /// those that still carry one after `SETTLE_PATIENCE`. Returns how many it reset.
    pub async fn settle(&self) -> usize {
        let open = self.snapshot();
        let mut pending: Vec<_> =
            open.iter().filter_map(|open| Some((open, open.settling()?))).collect();
        let settled = wait_until(Instant::now() + SETTLE_PATIENCE, || {
            pending.retain_mut(|(connection, settling)| !connection.is_settled(settling));
            pending.is_empty()
        });
        if settled.await {
            return 0;
        }
        let cut = pending.iter().filter(|(connection, _)| connection.cut()).count();
        self.reset_by_stops.fetch_add(cut, Ordering::SeqCst);
        self.metrics.resets.count(ResetReason::Stop, cut);
        cut
    }

    /// How many connections stops have reset since the start.
    #[must_use]
    pub fn reset_by_stops(&self) -> usize {
        self.reset_by_stops.load(Ordering::SeqCst)
    }

    /// Asks all to go, and cuts at `deadline` what is still there. Returns how
    /// many it cut.
    pub async fn close(&self, deadline: Instant) -> usize {
        // Again and again: a handshake may still end in a connection.
        let closed = wait_until(deadline, || {
            let open = self.snapshot();
            for connection in &open {
                connection.ask_to_go();
            }
            open.is_empty()
        });
        if closed.await {
            return 0;
        }
        let cut = self.snapshot().iter().filter(|connection| connection.cut()).count();
        self.metrics.resets.count(ResetReason::Drain, cut);
        wait_until(Instant::now() + CUT_MAX, || self.count() == 0).await;
        cut
    }

    /// Resets the connections of clients that `tls` would not let in any more. Returns how many.
    pub fn cut_those_not_let_in(&self, tls: &ServerTls, now: OffsetDateTime) -> usize {
        let open = self.snapshot();
        let cut = open.iter().filter(|open| !open.is_let_in(tls, now) && open.cut()).count();
        self.metrics.resets.count(ResetReason::NotLetIn, cut);
        cut
    }

    /// The bytes of answers that clients have not taken.
    #[must_use]
    pub fn answers_bytes(&self) -> usize {
        self.answers.bytes()
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().connections.len()
    }

    fn snapshot(&self) -> Vec<Arc<Connection>> {
        self.lock().connections.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Inserting and removing are whole steps: a panic leaves whole maps.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Settles after each stop of the monitor, whoever or whatever caused it, as long as the monitor
/// lives: nobody has to wait for an answer, and an operator may hang up.
pub async fn settle_after_stops(connections: Connections, mut stops: watch::Receiver<Stops>) {
    let mut seen = *stops.borrow_and_update();
    // When the last signatures of a session whose quota is used up have to have left.
    let mut last_leave_at: Option<Instant> = None;
    loop {
        tokio::select! {
            changed = stops.changed() => {
                if changed.is_err() {
                    return;
                }
                let stopped = *stops.borrow_and_update();
                if let Some(by) = stopped.last_leave_by
                    && stopped.last_leave_by != seen.last_leave_by
                {
                    last_leave_at = Some(Instant::now() + by.since(now()));
                }
                let at_once = stopped.at_once != seen.at_once;
                seen = stopped;
                if !at_once {
                    continue;
                }
            }
            () = sleep_until(last_leave_at.unwrap_or_else(Instant::now)),
                if last_leave_at.is_some() => last_leave_at = None,
        }
        let cut = connections.settle().await;
        if cut > 0 {
            tracing::warn!(target: "gate", connections_cut = cut, "reset after a stop: not read in time");
        }
    }
}

impl Listed {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// A request on it has proved that `caller` calls: from here on it counts among the caller's.
    ///
    /// # Errors
    /// `overloaded` if the caller has `connections_per_caller_max` already.
    pub(super) fn belongs_to(&self, caller: &Arc<Caller>) -> Result<(), Refusal> {
        let connections = &self.connections;
        let proven = Owner::Caller(Arc::clone(caller));
        let mut owner = self.owner();
        if *owner == proven {
            return Ok(());
        }
        let mut open = connections.lock();
        let Some(shared) = connections.counted(&mut open, &proven) else {
            let max = connections.limits.connections_per_caller_max;
            let detail = format!(
                "connections_per_caller_max is {max}, and the caller {caller} has so many: use one of \
                 them"
            );
            return Err(Refusal::new(Reason::Overloaded, detail));
        };
        open.forget_one_of(&owner);
        self.connection.share(shared);
        *owner = proven;
        Ok(())
    }

    fn owner(&self) -> MutexGuard<'_, Owner> {
        // It is set as a whole.
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn forget_one_of(&mut self, owner: &Owner) {
        if let Some(of_owner) = self.of_owner.get_mut(owner) {
            of_owner.count -= 1;
            if of_owner.count == 0 {
                self.of_owner.remove(owner);
            }
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        // First: what is not listed any more delivers nothing.
        if self.connection.close() {
            self.connections.metrics.resets.count(ResetReason::Unread, 1);
        }
        let owner = self.owner();
        let mut open = self.connections.lock();
        open.connections.remove(&self.id);
        open.forget_one_of(&owner);
    }
}

/// Looks again and again: this runs for stops and drains only.
async fn wait_until(deadline: Instant, mut done: impl FnMut() -> bool) -> bool {
    let waiting = async {
        let mut pace = PACE_MIN;
        while !done() {
            tokio::time::sleep(pace).await;
            pace = (pace * 2).min(PACE_MAX);
        }
    };
    timeout_at(deadline, waiting).await.is_ok()
}
