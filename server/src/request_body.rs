//! The body of a request, over either HTTP. It asks for the body when it is first read: then
//! a client that expects `100 Continue` is told to go on.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, Request, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;

/// A body that is read frame by frame.
#[derive(Debug)]
pub(super) struct RequestBody {
    source: Source,
    /// The client sends nothing of it before `100 Continue`.
    held_back: bool,
    ended: bool,
}

#[derive(Debug)]
enum Source {
    /// hyper sends `100 Continue` itself.
    Http1(Incoming),
    Http2 {
        stream: RecvStream,
        length: Option<u64>,
        go_on: Option<oneshot::Sender<()>>,
    },
}

impl RequestBody {
    pub(super) fn of_http1(request: Request<Incoming>) -> Request<Self> {
        let (head, body) = request.into_parts();
        // HTTP/1.0 knows no interim answers (RFC 9110 10.1.1).
        let held_back = head.version > Version::HTTP_10 && expects_continue(&head.headers);
        let ended = body.is_end_stream();
        Request::from_parts(head, Self { source: Source::Http1(body), held_back, ended })
    }

    /// With what is told when a client that waits for `100 Continue` has to go on: the body is
    /// read and has not come.
    pub(super) fn of_http2(
        request: Request<RecvStream>,
    ) -> (Request<Self>, Option<oneshot::Receiver<()>>) {
        let (head, stream) = request.into_parts();
        let ended = stream.is_end_stream();
        let length = if ended { Some(0) } else { announced(&head.headers) };
        let held_back = !ended && expects_continue(&head.headers);
        let (go_on, waits) = held_back.then(oneshot::channel).unzip();
        let source = Source::Http2 { stream, length, go_on };
        (Request::from_parts(head, Self { source, held_back, ended }), waits)
    }

    /// Whether its client may still be sending it, and over HTTP/1.1, where closing the connection
    /// is the only way to stop it.
    pub(super) fn is_on_its_way(&self) -> bool {
        matches!(self.source, Source::Http1(_)) && !self.held_back && !self.ended
    }

    /// Whether its client waits for `100 Continue`, or for another answer in place of it.
    pub(super) fn is_held_back(&self) -> bool {
        self.held_back && !self.ended
    }
}

/// Whether the client waits for `100 Continue` before it sends the body.
fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The length that is announced, if it is for certain.
fn announced(headers: &HeaderMap) -> Option<u64> {
    let mut lengths =
        headers.get_all(CONTENT_LENGTH).iter().map(|value| value.to_str().ok()?.parse().ok());
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        this.held_back = false;
        let frame = match &mut this.source {
            Source::Http1(body) => {
                ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(Into::into))
            }
            Source::Http2 { stream, go_on, .. } => {
                let Poll::Ready(data) = stream.poll_data(context) else {
                    // Who answers is gone only with the stream.
                    let _ = go_on.take().map(|go_on| go_on.send(()));
                    return Poll::Pending;
                };
                data.map(|data| {
                    let bytes = data?;
                    // An error is the stream's: its next frame says so.
                    let _ = stream.flow_control().release_capacity(bytes.len());
                    Ok(Frame::data(bytes))
                })
            }
        };
        this.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
            || match &self.source {
                Source::Http1(body) => body.is_end_stream(),
                Source::Http2 { stream, .. } => stream.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Http1(body) => body.size_hint(),
            Source::Http2 { length, .. } => {
                length.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
