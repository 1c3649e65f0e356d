//! `Sign` without the SDK around it. The request is written and signed here, and goes out on the
//! SDK's own connections, so that proxies, TLS, time-outs and failures on the way are the same.
//! What the SDK does for each call costs more than all else of a signature.

mod answer;

use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_sdk_kms::config::Credentials;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body_util::{BodyExt as _, Limited};
use signing_core::{AttemptId, UpstreamRequestId};
use sigv4::{ALGORITHM, DAY_CHARS, Secret, SigningKey};
use time::OffsetDateTime;

use super::call::Called;
use super::faults::CallFailed;
use super::user_agent;

pub(super) use answer::Signed;

const TARGET: &str = "TrentService.Sign";
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const SERVICE: &str = "kms";
/// An answer of KMS has some 700 bytes. A longer one is not read.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// One key's calls of `Sign`, as they go out.
#[derive(Debug)]
pub(super) struct SignCalls {
    connector: SharedHttpConnector,
    uri: String,
    host: String,
    region: String,
    /// The body up to the message: `{"KeyId":"...","Message":"`.
    body_begins: String,
    of_today: ArcSwapOption<DayState>,
}

/// What is the same for all calls of one day with the same credentials.
#[derive(Debug)]
struct DayState {
    /// Which credentials: see [`super::credentials`].
    serial: u64,
    /// `20261125`.
    day: String,
    key: SigningKey,
    access_key_id: String,
    session_token: Option<String>,
}

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'m> {
    pub(super) bytes: &'m [u8],
    pub(super) kind: &'m MessageType,
    pub(super) algorithm: &'m SigningAlgorithmSpec,
}

impl SignCalls {
    /// None for an endpoint that has a path: what its signature covers, only the SDK decides.
    pub(super) fn new(
        connector: SharedHttpConnector,
        endpoint: &str,
        region: &str,
        key_id: &str,
    ) -> Option<Self> {
        let parsed: http::Uri = endpoint.parse().ok()?;
        let (scheme, authority) = (parsed.scheme_str()?, parsed.authority()?);
        if !matches!(parsed.path(), "" | "/") || parsed.query().is_some() {
            return None;
        }
        // As HTTP clients name it: without the scheme's own port.
        let host = match (scheme, authority.port_u16()) {
            ("https", Some(443)) | ("http", Some(80)) => authority.host().to_owned(),
            _ => authority.as_str().to_owned(),
        };
        Some(Self {
            connector,
            uri: format!("{scheme}://{authority}/"),
            host,
            region: region.to_owned(),
            body_begins: format!("{{\"KeyId\":{},\"Message\":\"", serde_json::json!(key_id)),
            of_today: ArcSwapOption::empty(),
        })
    }

    /// Makes one call. `serial` changes with `credentials`; `at` is the time of day.
    pub(super) async fn call(
        &self,
        message: Message<'_>,
        (serial, credentials): (u64, &Credentials),
        attempt: AttemptId,
        at: OffsetDateTime,
    ) -> Called<Signed> {
        let none = |failed| Called { request_id: None, answer: Err(failed) };
        let at = time_of(at);
        let of_today = self.of_today(&at, serial, credentials);
        let Some(mut request) = self.request(message, &of_today, attempt, &at) else {
            return none(CallFailed::not_built());
        };
        let connection = CaptureSmithyConnection::new();
        request.add_extension(connection.clone());
        let response = match self.connector.call(request).await {
            Ok(response) => response,
            Err(error) => return none(CallFailed::on_the_way(&error)),
        };
        let status = response.status().as_u16();
        if status >= 500
            && let Some(connection) = connection.get()
        {
            // Whoever answers on it is ill: the next call is to find another.
            connection.poison();
        }
        let header = |name| response.headers().get(name).map(str::to_owned);
        let request_id = header("x-amzn-requestid").or_else(|| header("x-amz-request-id"));
        let request_id = request_id.as_deref().and_then(UpstreamRequestId::read);
        let error_type = header("x-amzn-errortype");
        let answer = match Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await {
            Ok(body) => answer::read(status, error_type.as_deref(), &body.to_bytes()),
            Err(_) => Err(CallFailed::unreadable()),
        };
        Called { request_id, answer }
    }

    fn of_today(&self, at: &str, serial: u64, credentials: &Credentials) -> Arc<DayState> {
        let day = at.get(..DAY_CHARS).unwrap_or_default();
        let held = self.of_today.load_full();
        if let Some(held) = held.filter(|held| held.serial == serial && held.day == day) {
            return held;
        }
        let secret = Secret::new(credentials.secret_access_key());
        let new = Arc::new(DayState {
            serial,
            day: day.to_owned(),
            key: SigningKey::new(&secret, day, &self.region, SERVICE),
            access_key_id: credentials.access_key_id().to_owned(),
            session_token: credentials.session_token().map(str::to_owned),
        });
        // Of two that made one at once either is right.
        self.of_today.store(Some(Arc::clone(&new)));
        new
    }

    /// None if a part of it cannot stand in a header.
    fn request(
        &self,
        message: Message<'_>,
        of_today: &DayState,
        attempt: AttemptId,
        at: &str,
    ) -> Option<HttpRequest> {
        let body = self.body(message);
        let named = user_agent::name(attempt);
        let token = of_today.session_token.as_deref();
        // Sorted, as the signature covers them.
        let headers = [
            ("content-type", Some(CONTENT_TYPE)),
            ("host", Some(self.host.as_str())),
            ("x-amz-date", Some(at)),
            ("x-amz-security-token", token),
            ("x-amz-target", Some(TARGET)),
            ("x-amz-user-agent", Some(named.as_str())),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let body_hash = sigv4::hex_of_sha256(body.as_bytes());
        let canonical = sigv4::canonical_request(headers.clone(), &body_hash);
        let signed: Vec<_> = headers.clone().map(|(name, _)| name).collect();
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={}",
            of_today.access_key_id,
            of_today.key.scope(),
            signed.join(";"),
            of_today.key.sign(at, &canonical)
        );
        let mut request = HttpRequest::new(body.into());
        request.set_method("POST").ok()?;
        request.set_uri(self.uri.as_str()).ok()?;
        // The connection names the host itself.
        for (name, value) in headers.filter(|(name, _)| *name != "host") {
            request.headers_mut().try_insert(name, value.to_owned()).ok()?;
        }
        request.headers_mut().try_insert("user-agent", named.clone()).ok()?;
        request.headers_mut().try_insert("authorization", authorization).ok()?;
        Some(request)
    }

    fn body(&self, message: Message<'_>) -> String {
        let mut body = String::with_capacity(self.body_begins.len() + 6200);
        body.push_str(&self.body_begins);
        BASE64.encode_string(message.bytes, &mut body);
        let (kind, algorithm) = (message.kind.as_str(), message.algorithm.as_str());
        // Writing into a string does not fail.
        let _ =
            write!(body, "\",\"MessageType\":\"{kind}\",\"SigningAlgorithm\":\"{algorithm}\"}}");
        body
    }
}

/// `20261125T140311Z`.
fn time_of(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests;
