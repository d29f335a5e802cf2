//! Table `connections`: one row per socket of a process, and per TLS connection whose socket is not
//! known. Rows are made by [`super::traffic`].

use std::borrow::Cow;

use super::column::{Cell, Column, NEVER, Table, conn_id, int, opt_text, text};
use super::traffic::Flow;
use crate::event::{ChannelType, Confidence, ProcessId, Role};
use crate::time::WallNanos;

/// What a TLS record has beside its content: header, tag, content type or nonce (RFC 8446 section
/// 5.2, RFC 5246 section 6.2.3), and some padding.
const RECORD_OVERHEAD_BYTES: u64 = 40;

/// A record has at least this much content where it is not alone in its call: servers begin with
/// records that fit a network packet. Libraries that hand out several records per call exist.
const SMALL_RECORD_BYTES: u64 = 1 << 10;

/// What goes through a connection beside records of the application: handshake with certificates,
/// session tickets, alerts.
const HANDSHAKE_BYTES: u64 = 16 << 10;

/// How the host of a connection is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostSource {
    /// The ClientHello names it.
    Sni,
    /// The first request names it.
    HttpHost,
    /// The address was the answer for it.
    Dns,
}

impl HostSource {
    /// The value of the `host_source` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sni => "sni",
            Self::HttpHost => "http_host",
            Self::Dns => "dns",
        }
    }
}

/// The TLS connection that a socket carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link<'a> {
    pub(super) conn_id: u64,
    pub(super) flow: &'a Flow,
    pub(super) confidence: Confidence,
}

/// A connection of a process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionRow {
    pub(super) conn_id: u64,
    pub(super) process: Option<ProcessId>,
    pub(super) comm: Option<String>,
    pub(super) channel_type: Option<ChannelType>,
    pub(super) protocol: Option<&'static str>,
    pub(super) role: Option<Role>,
    pub(super) local_addr: Option<String>,
    pub(super) remote_addr: Option<String>,
    pub(super) host: Option<String>,
    pub(super) host_source: Option<HostSource>,
    pub(super) alpn: Vec<String>,
    pub(super) library: Option<String>,
    pub(super) tls_conn_id: Option<u64>,
    pub(super) confidence: Option<Confidence>,
    pub(super) start_ts: WallNanos,
    pub(super) end_ts: Option<WallNanos>,
    /// Bytes read and written, as they went through the socket.
    pub(super) wire: Option<(u64, u64)>,
    /// Bytes read and written, as they went through the TLS library.
    pub(super) plaintext: Option<(u64, u64)>,
    pub(super) missing_bytes: Option<u64>,
    pub(super) errno: Option<u32>,
    /// Whether its begin was seen.
    pub(super) is_whole: bool,
    pub(super) peer_conn_id: Option<u64>,
}

impl ConnectionRow {
    /// Adds what the TLS library says. Without a link plaintext is known to be none where no other
    /// TLS plaintext of the process could be this connection's (`has_unlinked`).
    pub(super) fn take_tls(&mut self, link: Option<Link<'_>>, has_unlinked: bool) {
        let Some(link) = link else {
            if self.protocol == Some("tls") && !has_unlinked {
                self.plaintext = Some((0, 0));
            }
            return;
        };
        self.library = Some(link.flow.library.clone());
        self.tls_conn_id = Some(link.conn_id);
        self.confidence = Some(link.confidence);
        self.plaintext = Some((link.flow.read.bytes, link.flow.written.bytes));
    }

    /// Plaintext of TLS that is missing: `gaps`, and what of the bytes on the wire neither plaintext
    /// nor the overhead of its records nor a handshake explains. How many records there were is not
    /// known, only how many at most: more is missing rather than less.
    pub(super) fn missing_tls_bytes(
        &self,
        link: Option<Link<'_>>,
        gaps: u64,
        has_unlinked: bool,
    ) -> Option<u64> {
        let unexplained = |explained: u64| {
            let (read, written) = self.wire?;
            let wire = read.saturating_add(written);
            Some(wire.saturating_sub(explained.saturating_add(HANDSHAKE_BYTES)))
        };
        let Some(Link { flow, .. }) = link else {
            return if has_unlinked { None } else { unexplained(0) };
        };
        let plaintext = flow.read.bytes.saturating_add(flow.written.bytes);
        let records = flow.calls.saturating_add(plaintext / SMALL_RECORD_BYTES);
        let overhead = records.saturating_mul(RECORD_OVERHEAD_BYTES);
        let unexplained = unexplained(plaintext.saturating_add(overhead)).unwrap_or(0);
        Some(gaps.saturating_add(unexplained))
    }

