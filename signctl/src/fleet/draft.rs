//! `signctl fleet statement`: writes the document that ends freezes, for a person to sign. It is made of
//! what the members hold, and whoever signs it is shown that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use host::clock::{rfc3339_seconds, wall_now};
use host::environment::reason;
use host::out;
use serde_json::json;
use signing_core::FreezeId;
use signing_core::admin::HeldFreeze;
use signing_core::fleet::{Draft, NAMESPACE, TYPE};
use time::Duration;

use super::Session;
use super::members::Member;
use crate::database::Database;

/// What to write.
#[derive(Args)]
pub(super) struct Flags {
    /// Why signing is safe again; records have it.
    #[arg(long)]
    reason: String,
    /// A freeze to end. May be given more than once. Default: every freeze that a member holds.
    #[arg(long, value_name = "ID")]
    end: Vec<String>,
    /// For how long it counts.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=1440))]
    minutes: u16,
    /// Where to write it. The file must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    database: Database,
}

pub(super) fn run(flags: &Flags, as_json: bool) -> anyhow::Result<()> {
    let why = reason(&flags.reason).map_err(|error| anyhow!("--reason: {error}"))?;
    let members = Session::open(&flags.database)?.members(&[])?;
    let mut held: BTreeMap<FreezeId, HeldFreeze> =
        members.iter().flat_map(Member::freezes).collect();
    if !flags.end.is_empty() {
        let ids = flags
            .end
            .iter()
            .map(|id| FreezeId::parse(id).map_err(|error| anyhow!("--end {id}: {error}")));
        let ids: BTreeSet<FreezeId> = ids.collect::<anyhow::Result<_>>()?;
        if let Some(id) = ids.iter().find(|id| !held.contains_key(id)) {
            bail!("--end {id}: no member that is known holds it; look at signctl fleet status");
        }
        held.retain(|id, _| ids.contains(id));
    }
    if held.is_empty() {
        bail!("no member that is known holds a freeze of the fleet, so there is nothing to end");
    }
    let fleets: BTreeSet<&str> = members.iter().filter_map(Member::fleet).collect();
    let fleet = match Vec::from_iter(fleets).as_slice() {
        [fleet] => (*fleet).to_owned(),
        fleets => bail!(
            "the members say that they are of these fleets: {fleets:?}, expected one; look at fleet.name of each"
        ),
    };
    let now = wall_now();
    let draft = Draft {
        r#type: TYPE.to_owned(),
        fleet,
        ends: held.keys().map(FreezeId::to_string).collect(),
        reason: why,
        issued_at: rfc3339_seconds(now),
        expires_at: rfc3339_seconds(now + Duration::minutes(flags.minutes.into())),
    };
    let (bytes, name) = (draft.to_bytes()?, flags.out.display());
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(&flags.out).with_context(|| {
            format!("--out {name}: it must be a new file in an existing directory")
        })?;
    file.write_all(&bytes).and_then(|()| file.sync_all())?;
    let sign = format!("ssh-keygen -Y sign -n {NAMESPACE} -f KEY {name}");
    if as_json {
        let ends: Vec<_> = held.values().collect();
        let file = name.to_string();
        out::report_json(&json!({"file": file, "statement": draft, "ends": ends, "sign": sign}))?;
        return Ok(());
    }
    let until = &draft.expires_at;
    let mut lines = vec![format!("{name}: it counts until {until}, and ends these freezes:")];
    lines.extend(held.values().map(|HeldFreeze { id, reason, by, since }| {
        text::line(&format!("  {id} since {since} by {by}: {reason}")).into_owned()
    }));
    lines.push(format!("a person with the role signs these exact bytes: {sign}"));
    lines.push(format!("then: signctl fleet unfreeze --statement {name}"));
    out::report(&lines.join("\n"))?;
    Ok(())
}
