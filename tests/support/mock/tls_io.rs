//! The plaintext of a TLS connection for tasks of `tokio`, every byte noted; the handshake is over.

use std::io::{self, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TLS session after its handshake, for tasks; notes all plaintext that crosses it.
pub struct TlsIo {
    session: Connection,
    stream: TcpStream,
    note: Box<dyn Fn(Crossed<'_>) + Send>,
}

/// Plaintext that crossed the TLS library.
pub enum Crossed<'a> {
    /// From the peer.
    In(&'a [u8]),
    /// To the peer.
    Out(&'a [u8]),
}

impl TlsIo {
    /// Takes over a session and its socket; has to be called in a runtime.
    pub fn new(
        session: Connection,
        stream: std::net::TcpStream,
        note: impl Fn(Crossed<'_>) + Send + 'static,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream)?;
        Ok(Self { session, stream, note: Box::new(note) })
    }

    /// Sends what the session has ready.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            ready!(self.stream.poll_write_ready(context))?;
            match self.session.write_tls(&mut TryIo(&self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match this.session.reader().read(buffer.initialize_unfilled()) {
                Ok(length) => {
                    let start = buffer.filled().len();
                    buffer.advance(length);
                    (this.note)(Crossed::In(&buffer.filled()[start..]));
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Many clients leave without the TLS end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(this.stream.poll_read_ready(context))?;
            match this.session.read_tls(&mut TryIo(&this.stream)) {
                Ok(_) => {
                    this.session.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_send(context))?;
        let length = this.session.writer().write(data)?;
        (this.note)(Crossed::Out(&data[..length]));
        // What cannot go at once goes with the next flush.
        let _ = this.poll_send(context)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.send_close_notify();
        self.poll_send(context)
    }
}

/// A socket that says so when it would block.
struct TryIo<'a>(&'a TcpStream);

impl io::Read for TryIo<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl io::Write for TryIo<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.try_write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
