//! Instance metadata (IMDSv2) for tests: gives credentials of a role away, and counts how often.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// A running metadata service. It ends with the process.
#[derive(Clone, Debug)]
pub struct Imds {
    /// Its endpoint: `http://127.0.0.1:PORT`.
    pub endpoint: String,
    gives: Arc<Mutex<Option<(String, time::Duration)>>>,
    fetched: Arc<AtomicU64>,
}

impl Imds {
    /// Starts one that gives the access key `key`, which ends in an hour.
    #[must_use]
    pub fn start(key: &str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let imds = Self {
            endpoint: format!("http://{address}"),
            gives: Arc::default(),
            fetched: Arc::default(),
        };
        imds.gives(key, time::Duration::HOUR);
        let serving = imds.clone();
        let body = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // The listener belongs to this runtime.
            runtime
                .block_on(async { serving.serve(TcpListener::from_std(listener).unwrap()).await });
        };
        std::thread::Builder::new().name("imds".into()).spawn(body).unwrap();
        imds
    }

    /// Gives that access key from now on, which ends after `left`.
    pub fn gives(&self, key: &str, left: time::Duration) {
        *self.gives.lock().unwrap() = Some((key.to_owned(), left));
    }

    /// Answers 500 from now on.
    pub fn breaks(&self) {
        *self.gives.lock().unwrap() = None;
    }

    /// How often credentials were fetched.
    #[must_use]
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::SeqCst)
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let imds = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = imds.respond(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if (request.method(), path) == (&Method::PUT, "/latest/api/token") {
            let mut token = answer(StatusCode::OK, "token");
            let ttl = http::HeaderValue::from_static("21600");
            token.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", ttl);
            return token;
        }
        match path.strip_prefix(ROLES) {
            Some("") => answer(StatusCode::OK, "role"),
            Some("role") => {
                self.fetched.fetch_add(1, Ordering::SeqCst);
                match &*self.gives.lock().unwrap() {
                    Some((key, left)) => answer(StatusCode::OK, &credentials(key, *left)),
                    None => answer(StatusCode::INTERNAL_SERVER_ERROR, ""),
                }
            }
            _ => answer(StatusCode::NOT_FOUND, ""),
        }
    }
}

fn credentials(key: &str, left: time::Duration) -> String {
    let ends = (OffsetDateTime::now_utc() + left).replace_nanosecond(0).unwrap();
    let ends = ends.format(&Rfc3339).unwrap();
    json!({"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
           "AccessKeyId": key, "SecretAccessKey": "test", "Token": "test", "Expiration": ends})
    .to_string()
}

fn answer(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response
}
