//! What of a break-glass ceremony's preflight can be known without a socket: whether the registry, the machine's clock
//! and its disk would let a session of this proxy begin. `check` prints it; `signctl breakglass preflight` asks the
//! processes too.

use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use host::clock::rfc3339;
use signing_core::breakglass::room_bytes;
use signing_core::key::Purpose;
use signing_core::{Kid, Registry};
use time::{Duration, OffsetDateTime};

use super::Materials;

/// Signatures of the largest session that an emergency signer allows unless it is told otherwise.
const SIGNATURES: u64 = 100_000;
/// The longest session that it allows unless it is told otherwise.
const LONGEST: Duration = Duration::hours(4);
/// As far may a clock be behind its journal.
const BEHIND_MAX: Duration = Duration::seconds(60);

/// What there is. `None`: it could not be found out.
#[derive(Clone, Copy, Debug)]
struct Facts<'f> {
    registry: &'f Registry,
    /// The proxy's own audit key.
    audit_kid: &'f Kid,
    /// The signers that a session may have to stand in for.
    signers: &'f [&'f Kid],
    /// The emergency signer's socket, and whether one is there.
    socket: (&'f Path, bool),
    /// Bytes that are free for the journal.
    free: Option<u64>,
    /// When the journal was written to last.
    written: Option<OffsetDateTime>,
    now: OffsetDateTime,
}

/// One sentence for each condition that is not met; none where no emergency signer is configured.
pub(super) fn notes(materials: &Materials, now: OffsetDateTime) -> Vec<String> {
    let config = &materials.config;
    let Some(socket) = &config.breakglass.signer_socket else { return Vec::new() };
    let is_there = std::fs::metadata(socket).is_ok_and(|there| there.file_type().is_socket());
    let signers: Vec<_> = config.signers.keys().collect();
    let failed = failed(&Facts {
        registry: &materials.registry,
        audit_kid: &materials.audit_key.kid,
        signers: &signers,
        socket: (socket, is_there),
        free: free(&config.audit.dir),
        written: written(&config.audit.dir),
        now,
    });
    failed.into_iter().map(|why| format!("breakglass: not ready for a ceremony: {why}")).collect()
}

/// What is in the way, in the order of the preflight's conditions.
fn failed(facts: &Facts<'_>) -> Vec<String> {
    let conditions =
        [signer(facts), key(facts), mode(facts), audit(facts), clock(facts), disk(facts)];
    let mut failed: Vec<_> = conditions.into_iter().flatten().collect();
    failed.extend(ends(facts));
    failed
}

fn signer(facts: &Facts<'_>) -> Option<String> {
    let (socket, is_there) = facts.socket;
    (!is_there).then(|| {
        format!(
            "breakglass.signer_socket: no socket is at {}; start breakglass-signer serve, or name the path of its \
             signer.socket",
            socket.display()
        )
    })
}

/// The emergency keys that count now.
fn usable<'f>(facts: &Facts<'f>) -> impl Iterator<Item = &'f signing_core::Signer> {
    let now = facts.now;
    let keys = facts.registry.iter().map(AsRef::as_ref);
    keys.filter(move |key| key.purpose == Purpose::Breakglass && key.usable_at(now).is_ok())
}

fn key(facts: &Facts<'_>) -> Option<String> {
    usable(facts).next().is_none().then(|| {
        "registry.file: has no emergency key (\"purpose\": \"breakglass\") that is in force; make one: \
         breakglass-signer keygen, then signctl breakglass register"
            .to_owned()
    })
}

/// Each of them ends by itself, and not before a session could.
fn ends(facts: &Facts<'_>) -> Vec<String> {
    let wrong = usable(facts).filter_map(|key| match key.not_after {
        None => Some(format!(
            "registry.file: the emergency key {} has no \"notAfter\"; give its entry one",
            key.kid
        )),
        Some(end) if end < facts.now.saturating_add(LONGEST) => Some(format!(
            "registry.file: the emergency key {} ends at {}, before a session could; make another key",
            key.kid,
            rfc3339(end)
        )),
        Some(_) => None,
    });
    wrong.collect()
}

/// A batch key stands in for a batch signer, and no other does.
fn mode(facts: &Facts<'_>) -> Option<String> {
    let is_batch = |key: &signing_core::Signer| key.batch.is_batch();
    let modes: Vec<_> = usable(facts).map(is_batch).collect();
    let signers = facts.signers.iter().filter_map(|kid| facts.registry.get(kid.as_str()));
    let alone = signers.filter(|signer| !modes.contains(&is_batch(signer)));
    let alone: Vec<_> = alone.map(|signer| signer.kid.as_str()).collect();
    (!modes.is_empty() && !alone.is_empty()).then(|| {
        format!(
            "registry.file: no emergency key has the \"mode\" of {}, so no session could replace it; make one that \
             has",
            alone.join(", ")
        )
    })
}

