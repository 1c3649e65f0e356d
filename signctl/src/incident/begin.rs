//! `signctl incident begin`: what stops comes first, then the name, then the evidence. What fails on the
//! way is said, and the rest is done all the same.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use host::out;
use serde_json::{Value, json};
use signing_core::admin::incident::{Begin, Captured, Incident};
use signing_core::admin::{Freeze, Frozen, Health, path};
use signing_core::incident::{IncidentId, Item};
use trail::postgres::Place;

use super::bundle::{self, Bundle, Part, Sources};
use super::words;
use crate::client::{self, CONFLICT, Reply};
use crate::database::{Database, Table};
use crate::fleet::{self, Stopped};
use crate::socket::Socket;

/// How long all of it may take, unless told otherwise.
const WITHIN_S: u64 = 120;
/// How much of that is kept to record the bundle, at most: two answers of the proxy.
const RECORDING_MAX: Duration = Duration::from_secs(20);
/// So long is captured at least, however long the freeze took.
const CAPTURING_MIN: Duration = Duration::from_secs(1);

/// What began, and where the evidence is.
#[derive(Args)]
pub(super) struct Flags {
    /// The incident's name, such as INC-42.
    #[arg(long, value_name = "ID", value_parser = incident)]
    id: IncidentId,
    /// What you see, one line; recorded, and the reason of the freeze.
    #[arg(long)]
    reason: String,
    /// Do not freeze.
    #[arg(long, conflicts_with = "fleet")]
    no_freeze: bool,
    /// Freeze every member of the fleet too, through the database of its agents, and capture how each is.
    #[arg(long, requires = "database_url")]
    fleet: bool,
    #[command(flatten)]
    database: Option<Database>,
    /// The directory to write the bundle into; it must not exist [default: incident-ID-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How long all of it may take; what has not been captured by then is left out and named. The freeze is
    /// never cut short.
    #[arg(long, value_name = "SECONDS", default_value_t = WITHIN_S, value_parser = clap::value_parser!(u64).range(5..=3600))]
    within: u64,
    #[command(flatten)]
    sources: Sources,
    #[command(flatten)]
    pub(super) socket: Socket,
}

