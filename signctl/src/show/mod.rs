//! Answers in words and tables, for a person.

mod emergency;

use serde_json::Value;
use text::counted;

/// The whole status: one line for all, one for each signer.
pub(crate) fn status(body: &Value) -> String {
    let mut lines = emergency::session(body);
    lines.push(format!(
        "{} · {} · up {} · {} in flight · {}",
        text(body, "deployment"),
        verdict(body),
        age(number(body, "uptime_s")),
        number(body, "requests_in_flight"),
        counted(number(body, "connections"), "connection"),
    ));
    lines.extend(emergency::keys(body));
    if let Some(freeze) = body.get("freeze") {
        lines.push(format!(
            "FROZEN since {} by {}: {}",
            text(freeze, "since"),
            text(freeze, "by"),
            text(freeze, "reason")
        ));
        lines.push("to end it: signctl unfreeze".to_owned());
    }
    lines.extend(body.get("audit").map(journal));
    lines.extend(conditions(body));
    lines.extend(outage(body));
    lines.push(signers(body));
    lines.extend(workers(body));
    lines.join("\n")
}

/// A line for each token's worker: whether it serves, and what became of those before it.
fn workers(body: &Value) -> Vec<String> {
    let line = |worker: &Value| {
        let up = worker.get("up") == Some(&Value::Bool(true));
        format!(
            "worker of {} at {}: {} · restarts {} · hangs killed {}",
            text(worker, "signer_kid"),
            text(worker, "region"),
            if up { "up" } else { "DOWN" },
            number(worker, "restarts"),
            number(worker, "hangs_killed"),
        )
    };
    body.get("workers").and_then(Value::as_array).into_iter().flatten().map(line).collect()
}

/// What is not well on the proxy's own side: a line for each.
pub(crate) fn conditions(body: &Value) -> Vec<String> {
    let all = body.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let bad = all.filter(|condition| text(condition, "state") != "ok");
    let line = |condition: &Value| {
        let [component, state, since, detail] =
            ["component", "state", "since", "detail"].map(|key| text(condition, key));
        let said =
            format!("{} {} since {since}", component.replace('_', " "), state.to_uppercase());
        if detail.is_empty() { said } else { format!("{said}: {detail}") }
    };
    bad.map(line).collect()
}

/// What is out, for how long, and when that is long enough for break-glass.
fn outage(body: &Value) -> Vec<String> {
    let min = number(body, "min_outage_s");
    let signers = body.get("signers").and_then(Value::as_array).into_iter().flatten();
    let line = |signer: &Value| {
        let (kid, out) = (text(signer, "signer_kid"), signer.get("outage_s")?.as_u64()?);
        let counts = signer.get("outage_counts") == Some(&Value::Bool(true));
        let then = match min.checked_sub(out) {
            Some(left @ 1..) if counts => {
                format!("break-glass may begin in {} if it lasts", age(left))
            }
            Some(1..) => format!("not counting now; break-glass needs {}", age(min)),
            Some(0) | None => "long enough for break-glass".to_owned(),
        };
        Some(format!("OUTAGE of {kid} for {}: {then}", age(out)))
    };
    signers.filter_map(line).collect()
}

/// The journal: how far it is, or what is wrong with it and what to do.
fn journal(journal: &Value) -> String {
    let (size, trouble) = (number(journal, "size"), text(journal, "trouble"));
    if trouble.is_empty() {
        return format!("journal: {}", counted(size, "record"));
    }
    let then = if journal.get("sealed") == Some(&Value::Bool(true)) {
        "mend the cause, restart, look with `signctl audit verify`, then: signctl unseal --audit --reason ..."
    } else {
        "it goes on by itself once the cause is gone"
    };
    format!("JOURNAL RECORDS NOTHING after record {size}: {trouble}\nto end it: {then}")
}

