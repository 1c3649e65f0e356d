//! `signctl audit tail`: the newest records, and those that come.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use audit::walk::{Stop, Walk, Way, newest};
use serde_json::Value;

use super::Record;

/// How often it looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How far back records are looked for, for each that is wanted, if not all match.
const BACK_FOR_EACH: u64 = 1000;

/// What to show.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// How many of the newest records.
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: usize,
    /// Go on with the records that come, until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// Only records of this type, such as signed, failed, withheld, gate, freeze; repeatable.
    #[arg(long, value_name = "TYPE")]
    r#type: Vec<String>,
    /// Only records about this signer.
    #[arg(long, value_name = "KID")]
    signer: Option<String>,
    /// Only records about this caller.
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// Only records about this request.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
}

pub(super) fn run(journal: &Path, flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    match show(journal, flags, as_json) {
        // Whoever read the lines has enough.
        Err(Ended::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(Ended::Output(error)) => Err(error.into()),
        Err(Ended::Journal(stop)) => Err(stop.into()),
        Ok(code) => Ok(code),
    }
}

/// Why nothing more is shown.
enum Ended {
    Output(io::Error),
    Journal(Stop),
}

impl From<Stop> for Ended {
    fn from(stop: Stop) -> Self {
        Self::Journal(stop)
    }
}

fn show(journal: &Path, flags: &Flags, as_json: bool) -> Result<ExitCode, Ended> {
    let last = newest(journal)?.seq;
    let back = if flags.filters() { BACK_FOR_EACH } else { 1 };
    let wanted = u64::try_from(flags.lines).unwrap_or(u64::MAX).saturating_mul(back);
    let from = last.saturating_sub(wanted) + 1;
    let mut walk = Walk::open(journal, from)?;
    let mut kept = VecDeque::new();
    loop {
        match walk.step()? {
            Way::Record(place) if place.head.seq < from => {}
            Way::Record(place) => {
                kept.extend(Record::read(&walk, place).filter(|record| flags.wants(record)));
                if kept.len() > flags.lines {
                    kept.pop_front();
                }
            }
            Way::End | Way::Torn(_) => break,
        }
    }
    for record in kept {
        print(&record, as_json)?;
    }
    if !flags.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        match walk.step()? {
            Way::Record(place) => {
                if let Some(record) =
                    Record::read(&walk, place).filter(|record| flags.wants(record))
                {
                    print(&record, as_json)?;
                }
            }
            // A record that is half there is looked at again until it is whole.
            Way::End | Way::Torn(_) => {
                std::thread::sleep(LOOK_EVERY);
                walk.look_again()?;
            }
        }
    }
}

impl Flags {
    fn filters(&self) -> bool {
        let named = self.signer.is_some() || self.caller.is_some() || self.request.is_some();
        named || !self.r#type.is_empty()
    }

    fn wants(&self, record: &Record) -> bool {
        let data = |name| record.outline.text(name);
        let is = |wanted: &Option<String>, name| {
            wanted.as_deref().is_none_or(|wanted| data(name) == Some(wanted))
        };
        let of_type = self.r#type.is_empty() || self.r#type.contains(&record.outline.r#type);
        of_type
            && is(&self.signer, "signer_kid")
            && is(&self.caller, "caller")
            && is(&self.request, "request_id")
    }
}

fn print(record: &Record, as_json: bool) -> Result<(), Ended> {
    let line = if as_json { record.to_json().to_string() } else { readable(record) };
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(Ended::Output)
}

/// `02:41:07.123456  4711  signed  payments-2026  spiffe://...  ...`: for a person, who
/// wants what matters of each kind first.
fn readable(record: &Record) -> String {
    let data = &record.outline.data;
    let text = |name: &str| plain(data.get(name).unwrap_or(&Value::Null));
    let at = record.outline.at.get(..19).unwrap_or_default().replace('T', " ");
    let rest = match record.outline.r#type.as_str() {
        "intent" => {
            format!("{} for {}, request {}", text("algorithm"), text("caller"), text("request_id"))
        }
        "signed" => format!(
            "{} for {}, request {}, upstream {} us{}",
            text("algorithm"),
            text("caller"),
            text("request_id"),
            plain(data.pointer("/timing_us/upstream").unwrap_or(&Value::Null)),
            if data.get("replayed") == Some(&Value::Bool(true)) { ", replayed" } else { "" },
        ),
        "failed" => format!(
            "{} for {}, request {}: {}",
            text("reason"),
            text("caller"),
            text("request_id"),
            text("detail")
        ),
        "withheld" => {
            format!("record {}, request {}: {}", text("signed"), text("request_id"), text("detail"))
        }
        "gate" => format!("{} -> {} {}", text("from"), text("to"), text("detail")),
        "freeze" | "unseal" => format!("by {}: {}", text("by"), text("reason")),
        "unfreeze" => {
            format!("by {}, of the freeze by {}: {}", text("by"), text("frozen_by"), text("reason"))
        }
        "drill" => format!("{} of {} by {}", text("phase"), text("signer_kid"), text("by")),
        "reload" => format!("by {}, configuration {}", text("by"), text("generation")),
        "refusals" => refusals(data),
        "init" => {
            format!("{} by {}, audit key {}", text("deployment"), text("by"), text("audit_kid"))
        }
        "start" => format!(
            "{} {}, {} open intents, {} bytes cut",
            text("deployment"),
            text("version"),
            text("open_intents"),
            text("cut_bytes")
        ),
        "stop" => text("reason"),
        "session_activated" => format!(
            "{} for {}, until {}, {} signatures, by {}",
            text("session"),
            text("incident"),
            text("expires_at"),
            text("max_signatures"),
            text("by")
        ),
        "session_refused" => format!("{} for {}: {}", text("clause"), text("by"), text("detail")),
        "emergency_signed" => format!(
            "{} for {} in place of {}, request {}, session {}, {} left",
            text("algorithm"),
            text("caller"),
            text("replaces"),
            text("request_id"),
            text("session"),
            text("remaining")
        ),
        "emergency_refusals" => refusals(data),
        "session_ended" => format!(
            "{} {} after {} signatures, by {}: {}; destroy {} until {}",
            text("session"),
            text("reason"),
            text("signatures"),
            text("by"),
            text("detail"),
            text("emergency_kid"),
            text("destruction_due")
        ),
        "destruction_overdue" => {
            format!("{} was due at {}", text("emergency_kid"), text("destruction_due"))
        }
        "key_destroyed" => {
            format!("{} by {}: {}", text("emergency_kid"), text("by"), text("reason"))
        }
        "unlock" => format!("{} by {}", text("outcome"), text("by")),
        "activation" | "breakglass_ended" => {
            format!("{} {} by {}: {}", text("session"), text("reason"), text("by"), text("detail"))
        }
        _ => plain(data),
    };
    let (seq, kind) = (record.place.head.seq, &record.outline.r#type);
    let line = format!("{at}  {seq:>6}  {kind:<8}  {:<20}  {rest}", text("signer_kid"));
    line.trim_end().to_owned()
}

fn refusals(data: &Value) -> String {
    let refused = data.get("refused").and_then(Value::as_array).into_iter().flatten();
    let one = |refused: &Value| {
        let text = |name: &str| plain(refused.get(name).unwrap_or(&Value::Null));
        format!(
            "{} {} (such as {} by {})",
            text("count"),
            text("reason"),
            text("request_id"),
            text("caller")
        )
    };
    refused.map(one).collect::<Vec<_>>().join(", ")
}

/// A value without anything that a terminal would obey.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}
