//! A break-glass request that everything is right with.

use signing_core::breakglass::{Draft, TYPE};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A request to let the emergency key with that SHA-256 stand in for `replaces`, an hour from
/// `now` on, in an outage that began so many seconds before.
pub(crate) fn draft(
    emergency_key_sha256: String,
    (replaces, caller): (&str, &str),
    now: OffsetDateTime,
    outage_seconds: i64,
) -> Draft {
    let at = |seconds| (now + time::Duration::seconds(seconds)).format(&Rfc3339).unwrap();
    Draft {
        r#type: TYPE.to_owned(),
        id: "INC-7".to_owned(),
        audience: "test".to_owned(),
        instances: vec!["1".repeat(64)],
        incident: "INC-7".to_owned(),
        justification: "KMS is down".to_owned(),
        emergency_kid: "emergency".to_owned(),
        emergency_key_sha256,
        replaces: vec![replaces.to_owned()],
        callers: vec![caller.to_owned()],
        outage_since: at(-outage_seconds),
        not_before: at(0),
        expires_at: at(3600),
        max_signatures: 900,
        under_freeze: None,
        nonce: "AAAAAAAAAAAAAAAAAAAAAA==".to_owned(),
    }
}
