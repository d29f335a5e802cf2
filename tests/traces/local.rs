//! A made-up session on one machine: an agent with a model server and a tool server beside it, all
//! observed, and connections of every sort.
//!
//! It goes through what the tables of files, connections and standard streams must get right: an
//! exchange seen from both ends, gaps in plain text, plaintext that is missing or of unknown socket,
//! a tunnel, a refused connection, names from every source, a pipe and who is at its other end.

use agentsight::event::{
    ChannelType, Confidence, Direction, Event, PathOperation, ProbeState, Role, Source,
};
use serde_json::json;

use super::builder::{Ends, Process, Recording, failed, made, read};
use super::wire::{client_hello, dns_response, request, response};

/// How long the made-up recording lasts.
pub const END_MS: u64 = 9_500;

const READ: Direction = Direction::Read;
const WRITE: Direction = Direction::Write;

/// All events of the session.
pub fn events() -> Vec<Event> {
    let mut r = Recording::default();
    let argv = ["demo-agent", "--model", "local-test"];
    let agent = r.start(5, 4000, 4100, "/opt/demo/bin/demo-agent", &argv);
    r.probe(30, agent, "/opt/demo/bin/demo-agent", ProbeState::Attached);
    let server =
        r.start(20, 4000, 4200, "/usr/bin/model-server", &["model-server", "--port", "11434"]);
    ask_the_model(&mut r, agent, server);
    use_a_tool_server(&mut r, agent);
    talk_to_the_internet(&mut r, agent);
    update(&mut r);
    change_files(&mut r, agent);
    r.exit(9_200, server, Err(15));
    r.exit(9_300, agent, Ok(0));
    r.finish(END_MS)
}

/// Two calls over one connection, which both processes have an end of.
fn ask_the_model(r: &mut Recording, agent: Process, server: Process) {
    let (client, listening) = ("127.0.0.1:40100", "127.0.0.1:11434");
    let asking = r.open(400, agent, 12, Ends::connect(client, listening));
    let answering = r.open(401, server, 7, Ends::accept(listening, client));
    for (ms, text) in [(410, "Which file is it?"), (2_000, "Thank you.")] {
        let body = json!({
            "model": "local-test", "messages": [{"role": "user", "content": text}],
        });
        let message = request(
            "POST",
            listening,
            "/v1/chat/completions",
            "demo-agent/2.4.1 (cli)",
            &body.to_string(),
        );
        r.moves(ms, asking, (Source::Socket, WRITE), &message);
        r.moves(ms + 1, answering, (Source::Socket, READ), &message);
        let answer = json!({
            "id": format!("chatcmpl-{ms}"), "object": "chat.completion", "model": "local-test:7b",
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": "It is src/parser.c."}}],
            "usage": {"prompt_tokens": 31, "completion_tokens": 9, "total_tokens": 40},
        });
        let answer = response("200 OK", "", &answer.to_string());
        r.moves(ms + 600, answering, (Source::Socket, WRITE), &answer);
        r.moves(ms + 601, asking, (Source::Socket, READ), &answer);
    }
    // What the agent read last could not be copied; the server's end has it.
    r.pass(asking, READ, 64);
    r.moves(4_000, asking, (Source::Socket, READ), b"HTTP/1.1 408 Request Timeout\r\n\r\n");
    r.lose(4_000, ("socket_data", "ring_full"), 1, 64, None);
    r.close_socket(4_100, asking);
    r.close_socket(4_102, answering);
}

/// JSON lines through the pipes of a child, and its words on standard error.
fn use_a_tool_server(r: &mut Recording, agent: Process) {
    let argv = ["node", "tool-server.js", "--stdio"];
    let tool = r.start(900, 4100, 4300, "/usr/bin/node", &argv);
    let [to_tool, from_tool, errors] = ["pipe:[7001]", "pipe:[7002]", "pipe:[7003]"];
    let input = r.open(950, tool, 0, Ends::pipe(to_tool));
    let output = r.open(960, tool, 1, Ends::pipe(from_tool));
    let error = r.open(955, tool, 2, Ends::pipe(errors));
    let asking = r.open(940, agent, 20, Ends::pipe(to_tool));
    let hearing = r.open(961, agent, 21, Ends::pipe(from_tool));
    let call = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}\n";
    let result = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[]}}\n";
    r.pass(asking, WRITE, call.len() as u64);
    r.moves(951, input, (Source::Stdio, READ), call.as_bytes());
    r.moves(
        956,
        error,
        (Source::Stdio, WRITE),
        "tool server: \u{fc}bersetzt \u{1b}[1m1\u{1b}[0m\n".as_bytes(),
    );
    r.moves(960, output, (Source::Stdio, WRITE), result.as_bytes());
    r.pass(hearing, READ, result.len() as u64);
    // Of a second answer only the end was captured.
    r.pass(output, WRITE, 4_096);
    r.moves(1_500, output, (Source::Stdio, WRITE), b"}}\n");
    r.lose(1_500, ("stdio_data", "ring_full"), 1, 4_096, None);
    for pipe in [input, output, error] {
        r.close_socket(8_000, pipe);
    }
    r.close_socket(8_001, asking);
    r.exit(8_000, tool, Ok(0));
}

