//! `signctl audit verify`: is the journal as it was written?

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use audit::verify::{Keys, Options, Progress, Report, verify};
use host::out;
use serde_json::{Value, json};
use signing_core::journal::{Head, Leaf};
use signing_core::tree::TreeHash;

use super::registry;

/// What to check, against what.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// The registry that holds the proxy's audit key. Without it the keys that the journal
    /// itself names are taken, which proves less.
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,
    /// Only the newest N records.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// A receipt that was kept elsewhere, audit.seq and audit.leaf of an answer: that record has to
    /// be there.
    #[arg(long, value_name = "SEQ:LEAF", value_parser = receipt)]
    receipt: Option<Leaf>,
    /// A head that was kept elsewhere, as `signctl status` shows it: so many records have to be there,
    /// with that root.
    #[arg(long, value_name = "SIZE:ROOT", value_parser = head)]
    head: Option<Head>,
}

pub(super) fn run(journal: &Path, flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let registry = flags.signers.as_deref().map(registry).transpose()?;
    let Flags { limit, head, receipt, .. } = *flags;
    let options = Options { limit, registry: registry.as_ref(), head, receipt };
    let began = Instant::now();
    let shows = io::stderr().is_terminal();
    let report = verify(journal, &options, |Progress { records, of }| {
        if shows {
            let speed = per_second(records, began);
            out::say_for_now(&format!("{records} of {of} records, {speed:.0}/s "));
        }
    });
    if shows {
        out::say_for_now("");
    }
    let report = report?;
    let (seconds, speed) = (began.elapsed().as_secs_f64(), per_second(report.records, began));
    if as_json {
        out::report_json(&to_json(&report, seconds, speed))?;
    } else {
        out::report(&table(&report, seconds, speed))?;
    }
    Ok(if report.defect.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn head(text: &str) -> Result<Head, String> {
    let pair = pair(text).map(|(size, root)| Head { size, root });
    pair.ok_or_else(|| "expected SIZE:ROOT, audit.size and audit.root of signctl status".to_owned())
}

fn receipt(text: &str) -> Result<Leaf, String> {
    let pair = pair(text).map(|(seq, hash)| Leaf { seq, hash });
    pair.ok_or_else(|| "expected SEQ:LEAF, audit.seq and audit.leaf of an answer".to_owned())
}

/// Reads `17:1f3c...`.
fn pair(text: &str) -> Option<(u64, TreeHash)> {
    let (number, hash) = text.split_once(':')?;
    Some((number.parse().ok().filter(|number| *number > 0)?, TreeHash::parse(hash)?))
}

#[expect(clippy::cast_precision_loss, reason = "a speed is shown, not each record of it")]
fn per_second(records: u64, began: Instant) -> f64 {
    records as f64 / began.elapsed().as_secs_f64().max(1e-9)
}

fn table(report: &Report, seconds: f64, speed: f64) -> String {
    let head = report
        .head
        .map_or_else(|| "none".to_owned(), |head| format!("{}:{}", head.size, head.root));
    let log = report.log.map_or_else(|| "unknown".to_owned(), |log| log.origin());
    let mut rows = vec![
        ("log", log),
        (
            "records",
            format!(
                "{} from record {} on, {} segments, {} bytes",
                report.records, report.first_seq, report.segments, report.bytes
            ),
        ),
        ("head", head),
        ("checkpoints", report.checkpoints.to_string()),
        ("open intents", report.open_intents.to_string()),
        (
            "callers' signatures",
            format!(
                "{} verified, {} not checked",
                report.signatures_checked, report.signatures_unchecked
            ),
        ),
        ("audit keys", keys(report.keys).to_owned()),
        ("took", format!("{seconds:.2} s, {speed:.0} records/s")),
    ];
    if let Some(torn) = &report.torn {
        rows.push(("end", torn.to_string()));
    }
    if report.live {
        rows.push(("written", "by a process right now; it may be further already".to_owned()));
    }
    rows.insert(0, ("verdict", verdict(report)));
    rows.iter().map(|(name, value)| format!("{name:<20}{value}")).collect::<Vec<_>>().join("\n")
}

/// What was found, and in what: a clean verdict is worth as much as what was checked.
fn verdict(report: &Report) -> String {
    if let Some(defect) = &report.defect {
        return format!("DEFECT: {defect}");
    }
    let (checked, unchecked) = (report.signatures_checked, report.signatures_unchecked);
    let (whose, why) = match report.keys {
        Keys::Registered => (
            "the registry's audit keys",
            "Ed25519 signs messages, which are not kept, or the signer is not in the registry",
        ),
        Keys::SelfAsserted => ("audit keys that the journal names ITSELF", "give --signers"),
    };
    let callers = match (checked, unchecked) {
        (0, 0) => "there are no callers' signatures in it".to_owned(),
        (_, 0) => format!("all {checked} callers' signatures verified"),
        _ => {
            format!("callers' signatures: {checked} verified, {unchecked} NOT checked ({why})")
        }
    };
    format!("no defect in the tree of records, by {whose}; {callers}")
}

fn keys(keys: Keys) -> &'static str {
    match keys {
        Keys::Registered => "of the registry",
        Keys::SelfAsserted => {
            "as the journal names them ITSELF: whoever can write it could have made all of it; \
             give --signers"
        }
    }
}

fn to_json(report: &Report, seconds: f64, speed: f64) -> Value {
    let head = report.head.map(|head| json!({"size": head.size, "root": head.root.to_string()}));
    let defect = report.defect.as_ref().map(|defect| {
        json!({
            "record": defect.record,
            "file": defect.file.display().to_string(),
            "at": defect.at,
            "what": defect.what,
            "sentence": defect.to_string(),
        })
    });
    let torn = report.torn.as_ref().map(|torn| {
        json!({
            "record": torn.record,
            "file": torn.file.display().to_string(),
            "at": torn.at,
            "sentence": torn.to_string(),
        })
    });
    json!({
        "ok": report.defect.is_none(),
        "verdict": verdict(report),
        "log": report.log.map(|log| log.origin()),
        "first_seq": report.first_seq,
        "records": report.records,
        "segments": report.segments,
        "bytes": report.bytes,
        "head": head,
        "checkpoints": report.checkpoints,
        "open_intents": report.open_intents,
        "signatures_checked": report.signatures_checked,
        "signatures_unchecked": report.signatures_unchecked,
        "keys": match report.keys { Keys::Registered => "registered", Keys::SelfAsserted => "self_asserted" },
        "live": report.live,
        "seconds": seconds,
        "records_per_s": speed,
        "defect": defect,
        "torn": torn,
    })
}
