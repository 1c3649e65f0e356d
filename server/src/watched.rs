//! What the HTTP library has of a connection: it tells when all is flushed and when the client takes no
//! more, and finds nothing to write to once the connection is cut.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;
use super::stream::Stream;

/// The HTTP library's side of a listed connection. The HTTP library flushes it only once its own
/// buffer is empty, so a flush means that every answer before it is in the kernel.
#[derive(Debug)]
pub(super) struct Watched(Arc<Connection>);

impl Watched {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self(connection)
    }

    /// Writes, and notes whether the client takes bytes. What only TLS has taken says nothing.
    fn write<T>(
        &self,
        write: impl FnOnce(Pin<&mut Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.0.with_stream(|mut stream| {
            let before = stream.socket().written();
            let wrote = write(stream.as_mut());
            if wrote.is_pending() {
                self.0.took_bytes(false);
            } else if stream.socket().written() > before {
                self.0.took_bytes(true);
            }
            wrote
        })
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.with_stream(|stream| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Before the flush: what the HTTP library takes from an answer during it is of the next
        // one.
        let taken = self.0.taken();
        self.write(|mut stream| {
            let flushed = stream.as_mut().poll_flush(context);
            if let Poll::Ready(Ok(())) = &flushed {
                self.0.took_bytes(true);
                self.0.flushed(taken, stream.socket().written());
            }
            flushed
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(|stream| stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        // As TLS and every socket do.
        true
    }
}
