//! The plaintext streams of a trace against those of the server.

use std::collections::BTreeMap;
use std::path::Path;

use agentsight::event::{Body, Direction, Event, Probe, Source};
use agentsight::trace::Reader;
use sha2::{Digest, Sha256};

use super::support::mock::http::LAST_CHUNK;
use super::support::mock::truth::{Truth, hex};

/// What a trace holds of TLS.
pub struct Recorded {
    /// By connection.
    pub connections: BTreeMap<u64, Streams>,
    /// What was probed.
    pub probes: Vec<Probe>,
    losses: Vec<Event>,
}

/// Both directions of a connection, seen from the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// What the client sent.
    pub written: Vec<u8>,
    /// What it received.
    pub read: Vec<u8>,
    /// What the library was called; empty in what the server served.
    pub library: String,
}

impl Streams {
    /// Digests of both directions.
    fn digests(&self) -> (String, String) {
        (hex(&Sha256::digest(&self.written)), hex(&Sha256::digest(&self.read)))
    }

    /// Whether the server says the same. A client that knows from the last event that nothing will
    /// follow leaves without reading the last chunk, which then never passes its library.
    fn equals(&self, digests: &(String, String)) -> bool {
        let with_last_chunk = || Self { read: [&self.read, LAST_CHUNK].concat(), ..self.clone() };
        self.digests() == *digests || with_last_chunk().digests() == *digests
    }
}

impl Recorded {
    /// Reads a trace; every stream is checked to be without holes.
    #[track_caller]
    pub fn open(path: &Path) -> Self {
        let reader = Reader::open(path).unwrap();
        let events: Vec<Event> = reader.events(None).collect::<Result<_, _>>().unwrap();
        let mut recorded =
            Self { connections: BTreeMap::new(), probes: Vec::new(), losses: Vec::new() };
        let mut data = Vec::new();
        for event in events {
            match event.body {
                Body::Data(tls) if tls.source == Source::Tls => data.push(tls),
                Body::Probe(probe) => recorded.probes.push(probe),
                Body::Loss(_) => recorded.losses.push(event),
                _ => {}
            }
        }
        data.sort_by_key(|tls| (tls.conn_id, tls.direction, tls.stream_offset));
        for tls in data {
            let streams = recorded.connections.entry(tls.conn_id).or_default();
            streams.library = tls.library;
            let stream = match tls.direction {
                Direction::Write => &mut streams.written,
                Direction::Read => &mut streams.read,
            };
            assert_eq!((tls.stream_offset, tls.lost_bytes), (stream.len() as u64, 0), "a hole");
            stream.extend(tls.data);
        }
        recorded
    }

    /// Nothing was lost, and the connections recorded are those served, byte for byte.
    #[track_caller]
    pub fn assert_equals(&self, truth: &Truth) {
        assert!(self.losses.is_empty(), "lost: {:?}", self.losses);
        let mut left: Vec<&Streams> = self.connections.values().collect();
        let served = truth.connections.iter().filter(|c| c.received.bytes + c.sent.bytes > 0);
        let mut missing = Vec::new();
        for connection in served {
            let digests = (connection.received.sha256(), connection.sent.sha256());
            match left.iter().position(|streams| streams.equals(&digests)) {
                Some(at) => drop(left.swap_remove(at)),
                None => missing.push((connection.received.bytes, connection.sent.bytes)),
            }
        }
        if missing.is_empty() && left.is_empty() {
            return;
        }
        let size = |s: &&Streams| (s.library.clone(), s.written.len(), s.read.len());
        panic!(
            "served but not recorded (written, read): {missing:?}; recorded but not served: {:?}; \
             all recorded: {:?}; probes: {:#?}",
            left.iter().map(size).collect::<Vec<_>>(),
            self.connections.values().map(|s| size(&s)).collect::<Vec<_>>(),
            self.probes
        );
    }
}
