//! The Responses API over a WebSocket, compressed and not.

use std::time::Duration;

use serde_json::json;

use super::cases::rich;
use super::found::equal_served;
use super::support::client::Client;
use super::support::mock::Server;
use super::support::mock::responses::RESPONSES_PATH;
use super::support::mock::script::{Delivery, Reply, Rule, Script, When};
use super::support::mock::split::Split;
use super::support::mock::truth::Truth;
use super::support::mock::websocket::Packer;

const PATIENCE: Duration = Duration::from_secs(20);

/// The client's side of a text message (RFC 6455, 5.2): masked.
fn message(payload: &[u8], is_packed: bool) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![if is_packed { 0xc1 } else { 0x81 }];
    // The shortest form of the length is the only one allowed.
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// What a server serves to a session of a warm-up and two questions, delivered so.
pub fn served(delivery: Delivery, message_deflate: Option<bool>) -> Truth {
    let rule = Rule::new(When::path(RESPONSES_PATH), Reply::WebSocket(rich()));
    let delivery = Delivery { message_deflate, ..delivery };
    let server = Server::start(Script::of(vec![rule.delivered(delivery)])).unwrap();
    let mut client = Client::connect(&server);
    client.send(
        format!(
            "GET {RESPONSES_PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
             OpenAI-Beta: responses_websockets=2026-02-06\r\n\r\n"
        )
        .as_bytes(),
    );
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(head.contains("permessage-deflate"), message_deflate.is_some(), "{head}");
    let mut packer = message_deflate.map(Packer::new);
    for turn in 0..3_usize {
        let mut request = json!({
            "type": "response.create", "model": "gpt-mock", "stream": true,
            "input": [{"role": "user", "content": format!("Frage {turn}: 検査 🌍")}],
        });
        if turn == 0 {
            request["generate"] = json!(false);
        } else {
            request["previous_response_id"] = json!(format!("resp_mock_{turn:04}"));
        }
        let text = request.to_string();
        let payload = match &mut packer {
            Some(packer) => packer.pack(text.as_bytes()).unwrap(),
            None => text.into_bytes(),
        };
        client.send(&message(&payload, packer.is_some()));
        let answered =
            |truth: &Truth| truth.llm_calls().iter().filter(|call| call.complete).count() > turn;
        assert!(server.wait_for(PATIENCE, answered).is_ok(), "question {turn} has no answer");
    }
    drop(client);
    server.stop()
}

#[test]
fn every_message_of_a_session_is_found_as_served() {
    for deflate in [None, Some(true), Some(false)] {
        let truth = served(Delivery { split: Split::Every(100), ..Delivery::default() }, deflate);
        let calls = truth.llm_calls();
        assert_eq!(calls.len(), 3);
        assert!(calls.iter().all(|call| call.usage_final), "{calls:?}");
        assert!(calls[0].first_token_ts.is_none() && calls[1].first_token_ts.is_some());
        let packed = calls[1].response_wire_bytes < calls[1].response_body_bytes;
        assert_eq!(packed, deflate.is_some());
        equal_served(&format!("a WebSocket, deflate {deflate:?}"), &truth);
    }
}
