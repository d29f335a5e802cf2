//! Findings to SQL tables.
