//! The plaintext of one connection as it crosses the TLS library, every byte noted.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::http::Incoming;
use super::truth::Log;

/// A client that says nothing for so long is dropped.
const IDLE: Duration = Duration::from_secs(120);
/// How often a waiting thread looks whether it is to stop.
const POLL: Duration = Duration::from_millis(100);

/// A flag that also ends waiting.
#[derive(Default)]
pub struct Stop {
    flag: Mutex<bool>,
    raised: Condvar,
}

impl Stop {
    /// Raises it.
    pub fn set(&self) {
        *self.flag.lock().expect("holders do not panic") = true;
        self.raised.notify_all();
    }

    /// Whether it was raised.
    pub fn is_set(&self) -> bool {
        *self.flag.lock().expect("holders do not panic")
    }

    /// Waits for `time`; an error when the flag is raised before.
    pub fn wait(&self, time: Duration) -> io::Result<()> {
        let flag = self.flag.lock().expect("holders do not panic");
        let waited = self.raised.wait_timeout_while(flag, time, |raised| !*raised);
        match waited.expect("holders do not panic").1.timed_out() {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::Interrupted, "server is stopping")),
        }
    }
}

/// The TLS stream of one connection; notes all plaintext that crosses it.
pub struct Wire<'a> {
    id: usize,
    log: &'a Log,
    stop: &'a Stop,
    tls: StreamOwned<ServerConnection, TcpStream>,
    sent_bytes: u64,
}

impl<'a> Wire<'a> {
    /// Shakes hands on an accepted stream.
    pub fn new(
        tls: &Arc<ServerConfig>,
        stream: TcpStream,
        id: usize,
        log: &'a Log,
        stop: &'a Stop,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(POLL))?;
        stream.set_write_timeout(Some(IDLE))?;
        let session = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
        let tls = StreamOwned::new(session, stream);
        let mut wire = Self { id, log, stop, tls, sent_bytes: 0 };
        wire.shake_hands()?;
        Ok(wire)
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + IDLE;
        while self.tls.conn.is_handshaking() {
            match self.tls.conn.complete_io(&mut self.tls.sock) {
                Err(error) if is_timeout(&error) && Instant::now() < deadline => {
                    if self.stop.is_set() {
                        return Err(io::Error::other("server is stopping"));
                    }
                }
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// The protocol that was agreed on for the connection.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.tls.conn.alpn_protocol()
    }

    /// The session and its socket.
    pub fn into_parts(self) -> (ServerConnection, TcpStream) {
        (self.tls.conn, self.tls.sock)
    }

    /// The connection's id in the truth.
    pub fn id(&self) -> usize {
        self.id
    }

    /// Plaintext sent so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Sends `data` now, in TLS writes of at most `write_bytes`.
    pub fn send(&mut self, data: &[u8], write_bytes: Option<usize>) -> io::Result<()> {
        for part in data.chunks(write_bytes.unwrap_or(usize::MAX).max(1)) {
            self.tls.write_all(part)?;
            self.tls.flush()?;
            self.sent_bytes += part.len() as u64;
            self.log.sent(self.id, part);
        }
        Ok(())
    }

    /// Tells the client that nothing more comes; it may be gone already.
    pub fn close(&mut self) {
        self.tls.conn.send_close_notify();
        let _ = self.tls.flush();
    }
}

impl Incoming for Wire<'_> {
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let mut piece = [0; 64 * 1024];
        let deadline = Instant::now() + IDLE;
        loop {
            match self.tls.read(&mut piece) {
                Ok(length) => {
                    self.log.received(self.id, &piece[..length]);
                    buffer.extend_from_slice(&piece[..length]);
                    return Ok(length);
                }
                Err(error) if is_timeout(&error) && Instant::now() < deadline => {
                    if self.stop.is_set() {
                        return Ok(0);
                    }
                }
                // Many clients leave without the TLS end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
        }
    }

    fn send_continue(&mut self) -> io::Result<()> {
        self.send(b"HTTP/1.1 100 Continue\r\n\r\n", None)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
