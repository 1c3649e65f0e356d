//! What a request carries besides its input: its id, its trace, its deadline.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use signing_core::{Door, Moment, Reason, Refusal, SignRequest};
use upstream::random;

use crate::headers::sole;
use crate::idempotency;

/// `X-Request-Id`, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `Signing-Deadline-Ms`, in.
const DEADLINE_MS: HeaderName = HeaderName::from_static("signing-deadline-ms");
/// `Signing-Receipt`, in: `proof`.
pub const RECEIPT: HeaderName = HeaderName::from_static("signing-receipt");
/// `traceparent`, in (W3C Trace Context).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The context of one request.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Through which door the request came.
    pub door: Door,
    /// The caller's id if it sent a sane one, else a random one.
    pub request_id: String,
    /// The caller's trace, if it sent a well-formed one.
    pub traceparent: Option<String>,
    /// The caller's `Idempotency-Key`, if it sent one.
    pub idempotency_key: Option<String>,
    /// Whether the answer is to prove that its record is in the log.
    pub proves: bool,
    /// When the whole request had arrived.
    pub received: Moment,
    /// When it has to be answered.
    pub deadline: Moment,
}

impl RequestContext {
    /// Reads the context of the request that came through `door` and was named `request_id` out of
    /// its headers.
    ///
    /// # Errors
    /// `invalid_request` for a deadline that is not a number of milliseconds, an unknown form
    /// of receipt, or a malformed idempotency key; and for any of these that is there twice.
    pub fn read(
        headers: &HeaderMap,
        (door, request_id): (Door, &str),
        now: Moment,
        longest: Duration,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            door,
            request_id: request_id.to_owned(),
            traceparent: traceparent(headers),
            idempotency_key: idempotency::read_key(headers)?,
            proves: proves(headers)?,
            received: now,
            deadline: now.after(timeout(headers)?.map_or(longest, |asked| asked.min(longest))),
        })
    }

    /// What the records of `request` say of it.
    pub(crate) fn of<'r>(&'r self, request: &'r SignRequest) -> release::Context<'r> {
        release::Context {
            request_id: &self.request_id,
            door: self.door,
            traceparent: self.traceparent.as_deref(),
            justification: request.justification.as_deref(),
            proves: self.proves,
        }
    }
}

/// The caller's `X-Request-Id` if it is 1 to 128 harmless characters, else 128
/// random bits.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> String {
    let is_sane = |id: &&str| {
        (1..=128).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
    };
    sole(headers, &REQUEST_ID).filter(is_sane).map_or_else(random_id, str::to_owned)
}

/// The caller's trace, if it sent a well-formed one: nothing else of it is written anywhere.
#[must_use]
pub fn traceparent(headers: &HeaderMap) -> Option<String> {
    sole(headers, &TRACEPARENT).filter(|text| is_traceparent(text)).map(str::to_owned)
}

fn random_id() -> String {
    // The id names a log line and guards nothing: without randomness it is zeros.
    let random = random::id().unwrap_or_default();
    let mut digits = vec![0; 2 * random.len()];
    // There is room for the digits, and they are text.
    let _ = hex::encode_to_slice(random, &mut digits);
    String::from_utf8(digits).unwrap_or_default()
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    if !headers.contains_key(&DEADLINE_MS) {
        return Ok(None);
    }
    let millis = sole(headers, &DEADLINE_MS).and_then(|text| text.parse().ok());
    let millis = millis.filter(|millis| *millis > 0).ok_or_else(|| {
        Refusal::new(
            Reason::InvalidRequest,
            "Signing-Deadline-Ms is not a whole number of milliseconds above 0; send one, once",
        )
    })?;
    Ok(Some(Duration::from_millis(millis)))
}

fn proves(headers: &HeaderMap) -> Result<bool, Refusal> {
    match sole(headers, &RECEIPT) {
        None if !headers.contains_key(&RECEIPT) => Ok(false),
        Some("proof") => Ok(true),
        Some(_) | None => Err(Refusal::new(
            Reason::InvalidRequest,
            "Signing-Receipt is another word than `proof`; send that once, or leave it out",
        )),
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [2, 32, 16, 2]
        && parts.iter().all(|part| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a request with these headers, all with the same name.
    fn read(name: &'static str, values: &[&str]) -> Result<RequestContext, Reason> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        let id = request_id(&headers);
        let now = Moment::from_nanos(0);
        RequestContext::read(&headers, (Door::Mtls, &id), now, Duration::from_secs(5))
            .map_err(|refusal| refusal.reason)
    }

    #[test]
    fn a_header_that_decides_something_is_there_once() {
        for (name, value) in
            [("idempotency-key", "a"), ("signing-deadline-ms", "50"), ("signing-receipt", "proof")]
        {
            assert!(read(name, &[value]).is_ok(), "{name}");
            for twice in [[value, value], [value, "7"], ["7", value]] {
                let refused = read(name, &twice).map(|_| ());
                assert_eq!(refused, Err(Reason::InvalidRequest), "{name}: {twice:?}");
            }
        }
    }

    #[test]
    fn a_name_that_is_given_twice_is_none() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(read("traceparent", &[trace]).unwrap().traceparent.as_deref(), Some(trace));
        assert_eq!(read("traceparent", &[trace, trace]).unwrap().traceparent, None);
        assert_eq!(read("x-request-id", &["a"]).unwrap().request_id, "a");
        let made = read("x-request-id", &["a", "b"]).unwrap().request_id;
        assert_eq!(made.len(), 32, "{made}");
    }
}
