//! `breakglass-signer check`: what only a look at the machine shows, beside the mistakes of the
//! configuration's files. It changes nothing.

use crate::arming;
use crate::materials::Materials;
use crate::past::Past;
use crate::store::Store;
use crate::time::wall_now;

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
    let past = past(materials, &mut found);
    // Keys that have to be destroyed and that no entry names any more.
    found.mistakes.extend(materials.orphans(&past).into_values());
    let arming = arming::look(materials, &past, wall_now());
    found.mistakes.extend(arming.mistakes);
    found.notes.extend(arming.notes);
    found
}

/// What is known of earlier runs, as far as whoever runs the check may read it.
fn past(materials: &Materials, found: &mut Found) -> Past {
    let config = &materials.config;
    let mut past = match Store::peek(&config.state_dir) {
        Ok(stored) => stored.past,
        Err(error) => {
            let dir = config.state_dir.display();
            found.notes.push(format!(
                "state.dir: {dir}: what is in it can not be read ({error}), so which keys are due is \
                 not known; run check as the signer's user"
            ));
            return Past::default();
        }
    };
    if config.journal_dir.is_dir()
        && let Err(error) = past.read(&config.journal_dir)
    {
        found.notes.push(format!("audit.dir: {error}"));
    }
    past
}
