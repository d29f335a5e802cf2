//! Events to a trace file.