pub(super) fn run(flags: &Flags, socket: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let id = &flags.id;
    let place = flags.place()?;
    // This proxy first: its own socket needs no database.
    let frozen = freeze(flags, socket);
    let stopped = place.as_ref().map(|place| stop_fleet(flags, place));
    let opened = open(flags, socket).with_context(|| {
        format!("the incident did not begin ({})", said_of("NOT FROZEN as it should be", &frozen))
    })?;
    // What is in force already is said before anything is waited for.
    let so_far = said_of("NOT FROZEN", &frozen);
    let fleet = stopped.as_ref().map(|stopped| format!("; fleet: {}", of_fleet(stopped)));
    out::say(&format!("{id}: {so_far}{}; capturing the state", fleet.unwrap_or_default()));
    let bundle = bundle::capture(
        socket,
        id,
        flags.out.as_deref(),
        &flags.sources,
        place.map(|place| {
            let answer = stopped.as_ref().and_then(|stopped| stopped.as_ref().ok());
            (place, answer.map(Stopped::to_json))
        }),
        until(began, Duration::from_secs(flags.within), Instant::now()),
    )?;
    let missing = bundle.parts.iter().filter_map(Part::missing);
    let mut missing: Vec<_> = missing.map(|(part, _)| part.to_owned()).collect();
    missing.sort_unstable();
    let captured = Captured { incident: id.to_string(), sha256: bundle.sha256.clone(), missing };
    let recorded = client::post(socket, path::INCIDENT_CAPTURED, &captured);
    let recorded = recorded.map_err(|error| format!("{error:#}")).and_then(|reply| match reply {
        Reply { status: 200, .. } => Ok("recorded in the journal".to_owned()),
        reply => Err(refused(&reply)),
    });
    let now = client::get(socket, path::INCIDENT).and_then(|reply| reply.read::<Incident>());
    let checklist = now.map(|now| now.checklist).unwrap_or_default();
    let whole = bundle.parts.iter().all(Part::is_captured);
    let fleet_is_good = stopped.as_ref().is_none_or(|stopped| said(stopped).is_ok());
    let is_good = frozen.is_ok() && fleet_is_good && opened.is_ok() && recorded.is_ok() && whole;
    if as_json {
        let parts = bundle.parts.iter().map(Part::to_json).collect::<Vec<_>>();
        out::report_json(&json!({
            "incident": id, "freeze": said_of("NOT FROZEN as it should be", &frozen),
            "fleet": stopped.as_ref().map(of_fleet), "fleet_freeze": stopped.as_ref().map(in_json),
            "begun": said_of("NOT BEGUN as it should be", &opened),
            "bundle": bundle.directory.display().to_string(), "sha256": bundle.sha256,
            "recorded": recorded.is_ok(), "parts": parts, "checklist": checklist,
        }))?;
    } else {
        let done = [&frozen, &opened, &recorded];
        out::report(&report(id, done, stopped.as_ref(), &bundle, &checklist))?;
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Flags {
    /// The database of the fleet, if all of it is to stop.
    fn place(&self) -> anyhow::Result<Option<Place>> {
        let database = self.database.as_ref().filter(|_| self.fleet);
        database.map(|database| database.place(&Table::default())).transpose()
    }
}

/// Until when to capture: some of the time is kept to record what was captured.
fn until(began: Instant, within: Duration, now: Instant) -> Instant {
    let kept = RECORDING_MAX.min(within / 4);
    (began + within.saturating_sub(kept)).max(now + CAPTURING_MIN)
}

/// Has the proxy open the incident: what became of it, or why it is not known to be open. The evidence is
/// captured in both cases.
///
/// # Errors
/// If the proxy refuses: another incident is open, or this user may not.
fn open(flags: &Flags, socket: &Path) -> anyhow::Result<Result<String, String>> {
    let begin = Begin { incident: flags.id.to_string(), reason: flags.reason.clone() };
    let reply = match client::post(socket, path::INCIDENT_BEGIN, &begin) {
        Ok(reply) => reply,
        Err(error) => return Ok(Err(format!("{error:#}"))),
    };
    let is_ours = |said: Incident| said.open.is_some_and(|open| open.incident == flags.id.as_str());
    let is_open = reply.read().is_ok_and(is_ours);
    match reply.status {
        200 => Ok(Ok("begun, and on disk in the journal".to_owned())),
        // Again with the same name: it is captured anew.
        CONFLICT if is_open => Ok(Ok("open already".to_owned())),
        500.. => Ok(Err(refused(&reply))),
        _ => bail!("{}", refused(&reply)),
    }
}

/// Why something is not as it was asked: the note of an answer about incidents, else the refusal.
fn refused(reply: &Reply) -> String {
    let note = reply.read::<Incident>().ok().and_then(|said| said.note);
    note.unwrap_or_else(|| reply.refused())
}

fn incident(text: &str) -> Result<IncidentId, String> {
    IncidentId::parse(text).map_err(|error| error.to_string())
}

/// What became of the freeze, or why it is not in force. One that is in force stays as it is: a new one
/// would end a session that signs under it. What only the fleet stops does not count: it ends elsewhere.
fn freeze(flags: &Flags, socket: &Path) -> Result<String, String> {
    if flags.no_freeze {
        return Ok(
            "this command froze nothing (--no-freeze); a freeze that is in force stays".to_owned()
        );
    }
    let health = client::get(socket, path::STATUS).and_then(|reply| reply.read::<Health>());
    if health.is_ok_and(|health| health.freeze.is_some_and(|freeze| !freeze.of_fleet)) {
        return Ok("frozen already".to_owned());
    }
    let freeze = Freeze { reason: format!("{}: {}", flags.id, flags.reason) };
    let reply =
        client::post(socket, path::FREEZE, &freeze).map_err(|error| format!("{error:#}"))?;
    match reply.read::<Frozen>() {
        Ok(Frozen { frozen: true, id, note: None, .. }) => {
            Ok(format!("frozen{}", id.map(|id| format!(" (freeze {id})")).unwrap_or_default()))
        }
        Ok(Frozen { frozen: true, note: Some(note), .. }) => Err(format!("frozen: {note}")),
        Ok(Frozen { frozen: false, .. }) | Err(_) => Err(reply.refused()),
    }
}

/// What became of the freeze of the fleet, or why nobody knows.
fn stop_fleet(flags: &Flags, place: &Place) -> Result<Stopped, String> {
    let why = format!("{}: {}", flags.id, flags.reason);
    fleet::stop(&why, &[], place).map_err(|error| format!("{error:#}"))
}

fn said(stopped: &Result<Stopped, String>) -> Result<String, String> {
    stopped.as_ref().map_err(Clone::clone).and_then(Stopped::said)
}

fn of_fleet(stopped: &Result<Stopped, String>) -> String {
    said_of("NOT FROZEN everywhere", &said(stopped))
}

/// The same without the members that the table shows.
fn headline(stopped: &Result<Stopped, String>) -> String {
    let whole = of_fleet(stopped);
    whole.split_once("; ").map_or_else(|| whole.clone(), |(first, _)| first.to_owned())
}

fn in_json(stopped: &Result<Stopped, String>) -> Value {
    stopped.as_ref().map_or(Value::Null, Stopped::to_json)
}

fn said_of(not: &str, done: &Result<String, String>) -> String {
    match done {
        Ok(said) => said.clone(),
        Err(why) => format!("{not}: {why}"),
    }
}

fn report(
    id: &IncidentId,
    [frozen, opened, recorded]: [&Result<String, String>; 3],
    stopped: Option<&Result<Stopped, String>>,
    bundle: &Bundle,
    checklist: &[Item],
) -> String {
    let mut lines =
        vec![format!("INCIDENT {id}: {}", said_of("NOT FROZEN as it should be", frozen))];
    if let Some(stopped) = stopped {
        lines.push(match stopped {
            Ok(known) => format!("fleet: {}\n{}", headline(stopped), known.table()),
            Err(_) => format!("fleet: {}", of_fleet(stopped)),
        });
    }
    lines.extend([
        format!("incident: {}", said_of("NOT BEGUN as it should be", opened)),
        format!(
            "bundle {}: SHA-256 of its SHA256SUMS {}",
            bundle.directory.display(),
            bundle.sha256
        ),
        format!("this SHA-256: {}", said_of("NOT RECORDED in the journal", recorded)),
    ]);
    let missing = bundle.parts.iter().filter_map(Part::missing);
    let missing: Vec<_> =
        missing.map(|(what, why)| format!("NOT CAPTURED: {what}: {why}")).collect();
    if !missing.is_empty() {
        let again = "this bundle lacks what is not captured: set that right and run this command again, \
                     with the same --id";
        lines.extend(missing.into_iter().chain([again.to_owned()]));
    }
    lines.push("next, by section of the runbook:".to_owned());
    lines.push(words::next(checklist));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_time_is_kept_to_record_the_bundle_and_some_to_capture() {
        let began = Instant::now();
        let at = |within, passed| {
            let seconds = Duration::from_secs;
            (until(began, seconds(within), began + seconds(passed)) - began).as_millis()
        };
        assert_eq!((at(120, 0), at(120, 30)), (100_000, 100_000));
        assert_eq!(at(8, 0), 6_000);
        // A freeze that took its time leaves a little.
        assert_eq!(at(8, 20), 21_000);
    }
}
