//! The lines of a status about break-glass: whoever looks sees first that an emergency key signs,
//! and what is left to do after.

use signing_core::admin::{EmergencyKey, Health, ProxyStatus, SessionHealth};
use signing_core::breakglass::wire::KeyState;

use super::age;

/// The session in force; nothing without one.
pub(super) fn session(health: &Health) -> Vec<String> {
    let Some(session) = &health.breakglass else { return Vec::new() };
    let left = match (session.remaining, session.max_signatures) {
        (Some(left), Some(most)) => format!("{left} of {most} signatures left"),
        (_, _) => "signatures left: unknown, the emergency signer does not say".to_owned(),
    };
    let SessionHealth { emergency_kid, expires_at, .. } = session;
    let mut lines = vec![format!(
        "BREAK-GLASS SESSION {} ({}): {emergency_kid} signs in place of {}, until {expires_at} ({} left), {left}",
        session.session.as_deref().unwrap_or_default(),
        session.incident.as_deref().unwrap_or_default(),
        session.replaces.as_deref().unwrap_or_default().join(", "),
        age(session.expires_in_s.unwrap_or_default()),
    )];
    lines.extend(session.under_freeze.map(|id| {
        format!("the session signs under the freeze {id}; everything else stays frozen, and a new freeze ends the session")
    }));
    lines.extend(session.upstreams_back.iter().flatten().map(|kid| {
        format!(
            "the upstream of {kid} is BACK: end the session: signctl breakglass end --reason ..."
        )
    }));
    lines
}

/// The session in force as the health listener says it, who names neither incident nor quota to everybody.
pub(super) fn in_health(health: &Health) -> Option<String> {
    let SessionHealth { session, incident, emergency_kid, expires_at, .. } =
        health.breakglass.as_ref()?;
    let name = match (session, incident) {
        (Some(session), Some(incident)) => format!(" {session} ({incident})"),
        (_, _) => String::new(),
    };
    Some(format!(
        "BREAK-GLASS SESSION{name}: the emergency key {emergency_kid} signs, until {expires_at}"
    ))
}

