//! One record of every kind that a member of a fleet writes.

use signing_core::journal::{Approved, FleetFreeze, FleetLink, FleetUnfreeze, Record};

pub(super) fn one_of_each() -> Vec<(Record<'static>, &'static str)> {
    let freeze_id = || "01".repeat(16);
    let presented_by = "uid 9 (trail)";
    vec![
        (
            Record::FleetFreeze(FleetFreeze {
                by: "uid 0 (root)",
                freeze_id: freeze_id(),
                presented_by,
                reason: "INC-42",
            }),
            r#"{"by":"uid 0 (root)","freeze_id":"01010101010101010101010101010101","presented_by":"uid 9 (trail)","reason":"INC-42"}"#,
        ),
        (
            Record::FleetUnfreeze(FleetUnfreeze {
                approved: Approved {
                    algorithm: "ssh-ed25519",
                    counter: None,
                    fingerprint: "SHA256:a",
                    principal: "alice",
                    roles: vec!["Security"],
                    touched: None,
                    verified: None,
                },
                ends: vec![freeze_id()],
                expires_at: "2026-11-26T06:00:00Z",
                presented_by,
                reason: "all is well",
                signature: "armored",
                statement_b64: "e30=",
            }),
            r#"{"approved":{"algorithm":"ssh-ed25519","fingerprint":"SHA256:a","principal":"alice","roles":["Security"]},"ends":["01010101010101010101010101010101"],"expires_at":"2026-11-26T06:00:00Z","presented_by":"uid 9 (trail)","reason":"all is well","signature":"armored","statement_b64":"e30="}"#,
        ),
        (
            Record::FleetLink(FleetLink { fleet: "payments", state: "joined" }),
            r#"{"fleet":"payments","state":"joined"}"#,
        ),
    ]
}
