//! Whether an answer shows that a KMS endpoint can be reached, and what to do if not. What stands
//! between, or at the place of KMS, answers in HTTP too: an answer alone is no evidence.

use http::HeaderMap;
use serde_json::Value;

use crate::failure::Failure;
use crate::judge::{self, is_word, what_to_do};

/// What an answer says of the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can be reached, and says nothing against that it works.
    Reachable(String),
    /// It says that it does not work.
    Fails(Failure),
    /// Somebody answers, and not as KMS does.
    NoEvidence(Failure),
}

/// Whether AWS wrote these headers: KMS names each answer, also a refusal.
#[must_use]
pub fn is_of_kms(headers: &HeaderMap) -> bool {
    headers.contains_key("x-amzn-requestid") || headers.contains_key("x-amzn-errortype")
}

/// Judges the answer to a GET; `named_by_aws` as [`is_of_kms`] says.
#[must_use]
pub fn judge(status: u16, named_by_aws: bool, body: Option<&Value>) -> Verdict {
    let field = |name: &str| body.and_then(|body| body.get(name));
    // The signing proxy stands in for KMS: then all that its health says counts.
    if field("ok").is_some() && (field("signers").is_some() || field("mode").is_some()) {
        return match judge::judge(status, body) {
            Ok(what) => Verdict::Reachable(format!("a signing proxy, {what}")),
            Err(failure) => Verdict::Fails(failure),
        };
    }
    if field("ok").is_some_and(|ok| ok != &Value::Bool(true)) {
        let reason = field("reason").and_then(Value::as_str).filter(|word| is_word(word));
        let reason = reason.unwrap_or("not_ok");
        let detail =
            format!("HTTP {status}, and it says that it is not ok; {}", what_to_do(reason));
        return Verdict::Fails(Failure::new(reason, detail));
    }
    let is_like_kms = named_by_aws || field("__type").is_some_and(Value::is_string);
    match status {
        200..=299 => Verdict::Reachable(format!("HTTP {status}")),
        300..=399 | 407 => Verdict::NoEvidence(between(status)),
        502..=504 | 506..=599 => Verdict::Fails(between(status)),
        500.. => {
            let detail = format!("HTTP {status}: it answers, and fails; look at its own health");
            Verdict::Fails(Failure::new("server_error", detail))
        }
        _ if is_like_kms => Verdict::Reachable(format!("HTTP {status}, as KMS refuses")),
        _ => {
            let detail = format!(
                "HTTP {status} without x-amzn-RequestId or __type, so it is no KMS; name the \
                 endpoint of KMS, or of the signing proxy"
            );
            Verdict::NoEvidence(Failure::new("not_kms", detail))
        }
    }
}

fn between(status: u16) -> Failure {
    let detail = format!(
        "HTTP {status} is what an intermediary says, so it is no evidence that KMS was reached; name the \
         endpoint itself, and look at what is in between"
    );
    Failure::new("no_evidence", detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_evidence_only_if_kms_or_a_healthy_service_gives_it() {
        let signs = json!({"ok": true, "mode": "normal", "signers": [{"signer_kid": "k", "state": "open"}]});
        let emergency = json!({"ok": true, "mode": "breakglass", "signers": []});
        let frozen = json!({"ok": false, "reason": "frozen", "mode": "normal", "signers": []});
        for (status, named_by_aws, body, expected) in [
            (200, false, Value::Null, "reachable: HTTP 200"),
            (200, false, json!({"ok": true}), "reachable: HTTP 200"),
            (200, false, json!([false]), "reachable: HTTP 200"),
            (204, false, Value::Null, "reachable: HTTP 204"),
            (200, false, signs.clone(), "reachable: a signing proxy, 1 signer"),
            (200, false, emergency, "fails: breakglass"),
            (503, false, frozen.clone(), "fails: frozen"),
            (200, false, frozen, "fails: frozen"),
            (200, false, json!({"ok": false}), "fails: not_ok"),
            (200, true, json!({"ok": false}), "fails: not_ok"),
            (200, false, json!({"ok": "true"}), "fails: not_ok"),
            (200, false, json!({"ok": null}), "fails: not_ok"),
            (404, true, json!({"ok": false, "reason": "sealed"}), "fails: sealed"),
            (404, false, json!({"ok": false, "reason": "::set-env::"}), "fails: not_ok"),
            (404, true, Value::Null, "reachable: HTTP 404, as KMS refuses"),
            (
                400,
                false,
                json!({"__type": "MissingAuthenticationToken"}),
                "reachable: HTTP 400, as KMS refuses",
            ),
            (403, true, Value::Null, "reachable: HTTP 403, as KMS refuses"),
            (400, false, json!({"__type": 7}), "no evidence: not_kms"),
            (404, false, json!({"type": "not found"}), "no evidence: not_kms"),
            (403, false, Value::Null, "no evidence: not_kms"),
            (401, false, json!({"ok": true}), "no evidence: not_kms"),
            (301, false, Value::Null, "no evidence: no_evidence"),
            (407, true, Value::Null, "no evidence: no_evidence"),
            (500, false, Value::Null, "fails: server_error"),
            (500, true, json!({"__type": "KMSInternalException"}), "fails: server_error"),
            (503, true, Value::Null, "fails: no_evidence"),
            (503, false, signs, "fails: not_ok"),
            (599, false, Value::Null, "fails: no_evidence"),
        ] {
            let found = match judge(status, named_by_aws, Some(&body)) {
                Verdict::Reachable(what) => format!("reachable: {what}"),
                Verdict::Fails(failure) => format!("fails: {}", failure.reason),
                Verdict::NoEvidence(failure) => format!("no evidence: {}", failure.reason),
            };
            assert_eq!(found, expected, "{status} {named_by_aws} {body}");
        }
        assert_eq!(judge(200, false, None), Verdict::Reachable("HTTP 200".to_owned()));
    }

    #[test]
    fn aws_names_its_answers() {
        let mut headers = HeaderMap::new();
        assert!(!is_of_kms(&headers));
        headers
            .insert("X-Amzn-RequestId".parse::<http::HeaderName>().unwrap(), "1".parse().unwrap());
        assert!(is_of_kms(&headers));
    }
}
