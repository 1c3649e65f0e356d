//! A record in one line of words, with what matters of each kind first.

use std::collections::BTreeMap;

use serde_json::Value;
use signing_core::journal::Outline;

/// What a record says, without its time, number, kind and signer. Nothing in it is obeyed by a terminal.
pub(crate) fn words(outline: &Outline) -> String {
    let data = &outline.data;
    let text = |name: &str| plain(data.get(name).unwrap_or(&Value::Null));
    match outline.r#type.as_str() {
        "intent" => {
            format!("{} for {}, request {}", text("algorithm"), text("caller"), text("request_id"))
        }
        "signed" => format!(
            "{} for {}, request {}, upstream {} us{}",
            text("algorithm"),
            text("caller"),
            text("request_id"),
            plain(data.pointer("/timing_us/upstream").unwrap_or(&Value::Null)),
            if data.get("replayed") == Some(&Value::Bool(true)) { ", replayed" } else { "" },
        ),
        "failed" => format!(
            "{} for {}, request {}, attempt {}: {}",
            text("reason"),
            text("caller"),
            text("request_id"),
            plain(data.get("attempt").unwrap_or(&Value::from("none"))),
            text("detail")
        ),
        "withheld" => {
            format!("record {}, request {}: {}", text("signed"), text("request_id"), text("detail"))
        }
        "gate" => format!("{} -> {} {}", text("from"), text("to"), text("detail")),
        "freeze" | "unseal" => format!("by {}: {}", text("by"), text("reason")),
        "unfreeze" => {
            format!(
                "by {}: {}, of the freeze by {}: {}",
                text("by"),
                text("reason"),
                text("frozen_by"),
                text("frozen_for")
            )
        }
        "drill" => format!("{} of {} by {}", text("phase"), text("signer_kid"), text("by")),
        "reload" => {
            let mut words = format!("by {}, configuration {}", text("by"), text("generation"));
            for (member, word) in
                [("added", "signers added"), ("changed", "changed"), ("removed", "removed")]
            {
                let kids = data.get(format!("signers_{member}")).and_then(Value::as_array);
                let kids: Vec<_> = kids.into_iter().flatten().filter_map(Value::as_str).collect();
                if !kids.is_empty() {
                    words.push_str(&format!(", {word}: {}", kids.join(" ")));
                }
            }
            words
        }
        "probes" => probes(data),
        "refusals" => refusals(data),
        "init" => {
            format!("{} by {}, audit key {}", text("deployment"), text("by"), text("audit_kid"))
        }
        "start" => format!(
            "{} {}, {} open intents, {} bytes cut",
            text("deployment"),
            text("version"),
            text("open_intents"),
            text("cut_bytes")
        ),
        "stop" => text("reason"),
        "session_activated" => format!(
            "{} for {}, until {}, {} signatures, by {}",
            text("session"),
            text("incident"),
            text("expires_at"),
            text("max_signatures"),
            text("by")
        ),
        "session_refused" => format!("{} for {}: {}", text("clause"), text("by"), text("detail")),
        "emergency_signed" => format!(
            "{} for {} in place of {}, request {}, session {}, {} left",
            text("algorithm"),
            text("caller"),
            text("replaces"),
            text("request_id"),
            text("session"),
            text("remaining")
        ),
        "emergency_refusals" => refusals(data),
        "session_ended" => format!(
            "{} {} after {} signatures, by {}: {}; destroy {} until {}",
            text("session"),
            text("reason"),
            text("signatures"),
            text("by"),
            text("detail"),
            text("emergency_kid"),
            text("destruction_due")
        ),
        "destruction_overdue" => {
            format!("{} was due at {}", text("emergency_kid"), text("destruction_due"))
        }
        "key_destroyed" => {
            format!("{} by {}: {}", text("emergency_kid"), text("by"), text("reason"))
        }
        "rehearsal" => format!("{} by {}: {}", text("phase"), text("by"), text("detail")),
        "copy_destroyed" => {
            format!("{} of {}: {}", text("copy"), text("emergency_kid"), text("attested_by"))
        }
        "unlock" => format!("{} by {}", text("outcome"), text("by")),
        "activation" | "breakglass_ended" => {
            format!("{} {} by {}: {}", text("session"), text("reason"), text("by"), text("detail"))
        }
        "signer_log" | "proxy_log" => {
            let log =
                text(if outline.r#type == "signer_log" { "signer_head" } else { "proxy_head" });
            format!(
                "{} by {}: {log}, after {} {}",
                text("how"),
                text("by"),
                text("known"),
                text("reason")
            )
        }
        "incident_begun" => format!("{} by {}: {}", text("incident"), text("by"), text("reason")),
        "incident_captured" => {
            let missing = data.get("missing").and_then(Value::as_array).into_iter().flatten();
            let missing: Vec<_> = missing.filter_map(Value::as_str).collect();
            let lacks = if missing.is_empty() { "" } else { ", which lacks " };
            format!(
                "{} by {}, bundle {}{lacks}{}",
                text("incident"),
                text("by"),
                text("sha256"),
                missing.join(", ")
            )
        }
        "incident_item" => format!(
            "{} section {}{} by {}: {}",
            text("incident"),
            text("section"),
            if data.get("done") == Some(&Value::Bool(true)) { " is done" } else { "" },
            text("by"),
            text("detail")
        ),
        "incident_ended" => {
            let left = data.get("left").and_then(Value::as_array).into_iter().flatten();
            let left: Vec<_> = left.map(plain).collect();
            let left = if left.is_empty() {
                String::new()
            } else {
                format!("; left: {}", left.join(", "))
            };
            format!("{} by {}: {}{left}", text("incident"), text("by"), text("reason"))
        }
        _ => plain(data),
    }
}

/// `2 Sign signed (canary), 1 GetPublicKey unavailable (doctor)`.
fn probes(data: &Value) -> String {
    let calls = data.get("calls").and_then(Value::as_array).into_iter().flatten();
    let mut counts: BTreeMap<[String; 3], u64> = BTreeMap::new();
    for call in calls {
        let names = ["operation", "outcome", "purpose"];
        let of = names.map(|name| plain(call.get(name).unwrap_or(&Value::Null)));
        *counts.entry(of).or_default() += 1;
    }
    let counts = counts.iter().map(|([operation, outcome, purpose], count)| {
        format!("{count} {operation} {outcome} ({purpose})")
    });
    counts.collect::<Vec<_>>().join(", ")
}

fn refusals(data: &Value) -> String {
    let refused = data.get("refused").and_then(Value::as_array).into_iter().flatten();
    let one = |refused: &Value| {
        let text = |name: &str| plain(refused.get(name).unwrap_or(&Value::Null));
        format!(
            "{} {} (such as {} by {})",
            text("count"),
            text("reason"),
            text("request_id"),
            text("caller")
        )
    };
    refused.map(one).collect::<Vec<_>>().join(", ")
}

/// A value without anything that a terminal would obey.
pub(super) fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text::line(&text).into_owned()
}
