//! What callers asked for and got, in equal parts of the time: memory does not grow with their number. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use signing_core::journal::{Kind, Outline};
use time::OffsetDateTime;

use crate::scope::Window;

/// So many parts the time has.
pub(super) const PARTS: usize = 60;

/// The calls of one upstream within a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) count: u64,
    /// Of all together, in microseconds.
    pub(super) sum_us: u64,
    pub(super) slowest_us: u64,
}

/// Counts by part.
pub(super) type Counts = [u64; PARTS];

/// All of it.
#[derive(Debug)]
pub(super) struct Load {
    /// Calls that signed, by upstream and region.
    pub(super) latency: BTreeMap<String, [Calls; PARTS]>,
    /// Signatures by an upstream.
    pub(super) signed: u64,
    /// Signatures by an emergency key, as the proxy's journal has them.
    pub(super) signed_in_session: u64,
    /// Signatures that were made and did not leave.
    pub(super) withheld: u64,
    /// Requests that ended without a signature, by reason: refused before a call, or failed in it.
    pub(super) refused: BTreeMap<String, u64>,
    pub(super) refusals: Counts,
    /// Signatures by an emergency key, as the emergency signer's journal has them.
    pub(super) emergency: Counts,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            latency: BTreeMap::new(),
            signed: 0,
            signed_in_session: 0,
            withheld: 0,
            refused: BTreeMap::new(),
            refusals: [0; PARTS],
            emergency: [0; PARTS],
        }
    }
}

impl Load {
    /// Takes what a record says that counts.
    pub(super) fn note(
        &mut self,
        at: OffsetDateTime,
        kind: Kind,
        outline: &Outline,
        window: &Window,
    ) {
        let part = window.part(at, PARTS);
        match kind {
            Kind::Signed if outline.text("mode") == Some("breakglass") => {
                self.signed_in_session += 1
            }
            Kind::Signed => {
                self.signed += 1;
                self.latency(part, outline);
            }
            Kind::Withheld => self.withheld += 1,
            Kind::Failed => self.refuse(part, outline.text("reason").unwrap_or_default(), 1),
            // The proxy counts what its emergency signer refused too.
            Kind::Refusals => {
                let refused = outline.data.get("refused").and_then(Value::as_array);
                for one in refused.into_iter().flatten() {
                    let reason = one.get("reason").and_then(Value::as_str).unwrap_or_default();
                    let count = one.get("count").and_then(Value::as_u64).unwrap_or_default();
                    self.refuse(part, reason, count);
                }
            }
            Kind::EmergencySigned => add(&mut self.emergency, part, 1),
            _ => {}
        }
    }

    fn refuse(&mut self, part: usize, reason: &str, count: u64) {
        let sum = self.refused.entry(reason.to_owned()).or_default();
        *sum = sum.saturating_add(count);
        add(&mut self.refusals, part, count);
    }

    fn latency(&mut self, part: usize, outline: &Outline) {
        let us = outline.data.pointer("/timing_us/upstream").and_then(Value::as_u64);
        let (Some(us), Some(upstream)) = (us, outline.text("upstream")) else { return };
        let region = outline.text("region").map(|region| format!(" {region}")).unwrap_or_default();
        let parts =
            self.latency.entry(format!("{upstream}{region}")).or_insert([Calls::default(); PARTS]);
        if let Some(calls) = parts.get_mut(part) {
            calls.count += 1;
            calls.sum_us = calls.sum_us.saturating_add(us);
            calls.slowest_us = calls.slowest_us.max(us);
        }
    }
}

fn add(counts: &mut Counts, part: usize, count: u64) {
    if let Some(sum) = counts.get_mut(part) {
        *sum = sum.saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scope::moment;

    #[test]
    fn each_outcome_is_counted_once_in_its_part() {
        let at = |minute: u8| moment(&format!("2026-11-26T05:{minute:02}:00.000000Z")).unwrap();
        let window = Window { from: at(0), to: at(59), since: at(0), until: at(59), is_over: true };
        let mut load = Load::default();
        let call = |us: u64| json!({"mode": "normal", "upstream": "aws-kms", "region": "eu", "timing_us": {"upstream": us}});
        let refused = json!({"refused": [{"reason": "frozen", "count": 7}]});
        for (minute, kind, data) in [
            (0, Kind::Signed, call(10)),
            (0, Kind::Signed, call(30)),
            (59, Kind::Signed, call(5)),
            (9, Kind::Signed, json!({"mode": "breakglass"})),
            (9, Kind::EmergencySigned, json!({})),
            (9, Kind::EmergencyRefusals, refused.clone()),
            (9, Kind::Refusals, refused),
            (9, Kind::Failed, json!({"reason": "indeterminate"})),
            (9, Kind::Withheld, json!({})),
        ] {
            let (text, r#type) = (String::new(), kind.word().to_owned());
            load.note(at(minute), kind, &Outline { at: text, data, r#type }, &window);
        }
        let parts = &load.latency["aws-kms eu"];
        assert_eq!(parts[0], Calls { count: 2, sum_us: 40, slowest_us: 30 });
        assert_eq!(parts[PARTS - 1].count, 1);
        assert_eq!((load.signed, load.signed_in_session, load.withheld), (3, 1, 1));
        let refused: Vec<_> =
            load.refused.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        assert_eq!(refused, [("frozen", 7), ("indeterminate", 1)]);
        assert_eq!((load.refusals[9], load.emergency[9]), (8, 1));
    }
}
