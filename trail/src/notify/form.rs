//! How a notification is written down: our JSON under a signature (standardwebhooks.com, version 1), or
//! Slack's incoming webhook.

use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::client::one_line;
use crate::config::Form;

/// Before the key's base64, as the specification has it.
const PREFIX: &str = "whsec_";
const KEY_MIN_BYTES: usize = 24;
const KEY_MAX_BYTES: usize = 64;
const LINE_MAX_BYTES: usize = 128;
/// Slack cuts what is longer.
const SLACK_MAX_CHARS: usize = 3_000;

/// What is sent.
pub(crate) type Written = (Vec<(HeaderName, HeaderValue)>, Bytes);

/// The key of signatures, wiped by nobody: it is in this process as long as that runs.
pub(crate) fn key(file: &Path) -> Result<hmac::Key, String> {
    let line = one_line(file, LINE_MAX_BYTES)?;
    let bytes = line.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
    let is_long = |bytes: &Vec<u8>| (KEY_MIN_BYTES..=KEY_MAX_BYTES).contains(&bytes.len());
    let bytes = bytes.filter(is_long).ok_or_else(|| {
        format!(
            "{}: is no key: expected {PREFIX} and the base64 of {KEY_MIN_BYTES} to {KEY_MAX_BYTES} bytes; \
             make one: echo \"{PREFIX}$(openssl rand -base64 32)\"",
            file.display()
        )
    })?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// Writes a body, sent at `now` (seconds of the Unix epoch).
pub(crate) fn written(form: &Form, body: &Map<String, Value>, now: i64) -> Result<Written, String> {
    match form {
        Form::Json { key_file } => {
            let key = key(key_file).map_err(|why| format!("hmac_key_file: {why}"))?;
            let id = body.get("id").and_then(Value::as_str).unwrap_or_default();
            let bytes = Value::Object(body.clone()).to_string().into_bytes();
            signed(&key, id, now, bytes)
        }
        Form::Slack => Ok((Vec::new(), slack(body))),
    }
}

fn signed(key: &hmac::Key, id: &str, now: i64, body: Vec<u8>) -> Result<Written, String> {
    let mut content = format!("{id}.{now}.").into_bytes();
    content.extend_from_slice(&body);
    let signature = format!("v1,{}", STANDARD.encode(hmac::sign(key, &content)));
    let header = |name, value: String| {
        let value = HeaderValue::try_from(value).map_err(|_| "its id is no header".to_owned())?;
        Ok::<_, String>((HeaderName::from_static(name), value))
    };
    let headers = vec![
        header("webhook-id", id.to_owned())?,
        header("webhook-timestamp", now.to_string())?,
        header("webhook-signature", signature)?,
    ];
    Ok((headers, Bytes::from(body)))
}

/// `{"text"}`. Slack takes `<`, `>` and `&` for mark-up, such as a mention of everybody.
fn slack(body: &Map<String, Value>) -> Bytes {
    let text = |name: &str| {
        let text = body.get(name).and_then(Value::as_str).unwrap_or_default();
        let text: String = text::line(text).chars().take(SLACK_MAX_CHARS).collect();
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    };
    let line = format!("[{}] {} ({})", text("instance"), text("summary"), text("at"));
    Bytes::from(json!({"text": line}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(summary: &str) -> Map<String, Value> {
        let body = json!({"id": "msg_1", "instance": "eu-1", "summary": summary, "at": "now"});
        body.as_object().unwrap().clone()
    }

    #[test]
    fn the_signature_is_the_one_that_the_specification_shows() {
        // From the specification's own test vector (spec/standard-webhooks.md).
        let bytes = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let body = br#"{"test": 2432232314}"#.to_vec();
        let (headers, _) =
            signed(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
        let of = |name: &str| headers.iter().find(|(found, _)| found == name).unwrap().1.clone();
        assert_eq!(of("webhook-signature"), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(of("webhook-timestamp"), "1614265330");
        assert_eq!(of("webhook-id"), "msg_p5jXN8AQM9LWM0D4loKWxJek");
    }

    #[test]
    fn what_somebody_wrote_mentions_nobody_in_slack() {
        let sent = slack(&body("a <!channel> & \"b\"\n\u{1b}[2J"));
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let text = sent["text"].as_str().unwrap();
        assert!(text.starts_with("[eu-1] a &lt;!channel&gt; &amp; \"b\""), "{text}");
        assert!(!text.contains(['\n', '\u{1b}']), "{text}");
    }
}
