//! One request to sign as a span: which trace it belongs to, and what is known of it. It holds nothing
//! that the records of the request do not hold, and never an input or a signature.

use std::fmt;
use std::time::Duration;

use host::clock::now;
use signing_core::{Door, Moment, Refusal};
use time::OffsetDateTime;

use telemetry::metrics::Stages;

/// What the span of one request takes in memory at most, in bytes, with the longest names.
pub const SPAN_MAX_BYTES: usize = 3 << 10;

/// Attributes of a span for which there is room at once.
const ATTRIBUTES: usize = 8;

/// Which span of which trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    /// The caller's own span.
    pub(super) parent: Option<[u8; 8]>,
}

impl Ids {
    /// Of a new span in the caller's trace, or in a new one. None: it is not sampled, or the system
    /// gives no randomness.
    pub(super) fn new(traceparent: Option<&str>, sample_percent: u64) -> Option<Self> {
        let mut random = [0; 24];
        aws_lc_rs::rand::fill(&mut random).ok()?;
        let (trace, span) = random.split_first_chunk::<16>()?;
        let span = *span.first_chunk::<8>()?;
        if let Some((trace, parent, is_sampled)) = traceparent.and_then(read) {
            return is_sampled.then_some(Self { trace, span, parent: Some(parent) });
        }
        let dice = trace.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes) % 100)?;
        (dice < sample_percent).then_some(Self { trace: *trace, span, parent: None })
    }
}

/// `00-<trace>-<parent>-<flags>` (W3C Trace Context): the last flag says whether it is sampled. None:
/// an id of zeros, or a version that does not exist.
fn read(traceparent: &str) -> Option<([u8; 16], [u8; 8], bool)> {
    let mut parts = traceparent.split('-');
    let version = parts.next().filter(|version| *version != "ff");
    let (mut trace, mut parent, mut flags) = ([0; 16], [0; 8], [0; 1]);
    version?;
    hex::decode_to_slice(parts.next()?, &mut trace).ok()?;
    hex::decode_to_slice(parts.next()?, &mut parent).ok()?;
    hex::decode_to_slice(parts.next()?, &mut flags).ok()?;
    let is_whole = trace != [0; 16] && parent != [0; 8];
    is_whole.then_some((trace, parent, flags[0] & 1 == 1))
}

/// A request that has ended.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) ids: Ids,
    pub(super) began: OffsetDateTime,
    pub(super) took: Duration,
    /// Of a signed request.
    pub(super) stages: Option<Stages>,
    pub(super) attributes: Vec<(&'static str, String)>,
    /// Why nothing was signed.
    pub(super) error: Option<&'static str>,
}

impl Span {
    /// How many spans the collector gets of it.
    pub(super) fn count(&self) -> u64 {
        let stages = self.stages.map_or(0, |stages| stages.named().len());
        u64::try_from(stages).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// A request under way. Its span is sent when this is dropped, so also when the client hangs up.
pub struct Begun {
    ids: Ids,
    at: (OffsetDateTime, Moment),
    stages: Option<Stages>,
    attributes: Vec<(&'static str, String)>,
    error: Option<&'static str>,
    send: Box<dyn Fn(Span) + Send + Sync>,
}

impl Begun {
    pub(super) fn new(
        ids: Ids,
        at: (OffsetDateTime, Moment),
        send: impl Fn(Span) + Send + Sync + 'static,
    ) -> Self {
        let attributes = Vec::with_capacity(ATTRIBUTES);
        // What holds until it is told otherwise.
        let error = Some("client_gone");
        Self { ids, at, stages: None, attributes, error, send: Box::new(send) }
    }

    /// Who asked, where, in which request.
    pub fn asked(&mut self, door: Door, caller: &str, request_id: &str) {
        self.say("signing.door", door.word());
        self.say("signing.caller", caller);
        self.say("signing.request_id", request_id);
    }

    /// It was signed, by whom and how, and how long each stage took.
    pub fn signed(&mut self, kid: &str, algorithm: &str, mode: &str, stages: Stages) {
        self.say("signing.signer_kid", kid);
        self.say("signing.algorithm", algorithm);
        self.say("signing.mode", mode);
        self.stages = Some(stages);
    }

    /// It ended with an answer: signed, or a refusal.
    pub fn ended(&mut self, refusal: Option<&Refusal>) {
        self.error = refusal.map(|refusal| refusal.reason.word());
        if let Some(kid) = refusal.and_then(|refusal| refusal.signer_kid.as_ref()) {
            self.say("signing.signer_kid", kid.as_str());
        }
    }

    fn say(&mut self, key: &'static str, value: &str) {
        if self.attributes.iter().all(|(said, _)| *said != key) {
            self.attributes.push((key, value.to_owned()));
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let (began, since) = self.at;
        (self.send)(Span {
            ids: self.ids,
            began,
            took: now().since(since),
            stages: self.stages,
            attributes: std::mem::take(&mut self.attributes),
            error: self.error,
        });
    }
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").field("ids", &self.ids).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_caller_that_sent_a_trace_decides_whether_it_is_sampled() {
        for percent in [0, 100] {
            let of = |flags: &str| {
                Ids::new(Some(&format!("00-{TRACE}-00f067aa0ba902b7-{flags}")), percent)
            };
            let ids = of("01").unwrap();
            assert_eq!(hex::encode(ids.trace), TRACE);
            assert_eq!(hex::encode(ids.parent.unwrap()), "00f067aa0ba902b7");
            assert_ne!(ids.span, ids.parent.unwrap());
            assert!(of("03").is_some(), "other flags are of other things");
            assert_eq!((of("00"), of("02")), (None, None));
        }
    }

    #[test]
    fn a_span_with_the_longest_names_takes_no_more_than_is_counted() {
        let (sender, sent) = std::sync::mpsc::sync_channel(1);
        let ids = Ids::new(None, 100).unwrap();
        let at = (host::clock::wall_now(), now());
        let mut begun = Begun::new(ids, at, move |span| sender.send(span).unwrap());
        // A caller by its SPIFFE id, a request id, a kid.
        begun.asked(Door::Mtls, &"c".repeat(2048), &"r".repeat(128));
        begun.signed(
            &"k".repeat(128),
            "RSASSA_PKCS1_V1_5_SHA_256",
            "breakglass",
            Stages::default(),
        );
        drop(begun);
        let Span { attributes, .. } = sent.recv().unwrap();
        let texts: usize = attributes.iter().map(|(_, text)| text.capacity()).sum();
        let places = attributes.capacity() * size_of::<(&str, String)>();
        let bytes = size_of::<Span>() + places + texts;
        assert!(bytes < SPAN_MAX_BYTES, "{bytes}");
    }

    #[test]
    fn without_a_trace_the_share_decides_and_what_is_no_trace_is_none() {
        let zeros = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let no_parent = format!("00-{TRACE}-{}-01", "0".repeat(16));
        let no_version = format!("ff-{TRACE}-00f067aa0ba902b7-01");
        for no_trace in [None, Some(zeros), Some(no_parent), Some(no_version)] {
            assert_eq!(Ids::new(no_trace.as_deref(), 0), None);
            assert_eq!(Ids::new(no_trace.as_deref(), 100).unwrap().parent, None);
        }
        let sampled = (0..2_000).filter(|_| Ids::new(None, 50).is_some()).count();
        // Outside of this once in far more runs than there will be: 18 standard deviations.
        assert!((600..1_400).contains(&sampled), "{sampled} of 2000");
    }
}