fn audit(facts: &Facts<'_>) -> Option<String> {
    let mut keys = facts.registry.iter().filter(|key| key.purpose == Purpose::Audit);
    keys.all(|key| key.kid == *facts.audit_kid).then(|| {
        "registry.file: has no audit key of an emergency signer, whose log the proxy could not believe; add the entry \
         that breakglass-signer check shows"
            .to_owned()
    })
}

fn clock(facts: &Facts<'_>) -> Option<String> {
    let ahead = facts.written? - facts.now;
    (ahead > BEHIND_MAX).then(|| {
        format!(
            "audit.dir: was written to {} s later than this machine's clock shows, so approvals would be judged by a \
             wrong time; set the clock",
            ahead.whole_seconds()
        )
    })
}

fn disk(facts: &Facts<'_>) -> Option<String> {
    let (free, needed) = (facts.free?, room_bytes(SIGNATURES));
    (free < needed).then(|| {
        format!(
            "audit.dir: has {} MiB free, and {} MiB are needed for a session of {SIGNATURES} signatures; make room",
            free >> 20,
            needed >> 20
        )
    })
}

/// Before `init` there is no directory yet.
fn free(directory: &Path) -> Option<u64> {
    let there = directory.ancestors().find(|directory| directory.is_dir())?;
    let found = nix::sys::statvfs::statvfs(there).ok()?;
    Some(found.blocks_available().saturating_mul(found.fragment_size()))
}

fn written(directory: &Path) -> Option<OffsetDateTime> {
    let entries = std::fs::read_dir(directory).ok()?.filter_map(Result::ok);
    let modified = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok());
    modified.max().map(OffsetDateTime::from)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use signing_core::key::{Batching, KeyKind, PublicKey};
    use signing_core::registry::Entry;
    use signing_core::{Algorithm, Signer};

    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn entry(kid: &str, purpose: Purpose) -> Value {
        let key = development::DevelopmentKey::generate(KeyKind::Ed25519).unwrap();
        let public_key =
            PublicKey::from_spki_der(key.public_key_der(), Algorithm::Ed25519Sha512).unwrap();
        let kid = Kid::parse(kid).unwrap();
        let batch = Batching::No;
        let signer = Signer { kid, public_key, purpose, batch, not_after: None, revoked_at: None };
        serde_json::to_value(Entry::publish(&signer)).unwrap()
    }

    #[test]
    fn each_condition_that_is_not_met_is_one_sentence_and_all_that_are_met_are_none() {
        let mut entries = [
            entry("own", Purpose::Audit),
            entry("k", Purpose::Signing),
            entry("other", Purpose::Audit),
            entry("e", Purpose::Breakglass),
        ];
        entries[3]["notAfter"] = json!("1970-02-01T00:00:00Z");
        let registry = |change: &dyn Fn(&mut Vec<Value>)| {
            let mut entries = entries.to_vec();
            change(&mut entries);
            Registry::from_json(&json!({"signers": entries}).to_string()).unwrap()
        };
        let whole = registry(&|_| ());
        let [own, k] = ["own", "k"].map(|kid| Kid::parse(kid).unwrap());
        let socket = Path::new("/run/signer.sock");
        let met = Facts {
            registry: &whole,
            audit_kid: &own,
            signers: &[&k],
            socket: (socket, true),
            free: Some(u64::MAX),
            written: Some(NOW + Duration::seconds(60)),
            now: NOW,
        };
        assert_eq!(failed(&met), [""; 0]);
        assert_eq!(failed(&Facts { free: None, written: None, ..met }), [""; 0]);
        let keyless = registry(&|entries| entries.truncate(3));
        let revoked = registry(&|entries| entries[3]["revokedAt"] = json!("1969-01-01T00:00:00Z"));
        let over = registry(&|entries| entries[3]["notAfter"] = json!("1969-01-01T00:00:00Z"));
        let endless = registry(&|entries| entries[3]["notAfter"] = Value::Null);
        let soon = registry(&|entries| entries[3]["notAfter"] = json!("1970-01-01T03:59:59Z"));
        let batch = registry(&|entries| entries[1]["mode"] = json!("batch"));
        let unheard = registry(&|entries| drop(entries.remove(2)));
        for (facts, words) in [
            (Facts { socket: (socket, false), ..met }, "no socket is at /run/signer.sock"),
            (Facts { registry: &keyless, ..met }, "has no emergency key"),
            (Facts { registry: &revoked, ..met }, "has no emergency key"),
            (Facts { registry: &over, ..met }, "has no emergency key"),
            (Facts { registry: &endless, ..met }, "e has no \"notAfter\""),
            (Facts { registry: &soon, ..met }, "e ends at 1970-01-01T03:59:59"),
            (Facts { registry: &batch, ..met }, "has the \"mode\" of k"),
            (Facts { registry: &unheard, ..met }, "has no audit key of an emergency signer"),
            (Facts { written: Some(NOW + Duration::seconds(61)), ..met }, "set the clock"),
            (Facts { free: Some(room_bytes(SIGNATURES) - 1), ..met }, "make room"),
        ] {
            let found = failed(&facts);
            assert!(found.len() == 1 && found[0].contains(words), "{words}: {found:?}");
        }
    }
}
