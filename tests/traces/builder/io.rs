//! Files, sockets and pipes of a made-up recording.

use agentsight::event::{
    Body, Channel, ChannelType, Confidence, Direction, FileAccess, FileOp, OpenOperation,
    PathOperation, Role, Source, StreamData, TlsSocket,
};

use super::{Connection, Process, Recording, at};

/// Numbers of sockets and pipes begin here, those of TLS connections at 1.
const FIRST_CHANNEL: u64 = 1_001;

/// A handle to a socket or pipe of a [`Recording`], as one process uses it.
#[derive(Clone, Copy)]
pub struct Socket(usize);

pub(super) struct SocketState {
    conn_id: u64,
    process: Process,
    fd: u32,
    read_bytes: u64,
    written_bytes: u64,
}

/// How a process came by a socket, and its addresses.
pub struct Ends<'a> {
    pub channel_type: ChannelType,
    pub role: Role,
    pub local: &'a str,
    pub remote: &'a str,
}

impl<'a> Ends<'a> {
    /// A TCP connection that the process made.
    pub fn connect(local: &'a str, remote: &'a str) -> Self {
        Self { channel_type: ChannelType::Tcp, role: Role::Connect, local, remote }
    }

    /// A TCP connection that the process accepted.
    pub fn accept(local: &'a str, remote: &'a str) -> Self {
        Self { channel_type: ChannelType::Tcp, role: Role::Accept, local, remote }
    }

    /// A pipe.
    pub fn pipe(address: &'a str) -> Self {
        let channel_type = ChannelType::Pipe;
        Self { channel_type, role: Role::Inherited, local: address, remote: address }
    }
}

impl Recording {
    /// `process` uses a socket or pipe for the first time.
    pub fn open(&mut self, ms: u64, process: Process, fd: u32, ends: Ends<'_>) -> Socket {
        self.open_or_fail(ms, process, fd, ends, 0)
    }

    /// `process` cannot connect a socket.
    pub fn refused(&mut self, ms: u64, process: Process, remote: &str, errno: u32) {
        let ends = Ends::connect("", remote);
        let socket = self.open_or_fail(ms, process, 9, ends, errno);
        self.close_socket(ms + 1, socket);
    }

    fn open_or_fail(
        &mut self,
        ms: u64,
        process: Process,
        fd: u32,
        ends: Ends<'_>,
        errno: u32,
    ) -> Socket {
        let socket = Socket(self.sockets.len());
        let conn_id = FIRST_CHANNEL + self.sockets.len() as u64;
        self.sockets.push(SocketState { conn_id, process, fd, read_bytes: 0, written_bytes: 0 });
        let address = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let channel = Channel {
            conn_id,
            channel_type: ends.channel_type,
            role: ends.role,
            fd,
            local_addr: address(ends.local),
            remote_addr: address(ends.remote),
            errno,
        };
        self.push(ms, process, Body::ChannelOpen(channel));
        socket
    }

    /// Bytes go through a socket or pipe and are recorded.
    pub fn moves(
        &mut self,
        ms: u64,
        socket: Socket,
        (source, direction): (Source, Direction),
        data: &[u8],
    ) {
        let state = &self.sockets[socket.0];
        let stream_offset = match direction {
            Direction::Read => state.read_bytes,
            Direction::Write => state.written_bytes,
        };
        let data_bytes = data.len() as u64;
        let body = Body::Data(StreamData {
            source,
            conn_id: state.conn_id,
            direction,
            stream_offset,
            data_bytes,
            lost_bytes: 0,
            data: data.to_vec(),
            library: String::new(),
            fd: Some(state.fd),
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        });
        let process = state.process;
        self.pass(socket, direction, data_bytes);
        self.push(ms, process, body);
    }

    /// Bytes go through a socket or pipe and are only counted.
    pub fn pass(&mut self, socket: Socket, direction: Direction, bytes: u64) {
        let state = &mut self.sockets[socket.0];
        match direction {
            Direction::Read => state.read_bytes += bytes,
            Direction::Write => state.written_bytes += bytes,
        }
    }

    /// The recorder finds out that a socket carries a TLS connection.
    pub fn carries(
        &mut self,
        ms: u64,
        socket: Socket,
        connection: Connection,
        confidence: Confidence,
    ) {
        let conn_id = self.connections[connection.0].conn_id;
        let SocketState { conn_id: socket_conn_id, process, .. } = self.sockets[socket.0];
        let link = TlsSocket { conn_id, socket_conn_id, confidence };
        self.push(ms, process, Body::TlsSocket(link));
    }

    /// The process closes a socket or pipe.
    pub fn close_socket(&mut self, ms: u64, socket: Socket) {
        let SocketState { conn_id, process, read_bytes, written_bytes, .. } =
            self.sockets[socket.0];
        self.push(ms, process, Body::ChannelClose { conn_id, read_bytes, written_bytes });
    }

    /// The process has used a file until `ms`, since a moment before.
    pub fn used(&mut self, ms: u64, process: Process, path: &str, access: FileAccess) {
        let operation = access.operation.or(Some(OpenOperation::Open));
        let path = Some(path.to_owned());
        let access = FileAccess { path, operation, first_ts: at(ms.saturating_sub(3)), ..access };
        self.push(ms, process, Body::FileAccess(access));
    }

    /// The process renames, removes or makes a path.
    pub fn changes(
        &mut self,
        ms: u64,
        process: Process,
        operation: PathOperation,
        path: &str,
        new_path: Option<&str>,
    ) {
        let (path, new_path) = (Some(path.to_owned()), new_path.map(str::to_owned));
        self.push(ms, process, Body::FileOp(FileOp { operation, path, new_path }));
    }
}

/// Read at once.
pub fn read(bytes: u64) -> FileAccess {
    FileAccess {
        flags: Some("O_RDONLY|O_CLOEXEC".to_owned()),
        open_count: 1,
        read_count: bytes.div_ceil(65_536).max(1),
        read_bytes: bytes,
        ..FileAccess::default()
    }
}

/// Made and written at once.
pub fn made(bytes: u64) -> FileAccess {
    FileAccess {
        operation: Some(OpenOperation::Create),
        flags: Some("O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC".to_owned()),
        open_count: 1,
        write_count: 1,
        written_bytes: bytes,
        ..FileAccess::default()
    }
}

/// Not opened.
pub fn failed(times: u64, errno: u32) -> FileAccess {
    FileAccess {
        flags: Some("O_RDONLY".to_owned()),
        open_count: times,
        errno,
        ..FileAccess::default()
    }
}
