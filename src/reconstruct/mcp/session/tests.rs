//! Sessions message by message, written as their JSON.

use super::super::message::of_text;
use super::*;

/// What a test says happened: the way, the millisecond and the JSON.
type Said<'a> = (Way, i64, &'a str);

const HELLO: Said<'_> = (
    Way::In,
    1,
    r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#,
);

fn run(session: &mut Session, said: &[Said<'_>]) -> Vec<Ended> {
    let mut out = Vec::new();
    for (way, ts, json) in said {
        let mut messages = Vec::new();
        of_text(WallNanos(*ts), json, &mut messages);
        for message in messages {
            session.message(*way, message, &mut |ended| out.push(ended));
        }
    }
    out
}

fn calls(said: &[Said<'_>]) -> Vec<McpCall> {
    let mut session = Session::new("stdio");
    let mut out = run(&mut session, said);
    session.close(PartialReason::Closed, &mut |ended| out.push(ended));
    out.into_iter().map(|ended| ended.call).collect()
}

#[test]
fn a_greeting_settles_the_version_and_the_servers_name() {
    let found = calls(&[
        HELLO,
        (
            Way::Out,
            5,
            r#"{"result":{"protocolVersion":"2025-11-25","serverInfo":{"name":"files"}},"jsonrpc":"2.0","id":0}"#,
        ),
        (Way::In, 6, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
        (Way::In, 7, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}"#),
        (Way::Out, 9, r#"{"result":{"content":[]},"jsonrpc":"2.0","id":1}"#),
    ]);
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].protocol_version.as_deref(), Some("2025-11-25"));
    assert_eq!((found[1].request_id.as_deref(), found[1].end_ts), (None, None));
    let call = &found[2];
    assert_eq!(call.server_name.as_deref(), Some("files"));
    assert_eq!((call.target.as_deref(), call.is_error), (Some("read"), Some(false)));
    assert_eq!((call.start_ts, call.end_ts), (WallNanos(7), Some(WallNanos(9))));
    assert_eq!((call.partial, call.is_from_server), (None, false));
}

#[test]
fn ids_of_both_ways_are_apart() {
    let found = calls(&[
        HELLO,
        (Way::Out, 2, r#"{"jsonrpc":"2.0","id":0,"method":"sampling/createMessage","params":{}}"#),
        (Way::In, 3, r#"{"jsonrpc":"2.0","id":0,"result":{"model":"m"}}"#),
        (Way::Out, 4, r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32602,"message":"no"}}"#),
    ]);
    assert_eq!(
        (found[0].method.as_str(), found[0].is_from_server),
        ("sampling/createMessage", true)
    );
    assert_eq!((found[1].method.as_str(), found[1].error_code), ("initialize", Some(-32602)));
}

#[test]
fn progress_counts_with_its_request_and_cancelling_ends_it() {
    let call = |id, token| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"a","_meta":{{"progressToken":{token}}}}}}}"#
        )
    };
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1}}"#;
    let found = calls(&[
        (Way::In, 1, &call(1, "\"t\"")),
        (Way::Out, 2, progress),
        (Way::Out, 3, progress),
        (
            Way::In,
            4,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"user"}}"#,
        ),
        (Way::Out, 5, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
        (Way::Out, 6, progress),
    ]);
    assert_eq!((found[0].progress, found[0].is_cancelled), (2, true));
    assert_eq!((found[0].end_ts, found[0].partial), (Some(WallNanos(4)), None));
    assert_eq!(found[1].method, "notifications/progress", "of nothing that is open");
    assert_eq!(found.len(), 2);
}

#[test]
fn other_protocols_on_json_rpc_are_none_of_ours() {
    let other = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1}}"#;
    let odd = r#"{"jsonrpc":"2.0","id":1,"method":"session/prompt","params":{}}"#;
    assert_eq!(calls(&[(Way::In, 1, other), (Way::In, 2, odd)]), []);
    assert_eq!(calls(&[(Way::In, 2, odd)]), [], "nothing shows what it is");
    let known = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#;
    let found = calls(&[(Way::In, 2, odd), (Way::In, 3, known)]);
    assert_eq!(found.len(), 2, "what came before is of the same protocol");
}

#[test]
fn what_is_not_answered_says_why() {
    let mut session = Session::new("stdio");
    let ask = |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
    let mut out = run(&mut session, &[(Way::In, 1, &ask(1)), (Way::In, 2, &ask(1))]);
    assert_eq!(out[0].call.partial, Some(PartialReason::NoResponse), "its id is used again");
    session.gap(Way::Out);
    out.extend(run(&mut session, &[(Way::In, 3, &ask(2))]));
    session.close(PartialReason::StillOpen, &mut |ended| out.push(ended));
    let reasons: Vec<_> = out.iter().map(|ended| ended.call.partial.unwrap().as_str()).collect();
    assert_eq!(reasons, ["no_response", "gap", "still_open"]);
}

#[test]
fn an_answer_may_come_before_the_request_it_answers_but_not_from_an_earlier_time() {
    let ask = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let found = calls(&[(Way::Out, 9, answer), (Way::In, 4, ask)]);
    assert_eq!((found[0].start_ts, found[0].end_ts), (WallNanos(4), Some(WallNanos(9))));
    let found = calls(&[(Way::Out, 3, answer), (Way::In, 4, ask)]);
    assert_eq!(found[0].partial, Some(PartialReason::Closed));
}

#[test]
fn open_requests_are_bounded() {
    let mut session = Session::new("stdio");
    let mut ended = 0;
    for id in 0..MAX_OPEN as i64 + 5 {
        let ask = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
        ended += run(&mut session, &[(Way::In, id, &ask)]).len();
        let answer = format!(r#"{{"jsonrpc":"2.0","id":"x{id}","result":{{}}}}"#);
        run(&mut session, &[(Way::Out, id, &answer)]);
        assert!(session.open.len() <= MAX_OPEN && session.early.len() <= MAX_OPEN);
    }
    assert_eq!(ended, 5);
}
