//! Where the time of a turn went: what is found is what the server's clock says of a script of
//! pauses, each kind of them in it.

use std::thread::sleep;
use std::time::Duration;

use agentsight::reconstruct::finding::{Finding, Turn, WallTime};
use serde_json::{Value, json};

use super::cases::refusal;
use super::found;
use super::support::client::Client;
use super::support::mock::Server;
use super::support::mock::answer::{Answer, Block, Phase};
use super::support::mock::script::{ANTHROPIC_PATH, Delivery, Reply, Rule, Script, When};
use super::support::mock::truth::{Exchange, Truth};

/// How long the client runs its tool.
const TOOL: Duration = Duration::from_millis(700);
/// How long it waits before it tries again what was refused.
const RETRY: Duration = Duration::from_millis(400);
/// How long the user thinks between turns.
const USER: Duration = Duration::from_millis(300);
/// A pause in a stream that counts as a stall.
const STALL_MS: u64 = 1_300;

/// A refusal; then a model that waits, thinks, talks, stalls and asks for a tool; then its end.
fn script() -> Script {
    let paced = Delivery {
        first_byte_delay_ms: 250,
        first_token_ms: 350,
        thinking_ms: 60,
        delta_ms: 25,
        ..Delivery::default()
    };
    let work = Answer {
        blocks: vec![
            Block::Thinking("a thought of some length ".repeat(8)),
            Block::Text("and some words about it ".repeat(8)),
            Block::ToolUse { name: "Bash".into(), input: json!({"command": "make"}) },
        ],
        ..Answer::default()
    };
    // In the text: thirteen deltas of thought come first, with the signature.
    let stalling = Delivery { stall: Some((18, STALL_MS)), ..paced.clone() };
    let late = Delivery { first_byte_delay_ms: 150, ..Delivery::default() };
    let path = || When::path(ANTHROPIC_PATH);
    Script::of(vec![
        Rule::new(path(), refusal(429, "rate_limit_error", Some(1))).times(1).delivered(late),
        Rule::new(path(), Reply::Answer(work)).times(1).delivered(stalling),
        Rule::new(path(), Reply::Answer(Answer::text("All is well, as far as it goes.")))
            .delivered(paced),
    ])
}

fn ask(client: &mut Client, messages: &[Value]) {
    let tool = json!({"name": "Bash", "input_schema": {"type": "object"}});
    let body = json!({
        "model": "claude-mock", "stream": true, "max_tokens": 1000, "tools": [tool],
        "messages": messages,
    });
    client.post(ANTHROPIC_PATH, "anthropic-version: 2023-06-01\r\n", &body.to_string());
    client.response();
}

/// Two turns over one connection, the first with a refusal and a tool.
fn played() -> Truth {
    let server = Server::start(script()).unwrap();
    let mut client = Client::connect(&server);
    let mut messages = vec![json!({"role": "user", "content": "Make it."})];
    ask(&mut client, &messages);
    sleep(RETRY);
    ask(&mut client, &messages);
    sleep(TOOL);
    let id = "toolu_mock_0001_2";
    messages.push(json!({"role": "assistant", "content": [
        {"type": "thinking", "thinking": "a thought of some length ".repeat(8),
         "signature": "bW9jaw=="},
        {"type": "text", "text": "and some words about it ".repeat(8)},
        {"type": "tool_use", "id": id, "name": "Bash", "input": {"command": "make"}},
    ]}));
    messages.push(json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": id, "content": "done"},
    ]}));
    ask(&mut client, &messages);
    sleep(USER);
    messages.push(json!({"role": "assistant", "content": "All is well, as far as it goes."}));
    messages.push(json!({"role": "user", "content": "Once more."}));
    ask(&mut client, &messages);
    drop(client);
    server.stop()
}

/// When the first byte of a request came.
fn start_ts(truth: &Truth, call: &Exchange) -> i64 {
    let calls = &truth.connections[0].received.calls;
    calls.iter().find(|(end, _)| *end as u64 > call.request_offset).unwrap().1
}

