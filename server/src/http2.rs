//! HTTP/2, straight on the frames' library, which hyper uses too. hyper's own server sends no
//! interim answers, so a client that expects `100 Continue` would wait for nothing.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::server::{self, SendResponse};
use h2::{Ping, PingPong, Reason, SendStream};
use http::header::{CONTENT_LENGTH, DATE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

use super::answer::Answer;
use super::http_date::http_date;
use super::request_body::RequestBody;

/// What a client may send ahead of our reading, in each stream and in all of a connection.
const WINDOW_BYTES: u32 = 1 << 20;
const FRAME_MAX_BYTES: u32 = 16 << 10;
/// What of a stream's answer waits here for the socket.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Streams that a client took back before they were looked at.
const RESETS_PENDING_MAX: usize = 32;
/// Streams that broke the protocol.
const RESETS_LOCAL_MAX: usize = 64;
/// Streams whose end we said, and of whose body more may be under way: not counted as broken, for
/// [`FORGOTTEN_AFTER`]. A client that goes on and on is told to calm down.
const RESETS_REMEMBERED_MAX: usize = 256;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);
/// How often a client is asked whether it is still there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_MAX: Duration = Duration::from_secs(10);

/// What the library holds of an answer until it is written.
type Data = <Answer as Body>::Data;

/// A connection, to be driven to its end. Each request is answered in a task of its own.
pub(super) struct Connection<IO, F> {
    state: State<IO>,
    answer: F,
    asked_to_go: bool,
}

enum State<IO> {
    Beginning(Box<server::Handshake<IO, Data>>),
    Open(Box<Open<IO>>),
}

struct Open<IO> {
    frames: server::Connection<IO, Data>,
    pings: Pings,
}

/// Finds out that a client is gone without a word.
struct Pings {
    frames: Option<PingPong>,
    /// When the next ping goes, or when the pong has to be there.
    due: Pin<Box<Sleep>>,
    waits: bool,
}

impl<IO, F, A> Connection<IO, F>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<RequestBody>) -> A + Unpin,
    A: Future<Output = Response<Answer>> + Send + 'static,
{
    pub(super) fn new(io: IO, limits: &configuration::Server, answer: F) -> Self {
        let headers = u32::try_from(limits.headers_max_bytes.saturating_mul(2));
        let mut builder = server::Builder::new();
        builder
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_MAX_BYTES)
            .max_concurrent_streams(limits.http2_streams_max)
            .max_header_list_size(headers.unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_concurrent_reset_streams(RESETS_REMEMBERED_MAX)
            .reset_stream_duration(FORGOTTEN_AFTER)
            .max_local_error_reset_streams(Some(RESETS_LOCAL_MAX))
            .max_send_buffer_size(SEND_BUFFER_BYTES);
        Self {
            state: State::Beginning(Box::new(builder.handshake(io))),
            answer,
            asked_to_go: false,
        }
    }

    /// Takes no more requests, and ends when those under way are answered.
    pub(super) fn graceful_shutdown(&mut self) {
        self.asked_to_go = true;
        if let State::Open(open) = &mut self.state {
            open.frames.graceful_shutdown();
        }
    }

    fn poll_begun(&mut self, context: &mut Context<'_>) -> Poll<Result<&mut Open<IO>, h2::Error>> {
        if let State::Beginning(beginning) = &mut self.state {
            let mut frames = ready!(Pin::new(beginning).poll(context))?;
            if self.asked_to_go {
                frames.graceful_shutdown();
            }
            let pings = Pings::new(frames.ping_pong());
            self.state = State::Open(Box::new(Open { frames, pings }));
        }
        match &mut self.state {
            State::Open(open) => Poll::Ready(Ok(open)),
            State::Beginning(_) => Poll::Pending,
        }
    }
}

