//! Every provider by every way an answer can go.

use serde_json::{Value, json};

use super::found::equal_served;
use super::support::client::Client;
use super::support::mock::Server;
use super::support::mock::answer::{Answer, Block};
use super::support::mock::coding::Coding;
use super::support::mock::script::{Delivery, Failure, Reply, Rule, Script, When};
use super::support::mock::split::Split;
use super::support::mock::truth::Truth;

/// A way to ask a model: target and body of a request.
pub struct Provider {
    /// For messages of failed tests.
    pub name: &'static str,
    /// Target of a request for a streamed answer, and for a document.
    pub targets: [&'static str; 2],
    /// Body of such requests.
    pub body: fn(streamed: bool) -> Value,
}

const PROMPT: &str = "Prüfe das: 検査 🌍";

/// All providers that are known.
pub const PROVIDERS: [Provider; 9] = [
    Provider {
        name: "anthropic",
        targets: ["/v1/messages?beta=true", "/v1/messages"],
        body: |streamed| {
            json!({
                "model": "claude-mock", "stream": streamed, "max_tokens": 100,
                "messages": [{"role": "user", "content": PROMPT}],
            })
        },
    },
    Provider {
        name: "openai chat",
        targets: ["/v1/chat/completions"; 2],
        body: |streamed| {
            let mut body = json!({
                "model": "gpt-mock", "stream": streamed,
                "messages": [{"role": "user", "content": PROMPT}],
            });
            if streamed {
                body["stream_options"] = json!({"include_usage": true});
            }
            body
        },
    },
    Provider {
        name: "openai responses",
        targets: ["/v1/responses"; 2],
        body: |streamed| {
            json!({
                "model": "gpt-mock", "stream": streamed,
                "input": [{"type": "message", "role": "user", "content": PROMPT}],
            })
        },
    },
    Provider {
        name: "gemini",
        targets: [
            "/v1beta/models/gemini-mock:streamGenerateContent?alt=sse",
            "/v1beta/models/gemini-mock:generateContent",
        ],
        body: |_| gemini(),
    },
    Provider {
        name: "gemini array",
        targets: [
            "/v1beta/models/gemini-mock:streamGenerateContent",
            "/v1beta/models/gemini-mock:generateContent",
        ],
        body: |_| gemini(),
    },
    Provider {
        name: "code assist",
        targets: ["/v1internal:streamGenerateContent?alt=sse", "/v1internal:generateContent"],
        body: |_| {
            json!({
                "model": "gemini-mock", "project": "p", "user_prompt_id": "s########0",
                "request": gemini(),
            })
        },
    },
    Provider {
        name: "ollama",
        targets: ["/api/chat"; 2],
        body: |streamed| {
            json!({
                "model": "llama-mock", "stream": streamed,
                "messages": [{"role": "user", "content": PROMPT}],
            })
        },
    },
    Provider {
        name: "bedrock invoke",
        targets: [
            "/model/anthropic.claude-mock-v1%3A0/invoke-with-response-stream",
            "/model/anthropic.claude-mock-v1%3A0/invoke",
        ],
        body: |_| {
            json!({
                "anthropic_version": "bedrock-2023-05-31", "max_tokens": 100,
                "messages": [{"role": "user", "content": PROMPT}],
            })
        },
    },
    Provider {
        name: "bedrock converse",
        targets: [
            "/model/anthropic.claude-mock-v1%3A0/converse-stream",
            "/model/anthropic.claude-mock-v1%3A0/converse",
        ],
        body: |_| json!({"messages": [{"role": "user", "content": [{"text": PROMPT}]}]}),
    },
];

fn gemini() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]})
}

/// Everything an answer can hold, in text that has multi-byte characters at every turn.
pub fn rich() -> Answer {
    Answer {
        blocks: vec![
            Block::Thinking("Überlegen … 思考".repeat(4)),
            Block::Text("Größe: 10 µm — 完成 🌍 ".repeat(20)),
            Block::ToolUse { name: "Bash".into(), input: json!({"command": "echo 'ñ'"}) },
        ],
        delta_chars: 7,
        ..Answer::default()
    }
}

/// A refusal that asks to wait.
pub fn refusal(status: u16, error_type: &str, retry_after_s: Option<u64>) -> Reply {
    let (error_type, message) = (error_type.to_owned(), "slow down".to_owned());
    Reply::Failure(Failure { status, error_type, message, retry_after_s })
}

