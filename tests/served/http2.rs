//! HTTP/2: streams side by side, each found as served.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore};

use super::cases::{PROVIDERS, refusal, rich};
use super::found::equal_served;
use super::support::mock::coding::Coding;
use super::support::mock::script::{Delivery, Reply, Rule, Script, When};
use super::support::mock::tls_io::TlsIo;
use super::support::mock::truth::Truth;
use super::support::mock::{Options, Server};

fn server(rules: Vec<Rule>) -> Server {
    let options = Options { keep_plaintext: true, http2: true, ..Options::default() };
    Server::start_with(Script::of(rules), options).unwrap()
}

/// A connection on which HTTP/2 was agreed on.
fn connect(server: &Server) -> (Connection, TcpStream) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca_pem().as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream).unwrap();
    }
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    (Connection::Client(session), stream)
}

/// Sends all requests at once over one connection and reads what comes; how many were answered to
/// their end.
fn ask_all(server: &Server, requests: &[(String, String)]) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (session, stream) = connect(server);
        let io = TlsIo::new(session, stream, |_| ()).unwrap();
        let (mut send, connection) = h2::client::handshake(io).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut answers = Vec::new();
        for (target, body) in requests {
            let request = http::Request::post(format!("https://localhost{target}"))
                .header("content-type", "application/json")
                .header("accept-encoding", "gzip, deflate, br, zstd")
                .header("user-agent", "agent/1.0");
            send = send.ready().await.unwrap();
            let (response, mut stream) =
                send.send_request(request.body(()).unwrap(), false).unwrap();
            stream.send_data(Bytes::from(body.clone()), true).unwrap();
            answers.push(tokio::spawn(async move {
                let mut body = response.await.ok()?.into_body();
                while let Some(data) = body.data().await {
                    let length = data.ok()?.len();
                    body.flow_control().release_capacity(length).ok()?;
                }
                Some(())
            }));
        }
        let mut whole = 0;
        for answer in answers {
            whole += usize::from(answer.await.unwrap().is_some());
        }
        drop(send);
        let _ = driver.await;
        whole
    })
}

fn requests() -> Vec<(String, String)> {
    let requests = PROVIDERS.iter().flat_map(|provider| {
        [true, false].map(|streamed| {
            let target = provider.targets[usize::from(!streamed)].to_owned();
            (target, (provider.body)(streamed).to_string())
        })
    });
    requests.collect()
}

/// What a server served that answers by these rules.
pub fn served(rules: Vec<Rule>, whole: usize) -> Truth {
    let server = server(rules);
    let answered = ask_all(&server, &requests());
    let truth = server.stop();
    let errors: Vec<_> = truth.connections.iter().map(|connection| &connection.error).collect();
    assert_eq!(answered, whole, "{errors:?}");
    assert!(truth.exchanges().iter().all(|exchange| exchange.http_version == "2"));
    truth
}

/// Slow enough for streams to take turns, and for a client that takes a flood of frames for an
/// attack.
fn paced() -> Delivery {
    Delivery { thinking_ms: 3, delta_ms: 3, ..Delivery::default() }
}

#[test]
fn streams_side_by_side_are_found_as_served() {
    let rule = Rule::new(When::default(), Reply::Answer(rich())).delivered(paced());
    let truth = served(vec![rule], requests().len());
    let calls = truth.llm_calls();
    assert_eq!(calls.len(), requests().len());
    assert!(calls.iter().all(|call| call.complete));
    // A stream ended after a later one had begun.
    assert!(calls[0].end_ts > calls[2].first_byte_ts, "{calls:?}");
    equal_served("HTTP/2", &truth);
}

#[test]
fn what_is_packed_refused_and_reset_over_http2_is_found_as_served() {
    let packed = Delivery { coding: Some(Coding::Br), ..paced() };
    let cut = Delivery { cut_after_events: Some(3), ..paced() };
    let rules = vec![
        Rule::new(When::default(), refusal(429, "rate_limit_error", Some(1))).times(1),
        Rule::new(When::default(), Reply::Answer(rich())).times(1).delivered(cut),
        Rule::new(When::default(), Reply::Answer(rich())).delivered(packed),
    ];
    let truth = served(rules, requests().len() - 1);
    let calls = truth.llm_calls();
    assert_eq!(calls.iter().filter(|call| call.status == 429).count(), 1);
    assert_eq!(calls.iter().filter(|call| !call.complete).count(), 1);
    assert!(calls.iter().any(|call| call.content_encoding == Some("br")));
    equal_served("HTTP/2", &truth);
}
