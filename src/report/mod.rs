//! A fixed reading of a trace.
