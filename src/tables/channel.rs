//! The sockets and pipes of a recording: who used which, what is at its other end, and which of them
//! carries a TLS connection. No table of its own; `connections`, the chunks, `http` and `llm_calls`
//! take addresses from here.
//!
//! Holds one entry for each channel of each process, none of what went through.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::event::{Body, Channel, Confidence, Direction, Event, ProcessId, Role, TlsSocket};
use crate::time::WallNanos;

/// The kinds of events that [`Channels`] is made of.
pub const CHANNEL_KINDS: &[&str] = &["channel_open", "channel_close", "tls_socket"];

/// A channel as one process uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedChannel {
    /// Whose it is.
    pub process: Option<ProcessId>,
    /// Name of the thread that used it first.
    pub comm: Option<String>,
    /// What it is.
    pub channel: Channel,
    /// When it was first used.
    pub start_ts: WallNanos,
    /// When it was closed, and what went through it until then.
    pub end: Option<Totals>,
}

/// What went through a channel over its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// When it was closed.
    pub ts: WallNanos,
    /// Bytes that the process read.
    pub read_bytes: u64,
    /// Bytes that the process wrote.
    pub written_bytes: u64,
}

impl UsedChannel {
    /// Whether bytes may have gone through it in this direction. Of a pipe that was not closed only
    /// the descriptor tells.
    fn may_move(&self, direction: Direction) -> bool {
        let moved = self.end.map(|end| match direction {
            Direction::Read => end.read_bytes,
            Direction::Write => end.written_bytes,
        });
        match (moved, self.channel.fd) {
            (Some(moved), _) => moved > 0,
            (None, 0) => direction == Direction::Read,
            (None, 1 | 2) => direction == Direction::Write,
            (None, _) => true,
        }
    }
}

/// What is at the other end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The socket that carries the connection.
    pub socket: Option<Arc<UsedChannel>>,
    /// How sure that is.
    pub confidence: Option<Confidence>,
}

impl Peer {
    /// The address at the other end.
    #[must_use]
    pub fn remote_addr(&self) -> Option<&str> {
        self.socket.as_ref()?.channel.remote_addr.as_deref()
    }

    /// The value of the `confidence` column.
    #[must_use]
    pub fn confidence(&self) -> Option<&'static str> {
        self.confidence.map(Confidence::as_str)
    }
}

/// All channels of a recording.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    by_id: BTreeMap<u64, Arc<UsedChannel>>,
    /// Of a TLS connection: the socket that carries it.
    sockets: BTreeMap<u64, (u64, Confidence)>,
    /// Channels by the addresses of both their ends, their own first.
    by_addr: HashMap<(String, String), Ends>,
}

/// The channels that have the same addresses, by their numbers, the one that began first first.
#[derive(Clone, Debug, Default)]
struct Ends {
    all: Vec<u64>,
    /// Those from which the process may have read.
    readers: Vec<u64>,
    /// Those to which it may have written.
    writers: Vec<u64>,
}

/// Channels at one address that are looked at for the other end of one. Some share a pipe; who would
/// have to be told from more is not known.
const MAX_CANDIDATES: usize = 1024;

impl Channels {
    /// Takes in an event; kinds other than [`CHANNEL_KINDS`] are ignored.
    pub fn push(&mut self, event: &Event) {
        match &event.body {
            Body::ChannelOpen(channel) => {
                let used = UsedChannel {
                    process: event.process,
                    comm: event.comm.clone(),
                    channel: channel.clone(),
                    start_ts: event.ts,
                    end: None,
                };
                self.by_id.entry(channel.conn_id).or_insert_with(|| Arc::new(used));
            }
            Body::ChannelClose { conn_id, read_bytes, written_bytes } => {
                let totals =
                    Totals { ts: event.ts, read_bytes: *read_bytes, written_bytes: *written_bytes };
                if let Some(used) = self.by_id.get_mut(conn_id) {
                    Arc::make_mut(used).end.get_or_insert(totals);
                }
            }
            Body::TlsSocket(link) => self.link(link),
            _ => {}
        }
    }

    /// A certain answer beats a likely one, a later one an earlier one.
    fn link(&mut self, link: &TlsSocket) {
        let new = (link.socket_conn_id, link.confidence);
        let known = self.sockets.entry(link.conn_id).or_insert(new);
        if !(known.1 == Confidence::Certain && link.confidence == Confidence::Likely) {
            *known = new;
        }
    }

    /// Makes the index of addresses; nothing may be pushed afterwards.
    pub fn finish(&mut self) {
        let mut in_order: Vec<&Arc<UsedChannel>> = self.by_id.values().collect();
        in_order.sort_by_key(|used| (used.start_ts, used.channel.conn_id));
        for used in in_order.into_iter().filter(|used| used.channel.errno == 0) {
            let Channel { conn_id, local_addr: Some(local), remote_addr: Some(remote), .. } =
                &used.channel
            else {
                continue;
            };
            let ends = self.by_addr.entry((local.clone(), remote.clone())).or_default();
            ends.all.push(*conn_id);
            if used.may_move(Direction::Read) {
                ends.readers.push(*conn_id);
            }
            if used.may_move(Direction::Write) {
                ends.writers.push(*conn_id);
            }
        }
    }

