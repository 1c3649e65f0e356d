//! What `signctl audit verify` says.

use audit::compare::Compared;
use audit::verify::{Clock, Keys, Report};
use audit::walk::Defect;
use serde_json::{Value, json};
use signing_core::journal::{Head, Leaf, instant};
use text::counted;

use super::{Found, OtherJournal};

impl Found {
    pub(super) fn table(&self, seconds: f64, speed: f64) -> String {
        let Self { report, receipt, kept, state, with } = self;
        let mut rows = vec![
            ("verdict", self.verdict()),
            ("log", log(report)),
            (
                "records",
                format!(
                    "{} from record {} on, {}, {} bytes",
                    report.records,
                    report.first_seq,
                    counted(report.segments, "segment"),
                    report.bytes
                ),
            ),
            ("head", head(report.head)),
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
        rows.extend(clock(&report.clock).into_iter().map(|line| ("clock", line)));
        rows.extend(report.torn.as_ref().map(|torn| ("end", torn.to_string())));
        if report.live {
            let written = "by a process right now; it may be further already";
            rows.push(("written", written.to_owned()));
        }
        // Of a journal without a defect, all that had to be there is there.
        let confirmed = |what: String| match report.defect {
            None => format!("found: {what}"),
            Some(_) => format!("NOT confirmed, because of the defect: {what}"),
        };
        rows.extend(receipt.map(|Leaf { seq, hash }| {
            ("receipt", confirmed(format!("record {seq} with the leaf {hash}")))
        }));
        rows.extend(kept.map(|kept| {
            let what =
                format!("the first {} with the root {}", counted(kept.size, "record"), kept.root);
            ("kept head", confirmed(what))
        }));
        if let Some(kept) = state.as_ref().filter(|_| report.defect.is_none()) {
            rows.push(("state", format!("{} is in it: {}", kept.whose, head(Some(kept.head)))));
        }
        rows.extend(with.iter().flat_map(OtherJournal::rows));
        let rows = rows.iter().map(|(name, value)| format!("{name:<20}{value}"));
        rows.collect::<Vec<_>>().join("\n")
    }

    /// What was found, and in what: a clean verdict is worth as much as what was checked.
    fn verdict(&self) -> String {
        if let Some(defect) = self.defect() {
            return format!("DEFECT: {defect}");
        }
        let Some(with) = &self.with else { return clean(&self.report) };
        let other = with.directory.display();
        format!("{}; the other journal, {other}: {}", clean(&self.report), clean(&with.report))
    }

    pub(super) fn to_json(&self, seconds: f64, speed: f64) -> Value {
        let Self { report, receipt, kept, state, with } = self;
        // A journal with a defect confirms nothing.
        let is_found = report.defect.is_none();
        let torn = report.torn.as_ref().map(|torn| {
            json!({
                "record": torn.record,
                "file": torn.file.display().to_string(),
                "at": torn.at,
                "sentence": torn.to_string(),
            })
        });
        json!({
            "ok": self.defect().is_none(),
            "verdict": self.verdict(),
            "log": report.log.map(|log| log.origin()),
            "first_seq": report.first_seq,
            "records": report.records,
            "segments": report.segments,
            "bytes": report.bytes,
            "head": head_json(report.head),
            "checkpoints": report.checkpoints,
            "open_intents": report.open_intents,
            "signatures_checked": report.signatures_checked,
            "signatures_unchecked": report.signatures_unchecked,
            "keys": match report.keys { Keys::Registered => "registered", Keys::SelfAsserted => "self_asserted" },
            "clock": clock_json(&report.clock),
            "receipt": receipt.map(|Leaf { seq, hash }| json!({
                "seq": seq, "leaf": hash.to_string(), "found": is_found,
            })),
            "kept_head": kept.map(|Head { size, root }| json!({
                "size": size, "root": root.to_string(), "found": is_found,
            })),
            "live": report.live,
            "seconds": seconds,
            "records_per_s": speed,
            "state": state.as_ref().map(|kept| head_json(Some(kept.head))),
            "with": with.as_ref().map(OtherJournal::to_json),
            "defect": self.defect().map(defect_json),
            "torn": torn,
        })
    }
}

impl OtherJournal {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let Self { directory, report, named, names } = self;
        let other = format!(
            "{}: {}, {} from record {} on, head {}",
            directory.display(),
            log(report),
            text::counted(report.records, "record"),
            report.first_seq,
            head(report.head)
        );
        let mut rows = vec![("other journal", other)];
        rows.extend(clock(&report.clock).into_iter().map(|line| ("its clock", line)));
        if self.defect().is_none() {
            rows.push(("it is named", compared(named)));
            rows.push(("it names", compared(names)));
        }
        rows
    }