impl<IO, F, A> Future for Connection<IO, F>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<RequestBody>) -> A + Unpin,
    A: Future<Output = Response<Answer>> + Send + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let Ok(open) = ready!(this.poll_begun(context)) else { return Poll::Ready(()) };
            if open.pings.poll_gone(context).is_ready() {
                return Poll::Ready(());
            }
            // An error is the client's, or the socket's: the connection ends with it.
            let Some(Ok((request, respond))) = ready!(open.frames.poll_accept(context)) else {
                return Poll::Ready(());
            };
            let (request, go_on) = RequestBody::of_http2(request);
            tokio::spawn(exchange(Box::pin((this.answer)(request)), go_on, respond));
        }
    }
}

impl Pings {
    fn new(frames: Option<PingPong>) -> Self {
        Self { frames, due: Box::pin(sleep(PING_EVERY)), waits: false }
    }

    /// Ready once the client is gone.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(frames) = &mut self.frames else { return Poll::Pending };
        if self.waits
            && let Poll::Ready(pong) = frames.poll_pong(context)
        {
            if pong.is_err() {
                return Poll::Ready(());
            }
            self.waits = false;
            self.due.as_mut().reset(Instant::now() + PING_EVERY);
        }
        while self.due.as_mut().poll(context).is_ready() {
            if self.waits || frames.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.waits = true;
            self.due.as_mut().reset(Instant::now() + PONG_MAX);
            // Nothing came yet: this is for the wake-up.
            let _ = frames.poll_pong(context);
        }
        Poll::Pending
    }
}

/// Answers one request. It ends early if the client takes the request back.
async fn exchange(
    mut answering: Pin<Box<impl Future<Output = Response<Answer>>>>,
    mut go_on: Option<oneshot::Receiver<()>>,
    mut respond: SendResponse<Data>,
) {
    let answer = poll_fn(|context| {
        if let Poll::Ready(answer) = answering.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        if let Some(waiting) = &mut go_on
            && let Poll::Ready(wanted) = Pin::new(waiting).poll(context)
        {
            go_on = None;
            if wanted.is_ok() {
                let mut interim = Response::new(());
                *interim.status_mut() = StatusCode::CONTINUE;
                // One that cannot be sent is the stream's end, which shows below.
                let _ = respond.send_informational(interim);
            }
        }
        match respond.poll_reset(context) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    // While the client's window is shut, its answer is held, and no longer what made it.
    drop(answering);
    if let Some(answer) = answer {
        // An error is the client's or the socket's: nobody is there to hear of it.
        let _ = send(answer, respond).await;
    }
}

/// Sends an answer, and holds it until the client's window opens for it. A body that the client
/// still sends then is refused with RST_STREAM NO_ERROR (RFC 9113 8.1), by the library.
async fn send(answer: Response<Answer>, mut respond: SendResponse<Data>) -> Result<(), h2::Error> {
    let (mut head, body) = answer.into_parts();
    if let Some(date) = http_date() {
        head.headers.entry(DATE).or_insert(date);
    }
    let is_empty = body.is_end_stream();
    if !is_empty && let Some(length) = body.size_hint().exact() {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    let mut stream = respond.send_response(Response::from_parts(head, ()), is_empty)?;
    if is_empty {
        return Ok(());
    }
    let mut body = pin!(body);
    loop {
        // First the window: what has not left the answer counts as withheld, not as written.
        if body.size_hint().lower() > 0 {
            window(&mut stream).await?;
        }
        let Some(Ok(frame)) = poll_fn(|context| body.as_mut().poll_frame(context)).await else {
            break;
        };
        if let Ok(data) = frame.into_data() {
            let is_last = body.is_end_stream();
            stream.send_data(data, is_last)?;
            if is_last {
                return Ok(());
            }
        }
    }
    stream.send_trailers(HeaderMap::new())
}

/// Waits until the client's windows are open.
async fn window(stream: &mut SendStream<Data>) -> Result<(), h2::Error> {
    // Not more than a byte: what waits takes no other stream's share.
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        let Some(granted) = poll_fn(|context| stream.poll_capacity(context)).await else {
            return Err(Reason::CANCEL.into());
        };
        granted?;
    }
    Ok(())
}
