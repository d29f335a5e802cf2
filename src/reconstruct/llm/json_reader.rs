//! Reads a JSON object that comes in pieces and may be cut anywhere: chosen fields, and the elements
//! of chosen lists one by one.
//!
//! An agent's request carries the whole conversation; reading it into a tree would cost its size
//! several times over. This reader finds where values begin and end and hands them out as they stood,
//! each with its hash, so that what was seen before need not be parsed. It is no validator: what is
//! not an object gives nothing, what is malformed inside gives values that do not parse.

use memchr::memchr2;

/// Longest field name compared.
const MAX_NAME_BYTES: usize = 64;

/// Longest element held: more than the largest picture or file a provider takes. Of a longer one the
/// begin is handed out, with the hash and size of the whole.
pub(super) const MAX_ELEMENT_BYTES: usize = 16 << 20;

/// What is wanted of an object.
#[derive(Debug)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: &'static str,
    pub(super) take: Take,
}

/// How a field is wanted.
#[derive(Debug)]
pub(super) enum Take {
    /// As a value, up to this many bytes of it.
    Value(usize),
    /// As a list, element by element; what is no list is one element without position.
    Elements,
    /// As an object of which these fields are wanted.
    Inside(&'static [Field]),
}

/// A value that was read to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found<'a> {
    /// The field.
    pub(super) name: &'static str,
    /// How it is wanted: as an element or as a value.
    pub(super) is_element: bool,
    /// Position in the list that the field is.
    pub(super) item: Option<u32>,
    /// Its JSON, from the first byte on.
    pub(super) json: &'a [u8],
    /// Whether `json` is not all of it.
    pub(super) is_cut: bool,
    /// Size of all of it.
    pub(super) bytes: u64,
    /// BLAKE3 of all of it, for elements.
    pub(super) digest: [u8; 32],
}

/// Receives values.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Found<'_>);

/// Reads one object.
#[derive(Debug)]
pub(super) struct Reader {
    /// The fields wanted of the objects that are open, innermost last.
    open: Vec<&'static [Field]>,
    state: State,
    name: Vec<u8>,
    /// The list being read, and the position of the next element.
    list: Option<(&'static str, u32)>,
    wanted: Wanted,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the opening brace.
    Start,
    /// Before a field name, or after the last field.
    BeforeName,
    InName,
    BeforeColon,
    BeforeValue,
    /// In a list that is wanted, before an element or its end.
    BeforeElement,
    InValue,
    AfterValue,
    /// After the object.
    Ended,
    /// Not an object, or bytes are missing.
    Lost,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Nothing,
    Value { name: &'static str, max_bytes: usize },
    Element { name: &'static str, item: Option<u32> },
}

/// The value being read.
#[derive(Debug, Default)]
struct Value {
    /// Open brackets.
    depth: u32,
    in_string: bool,
    /// After a backslash in a string.
    escaped: bool,
    /// Neither string nor list nor object: ends where something else begins.
    is_bare: bool,
    /// What came before the bytes at hand, as far as it is held.
    held: Vec<u8>,
    /// Size of what came before the bytes at hand.
    bytes: u64,
    /// Over all that came, once it is more than is held.
    hash: Option<Box<blake3::Hasher>>,
}

impl Reader {
    pub(super) fn new(fields: &'static [Field]) -> Self {
        Self {
            open: vec![fields],
            state: State::Start,
            name: Vec::new(),
            list: None,
            wanted: Wanted::Nothing,
            value: Value::default(),
        }
    }

    /// Reads on.
    pub(super) fn push(&mut self, bytes: &[u8], sink: Sink<'_>) {
        let mut rest = bytes;
        while let [byte, after @ ..] = rest {
            match self.state {
                State::Ended | State::Lost => return,
                State::InValue => {
                    rest = self.value_bytes(rest, sink);
                    continue;
                }
                State::InName => self.name_byte(*byte),
                _ if byte.is_ascii_whitespace() => {}
                // A byte order mark may come first.
                State::Start if matches!(byte, 0xef | 0xbb | 0xbf) => {}
                State::BeforeValue | State::BeforeElement => {
                    if self.begin_value(*byte) {
                        continue;
                    }
                    self.state = self.between(*byte);
                }
                _ => self.state = self.between(*byte),
            }
            rest = after;
        }
    }

    /// Bytes are missing here: where in the text what follows lies cannot be known.
    pub(super) fn stop(&mut self) {
        if self.state != State::Ended {
            self.state = State::Lost;
        }
    }

    /// Whether the object was read to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.state == State::Ended
    }

    /// The state after a byte that is part of no value.
    fn between(&mut self, byte: u8) -> State {
        match (self.state, byte) {
            (State::Start, b'{') | (State::BeforeName, b',') => State::BeforeName,
            (State::BeforeName, b'"') => {
                self.name.clear();
                self.value.escaped = false;
                State::InName
            }
            (State::BeforeColon, b':') => State::BeforeValue,
            (State::BeforeValue, b'[' | b'{') | (State::BeforeElement, b',') => self.state_inside(),
            (State::BeforeElement, b']') => {
                self.list = None;
                State::AfterValue
            }
            (State::AfterValue, b',') if self.list.is_some() => State::BeforeElement,
            (State::AfterValue, b']') if self.list.take().is_some() => State::AfterValue,
            (State::AfterValue, b',') => State::BeforeName,
            (State::AfterValue | State::BeforeName, b'}') if self.list.is_none() => {
                self.open.pop();
                if !self.open.is_empty() {
                    return State::AfterValue;
                }
                self.value.held = Vec::new();
                State::Ended
            }
            _ => State::Lost,
        }
    }

    /// Where the bracket leads that opens what is wanted part by part.
    fn state_inside(&self) -> State {
        if self.list.is_some() { State::BeforeElement } else { State::BeforeName }
    }

    fn name_byte(&mut self, byte: u8) {
        match byte {
            b'"' if !self.value.escaped => self.state = State::BeforeColon,
            _ => {
                self.value.escaped = byte == b'\\' && !self.value.escaped;
                if self.name.len() <= MAX_NAME_BYTES {
                    self.name.push(byte);
                }
            }
        }
    }

    /// Begins the value whose first byte this is; not where it is an opening bracket to go through,
    /// or no value.
    fn begin_value(&mut self, first: u8) -> bool {
        self.wanted = Wanted::Nothing;
        if let Some((name, next)) = &mut self.list {
            if matches!(first, b']' | b',') {
                return false;
            }
            self.wanted = Wanted::Element { name, item: Some(*next) };
            *next = next.saturating_add(1);
        } else {
            let fields = self.open.last().copied().unwrap_or_default();
            match fields.iter().find(|field| field.name.as_bytes() == self.name) {
                None => {}
                Some(Field { name, take: Take::Value(max_bytes) }) => {
                    self.wanted = Wanted::Value { name, max_bytes: *max_bytes };
                }
                Some(Field { name, take: Take::Elements }) if first == b'[' => {
                    self.list = Some((name, 0));
                    return false;
                }
                Some(Field { name, take: Take::Elements }) => {
                    self.wanted = Wanted::Element { name, item: None };
                }
                Some(Field { take: Take::Inside(fields), .. }) if first == b'{' => {
                    self.open.push(fields);
                    return false;
                }
                Some(Field { take: Take::Inside(_), .. }) => {}
            }
        }
        let is_bare = !matches!(first, b'"' | b'[' | b'{');
        self.value.begin(is_bare);
        self.state = State::InValue;
        true
    }

    /// Reads value bytes up to what ends the value; gives what follows it.
    fn value_bytes<'a>(&mut self, bytes: &'a [u8], sink: Sink<'_>) -> &'a [u8] {
        let (length, has_ended) = self.value.scan(bytes);
        let (last, rest) = bytes.split_at(length);
        if !has_ended {
            match self.wanted {
                Wanted::Nothing => {}
                wanted => self.value.hold(last, wanted.max_bytes(), wanted.is_element()),
            }
            return rest;
        }
        self.state = State::AfterValue;
        let max_bytes = self.wanted.max_bytes();
        match self.wanted {
            Wanted::Nothing => {}
            Wanted::Value { name, .. } => {
                self.value.end(last, max_bytes, false, &mut |found| sink(Found { name, ..found }));
            }
            Wanted::Element { name, item } => {
                let take = &mut |found: Found<'_>| sink(Found { name, item, ..found });
                self.value.end(last, max_bytes, true, take);
            }
        }
        rest
    }
}

impl Wanted {
    fn is_element(self) -> bool {
        matches!(self, Self::Element { .. })
    }

    fn max_bytes(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Value { max_bytes, .. } => max_bytes,
            Self::Element { .. } => MAX_ELEMENT_BYTES,
        }
    }
}

impl Value {
    fn begin(&mut self, is_bare: bool) {
        (self.depth, self.in_string, self.escaped, self.is_bare) = (0, false, false, is_bare);
        (self.bytes, self.hash) = (0, None);
        self.held.clear();
        if self.held.capacity() > MAX_ELEMENT_BYTES / 4 {
            self.held = Vec::new();
        }
    }

