//! `breakglass-signer state rebuild`: the state is gone or damaged, and made again of the journal. What
//! only the state knew is lost, so the signer then starts sealed.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use host::clock::{rfc3339, wall_now};
use signing_core::breakglass::wire::JournalHead;
use signing_core::journal::AuditKeys;

use crate::history::History;
use crate::materials::Materials;
use crate::store::{Seal, Store, Stored};

/// What was made.
#[derive(Debug)]
pub struct Rebuilt {
    file: PathBuf,
    /// Where the old one lies now, if there was one.
    aside: Option<PathBuf>,
    witness: JournalHead,
}

impl fmt::Display for Rebuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, aside, witness: JournalHead { log, size, .. } } = self;
        writeln!(f, "{}: made of the log {log} up to record {size}", file.display())?;
        if let Some(aside) = aside {
            writeln!(f, "the old file is {}", aside.display())?;
        }
        write!(
            f,
            "the signer starts sealed. How far the log once went is not known here any more: the proxy \
             knows it, and refuses an older one; hold the journals against each other with `signctl audit \
             verify --with`, then: signctl unseal --operator-socket PATH --reason WHY"
        )
    }
}

/// Makes the state of the journal, with a seal that gives `reason`.
///
/// # Errors
/// If the state is there and can be read, or the journal cannot be read; everything stays as it is.
pub fn rebuild(materials: &Materials, reason: &str) -> anyhow::Result<Rebuilt> {
    let config = &materials.config;
    let store = Store::new(&config.state_dir);
    let file = store.file();
    if file.exists() && store.read(&config.journal_dir).is_ok() {
        bail!(
            "{}: it is there and can be read, so there is nothing to rebuild; start the signer",
            file.display()
        );
    }
    let keys = AuditKeys::of_registry(&materials.registry);
    // It is locked while a signer writes it.
    let (log, head, _) = audit::in_force(&config.journal_dir, &keys).context("audit.dir")?;
    let mut history = History::default();
    history.read(&config.journal_dir, None)?;
    let witness = JournalHead::new(log, head);
    let detail = format!(
        "state: it was rebuilt of the journal ({reason}), and what only the state knew is lost; hold the \
         journal against the proxy's, then: signctl unseal --operator-socket PATH --reason WHY"
    );
    let seal = Some(Seal { at: rfc3339(wall_now()), detail });
    let aside = store.put_aside()?;
    // Dying before this is stored leaves no state: the same command makes it then.
    store.begin(&Stored { witness: Some(witness.clone()), history, seal })?;
    Ok(Rebuilt { file, aside, witness })
}
