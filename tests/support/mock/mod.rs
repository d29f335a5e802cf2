//! A mock LLM server over TLS: scripted answers, and the truth about every byte it moved.
//!
//! [`Server`] listens on loopback only, one thread per connection, and is bounded in connections,
//! head and body sizes and idle time. What it answers is decided by a [`script::Script`], how the
//! answer is cut and paced by [`script::Delivery`], and what went over each connection is kept in
//! the [`truth::Truth`]. Nothing is validated for its own sake: a client that breaks HTTP loses
//! its connection.

pub mod answer;
pub mod anthropic;
pub mod api;
pub mod bedrock;
pub mod carrier;
pub mod certificate;
pub mod coding;
pub mod connection;
pub mod gemini;
pub mod http;
pub mod http2;
pub mod ollama;
pub mod openai;
pub mod response;
pub mod responses;
pub mod script;
pub mod script_file;
pub mod session;
pub mod split;
pub mod tls_io;
pub mod truth;
pub mod websocket;
pub mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use certificate::Certificates;
use connection::Service;
use script::Script;
use truth::{Log, Truth};

/// Connections served at the same time; more are closed unanswered.
const MAX_CONNECTIONS: usize = 256;

/// A running server; stops when dropped.
pub struct Server {
    address: SocketAddr,
    certificates: Certificates,
    service: Arc<Service>,
    acceptor: Option<JoinHandle<()>>,
}

/// What a server is to be like.
#[derive(Default)]
pub struct Options {
    /// TCP port on 127.0.0.1; 0 lets the kernel choose.
    pub port: u16,
    /// Keep the plaintext of every connection in memory, for tests that compare parts of it.
    pub keep_plaintext: bool,
    /// Speak no TLS later than 1.2.
    pub tls12_only: bool,
    /// Speak HTTP/2 with clients that can.
    pub http2: bool,
    /// Write each finished exchange and connection here as one line of JSON.
    pub truth_lines: Option<Box<dyn io::Write + Send>>,
}

impl Server {
    /// Listens on a free port and answers by `script`, keeping plaintext.
    pub fn start(script: Script) -> io::Result<Self> {
        Self::start_with(script, Options { keep_plaintext: true, ..Options::default() })
    }

    /// Listens as `options` say and answers by `script`.
    pub fn start_with(script: Script, options: Options) -> io::Result<Self> {
        let certificates = Certificates::generate().map_err(io::Error::other)?;
        let tls = certificates.server_config(options.tls12_only, options.http2);
        let tls = tls.map_err(io::Error::other)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        let address = listener.local_addr()?;
        let log = Log::new(options.keep_plaintext, options.truth_lines);
        let service = Arc::new(Service::new(script, log, tls));
        let acceptor = {
            let service = Arc::clone(&service);
            std::thread::Builder::new()
                .name("mock-accept".into())
                .spawn(move || accept(&listener, &service))?
        };
        Ok(Self { address, certificates, service, acceptor: Some(acceptor) })
    }

    /// The TCP port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Base URL under the name the certificate holds.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port())
    }

    /// The certificate of its authority, PEM, which a client has to trust.
    pub fn ca_pem(&self) -> &str {
        self.certificates.ca_pem()
    }

    /// Writes [`Self::ca_pem`] to a file.
    pub fn write_ca(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.ca_pem())
    }

    /// What was served so far.
    pub fn truth(&self) -> Truth {
        self.service.log.snapshot()
    }

    /// Waits until the truth satisfies `condition`; the last truth is the error after `patience`.
    pub fn wait_for(
        &self,
        patience: Duration,
        condition: impl Fn(&Truth) -> bool,
    ) -> Result<Truth, Box<Truth>> {
        self.service.log.wait_for(Instant::now() + patience, condition)
    }

    /// Closes every connection, ends every thread and returns what was served.
    pub fn stop(mut self) -> Truth {
        self.shut_down();
        self.service.log.snapshot()
    }

    fn shut_down(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.service.stop.set();
        // `accept` has no timeout: a connection of our own wakes it to see the flag.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        let _ = acceptor.join();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Takes connections until told to stop, then waits for those still being served.
fn accept(listener: &TcpListener, service: &Arc<Service>) {
    let open = Arc::new(AtomicUsize::new(0));
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for stream in listener.incoming() {
        if service.stop.is_set() {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        let Ok(stream) = stream else { continue };
        if open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (service, open) = (Arc::clone(service), Arc::clone(&open));
        let thread = std::thread::Builder::new().name("mock-connection".into()).spawn(move || {
            connection::serve(&service, stream);
            open.fetch_sub(1, Ordering::Relaxed);
        });
        threads.extend(thread);
    }
    for thread in threads {
        let _ = thread.join();
    }
}
