//! The configuration: parsed into values that cannot be wrong, every mistake at once.

mod parse;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::environment::Environment;
use host::{files, section};
use signing_core::Kid;
use signing_core::breakglass::Caps;
use signing_core::breakglass::activation::ApprovalRules;

pub use host::mistakes::ConfigError;

/// What the file and the environment say.
#[derive(Clone, Debug)]
pub struct Config {
    /// The deployment, which has to be the proxy's.
    pub deployment: String,
    /// Whether the development switch is on.
    pub development: bool,
    /// The proxy's socket.
    pub signer: Socket,
    /// The operators' socket.
    pub operator: Socket,
    /// Where it keeps what is not in its journal.
    pub state_dir: PathBuf,
    /// The journal's directory.
    pub journal_dir: PathBuf,
    /// The group that may read it.
    pub reader_group: Option<u32>,
    /// PKCS#8 PEM of the audit key.
    pub audit_key_file: PathBuf,
    /// The audit key before that one, for the first start with it.
    pub previous_audit_key_file: Option<PathBuf>,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// The registry.
    pub registry_file: PathBuf,
    /// The approvers.
    pub approvers_file: PathBuf,
    /// Which principals have which role.
    pub roles: BTreeMap<String, Vec<String>>,
    /// What approvals have to be.
    pub rules: ApprovalRules,
    /// The emergency keys' files.
    pub keys: BTreeMap<Kid, PathBuf>,
    /// Where copies of each are, by a name: they are out of this process's reach.
    pub copies: BTreeMap<Kid, Vec<String>>,
    /// Limits, whatever is approved.
    pub caps: Caps,
    /// How long an outage has to be.
    pub min_outage: Duration,
    /// How soon after a session its key has to be destroyed.
    pub destruction_within: Duration,
}

/// A socket, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The socket's path.
    pub path: PathBuf,
    /// Users.
    pub allowed_uids: Vec<u32>,
}

/// Every mistake of a config file's text by itself, without the files that it names.
///
/// # Errors
/// If it is no TOML at all.
pub fn mistakes(
    text: &str,
    directory: &Path,
    environment: &Environment,
) -> Result<Vec<String>, String> {
    Ok(parse::parse(section::table(text)?, directory, environment).1)
}

/// What deserves attention in the environment, one sentence each.
#[must_use]
pub fn environment_notes(environment: &Environment) -> Vec<String> {
    environment.notes(parse::PREFIX, &[])
}

impl Config {
    /// Reads a config file, with the environment laid over it, and the mistakes in it.
    ///
    /// # Errors
    /// Only if nothing can be made of the file at all.
    pub(crate) fn draft(
        file: &Path,
        environment: &Environment,
    ) -> Result<(Self, Vec<String>), ConfigError> {
        let error = |mistake| ConfigError { file: file.to_owned(), mistakes: vec![mistake] };
        let text = files::read_text(file)
            .map_err(|why| error(format!("cannot be read: {why}; name a config file")))?;
        let directory = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let table = section::table(&text).map_err(error)?;
        Ok(parse::parse(table, directory, environment))
    }
}
