//! The emergency signer's own record of a signature in a break-glass session: in its own log, signed by its
//! own audit key. Whoever holds the proxy's audit key alone makes no such receipt.

use serde_json::Value;
use signing_core::Registry;
use signing_core::journal::{Kind, Outline};

use super::proven::{Proven, Receipt};
use super::same;

/// What both records have to say alike.
const ALIKE: [&str; 9] = [
    "algorithm",
    "caller",
    "incident",
    "input_digest",
    "mode",
    "request_id",
    "session",
    "signature",
    "signer_kid",
];
/// The mode of a signature in a session.
const BREAKGLASS: &str = "breakglass";

/// Holds the emergency signer's record against the proxy's. Its log, its number and the log's size; none
/// outside of a session.
pub(super) fn check(
    audit: &Receipt,
    proxys: &Outline,
    registry: &Registry,
) -> Result<Option<(String, u64, u64)>, String> {
    let is_breakglass = proxys.text("mode") == Some(BREAKGLASS);
    let Some(receipt) = &audit.signer else {
        return match is_breakglass {
            true => Err("audit.signer is missing: in a break-glass session the receipt has the \
                         emergency signer's own record too"
                .to_owned()),
            false => Ok(None),
        };
    };
    if !is_breakglass {
        return Err("audit.signer is there, and the record is of no break-glass session".to_owned());
    }
    let at = "audit.signer";
    if receipt.signer.is_some() {
        return Err(format!("{at}.signer is there, and no record stands behind that one"));
    }
    let Proven { outline, size } = receipt.proven(at, Kind::EmergencySigned, registry)?;
    if receipt.log == audit.log {
        return Err(format!("{at}.log is the proxy's own log"));
    }
    let place = receipt.place().ok_or_else(|| format!("{at}.log is not the name of a log"))?;
    let named = proxys.text("signer_record").unwrap_or_default();
    same(at, &place, "the proxy's record's signer_record", named)?;
    // What is given out again for an idempotency key was signed for the first request.
    let is_replayed = proxys.data.get("replayed") == Some(&Value::Bool(true));
    for name in ALIKE.into_iter().filter(|name| !(is_replayed && *name == "request_id")) {
        let (here, there) = (outline.text(name), proxys.text(name));
        let what = format!("{name} in {at}.record");
        same(&what, here.unwrap_or_default(), "the proxy's record's", there.unwrap_or_default())?;
    }
    Ok(Some((receipt.log.clone(), receipt.seq, size)))
}