    /// How many of these bytes are of the value, and whether it ends with them.
    fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_string {
                at += self.scan_string(&bytes[at..]);
                if !self.in_string && self.depth == 0 {
                    return (at, true);
                }
                continue;
            }
            let byte = bytes[at];
            if self.is_bare {
                if matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace() {
                    return (at, true);
                }
                at += 1;
                continue;
            }
            at += 1;
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return (at, true);
                    }
                }
                _ => {}
            }
        }
        (bytes.len(), false)
    }

    /// Reads bytes of a string up to and including its closing quote; gives how many.
    fn scan_string(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        if self.escaped {
            self.escaped = false;
            at = 1;
        }
        while let Some(found) = memchr2(b'"', b'\\', &bytes[at..]) {
            at += found + 1;
            if bytes[at - 1] == b'"' {
                self.in_string = false;
                return at;
            }
            if at == bytes.len() {
                self.escaped = true;
                return at;
            }
            at += 1;
        }
        bytes.len()
    }

    /// Keeps bytes for what follows them; an element longer than that is hashed as it comes.
    fn hold(&mut self, bytes: &[u8], max_bytes: usize, is_element: bool) {
        let room = max_bytes - self.held.len();
        if bytes.len() > room && is_element {
            let before = &self.held;
            let hash = self.hash.get_or_insert_with(|| {
                let mut hash = blake3::Hasher::new();
                hash.update(before);
                Box::new(hash)
            });
            hash.update(bytes);
        } else if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        self.bytes += bytes.len() as u64;
        self.held.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Hands out what was held and these last bytes.
    fn end(&mut self, last: &[u8], max_bytes: usize, is_element: bool, sink: Sink<'_>) {
        let is_short = self.bytes == 0 && last.len() <= max_bytes;
        if !is_short {
            self.hold(last, max_bytes, is_element);
        }
        let json = if is_short { last } else { &self.held };
        let bytes = if is_short { last.len() as u64 } else { self.bytes };
        let digest = match &self.hash {
            Some(hash) => hash.finalize().into(),
            None if is_element => blake3::hash(json).into(),
            None => [0; 32],
        };
        let is_cut = json.len() as u64 != bytes;
        sink(Found { name: "", is_element, item: None, json, is_cut, bytes, digest });
    }
}

#[cfg(test)]
mod tests;
