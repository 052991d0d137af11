//! Client certificates of a host (`auth-tls-*`): who is let in, and what backends are told of it.
//!
//! The listener asks for the certificate and checks it, but refuses nobody: nginx answers in HTTP, and decides by
//! the Host of each request. The order is nginx's: the server name of the connection, the certificate, and then,
//! by plain HTTP too, the subject (`ngx_http_request.c`, and the server of ingress-nginx's `nginx.tmpl`).

use std::borrow::Cow;

use super::{page, reply};
use crate::config::VerifyClient;
use crate::decision::{Edit, PeerCertificate, Reply, RequestView, Scheme};
use crate::regex::Scratch;
use crate::router::{self, CompiledClientCertificate, RoutingTable};

/// What backends are told of the client's certificate. An empty text is no header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told<'a> {
    verify: &'static str,
    subject: &'a [u8],
    issuer: &'a [u8],
    certificate: &'a [u8],
}

/// What becomes of a request to a host with client certificates.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// It is let in.
    Pass(Told<'a>),
    /// It is answered here.
    Answer(Reply<'a>),
    /// It gets what the host has at this path instead.
    Page(&'a str, Told<'a>),
}

/// How OpenSSL calls what is nearly always the matter. Envoy does not tell which of several it was.
const UNTRUSTED: &str = "FAILED:unable to verify the first certificate";

/// Checks a request.
pub fn check<'a>(
    settings: &'a CompiledClientCertificate,
    table: &RoutingTable,
    request: &RequestView<'a>,
) -> Verdict<'a> {
    let (certificate, refusal) = match request.connection.scheme {
        Scheme::Http => (None, None),
        Scheme::Https => match over_tls(settings.verify, table, request) {
            Ok((certificate, refusal)) => (certificate, refusal),
            Err(reply) => return Verdict::Answer(reply),
        },
    };
    if let (Some(reason), None) = (refusal, &settings.error_page) {
        return Verdict::Answer(bad_request(reason));
    }
    let page_at = match settings.error_page.as_deref().filter(|_| refusal.is_some()) {
        Some(path) if path.starts_with('/') => Some(path),
        Some(url) => {
            let location = url.as_bytes().to_vec();
            return Verdict::Answer(reply::redirect(302, location, "client_certificate"));
        }
        None => None,
    };
    let subject = certificate.map_or(&b""[..], |certificate| certificate.subject);
    if let Some(expression) = &settings.subject
        && !expression.is_match(subject, &mut Scratch::default()).unwrap_or(false)
    {
        let body = Cow::Borrowed(&b"client certificate unauthorized"[..]);
        return Verdict::Answer(Reply { body, ..page(403, "client_subject") });
    }
    if settings.verify == VerifyClient::Refuse {
        return Verdict::Answer(page(403, "client_authorities"));
    }
    let told = told(settings, request, certificate);
    match page_at {
        Some(path) => Verdict::Page(path, told),
        None => Verdict::Pass(told),
    }
}

/// The certificate of a request over TLS, and why the request is refused if it is.
type OverTls<'a> = (Option<PeerCertificate<'a>>, Option<&'static str>);

fn over_tls<'a>(
    verify: VerifyClient,
    table: &RoutingTable,
    request: &RequestView<'a>,
) -> Result<OverTls<'a>, Reply<'static>> {
    if matches!(verify, VerifyClient::Off | VerifyClient::Refuse) || !table.connection_header {
        return Ok((None, (verify == VerifyClient::On).then_some(NO_CERTIFICATE)));
    }
    let host = router::canonical_host(request.authority());
    let certificate = match request.server_name() {
        Some(name) if *name == *host => request.peer_certificate(),
        // The certificate, if there is one, was asked for and checked on behalf of another host.
        Some(name) if router::find_host(table, name).is_some_and(|(host, _)| &*host.name != "*") => {
            return Err(page(421, "server_name"));
        }
        _ => None,
    };
    let refusal = match (verify, &certificate) {
        (VerifyClient::On, None) => Some(NO_CERTIFICATE),
        (VerifyClient::OptionalNoCa, Some(certificate)) => {
            let now = request.now_ms / 1000;
            let valid = certificate.verified || (certificate.from..=certificate.until).contains(&now);
            (!valid).then_some(BAD_CERTIFICATE)
        }
        (_, Some(certificate)) => (!certificate.verified).then_some(BAD_CERTIFICATE),
        (_, None) => None,
    };
    Ok((certificate, refusal))
}

fn told<'a>(
    settings: &CompiledClientCertificate,
    request: &RequestView<'_>,
    certificate: Option<PeerCertificate<'a>>,
) -> Told<'a> {
    if request.connection.scheme == Scheme::Http {
        return Told::default();
    }
    let Some(certificate) = certificate else { return Told { verify: "NONE", ..Told::default() } };
    Told {
        verify: if certificate.verified { "SUCCESS" } else { UNTRUSTED },
        subject: certificate.subject,
        issuer: certificate.issuer,
        certificate: if settings.pass_certificate { certificate.pem } else { b"" },
    }
}

/// The headers for the backend. What a client sends under their names never gets there.
pub fn edits<'a>(told: &Told<'a>, edits: &mut Vec<Edit<'a>>) {
    let set = |name: &'static str, value: &'a [u8]| Edit::Set(Cow::Borrowed(name), Cow::Borrowed(value));
    edits.extend([
        set("ssl-client-verify", told.verify.as_bytes()),
        set("ssl-client-subject-dn", told.subject),
        set("ssl-client-issuer-dn", told.issuer),
        set("ssl-client-cert", told.certificate),
    ]);
}

const NO_CERTIFICATE: &str = "No required SSL certificate was sent";
const BAD_CERTIFICATE: &str = "The SSL certificate error";

/// nginx's page for these two.
fn bad_request(reason: &'static str) -> Reply<'static> {
    let body = [
        "<html>\r\n<head><title>400 ",
        reason,
        "</title></head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n<center>",
        reason,
        "</center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
    ]
    .concat();
    Reply { body: Cow::Owned(body.into_bytes()), ..page(400, "client_certificate") }
}

#[cfg(test)]
#[path = "client_certificate_tests.rs"]
mod tests;
