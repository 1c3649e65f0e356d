//! The configuration of the proxy: read at start and at each reload, checked whole, then
//! immutable. For every crate of the proxy, and for the tests that hold the pages against it. It knows
//! none of them: it reads one file and the environment, and nothing that the file names.
//!
//! [`Draft::load`] finds every mistake of the file; the proxy's `materials` find
//! those of the files it names, and make a [`Config`] of a draft without any.
//! Configuration can tighten the rules, never loosen them: there is no key that
//! makes the proxy sign while a proof is missing (I3).

mod aws_kms;
mod changes;
mod credential;
mod dialects;
mod fleet;
mod gate;
mod grants;
mod local;
mod parse;
mod pkcs11;
mod places;
mod traces;
mod trail;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use signing_core::admin::Role;
use signing_core::gate::Thresholds;
use signing_core::monitor::Probe;
use signing_core::policy::Rules;
use signing_core::{Caller, Kid};
use upstream::settings::{AwsKms, Pkcs11, Prefer, Proxies};

use host::{files, section};

pub use dialects::{ANSWERED, ASKED, AddedDialect};
pub use fleet::APPROVERS as FLEET_APPROVERS;
pub use grants::Rate;
pub use host::environment::{Environment, reason};
pub use host::mistakes::ConfigError;
pub use local::{Local, LocalCaller, LocalListen, Proof};
pub use traces::{Traces, TracesEndpoint};

/// A whole configuration. The files it names are read by the proxy's `materials`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this deployment.
    pub deployment: String,
    /// What kind of place this is.
    pub setting: Setting,
    /// The data plane.
    pub server: Server,
    /// Where metrics and health are served, without TLS.
    pub metrics_listen: SocketAddr,
    /// The admin socket.
    pub admin: Admin,
    /// Where freezes and seals are kept.
    pub state_dir: PathBuf,
    /// The journal.
    pub audit: Audit,
    /// `signers.json`.
    pub registry_file: PathBuf,
    /// When gates shut and open.
    pub thresholds: Thresholds,
    /// How the monitor probes.
    pub probe: Probe,
    /// The signers served, by kid.
    pub signers: BTreeMap<Kid, Signer>,
    /// Break-glass.
    pub breakglass: Breakglass,
    /// The fleet that this proxy is a member of.
    pub fleet: Option<Fleet>,
    /// The trail, as far as its sink is required.
    pub trail: Trail,
    /// Where the spans of requests go.
    pub traces: Traces,
    /// Who may use them.
    pub callers: BTreeMap<Caller, Rules>,
    /// How often those of them may ask that have a limit.
    pub caller_rates: BTreeMap<Caller, Rate>,
    /// Other names for kids.
    pub aliases: BTreeMap<String, Kid>,
}

/// What a config file says, mistaken or not. Nothing runs on it:
/// the proxy's `materials` take the configuration out once it is without mistakes, and so are its files.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Where a value is mistaken, its default stands here; where a file is not
    /// named, an empty path; where an upstream is mistaken, nothing.
    pub config: Config,
    /// Every kid under `[[signers]]`, also of mistaken upstreams.
    pub kids: BTreeSet<Kid>,
    /// One sentence each: the key, the value, the fix.
    pub mistakes: Vec<String>,
}

/// What kind of place the proxy runs in. Production is the default; the others
/// allow what production refuses, and only they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The real thing.
    Production,
    /// Automated tests: a KMS endpoint on loopback may be `http://`.
    Test,
    /// A developer's machine: also the development provider.
    Development,
}

/// The data plane's listener and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where `/sign` is served, over mutual TLS.
    pub listen: SocketAddr,
    /// Certificates.
    pub tls: mtls::Files,
    /// The local doors: callers of this machine, without certificates.
    pub local: Vec<Local>,
    /// Dialects beside our own.
    pub dialects: Vec<AddedDialect>,
    /// Connections at once; one more is closed after its handshake.
    pub connections_max: usize,
    /// Connections of one caller at once; one more is closed after its handshake.
    pub connections_per_caller_max: usize,
    /// Handshakes under way at once; for one more, the oldest silent one is closed.
    pub handshakes_max: usize,
    /// Of which from one IPv4 address or IPv6 /64.
    pub handshakes_per_address_max: usize,
    /// Request bodies in memory at once, all together.
    pub bodies_max_bytes: usize,
    /// Of which of one caller.
    pub bodies_per_caller_max_bytes: usize,
    /// Answers that clients have not taken: their bytes, all together.
    pub answers_max_bytes: usize,
    /// Of which to one caller.
    pub answers_per_caller_max_bytes: usize,
    /// Of which on one connection.
    pub answers_per_connection_max_bytes: usize,
    /// Requests in flight at once; one more is refused at once.
    pub requests_in_flight_max: usize,
    /// Of which of one caller.
    pub requests_in_flight_per_caller_max: usize,
    /// Streams at once in one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// TLS handshake, from accept to finished.
    pub handshake_timeout: Duration,
    /// From an idle connection to a whole request head.
    pub header_read_timeout: Duration,
    /// A whole body.
    pub body_read_timeout: Duration,
    /// From an answer that is ready until the client has read it.
    pub write_timeout: Duration,
    /// From the whole request to its answer; callers can only shorten it.
    pub request_timeout: Duration,
    /// A connection older than this is asked to go.
    pub connection_age_max: Duration,
    /// All headers of a request together.
    pub headers_max_bytes: usize,
    /// A request body.
    pub body_max_bytes: usize,
    /// How long a stop waits for what is in flight.
    pub drain_timeout: Duration,
}

