//! The HTTPS client of the AWS SDK, which goes through the proxies that the configuration found,
//! rather than through those that the SDK would find: the doctor and `check` look at the same.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_sdk_kms::config::ConfigBag;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::runtime_components::{
    RuntimeComponents, RuntimeComponentsBuilder,
};

use crate::settings::Proxies;

/// Connections of its own; one pool for each pair of time-outs, of which there are few. A clone
/// shares them.
#[derive(Clone, Debug)]
pub(super) struct Https(Arc<Pools>);

#[derive(Debug)]
struct Pools {
    proxies: ProxyConfig,
    pools: RwLock<BTreeMap<[Option<Duration>; 2], SharedHttpConnector>>,
}

impl Https {
    pub(super) fn new(proxies: &Proxies) -> Self {
        // One that cannot be used is a mistake of the configuration, so nothing runs on it.
        let proxies = match proxies.of_https() {
            Some((url, except)) => match ProxyConfig::https(url) {
                Ok(proxy) => proxy.no_proxy(except),
                Err(_) => ProxyConfig::disabled(),
            },
            None => ProxyConfig::disabled(),
        };
        Self(Arc::new(Pools { proxies, pools: RwLock::default() }))
    }

    /// The connections with these time-outs.
    pub(super) fn pool(&self, settings: &HttpConnectorSettings) -> SharedHttpConnector {
        let timeouts = [settings.connect_timeout(), settings.read_timeout()];
        let pools = self.0.pools.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&timeouts) {
            return pool.clone();
        }
        drop(pools);
        let mut pools = self.0.pools.write().unwrap_or_else(PoisonError::into_inner);
        let new = || SharedHttpConnector::new(self.connector(settings));
        pools.entry(timeouts).or_insert_with(new).clone()
    }

    fn connector(&self, settings: &HttpConnectorSettings) -> Connector {
        let aws_lc = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
        Connector::builder()
            .connector_settings(settings.clone())
            .proxy_config(self.0.proxies.clone())
            .tls_provider(aws_lc)
            .build()
    }
}

impl HttpClient for Https {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.pool(settings)
    }

    /// Reads the platform's authorities now, and not while a first request waits.
    fn validate_base_client_config(
        &self,
        _: &RuntimeComponentsBuilder,
        _: &ConfigBag,
    ) -> Result<(), BoxError> {
        drop(self.connector(&HttpConnectorSettings::default()));
        Ok(())
    }
}
