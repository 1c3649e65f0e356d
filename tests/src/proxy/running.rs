//! What a test asks of a running proxy.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::Proxy;
use crate::client::{Answer, Client, Protocol, admin, plain};
use crate::pki::{Certificate, Profile};
use crate::programs::ours;
use crate::wait::eventually;

impl Proxy<'_> {
    /// A client of that name with a good certificate, over HTTP/1.1.
    pub async fn client(&self, name: &str) -> Client {
        self.client_with(&self.world.pki.issue(&Profile::client(name)), Protocol::Http1).await
    }

    /// A client over HTTP/2.
    pub async fn http2_client(&self, name: &str) -> Client {
        self.client_with(&self.world.pki.issue(&Profile::client(name)), Protocol::Http2).await
    }

    /// A client with that certificate.
    pub async fn client_with(&self, certificate: &Certificate, protocol: Protocol) -> Client {
        Client::connect(&self.listen, &self.world.pki.ca_pem, certificate, protocol).await.unwrap()
    }

    /// What the health listener says.
    pub async fn health(&self) -> Answer {
        plain(&self.metrics, "/health").await
    }

    /// Waits until every gate is open.
    pub async fn healthy(&self) {
        eventually("healthy", || async { (self.health().await.status == 200).then_some(()) }).await;
    }

    /// Waits until health says no, for `reason`.
    pub async fn unhealthy_for(&self, reason: &str) -> Answer {
        eventually(&format!("unhealthy for {reason}"), || async {
            let health = self.health().await;
            (health.status == 503 && health.body["reason"] == reason).then_some(health)
        })
        .await
    }

    /// Waits until its journal is sealed: it may refuse before that is known, as it does
    /// while the disk does not answer.
    pub async fn audit_sealed(&self) {
        eventually("the journal is sealed", || async {
            (self.metric("audit_sealed").await == Some(1.0)).then_some(())
        })
        .await;
    }

    /// Waits until a restart would find the journal's seal, which is in force before it is on
    /// disk: a kill in between forgets it.
    pub async fn audit_seal_stored(&self) {
        let file = self.socket.with_file_name("state").join("freeze-and-seals.json");
        eventually("the journal's seal is stored", || {
            let state = std::fs::read_to_string(&file).unwrap_or_default();
            let state: Value = serde_json::from_str(&state).unwrap_or_default();
            std::future::ready(state["audit_seal"].is_object().then_some(()))
        })
        .await;
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        plain(&self.metrics, "/metrics").await.text
    }

    /// The value of the sample `series`, written as `/metrics` prints it.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics().await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    /// A request to the admin socket.
    pub async fn admin(&self, method: &str, path: &str, body: Value) -> Answer {
        admin(&self.socket, method, path, body).await
    }

    /// Runs `signctl` on its admin socket: exit code, stdout, stderr.
    #[must_use]
    pub fn signctl(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(ours("signctl"))
            .arg("--socket")
            .arg(&self.socket)
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// Stops it as an orchestrator does, and waits for its end.
    pub async fn stop(mut self) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.ended().await;
        assert!(status.success(), "it ended with {status}");
    }
}

/// Where it serves, if that is what a line of its log says: data plane, metrics, local doors.
pub(super) fn serving(line: &str) -> Option<(String, String, Vec<String>)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| line[key].as_str().map(str::to_owned);
    let local = || Some(text("local")?.split_whitespace().map(str::to_owned).collect());
    (line["message"] == "serving").then(|| Some((text("listen")?, text("metrics")?, local()?)))?
}
