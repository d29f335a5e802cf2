//! Merges the two rings into one sequence in time order.
//!
//! Each ring is in order by itself. A pass reads the control ring first and the payload ring after
//! it, so payload may be newer than the control records of the same pass: what is newer than the
//! pass's start is held back until the next one. That way data never comes before the exec of the
//! program that moved it, nor after its exit. What remains is the time a program takes from reading
//! the clock to reserving its record, microseconds unless it is preempted in between: then the
//! record comes late by a pass. Held memory is bounded by one pass.

use std::collections::VecDeque;

use crate::time::BootNanos;

/// Holds payload that is too new to be handed out.
#[derive(Debug)]
pub struct Merger<T> {
    held: VecDeque<(BootNanos, T)>,
}

impl<T> Default for Merger<T> {
    fn default() -> Self {
        Self { held: VecDeque::new() }
    }
}

impl<T> Merger<T> {
    /// Takes what one pass read and returns what is due, oldest first. All `control` is due; of
    /// the payload, what is not newer than `pass_start`, the time read before the pass began.
    pub fn merge(
        &mut self,
        control: Vec<(BootNanos, T)>,
        payload: Vec<(BootNanos, T)>,
        pass_start: BootNanos,
    ) -> Vec<T> {
        self.held.extend(payload);
        // Records of different CPUs may lie a little out of order: hold from the first new one on.
        let due = self.held.iter().take_while(|(at, _)| *at <= pass_start).count();
        let mut merged = control;
        merged.extend(self.held.drain(..due));
        // Stable: records of one instant, such as the parts of one call, keep their order.
        merged.sort_by_key(|(at, _)| *at);
        merged.into_iter().map(|(_, item)| item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<T>(ns: u64, item: T) -> (BootNanos, T) {
        (BootNanos(ns), item)
    }

    #[test]
    fn rings_are_merged_by_time() {
        let merged = Merger::default().merge(
            vec![at(1, "exec"), at(5, "exit")],
            vec![at(2, "write"), at(4, "read")],
            BootNanos(9),
        );
        assert_eq!(merged, ["exec", "write", "read", "exit"]);
    }

    #[test]
    fn payload_newer_than_the_pass_waits_for_the_control_ring_to_be_read_again() {
        let mut merger = Merger::default();
        let first = merger.merge(vec![], vec![at(8, "data"), at(11, "late data")], BootNanos(10));
        assert_eq!(first, ["data"]);
        let second = merger.merge(vec![at(10, "exec")], vec![], BootNanos(20));
        assert_eq!(second, ["exec", "late data"]);
    }

    #[test]
    fn parts_of_one_instant_keep_their_order() {
        let merged =
            Merger::default().merge(vec![], vec![at(3, 'a'), at(3, 'b'), at(3, 'c')], BootNanos(3));
        assert_eq!(merged, ['a', 'b', 'c']);
    }
}
