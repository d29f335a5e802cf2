//! Content codings: whole, in pieces, flushed, broken, unpacking to too much.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;

const MAX: u64 = 1 << 20;

fn body(codings: &[&str]) -> Body {
    let codings: Vec<_> = codings.iter().map(|coding| (*coding).to_owned()).collect();
    Body::new(&codings, true, MAX)
}

/// What each piece decoded to.
fn decode(body: &mut Body, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let decode_piece = |piece: &&[u8]| {
        let mut out = Vec::new();
        body.push(piece, &mut |bytes| out.extend_from_slice(bytes));
        out
    };
    pieces.iter().map(decode_piece).collect()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new()
        .filename("name")
        .comment("comment")
        .extra(vec![1, 2, 3])
        .write(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn encoded(coding: &str, data: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => gzip(data),
        "deflate" => zlib(data),
        "zstd" => zstd::encode_all(data, 0).unwrap(),
        _ => data.to_vec(),
    }
}

/// Made with another implementation: `data: one`, flushed, `data: two`, flushed, end.
const BROTLI_FLUSHED: [&[u8]; 3] = [
    b"\x0b\x05\x80data: one\n\n",
    b"\x50\x00\x80\x5f\x5a\xe1\x8d\xee\x4e\x11\xa2\x4a\x04\x60\x0b",
    b"\x03",
];

#[test]
fn what_was_flushed_comes_out_when_it_arrives() {
    let mut brotli = body(&["br"]);
    let expected: [&[u8]; 3] = [b"data: one\n\n", b"data: two\n\n", b""];
    assert_eq!(decode(&mut brotli, &BROTLI_FLUSHED), expected);
    assert!(brotli.is_decoded());

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 0).unwrap();
    let (mut gzip_body, mut zstd_body) = (body(&["gzip"]), body(&["zstd"]));
    for event in [&b"data: one\n\n"[..], b"data: two\n\n"] {
        gzip.write_all(event).unwrap();
        gzip.flush().unwrap();
        let flushed = std::mem::take(gzip.get_mut());
        assert_eq!(decode(&mut gzip_body, &[&flushed]), [event]);
        zstd.write_all(event).unwrap();
        zstd.flush().unwrap();
        let flushed = std::mem::take(zstd.get_mut());
        assert_eq!(decode(&mut zstd_body, &[&flushed]), [event]);
    }
}

#[test]
fn codings_are_undone_in_reverse_order() {
    let wire = encoded("zstd", &gzip(b"text"));
    let mut chain = body(&["gzip", "identity", "zstd"]);
    assert_eq!(decode(&mut chain, &[&wire]).concat(), b"text");
    assert!(chain.is_decoded());
    assert_eq!((chain.wire_bytes(), chain.decoded_bytes()), (wire.len() as u64, 4));
    assert_eq!(chain.take_kept().as_deref(), Some(&b"text"[..]));
}

#[test]
fn what_cannot_be_decoded_is_handed_on_as_it_is() {
    for codings in [&["gzip"][..], &["br"], &["zstd"], &["compress"], &["gzip"; 9]] {
        let mut wrong = body(codings);
        assert_eq!(
            decode(&mut wrong, &[b"pl", b"ain \xff\xff text"]).concat(),
            b"plain \xff\xff text"
        );
        assert!(!wrong.is_decoded(), "{codings:?}");
        assert_eq!(wrong.decoded_bytes(), wrong.wire_bytes());
    }
}

#[test]
fn a_wrong_checksum_and_a_missing_end_are_noticed() {
    let mut wire = gzip(b"some text");
    let mut cut = body(&["gzip"]);
    decode(&mut cut, &[&wire[..wire.len() - 1]]);
    assert!(!cut.is_decoded());
    let at = wire.len() - 5;
    wire[at] ^= 1;
    let mut wrong = body(&["gzip"]);
    assert_eq!(decode(&mut wrong, &[&wire]).concat(), b"some text");
    assert!(!wrong.is_decoded());
}

#[test]
fn a_body_without_bytes_is_decoded_whatever_its_coding() {
    assert!(body(&["gzip"]).is_decoded());
    assert!(body(&["compress"]).is_decoded());
}

