//! The evidence of an incident, as a directory of files with one list of their SHA-256: `sha256sum -c
//! SHA256SUMS` checks it anywhere, and the SHA-256 of that list stands in the journal.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use aws_lc_rs::digest;
use clap::Args;
use host::clock::{rfc3339_seconds, wall_now};
use http::Uri;
use serde_json::{Map, Value, json};
use signing_core::admin::{Nothing, ProxyStatus, path};
use signing_core::incident::IncidentId;
use trail::postgres::Place;

use super::redact::redact;
use crate::audit;
use crate::client::{self, Reply};
use crate::fleet;

/// The list of files, as `sha256sum` writes and checks it.
const LIST: &str = "SHA256SUMS";

/// Where the evidence is.
#[derive(Args, Clone)]
pub(super) struct Sources {
    /// The proxy's configuration; it is copied without its secrets.
    #[arg(
        long,
        value_name = "FILE",
        env = "SIGNCTL_PROXY_CONFIG",
        default_value = "/etc/signing-proxy/signing-proxy.toml"
    )]
    config: PathBuf,
    /// The emergency signer's configuration.
    #[arg(
        long,
        value_name = "FILE",
        env = "SIGNCTL_SIGNER_CONFIG",
        default_value = "/etc/breakglass-signer/breakglass-signer.toml"
    )]
    signer_config: PathBuf,
    /// The proxy's journal; else where the proxy says.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// The emergency signer's journal.
    #[arg(
        long,
        value_name = "DIR",
        env = "SIGNCTL_SIGNER_JOURNAL",
        default_value = "/var/lib/breakglass-signer/journal"
    )]
    signer_journal: PathBuf,
    /// The registry with the audit keys; else the keys that the journals name, which proves less.
    #[arg(long, value_name = "FILE", env = "SIGNCTL_SIGNERS")]
    signers: Option<PathBuf>,
    /// The metrics listener.
    #[arg(
        long,
        value_name = "URL",
        env = "SIGNCTL_METRICS_URL",
        default_value = "http://127.0.0.1:9464/metrics",
        value_parser = client::health_url
    )]
    metrics_url: Uri,
    /// How many of the newest records of each journal.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    records: u64,
}

/// What was written.
pub(super) struct Bundle {
    /// The new directory that the bundle is written into.
    pub(super) directory: PathBuf,
    /// SHA-256 of its list, in hex.
    pub(super) sha256: String,
    /// What was to be in it.
    pub(super) parts: Vec<Part>,
}

/// A part of the evidence.
pub(super) struct Part {
    what: &'static str,
    /// Its files with their contents, or why there are none.
    found: Result<Vec<(String, Vec<u8>)>, String>,
    /// What was found to be wrong with it.
    wrong: Option<String>,
}

impl Part {
    fn of(what: &'static str, found: anyhow::Result<Vec<(String, Vec<u8>)>>) -> Self {
        Self { what, found: found.map_err(|error| format!("{error:#}")), wrong: None }
    }

