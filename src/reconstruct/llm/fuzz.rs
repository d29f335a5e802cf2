//! Any bytes as the bodies of a call of each API: total, and blind to where they were cut.

use super::{Api, Endpoint, Observer};
use crate::event::ProcessId;
use crate::reconstruct::exchange::Caller;
use crate::reconstruct::finding::{
    CallClass, Completeness, Exchange, Finding, LlmCall, Perspective,
};
use crate::reconstruct::llm::Blocks;
use crate::time::WallNanos;

const APIS: [Api; 8] = [
    Api::Anthropic,
    Api::OpenaiChat,
    Api::OpenaiResponses,
    Api::Gemini,
    Api::Ollama,
    Api::BedrockInvoke,
    Api::BedrockConverse,
    Api::Other,
];

/// Kinds of events that are not in their data.
const KINDS: [&str; 6] = [
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
    "throttlingException",
];

/// Runs any bytes through everything that reads bodies and stream events.
pub(crate) fn fuzz(bytes: &[u8]) {
    let kind = KINDS[bytes.len() % KINDS.len()];
    for api in APIS {
        let whole = call(api, &[bytes], kind);
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(whole, call(api, &single, kind), "{api:?}");
    }
}

/// Everything found, with the bytes as request, as response in one JSON text, and as event.
fn call(api: Api, pieces: &[&[u8]], kind: &str) -> (Vec<Finding>, Option<LlmCall>) {
    let endpoint = Endpoint {
        api,
        provider: api.family(),
        is_proven: true,
        model: None,
        class: CallClass::Main,
        is_streaming: false,
    };
    let (mut found, mut blocks) = (Vec::new(), Blocks::default());
    let sink = &mut |finding| found.push(finding);
    let findings = &mut Caller { blocks: &mut blocks, sink };
    let mut observer = Observer::new(1, endpoint);
    for piece in pieces {
        observer.request_bytes(WallNanos(1), piece, findings);
    }
    let data = pieces.concat();
    observer.event(WallNanos(2), Some(kind), &String::from_utf8_lossy(&data));
    for piece in pieces {
        observer.response_bytes(WallNanos(3), piece);
    }
    let call = observer.finish(exchange(), true, findings);
    (found, call)
}

/// An exchange of which nothing is known.
pub(super) fn exchange() -> Exchange {
    Exchange {
        http_id: 1,
        conn_id: 1,
        process: Some(ProcessId { pid: 1, start_ts: WallNanos(0) }),
        perspective: Perspective::Client,
        start_ts: WallNanos(0),
        request_end_ts: None,
        first_byte_ts: None,
        end_ts: None,
        method: None,
        scheme: "https".to_owned(),
        host: None,
        path: None,
        http_version: "1.1".to_owned(),
        status: None,
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        request_body: None,
        response_body: None,
        request_body_bytes: 0,
        response_body_bytes: 0,
        request_wire_bytes: 0,
        response_wire_bytes: 0,
        content_encoding: None,
        completeness: Completeness::Complete,
        lost_bytes: 0,
        max_gap_ms: None,
    }
}