    fn plaintext_ratio(&self) -> Option<f64> {
        let sum = |(read, written): (u64, u64)| read.saturating_add(written);
        let (plaintext, wire) = (sum(self.plaintext?), sum(self.wire?));
        (wire > 0).then(|| plaintext as f64 / wire as f64)
    }

    fn complete(&self) -> Option<bool> {
        match self.missing_bytes? {
            // Without the size of it on the wire, its begin, or any plaintext of its TLS nothing says
            // that this is all.
            0 => {
                let has_plaintext = self.protocol != Some("tls") || self.tls_conn_id.is_some();
                (self.wire.is_some() && self.is_whole && has_plaintext).then_some(true)
            }
            _ => Some(false),
        }
    }

    fn alpn(&self) -> Option<Cow<'_, str>> {
        (!self.alpn.is_empty()).then(|| Cow::Owned(self.alpn.join(",")))
    }
}

const NO_PROCESS: &str = "the process is not known";
const NO_SOCKET: &str = "the socket is not known";
const NO_TLS: &str = "it is no TLS, or which TLS connection it carries is not known";
const OPEN: &str = "it was open when the recording ended, or the socket is not known";

/// One row per connection.
pub const CONNECTIONS: Table<ConnectionRow> = Table {
    name: "connections",
    description: "One row per socket of a process, also one that could not be connected, and per \
                  TLS connection whose socket is not known; ordered by start_ts. A connection \
                  between two observed processes has two rows, one for each end. Pipes are in \
                  stdio_chunks.",
    columns: &[
        Column::new(
            "conn_id",
            Cell::Int(|x| conn_id(x.conn_id)),
            "The socket as this process uses it, or the TLS connection where the socket is not \
             known.",
            NEVER,
        ),
        Column::new(
            "pid",
            Cell::Int(|x| x.process.and_then(|process| int(process.pid))),
            "Process that has it.",
            NO_PROCESS,
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.process.map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            NO_PROCESS,
        ),
        Column::new(
            "comm",
            Cell::Text(|x| opt_text(&x.comm)),
            "Name of the thread that used it first.",
            "the name is not known",
        ),
        Column::new(
            "channel_type",
            Cell::Text(|x| x.channel_type.and_then(|it| text(it.as_str()))),
            "tcp, udp or unix.",
            NO_SOCKET,
        ),
        Column::new(
            "protocol",
            Cell::Text(|x| x.protocol.and_then(text)),
            "What is spoken, by its first bytes: tls, http (in plain text), dns or other. A tunnel \
             through an HTTP proxy is what is in it.",
            "nothing went through, or the connection stayed open and is none of those",
        ),
        Column::new(
            "role",
            Cell::Text(|x| x.role.and_then(|role| text(role.as_str()))),
            "connect, accept, or inherited: it was open when it was first seen, or made as a pair.",
            NO_SOCKET,
        ),
        Column::new(
            "local_addr",
            Cell::Text(|x| opt_text(&x.local_addr)),
            "This end: address:port, [address]:port or unix:[inode].",
            "it has none, or the socket is not known",
        ),
        Column::new(
            "remote_addr",
            Cell::Text(|x| opt_text(&x.remote_addr)),
            "The other end: address:port, [address]:port, the path of a Unix socket (@name if \
             abstract) or unix:[inode].",
            "it has none, or the socket is not known",
        ),
        Column::new(
            "host",
            Cell::Text(|x| opt_text(&x.host)),
            "Name of the host at the other end, without port, as host_source knows it.",
            "nothing names it, as with most accepted connections",
        ),
        Column::new(
            "host_source",
            Cell::Text(|x| x.host_source.and_then(|it| text(it.as_str()))),
            "Who names the host: sni (the ClientHello), http_host (the first request), dns (the \
             address was the answer for that name).",
            "nothing names it",
        ),
        Column::new(
            "alpn",
            Cell::Text(ConnectionRow::alpn),
            "Protocols that the ClientHello offers, in its order, joined by commas.",
            "no ClientHello was seen, or it offers none",
        ),
        Column::new(
            "library",
            Cell::Text(|x| opt_text(&x.library)),
            "TLS library whose plaintext it is.",
            NO_TLS,
        ),
        Column::new(
            "tls_conn_id",
            Cell::Int(|x| x.tls_conn_id.and_then(conn_id)),
            "The TLS connection that it carries: conn_id in tls_chunks and http.",
            NO_TLS,
        ),
        Column::new(
            "confidence",
            Cell::Text(|x| x.confidence.and_then(|it| text(it.as_str()))),
            "How sure it is that the socket carries that TLS connection: certain or likely.",
            NO_TLS,
        ),
        Column::new(
            "start_ts",
            Cell::Ts(|x| Some(x.start_ts)),
            "When it was made, or first seen.",
            NEVER,
        ),
        Column::new(
            "end_ts",
            Cell::Ts(|x| x.end_ts),
            "When the process closed it or ended.",
            "it was open when the recording ended",
        ),
        Column::measured(
            "duration_ms",
            "ms",
            Cell::Float(|x| x.end_ts.map(|end| end.ms_since(x.start_ts))),
            "start_ts to end_ts.",
            "it was open when the recording ended",
        ),
        Column::measured(
            "read_bytes",
            "bytes",
            Cell::Int(|x| x.wire.and_then(|(read, _)| int(read))),
            "Bytes that the process read from the socket, on the wire: encrypted where it is TLS.",
            OPEN,
        ),
        Column::measured(
            "written_bytes",
            "bytes",
            Cell::Int(|x| x.wire.and_then(|(_, written)| int(written))),
            "Bytes that the process wrote to the socket.",
            OPEN,
        ),
        Column::measured(
            "plaintext_read_bytes",
            "bytes",
            Cell::Int(|x| x.plaintext.and_then(|(read, _)| int(read))),
            "Bytes that the process read from the TLS library; 0 also where none of the plaintext \
             seen of the process can be of this connection.",
            NO_TLS,
        ),
        Column::measured(
            "plaintext_written_bytes",
            "bytes",
            Cell::Int(|x| x.plaintext.and_then(|(_, written)| int(written))),
            "Bytes that the process wrote to the TLS library; 0 as above.",
            NO_TLS,
        ),
        Column::new(
            "plaintext_ratio",
            Cell::Float(ConnectionRow::plaintext_ratio),
            "Plaintext bytes by bytes on the wire, both directions: 0.9 to 1.0 is expected, less \
             where little or in small pieces was sent, as each record has its overhead and a \
             handshake takes some KiB.",
            "one of the two is not known",
        ),
        Column::measured(
            "missing_bytes",
            "bytes",
            Cell::Int(|x| x.missing_bytes.and_then(int)),
            "Plaintext that is missing from the trace: its gaps, and for TLS, estimated, what of \
             the bytes on the wire is explained neither by plaintext and the overhead of its \
             records nor by a handshake of 16 KiB.",
            "it is neither TLS nor HTTP, or which plaintext it has is not known",
        ),
        Column::new(
            "errno",
            Cell::Int(|x| x.errno.map(i64::from)),
            "Why connect(2) failed; 0 when it did not.",
            NO_SOCKET,
        ),
        Column::new(
            "complete",
            Cell::Bool(ConnectionRow::complete),
            "Whether the trace has all plaintext that went through it, as missing_bytes says.",
            "it is not known: missing_bytes is not, or its begin or size on the wire are not, or no \
             plaintext was seen and little was sent",
        ),
        Column::new(
            "peer_conn_id",
            Cell::Int(|x| x.peer_conn_id.and_then(conn_id)),
            "The other end's row, where that process is observed too.",
            "the other end is not in the trace",
        ),
    ],
};
