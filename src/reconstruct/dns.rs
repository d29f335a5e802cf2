//! Answers in DNS messages (RFC 1035 section 4.1): which addresses a name has.
//!
//! Feeds on one message as a resolver received it. Compressed names are followed only backwards, so
//! that no loop is possible; a message that is cut or contradicts itself gives the answers before that.

use core::net::{Ipv4Addr, Ipv6Addr};

/// What a response says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsResponse {
    /// The name that was asked for, as [`DnsAnswer::name`].
    pub question: Option<String>,
    /// What was asked for, such as `A`.
    pub question_type: Option<String>,
    /// Why there is no answer, such as `NXDOMAIN`; `None` where the server had no error.
    pub error: Option<String>,
    /// The answers in order.
    pub answers: Vec<DnsAnswer>,
}

/// One record of the answer section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// The name it is about: in lower case, labels joined by dots, without the last dot. Bytes that
    /// are no printable ASCII are written as `\DDD` (RFC 1035 section 5.1).
    pub name: String,
    /// `A`, `AAAA`, `CNAME`, ..., or `TYPE` and a number.
    pub record_type: String,
    /// How long it may be kept, in seconds.
    pub ttl_s: u32,
    /// What it says, where that is understood.
    pub data: DnsData,
}

/// The data of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsData {
    /// The address of the name.
    Address(core::net::IpAddr),
    /// Another name for it (`CNAME`), or the name of an address (`PTR`).
    Name(String),
    /// Something else.
    Other,
}

/// Longest message (RFC 1035 section 4.2: lengths have 16 bits).
const MAX_MESSAGE_BYTES: usize = 65_535;

/// Longest name on the wire (RFC 1035 section 2.3.4).
const MAX_NAME_BYTES: usize = 255;

/// Questions of a message that are passed over; there is never more than one.
const MAX_QUESTIONS: u16 = 16;

const HEADER_BYTES: usize = 12;

/// Types by their numbers (IANA, DNS parameters).
const TYPES: &[(u16, &str)] = &[
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (64, "SVCB"),
    (65, "HTTPS"),
];

/// Response codes by their numbers (RFC 1035 section 4.1.1).
const ERRORS: &[(u16, &str)] =
    &[(1, "FORMERR"), (2, "SERVFAIL"), (3, "NXDOMAIN"), (4, "NOTIMP"), (5, "REFUSED")];

impl DnsResponse {
    /// Reads a message; `None` if it is no response.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let message = &message[..message.len().min(MAX_MESSAGE_BYTES)];
        let mut at = Cursor { message, at: 2 };
        let flags = at.u16()?;
        let is_response = flags & 0x8000 != 0;
        let [questions, answers, _, _] = [at.u16()?, at.u16()?, at.u16()?, at.u16()?];
        debug_assert_eq!(at.at, HEADER_BYTES);
        if !is_response {
            return None;
        }
        let code = flags & 0xf;
        let mut found = Self { error: error(code), ..Self::default() };
        // What follows the header may be cut off.
        let _ = found.read(&mut at, questions, answers);
        Some(found)
    }

    fn read(&mut self, at: &mut Cursor<'_>, questions: u16, answers: u16) -> Option<()> {
        if questions > MAX_QUESTIONS {
            return None;
        }
        for _ in 0..questions {
            let name = at.name()?;
            let question_type = type_name(at.u16()?);
            at.u16()?;
            self.question.get_or_insert(name);
            self.question_type.get_or_insert(question_type);
        }
        // Each takes 11 bytes at least, so the message bounds how many there are.
        for _ in 0..answers {
            let name = at.name()?;
            let number = at.u16()?;
            at.u16()?;
            let ttl_s = u32::from(at.u16()?) << 16 | u32::from(at.u16()?);
            let length = usize::from(at.u16()?);
            let end = at.at.checked_add(length).filter(|end| *end <= at.message.len())?;
            let data = data(number, at, end);
            at.at = end;
            let record_type = type_name(number);
            self.answers.push(DnsAnswer { name, record_type, ttl_s, data });
        }
        Some(())
    }
}

