//! Where every event passes on its way to the trace, and what the session learns from it.

use std::time::Instant;

use super::ledger::Observed;
use super::live::Live;
use super::probing::{Probing, Report};
use super::selfcheck::SelfCheck;
use super::sink::Sink;
use crate::capture::clock;
use crate::event::{Body, Event, ProcessId, Source};
use crate::time::{ClockAnchor, WallNanos};

/// The events' way to the trace.
pub struct Intake {
    /// The processes under observation.
    pub live: Live,
    /// What looks into their binaries.
    pub probing: Probing,
    /// The trace; absent until the output file is made.
    pub sink: Option<Sink>,
    /// Events and payload bytes lost so far.
    pub lost: (u64, u64),
    /// Whether any plaintext was seen.
    pub saw_plaintext: bool,
    /// Events made in user space, for the sum at the end.
    pub observed: Observed,
    /// What notices that plaintext is missing.
    pub self_check: SelfCheck,
    /// Events from before the sink.
    waiting: Vec<Event>,
    anchor: ClockAnchor,
}

impl Intake {
    /// Has taken nothing yet. `anchor` is the one that converts the kernel's times.
    #[must_use]
    pub fn new(probing: Probing, anchor: ClockAnchor) -> Self {
        Self {
            live: Live::default(),
            probing,
            sink: None,
            lost: (0, 0),
            saw_plaintext: false,
            observed: Observed::default(),
            self_check: SelfCheck::default(),
            waiting: Vec::new(),
            anchor,
        }
    }

    /// Takes one event of the kernel side.
    pub fn take(&mut self, event: Event) {
        self.live.observe(&event);
        self.self_check.observe(&event);
        match &event.body {
            Body::ProcessExec(image) | Body::ProcessSeen(image) => {
                if let Some(id) = event.process {
                    let comm = event.comm.as_deref().unwrap_or_default();
                    self.probing.look_into(id, comm, image, Instant::now());
                }
            }
            Body::Data(data) if data.source == Source::Tls => self.saw_plaintext = true,
            Body::Loss(loss) => {
                self.lost.0 += loss.lost_events;
                self.lost.1 += loss.lost_bytes;
            }
            _ => {}
        }
        match self.sink.as_mut() {
            Some(sink) => {
                self.waiting.drain(..).for_each(|event| sink.push(event));
                sink.push(event);
            }
            None => self.waiting.push(event),
        }
    }

    /// Now, on the clock of all events: it does not follow a step of the wall clock.
    #[must_use]
    pub fn now(&self) -> WallNanos {
        self.anchor.wall(clock::boot_now())
    }

    /// Takes something that is known in user space, as of now.
    pub fn take_now(&mut self, process: Option<ProcessId>, comm: Option<String>, body: Body) {
        let ts = self.now();
        self.take_own(Event { ts, process, tid: None, comm, body });
    }

    /// Takes an event that was made in user space.
    pub fn take_own(&mut self, event: Event) {
        self.observed.count(event.body.kind());
        self.take(event);
    }

    /// What came of looking into binaries so far.
    pub fn reports(&mut self, now: Instant) -> Vec<Report> {
        let live = &self.live;
        let alive = |id: ProcessId| live.get(id.pid).is_some_and(|known| known.id == id);
        self.probing.reports(now, alive)
    }
}
