//! A live host to a trace file: the recording session.

pub mod launch;
pub mod output;
pub mod owner;
pub mod search;
pub mod signals;
