//! The configuration: parsed into values that cannot be wrong, every mistake at once.

mod notify;
mod parse;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use host::environment::Environment;
use host::mistakes::ConfigError;
use host::{files, section};
use signing_core::replica::ReplicaName;

use crate::archive::place::Settings;
use crate::event::Owner;
use crate::postgres::Place;

pub(crate) use notify::POLICY_NAME;
pub use notify::{Endpoint, Form, Notify, Policy, Url, Webhook};

/// What the file and the environment say.
#[derive(Clone, Debug)]
pub struct Config {
    /// The journals' directories.
    pub journals: Vec<(Owner, PathBuf)>,
    /// PKCS#8 PEM of the trail's own audit key.
    pub key_file: PathBuf,
    /// The registry.
    pub registry_file: PathBuf,
    /// The database.
    pub postgres: Place,
    /// Rows in one transaction, about.
    pub batch_rows: usize,
    /// The archive, if there is one.
    pub archive: Option<Settings>,
    /// Where metrics and the status are served.
    pub listen: SocketAddr,
    /// The fleet that the proxy on this machine is a member of.
    pub fleet: Option<Fleet>,
    /// The socket of a proxy that releases nothing before the database holds its record.
    pub required: Option<RequiredSocket>,
    /// What outlives the volume of the journals.
    pub replica: Option<ReplicaName>,
    /// Who is notified of what.
    pub notify: Notify,
    /// The service whose verdicts on break-glass are stored.
    pub policy: Option<Policy>,
}

/// What the agent of a fleet needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The proxy's admin socket.
    pub socket: PathBuf,
    /// What freezes for some members only are held against: `region=eu-1`.
    pub labels: BTreeSet<String>,
}

/// Where a proxy hears what is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredSocket {
    /// The path.
    pub socket: PathBuf,
    /// The users that may ask.
    pub uids: Vec<u32>,
}

impl Config {
    /// Reads a config file, with the environment laid over it, and the mistakes in it.
    ///
    /// # Errors
    /// Only if nothing can be made of the file at all.
    pub fn draft(
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
