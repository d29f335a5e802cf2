//! What went through each connection: bytes by direction, what they are, and whom they name. Together
//! with the sockets ([`Channels`]) it makes the rows of `connections`. Sees every event with payload
//! and keeps a few numbers per connection, no payload.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::channel::{Channels, UsedChannel, is_seen_from_begin};
use super::chunk::{Chunk, call_count};
use super::connection::{ConnectionRow, HostSource, Link};
use crate::event::{Body, ChannelType, Direction, Event, ProcessId, Source, StreamData};
use crate::reconstruct::client_hello::ClientHello;
use crate::reconstruct::dns::{DnsData, DnsResponse};
use crate::reconstruct::finding::{Exchange, Perspective};
use crate::time::WallNanos;

/// The kinds of events that [`Traffic`] is made of.
pub const TRAFFIC_KINDS: &[&str] =
    &["tls_data", "tls_close", "socket_data", "tls_hello", "dns_data"];

/// The port of DNS (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// Answers that are looked at for the name of one address, the latest first.
const MAX_NAMES: usize = 64;

/// What went through the connections of a recording.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    flows: BTreeMap<u64, Flow>,
    /// Whether a connection may begin at any offset.
    is_midway: bool,
    /// Names that addresses were the answer for, in the order of the answers.
    names: HashMap<IpAddr, Vec<Named>>,
}

/// A name that an address was the answer for.
#[derive(Clone, Debug)]
struct Named {
    ts: WallNanos,
    process: Option<ProcessId>,
    name: Arc<str>,
}

/// What went through one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    pub(super) process: Option<ProcessId>,
    pub(super) comm: Option<String>,
    pub(super) library: String,
    pub(super) first_ts: WallNanos,
    pub(super) end_ts: Option<WallNanos>,
    pub(super) read: Moved,
    pub(super) written: Moved,
    /// Calls that moved plaintext.
    pub(super) calls: u64,
    is_tls_library: bool,
    is_http: bool,
    is_tls: bool,
    is_dns: bool,
    hello: Option<ClientHello>,
    /// The host that the first request names.
    host: Option<String>,
}

/// Plaintext of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    /// Where the first bytes seen begin.
    begin: Option<u64>,
    /// Position behind the last byte: all that was moved, captured or not.
    pub(super) bytes: u64,
    captured: u64,
}

impl Moved {
    fn push(&mut self, data: &StreamData) {
        self.begin.get_or_insert(data.stream_offset);
        self.bytes = self.bytes.max(data.stream_offset.saturating_add(data.data_bytes));
        let captured = data.data_bytes.saturating_sub(data.lost_bytes);
        self.captured = self.captured.saturating_add(captured);
    }

    /// Bytes that were moved and not captured, from the first byte of all on or the first seen.
    fn missing(&self, from_first_seen: bool) -> u64 {
        let before = if from_first_seen { self.begin.unwrap_or(0) } else { 0 };
        self.bytes.saturating_sub(before).saturating_sub(self.captured)
    }
}

impl Traffic {
    /// Looks at a trace that may begin in the middle of a recording: what lies before the first byte
    /// of a connection is then in another trace.
    #[must_use]
    pub fn new(is_midway: bool) -> Self {
        Self { is_midway, ..Self::default() }
    }

    /// Takes in an event; kinds other than [`TRAFFIC_KINDS`] are ignored.
    pub fn push(&mut self, event: &Event) {
        match &event.body {
            Body::Data(data) if data.source != Source::Stdio => {
                let flow = self.flows.entry(data.conn_id).or_insert_with(|| Flow {
                    process: event.process,
                    comm: event.comm.clone(),
                    first_ts: event.ts,
                    ..Flow::default()
                });
                flow.push(data);
                if data.source == Source::Dns {
                    self.answers(event);
                }
            }
            Body::TlsClose { conn_id } => {
                if let Some(flow) = self.flows.get_mut(conn_id) {
                    flow.end_ts.get_or_insert(event.ts);
                }
            }
            _ => {}
        }
    }

    /// Takes in an exchange for the host that it names.
    pub fn exchange(&mut self, exchange: &Exchange) {
        // What a server is asked for names itself.
        if exchange.perspective == Perspective::Server {
            return;
        }
        if let (Some(flow), Some(host)) = (self.flows.get_mut(&exchange.conn_id), &exchange.host) {
            flow.host.get_or_insert_with(|| without_port(host).to_owned());
        }
    }

