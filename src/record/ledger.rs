//! Does the file hold what was observed? The sum that is made when a recording ends.
//!
//! For each class of events, what the observing side counted must equal what the file's totals
//! count as written and as lost. The two sides share no counter: one is the kernel's, kept where
//! events arise, the other adds up rows as they are written. A difference is a bug of this program
//! and is told as one. Knows neither kernel nor file: counters in, accounts out.
//!
//! Bytes are captured plaintext (`tls_data`) and argument areas (`process_exec`). A row does not
//! hold its argument area as it was, so of that class it is the decoder's count that stands for the
//! file's, which holds as long as every event was written.

use std::collections::BTreeMap;

use crate::capture::abi::LedgerEntry;
use crate::capture::bpf::ClassLedger;
use crate::trace::{ClassAccount, Tally, Totals};

/// Classes of records that serve other events and have no rows; only their losses are told.
const NO_ROWS: [&str; 1] = ["file_path"];

/// What was observed, to be compared with what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Events made in user space, by kind: samples, probes, losses, processes found running.
    here: BTreeMap<&'static str, u64>,
    /// The kernel side's counters, once they are final.
    kernel: Vec<ClassLedger>,
}

impl Observed {
    /// Counts an event that user space made itself.
    pub fn count(&mut self, kind: &'static str) {
        *self.here.entry(kind).or_default() += 1;
    }

    /// The same with the final counters of the kernel side.
    #[must_use]
    pub fn with_kernel(mut self, kernel: Vec<ClassLedger>) -> Self {
        self.kernel = kernel;
        self
    }

    /// The account of every class that was observed or written, ordered by class. `totals` are
    /// those of all rows of the recording.
    #[must_use]
    pub fn accounts(&self, totals: &Totals) -> Vec<ClassAccount> {
        let mut accounts: BTreeMap<&str, ClassAccount> = BTreeMap::new();
        for class in &self.kernel {
            let account = accounts.entry(class.event_class).or_default();
            // What was observed only until it was clear that it is not to be was not asked for.
            let decoded = class.decoded;
            account.attempted.add(
                class.entry.attempted_events.wrapping_sub(decoded.unselected_events),
                class.entry.attempted_bytes.wrapping_sub(decoded.unselected_bytes),
            );
            if NO_ROWS.contains(&class.event_class) {
                // What arrived did its part.
                account.attempted.events -= decoded.events.min(account.attempted.events);
            }
        }
        for (kind, events) in &self.here {
            accounts.entry(kind).or_default().attempted.add(*events, 0);
        }
        for (kind, total) in &totals.kinds {
            accounts.entry(kind).or_default().written = total.written();
        }
        for (class, _) in totals.losses.keys() {
            accounts.entry(class).or_default().lost = totals.lost(class);
        }
        let decoded_bytes = self.class("process_exec").map_or(0, |class| class.decoded.bytes);
        if let Some(account) = accounts.get_mut("process_exec") {
            account.written.bytes = decoded_bytes;
        }
        let named = accounts
            .into_iter()
            .map(|(class, account)| ClassAccount { event_class: class.to_owned(), ..account });
        named.filter(|account| *account != empty(&account.event_class)).collect()
    }

    /// What to tell about accounts that do not balance: a line per class, with the numbers of every
    /// stage that the events pass.
    #[must_use]
    pub fn complaints(&self, accounts: &[ClassAccount]) -> Vec<String> {
        accounts
            .iter()
            .filter(|account| !account.balances())
            .map(|account| {
                let ClassAccount { event_class, attempted, written, lost } = account;
                format!(
                    "bug: {event_class}: {} were observed, but {} were written and {} counted as \
                     lost{}; please report this line",
                    amount(attempted),
                    amount(written),
                    amount(lost),
                    self.class(event_class).map_or_else(String::new, stages),
                )
            })
            .collect()
    }

    fn class(&self, event_class: &str) -> Option<&ClassLedger> {
        self.kernel.iter().find(|class| class.event_class == event_class)
    }
}

fn empty(event_class: &str) -> ClassAccount {
    ClassAccount { event_class: event_class.to_owned(), ..ClassAccount::default() }
}

fn amount(tally: &Tally) -> String {
    format!("{} events ({} bytes)", tally.events, tally.bytes)
}

