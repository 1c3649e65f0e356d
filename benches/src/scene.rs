//! A proxy of its own for what goes wrong: its upstream is out, or it has ten times more
//! to do than it takes.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use system_tests::{Fault, FaultProxy, Key, Kind, NetworkFault, Proxy, World};
use tokio_rustls::TlsConnector;

use crate::load::{self, CALLER, Sample, Target};
use crate::parts::Part;
use crate::stage::DIGEST;

/// Requests that it has in flight at once, at most.
pub const SLOTS: usize = 8;

/// What its KMS takes for a signature when it is loaded.
const LATENCY: Duration = Duration::from_millis(20);

/// The proxy, its key, and the way to it.
pub struct Scene<'w> {
    proxy: Proxy<'w>,
    key: Key,
    way: FaultProxy,
    tls: TlsConnector,
}

impl<'w> Scene<'w> {
    /// Starts it; returns once its gate is open.
    ///
    /// # Errors
    /// If the TLS material does not fit together.
    pub async fn start(world: &'w World) -> anyhow::Result<Self> {
        let key = world.kms.key(Kind::P256);
        let way = FaultProxy::start(world.kms.endpoint.trim_start_matches("http://"));
        let proxy = world
            .proxy()
            .server(&format!(
                "requests_in_flight_max = {SLOTS}\nrequests_in_flight_per_caller_max = {SLOTS}"
            ))
            .endpoint(&format!("http://{}", way.address))
            .signer("ec", &key)
            .caller(CALLER, &["ec"])
            .start()
            .await;
        Ok(Self { proxy, key, way, tls: load::tls(&world.pki)? })
    }

    /// Measures `part`, if it is one of these.
    ///
    /// # Errors
    /// As [`load::run`].
    pub async fn run(
        &self,
        part: Part,
        connections: usize,
        times: (Duration, Duration),
    ) -> anyhow::Result<Sample> {
        let (status, aside) = match part {
            Part::Outage => {
                self.way.set(NetworkFault::BlackHole);
                self.proxy.unhealthy_for("upstream_unhealthy").await;
                (503, None)
            }
            Part::AtCapacity => (200, None),
            Part::Overload => (200, Some(503)),
            _ => (503, Some(200)),
        };
        // Ten times the capacity is so many connections, each of which asks again as soon as
        // it would have had a signature: not a loop that takes the CPU from those it measures.
        let pace = if aside.is_some() { LATENCY } else { Duration::ZERO };
        if part != Part::Outage {
            self.key.break_with(Fault::Latency(LATENCY));
        }
        let body = json!({
            "signer_kid": "ec", "digest": STANDARD.encode(DIGEST), "digest_algorithm": "sha256",
        });
        let target = Target {
            address: self.proxy.listen.clone(),
            pid: self.proxy.process.pid(),
            request: load::post("/v1/sign", &body.to_string()),
            status,
            aside,
            pace,
            plain: false,
        };
        let sample = load::run(&target, &self.tls, connections, times).await;
        self.way.set(NetworkFault::None);
        self.key.mend();
        self.proxy.healthy().await;
        sample.with_context(|| part.name())
    }
}
