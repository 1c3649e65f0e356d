//! Answers of a proxy that signs, for tests.

use signing_core::Mode;
use signing_core::admin::{
    Activity, Health, JournalStatus, OlderSegments, ProxyStatus, SignerHealth, UpstreamHealth,
};
use signing_core::gate::Extent;

pub(crate) fn health() -> Health {
    Health {
        ok: true,
        mode: Mode::Normal,
        frozen: false,
        outage: Extent::None,
        signers: Vec::new(),
        conditions: Vec::new(),
        breakglass: None,
        reason: None,
        detail: None,
        freeze: None,
        open_incident: None,
    }
}

pub(crate) fn signer(kid: &str, state: &str) -> SignerHealth {
    SignerHealth {
        signer_kid: kid.to_owned(),
        state: state.to_owned(),
        upstream_ok: state == "open",
        outage: Extent::None,
        for_s: 7,
        upstreams: vec![upstream(state == "open")],
        replaced: false,
        outage_s: None,
        outage_counts: None,
        reason: None,
        lease_ms_left: None,
        detail: None,
    }
}

pub(crate) fn upstream(ok: bool) -> UpstreamHealth {
    UpstreamHealth {
        upstream: "aws-kms".to_owned(),
        region: "r".to_owned(),
        ok,
        state: if ok { "open" } else { "shut" }.to_owned(),
        for_s: 7,
        detail: None,
    }
}

pub(crate) fn proxy() -> ProxyStatus {
    ProxyStatus {
        deployment: "d".to_owned(),
        version: "0".to_owned(),
        config_generation: 1,
        uptime_s: 9,
        min_outage_s: 1_800,
        requests_in_flight: 0,
        connections: 0,
        incident: None,
        activity: Activity::default(),
        audit: JournalStatus {
            log: "l".to_owned(),
            size: 3,
            root: "00".to_owned(),
            directory: "/j".to_owned(),
            queued: 0,
            set_aside_bytes: 0,
            older_segments: OlderSegments { checked: 0, of: 0, waits: None },
            sealed: false,
            trouble: None,
        },
        workers: Vec::new(),
        fleet: None,
        emergency_signer_connected: None,
        emergency_keys: None,
        emergency_cannot_arm: Vec::new(),
    }
}
