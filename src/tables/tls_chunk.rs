//! Table `tls_chunks`: plaintext by single library call.

use super::channel::Peer;
use super::chunk::Chunk;
use super::column::{Cell, Column, NEVER, Table, conn_id, int, opt_text, text};

/// One call of a TLS library that moved plaintext.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsChunk {
    /// The call.
    pub chunk: Chunk,
    /// What is at the other end of its connection.
    pub peer: Peer,
}

/// One row per library call.
pub const TLS_CHUNKS: Table<TlsChunk> = Table {
    name: "tls_chunks",
    description: "One row per call of a TLS library that moved plaintext.",
    columns: &[
        Column::new("ts", Cell::Ts(|x| Some(x.chunk.ts)), "When the call returned.", NEVER),
        Column::new(
            "pid",
            Cell::Int(|x| x.chunk.process().and_then(|process| int(process.pid))),
            "Process that made the call.",
            "the process is not known",
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.chunk.process().map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            "the process is not known",
        ),
        Column::new(
            "tid",
            Cell::Int(|x| x.chunk.tid().map(i64::from)),
            "Thread that made the call.",
            "the thread is not known",
        ),
        Column::new(
            "comm",
            Cell::Text(|x| opt_text(x.chunk.comm())),
            "Name of that thread.",
            "the name is not known",
        ),
        Column::new(
            "conn_id",
            Cell::Int(|x| conn_id(x.chunk.conn_id())),
            "Connection: process, library handle and its generation.",
            NEVER,
        ),
        Column::new(
            "direction",
            Cell::Text(|x| text(x.chunk.stream().direction.as_str())),
            "read: the process received it; write: it sent it.",
            NEVER,
        ),
        Column::measured(
            "stream_offset",
            "bytes",
            Cell::Int(|x| int(x.chunk.stream_offset)),
            "Position of the first byte in this direction of the connection, from the first byte \
             seen; lost bytes count.",
            NEVER,
        ),
        Column::measured(
            "data_bytes",
            "bytes",
            Cell::Int(|x| int(x.chunk.data_bytes)),
            "Bytes the call moved, lost_bytes included.",
            NEVER,
        ),
        Column::measured(
            "lost_bytes",
            "bytes",
            Cell::Int(|x| int(x.chunk.lost_bytes())),
            "Bytes at the end of data_bytes that could not be captured.",
            NEVER,
        ),
        Column::new(
            "data",
            Cell::Binary(|x| Some(x.chunk.data())),
            "The captured bytes; body_text(data) reads them as text.",
            NEVER,
        ),
        Column::new(
            "library",
            Cell::Text(|x| text(&x.chunk.stream().library)),
            "Library they came through, such as openssl or boringssl.",
            NEVER,
        ),
        Column::new(
            "remote_addr",
            Cell::Text(|x| x.peer.remote_addr().and_then(text)),
            "Address at the other end of the socket that carries the connection.",
            "the socket is not known",
        ),
        Column::new(
            "confidence",
            Cell::Text(|x| x.peer.confidence().and_then(text)),
            "How sure that socket is: certain or likely.",
            "the socket is not known",
        ),
    ],
};
