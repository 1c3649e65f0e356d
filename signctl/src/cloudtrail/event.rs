//! One record of CloudTrail, as far as it matters here: which signature KMS was asked for, by whom, and what came of
//! it. The form is AWS's:
//! <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>,
//! <https://docs.aws.amazon.com/kms/latest/developerguide/ct-sign.html>. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use signing_core::{UpstreamRequestId, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const KMS: &str = "kms.amazonaws.com";
const SIGN: &str = "Sign";
/// What the `User-Agent` of every call of a signing proxy begins with.
const OURS: &str = "signing-proxy/";
/// A text of a record is cut there: a name is shown, not a document.
const TEXT_MAX_BYTES: usize = 256;

/// What all calls for one order have in common: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Order(u64, u64);

/// One call: its order, and its number from 1. 0 in a record that does not know the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attempt {
    /// The order.
    pub order: Order,
    /// Which call of it.
    pub number: u8,
}

/// A call of `Sign` that KMS logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was completed: seconds since 1970.
    pub at: i64,
    /// The AWS region that answered the call.
    pub region: String,
    /// The ARN of the key; else the name by which it was asked for; else empty.
    pub key: String,
    /// KMS's name for the call. CloudTrail may deliver a call twice, always under one such name.
    pub request_id: String,
    /// CloudTrail's name for this record.
    pub event_id: String,
    /// The attempt of a signing proxy that it says it is. Anybody can say so.
    pub attempt: Option<Attempt>,
    /// The error's code. None: KMS signed.
    pub error: Option<String>,
    /// Who: as CloudTrail names it.
    pub principal: String,
    /// The role or user behind that, without the name of a session.
    pub issuer: String,
    /// The `User-Agent`.
    pub agent: String,
    /// The address that it came from.
    pub source: String,
}

/// What a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    /// A call of `Sign`.
    Sign(Box<Event>),
    /// Anything else. It shows that the log of that region reaches to that time.
    Other {
        /// When: seconds since 1970.
        at: i64,
        /// The AWS region that answered the call.
        region: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    event_time: String,
    #[serde(default)]
    aws_region: Option<String>,
    #[serde(default)]
    event_source: Option<String>,
    #[serde(default)]
    event_name: Option<String>,
    #[serde(default)]
    user_identity: Option<Value>,
    #[serde(default)]
    user_agent: Option<String>,
    #[serde(default, rename = "sourceIPAddress")]
    source: Option<String>,
    #[serde(default)]
    error_code: Option<String>,
    #[serde(default)]
    error_message: Option<String>,
    #[serde(default)]
    request_parameters: Option<Value>,
    #[serde(default)]
    resources: Option<Value>,
    #[serde(default, rename = "requestID")]
    request_id: Option<String>,
    #[serde(default, rename = "eventID")]
    event_id: Option<String>,
}

impl Order {
    /// Reads 32 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex =
            text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let half = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let (high, low) = text.split_at_checked(16)?;
        is_hex.then_some(())?;
        Some(Self(half(high)?, half(low)?))
    }

    /// Its bytes, in the order of its digits.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        ((u128::from(self.0) << 64) | u128::from(self.1)).to_be_bytes()
    }
}

impl Attempt {
    /// Reads `<32 hex>-<number>`, or the 32 hex digits alone.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('-') {
            None => Some(Self { order: Order::parse(text)?, number: 0 }),
            Some((order, number)) => {
                let number = number.parse().ok().filter(|number| *number > 0)?;
                Some(Self { order: Order::parse(order)?, number })
            }
        }
    }
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { order: Order(high, low), number } = self;
        write!(f, "{high:016x}{low:016x}")?;
        if *number > 0 { write!(f, "-{number}") } else { Ok(()) }
    }
}

