//! Whether an answer is the health of a proxy that signs, and what to do if not.

use serde_json::Value;
use signing_core::incident::IncidentId;

use crate::failure::Failure;

/// Whether that is the health of a proxy that signs in its normal mode.
///
/// # Errors
/// What is wrong, and what to do.
pub fn judge(status: u16, body: Option<&Value>) -> Result<String, Failure> {
    let Some(Value::Object(body)) = body else {
        let detail = format!("HTTP {status} without JSON; is this a signing proxy?");
        return Err(Failure::new("bad_answer", detail));
    };
    let ok = body.get("ok").and_then(Value::as_bool);
    if (status, ok) != (200, Some(true)) {
        let reason = body.get("reason").and_then(Value::as_str).filter(|word| is_word(word));
        let reason = reason.unwrap_or("not_ok");
        return Err(Failure::new(reason, format!("HTTP {status}; {}", what_to_do(reason))));
    }
    match body.get("mode").and_then(Value::as_str) {
        Some("normal") => {}
        Some("breakglass") => {
            let detail = "a break-glass session signs, and no gate passes on an emergency key; wait \
                          until it has ended and the signers are healthy";
            return Err(Failure::new("breakglass", detail));
        }
        None | Some(_) => {
            let detail = "its mode is neither normal nor breakglass; is this a signing proxy?";
            return Err(Failure::new("bad_answer", detail));
        }
    }
    match body.get("frozen") {
        None | Some(Value::Bool(false)) => {}
        Some(_) => {
            return Err(Failure::new("frozen", format!("HTTP 200; {}", what_to_do("frozen"))));
        }
    }
    if let Some(open) = body.get("open_incident").filter(|open| !open.is_null()) {
        return Err(Failure::new("open_incident", open_incident(open)));
    }
    let signers = body.get("signers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if signers.is_empty() {
        let detail = "it names no signer, and so signs nothing; is this a signing proxy?";
        return Err(Failure::new("no_signers", detail));
    }
    if let Some(signer) = signers.iter().find(|signer| !is_open(signer)) {
        let reason = signer.get("reason").and_then(Value::as_str).filter(|word| is_word(word));
        let reason = reason.unwrap_or("signer_not_open");
        let detail = format!("it says ok over a signer that does not sign; {}", what_to_do(reason));
        return Err(Failure::new(reason, detail));
    }
    let count = signers.len();
    Ok(format!("{count} signer{}", if count == 1 { "" } else { "s" }))
}

/// That an incident is open, and its name if whoever asked is told and the name is one.
fn open_incident(open: &Value) -> String {
    let name = open.get("incident").and_then(Value::as_str);
    let name = name.and_then(|name| IncidentId::parse(name).ok());
    let which =
        name.map_or_else(|| "an incident".to_owned(), |name| format!("the incident {name}"));
    format!(
        "{which} is open: `signctl incident status` on its host says what is left, `signctl recover` does it"
    )
}

/// Whether a signer's entry says that it signs, and nothing that contradicts it.
fn is_open(signer: &Value) -> bool {
    signer.get("state").and_then(Value::as_str) == Some("open") && signer.get("reason").is_none()
}

/// Reasons are words; anything else from outside is not repeated.
#[must_use]
pub fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

