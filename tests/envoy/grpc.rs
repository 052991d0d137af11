//! gRPC through the gateway: unary calls, failures that are only trailers, and calls that go both ways at a
//! time. Client and backend speak the framing of gRPC over HTTP/2 themselves: it is trailers and streams that
//! are at stake, and a gRPC library would hide them.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use ingress_wasm_tests::tls::TlsTerms;

use crate::support::{SOON, Served, serve};

type Body = BoxBody<Bytes, Infallible>;

/// The trailer by which a call says what became of it.
const STATUS: &str = "grpc-status";
/// `NOT_FOUND`.
const NOT_FOUND: &str = "5";

/// A message in the framing of gRPC: not compressed, four bytes of length.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).expect("a short text");
    [&[0], &length.to_be_bytes()[..], text.as_bytes()].concat().into()
}

fn header(value: &'static str) -> HeaderValue {
    HeaderValue::from_static(value)
}

/// Answers `/echo.Echo/Fail` with nothing but trailers, and every other call with the frames that it sends, each
/// as soon as it is there, and trailers after the last.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let te = request.headers().get("te").cloned();
    let mut head = Response::builder().header("content-type", "application/grpc");
    if path.ends_with("/Fail") {
        head = head.header(STATUS, NOT_FOUND).header("grpc-message", "no such thing");
        return Ok(head.body(Full::default().boxed()).expect("a response"));
    }
    let (frames, received) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && frames.send(Ok(Frame::data(data))).await.is_err()
            {
                return;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert(STATUS, header("0"));
        trailers.insert("called", path.parse().expect("a path"));
        trailers.extend(te.map(|te| (hyper::header::HeaderName::from_static("received-te"), te)));
        let _ = frames.send(Ok(Frame::trailers(trailers))).await;
    });
    let body = StreamBody::new(items(received)).boxed();
    Ok(head.body(body).expect("a response"))
}

/// The items of a channel.
fn items<T>(mut channel: mpsc::Receiver<T>) -> impl futures_util::Stream<Item = T> {
    futures_util::stream::poll_fn(move |context| channel.poll_recv(context))
}

async fn serve_connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = hyper::service::service_fn(answer);
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// A backend that speaks HTTP/2 only, under TLS or not.
async fn backend(tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => serve_connection(stream).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve_connection(stream).await;
                        }
                    }
                }
            });
        }
    });
    address
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["grpcs.example".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A Service without a selector with this one endpoint, and an Ingress `NAME.example` that leads to it.
fn manifests(name: &str, protocol: &str, endpoint: SocketAddr) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{port: {}}}]
endpoints: [{{addresses: [{}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, annotations: {{nginx.ingress.kubernetes.io/backend-protocol: {protocol}}}}}
spec:
  ingressClassName: nginx
  rules:
  - host: {name}.example
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {name}, port: {{number: 80}}}}}}}}]}}
",
        endpoint.port(),
        endpoint.ip(),
    )
}

type Sender = hyper::client::conn::http2::SendRequest<Body>;

async fn client(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender, String> {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn connect(served: &Served, tls: bool) -> Result<Sender, String> {
    let address = if tls { served.product.https } else { served.product.http };
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    if !tls {
        return client(stream).await;
    }
    let terms = TlsTerms { server_name: "grpc.example".to_owned(), ..TlsTerms::default() };
    let mut config = ingress_wasm_tests::tls::config(&terms)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("grpc.example").map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    client(stream).await
}

fn call(scheme: &str, host: &str, method: &str, body: Body) -> Request<Body> {
    Request::post(format!("{scheme}://{host}/echo.Echo/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request")
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {got:?}")) }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn unary(sender: &mut Sender, scheme: &str, host: &str) -> Result<(), String> {
    let request = call(scheme, host, "Unary", Full::new(message("hello")).boxed());
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    same("status", response.status().as_u16(), 200)?;
    same("content-type", text(response.headers(), "content-type"), Some("application/grpc"))?;
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    same("trailer", text(&trailers, STATUS), Some("0"))?;
    same("trailer", text(&trailers, "called"), Some("/echo.Echo/Unary"))?;
    same("te at the backend", text(&trailers, "received-te"), Some("trailers"))?;
    same("message", body.to_bytes(), message("hello"))
}

async fn failing(sender: &mut Sender, scheme: &str, host: &str) -> Result<(), String> {
    let request = call(scheme, host, "Fail", Full::new(message("hello")).boxed());
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    same("status", response.status().as_u16(), 200)?;
    same("grpc-status", text(response.headers(), STATUS), Some(NOT_FOUND))?;
    same("grpc-message", text(response.headers(), "grpc-message"), Some("no such thing"))
}

/// Each message is sent when the one before has come back.
async fn both_ways(sender: &mut Sender, scheme: &str, host: &str) -> Result<(), String> {
    let (frames, channel) = mpsc::channel(1);
    let request = call(scheme, host, "Chat", StreamBody::new(items(channel)).boxed());
    let send = async |text: &str| {
        frames.send(Ok(Frame::data(message(text)))).await.map_err(|_| "the call has ended".to_owned())
    };
    send("one").await?;
    let mut body = sender.send_request(request).await.map_err(|error| error.to_string())?.into_body();
    let mut next = async || match body.frame().await {
        Some(Ok(frame)) => Ok(frame),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("the answer has ended".to_owned()),
    };
    same("first message", next().await?.into_data().ok(), Some(message("one")))?;
    send("two").await?;
    same("second message", next().await?.into_data().ok(), Some(message("two")))?;
    drop(frames);
    let trailers = next().await?.into_trailers().map_err(|_| "data after the last message".to_owned())?;
    same("trailer", text(&trailers, STATUS), Some("0"))
}

pub fn grpc_passes_with_trailers_and_streams() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let plain = backend(None).await;
        let secure = backend(Some(acceptor())).await;
        let manifests = [manifests("grpc", "GRPC", plain), manifests("grpcs", "GRPCS", secure)].concat();
        let served = serve(&[], &manifests)?;
        for tls in [false, true] {
            let scheme = if tls { "https" } else { "http" };
            let mut sender = connect(&served, tls).await?;
            for host in ["grpc.example", "grpcs.example"] {
                let calls = async {
                    unary(&mut sender, scheme, host).await.map_err(|error| format!("unary: {error}"))?;
                    failing(&mut sender, scheme, host).await.map_err(|error| format!("failing: {error}"))?;
                    both_ways(&mut sender, scheme, host).await.map_err(|error| format!("both ways: {error}"))
                };
                tokio::time::timeout(SOON, calls)
                    .await
                    .unwrap_or_else(|_| Err(format!("no answer in {SOON:?}")))
                    .map_err(|error| {
                        format!("{scheme}://{host}: {error}\n{}", served.product.stderr_tail())
                    })?;
            }
        }
        Ok(())
    })
}
