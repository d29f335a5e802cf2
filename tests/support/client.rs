//! A TLS client that sends and keeps raw bytes, to test the mock server by.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::mock::Server;

/// One connection; remembers all plaintext of both directions.
pub struct Client {
    tls: StreamOwned<ClientConnection, TcpStream>,
    /// Everything sent.
    pub sent: Vec<u8>,
    /// Everything received.
    pub received: Vec<u8>,
    unread: usize,
}

/// A response taken apart.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Head, as text.
    pub head: String,
    /// Body without framing, content coding still on.
    pub body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub complete: bool,
}

impl Client {
    /// Connects, trusting the server's authority only.
    pub fn connect(server: &Server) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(server.ca_pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let tls = StreamOwned::new(session, stream);
        Self { tls, sent: Vec::new(), received: Vec::new(), unread: 0 }
    }

    /// Sends bytes as they stand.
    pub fn send(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).unwrap();
        self.tls.flush().unwrap();
        self.sent.extend_from_slice(bytes);
    }

    /// Sends a POST of a JSON body.
    pub fn post(&mut self, path: &str, fields: &str, body: &str) {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{fields}");
        self.send(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes());
    }

    /// Reads the next final response to a request that was not HEAD.
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let field = |name: &str| {
            let line = head.lines().find(|line| line.starts_with(name));
            line.map(|line| line[name.len()..].trim().to_owned())
        };
        let length = field("content-length:").map(|length| length.parse().unwrap());
        let chunked = field("transfer-encoding:").is_some();
        let (body, complete) = match length {
            Some(length) => self.take(length),
            None if chunked => self.take_chunks(),
            None => (self.take_rest(), true),
        };
        Response { status: head[9..12].parse().unwrap(), head, body, complete }
    }

    /// Reads the next response head; its names are made lower case.
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let (byte, complete) = self.take(1);
            assert!(complete, "connection ended inside a response head: {head:?}");
            head.extend(byte);
        }
        String::from_utf8(head).unwrap()
    }

    fn take_chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                let (byte, complete) = self.take(1);
                if !complete {
                    return (body, false);
                }
                line.extend(byte);
            }
            let size = std::str::from_utf8(&line).unwrap().trim();
            let size = usize::from_str_radix(size, 16).unwrap();
            let (data, complete) = self.take(size + 2);
            body.extend(&data[..data.len().min(size)]);
            if !complete || size == 0 {
                return (body, complete);
            }
        }
    }

    /// The next `length` bytes, or those there were before the end.
    fn take(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.received.len() - self.unread < length && self.read_more().unwrap_or(0) > 0 {}
        let end = (self.unread + length).min(self.received.len());
        let taken = self.received[self.unread..end].to_vec();
        self.unread = end;
        let complete = taken.len() == length;
        (taken, complete)
    }

    fn take_rest(&mut self) -> Vec<u8> {
        while self.read_more().unwrap_or(0) > 0 {}
        self.take(self.received.len() - self.unread).0
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let length = self.tls.read(&mut piece)?;
        self.received.extend_from_slice(&piece[..length]);
        Ok(length)
    }
}
