//! `breakglass-signer check`: what only a look at the machine shows, beside the mistakes of the
//! configuration's files. It changes nothing.

use crate::materials::Materials;
use crate::store::Store;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// What has to be mended.
    pub mistakes: Vec<String>,
    /// What deserves attention.
    pub notes: Vec<String>,
}

/// Looks.
#[must_use]
pub fn look(materials: &Materials) -> Found {
    let mut found = Found { mistakes: Vec::new(), notes: materials.notes() };
    due(materials, &mut found);
    found
}

/// Keys that have to be destroyed and that no entry names any more.
fn due(materials: &Materials, found: &mut Found) {
    let config = &materials.config;
    let mut past = match Store::peek(&config.state_dir) {
        Ok(stored) => stored.past,
        Err(error) => {
            let dir = config.state_dir.display();
            found.notes.push(format!(
                "state.dir: {dir}: what is in it can not be read ({error}), so which keys are due is \
                 not known; run check as the signer's user"
            ));
            return;
        }
    };
    if config.journal_dir.is_dir()
        && let Err(error) = past.read(&config.journal_dir)
    {
        found.notes.push(format!("audit.dir: {error}"));
    }
    found.mistakes.extend(materials.orphans(&past).into_values());
}
