//! What the report says, part by part: pure.

use signctl::cloudtrail::report::Report;

use super::facts::{Facts, Line};
use super::fleet;
use super::forms::{release_checklist, root_cause, sign_off, summary};
use super::health::Outage;
use super::member::Member;
use super::page::{Block, Checked, Page, Section};
use super::picture::{self, LANES_MAX};
use crate::scope::{Wanted, Window, lasted, shown};

/// The part about each member; a report about one proxy has no such part.
const MEMBERS: &str = "Members";

/// What verifying the journals found.
#[derive(Debug)]
pub(super) struct Verified {
    /// How much was verified, under which keys; or the defect.
    pub(super) found: Result<String, String>,
    /// What could not be read, and so is not in the report.
    pub(super) unread: Option<String>,
    /// What KMS's own log says beside the journals, if it was given.
    pub(super) kms: Option<Report>,
}

impl Verified {
    pub(super) fn is_good(&self) -> bool {
        self.is_verified() && self.kms.as_ref().is_none_or(Report::is_good)
    }

    pub(super) fn is_verified(&self) -> bool {
        self.found.is_ok() && self.unread.is_none()
    }
}

/// The whole report.
///
/// # Errors
/// If a picture cannot be drawn.
pub(super) fn page(
    wanted: &Wanted,
    window: &Window,
    facts: &Facts,
    verified: &Verified,
) -> anyhow::Result<Page> {
    let checked = Checked {
        journals: verified.is_verified(),
        kms: verified.kms.as_ref().is_some_and(Report::is_good),
    };
    let mut sections = vec![
        Section { title: "Summary", blocks: overview(window, facts, verified) },
        Section { title: MEMBERS, blocks: fleet::members(window, facts)? },
        Section { title: "Outages", blocks: outages(window, facts)? },
        Section { title: "Approvals", blocks: approvals(facts) },
        Section { title: "Emergency signatures", blocks: emergency(window, facts)? },
        Section { title: "Destruction of emergency keys", blocks: destruction(facts) },
        Section { title: "Reconciled", blocks: reconciled(facts, verified) },
        Section { title: "Requests", blocks: requests(window, facts)? },
        Section { title: "Credentials that were used", blocks: credentials(window, facts) },
        Section { title: "Timeline", blocks: timeline(facts) },
        Section { title: "Sign-off", blocks: lines(sign_off(facts), "No session was approved.") },
        Section {
            title: "Entry for RELEASE_CHECKLIST.md",
            blocks: vec![Block::Lines(release_checklist(wanted, window, facts, checked))],
        },
        Section {
            title: "Skeleton of the root cause analysis",
            blocks: vec![Block::Lines(root_cause(wanted, window, facts, verified.kms.as_ref()))],
        },
    ];
    if !facts.is_fleet() {
        sections.retain(|section| section.title != MEMBERS);
    }
    Ok(Page { title: format!("{}: {}", wanted.title(), facts.deployment()), sections })
}