impl Provider {
    /// Asks `server` once, with more fields in the head, over a connection of its own.
    pub fn ask(&self, server: &Server, streamed: bool, fields: &str) {
        let target = self.targets[usize::from(!streamed)];
        let body = (self.body)(streamed).to_string();
        let mut client = Client::connect(server);
        client.post(target, fields, &body);
        client.response();
    }

    /// What a server served that answered so, asked `times` times.
    #[track_caller]
    pub fn served(&self, rules: Vec<Rule>, streamed: bool, times: usize, fields: &str) -> Truth {
        let server = Server::start(Script::of(rules)).unwrap();
        (0..times).for_each(|_| self.ask(&server, streamed, fields));
        let truth = server.stop();
        assert_eq!(truth.llm_calls().len(), times, "{}", self.name);
        truth
    }

    fn answered(&self, case: &str, answer: Answer, delivery: Delivery, streamed: bool) {
        let rule = Rule::new(When::default(), Reply::Answer(answer)).delivered(delivery);
        let accepts = "Accept-Encoding: gzip, deflate, br, zstd\r\n";
        let truth = self.served(vec![rule], streamed, 1, accepts);
        equal_served(&format!("{}: {case}", self.name), &truth);
    }
}

#[test]
fn streams_and_documents_are_found_as_served() {
    for provider in PROVIDERS {
        for streamed in [true, false] {
            provider.answered("plain", Answer::text("Ja."), Delivery::default(), streamed);
            provider.answered("rich", rich(), Delivery::default(), streamed);
        }
    }
}

#[test]
fn every_coding_is_found_as_served() {
    for provider in PROVIDERS {
        for coding in Coding::ALL {
            for streamed in [true, false] {
                for split in [Split::Whole, Split::InsideUtf8] {
                    let coding = Some(coding);
                    let delivery = Delivery { coding, split, ..Delivery::default() };
                    provider.answered(&format!("{coding:?}"), rich(), delivery, streamed);
                }
            }
        }
    }
}

#[test]
fn packed_requests_are_found_as_served() {
    use super::support::mock::coding::Encoder;
    for provider in PROVIDERS {
        for coding in Coding::ALL {
            let rule = Rule::new(When::default(), Reply::Answer(rich()));
            let server = Server::start(Script::of(vec![rule])).unwrap();
            let body = (provider.body)(true).to_string();
            let mut encoder = Encoder::new(coding).unwrap();
            let mut packed = encoder.pack(body.as_bytes()).unwrap();
            packed.extend(encoder.finish().unwrap());
            let mut client = Client::connect(&server);
            let head = format!(
                "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: {}\r\n\
                 Content-Length: {}\r\n\r\n",
                provider.targets[0],
                coding.name(),
                packed.len(),
            );
            client.send(head.as_bytes());
            client.send(&packed);
            client.response();
            let truth = server.stop();
            equal_served(&format!("{}: a request in {coding:?}", provider.name), &truth);
        }
    }
}

#[test]
fn refusals_and_the_retries_after_them_are_found_as_served() {
    for provider in PROVIDERS {
        for (status, error_type, wait) in
            [(429, "rate_limit_error", Some(7)), (529, "overloaded_error", None)]
        {
            let rules = vec![
                Rule::new(When::default(), refusal(status, error_type, wait)).times(1),
                Rule::new(When::default(), Reply::Answer(rich())),
            ];
            for streamed in [true, false] {
                let truth = provider.served(rules.clone(), streamed, 2, "");
                assert_eq!(truth.retries(), [None, Some(0)]);
                equal_served(&format!("{}: {status}", provider.name), &truth);
            }
        }
    }
}

#[test]
fn an_error_at_any_event_of_a_stream_is_found_as_served() {
    for provider in PROVIDERS {
        for events in [1, 2, 5, 12] {
            let answer = Answer { error_after_events: Some(events), ..rich() };
            let case = format!("an error after {events} events");
            provider.answered(&case, answer, Delivery::default(), true);
        }
    }
}

#[test]
fn a_cut_at_any_event_of_a_stream_is_found_as_served() {
    for provider in PROVIDERS {
        for events in [0, 1, 2, 5, 12] {
            for coding in [None, Some(Coding::Gzip)] {
                let cut_after_events = Some(events);
                let delivery = Delivery { cut_after_events, coding, ..Delivery::default() };
                provider.answered(&format!("cut after {events} events"), rich(), delivery, true);
            }
        }
    }
}
