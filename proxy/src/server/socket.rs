//! The data plane's sockets. What is under TLS counts the bytes that the kernel took. What the HTTP
//! library has tells its connection when all is flushed and when the client takes no more, and
//! finds nothing to write to once the connection is cut.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::connection::Connection;
use super::send_queue::{self, Delivered};

/// A TCP socket that counts what was written to it.
#[derive(Debug)]
pub(super) struct Socket {
    tcp: TcpStream,
    written: u64,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, written: 0 }
    }

    /// How many bytes the kernel took.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether the peer has all of the first `bytes`, or will never get them. What can not be
    /// known counts as no.
    pub(super) fn has_delivered(&self, bytes: u64) -> bool {
        match send_queue::delivered(&self.tcp) {
            Ok(Delivered::Bytes(acknowledged)) => acknowledged >= bytes,
            Ok(Delivered::Over) => true,
            Err(_) => false,
        }
    }

    /// Closes it so that the kernel throws away what it still holds.
    pub(super) fn reset(self) {
        if let Err(error) = self.tcp.set_zero_linger() {
            // A TCP socket takes this in every state.
            tracing::error!(%error, "a connection is closed, not reset: the kernel may go on sending");
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.count(wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.tcp).poll_write_vectored(context, slices);
        self.count(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

impl Socket {
    fn count(&mut self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &wrote {
            self.written += *bytes as u64;
        }
        wrote
    }
}

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
        write: impl FnOnce(Pin<&mut TlsStream<Socket>>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.0.with_stream(|mut stream| {
            let before = stream.get_ref().0.written();
            let wrote = write(stream.as_mut());
            if wrote.is_pending() {
                self.0.took_bytes(false);
            } else if stream.get_ref().0.written() > before {
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
                self.0.flushed(taken, stream.get_ref().0.written());
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
        // As TLS over TCP does.
        true
    }
}