fn stages(class: &ClassLedger) -> String {
    let LedgerEntry { submitted_events, submitted_bytes, lost_events, lost_bytes, .. } =
        class.entry;
    let (decoded, undecodable) = (class.decoded, class.undecodable);
    format!(
        " (kernel: {submitted_events}/{submitted_bytes} submitted, {lost_events:?}/{lost_bytes:?} \
         lost; decoder: {}/{} handed on, {}/{} unusable, {}/{} undecodable)",
        decoded.events,
        decoded.bytes,
        decoded.unusable_events,
        decoded.unusable_bytes,
        undecodable.events,
        undecodable.bytes,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::abi::LOSS_COUNT;
    use crate::capture::bpf::Undecodable;
    use crate::capture::decode::Decoded;
    use crate::trace::KindTotal;

    /// Ten events of a hundred bytes each, of which the ring had no room for two.
    fn kernel(event_class: &'static str) -> ClassLedger {
        let mut lost = ([0; LOSS_COUNT], [0; LOSS_COUNT]);
        (lost.0[0], lost.1[0]) = (2, 200);
        ClassLedger {
            event_class,
            entry: LedgerEntry {
                attempted_events: 10,
                attempted_bytes: 1000,
                submitted_events: 8,
                submitted_bytes: 800,
                lost_events: lost.0,
                lost_bytes: lost.1,
            },
            decoded: Decoded { events: 8, bytes: 800, ..Decoded::default() },
            undecodable: Undecodable::default(),
        }
    }

    fn totals(kind: &str, total: KindTotal) -> Totals {
        let mut totals = Totals::default();
        totals.kinds.insert(kind.into(), total);
        totals.losses.insert((kind.into(), "ring_full".into()), Tally { events: 2, bytes: 200 });
        totals
    }

    /// Eight calls in five rows; a row says that 40 bytes of its calls could not be captured.
    const WRITTEN: KindTotal = KindTotal { events: 5, calls: 8, bytes: 840, lost_bytes: 40 };

    #[test]
    fn what_was_written_and_what_was_lost_are_what_was_observed() {
        let observed = Observed::default().with_kernel(vec![kernel("tls_data")]);
        let accounts = observed.accounts(&totals("tls_data", WRITTEN));
        assert_eq!(accounts.len(), 1);
        assert_eq!(accounts[0].attempted, Tally { events: 10, bytes: 1000 });
        assert_eq!(accounts[0].written, Tally { events: 8, bytes: 800 });
        assert_eq!(accounts[0].lost, Tally { events: 2, bytes: 200 });
        assert!(accounts[0].balances());
        assert_eq!(observed.complaints(&accounts), [] as [String; 0]);
    }

    #[test]
    fn one_event_or_one_byte_that_is_missing_is_complained_about_with_all_numbers() {
        let observed = Observed::default().with_kernel(vec![kernel("tls_data")]);
        for broken in [KindTotal { calls: 7, ..WRITTEN }, KindTotal { lost_bytes: 41, ..WRITTEN }] {
            let accounts = observed.accounts(&totals("tls_data", broken));
            let complaints = observed.complaints(&accounts);
            assert_eq!(complaints.len(), 1, "{accounts:?}");
            let said = &complaints[0];
            assert!(said.starts_with("bug: tls_data: 10 events (1000 bytes)"), "{said}");
            assert!(said.contains("8/800 submitted") && said.contains("8/800 handed on"), "{said}");
        }
    }

    #[test]
    fn a_loss_that_is_no_row_is_complained_about() {
        let observed = Observed::default().with_kernel(vec![kernel("tls_data")]);
        let mut totals = totals("tls_data", WRITTEN);
        totals.losses.clear();
        assert_eq!(observed.complaints(&observed.accounts(&totals)).len(), 1);
    }

    #[test]
    fn events_made_in_user_space_are_accounted_for_beside_those_of_the_kernel() {
        let mut observed = Observed::default();
        observed.count("sample");
        observed.count("process_exec");
        let observed = observed.with_kernel(vec![kernel("process_exec")]);
        let total = KindTotal { events: 9, calls: 9, ..KindTotal::default() };
        let mut totals = totals("process_exec", total);
        let sample = KindTotal { events: 1, calls: 1, ..KindTotal::default() };
        totals.kinds.insert("sample".into(), sample);
        let accounts = observed.accounts(&totals);
        assert_eq!(observed.complaints(&accounts), [] as [String; 0]);
        assert_eq!(accounts[0].written, Tally { events: 9, bytes: 800 });

        totals.kinds.remove("sample");
        let complaints = observed.complaints(&observed.accounts(&totals));
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("bug: sample: 1 events (0 bytes)"), "{complaints:?}");
    }

    #[test]
    fn rows_that_nobody_observed_are_complained_about_and_idle_classes_are_not_listed() {
        let mut idle = kernel("tls_close");
        (idle.entry.attempted_events, idle.entry.attempted_bytes) = (0, 0);
        let observed = Observed::default().with_kernel(vec![idle]);
        assert_eq!(observed.accounts(&Totals::default()), []);
        let accounts = observed.accounts(&totals("tls_data", WRITTEN));
        assert_eq!(observed.complaints(&accounts).len(), 1);
    }
}