    fn to_json(&self) -> Value {
        let compared = |Compared { found, moved_away, earlier, .. }: &Compared| json!({"found": found, "moved_away": moved_away, "earlier_log": earlier});
        json!({
            "journal": self.directory.display().to_string(),
            "log": self.report.log.map(|log| log.origin()),
            "first_seq": self.report.first_seq,
            "records": self.report.records,
            "head": head_json(self.report.head),
            "clock": clock_json(&self.report.clock),
            "named": compared(&self.named),
            "names": compared(&self.names),
        })
    }
}

fn log(report: &Report) -> String {
    report.log.map_or_else(|| "unknown".to_owned(), |log| log.origin())
}

fn head(head: Option<Head>) -> String {
    head.map_or_else(|| "none".to_owned(), |head| format!("{}:{}", head.size, head.root))
}

fn head_json(head: Option<Head>) -> Value {
    head.map_or(Value::Null, |head| json!({"size": head.size, "root": head.root.to_string()}))
}

/// The heads and records of one journal that the other one names.
fn compared(Compared { found, moved_away, earlier, .. }: &Compared) -> String {
    let mut said = match found {
        0 => "nowhere".to_owned(),
        _ => format!("{found} times, and each head and record is there"),
    };
    for (count, what) in [
        (moved_away, "of records that were moved away, not checked"),
        (earlier, "of a log that was there before, not checked"),
    ] {
        if *count > 0 {
            said.push_str(&format!("; {count} {what}"));
        }
    }
    said
}

/// A line for each time that the clock went back.
fn clock(clock: &Clock) -> Vec<String> {
    let lines = clock.listed.iter().map(|one| {
        format!(
            "went back by {:.3} s: record {} is of {}, and record {} behind it of {}",
            one.by().as_secs_f64(),
            one.from.seq,
            instant(one.from.at),
            one.to.seq,
            instant(one.to.at)
        )
    });
    let more = (clock.more > 0).then(|| format!("went back {} times more", clock.more));
    lines.chain(more).collect()
}

fn clock_json(clock: &Clock) -> Value {
    let listed = clock.listed.iter().map(|one| {
        json!({
            "back_by_s": one.by().as_secs_f64(),
            "from": {"record": one.from.seq, "at": instant(one.from.at)},
            "to": {"record": one.to.seq, "at": instant(one.to.at)},
        })
    });
    json!({"went_back": listed.collect::<Vec<_>>(), "more": clock.more})
}

/// What a journal without a defect was checked for.
fn clean(report: &Report) -> String {
    let (checked, unchecked) = (report.signatures_checked, report.signatures_unchecked);
    let (whose, why) = match report.keys {
        Keys::Registered => (
            "the registry's audit keys",
            "Ed25519 and ML-DSA sign messages, which are not kept, or the signer is not in the registry",
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

fn defect_json(defect: &Defect) -> Value {
    json!({
        "record": defect.record,
        "file": defect.file.display().to_string(),
        "at": defect.at,
        "what": defect.what,
        "sentence": defect.to_string(),
    })
}
