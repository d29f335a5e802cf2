//! Table `gaps`: the holes in streams, why they are there and what they hit.

use std::collections::{BTreeMap, BTreeSet};

use super::column::{Cell, Column, NEVER, Table, conn_id, int, text};
use super::http::HttpRow;
use super::loss::LossRow;
use crate::reconstruct::finding::{Completeness, LlmCall};

/// Exchanges and losses of one connection that are looked at for one hole.
const MAX_LOOKED_AT: usize = 64;

/// A hole in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapRow {
    hole: LossRow,
    /// What the recorder counted there.
    why: Option<String>,
    /// The exchange it is in.
    http_id: Option<u64>,
    /// The same, where that is a call to a model.
    call_id: Option<u64>,
}

/// The rows of the table, in its order. `holes` are those found in streams, `losses` what the recorder
/// counted.
#[must_use]
pub fn gap_rows(
    holes: &[LossRow],
    losses: &[LossRow],
    exchanges: &[HttpRow],
    calls: &[LlmCall],
) -> Vec<GapRow> {
    let calls: BTreeSet<u64> = calls.iter().map(|call| call.call_id).collect();
    let mut hit: BTreeMap<u64, Vec<&HttpRow>> = BTreeMap::new();
    for row in exchanges.iter().filter(|row| row.exchange.completeness != Completeness::Complete) {
        hit.entry(row.exchange.conn_id).or_default().push(row);
    }
    let mut counted: BTreeMap<Option<u64>, Vec<&LossRow>> = BTreeMap::new();
    for loss in losses {
        counted.entry(loss.conn_id()).or_default().push(loss);
    }
    for rows in hit.values_mut() {
        rows.sort_by_key(|row| row.exchange.start_ts);
    }
    for losses in counted.values_mut() {
        losses.sort_by_key(|loss| loss.span());
    }
    let row = |hole: &LossRow| {
        let of_connection = hole.conn_id().and_then(|conn_id| hit.get(&conn_id));
        let http_id = of_connection.and_then(|rows| only_hit(rows, hole));
        GapRow {
            why: why(&counted, hole),
            call_id: http_id.filter(|id| calls.contains(id)),
            http_id,
            hole: hole.clone(),
        }
    };
    let mut rows: Vec<GapRow> = holes.iter().map(row).collect();
    rows.sort_by_key(|row| (row.hole.span().1, row.hole.conn_id(), row.hole.place()));
    rows
}

/// The one exchange that was going on and lost bytes; `None` if it may be one of several.
fn only_hit(rows: &[&HttpRow], hole: &LossRow) -> Option<u64> {
    let (first, last) = hole.span();
    let begun = rows.partition_point(|row| row.exchange.start_ts <= last);
    let recent = rows[..begun].iter().rev().take(MAX_LOOKED_AT);
    let mut hit = recent.map(|row| &row.exchange).filter(|exchange| {
        exchange.lost_bytes > 0 && exchange.end_ts.is_none_or(|end| end >= first)
    });
    let found = hit.next()?;
    hit.next().is_none().then_some(found.http_id)
}

/// The cause of a loss that was counted for the connection, else for all of the kind, at that time;
/// `None` if there are several.
fn why(counted: &BTreeMap<Option<u64>, Vec<&LossRow>>, hole: &LossRow) -> Option<String> {
    [hole.conn_id(), None].into_iter().find_map(|of| {
        let losses = counted.get(&of)?;
        let (first, last) = hole.span();
        let begun = losses.partition_point(|loss| loss.span().0 <= last);
        let at_the_time = losses[..begun].iter().rev().take(MAX_LOOKED_AT);
        let causes: BTreeSet<&str> = at_the_time
            .filter(|loss| loss.span().1 >= first && loss.event_class() == hole.event_class())
            .map(|loss| loss.cause())
            .collect();
        match causes.len() {
            1 => causes.first().map(|cause| (*cause).to_owned()),
            _ => None,
        }
    })
}

