//! How a member is in its fleet, in words.

use signing_core::admin::{FleetMember, HeldFreeze, ProxyStatus};

/// The freezes of the fleet that are in force here, how they end, and whether the fleet is heard.
pub(super) fn lines(proxy: &ProxyStatus) -> Vec<String> {
    let Some(member) = &proxy.fleet else { return Vec::new() };
    let held = member.held.iter().map(|HeldFreeze { id, reason, by, since }| {
        format!("FROZEN BY THE FLEET since {since}, freeze {id} by {by}: {reason}")
    });
    let mut lines: Vec<_> = held.collect();
    if !lines.is_empty() {
        lines.push(
            "to end it: have a statement signed, then: signctl unfreeze --statement FILE"
                .to_owned(),
        );
    }
    lines.extend(link(member));
    lines
}

fn link(member: &FleetMember) -> Option<String> {
    let fleet = member.fleet.as_ref()?;
    let heard = match (member.joined, member.lost, member.heard_s_ago) {
        (false, _, _) => {
            "NEVER READ: signing begins after the first reading; is signing-trail running?"
                .to_owned()
        }
        (true, true, None) => "NOT HEARD since the start".to_owned(),
        (true, true, Some(seconds)) => format!("NOT HEARD for {seconds} s"),
        (true, false, _) => "heard".to_owned(),
    };
    Some(format!("fleet {fleet}: {heard}"))
}

#[cfg(test)]
mod tests {
    use super::super::examples;
    use super::*;

    fn said(member: FleetMember) -> String {
        lines(&ProxyStatus { fleet: Some(member), ..examples::proxy() }).join("\n")
    }

    #[test]
    fn a_freeze_of_the_fleet_says_how_it_ends_and_a_silent_fleet_is_named() {
        let held = HeldFreeze {
            id: "01".repeat(16),
            reason: "INC-42".to_owned(),
            by: "uid 0 (root)".to_owned(),
            since: "2026-11-26T10:00:00Z".to_owned(),
        };
        let member = |joined, lost, held: &[HeldFreeze]| FleetMember {
            fleet: Some("payments".to_owned()),
            joined,
            lost,
            heard_s_ago: Some(61),
            on_loss: Some("keep".to_owned()),
            held: held.to_vec(),
            ended: Vec::new(),
        };
        assert_eq!(said(member(true, false, &[])), "fleet payments: heard");
        assert_eq!(said(member(true, true, &[])), "fleet payments: NOT HEARD for 61 s");
        assert!(said(member(false, true, &[])).contains("NEVER READ"));
        let frozen = said(member(true, false, &[held]));
        assert!(
            frozen.contains("by uid 0 (root): INC-42") && frozen.contains("--statement"),
            "{frozen}"
        );
    }
}
