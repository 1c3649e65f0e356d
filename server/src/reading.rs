//! What is read of a request, within its limits: headers and body.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use signing_core::{Caller, Reason, Refusal};

use super::DataPlane;
use super::bodies::{Bodies, Body};
use super::request_body::RequestBody;
use super::unproved::Arriving;

/// Headers of one request. hyper itself takes 100, on its stack: more would cost an
/// allocation of 16 KiB for each request.
const HEADERS_MAX: usize = 64;

/// A request's body: read already, since a signature covers it, or not.
#[derive(Debug)]
pub(super) struct Unread<'b> {
    body: &'b mut RequestBody,
    read: Option<(Bytes, Arriving)>,
}

impl<'b> Unread<'b> {
    pub(super) fn new(body: &'b mut RequestBody) -> Self {
        Self { body, read: None }
    }

    /// Reads it ahead, for whoever has not proved yet who calls. `arriving` takes memory for what has
    /// come, and not for what was announced.
    ///
    /// # Errors
    /// As [`Self::take`], and if it gave way to newer ones.
    pub(super) async fn ahead(
        &mut self,
        limits: &configuration::Server,
        arriving: Arriving,
    ) -> Result<&[u8], Refusal> {
        let read = async {
            tokio::select! {
                // First what has arrived: a body that is whole does not give way.
                biased;
                read = read_unproved(self.body, limits, &arriving) => read,
                refusal = arriving.gave_way() => Err(refusal),
            }
        };
        let bytes = in_time(read, limits).await??;
        let (bytes, _) = self.read.insert((bytes, arriving));
        Ok(bytes)
    }

    /// Takes the whole of it, for `caller`.
    ///
    /// # Errors
    /// The refusal, if a limit is reached or it does not arrive.
    pub(super) async fn take(
        &mut self,
        limits: &configuration::Server,
        bodies: &Bodies,
        caller: &Caller,
    ) -> Result<Body, Refusal> {
        match self.read.take() {
            Some((bytes, arriving)) => {
                drop(arriving);
                let kept = bodies.keep(bytes.len() as u64, caller)?;
                Ok(Body { bytes, kept })
            }
            None => read(self.body, limits, bodies, caller).await,
        }
    }
}

/// Reads a body within its limits, and within what those of its caller and all together may take.
async fn read(
    body: &mut RequestBody,
    limits: &configuration::Server,
    bodies: &Bodies,
    caller: &Caller,
) -> Result<Body, Refusal> {
    refuse_longer(body, limits)?;
    // A length that is not announced counts as the largest.
    let most = body.size_hint().upper().unwrap_or(u64::MAX).min(limits.body_max_bytes as u64);
    let kept = bodies.keep(most, caller)?;
    match in_time(Limited::new(body, limits.body_max_bytes).collect(), limits).await? {
        Ok(body) => Ok(Body { bytes: body.to_bytes(), kept }),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(limits)),
        Err(_) => Err(broke_off()),
    }
}

/// Reads a body within its limits. Its frames are copied, so that their buffers can be freed. The copy takes at
/// most twice the body's size.
async fn read_unproved(
    body: &mut RequestBody,
    limits: &configuration::Server,
    arriving: &Arriving,
) -> Result<Bytes, Refusal> {
    refuse_longer(body, limits)?;
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| broke_off())?.into_data() else { continue };
        if whole.len() + data.len() > limits.body_max_bytes {
            return Err(too_large(limits));
        }
        arriving.add(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// What is announced too large is refused before a byte is kept.
fn refuse_longer(body: &RequestBody, limits: &configuration::Server) -> Result<(), Refusal> {
    if is_longer(body, limits.body_max_bytes) { Err(too_large(limits)) } else { Ok(()) }
}

fn too_large(limits: &configuration::Server) -> Refusal {
    let detail = format!("the body has more than {} bytes", limits.body_max_bytes);
    Refusal::new(Reason::BodyTooLarge, detail)
}

fn broke_off() -> Refusal {
    Refusal::new(Reason::InvalidRequest, "the body broke off")
}

/// What `reading` reads, within the time that a body may take.
async fn in_time<F: Future>(
    reading: F,
    limits: &configuration::Server,
) -> Result<F::Output, Refusal> {
    let mut reading = pin!(reading);
    if let Some(read) = at_once(reading.as_mut()).await {
        return Ok(read);
    }
    tokio::time::timeout(limits.body_read_timeout, reading).await.map_err(|_| {
        let limit = limits.body_read_timeout.as_millis();
        Refusal::new(Reason::RequestTimeout, format!("the body did not arrive within {limit} ms"))
    })
}

/// Looks twice whether `reading` is done: a body that came with its head needs no
/// timer. Twice, since hyper reads a body of HTTP/1.1 only once it was asked for.
async fn at_once<F: Future>(mut reading: Pin<&mut F>) -> Option<F::Output> {
    let mut looked = false;
    poll_fn(|context| match (reading.as_mut().poll(context), looked) {
        (Poll::Ready(read), _) => Poll::Ready(Some(read)),
        (Poll::Pending, true) => Poll::Ready(None),
        (Poll::Pending, false) => {
            looked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// Whether a body is announced with more than `most` bytes.
pub(super) fn is_longer(body: &RequestBody, most: usize) -> bool {
    body.size_hint().lower() > most as u64
}

/// Reads on for a while without keeping anything, after the answer: a client that is still
/// sending when its connection closes never sees why. One task for each connection at most.
pub(super) async fn discard(mut body: RequestBody, plane: Arc<DataPlane>) {
    let limits = &plane.limits;
    let discarding = async {
        let mut discarded = 0;
        while discarded < limits.bodies_max_bytes
            && let Some(Ok(frame)) = body.frame().await
        {
            discarded += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whatever is left then is lost with the connection.
    let _ = tokio::time::timeout(limits.body_read_timeout, discarding).await;
}

pub(super) fn check_headers(headers: &HeaderMap, max_bytes: usize) -> Result<(), Refusal> {
    if headers.len() > HEADERS_MAX {
        let detail = format!("{} headers, more than {HEADERS_MAX}", headers.len());
        return Err(Refusal::new(Reason::HeadersTooLarge, detail));
    }
    // As they stand on the wire: name, colon, space, value, CR LF.
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > max_bytes {
        let detail = format!("the headers have {bytes} bytes, more than {max_bytes}");
        return Err(Refusal::new(Reason::HeadersTooLarge, detail));
    }
    Ok(())
}