fn overview(window: &Window, facts: &Facts, verified: &Verified) -> Vec<Block> {
    let (from, to) = (shown(window.from), shown(window.to));
    let is_over = if window.is_over { "" } else { " It is NOT over yet." };
    let mut blocks = vec![
        Block::Text(format!(
            "From {from} to {to}, in UTC by the clocks of {}.{is_over}",
            if facts.is_fleet() { "all members" } else { "both processes" }
        )),
        Block::Text(format!("Outages: {}.", summary(window, facts))),
    ];
    blocks.push(match &verified.found {
        Ok(found) => Block::Text(format!("The journals: {found}.")),
        Err(defect) => {
            Block::Alarm(format!("The journals have a DEFECT, so nothing here is proven: {defect}"))
        }
    });
    if let Some(unread) = &verified.unread {
        blocks.push(Block::Alarm(format!(
            "A part of the journals could NOT be read and is missing here: {unread}"
        )));
    }
    for (member, kid, key) in facts.keys() {
        if key.destroyed.is_none() {
            let due = key
                .due
                .as_deref()
                .unwrap_or("the end of its session and the time that is configured");
            let said = format!("The emergency key {kid} is NOT destroyed. It is due: {due}");
            blocks.push(Block::Alarm(member.of(&said)));
        }
        if !key.copies_left().is_empty() {
            let copies = key.copies_left().join(", ");
            let said = format!(
                "Nobody attests that these copies of the emergency key {kid} are destroyed: {copies}"
            );
            blocks.push(Block::Alarm(member.of(&said)));
        }
    }
    blocks.extend(facts.bundles.iter().map(|sha256| {
        Block::Text(format!(
            "The state was captured in a bundle whose SHA256SUMS has the SHA-256 {sha256}."
        ))
    }));
    match &verified.kms {
        Some(kms) if !kms.is_good() => {
            blocks.push(Block::Alarm(format!("By KMS's own log: {}.", kms.verdict())));
        }
        Some(kms) => blocks.push(Block::Text(format!("By KMS's own log: {}.", kms.verdict()))),
        None => {}
    }
    blocks
}

/// Whether anybody signed around the journals, and what a recovery recorded of that and of the rows.
fn reconciled(facts: &Facts, verified: &Verified) -> Vec<Block> {
    let mut blocks = vec![match &verified.kms {
        None => Block::Text(
            "KMS's own log was not given (--cloudtrail). So this report does not say whether anybody signed with the keys \
             around the proxy. Whether the rows of the trail say what the journals say is shown by signctl audit reconcile."
                .to_owned(),
        ),
        Some(kms) => Block::Lines(kms.lines().join("\n")),
    }];
    let rows = facts.reconciled.iter().map(|said| vec![said.clone()]).collect();
    blocks.extend(table(
        &["recorded by a recovery (section 5.3 of the runbook)"],
        rows,
        "No recovery recorded what was verified and reconciled.",
    ));
    blocks
}

fn outages(window: &Window, facts: &Facts) -> anyhow::Result<Vec<Block>> {
    let known = |at: Option<time::OffsetDateTime>| at.map_or_else(|| "unknown".to_owned(), shown);
    let row = |(member, outage): (&Member, &Outage)| {
        let drill = if outage.is_drill { " (a drill)" } else { "" };
        vec![
            member.cell(),
            format!("{}{drill}", outage.signer_kid),
            known(outage.last_good),
            known(outage.first_failed),
            shown(outage.shut),
            outage
                .time_to_refuse()
                .map_or_else(|| "unknown".to_owned(), |took| format!("at most {}", lasted(took))),
            outage.open.map_or_else(|| "not yet".to_owned(), shown),
            outage.time_to_recover().map_or_else(|| "not yet".to_owned(), lasted),
            outage.why.clone(),
        ]
    };
    let rows = facts.outages(window).map(row).collect();
    let mut blocks = by_member(
        facts,
        &[
            "member",
            "signer",
            "last good",
            "first failed",
            "shut",
            "time to refuse",
            "open again",
            "time to recover",
            "why",
        ],
        rows,
        "No gate shut.",
    );
    blocks.push(Block::Text(
        "\"Last good\" is the latest moment of which a signature by KMS or the HSM is known; a canary counts from the \
         beginning of the time that its record covers. So the time to refuse is an upper bound."
            .to_owned(),
    ));
    let states = facts.members.first().filter(|_| !facts.is_fleet()).map(|it| &it.health.states);
    if let Some(states) = states.filter(|states| !states.is_empty()) {
        let more = states.len().saturating_sub(LANES_MAX);
        let more = if more == 0 {
            String::new()
        } else {
            format!(" {more} more are in the timeline only.")
        };
        blocks.push(Block::Picture(
            format!(
                "Each gate and region over time. The higher and darker, the worse: low and light is open, half is \
                 probing, high is shut, high and black is sealed or stopped.{more}"
            ),
            picture::lanes(window, states.iter())?,
        ));
    }
    Ok(blocks)
}

