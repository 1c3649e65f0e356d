//! What the doctor found, as a table for a person.

use serde_json::Value;

/// One line for each check of each upstream; what failed stands out.
pub(crate) fn table(body: &Value) -> String {
    let mut lines = Vec::new();
    for upstream in list(body, "upstreams") {
        lines.push(format!(
            "{}  {} {}",
            text(upstream, "signer_kid"),
            text(upstream, "provider"),
            text(upstream, "region")
        ));
        for check in list(upstream, "checks") {
            let state = match text(check, "state") {
                "ok" => "ok",
                "failed" => "FAILED",
                _ => "-",
            };
            let (what, detail) = (text(check, "check"), text(check, "detail"));
            lines.push(format!("  {what:<12} {state:<7} {detail}"));
        }
    }
    let well = body.get("ok") == Some(&Value::Bool(true));
    lines.push(if well { "all is well" } else { "NOT all is well" }.to_owned());
    lines.join("\n")
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_failed_stands_out() {
        let said = table(&json!({"ok": false, "upstreams": [{
            "signer_kid": "k", "provider": "aws-kms", "region": "eu-test-1", "ok": false,
            "checks": [
                {"check": "dns", "state": "not_applicable", "detail": "an address"},
                {"check": "tcp", "state": "failed", "detail": "refused; look at routes"},
            ],
        }]}));
        let expected = "k  aws-kms eu-test-1\n  dns          -       an address\n  tcp          FAILED  \
                        refused; look at routes\nNOT all is well";
        assert_eq!(said, expected);
        assert!(table(&json!({})).contains("NOT"));
    }
}
