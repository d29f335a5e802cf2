//! The trace file: its schema, writer and reader.
