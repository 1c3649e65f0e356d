//! Emergency records held against the verdicts of the policy service: where one was ever configured,
//! each has one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use host::out;
use serde_json::Value;
use tokio::runtime::Runtime;
use trail::event::{Event, Owner};
use trail::notify::policy::is_asked_about;
use trail::postgres::{Place, annotated};
use trail::reconcile::Found;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The records of one journal that are to have a verdict.
pub(super) struct Annotations {
    log: String,
    /// Whether the journal is here from its first record on.
    is_whole: bool,
    /// The newest record whose row was looked at. A later one may get its verdict meanwhile.
    last: u64,
    expected: Vec<Expected>,
}

struct Expected {
    row_id: String,
    what: String,
}

impl Annotations {
    pub(super) fn of(log: &str, is_whole: bool, last: u64) -> Self {
        Self { log: log.to_owned(), is_whole, last, expected: Vec::new() }
    }

    /// A record that has a row.
    pub(super) fn expect(&mut self, owner: Owner, event: &Event) {
        if owner == Owner::Signer && is_asked_about(&event.event_type) {
            let seq = event.payload.get("seq").and_then(Value::as_u64).unwrap_or_default();
            let what = format!("record {seq} of {} ({})", self.log, event.event_type);
            self.expected.push(Expected { row_id: event.id.clone(), what });
        }
    }

    /// Waits a while until each has a verdict, and names those without.
    pub(super) fn hold(
        self,
        runtime: &Runtime,
        place: &Place,
        wait: Duration,
        found: &mut Found,
    ) -> anyhow::Result<()> {
        if self.expected.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let mut is_told = false;
        let held = loop {
            // Without a table nobody was ever asked.
            let Some(held) = runtime.block_on(annotated(place, &self.log, self.last))? else {
                return Ok(());
            };
            let has_all = self.expected.iter().all(|one| held.contains(&one.row_id));
            if has_all || began.elapsed() >= wait {
                break held;
            }
            if !is_told {
                out::say(&format!("waiting up to {} s for the newest annotations", wait.as_secs()));
                is_told = true;
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let known: BTreeSet<_> = self.expected.iter().map(|one| &one.row_id).collect();
        for one in self.expected.iter().filter(|one| !held.contains(&one.row_id)) {
            found.gap(format!("{} has no annotation of the policy service", one.what));
        }
        for id in held.iter().filter(|id| self.is_whole && !known.contains(id)) {
            let log = &self.log;
            found.gap(format!(
                "the row {id} of {log} has an annotation, and the journal has no such record"
            ));
        }
        let annotated = known.iter().filter(|id| held.contains(id.as_str())).count();
        let annotated = u64::try_from(annotated).unwrap_or(u64::MAX);
        found.annotated = Some(found.annotated.unwrap_or_default() + annotated);
        Ok(())
    }
}
