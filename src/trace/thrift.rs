//! A walk over Thrift's compact protocol that costs no more than the bytes it passes.
//!
//! The Parquet library parses footers and page headers itself, trusting them: a list may claim two
//! thousand million values of no bytes, and a page header may claim any size. This walk looks at the
//! same bytes first. It is stricter than the library and never laxer, so that what it accepts cannot
//! mean something else to the library.

/// What a struct, list or value is not: the bytes break the protocol, or are of a form that Parquet
/// files have no use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// The bytes end within a value.
    #[error("expected more bytes")]
    Short,
    /// The bytes are something else than expected.
    #[error("expected a Thrift value, found something else")]
    Wrong,
}

type Result<T> = std::result::Result<T, Malformed>;

/// Types of the compact protocol that are named here.
pub(crate) const TRUE: u8 = 1;
pub(crate) const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
pub(crate) const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
pub(crate) const STRUCT: u8 = 12;

/// Structs and lists within each other; a footer has about eight levels.
const MAX_DEPTH: u32 = 32;

/// Bytes still to walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not walked yet.
    pub(crate) fn rest_bytes(&self) -> usize {
        self.rest.len()
    }

    /// Walks over a struct and tells `field` the number and type of each field, which must then walk
    /// over its value, by [`Walk::skip`] if by nothing else.
    pub(crate) fn fields(
        &mut self,
        mut field: impl FnMut(&mut Self, i16, u8) -> Result<()>,
    ) -> Result<()> {
        let mut number = 0_i16;
        loop {
            let [head] = self.take()?;
            if head & 0x0F == 0 {
                return Ok(());
            }
            number = match head >> 4 {
                0 => i16::try_from(self.zigzag()?).map_err(|_| Malformed::Wrong)?,
                step => number.checked_add(i16::from(step)).ok_or(Malformed::Wrong)?,
            };
            field(self, number, head & 0x0F)?;
        }
    }

    /// The value of a field that must be a 32-bit integer.
    pub(crate) fn i32(&mut self, found: u8) -> Result<i32> {
        if found != I32 {
            return Err(Malformed::Wrong);
        }
        i32::try_from(self.zigzag()?).map_err(|_| Malformed::Wrong)
    }

    /// Walks over a value of this type.
    pub(crate) fn skip(&mut self, found: u8) -> Result<()> {
        self.skip_within(found, MAX_DEPTH)
    }

    fn skip_within(&mut self, found: u8, depth: u32) -> Result<()> {
        let depth = depth.checked_sub(1).ok_or(Malformed::Wrong)?;
        match found {
            TRUE | FALSE => Ok(()),
            BYTE => self.skip_bytes(1),
            I16 | I32 | I64 => self.unsigned().map(drop),
            DOUBLE => self.skip_bytes(8),
            BINARY => {
                let length = self.unsigned()?;
                self.skip_bytes(usize::try_from(length).map_err(|_| Malformed::Short)?)
            }
            LIST => self.skip_list(depth),
            STRUCT => self.fields(|walk, _, found| walk.skip_within(found, depth)),
            // Parquet has no sets, maps and UUIDs.
            _ => Err(Malformed::Wrong),
        }
    }

    fn skip_list(&mut self, depth: u32) -> Result<()> {
        let [head] = self.take()?;
        let element = head & 0x0F;
        let count = match head >> 4 {
            15 => self.unsigned()?,
            count => u64::from(count),
        };
        // The library passes over a list of booleans without taking their bytes, and Parquet has
        // them only in page indexes.
        if count > 0 && matches!(element, TRUE | FALSE) {
            return Err(Malformed::Wrong);
        }
        // Every value takes at least a byte.
        if count > self.rest.len() as u64 {
            return Err(Malformed::Short);
        }
        (0..count).try_for_each(|_| self.skip_within(element, depth))
    }

    fn zigzag(&mut self) -> Result<i64> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn unsigned(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Wrong)
    }

    fn skip_bytes(&mut self, length: usize) -> Result<()> {
        self.rest = self.rest.get(length..).ok_or(Malformed::Short)?;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// Checks that `bytes` are one struct and nothing else, that none of its lists claims more values
/// than there are bytes, and that it is not nested without bound.
pub(crate) fn check_struct(bytes: &[u8]) -> Result<()> {
    let mut walk = Walk::new(bytes);
    walk.skip(STRUCT)?;
    if walk.rest.is_empty() { Ok(()) } else { Err(Malformed::Wrong) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_of_every_type_are_walked_over() {
        // 1: i32 -1, 2: binary "ab", 3: list of two i64, 4: struct {}, 5: double, 6: true, then a
        // field with its whole number, 300: byte.
        let bytes = [
            &[0x15, 0x01, 0x18, 0x02, b'a', b'b', 0x19, 0x26, 0x80, 0x01, 0x02, 0x1C, 0x00][..],
            &[0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0x11, 0x03, 0xD8, 0x04, 0x07, 0x00],
        ]
        .concat();
        let mut seen = Vec::new();
        let mut first = None;
        let walked = Walk::new(&bytes).fields(|walk, number, found| {
            seen.push((number, found));
            if number == 1 {
                first = Some(walk.i32(found)?);
                return Ok(());
            }
            walk.skip(found)
        });
        assert_eq!(walked, Ok(()));
        assert_eq!(first, Some(-1));
        assert_eq!(seen.len(), 7);
        assert_eq!(seen[6], (300, BYTE));
        assert_eq!(check_struct(&bytes), Ok(()));
        assert_eq!(check_struct(&[&bytes[..], &[0]].concat()), Err(Malformed::Wrong));
        for end in 0..bytes.len() {
            assert_eq!(check_struct(&bytes[..end]), Err(Malformed::Short), "cut at {end}");
        }
    }

    #[test]
    fn what_would_take_longer_than_its_bytes_is_refused() {
        // A list of 2^31 - 1 booleans, and one of as many empty structs, in six bytes.
        for element in [TRUE, FALSE, STRUCT] {
            let bytes = [0x19, 0xF0 | element, 0xFF, 0xFF, 0xFF, 0xFF, 0x07, 0x00];
            assert!(check_struct(&bytes).is_err(), "element type {element}");
        }
        let nested = [0x1C; 10_000];
        assert_eq!(check_struct(&nested), Err(Malformed::Wrong));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check_struct(&bytes);
        }
    }
}
