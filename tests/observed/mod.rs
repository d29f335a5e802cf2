//! Programs to observe, and what was observed of them.

mod bursts;
mod calls;
mod io;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use agentsight::capture::bpf::{Capture, Error, Options, TlsFunction};
use agentsight::capture::tls_library::{self, Outcome, Role};
use agentsight::event::{Body, Direction, Event, Exit, Image, Source, StreamData};
use object::{Object, ObjectSegment, ObjectSymbol};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// One observed program and the events about it.
pub(crate) struct Run {
    name: String,
    dir: TempDir,
    stdin: String,
    pid: Option<u32>,
    /// What it printed.
    pub(crate) stdout: String,
    /// Everything handed out, in order.
    pub(crate) events: Vec<Event>,
}

/// A capture that looks for the program of `run`.
pub(crate) fn capture(run: &Run) -> Capture {
    capture_with(run, &Options::default())
}

/// The same with other options.
pub(crate) fn capture_with(run: &Run, options: &Options) -> Capture {
    let options = Options { names: vec![run.name.clone()], ..options.clone() };
    Capture::load(&options).expect("loading was possible a moment ago")
}

impl Run {
    /// `None`, with a message, where BPF programs cannot be loaded.
    pub(crate) fn new(topic: &str) -> Option<Self> {
        static UNAVAILABLE: OnceLock<Option<String>> = OnceLock::new();
        let unavailable = UNAVAILABLE.get_or_init(|| match Capture::load(&Options::default()) {
            Ok(_) => None,
            Err(error @ (Error::Refused { .. } | Error::Map { .. } | Error::Ring(_))) => {
                panic!("{error:?}")
            }
            Err(error) => Some(error.to_string()),
        });
        if let Some(reason) = unavailable {
            eprintln!("SKIPPED: {topic}: {reason}");
            return None;
        }
        let name = format!("as-live-{topic}-{}", std::process::id());
        let dir = tempfile::tempdir().expect("temporary directory");
        Some(Self {
            name,
            dir,
            stdin: String::new(),
            pid: None,
            stdout: String::new(),
            events: Vec::new(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Pid of the program that was run.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.expect("a program was run")
    }

    pub(crate) fn with_stdin(&mut self, text: &str) {
        text.clone_into(&mut self.stdin);
    }

    /// Runs `program` under the name that is looked for, until it ends.
    pub(crate) fn command(&mut self, program: &str, arguments: &[&str]) {
        let link = self.link_to(program);
        self.plain(link.to_str().expect("utf-8"), arguments);
    }

    fn link_to(&self, program: &str) -> PathBuf {
        let link = self.dir.path().join("bin").join(&self.name);
        fs::create_dir_all(link.parent().expect("has one")).expect("writable");
        symlink(program, &link).expect("writable");
        link
    }

    pub(crate) fn shell(&mut self, script: &str) {
        self.command("/bin/sh", &["-c", script]);
    }

    /// The same while the rings are being read, for scripts that produce more than fits in them.
    pub(crate) fn shell_while_draining(&mut self, script: &str, capture: &mut Capture) {
        self.command_while_draining("/bin/sh", &["-c", script], capture);
    }

    /// A Python script with arguments, while the rings are being read.
    pub(crate) fn python_with(&mut self, script: &str, more: &[&str], capture: &mut Capture) {
        let arguments: Vec<&str> = ["-c", script].into_iter().chain(more.iter().copied()).collect();
        self.command_while_draining("/usr/bin/python3", &arguments, capture);
    }

    fn command_while_draining(&mut self, program: &str, arguments: &[&str], capture: &mut Capture) {
        let link = self.link_to(program);
        let mut child = self.spawn(link.to_str().expect("utf-8"), arguments);
        while child.try_wait().expect("it was started").is_none() {
            let mut sink = |event| self.events.push(event);
            capture.drain(Duration::from_millis(10), &mut sink).expect("rings are readable");
        }
    }

    pub(crate) fn python(&mut self, script: &str) {
        self.command("/usr/bin/python3", &["-c", script]);
    }

    /// Runs a program under its own name.
    pub(crate) fn plain(&mut self, program: &str, arguments: &[&str]) {
        let mut child = self.spawn(program, arguments);
        child.stdin.take().expect("piped").write_all(self.stdin.as_bytes()).expect("it reads");
        self.wait(child);
    }

    /// Starts a program, tracks it by pid, then lets it read a line.
    pub(crate) fn tracked(&mut self, capture: &mut Capture, program: &str, arguments: &[&str]) {
        let mut child = self.spawn(program, arguments);
        capture.track(child.id(), false).expect("it runs");
        capture.track(child.id(), true).expect("it runs");
        child.stdin.take().expect("piped").write_all(b"go\n").expect("it reads");
        self.wait(child);
    }

    fn spawn(&mut self, program: &str, arguments: &[&str]) -> Child {
        let child = Command::new(program)
            .args(arguments.iter().map(OsStr::new))
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program exists");
        self.pid = Some(child.id());
        child
    }

    fn wait(&mut self, child: Child) {
        let output = child.wait_with_output().expect("it was started");
        self.stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    }

    /// Reads until the exit of the program that was run has been seen, then detaches.
    pub(crate) fn collect(&mut self, capture: &mut Capture) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let pid = self.pid();
        let events = &mut self.events;
        let is_end = |event: &Event| {
            matches!(event.body, Body::ProcessExit(_))
                && event.process.is_some_and(|process| process.pid == pid)
        };
        let mut ended = events.iter().any(is_end);
        while !ended {
            assert!(Instant::now() < deadline, "no exit of {pid} among {events:#?}");
            let mut sink = |event: Event| {
                ended |= is_end(&event);
                events.push(event);
            };
            capture.drain(Duration::from_millis(10), &mut sink).expect("rings are readable");
        }
        capture.detach(&mut |event| events.push(event)).expect("rings are readable");
        assert_eq!(capture.stats().last_decode_error, None);
    }

    fn about(&self, pid: u32) -> impl Iterator<Item = &Body> {
        self.events
            .iter()
            .filter(move |event| event.process.is_some_and(|process| process.pid == pid))
            .map(|event| &event.body)
    }

    /// The last program that `pid` started.
    pub(crate) fn image_of(&self, pid: u32) -> &Image {
        let images = self.about(pid).filter_map(|body| match body {
            Body::ProcessExec(image) => Some(image),
            _ => None,
        });
        images.last().expect("an exec event")
    }

    pub(crate) fn exit_of(&self, pid: u32) -> &Exit {
        let mut exits = self.about(pid).filter_map(|body| match body {
            Body::ProcessExit(exit) => Some(exit),
            _ => None,
        });
        exits.next().expect("an exit event")
    }

    /// The first child of `pid`.
    pub(crate) fn child_of(&self, pid: u32) -> u32 {
        let mut children = self.events.iter().filter_map(|event| match &event.body {
            Body::ProcessFork(fork) if fork.ppid == pid => event.process.map(|id| id.pid),
            _ => None,
        });
        children.next().expect("a fork event")
    }

    pub(crate) fn tls_data(&self) -> Vec<&StreamData> {
        let data = self.events.iter().filter_map(|event| match &event.body {
            Body::Data(data) if data.source == Source::Tls => Some(data),
            _ => None,
        });
        data.collect()
    }

    /// One direction put together; panics at a gap.
    pub(crate) fn stream(&self, direction: Direction) -> Vec<u8> {
        let mut stream = Vec::new();
        for data in self.tls_data().into_iter().filter(|data| data.direction == direction) {
            assert_eq!(data.stream_offset, stream.len() as u64);
            stream.extend_from_slice(&data.data);
        }
        stream
    }

    pub(crate) fn stream_hash(&self, direction: Direction) -> String {
        hex(&Sha256::digest(self.stream(direction)))
    }

    /// The hashes that the client of [`Tls`] printed: of what it sent and of what it received.
    pub(crate) fn reported_hashes(&self) -> (String, String) {
        let mut words = self.stdout.split_whitespace();
        let mut next = || words.next().expect("the client printed two hashes").to_owned();
        (next(), next())
    }

    pub(crate) fn assert_ledger_balances(&self, capture: &Capture) {
        for class in capture.losses().expect("the ledger is readable") {
            assert!(class.is_settled(), "{class:#?}");
        }
    }

    /// What the kernel says it submitted is what arrived.
    pub(crate) fn assert_rows_equal_ledger(&self, capture: &Capture) {
        for class in capture.losses().expect("the ledger is readable") {
            // Records that tell what files are called serve other events.
            if class.event_class == "file_path" {
                continue;
            }
            let rows = self.events.iter().filter(|event| event.body.kind() == class.event_class);
            assert_eq!(rows.count() as u64, class.entry.submitted_events, "{class:#?}");
        }
        let bytes: u64 = self.tls_data().iter().map(|data| data.data.len() as u64).sum();
        let ledger = capture.losses().expect("the ledger is readable");
        let class = ledger.iter().find(|class| class.event_class == "tls_data").expect("a class");
        assert_eq!(bytes, class.entry.submitted_bytes);
    }
}

/// A process that has ended and is not waited for before this is dropped.
pub(crate) struct Zombie(Child);

impl Zombie {
    pub(crate) fn new() -> Self {
        let child = Command::new("/bin/true").spawn().expect("it exists");
        let stat = format!("/proc/{}/stat", child.id());
        while !fs::read_to_string(&stat).expect("not waited for").contains(") Z ") {
            std::thread::yield_now();
        }
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Zombie {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

/// The byte that the client of [`Tls`] sends at this offset. No short period, so that a record in
/// the wrong place is noticed.
pub(crate) fn pattern(at: usize) -> u8 {
    (at % 251) as u8 ^ (at / 251 % 241) as u8
}

pub(crate) fn kernel_has_exact_size() -> bool {
    fs::read_to_string("/proc/kallsyms")
        .is_ok_and(|symbols| symbols.contains(" bpf_probe_read_user_dynptr"))
}

/// An untracked TLS server on loopback that sends back whatever it receives.
pub(crate) struct Tls {
    server: Child,
    port: u16,
}

const SERVER: &str = "\
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(('127.0.0.1', int(sys.argv[3])))
def serve(plain):
    try:
        with context.wrap_socket(plain, server_side=True) as connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data)
    except OSError:
        pass
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
";

const CLIENT: &str = "\
import hashlib, socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
sent, received, at = hashlib.sha256(), hashlib.sha256(), 0
with context.wrap_socket(socket.create_connection(('127.0.0.1', PORT))) as connection:
    for size in SIZES:
        data = bytes((i % 251) ^ (i // 251 % 241) for i in range(at, at + size))
        at += size
        connection.sendall(data)
        sent.update(data)
        left = size
        while left:
            part = connection.recv(left)
            received.update(part)
            left -= len(part)
print(sent.hexdigest(), received.hexdigest())
";

impl Tls {
    pub(crate) fn start(run: &Run) -> Self {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let certificate_path = run.dir().join("certificate.pem");
        let key_path = run.dir().join("key.pem");
        fs::write(&certificate_path, key.cert.pem()).expect("writable");
        fs::write(&key_path, key.signing_key.serialize_pem()).expect("writable");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("loopback is up")
            .port();
        let server = Command::new("/usr/bin/python3")
            .args(["-c", SERVER])
            .args([&certificate_path, &key_path])
            .arg(port.to_string())
            .stderr(Stdio::null())
            .spawn()
            .expect("python is installed");
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::yield_now();
        }
        Self { server, port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A client that sends calls of these sizes and reads each back.
    pub(crate) fn client(&self, sizes: &[usize]) -> String {
        CLIENT.replace("PORT", &self.port.to_string()).replace("SIZES", &format!("{sizes:?}"))
    }

    /// Probes the system's libssl where the recorder would; returns the names of the functions.
    pub(crate) fn attach_found(&self, capture: &mut Capture) -> Vec<String> {
        let path = libssl();
        let Ok(Outcome::Found(found)) = tls_library::find(&path) else {
            panic!("{path:?} is a libssl")
        };
        for site in &found.sites {
            let function = match site.role {
                Role::Read => TlsFunction::Read,
                Role::ReadEx | Role::ReadInternal => TlsFunction::ReadEx,
                Role::Write => TlsFunction::Write,
                Role::WriteEx | Role::WriteInternal => TlsFunction::WriteEx,
                Role::WriteEx2 | Role::WriteInternalFlags => TlsFunction::WriteEx2,
                Role::Free => TlsFunction::Free,
                Role::WriteUnseen => TlsFunction::WriteUnseen,
                other => panic!("libssl has no {other:?}"),
            };
            let library = found.library.as_str();
            capture.attach_tls(&path, site.file_offset, function, library).expect("attachable");
        }
        found.sites.into_iter().map(|site| site.symbol).collect()
    }

    /// Probes the functions of the system libssl's interface.
    pub(crate) fn attach(&self, capture: &mut Capture) {
        let path = libssl();
        for (symbol, function) in [
            ("SSL_read", TlsFunction::Read),
            ("SSL_read_ex", TlsFunction::ReadEx),
            ("SSL_write", TlsFunction::Write),
            ("SSL_write_ex", TlsFunction::WriteEx),
            ("SSL_free", TlsFunction::Free),
        ] {
            let offset = file_offset(&path, symbol);
            capture.attach_tls(&path, offset, function, "openssl").expect("attachable");
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The libssl that the system's Python uses.
fn libssl() -> PathBuf {
    let script = "import _ssl, re; _ssl.OPENSSL_VERSION; \
                  print(re.search(r'\\S*/libssl\\S*', open('/proc/self/maps').read()).group(0))";
    let output =
        Command::new("/usr/bin/python3").args(["-c", script]).output().expect("python is there");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

fn file_offset(path: &Path, symbol: &str) -> u64 {
    let bytes = fs::read(path).expect("readable");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let address = file
        .dynamic_symbols()
        .find(|candidate| candidate.name() == Ok(symbol))
        .expect("libssl exports it")
        .address();
    let segment = file
        .segments()
        .find(|segment| (segment.address()..segment.address() + segment.size()).contains(&address))
        .expect("code is loaded");
    address - segment.address() + segment.file_range().0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