    /// A channel by its number.
    #[must_use]
    pub fn get(&self, conn_id: u64) -> Option<&Arc<UsedChannel>> {
        self.by_id.get(&conn_id)
    }

    /// All channels, by their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<UsedChannel>> {
        self.by_id.values()
    }

    /// TLS connections and the sockets that carry them.
    pub(super) fn links(&self) -> impl Iterator<Item = TlsSocket> {
        self.sockets.iter().map(|(conn_id, (socket_conn_id, confidence))| TlsSocket {
            conn_id: *conn_id,
            socket_conn_id: *socket_conn_id,
            confidence: *confidence,
        })
    }

    /// The socket of a connection: the socket that it is, or the one that carries its TLS.
    #[must_use]
    pub fn peer(&self, conn_id: u64) -> Peer {
        if let Some(own) = self.by_id.get(&conn_id) {
            let socket = Some(Arc::clone(own));
            return Peer { socket, confidence: Some(Confidence::Certain) };
        }
        let Some((socket, confidence)) = self.sockets.get(&conn_id) else { return Peer::default() };
        match self.by_id.get(socket) {
            Some(socket) => {
                Peer { socket: Some(Arc::clone(socket)), confidence: Some(*confidence) }
            }
            None => Peer::default(),
        }
    }

    /// The channel of the process at the other end, where bytes that this one moved at `ts` came
    /// from or went to. `None` where that is not in the trace, or may be one of several processes.
    #[must_use]
    pub fn other_end(
        &self,
        of: &UsedChannel,
        direction: Direction,
        ts: WallNanos,
    ) -> Option<&Arc<UsedChannel>> {
        let ends = self.facing(of)?;
        let ids = match direction {
            Direction::Read => &ends.writers,
            Direction::Write => &ends.readers,
        };
        let in_time = |other: &UsedChannel| match direction {
            // What is read was written before, by a process that may have ended since.
            Direction::Read => other.start_ts <= ts,
            Direction::Write => other.end.is_none_or(|end| end.ts >= ts),
        };
        if ids.len() > MAX_CANDIDATES && direction == Direction::Write {
            return None;
        }
        let mut found: Option<&Arc<UsedChannel>> = None;
        for id in ids.iter().take(MAX_CANDIDATES).filter(|id| **id != of.channel.conn_id) {
            let Some(other) = self.by_id.get(id).filter(|other| in_time(other)) else { continue };
            if found.is_some_and(|found| found.process != other.process) {
                return None;
            }
            found = Some(other);
        }
        found
    }

    /// Of a connection between two observed processes: the other one's end, the one that began
    /// nearest in time, as ports are used again.
    #[must_use]
    pub fn other_socket(&self, of: &UsedChannel) -> Option<&Arc<UsedChannel>> {
        let ids = &self.facing(of)?.all;
        let after = ids.partition_point(|id| self.by_id[id].start_ts < of.start_ts);
        let nearest = &ids[after.saturating_sub(1)..(after + 1).min(ids.len())];
        let others = nearest.iter().filter_map(|id| self.by_id.get(id));
        others
            .filter(|other| other.channel.conn_id != of.channel.conn_id)
            .min_by_key(|other| other.start_ts.0.abs_diff(of.start_ts.0))
    }

    /// The channels whose addresses say that they are the other end of this one. Both ends of a pipe
    /// have the same.
    fn facing(&self, of: &UsedChannel) -> Option<&Ends> {
        let Channel { local_addr: Some(local), remote_addr: Some(remote), .. } = &of.channel else {
            return None;
        };
        self.by_addr.get(&(remote.clone(), local.clone()))
    }
}

