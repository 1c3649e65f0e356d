//! How a call to KMS ended, whichever client made it.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use release::{Attempts, Signs};
use signing_core::gate::Place;
use signing_core::{AttemptId, UpstreamRequestId};

use super::faults::CallFailed;
use super::user_agent;

/// One call that has ended.
pub(super) struct Called<T> {
    /// What KMS calls it, if it said so.
    pub(super) request_id: Option<UpstreamRequestId>,
    pub(super) answer: Result<T, CallFailed>,
}

/// Makes a call as one of `attempts`, to the upstream in `place`.
pub(super) async fn named<T, C>(
    attempts: &Attempts,
    place: &Arc<Place>,
    call: impl FnOnce(AttemptId) -> C,
) -> Result<T, CallFailed>
where
    C: Future<Output = Called<T>>,
{
    let attempt = attempts.begin(Signs::Upstream(Arc::clone(place)));
    let Called { request_id, answer } = call(attempt).await;
    attempts.answered(request_id, answer.as_ref().err().map(|failed| failed.fault));
    answer
}

/// A call that the SDK makes.
pub(super) fn by_sdk<'c, T, E>(
    attempt: AttemptId,
    call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send + 'c,
) -> impl Future<Output = Called<T>> + Send + 'c
where
    T: RequestId + Send + 'c,
    E: ProvideErrorMetadata + StdError + Send + 'static,
{
    // On the heap and without its type: the SDK's futures are large and nested deeply, and each future that
    // held one would be so too, whoever signs.
    let call: Pin<Box<dyn Future<Output = _> + Send + 'c>> = Box::pin(call);
    async move {
        let answer = user_agent::naming(attempt, call).await;
        let request_id = match &answer {
            Ok(answer) => answer.request_id(),
            Err(error) => error.request_id(),
        };
        let request_id = request_id.and_then(UpstreamRequestId::read);
        Called { request_id, answer: answer.map_err(|error| CallFailed::of_sdk(&error)) }
    }
}
