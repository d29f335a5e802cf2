//! Table `limits`: how much of a provider's limits is used, as its responses say.

use super::column::{Cell, Column, NEVER, Table, int, opt_text, text};
use crate::reconstruct::finding::Limit;

const NOT_SAID: &str = "the response does not say";

/// One row per limit and response that tells of it.
pub const LIMITS: Table<Limit> = Table {
    name: "limits",
    description: "One row per limit that the response to a call tells of, in its head or in a message \
                  of its WebSocket, ordered by http_id and then as the response names them.",
    columns: &[
        Column::new(
            "http_id",
            Cell::Int(|x| int(x.http_id)),
            "HTTP exchange whose response says so; the call_id in table llm_calls.",
            NEVER,
        ),
        Column::new("ts", Cell::Ts(|x| Some(x.ts)), "When it said so.", NEVER),
        Column::new(
            "name",
            Cell::Text(|x| text(&x.name)),
            "Name of the limit, as on the wire without the prefix that all of a provider's limits \
             have: requests, input-tokens, unified-5h, primary, ...",
            NEVER,
        ),
        Column::new("allowed", Cell::Float(|x| x.limit), "How much is allowed.", NOT_SAID),
        Column::new("remaining", Cell::Float(|x| x.remaining), "How much is left.", NOT_SAID),
        Column::measured(
            "used_percent",
            "percent",
            Cell::Float(|x| x.used_percent),
            "Share that is used, 0 to 100.",
            "the response says neither the share nor both allowed and remaining",
        ),
        Column::new("reset_ts", Cell::Ts(|x| x.reset_ts), "When it starts anew.", NOT_SAID),
        Column::new(
            "status",
            Cell::Text(|x| opt_text(&x.status)),
            "The provider's word for its state, such as allowed, allowed_warning or rejected.",
            NOT_SAID,
        ),
    ],
};
