//! What others keep of an incident, in their own forms: the sign-off of each approver, the entry of the release
//! checklist, and the skeleton of the root cause analysis. Pure.

use signctl::cloudtrail::report::Report;
use text::counted;

use super::ceremony::Session;
use super::facts::Facts;
use super::page::Checked;
use crate::scope::{Wanted, Window, lasted, shown};

/// So many outages a summary names.
const SUMMARY_MAX: usize = 20;

/// One block for each approver of each session. A signature has no time of its own: it was made before the
/// session began.
pub(super) fn sign_off(facts: &Facts) -> String {
    let of_session = |(_, session): (_, &Session)| {
        let blocks = session.approvals.iter().map(|approval| {
            format!(
                "signer_name: {}\nsigner_role: {}\nmodule: {}\napproved_at: {} (at the latest: the session began)\n\
                 scope: {}\nSIGNATURE: audit_events row {}, key {}\n{}\n",
                approval.principal,
                approval.roles,
                facts.deployment(),
                session.at,
                session.scope(),
                session.row,
                approval.key,
                approval.armored.trim_end(),
            )
        });
        blocks.collect::<Vec<_>>().join("\n")
    };
    facts.sessions().map(of_session).collect::<Vec<_>>().join("\n")
}

/// The entry of `RELEASE_CHECKLIST.md`: a summary, and what follows from it. What the journals show is ticked.
pub(super) fn release_checklist(
    wanted: &Wanted,
    window: &Window,
    facts: &Facts,
    checked: Checked,
) -> String {
    let tick = |is_done: bool| if is_done { 'x' } else { ' ' };
    let (sessions, signatures) = (facts.sessions().count(), facts.signatures().count());
    let journals = if facts.is_fleet() { "the journals of all members" } else { "both journals" };
    let (used, answered) = answered(facts);
    let mut lines = vec![
        format!("## {}: signing outage at {}", wanted.title(), facts.deployment()),
        String::new(),
        format!("- Outage summary: {}", summary(window, facts)),
        format!(
            "- Break-glass: {}, {}",
            counted(sessions, "session"),
            counted(signatures, "emergency signature")
        ),
        format!("- [{}] the incident is closed", tick(window.is_over)),
        format!("- [{}] {journals} are verified, and agree", tick(checked.journals)),
        format!("- [{}] nobody signed around the proxy, by KMS's own log", tick(checked.kms)),
        format!(
            "- [{}] somebody answers for each credential that was used ({answered} of {used})",
            tick(used == answered)
        ),
    ];
    lines.extend(facts.keys().map(|(member, kid, key)| {
        let key_of = member.of(&format!("the emergency key {kid}"));
        format!("- [{}] {key_of} is destroyed, with each copy", tick(key.is_gone()))
    }));
    lines.extend(
        [
            "the rows of the trail are reconciled with the journals (signctl audit reconcile)",
            "the policy service has a verdict for each emergency signature",
            "the root cause analysis is filed: LINK",
            "follow-ups: OWNER, DATE",
        ]
        .map(|left| format!("- [ ] {left}")),
    );
    lines.join("\n")
}

/// The skeleton: what the journals know is filled in, and the rest is asked for.
pub(super) fn root_cause(
    wanted: &Wanted,
    window: &Window,
    facts: &Facts,
    kms: Option<&Report>,
) -> String {
    let load = &facts.load;
    let around = kms.map_or_else(|| "TO WRITE".to_owned(), Report::verdict);
    let refused: Vec<_> =
        load.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let refused = if refused.is_empty() { "none".to_owned() } else { refused.join(", ") };
    let outages = facts.outages(window).filter(|(_, outage)| !outage.is_drill);
    let controls = outages.map(|(member, outage)| {
        let refuse = outage.time_to_refuse().map_or_else(|| "unknown".to_owned(), lasted);
        let recover = outage.time_to_recover().map_or_else(|| "not yet".to_owned(), lasted);
        format!(
            "- {}: refused after {refuse} at most, recovered after {recover}",
            member.of(&outage.signer_kid)
        )
    });
    let controls: Vec<_> = controls.collect();
    let controls =
        if controls.is_empty() { "- no gate shut".to_owned() } else { controls.join("\n") };
    format!(
        "# RCA {}\n\n## Summary\n\n{}\n\n## Timeline\n\nSee the report's timeline. Add what people did elsewhere: \
         TO WRITE\n\n## Impact\n\n- Signatures by KMS or HSM: {}\n- Requests without a signature, by reason: {refused}\n\
         - Signatures withheld: {}\n- Emergency signatures: {}\n- Who noticed, and what it cost them: TO WRITE\n\n\
         ## Controls effectiveness\n\n{controls}\n- Did an alert fire, and when: TO WRITE\n- Was anything signed around \
         the gate: {around}\n\n## Root cause\n\nTO WRITE\n\n## Follow-ups\n\n| what | who | until |\n| --- | --- | --- |\n\
         | TO WRITE | | |",
        wanted.title(),
        summary(window, facts),
        load.signed,
        load.withheld,
        facts.signatures().count(),
    )
}

/// From when to when, and for how long nobody got a signature of which signer.
pub(super) fn summary(window: &Window, facts: &Facts) -> String {
    let outages = facts.outages(window).filter(|(_, outage)| !outage.is_drill);
    let outages = outages.map(|(member, outage)| {
        let out = match outage.time_to_recover() {
            Some(out) => format!("was shut for {}", lasted(out)),
            None => "is shut".to_owned(),
        };
        format!("{} {out} from {}", member.of(&outage.signer_kid), shown(outage.shut))
    });
    let mut outages: Vec<_> = outages.collect();
    let more = outages.len().saturating_sub(SUMMARY_MAX);
    outages.truncate(SUMMARY_MAX);
    if more > 0 {
        outages.push(format!("and {more} more"));
    }
    if outages.is_empty() { "no gate shut".to_owned() } else { outages.join("; ") }
}

/// How many credentials somebody has to replace, and for how many the journal has who answers.
fn answered(facts: &Facts) -> (usize, usize) {
    let names = facts.uses.names();
    (names.len(), names.iter().filter(|name| facts.uses.is_answered(name)).count())
}
