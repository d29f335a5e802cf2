//! No credential reaches a disk, and nothing else is lost for it.

use std::path::Path;
use std::process::{Command, Stdio};

use agentsight::trace::{Reader, log_path, repair};
use serde_json::json;

use super::client::{REQUESTS, Task, python, script};
use super::compare::Expected;
use super::host::{Host, live, until};
use super::recorder::{Recording, Running, record, recorder};
use super::support::mock::Server;
use super::trace::Trace;

/// Stands in every credential of these tests and nowhere else.
const CANARY: &str = "cAnArY7f3K9q2Zx8";
/// `agent:` and the canary as `curl -u` sends them.
const CANARY_BASE64: &str = "YWdlbnQ6Y0FuQXJZN2YzSzlxMlp4OA==";

/// Every header field of a request that carries a credential.
fn credentials() -> Vec<(&'static str, String)> {
    let with = |text: &str| text.replace('§', CANARY);
    vec![
        ("authorization", with("Bearer sk-ant-api03-§")),
        ("proxy-authorization", with("Basic §")),
        ("x-api-key", with("§")),
        ("api-key", with("§")),
        ("x-goog-api-key", with("AIza-§")),
        ("cookie", with("session=§; theme=\"§\"")),
        ("x-amz-security-token", with("§")),
        ("x-auth-token", with("§")),
        ("x-custom-secret", with("§")),
        ("x-session-key", with("§")),
        ("sec-websocket-protocol", with("realtime, openai-insecure-api-key.§")),
        ("referer", with("https://user:§@localhost/?access_token=§")),
    ]
}

/// What must not be found, as it is and as it is encoded.
const FORBIDDEN: [&str; 2] = [CANARY, CANARY_BASE64];

/// Looks for credentials in the bytes of every file of a directory.
#[track_caller]
fn nothing_in_files(directory: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files += nothing_in_files(&path);
            continue;
        }
        files += 1;
        nothing_in_file(&path, &FORBIDDEN);
    }
    files
}

/// Looks for words in the bytes of a file.
#[track_caller]
pub fn nothing_in_file(path: &Path, forbidden: &[&str]) {
    let bytes = std::fs::read(path).unwrap();
    for word in forbidden {
        let found = memchr::memmem::find(&bytes, word.as_bytes());
        assert_eq!(found, None, "{word} is in {}", path.display());
    }
}

/// Looks for words in every value of a trace: all columns of all rows, and the metadata.
#[track_caller]
pub fn nothing_in_values(path: &Path, forbidden: &[&str]) {
    let reader = Reader::open(path).unwrap();
    let mut rows = 0;
    for event in reader.events(None) {
        let event = event.unwrap();
        rows += 1;
        let payload = match &event.body {
            agentsight::event::Body::Data(tls) => &tls.data[..],
            _ => &[],
        };
        let values = format!("{event:?}");
        for word in forbidden {
            let in_payload = memchr::memmem::find(payload, word.as_bytes());
            assert_eq!(in_payload, None, "{}", String::from_utf8_lossy(payload));
            assert!(!values.contains(word), "{values}");
        }
    }
    assert!(rows > 10, "only {rows} rows");
    for (key, value) in reader.metadata() {
        assert!(forbidden.iter().all(|word| !value.contains(word)), "{key}: {value}");
    }
    assert_eq!(reader.metadata()["agentsight.redaction"], "secrets");
}

/// Directories for the recorder's output and temporary files, empty.
fn directories(host: &Host) -> (std::path::PathBuf, std::path::PathBuf) {
    let (output, temporary) = (host.path("output"), host.path("temporary"));
    std::fs::create_dir(&output).unwrap();
    std::fs::create_dir(&temporary).unwrap();
    (output, temporary)
}

/// Records a client that sends every credential, and finds everything but these.
fn hides(host: &Host, client: impl FnOnce(&Task) -> Command) {
    let server = Server::start(script()).unwrap();
    let task = Task::new(host, &server);
    let (directory, temporary) = directories(host);
    let output = directory.join("run.parquet");
    let mut client = client(&task);
    client.env("TMPDIR", &temporary);
    record(&output, &["--interval", "100ms"], &mut client).succeeded();
    let truth = server.stop();
    assert_eq!(truth.llm_calls().len(), REQUESTS, "the client did its task");
    for connection in &truth.connections {
        let received = String::from_utf8_lossy(&connection.received.kept).into_owned();
        assert!(received.contains(CANARY), "the client sent its credentials");
    }
    nothing_in_files(&directory);
    nothing_in_files(&temporary);
    nothing_in_values(&output, &FORBIDDEN);
    let prefixed = ["sk-ant-api03-", "AIza-"].map(|prefix| format!("{prefix}{CANARY}"));
    let secrets = [&prefixed[0], &prefixed[1], CANARY, CANARY_BASE64];
    Expected::all(&truth).hiding(&secrets).check(&Trace::open(&output));
}

