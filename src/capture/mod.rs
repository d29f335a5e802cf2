//! A live host to events.
