//! Writes the request, from what the running proxy knows and what flags say instead.
//!
//! It is valid from the moment at which the outage is long enough, so that it is written and approved
//! before: whoever waits for that to write it has lost the time.

mod outlook;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use host::out;
use serde_json::json;
use signing_core::FreezeId;
use signing_core::admin::breakglass::{Breakglass, Outage};
use signing_core::admin::{Problem, path};
use signing_core::breakglass::wire::{EmergencyKey, KeyState, State};
use signing_core::breakglass::{Draft, NAMESPACE, TYPE};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::client;
use crate::socket::Socket;

/// What the request is to say.
#[derive(Args)]
pub(crate) struct Flags {
    /// The incident's name.
    #[arg(long)]
    incident: String,
    /// Why, one line.
    #[arg(long)]
    justification: String,
    /// The emergency key; else the only one that is sealed and ready.
    #[arg(long, value_name = "KID")]
    emergency_kid: Option<String>,
    /// SHA-256 of its public key (DER SubjectPublicKeyInfo, hex); else as the signer says.
    #[arg(long, value_name = "HEX")]
    emergency_key_sha256: Option<String>,
    /// Signers it stands in for; else every one with an outage that is long enough or, if there is none,
    /// every one with an outage that counts.
    #[arg(long, value_name = "KID", value_delimiter = ',')]
    replaces: Vec<String>,
    /// Callers that it signs for; else every caller of the proxy.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    callers: Vec<String>,
    /// How long the session may last.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(i64).range(1..=10_080))]
    minutes: i64,
    /// How many signatures each instance may make.
    #[arg(long, default_value_t = 1000)]
    max_signatures: u64,
    /// RFC 3339: when the outage began; else when the last of those signers went out.
    #[arg(long, value_name = "TIME", value_parser = rfc3339)]
    outage_since: Option<OffsetDateTime>,
    /// RFC 3339: not before then; else now or, if the outage is not long enough yet, when it will be.
    #[arg(long, value_name = "TIME", value_parser = rfc3339)]
    not_before: Option<OffsetDateTime>,
    /// Signer instances to arm; else the one that the proxy is connected to.
    #[arg(long = "instance", value_name = "HEX", value_delimiter = ',')]
    instances: Vec<String>,
    /// The freeze under which the session is to sign, or `none`; else the freeze in force. Everything
    /// else stays frozen, and the approvers see it.
    #[arg(long, value_name = "ID", value_parser = under_freeze)]
    under_freeze: Option<UnderFreeze>,
    /// The deployment; else as the proxy says.
    #[arg(long)]
    audience: Option<String>,
    /// A name for the request; else the incident's.
    #[arg(long)]
    id: Option<String>,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    pub(super) socket: Socket,
}

