//! The way through an HTTP proxy, as the serving clients take it: CONNECT, then TLS with KMS itself.
//! <https://www.rfc-editor.org/rfc/rfc9110#name-connect>

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use upstream::settings::ForwardProxy;

use super::step::{HEAD_MAX_BYTES, Stream, step};

/// Has the proxy at the other end of `stream` connect to `target`, a host and port.
///
/// # Errors
/// What it answered, and what to do.
pub(super) async fn through(
    mut stream: Box<dyn Stream>,
    proxy: &ForwardProxy,
    target: &str,
) -> Result<Box<dyn Stream>, String> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(authorization) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let asking = async {
        stream.write_all(&request).await?;
        stream.flush().await?;
        let mut head = Vec::new();
        // Byte by byte: what comes after the head is for TLS.
        while head.len() < HEAD_MAX_BYTES && !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        std::io::Result::Ok(head)
    };
    let (host, port) = (&proxy.host, proxy.port);
    let asked = format!("the proxy {host}:{port} was asked to CONNECT to {target}");
    let head = step(asking).await.map_err(|why| {
        format!("{asked}: {why}; look at the proxy, and at HTTPS_PROXY and NO_PROXY")
    })?;
    let answered = match status(&head) {
        Some(200..300) => return Ok(stream),
        Some(407) => {
            "407; give it a user and a password: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
                .to_owned()
        }
        Some(status) => format!("{status}; allow this host there, or list the host in NO_PROXY"),
        None => "the answer is not HTTP; name an HTTP proxy in HTTPS_PROXY".to_owned(),
    };
    Err(format!("{asked} and answered {answered}"))
}

/// The status of an answer's head.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_out_of_a_head() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407\r\n\r\n"), Some(407));
        for none in [&b""[..], b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 x\r\n", b"\xff\r\n"] {
            assert_eq!(status(none), None);
        }
    }
}
