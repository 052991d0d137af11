//! The client's side of TLS: it believes every certificate and tells what it was shown.
//!
//! It knows nothing of HTTP.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::case::{ClientCert, Tls, TlsVersion};

/// How a handshake is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsTerms {
    /// The server name; an address or an empty text sends none. TLS wants names in lower case: they are sent
    /// so.
    pub server_name: String,
    /// Versions and protocols; its `sni` is not looked at.
    pub terms: Tls,
    /// The client's certificate.
    pub certificate: Option<ClientCert>,
}

/// What a handshake came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// The protocol chosen by ALPN.
    pub alpn: Option<String>,
    /// The common name of the server's certificate.
    pub certificate_cn: Option<String>,
    /// The cipher, by the name in the registry of TLS.
    pub cipher: String,
}

/// A stream under TLS.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Does the handshake.
///
/// # Errors
///
/// `InvalidInput` when the terms cannot be met by any handshake; otherwise the handshake failed.
pub fn connect(stream: TcpStream, terms: &TlsTerms) -> io::Result<(TlsStream, TlsFacts)> {
    let config = config(terms).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    // rustls always wants a name; an address is not sent on the wire.
    let name = ServerName::try_from(terms.server_name.clone())
        .unwrap_or(ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()));
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let facts = facts(&stream.conn);
    Ok((stream, facts))
}

/// What a client is told for such a handshake.
///
/// # Errors
///
/// When the terms cannot be met by any handshake.
pub fn config(terms: &TlsTerms) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (min, max) = (terms.terms.min.unwrap_or(TlsVersion::Tls12), terms.terms.max);
    let allowed = |version: TlsVersion| version >= min && max.is_none_or(|max| version <= max);
    let mut versions = Vec::new();
    if allowed(TlsVersion::Tls12) {
        versions.push(&rustls::version::TLS12);
    }
    if allowed(TlsVersion::Tls13) {
        versions.push(&rustls::version::TLS13);
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(BelieveAll(provider)));
    let mut config = match &terms.certificate {
        None => builder.with_no_client_auth(),
        Some(ClientCert { cert, key }) => {
            let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<Vec<_>, _>>();
            let chain = chain.map_err(|error| format!("client certificate: {error}"))?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
            let key = key.map_err(|error| format!("client key: {error}"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
        }
    };
    config.alpn_protocols = terms.terms.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    // Each connection stands for a client that was never here before.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn facts(connection: &ClientConnection) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        other => format!("{other:?}"),
    };
    let alpn = connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let cipher = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
    let certificate_cn = certificate.and_then(common_name);
    TlsFacts { version, alpn, certificate_cn, cipher: cipher.unwrap_or_default() }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    certificate.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
}

/// Accepts each certificate. The signature of the handshake is checked nevertheless: it costs nothing and
/// shows a server whose key is not the certificate's.
#[derive(Debug)]
struct BelieveAll(Arc<CryptoProvider>);

impl ServerCertVerifier for BelieveAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that does one handshake with a certificate for this name.
    fn server(name: &str, versions: &[&'static rustls::SupportedProtocolVersion]) -> std::net::SocketAddr {
        let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
            while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        });
        address
    }

    #[test]
    fn handshake_tells_what_it_was_shown() {
        let address = server("a.example", &[&rustls::version::TLS13, &rustls::version::TLS12]);
        let terms = TlsTerms {
            server_name: "b.example".to_owned(),
            terms: Tls { alpn: vec!["h2".to_owned()], max: Some(TlsVersion::Tls12), ..Tls::default() },
            certificate: None,
        };
        let (_, facts) = connect(TcpStream::connect(address).unwrap(), &terms).unwrap();
        let expected = TlsFacts {
            version: "TLSv1.2".to_owned(),
            alpn: Some("h2".to_owned()),
            certificate_cn: Some("a.example".to_owned()),
            cipher: facts.cipher.clone(),
        };
        assert_eq!(facts, expected);
        assert!(facts.cipher.starts_with("TLS_ECDHE_"), "{facts:?}");
    }

    #[test]
    fn handshake_fails_without_a_common_version() {
        let address = server("a.example", &[&rustls::version::TLS13]);
        let terms = TlsTerms {
            server_name: "127.0.0.1".to_owned(),
            terms: Tls { max: Some(TlsVersion::Tls12), ..Tls::default() },
            certificate: None,
        };
        assert!(connect(TcpStream::connect(address).unwrap(), &terms).is_err());
    }
}