/// Emergency keys that are to be destroyed, and a signer that is not there.
pub(crate) fn keys(proxy: &ProxyStatus) -> Vec<String> {
    let there = proxy.emergency_keys.iter().flatten();
    let due = there.filter_map(|key| {
        let EmergencyKey { kid, state, destruction_due, destruction_overdue, copies_left } = key;
        let due = destruction_due.as_ref()?;
        let is_gone = *state == KeyState::Destroyed;
        if is_gone && copies_left.is_empty() {
            return None;
        }
        let left = if is_gone { "with its last copy " } else { "" };
        let attest = if copies_left.is_empty() {
            String::new()
        } else {
            format!(" --attest COPY=WHO for each of its copies: {}", copies_left.join(", "))
        };
        let what = match destruction_overdue {
            Some(true) => "is OVERDUE for destruction since",
            Some(false) | None => "has to be destroyed by",
        };
        Some(format!(
            "emergency key {kid} {left}{what} {due}: signctl breakglass destroy {kid} --reason ... --signers FILE{attest}"
        ))
    });
    let mut lines: Vec<_> = due.collect();
    let cannot = proxy.emergency_cannot_arm.iter();
    lines.extend(cannot.map(|why| format!("break-glass CANNOT BE ARMED: {why}")));
    if proxy.emergency_signer_connected == Some(false) {
        lines.push("the emergency signer is NOT CONNECTED: no break-glass until it is".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::{examples, status};
    use super::*;

    fn in_session() -> Health {
        let session = SessionHealth {
            emergency_kid: "e".to_owned(),
            expires_at: "2026-11-25T00:26:26Z".to_owned(),
            session: Some("INC-7-0a".to_owned()),
            incident: Some("INC-7".to_owned()),
            replaces: Some(["k", "l"].map(str::to_owned).into()),
            expires_in_s: Some(185),
            upstreams_back: Some(vec!["k".to_owned()]),
            remaining: Some(997),
            max_signatures: Some(1_000),
            under_freeze: None,
        };
        Health { breakglass: Some(session), ..examples::health() }
    }

    fn key(kid: &str, state: KeyState, due: Option<(&str, bool)>) -> EmergencyKey {
        EmergencyKey {
            kid: kid.to_owned(),
            state,
            destruction_due: due.map(|(at, _)| at.to_owned()),
            destruction_overdue: due.map(|(_, overdue)| overdue),
            copies_left: Vec::new(),
        }
    }

    #[test]
    fn a_session_is_the_first_line_and_what_is_to_be_done_follows() {
        let proxy = ProxyStatus {
            emergency_signer_connected: Some(true),
            emergency_keys: Some(vec![
                key("e", KeyState::Open, Some(("2026-11-26T00:00:00Z", false))),
                key("old", KeyState::Sealed, Some(("2026-11-20T00:00:00Z", true))),
                key("new", KeyState::Sealed, None),
                key("gone", KeyState::Destroyed, Some(("2026-11-20T00:00:00Z", true))),
            ]),
            ..examples::proxy()
        };
        let said = status(&in_session(), &proxy).words;
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(
            lines[..2],
            [
                "BREAK-GLASS SESSION INC-7-0a (INC-7): e signs in place of k, l, until \
                 2026-11-25T00:26:26Z (3m 05s left), 997 of 1000 signatures left",
                "the upstream of k is BACK: end the session: signctl breakglass end --reason ...",
            ]
        );
        assert!(lines[2].starts_with("d · signing · "), "{said}");
        let mut health = in_session();
        let session = health.breakglass.as_mut().unwrap();
        session.under_freeze = Some(signing_core::FreezeId::new([1; 16]));
        let under = status(&health, &examples::proxy()).words;
        let line = under.lines().nth(1).unwrap();
        assert!(
            line.starts_with(
                "the session signs under the freeze 01010101010101010101010101010101; "
            ),
            "{under}"
        );
        assert!(
            lines[3].starts_with("emergency key e has to be destroyed by 2026-11-26"),
            "{said}"
        );
        assert!(lines[4].starts_with("emergency key old is OVERDUE"), "{said}");
        for unsaid in ["emergency key new", "emergency key gone", "NOT CONNECTED"] {
            assert!(!said.contains(unsaid), "{said}");
        }
    }

    #[test]
    fn health_says_a_session_first_whether_it_is_named_or_not() {
        let mut health = in_session();
        let said = super::super::health(&health).words;
        assert!(
            said.starts_with("BREAK-GLASS SESSION INC-7-0a (INC-7): the emergency key e"),
            "{said}"
        );
        let session = health.breakglass.as_mut().unwrap();
        (session.session, session.incident) = (None, None);
        let said = super::super::health(&health).words;
        assert!(
            said.starts_with("BREAK-GLASS SESSION: the emergency key e signs, until 2026"),
            "{said}"
        );
        assert!(!super::super::health(&examples::health()).words.contains("BREAK-GLASS"));
    }

    #[test]
    fn without_a_session_nothing_is_said_of_one() {
        let said = |proxy| status(&examples::health(), &proxy).words;
        let nothing = said(examples::proxy());
        assert!(
            nothing.starts_with("d · signing · ") && !nothing.contains("emergency"),
            "{nothing}"
        );
        let lost =
            said(ProxyStatus { emergency_signer_connected: Some(false), ..examples::proxy() });
        assert!(lost.contains("NOT CONNECTED"), "{lost}");
        let cannot = said(ProxyStatus {
            emergency_cannot_arm: vec!["roles: x".to_owned()],
            ..examples::proxy()
        });
        assert!(cannot.contains("\nbreak-glass CANNOT BE ARMED: roles: x"), "{cannot}");
    }
}
