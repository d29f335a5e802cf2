//! A TLS client that sends noise, and a server that takes it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::host::{Host, until};
use super::recorder::Running;

/// A TLS server that reads everything and answers nothing.
pub struct Sink {
    _server: Running,
    /// Where it listens.
    pub port: u16,
}

impl Sink {
    pub fn start(host: &Host) -> Self {
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

/// The client; it begins when it is given a line.
pub fn noise(host: &Host, sink: &Sink) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(host.write("noise.py", NOISE)).arg(sink.port.to_string()).stdin(Stdio::piped());
    command
}

/// The system's OpenSSL.
pub fn system_libssl() -> PathBuf {
    let libraries = agentsight::capture::scan::system_tls_libraries();
    let found = libraries.iter().find(|path| path.to_string_lossy().contains("libssl.so.3"));
    found.expect("Debian's Python links OpenSSL 3").clone()
}