#[test]
fn credentials_that_python_sends_are_replaced_and_nothing_else() {
    live(|host| {
        hides(host, |task| {
            let headers: serde_json::Map<_, _> = credentials()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect();
            let mut client = task.python(host, "client.py");
            client.env("CLIENT_HEADERS", serde_json::Value::Object(headers).to_string());
            client
        });
    });
}

#[test]
fn credentials_that_curl_sends_and_is_given_as_arguments_are_replaced() {
    live(|host| {
        hides(host, |task| {
            let plain = task.curl(host);
            // By a shell: its command line holds them, too.
            let mut command = String::from("exec env MY_API_KEY=CANARY curl");
            let options = |command: &mut String| {
                for (name, value) in credentials().into_iter().skip(1) {
                    command.push_str(&format!(" -H '{name}: {value}'"));
                }
                command.push_str(" -u agent:CANARY");
            };
            options(&mut command);
            for argument in plain.get_args().map(|argument| argument.to_str().unwrap()) {
                command.push_str(&format!(" '{argument}'"));
                // Options end with the request they are for.
                if argument == "--next" {
                    options(&mut command);
                }
            }
            let mut shell = Command::new("sh");
            shell.args(["-c", &command.replace("CANARY", CANARY)]).stdin(Stdio::null());
            shell
        });
    });
}

/// A conversation in the pieces that are written at a time, cut within credentials.
fn pieces() -> Vec<(&'static str, String)> {
    let (one, other) = CANARY.split_at(7);
    let request = [
        "POST /v1?beta=1&ke".to_owned(),
        format!("y={one}"),
        format!("{other}&x=1 HTTP/1.1\r\nAuthorization: Bea"),
        format!("rer sk-ant-api03-{one}"),
        format!("{other}\r"),
        format!("\nX-Api-Key: {one}"),
        format!("{other}\r\n folded-{CANARY}\r\nContent-Length: 4\r\n"),
        "\r\nbody".to_owned(),
    ];
    let response = [
        format!("HTTP/1.1 200 OK\r\nSet-Cookie: session={one}"),
        format!(
            "{other}; Path=/; HttpOnly\r\nx-auth-token: {CANARY}\r\ncontent-length: 6\r\n\r\nanswer"
        ),
    ];
    let mut pieces: Vec<_> = request.map(|piece| ("client", piece)).to_vec();
    pieces.extend(response.map(|piece| ("server", piece)));
    pieces
}

/// The same as a file, and the program that says it, with a credential among its arguments.
fn speaker(host: &Host, name: &str) -> Command {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let lines: String =
        pieces().iter().map(|(end, text)| format!("{}\n", json!([end, text]))).collect();
    let mut command = Command::new(python());
    command.arg(host.write(name, include_str!("programs/credentials.py")));
    command.arg(host.write("certificate.pem", &pair.cert.pem()));
    command.arg(host.write("key.pem", &pair.signing_key.serialize_pem()));
    command.arg(host.write("pieces.jsonl", &lines)).arg(host.path("done"));
    command.arg(format!("--api-key={CANARY}")).stdin(Stdio::piped());
    command
}

#[test]
fn heads_written_in_pieces_are_redacted_in_the_log_of_a_killed_recorder_too() {
    live(|host| {
        let name = format!("agentsight-credentials-{}.py", std::process::id());
        let (directory, temporary) = directories(host);
        let output = directory.join("run.parquet");
        let mut recorder = recorder(&output);
        recorder.args(["-c", &name, "--interval", "100ms"]).env("TMPDIR", &temporary);
        let mut recording = Recording::start_as(&mut recorder, &output);
        let mut speaker = Running::start(&mut speaker(host, &name));
        let input = speaker.stdin();
        until("the end of what is said", || host.path("done").exists());
        // Everything is in the log once the end of both streams is.
        let bodies = ["body", "answer"];
        let written = || {
            let Ok(reader) = Reader::open(&output) else { return false };
            let streams = format!("{:?}", streams(&reader));
            bodies.iter().all(|body| streams.matches(&format!("\\r\\n\\r\\n{body}")).count() == 2)
        };
        until("everything in the log", written);
        recording.running().signal("KILL");
        recording.died();
        drop(input);
        speaker.end().succeeded();

        assert!(log_path(&output).exists());
        assert!(nothing_in_files(&directory) >= 2);
        nothing_in_files(&temporary);
        nothing_in_values(&output, &FORBIDDEN);
        let heads = streams(&Reader::open(&output).unwrap());
        // Written and read, by two ends: every stream is there twice, alike.
        assert_eq!(heads.len(), 4);
        assert_eq!(heads[0], heads[1]);
        assert_eq!(heads[2], heads[3]);
        let sent: String = pieces().into_iter().map(|(_, text)| text).collect();
        assert_eq!(heads[0].len() + heads[2].len(), sent.len());
        let request = heads.iter().find(|head| head.starts_with("POST")).unwrap();
        assert!(request.starts_with("POST /v1?beta=1&key="), "{request}");
        assert!(request.contains("&x=1 HTTP/1.1\r\nAuthorization: Bearer redacted-"), "{request}");
        assert!(request.ends_with("\r\nContent-Length: 4\r\n\r\nbody"), "{request}");
        let response = heads.iter().find(|head| head.starts_with("HTTP")).unwrap();
        assert!(response.contains("; Path=/; HttpOnly\r\nx-auth-token: "), "{response}");

        repair(&output).unwrap();
        nothing_in_files(&directory);
        nothing_in_values(&output, &FORBIDDEN);
    });
}

