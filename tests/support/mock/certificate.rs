//! The server's certificates: an authority and a separate leaf, made afresh for every server.
//!
//! The leaf is not the authority's own certificate because some clients (rustls-based ones) refuse
//! an authority as a server. Keys never touch the disk.

use std::error::Error;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ALL_VERSIONS;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::TLS12;

/// Names the leaf is valid for: loopback and the endpoints agents use when not told otherwise.
const NAMES: [&str; 6] = [
    "localhost",
    "127.0.0.1",
    "api.anthropic.com",
    "api.openai.com",
    "generativelanguage.googleapis.com",
    "bedrock-runtime.us-east-1.amazonaws.com",
];

/// An authority and a leaf signed by it.
pub struct Certificates {
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    leaf_der: CertificateDer<'static>,
    leaf_key: Vec<u8>,
}

impl Certificates {
    /// Makes both certificates with fresh ECDSA P-256 keys.
    pub fn generate() -> Result<Self, rcgen::Error> {
        // Wide enough never to expire a test, narrow enough for clients with 32-bit times.
        let (from, until) = (date_time_ymd(2020, 1, 1), date_time_ymd(2035, 1, 1));
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "mock-llm test authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (ca.not_before, ca.not_after) = (from, until);
        let ca_key = KeyPair::generate()?;
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);

        let mut leaf = CertificateParams::new(NAMES.map(String::from))?;
        leaf.distinguished_name.push(DnType::CommonName, "mock-llm");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Strict verifiers (Python 3.13) demand the identifier of the issuing key.
        leaf.use_authority_key_identifier_extension = true;
        (leaf.not_before, leaf.not_after) = (from, until);
        let leaf_key = KeyPair::generate()?;
        let leaf_certificate = leaf.signed_by(&leaf_key, &issuer)?;

        Ok(Self {
            ca_pem: ca_certificate.pem(),
            ca_der: ca_certificate.der().clone(),
            leaf_der: leaf_certificate.der().clone(),
            leaf_key: leaf_key.serialize_der(),
        })
    }

    /// The authority's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The authority's certificate, DER.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    /// TLS 1.2 and, unless `tls12_only`, 1.3; offering HTTP/1.1 and, if asked to, HTTP/2 first.
    pub fn server_config(
        &self,
        tls12_only: bool,
        http2: bool,
    ) -> Result<Arc<ServerConfig>, Box<dyn Error + Send + Sync>> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.leaf_key.clone()));
        let versions = if tls12_only { &[&TLS12][..] } else { ALL_VERSIONS };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(vec![self.leaf_der.clone()], key)?;
        let protocols: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}