    /// What a flag of this verb says where to find.
    fn of_flag(
        (what, flag): (&'static str, &str),
        found: anyhow::Result<Vec<(String, Vec<u8>)>>,
    ) -> Self {
        let found = found.map_err(|error| anyhow!("{error:#}; {flag} names another place"));
        Self::of(what, found)
    }

    /// Whether it is there, and nothing is wrong with it.
    pub(super) fn is_captured(&self) -> bool {
        self.missing().is_none()
    }

    /// What is not as it should be, and why.
    pub(super) fn missing(&self) -> Option<(&'static str, &str)> {
        let why = self.found.as_ref().err().or(self.wrong.as_ref())?;
        Some((self.what, why))
    }

    pub(super) fn to_json(&self) -> Value {
        let files: Vec<_> = self.found.iter().flatten().map(|(name, _)| name).collect();
        json!({"part": self.what, "files": files, "missing": self.missing().map(|(_, why)| why)})
    }
}

/// Captures the state into a new directory. The parts are captured side by side; what has not come at
/// `until` is left out, so that a source that hangs does not keep the rest.
///
/// # Errors
/// If the directory cannot be written. What cannot be captured is no error: the part says why.
pub(super) fn capture(
    socket: &Path,
    incident: &IncidentId,
    out: Option<&Path>,
    sources: &Sources,
    fleet: Option<(Place, Option<Value>)>,
    until: Instant,
) -> anyhow::Result<Bundle> {
    let at = rfc3339_seconds(wall_now());
    let named = || PathBuf::from(format!("incident-{incident}-{}", at.replace(':', "")));
    let directory = out.map_or_else(named, Path::to_owned);
    let made = DirBuilder::new().mode(0o700).create(&directory);
    made.with_context(|| {
        format!("--out {}: it must be a new directory in an existing one", directory.display())
    })?;
    let mut jobs = jobs(socket, sources);
    jobs.extend(fleet.map(of_fleet));
    let parts = gather(jobs, until);
    let about = json!({
        "incident": incident, "at": at, "signctl": env!("CARGO_PKG_VERSION"),
        "parts": parts.iter().map(Part::to_json).collect::<Vec<_>>(),
    });
    let mut files = vec![("incident.json".to_owned(), pretty(&about)?)];
    files.extend(parts.iter().flat_map(|part| part.found.iter().flatten().cloned()));
    let sha256 = write(&directory, &files)?;
    Ok(Bundle { directory, sha256, parts })
}

/// What captures a part. None: this proxy has no such part.
type Job = Box<dyn FnOnce() -> Option<Part> + Send>;

fn jobs(socket: &Path, sources: &Sources) -> Vec<(&'static str, Job)> {
    let (socket, sources) = (Arc::<Path>::from(socket), Arc::new(sources.clone()));
    let job = |what, capture: fn(&Path, &Sources) -> Option<Part>| {
        let (socket, sources) = (Arc::clone(&socket), Arc::clone(&sources));
        (what, Box::new(move || capture(&socket, &sources)) as Job)
    };
    vec![
        job("status", |socket, _| Some(answer("status", || client::get(socket, path::STATUS)))),
        job("breakglass", |socket, _| {
            Some(answer("breakglass", || client::get(socket, path::BREAKGLASS)))
        }),
        job("doctor", |socket, _| {
            Some(answer("doctor", || client::post(socket, path::DOCTOR, &Nothing {})))
        }),
        job("metrics", |_, sources| {
            let metrics = client::get_text(&sources.metrics_url);
            let metrics = metrics.map(|text| vec![("metrics.txt".to_owned(), text)]);
            Some(Part::of_flag(("metrics", "--metrics-url URL"), metrics))
        }),
        job("configuration", |_, sources| {
            let copied = copied(&sources.config, "signing-proxy.toml");
            Some(Part::of_flag(("configuration", "--config FILE"), copied))
        }),
        job("journal", |socket, sources| {
            let journal = sources.journal.clone().map_or_else(|| journal_of(socket), Ok);
            Some(records(("journal", "--journal DIR"), journal, sources))
        }),
        job("signer-configuration", |socket, sources| {
            names_a_signer(socket).then(|| {
                let copied = copied(&sources.signer_config, "breakglass-signer.toml");
                Part::of_flag(("signer-configuration", "--signer-config FILE"), copied)
            })
        }),
        job("signer-journal", |socket, sources| {
            let journal = || Ok(sources.signer_journal.clone());
            let flag = "--signer-journal DIR";
            names_a_signer(socket).then(|| records(("signer-journal", flag), journal(), sources))
        }),
    ]
}

/// How every member of the fleet is, and what became of its freeze at each, if that is known.
fn of_fleet((place, frozen): (Place, Option<Value>)) -> (&'static str, Job) {
    let capture = move || {
        let (mut members, why) = match fleet::status_of(&place) {
            Ok(members) => (members, None),
            Err(error) => (Map::new(), Some(error)),
        };
        let wrong = match (&frozen, why) {
            (None, Some(error)) => return Some(Part::of("fleet", Err(error))),
            (_, why) => why.map(|error| format!("{error:#}")),
        };
        members.insert("freeze".to_owned(), frozen.unwrap_or_default());
        let file = pretty(&members.into()).map(|bytes| vec![("fleet.json".to_owned(), bytes)]);
        Some(Part { wrong, ..Part::of("fleet", file) })
    };
    ("fleet", Box::new(capture))
}

/// Runs the jobs side by side, and takes what has come at `until`. A job that hangs ends with the program.
fn gather(jobs: Vec<(&'static str, Job)>, until: Instant) -> Vec<Part> {
    let began = Instant::now();
    let waiting: Vec<_> = jobs
        .into_iter()
        .map(|(what, job)| {
            let (give, take) = mpsc::sync_channel(1);
            // Whoever took the rest may be gone.
            let thread = thread::Builder::new().spawn(move || drop(give.send(job())));
            (what, thread.map(|_| take))
        })
        .collect();
    let parts = waiting.into_iter().filter_map(|(what, take)| {
        let take = match take {
            Ok(take) => take,
            Err(error) => return Some(Part::of(what, Err(error.into()))),
        };
        match take.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(part) => part,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = until.saturating_duration_since(began).as_secs();
                Some(Part::of(what, Err(anyhow!("it did not come within {seconds} s"))))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Some(Part::of(what, Err(anyhow!("capturing it broke off"))))
            }
        }
    });
    parts.collect()
}

