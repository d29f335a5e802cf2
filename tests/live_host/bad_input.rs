//! What hostile or unlucky processes do to the recorder: nothing but what the trace says.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use agentsight::event::{Body, Direction};

use super::host::{Host, live, until};
use super::recorder::{Recording, Running, recorder};
use super::rows::Rows;

/// A TLS server that reads everything and answers nothing.
struct Sink {
    _server: Running,
    port: u16,
}

impl Sink {
    fn start(host: &Host) -> Self {
        let (key, certificate) = (host.path("key.pem"), host.path("certificate.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status()
            .expect("openssl is installed");
        assert!(made.success());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Command::new("openssl");
        server.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-key"]);
        server.arg(&key).arg("-cert").arg(&certificate).stdin(Stdio::piped());
        let server = Running::start(&mut server);
        until("a TLS server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { _server: server, port }
    }
}

/// Sends `MEGABYTES` of noise made of everything a parser may trip over.
const NOISE: &str = r#"
import random, socket, ssl, sys, hashlib
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
sys.stdin.readline()
pieces = [b"HTTP/1.1 200 OK\r\n", b"GET / HTTP/1.1\r\nAuthorization: ", b"\r\n\r\n", b"\x00" * 300,
          b"Content-Length: 99999999999999999999\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\n", b"x-api-key",
          b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n", b": ", b"\xff\xfe\xfd", b"data: {",
          b"\xc3", b"POST /v1/messages HTTP/1.1\r\n" + b"A" * 7000]
rng = random.Random(7)
tls = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
sent = 0
for turn in range(4000):
    data = b"".join(rng.choice(pieces) for _ in range(rng.randrange(1, 5)))
    data += rng.randbytes(rng.randrange(0, 400))
    tls.sendall(data)
    sent += len(data)
print(sent)
"#;

fn noise(host: &Host, sink: &Sink) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(host.write("noise.py", NOISE)).arg(sink.port.to_string()).stdin(Stdio::piped());
    command
}

/// Bytes of plaintext that the rows of one direction account for, and those that were lost.
fn moved(rows: &Rows, direction: Direction) -> (u64, u64) {
    let data = rows.events.iter().filter_map(|event| match &event.body {
        Body::TlsData(data) if data.direction == direction => Some(data),
        _ => None,
    });
    data.fold((0, 0), |(all, lost), data| (all + data.data_bytes, lost + data.lost_bytes))
}

#[test]
fn garbage_over_tls_is_recorded_like_anything_else() {
    live(|host| {
        let sink = Sink::start(host);
        let output = host.path("run.parquet");
        let mut client = Running::start(&mut noise(host, &sink));
        let recording = Recording::start(&output, &["-p", &client.pid().to_string()]);
        drop(std::io::Write::write_all(&mut client.stdin(), b"go\n"));
        let sent: u64 = client.end().succeeded().stdout.trim().parse().unwrap();
        recording.end().succeeded();
        let rows = Rows::read(&output);
        let (in_rows, without_data) = moved(&rows, Direction::Write);
        // A client without a server's patience may be faster than a loaded host's recorder.
        let lost = rows.lost_bytes("tls_data");
        assert_eq!((in_rows + lost, without_data), (sent, 0));
        assert!(lost < sent / 2, "{lost} of {sent} bytes were lost");
    });
}

#[test]
fn a_library_that_was_replaced_while_it_is_in_use_is_recorded() {
    live(|host| {
        let sink = Sink::start(host);
        // A copy that only this client maps, and that nobody can find by its name any more.
        let library = host.path("libssl.so.3");
        std::fs::copy(system_libssl(), &library).unwrap();
        let mut command = noise(host, &sink);
        command.env("LD_LIBRARY_PATH", library.parent().unwrap());
        let mut client = Running::start(&mut command);
        let maps = format!("/proc/{}/maps", client.pid());
        let mapped = || std::fs::read_to_string(&maps).unwrap().contains(library.to_str().unwrap());
        until("the library to be mapped", mapped);
        std::fs::remove_file(&library).unwrap();
        std::fs::write(&library, "not a library").unwrap();

        let output = host.path("run.parquet");
        let recording = Recording::start(&output, &["-p", &client.pid().to_string()]);
        drop(std::io::Write::write_all(&mut client.stdin(), b"go\n"));
        let sent: u64 = client.end().succeeded().stdout.trim().parse().unwrap();
        recording.end().succeeded();
        assert_eq!(moved(&Rows::read(&output), Direction::Write), (sent, 0));
    });
}

fn system_libssl() -> PathBuf {
    let libraries = agentsight::capture::scan::system_tls_libraries();
    let found = libraries.iter().find(|path| path.to_string_lossy().contains("libssl.so.3"));
    found.expect("Debian's Python links OpenSSL 3").clone()
}

#[test]
fn a_process_that_ends_while_it_is_attached_to_is_recorded_or_refused() {
    live(|host| {
        let mut outcomes = (0, 0);
        // From long before the recorder looks to long after it has begun.
        for step in 0..12 {
            let life = Duration::from_millis(step * 40).as_secs_f64().to_string();
            let sleeper = Running::start(Command::new("sleep").arg(&life));
            let output = host.path(&format!("{step}.parquet"));
            let mut command = recorder(&output);
            let ended = Running::start(command.args(["-p", &sleeper.pid().to_string()])).end();
            let refused = ended.stderr.contains("there is no process");
            match ended.status.code() {
                Some(0) => assert_eq!(stop_reason(&output), "processes_exited"),
                Some(2) if refused => assert!(!output.exists(), "{}", ended.stderr),
                _ => panic!("{}: {}", ended.status, ended.stderr),
            }
            if refused { outcomes.0 += 1 } else { outcomes.1 += 1 }
        }
        assert!(outcomes.1 > 0, "{outcomes:?}");
    });
}

fn stop_reason(trace: &Path) -> String {
    agentsight::trace::Reader::open(trace).unwrap().metadata()["agentsight.stop_reason"].clone()
}
