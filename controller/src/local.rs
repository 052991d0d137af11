//! One Envoy of our own, fed by an xDS server of our own: what `ingress-wasm run` drives.
//!
//! Deliberately knows nothing of files, arguments and of what is printed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingress_wasm_translate::output::Translation;
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, watch};

use crate::admin;
use crate::certificate::{Certificate, SelfSignedError};
use crate::envoy::{
    Admin, Bind, BuildError, DynamicBootstrap, HTTP_LISTENER, HTTPS_LISTENER, Listeners, ResourceBuilder,
    ToJsonError, dynamic_bootstrap,
};
use crate::feed::{Feed, NotLive};
use crate::filter;
use crate::ready::Workers;
use crate::supervisor::{self, Binary, Level, LogLine, RunDir, RunDirError, State, Supervisor};
use crate::xds::{Generation, ServerError, XdsEvent};

/// What a local Envoy is started with.
pub struct Settings {
    /// The Envoy to run.
    pub binary: Binary,
    /// The listener for plain HTTP; port 0 asks for a free one.
    pub http: Option<Bind>,
    /// The listener for TLS; port 0 asks for a free one.
    pub https: Option<Bind>,
    /// The certificate of the TLS listener; none asks for a self-signed one.
    pub certificate: Option<Certificate>,
    /// The admin interface; none puts it on a Unix socket that only this user can reach.
    pub admin: Option<SocketAddr>,
    /// The file in which requests are logged, if any.
    pub access_log: Option<PathBuf>,
    /// Number of worker threads.
    pub concurrency: NonZeroU32,
    /// What Envoy logs at all.
    pub log_level: Level,
    /// Told each line of Envoy's log. Must not block.
    pub on_log: Arc<dyn Fn(LogLine) + Send + Sync>,
    /// The module of the filter, unless it is the one that this binary carries.
    pub module: Option<Vec<u8>>,
}

