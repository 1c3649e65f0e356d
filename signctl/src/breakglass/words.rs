//! Answers about break-glass in words, for a person.

use signing_core::admin::FreezeInForce;
use signing_core::admin::breakglass::{
    Accepted, Activated, Breakglass, Destroyed, Ended, ProxyAccepted, RefusedSigner, Session,
    SignerUnsealed,
};
use signing_core::breakglass::wire::{EmergencyKey, SessionState, State};

use crate::show::{Said, noted, unread};

/// A session that began.
pub(super) fn activated(Activated { session, .. }: &Activated) -> Said {
    Said::done(held(session))
}

/// A session that ended.
pub(super) fn ended(ended: &Ended) -> Said {
    let due = ended.destruction_due.as_deref().unwrap_or("a time that the signer knows");
    Said::done(format!(
        "the session {} is over; its key has to be destroyed by {due}{}{}",
        ended.session,
        unread(ended.connections_cut),
        noted(ended.note.as_deref())
    ))
}

/// A signer that is accepted.
pub(super) fn accepted(Accepted { instance, head, known, .. }: &Accepted) -> Said {
    Said::done(format!(
        "accepted: the emergency signer {instance} with the log {head}\nknown before: {}\nthe proxy connects \
         to it by itself",
        known.as_deref().unwrap_or("-")
    ))
}

/// A proxy that its signer accepts.
pub(super) fn proxy_accepted(ProxyAccepted { instance, head, known, .. }: &ProxyAccepted) -> Said {
    Said::done(format!(
        "accepted: the proxy {instance} with the log {head}\nknown before: {}\nthe proxy connects by itself",
        known.as_deref().unwrap_or("-")
    ))
}

/// A signer whose seal has ended.
pub(super) fn unsealed(SignerUnsealed { sealed_for, .. }: &SignerUnsealed) -> Said {
    Said::done(format!("the emergency signer is unsealed; it was sealed for {sealed_for}"))
}

/// A key that is destroyed.
pub(super) fn destroyed(destroyed: &Destroyed) -> Said {
    let Destroyed { emergency_kid, overwritten, copies_left, .. } = destroyed;
    let how = if *overwritten { "overwritten and removed" } else { "removed" };
    let left = if copies_left.is_empty() {
        String::new()
    } else {
        format!(
            "\nit STAYS DUE until somebody attests that each copy is destroyed; run the same again with --attest \
             COPY=WHO for: {}",
            copies_left.join(", ")
        )
    };
    let words = format!(
        "the key {emergency_kid} is destroyed: its file was {how}, and it is refused for ever{left}"
    );
    Said { words, is_good: copies_left.is_empty() }
}

/// How all is.
pub(super) fn status(known: &Breakglass) -> Said {
    let mut lines = vec![match &known.session {
        Some(in_force) => session(in_force),
        None => "no session is in force".to_owned(),
    }];
    let stray = known.signer.as_ref().and_then(|signer| signer.session.as_ref());
    if let (None, Some(stray)) = (&known.session, stray) {
        lines.push(format!(
            "the emergency signer HOLDS a session that is not in force in this proxy; end it: signctl \
             breakglass end\n{}",
            held(stray)
        ));
    }
    lines.extend(known.freeze.as_ref().map(|FreezeInForce { id, since, by, reason, .. }| {
        let id = id.map(|id| format!(" (freeze {id})")).unwrap_or_default();
        format!("FROZEN since {since} by {by}: {reason}{id}")
    }));
    lines.extend(known.outages.iter().map(|outage| {
        let counts = if outage.qualifies {
            "long enough for break-glass"
        } else {
            "not long enough, or not counting"
        };
        format!(
            "outage of {} for {} s, since {}: {counts}",
            outage.signer_kid, outage.seconds, outage.since
        )
    }));
    match &known.signer {
        Some(State { instance, unlocked, cannot_arm, keys, .. }) => {
            let waits = if *unlocked { "a passphrase waits" } else { "no passphrase waits" };
            lines.push(format!("emergency signer {instance}: {waits}"));
            lines.extend(cannot_arm.iter().map(|why| format!("  it CANNOT BE ARMED: {why}")));
            lines.extend(keys.iter().map(key));
        }
        None if known.refused_signer.is_some() => {
            lines.extend(known.refused_signer.as_ref().map(refused));
        }
        None if known.configured => lines.push(
            "the emergency signer is NOT CONNECTED; is `breakglass-signer serve` running?"
                .to_owned(),
        ),
        None => {
            lines.push("no emergency signer is configured ([breakglass] signer_socket)".to_owned());
        }
    }
    Said::done(lines.join("\n"))
}

fn refused(RefusedSigner { instance, head, known, why }: &RefusedSigner) -> String {
    format!(
        "the emergency signer {instance} is REFUSED: {why}\n  it shows the head {head}\n  known is the head \
         {}\n  once it is clear how this came about: signctl breakglass accept-signer --reason WHY",
        known.as_deref().unwrap_or("-")
    )
}

