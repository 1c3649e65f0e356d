//! What is looked at on a disk, on threads of their own: a disk that is slow or hangs holds up whoever asked,
//! and no signature, no end of a session and no expiry.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use signing_core::breakglass::wire::{Answer, Extend, Extends, Reason};
use signing_core::tree::LogId;
use tokio::task::JoinSet;

use super::{Service, refused};
use crate::arming::Unreadable;
use crate::keyfile;

/// How long whoever asks how the signer is waits for the disk of a key's file: a proxy waits 2 s for the
/// answer. A key of which nothing is known by then cannot be opened, as far as anybody knows.
pub(super) const PROBE_MAX: Duration = Duration::from_secs(1);
/// How long an activation waits for the disk of the approvers' file, which is then not known to be unchanged.
const UNCHANGED_MAX: Duration = Duration::from_secs(5);

impl Service {
    /// Shows that the journal goes on from what a proxy knows of it, however long the disk takes. Never that
    /// there is no such proof because of the time it took.
    pub async fn extend(&self, ask: Extend) -> Answer {
        let tree = Arc::clone(self.saver.tree());
        let journal = self.journal.clone();
        let id = ask.id;
        // When its turn comes: the newest that is known then.
        let shown = self.prover.run_in_turn(move || {
            let newest = journal.checkpoint();
            let stated = newest.checkpoint();
            let is_ours = LogId::parse(&ask.log) == Some(stated.log);
            let path = if is_ours { tree.prove(ask.size, stated.size) } else { None };
            Extends::new(ask.id, &newest, path.as_deref())
        });
        match shown.await {
            Ok(extends) => Answer::Extends(extends),
            Err(gone) => Answer::Refused(refused(id, Reason::Overloaded, gone.to_string())),
        }
    }

    /// Which keys' files cannot be opened now. Each is looked at on a thread of its own: one that hangs says nothing of
    /// the others.
    pub(super) async fn unreadable(&self) -> Unreadable {
        let mut looks = JoinSet::new();
        for (kid, held) in &self.materials.keys {
            let Some(prober) = self.probers.get(kid).map(Rc::clone) else { continue };
            let (kid, file) = (kid.clone(), held.file.clone());
            looks.spawn_local(async move {
                let probed = prober.run_in_turn(move || keyfile::probe(&file));
                let why = match tokio::time::timeout(PROBE_MAX, probed).await {
                    Ok(Ok(probed)) => probed.err().map(|error| error.to_string()),
                    Ok(Err(busy)) => Some(busy.to_string()),
                    Err(_) => {
                        Some(format!("its disk has not answered for {} s", PROBE_MAX.as_secs()))
                    }
                };
                (kid, why)
            });
        }
        // A key of which no look says that it can be opened cannot.
        let keys = self.materials.keys.keys();
        let mut unreadable: Unreadable =
            keys.map(|kid| (kid.clone(), "it was not looked at".to_owned())).collect();
        while let Some(looked) = looks.join_next().await {
            match looked {
                Ok((kid, Some(why))) => drop(unreadable.insert(kid, why)),
                Ok((kid, None)) => drop(unreadable.remove(&kid)),
                Err(_) => {}
            }
        }
        unreadable
    }

    /// Whether the approvers' file is what it was at the start, as far as its disk says so in time. For the one
    /// activation that is under way.
    pub(super) async fn approvers_unchanged(&self) -> bool {
        let approvers = Arc::clone(&self.materials.approvers);
        let looked = self.opener.run(move || approvers.unchanged());
        matches!(tokio::time::timeout(UNCHANGED_MAX, looked).await, Ok(Ok(true)))
    }
}