/// Why there is no local Envoy.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each names what failed; the sources say how")]
pub enum StartError {
    #[error("cannot listen on {address}: {source}")]
    Address { address: SocketAddr, source: io::Error },
    #[error("run directory: {0}")]
    RunDir(#[from] RunDirError),
    #[error(transparent)]
    Certificate(#[from] SelfSignedError),
    #[error("bootstrap: {0}")]
    Bootstrap(#[from] ToJsonError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("cannot start {path}: {source}")]
    Envoy { path: String, source: io::Error },
}

/// Where a local Envoy is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Plain HTTP.
    pub http: Option<SocketAddr>,
    /// TLS.
    pub https: Option<SocketAddr>,
}

/// A running Envoy with its xDS server.
#[derive(Debug)]
pub struct Local {
    feed: Feed,
    workers: Workers,
    supervisor: Supervisor,
    listeners: Listeners,
    admin: Option<Admin>,
    admin_socket: Admin,
    ending: Arc<AtomicBool>,
    // Keep the ports that were chosen here, across restarts of Envoy.
    _reserved: Vec<TcpSocket>,
    // Last, so that it goes when nothing uses it any more.
    run: RunDir,
}

impl Local {
    /// Starts Envoy and what feeds it. It takes connections once something is published.
    ///
    /// # Errors
    ///
    /// [`StartError`]
    pub async fn start(settings: Settings) -> Result<(Local, mpsc::UnboundedReceiver<XdsEvent>), StartError> {
        let Settings {
            binary,
            http,
            https,
            certificate,
            admin,
            access_log,
            concurrency,
            log_level,
            on_log,
            module,
        } = settings;
        let run = RunDir::create()?;
        let mut reserved = Vec::new();
        let mut place = |bind: Option<Bind>| -> Result<Option<Bind>, StartError> {
            bind.map(|bind| reserve(bind.address, &mut reserved).map(|address| Bind { address, ..bind }))
                .transpose()
        };
        let listeners = Listeners {
            http: place(http)?,
            https: place(https)?,
            access_log,
            probe: Some(run.join("probe.sock")),
        };
        if let Some(address) = admin.filter(|address| address.port() != 0) {
            check_free(address)?;
        }
        let certificate = match (certificate, https) {
            (None, Some(_)) => Some(Certificate::self_signed()?),
            (certificate, _) => certificate,
        };
        let module = run.write("ingress_wasm.wasm", module.as_deref().unwrap_or(filter::MODULE))?;
        let builder = ResourceBuilder::new(&listeners, certificate.as_ref(), module);

        let admin_socket = Admin::Unix(run.join("admin.sock"));
        let xds = run.join("xds.sock");
        let bootstrap = dynamic_bootstrap(&DynamicBootstrap {
            node_id: "local".to_owned(),
            admin: admin.map_or_else(|| admin_socket.clone(), Admin::Tcp),
            xds: xds.clone(),
        })?;
        let bootstrap = run.write("bootstrap.json", format!("{bootstrap:#}\n").as_bytes())?;

        let workers = Workers::new(run.join("probe.sock"), concurrency);
        let (feed, events) = Feed::start(&xds, builder)?;
        let path = binary.path.display().to_string();
        let ending = Arc::new(AtomicBool::new(false));
        let is_ending = Arc::clone(&ending);
        let on_log = Arc::new(move |line: LogLine| {
            // That it was asked to end and lost its server is no news then.
            if line.level > Level::Warning || !is_ending.load(Ordering::Relaxed) {
                on_log(line);
            }
        });
        let supervisor = Supervisor::start(supervisor::Settings {
            binary: binary.path,
            bootstrap,
            concurrency,
            log_level,
            admin_address_file: admin.map(|_| run.join("admin.address")),
            on_log,
        })
        .await
        .map_err(|source| StartError::Envoy { path, source })?;
        let admin = admin.filter(|address| address.port() != 0).map(Admin::Tcp);
        let local = Local {
            feed,
            workers,
            supervisor,
            listeners,
            admin,
            admin_socket,
            ending,
            _reserved: reserved,
            run,
        };
        Ok((local, events))
    }

    /// Sends a translation on its way, in place of any that is not live yet.
    ///
    /// # Errors
    ///
    /// [`BuildError`]; nothing is published then.
    pub fn publish(&mut self, translation: &Translation) -> Result<Generation, BuildError> {
        self.feed.publish(translation)
    }

    /// Waits until a published translation is live: Envoy has acknowledged all of it and every worker serves
    /// the plugin configuration of this generation. Gives how long the workers took after that.
    ///
    /// # Errors
    ///
    /// [`NotLive`]. After `patience`, Envoy may still get there.
    pub async fn live(
        &mut self,
        published: Generation,
        translation: &Translation,
        patience: Duration,
    ) -> Result<Duration, NotLive> {
        self.feed.live(&mut self.workers, published, translation, patience).await
    }

    /// Where clients reach it.
    pub fn addresses(&self) -> Addresses {
        let Listeners { http, https, .. } = &self.listeners;
        Addresses { http: http.map(|bind| bind.address), https: https.map(|bind| bind.address) }
    }

    /// Where the admin interface is.
    ///
    /// # Errors
    ///
    /// Where it was given port 0 and Envoy has not said yet which port it took.
    pub fn admin(&self) -> Result<Admin, admin::CallError> {
        match &self.admin {
            Some(admin) => Ok(admin.clone()),
            None if self.run.join("admin.sock").exists() => Ok(self.admin_socket.clone()),
            None => Ok(Admin::Tcp(admin::address_in_file(&self.run.join("admin.address"))?)),
        }
    }

    /// Where Envoy itself says that its listeners are: only those that take connections are there.
    ///
    /// # Errors
    ///
    /// [`admin::CallError`]
    pub async fn bound(&self) -> Result<Addresses, admin::CallError> {
        let found = admin::listeners(&self.admin()?).await?;
        Ok(Addresses { http: found.get(HTTP_LISTENER).copied(), https: found.get(HTTPS_LISTENER).copied() })
    }

    /// How the process fares, now and after each change.
    pub fn state(&self) -> watch::Receiver<State> {
        self.supervisor.state()
    }

    /// The directory of this run.
    pub fn run_dir(&self) -> &RunDir {
        &self.run
    }

    /// Ends Envoy and everything around it. Returns when the process and the directory are gone.
    pub async fn shutdown(self) {
        let Local { supervisor, feed, run, ending, .. } = self;
        ending.store(true, Ordering::Relaxed);
        supervisor.shutdown().await;
        feed.shutdown().await;
        drop(run);
    }
}

/// A port that is certainly free. A port 0 is replaced with one that stays ours: bound, but without
/// listening, so that Envoy can bind it as well, again after a restart, and nobody else is given it.
fn reserve(address: SocketAddr, reserved: &mut Vec<TcpSocket>) -> Result<SocketAddr, StartError> {
    if address.port() != 0 {
        check_free(address)?;
        return Ok(address);
    }
    let bind = || -> io::Result<(TcpSocket, SocketAddr)> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        let bound = socket.local_addr()?;
        Ok((socket, bound))
    };
    let (socket, bound) = bind().map_err(|source| StartError::Address { address, source })?;
    reserved.push(socket);
    Ok(bound)
}

/// Envoy's workers share a port among them, and would share it as well with another proxy of the same user
/// that runs already: each would get a part of the requests. So that is looked for here.
fn check_free(address: SocketAddr) -> Result<(), StartError> {
    let bind = || -> io::Result<()> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        drop(socket.listen(1)?);
        Ok(())
    };
    bind().map_err(|source| StartError::Address { address, source })
}

impl Settings {
    /// Both listeners on free ports of the loopback interface, and two workers.
    pub fn loopback(binary: Binary, on_log: Arc<dyn Fn(LogLine) + Send + Sync>) -> Settings {
        let any = Bind::from(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
        Settings {
            binary,
            http: Some(any),
            https: Some(any),
            certificate: None,
            admin: None,
            access_log: None,
            concurrency: NonZeroU32::MIN.saturating_add(1),
            log_level: Level::Warning,
            on_log,
            module: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ports_are_free_and_stay_so() {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let mut reserved = Vec::new();
        let (one, two) =
            (reserve(any, &mut reserved).expect("free"), reserve(any, &mut reserved).expect("free"));
        assert_ne!(one, two);
        assert_eq!(reserved.len(), 2);
        let error = std::net::TcpListener::bind(one).expect_err("reserved");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");

        let taken = std::net::TcpListener::bind(any).expect("free");
        let taken = taken.local_addr().map(|address| (address, taken)).expect("bound");
        let error = reserve(taken.0, &mut reserved).expect_err("taken");
        assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", taken.0)), "{error}");
    }
}
