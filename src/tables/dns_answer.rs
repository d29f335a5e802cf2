//! Table `dns_answers`: which addresses names had, as the processes were told.

use std::sync::Arc;

use super::channel::{Channels, UsedChannel};
use super::chunk::Chunk;
use super::column::{Cell, Column, NEVER, Table, conn_id, int, opt_text, text};
use crate::event::{Event, ProcessId};
use crate::reconstruct::dns::{DnsAnswer, DnsData, DnsResponse};
use crate::time::WallNanos;

/// One answer to a question, or that there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsRow {
    ts: WallNanos,
    process: Option<ProcessId>,
    comm: Option<String>,
    conn_id: u64,
    socket: Option<Arc<UsedChannel>>,
    question: Option<Arc<str>>,
    question_type: Option<String>,
    error: Option<String>,
    answer: Option<DnsAnswer>,
}

impl DnsRow {
    /// The rows of a message that was received; none for other kinds than `dns_data`.
    #[must_use]
    pub fn from_event(event: Event, channels: &Channels) -> Vec<Self> {
        let mut rows = Vec::new();
        for chunk in Chunk::split(event) {
            let Some(response) = DnsResponse::parse(chunk.data()) else { continue };
            let none = Self {
                ts: chunk.ts,
                process: chunk.process(),
                comm: chunk.comm().clone(),
                conn_id: chunk.conn_id(),
                socket: channels.get(chunk.conn_id()).cloned(),
                question: response.question.map(Arc::from),
                question_type: response.question_type,
                error: response.error,
                answer: None,
            };
            if response.answers.is_empty() {
                rows.push(none);
                continue;
            }
            let row = |answer| Self { answer: Some(answer), ..none.clone() };
            rows.extend(response.answers.into_iter().map(row));
        }
        rows
    }

    fn address(&self) -> Option<String> {
        match self.answer.as_ref()?.data {
            DnsData::Address(address) => Some(address.to_string()),
            _ => None,
        }
    }

    fn target(&self) -> Option<&str> {
        match &self.answer.as_ref()?.data {
            DnsData::Name(name) => Some(name),
            _ => None,
        }
    }
}

const NO_PROCESS: &str = "the process is not known";
const NO_ANSWER: &str = "there was no answer";
const CUT: &str = "the message was cut off before it";

/// One row per answer.
pub const DNS_ANSWERS: Table<DnsRow> = Table {
    name: "dns_answers",
    description: "One row per answer in a DNS message that a process received over UDP, and one \
                  per message without answers; in time order. Resolvers that ask for others (nscd, \
                  systemd-resolved) and DNS over TLS or HTTPS are not seen.",
    columns: &[
        Column::new("ts", Cell::Ts(|x| Some(x.ts)), "When the message was received.", NEVER),
        Column::new(
            "pid",
            Cell::Int(|x| x.process.and_then(|process| int(process.pid))),
            "Process that received it.",
            NO_PROCESS,
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.process.map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            NO_PROCESS,
        ),
        Column::new(
            "comm",
            Cell::Text(|x| opt_text(&x.comm)),
            "Name of the thread that received it.",
            "the name is not known",
        ),
        Column::new(
            "conn_id",
            Cell::Int(|x| conn_id(x.conn_id)),
            "The socket, in table connections.",
            NEVER,
        ),
        Column::new(
            "server_addr",
            Cell::Text(|x| x.socket.as_ref().and_then(|it| opt_text(&it.channel.remote_addr))),
            "Address of the server that answered.",
            "the socket is not known, or not connected",
        ),
        Column::new(
            "question",
            Cell::Text(|x| x.question.as_deref().and_then(text)),
            "Name that was asked for, in lower case.",
            CUT,
        ),
        Column::new(
            "question_type",
            Cell::Text(|x| opt_text(&x.question_type)),
            "What was asked for, such as A or AAAA.",
            CUT,
        ),
        Column::new(
            "error",
            Cell::Text(|x| opt_text(&x.error)),
            "Why there is no answer, such as NXDOMAIN or SERVFAIL.",
            "the server reported no error",
        ),
        Column::new(
            "name",
            Cell::Text(|x| x.answer.as_ref().and_then(|answer| text(&answer.name))),
            "Name that the answer is about: the question, or what that is an alias of.",
            NO_ANSWER,
        ),
        Column::new(
            "type",
            Cell::Text(|x| x.answer.as_ref().and_then(|answer| text(&answer.record_type))),
            "Type of the answer: A, AAAA, CNAME, ..., or TYPE and a number.",
            NO_ANSWER,
        ),
        Column::new(
            "address",
            Cell::Text(|x| x.address().map(Into::into)),
            "The address of that name, of A and AAAA.",
            "it is of another type",
        ),
        Column::new(
            "target",
            Cell::Text(|x| x.target().and_then(text)),
            "Another name of it, of CNAME and PTR.",
            "it is of another type",
        ),
        Column::measured(
            "ttl_s",
            "s",
            Cell::Int(|x| x.answer.as_ref().map(|answer| i64::from(answer.ttl_s))),
            "How long the answer may be kept.",
            NO_ANSWER,
        ),
    ],
};
