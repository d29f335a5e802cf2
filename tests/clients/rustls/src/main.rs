//! Sends and receives over rustls in every way that is common: through reqwest with connections that
//! live on, and by hand with lists of slices, with less room than there is to send, with TLS 1.2 and
//! 1.3, and with one connection after the other at the same place in memory.
//!
//! Arguments: the server's base URL and a file with the certificate of its authority.

use std::error::Error;
use std::io::{BufReader, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

/// Bytes of the larger bodies, not a multiple of anything in TLS.
const BODY_BYTES: usize = 300_007;
/// Requests by each of the tasks that share a reqwest client.
const REQUESTS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("expected a URL")?;
    let authority = std::fs::read(arguments.next().ok_or("expected a certificate file")?)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(with_reqwest(url.clone(), authority.clone()))?;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for buffer_bytes in [None, Some(5_000)] {
            by_hand(&url, &authority, version, buffer_bytes)?;
        }
    }
    println!("done");
    Ok(())
}

/// Some bytes that differ with `seed` everywhere.
fn body(seed: usize) -> Vec<u8> {
    (0..BODY_BYTES).map(|at| (at / 3 + seed * 31 + at * at / 977) as u8).collect()
}

/// Requests of several tasks over connections that reqwest keeps open.
async fn with_reqwest(url: String, authority: Vec<u8>) -> Result<(), reqwest::Error> {
    let client = reqwest::Client::builder()
        .tls_built_in_root_certs(false)
        .add_root_certificate(reqwest::Certificate::from_pem(&authority)?)
        .build()?;
    let tasks: Vec<_> = (0..3)
        .map(|task| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                for request in 0..REQUESTS {
                    let sent = client.post(format!("{url}/small/{task}/{request}"));
                    sent.body(body(task)).send().await?.bytes().await?;
                    client.get(format!("{url}/large")).send().await?.bytes().await?;
                }
                Ok::<(), reqwest::Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("tasks do not panic")?;
    }
    Ok(())
}

/// One request after a handshake, written as slices, some of them empty.
fn by_hand(
    url: &str,
    authority: &[u8],
    version: &'static SupportedProtocolVersion,
    buffer_bytes: Option<usize>,
) -> Result<(), Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let place = url.strip_prefix("https://").ok_or("expected an https URL")?;
    let stream = TcpStream::connect(place)?;
    let mut connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
    connection.set_buffer_limit(buffer_bytes);
    let mut tls = StreamOwned::new(connection, stream);
    let body = body(buffer_bytes.unwrap_or(7));
    let head = format!(
        "POST /by-hand HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // Slices of growing size, with nothing between some of them.
    let mut slices = vec![head.as_bytes(), b""];
    let mut rest = &body[..];
    for size in (0..).map(|n| n * n * 13) {
        let (slice, after) = rest.split_at(rest.len().min(size));
        slices.push(slice);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    let mut vectors: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
    let mut left = &mut vectors[..];
    while left.iter().any(|slice| !slice.is_empty()) {
        let taken = tls.write_vectored(left)?;
        IoSlice::advance_slices(&mut left, taken);
    }
    tls.flush()?;
    let mut answer = Vec::new();
    BufReader::new(&mut tls).read_to_end(&mut answer)?;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "answered with an error");
    Ok(())
}
