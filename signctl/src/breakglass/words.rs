//! Answers about break-glass in words, for a person.

use serde_json::Value;

use super::text;

/// What an answer says: a session that began or ended, a key that is destroyed, or how all is.
pub(super) fn of(body: &Value) -> String {
    let is = |key: &str| body.get(key) == Some(&Value::Bool(true));
    if is("activated") {
        return body.get("session").map(session).unwrap_or_default();
    }
    if is("ended") {
        let due = text(body, "/destruction_due").unwrap_or("a time that the signer knows");
        let (name, note) = (word(body, "session"), note(body));
        let unread = crate::show::unread(body);
        return format!(
            "the session {name} is over; its key has to be destroyed by {due}{unread}{note}"
        );
    }
    if is("destroyed") {
        let how = if is("overwritten") { "overwritten and removed" } else { "removed" };
        let kid = word(body, "emergency_kid");
        return format!(
            "the key {kid} is destroyed: its file was {how}, and it is refused for ever"
        );
    }
    status(body)
}

fn status(body: &Value) -> String {
    let mut lines = vec![match body.get("session") {
        Some(in_force) => session(in_force),
        None => "no session is in force".to_owned(),
    }];
    let held = body.pointer("/signer/session").filter(|held| held.get("session").is_some());
    if let (None, Some(held)) = (body.get("session"), held) {
        lines.push(format!(
            "the emergency signer HOLDS a session that is not in force in this proxy; end it: signctl \
             breakglass end\n{}",
            session(held)
        ));
    }
    for outage in list(body, "outages") {
        let counts = match outage.get("qualifies") {
            Some(Value::Bool(true)) => "long enough for break-glass",
            _ => "not long enough, or not counting",
        };
        let (kid, since) = (word(outage, "signer_kid"), word(outage, "since"));
        lines.push(format!(
            "outage of {kid} for {} s, since {since}: {counts}",
            number(outage, "seconds")
        ));
    }
    match body.get("signer") {
        Some(signer) => {
            let unlocked = signer.get("unlocked") == Some(&Value::Bool(true));
            let waits = if unlocked { "a passphrase waits" } else { "no passphrase waits" };
            lines.push(format!("emergency signer {}: {waits}", word(signer, "instance")));
            let cannot = list(signer, "cannot_arm").filter_map(Value::as_str);
            lines.extend(cannot.map(|why| format!("  it CANNOT BE ARMED: {why}")));
            for key in list(signer, "keys") {
                let due =
                    text(key, "/destruction_due").map(|due| format!(", to be destroyed by {due}"));
                let overdue = key.get("destruction_overdue") == Some(&Value::Bool(true));
                let (kid, state) = (word(key, "kid"), word(key, "state"));
                let late = if overdue { ": OVERDUE" } else { "" };
                lines.push(format!("  {kid}  {state}{}{late}", due.unwrap_or_default()));
            }
        }
        None if body.get("configured") == Some(&Value::Bool(true)) => {
            lines.push(
                "the emergency signer is NOT CONNECTED; is `breakglass-signer serve` running?"
                    .to_owned(),
            );
        }
        None => {
            lines.push("no emergency signer is configured ([breakglass] signer_socket)".to_owned())
        }
    }
    lines.join("\n")
}

fn session(session: &Value) -> String {
    let names = |key| list(session, key).filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let approved = names("approved_by");
    let approved = if approved.is_empty() { approved } else { format!("\napproved by {approved}") };
    let left = match (session.get("remaining"), session.get("max_signatures")) {
        (Some(left), Some(most)) => format!("\n{left} of {most} signatures are left"),
        _ => String::new(),
    };
    format!(
        "SESSION {} ({}: {})\n{} signs for {} in place of {}, until {}{left}{approved}",
        word(session, "session"),
        word(session, "incident"),
        word(session, "justification"),
        word(session, "emergency_kid"),
        names("callers"),
        names("replaces"),
        word(session, "expires_at"),
    )
}

fn note(body: &Value) -> String {
    text(body, "/note").map(|note| format!("\nnote: {note}")).unwrap_or_default()
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_says_the_session_the_outages_and_the_keys() {
        let body = json!({
            "configured": true,
            "session": {
                "session": "INC-1-0a", "incident": "INC-1", "justification": "KMS is down",
                "emergency_kid": "e", "callers": ["spiffe://t/a"], "replaces": ["k", "l"],
                "expires_at": "2026-11-25T00:26:26Z"
            },
            "outages": [{"signer_kid": "k", "since": "2026-11-25T00:00:00Z", "seconds": 9, "qualifies": true}],
            "signer": {"instance": "9f", "unlocked": false, "keys": [{
                "kid": "e", "state": "open", "destruction_due": "2026-11-26T00:00:00Z", "destruction_overdue": true
            }]}
        });
        assert_eq!(
            of(&body),
            "SESSION INC-1-0a (INC-1: KMS is down)\n\
             e signs for spiffe://t/a in place of k, l, until 2026-11-25T00:26:26Z\n\
             outage of k for 9 s, since 2026-11-25T00:00:00Z: long enough for break-glass\n\
             emergency signer 9f: no passphrase waits\n  \
             e  open, to be destroyed by 2026-11-26T00:00:00Z: OVERDUE"
        );
        assert!(of(&json!({"configured": false})).contains("no emergency signer is configured"));
        assert!(of(&json!({"configured": true})).contains("NOT CONNECTED"));
    }

    #[test]
    fn why_no_session_could_begin_is_said() {
        let body =
            json!({"configured": true, "signer": {"instance": "9f", "cannot_arm": ["roles: x"]}});
        assert!(of(&body).contains("\n  it CANNOT BE ARMED: roles: x"), "{}", of(&body));
    }

    #[test]
    fn a_session_that_only_the_signer_holds_is_said() {
        let held = json!({"session": "s", "remaining": 7, "max_signatures": 9});
        let said = of(&json!({"configured": true, "signer": {"session": held}}));
        assert!(said.starts_with("no session is in force\nthe emergency signer HOLDS"), "{said}");
        assert!(said.contains("\n7 of 9 signatures are left"), "{said}");
        assert!(!of(&json!({"session": held, "signer": {"session": held}})).contains("HOLDS"));
    }

    #[test]
    fn an_end_says_what_is_left_to_do() {
        let body = json!({"ended": true, "session": "s", "destruction_due": "2026-11-26T00:00:00Z", "note": "n"});
        assert_eq!(
            of(&body),
            "the session s is over; its key has to be destroyed by 2026-11-26T00:00:00Z\nnote: n"
        );
    }
}
