//! What a webhook was told, on disk: how far each journal was read, what is in force there, and what
//! waits to be delivered. Written whole, beside, and then put in place: whoever dies between a
//! delivery and this delivers once more, under the same id.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use host::files;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use signing_core::json;
use signing_core::tree::{LogId, TreeHash};

use super::feed::Cursor;
use super::standing::Standing;

const VERSION: u32 = 1;
/// More waits nowhere but in the journals.
pub(crate) const PENDING_MAX: usize = 32;

/// Everything that is kept for a webhook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    version: u32,
    /// By the word of their owner.
    pub(crate) journals: BTreeMap<String, Journal>,
    /// By sink and journal.
    pub(crate) sinks: BTreeMap<String, Sink>,
    /// Bodies that wait, the oldest first.
    pub(crate) pending: Vec<Map<String, Value>>,
}

/// What is kept of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    log: String,
    size: u64,
    root: Option<String>,
    seq: u64,
    /// Records up to here were there before the webhook: they are heard and not told.
    pub(crate) quiet_until: u64,
    pub(crate) standing: Standing,
}

/// What a webhook was told of a sink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sink {
    pub(crate) is_behind: bool,
    pub(crate) missing: u64,
}

/// Where it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Place(PathBuf);

impl Journal {
    pub(crate) fn new(cursor: Cursor, quiet_until: u64) -> Self {
        let mut journal = Self {
            log: String::new(),
            size: 0,
            root: None,
            seq: 0,
            quiet_until,
            standing: Standing::default(),
        };
        journal.set(cursor);
        journal
    }

    /// How far it was read; none: this is not in a form that the trail writes.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        let root = match &self.root {
            Some(root) => Some(TreeHash::parse_base64(root)?),
            None => None,
        };
        Some(Cursor { log: LogId::parse(&self.log)?, size: self.size, root, seq: self.seq })
    }

    pub(crate) fn set(&mut self, cursor: Cursor) {
        let Cursor { log, size, root, seq } = cursor;
        self.log = log.to_string();
        self.root = root.map(|root| root.to_base64());
        (self.size, self.seq) = (size, seq);
    }
}

impl Place {
    pub(crate) fn new(directory: &Path, webhook: &str) -> Self {
        Self(directory.join(format!("{webhook}.json")))
    }

    /// What is kept there; none: nothing yet.
    pub(crate) fn read(&self) -> Result<Option<State>, String> {
        let wrong = |what: String| {
            format!("{}: {what}; remove the file: then notifications begin anew", self.0.display())
        };
        let bytes = match files::read(&self.0) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", self.0.display())),
        };
        let text = files::text(bytes).map_err(|error| wrong(error.to_string()))?;
        let state: State =
            json::from_str(&text).map_err(|error| wrong(format!("is damaged: {error}")))?;
        let is_read = state.version == VERSION
            && state.journals.values().all(|journal| journal.cursor().is_some());
        if is_read { Ok(Some(state)) } else { Err(wrong("is of another version".to_owned())) }
    }

    /// Keeps that.
    pub(crate) fn write(&self, state: &State) -> Result<(), String> {
        let written = serde_json::to_vec(state).map_err(io::Error::other);
        let written = written.and_then(|bytes| self.replace(&bytes));
        written.map_err(|error| format!("{}: cannot be written: {error}", self.0.display()))
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let beside = self.0.with_extension("new");
        // Reasons and incidents are for nobody else on this machine.
        let mut options = File::options();
        options.create(true).write(true).truncate(true).mode(0o600);
        let mut file = files::open_with(&mut options, &beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // Dying here leaves what was before, whole.
        fs::rename(&beside, &self.0)?;
        let directory = self.0.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

impl State {
    pub(crate) fn new() -> Self {
        Self { version: VERSION, ..Self::default() }
    }
}
