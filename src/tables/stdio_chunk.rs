//! Table `stdio_chunks`: what programs say to each other through pipes and socket pairs, by single
//! call, with the process at the other end.

use std::sync::Arc;

use super::channel::{Channels, UsedChannel};
use super::chunk::Chunk;
use super::column::{Cell, Column, NEVER, Table, conn_id, int, opt_text, text};

/// One call that moved bytes through a pipe or socket pair.
#[derive(Clone, Debug, PartialEq)]
pub struct StdioChunk {
    chunk: Chunk,
    channel: Option<Arc<UsedChannel>>,
    /// The channel of the process at the other end.
    other_end: Option<Arc<UsedChannel>>,
}

impl StdioChunk {
    /// Finds out where the bytes of a call came from or went to.
    #[must_use]
    pub fn new(chunk: Chunk, channels: &Channels) -> Self {
        let channel = channels.get(chunk.conn_id()).cloned();
        let direction = chunk.stream().direction;
        let other_end = channel.as_ref().and_then(|of| channels.other_end(of, direction, chunk.ts));
        let other_end = other_end.cloned();
        Self { chunk, channel, other_end }
    }

    /// Size of the row in memory, about.
    #[must_use]
    pub fn captured_bytes(&self) -> usize {
        self.chunk.captured_bytes()
    }
}

const NO_PROCESS: &str = "the process is not known";
const NO_CHANNEL: &str = "what the channel is was lost, or it has no address";
const NO_PEER: &str = "the process at the other end was not observed, or may be one of several";

/// One row per call.
pub const STDIO_CHUNKS: Table<StdioChunk> = Table {
    name: "stdio_chunks",
    description: "One row per call that moved bytes through a pipe or a socket pair between \
                  programs. Descriptors 0, 1 and 2, others where the recorder was told to. Bytes \
                  between two observed processes are in two rows: as one wrote them and as the \
                  other read them.",
    columns: &[
        Column::new("ts", Cell::Ts(|x| Some(x.chunk.ts)), "When the call returned.", NEVER),
        Column::new(
            "pid",
            Cell::Int(|x| x.chunk.process().and_then(|process| int(process.pid))),
            "Process that made the call.",
            NO_PROCESS,
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.chunk.process().map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            NO_PROCESS,
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
            "The pipe or socket as this process uses it.",
            NEVER,
        ),
        Column::new(
            "fd",
            Cell::Int(|x| x.chunk.stream().fd.map(i64::from)),
            "File descriptor: 0 standard input, 1 standard output, 2 standard error.",
            "it is not known",
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
            "Position of the first byte among all that the process moved in this direction; bytes \
             that were lost, or went through a descriptor that is not recorded, count.",
            NEVER,
        ),
        Column::new(
            "data",
            Cell::Binary(|x| Some(x.chunk.data())),
            "The captured bytes; body_text(data) reads them as text.",
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
            "channel_type",
            Cell::Text(|x| {
                x.channel.as_ref().and_then(|it| text(it.channel.channel_type.as_str()))
            }),
            "pipe or unix.",
            NO_CHANNEL,
        ),
        Column::new(
            "local_addr",
            Cell::Text(|x| x.channel.as_ref().and_then(|it| opt_text(&it.channel.local_addr))),
            "This end: pipe:[inode] or unix:[inode].",
            NO_CHANNEL,
        ),
        Column::new(
            "remote_addr",
            Cell::Text(|x| x.channel.as_ref().and_then(|it| opt_text(&it.channel.remote_addr))),
            "The other end: of a pipe the same as local_addr, else unix:[inode] or a path.",
            NO_CHANNEL,
        ),
        Column::new(
            "peer_pid",
            Cell::Int(|x| {
                x.other_end.as_ref().and_then(|it| it.process).and_then(|process| int(process.pid))
            }),
            "Process at the other end: the one that read what is written, wrote what is read.",
            NO_PEER,
        ),
        Column::new(
            "peer_process_start_ts",
            Cell::Ts(|x| x.other_end.as_ref().and_then(|it| it.process).map(|it| it.start_ts)),
            "When that process was created; with peer_pid it names the process.",
            NO_PEER,
        ),
        Column::new(
            "peer_fd",
            Cell::Int(|x| x.other_end.as_ref().map(|it| i64::from(it.channel.fd))),
            "File descriptor at which that process was first seen to use it.",
            NO_PEER,
        ),
    ],
};