/// What the health listener says; `/livez` and `/readyz` name no signers.
pub(crate) fn health(body: &Value) -> String {
    if body.get("signers").is_none() {
        return if body.get("ok") == Some(&Value::Bool(true)) { "ok" } else { "NOT ok" }.to_owned();
    }
    let mut lines: Vec<_> = emergency::in_health(body).into_iter().collect();
    lines.push(verdict(body));
    lines.extend(conditions(body));
    lines.push(signers(body));
    lines.join("\n")
}

/// What became of a command.
pub(crate) fn done(body: &Value) -> String {
    let flag = |key| body.get(key).and_then(Value::as_bool);
    let state = match (flag("frozen"), flag("unsealed")) {
        (Some(true), _) => "frozen: nothing is signed until `signctl unfreeze`".to_owned(),
        (Some(false), _) => "not frozen".to_owned(),
        (None, Some(true)) if body.get("audit").is_some() => "unsealed the journal".to_owned(),
        (None, Some(true)) => {
            format!("unsealed {}: it has to prove itself now", text(body, "signer_kid"))
        }
        (None, Some(false)) => "nothing changed".to_owned(),
        (None, None) => "done".to_owned(),
    };
    let state = format!("{state}{}", unread(body));
    match body.get("note").and_then(Value::as_str) {
        Some(note) => format!("{state}\nnote: {note}"),
        None => state,
    }
}

/// Whose connections a stop reset, if any.
pub(crate) fn unread(body: &Value) -> String {
    match body.get("connections_cut").and_then(Value::as_u64) {
        None | Some(0) => String::new(),
        Some(count) => format!(
            "\nconnections reset: {count}. Their clients had not read what was signed before; it does not \
             arrive any more"
        ),
    }
}

/// What a reload did.
pub(crate) fn reloaded(body: &Value) -> String {
    let touched: Vec<_> = body
        .get("signers_touched")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let touched = if touched.is_empty() { "none".to_owned() } else { touched.join(", ") };
    format!(
        "reloaded: configuration {} since the start\nsigners with other rules: {touched}\n\
         connections reset, since their certificates are not let in any more, or since what was signed \
         before was not read: {}",
        number(body, "generation"),
        number(body, "connections_cut"),
    )
}

/// What a drill showed.
pub(crate) fn drilled(body: &Value) -> String {
    let time = |key| match body.get(key).and_then(Value::as_u64) {
        Some(ms) => format!("{}.{:03} s", ms / 1_000, ms % 1_000),
        None => "NEVER within the drill".to_owned(),
    };
    let held = body.get("ok") == Some(&Value::Bool(true));
    let rows = [
        ["drill", &format!("every upstream of {} failed", text(body, "signer_kid"))],
        ["time to refuse", &time("time_to_refuse_ms")],
        ["slipped", &number(body, "slipped").to_string()],
        ["time to recover", &time("time_to_recover_ms")],
        ["verdict", if held { "held" } else { "DID NOT HOLD" }],
    ];
    table(&rows.map(|row| row.map(str::to_owned).to_vec()))
}

/// A refusal: its reason and detail, which lists every mistake.
pub(crate) fn problem(body: &Value) -> String {
    format!("{}: {}", text(body, "reason"), text(body, "detail"))
}

fn verdict(body: &Value) -> String {
    if body.get("ok").and_then(Value::as_bool).unwrap_or(false) {
        match text(body, "outage").as_str() {
            // Something is out, and nobody is refused for it.
            "partial" => "signing, PARTIAL outage".to_owned(),
            _ => "signing".to_owned(),
        }
    } else {
        format!("NOT SIGNING ({})", text(body, "reason"))
    }
}

fn signers(body: &Value) -> String {
    let empty = Vec::new();
    let signers = body.get("signers").and_then(Value::as_array).unwrap_or(&empty);
    let mut rows = vec![["SIGNER", "GATE", "FOR", "UPSTREAM", "WHY"].map(str::to_owned).to_vec()];
    rows.extend(signers.iter().flat_map(|signer| {
        let upstreams = signer.get("upstreams").and_then(Value::as_array).unwrap_or(&empty);
        let several = upstreams.iter().filter(|_| upstreams.len() > 1).map(upstream);
        std::iter::once(whole(signer)).chain(several)
    }));
    table(&rows)
}