fn approvals(facts: &Facts) -> Vec<Block> {
    let mut blocks = Vec::new();
    for (member, session) in facts.sessions() {
        blocks.push(Block::Text(member.of(&format!(
            "{} was activated at {} by {}: {}. Scope: {}. The approvers attest an outage since {}. The proxy claimed: {}.",
            session.name,
            session.at,
            session.by,
            session.justification,
            session.scope(),
            session.outage_since,
            if session.claimed.is_empty() { "nothing" } else { &session.claimed },
        ))));
        let rows = session.approvals.iter().map(|approval| {
            vec![
                approval.principal.clone(),
                approval.roles.clone(),
                approval.key.clone(),
                session.at.clone(),
            ]
        });
        let head = &["who", "in which role", "with which key", "approved at the latest"];
        blocks.extend(table(head, rows.collect(), "Nobody approved it."));
        blocks.push(Block::Text(match &session.end {
            Some(end) => format!(
                "It ended at {} by {}, after {} signatures: {}.",
                end.at, end.by, end.signatures, end.reason
            ),
            None => "It has NOT ended by these journals.".to_owned(),
        }));
    }
    if blocks.is_empty() {
        blocks.push(Block::Text("No session was activated.".to_owned()));
    }
    blocks
}

fn emergency(window: &Window, facts: &Facts) -> anyhow::Result<Vec<Block>> {
    let rows = facts.signatures().map(|(member, one)| {
        vec![
            member.cell(),
            one.seq.to_string(),
            one.at.clone(),
            one.caller.clone(),
            one.input_digest.clone(),
            format!("{} for {}", one.key, one.replaces),
            one.request_id.clone(),
            one.session.clone(),
        ]
    });
    let rows: Vec<_> = rows.collect();
    let any = !rows.is_empty();
    let head = &[
        "member",
        "record",
        "at",
        "caller",
        "what was signed",
        "key, in place of",
        "request",
        "session",
    ];
    let mut blocks = vec![Block::Text(format!(
        "{} by the emergency signer's journal, {} by the proxy's.",
        rows.len(),
        facts.load.signed_in_session
    ))];
    blocks.extend(by_member(facts, head, rows, "None."));
    if any {
        let caption = "Emergency signatures in each sixtieth of the time.".to_owned();
        blocks.push(Block::Picture(
            caption,
            picture::bars(window, &facts.load.emergency, "signatures")?,
        ));
    }
    Ok(blocks)
}

fn destruction(facts: &Facts) -> Vec<Block> {
    let rows = facts.keys().map(|(member, kid, key)| {
        let overdue = if key.is_overdue { "yes" } else { "no" };
        let copies = key.copies.iter().map(|(copy, who)| match who {
            Some(who) => format!("{copy}: {who}"),
            None => format!("{copy}: NOT attested"),
        });
        let copies: Vec<_> = copies.collect();
        let copies = if copies.is_empty() { "-".to_owned() } else { copies.join("; ") };
        vec![
            member.cell(),
            kid.clone(),
            key.due.clone().unwrap_or_else(|| "not yet".to_owned()),
            overdue.to_owned(),
            key.destroyed.clone().unwrap_or_else(|| "NOT destroyed".to_owned()),
            copies,
        ]
    });
    by_member(
        facts,
        &["member", "key", "due", "was overdue", "destroyed", "its copies"],
        rows.collect(),
        "No session used a key.",
    )
}