/// The TLS streams of a trace as text, sorted.
fn streams(reader: &Reader) -> Vec<String> {
    streams_of(reader, "tls_data")
}

/// The streams of one kind as text, sorted.
fn streams_of(reader: &Reader, kind: &str) -> Vec<String> {
    let mut streams = std::collections::BTreeMap::<_, Vec<u8>>::new();
    for event in reader.events(Some(&[kind])).filter_map(Result::ok) {
        if let agentsight::event::Body::Data(tls) = event.body {
            streams.entry((tls.conn_id, tls.direction)).or_default().extend(tls.data);
        }
    }
    let text = |stream: Vec<u8>| String::from_utf8_lossy(&stream).into_owned();
    let mut streams: Vec<String> = streams.into_values().map(text).collect();
    streams.sort();
    streams
}

/// What programs tell each other in [`TALK`]: each line with credentials in it, and whether it is
/// to come through as it is.
fn talk() -> Vec<(String, bool)> {
    let message = json!({"jsonrpc": "2.0", "id": 7, "result": {"content": [{
        "type": "text",
        "text": json!({"apiKey": CANARY, "env": format!("A=b\nDB_PASSWORD={CANARY}\nC=d")}).to_string(),
    }]}});
    let secret = [
        format!("MY_API_KEY={CANARY}"),
        format!("export MY_TOKEN=\"{CANARY}\""),
        format!("ANTHROPIC_CUSTOM_HEADERS=x-custom-api-key: {CANARY}"),
        format!("cookie: a={CANARY}"),
        format!("Authorization: Bearer {CANARY}"),
        message.to_string(),
        format!("https://me:{CANARY}@h.example/x.git"),
        // Nothing here says what it is, but it was a value of a variable above.
        format!("the key is {CANARY} now"),
    ];
    let plain =
        ["const TOKEN = getToken()", "PASSWORD=$PASSWORD", "api_key=os.environ[\"X\"]", "end"];
    let secret = secret.into_iter().map(|line| (line, false));
    secret.chain(plain.map(|line| (line.to_owned(), true))).collect()
}

/// A shell whose children print their environment, a file and the lines of a program, through pipes,
/// the last of these in pieces of a few bytes.
const TALK: &str =
    "env | cat >/dev/null; cat \"$1\" | cat >/dev/null; exec \"$2\" \"$3\" \"$1\" | cat >/dev/null";

#[test]
fn credentials_that_programs_tell_each_other_are_replaced() {
    live(|host| {
        let (directory, temporary) = directories(host);
        let output = directory.join("run.parquet");
        let talk = talk();
        let text: String = talk.iter().map(|(line, _)| format!("{line}\n")).collect();
        let mut shell = Command::new("sh");
        shell.args(["-c", TALK, "sh"]).arg(host.write("lines", &text)).arg(python());
        shell.arg(host.write("pieces.py", include_str!("programs/pieces.py")));
        shell.env("THEIR_API_KEY", CANARY).env("TMPDIR", &temporary).stdin(Stdio::null());
        record(&output, &["--interval", "100ms"], &mut shell).succeeded();

        nothing_in_files(&directory);
        nothing_in_files(&temporary);
        nothing_in_values(&output, &FORBIDDEN);
        let reader = Reader::open(&output).unwrap();
        let streams = streams_of(&reader, "stdio_data");
        let with = |part: &str| streams.iter().filter(|stream| stream.contains(part)).count();
        // Written and read.
        assert!(with("THEIR_API_KEY=") >= 2, "{streams:?}");
        for (line, stays) in &talk {
            let start = &line[..line.find(CANARY).unwrap_or(line.len())];
            let expected = if *stays { line } else { start };
            assert!(with(expected) >= 4, "{expected}: {streams:?}");
        }
        assert!(streams.iter().filter(|stream| stream.len() == text.len()).count() >= 4);
        let redacted = &reader.metadata()["agentsight.redacted"];
        assert!(redacted.contains("standard_streams"), "{redacted}");
    });
}

#[test]
fn everything_is_recorded_when_the_user_insists_and_is_warned() {
    live(|host| {
        let (directory, _) = directories(host);
        let output = directory.join("run.parquet");
        let mut command = speaker(host, "credentials.py");
        command.stdin(Stdio::null());
        let ended = record(&output, &["--no-redact"], &mut command).succeeded();
        assert!(ended.stderr.contains("--no-redact: credentials in"), "{}", ended.stderr);
        assert!(ended.stderr.contains("WILL be in the file"), "{}", ended.stderr);
        let reader = Reader::open(&output).unwrap();
        assert_eq!(reader.metadata()["agentsight.redaction"], "none");
        let streams = streams(&reader);
        assert_eq!(streams.iter().filter(|stream| stream.contains(CANARY)).count(), 4);
    });
}