/// Whether a socket was seen from its begin on.
pub(super) fn is_seen_from_begin(role: Role) -> bool {
    matches!(role, Role::Connect | Role::Accept)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::ChannelType;

    pub(crate) fn process(pid: u32) -> ProcessId {
        ProcessId { pid, start_ts: WallNanos(0) }
    }

    pub(crate) fn event(ts: i64, pid: u32, body: Body) -> Event {
        let process = Some(process(pid));
        Event { ts: WallNanos(ts), process, tid: None, comm: Some(format!("p{pid}")), body }
    }

    pub(crate) fn opened(
        (ts, pid, conn_id): (i64, u32, u64),
        fd: u32,
        (channel_type, role): (ChannelType, Role),
        (local, remote): (&str, &str),
    ) -> Event {
        let address = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let (local_addr, remote_addr) = (address(local), address(remote));
        let channel =
            Channel { conn_id, channel_type, role, fd, local_addr, remote_addr, errno: 0 };
        event(ts, pid, Body::ChannelOpen(channel))
    }

    pub(crate) fn pipe(ts: i64, pid: u32, conn_id: u64, fd: u32) -> Event {
        let kind = (ChannelType::Pipe, Role::Inherited);
        opened((ts, pid, conn_id), fd, kind, ("pipe:[5]", "pipe:[5]"))
    }

    pub(crate) fn closed(ts: i64, conn_id: u64, read_bytes: u64, written_bytes: u64) -> Event {
        event(ts, 0, Body::ChannelClose { conn_id, read_bytes, written_bytes })
    }

    pub(crate) fn channels(events: &[Event]) -> Channels {
        let mut channels = Channels::default();
        events.iter().for_each(|event| channels.push(event));
        channels.finish();
        channels
    }

    fn pid_at_other_end(
        channels: &Channels,
        conn_id: u64,
        direction: Direction,
        ts: i64,
    ) -> Option<u32> {
        let other = channels.other_end(channels.get(conn_id)?, direction, WallNanos(ts))?;
        other.process.map(|process| process.pid)
    }

    #[test]
    fn ends_of_a_pipe_have_one_address_and_their_descriptors_or_totals_tell_which() {
        let channels = channels(&[pipe(1, 10, 1, 1), pipe(2, 20, 2, 0), pipe(3, 20, 3, 9)]);
        assert_eq!(pid_at_other_end(&channels, 1, Direction::Write, 5), Some(20));
        assert_eq!(pid_at_other_end(&channels, 2, Direction::Read, 5), None);
        let closed = super::tests::channels(&[
            pipe(1, 10, 1, 1),
            pipe(2, 20, 2, 0),
            pipe(3, 30, 3, 9),
            closed(9, 3, 0, 0),
        ]);
        assert_eq!(pid_at_other_end(&closed, 2, Direction::Read, 5), Some(10));
    }

    #[test]
    fn of_several_processes_at_the_other_end_none_is_named() {
        let writers = [pipe(1, 10, 1, 1), pipe(4, 11, 2, 1), pipe(1, 20, 3, 0)];
        let channels = channels(&writers);
        assert_eq!(pid_at_other_end(&channels, 3, Direction::Read, 3), Some(10));
        assert_eq!(pid_at_other_end(&channels, 3, Direction::Read, 5), None);
    }

    #[test]
    fn ends_of_a_socket_pair_name_each_other() {
        let pair = (ChannelType::Unix, Role::Inherited);
        let channels = channels(&[
            opened((1, 10, 1), 20, pair, ("unix:[7]", "unix:[8]")),
            opened((2, 20, 2), 0, pair, ("unix:[8]", "unix:[7]")),
            opened((2, 30, 3), 0, pair, ("unix:[9]", "unix:[7]")),
        ]);
        assert_eq!(pid_at_other_end(&channels, 1, Direction::Write, 5), Some(20));
        assert_eq!(pid_at_other_end(&channels, 2, Direction::Read, 5), Some(10));
    }

    #[test]
    fn the_other_socket_is_the_one_of_that_time() {
        let addresses = ("127.0.0.1:4000", "127.0.0.1:80");
        let swapped = (addresses.1, addresses.0);
        let channels = channels(&[
            opened((100, 10, 1), 4, (ChannelType::Tcp, Role::Connect), addresses),
            opened((101, 20, 2), 5, (ChannelType::Tcp, Role::Accept), swapped),
            opened((900, 10, 3), 4, (ChannelType::Tcp, Role::Connect), addresses),
            opened((902, 20, 4), 5, (ChannelType::Tcp, Role::Accept), swapped),
        ]);
        let other = |conn_id| {
            channels.other_socket(channels.get(conn_id).unwrap()).map(|it| it.channel.conn_id)
        };
        assert_eq!([1, 2, 3, 4].map(other), [Some(2), Some(1), Some(4), Some(3)]);
    }

    #[test]
    fn a_certain_link_beats_a_likely_one_and_a_later_an_earlier() {
        use Confidence::{Certain, Likely};
        let tcp = (ChannelType::Tcp, Role::Connect);
        let link = |socket_conn_id, confidence| {
            event(5, 1, Body::TlsSocket(TlsSocket { conn_id: 9, socket_conn_id, confidence }))
        };
        let peer = |links: &[Event]| {
            let sockets = [
                opened((1, 1, 1), 4, tcp, ("", "192.0.2.1:443")),
                opened((1, 1, 2), 5, tcp, ("", "192.0.2.2:443")),
            ];
            let peer = channels(&[&sockets[..], links].concat()).peer(9);
            (peer.remote_addr().map(str::to_owned), peer.confidence())
        };
        let at = |n: u8, confidence| (Some(format!("192.0.2.{n}:443")), Some(confidence));
        assert_eq!(peer(&[link(1, Likely), link(2, Likely)]), at(2, "likely"));
        assert_eq!(peer(&[link(1, Certain), link(2, Likely)]), at(1, "certain"));
        assert_eq!(peer(&[link(1, Certain), link(2, Certain)]), at(2, "certain"));
        assert_eq!(peer(&[link(7, Certain)]), (None, None));
        assert_eq!(peer(&[]), (None, None));
    }
}
