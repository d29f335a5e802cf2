//! The server's side of HTTP/1.1: reading requests, framing responses.
//!
//! Own and small, and apart from the reconstruction under test, so that both cannot share a
//! mistake. Heads and bodies are bounded; a request that breaks the rules is an error and ends the
//! connection.

use std::io;

use super::coding::unpack;

/// Longest request head.
const MAX_HEAD_BYTES: usize = 256 * 1024;
/// Longest request body, before and after content decoding.
pub const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;
/// Most header fields.
const MAX_FIELDS: usize = 128;

/// A request as it was read.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Method, such as `POST`.
    pub method: String,
    /// Request target, query included.
    pub target: String,
    /// Whether it was HTTP/1.0.
    pub http10: bool,
    /// Fields in order.
    pub headers: Vec<(String, String)>,
    /// Body after transfer and content decoding.
    pub body: Vec<u8>,
    /// Body size before content decoding, without chunk framing.
    pub body_wire_bytes: u64,
}

impl Request {
    /// The first field of that name, by any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of that name in the query of the target.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let values = query.split('&').filter_map(|pair| pair.split_once('='));
        values.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Whether a field of that name lists `token`.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.header(name).is_some_and(|value| {
            let items = value.split(',').map(|item| item.split(';').next().unwrap_or(""));
            items.into_iter().any(|item| item.trim().eq_ignore_ascii_case(token))
        })
    }

    /// Whether the client wants the connection closed after the response.
    pub fn wants_close(&self) -> bool {
        if self.http10 {
            !self.lists("connection", "keep-alive")
        } else {
            self.lists("connection", "close")
        }
    }
}

/// The plaintext a client sends, as the reader below needs it.
pub trait Incoming {
    /// Appends what arrives next to `buffer`; 0 when the client has closed.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize>;
    /// Tells the client to go on with the body (RFC 9110, 15.2.1).
    fn send_continue(&mut self) -> io::Result<()>;
}

/// Reads requests one after another; bytes of a pipelined next one are kept.
#[derive(Default)]
pub struct RequestReader {
    buffer: Vec<u8>,
    consumed_bytes: u64,
}

impl RequestReader {
    /// Bytes of the connection that belong to requests already returned.
    pub fn consumed_bytes(&self) -> u64 {
        self.consumed_bytes
    }

    /// The next request; `None` when the client closed between requests.
    pub fn next(&mut self, incoming: &mut impl Incoming) -> io::Result<Option<Request>> {
        let (mut request, head_bytes) = loop {
            if let Some(parsed) = parse_head(&self.buffer)? {
                break parsed;
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(broken("request head is too long"));
            }
            if incoming.receive(&mut self.buffer)? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(broken("client closed inside a request head")),
                };
            }
        };
        self.consume(head_bytes);
        if request.lists("expect", "100-continue") && !request.http10 {
            incoming.send_continue()?;
        }
        let body = self.read_body(&request, incoming)?;
        request.body_wire_bytes = body.len() as u64;
        request.body = unpack(body, request.header("content-encoding"), MAX_BODY_BYTES)?;
        Ok(Some(request))
    }

    /// Body by RFC 9112, 6.3: chunked, else Content-Length, else none.
    fn read_body(
        &mut self,
        request: &Request,
        incoming: &mut impl Incoming,
    ) -> io::Result<Vec<u8>> {
        if request.lists("transfer-encoding", "chunked") {
            return self.read_chunks(incoming);
        }
        let Some(length) = request.header("content-length") else { return Ok(Vec::new()) };
        let length = length.trim().parse().map_err(|_| broken("content-length is not a number"))?;
        if length > MAX_BODY_BYTES {
            return Err(broken("request body is too long"));
        }
        self.take(length, incoming)
    }

    fn read_chunks(&mut self, incoming: &mut impl Incoming) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_line(incoming)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| broken("chunk size is not a number"))?;
            if size == 0 {
                // Trailer fields end with an empty line.
                while !self.take_line(incoming)?.is_empty() {}
                return Ok(body);
            }
            if size.saturating_add(body.len()) > MAX_BODY_BYTES {
                return Err(broken("request body is too long"));
            }
            body.extend(self.take(size, incoming)?);
            if !self.take_line(incoming)?.is_empty() {
                return Err(broken("chunk does not end where its size says"));
            }
        }
    }

    fn take(&mut self, length: usize, incoming: &mut impl Incoming) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if incoming.receive(&mut self.buffer)? == 0 {
                return Err(broken("client closed inside a request body"));
            }
        }
        let taken = self.buffer[..length].to_vec();
        self.consume(length);
        Ok(taken)
    }

    fn take_line(&mut self, incoming: &mut impl Incoming) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(end + 2, incoming)?;
                return String::from_utf8(line[..end].to_vec()).map_err(|_| broken("bad line"));
            }
            if self.buffer.len() > MAX_HEAD_BYTES || incoming.receive(&mut self.buffer)? == 0 {
                return Err(broken("line does not end"));
            }
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.drain(..bytes);
        self.consumed_bytes += bytes as u64;
    }
}

/// The request head at the start of `buffer` and its length; `None` while it is not all there.
fn parse_head(buffer: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(buffer).map_err(|error| broken(&error.to_string()))? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let request = Request {
        method: head.method.unwrap_or_default().into(),
        target: head.path.unwrap_or_default().into(),
        http10: head.version == Some(0),
        headers: head.headers.iter().map(|h| (h.name.into(), text(h.value))).collect(),
        ..Request::default()
    };
    Ok(Some((request, length)))
}

/// How the end of a response body is told (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The connection closes.
    Close,
}

/// A response head, ready to send.
pub fn response_head(status: u16, fields: &[(String, String)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// One chunk of a chunked body; an empty one would end it and is left out.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    if data.is_empty() {
        return Vec::new();
    }
    let mut framed = format!("{:x}\r\n", data.len()).into_bytes();
    framed.extend_from_slice(data);
    framed.extend_from_slice(b"\r\n");
    framed
}

/// What ends a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        529 => "Overloaded",
        _ => "Status",
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
