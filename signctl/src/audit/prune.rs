//! `signctl audit prune`: removes the oldest segments, whole, of which the database holds every record.

use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use audit::scan::{SegmentFile, segments};
use host::out;
use serde_json::json;

use super::reconcile::Held;
use crate::database::Database;

/// What may go.
#[derive(clap::Args)]
pub(super) struct Flags {
    /// Remove them. Without it, only says which.
    #[arg(long)]
    remove: bool,
    /// So many of the newest segments stay.
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    #[command(flatten)]
    rows: Held,
    #[command(flatten)]
    database: Database,
}

pub(super) fn run(journal: &Path, flags: &Flags, as_json: bool) -> anyhow::Result<ExitCode> {
    let (found, covered) = flags.rows.proxys(journal, &flags.database)?;
    if found.gaps > 0 {
        bail!(
            "nothing is removed: the database and the journal differ ({} times; {}); `signctl audit reconcile` \
             names what does",
            found.gaps,
            found.named.first().map_or("", String::as_str)
        );
    }
    let all = segments(journal).with_context(|| journal.display().to_string())?;
    let keep = usize::try_from(flags.keep).unwrap_or(usize::MAX);
    let prunable = prunable(&all, keep, covered);
    if flags.remove {
        // The oldest first: whenever this dies, what is left is a whole journal that begins later.
        for (segment, _) in &prunable {
            fs::remove_file(&segment.path).with_context(|| segment.path.display().to_string())?;
        }
        File::open(journal)?.sync_all()?;
    }
    let last = prunable.last().map_or(0, |(_, last)| *last);
    if as_json {
        let names: Vec<_> =
            prunable.iter().map(|(segment, _)| segment.path.display().to_string()).collect();
        out::report_json(&json!({
            "removed": flags.remove, "segments": names, "up_to_seq": last, "held_up_to_seq": covered,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines: Vec<_> = prunable
        .iter()
        .map(|(segment, last)| format!("{}  up to record {last}", segment.path.display()))
        .collect();
    lines.push(match (prunable.len(), flags.remove) {
        (0, _) => format!(
            "nothing to remove: what the sinks hold ends with record {covered}, and {keep} segments stay"
        ),
        (count, true) => format!("removed: {}", text::counted(count, "segment")),
        (count, false) => {
            format!("{} can go; --remove removes them", text::counted(count, "segment"))
        }
    });
    out::report(&text::lines(&lines.join("\n")))?;
    Ok(ExitCode::SUCCESS)
}

/// Of all segments, the oldest that may go, each with its last record: the database holds all of it, and
/// `keep` newer ones stay.
fn prunable(all: &[SegmentFile], keep: usize, covered: u64) -> Vec<(SegmentFile, u64)> {
    let pairs = all.iter().zip(all.iter().skip(1)).take(all.len().saturating_sub(keep));
    let with_last = pairs.map(|(one, next)| (one.clone(), next.first_seq.saturating_sub(1)));
    with_last.take_while(|(_, last)| *last <= covered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_oldest_go_and_only_what_is_held() {
        let all: Vec<_> = [1, 11, 21, 31]
            .map(|first_seq| SegmentFile { first_seq, path: format!("{first_seq}").into() })
            .into();
        for (keep, covered, expected) in [
            (1, 0, vec![]),
            (1, 9, vec![]),
            (1, 10, vec![10]),
            (1, 29, vec![10, 20]),
            // The newest is written to, whatever is held of it.
            (1, u64::MAX, vec![10, 20, 30]),
            (3, u64::MAX, vec![10]),
            (4, u64::MAX, vec![]),
            (9, u64::MAX, vec![]),
        ] {
            let last: Vec<_> =
                prunable(&all, keep, covered).into_iter().map(|(_, last)| last).collect();
            assert_eq!(last, expected, "keep {keep}, covered {covered}");
        }
    }
}
