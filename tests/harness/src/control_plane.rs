//! A real API server for tests, by the convention of controller-runtime's envtest: `etcd` and `kube-apiserver` of one
//! directory, which `KUBEBUILDER_ASSETS` names, on loopback ports of their own.
//!
//! There is nothing but the API: no controllers, no scheduler, no nodes.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};

use crate::case::{ClientCert, Tls};
use crate::client::{Target, WireRequest, once};
use crate::tls::TlsTerms;

/// How long each of them may take until it answers, and until it ends.
const START: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(20);

/// Both processes. End with their owner, the API server first.
pub struct ControlPlane {
    apiserver: Process,
    etcd: Process,
    kubeconfig: String,
    folder: tempfile::TempDir,
}

struct Process {
    child: Child,
    log: PathBuf,
}

/// Where everything of an API server is.
#[derive(Debug, Clone)]
struct Layout {
    folder: PathBuf,
    etcd: SocketAddr,
    peer: SocketAddr,
    apiserver: SocketAddr,
}

/// What clients need to know.
struct Credentials {
    authority: String,
    client: ClientCert,
}

impl ControlPlane {
    /// Starts both and waits until they answer.
    ///
    /// # Errors
    ///
    /// What keeps them from it, with the end of their logs.
    pub fn start(assets: &Path) -> Result<ControlPlane, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (etcd, peer, apiserver) = (free()?, free()?, free()?);
        let layout = Layout { folder: folder.path().to_owned(), etcd, peer, apiserver };
        let credentials =
            make_credentials(folder.path()).map_err(|error| format!("certificates: {error}"))?;
        let program = |name: &str| {
            let path = assets.join(name);
            if path.is_file() { Ok(path) } else { Err(format!("there is no {}", path.display())) }
        };
        let (etcd_binary, apiserver_binary) = (program("etcd")?, program("kube-apiserver")?);
        let mut etcd = Process::start(&etcd_binary, &layout.etcd_arguments(), folder.path())?;
        etcd.wait("etcd", || healthy(&Target::plain(layout.etcd), "/health"))?;
        let mut apiserver = Process::start(&apiserver_binary, &layout.apiserver_arguments(), folder.path())?;
        let tls = TlsTerms {
            server_name: "localhost".to_owned(),
            terms: Tls::default(),
            certificate: Some(credentials.client.clone()),
        };
        let target = Target { tls: Some(tls), ..Target::plain(layout.apiserver) };
        apiserver.wait("kube-apiserver", || healthy(&target, "/readyz"))?;
        let kubeconfig = kubeconfig(layout.apiserver, &credentials);
        Ok(ControlPlane { apiserver, etcd, kubeconfig, folder })
    }

    /// How clients find it, and who they are: administrators.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// Where its files are, the logs among them.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.apiserver.end();
        self.etcd.end();
    }
}

impl Layout {
    fn etcd_arguments(&self) -> Vec<String> {
        let client = format!("http://{}", self.etcd);
        vec![
            format!("--data-dir={}", self.folder.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls=http://{}", self.peer),
        ]
    }

    fn apiserver_arguments(&self) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        vec![
            format!("--etcd-servers=http://{}", self.etcd),
            format!("--bind-address={}", self.apiserver.ip()),
            format!("--advertise-address={}", self.apiserver.ip()),
            format!("--secure-port={}", self.apiserver.port()),
            format!("--cert-dir={}", self.folder.display()),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            // The accounts that it would put into pods are made by a controller that is not there.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--service-account-issuer=https://{}/", self.apiserver),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
        ]
    }
}

/// A port that is free now.
fn free() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}

fn healthy(target: &Target, path: &str) -> bool {
    once(target, &WireRequest::new("GET", "localhost", path)).is_ok_and(|response| response.status == 200)
}