/// The admin socket and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// Who has every role.
    pub allowed: Members,
    /// Who has which role beside that.
    pub roles: BTreeMap<Role, Members>,
}

/// Users and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// By user id.
    pub uids: Vec<u32>,
    /// By primary group.
    pub gids: Vec<u32>,
}

impl Members {
    fn has(&self, uid: u32, gid: u32) -> bool {
        self.uids.contains(&uid) || self.gids.contains(&gid)
    }

    /// Whether nobody is among them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }
}

impl Admin {
    /// The keys of `[admin]` that say who has a role.
    #[must_use]
    pub const fn keys(role: Role) -> (&'static str, &'static str) {
        match role {
            Role::Observer => ("observer_uids", "observer_gids"),
            Role::Operator => ("operator_uids", "operator_gids"),
            Role::Security => ("security_uids", "security_gids"),
            Role::Fleet => ("fleet_uids", "fleet_gids"),
        }
    }

    /// What a peer is: the roles of its user and of its primary group.
    #[must_use]
    pub fn roles_of(&self, uid: u32, gid: u32) -> Vec<Role> {
        let has = |role: &Role| {
            let members = self.roles.get(role).is_some_and(|members| members.has(uid, gid));
            members || self.allowed.has(uid, gid)
        };
        Role::ALL.into_iter().filter(has).collect()
    }

    /// Everybody who may use the socket, with the key that says so.
    #[must_use]
    pub fn everybody(&self) -> Vec<(&'static str, &'static str, &Members)> {
        let roles = self.roles.iter().map(|(role, members)| {
            let (uids, gids) = Self::keys(*role);
            (uids, gids, members)
        });
        std::iter::once(("allowed_uids", "allowed_gids", &self.allowed)).chain(roles).collect()
    }
}

/// The journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Its directory.
    pub dir: PathBuf,
    /// PKCS#8 PEM of the audit key.
    pub key_file: PathBuf,
    /// The audit key before that one, for the first start with it.
    pub previous_key_file: Option<PathBuf>,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// The group that may read it.
    pub reader_group: Option<u32>,
}

/// Break-glass, as far as the proxy has to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breakglass {
    /// How long an outage has to last before a session may begin.
    pub min_outage: Duration,
    /// The socket of `breakglass-signer`; none: there is no break-glass here.
    pub signer_socket: Option<PathBuf>,
    /// One emergency signature.
    pub sign_timeout: Duration,
}

/// A fleet, as its members' configurations describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Its name, the same at every member.
    pub name: String,
    /// What applies while it is not heard, and after how long.
    pub rules: signing_core::fleet::Rules,
    /// Who may end its freezes.
    pub approvers: approvers::Settings,
}

/// What is said of the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail {
    /// The socket of a trail without whose word nothing is released; none: nothing waits for it.
    pub required_socket: Option<PathBuf>,
    /// The user that it has to run as.
    pub uid: Option<u32>,
    /// How long a release waits for the word that its record is committed.
    pub commit_timeout: Duration,
}

impl Trail {
    /// The trail whose sink is required, if one is.
    #[must_use]
    pub fn required(&self) -> Option<RequiredTrail> {
        let Self { required_socket, uid, commit_timeout } = self.clone();
        // Without a user no configuration is taken: nobody has this one.
        let uid = uid.unwrap_or(u32::MAX);
        Some(RequiredTrail { socket: required_socket?, uid, commit_timeout })
    }
}

/// A trail without whose word nothing is released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredTrail {
    /// Its socket.
    pub socket: PathBuf,
    /// The user that it has to run as.
    pub uid: u32,
    /// How long a release waits for the word that its record is committed.
    pub commit_timeout: Duration,
}

/// A signer's upstreams, which all hold its one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// In the order in which they are asked, at least one.
    pub upstreams: Vec<Reached>,
    /// Whether that order or their latency decides.
    pub prefer: Prefer,
    /// How its batches gather, if the registry says that it is a batch signer.
    pub batch: BatchLimits,
}

/// How batches gather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Leaves of one batch; a full batch goes at once.
    pub leaves_max: usize,
    /// How long a batch that could go waits for more leaves.
    pub wait: Duration,
    /// How long a call in progress holds a batch that is not full.
    pub hold: Duration,
}

/// An upstream, and how much may be asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// What it is.
    pub upstream: Upstream,
    /// Calls per second; none: no limit of ours.
    pub requests_per_second_max: Option<u32>,
}

/// A way to reach a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// A key in AWS KMS.
    AwsKms(AwsKms),
    /// A key on a PKCS#11 token.
    Pkcs11(Pkcs11),
    /// A key in a file, for development only.
    Development {
        /// PKCS#8 PEM.
        key_file: PathBuf,
    },
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
    Ok(parse::parse(section::table(text)?, directory, environment).mistakes)
}

/// What deserves attention in the environment, one sentence each.
#[must_use]
pub fn environment_notes(environment: &Environment) -> Vec<String> {
    let variables: Vec<_> =
        aws_kms::variables().chain([credential::CREDENTIALS]).chain(Proxies::variables()).collect();
    environment.notes(parse::PREFIX, &variables)
}

impl Draft {
    /// Reads a config file, with the environment laid over it.
    ///
    /// # Errors
    /// Only if nothing can be made of the file at all: it cannot be read, or
    /// is not TOML. Every other mistake is in the draft.
    pub fn load(file: &Path, environment: &Environment) -> Result<Self, ConfigError> {
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