/// A signer's line: of one upstream, that one's name; of several, how much is out.
fn whole(signer: &Value) -> Vec<String> {
    let upstreams = signer.get("upstreams").and_then(Value::as_array);
    let upstreams = upstreams.map_or(&[][..], Vec::as_slice);
    let is_ok = |upstream: &&Value| upstream.get("ok") == Some(&Value::Bool(true));
    let ok = upstreams.iter().filter(is_ok).count();
    let upstream = match upstreams {
        [only] => format!("{} {}", place(only), if ok == 1 { "ok" } else { "out" }),
        several if ok == several.len() => format!("{ok} of {ok}"),
        several => format!("{ok} of {} ({} outage)", several.len(), text(signer, "outage")),
    };
    let (reason, detail) = (text(signer, "reason"), text(signer, "detail"));
    let why = match (reason.is_empty(), detail.is_empty()) {
        (false, false) if !detail.starts_with(&reason) => format!("{reason}: {detail}"),
        (_, false) => detail,
        (_, true) => reason,
    };
    vec![
        text(signer, "signer_kid"),
        text(signer, "state"),
        age(number(signer, "for_s")),
        upstream,
        why,
    ]
}

/// The line of one of a signer's several upstreams.
fn upstream(upstream: &Value) -> Vec<String> {
    vec![
        String::new(),
        text(upstream, "state"),
        age(number(upstream, "for_s")),
        place(upstream),
        text(upstream, "detail"),
    ]
}

fn place(upstream: &Value) -> String {
    format!("{} {}", text(upstream, "upstream"), text(upstream, "region"))
}

/// Columns as wide as their widest cell, each cell in one line: a library's words may have several.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let one_line = |cell: &String| {
        let words = cell.contains(['\n', '\r', '\t']);
        let words = words.then(|| cell.split_whitespace().collect::<Vec<_>>().join(" "));
        text::line(&words.unwrap_or_else(|| cell.clone())).into_owned()
    };
    let rows: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(one_line).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(crate) fn text(body: &Value, key: &str) -> String {
    body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(body: &Value, key: &str) -> u64 {
    body.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// `17s`, `3m 05s`, `2h 10m`, `4d 3h`.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ages_read_well() {
        assert_eq!(
            ["17s", "3m 05s", "2h 10m", "4d 3h"],
            [17, 185, 7_800, 356_400].map(age).each_ref().map(String::as_str)
        );
    }

    #[test]
    fn a_partial_outage_is_in_the_headline_and_a_whole_signer_is_not_called_out() {
        let upstream = |ok| json!({"upstream": "aws-kms", "region": "r", "ok": ok});
        let of = |second, outage: &str| {
            status(&json!({"deployment": "d", "ok": true, "outage": outage, "signers": [{
                "signer_kid": "k", "state": "open", "outage": outage,
                "upstreams": [upstream(true), upstream(second)],
            }]}))
        };
        let partial = of(false, "partial");
        assert!(partial.starts_with("d · signing, PARTIAL outage · "), "{partial}");
        assert!(partial.contains("1 of 2 (partial outage)"), "{partial}");
        let whole = of(true, "none");
        assert!(whole.starts_with("d · signing · ") && whole.contains("2 of 2"), "{whole}");
        assert!(!whole.contains("outage"), "{whole}");
    }

    #[test]
    fn a_table_has_straight_columns() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["aaa".to_owned(), "b".to_owned()]];
        assert_eq!(table(&rows), "a    bb\naaa  b");
        let rows = [vec!["a\n  b".to_owned(), "c".to_owned()]];
        assert_eq!(table(&rows), "a b  c");
    }
}