/// Reads a record.
///
/// # Errors
/// Why it cannot be judged, without its values.
pub fn read(record: &[u8]) -> Result<Logged, String> {
    let raw: Raw = json::from_slice(record).map_err(|error| error.to_string())?;
    let at = OffsetDateTime::parse(&raw.event_time, &Rfc3339);
    let at = at.map_err(|_| "eventTime is not RFC 3339".to_owned())?.unix_timestamp();
    let region = clip(raw.aws_region.as_deref().unwrap_or_default());
    if raw.event_source.as_deref() != Some(KMS) || raw.event_name.as_deref() != Some(SIGN) {
        return Ok(Logged::Other { at, region });
    }
    let agent = raw.user_agent.as_deref().unwrap_or_default();
    let (principal, issuer) = who(raw.user_identity.as_ref());
    let parameters = raw.request_parameters.as_ref();
    // A dry run signs nothing, whatever else the record says.
    let is_dry = parameters.and_then(|given| given.get("dryRun")) == Some(&Value::Bool(true));
    let error = raw.error_code.as_deref().filter(|code| !code.is_empty());
    Ok(Logged::Sign(Box::new(Event {
        at,
        region,
        key: key(&raw),
        request_id: raw.request_id.as_deref().map(plain).unwrap_or_default(),
        event_id: clip(raw.event_id.as_deref().unwrap_or_default()),
        attempt: attempt(agent),
        error: error.map(clip).or_else(|| is_dry.then(|| "DryRunOperation".to_owned())),
        principal,
        issuer,
        agent: clip(agent),
        source: clip(raw.source.as_deref().unwrap_or_default()),
    })))
}

/// The attempt that a `User-Agent` names, if it is of a signing proxy's form.
fn attempt(agent: &str) -> Option<Attempt> {
    // Some services log the header in brackets.
    let agent = agent.trim_start_matches('[').trim_end_matches(']');
    let (version, attempt) = agent.strip_prefix(OURS)?.split_once(" attempt/")?;
    let attempt = Attempt::parse(attempt).filter(|attempt| attempt.number > 0);
    attempt.filter(|_| !version.is_empty() && !version.contains(' '))
}

/// The key: by the resources that the record names, else as it was asked for, else by the error's sentence.
fn key(raw: &Raw) -> String {
    let resources = raw.resources.as_ref().and_then(Value::as_array);
    let arns = resources.into_iter().flatten();
    let mut arns = arns.filter_map(|resource| resource.get("ARN")?.as_str());
    let asked = raw.request_parameters.as_ref().and_then(|given| given.get("keyId")?.as_str());
    let of_error = || {
        let mut words = raw.error_message.as_deref()?.split_whitespace();
        words.find(|word| word.starts_with("arn:") && word.contains(":kms:"))
    };
    let found = arns.find(|arn| arn.contains(":key/")).or(asked).or_else(of_error);
    clip(found.unwrap_or_default())
}

/// Who asked, and the role or user behind it.
fn who(identity: Option<&Value>) -> (String, String) {
    let text = |pointer: &str| identity.and_then(|one| one.pointer(pointer)?.as_str());
    let names = ["/arn", "/principalId", "/invokedBy", "/type"];
    let principal = names.iter().find_map(|name| text(name)).unwrap_or("nobody that is named");
    let issuer = text("/sessionContext/sessionIssuer/arn").unwrap_or(principal);
    (clip(principal), clip(issuer))
}

/// An id as our records have it: cut at 64 characters. Text with other characters is no id.
fn plain(id: &str) -> String {
    UpstreamRequestId::read(id).map(|id| id.as_str().to_owned()).unwrap_or_default()
}

