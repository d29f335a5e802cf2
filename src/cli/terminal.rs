//! A writer that a terminal cannot be commanded through.

use std::io::{self, Write};

/// Passes text on and escapes control characters other than tab and line feed as `\xNN`: the
/// bytes 0x00-0x1f and 0x7f, and the C1 controls U+0080-U+009F in UTF-8.
#[derive(Debug)]
pub(super) struct TerminalSafe<W> {
    inner: W,
    /// Whether the last byte was 0xc2, which begins U+0080-U+00BF and is held back until the next.
    held_c2: bool,
}

impl<W: Write> TerminalSafe<W> {
    /// Wraps a writer to a terminal.
    pub(super) fn new(inner: W) -> Self {
        Self { inner, held_c2: false }
    }

    fn byte(&mut self, byte: u8) -> io::Result<()> {
        if std::mem::take(&mut self.held_c2) {
            if (0x80..=0x9f).contains(&byte) {
                return write!(self.inner, "\\x{byte:02x}");
            }
            self.inner.write_all(&[0xc2])?;
        }
        match byte {
            0xc2 => self.held_c2 = true,
            b'\t' | b'\n' => self.inner.write_all(&[byte])?,
            0x00..=0x1f | 0x7f => write!(self.inner, "\\x{byte:02x}")?,
            _ => self.inner.write_all(&[byte])?,
        }
        Ok(())
    }
}

impl<W: Write> Write for TerminalSafe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bytes.iter().try_for_each(|byte| self.byte(*byte))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = TerminalSafe::new(&mut out);
        pieces.iter().for_each(|piece| writer.write_all(piece).unwrap());
        out
    }

    #[test]
    fn commands_become_visible_and_text_stays() {
        assert_eq!(shown(&[b"a\x1b[2J,\t\x7f\r\n"]), b"a\\x1b[2J,\t\\x7f\\x0d\n");
        assert_eq!(shown(&["é§\u{9b}31m".as_bytes()]), "é§\\x9b31m".as_bytes());
    }

    #[test]
    fn a_character_may_be_split_over_writes() {
        assert_eq!(shown(&[b"\xc2", b"\x9b", b"\xc2", b"\xa7"]), "\\x9b§".as_bytes());
    }
}
