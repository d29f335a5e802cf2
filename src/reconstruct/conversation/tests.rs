//! Sessions as agents hold them, and where their calls are put.

use proptest::prelude::*;

use super::calls::{
    Found, Made, Said, Session, ask, at, define, model, result, system, thought, user,
};
use crate::reconstruct::finding::{CallClass, Context, LlmCall, PartialReason};

/// A history in the making.
fn history(parts: &[&[Said]]) -> Vec<Said> {
    parts.concat()
}

fn tools() -> Vec<Said> {
    vec![system("be brief"), define(r#"{"name":"sh","description":"runs"}"#)]
}

/// A question, a tool, its result, an answer; then a second question.
fn two_turns() -> Found {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("fix the test")]]);
    let asks = [thought("hm"), model("I look."), ask("t1", "sh", r#"{"c":"ls"}"#)];
    session.call(Made::new(1, (0, 100), &first).says(&asks));
    let second = history(&[&first, &asks, &[result("t1", "a b c")]]);
    session.call(Made::new(2, (150, 200), &second).says(&[model("Fixed.")]));
    let third = history(&[&second, &[model("Fixed."), user("thanks, now the other")]]);
    session.call(Made::new(3, (1_000, 1_100), &third).says(&[model("Done.")]));
    session.end()
}

#[test]
fn what_is_repeated_makes_a_conversation_and_the_users_words_make_turns() {
    let found = two_turns();
    let expected = [(1, Some(1), Some(1), 1), (2, Some(1), Some(1), 1), (3, Some(1), Some(2), 1)];
    assert_eq!(found.table(), expected);
    assert_eq!(found.conversations.len(), 1);
    let conversation = &found.conversations[0];
    assert_eq!((conversation.turns, conversation.calls), (2, 3));
    assert_eq!((conversation.class, conversation.cut), (CallClass::Main, None));
    let prompts: Vec<_> = found.turns.iter().map(|turn| turn.prompt.as_deref()).collect();
    assert_eq!(prompts, [Some("fix the test"), Some("thanks, now the other")]);
    assert_eq!(found.turns[0].tool_calls, 1);
    assert!(found.calls.iter().all(|call| call.content.request.is_empty()));
}

#[test]
fn a_tool_runs_from_its_last_argument_to_the_request_with_its_result() {
    let found = two_turns();
    let tool = &found.tools[0];
    assert_eq!((tool.call_id, tool.result_call_id), (1, Some(2)));
    assert_eq!((tool.start_ts, tool.end_ts), (at(100), Some(at(150))));
    assert_eq!((tool.name.as_deref(), tool.result.as_deref()), (Some("sh"), Some("a b c")));
    assert_eq!((tool.result_bytes, tool.is_server_side), (Some(5), false));
    assert_eq!(found.carried["t1"], 2);
}

#[test]
fn the_time_of_a_turn_is_split() {
    let turn = &two_turns().turns[0];
    let time = turn.wall_time;
    assert_eq!((time.upload_ms, time.wait_ms, time.tool_ms), (20.0, 110.0, 50.0));
    // All blocks of a made response come together, so reasoning and words overlap.
    assert_eq!((time.thinking_ms + time.stream_ms, time.user_ms, time.retry_ms), (20.0, 0.0, 0.0));
    assert_eq!(time.total_ms(), 200.0);
}

#[test]
fn the_context_is_told_by_source() {
    let found = two_turns();
    let expected = Context {
        system_bytes: 8,
        tool_definition_bytes: 34,
        tool_result_bytes: 5,
        user_bytes: 12,
        assistant_bytes: 2 + 7 + 10,
        blocks: 7,
    };
    assert_eq!(found.calls[1].context, Some(expected));
}

#[test]
fn a_failed_attempt_and_its_retry_are_one_step() {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("hi")]]);
    session.call(Made::new(1, (0, 50), &first).fails(429));
    session.call(Made::new(2, (150, 200), &first).fails(529));
    session.call(Made::new(3, (400, 500), &first).says(&[model("Hello.")]));
    let second = history(&[&first, &[model("Hello."), user("more")]]);
    session.call(Made::new(4, (600, 700), &second).says(&[model("More.")]));
    let found = session.end();
    let expected = [
        (1, Some(1), Some(1), 1),
        (2, Some(1), Some(1), 2),
        (3, Some(1), Some(1), 3),
        (4, Some(1), Some(2), 1),
    ];
    assert_eq!(found.table(), expected);
    assert_eq!(found.places[&3].retry_of, Some(2));
    let turn = &found.turns[0];
    assert_eq!((turn.calls, turn.retries, turn.wall_time.retry_ms), (3, 2, 400.0));
    assert_eq!(turn.wall_time.total_ms(), 500.0);
}

