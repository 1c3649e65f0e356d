//! `signctl audit verify --database-url`: are the rows as the trail wrote them?

use std::cell::RefCell;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use host::out;
use serde_json::json;
use signing_core::Registry;
use trail::postgres::{Place, read};
use trail::verify::{Found, Verifier};

use crate::database::runtime;

/// A person sees how far it is after so many rows.
const SHOWN_EVERY: u64 = 10_000;

pub(super) fn run(
    place: &Place,
    registry: &Registry,
    limit: Option<u64>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let shows = io::stderr().is_terminal();
    let verifier = RefCell::new(None);
    let (mut taken, total) = (0_u64, RefCell::new(0));
    let reading = runtime()?.block_on(read(
        place,
        limit,
        |reading| {
            *total.borrow_mut() = limit.unwrap_or(reading.rows).min(reading.rows);
            let is_whole = limit.is_none_or(|limit| limit >= reading.rows);
            let shape = reading.shape.clone();
            *verifier.borrow_mut() = Some(Verifier::new(registry, is_whole, shape));
        },
        |row| {
            taken += 1;
            if shows && taken % SHOWN_EVERY == 0 {
                out::say_for_now(&format!("{taken} of {} rows ", total.borrow()));
            }
            verifier.borrow_mut().as_mut().is_some_and(|verifier| verifier.take(row))
        },
    ))?;
    if shows {
        out::say_for_now("");
    }
    let found = verifier.into_inner().map(|verifier| verifier.finish(&reading.positions));
    let found = found.unwrap_or_default();
    let unlogged = reading.unlogged.as_deref();
    if as_json {
        out::report_json(&in_json(&found, unlogged))?;
    } else {
        out::report(&text::lines(&readable(&found, unlogged, limit)))?;
    }
    Ok(if found.defect.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_json(found: &Found, unlogged: Option<&str>) -> serde_json::Value {
    let defect = found.defect.as_ref().map(
        |defect| json!({"row": defect.row, "what": defect.what, "sentence": defect.to_string()}),
    );
    json!({
        "ok": found.defect.is_none(),
        "rows": found.rows,
        "ours": found.ours,
        "signers_unknown": found.unknown,
        "foreign_forks": found.forks,
        "foreign_forks_at": found.named,
        "defect": defect,
        "unlogged": unlogged,
    })
}

fn readable(found: &Found, unlogged: Option<&str>, limit: Option<u64>) -> String {
    let mut lines = Vec::new();
    match &found.defect {
        None => {
            let of = limit.map_or("all", |_| "the newest");
            lines.push(format!(
                "no defect in {of} {} rows; {} are the trail's",
                found.rows, found.ours
            ));
        }
        Some(defect) => lines.push(format!("DEFECT: {defect}")),
    }
    if found.unknown > 0 {
        let unknown = found.unknown;
        lines.push(format!("not checked: the signatures of {unknown} rows of other writers"));
    }
    if found.forks > 0 {
        lines.push(format!(
            "foreign writers forked the chain {} times, which is no defect of the trail: at {}",
            found.forks,
            found.named.join(", ")
        ));
    }
    if let Some(table) = unlogged {
        lines.push(format!(
            "NOTE: {table} is UNLOGGED: a crash of the database empties it; ALTER TABLE {table} SET LOGGED"
        ));
    }
    lines.join("\n")
}
