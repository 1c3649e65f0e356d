//! A stream that breaks off in the middle of an answer, where it says
//! `x-cut-here`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use tokio::net::TcpStream;

/// Passes everything through but what comes after the mark.
pub(super) struct Cut(pub(super) TcpStream);

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mark = b"x-cut-here";
        match bytes.windows(mark.len()).position(|window| window == mark) {
            Some(at) => {
                let written = Pin::new(&mut self.0).poll_write(context, &bytes[..at + 4]);
                match written {
                    Poll::Ready(Ok(_)) => Poll::Ready(Err(io::Error::other("cut"))),
                    other => other,
                }
            }
            None => Pin::new(&mut self.0).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