#[test]
fn a_stream_that_was_cut_is_tried_once_more_without_its_words() {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("hi")]]);
    let cut = Made::new(1, (0, 50), &first).says(&[model("Hel")]);
    session.call(cut.cut_by(PartialReason::Closed));
    session.call(Made::new(2, (60, 100), &first).says(&[model("Hello.")]));
    assert_eq!(session.end().places[&2].retry_of, Some(1));
}

#[test]
fn the_same_question_asked_twice_is_no_retry() {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("hi")]]);
    session.call(Made::new(1, (0, 50), &first).says(&[model("Hello.")]));
    session.call(Made::new(2, (60, 100), &first).says(&[model("Hi.")]));
    let found = session.end();
    assert_eq!(found.places[&2].retry_of, None);
    assert_eq!(found.conversations.len(), 2);
}

#[test]
fn a_title_beside_a_conversation_is_no_turn() {
    let mut session = Session::default();
    session.call(Made::new(1, (0, 40), &[user("name this: fix it")]).says(&[model("Fix")]));
    let first = history(&[&tools(), &[user("fix it")]]);
    session.call(Made::new(2, (10, 100), &first).says(&[model("Fixed.")]));
    let found = session.end();
    assert_eq!(found.classes(), [CallClass::Side, CallClass::Main]);
    assert_eq!(found.places[&1].turn, None);
    assert_eq!(found.conversations[0].parent_conversation_id, Some(2));
    assert_eq!(found.turns.len(), 1);
    // Alone it would be the conversation.
    let mut session = Session::default();
    session.call(Made::new(1, (0, 40), &[user("name this: fix it")]).says(&[model("Fix")]));
    assert_eq!(session.end().classes(), [CallClass::Main]);
}

#[test]
fn a_side_question_that_repeats_the_history_does_not_take_the_conversation_along() {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("fix it")]]);
    session.call(Made::new(1, (0, 100), &first).says(&[model("Fixed.")]));
    let second = history(&[&first, &[model("Fixed.")]]);
    let aside = history(&[&second[2..], &[user("who is next?")]]);
    session.call(Made::new(2, (110, 150), &aside).says(&[model("user")]));
    let next = history(&[&second, &[user("and the other?")]]);
    session.call(Made::new(3, (900, 999), &next).says(&[model("Too.")]));
    let found = session.end();
    assert_eq!(found.classes(), [CallClass::Main, CallClass::Side, CallClass::Main]);
    assert_eq!((found.places[&3].conversation_id, found.places[&3].turn), (Some(1), Some(2)));
    assert_eq!(found.conversations[1].parent_conversation_id, Some(1));
}

