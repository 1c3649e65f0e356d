//! Batches of a batch signer: while a call is in progress, the next batch gathers, and one signature
//! over its note proves each of its leaves.
//!
//! ```text
//! place (before the intent) -> join (after the intent) -> one call -> each leaf: prove, record, release
//! ```
//!
//! A request takes its place first, so that its intent names the call that will be made. The call begins
//! once everyone who has a place has announced the intent, or has given the place back; nothing waits in
//! between. A batch goes when no call is in progress and its time to gather is over, or at once when it is
//! full. A call that has taken long holds the next batch no more: an upstream that hangs in one call may
//! answer the next. Calls are made by tasks of their own: a caller that hangs up stops nobody's batch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use configuration::BatchLimits;
use host::clock::now;
use release::{AnnouncedLeaf, BatchOrder, BatchOutcome, SigningOrder, Signs};
use signing_core::batch::{SALT_BYTES, Salt};
use signing_core::evidence::{Evidence, Fault};
use signing_core::gate::{Admitted as _, Upstream};
use signing_core::{AttemptsId, Kid, Moment, Reason, Refusal, Signer};
use tokio::sync::{Notify, oneshot};
use upstream::{Route, random};

use crate::SigningRoom;
use crate::answered::Answered;
use crate::ask::Call;

/// Calls in progress for one signer, also if every one of them hangs. The upstream's own time-out ends each.
const CALLS_MAX: usize = 16;

/// The batches of one batch signer.
#[derive(Debug)]
pub(super) struct Batcher {
    state: Mutex<State>,
    /// Wakes whoever makes the calls, also when nobody holds the batches any more.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    limits: BatchLimits,
    /// Calls in progress, by the number of their batch: when each began.
    calls: BTreeMap<u64, Moment>,
    /// Batches that were opened.
    opened: u64,
    /// Oldest first; only the newest may still have places. Each place belongs to a request in flight,
    /// which are bounded.
    batches: VecDeque<Gathering>,
}

/// A batch that gathers.
#[derive(Debug)]
struct Gathering {
    number: u64,
    signer: Arc<Signer>,
    attempts: AttemptsId,
    route: Route,
    signs: Signs,
    /// When it may go, if it is not full before.
    goes_at: Moment,
    places: usize,
    /// Places whose request has not joined yet.
    unsettled: usize,
    /// None: its request withdrew it.
    leaves: Vec<Option<Leaf>>,
}

#[derive(Debug)]
struct Leaf {
    announced: AnnouncedLeaf,
    deadline: Moment,
    answer: oneshot::Sender<(u64, Arc<Outcome>)>,
}

/// Where a leaf hears its place in the batch that was signed, and what came of that batch.
type Answering = oneshot::Receiver<(u64, Arc<Outcome>)>;

/// What came of a batch.
#[derive(Debug)]
enum Outcome {
    /// It was called for.
    Called { outcome: Box<BatchOutcome>, call: Call, called: Moment },
    /// Nobody was asked: why.
    NotSent(Refusal),
}

/// The place of one request in a batch that gathers. Dropped without [`Place::sign`], it is given back.
#[derive(Debug)]
pub(crate) struct Place {
    batcher: Arc<Batcher>,
    number: u64,
    attempts: AttemptsId,
    signs: Signs,
    salt: Salt,
    settled: bool,
}

/// A call in progress.
#[derive(Debug)]
struct Busy(Arc<Batcher>, u64);

/// Makes the calls of `kid`'s batches, until the signer is gone and the last of them is.
pub(super) fn run(
    room: Arc<SigningRoom>,
    kid: Kid,
    batcher: &Arc<Batcher>,
) -> impl Future<Output = ()> + Send + 'static {
    let (changed, batcher) = (Arc::clone(&batcher.changed), Arc::downgrade(batcher));
    async move { run_while_held(room, kid, changed, batcher).await }
}

