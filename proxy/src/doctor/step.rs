//! One step of the way to an endpoint: over what, how much and how long.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// Each step of the way.
const STEP_MAX: Duration = Duration::from_secs(3);

/// Bytes of an answer's head, at most.
pub(super) const HEAD_MAX_BYTES: usize = 16 << 10;

/// What is spoken over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One step, within its time.
pub(super) async fn step<T>(step: impl Future<Output = std::io::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(STEP_MAX, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("nothing within {} s", STEP_MAX.as_secs())),
    }
}