/// Writes the files that the API server reads, and gives what clients need.
fn make_credentials(folder: &Path) -> Result<Credentials, Box<dyn std::error::Error>> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::from_params(&authority, &authority_key);

    let server_key = KeyPair::generate()?;
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1"];
    let mut server = CertificateParams::new(names.map(str::to_owned).to_vec())?;
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];

    let client_key = KeyPair::generate()?;
    let mut client = CertificateParams::new(Vec::new())?;
    client.distinguished_name.push(DnType::CommonName, "admin");
    // To this group RBAC allows everything.
    client.distinguished_name.push(DnType::OrganizationName, "system:masters");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];

    let accounts = KeyPair::generate()?;
    for (name, text) in [
        ("ca.crt", authority_certificate.clone()),
        ("apiserver.crt", server.signed_by(&server_key, &issuer)?.pem()),
        ("apiserver.key", server_key.serialize_pem()),
        ("accounts.key", accounts.serialize_pem()),
        ("accounts.pub", accounts.public_key_pem()),
    ] {
        std::fs::write(folder.join(name), text)?;
    }
    let cert = client.signed_by(&client_key, &issuer)?.pem();
    let client = ClientCert { cert, key: client_key.serialize_pem() };
    Ok(Credentials { authority: authority_certificate, client })
}

fn kubeconfig(address: SocketAddr, credentials: &Credentials) -> String {
    let data = |text: &str| STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: test\n  cluster:\n    server: https://{address}\n    \
         certificate-authority-data: {}\nusers:\n- name: test\n  user:\n    client-certificate-data: {}\n    \
         client-key-data: {}\ncontexts:\n- name: test\n  context: {{cluster: test, user: test}}\n\
         current-context: test\n",
        data(&credentials.authority),
        data(&credentials.client.cert),
        data(&credentials.client.key)
    )
}

impl Process {
    fn start(binary: &Path, arguments: &[String], folder: &Path) -> Result<Process, String> {
        let name = binary.file_name().unwrap_or_default().to_string_lossy();
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = file.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(file).stderr(errors);
        let child =
            command.spawn().map_err(|error| format!("{} cannot be started: {error}", binary.display()))?;
        Ok(Process { child, log })
    }

    fn wait(&mut self, name: &str, so: impl Fn() -> bool) -> Result<(), String> {
        let end = Instant::now() + START;
        while !so() {
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > end {
                let why = ended
                    .map_or_else(|| format!("not ready in {START:?}"), |status| format!("ended, {status}"));
                let text = std::fs::read_to_string(&self.log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
                return Err(format!("{name}: {why}; the end of its log:\n{}", tail.join("\n")));
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Politely, then by force.
    fn end(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let end = Instant::now() + END;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Where only one of them came up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_say_where_everything_is() {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let layout =
            Layout { folder: "/f".into(), etcd: address(1), peer: address(2), apiserver: address(3) };
        assert_eq!(
            layout.etcd_arguments().join(" "),
            "--data-dir=/f/etcd --listen-client-urls=http://127.0.0.1:1 --advertise-client-urls=http://127.0.0.1:1 \
             --listen-peer-urls=http://127.0.0.1:2"
        );
        let arguments = layout.apiserver_arguments();
        for expected in [
            "--etcd-servers=http://127.0.0.1:1",
            "--secure-port=3",
            "--client-ca-file=/f/ca.crt",
            "--service-account-issuer=https://127.0.0.1:3/",
            "--service-account-signing-key-file=/f/accounts.key",
        ] {
            assert!(arguments.iter().any(|argument| argument == expected), "{expected}: {arguments:?}");
        }
    }

    #[test]
    fn what_cannot_start_says_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = ControlPlane::start(folder.path()).map(|_| ()).expect_err("nothing is there");
        assert!(error.contains("there is no") && error.contains("etcd"), "{error}");
        for name in ["etcd", "kube-apiserver"] {
            script(&folder.path().join(name), "echo no more disk; exit 3");
        }
        let error = ControlPlane::start(folder.path()).map(|_| ()).expect_err("it ends");
        assert!(error.contains("no more disk") && error.contains("exit status: 3"), "{error}");
    }

    fn script(path: &Path, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("written");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    }
}
