//! The HTTPS client of the AWS SDK, with a bound on each answer: the SDK reads answers whole, and whoever stands at the
//! endpoint decides how long they are.

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::{ConfigBag, RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use http_body_util::Limited;

/// The longest answer: a page of a listing, or an object that is read back. What the trail writes is far smaller.
pub(super) const ANSWER_MAX_BYTES: usize = 64 << 20;
/// The longest answer that says that something failed.
const REFUSAL_MAX_BYTES: usize = 1 << 20;

/// A client whose answers end with an error where they are too long.
#[derive(Clone, Debug)]
pub(super) struct Bounded(pub(super) SharedHttpClient);

#[derive(Debug)]
struct Connector(SharedHttpConnector);

impl HttpClient for Bounded {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector(self.0.http_connector(settings, components)))
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.validate_base_client_config(components, config)
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answered = self.0.call(request);
        HttpConnectorFuture::new(async move { answered.await.map(bounded) })
    }
}

fn bounded(answer: HttpResponse) -> HttpResponse {
    let most = if answer.status().is_success() { ANSWER_MAX_BYTES } else { REFUSAL_MAX_BYTES };
    answer.map(|body| SdkBody::from_body_1_x(Limited::new(body, most)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt as _;

    use super::*;

    async fn read(status: u16, bytes: usize) -> Option<Bytes> {
        let status = status.try_into().unwrap();
        let answer = HttpResponse::new(status, SdkBody::from(vec![b'x'; bytes]));
        let body = bounded(answer).into_body().collect().await;
        body.ok().map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_an_error_and_not_read_on() {
        assert_eq!(read(200, REFUSAL_MAX_BYTES + 1).await.unwrap().len(), REFUSAL_MAX_BYTES + 1);
        assert!(read(200, ANSWER_MAX_BYTES + 1).await.is_none());
        assert!(read(503, REFUSAL_MAX_BYTES + 1).await.is_none());
        assert!(read(503, REFUSAL_MAX_BYTES).await.is_some());
    }
}