/// Writes it, and says how it is approved.
pub(crate) fn run(flags: &Flags, socket: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    // Without a proxy the flags have to say it all; what is missing is named below.
    let said = client::get(socket, path::BREAKGLASS).and_then(|reply| match reply.refusal() {
        Some(Problem { detail, .. }) => bail!(detail),
        None => reply.read(),
    });
    let (known, silent) = match said {
        Ok(known) => (known, None),
        Err(error) => (Breakglass::default(), Some(format!("{error:#}"))),
    };
    let now = host::clock::wall_now();
    let draft = draft(flags, &known, silent.as_deref(), now)?;
    let bytes = draft.to_bytes().map_err(|error| anyhow!("no such request: {error}"))?;
    let never = outlook::never(&draft, &known, now, flags.outage_since.is_some());
    if !never.is_empty() {
        bail!(
            "nothing was written, since it could never be activated:\n  - {}",
            never.join("\n  - ")
        );
    }
    let mut out =
        OpenOptions::new().write(true).create_new(true).open(&flags.out).with_context(|| {
            format!("--out {}: it must be a new file in an existing directory", flags.out.display())
        })?;
    out.write_all(&bytes).and_then(|()| out.sync_all())?;
    let file = flags.out.display();
    let sign = format!("ssh-keygen -Y sign -n {NAMESPACE} -f KEY {file}");
    let roles = roles(&known);
    if as_json {
        let said = json!({"file": file.to_string(), "request": draft, "sign": sign, "roles": roles,
                         "approve": format!("signctl breakglass approve {file} --key KEY")});
        out::report_json(&said)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec![format!(
        "{file}: request {} for incident {}: the key {} signs for {} from {} until {}",
        draft.id,
        draft.incident,
        draft.emergency_kid,
        draft.replaces.join(", "),
        draft.not_before,
        draft.expires_at
    )];
    lines.extend(notes(&draft, &known, now).into_iter().map(|note| format!("note: {note}")));
    lines.push("A different person signs these exact bytes for each role:".to_owned());
    lines.extend(roles.iter().map(|role| {
        format!(
            "  {role}: signctl breakglass approve {file} --key KEY   # writes {file}.{}.sig",
            role.to_lowercase()
        )
    }));
    lines.push(format!("  without signctl: {sign}"));
    let approvals =
        roles.iter().map(|role| format!(" --approval {file}.{}.sig", role.to_lowercase()));
    let approvals: String = approvals.collect();
    lines.push("Then: signctl breakglass unlock".to_owned());
    lines.push(format!("      signctl breakglass activate --request {file}{approvals}"));
    out::report(&lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// The request, by what is known; `silent` says why the proxy says nothing.
fn draft(
    flags: &Flags,
    known: &Breakglass,
    silent: Option<&str>,
    now: OffsetDateTime,
) -> anyhow::Result<Draft> {
    let missing = |what: &str, flag: &str| {
        let signer = match (known.configured, &known.signer) {
            (false, _) => Some("this proxy has no emergency signer: [breakglass] signer_socket"),
            (true, None) => Some("the emergency signer is not connected to the proxy"),
            (true, Some(_)) => None,
        };
        let why = silent.or(signer).map(|why| format!(" ({why})")).unwrap_or_default();
        anyhow!("{what} is not known{why}; give {flag}")
    };
    let signer = known.signer.as_ref();
    let kid = match &flags.emergency_kid {
        Some(kid) => kid.clone(),
        None => only_key(known).ok_or_else(|| missing(&which_key(known), "--emergency-kid"))?,
    };
    let sha256 = flags
        .emergency_key_sha256
        .clone()
        .or_else(|| Some(keys(known).find(|key| key.kid == kid)?.sha256.clone()));
    let replaces =
        if flags.replaces.is_empty() { replaceable(known) } else { flags.replaces.clone() };
    if replaces.is_empty() {
        let missing = missing("a signer in an outage that counts", "--replaces");
        let left = if silent.is_some() { String::new() } else { left(known) };
        return Err(if left.is_empty() { missing } else { anyhow!("{missing}; {left}") });
    }
    let callers =
        if flags.callers.is_empty() { known.callers.clone() } else { flags.callers.clone() };
    if callers.is_empty() {
        return Err(missing("who calls", "--callers"));
    }
    let instances = if flags.instances.is_empty() {
        vec![
            signer
                .map(|signer| signer.instance.clone())
                .ok_or_else(|| missing("the signer's instance", "--instance"))?,
        ]
    } else {
        flags.instances.clone()
    };
    let since = match flags.outage_since {
        Some(time) => time,
        None => since(known, &replaces).ok_or_else(|| {
            // Of a signer that is not there no outage is known.
            let strangers = outlook::strangers("--replaces", &replaces, &known.signers);
            match strangers.is_empty() {
                true => missing("when the outage began", "--outage-since"),
                false => anyhow!(strangers.join("; ")),
            }
        })?,
    };
    let min = outlook::min_outage(known);
    // To the second, and never a moment too early: what has not lasted long enough yet will have when the
    // request begins.
    let is_attested = flags.outage_since.is_some();
    let since = if is_attested || since + min <= now { floor(since) } else { ceil(since) };
    let not_before = match flags.not_before {
        Some(time) => time,
        // The proxy may have begun to count after the outage began.
        None if is_attested => (since + min).max(outlook::earliest(known, &replaces, floor(now))),
        None => floor(now).max(since + min),
    };
    fits(flags, known)?;
    let mut nonce = [0; 16];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| anyhow!("the system gives no randomness"))?;
    Ok(Draft {
        r#type: TYPE.to_owned(),
        id: flags.id.clone().unwrap_or_else(|| slug(&flags.incident)),
        audience: flags
            .audience
            .clone()
            .or_else(|| Some(known.deployment.clone()).filter(|name| !name.is_empty()))
            .ok_or_else(|| missing("the deployment", "--audience"))?,
        instances,
        incident: flags.incident.clone(),
        justification: flags.justification.clone(),
        emergency_kid: kid,
        emergency_key_sha256: sha256
            .ok_or_else(|| missing("the emergency key's hash", "--emergency-key-sha256"))?,
        replaces,
        callers,
        outage_since: since.format(&Rfc3339)?,
        not_before: not_before.format(&Rfc3339)?,
        expires_at: (not_before + Duration::minutes(flags.minutes)).format(&Rfc3339)?,
        max_signatures: flags.max_signatures,
        under_freeze: match &flags.under_freeze {
            Some(UnderFreeze::None) => None,
            Some(UnderFreeze::Named(id)) => Some(id.to_string()),
            None => known.freeze.as_ref().and_then(|freeze| freeze.id).map(|id| id.to_string()),
        },
        nonce: STANDARD.encode(nonce),
    })
}

/// Under which freeze the session is to sign, as a flag says it.
#[derive(Clone, Copy, Debug)]
enum UnderFreeze {
    /// Under none.
    None,
    /// Under that one.
    Named(FreezeId),
}

fn under_freeze(text: &str) -> Result<UnderFreeze, String> {
    if text == "none" {
        return Ok(UnderFreeze::None);
    }
    FreezeId::parse(text).map(UnderFreeze::Named).map_err(|error| format!("{error}, or `none`"))
}

fn rfc3339(text: &str) -> Result<OffsetDateTime, String> {
    let expected = "expected a time of RFC 3339 such as 2026-11-24T02:41:07Z";
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| expected.to_owned())
}

/// What the signer would refuse is not sent round to be approved.
fn fits(flags: &Flags, known: &Breakglass) -> anyhow::Result<()> {
    let Some(State { session_max_s, signatures_max, .. }) = &known.signer else { return Ok(()) };
    let seconds = u64::try_from(flags.minutes.saturating_mul(60)).unwrap_or(u64::MAX);
    if seconds > *session_max_s {
        return Err(anyhow!(
            "--minutes {}: the emergency signer has sessions of {} minutes at most \
             (caps.session_max_s = {session_max_s}); ask for less",
            flags.minutes,
            session_max_s / 60
        ));
    }
    if flags.max_signatures > *signatures_max {
        return Err(anyhow!(
            "--max-signatures {}: the emergency signer makes {signatures_max} in a session at most \
             (caps.signatures_max); ask for less",
            flags.max_signatures
        ));
    }
    Ok(())
}

fn roles(known: &Breakglass) -> Vec<String> {
    let roles = known.signer.as_ref().map(|signer| signer.required_roles.clone());
    let roles = roles.filter(|roles| !roles.is_empty());
    roles.unwrap_or_else(|| ["Security", "Finance"].map(str::to_owned).into())
}

fn keys(known: &Breakglass) -> impl Iterator<Item = &EmergencyKey> {
    known.signer.iter().flat_map(|signer| &signer.keys)
}

fn ready(known: &Breakglass) -> Vec<&str> {
    let ready = keys(known).filter(|key| key.state == KeyState::Sealed);
    ready.map(|key| key.kid.as_str()).collect()
}

/// The key that is sealed, if there is one only.
fn only_key(known: &Breakglass) -> Option<String> {
    match ready(known)[..] {
        [only] => Some(only.to_owned()),
        _ => None,
    }
}

/// What is not known, since there are several or none.
fn which_key(known: &Breakglass) -> String {
    match ready(known)[..] {
        [] => "which emergency key (none is sealed and ready)".to_owned(),
        ref kids => format!("which emergency key of {}", kids.join(", ")),
    }
}

/// Those that are out long enough or, if there is none, those whose outage counts.
fn replaceable(known: &Breakglass) -> Vec<String> {
    let of = |is_it: fn(&Outage) -> bool| -> Vec<String> {
        let those = known.outages.iter().filter(|outage| is_it(outage));
        those.map(|outage| outage.signer_kid.clone()).collect()
    };
    let long = of(|outage| outage.qualifies);
    if long.is_empty() { of(|outage| outage.running) } else { long }
}

/// What is to be known before somebody is asked to approve it.
fn notes(draft: &Draft, known: &Breakglass, now: OffsetDateTime) -> Vec<String> {
    let mut notes = Vec::new();
    if let Ok(begins) = OffsetDateTime::parse(&draft.not_before, &Rfc3339)
        && begins > now
    {
        let left = (begins - now).whole_seconds();
        notes.push(format!(
            "it cannot be activated before {}, in {left} s, when the outage is long enough if it lasts; have \
             it approved meanwhile",
            draft.not_before
        ));
    }
    notes.extend(frozen(draft, known));
    let is_left_out =
        |outage: &&Outage| outage.running && !draft.replaces.contains(&outage.signer_kid);
    for Outage { signer_kid: kid, .. } in known.outages.iter().filter(is_left_out) {
        notes.push(format!("{kid} has an outage too, and this request does not stand in for it"));
    }
    if known.signer.is_some() && !outlook::is_for(draft, known) {
        notes.push(
            "it is for another deployment or another emergency signer than the one here, so what those need \
             was not looked at"
                .to_owned(),
        );
    }
    notes
}

/// What the freeze in force, or the one that is named, means for the session.
fn frozen(draft: &Draft, known: &Breakglass) -> Option<String> {
    let in_force = known.freeze.as_ref();
    let id = in_force.and_then(|freeze| freeze.id).map(|id| id.to_string());
    match (&draft.under_freeze, in_force) {
        (Some(named), Some(freeze)) if Some(named) == id.as_ref() => Some(format!(
            "the session signs UNDER THE FREEZE {named} ({}): only for {}; everything else stays frozen, and a \
             new freeze ends the session",
            freeze.reason,
            draft.replaces.join(", ")
        )),
        (Some(named), Some(freeze)) => Some(format!(
            "the freeze in force is not {named}, which this request names: end it first (signctl unfreeze); \
             its reason is {}",
            freeze.reason
        )),
        (Some(named), None) => Some(format!(
            "no freeze is in force now; the session may sign under the freeze {named}, and under no other"
        )),
        (None, Some(freeze)) if freeze.of_fleet => Some(format!(
            "this proxy is stopped by its fleet ({}), which no request can name: it can be activated only after \
             that has ended (signctl status)",
            freeze.reason
        )),
        (None, Some(freeze)) => Some(format!(
            "this proxy is frozen ({}), and the request does not name that freeze: it can be activated only \
             after signctl unfreeze",
            freeze.reason
        )),
        (None, None) => None,
    }
}

/// How long each outage has to go on until it is long enough, or that there is none.
fn left(known: &Breakglass) -> String {
    let min = known.min_outage_s;
    let said = known.outages.iter().map(|Outage { signer_kid: kid, seconds: out, .. }| {
        match min.checked_sub(*out) {
            Some(left @ 1..) => {
                format!("{kid} has an outage of {out} s; {min} s are needed: {left} s are left, if it lasts")
            }
            Some(0) | None => format!("{kid} has an outage of {out} s, which does not count now"),
        }
    });
    if known.outages.is_empty() {
        return format!("no signer is in an outage that counts, and one has to last {min} s");
    }
    said.collect::<Vec<_>>().join("; ")
}

/// When the last of these went out: from then on all of them were.
fn since(known: &Breakglass, replaces: &[String]) -> Option<OffsetDateTime> {
    let of_these = known.outages.iter().filter(|outage| replaces.contains(&outage.signer_kid));
    of_these.filter_map(|outage| OffsetDateTime::parse(&outage.since, &Rfc3339).ok()).max()
}

fn floor(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_nanosecond(0).unwrap_or(at)
}

fn ceil(at: OffsetDateTime) -> OffsetDateTime {
    if at.nanosecond() == 0 { at } else { floor(at) + Duration::SECOND }
}

/// A name out of an incident's.
fn slug(incident: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = incident.chars().map(|c| if fits(c) { c } else { '-' }).take(64).collect();
    if name.is_empty() { "request".to_owned() } else { name }
}

#[cfg(test)]
mod tests;