fn clip(text: &str) -> String {
    text.get(..text.floor_char_boundary(TEXT_MAX_BYTES)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn record() -> Value {
        json!({
            "eventVersion": "1.08", "eventTime": "2026-11-26T05:15:00Z", "awsRegion": "eu-1",
            "eventSource": "kms.amazonaws.com", "eventName": "Sign", "sourceIPAddress": "192.0.2.1",
            "userAgent": format!("signing-proxy/0.1.0 attempt/{ID}-2"),
            "userIdentity": {
                "type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/proxy/i-1",
                "sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::1:role/proxy"}},
            },
            "requestParameters": {"keyId": "alias/k", "messageType": "DIGEST", "signingAlgorithm": "ECDSA_SHA_256"},
            "responseElements": null, "requestID": "r-1", "eventID": "e-1", "readOnly": true,
            "resources": [{"accountId": "1", "type": "AWS::KMS::Key", "ARN": "arn:aws:kms:eu-1:1:key/k"}],
        })
    }

    fn sign(record: &Value) -> Event {
        match read(record.to_string().as_bytes()) {
            Ok(Logged::Sign(event)) => *event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_signature_has_its_key_its_caller_and_its_attempt() {
        let event = sign(&record());
        assert_eq!(
            (event.key.as_str(), event.region.as_str()),
            ("arn:aws:kms:eu-1:1:key/k", "eu-1")
        );
        assert_eq!((event.request_id.as_str(), event.error.as_deref()), ("r-1", None));
        assert_eq!(event.attempt.unwrap().to_string(), format!("{ID}-2"));
        assert_eq!(event.principal, "arn:aws:sts::1:assumed-role/proxy/i-1");
        assert_eq!(event.issuer, "arn:aws:iam::1:role/proxy");
        assert_eq!(event.at, 1_795_670_100);
        // What is kept on disk while it is sorted reads the same.
        let kept = serde_json::to_vec(&event).unwrap();
        assert_eq!(json::from_slice::<Event>(&kept).unwrap(), event);
    }

    #[test]
    fn a_denied_call_has_its_error_and_the_key_that_the_error_names() {
        let mut denied = record();
        denied["errorCode"] = json!("AccessDenied");
        denied["errorMessage"] = json!(
            "User: x is not authorized to perform: kms:Sign on resource: arn:aws:kms:eu-1:1:key/d because"
        );
        for name in ["requestParameters", "resources"] {
            denied[name] = Value::Null;
        }
        let event = sign(&denied);
        assert_eq!(
            (event.error.as_deref(), event.key.as_str()),
            (Some("AccessDenied"), "arn:aws:kms:eu-1:1:key/d")
        );
        let mut dry = record();
        dry["requestParameters"]["dryRun"] = json!(true);
        assert_eq!(sign(&dry).error.as_deref(), Some("DryRunOperation"));
    }

    #[test]
    fn only_a_user_agent_of_our_own_form_names_an_attempt() {
        let attempt = |agent: &str| {
            let mut record = record();
            record["userAgent"] = json!(agent);
            sign(&record).attempt
        };
        let ours = format!("signing-proxy/1.2.3 attempt/{ID}-4");
        assert!(attempt(&ours).is_some() && attempt(&format!("[{ours}]")).is_some());
        for odd in [
            "aws-cli/2.0".to_owned(),
            format!("signing-proxy/1 attempt/{ID}"),
            format!("signing-proxy/1 attempt/{ID}-0"),
            format!("signing-proxy/1 attempt/{ID}-x"),
            format!("signing-proxy/1 attempt/{}-1", ID.to_uppercase()),
            format!("other signing-proxy/1 attempt/{ID}-1"),
            format!("signing-proxy/ attempt/{ID}-1"),
            format!("signing-proxy/1 attempt/+{ID}-1"),
        ] {
            assert_eq!(attempt(&odd), None, "{odd}");
        }
    }

    #[test]
    fn other_calls_only_show_how_far_the_log_reaches_and_odd_ones_are_named() {
        let other = |name: &str, value: Value| {
            let mut record = record();
            record[name] = value;
            read(record.to_string().as_bytes())
        };
        for (name, value) in [
            ("eventName", json!("Verify")),
            ("eventName", json!("GetPublicKey")),
            ("eventSource", json!("s3.amazonaws.com")),
            ("eventName", Value::Null),
        ] {
            let found = other(name, value);
            assert!(
                matches!(&found, Ok(Logged::Other { region, .. }) if region == "eu-1"),
                "{found:?}"
            );
        }
        assert!(other("eventTime", json!("yesterday")).is_err());
        assert!(other("eventTime", Value::Null).is_err());
        assert!(read(b"[]").is_err() && read(b"{").is_err());
        assert_eq!(
            other("userIdentity", json!({"type": "AWSService", "invokedBy": "x.amazonaws.com"}))
                .map(|found| match found {
                    Logged::Sign(event) => event.principal,
                    Logged::Other { .. } => String::new(),
                }),
            Ok("x.amazonaws.com".to_owned())
        );
    }
}