/// Writes the files, then the list: a bundle without a list was not finished.
fn write(directory: &Path, files: &[(String, Vec<u8>)]) -> anyhow::Result<String> {
    let mut list = String::new();
    for (name, bytes) in files {
        put(&directory.join(name), bytes)?;
        list.push_str(&format!("{}  {name}\n", sha256(bytes)));
    }
    put(&directory.join(LIST), list.as_bytes())?;
    File::open(directory)?.sync_all()?;
    Ok(sha256(list.as_bytes()))
}

fn put(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = opened.and_then(|mut out| out.write_all(bytes).and_then(|()| out.sync_all()));
    written.with_context(|| file.display().to_string())
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

fn pretty(value: &Value) -> anyhow::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// An answer of the proxy, as a file of that name. That something is not well is evidence, and no failure.
fn answer(what: &'static str, ask: impl FnOnce() -> anyhow::Result<Reply>) -> Part {
    let found = ask().and_then(|reply| match reply.status {
        200 => Ok(vec![(format!("{what}.json"), pretty(&reply.body)?)]),
        _ => Err(anyhow!(reply.refused())),
    });
    Part::of(what, found)
}

fn journal_of(socket: &Path) -> anyhow::Result<PathBuf> {
    let status: ProxyStatus = client::get(socket, path::STATUS)?.read()?;
    Ok(PathBuf::from(status.audit.directory))
}

/// Whether this proxy has an emergency signer; one that does not say is asked for it.
pub(crate) fn names_a_signer(socket: &Path) -> bool {
    let said = client::get(socket, path::BREAKGLASS);
    let said = said.and_then(|reply| reply.read::<signing_core::admin::breakglass::Breakglass>());
    said.map_or(true, |said| said.configured)
}

/// A configuration without its secrets.
fn copied(file: &Path, name: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let shown = file.display();
    let text = host::files::read_text(file).with_context(|| shown.to_string())?;
    let clean = redact(&text).map_err(|why| anyhow!("{shown}: {why}"))?;
    Ok(vec![(name.to_owned(), clean.into_bytes())])
}

/// The newest records of a journal, and what verifying them found.
fn records(
    (what, flag): (&'static str, &str),
    journal: anyhow::Result<PathBuf>,
    sources: &Sources,
) -> Part {
    let read = |journal: PathBuf| {
        let verified = audit::verified(&journal, sources.signers.as_deref(), sources.records)?;
        let lines = audit::newest_records(&journal, sources.records)?;
        anyhow::Ok((verified, lines))
    };
    match journal.and_then(read) {
        Ok(((report, defect), lines)) => {
            let report = pretty(&report);
            let files = report.map(|report| {
                vec![(format!("{what}.verified.json"), report), (format!("{what}.jsonl"), lines)]
            });
            let wrong = defect.map(|defect| format!("it does not verify: {defect}"));
            Part { wrong, ..Part::of(what, files) }
        }
        Err(error) => Part::of_flag((what, flag), Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn job(
        what: &'static str,
        job: impl FnOnce() -> Option<Part> + Send + 'static,
    ) -> (&'static str, Job) {
        (what, Box::new(job))
    }

    #[test]
    fn a_source_that_hangs_is_said() {
        let (never, hangs) = mpsc::sync_channel::<()>(1);
        let hangs = move || hangs.recv().ok().map(|()| Part::of("a", Ok(Vec::new())));
        let parts = gather(vec![job("a", hangs)], Instant::now());
        drop(never);
        let missing: Vec<_> = parts.iter().filter_map(Part::missing).collect();
        assert_eq!(missing, [("a", "it did not come within 0 s")]);
    }

    #[test]
    fn what_comes_in_time_is_there_and_what_is_not_needed_is_not_missed() {
        let found = || Some(Part::of("b", Ok(vec![("b.json".to_owned(), Vec::new())])));
        let broken = || panic!("a part that breaks off");
        let jobs = vec![job("b", found), job("c", || None), job("d", broken)];
        let parts = gather(jobs, Instant::now() + Duration::from_secs(60));
        let seen: Vec<_> = parts.iter().map(|part| (part.what, part.missing())).collect();
        assert_eq!(seen, [("b", None), ("d", Some(("d", "capturing it broke off")))]);
    }
}