async fn run_while_held(
    room: Arc<SigningRoom>,
    kid: Kid,
    changed: Arc<Notify>,
    batcher: Weak<Batcher>,
) {
    loop {
        let Some(held) = batcher.upgrade() else { return };
        let (ready, next) = held.ready(now());
        for batch in ready {
            let busy = Busy(Arc::clone(&held), batch.number);
            tokio::spawn(call(Arc::clone(&room), kid.clone(), batch, busy));
        }
        // Not held while nothing is to be done: the last one to hold it wakes this.
        drop(held);
        let pause = async {
            match next {
                Some(at) => tokio::time::sleep(at.since(now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed.notified() => {}
            () = pause => {}
        }
    }
}

/// Has one batch signed, and tells each of its leaves. Dying in here tells them that nobody knows.
async fn call(room: Arc<SigningRoom>, kid: Kid, batch: Gathering, busy: Busy) {
    let Gathering { signer, attempts, route, leaves, .. } = batch;
    let leaves: Vec<_> = leaves.into_iter().flatten().collect();
    let deadline = leaves.iter().map(|leaf| leaf.deadline).max().unwrap_or_default();
    let (announced, waiting): (Vec<_>, Vec<_>) =
        leaves.into_iter().map(|leaf| (leaf.announced, leaf.answer)).unzip();
    // It gathered under a gate that was open then. What cannot be released is not asked for, and nobody is asked
    // who has shut since.
    let checked = room.still(&kid, route, deadline);
    let order = BatchOrder::new(signer, attempts, announced);
    let outcome = match (checked, order) {
        (Err(why), _) => {
            let detail = format!("the gate shut while a batch gathered, which was not sent: {why}");
            Outcome::NotSent(Refusal::new(Reason::GateClosedInFlight, detail).about(&kid))
        }
        (Ok(_), None) => {
            let detail = "a batch has no leaf, or its signer is no batch signer; it was not sent";
            Outcome::NotSent(Refusal::new(Reason::Internal, detail).about(&kid))
        }
        (Ok(route), Some(order)) => {
            let asked = room.ask((&kid, true), &order, route, deadline).await;
            let called = asked.called;
            let (outcome, call) = room.judge_batch(&kid, order, asked);
            Outcome::Called { outcome: Box::new(outcome), call, called }
        }
    };
    // The next one goes while the leaves of this one are proved.
    drop(busy);
    let outcome = Arc::new(outcome);
    for (index, answer) in (0..).zip(waiting) {
        // Whoever is gone has its work done by the finisher, which waits here too.
        let _ = answer.send((index, Arc::clone(&outcome)));
    }
}

impl Place {
    /// Takes a place in the batch that gathers, or opens one, which chooses its upstream by `route` and
    /// spends that one's quota.
    ///
    /// # Errors
    /// The refusal, at once, if nobody can be asked.
    pub(super) fn take(
        room: &SigningRoom,
        signer: &Arc<Signer>,
        route: impl FnOnce() -> Result<Route, Refusal>,
    ) -> Result<Self, Refusal> {
        let internal = |detail| Refusal::new(Reason::Internal, detail).about(&signer.kid);
        let batcher = room.signers.get(&signer.kid).and_then(|signer| signer.batcher.clone());
        let batcher = batcher.ok_or_else(|| {
            let detail = "the configuration was reloaded since this was admitted; retry";
            Refusal::new(Reason::GateClosedInFlight, detail).about(&signer.kid)
        })?;
        let salt = salt().ok_or_else(|| internal("the system gives no randomness for a leaf"))?;
        let mut state = batcher.lock();
        let limits = state.limits;
        if state.batches.back().is_none_or(|newest| newest.places >= limits.leaves_max) {
            let attempts = random::attempts()
                .ok_or_else(|| internal("the system gives no randomness to name a batch with"))?;
            let route = route()?;
            let signs = room.signs(&signer.kid, &route);
            let signs = signs.ok_or_else(|| internal("an admitted signer has no upstream"))?;
            state.opened += 1;
            let batch = Gathering {
                number: state.opened,
                signer: Arc::clone(signer),
                attempts,
                route,
                signs,
                goes_at: now().after(limits.wait),
                places: 0,
                unsettled: 0,
                leaves: Vec::new(),
            };
            state.batches.push_back(batch);
        }
        let newest = state.batches.back_mut();
        let batch = newest.ok_or_else(|| internal("a batch that was opened is gone"))?;
        batch.places += 1;
        batch.unsettled += 1;
        let (number, attempts, signs) = (batch.number, batch.attempts, batch.signs.clone());
        drop(state);
        Ok(Self { batcher, number, attempts, signs, salt, settled: false })
    }
}

impl Batcher {
    /// None gathers yet.
    pub(super) fn new(limits: BatchLimits) -> Self {
        let state = State { limits, calls: BTreeMap::new(), opened: 0, batches: VecDeque::new() };
        Self { state: Mutex::new(state), changed: Arc::default() }
    }

    /// Batches that are opened from now on gather within these.
    pub(super) fn set_limits(&self, limits: BatchLimits) {
        self.lock().limits = limits;
        self.changed.notify_one();
    }

    /// The batches that go now, of which each counts as a call from here on; and when to look again.
    fn ready(&self, now: Moment) -> (Vec<Gathering>, Option<Moment>) {
        let mut state = self.lock();
        let (mut ready, mut next) = (Vec::new(), None);
        for batch in std::mem::take(&mut state.batches) {
            let goes_at = state.goes_at(&batch);
            if batch.unsettled > 0 || goes_at.is_none_or(|at| now < at) {
                next = next.into_iter().chain(goes_at).filter(|at| now < *at).min();
                state.batches.push_back(batch);
            } else if batch.leaves.iter().any(Option::is_some) {
                state.calls.insert(batch.number, now);
                ready.push(batch);
            }
        }
        // Also for batches that gather from now on: whoever joins one wakes nobody until then.
        let held_until = state.held_until().filter(|at| now < *at);
        (ready, next.into_iter().chain(held_until).min())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics but for want of memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

impl State {
    /// Until when the calls in progress hold a batch that is not full. None: there is no such call.
    fn held_until(&self) -> Option<Moment> {
        self.calls.values().max().map(|began| began.after(self.limits.hold))
    }

    /// From when on that batch may go. None: only once a call has ended.
    fn goes_at(&self, batch: &Gathering) -> Option<Moment> {
        if self.calls.len() >= CALLS_MAX {
            return None;
        }
        if batch.places >= self.limits.leaves_max {
            return Some(Moment::default());
        }
        self.held_until().into_iter().chain([batch.goes_at]).max()
    }

    /// Whether a batch that just became whole may go, as far as that depends on calls.
    fn may_wake(&self, number: u64) -> bool {
        let batch = self.batches.iter().find(|batch| batch.number == number);
        let is_full = batch.is_some_and(|batch| batch.places >= self.limits.leaves_max);
        is_full || self.held_until().is_none_or(|at| at <= now())
    }

    fn batch(&mut self, number: u64) -> Option<&mut Gathering> {
        self.batches.iter_mut().find(|batch| batch.number == number)
    }
}

impl Place {
    /// What names the batch's calls.
    pub(super) const fn attempts(&self) -> AttemptsId {
        self.attempts
    }

    /// Who is asked first.
    pub(super) const fn signs(&self) -> &Signs {
        &self.signs
    }

    /// Joins the batch with what was announced, and proves the leaf once the batch is signed.
    pub(super) async fn sign(
        mut self,
        room: &Arc<SigningRoom>,
        order: SigningOrder,
    ) -> Answered<Upstream> {
        let deadline = order.permit().deadline();
        let heard = match order.leaf(&self.salt) {
            Some(announced) => self.answer(announced, deadline).await,
            None => Heard::Withdrawn,
        };
        let kid = order.permit().signer().kid.clone();
        let (called, answered) = match &heard {
            Heard::Answer(_, outcome) => match &**outcome {
                Outcome::Called { call, called, .. } => (*called, call.ended()),
                Outcome::NotSent(_) => (now(), now()),
            },
            Heard::Withdrawn | Heard::Lost => (now(), now()),
        };
        #[expect(clippy::result_large_err, reason = "what failed is moved once, to its record")]
        let not_sent = |order: SigningOrder, refusal: Refusal| {
            let detail = "it was not sent".to_owned();
            let evidence = Evidence::Failed { fault: Fault::Overloaded, detail };
            order.prove(Err(evidence)).map_err(|mut failed| {
                failed.refusal = refusal;
                failed
            })
        };
        let verdict = match heard {
            Heard::Answer(index, outcome) => match &*outcome {
                Outcome::Called { outcome, call, .. } => {
                    let verdict = order.prove_in(outcome, self.salt.clone(), index);
                    if let Err(failed) = &verdict
                        && failed.evidence != outcome.evidence()
                    {
                        // The call signed, and this leaf is not in it: whatever that is, it seals.
                        room.tell_of_leaf(&kid, *call, failed.evidence.clone());
                    }
                    verdict
                }
                Outcome::NotSent(refusal) => not_sent(order, refusal.clone()),
            },
            Heard::Withdrawn => {
                let detail = "the deadline passed while its batch gathered; it was not sent";
                not_sent(order, Refusal::new(Reason::DeadlineExceeded, detail).about(&kid))
            }
            Heard::Lost => Err(order.lost("the call of its batch ended without an answer")),
        };
        Answered { verdict, witnessed: None, called, answered, verified: now() }
    }

    /// Joins, and waits for what comes of the batch: until the deadline, and from then on only if the
    /// batch has gone.
    async fn answer(&mut self, announced: AnnouncedLeaf, deadline: Moment) -> Heard {
        let Some((at, mut answer)) = self.join(announced, deadline) else { return Heard::Lost };
        let in_time = tokio::time::timeout(deadline.since(now()), &mut answer).await;
        let answer = match in_time {
            Ok(answer) => answer,
            Err(_) if self.withdraw(at) => return Heard::Withdrawn,
            Err(_) => answer.await,
        };
        answer.map_or(Heard::Lost, |(index, outcome)| Heard::Answer(index, outcome))
    }

    /// None: the batch is gone, which waits for everyone who has a place.
    fn join(&mut self, announced: AnnouncedLeaf, deadline: Moment) -> Option<(usize, Answering)> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.batcher.lock();
        let batch = state.batch(self.number)?;
        self.settled = true;
        batch.unsettled -= 1;
        batch.leaves.push(Some(Leaf { announced, deadline, answer: sender }));
        let at = batch.leaves.len() - 1;
        let is_whole = batch.unsettled == 0;
        // While a call is in progress, only a full batch goes; whoever makes the calls knows when that call holds
        // the next one no more.
        let wakes = is_whole && state.may_wake(self.number);
        drop(state);
        if wakes {
            self.batcher.changed.notify_one();
        }
        Some((at, receiver))
    }

    /// Takes the leaf back; false if its batch has gone.
    fn withdraw(&self, at: usize) -> bool {
        let mut state = self.batcher.lock();
        let leaf = state.batch(self.number).and_then(|batch| batch.leaves.get_mut(at));
        leaf.and_then(Option::take).is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if let Some(batch) = self.batcher.lock().batch(self.number) {
            batch.unsettled -= 1;
        }
        self.batcher.changed.notify_one();
    }
}

/// Random bytes of a leaf, out of those that are drawn in bulk. None if the system gives none.
fn salt() -> Option<Salt> {
    let mut salt = [0; SALT_BYTES];
    let (parts, rest) = salt.as_chunks_mut();
    for part in parts {
        *part = random::id()?;
    }
    rest.is_empty().then_some(Salt::new(salt))
}

/// What a leaf heard.
#[derive(Debug)]
enum Heard {
    Answer(u64, Arc<Outcome>),
    /// It was taken back in time: nobody was asked to sign it.
    Withdrawn,
    /// Nothing, and nothing will come.
    Lost,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.lock().calls.remove(&self.1);
        self.0.changed.notify_one();
    }
}