    fn answers(&mut self, event: &Event) {
        for chunk in Chunk::split(event.clone()) {
            let Some(response) = DnsResponse::parse(chunk.data()) else { continue };
            let Some(question) = response.question else { continue };
            let name: Arc<str> = question.into();
            for answer in response.answers {
                let DnsData::Address(address) = answer.data else { continue };
                let named = Named { ts: chunk.ts, process: event.process, name: Arc::clone(&name) };
                self.names.entry(address).or_default().push(named);
            }
        }
    }

    /// The name that led to an address: of the last answer before `ts`, of those that the process
    /// got itself if there are any.
    fn name_of(
        &self,
        address: &str,
        ts: WallNanos,
        process: Option<ProcessId>,
    ) -> Option<Arc<str>> {
        let address: std::net::SocketAddr = address.parse().ok()?;
        let named = self.names.get(&address.ip())?;
        let before = &named[..named.partition_point(|named| named.ts <= ts)];
        let latest = || before.iter().rev().take(MAX_NAMES);
        let own = latest().find(|named| named.process == process);
        own.or_else(|| latest().next()).map(|named| Arc::clone(&named.name))
    }

    /// The rows of `connections`, by time. `ends` tells when a process ended.
    #[must_use]
    pub fn rows(
        &self,
        channels: &Channels,
        ends: impl Fn(ProcessId) -> Option<WallNanos>,
    ) -> Vec<ConnectionRow> {
        let links = self.links(channels);
        let linked: HashSet<u64> = channels.links().map(|link| link.conn_id).collect();
        let is_unlinked =
            |(conn_id, flow): &(&u64, &Flow)| flow.is_tls_library && !linked.contains(*conn_id);
        let unlinked: HashSet<Option<ProcessId>> =
            self.flows.iter().filter(is_unlinked).map(|(_, flow)| flow.process).collect();
        let end_of = |process: Option<ProcessId>| process.and_then(&ends);
        let mut rows = Vec::new();
        for socket in channels.iter().filter(|it| it.channel.channel_type != ChannelType::Pipe) {
            let flow = self.flows.get(&socket.channel.conn_id);
            let link = links.get(&socket.channel.conn_id).copied();
            let has_unlinked = unlinked.contains(&socket.process);
            let mut row = self.socket_row(socket, flow, link, has_unlinked);
            let other = channels.other_socket(socket);
            row.peer_conn_id = other.map(|other| other.channel.conn_id);
            row.end_ts = row.end_ts.or_else(|| end_of(socket.process));
            rows.push(row);
        }
        let primary: HashSet<u64> = links.values().map(|link| link.conn_id).collect();
        let rest = self.flows.iter().filter(|(conn_id, flow)| {
            // A TLS connection without a row, or a socket whose begin was lost.
            !primary.contains(*conn_id)
                && (flow.is_tls_library || channels.get(**conn_id).is_none())
        });
        for (conn_id, flow) in rest {
            let mut row = self.flow_row(*conn_id, flow, channels);
            row.end_ts = row.end_ts.or_else(|| end_of(flow.process));
            rows.push(row);
        }
        rows.sort_by_key(|row| (row.start_ts, row.conn_id));
        rows
    }

