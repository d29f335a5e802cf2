//! The examples of the RFC, wrong blocks, and what is known after a loss.

use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn lines(fields: &Fields) -> Vec<String> {
    fields.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

/// RFC 7541, C.4: three requests over one connection, with Huffman coding.
const REQUESTS: [(&str, &[&str]); 3] = [
    (
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
    ),
    (
        "8286 84be 5886 a8eb 1064 9cbf",
        &[
            ":method: GET",
            ":scheme: http",
            ":path: /",
            ":authority: www.example.com",
            "cache-control: no-cache",
        ],
    ),
    (
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        &[
            ":method: GET",
            ":scheme: https",
            ":path: /index.html",
            ":authority: www.example.com",
            "custom-key: custom-value",
        ],
    ),
];

#[test]
fn the_requests_of_the_rfc_are_read() {
    let mut decoder = Decoder::default();
    for (block, expected) in REQUESTS {
        let fields = decoder.decode(&hex(block));
        assert_eq!(lines(&fields), expected);
        assert_eq!((fields.unknown, fields.is_broken), (None, false));
    }
}

#[test]
fn a_block_may_evict_what_the_one_before_it_added() {
    // RFC 7541, C.5: responses, with a table of 256 bytes and without Huffman coding.
    let mut decoder = Decoder::default();
    let first = hex(
        "3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 \
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 \
         6f6d",
    );
    let expected = [
        ":status: 302",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ];
    assert_eq!(lines(&decoder.decode(&first)), expected);
    let second = decoder.decode(&hex("4803 3330 37c1 c0bf"));
    assert_eq!(lines(&second)[0], ":status: 307");
    assert_eq!(lines(&second)[1..], expected[1..]);
    let beyond = decoder.decode(&hex("c2"));
    assert!(beyond.is_broken, "the oldest entry was evicted");
}

#[test]
fn after_a_loss_the_newest_entries_are_known() {
    let mut decoder = Decoder::default();
    decoder.lose(PartialReason::JoinedLate);
    let second = decoder.decode(&hex(REQUESTS[1].0));
    assert_eq!(
        lines(&second),
        [":method: GET", ":scheme: http", ":path: /", "?: ", "cache-control: no-cache"]
    );
    assert_eq!((second.unknown, second.is_broken), (Some(PartialReason::JoinedLate), false));
    let third = decoder.decode(&hex("be"));
    assert_eq!((lines(&third), third.unknown), (vec!["cache-control: no-cache".to_owned()], None));
}

#[test]
fn a_value_is_known_where_the_name_is_not() {
    let mut decoder = Decoder::default();
    decoder.lose(PartialReason::Gap);
    // A name by index 70, to be added; then the entry added.
    let fields = decoder.decode(&hex("7f07 0461 6263 64 be"));
    assert_eq!(lines(&fields), ["?: abcd", "?: abcd"]);
    assert_eq!(fields.unknown, Some(PartialReason::Gap));
}

#[test]
fn what_breaks_the_coding_leaves_what_came_before() {
    for broken in ["80", "be", "0f", "0001", "4001 61", "40 ff ff ff ff ff ff", "3fff ffff ffff 0f"]
    {
        let mut decoder = Decoder::default();
        let fields = decoder.decode(&[hex("82"), hex(broken)].concat());
        assert_eq!(lines(&fields), [":method: GET"], "{broken}");
        assert!(fields.is_broken, "{broken}");
        let after = decoder.decode(&hex("be 84"));
        assert_eq!(lines(&after), ["?: ", ":path: /"], "{broken}");
        assert_eq!(after.unknown, Some(PartialReason::Malformed));
    }
}

#[test]
fn integers_are_read_as_in_the_rfc() {
    assert_eq!(integer(&mut &[0b0101_0101][..], 5), Some(21));
    assert_eq!(integer(&mut &[0b0001_1111, 0b1001_1010, 0b0000_1010][..], 5), Some(1337));
    assert_eq!(integer(&mut &[42][..], 8), Some(42));
    assert_eq!(integer(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..], 8), None);
}

#[test]
fn a_small_block_cannot_become_an_endless_head() {
    let mut decoder = Decoder::default();
    let long = [&[0x40, 1, b'n', 0x7f, 0x81, 0x1e][..], &[b'v'; 3968]].concat();
    assert!(!decoder.decode(&long).is_broken);
    let fields = decoder.decode(&[0xbe; 1000]);
    assert!(fields.is_broken);
    assert!(fields.headers.len() * 3969 <= MAX_TEXT_BYTES + 3969);
}

proptest! {
    #[test]
    fn any_bytes_have_an_outcome(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..5),
        is_late in any::<bool>(),
    ) {
        let mut decoder = Decoder::default();
        if is_late {
            decoder.lose(PartialReason::JoinedLate);
        }
        for block in blocks {
            let fields = decoder.decode(&block);
            prop_assert!(fields.headers.len() <= MAX_FIELDS + 1);
        }
    }
}
