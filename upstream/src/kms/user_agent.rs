//! What KMS's own log says of us: our version, and which attempt a call is. CloudTrail shows the
//! User-Agent of each call, also of one whose answer never arrived.

use std::future::Future;

use aws_sdk_kms::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_kms::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use signing_core::AttemptId;

/// Both carry it: which of them a service logs differs.
const HEADERS: [&str; 2] = ["user-agent", "x-amz-user-agent"];

const PROXY: &str = concat!("signing-proxy/", env!("CARGO_PKG_VERSION"));

tokio::task_local! {
    /// Which attempt the call of this task is. A client's interceptor sees it for less than what a
    /// client or a configuration for each call would cost.
    static ATTEMPT: AttemptId;
}

/// Makes `call` with the name of the attempt that it is.
pub(super) async fn naming<T>(attempt: AttemptId, call: impl Future<Output = T>) -> T {
    ATTEMPT.scope(attempt, call).await
}

/// What a call says of itself.
pub(super) fn name(attempt: AttemptId) -> String {
    format!("{PROXY} attempt/{attempt}")
}

/// Puts our name in place of the SDK's, whose length depends on the environment.
#[derive(Debug)]
pub(super) struct Named;

impl Intercept for Named {
    fn name(&self) -> &'static str {
        "Named"
    }

    /// Before it is signed: the signature covers one of the two.
    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let named = ATTEMPT.try_with(|attempt| name(*attempt));
        let named = named.unwrap_or_else(|_| PROXY.to_owned());
        let headers = context.request_mut().headers_mut();
        for header in HEADERS {
            headers.insert(header, named.clone());
        }
        Ok(())
    }
}
