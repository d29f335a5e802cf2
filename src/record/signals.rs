//! Signals as values to be asked for, so that the recording loop alone decides what they mean.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

/// A request to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSignal {
    /// Its number.
    pub signal: i32,
    /// Whether it came from the terminal (Ctrl-C), which sends it to every process in the
    /// foreground, the recorded command included.
    pub from_terminal: bool,
}

impl StopSignal {
    /// Its name, for the `stop_reason` of the trace.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.signal {
            SIGINT => "SIGINT",
            SIGTERM => "SIGTERM",
            SIGHUP => "SIGHUP",
            SIGQUIT => "SIGQUIT",
            _ => "signal",
        }
    }
}

/// What a signal asks of the recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To end.
    Stop(StopSignal),
    /// To take a snapshot and go on.
    Snapshot,
}

/// The requests that have arrived.
pub struct Requests(SignalsInfo<WithOrigin>);

impl Requests {
    /// From now on these signals no longer kill the recorder.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn install() -> io::Result<Self> {
        SignalsInfo::<WithOrigin>::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1]).map(Self)
    }

    /// Those that arrived since the last call.
    pub fn arrived(&mut self) -> impl Iterator<Item = Request> {
        self.0.pending().map(|origin| match origin.signal {
            SIGUSR1 => Request::Snapshot,
            signal => Request::Stop(StopSignal {
                signal,
                from_terminal: matches!(origin.cause, Cause::Kernel),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_sent_by_a_process_is_not_taken_for_the_terminals() {
        let mut signals = Requests::install().unwrap();
        signal_hook::low_level::raise(SIGHUP).unwrap();
        let arrived: Vec<_> = signals.arrived().collect();
        let stop = StopSignal { signal: SIGHUP, from_terminal: false };
        assert_eq!((arrived, stop.name()), (vec![Request::Stop(stop)], "SIGHUP"));
        signal_hook::low_level::raise(SIGUSR1).unwrap();
        assert_eq!(signals.arrived().collect::<Vec<_>>(), [Request::Snapshot]);
        assert_eq!(signals.arrived().count(), 0);
    }
}
