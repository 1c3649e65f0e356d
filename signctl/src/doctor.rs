//! What the doctor found, as a table for a person.

use serde_json::Value;

use crate::show::{conditions, table, text};

/// One line for each check of each upstream; what failed stands out, there and in the end.
pub(crate) fn found(body: &Value) -> String {
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut titles = Vec::new();
    let (mut failed, mut warned) = (Vec::new(), Vec::new());
    for upstream in list(body, "upstreams") {
        let [kid, provider, region] =
            ["signer_kid", "provider", "region"].map(|key| text(upstream, key));
        titles.push((rows.len(), format!("{kid}  {provider} {region}")));
        let checks: Vec<_> = list(upstream, "checks").collect();
        for alike in checks.chunk_by(|one, next| is_alike(one, next)) {
            rows.extend(row(alike));
        }
        let of = |state: &str| {
            let checks = checks.iter().filter(move |check| text(check, "state") == state);
            checks.map(|check| text(check, "check")).collect::<Vec<_>>()
        };
        let (mut names, soon) = (of("failed"), of("warning"));
        // A gate that is shut for what failed opens with it.
        if names.len() > 1 {
            names.retain(|name| name != "gate");
        }
        if !names.is_empty() {
            failed.push(format!("{kid} at {region}: {}", names.join(", ")));
        }
        if !soon.is_empty() {
            warned.push(format!("{kid} at {region}: {}", soon.join(", ")));
        }
    }
    let rows: Vec<_> = rows.into_iter().map(Vec::from).collect();
    let mut lines: Vec<_> = table(&rows).lines().map(|line| format!("  {line}")).collect();
    for (at, title) in titles.into_iter().rev() {
        lines.insert(at, title);
    }
    let own_side: Vec<_> = conditions(body);
    if !own_side.is_empty() {
        lines.push("the proxy's own side".to_owned());
        lines.extend(own_side.iter().map(|line| format!("  {line}")));
        failed.push("the proxy's own side".to_owned());
    }
    lines.push(match (body.get("ok"), failed.is_empty()) {
        (Some(Value::Bool(true)), _) if warned.is_empty() => "all is well".to_owned(),
        (Some(Value::Bool(true)), _) => format!("all signs; look at {}", warned.join("; ")),
        (_, true) => "NOT all is well".to_owned(),
        (_, false) => format!("NOT all is well; mend {}", failed.join("; ")),
    });
    lines.join("\n")
}

/// Checks that say the same take one line: `dns to clock`.
fn is_alike(one: &Value, next: &Value) -> bool {
    let quiet = ["not_applicable", "skipped"].contains(&text(one, "state").as_str());
    quiet && ["state", "detail"].iter().all(|key| one.get(key) == next.get(key))
}

fn row(alike: &[&Value]) -> Option<[String; 3]> {
    let (first, last) = (alike.first()?, alike.last()?);
    let name = match alike.len() {
        1 => text(first, "check"),
        _ => format!("{} to {}", text(first, "check"), text(last, "check")),
    };
    let state = match text(first, "state").as_str() {
        "failed" => "FAILED".to_owned(),
        "warning" => "WARNING".to_owned(),
        "not_applicable" => "-".to_owned(),
        word => word.to_owned(),
    };
    Some([name, state, text(first, "detail")])
}

fn list<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(name: &str, state: &str, detail: &str) -> Value {
        json!({"check": name, "state": state, "detail": detail})
    }

    #[test]
    fn what_failed_stands_out_and_what_says_the_same_takes_one_line() {
        let said = found(&json!({"ok": false, "upstreams": [
            {"signer_kid": "k", "provider": "aws-kms", "region": "eu-test-1", "ok": false, "checks": [
                check("dns", "not_applicable", "an address"),
                check("tcp", "failed", "refused;\n look at routes"),
                check("tls", "skipped", "mend what failed first"),
                check("clock", "skipped", "mend what failed first"),
            ]},
            {"signer_kid": "t", "provider": "pkcs11", "region": "hsm", "ok": true, "checks": [
                check("dns", "not_applicable", "no network"),
                check("tcp", "not_applicable", "no network"),
                check("key", "ok", "found"),
                check("signature", "ok", "found"),
            ]},
        ]}));
        let expected = "\
            k  aws-kms eu-test-1\n  \
            dns           -        an address\n  \
            tcp           FAILED   refused; look at routes\n  \
            tls to clock  skipped  mend what failed first\n\
            t  pkcs11 hsm\n  \
            dns to tcp    -        no network\n  \
            key           ok       found\n  \
            signature     ok       found\n\
            NOT all is well; mend k at eu-test-1: tcp";
        assert_eq!(said, expected);
    }

    #[test]
    fn what_signs_still_but_not_for_long_is_named_in_the_end() {
        let upstream = |gate: &str, tls: &str| {
            json!({"signer_kid": "k", "provider": "aws-kms", "region": "r", "checks": [
                check("tls", tls, "it ends soon"), check("gate", gate, "")]})
        };
        let said = |ok, gate, tls| {
            let said = found(&json!({"ok": ok, "upstreams": [upstream(gate, tls)]}));
            said.lines().last().unwrap().to_owned()
        };
        assert_eq!(said(true, "ok", "warning"), "all signs; look at k at r: tls");
        assert_eq!(said(true, "ok", "ok"), "all is well");
        // A gate that is shut for what failed is not what has to be mended.
        assert_eq!(said(false, "failed", "failed"), "NOT all is well; mend k at r: tls");
        assert_eq!(said(false, "failed", "ok"), "NOT all is well; mend k at r: gate");
    }

    #[test]
    fn silence_is_not_well() {
        assert_eq!(found(&json!({})), "NOT all is well");
        assert_eq!(found(&json!({"ok": true, "upstreams": []})), "all is well");
    }
}
