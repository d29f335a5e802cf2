//! What the binaries share: exit codes, error printing.
