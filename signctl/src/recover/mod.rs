//! `signctl recover`: section 5 of the runbook, in its order. It looks at the provider, names the credentials
//! that were used and records who replaced them, verifies the journals, and then ends what the incident began:
//! the session, the freeze, the incident. What it cannot do it says, and it ends nothing before its turn.

mod credentials;
mod destruction;
mod provider;
mod reconcile;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use host::out;
use host::user::LocalUsers;
use nix::unistd::geteuid;
use serde_json::json;
use signing_core::admin::incident::{Done, End, Incident};
use signing_core::admin::{Health, Nothing, ProxyStatus, Unfreeze, breakglass, doctor, path};
use signing_core::breakglass::wire::Attested;
use signing_core::incident::{State, left};

use crate::audit::{self, ANSWERS, KmsLog};
use crate::breakglass::attested;
use crate::client::{self, Reply};
use crate::database::{Database, Table};
use crate::incident::{self, words};
use crate::socket::Socket;

use credentials::{Rotated, unnamed, with_login};
use provider::provider;

/// What only people know, and where the journals are.
#[derive(Args)]
pub(crate) struct Flags {
    /// Why it is over, one line: the reason of each end, recorded.
    #[arg(long)]
    reason: String,
    /// The registry that holds the audit keys.
    #[arg(long, value_name = "FILE")]
    signers: PathBuf,
    /// The proxy's journal; else where the proxy says.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// The emergency signer's journal, of a proxy that has an emergency signer.
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
    /// Who replaced a credential, or why it stays; NAME as `signctl audit used` shows it. Repeatable.
    #[arg(long, value_name = "NAME=WHO", value_parser = credentials::rotated)]
    rotated: Vec<Rotated>,
    /// The same for all credentials that nobody has answered for yet.
    #[arg(long, value_name = "WHO")]
    all_rotated: Option<String>,
    /// Who compares, and when, what cannot be compared now: the rows of signing-trail without --database-url, KMS's own
    /// log without --cloudtrail. Recorded.
    #[arg(long, value_name = "WHO")]
    not_reconciled: Option<String>,
    /// Destroy each emergency key that a session used, as `signctl breakglass destroy` with --signers does: nothing
    /// takes that back. It comes after the end of the session.
    #[arg(long)]
    destroy: bool,
    /// Somebody attests that a copy of such a key is destroyed: COPY as `signctl breakglass status` shows it. Repeatable.
    #[arg(long, value_name = "COPY=WHO", value_parser = attested, requires = "destroy")]
    attest: Vec<Attested>,
    #[command(flatten)]
    database: Option<Database>,
    #[command(flatten)]
    table: Table,
    #[command(flatten)]
    kms_log: KmsLog,
    #[command(flatten)]
    pub(crate) socket: Socket,
}

/// What a step came to.
type Step = Result<String, String>;

