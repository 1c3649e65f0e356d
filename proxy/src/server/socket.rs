//! The data plane's sockets: they tell their connection when everything written
//! was flushed and when the client takes no more, and write nothing once cut.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connections::Connection;

/// A socket of a listed connection. hyper flushes it only once its own buffer
/// is empty, so a flush means that every answer before it is written.
#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    connection: Arc<Connection>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, connection: Arc<Connection>) -> Self {
        Self { inner, connection }
    }

    /// After a cut nothing leaves, even if the driver is polled once more.
    fn check(&self) -> io::Result<()> {
        if self.connection.is_cut() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is cut"));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let wrote = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.connection.took_bytes(wrote.is_ready());
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.connection.took_bytes(flushed.is_ready());
        let flushed = ready!(flushed);
        // With HTTP/1.1 one task, the driver, drops answers' bodies and flushes the
        // socket: nothing joins in between. HTTP/2 is not judged by flushes.
        if flushed.is_ok() {
            self.connection.flushed();
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        let shut = Pin::new(&mut self.inner).poll_shutdown(context);
        self.connection.took_bytes(shut.is_ready());
        shut
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let wrote = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.connection.took_bytes(wrote.is_ready());
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
