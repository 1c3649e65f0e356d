//! Clients that ask and do not read: over TCP, with a small receive buffer, or over HTTP/2, with
//! windows that stay shut. What reached them is counted to the byte, read or not.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

use crate::client::tls_over;
use crate::pki::Certificate;

/// The smallest receive buffer that Linux gives is a little more.
const RECEIVE_BUFFER_BYTES: u32 = 2048;

const BODY: &str = r#"{"message":"aGk="}"#;

/// In which way a client does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deafness {
    /// HTTP/1.1, on TCP.
    Http1,
    /// HTTP/1.1, on TCP, and the last request asks to close.
    Http1Closing,
    /// HTTP/2 with wide windows, on TCP.
    Http2,
    /// HTTP/2 with stream windows of so many bytes, which are never opened further.
    Http2Window(u32),
}

impl Deafness {
    /// All that the tests know.
    pub const ALL: [Self; 5] =
        [Self::Http1, Self::Http1Closing, Self::Http2, Self::Http2Window(0), Self::Http2Window(99)];
}

/// A client that asked for signatures and does not read.
#[derive(Debug)]
pub struct Deaf {
    /// The same socket once more, to look at what is there.
    probe: std::net::TcpStream,
    ears: Arc<Ears>,
    text: Arc<Mutex<String>>,
    connection: JoinHandle<()>,
}

/// What of a client's ears its test holds.
#[derive(Debug, Default)]
struct Ears {
    shut: AtomicBool,
    heard: AtomicUsize,
    waiting: Mutex<Option<Waker>>,
}

impl Deaf {
    /// Asks `asks` times for a signature of the default signer, reading nothing.
    pub async fn ask(
        address: &str,
        ca_pem: &str,
        certificate: &Certificate,
        deafness: Deafness,
        asks: usize,
    ) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        let tcp = socket.connect(address.parse().unwrap()).await.unwrap();
        let tcp = tcp.into_std().unwrap();
        let probe = tcp.try_clone().unwrap();
        let ears = Arc::new(Ears::default());
        let listening =
            Listening { tcp: TcpStream::from_std(tcp).unwrap(), ears: Arc::clone(&ears) };
        let alpn: &[u8] = match deafness {
            Deafness::Http1 | Deafness::Http1Closing => b"http/1.1",
            Deafness::Http2 | Deafness::Http2Window(_) => b"h2",
        };
        let stream = tls_over(listening, ca_pem, Some(certificate), alpn).await.unwrap();
        let text = Arc::new(Mutex::new(String::new()));
        let connection = match deafness {
            Deafness::Http1 | Deafness::Http1Closing => {
                ears.shut.store(true, Ordering::SeqCst);
                http1(stream, asks, deafness == Deafness::Http1Closing, Arc::clone(&text))
            }
            Deafness::Http2 => {
                ears.shut.store(true, Ordering::SeqCst);
                http2(stream, address, asks, None, Arc::clone(&text)).await
            }
            Deafness::Http2Window(bytes) => {
                http2(stream, address, asks, Some(bytes), Arc::clone(&text)).await
            }
        };
        Self { probe, ears, text, connection }
    }

    /// How many bytes have reached this client, read or not.
    #[must_use]
    pub fn arrived(&self) -> usize {
        // In this order: what is read meanwhile counts twice rather than not at all.
        let unread = self.probe.peek(&mut vec![0; 1 << 20]).unwrap_or(0);
        unread + self.ears.heard.load(Ordering::SeqCst)
    }

    /// Reads from now on.
    pub fn listen(&self) {
        self.ears.shut.store(false, Ordering::SeqCst);
        if let Some(waker) = self.ears.waiting.lock().unwrap().take() {
            waker.wake();
        }
    }

    /// Reads from now on, until the connection ends: how many bytes arrived in all.
    pub async fn everything(&mut self) -> usize {
        self.listen();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), &mut self.connection);
        ended.await.expect("the connection does not end").unwrap();
        self.ears.heard.load(Ordering::SeqCst)
    }

    /// How many times `words` stand in the answers that it has read.
    #[must_use]
    pub fn has_read(&self, words: &str) -> usize {
        self.text.lock().unwrap().matches(words).count()
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn http1(
    stream: TlsStream<Listening>,
    asks: usize,
    closes: bool,
    text: Arc<Mutex<String>>,
) -> JoinHandle<()> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let request = |more: &str| {
        format!(
            "POST /v1/sign HTTP/1.1\r\nhost: x\r\n{more}content-type: application/json\r\n\
             content-length: {}\r\n\r\n{BODY}",
            BODY.len()
        )
    };
    let last = if closes { "connection: close\r\n" } else { "" };
    let requests = request("").repeat(asks - 1) + &request(last);
    tokio::spawn(async move {
        let writing = async {
            // What is answered too late, or never, may not be taken any more.
            let _ = writing.write_all(requests.as_bytes()).await;
        };
        let reading = async {
            let mut buffer = vec![0; 65_536];
            while let Ok(count @ 1..) = reading.read(&mut buffer).await {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        tokio::join!(writing, reading);
    })
}

async fn http2(
    stream: TlsStream<Listening>,
    address: &str,
    asks: usize,
    window: Option<u32>,
    text: Arc<Mutex<String>>,
) -> JoinHandle<()> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window.unwrap_or(1 << 20))
        .initial_connection_window_size(1 << 24)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .unwrap();
    for _ in 0..asks {
        let (mut sender, text) = (sender.clone(), Arc::clone(&text));
        let request = Request::post(format!("https://{address}/v1/sign"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(BODY.as_bytes())))
            .unwrap();
        tokio::spawn(async move {
            let Ok(answer) = sender.send_request(request).await else { return };
            if window.is_some() {
                // Held, and not read: that would open the window.
                let _answer = answer;
                std::future::pending::<()>().await;
            } else if let Ok(body) = answer.into_body().collect().await {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&body.to_bytes()));
            }
        });
    }
    tokio::spawn(async move {
        let _sender = sender;
        let _ = connection.await;
    })
}

/// A socket that its client reads only while its ears are open.
#[derive(Debug)]
struct Listening {
    tcp: TcpStream,
    ears: Arc<Ears>,
}

impl AsyncRead for Listening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        *self.ears.waiting.lock().unwrap() = Some(context.waker().clone());
        if self.ears.shut.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(context, buffer);
        self.ears.heard.fetch_add(buffer.filled().len() - before, Ordering::SeqCst);
        read
    }
}

impl AsyncWrite for Listening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
