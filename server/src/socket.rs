//! The data plane's sockets, under TLS or without: they count the bytes that the kernel took.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::send_queue::{self, Delivered};

/// A socket that counts what was written to it.
#[derive(Debug)]
pub(super) struct Socket {
    kernel: Kernel,
    written: u64,
}

/// The kernel's side of it.
#[derive(Debug)]
enum Kernel {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn tcp(tcp: TcpStream) -> Self {
        Self { kernel: Kernel::Tcp(tcp), written: 0 }
    }

    pub(super) fn unix(unix: UnixStream) -> Self {
        Self { kernel: Kernel::Unix(unix), written: 0 }
    }

    /// How many bytes the kernel took.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether the peer has all of the first `bytes`, or will never get them. What cannot be
    /// known counts as no.
    pub(super) fn has_delivered(&self, bytes: u64) -> bool {
        let tcp = match &self.kernel {
            Kernel::Tcp(tcp) => tcp,
            // What was written is in the peer's own queue at once (unix(7)): as far as what a
            // peer's kernel has acknowledged, and as little to be called back.
            Kernel::Unix(_) => return true,
        };
        match send_queue::delivered(tcp) {
            Ok(Delivered::Bytes(acknowledged)) => acknowledged >= bytes,
            Ok(Delivered::Closed) => true,
            Err(_) => false,
        }
    }

    /// Closes it so that the kernel throws away what it still holds.
    pub(super) fn reset(self) {
        let Kernel::Tcp(tcp) = self.kernel else { return };
        if let Err(error) = tcp.set_zero_linger() {
            // A TCP socket takes this in every state.
            tracing::error!(target: "signing_proxy", %error, "a connection is closed, not reset: the kernel may go on sending");
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.kernel {
            Kernel::Tcp(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Kernel::Unix(unix) => Pin::new(unix).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = match &mut self.kernel {
            Kernel::Tcp(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Kernel::Unix(unix) => Pin::new(unix).poll_write(context, bytes),
        };
        self.count(wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kernel {
            Kernel::Tcp(tcp) => Pin::new(tcp).poll_flush(context),
            Kernel::Unix(unix) => Pin::new(unix).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kernel {
            Kernel::Tcp(tcp) => Pin::new(tcp).poll_shutdown(context),
            Kernel::Unix(unix) => Pin::new(unix).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = match &mut self.kernel {
            Kernel::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(context, slices),
            Kernel::Unix(unix) => Pin::new(unix).poll_write_vectored(context, slices),
        };
        self.count(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        // As both kinds do.
        true
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
