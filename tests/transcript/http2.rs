//! `h2` lines of transcripts: frames of HTTP/2, with a small HPACK encoder.

use super::bytes::unescape;

/// The encoder of one direction: fields sent with `h2+`, newest first.
#[derive(Default)]
pub(super) struct Encoder {
    table: Vec<(String, String)>,
}

/// Of the static table what transcripts use; its index, name and value.
const FIXED: [(u64, &str, &str); 15] = [
    (2, ":method", "GET"),
    (3, ":method", "POST"),
    (4, ":path", "/"),
    (7, ":scheme", "https"),
    (8, ":status", "200"),
    (9, ":status", "204"),
    (13, ":status", "404"),
    (1, ":authority", ""),
    (2, ":method", ""),
    (4, ":path", ""),
    (8, ":status", ""),
    (26, "content-encoding", ""),
    (28, "content-length", ""),
    (31, "content-type", ""),
    (58, "user-agent", ""),
];

/// Whether a line is a field of the frame before it.
pub(super) fn is_field(line: &str) -> bool {
    line.starts_with("h2+ ") || line.starts_with("h2= ")
}

impl Encoder {
    /// A frame: its type, stream and flags, its content, and the lines of its fields.
    pub(super) fn frame(&mut self, words: &str, content: &[u8], fields: &[&str]) -> Vec<u8> {
        let mut words = words.split(' ');
        let kind = words.next().unwrap();
        if kind == "preface" {
            return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        }
        let (mut numbers, mut flags, mut more, mut padding) = (Vec::new(), 0, 0, None);
        let (mut is_open, mut priority) = (false, false);
        for word in words {
            match word {
                "end" | "ack" => flags |= 0x1,
                "open" => is_open = true,
                "priority" => priority = true,
                _ if word.starts_with("more") => more = word[4..].parse().unwrap(),
                _ if word.starts_with("pad") => padding = Some(word[3..].parse::<u8>().unwrap()),
                _ => numbers.push(word.parse::<u32>().unwrap()),
            }
        }
        let number = |at: usize| numbers.get(at).copied().unwrap_or_default();
        let mut payload = content.to_vec();
        for line in fields {
            payload.extend(self.field(line));
        }
        let (code, stream_id) = match kind {
            "data" => (0, number(0)),
            "headers" => (1, number(0)),
            "priority" => (2, number(0)),
            "rst" => (3, number(0)),
            "settings" => (4, 0),
            "push" => (5, number(0)),
            "ping" => (6, 0),
            "goaway" => (7, 0),
            "window" => (8, number(0)),
            "continuation" => (9, number(0)),
            "unknown" => (0xfa, number(0)),
            _ => panic!("unknown frame: {kind}"),
        };
        match kind {
            "priority" => payload = vec![0, 0, 0, 0, 16],
            "rst" => payload = number(1).to_be_bytes().to_vec(),
            "push" => payload = [&number(1).to_be_bytes()[..], &payload].concat(),
            "ping" => payload = vec![0; 8],
            "goaway" => payload = [number(0).to_be_bytes(), [0; 4]].concat(),
            "window" => payload = vec![0, 0, 16, 0],
            "headers" if priority => {
                flags |= 0x20;
                payload = [&[0, 0, 0, 0, 16][..], &payload].concat();
            }
            _ => {}
        }
        if matches!(kind, "headers" | "push" | "continuation") && !is_open {
            flags |= 0x4;
        }
        if let Some(padding) = padding {
            flags |= 0x8;
            payload = [&[padding][..], &payload, &vec![0; usize::from(padding)]].concat();
        }
        let length = (payload.len() as u32 + more).to_be_bytes();
        let mut out = length[1..].to_vec();
        out.extend([code, flags]);
        out.extend(stream_id.to_be_bytes());
        out.extend(payload);
        out
    }

    /// `h2+ NAME: VALUE` is added to the table, `h2= NAME: VALUE` is not.
    fn field(&mut self, line: &str) -> Vec<u8> {
        let is_indexed = line.starts_with("h2+");
        let at = line[4..].find(": ").map_or(line.len(), |at| at + 4);
        let (name, value) = (&line[4..at], line.get(at + 2..).unwrap_or(""));
        let value = String::from_utf8(unescape(value)).unwrap();
        let exact = self.index(|key, held| key == name && held == value && !held.is_empty());
        if let Some(index) = exact.filter(|_| is_indexed) {
            return integer(0x80, 7, index);
        }
        let of_name = self.index(|key, _| key == name);
        let (first, prefix_bits) = if is_indexed { (0x40, 6) } else { (0, 4) };
        let mut out = integer(first, prefix_bits, of_name.unwrap_or(0));
        if of_name.is_none() {
            out.extend(text(name));
        }
        out.extend(text(&value));
        if is_indexed {
            self.table.insert(0, (name.to_owned(), value));
        }
        out
    }

    fn index(&self, fits: impl Fn(&str, &str) -> bool) -> Option<u64> {
        let fixed = FIXED.iter().find(|(_, name, value)| fits(name, value)).map(|it| it.0);
        let added = || self.table.iter().position(|(name, value)| fits(name, value));
        fixed.or_else(|| added().map(|at| at as u64 + 62))
    }
}

fn integer(first: u8, prefix_bits: u32, value: u64) -> Vec<u8> {
    let mask = (1 << prefix_bits) - 1;
    if value < mask {
        return vec![first | value as u8];
    }
    let (mut out, mut left) = (vec![first | mask as u8], value - mask);
    while left >= 128 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
    out
}

fn text(text: &str) -> Vec<u8> {
    [integer(0, 7, text.len() as u64), text.as_bytes().to_vec()].concat()
}