/// Two sub-agents at once, which end in either order.
fn sub_agents(swapped: bool) -> Found {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("look everywhere")]]);
    let task = |id: &str, where_: &str| {
        let arguments = format!(r#"{{"prompt":"Look at all of the {where_} files."}}"#);
        ask(id, "Task", &arguments)
    };
    let asks = [task("t1", "left"), task("t2", "right")];
    session.call(Made::new(1, (0, 100), &first).says(&asks));
    let agent = |call_id, from, where_: &str| {
        let prompt = format!("Look at all of the {where_} files.");
        let request = history(&[&tools(), &[user("<note>x</note>"), user(&prompt)]]);
        Made::new(call_id, (from, 300), &request).says(&[model(&format!("{where_} is fine"))])
    };
    let (left, right) = (agent(2, 110, "left"), agent(3, 111, "right"));
    let (one, other) = if swapped { (right, left) } else { (left, right) };
    session.call(one);
    session.call(other);
    let results = [result("t1", "left is fine"), result("t2", "right is fine")];
    let last = history(&[&first, &asks, &results]);
    session.call(Made::new(4, (320, 400), &last).says(&[model("All fine.")]));
    session.end()
}

#[test]
fn a_conversation_that_begins_with_a_tools_argument_is_the_work_of_that_tool() {
    let found = sub_agents(false);
    let of = |at: usize| {
        let it = &found.conversations[at];
        (it.class, it.parent_conversation_id, it.parent_tool_call_id.as_deref())
    };
    assert_eq!(of(0), (CallClass::Main, None, None));
    assert_eq!(of(1), (CallClass::Subagent, Some(1), Some("t1")));
    assert_eq!(of(2), (CallClass::Subagent, Some(1), Some("t2")));
    assert_eq!(found.turns[0].wall_time.tool_ms, 220.0);
    assert_eq!(found.places[&4].conversation_id, Some(1));
}

#[test]
fn calls_that_end_at_the_same_time_in_either_order_are_placed_alike() {
    let (one, other) = (sub_agents(false), sub_agents(true));
    assert_eq!(one.places, other.places);
    assert_eq!((&one.turns, &one.conversations), (&other.turns, &other.conversations));
}

#[test]
fn the_agents_own_ids_tell_agents_apart() {
    let mut session = Session::default();
    let ids = |agent: Option<&str>, parent: Option<&str>, class: &str| {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (agent, parent, class) = (owned(agent), owned(parent), owned(Some(class)));
        move |call: &mut LlmCall| {
            call.correlation.session_id = Some("s".into());
            call.correlation.agent_id = agent;
            call.correlation.parent_agent_id = parent;
            call.correlation.request_class = class;
        }
    };
    let main = history(&[&tools(), &[user("go")]]);
    session.call(Made::new(1, (0, 100), &main).with(ids(None, None, "main")));
    let sub = history(&[&tools(), &[user("sub")]]);
    session.call(Made::new(2, (110, 200), &sub).with(ids(Some("a"), None, "subagent")));
    let sub = history(&[&tools(), &[user("subsub")]]);
    session.call(Made::new(3, (120, 150), &sub).with(ids(Some("b"), Some("a"), "subagent")));
    session.call(Made::new(4, (130, 140), &[user("safe?")]).with(ids(None, None, "auxiliary")));
    let found = session.end();
    let parents: Vec<_> =
        found.conversations.iter().map(|it| (it.class, it.parent_conversation_id)).collect();
    use CallClass::{Main, Side, Subagent};
    let expected = [(Main, None), (Subagent, Some(1)), (Subagent, Some(2)), (Side, Some(1))];
    assert_eq!(parents, expected);
}

#[test]
fn an_agent_may_name_its_parent_by_thread_or_session() {
    let mut session = Session::default();
    let main = history(&[&tools(), &[user("go")]]);
    let ids = |thread: &str, parent: Option<&str>| {
        let (thread, parent) = (Some(thread.to_owned()), parent.map(str::to_owned));
        move |call: &mut LlmCall| {
            call.correlation.session_id = thread.clone();
            call.correlation.thread_id = thread;
            call.correlation.parent_agent_id = parent;
        }
    };
    session.call(Made::new(1, (0, 100), &main).with(ids("one", None)));
    session.call(Made::new(2, (110, 200), &main).with(ids("two", Some("one"))));
    let found = session.end();
    let conversation = &found.conversations[1];
    assert_eq!(conversation.class, CallClass::Subagent);
    assert_eq!(conversation.parent_conversation_id, Some(1));
}

