//! The server's side of HTTP/2, on the library `h2`.
//!
//! Streams are answered side by side: each has a thread that runs the same response code as
//! HTTP/1.1, and a task that hands to the connection what the thread wants to send. A response that
//! is to be cut resets its stream; the connection goes on.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use rustls::{Connection, ServerConnection};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::carrier::{Carrier, Raw};
use super::coding::unpack;
use super::connection::Service;
use super::http::{Framing, MAX_BODY_BYTES, Request};
use super::script::Delivery;
use super::tls_io::{Crossed, TlsIo};
use super::truth::{Exchange, ExchangeId};
use super::wire::Wire;

/// How often a waiting connection looks whether it is to stop.
const POLL: std::time::Duration = std::time::Duration::from_millis(100);

/// How long data that was handed over may take to reach the TLS library.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(50);

/// The threads of a connection's streams.
type Threads = Arc<Mutex<Vec<JoinHandle<()>>>>;

/// Serves a connection on which HTTP/2 was agreed on.
pub fn serve(service: &Arc<Service>, wire: Wire<'_>) -> io::Result<()> {
    let id = wire.id();
    let (session, stream) = wire.into_parts();
    let threads = Threads::default();
    let served = serve_streams(service, id, session, stream, &threads);
    // The streams' threads see that the connection is over, and note what they came to.
    let threads = std::mem::take(&mut *threads.lock().expect("holders do not panic"));
    threads.into_iter().for_each(|thread| drop(thread.join()));
    served
}

fn serve_streams(
    service: &Arc<Service>,
    id: usize,
    session: ServerConnection,
    stream: std::net::TcpStream,
    threads: &Threads,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let noting = Arc::clone(service);
        let note = move |crossed: Crossed<'_>| match crossed {
            Crossed::In(data) => noting.log.received(id, data),
            Crossed::Out(data) => noting.log.sent(id, data),
        };
        let io = TlsIo::new(Connection::Server(session), stream, note)?;
        let mut connection = h2::server::handshake(io).await.map_err(io::Error::other)?;
        loop {
            let next = tokio::time::timeout(POLL, connection.accept());
            match next.await {
                Err(_) if service.stop.is_set() => return Ok(()),
                Err(_) => {}
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => return Err(io::Error::other(error)),
                Ok(Some(Ok((request, respond)))) => {
                    let service = Arc::clone(service);
                    tokio::spawn(answer(service, id, request, respond, Arc::clone(threads)));
                }
            }
        }
    })
}

/// Answers one stream.
async fn answer(
    service: Arc<Service>,
    connection: usize,
    request: http::Request<h2::RecvStream>,
    respond: SendResponse<Bytes>,
    threads: Threads,
) {
    let Ok(request) = read(request).await else { return };
    let (commands, received) = unbounded_channel();
    let thread = std::thread::Builder::new().name("mock-stream".into());
    let spawned = thread.spawn(move || {
        let begun = Exchange { http_version: "2", ..Exchange::default() };
        let carrier = |id| Stream { id, commands };
        // A client that has gone ends the response; the truth says how far it came.
        let _ = service.answer(connection, &request, begun, carrier);
    });
    if let Ok(thread) = spawned {
        threads.lock().expect("holders do not panic").push(thread);
        send(respond, received).await;
    }
}

/// Reads a request to its end.
async fn read(request: http::Request<h2::RecvStream>) -> io::Result<Request> {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(data) = incoming.data().await {
        let data = data.map_err(io::Error::other)?;
        incoming.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
        body.extend_from_slice(&data);
        if body.len() > MAX_BODY_BYTES {
            return Err(io::Error::other("request body is too long"));
        }
    }
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let mut request = Request {
        method: head.method.to_string(),
        target,
        headers: headers.collect(),
        body_wire_bytes: body.len() as u64,
        ..Request::default()
    };
    request.body = unpack(body, request.header("content-encoding"), MAX_BODY_BYTES)?;
    Ok(request)
}

/// What a thread wants sent; answered when it has been.
struct Command {
    what: What,
    done: mpsc::Sender<io::Result<()>>,
}

enum What {
    Head(u16, Vec<(String, String)>),
    Data(Vec<u8>),
    End,
    Cut,
}

/// Does what the thread of the stream wants, until it wants no more.
async fn send(mut respond: SendResponse<Bytes>, mut commands: UnboundedReceiver<Command>) {
    let mut stream = None;
    while let Some(Command { what, done }) = commands.recv().await {
        let result = match what {
            What::Head(status, fields) => match head(&mut respond, status, &fields) {
                Ok(opened) => {
                    stream = Some(opened);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            What::Data(data) => match &mut stream {
                Some(stream) => send_data(stream, data).await,
                None => Err(io::Error::other("data before the head")),
            },
            What::End => match &mut stream {
                Some(stream) => stream.send_data(Bytes::new(), true).map_err(io::Error::other),
                None => Err(io::Error::other("end before the head")),
            },
            What::Cut => {
                // A reset overtakes what is still queued, which the truth takes for sent.
                tokio::time::sleep(SETTLE).await;
                respond.send_reset(Reason::INTERNAL_ERROR);
                Ok(())
            }
        };
        let _ = done.send(result);
    }
}

fn head(
    respond: &mut SendResponse<Bytes>,
    status: u16,
    fields: &[(String, String)],
) -> io::Result<SendStream<Bytes>> {
    let mut response = http::Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(name, value);
    }
    let response = response.body(()).map_err(io::Error::other)?;
    respond.send_response(response, false).map_err(io::Error::other)
}

/// Sends as the client's windows allow.
async fn send_data(stream: &mut SendStream<Bytes>, data: Vec<u8>) -> io::Result<()> {
    let mut data = Bytes::from(data);
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let granted = poll_fn(|context| stream.poll_capacity(context)).await;
        let granted = granted.ok_or_else(|| io::Error::other("the stream is closed"))?;
        let granted = granted.map_err(io::Error::other)?;
        let piece = data.split_to(granted.min(data.len()));
        stream.send_data(piece, false).map_err(io::Error::other)?;
    }
    Ok(())
}

/// The thread's side of a stream.
struct Stream {
    id: ExchangeId,
    commands: UnboundedSender<Command>,
}

impl Stream {
    fn command(&mut self, what: What) -> io::Result<()> {
        let (done, result) = mpsc::channel();
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.commands.send(Command { what, done }).map_err(|_| gone())?;
        result.recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Carrier for Stream {
    fn id(&self) -> ExchangeId {
        self.id
    }

    fn head(
        &mut self,
        status: u16,
        mut fields: Vec<(String, String)>,
        length: Option<usize>,
        _usual: Framing,
        _delivery: &Delivery,
    ) -> io::Result<()> {
        fields.extend(length.map(|length| ("content-length".into(), length.to_string())));
        self.command(What::Head(status, fields))
    }

    fn data(&mut self, piece: &[u8]) -> io::Result<()> {
        self.command(What::Data(piece.to_vec()))
    }

    fn end(&mut self) -> io::Result<()> {
        self.command(What::End)
    }

    fn cut(&mut self) -> io::Result<()> {
        self.command(What::Cut)
    }

    fn wire(&mut self) -> Option<&mut dyn Raw> {
        None
    }
}
