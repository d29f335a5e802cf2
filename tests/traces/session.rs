//! A session of several turns: a made-up agent reads the same file twice, has a helper look elsewhere,
//! is limited, loses its cache twice, and goes on from a summary of what was said.

use agentsight::event::{Event, ProbeState};
use serde_json::{Value, json};

use super::builder::{Connection, Recording};
use super::wire::{request, response};

const AGENT: &str = "demo-agent/2.4.1 (cli)";
const HOST: &str = "api.anthropic.com";
const LARGE: &str = "claude-opus-5";
const SMALL: &str = "claude-haiku-5";

/// How long the made-up recording lasts.
pub const END_MS: u64 = 460_000;

/// The first words of the helper.
const TASK: &str = "Look through tests/ and say which of them cover the parser.";

const SUMMARY: &str = "<summary>\nThe user wants the failing test of the parser to be mended.\n\
    src/parser.c was read twice: its loop ends one step too late, in line 40.\n\
    A helper found that tests/parser_test.c is the only test that covers it.\n\
    Next the bound is to be changed and the tests are to be run again.\n</summary>";

/// What the agent sends again and again.
struct Dialogue {
    tools: Value,
    messages: Vec<Value>,
}

impl Dialogue {
    fn new(first: &str) -> Self {
        let tool = |name: &str, what: &str| json!({"name": name, "description": what, "input_schema": {"type": "object"}});
        let tools = json!([
            tool("Read", "Reads a file."),
            tool("Bash", "Runs a command."),
            tool("Task", "Starts a helper.")
        ]);
        Self { tools, messages: vec![json!({"role": "user", "content": first})] }
    }

    fn body(&self, model: &str) -> String {
        json!({
            "model": model, "max_tokens": 8192,
            "system": "You are a made-up agent in a test. Be brief.",
            "tools": self.tools, "messages": self.messages,
        })
        .to_string()
    }

    /// The model has answered, and the agent or its user goes on.
    fn go_on(&mut self, answer: &Value, next: Value) {
        self.messages.push(json!({"role": "assistant", "content": answer}));
        self.messages.push(json!({"role": "user", "content": next}));
    }
}

fn text(text: &str) -> Value {
    json!([{"type": "text", "text": text}])
}

fn uses(id: &str, name: &str, input: &Value) -> Value {
    json!([{"type": "tool_use", "id": id, "name": name, "input": input}])
}

fn result(id: &str, text: &str) -> Value {
    json!([{"type": "tool_result", "tool_use_id": id, "content": text}])
}

/// A whole answer; tokens uncached, read from the cache, written to it, and put out.
fn answer(id: &str, model: &str, content: &Value, tokens: [u64; 4]) -> Vec<u8> {
    let is_use = content[0]["type"] == "tool_use";
    let body = json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": if is_use { "tool_use" } else { "end_turn" },
        "usage": {"input_tokens": tokens[0], "cache_read_input_tokens": tokens[1],
                  "cache_creation_input_tokens": tokens[2], "output_tokens": tokens[3]},
    });
    let share = tokens[1] % 100;
    let head = format!(
        "request-id: req_{id}\r\nanthropic-ratelimit-requests-limit: 50\r\n\
         anthropic-ratelimit-requests-remaining: {}\r\n\
         anthropic-ratelimit-unified-5h-utilization: 0.{share:02}\r\n",
        40 - tokens[0]
    );
    response("200 OK", &head, &body.to_string())
}

/// The agent and the connection on which its calls follow each other.
struct Session {
    r: Recording,
    api: Connection,
}

impl Session {
    fn ask(&mut self, ms: u64, on: Connection, body: &str) {
        self.r.send(ms, on, &request("POST", HOST, "/v1/messages", AGENT, body));
    }

    /// A call from one moment to another.
    fn call(&mut self, (from, until): (u64, u64), body: &str, answer: &[u8]) {
        self.ask(from, self.api, body);
        self.r.receive(until, self.api, answer);
    }
}

/// All events of the session.
pub fn events() -> Vec<Event> {
    let mut r = Recording::default();
    let agent = r.start(5, 4000, 4100, "/opt/demo/bin/demo-agent", &["demo-agent"]);
    r.load(agent, (6, END_MS - 500), 3, 190);
    r.probe(60, agent, "/opt/demo/bin/demo-agent", ProbeState::Attached);
    let (api, other) = (r.connect(agent, "boringssl"), r.connect(agent, "boringssl"));
    let mut session = Session { r, api };
    let mut dialogue = Dialogue::new("The parser test fails, please mend it.");
    read_twice(&mut session, &mut dialogue, other);
    have_a_helper_look(&mut session, &mut dialogue, other);
    sum_up_and_go_on(&mut session, dialogue);
    let Session { mut r, api } = session;
    r.close(END_MS - 600, other);
    r.close(END_MS - 600, api);
    r.exit(END_MS - 500, agent, Ok(0));
    r.finish(END_MS)
}