#[test]
fn a_response_that_is_named_is_gone_on_with() {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("go")]]);
    session.call(Made::new(1, (0, 100), &first).says(&[ask("t1", "sh", "{}")]));
    let named = |call: &mut LlmCall| {
        call.correlation.previous_response_id = Some("msg_1".into());
    };
    let more = history(&[&tools(), &[result("t1", "ok")]]);
    session.call(Made::new(2, (120, 200), &more).with(named).says(&[model("Done.")]));
    // Over another way the whole is sent again.
    let whole =
        history(&[&first, &[ask("t1", "sh", "{}"), result("t1", "ok"), model("Done."), user("x")]]);
    session.call(Made::new(3, (220, 300), &whole));
    let found = session.end();
    let expected = [(1, Some(1), Some(1), 1), (2, Some(1), Some(1), 1), (3, Some(1), Some(2), 1)];
    assert_eq!(found.table(), expected);
    assert_eq!(found.tools[0].result_call_id, Some(2));
}

const SUMMARY: &str = "<summary>\nThe user asked for the parser to be fixed and for all tests.\n\
    The file src/parser.c was read, and one bound of a loop was changed.\n\
    What is left is to run the tests once more and to say what came of it.\n</summary>";

#[test]
fn a_summary_in_place_of_the_history_goes_on_with_the_conversation() {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("fix it")]]);
    let asks = [ask("t1", "sh", "{}")];
    session.call(Made::new(1, (0, 100), &first).says(&asks));
    let second = history(&[&first, &asks, &[result("t1", "ok"), user("Sum up.")]]);
    session.call(Made::new(2, (120, 200), &second).says(&[model(SUMMARY)]));
    let short = SUMMARY.replace("<summary>", "So far:").replace("</summary>", "");
    let third = history(&[&tools(), &[user(&format!("Going on.\n{short}"))]]);
    session.call(Made::new(3, (220, 300), &third).says(&[model("All pass.")]));
    let found = session.end();
    assert_eq!(found.classes(), [CallClass::Main, CallClass::Compaction, CallClass::Main]);
    assert_eq!(found.conversations.len(), 1);
    assert_eq!(found.conversations[0].compactions, 1);
    assert_eq!(found.places[&3].conversation_id, Some(1));
}

#[test]
fn a_history_that_was_changed_is_known_by_its_last_answer() {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("go")]]);
    let (one, other) = (ask("t1", "sh", "{\"a\":1}"), ask("t2", "sh", "{\"a\":2}"));
    session.call(Made::new(1, (0, 100), &first).says(std::slice::from_ref(&one)));
    let second = history(&[&first, &[one.clone(), result("t1", "long long text")]]);
    session.call(Made::new(2, (120, 200), &second).says(std::slice::from_ref(&other)));
    let third = history(&[&first, &[one, result("t1", "[gone]"), other, result("t2", "ok")]]);
    session.call(Made::new(3, (220, 300), &third).says(&[model("Done.")]));
    let found = session.end();
    assert_eq!(found.table()[2], (3, Some(1), Some(1), 1));
    assert_eq!(found.tools.len(), 2);
    assert_eq!(found.tools[1].result.as_deref(), Some("ok"));
}