pub(crate) fn run(flags: &Flags, socket: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let begun = shown(socket)?;
    let Some(open) = begun.open else {
        return nothing(as_json);
    };
    let id = open.incident.as_str();
    let said = |section: &str| {
        let item = begun.checklist.iter().find(|item| item.section == section);
        item.is_some_and(|item| item.state == State::Done)
    };
    let mut steps = vec![("5.1", healthy(socket))];
    let is_healthy = steps.iter().all(|(_, step)| step.is_ok());
    // Again each time: what was used, or written, since the last time is nobody's yet.
    steps.push((ANSWERS, replaced(flags, socket, id, said(ANSWERS))));
    steps.push(("5.3", verified(flags, socket, id, said("5.3"))));
    // Nothing is loosened while the provider is in doubt.
    if is_healthy {
        steps.extend(ended_session(flags, socket).map(|step| ("5.4", step)));
        // An end that failed leaves a key that a session uses, which nobody destroys.
        if flags.destroy {
            let asked = (flags.reason.as_str(), flags.attest.as_slice());
            let destroyed = destruction::destroyed(asked, &flags.signers, socket);
            steps.extend(destroyed.into_iter().map(|step| ("4.5", step)));
        }
    }
    let now = shown(socket)?;
    let rest: Vec<_> = left(&now.checklist).filter(|item| item.section != "5.4").collect();
    let is_done = rest.is_empty() && steps.iter().all(|(_, step)| step.is_ok());
    if is_done {
        steps.extend(unfrozen(flags, socket).map(|step| ("5.4", step)));
        if steps.iter().all(|(_, step)| step.is_ok()) {
            let end = End { reason: flags.reason.clone(), unfinished: false };
            steps.push((
                "5.4",
                made(client::post(socket, path::INCIDENT_END, &end), "the incident has ended"),
            ));
        }
    }
    let last = shown(socket)?;
    let is_over = last.open.is_none();
    if as_json {
        let steps = steps.iter().map(|(section, step)| {
            let (Ok(how) | Err(how)) = step;
            json!({"section": section, "ok": step.is_ok(), "how": how})
        });
        let steps: Vec<_> = steps.collect();
        out::report_json(&json!({
            "incident": id, "ended": is_over, "steps": steps, "checklist": last.checklist,
        }))?;
    } else {
        let mut lines: Vec<_> = steps.iter().map(|(section, step)| line(section, step)).collect();
        lines.push(if is_over {
            format!("INCIDENT {id} has ended. Next: section 6 of the runbook")
        } else {
            format!(
                "INCIDENT {id} is open; do what is left, then run signctl recover again; by section of the \
                 runbook:\n{}",
                words::next(&last.checklist)
            )
        });
        out::report(&lines.join("\n"))?;
    }
    Ok(if is_over { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A recovery is recorded for an incident.
fn nothing(as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        out::report_json(&json!({"incident": null, "ended": false, "steps": []}))?;
    } else {
        out::report(
            "no incident is open; begin one: signctl incident begin --id ID --reason TEXT",
        )?;
    }
    Ok(ExitCode::FAILURE)
}

fn line(section: &str, step: &Step) -> String {
    match step {
        Ok(how) => format!("{section}  done  {how}"),
        Err(why) => format!("{section}  OPEN  {why}"),
    }
}

fn shown(socket: &Path) -> anyhow::Result<Incident> {
    client::get(socket, path::INCIDENT)?.read()
}

/// 5.1: by a test signature of each upstream, now.
fn healthy(socket: &Path) -> Step {
    let report = client::post(socket, path::DOCTOR, &Nothing {}).and_then(|reply| reply.read());
    let report: doctor::Report = report.map_err(|error| format!("{error:#}"))?;
    provider(&report)
}

/// 5.2: each credential that was used has somebody who answers for it.
fn replaced(flags: &Flags, socket: &Path, id: &str, is_recorded: bool) -> Step {
    let journal = journal(flags, socket)?;
    let with = with(flags, socket)?;
    let (mut count, mut told) = (0, BTreeSet::new());
    // Twice: what is recorded here uses a login too, perhaps for the first time.
    for _ in 0..2 {
        let used = audit::used(&journal, with, id);
        let (_, used) = used.map_err(|error| format!("{error:#}"))?;
        let own = LocalUsers::read().named(geteuid().as_raw());
        let names = with_login(used.names(), &own);
        let answered = |name: &str| used.is_answered(name);
        let all = flags.all_rotated.as_deref();
        let (rest, mut said) = unnamed(&names, &flags.rotated, all, answered)?;
        // Each answer is a record of its own.
        said.retain(|answer| told.insert(answer.clone()));
        for (name, who) in &said {
            let detail = format!("{name}: {who}");
            let item = Done { section: ANSWERS.to_owned(), detail, done: false };
            made(client::post(socket, path::INCIDENT_ITEM, &item), "")?;
        }
        if !rest.is_empty() {
            let rest = rest.join("; ");
            return Err(format!(
                "who replaced these, or why do they stay (--rotated NAME=WHO)? {rest}"
            ));
        }
        count = names.len();
        if said.is_empty() {
            break;
        }
    }
    let detail = format!("{count} credentials are answered for");
    if is_recorded { Ok(detail) } else { done(socket, ANSWERS, &detail) }
}

/// 5.3: every record of both journals, their rows, and KMS's own log.
fn verified(flags: &Flags, socket: &Path, id: &str, is_recorded: bool) -> Step {
    let (journal, signer) = (journal(flags, socket)?, with(flags, socket)?);
    let found = audit::verified_whole(&journal, Some(&flags.signers), signer);
    let found = found.map_err(|error| format!("{error:#}"))?;
    let found = found.map_err(|defect| format!("DEFECT: {defect}"))?;
    let reconciled = reconcile::reconciled(flags, (&journal, signer), id)?;
    let found = format!("{found}; {reconciled}");
    if is_recorded { Ok(found) } else { done(socket, "5.3", &found) }
}

/// The session that is in force.
fn ended_session(flags: &Flags, socket: &Path) -> Option<Step> {
    let health = client::get(socket, path::STATUS).and_then(|reply| reply.read::<Health>());
    match health {
        Ok(Health { breakglass: None, .. }) => None,
        Ok(_) => {
            let end = breakglass::End { reason: flags.reason.clone() };
            Some(made(client::post(socket, path::END, &end), "the session has ended"))
        }
        Err(error) => Some(Err(format!("{error:#}"))),
    }
}

/// The freeze that is in force.
fn unfrozen(flags: &Flags, socket: &Path) -> Option<Step> {
    let health = client::get(socket, path::STATUS).and_then(|reply| reply.read::<Health>());
    match health {
        Ok(Health { frozen: false, .. }) => None,
        Ok(_) => {
            let unfreeze = Unfreeze { reason: flags.reason.clone() };
            Some(made(client::post(socket, path::UNFREEZE, &unfreeze), "unfrozen"))
        }
        Err(error) => Some(Err(format!("{error:#}"))),
    }
}

fn journal(flags: &Flags, socket: &Path) -> Result<PathBuf, String> {
    let asked = || {
        let status = client::get(socket, path::STATUS)?.read::<ProxyStatus>()?;
        anyhow::Ok(PathBuf::from(status.audit.directory))
    };
    flags.journal.clone().map_or_else(asked, Ok).map_err(|error| format!("{error:#}"))
}

/// The emergency signer's journal: where there is one, nothing is done without it.
fn with<'f>(flags: &'f Flags, socket: &Path) -> Result<Option<&'f Path>, String> {
    match &flags.with {
        None if incident::names_a_signer(socket) => Err(
            "this proxy has an emergency signer: name its journal, --with /var/lib/breakglass-signer/journal"
                .to_owned(),
        ),
        with => Ok(with.as_deref()),
    }
}

/// Records that a line is done.
fn done(socket: &Path, section: &str, detail: &str) -> Step {
    let item = Done { section: section.to_owned(), detail: detail.to_owned(), done: true };
    made(client::post(socket, path::INCIDENT_ITEM, &item), detail)
}

/// What a change came to; anything but 200 is in doubt.
fn made(reply: anyhow::Result<Reply>, what: &str) -> Step {
    match reply.map_err(|error| format!("{error:#}"))? {
        Reply { status: 200, .. } => Ok(what.to_owned()),
        reply => Err(reply.refused()),
    }
}
