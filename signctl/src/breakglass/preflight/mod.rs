//! `signctl breakglass preflight`: whether a ceremony could succeed now, asked while there is time to mend
//! what could not. It changes nothing; with --passphrase the emergency signer opens each key once.

mod conditions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use host::out;
use http::header::DATE;
use nix::sys::statvfs::statvfs;
use serde_json::json;
use signctl::target::Target;
use signing_core::Registry;
use signing_core::admin::breakglass::Breakglass;
use signing_core::admin::{ProxyStatus, path};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

use super::review::sources::{Copies, registry};
use super::{operator, unlock};
use crate::client;
use crate::https::{self, Trust};
use crate::socket::Socket;
use conditions::{Condition, Evidence, judge};

/// Longest registry that a server may send.
const REGISTRY_MAX_BYTES: usize = 16 << 20;
/// How long a server of a copy may take.
const COPY_MAX: Duration = Duration::from_secs(10);

/// Where all of it is.
#[derive(Args)]
pub(super) struct Flags {
    #[command(flatten)]
    held: Copies,
    /// Another copy of signers.json that verifiers take: a file, or a URL such as
    /// https://signing-proxy:8443/v1/signers; once for each.
    #[arg(long = "copies", value_name = "FILE|URL")]
    copies: Vec<String>,
    /// PEM of the authority behind https:// copies; else the platform's.
    #[arg(long, value_name = "FILE", env = "SIGNING_PROXY_CA")]
    ca: Option<PathBuf>,
    /// PEM of a client certificate for https:// copies.
    #[arg(long, value_name = "FILE", env = "SIGNING_PROXY_CLIENT_CERT", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// PEM of its private key.
    #[arg(long, value_name = "FILE", env = "SIGNING_PROXY_CLIENT_KEY", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Ask for the passphrase, and have the emergency signer open each key once. Nothing is armed.
    #[arg(long)]
    passphrase: bool,
    /// The emergency signer's operator socket.
    #[arg(
        long,
        value_name = "PATH",
        env = "SIGNCTL_OPERATOR_SOCKET",
        default_value = "/run/breakglass-signer/operator.sock"
    )]
    operator_socket: PathBuf,
    /// The emergency signer's journal, for which its disk needs room.
    #[arg(
        long,
        value_name = "DIR",
        env = "SIGNCTL_SIGNER_JOURNAL",
        default_value = "/var/lib/breakglass-signer/journal"
    )]
    signer_journal: PathBuf,
    #[command(flatten)]
    pub(super) socket: Socket,
}