/// Adds the parts of an answered call by the server's clock.
fn add_call(split: &mut WallTime, truth: &Truth, call: &Exchange) {
    let ms = |from: i64, until: i64| (until - from) as f64 / 1e6;
    let first_token = call.first_token_ts.unwrap();
    split.upload_ms += ms(start_ts(truth, call), call.request_end_ts);
    split.wait_ms += ms(call.request_end_ts, first_token);
    let told = || call.event_ts.iter().copied().zip(&call.event_phases);
    let thoughts: Vec<i64> =
        told().filter(|(_, phase)| **phase == Phase::Thinking).map(|(ts, _)| ts).collect();
    let thinking = match (thoughts.first(), thoughts.last()) {
        (Some(first), Some(last)) => ms(*first, *last),
        _ => 0.0,
    };
    let generated = call.event_ts.windows(2).filter(|pair| pair[0] >= first_token);
    let stall: f64 = generated.map(|pair| ms(pair[0], pair[1])).filter(|ms| *ms >= 1_000.0).sum();
    split.thinking_ms += thinking;
    split.stall_ms += stall;
    split.stream_ms += ms(first_token, call.end_ts.unwrap()) - thinking - stall;
}

/// The split of both turns by the server's clock.
fn served(truth: &Truth) -> [WallTime; 2] {
    let calls = truth.llm_calls();
    let [refused, asked, ended, once_more] = calls[..] else { panic!("four calls: {calls:?}") };
    let ms = |from: i64, until: i64| (until - from) as f64 / 1e6;
    let retry_ms = ms(start_ts(truth, refused), start_ts(truth, asked));
    let mut first = WallTime { retry_ms, ..WallTime::default() };
    add_call(&mut first, truth, asked);
    first.tool_ms = ms(asked.end_ts.unwrap(), start_ts(truth, ended));
    add_call(&mut first, truth, ended);
    let mut second = WallTime::default();
    add_call(&mut second, truth, once_more);
    [first, second]
}

fn parts(split: &WallTime) -> [(&'static str, f64); 8] {
    [
        ("upload", split.upload_ms),
        ("wait", split.wait_ms),
        ("thinking", split.thinking_ms),
        ("stream", split.stream_ms),
        ("stall", split.stall_ms),
        ("tool", split.tool_ms),
        ("user", split.user_ms),
        ("retry", split.retry_ms),
    ]
}

#[test]
fn the_time_of_a_turn_is_split_as_the_script_paused() {
    let truth = played();
    let turn = |finding| match finding {
        Finding::Turn(turn) => Some(*turn),
        _ => None,
    };
    let mut turns: Vec<Turn> = found::all(&truth).into_iter().filter_map(turn).collect();
    turns.sort_by_key(|turn| turn.turn);
    assert_eq!(turns.len(), 2, "{turns:#?}");
    for (turn, served) in turns.iter().zip(served(&truth)) {
        let whole_ms = served.total_ms();
        for ((name, found), (_, served)) in parts(&turn.wall_time).into_iter().zip(parts(&served)) {
            let off_ms = (found - served).abs();
            assert!(
                off_ms <= whole_ms / 100.0,
                "turn {}: {name} is {found:.1} ms, served {served:.1} ms of {whole_ms:.1} ms: {turn:#?}",
                turn.turn
            );
        }
        let found_ms = turn.end_ts.unwrap().ms_since(turn.start_ts);
        assert!((turn.wall_time.total_ms() - found_ms).abs() < 1e-3, "{turn:#?}");
        assert!((found_ms - whole_ms).abs() <= whole_ms / 100.0, "{found_ms} of {whole_ms} ms");
    }
    // A clock never runs ahead of a script: each pause is in it.
    let first = turns[0].wall_time;
    for (name, found, scripted) in [
        ("retry", first.retry_ms, 150.0 + RETRY.as_secs_f64() * 1e3),
        ("wait", first.wait_ms, 2.0 * (250.0 + 350.0)),
        ("thinking", first.thinking_ms, 12.0 * 60.0),
        ("stall", first.stall_ms, STALL_MS as f64),
        ("tool", first.tool_ms, TOOL.as_secs_f64() * 1e3),
    ] {
        assert!(found >= scripted * 0.99, "{name} took {found:.1} ms, the script says {scripted}");
    }
    assert_eq!((turns[0].retries, turns[0].tool_calls, turns[0].calls), (1, 1, 3));
}
