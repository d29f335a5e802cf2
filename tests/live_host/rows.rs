//! A finished trace, row by row.

use std::path::Path;

use agentsight::event::{Body, Direction, Event, Image, Source};
use agentsight::trace::{Completeness, Reader};

/// All rows of a trace in the order of the recording.
pub struct Rows {
    /// The rows.
    pub events: Vec<Event>,
}

impl Rows {
    /// Reads a trace that was finished.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let reader = Reader::open(path).unwrap();
        assert_eq!(*reader.completeness(), Completeness::Complete);
        Self { events: reader.events(None).collect::<Result<_, _>>().unwrap() }
    }

    /// Fails where anything was lost.
    #[track_caller]
    pub fn nothing_lost(&self) {
        let lost: Vec<_> =
            self.events.iter().filter(|event| matches!(event.body, Body::Loss(_))).collect();
        assert!(lost.is_empty(), "{lost:#?}");
    }

    /// Bytes of a class of events that were lost without a row of their own.
    pub fn lost_bytes(&self, class: &str) -> u64 {
        let losses = self.events.iter().filter_map(|event| match &event.body {
            Body::Loss(loss) if loss.event_class == class => Some(loss.lost_bytes),
            _ => None,
        });
        losses.sum()
    }

    /// Bytes of plaintext that the rows of one direction account for, and how many of them are not
    /// there.
    pub fn moved(&self, direction: Direction) -> (u64, u64) {
        let data = self.events.iter().filter_map(|event| match &event.body {
            Body::Data(data) if data.source == Source::Tls && data.direction == direction => {
                Some(data)
            }
            _ => None,
        });
        data.fold((0, 0), |(all, lost), data| (all + data.data_bytes, lost + data.lost_bytes))
    }

    /// Programs that were started, with the pid of their process.
    pub fn images(&self) -> impl Iterator<Item = (u32, &Image)> {
        self.events.iter().filter_map(|event| match &event.body {
            Body::ProcessExec(image) => Some((event.process?.pid, image)),
            _ => None,
        })
    }
}
