//! What a TLS client says in clear at the start of a connection: which host it wants (SNI, RFC 6066
//! section 3) and which protocols it speaks (ALPN, RFC 7301 section 3.1).
//!
//! Feeds on the first bytes of a connection as they are on the wire. They are cut where the recorder
//! stopped copying, so a message that ends early is read as far as it goes; one that contradicts
//! itself says nothing from there on. Nothing is kept that a host name or protocol name may not hold.

/// What a ClientHello tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host asked for, in lower case. With encrypted hellos (ECH) that is the provider's public
    /// name.
    pub server_name: Option<String>,
    /// The protocols offered, in the client's order of preference.
    pub alpn: Vec<String>,
}

/// TLS record content type "handshake" (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// Handshake type "client_hello" (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;

const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;

/// Name type "host_name", the only one there is.
const HOST_NAME: u8 = 0;

/// Longest handshake message that is looked at. Real ones stay below a tenth of it.
const MAX_HELLO_BYTES: usize = 1 << 14;

/// Longest host name (RFC 1035 section 2.3.4).
const MAX_HOST_BYTES: usize = 255;

/// Protocol names kept. Clients offer two or three.
const MAX_PROTOCOLS: usize = 16;

impl ClientHello {
    /// Reads the first bytes that a client sent; `None` if they begin no ClientHello.
    #[must_use]
    pub fn parse(wire: &[u8]) -> Option<Self> {
        let message = handshake(wire);
        let mut message = Input(&message);
        if message.byte()? != CLIENT_HELLO {
            return None;
        }
        let length = usize::from(message.byte()?) << 16 | usize::from(message.u16()?);
        let mut hello = Input(message.up_to(length));
        let mut found = Self::default();
        // From here on it is a hello; where it is cut, the rest is not known.
        let _ = found.read(&mut hello);
        Some(found)
    }

    /// Reads the fields of a ClientHello (RFC 8446 section 4.1.2); `None` where they end too early.
    fn read(&mut self, hello: &mut Input<'_>) -> Option<()> {
        const VERSION_AND_RANDOM_BYTES: usize = 34;
        hello.take(VERSION_AND_RANDOM_BYTES)?;
        let session_bytes = hello.byte()?;
        hello.take(session_bytes.into())?;
        let suites_bytes = hello.u16()?;
        hello.take(suites_bytes.into())?;
        let compression_bytes = hello.byte()?;
        hello.take(compression_bytes.into())?;
        let extensions_bytes = hello.u16()?;
        let mut extensions = Input(hello.up_to(extensions_bytes.into()));
        loop {
            let extension = extensions.u16()?;
            let length = extensions.u16()?;
            // One that is cut is not used: half a name is another name.
            let mut content = Input(extensions.take(length.into())?);
            match extension {
                EXTENSION_SERVER_NAME if self.server_name.is_none() => {
                    self.server_name = server_name(&mut content);
                }
                EXTENSION_ALPN if self.alpn.is_empty() => self.alpn = protocols(&mut content),
                _ => {}
            }
        }
    }
}

/// The handshake message at the begin of a connection, put together from its records, as far as it
/// was captured; empty if there is none.
fn handshake(wire: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut records = Input(wire);
    while message.len() < MAX_HELLO_BYTES {
        let (Some(HANDSHAKE), Some(3), Some(_)) = (records.byte(), records.byte(), records.byte())
        else {
            break;
        };
        let Some(length) = records.u16() else { break };
        let fragment = records.up_to(length.into());
        // RFC 8446 section 5.1: handshake fragments are never empty.
        if fragment.is_empty() {
            break;
        }
        message.extend_from_slice(fragment);
    }
    message.truncate(MAX_HELLO_BYTES);
    message
}

/// The host name of a server_name extension.
fn server_name(extension: &mut Input<'_>) -> Option<String> {
    let list_bytes = extension.u16()?;
    let mut list = Input(extension.take(list_bytes.into())?);
    loop {
        let name_type = list.byte()?;
        let length = list.u16()?;
        let name = list.take(length.into())?;
        if name_type == HOST_NAME {
            let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
            let is_name = (1..=MAX_HOST_BYTES).contains(&name.len()) && name.iter().all(is_allowed);
            return is_name.then(|| String::from_utf8_lossy(name).to_ascii_lowercase());
        }
    }
}

/// The protocol names of an ALPN extension, those left out that are no text (RFC 8701: GREASE).
fn protocols(extension: &mut Input<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut read = || -> Option<()> {
        let list_bytes = extension.u16()?;
        let mut list = Input(extension.take(list_bytes.into())?);
        while found.len() < MAX_PROTOCOLS {
            let length = list.byte()?;
            let name = list.take(length.into())?;
            if !name.is_empty() && name.iter().all(u8::is_ascii_graphic) && !name.contains(&b',') {
                found.push(String::from_utf8_lossy(name).into_owned());
            }
        }
        None
    };
    let _ = read();
    found
}

