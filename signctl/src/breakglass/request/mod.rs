//! Writes the request, from what the running proxy knows and what flags say instead:
//! `GET /v1/breakglass` answers
//!
//! ```json
//! {"deployment": "...", "callers": ["spiffe://..."], "signers": ["..."], "min_outage_s": 1800,
//!  "emergency_keys_registered": {"<kid>": "<sha256>"},
//!  "outages": [{"signer_kid": "...", "since": "<RFC 3339>", "seconds": 2100, "qualifies": true, "running": true}],
//!  "signer": {"instance": "...", "keys": [{"kid": "...", "sha256": "...", "state": "sealed"}],
//!             "required_roles": ["Finance", "Security"], ...}}
//! ```
//!
//! where `signer` is the emergency signer's own state (`signing_core::breakglass::wire::State`).
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
use serde_json::{Value, json};
use signing_core::breakglass::{Draft, NAMESPACE, TYPE};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::text;
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
    let known = client::get(socket, "/v1/breakglass").map(|reply| reply.body);
    let known = known.unwrap_or_else(|error| json!({"error": format!("{error:#}")}));
    let now = host::clock::wall_now();
    let draft = draft(flags, &known, now)?;
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
            format!(
                "--out {}: it has to be a new file, in a directory that is there",
                flags.out.display()
            )
        })?;
    out.write_all(&bytes).and_then(|()| out.sync_all())?;
    let file = flags.out.display();
    let sign = format!("ssh-keygen -Y sign -n {NAMESPACE} -f KEY {file}");
    let roles = roles(&known);
    if as_json {
        let said =
            json!({"file": file.to_string(), "request": draft, "sign": sign, "roles": roles});
        out::report_json(&said)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec![format!(
        "{file}: request {} for incident {}, to sign for {} from {} until {}",
        draft.id,
        draft.incident,
        draft.replaces.join(", "),
        draft.not_before,
        draft.expires_at
    )];
    lines.extend(notes(&draft, &known, now).into_iter().map(|note| format!("note: {note}")));
    lines
        .push("Each role has it signed by a person of its own, over these exact bytes:".to_owned());
    lines.extend(roles.iter().map(|role| {
        format!("  {role}: {sign} && mv {file}.sig {file}.{}.sig", role.to_lowercase())
    }));
    let approvals =
        roles.iter().map(|role| format!(" --approval {file}.{}.sig", role.to_lowercase()));
    let approvals: String = approvals.collect();
    lines.push("Then: signctl breakglass unlock".to_owned());
    lines.push(format!("      signctl breakglass activate --request {file}{approvals}"));
    out::report(&lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn draft(flags: &Flags, known: &Value, now: OffsetDateTime) -> anyhow::Result<Draft> {
    let missing = |what: &str, flag: &str| {
        let signer = match known.get("configured") {
            Some(Value::Bool(false)) => {
                Some("this proxy has no emergency signer: [breakglass] signer_socket")
            }
            Some(_) if known.get("signer").is_none() => {
                Some("the emergency signer is not connected to the proxy")
            }
            Some(_) | None => None,
        };
        let why = text(known, "/error").or_else(|| text(known, "/detail")).or(signer);
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        anyhow!("{what} is not known{why}; give {flag}")
    };
    let or = |given: &Option<String>, pointer: &str| {
        given.clone().or_else(|| text(known, pointer).map(str::to_owned))
    };
    let kid = match &flags.emergency_kid {
        Some(kid) => kid.clone(),
        None => only_key(known).ok_or_else(|| missing(&which_key(known), "--emergency-kid"))?,
    };
    let sha256 = flags.emergency_key_sha256.clone().or_else(|| {
        let key = keys(known).find(|key| text(key, "/kid") == Some(kid.as_str()))?;
        text(key, "/sha256").map(str::to_owned)
    });
    let replaces =
        if flags.replaces.is_empty() { replaceable(known) } else { flags.replaces.clone() };
    if replaces.is_empty() {
        let missing = missing("a signer in an outage that counts", "--replaces");
        let left = left(known);
        return Err(if left.is_empty() { missing } else { anyhow!("{missing}; {left}") });
    }
    let callers =
        if flags.callers.is_empty() { listed(known, "/callers") } else { flags.callers.clone() };
    if callers.is_empty() {
        return Err(missing("who calls", "--callers"));
    }
    let instances = if flags.instances.is_empty() {
        vec![
            or(&None, "/signer/instance")
                .ok_or_else(|| missing("the signer's instance", "--instance"))?,
        ]
    } else {
        flags.instances.clone()
    };
    let since = match flags.outage_since {
        Some(time) => time,
        None => since(known, &replaces).ok_or_else(|| {
            // Of a signer that is not there no outage is known.
            let strangers = outlook::strangers("--replaces", &replaces, &listed(known, "/signers"));
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
        audience: or(&flags.audience, "/deployment")
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
        nonce: STANDARD.encode(nonce),
    })
}

fn rfc3339(text: &str) -> Result<OffsetDateTime, String> {
    let expected = "expected a time of RFC 3339 such as 2026-11-24T02:41:07Z";
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| expected.to_owned())
}

/// What the signer would refuse is not sent round to be approved.
fn fits(flags: &Flags, known: &Value) -> anyhow::Result<()> {
    let cap = |name: &str| known.pointer(&format!("/signer/{name}")).and_then(Value::as_u64);
    let seconds = u64::try_from(flags.minutes.saturating_mul(60)).unwrap_or(u64::MAX);
    if let Some(most) = cap("session_max_s").filter(|most| seconds > *most) {
        return Err(anyhow!(
            "--minutes {}: the emergency signer has sessions of {} minutes at most \
             (caps.session_max_s = {most}); ask for less",
            flags.minutes,
            most / 60
        ));
    }
    if let Some(most) = cap("signatures_max").filter(|most| flags.max_signatures > *most) {
        return Err(anyhow!(
            "--max-signatures {}: the emergency signer makes {most} in a session at most \
             (caps.signatures_max); ask for less",
            flags.max_signatures
        ));
    }
    Ok(())
}

fn roles(known: &Value) -> Vec<String> {
    let roles = listed(known, "/signer/required_roles");
    if roles.is_empty() { ["Security", "Finance"].map(str::to_owned).into() } else { roles }
}

fn keys(known: &Value) -> impl Iterator<Item = &Value> {
    items(known, "/signer/keys")
}

/// The key that is sealed, if there is one only.
fn only_key(known: &Value) -> Option<String> {
    let mut ready = keys(known).filter(|key| text(key, "/state") == Some("sealed"));
    match (ready.next(), ready.next()) {
        (Some(key), None) => text(key, "/kid").map(str::to_owned),
        _ => None,
    }
}

/// What is not known, since there are several or none.
fn which_key(known: &Value) -> String {
    let ready = keys(known).filter(|key| text(key, "/state") == Some("sealed"));
    let kids: Vec<_> = ready.filter_map(|key| text(key, "/kid")).collect();
    match kids[..] {
        [] => "which emergency key (none is sealed and ready)".to_owned(),
        _ => format!("which emergency key of {}", kids.join(", ")),
    }
}

fn outages(known: &Value) -> impl Iterator<Item = &Value> {
    items(known, "/outages")
}

/// Those that are out long enough or, if there is none, those whose outage counts.
fn replaceable(known: &Value) -> Vec<String> {
    let of = |is_it: &dyn Fn(&Value) -> bool| -> Vec<String> {
        let those = outages(known).filter(|outage| is_it(outage));
        those.filter_map(|outage| text(outage, "/signer_kid").map(str::to_owned)).collect()
    };
    let long = of(&|outage| outage.get("qualifies") == Some(&Value::Bool(true)));
    if long.is_empty() { of(&outlook::is_running) } else { long }
}

/// What is to be known before somebody is asked to approve it.
fn notes(draft: &Draft, known: &Value, now: OffsetDateTime) -> Vec<String> {
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
    let is_left_out = |outage: &&Value| {
        outlook::is_running(outage)
            && !draft.replaces.iter().any(|kid| text(outage, "/signer_kid") == Some(kid))
    };
    for outage in outages(known).filter(is_left_out) {
        let kid = text(outage, "/signer_kid").unwrap_or_default();
        notes.push(format!("{kid} is out too, and this request does not stand in for it"));
    }
    if known.get("signer").is_some() && !outlook::is_for(draft, known) {
        notes.push(
            "it is for another deployment or another emergency signer than the one here, so what those need \
             was not looked at"
                .to_owned(),
        );
    }
    notes
}

/// How long each outage has to go on until it is long enough, or that there is none.
fn left(known: &Value) -> String {
    let Some(min) = known.get("min_outage_s").and_then(Value::as_u64) else { return String::new() };
    let said: Vec<_> = outages(known)
        .filter_map(|outage| {
            let (kid, out) = (text(outage, "/signer_kid")?, outage.get("seconds")?.as_u64()?);
            Some(match min.checked_sub(out) {
                Some(left @ 1..) => {
                    format!("{kid} is out for {out} s of {min} s: {left} s are left, if it lasts")
                }
                Some(0) | None => format!("{kid} is out for {out} s, and that does not count now"),
            })
        })
        .collect();
    if said.is_empty() {
        return format!("no signer is in an outage that counts, and one has to last {min} s");
    }
    said.join("; ")
}

/// When the last of these went out: from then on all of them were.
fn since(known: &Value, replaces: &[String]) -> Option<OffsetDateTime> {
    let of_these = outages(known).filter(|outage| {
        text(outage, "/signer_kid").is_some_and(|kid| replaces.iter().any(|other| other == kid))
    });
    let times =
        of_these.filter_map(|outage| OffsetDateTime::parse(text(outage, "/since")?, &Rfc3339).ok());
    times.max()
}

fn floor(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_nanosecond(0).unwrap_or(at)
}

fn ceil(at: OffsetDateTime) -> OffsetDateTime {
    if at.nanosecond() == 0 { at } else { floor(at) + Duration::SECOND }
}

fn items<'v>(known: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    known.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn listed(known: &Value, pointer: &str) -> Vec<String> {
    items(known, pointer).filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// A name out of an incident's.
fn slug(incident: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = incident.chars().map(|c| if fits(c) { c } else { '-' }).take(64).collect();
    if name.is_empty() { "request".to_owned() } else { name }
}

#[cfg(test)]
mod tests;