/// Asks everybody, and judges. Exit 0 only if each condition that was looked at is met.
pub(super) fn run(flags: &Flags, socket: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let conditions = judge(&flags.evidence(socket)?);
    let is_ready = conditions.iter().all(|condition| condition.is_met != Some(false));
    if as_json {
        let conditions: Vec<_> = conditions.iter().map(Condition::json).collect();
        out::report_json(&json!({"ok": is_ready, "conditions": conditions}))?;
    } else {
        out::report(&words(&conditions, is_ready))?;
    }
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong first.
fn words(conditions: &[Condition], is_ready: bool) -> String {
    let mut lines = vec![if is_ready {
        "READY: no check found anything that would stop a break-glass ceremony".to_owned()
    } else {
        "NOT READY: a break-glass ceremony would fail now".to_owned()
    }];
    for (state, word) in [(Some(false), "FAILED"), (None, "-"), (Some(true), "ok")] {
        let of_state = conditions.iter().filter(|condition| condition.is_met == state);
        lines.extend(
            of_state.map(|Condition { word: name, says, .. }| {
                format!("  {word:<6}  {name:<10}  {says}")
            }),
        );
    }
    lines.join("\n")
}

impl Flags {
    fn evidence(&self, socket: &Path) -> anyhow::Result<Evidence> {
        let signer = operator::state(&self.operator_socket).map_err(said);
        // Before anybody is asked for a passphrase it is known for which keys.
        let opened = match &signer {
            Ok(signer) if self.passphrase => {
                Some(self.opened(&unlock::ready(signer), &unlock::passphrase()?))
            }
            Ok(_) | Err(_) => self.passphrase.then(BTreeMap::new),
        };
        let proxy = client::get(socket, path::BREAKGLASS).and_then(|reply| match reply.refusal() {
            Some(_) => bail!(reply.refused()),
            None => reply.read::<Breakglass>(),
        });
        let now = host::clock::wall_now();
        let proxy_clock = proxy.as_ref().ok().map(|known| {
            let shown = known.now.as_deref().unwrap_or_default();
            let shown = OffsetDateTime::parse(shown, &Rfc3339);
            ("the proxy".to_owned(), shown.map_err(|_| "it does not say".to_owned()), now)
        });
        let signer_clock = operator::clock(&self.operator_socket).map_err(said);
        let signer_clock =
            ("the emergency signer".to_owned(), signer_clock, host::clock::wall_now());
        let mut clocks: Vec<_> = proxy_clock.into_iter().chain([signer_clock]).collect();
        let mut copies = Vec::new();
        for at in &self.copies {
            let (copy, clock) = self
                .copy(at)
                .map_or_else(|error| (Err(said(error)), None), |(copy, clock)| (Ok(copy), clock));
            copies.push((at.clone(), copy));
            clocks.extend(clock.map(|shown| (at.clone(), Ok(shown), host::clock::wall_now())));
        }
        Ok(Evidence {
            proxy: proxy.map_err(said),
            signer,
            clocks,
            registry: self.held.registry(),
            who: self.held.who(),
            copies,
            opened,
            disks: self.disks(socket),
            now,
        })
    }

    fn opened(&self, kids: &[&str], passphrase: &[u8]) -> BTreeMap<String, Result<(), String>> {
        let tried = kids.iter().map(|kid| {
            let opened = operator::open(&self.operator_socket, kid, passphrase).map_err(said);
            let opened = opened.and_then(|opened| opened.map_err(|(_, detail)| detail));
            ((*kid).to_owned(), opened)
        });
        tried.collect()
    }

    /// A copy, and what the clock of its server shows.
    fn copy(&self, at: &str) -> anyhow::Result<(Registry, Option<OffsetDateTime>)> {
        if !at.starts_with("https://") && !at.starts_with("http://") {
            return registry(Path::new(at)).map(|copy| (copy, None)).map_err(|why| anyhow!(why));
        }
        let target = Target::parse(at, "").map_err(|why| anyhow!(why))?;
        let trust = Trust {
            ca: self.ca.clone(),
            certificate: self.client_cert.clone(),
            key: self.client_key.clone(),
            // In clear anybody on the way could send what is expected.
            loopback_only: !target.encrypted,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(async {
            let asked = https::get(&target, &trust, REGISTRY_MAX_BYTES);
            tokio::time::timeout(COPY_MAX, asked).await
        });
        let answer = answer
            .map_err(|_| anyhow!("no answer within {} s", COPY_MAX.as_secs()))?
            .map_err(|failure| anyhow!("{}", failure.detail))?;
        if answer.status != 200 {
            bail!("answers {}, and no registry", answer.status);
        }
        let text = String::from_utf8(answer.body.to_vec())?;
        let copy = Registry::from_json(&text).map_err(|mistakes| anyhow!(mistakes.join("; ")))?;
        let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok());
        Ok((copy, date))
    }

    /// How much is free for each journal.
    fn disks(&self, socket: &Path) -> Vec<(PathBuf, Result<u64, String>)> {
        let proxy = client::get(socket, path::STATUS).and_then(|reply| reply.read::<ProxyStatus>());
        let mut directories = vec![self.signer_journal.clone()];
        let mut unknown = Vec::new();
        match proxy {
            Ok(proxy) => directories.push(PathBuf::from(proxy.audit.directory)),
            Err(error) => unknown.push((PathBuf::from("the proxy's journal"), Err(said(error)))),
        }
        let found = directories.into_iter().map(|directory| {
            let free = statvfs(&directory).map_err(|errno| errno.desc().to_owned());
            let free =
                free.map(|found| found.blocks_available().saturating_mul(found.fragment_size()));
            (directory, free)
        });
        found.chain(unknown).collect()
    }
}

fn said(error: anyhow::Error) -> String {
    format!("{error:#}")
}

#[cfg(test)]
mod tests;