/// Bytes still to be read; every getter gives `None` at their end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from(self.byte()?) << 8 | u16::from(self.byte()?))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next `length` bytes, fewer if there are fewer.
    fn up_to(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Makes the records of a ClientHello with these extensions, no record longer than `record_bytes`.
#[cfg(any(test, fuzzing))]
pub(crate) fn made(extensions: &[(u16, Vec<u8>)], record_bytes: usize) -> Vec<u8> {
    let long = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("made-up messages are small");
        [&length.to_be_bytes(), bytes].concat()
    };
    let extension =
        |(kind, content): &(u16, Vec<u8>)| [&kind.to_be_bytes()[..], &long(content)].concat();
    let extensions: Vec<u8> = extensions.iter().flat_map(extension).collect();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[2, 9, 9],
        &long(&[0x13, 0x01, 0x13, 0x02]),
        &[1, 0],
        &long(&extensions),
    ]
    .concat();
    let message = [&[CLIENT_HELLO, 0][..], &long(&body)].concat();
    let record = |part: &[u8]| [&[HANDSHAKE, 3, 1][..], &long(part)].concat();
    message.chunks(record_bytes).flat_map(record).collect()
}

/// The content of a server_name extension.
#[cfg(any(test, fuzzing))]
pub(crate) fn made_server_name(name: &[u8]) -> (u16, Vec<u8>) {
    let length = |extra: usize| {
        u16::try_from(name.len() + extra).expect("made-up names are short").to_be_bytes()
    };
    (EXTENSION_SERVER_NAME, [&length(3)[..], &[HOST_NAME], &length(0), name].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alpn(names: &[&[u8]]) -> (u16, Vec<u8>) {
        let list: Vec<u8> =
            names.iter().flat_map(|name| [&[name.len() as u8][..], name].concat()).collect();
        (EXTENSION_ALPN, [&(list.len() as u16).to_be_bytes()[..], &list].concat())
    }

    fn hello(host: &str, record_bytes: usize) -> Vec<u8> {
        let grease: &[u8] = &[0x0a, 0x0a];
        let extensions = [
            (43, vec![2, 3, 4]),
            made_server_name(host.as_bytes()),
            alpn(&[grease, b"h2", b"http/1.1"]),
        ];
        made(&extensions, record_bytes)
    }

    #[test]
    fn host_and_protocols_are_found_in_one_record_and_in_many() {
        for record_bytes in [1, 7, 1 << 14] {
            let found = ClientHello::parse(&hello("API.Example.test", record_bytes)).unwrap();
            assert_eq!(found.server_name.as_deref(), Some("api.example.test"));
            assert_eq!(found.alpn, ["h2", "http/1.1"]);
        }
    }

    #[test]
    fn a_hello_that_is_cut_tells_what_comes_before_the_cut() {
        let whole = hello("api.example.test", 1 << 14);
        let known: Vec<bool> = (0..=whole.len())
            .map(|end| ClientHello::parse(&whole[..end]))
            .map(|hello| hello.is_some_and(|hello| hello.server_name.is_some()))
            .collect();
        let first = known.iter().position(|known| *known).unwrap();
        assert!(known[first..].iter().all(|known| *known));
        let partial = ClientHello::parse(&whole[..first]).unwrap();
        assert_eq!(
            (partial.server_name.as_deref(), partial.alpn.len()),
            (Some("api.example.test"), 0)
        );
    }

    #[test]
    fn what_is_no_client_hello_is_none() {
        let server_hello = [&[HANDSHAKE, 3, 3, 0, 5][..], &[2, 0, 0, 1, 0]].concat();
        for bytes in [&b""[..], b"GET / HTTP/1.1", &[23, 3, 3, 0, 1, 1], &server_hello] {
            assert_eq!(ClientHello::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn names_that_are_none_are_left_out() {
        for name in [&b""[..], b"a b", b"\x1b[31m", "ä.example".as_bytes(), &[b'a'; 256]] {
            let found = ClientHello::parse(&made(&[made_server_name(name)], 1 << 14)).unwrap();
            assert_eq!(found, ClientHello::default(), "{name:?}");
        }
    }

    #[test]
    fn lists_that_lie_about_their_length_end_there() {
        let lying = (EXTENSION_SERVER_NAME, vec![0xff, 0xff, HOST_NAME, 0, 1, b'a']);
        let found = ClientHello::parse(&made(&[lying, alpn(&[b"h2"])], 1 << 14)).unwrap();
        assert_eq!((found.server_name, found.alpn), (None, vec!["h2".to_owned()]));
    }

    proptest! {
        #[test]
        fn any_host_comes_back(host in "[a-z0-9_-]{1,20}(\\.[a-z0-9-]{1,20}){0,4}", cut in 1_usize..300) {
            let found = ClientHello::parse(&hello(&host, cut)).unwrap();
            prop_assert_eq!(found.server_name, Some(host));
        }

        #[test]
        fn changed_hellos_hold(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            end in any::<prop::sample::Index>(),
        ) {
            let mut bytes = hello("api.example.test", 90);
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let end = end.index(bytes.len());
            if let Some(found) = ClientHello::parse(&bytes[..end]) {
                prop_assert!(found.server_name.is_none_or(|name| name.is_ascii()));
                prop_assert!(found.alpn.len() <= MAX_PROTOCOLS);
            }
        }

        #[test]
        fn any_bytes_hold(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = ClientHello::parse(&bytes);
            let _ = ClientHello::parse(&[&[HANDSHAKE, 3, 1, 1, 0, CLIENT_HELLO, 0, 0, 255][..], &bytes].concat());
        }
    }
}
