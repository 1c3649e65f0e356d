//! Required mode: a signature leaves only once the trail has said that its record is committed in the sink.
//! Here releases wait, and one task talks to the trail.

mod connection;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use audit::Journal;
use breakglass::emergency::Witness;
use breakglass::heads::Heads;
use configuration::RequiredTrail;
use host::clock::now;
use release::{Committed, Recorded, RequiredSink, SinkError, Withheld};
use signing_core::Refusal;
use signing_core::gate::Admitted;
use signing_core::tree::{Inclusion, LogId, SignedCheckpoint};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use connection::Connection;

/// The required sink of the trail, if there is one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Required(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sink: RequiredSink,
    journal: Journal,
    /// What the emergency signer showed of its log.
    signer: Heads,
    /// How long a release waits.
    patience: Duration,
    /// The newest checkpoints of the emergency signer's log that came with signatures.
    witnessed: Mutex<BTreeMap<LogId, SignedCheckpoint>>,
    /// Told when there is something to tell the trail that is not of this process's own journal.
    wanted: Notify,
    /// Changes whenever the trail was heard, or is gone.
    heard: watch::Sender<u64>,
}

impl Required {
    /// What a configuration requires; `runtime` keeps the trail connected.
    #[must_use]
    pub fn start(
        settings: Option<RequiredTrail>,
        (journal, signer): (Journal, Heads),
        runtime: &Handle,
    ) -> Self {
        let patience = settings.as_ref().map(|settings| settings.commit_timeout);
        let sink = RequiredSink::new(journal.log(), patience);
        let patience = patience.unwrap_or_default();
        let (witnessed, wanted, (heard, _)) = (Mutex::default(), Notify::new(), watch::channel(0));
        let shared = Arc::new(Shared { sink, journal, signer, patience, witnessed, wanted, heard });
        if let Some(settings) = settings {
            runtime.spawn(Connection::new(settings, Arc::clone(&shared)).run());
        }
        Self(shared)
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.0.sink.is_required()
    }

    /// Why nothing would be released now, if so.
    #[must_use]
    pub fn error(&self) -> Option<SinkError> {
        self.0.sink.error(now())
    }

    /// Whether a release of `permit` could be waited for: looked at before anybody is asked to sign.
    ///
    /// # Errors
    /// `audit_unavailable`, at once.
    pub(crate) fn check(&self, permit: &impl Admitted) -> Result<(), Refusal> {
        match permit.session() {
            None => self.0.sink.check(now()),
            Some(_) => {
                let newest = self.0.signer.newest();
                self.0.sink.check_session(newest.map(|newest| newest.checkpoint().log), now())
            }
        }
    }

    /// Waits until the sink holds the record, and of a session also the emergency signer's own. Without a
    /// required sink it waits for nothing. Dying here: the record is on disk, the trail ships it, and nothing left.
    ///
    /// # Errors
    /// [`Withheld`] if the trail does not say so in time, whatever keeps it.
    pub(crate) async fn commit<P: Admitted>(
        &self,
        recorded: Recorded<P>,
        witness: Option<&Witness>,
    ) -> Result<Committed<P>, Withheld> {
        let shared = &self.0;
        let mut recorded = match recorded.committed(&shared.sink) {
            Ok(committed) => return Ok(committed),
            Err(recorded) => recorded,
        };
        let mut heard = shared.heard.subscribe();
        if let Some(witness) = witness {
            shared.want(witness);
        }
        let mut late = std::pin::pin!(tokio::time::sleep(shared.patience));
        loop {
            // What is heard after this look wakes it.
            heard.borrow_and_update();
            recorded = match recorded.committed(&shared.sink) {
                Ok(committed) => return Ok(committed),
                Err(recorded) => recorded,
            };
            tokio::select! {
                changed = heard.changed() => if changed.is_err() { break },
                () = &mut late => break,
            }
        }
        Err(recorded.not_committed())
    }
}

impl Shared {
    /// There is a record of the emergency signer that somebody waits for. Of this process's own journal the trail is told
    /// as soon as it goes on.
    fn want(&self, witness: &Witness) {
        let proof = witness.proof.as_ref();
        let Some(proof) = proof.and_then(|proof| Inclusion::parse(&proof.proof).ok()) else {
            return;
        };
        let log = proof.checkpoint.checkpoint().log;
        let mut witnessed = self.witnessed();
        let is_newer = witnessed
            .get(&log)
            .is_none_or(|newest| newest.checkpoint().size < proof.checkpoint.checkpoint().size);
        if is_newer {
            witnessed.insert(log, proof.checkpoint);
        }
        drop(witnessed);
        self.wanted.notify_one();
    }

    /// What the trail can be told: what this journal has on disk, which is `own`, and what came of the emergency signer's.
    /// What that one showed by itself is told too, so that the sink is known to take its records before a session begins.
    fn on_disk(&self, own: SignedCheckpoint) -> Vec<SignedCheckpoint> {
        let mut all = vec![own];
        all.extend(self.signer.newest());
        all.extend(self.witnessed().values().cloned());
        all
    }

    fn witnessed(&self) -> MutexGuard<'_, BTreeMap<LogId, SignedCheckpoint>> {
        // Nothing under this lock panics but for want of memory.
        self.witnessed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) {
        self.heard.send_modify(|times| *times = times.wrapping_add(1));
    }
}
