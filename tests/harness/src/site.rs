//! A site to serve: a folder of manifests, and the echo backends that its Services lead to.
//!
//! It knows nothing of cases and of the product.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ingress_wasm_echo::EchoServer;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::manifests::{self, Service};

/// Where the echo backends of all sites run.
static RUNTIME: LazyLock<io::Result<Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build());

/// What is wanted of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its name in the namespace `default`.
    pub name: String,
    /// Its only port.
    pub port: u16,
    /// How many endpoints answer.
    pub endpoints: usize,
    /// How many further endpoints refuse connections.
    pub dead: usize,
    /// Whether the Service has a cluster address.
    pub cluster_ip: bool,
}

impl Backend {
    /// A service on port 80 with this many endpoints.
    pub fn new(name: &str, endpoints: usize) -> Self {
        Self { name: name.to_owned(), port: 80, endpoints, dead: 0, cluster_ip: true }
    }
}

/// Folder and backends; both are gone when it is dropped.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    servers: BTreeMap<String, Vec<EchoServer>>,
    /// Bound and never listening: the system refuses connections to them, and gives their ports to nobody.
    _dead: Vec<Socket>,
}

impl Site {
    /// Starts the backends, and writes their Services and the controller's ConfigMap.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written or a port cannot be bound.
    pub fn new(backends: &[Backend], config: &BTreeMap<String, String>) -> io::Result<Self> {
        let runtime = RUNTIME.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        let _inside = runtime.enter();
        let folder = tempfile::Builder::new().prefix("ingress-wasm-test-").tempdir()?;
        std::fs::create_dir(folder.path().join("manifests"))?;
        std::fs::create_dir(folder.path().join("tmp"))?;
        let mut servers = BTreeMap::new();
        let mut dead = Vec::new();
        let mut services = Vec::new();
        for backend in backends {
            let of_service = (0..backend.endpoints).map(|index| EchoServer::start(&backend.name, index));
            let of_service = of_service.collect::<io::Result<Vec<_>>>()?;
            let mut endpoints: Vec<_> = of_service.iter().map(EchoServer::address).collect();
            for _ in 0..backend.dead {
                let (socket, address) = refusing()?;
                endpoints.push(address);
                dead.push(socket);
            }
            let Backend { name, port, cluster_ip, .. } = backend;
            services.push(Service { name, port: *port, endpoints, cluster_ip: *cluster_ip });
            servers.insert(backend.name.clone(), of_service);
        }
        let site = Self { folder, servers, _dead: dead };
        site.write("backends.yaml", &manifests::services(&services))?;
        site.write("config-map.yaml", &manifests::config_map(config))?;
        Ok(site)
    }

    /// The folder that the product serves.
    pub fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    /// The folder for temporary files of the product.
    pub fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// Writes or replaces a file of manifests in one step, `ENDPOINT(NAME)` replaced.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let first = |servers: &Vec<EchoServer>| servers.first().map(EchoServer::address);
        let addresses =
            self.servers.iter().filter_map(|(name, servers)| Some((name.as_str(), first(servers)?)));
        let path = self.manifests().join(name);
        let new = self.folder.path().join(format!("{name}.new"));
        std::fs::write(&new, manifests::replace_endpoints(text, &addresses.collect()))?;
        std::fs::rename(&new, &path)?;
        Ok(path)
    }

    /// The backends of a service, in the order of their endpoints; none when there is no such service.
    pub fn servers(&self, service: &str) -> &[EchoServer] {
        self.servers.get(service).map(Vec::as_slice).unwrap_or_default()
    }

    /// All backends.
    pub fn all_servers(&self) -> impl Iterator<Item = &EchoServer> {
        self.servers.values().flatten()
    }

    /// Forgets what all backends received.
    pub fn forget(&self) {
        self.all_servers().for_each(EchoServer::clear);
    }

    /// Leaves the folder where it is when the site is dropped; gives its path.
    pub fn keep(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }
}

/// A port that refuses connections for as long as the socket lives.
fn refusing() -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket();
    Ok((socket, address.ok_or_else(|| io::Error::other("a socket without an address"))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Target, WireRequest, once};

    #[test]
    fn backends_answer_and_dead_ones_refuse() {
        let web = Backend { dead: 1, ..Backend::new("web", 2) };
        let site = Site::new(&[web, Backend::new("none", 0)], &BTreeMap::new()).unwrap();
        let written = std::fs::read_to_string(site.manifests().join("backends.yaml")).unwrap();
        for (index, server) in site.servers("web").iter().enumerate() {
            assert!(written.contains(&server.address().port().to_string()), "{written}");
            let request = WireRequest::new("GET", "x", "/a");
            let answer = once(&Target::plain(server.address()), &request).unwrap();
            assert!(answer.header("x-echo-backend").unwrap().starts_with(&format!("web/{index}/")));
        }
        let (_socket, address) = refusing().unwrap();
        let error = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(site.all_servers().map(|server| server.received().len()).sum::<usize>(), 2);
        site.forget();
        assert_eq!(site.all_servers().map(|server| server.received().len()).sum::<usize>(), 0);
        let folder = site.manifests();
        let path = site.write("a.yaml", "http://ENDPOINT(web)/").unwrap();
        let expected = format!("http://{}/", site.servers("web")[0].address());
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
        drop(site);
        assert!(!folder.exists());
    }
}