#[test]
fn a_lost_cache_is_told_with_its_cause() {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("go")]]);
    session.call(Made::new(1, (0, 100), &first).says(&[model("1")]).caches(0, 9_000));
    let changed = [system("be brief"), define(r#"{"name":"sh","description":"runs it"}"#)];
    let second = history(&[&changed, &[user("go"), model("1"), user("on")]]);
    session.call(Made::new(2, (200, 300), &second).says(&[model("2")]).caches(0, 9_100));
    let third = history(&[&second, &[model("2"), user("later")]]);
    let later = Made::new(3, (700_000, 700_100), &third).says(&[model("3")]);
    session.call(later.caches(0, 9_200));
    let fourth = history(&[&third, &[model("3"), user("other")]]);
    let other = Made::new(4, (700_200, 700_300), &fourth).says(&[model("4")]);
    session.call(other.caches(0, 9_300).with(|call| call.request_model = Some("n".into())));
    let fifth = history(&[&fourth, &[model("4"), user("same")]]);
    let same = Made::new(5, (700_400, 700_500), &fifth);
    session.call(same.caches(9_300, 10).with(|call| call.request_model = Some("n".into())));
    let found = session.end();
    let told: Vec<_> = found
        .breaks
        .iter()
        .map(|it| (it.call_id, it.cause, it.first_difference.as_deref(), it.lost_tokens))
        .collect();
    let expected = [
        (2, "content", Some("tools[0].description"), Some(9_000)),
        (3, "ttl", None, Some(9_100)),
        (4, "model", None, Some(9_200)),
    ];
    assert_eq!(told, expected);
    assert_eq!(found.breaks[1].idle_ms, Some(699_700.0));
}

#[test]
fn uses_without_ids_are_paired_in_their_order() {
    let mut session = Session::default();
    let mut so_far = history(&[&tools(), &[user("go")]]);
    for call_id in 1..=3 {
        let from = call_id as i64 * 100;
        let asks = [ask("", "sh", "{}"), ask("", "read", "{}")];
        session.call(Made::new(call_id, (from, from + 50), &so_far).says(&asks));
        so_far.extend(asks);
        so_far.extend([result("", "same"), result("", &format!("other {call_id}"))]);
    }
    session.call(Made::new(4, (400, 450), &so_far).says(&[model("Done.")]));
    let found = session.end();
    let told: Vec<_> = found
        .tools
        .iter()
        .map(|tool| (tool.tool_call_id.as_str(), tool.name.as_deref(), tool.result_call_id))
        .collect();
    let (sh, read) = (Some("sh"), Some("read"));
    let expected = [
        ("1.0", sh, Some(2)),
        ("1.1", read, Some(2)),
        ("2.0", sh, Some(3)),
        ("2.1", read, Some(3)),
        ("3.0", sh, Some(4)),
        ("3.1", read, Some(4)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_use_without_result_is_told_in_the_end() {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("go")]]);
    session.call(Made::new(1, (0, 100), &first).says(&[ask("t1", "sh", "{}")]));
    assert!(session.found.tools.is_empty());
    let found = session.end();
    assert_eq!((found.tools[0].end_ts, found.tools[0].result_call_id), (None, None));
    assert_eq!(found.tools[0].process.map(|it| it.pid), Some(42));
}

#[test]
fn counting_tokens_is_no_part_of_a_conversation() {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("go")]]);
    let counts = |call: &mut LlmCall| {
        call.placement.class = CallClass::CountTokens;
    };
    session.call(Made::new(1, (0, 10), &first).with(counts));
    session.call(Made::new(2, (20, 100), &first).says(&[model("Hello.")]));
    let second = history(&[&first, &[model("Hello."), user("more")]]);
    session.call(Made::new(3, (110, 120), &second).with(counts));
    session.call(Made::new(4, (130, 200), &second));
    let found = session.end();
    use CallClass::{CountTokens, Main};
    assert_eq!(found.classes(), [CountTokens, Main, CountTokens, Main]);
    assert_eq!(found.places[&3].conversation_id, Some(1));
    assert_eq!((found.places[&3].turn, found.conversations[0].calls), (None, 2));
}

#[test]
fn other_processes_with_the_same_first_words_are_other_conversations() {
    let mut session = Session::default();
    let first = history(&[&tools(), &[user("hi")]]);
    session.call(Made::new(1, (0, 100), &first).says(&[model("One.")]));
    session.call(Made::new(2, (0, 100), &first).says(&[model("Two.")]).by(43));
    for (call_id, answer, pid) in [(3, "Two.", 43), (4, "One.", 42)] {
        let next = history(&[&first, &[model(answer), user("more")]]);
        session.call(Made::new(call_id, (200, 300), &next).by(pid));
    }
    let found = session.end();
    let conversations: Vec<_> =
        found.places.values().map(|place| place.conversation_id.unwrap()).collect();
    assert_eq!(conversations, [1, 2, 2, 1]);
}