/// The first turn: a title beside it, and the same file twice.
fn read_twice(session: &mut Session, dialogue: &mut Dialogue, other: Connection) {
    let file = "int parse(const char *text) { ... }\n".repeat(12);
    let path = json!({"file_path": "/home/demo/project/src/parser.c"});
    let title = json!({
        "model": SMALL, "max_tokens": 32,
        "messages": [{"role": "user", "content": "Name this: The parser test fails."}],
    });
    session.ask(1_000, session.api, &dialogue.body(LARGE));
    session.ask(1_010, other, &title.to_string());
    let name = answer("msg_title", SMALL, &text("Mending the parser"), [21, 0, 0, 5]);
    session.r.receive(1_420, other, &name);
    let said = uses("toolu_1", "Read", &path);
    session.r.receive(2_900, session.api, &answer("msg_1", LARGE, &said, [4, 0, 6_200, 48]));
    dialogue.go_on(&said, result("toolu_1", &file));
    let said = uses("toolu_2", "Read", &path);
    let read = answer("msg_2", LARGE, &said, [5, 6_200, 410, 44]);
    session.call((2_960, 4_400), &dialogue.body(LARGE), &read);
    dialogue.go_on(&said, result("toolu_2", &file));
    let said = text("The loop in line 40 ends one step too late.");
    let told = answer("msg_3", LARGE, &said, [5, 6_610, 400, 31]);
    session.call((4_450, 6_100), &dialogue.body(LARGE), &told);
    dialogue.go_on(&said, text("Are there more tests of it?"));
}

/// The second turn: refused once, then a helper; the definition of a tool changes.
fn have_a_helper_look(session: &mut Session, dialogue: &mut Dialogue, other: Connection) {
    let refused = json!({
        "type": "error", "error": {"type": "rate_limit_error", "message": "slow down"},
    });
    let refused = response("429 Too Many Requests", "retry-after: 2\r\n", &refused.to_string());
    session.call((21_000, 21_200), &dialogue.body(LARGE), &refused);
    let said = uses("toolu_3", "Task", &json!({"prompt": TASK, "name": "look"}));
    let asked = answer("msg_4", LARGE, &said, [6, 7_010, 60, 70]);
    session.call((23_250, 25_000), &dialogue.body(LARGE), &asked);
    let mut helper = Dialogue::new(TASK);
    session.ask(25_100, other, &helper.body(LARGE));
    let looks = uses("toolu_h1", "Bash", &json!({"command": "ls tests"}));
    session.r.receive(26_300, other, &answer("msg_h1", LARGE, &looks, [4, 0, 2_900, 35]));
    helper.go_on(&looks, result("toolu_h1", "lexer_test.c parser_test.c"));
    session.ask(26_900, other, &helper.body(LARGE));
    let found = "Only tests/parser_test.c covers the parser.";
    session.r.receive(28_000, other, &answer("msg_h2", LARGE, &text(found), [4, 2_900, 90, 14]));
    dialogue.go_on(&said, result("toolu_3", found));
    dialogue.tools[2]["description"] = json!("Starts a helper; one at a time.");
    let said = text("Only one: tests/parser_test.c.");
    let told = answer("msg_5", LARGE, &said, [7, 0, 7_300, 18]);
    session.call((28_060, 30_100), &dialogue.body(LARGE), &told);
    dialogue.go_on(&said, text("Sum up the conversation so far."));
}

/// A summary takes the place of the history; later the cache has been forgotten.
fn sum_up_and_go_on(session: &mut Session, dialogue: Dialogue) {
    let summed = answer("msg_6", LARGE, &text(SUMMARY), [6, 7_300, 40, 96]);
    session.call((31_000, 35_400), &dialogue.body(LARGE), &summed);
    let short = SUMMARY.replace("<summary>", "What was done before:").replace("</summary>", "");
    let mut dialogue = Dialogue { messages: Dialogue::new(&short).messages, ..dialogue };
    let said = uses("toolu_4", "Bash", &json!({"command": "make check"}));
    let runs = answer("msg_7", LARGE, &said, [5, 2_400, 2_600, 40]);
    session.call((35_450, 37_000), &dialogue.body(LARGE), &runs);
    let failed = json!([{"type": "tool_result", "tool_use_id": "toolu_4", "is_error": true,
                         "content": "make: *** No rule to make target 'check'."}]);
    dialogue.go_on(&said, failed);
    let said = text("There is no such target. What runs the tests?");
    let asks = answer("msg_8", LARGE, &said, [5, 5_000, 60, 12]);
    session.call((39_500, 40_700), &dialogue.body(LARGE), &asks);
    dialogue.go_on(&said, text("make test"));
    let said = uses("toolu_5", "Bash", &json!({"command": "make test"}));
    let late = answer("msg_9", LARGE, &said, [5, 0, 5_200, 33]);
    session.call((452_000, 454_100), &dialogue.body(LARGE), &late);
}
