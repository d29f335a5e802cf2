//! Hand-made records: whole, cut at every length, and made of noise.

use super::*;
