//! When the registry ends the keys of the configured signers, as metrics.

use host::clock::wall_now;
use signing_core::gate::Snapshot;

use super::SIGNER_KEY_END;
use super::tls::family;

/// The samples of the registry in force, as Prometheus reads them: of each configured signer whose key it ends.
/// A revoked key ended when it was revoked, and no later than now: a revocation that names a later time counts already.
pub(super) fn samples(gates: &Snapshot) -> String {
    let (registry, now) = (gates.rulebook().registry(), wall_now());
    let ends = gates.gates().filter_map(|(kid, _)| {
        let signer = registry.get(kid.as_str())?;
        let ends = signer.revoked_at.map(|at| at.min(now)).or(signer.not_after)?;
        // A kid needs no escaping.
        Some((format!("signer_kid=\"{kid}\""), ends))
    });
    let mut text = String::new();
    family(&mut text, SIGNER_KEY_END, ends);
    text
}