fn key(key: &EmergencyKey) -> String {
    let due = key.destruction_due.as_ref().map(|due| format!(", to be destroyed by {due}"));
    let late = if key.destruction_overdue { ": OVERDUE" } else { "" };
    let copies = if key.copies_left.is_empty() {
        String::new()
    } else {
        format!("; copies: {}", key.copies_left.join(", "))
    };
    format!("  {}  {}{}{late}{copies}", key.kid, key.state.word(), due.unwrap_or_default())
}

/// A session as the emergency signer has it.
fn held(held: &SessionState) -> String {
    session(&Session::from(held.clone()))
}

fn session(session: &Session) -> String {
    let left = match (session.remaining, session.max_signatures) {
        (Some(left), Some(most)) => format!("\n{left} of {most} signatures are left"),
        (_, _) => String::new(),
    };
    let under = session.under_freeze.map(|id| format!("\nit signs under the freeze {id}"));
    let under = under.unwrap_or_default();
    let approved = session.approved_by.join(", ");
    let approved = if approved.is_empty() { approved } else { format!("\napproved by {approved}") };
    format!(
        "SESSION {} ({}: {})\n{} signs for {} in place of {}, until {}{under}{left}{approved}",
        session.session,
        session.incident,
        session.justification,
        session.emergency_kid,
        session.callers.join(", "),
        session.replaces.join(", "),
        session.expires_at,
    )
}

#[cfg(test)]
mod tests {
    use super::super::examples;
    use super::*;

    #[test]
    fn a_status_says_the_session_the_outages_and_the_keys() {
        let mut known = examples::known();
        known.outages.drain(1..);
        let signer = known.signer.as_mut().unwrap();
        signer.keys.truncate(1);
        let key = &mut signer.keys[0];
        key.destruction_due = Some("2026-11-26T00:00:00Z".to_owned());
        key.destruction_overdue = true;
        let held = Session { approved_by: Vec::new(), ..examples::session().into() };
        known.session = Some(Session { remaining: None, max_signatures: None, ..held });
        let instance = signer.instance.clone();
        assert_eq!(
            status(&known).words,
            format!(
                "SESSION INC-1-0a (INC-1: KMS is down)\n\
                 e signs for spiffe://t/a in place of k, l, until 2026-11-25T00:26:26Z\n\
                 outage of a for 3599 s, since 2026-01-01T00:00:00.042Z: long enough for break-glass\n\
                 emergency signer {instance}: no passphrase waits\n  \
                 e  sealed, to be destroyed by 2026-11-26T00:00:00Z: OVERDUE"
            )
        );
        known.signer = None;
        assert!(status(&known).words.contains("NOT CONNECTED"));
        known.configured = false;
        assert!(status(&known).words.contains("no emergency signer is configured"));
    }

    #[test]
    fn a_signer_that_is_refused_for_its_log_is_shown_with_both_heads() {
        let [instance, head, known, why] = ["9f", "l:7:r", "l:9:s", "shorter"].map(str::to_owned);
        let refused = RefusedSigner { instance, head, known: Some(known), why };
        let status = status(&Breakglass {
            signer: None,
            refused_signer: Some(refused.clone()),
            ..examples::known()
        });
        let said = status.words;
        for part in ["9f is REFUSED: shorter", "head l:7:r", "head l:9:s", "accept-signer"] {
            assert!(said.contains(part), "{said}");
        }
        let RefusedSigner { instance, head, known, why } = refused;
        let said = accepted(&Accepted { accepted: true, instance, head, known, why }).words;
        assert!(said.starts_with("accepted: the emergency signer 9f with the log l:7:r"), "{said}");
    }

    #[test]
    fn why_no_session_could_begin_is_said() {
        let mut known = examples::known();
        known.signer.as_mut().unwrap().cannot_arm = vec!["roles: x".to_owned()];
        let said = status(&known).words;
        assert!(said.contains("\n  it CANNOT BE ARMED: roles: x"), "{said}");
    }

    #[test]
    fn a_session_that_only_the_signer_holds_is_said() {
        let mut known = examples::known();
        known.signer.as_mut().unwrap().session = Some(examples::session());
        let said = status(&known).words;
        assert!(said.starts_with("no session is in force\nthe emergency signer HOLDS"), "{said}");
        assert!(said.contains("\n7 of 9 signatures are left"), "{said}");
        assert!(said.contains("approved by alice (Security)"), "{said}");
        known.session = Some(examples::session().into());
        assert!(!status(&known).words.contains("HOLDS"));
    }

    #[test]
    fn an_end_says_what_is_left_to_do() {
        let over = Ended {
            ended: true,
            session: "s".to_owned(),
            destruction_due: Some("2026-11-26T00:00:00Z".to_owned()),
            note: Some("n".to_owned()),
            ..Ended::default()
        };
        assert_eq!(
            ended(&over).words,
            "the session s is over; its key has to be destroyed by 2026-11-26T00:00:00Z\nnote: n"
        );
    }
}
