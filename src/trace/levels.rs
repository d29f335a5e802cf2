//! Whether a page of a list column has the repetition levels that it says it has.
//!
//! Where there are fewer, the Parquet library loops for ever when it skips rows. This project's own
//! readings never skip; a query engine does, so that its lists are looked at first. Levels are runs
//! of the hybrid of run-length encoding and bit packing (Parquet format, "Run Length Encoding /
//! Bit-Packing Hybrid"), one bit wide, because no list of a trace is in another.

use parquet::basic::Encoding;
use parquet::column::page::Page;

/// Values of a bit-packed run come in groups of this many, a byte each at one bit.
const PACKED_GROUP: u64 = 8;

/// Says what is wrong with the repetition levels of a page; dictionaries have none.
pub(super) fn fault(page: &Page) -> Option<String> {
    let (levels, expected) = match page {
        Page::DictionaryPage { .. } => return None,
        Page::DataPageV2 { buf, num_values, rep_levels_byte_len, .. } => {
            (buf.get(..*rep_levels_byte_len as usize), u64::from(*num_values))
        }
        Page::DataPage { buf, num_values, rep_level_encoding: Encoding::RLE, .. } => {
            let length = buf.first_chunk().map(|length| u32::from_le_bytes(*length));
            let levels = length.and_then(|length| buf.get(4..)?.get(..length as usize));
            (levels, u64::from(*num_values))
        }
        Page::DataPage { rep_level_encoding, .. } => {
            return Some(format!("expected levels in encoding RLE, found {rep_level_encoding}"));
        }
    };
    let found = levels.map_or(0, count);
    (found < expected).then(|| format!("expected {expected} repetition levels, found {found}"))
}

/// How many levels the runs hold, as far as there are bytes for them.
fn count(mut bytes: &[u8]) -> u64 {
    let mut levels = 0_u64;
    while let Some(header) = varint(&mut bytes) {
        let length = header >> 1;
        // The library takes this for padding.
        if header == 0 {
            break;
        }
        let run = if header & 1 == 1 {
            let groups = length.min(bytes.len() as u64);
            bytes = &bytes[groups as usize..];
            groups * PACKED_GROUP
        } else {
            let Some(rest) = bytes.get(1..) else { break };
            bytes = rest;
            length
        };
        levels = levels.saturating_add(run);
    }
    levels
}

/// An unsigned LEB128 number of up to 32 bits, which is as much as the library keeps of one.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).ok().map(u64::from);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(num_values: u32, levels: &[u8]) -> Page {
        let mut buf = u32::try_from(levels.len()).unwrap().to_le_bytes().to_vec();
        buf.extend_from_slice(levels);
        Page::DataPage {
            buf: buf.into(),
            num_values,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        }
    }

    #[test]
    fn runs_of_both_sorts_are_counted() {
        // 300 zeros (300 << 1 as two bytes), then two groups of eight packed bits.
        let levels = [0xd8, 0x04, 0, 0b101, 0xff, 0x01];
        assert_eq!(count(&levels), 316);
        assert_eq!(fault(&page(316, &levels)), None);
        assert_eq!(
            fault(&page(317, &levels)).as_deref(),
            Some("expected 317 repetition levels, found 316")
        );
    }

    #[test]
    fn claims_beyond_the_bytes_count_for_nothing() {
        assert_eq!(count(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2]), 16);
        assert_eq!(count(&[0xff; 12]), 0);
        assert_eq!(count(&[0x08]), 0);
        assert_eq!(count(&[0, 0x08, 0]), 0);
        let mut cut = page(1, &[2, 0]);
        if let Page::DataPage { buf, .. } = &mut cut {
            *buf = buf.slice(..5);
        }
        assert!(fault(&cut).is_some());
    }
}