#[test]
fn a_conversation_whose_begin_was_not_seen_says_so() {
    let mut session = Session::default();
    let request = history(&[&tools(), &[user("hi"), model("Hello."), user("more")]]);
    session.call(Made::new(1, (0, 100), &request));
    assert_eq!(session.end().conversations[0].cut, Some(PartialReason::JoinedLate));
}

/// Words of a small language, so that histories meet again by chance.
fn any_block() -> impl Strategy<Value = Said> {
    prop_oneof![
        (0..4_u8).prop_map(|n| user(&format!("u{n}"))),
        (0..4_u8).prop_map(|n| model(&format!("m{n}"))),
        (0..3_u8).prop_map(|n| ask(&format!("t{n}"), "sh", "{\"prompt\":\"u1 u2 u3 u4\"}")),
        (0..3_u8).prop_map(|n| ask("", "sh", &format!("{{\"n\":{n}}}"))),
        (0..3_u8).prop_map(|n| result(&format!("t{n}"), "r")),
        (0..2_u8).prop_map(|_| result("", "r")),
        Just(thought("hm")),
        Just(define("{\"name\":\"sh\"}")),
        Just(model(SUMMARY)),
        Just(user(SUMMARY)),
    ]
}

type AnyCall = (Vec<Said>, Vec<Said>, i64, i64, u8);

fn any_calls() -> impl Strategy<Value = Vec<AnyCall>> {
    let blocks = || prop::collection::vec(any_block(), 0..6);
    prop::collection::vec((blocks(), blocks(), 0_i64..50, 0_i64..30, 0_u8..8), 1..12)
}

fn session_of(calls: &[AnyCall], order: impl Iterator<Item = usize>) -> Found {
    let mut session = Session::default();
    for at in order {
        let (request, response, from, lasts, what) = &calls[at];
        let made = Made::new(at as u64 + 1, (*from * 10, (*from + *lasts) * 10), request);
        let made = made.says(response);
        session.call(match what {
            0 => made.fails(429),
            1 => made.cut_by(PartialReason::StillOpen),
            2 => made.with(|call| call.correlation.previous_response_id = Some("msg_1".into())),
            3 => made.with(|call| call.correlation.session_id = Some("s".into())),
            _ => made,
        });
    }
    session.end()
}

proptest! {
    #[test]
    fn every_call_has_one_place_and_times_add_up(calls in any_calls()) {
        let found = session_of(&calls, 0..calls.len());
        prop_assert_eq!(found.places.len(), calls.len());
        prop_assert!(found.places.values().all(|place| place.conversation_id.is_some()));
        let placed: u64 = found.conversations.iter().map(|it| it.calls).sum();
        prop_assert_eq!(placed, calls.len() as u64);
        let in_turns = found.places.values().filter(|place| place.turn.is_some()).count() as u64;
        prop_assert_eq!(found.turns.iter().map(|turn| turn.calls).sum::<u64>(), in_turns);
        for turn in &found.turns {
            let Some(end) = turn.end_ts else { continue };
            let wall = end.ms_since(turn.start_ts);
            prop_assert!((turn.wall_time.total_ms() - wall).abs() < 1e-6, "{turn:?}");
        }
        for conversation in &found.conversations {
            prop_assert_ne!(conversation.parent_conversation_id, Some(conversation.conversation_id));
        }
        let uses = |it: &&Said| format!("{it:?}").contains("ToolUse");
        let asked: usize = calls.iter().map(|call| call.1.iter().filter(uses).count()).sum();
        prop_assert!(found.tools.len() >= asked);
    }

    #[test]
    fn the_same_calls_give_the_same(calls in any_calls()) {
        let once = session_of(&calls, 0..calls.len());
        prop_assert_eq!(once, session_of(&calls, 0..calls.len()));
    }
}
