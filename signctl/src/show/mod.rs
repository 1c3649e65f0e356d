//! Answers in words and tables, for a person.

mod emergency;
#[cfg(test)]
pub(crate) mod examples;
mod fleet;

use std::process::ExitCode;

use host::out;
use signing_core::admin::{
    Condition, DrillReport, FreezeInForce, Frozen, Health, JournalStatus, Level, Problem,
    ProxyStatus, Readiness, Reloaded, SignerHealth, Unsealed, UpstreamHealth, Worker,
};
use signing_core::gate::Extent;
use text::counted;

use crate::client::Reply;

pub(crate) use emergency::keys as emergency_keys;

/// What is said of an answer, and whether it is a good one.
pub(crate) struct Said {
    pub(crate) words: String,
    pub(crate) is_good: bool,
}

impl Said {
    /// What is good since it was answered at all.
    pub(crate) fn done(words: String) -> Self {
        Self { words, is_good: true }
    }
}

/// Says what was answered, to a program or to a person; success if the answer is good. `is_look`: it was
/// asked for nothing else than to be said.
pub(crate) fn reply(
    reply: &Reply,
    as_json: bool,
    is_look: bool,
    say: impl FnOnce(&Reply) -> anyhow::Result<Said>,
) -> anyhow::Result<ExitCode> {
    match (as_json, is_look) {
        (true, true) => out::show_json(&reply.body)?,
        (true, false) => out::report_json(&reply.body)?,
        (false, _) => {}
    }
    if let Some(Problem { reason, detail, .. }) = reply.refusal() {
        if !as_json {
            out::say(&format!("signctl: {reason}: {detail}"));
        }
        return Ok(ExitCode::FAILURE);
    }
    let Said { words, is_good } = say(reply)?;
    match (as_json, is_look) {
        (true, _) => {}
        (false, true) => out::show(&words)?,
        (false, false) => out::report(&words)?,
    }
    let is_good = is_good && reply.status == 200;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The whole status: one line for all, one for each signer.
pub(crate) fn status(health: &Health, proxy: &ProxyStatus) -> Said {
    let mut lines = emergency::session(health);
    lines.push(format!(
        "{} · {} · up {} · {} in flight · {}",
        proxy.deployment,
        verdict(health),
        age(proxy.uptime_s),
        proxy.requests_in_flight,
        counted(proxy.connections, "connection"),
    ));
    lines.extend(emergency::keys(proxy));
    lines.extend(fleet::lines(proxy));
    let own = health.freeze.as_ref().filter(|freeze| !freeze.of_fleet);
    if let Some(FreezeInForce { id, since, by, reason, .. }) = own {
        let id = id.map(|id| format!(" (freeze {id})")).unwrap_or_default();
        lines.push(format!("FROZEN since {since} by {by}: {reason}{id}"));
        lines.push("to end it: signctl unfreeze --reason TEXT".to_owned());
    }
    lines.extend(proxy.incident.as_ref().map(|open| {
        format!("INCIDENT {} since {} by {}: {}", open.incident, open.since, open.by, open.reason)
    }));
    lines.push(journal(&proxy.audit));
    lines.extend(conditions(&health.conditions));
    lines.extend(outage(&health.signers, proxy.min_outage_s));
    lines.push(signers(&health.signers));
    lines.extend(proxy.workers.iter().map(worker));
    Said { words: lines.join("\n"), is_good: health.ok }
}

/// Whether a token's worker serves, and what became of those before it.
fn worker(worker: &Worker) -> String {
    let Worker { signer_kid, region, up, restarts, hangs_killed } = worker;
    let up = if *up { "up" } else { "DOWN" };
    format!(
        "worker of {signer_kid} at {region}: {up} · restarts {restarts} · hangs killed {hangs_killed}"
    )
}

/// What is not well on the proxy's own side: a line for each.
pub(crate) fn conditions(all: &[Condition]) -> Vec<String> {
    let bad = all.iter().filter(|condition| condition.state != Level::Ok);
    let line = |Condition { component, state, since, detail }: &Condition| {
        let (component, state) = (component.replace('_', " "), state.word().to_uppercase());
        let detail = detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        format!("{component} {state} since {since}{detail}")
    };
    bad.map(line).collect()
}

/// What is out, for how long, and when that is long enough for break-glass.
pub(crate) fn outage(signers: &[SignerHealth], min: u64) -> Vec<String> {
    let line = |signer: &SignerHealth| {
        let (kid, out) = (&signer.signer_kid, signer.outage_s?);
        let counts = signer.outage_counts == Some(true);
        let then = match min.checked_sub(out) {
            Some(left @ 1..) if counts => {
                format!("break-glass may begin in {} if it lasts", age(left))
            }
            Some(1..) => format!("not counting now; break-glass needs {}", age(min)),
            Some(0) | None => "long enough for break-glass".to_owned(),
        };
        Some(format!("OUTAGE of {kid} for {}: {then}", age(out)))
    };
    signers.iter().filter_map(line).collect()
}

/// The journal: how far it is, or what is wrong with it and what to do.
fn journal(journal: &JournalStatus) -> String {
    let size = journal.size;
    let Some(trouble) = &journal.trouble else {
        return format!("journal: {}", counted(size, "record"));
    };
    let then = if journal.sealed {
        "fix the cause, restart, look with `signctl audit verify`, then: signctl unseal --audit --reason ..."
    } else {
        "it goes on by itself once the cause is gone"
    };
    format!("JOURNAL RECORDS NOTHING after record {size}: {trouble}\nto end it: {then}")
}

/// What the health listener says.
pub(crate) fn health(health: &Health) -> Said {
    let mut lines: Vec<_> = emergency::in_health(health).into_iter().collect();
    lines.push(verdict(health));
    lines.extend(conditions(&health.conditions));
    lines.push(signers(&health.signers));
    Said { words: lines.join("\n"), is_good: health.ok }
}

/// What `/livez` and `/readyz` say, which name no signers.
pub(crate) fn readiness(readiness: &Readiness) -> Said {
    let words = if readiness.ok { "ok" } else { "NOT ok" }.to_owned();
    Said { words, is_good: readiness.ok }
}

/// What became of a freeze, or of its end.
pub(crate) fn frozen(Frozen { frozen, id, connections_cut, note }: &Frozen) -> Said {
    let id = id.map(|id| format!(" (freeze {id})")).unwrap_or_default();
    let state = if *frozen {
        format!("frozen: nothing is signed until `signctl unfreeze`{id}")
    } else {
        "not frozen".to_owned()
    };
    Said::done(format!("{state}{}{}", unread(*connections_cut), noted(note.as_deref())))
}

/// What became of an unseal.
pub(crate) fn unsealed(Unsealed { unsealed, signer_kid, note, .. }: &Unsealed) -> Said {
    let state = match (unsealed, signer_kid) {
        (false, _) => "nothing changed".to_owned(),
        (true, None) => "unsealed the journal".to_owned(),
        (true, Some(kid)) => format!("unsealed {kid}: it has to prove itself now"),
    };
    Said::done(format!("{state}{}", noted(note.as_deref())))
}

/// What is not as it was asked.
pub(crate) fn noted(note: Option<&str>) -> String {
    note.map(|note| format!("\nnote: {note}")).unwrap_or_default()
}

/// Whose connections a stop reset, if any.
pub(crate) fn unread(connections_cut: Option<usize>) -> String {
    match connections_cut {
        None | Some(0) => String::new(),
        Some(count) => format!(
            "\nconnections reset: {count}. Their clients had not read what was signed before; it does not \
             arrive any more"
        ),
    }
}

/// What a reload did.
pub(crate) fn reloaded(reloaded: &Reloaded) -> Said {
    let touched = reloaded.signers_touched.join(", ");
    let touched = if touched.is_empty() { "none" } else { &touched };
    Said::done(format!(
        "reloaded: configuration {} since the start; registry {}\nsigners with other rules: {touched}\n\
         connections reset, since their certificates are not let in any more, or since what was signed \
         before was not read: {}",
        reloaded.generation, reloaded.registry_sha256, reloaded.connections_cut,
    ))
}

/// What a drill showed.
pub(crate) fn drilled(report: &DrillReport) -> Said {
    let time = |ms: Option<u64>| match ms {
        Some(ms) => format!("{}.{:03} s", ms / 1_000, ms % 1_000),
        None => "NEVER within the drill".to_owned(),
    };
    let rows = [
        ["drill", &format!("every upstream of {} failed", report.signer_kid)],
        ["time to refuse", &time(report.time_to_refuse_ms)],
        ["slipped", &report.slipped.to_string()],
        ["time to recover", &time(report.time_to_recover_ms)],
        ["verdict", if report.ok { "held" } else { "DID NOT HOLD" }],
    ];
    let words = table(&rows.map(|row| row.map(str::to_owned).to_vec()));
    Said { words, is_good: report.ok }
}

pub(crate) fn verdict(health: &Health) -> String {
    match (health.ok, health.outage) {
        // Something is out, and nobody is refused for it.
        (true, Extent::Partial) => "signing, PARTIAL outage".to_owned(),
        (true, Extent::None | Extent::Full) => "signing".to_owned(),
        (false, _) => format!("NOT SIGNING ({})", health.reason.as_deref().unwrap_or_default()),
    }
}

pub(crate) fn signers(signers: &[SignerHealth]) -> String {
    let mut rows = vec![["SIGNER", "GATE", "FOR", "UPSTREAM", "WHY"].map(str::to_owned).to_vec()];
    rows.extend(signers.iter().flat_map(|signer| {
        let upstreams = &signer.upstreams;
        let several = upstreams.iter().filter(|_| upstreams.len() > 1).map(upstream);
        std::iter::once(whole(signer)).chain(several)
    }));
    table(&rows)
}

/// A signer's line: of one upstream, that one's name; of several, how much is out.
fn whole(signer: &SignerHealth) -> Vec<String> {
    let ok = signer.upstreams.iter().filter(|upstream| upstream.ok).count();
    let upstream = match signer.upstreams.as_slice() {
        [only] => format!("{} {}", place(only), if ok == 1 { "ok" } else { "out" }),
        several if ok == several.len() => format!("{ok} of {ok}"),
        several => format!("{ok} of {} ({} outage)", several.len(), signer.outage.word()),
    };
    let why = match (&signer.reason, &signer.detail) {
        (Some(reason), Some(detail)) if !detail.starts_with(reason) => {
            format!("{reason}: {detail}")
        }
        (_, Some(detail)) => detail.clone(),
        (reason, None) => reason.clone().unwrap_or_default(),
    };
    vec![signer.signer_kid.clone(), signer.state.clone(), age(signer.for_s), upstream, why]
}

/// The line of one of a signer's several upstreams.
fn upstream(upstream: &UpstreamHealth) -> Vec<String> {
    let detail = upstream.detail.clone().unwrap_or_default();
    vec![String::new(), upstream.state.clone(), age(upstream.for_s), place(upstream), detail]
}

fn place(UpstreamHealth { upstream, region, .. }: &UpstreamHealth) -> String {
    format!("{upstream} {region}")
}

/// Names and values, one a line; each stays one line.
pub(crate) fn rows(rows: &[(&str, String)]) -> String {
    let rows = rows.iter().map(|(name, value)| format!("{name:<12}{}", text::line(value)));
    rows.collect::<Vec<_>>().join("\n")
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

/// `17s`, `3m 05s`, `2h 10m`, `4d 3h`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
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
        let of = |second, outage| {
            let signer = SignerHealth {
                outage,
                upstreams: vec![examples::upstream(true), examples::upstream(second)],
                ..examples::signer("k", "open")
            };
            let health = Health { outage, signers: vec![signer], ..examples::health() };
            status(&health, &examples::proxy()).words
        };
        let partial = of(false, Extent::Partial);
        assert!(partial.starts_with("d · signing, PARTIAL outage · "), "{partial}");
        assert!(partial.contains("1 of 2 (partial outage)"), "{partial}");
        let whole = of(true, Extent::None);
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
