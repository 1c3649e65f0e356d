//! The answers of the KMS for tests, as HTTP.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

pub(super) fn error(code: &str, status: u16) -> Response<Full<Bytes>> {
    answer(
        status,
        Bytes::from(json!({"__type": code, "message": "a fault of the test KMS"}).to_string()),
    )
}

pub(super) fn answer(status: u16, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let kind = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert("content-type", kind);
    response
}

/// The answer with its id, as all of KMS's own have.
pub(super) fn with_id(mut response: Response<Full<Bytes>>, id: &str) -> Response<Full<Bytes>> {
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}
