//! How a caller reaches the proxy: flags, else variables, else what `signing-proxy dev` wrote here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde_json::Value;
use signing_core::Registry;

use signctl::failure::Failure;
use signctl::target::Target;

use super::dev;
use super::variables::{CA, CERTIFICATE, KEY, SIGNER, SIGNERS, URL};
use crate::client::Reply;
use crate::https::{self, Ask, Trust};

const SIGNERS_DEFAULT: &str = "/etc/signing-proxy/signers.json";
/// An answer has a signature and a receipt: some kilobytes.
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// Longer than the longest time that a proxy gives a request (`request_timeout_ms`).
const TIMEOUT_S: u64 = 75;

pub(super) const VARIABLES: &str = "\
Variables, where there is no flag (an empty one counts as absent):
  SIGNING_PROXY_URL, SIGNING_PROXY_CLIENT_CERT, SIGNING_PROXY_CLIENT_KEY,
  SIGNING_PROXY_CA, SIGNCTL_SIGNERS (the registry) and SIGNCTL_SIGNER (the kid)

Without a URL, what `signing-proxy dev` wrote to .signing-proxy/env in this
directory counts.";

/// Where the proxy is, who asks, and the registry that its answers have to verify under.
#[derive(Args)]
pub(crate) struct Reach {
    /// The signing proxy, such as https://signing-proxy:8443 [env: SIGNING_PROXY_URL]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// PEM of the authority behind its certificate; default: the platform's [env: SIGNING_PROXY_CA]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM of the caller's client certificate [env: SIGNING_PROXY_CLIENT_CERT]
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// PEM of its private key [env: SIGNING_PROXY_CLIENT_KEY]
    #[arg(long, value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// The registry [env: SIGNCTL_SIGNERS] [default: /etc/signing-proxy/signers.json]
    #[arg(long, value_name = "FILE")]
    signers: Option<PathBuf>,
    /// The signer: a kid or an alias; else the caller's default [env: SIGNCTL_SIGNER]
    #[arg(long, value_name = "KID")]
    signer: Option<String>,
    /// Of a batch signer: the proof has to be of this deployment (deployment.name of the proxy); else
    /// the deployment is the one that the proof names
    #[arg(long, value_name = "NAME")]
    deployment: Option<String>,
}

/// The same, found.
pub(super) struct Reached {
    url: String,
    trust: Trust,
    /// The registry's file, for people.
    pub(super) signers: PathBuf,
    pub(super) registry: Registry,
    /// The signer that is named.
    pub(super) signer: Option<String>,
    /// The deployment that a batch signer's proof has to be of.
    pub(super) deployment: Option<String>,
}

impl Reach {
    /// Finds all of it, and reads the registry.
    pub(super) fn find(&self) -> anyhow::Result<Reached> {
        let of_process = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_named = self.url.is_some() || of_process(URL).is_some();
        let of_dev = if is_named { None } else { dev::read()? };
        let of_dev = of_dev.unwrap_or_default();
        self.with(&|name| of_process(name), &of_dev)
    }

    fn with(
        &self,
        variable: &dyn Fn(&str) -> Option<OsString>,
        of_dev: &BTreeMap<String, String>,
    ) -> anyhow::Result<Reached> {
        let found = |name: &str| variable(name).or_else(|| of_dev.get(name).map(OsString::from));
        let text = |flag: &Option<String>, name: &str| {
            let of_variable = || found(name).map(|value| value.to_string_lossy().into_owned());
            flag.clone().or_else(of_variable)
        };
        let file = |flag: &Option<PathBuf>, name: &str| {
            flag.clone().or_else(|| found(name).map(PathBuf::from))
        };
        let url = text(&self.url, URL).ok_or_else(|| {
            anyhow!(
                "no proxy is named: set {URL} or --url; after `signing-proxy dev` run this in the \
                 same directory, or load its variables first: . DIR/env"
            )
        })?;
        let trust = Trust {
            ca: file(&self.ca, CA),
            certificate: file(&self.client_cert, CERTIFICATE),
            key: file(&self.client_key, KEY),
            loopback_only: false,
        };
        let signers = file(&self.signers, SIGNERS);
        let signers = signers.unwrap_or_else(|| PathBuf::from(SIGNERS_DEFAULT));
        let registry = std::fs::read(&signers).and_then(host::files::text).with_context(|| {
            format!("the registry {}; name it with --signers ({SIGNERS})", signers.display())
        })?;
        let registry = Registry::from_json(&registry)
            .map_err(|mistakes| anyhow!("{}: {}", signers.display(), mistakes.join("; ")))?;
        let (signer, deployment) = (text(&self.signer, SIGNER), self.deployment.clone());
        Ok(Reached { url, trust, signers, registry, signer, deployment })
    }
}

impl Reached {
    /// Posts `body`; whoever wants the proof of the record says so.
    pub(super) fn post(&self, path: &str, body: &Value, proof: bool) -> anyhow::Result<Reply> {
        let mut headers = vec![("content-type", "application/json")];
        if proof {
            headers.push(("signing-receipt", "proof"));
        }
        let body = Bytes::from(body.to_string());
        self.ask(path, &Ask { method: Method::POST, headers, body })
    }

    /// Gets what is at `path`.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.ask(path, &Ask::get())
    }

    fn ask(&self, path: &str, ask: &Ask) -> anyhow::Result<Reply> {
        let target = Target::parse(&self.url, path).map_err(|why| anyhow!("the URL {why}"))?;
        let trust = Trust { loopback_only: !target.encrypted, ..self.trust.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let timeout = Duration::from_secs(TIMEOUT_S);
        let answered = runtime.block_on(async {
            tokio::time::timeout(timeout, https::ask(&target, &trust, ask, ANSWER_MAX_BYTES)).await
        });
        // A name that is still being looked up, or a file still being read, is not waited for.
        runtime.shutdown_background();
        let place = &self.url;
        let answer = answered
            .map_err(|_| anyhow!("{place} gave no whole answer within {TIMEOUT_S} s"))?
            .map_err(|Failure { detail, .. }| anyhow!("{place} {detail}"))?;
        let body = signing_core::json::from_slice(&answer.body).map_err(|_| {
            let status = answer.status;
            anyhow!("{place} answered HTTP {status} without JSON; is it a signing proxy?")
        })?;
        Ok(Reply { status: answer.status, body })
    }
}