    /// Which TLS connection each socket carries: of several the one known best, then the first.
    fn links<'a>(&'a self, channels: &Channels) -> HashMap<u64, Link<'a>> {
        let mut links: HashMap<u64, Link<'a>> = HashMap::new();
        for link in channels.links() {
            let Some(flow) = self.flows.get(&link.conn_id) else { continue };
            if channels.get(link.socket_conn_id).is_none() {
                continue;
            }
            let new = Link { conn_id: link.conn_id, flow, confidence: link.confidence };
            let rank = |link: &Link<'_>| (link.confidence, link.flow.first_ts, link.conn_id);
            let known = links.entry(link.socket_conn_id).or_insert(new);
            if rank(&new) < rank(known) {
                *known = new;
            }
        }
        links
    }

    fn socket_row(
        &self,
        socket: &UsedChannel,
        flow: Option<&Flow>,
        link: Option<Link<'_>>,
        has_unlinked: bool,
    ) -> ConnectionRow {
        let channel = &socket.channel;
        let is_tls = link.is_some() || flow.is_some_and(|flow| flow.is_tls);
        let is_http = flow.is_some_and(|flow| flow.is_http);
        let is_dns = flow.is_some_and(|flow| flow.is_dns)
            || (channel.channel_type == ChannelType::Udp
                && channel.remote_addr.as_deref().and_then(port) == Some(DNS_PORT));
        let moved = socket.end.map(|end| (end.read_bytes, end.written_bytes));
        let protocol = match moved {
            _ if is_tls => Some("tls"),
            _ if is_http => Some("http"),
            _ if is_dns => Some("dns"),
            // What has gone through an open one is not known.
            None | Some((0, 0)) => None,
            Some(_) => Some("other"),
        };
        // Everything that goes through plain HTTP is recorded, so that its offsets count it too.
        let wire = moved.or_else(|| {
            let flow = flow.filter(|_| protocol == Some("http"))?;
            Some((flow.read.bytes, flow.written.bytes))
        });
        let mut row = ConnectionRow {
            conn_id: channel.conn_id,
            process: socket.process,
            comm: socket.comm.clone(),
            channel_type: Some(channel.channel_type),
            protocol,
            role: Some(channel.role),
            local_addr: channel.local_addr.clone(),
            remote_addr: channel.remote_addr.clone(),
            start_ts: socket.start_ts,
            end_ts: socket.end.map(|end| end.ts),
            wire,
            errno: Some(channel.errno),
            ..ConnectionRow::default()
        };
        row.take_tls(link, has_unlinked);
        row.missing_bytes = match (protocol, flow) {
            (Some("tls"), _) => {
                let gaps = link.map_or(0, |link| link.flow.missing(self.is_midway));
                row.missing_tls_bytes(link, gaps, has_unlinked)
            }
            (Some("http"), Some(flow)) => {
                Some(flow.missing(self.is_midway || !is_seen_from_begin(channel.role)))
            }
            _ => None,
        };
        row.is_whole = is_seen_from_begin(channel.role);
        row.alpn = flow.and_then(|flow| flow.hello.as_ref()).map_or(vec![], |it| it.alpn.clone());
        (row.host, row.host_source) = self.host(socket, flow, link).unzip();
        row
    }

    /// Who is at the other end, and how that is known.
    fn host(
        &self,
        socket: &UsedChannel,
        flow: Option<&Flow>,
        link: Option<Link<'_>>,
    ) -> Option<(String, HostSource)> {
        let hello = flow.and_then(|flow| flow.hello.as_ref());
        if let Some(name) = hello.and_then(|hello| hello.server_name.as_ref()) {
            return Some((name.clone(), HostSource::Sni));
        }
        let asked = link.and_then(|link| link.flow.host.as_ref());
        if let Some(name) = asked.or_else(|| flow.and_then(|flow| flow.host.as_ref())) {
            return Some((name.clone(), HostSource::HttpHost));
        }
        let address = socket.channel.remote_addr.as_deref()?;
        let name = self.name_of(address, socket.start_ts, socket.process)?;
        Some((name.to_string(), HostSource::Dns))
    }

    /// The row of a flow that has no row as a socket.
    fn flow_row(&self, conn_id: u64, flow: &Flow, channels: &Channels) -> ConnectionRow {
        let peer = channels.peer(conn_id);
        let socket = peer.socket.as_ref().map(|socket| &socket.channel);
        let protocol = match flow {
            Flow { is_tls_library: true, .. } | Flow { is_tls: true, .. } => "tls",
            Flow { is_http: true, .. } => "http",
            _ => "dns",
        };
        let missing = flow.missing(self.is_midway);
        ConnectionRow {
            conn_id,
            process: flow.process,
            comm: flow.comm.clone(),
            channel_type: socket.map(|channel| channel.channel_type),
            protocol: Some(protocol),
            role: socket.map(|channel| channel.role),
            local_addr: socket.and_then(|channel| channel.local_addr.clone()),
            remote_addr: socket.and_then(|channel| channel.remote_addr.clone()),
            host: flow.host.clone(),
            host_source: flow.host.as_ref().map(|_| HostSource::HttpHost),
            library: Some(flow.library.clone()).filter(|_| flow.is_tls_library),
            tls_conn_id: Some(conn_id).filter(|_| flow.is_tls_library),
            confidence: peer.confidence.filter(|_| socket.is_some()),
            start_ts: flow.first_ts,
            end_ts: flow.end_ts,
            plaintext: Some((flow.read.bytes, flow.written.bytes)).filter(|_| flow.is_tls_library),
            missing_bytes: Some(missing).filter(|_| flow.is_tls_library),
            ..ConnectionRow::default()
        }
    }
}

impl Flow {
    /// Plaintext that was moved and not captured.
    fn missing(&self, from_first_seen: bool) -> u64 {
        let [read, written] = [self.read, self.written].map(|it| it.missing(from_first_seen));
        read.saturating_add(written)
    }

    fn push(&mut self, data: &StreamData) {
        let moved = match data.direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.written,
        };
        match data.source {
            Source::Tls => {
                self.is_tls_library = true;
                self.library.clone_from(&data.library);
                self.calls = self.calls.saturating_add(call_count(data));
                moved.push(data);
            }
            Source::Socket => {
                self.is_http = true;
                moved.push(data);
            }
            Source::TlsHello => {
                self.is_tls = true;
                if self.hello.is_none() {
                    let hello = ClientHello::parse(&data.data);
                    let sent = data.direction == Direction::Write;
                    // A hello that was received names this end.
                    self.hello = hello.map(|hello| ClientHello {
                        server_name: hello.server_name.filter(|_| sent),
                        ..hello
                    });
                }
            }
            Source::Dns => self.is_dns = true,
            Source::Stdio => {}
        }
    }
}

