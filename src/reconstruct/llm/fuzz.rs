//! Any bytes as the bodies of a call of each API: total, and blind to where they were cut.

use super::{Api, Endpoint, Observer};
use crate::event::ProcessId;
use crate::reconstruct::exchange::Caller;
use crate::reconstruct::finding::{CallClass, Exchange, Finding, LlmCall};
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
        process: Some(ProcessId { pid: 1, start_ts: WallNanos(0) }),
        ..Exchange::new(1, 1, WallNanos(0))
    }
}
