//! How a real API server is started, with programs that are none: they note their arguments, and the test answers in
//! their place by the certificates and at the addresses that they were given.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ingress_wasm_tests::apiserver::ApiServer;
use ingress_wasm_tests::control_plane::ControlPlane;
use ingress_wasm_tests::product::alive;
use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Notes its number and its arguments, and goes on until it is told to end.
const SCRIPT: &str = "#!/bin/sh\n{ echo $$; printf '%s\\n' \"$@\"; } > \"$0.new\" && mv \"$0.new\" \"$0.said\"\nexec sleep 600\n";

fn script(folder: &Path, name: &str) -> Outcome<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, SCRIPT)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// What a program was started with, once it is.
struct Said(Vec<String>);

impl Said {
    async fn of(program: &Path) -> Outcome<Said> {
        let path = program.with_extension("said");
        loop {
            match std::fs::read_to_string(&path) {
                Ok(text) => return Ok(Said(text.lines().map(str::to_owned).collect())),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    fn pid(&self) -> Outcome<i32> {
        Ok(self.0.first().ok_or("it has a number")?.parse()?)
    }

    fn value(&self, name: &str) -> Outcome<&str> {
        let found = self.0.iter().find_map(|argument| argument.strip_prefix(&format!("--{name}=")));
        Ok(found.ok_or_else(|| format!("there is no --{name}: {:?}", self.0))?)
    }
}

/// Answers in place of etcd.
async fn etcd(program: PathBuf) -> Outcome {
    let said = Said::of(&program).await?;
    let address: SocketAddr = said.value("listen-client-urls")?.trim_start_matches("http://").parse()?;
    let listener = TcpListener::bind(address).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut head = [0; 1024];
        let read = stream.read(&mut head).await?;
        let known = head.get(..read).is_some_and(|head| head.starts_with(b"GET /health "));
        let answer = if known {
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        } else {
            "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Answers in place of the API server: the double, to clients with a certificate.
async fn apiserver(program: PathBuf, double: SocketAddr) -> Outcome {
    let said = Said::of(&program).await?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(said.value("client-ca-file")?)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let chain =
        CertificateDer::pem_file_iter(said.value("tls-cert-file")?)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(said.value("tls-private-key-file")?)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let port: u16 = said.value("secure-port")?.parse()?;
    let listener = TcpListener::bind((said.value("bind-address")?, port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let mut here = acceptor.accept(stream).await?;
            let mut there = TcpStream::connect(double).await?;
            tokio::io::copy_bidirectional(&mut here, &mut there).await
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_and_ends_both() -> Outcome {
    let double = ApiServer::start()?;
    let address: SocketAddr = double.url().trim_start_matches("http://").parse()?;
    let folder = tempfile::tempdir()?;
    let programs = [script(folder.path(), "etcd")?, script(folder.path(), "kube-apiserver")?];
    let answers =
        [tokio::spawn(etcd(programs[0].clone())), tokio::spawn(apiserver(programs[1].clone(), address))];
    let assets = folder.path().to_owned();
    let plane = tokio::task::spawn_blocking(move || ControlPlane::start(&assets)).await??;

    let kubeconfig = Kubeconfig::from_yaml(plane.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let namespaces: Api<Namespace> = Api::all(Client::try_from(config)?);
    assert!(namespaces.get_opt("default").await?.is_some(), "as an administrator");

    let mut numbers = Vec::new();
    for program in &programs {
        let said = Said::of(program).await?;
        assert!(alive(said.pid()?));
        numbers.push(said.pid()?);
    }
    tokio::task::spawn_blocking(move || drop(plane)).await?;
    assert!(numbers.iter().all(|number| !alive(*number)), "both have ended");
    answers.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}