/// One row per hole in a stream.
pub const GAPS: Table<GapRow> = Table {
    name: "gaps",
    description: "One row per hole in a stream of tls_data, socket_data or stdio_data, ordered by ts: \
                  the rows of losses with cause gap, with why they are there and what they hit.",
    columns: &[
        Column::new(
            "ts",
            Cell::Ts(|x| Some(x.hole.span().1)),
            "When what follows the hole came, or the bytes that were not captured.",
            NEVER,
        ),
        Column::new(
            "first_ts",
            Cell::Ts(|x| Some(x.hole.span().0)),
            "When what precedes it came.",
            NEVER,
        ),
        Column::new(
            "event_class",
            Cell::Text(|x| text(x.hole.event_class())),
            "Kind of the events of the stream.",
            NEVER,
        ),
        Column::new(
            "pid",
            Cell::Int(|x| x.hole.process().and_then(|process| int(process.pid))),
            "Process whose stream it is.",
            "it is not known",
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.hole.process().map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            "it is not known",
        ),
        Column::new(
            "conn_id",
            Cell::Int(|x| x.hole.conn_id().and_then(conn_id)),
            "Connection it is in.",
            "it is not known",
        ),
        Column::new(
            "direction",
            Cell::Text(|x| x.hole.place().0.and_then(|direction| text(direction.as_str()))),
            "Direction of the stream, seen from the process: read or write.",
            "it is not known",
        ),
        Column::measured(
            "stream_offset",
            "bytes",
            Cell::Int(|x| x.hole.place().1.and_then(int)),
            "Position of the first missing byte in that stream.",
            "it is not known",
        ),
        Column::measured(
            "lost_bytes",
            "bytes",
            Cell::Int(|x| int(x.hole.lost_bytes())),
            "How many bytes are missing.",
            NEVER,
        ),
        Column::new(
            "why",
            Cell::Text(|x| x.why.as_deref().and_then(text)),
            "Cause of a loss that the recorder counted at that time, of the connection if there is \
             one: ring_full, copy_fault, truncated, ...; words as in table losses.",
            "none was counted, or several",
        ),
        Column::new(
            "http_id",
            Cell::Int(|x| x.http_id.and_then(int)),
            "HTTP exchange that lost bytes by it, in table http.",
            "none did, or it may be one of several",
        ),
        Column::new(
            "call_id",
            Cell::Int(|x| x.call_id.and_then(int)),
            "The same exchange where it is a call to a model, in table llm_calls.",
            "it is none",
        ),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Body, Direction, Event, Loss, Source, StreamData};
    use crate::reconstruct::finding::{Exchange, PartialReason};
    use crate::tables::{Channels, Gaps};
    use crate::time::WallNanos;

    fn event(ts: i64, body: Body) -> Event {
        Event { ts: WallNanos(ts), process: None, tid: None, comm: None, body }
    }

    fn hole(ts: i64, conn_id: u64) -> Vec<LossRow> {
        let data = StreamData {
            source: Source::Tls,
            conn_id,
            direction: Direction::Read,
            stream_offset: 0,
            data_bytes: 15,
            lost_bytes: 5,
            data: vec![0; 10],
            library: String::new(),
            fd: None,
            call_ts: vec![],
            call_bytes: vec![],
        };
        let mut gaps = Gaps::default();
        gaps.push(&event(ts, Body::Data(data)));
        gaps.finish()
    }

    fn loss(ts: i64, conn_id: Option<u64>, cause: &str) -> LossRow {
        let loss = Loss {
            first_ts: WallNanos(ts - 2),
            event_class: "tls_data".into(),
            cause: cause.into(),
            lost_events: 1,
            lost_bytes: 5,
            conn_id,
        };
        LossRow::from_event(&event(ts, Body::Loss(loss))).unwrap()
    }

    fn exchange(http_id: u64, span: (i64, i64), lost_bytes: u64) -> HttpRow {
        let exchange = Exchange {
            end_ts: Some(WallNanos(span.1)),
            completeness: match lost_bytes {
                0 => Completeness::Complete,
                _ => Completeness::Partial(PartialReason::Gap),
            },
            lost_bytes,
            ..Exchange::new(http_id, 1, WallNanos(span.0))
        };
        HttpRow::new(exchange, &Channels::default())
    }

    #[test]
    fn a_hole_names_the_exchange_it_hit_and_the_loss_that_explains_it() {
        let exchanges =
            [exchange(1, (0, 9), 0), exchange(2, (10, 20), 5), exchange(3, (30, 40), 5)];
        let call = LlmCall::new(exchanges[1].exchange.clone(), "openai", "openai_chat", "sse");
        let losses = [loss(15, None, "map_full"), loss(16, Some(1), "ring_full")];
        let rows = gap_rows(&hole(15, 1), &losses, &exchanges, &[call]);
        assert_eq!((rows[0].http_id, rows[0].call_id), (Some(2), Some(2)));
        assert_eq!(rows[0].why.as_deref(), Some("ring_full"));
        let rows = gap_rows(&hole(35, 1), &losses, &exchanges, &[]);
        assert_eq!((rows[0].http_id, rows[0].call_id), (Some(3), None));
        assert_eq!(rows[0].why, None);
        let rows = gap_rows(&hole(15, 2), &losses[..1], &exchanges, &[]);
        assert_eq!((rows[0].http_id, rows[0].why.as_deref()), (None, Some("map_full")));
    }

    #[test]
    fn what_may_be_one_of_several_is_not_named() {
        let at_once = [exchange(1, (0, 20), 5), exchange(2, (10, 20), 5)];
        let losses = [loss(15, None, "map_full"), loss(15, None, "ring_full")];
        let rows = gap_rows(&hole(15, 1), &losses, &at_once, &[]);
        assert_eq!((rows[0].http_id, rows[0].why.as_deref()), (None, None));
    }
}
