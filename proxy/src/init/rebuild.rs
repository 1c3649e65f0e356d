//! `signing-proxy state rebuild`: the file of the freeze and the seals is gone, and made again of
//! the journal. What only the file knew is lost, so the proxy then starts frozen.

use std::fmt;
use std::path::PathBuf;

use audit::OpenError;
use host::clock::wall_now;
use monitor::{Store, StoreError, Stored, Witness, freeze_id};
use signing_core::journal::{AuditKeys, Frozen};
use text::counted;

use crate::materials::Materials;

/// What was made.
#[derive(Debug)]
pub struct Rebuilt {
    /// The file.
    pub file: PathBuf,
    /// Where the old one lies now, if there was one that could not be read.
    pub aside: Option<PathBuf>,
    /// What is in it.
    pub state: Stored,
    /// How far the journal goes.
    pub witness: Witness,
}

impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, aside, state, witness: Witness { log, head } } = self;
        let seals = counted(state.in_force.seals.len(), "seal");
        writeln!(f, "{}: made of the log {log} up to record {}", file.display(), head.size)?;
        if let Some(aside) = aside {
            writeln!(f, "the old file is {}", aside.display())?;
        }
        writeln!(f, "the proxy starts frozen, with {seals}; `signctl status` shows both")?;
        write!(
            f,
            "how far the log once went is not known here any more: hold it against a receipt or a \
             kept head with `signctl audit verify --head SIZE:ROOT`, then `signctl unfreeze`"
        )
    }
}

/// Why it was not made.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal cannot be read.
    #[error("audit.dir {0}")]
    Journal(#[from] OpenError),
    /// It is not needed.
    #[error("{}: it is there and can be read, so there is nothing to rebuild; start the proxy", .0.display())]
    NotNeeded(PathBuf),
}

/// Makes the file of the journal, with a freeze that gives `reason`. The next `start` record holds
/// it, and so says that it was made.
///
/// # Errors
/// [`RebuildError`]; everything stays as it is.
pub fn rebuild(materials: &Materials, reason: &str) -> Result<Rebuilt, RebuildError> {
    let (store, stored) = Store::open_for_rebuild(&materials.config.state_dir)?;
    if stored.is_ok_and(|stored| stored.is_some()) {
        return Err(RebuildError::NotNeeded(store.file()));
    }
    let registered = AuditKeys::of_registry(&materials.registry);
    let (log, head, mut in_force) = audit::in_force(&materials.config.audit.dir, &registered)?;
    let before = in_force.freeze.map(|Frozen { by, reason, .. }| {
        format!(" (the journal tells of a freeze by {by}: {reason})")
    });
    let reason = format!("the state was rebuilt: {reason}{}", before.unwrap_or_default());
    in_force.freeze =
        Some(Frozen { at: wall_now(), by: host::user::ourselves(), id: freeze_id(), reason });
    let witness = Witness { log, head };
    let state = Stored { in_force, witness: Some(witness), ..Stored::default() };
    let aside = store.put_aside()?;
    // Dying before this is stored leaves no file: the same command makes it then.
    store.save(&state)?;
    Ok(Rebuilt { file: store.file(), aside, state, witness })
}