#[test]
fn unpacking_stops_at_the_limit_in_every_stage() {
    let zeros = vec![0; 8 << 20];
    for coding in ["gzip", "deflate", "zstd"] {
        let mut bomb = body(&[coding]);
        assert!(decode(&mut bomb, &[&encoded(coding, &zeros)]).concat().len() as u64 <= MAX);
        assert!(!bomb.is_decoded(), "{coding}");
        assert_eq!(bomb.decoded_bytes(), MAX);
        let mut nested = body(&["gzip", coding]);
        decode(&mut nested, &[&encoded(coding, &zeros)]);
        assert!(!nested.is_decoded(), "{coding}");
    }
}

#[test]
fn plain_content_is_read_to_its_end_and_kept_up_to_the_limit() {
    let mut plain = body(&[]);
    let long = vec![b'x'; MAX as usize];
    assert_eq!(decode(&mut plain, &[&long, &long]).concat().len() as u64, 2 * MAX);
    assert_eq!(plain.decoded_bytes(), 2 * MAX);
    assert_eq!(plain.take_kept().map(|kept| kept.len() as u64), Some(MAX));
    assert!(plain.is_decoded());
}

#[test]
fn an_end_on_the_border_of_an_output_step_is_an_end() {
    for length in [16 << 10, 32 << 10] {
        for coding in ["gzip", "deflate", "zstd"] {
            let mut exact = body(&[coding]);
            let wire = encoded(coding, &vec![b'x'; length]);
            assert_eq!(decode(&mut exact, &[&wire, b""]).concat().len(), length);
            assert!(exact.is_decoded(), "{coding} {length}");
        }
    }
}

#[test]
fn a_window_larger_than_the_coding_allows_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 0).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(b"text").unwrap();
    let mut large = body(&["zstd"]);
    decode(&mut large, &[&encoder.finish().unwrap()]);
    assert!(!large.is_decoded());
}

#[test]
fn a_broken_block_takes_nothing_of_the_block_before_it() {
    let block = |data: &[u8]| {
        // RFC 8878, 3.1.1.2: not the last, raw, size.
        [&((data.len() as u32) << 3).to_le_bytes()[..3], data].concat()
    };
    // Magic number, a frame header that says a window of 1 KiB, then a block of the reserved type.
    let head = b"\x28\xb5\x2f\xfd\x00\x00";
    let wire = [&head[..], &block(b"data: one\n\n"), b"\x07\x00\x00"].concat();
    let single: Vec<_> = wire.chunks(1).collect();
    for pieces in [&[&wire[..]][..], &single, &[&wire[..17], &wire[17..]]] {
        let mut broken = body(&["zstd"]);
        assert_eq!(decode(&mut broken, pieces).concat(), b"data: one\n\n");
        assert!(!broken.is_decoded());
    }
}

#[test]
fn frames_and_members_may_follow_each_other() {
    for coding in ["gzip", "zstd"] {
        let wire = [encoded(coding, b"one "), encoded(coding, b""), encoded(coding, b"two")];
        let mut several = body(&[coding]);
        assert_eq!(decode(&mut several, &[&wire.concat()]).concat(), b"one two", "{coding}");
        assert!(several.is_decoded());
    }
    // RFC 8878, 3.1.2: a frame to be skipped.
    let skipped = [b"\x50\x2a\x4d\x18\x02\0\0\0??".to_vec(), encoded("zstd", b"text")].concat();
    let mut after_skipped = body(&["zstd"]);
    assert_eq!(decode(&mut after_skipped, &[&skipped]).concat(), b"text");
    assert!(after_skipped.is_decoded());
}

proptest! {
    #[test]
    fn cutting_changes_nothing(
        data in prop::collection::vec(0_u8..4, 0..4000),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        for coding in ["gzip", "deflate", "zstd"] {
            let mut wire = encoded(coding, &data);
            if let Some((at, value)) = damage {
                let at = at.index(wire.len());
                wire[at] = value;
            }
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect();
            let (mut whole, mut cut) = (body(&[coding]), body(&[coding]));
            let expected = decode(&mut whole, &[&wire]).concat();
            prop_assert_eq!(decode(&mut cut, &pieces).concat(), expected, "{}", coding);
            prop_assert_eq!(cut.is_decoded(), whole.is_decoded(), "{}", coding);
        }
    }

    #[test]
    fn any_bytes_have_an_outcome(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for coding in ["gzip", "deflate", "br", "zstd"] {
            decode(&mut body(&[coding]), &[&bytes]);
            let header = [&b"\x1f\x8b\x08\x1e\0\0\0\0\0\0"[..], &bytes].concat();
            decode(&mut body(&[coding, "gzip"]), &[&header]);
        }
    }
}
