//! `signctl audit used`: which credentials were used since an incident began, from the journals alone. Each
//! one is somebody's to replace, or to say why not. An incident began with its outage, as a report says too.

mod uses;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use host::out;
use serde_json::{Value, json};
use signing_core::journal::{Kind, instant};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(crate) use uses::{ANSWERS, Uses};

use super::each;
use crate::scope::{Finder, Wanted};
use crate::show::table;

/// Since when to look.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// Since then (RFC 3339, such as 2026-11-26T05:15:00Z), else since an incident began.
    #[arg(long, value_name = "TIME", value_parser = since, conflicts_with = "incident")]
    since: Option<String>,
    /// Since this incident began, with the outage that it is about; else since the newest one in the journal did.
    #[arg(long, value_name = "ID")]
    incident: Option<String>,
    /// The emergency signer's journal beside the proxy's: its emergency keys, approvers and operators.
    #[arg(long, value_name = "DIR")]
    with: Option<PathBuf>,
}

/// From where on records count.
#[derive(Clone, Copy)]
enum CountedFrom<'f> {
    /// From this moment on, as records have it.
    Moment(&'f str),
    /// From the newest beginning of an incident of that name on, else of any.
    Incident(Option<&'f str>),
}

pub(super) fn run(journal: &Path, flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let from = flags
        .since
        .as_deref()
        .map_or_else(|| CountedFrom::Incident(flags.incident.as_deref()), CountedFrom::Moment);
    let (since, uses) = used(journal, flags.with.as_deref(), from)?;
    if as_json {
        out::show_json(&json!({"since": since, "used": uses.to_json()}))?;
    } else {
        let rows = uses.iter().map(|(credential, seen)| {
            let (kind, name) = (credential.kind.word().to_owned(), credential.name.clone());
            vec![kind, name, seen.count.to_string(), seen.first.clone(), seen.last.clone()]
        });
        let heads = ["kind", "name", "uses", "first", "last"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
        let rows = if rows.len() == 1 { "none".to_owned() } else { table(&rows) };
        out::show(&format!("used since {since}:\n{rows}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Since when the incident of that name is, and what was used since.
///
/// # Errors
/// As of [`used`].
pub(crate) fn since_incident(
    journal: &Path,
    signer: Option<&Path>,
    id: &str,
) -> anyhow::Result<(String, Uses)> {
    used(journal, signer, CountedFrom::Incident(Some(id)))
}

/// What was used, and since when.
///
/// # Errors
/// If a journal cannot be read, or holds no such beginning.
fn used(
    journal: &Path,
    signer: Option<&Path>,
    from: CountedFrom<'_>,
) -> anyhow::Result<(String, Uses)> {
    let (since, begun) = match from {
        CountedFrom::Moment(at) => (at.to_owned(), u64::MAX),
        CountedFrom::Incident(id) => began(journal, signer, id)?,
    };
    let mut uses = Uses::default();
    each(journal, |kind, record| {
        // A clock that went back meanwhile takes nothing away.
        if record.outline.at >= since || record.place.leaf.seq >= begun {
            uses.note(kind, &record.outline);
        }
    })?;
    if let Some(signer) = signer {
        each(signer, |kind, record| {
            if record.outline.at >= since {
                uses.note(kind, &record.outline);
            }
        })?;
    }
    Ok((since, uses))
}

/// When the newest incident of that name began, else the newest of any; and the record of somebody saying so.
fn began(journal: &Path, signer: Option<&Path>, id: Option<&str>) -> anyhow::Result<(String, u64)> {
    let (mut newest, mut begun) = (id.map(str::to_owned), u64::MAX);
    each(journal, |kind, record| {
        let named = record.outline.text("incident");
        if kind == Kind::IncidentBegun && (id.is_none() || named == id) {
            (newest, begun) = (named.map(str::to_owned), record.place.leaf.seq);
        }
    })?;
    let Some(newest) = newest else {
        bail!("the journal holds no beginning of an incident; name --since");
    };
    let mut finder = Finder::new(Wanted::Incident(newest));
    for (number, journal) in std::iter::once(journal).chain(signer).enumerate() {
        each(journal, |kind, record| finder.note(number, kind, &record.outline))?;
    }
    let window = finder.found().map_err(|why| anyhow!(why))?;
    Ok((instant(window.since), begun))
}

/// Reads a moment, as records have it.
pub(crate) fn since(text: &str) -> Result<String, String> {
    let at = OffsetDateTime::parse(text, &Rfc3339);
    at.map(instant).map_err(|_| "expected RFC 3339, such as 2026-11-26T05:15:00Z".to_owned())
}

impl Uses {
    fn to_json(&self) -> Value {
        let rows = self.iter().map(|(credential, seen)| {
            json!({
                "kind": credential.kind.word(), "name": credential.name, "uses": seen.count,
                "first": seen.first, "last": seen.last,
            })
        });
        rows.collect()
    }
}
