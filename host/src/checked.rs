//! What `check` of a daemon found, said the same way by each: to people, and to programs with `--json`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::mistakes::ConfigError;
use crate::out::{self, Unprinted};

/// What was found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The configuration.
    pub file: PathBuf,
    /// What has to be mended.
    pub mistakes: Vec<String>,
    /// What deserves attention.
    pub notes: Vec<String>,
    /// Whether there is a journal, where that is known, and the same for a person; none: the
    /// configuration cannot be read at all.
    pub journal: Option<(Option<bool>, String)>,
    /// How much it names: `2 signers, 1 caller`.
    pub counted: String,
}

impl Checked {
    /// Says it on standard output. The mistakes of people are an error of their own, which the end of
    /// the process says.
    ///
    /// # Errors
    /// [`Unprinted`].
    pub fn say(self, as_json: bool) -> Result<Result<ExitCode, ConfigError>, Unprinted> {
        let Self { file, mistakes, notes, journal, counted } = self;
        let ok = mistakes.is_empty();
        if as_json {
            let journal =
                journal.map(|(is_there, detail)| json!({"is_there": is_there, "detail": detail}));
            let found = json!({"ok": ok, "mistakes": mistakes, "notes": notes, "journal": journal});
            out::report_json(&found)?;
            return Ok(Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }));
        }
        let mut lines: Vec<_> =
            journal.map(|(_, detail)| format!("journal: {detail}")).into_iter().collect();
        if !ok {
            // The mistakes are said below, whatever standard output takes.
            let _ = lines.first().map(|line| out::report(line));
            return Ok(Err(ConfigError { file, mistakes }));
        }
        lines.push(format!("{}: no mistakes; {counted}", file.display()));
        lines.extend(notes.iter().map(|note| format!("  note: {note}")));
        out::report(&lines.join("\n"))?;
        Ok(Ok(ExitCode::SUCCESS))
    }
}