/// TLS whose plaintext is seen: on a socket that is known for certain, on one that is likely, on one
/// that is not known, and through a tunnel of a proxy.
fn talk_to_the_internet(r: &mut Recording, agent: Process) {
    let resolver = Ends {
        channel_type: ChannelType::Udp,
        role: Role::Connect,
        local: "198.51.100.4:41000",
        remote: "198.51.100.1:53",
    };
    let resolver = r.open(4_200, agent, 13, resolver);
    let dns = (Source::Dns, READ);
    r.moves(4_210, resolver, dns, &dns_response("files.demo.example", &[[192, 0, 2, 20]]));
    r.moves(4_215, resolver, dns, &dns_response("old.demo.example", &[]));
    r.close_socket(4_216, resolver);
    r.refused(4_220, agent, "192.0.2.99:443", 111);
    let get = |host: &str, path: &str| request("GET", host, path, "demo-agent/2.4.1 (cli)", "");
    let page = response("200 OK", "", &"the documentation of a parser. ".repeat(400));

    let socket = r.open(4_230, agent, 14, Ends::connect("198.51.100.4:50200", "192.0.2.30:443"));
    let hello = client_hello("docs.demo.example", &["http/1.1"]);
    r.moves(4_231, socket, (Source::TlsHello, WRITE), &hello);
    let tls = r.connect(agent, "boringssl");
    r.carries(4_240, socket, tls, Confidence::Certain);
    r.send(4_241, tls, &get("docs.demo.example", "/parser"));
    r.receive(4_300, tls, &page);
    r.pass(socket, WRITE, 700);
    r.pass(socket, READ, page.len() as u64 + 3_200);
    r.close(4_400, tls);
    r.close_socket(4_401, socket);

    // The name is known from DNS alone, and part of the plaintext is missing.
    let socket = r.open(4_500, agent, 14, Ends::connect("198.51.100.4:50201", "192.0.2.20:443"));
    let tls = r.connect(agent, "boringssl");
    r.carries(4_520, socket, tls, Confidence::Likely);
    r.receive(4_600, tls, &[7; 900]);
    r.pass(socket, WRITE, 900);
    r.pass(socket, READ, 250_000);
    r.close_socket(4_700, socket);

    let tls = r.connect(agent, "boringssl");
    r.send(5_000, tls, &get("status.demo.example", "/"));
    r.receive(5_050, tls, &response("200 OK", "", "all is well"));
    r.close(5_060, tls);

    let socket = r.open(5_200, agent, 14, Ends::connect("198.51.100.4:50202", "198.51.100.8:3128"));
    let tunnel =
        b"CONNECT mirror.demo.example:443 HTTP/1.1\r\nHost: mirror.demo.example:443\r\n\r\n";
    r.moves(5_201, socket, (Source::Socket, WRITE), tunnel);
    r.moves(5_210, socket, (Source::Socket, READ), b"HTTP/1.1 200 Connection established\r\n\r\n");
    let hello = client_hello("mirror.demo.example", &["h2", "http/1.1"]);
    r.moves(5_211, socket, (Source::TlsHello, WRITE), &hello);
    let tls = r.connect(agent, "boringssl");
    r.carries(5_230, socket, tls, Confidence::Certain);
    r.send(5_231, tls, &get("mirror.demo.example", "/list"));
    r.receive(5_300, tls, &response("404 Not Found", "", "no list"));
    r.pass(socket, WRITE, 610);
    r.pass(socket, READ, 4_100);
    r.close_socket(5_400, socket);
}

/// A program whose TLS functions nobody could find: what it said is not in the trace.
fn update(r: &mut Recording) {
    let updater = r.start(6_000, 4100, 4400, "/opt/demo/bin/updater", &["updater", "--check"]);
    r.probe(6_010, updater, "/opt/demo/bin/updater", ProbeState::Unresolved);
    let socket = r.open(6_050, updater, 5, Ends::connect("198.51.100.4:50300", "192.0.2.40:443"));
    let hello = client_hello("updates.demo.example", &["h2"]);
    r.moves(6_051, socket, (Source::TlsHello, WRITE), &hello);
    r.pass(socket, WRITE, 1_400);
    r.pass(socket, READ, 812_000);
    r.close_socket(6_900, socket);
    r.used(6_800, updater, "/opt/demo/lib/update.bin", made(790_528));
    r.exit(7_000, updater, Ok(0));
}

fn change_files(r: &mut Recording, agent: Process) {
    r.used(300, agent, "/home/demo/project/README.md", read(2_048));
    r.used(310, agent, "/home/demo/project/.env", failed(1, 13));
    r.used(311, agent, "/home/demo/project/agent.toml", failed(4, 2));
    r.changes(2_700, agent, PathOperation::Mkdir, "/home/demo/project/out", None);
    r.used(2_710, agent, "/home/demo/project/out/a.tmp", made(77));
    let (from, to) = ("/home/demo/project/out/a.tmp", "/home/demo/project/out/a.txt");
    r.changes(2_715, agent, PathOperation::Rename, from, Some(to));
    r.changes(2_800, agent, PathOperation::Symlink, "out/a.txt", Some("/home/demo/project/latest"));
    r.used(2_900, agent, "/home/demo/project/old.txt", read(10));
    r.changes(2_901, agent, PathOperation::Unlink, "/home/demo/project/old.txt", None);
    r.changes(2_950, agent, PathOperation::Truncate, "/home/demo/project/log.txt", None);
}