fn requests(window: &Window, facts: &Facts) -> anyhow::Result<Vec<Block>> {
    let load = &facts.load;
    let mut blocks = vec![Block::Text(format!(
        "Signatures by KMS or the HSM: {}. Made and withheld: {}.",
        load.signed, load.withheld
    ))];
    let rows = load.refused.iter().map(|(reason, count)| vec![reason.clone(), count.to_string()]);
    let rows: Vec<_> = rows.collect();
    let any = !rows.is_empty();
    blocks.extend(table(
        &["reason", "requests without a signature"],
        rows,
        "No refusal and no failure is recorded. A refusal gets its record some seconds later.",
    ));
    if any {
        let caption = "Requests without a signature in each sixtieth of the time. Refusals count when their record was \
                       written, some seconds later.";
        blocks.push(Block::Picture(
            caption.to_owned(),
            picture::bars(window, &load.refusals, "requests")?,
        ));
    }
    for (upstream, parts) in &load.latency {
        let caption = format!(
            "How long calls of {upstream} took that signed, in milliseconds: the line is the mean of each sixtieth of the \
             time, a cross the slowest."
        );
        blocks.push(Block::Picture(caption, picture::latency(window, parts)?));
    }
    Ok(blocks)
}

fn credentials(window: &Window, facts: &Facts) -> Vec<Block> {
    let names = facts.uses.names();
    let is_asked = |name: &String| names.contains(name) && !facts.uses.is_answered(name);
    let (since, until) = (shown(window.since), shown(window.until));
    let what = if window.is_over && window.until < window.to {
        "the end. What was used after the end is not listed: nobody has to answer for it here"
    } else {
        "the newest record"
    };
    let mut blocks = vec![Block::Text(format!("Uses from {since} to {until}, {what}."))];
    let is_any_left = facts.uses.iter().any(|(credential, _)| is_asked(&credential.name));
    let rows = facts.uses.iter().map(|(credential, seen)| {
        let name = &credential.name;
        let answered = match (is_asked(name), facts.uses.is_answered(name)) {
            (true, _) => "NO",
            (false, true) => "yes",
            (false, false) => "-",
        };
        vec![
            credential.kind.word().to_owned(),
            name.clone(),
            seen.count.to_string(),
            seen.first.clone(),
            seen.last.clone(),
            answered.to_owned(),
        ]
    });
    let head = &["kind", "name", "uses", "first", "last", "somebody answers for it"];
    blocks.extend(table(head, rows.collect(), "None."));
    if is_any_left {
        blocks.push(Block::Text(
            "NO: nobody recorded what was done with this credential. While the incident is open, signctl recover \
             --rotated NAME=WHO records it. Later, write it into the root cause analysis. An emergency key and an \
             approver have \"-\": the key is destroyed instead, and an approval needs no replacement."
                .to_owned(),
        ));
    }
    blocks
}

fn timeline(facts: &Facts) -> Vec<Block> {
    let row = |line: &Line| {
        let (at, journal, kind) =
            (line.at.clone(), line.journal.word().to_owned(), line.kind.to_owned());
        let member = facts.members.get(line.member).map(Member::cell).unwrap_or_default();
        vec![member, at, format!("{journal} {}", line.seq), kind, line.what.clone()]
    };
    let rows = facts.timeline.iter().map(row).collect();
    let head = &["member", "at", "record", "type", "what"];
    let mut blocks = by_member(facts, head, rows, "Nothing happened.");
    if facts.left_out > 0 {
        blocks.push(Block::Alarm(format!(
            "{} more records are NOT here; signctl audit export has all of them.",
            facts.left_out
        )));
    }
    blocks
}

/// Rows that begin with their member. Where there is one only, nobody needs its name.
fn by_member(
    facts: &Facts,
    head: &'static [&'static str],
    mut rows: Vec<Vec<String>>,
    none: &str,
) -> Vec<Block> {
    if facts.is_fleet() {
        return table(head, rows, none);
    }
    for row in &mut rows {
        row.drain(..1);
    }
    table(head.get(1..).unwrap_or_default(), rows, none)
}

fn table(head: &'static [&'static str], rows: Vec<Vec<String>>, none: &str) -> Vec<Block> {
    vec![if rows.is_empty() { Block::Text(none.to_owned()) } else { Block::Table(head, rows) }]
}

fn lines(lines: String, none: &str) -> Vec<Block> {
    vec![if lines.is_empty() { Block::Text(none.to_owned()) } else { Block::Lines(lines) }]
}