pub(crate) fn what_to_do(reason: &str) -> &'static str {
    match reason {
        "frozen" => {
            "an operator stopped all signing: `signctl status` on its host says why, `signctl \
             unfreeze` ends it"
        }
        "sealed" | "signature_rejected" => {
            "a signer is in doubt: find the cause in `signctl status` on its host, then `signctl unseal`"
        }
        "starting" | "draining" => "it has just started or is about to stop: try again",
        "upstream_unhealthy" | "upstream_throttled" => {
            "its KMS fails or throttles: see `signctl status` on its host"
        }
        "key_unavailable" => {
            "a key is disabled, denied, revoked or over: see `signctl status` on its host"
        }
        "server_certificate" => {
            "its certificate has expired or does not count yet: renew it; the proxy reads it by itself, or with watch = false by `signctl reload` on its host"
        }
        "client_authorities" => {
            "none of its client authorities counts now: renew client_ca_file, then `signctl reload` on its host"
        }
        "caller_not_authorized" => {
            "it does not know this client certificate's name: configure the caller"
        }
        _ => "see `signctl status` on its host",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use signing_core::Mode;
    use signing_core::admin::{Health, OpenIncident, SignerHealth};
    use signing_core::gate::Extent;

    use super::*;

    /// Whoever answers is not trusted to answer as a proxy does, so its answer is read field by field. The
    /// fields are the proxy's.
    #[test]
    fn what_a_proxy_says_is_read_by_the_names_that_it_has() {
        let signer = SignerHealth {
            signer_kid: "ec".to_owned(),
            state: "open".to_owned(),
            upstream_ok: true,
            outage: Extent::None,
            for_s: 7,
            upstreams: Vec::new(),
            replaced: false,
            outage_s: None,
            outage_counts: None,
            reason: None,
            lease_ms_left: None,
            detail: None,
        };
        let mut health = Health {
            ok: true,
            mode: Mode::Normal,
            frozen: false,
            outage: Extent::None,
            signers: vec![signer],
            conditions: Vec::new(),
            breakglass: None,
            reason: None,
            detail: None,
            freeze: None,
            open_incident: None,
        };
        let judged = |status, health: &Health| {
            judge(status, Some(&json!(health))).map_err(|failure| failure.reason)
        };
        assert_eq!(judged(200, &health), Ok("1 signer".to_owned()));
        health.mode = Mode::Breakglass;
        assert_eq!(judged(200, &health), Err("breakglass".to_owned()));
        health.mode = Mode::Normal;
        health.open_incident = Some(OpenIncident { incident: None });
        assert_eq!(judged(200, &health), Err("open_incident".to_owned()));
        health.open_incident = None;
        health.signers[0].reason = Some("sealed".to_owned());
        assert_eq!(judged(200, &health), Err("sealed".to_owned()));
        health.signers[0].reason = None;
        health.signers[0].state = "shut".to_owned();
        assert_eq!(judged(200, &health), Err("signer_not_open".to_owned()));
        health.frozen = true;
        assert_eq!(judged(200, &health), Err("frozen".to_owned()));
        (health.ok, health.reason) = (false, Some("starting".to_owned()));
        assert_eq!(judged(503, &health), Err("starting".to_owned()));
    }

    #[test]
    fn an_open_incident_is_named_if_its_name_is_one() {
        let open = json!({"signer_kid": "ec", "state": "open"});
        let said = |incident: Value| {
            let body =
                json!({"ok": true, "mode": "normal", "signers": [open], "open_incident": incident});
            judge(200, Some(&body)).unwrap_err().detail
        };
        assert!(said(json!({"incident": "INC-42"})).starts_with("the incident INC-42 is open"));
        for odd in [json!({}), json!({"incident": "\n::stop"}), json!(true), json!({"incident": 7})]
        {
            assert!(said(odd).starts_with("an incident is open"));
        }
    }

    #[test]
    fn only_a_normal_ok_is_healthy() {
        let open = json!({"signer_kid": "ec", "state": "open"});
        let healthy =
            json!({"ok": true, "mode": "normal", "frozen": false, "signers": [open, open]});
        assert_eq!(judge(200, Some(&healthy)), Ok("2 signers".to_owned()));
        for (status, body, reason) in [
            (200, json!({"ok": true, "mode": "breakglass"}), "breakglass"),
            (200, json!({"ok": true, "mode": 7}), "bad_answer"),
            (200, json!({"ok": true}), "bad_answer"),
            (200, json!({"ok": true, "signers": [open]}), "bad_answer"),
            (200, json!({"ok": "true"}), "not_ok"),
            (200, json!({}), "not_ok"),
            (200, json!([true]), "bad_answer"),
            (302, json!({"ok": true}), "not_ok"),
            (503, json!({"ok": true}), "not_ok"),
            (503, json!({"ok": false, "reason": "frozen"}), "frozen"),
            (503, json!({"ok": false, "reason": "::stop-commands::x"}), "not_ok"),
        ] {
            let failure = judge(status, Some(&body)).unwrap_err();
            assert_eq!(failure.reason, reason, "{status} {body}");
        }
        assert_eq!(judge(200, None).unwrap_err().reason, "bad_answer");
    }

    #[test]
    fn an_ok_that_its_own_answer_contradicts_is_not_healthy() {
        let open = json!({"signer_kid": "ec", "state": "open"});
        let with = |key: &str, value: Value| {
            let mut body = json!({"ok": true, "mode": "normal", "signers": [open]});
            body[key] = value;
            body
        };
        assert_eq!(judge(200, Some(&with("frozen", json!(false)))), Ok("1 signer".to_owned()));
        let shut = json!({"state": "shut", "reason": "key_unavailable"});
        for (body, reason) in [
            (with("frozen", json!(true)), "frozen"),
            (with("frozen", json!("yes")), "frozen"),
            (with("signers", json!([])), "no_signers"),
            (with("signers", json!(1)), "no_signers"),
            (with("signers", Value::Null), "no_signers"),
            (with("signers", json!([open, shut])), "key_unavailable"),
            (with("signers", json!([{"state": "open", "reason": "sealed"}])), "sealed"),
            (with("signers", json!([{"state": "open", "reason": 7}])), "signer_not_open"),
            (with("signers", json!([{"state": "sealed"}])), "signer_not_open"),
            (with("signers", json!([{}])), "signer_not_open"),
            (with("signers", json!(["open"])), "signer_not_open"),
        ] {
            let failure = judge(200, Some(&body)).unwrap_err();
            assert_eq!(failure.reason, reason, "{body}");
        }
    }
}
