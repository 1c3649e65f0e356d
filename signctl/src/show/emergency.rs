//! The lines of a status about break-glass: whoever looks sees first that an emergency key signs,
//! and what is left to do after.

use serde_json::Value;

use super::{age, number, text};

/// The session in force; nothing without one.
pub(super) fn session(body: &Value) -> Vec<String> {
    let Some(session) = body.get("breakglass") else { return Vec::new() };
    let names = |key| {
        let names = session.get(key).and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).collect::<Vec<_>>()
    };
    let left = match session.get("remaining").and_then(Value::as_u64) {
        Some(left) => format!("{left} of {} signatures left", number(session, "max_signatures")),
        None => "signatures left: unknown, the emergency signer does not say".to_owned(),
    };
    let mut lines = vec![format!(
        "BREAK-GLASS SESSION {} ({}): {} signs in place of {}, until {} ({} left), {left}",
        text(session, "session"),
        text(session, "incident"),
        text(session, "emergency_kid"),
        names("replaces").join(", "),
        text(session, "expires_at"),
        age(number(session, "expires_in_s")),
    )];
    lines.extend(names("upstreams_back").into_iter().map(|kid| {
        format!(
            "the upstream of {kid} is BACK: end the session: signctl breakglass end --reason ..."
        )
    }));
    lines
}

/// The session in force as the health listener says it, who names neither incident nor quota to everybody.
pub(super) fn in_health(body: &Value) -> Option<String> {
    let session = body.get("breakglass")?;
    let (name, incident) = (text(session, "session"), text(session, "incident"));
    let name = if name.is_empty() { name } else { format!(" {name} ({incident})") };
    let (kid, until) = (text(session, "emergency_kid"), text(session, "expires_at"));
    Some(format!("BREAK-GLASS SESSION{name}: the emergency key {kid} signs, until {until}"))
}

/// Emergency keys that are to be destroyed, and a signer that is not there.
pub(super) fn keys(body: &Value) -> Vec<String> {
    let keys = body.get("emergency_keys").and_then(Value::as_array).into_iter().flatten();
    let there = keys.filter(|key| text(key, "state") != "destroyed");
    let due = there.filter_map(|key| {
        let (kid, due) = (text(key, "kid"), key.get("destruction_due")?.as_str()?);
        let what = match key.get("destruction_overdue") {
            Some(Value::Bool(true)) => "is OVERDUE for destruction since",
            _ => "has to be destroyed by",
        };
        Some(format!(
            "emergency key {kid} {what} {due}: signctl breakglass destroy {kid} --reason ... --signers FILE"
        ))
    });
    let mut lines: Vec<_> = due.collect();
    let cannot = body.get("emergency_cannot_arm").and_then(Value::as_array).into_iter().flatten();
    lines.extend(
        cannot.filter_map(Value::as_str).map(|why| format!("break-glass CANNOT BE ARMED: {why}")),
    );
    if body.get("emergency_signer_connected") == Some(&Value::Bool(false)) {
        lines.push("the emergency signer is NOT CONNECTED: no break-glass until it is".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::status;

    #[test]
    fn a_session_is_the_first_line_and_what_is_to_be_done_follows() {
        let said = status(&json!({
            "deployment": "d", "ok": true, "signers": [],
            "breakglass": {
                "session": "INC-7-0a", "incident": "INC-7", "emergency_kid": "e", "replaces": ["k", "l"],
                "expires_at": "2026-11-25T00:26:26Z", "expires_in_s": 185, "remaining": 997,
                "max_signatures": 1000, "upstreams_back": ["k"],
            },
            "emergency_signer_connected": true,
            "emergency_keys": [
                {"kid": "e", "state": "open", "destruction_due": "2026-11-26T00:00:00Z", "destruction_overdue": false},
                {"kid": "old", "state": "sealed", "destruction_due": "2026-11-20T00:00:00Z", "destruction_overdue": true},
                {"kid": "new", "state": "sealed"},
            ],
        }));
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
        assert!(
            lines[3].starts_with("emergency key e has to be destroyed by 2026-11-26"),
            "{said}"
        );
        assert!(lines[4].starts_with("emergency key old is OVERDUE"), "{said}");
        assert!(!said.contains("emergency key new") && !said.contains("NOT CONNECTED"), "{said}");
    }

    #[test]
    fn health_says_a_session_first_whether_it_is_named_or_not() {
        let mut body = json!({"ok": true, "signers": [], "breakglass": {"emergency_kid": "e", "expires_at": "T"}});
        let said = super::super::health(&body);
        assert!(
            said.starts_with("BREAK-GLASS SESSION: the emergency key e signs, until T\n"),
            "{said}"
        );
        body["breakglass"]["session"] = json!("INC-7-0a");
        body["breakglass"]["incident"] = json!("INC-7");
        let said = super::super::health(&body);
        assert!(
            said.starts_with("BREAK-GLASS SESSION INC-7-0a (INC-7): the emergency key e"),
            "{said}"
        );
        assert!(!super::super::health(&json!({"ok": true, "signers": []})).contains("BREAK-GLASS"));
    }

    #[test]
    fn without_a_session_nothing_is_said_of_one() {
        let said = status(&json!({"deployment": "d", "ok": true, "signers": []}));
        assert!(said.starts_with("d · signing · ") && !said.contains("emergency"), "{said}");
        let said = status(&json!({"deployment": "d", "emergency_signer_connected": false}));
        assert!(said.contains("NOT CONNECTED"), "{said}");
        let said = status(&json!({"deployment": "d", "emergency_cannot_arm": ["roles: x"]}));
        assert!(said.contains("\nbreak-glass CANNOT BE ARMED: roles: x"), "{said}");
    }
}