/// The port of `address:port`.
fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok())
}

/// A host without the port that may follow it, and without the brackets of an IPv6 address.
fn without_port(authority: &str) -> &str {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Role;
    use crate::tables::channel::tests::{channels, closed, event, opened, process};

    fn data(ts: i64, pid: u32, source: Source, direction: Direction, data: &[u8]) -> Event {
        let data = StreamData {
            source,
            conn_id: if source == Source::Dns { 90 } else { 1 },
            direction,
            stream_offset: 0,
            data_bytes: data.len() as u64,
            lost_bytes: 0,
            data: data.to_vec(),
            library: String::new(),
            fd: None,
            call_ts: vec![],
            call_bytes: vec![],
        };
        event(ts, pid, Body::Data(data))
    }

    /// That the name `label` has the address 192.0.2.7.
    fn answer(ts: i64, pid: u32, label: &str) -> Event {
        let head = [0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        let name = [&[label.len() as u8], label.as_bytes(), &[0]].concat();
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7];
        let message = [&head[..], &name, &[0, 1, 0, 1], &record].concat();
        data(ts, pid, Source::Dns, Direction::Read, &message)
    }

    /// The row of connection 1 of process 10 to 192.0.2.7, made at 50.
    fn row(role: Role, traffic: &[Event]) -> ConnectionRow {
        let addresses = ("192.0.2.1:4000", "192.0.2.7:443");
        let channels = channels(&[
            opened((50, 10, 1), 4, (ChannelType::Tcp, role), addresses),
            closed(90, 1, 700, 70),
        ]);
        let mut all = Traffic::default();
        traffic.iter().for_each(|event| all.push(event));
        let rows = all.rows(&channels, |_| None);
        rows.into_iter().find(|row| row.conn_id == 1).unwrap()
    }

    fn host(role: Role, traffic: &[Event]) -> Option<(String, &'static str)> {
        let row = row(role, traffic);
        row.host.zip(row.host_source.map(HostSource::as_str))
    }

    #[test]
    fn an_address_has_the_name_that_was_answered_last_before_and_best_to_the_process_itself() {
        let named = |name: &str| Some((name.to_owned(), "dns"));
        let answers = [answer(10, 20, "a"), answer(20, 20, "b"), answer(60, 20, "late")];
        assert_eq!(host(Role::Connect, &answers), named("b"));
        let own = [&[answer(5, 10, "own")][..], &answers].concat();
        assert_eq!(host(Role::Connect, &own), named("own"));
        assert_eq!(host(Role::Connect, &[answer(60, 10, "late")]), None);
    }

    #[test]
    fn a_hello_names_the_other_end_only_where_it_was_sent() {
        let hello = crate::reconstruct::client_hello::made(
            &[crate::reconstruct::client_hello::made_server_name(b"host.test")],
            1 << 14,
        );
        let sent = data(51, 10, Source::TlsHello, Direction::Write, &hello);
        let named = Some(("host.test".to_owned(), "sni"));
        assert_eq!(host(Role::Connect, &[answer(10, 10, "a"), sent]), named);
        let received = data(51, 10, Source::TlsHello, Direction::Read, &hello);
        assert_eq!(host(Role::Accept, std::slice::from_ref(&received)), None);
        assert_eq!(row(Role::Accept, &[received]).protocol, Some("tls"));
    }

    #[test]
    fn what_is_spoken_follows_from_what_was_recorded_of_it() {
        assert_eq!(row(Role::Connect, &[]).protocol, Some("other"));
        let get = data(51, 10, Source::Socket, Direction::Write, b"GET / HTTP/1.1\r\n");
        let http = row(Role::Connect, &[get]);
        assert_eq!((http.protocol, http.wire), (Some("http"), Some((700, 70))));
        assert_eq!(http.process, Some(process(10)));
    }

    #[test]
    fn hosts_are_told_without_their_port() {
        for (authority, host) in [
            ("example.test", "example.test"),
            ("example.test:8080", "example.test"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("192.0.2.1:1", "192.0.2.1"),
            ("", ""),
        ] {
            assert_eq!(without_port(authority), host, "{authority}");
        }
        assert_eq!(port("[::1]:53"), Some(53));
        assert_eq!(port("/run/socket"), None);
    }
}
