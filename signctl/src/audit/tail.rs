//! `signctl audit tail`: the newest records, and those that come.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use audit::walk::{Stop, Walk, WalkStep, newest};
use clap::builder::PossibleValuesParser;
use host::out::Stream;
use serde_json::Value;
use signing_core::journal::Kind;

use super::Record;
use super::words::{plain, words};

/// How often it looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After how many looks the unused rest of the newest segment is read through for what does not belong there.
const LOOK_THROUGH_AFTER: u32 = 100;

/// What to show.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// How many of the newest records.
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: u64,
    /// Go on with the records that come, until interrupted.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Only records of this type, such as signed, failed, withheld, gate, freeze; repeatable.
    #[arg(long, value_name = "TYPE", hide_possible_values = true, value_parser = PossibleValuesParser::new(Kind::ALL.iter().map(|kind| kind.word())))]
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
    let mut out = Stream::default();
    let shown = show(journal, flags, as_json, &mut out);
    out.flush()?;
    shown
}

fn show(
    journal: &Path,
    flags: &Flags,
    as_json: bool,
    out: &mut Stream,
) -> anyhow::Result<ExitCode> {
    let last = newest(journal)?.size;
    let Begin { from, mut skip, stopped } = begin(journal, flags, last)?;
    let mut walk = Walk::open(journal, from)?;
    let mut looks = 0;
    loop {
        let place = match walk.step()? {
            WalkStep::Record(place) => place,
            WalkStep::Sealed(_) => continue,
            // A record that is half there is looked at again until it is whole.
            WalkStep::End | WalkStep::TornWrite(_) if flags.follow => {
                out.flush()?;
                std::thread::sleep(LOOK_EVERY);
                // The rest of the segment, which may be large, is read through only now and then.
                looks = (looks + 1) % LOOK_THROUGH_AFTER;
                walk.trust_rest(looks != 0);
                walk.look_again()?;
                continue;
            }
            WalkStep::End | WalkStep::TornWrite(_) => break,
        };
        let seq = place.leaf.seq;
        // What comes meanwhile is not of the newest as they were, and may come for ever.
        if seq > last && !flags.follow {
            break;
        }
        let wanted = seq >= from;
        let record = wanted.then(|| Record::read(&walk, place)).flatten();
        let Some(record) = record.filter(|record| flags.wants(record)) else { continue };
        if skip > 0 {
            skip -= 1;
        } else {
            out.collect(&if as_json { in_json(&record) } else { readable(&record) })?;
        }
    }
    match stopped {
        None => Ok(ExitCode::SUCCESS),
        // There may be more of them, and nobody can say.
        Some(stop) => Err(stop.into()),
    }
}

/// Where the records begin that are shown.
struct Begin {
    from: u64,
    /// How many that match are left out from there.
    skip: u64,
    /// What kept it from looking further back.
    stopped: Option<Stop>,
}

/// Looks back from record `last`, segment by segment, until so many match as are wanted, or
/// to the beginning. It only counts them: they are read again to be shown, so memory does not
/// grow with their number.
fn begin(journal: &Path, flags: &Flags, last: u64) -> Result<Begin, Stop> {
    if !flags.filters() {
        let from = last.saturating_sub(flags.lines) + 1;
        return Ok(Begin { from, skip: 0, stopped: None });
    }
    let segments = Walk::open(journal, 1)?.segments().to_vec();
    let (mut from, mut to, mut found) = (last + 1, last, 0);
    for segment in segments.iter().rev().filter(|segment| segment.first_seq <= last) {
        if found >= flags.lines {
            break;
        }
        match count(journal, flags, segment.first_seq, to) {
            Ok(more) => found += more,
            Err(stop) => {
                return Ok(Begin { from, skip: 0, stopped: Some(stop) });
            }
        }
        (from, to) = (segment.first_seq, segment.first_seq.saturating_sub(1));
    }
    Ok(Begin { from, skip: found.saturating_sub(flags.lines), stopped: None })
}

/// How many of the records `from` to `to` match.
fn count(journal: &Path, flags: &Flags, from: u64, to: u64) -> Result<u64, Stop> {
    let mut walk = Walk::open(journal, from)?;
    let mut found = 0;
    loop {
        let place = match walk.step()? {
            WalkStep::Record(place) => place,
            WalkStep::Sealed(_) => continue,
            WalkStep::End | WalkStep::TornWrite(_) => break,
        };
        if place.leaf.seq >= from && place.leaf.seq <= to {
            let record = Record::read(&walk, place);
            found += u64::from(record.is_some_and(|record| flags.wants(&record)));
        }
        if place.leaf.seq >= to {
            break;
        }
    }
    Ok(found)
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

fn in_json(record: &Record) -> String {
    text::json(&record.to_json().to_string()).into_owned()
}

/// `2026-11-24 02:41:07.123456Z  4711  signed  payments-2026  ...`, the time in UTC: for a
/// person, who wants what matters of each kind first.
fn readable(record: &Record) -> String {
    let at = plain(&Value::from(record.outline.at.replacen('T', " ", 1)));
    let kid = plain(record.outline.data.get("signer_kid").unwrap_or(&Value::Null));
    let rest = words(&record.outline);
    let (seq, kind) = (record.place.leaf.seq, &record.outline.r#type);
    let line = format!("{at}  {seq:>6}  {kind:<8}  {kid:<20}  {rest}");
    text::line(line.trim_end()).into_owned()
}