/// The data of a record, which ends at `end`.
fn data(number: u16, at: &Cursor<'_>, end: usize) -> DnsData {
    let bytes = &at.message[at.at..end];
    let understood = match type_name(number).as_str() {
        "A" => {
            <[u8; 4]>::try_from(bytes).ok().map(|it| DnsData::Address(Ipv4Addr::from(it).into()))
        }
        "AAAA" => {
            <[u8; 16]>::try_from(bytes).ok().map(|it| DnsData::Address(Ipv6Addr::from(it).into()))
        }
        "CNAME" | "PTR" => Cursor { ..*at }.name().map(DnsData::Name),
        _ => None,
    };
    understood.unwrap_or(DnsData::Other)
}

fn type_name(number: u16) -> String {
    let known = TYPES.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("TYPE{number}"), |(_, name)| (*name).to_owned())
}

fn error(code: u16) -> Option<String> {
    let known = ERRORS.iter().find(|(known, _)| *known == code);
    match (code, known) {
        (0, _) => None,
        (_, Some((_, name))) => Some((*name).to_owned()),
        (code, None) => Some(format!("RCODE{code}")),
    }
}

/// A place in a message; every getter gives `None` at its end.
struct Cursor<'a> {
    message: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.message.get(self.at)?;
        self.at += 1;
        Some(*byte)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from(self.byte()?) << 8 | u16::from(self.byte()?))
    }

    /// A name, its compression undone (RFC 1035 section 4.1.4).
    fn name(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut wire_bytes = 1;
        let mut place = self.at;
        // Where the name goes on in the message, once it has gone elsewhere.
        let mut after = None;
        // A pointer must lead to before where this part began: each leads further back.
        let mut limit = self.at;
        loop {
            let length = usize::from(*self.message.get(place)?);
            match length >> 6 {
                0 if length == 0 => break,
                0 => {
                    wire_bytes += length + 1;
                    let label = self.message.get(place + 1..place + 1 + length)?;
                    if wire_bytes > MAX_NAME_BYTES {
                        return None;
                    }
                    push_label(&mut text, label);
                    place += 1 + length;
                }
                3 => {
                    let low = usize::from(*self.message.get(place + 1)?);
                    let target = (length & 0x3f) << 8 | low;
                    if target >= limit {
                        return None;
                    }
                    after.get_or_insert(place + 2);
                    (place, limit) = (target, target);
                }
                _ => return None,
            }
        }
        self.at = after.unwrap_or(place + 1);
        Some(text)
    }
}

