//! The functions that can be probed, by how they are called and what tells how much they moved.

use crate::capture::tls_library::RustlsPlace;

/// A function that can be probed, by its calling convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFunction {
    /// `int f(conn, data, size)` returns bytes received, as `SSL_read`.
    Read,
    /// `int f(conn, data, size, size_t *done)` returns 1 on success, as `SSL_read_ex` and OpenSSL's
    /// `ssl_read_internal`.
    ReadEx,
    /// `int f(conn, data, size)` returns bytes sent, as `SSL_write`.
    Write,
    /// `int f(conn, data, size, size_t *done)` returns 1 on success, as `SSL_write_ex` and the
    /// `ssl_write_internal` of OpenSSL before 3.3.
    WriteEx,
    /// `int f(conn, data, size, flags, size_t *done)` returns 1 on success, as `SSL_write_ex2` and
    /// the `ssl_write_internal` of OpenSSL 3.3 and later.
    WriteEx2,
    /// `void f(conn)` ends the connection, as `SSL_free`.
    Free,
    /// `ssize_t f(conn, …)` returns bytes received that are in no buffer whose place is known.
    ReadUnseen,
    /// `ssize_t f(conn, …)` returns bytes sent that the process never had, as `SSL_sendfile`.
    WriteUnseen,
    /// Entry of Go's `func (c *Conn) Read(b []byte) (int, error)`; its returns are
    /// [`Self::GoReturn`].
    GoRead,
    /// Entry of Go's `func (c *Conn) Write(b []byte) (int, error)`.
    GoWrite,
    /// An instruction at which one of these returns.
    GoReturn,
    /// Entry of Go's `func (c *Conn) Close() error`.
    GoClose,
    /// An instruction of rustls that has received data at this place.
    RustlsRead(RustlsPlace),
    /// A function of rustls that is given data at this place and returns the bytes it took.
    RustlsWrite(RustlsPlace),
}

impl TlsFunction {
    /// Whether something is recorded, or given up, when it returns.
    pub(super) fn has_return(self) -> bool {
        match self {
            Self::Free | Self::RustlsRead(_) => false,
            // Go's stacks bear no return probe.
            Self::GoRead | Self::GoWrite | Self::GoReturn | Self::GoClose => false,
            _ => true,
        }
    }

    /// What the programs of rustls have to know of the instruction, as `bpf/rustls.bpf.c` reads it
    /// above the library's tag.
    pub(super) fn place_bits(self) -> u64 {
        let (Self::RustlsRead(place) | Self::RustlsWrite(place)) = self else { return 0 };
        let offset = place.payload_offset.cast_unsigned();
        let encrypter = place.encrypter_offset.unwrap_or(u16::MAX);
        u64::from(place.connection & 0xf) << 8
            | u64::from(place.payload & 0xf) << 12
            | u64::from(offset) << 16
            | u64::from(encrypter) << 32
    }
}