fn push_label(text: &mut String, label: &[u8]) {
    if !text.is_empty() {
        text.push('.');
    }
    for byte in label {
        match byte {
            b'.' | b'\\' => text.extend(['\\', char::from(*byte)]),
            byte if byte.is_ascii_graphic() => text.push(char::from(byte.to_ascii_lowercase())),
            byte => text.push_str(&format!("\\{byte:03}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Vec<u8> {
        let label = |label: &str| [&[label.len() as u8][..], label.as_bytes()].concat();
        let labels = text.split('.').filter(|label| !label.is_empty());
        labels.flat_map(label).chain([0]).collect()
    }

    fn record(name: &[u8], number: u16, ttl_s: u32, data: &[u8]) -> Vec<u8> {
        [
            name,
            &number.to_be_bytes(),
            &[0, 1],
            &ttl_s.to_be_bytes(),
            &(data.len() as u16).to_be_bytes(),
            data,
        ]
        .concat()
    }

    fn message(flags: u16, question: &str, number: u16, answers: &[Vec<u8>]) -> Vec<u8> {
        let counts = [1, answers.len() as u16, 0, 0].map(u16::to_be_bytes).concat();
        let head = [&[0xab, 0xcd][..], &flags.to_be_bytes(), &counts].concat();
        let question = [&name(question)[..], &number.to_be_bytes(), &[0, 1]].concat();
        [head, question, answers.concat()].concat()
    }

    /// A response to a question at offset 12, with an alias and two addresses.
    fn response() -> Vec<u8> {
        let question: &[u8] = &[0xc0, 12];
        let alias = name("cdn.example.test");
        // The alias begins behind the question (12 + 22) and the head of its record (12).
        let compressed: &[u8] = &[0xc0, 12 + 22 + 12];
        message(
            0x8180,
            "Api.Example.test",
            1,
            &[
                record(question, 5, 300, &alias),
                record(compressed, 1, 60, &[192, 0, 2, 7]),
                record(
                    compressed,
                    28,
                    60,
                    &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                ),
            ],
        )
    }

    #[test]
    fn answers_are_read_with_their_names() {
        let found = DnsResponse::parse(&response()).unwrap();
        assert_eq!(found.question.as_deref(), Some("api.example.test"));
        assert_eq!((found.question_type.as_deref(), found.error), (Some("A"), None));
        let seen: Vec<_> = found
            .answers
            .iter()
            .map(|it| (it.name.as_str(), it.record_type.as_str(), it.ttl_s, it.data.clone()))
            .collect();
        let address = |text: &str| DnsData::Address(text.parse().unwrap());
        let alias = DnsData::Name("cdn.example.test".to_owned());
        assert_eq!(
            seen,
            [
                ("api.example.test", "CNAME", 300, alias),
                ("cdn.example.test", "A", 60, address("192.0.2.7")),
                ("cdn.example.test", "AAAA", 60, address("2001:db8::1")),
            ]
        );
    }

    #[test]
    fn a_failed_lookup_says_why() {
        let found = DnsResponse::parse(&message(0x8183, "no.example.test", 28, &[])).unwrap();
        assert_eq!(found.error.as_deref(), Some("NXDOMAIN"));
        assert_eq!(found.question_type.as_deref(), Some("AAAA"));
        let odd = DnsResponse::parse(&message(0x818b, "x", 999, &[])).unwrap();
        assert_eq!(
            (odd.error.as_deref(), odd.question_type.as_deref()),
            (Some("RCODE11"), Some("TYPE999"))
        );
    }

    #[test]
    fn questions_and_rubbish_are_none() {
        assert_eq!(DnsResponse::parse(&message(0x0100, "a.test", 1, &[])), None);
        assert_eq!(DnsResponse::parse(b"short"), None);
    }

    #[test]
    fn pointers_that_lead_forwards_or_to_themselves_end_the_message() {
        for pointer in [[0xc0, 24], [0xc0, 30], [0xff, 0xff]] {
            let looping = message(0x8180, "example", 1, &[record(&pointer, 1, 1, &[1, 2, 3, 4])]);
            assert!(DnsResponse::parse(&looping).unwrap().answers.len() <= 1);
        }
        // Two pointers at each other.
        let mut bytes = message(0x8180, "", 1, &[]);
        bytes.truncate(HEADER_BYTES);
        bytes.extend([0xc0, 14, 0xc0, 12]);
        assert_eq!(DnsResponse::parse(&bytes).unwrap().question, None);
    }

    #[test]
    fn odd_bytes_of_names_are_escaped() {
        let mut bytes = message(0x8180, "", 1, &[]);
        bytes.truncate(HEADER_BYTES);
        bytes.extend([&[5, b'a', b'.', b'\\', 0x1b, 0xff, 0][..], &[0, 1, 0, 1]].concat());
        let found = DnsResponse::parse(&bytes).unwrap();
        assert_eq!(found.question.as_deref(), Some(r"a\.\\\027\255"));
    }

    #[test]
    fn names_longer_than_any_are_refused() {
        let long = vec!["a".repeat(63); 5].join(".");
        assert_eq!(DnsResponse::parse(&message(0x8180, &long, 1, &[])).unwrap().question, None);
    }

    proptest! {
        #[test]
        fn a_message_cut_short_gives_a_prefix_of_its_answers(end in any::<prop::sample::Index>()) {
            let whole = response();
            let all = DnsResponse::parse(&whole).unwrap().answers;
            let cut = DnsResponse::parse(&whole[..end.index(whole.len())]);
            let answers = cut.map(|found| found.answers).unwrap_or_default();
            prop_assert_eq!(&answers[..], &all[..answers.len()]);
        }

        #[test]
        fn changed_messages_hold(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let mut bytes = response();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(found) = DnsResponse::parse(&bytes) {
                let names = found.answers.iter().map(|it| &it.name).chain(&found.question);
                for name in names {
                    // Every byte of a name is escaped to four characters at most.
                    prop_assert!(name.len() <= 4 * MAX_NAME_BYTES);
                    prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic()));
                }
            }
        }

        #[test]
        fn any_bytes_hold(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = DnsResponse::parse(&bytes);
            let _ = DnsResponse::parse(&[&[0, 0, 0x81, 0x80, 0, 1, 0xff, 0xff, 0, 0, 0, 0][..], &bytes].concat());
        }
    }
}
