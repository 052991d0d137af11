//! The controller in a cluster: objects of a Kubernetes API server, served by the Envoy of the same pod or by the
//! gateway of a mesh.
//!
//! ```text
//! API server ── follow, watches ──▶ store ── translate ──▶ controller ── sink ──▶ feed (xDS) ──▶ Envoy
//!                                                             │             └───▶ mesh ──▶ API server
//!                                     served: a channel for status, Events and the like
//! ```
//!
//! * `follow` keeps one watch alive; `watches` says what is watched and fetches Secrets and ConfigMaps by name.
//! * `store` holds objects, knows which Secrets and ConfigMaps are named, and translates.
//! * `controller` is the loop: when to translate, and what becomes of it. It sends a [`Served`] value on a
//!   [`tokio::sync::watch`] channel after each translation and each answer of Envoy: what writes to the API
//!   server follows that channel and never reaches into the loop.
//! * `sink` is where translations go: `feed`, or `mesh`, which writes objects of Istio.
//! * `quarantine` leaves out what Envoy refuses, found by `culprits`, so that the rest is served.
//! * `leader` says which replica may write to the API server; `status` and `events` write, `addresses` finds what to
//!   publish; `webhook` answers reviews by `admission`, with a certificate of `webhook_certificate`.
//! * `edge` is the directory that is shared with Envoy; `readiness`, `operations` and `shutdown` are what
//!   their names say.
//!
//! Nothing is published before every watch has listed what there is and every named Secret and ConfigMap is
//! fetched or known to be missing. Until then the xDS server keeps silent, and an Envoy that served before goes on.
//!
//! Deliberately knows nothing of how an annotation is read, of arguments, and of how a request is matched.

mod activity;
mod addresses;
mod admission;
mod client;
mod controller;
mod culprits;
pub mod edge;
mod events;
mod follow;
mod leader;
mod mesh;
mod metrics;
mod operations;
mod pause;
mod quarantine;
mod raw;
mod readiness;
mod served;
mod shutdown;
mod sink;
mod status;
mod store;
mod watches;
mod webhook;
mod webhook_certificate;
#[cfg(test)]
mod writing_tests;

use std::fs::File;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ingress_wasm_translate::objects::ObjectName;
use ingress_wasm_translate::output::Options;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use client::{ClientError, client};
pub use mesh::MeshSettings;
pub use metrics::Metrics;
pub use raw::{AnnotationsPrefix, Identity};
pub use served::{Receiver, Served};
pub use shutdown::Patience;
pub use watches::Scope;
use webhook_certificate::Origin;

use crate::envoy::{Admin, Bind, Listeners, ResourceBuilder};
use crate::feed::Feed;
use crate::ready::Workers;
use crate::supervisor::{self, Binary, Level, LogLine, Supervisor};
use activity::{Activity, Labels};
use addresses::OwnPod;
use controller::Controller;
use edge::RunDirectory;
use events::Events;
use leader::{Election, Leadership};
use mesh::Mesh;
use operations::Operations;
use readiness::{Accepted, Readiness, Standing};
use sink::Sink;
use status::Status;
use store::Store;
use webhook::Webhook;

/// What the controller is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The client of the API server.
    pub kubeconfig: Option<PathBuf>,
    /// Its address, in place of the one that is configured.
    pub apiserver_host: Option<String>,
    /// What is watched.
    pub scope: Scope,
    /// How it is translated.
    pub options: Options,
    /// What is written into the status of Ingresses.
    pub status: StatusSettings,
    /// The admission webhook, where there is to be one.
    pub webhook: Option<WebhookSettings>,
    /// Probes and metrics.
    pub healthz: SocketAddr,
    /// Who serves.
    pub server: Server,
}

/// Who serves.
#[derive(Debug, Clone)]
pub enum Server {
    /// The Envoy of this pod.
    Envoy(Box<EnvoySettings>),
    /// The gateway of a mesh.
    Mesh(Box<MeshSettings>),
}

/// The Envoy of this pod.
#[derive(Debug, Clone)]
pub struct EnvoySettings {
    /// Plain HTTP.
    pub http: Option<Bind>,
    /// TLS.
    pub https: Option<Bind>,
    /// Where requests are logged.
    pub access_log: Option<PathBuf>,
    /// The directory that is shared with Envoy.
    pub run_dir: PathBuf,
    /// The Envoy to run; none: another container does.
    pub envoy: Option<Envoy>,
    /// How long the end may take.
    pub patience: Patience,
}

/// What is written into the status of Ingresses, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSettings {
    /// The Service whose addresses are published.
    pub publish_service: Option<ObjectName>,
    /// Addresses that are published as they are, names among them.
    pub publish_addresses: Vec<String>,
    /// Where neither is given: the internal addresses of nodes, not the external ones.
    pub internal_addresses: bool,
    /// Status is written at all.
    pub update: bool,
    /// It is cleared when the last replica ends.
    pub clear_at_end: bool,
    /// The name of the Lease.
    pub election_id: String,
    /// How long the Lease holds without being renewed.
    pub election_ttl: Duration,
}

/// The admission webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// Certificate and key; none: made here.
    pub files: Option<(PathBuf, PathBuf)>,
    /// The Secret for what is made, in the namespace of the pod.
    pub secret: String,
    /// The Service that it is for, there as well.
    pub service: String,
    /// The ValidatingWebhookConfiguration that is told.
    pub configuration: String,
}

/// An Envoy that is run as a child.
#[derive(Debug, Clone)]
pub struct Envoy {
    /// The executable.
    pub binary: Binary,
    /// Number of worker threads.
    pub concurrency: NonZeroU32,
    /// What it logs at all.
    pub log_level: Level,
}

/// Serves until `end` tells something. A second time ends it at once.
///
/// # Errors
///
/// What keeps it from starting: once it runs, it goes on.
pub async fn run(settings: Settings, end: mpsc::Receiver<()>) -> anyhow::Result<()> {
    let client = client(settings.kubeconfig.as_deref(), settings.apiserver_host.as_deref()).await?;
    let own = OwnPod::find(&client);
    let labels = Labels {
        namespace: own.namespace.clone(),
        pod: own.name.clone().unwrap_or_default(),
        class: settings.options.controller_classes.first().cloned().unwrap_or_default(),
    };
    let metrics = Arc::new(Metrics::new(&labels));
    match settings.server.clone() {
        Server::Envoy(envoy) => with_envoy(&settings, &envoy, client, own, metrics, end).await,
        Server::Mesh(mesh) => with_mesh(&settings, &mesh, client, own, metrics, end).await,
    }
}

/// What both ways to serve have in common, once it has begun.
struct Site {
    standing: watch::Sender<Standing>,
    ending: watch::Sender<bool>,
    accepted: watch::Sender<Result<Accepted, String>>,
    follow_accepted: watch::Receiver<Result<Accepted, String>>,
}

impl Site {
    /// Answers probes.
    async fn new(healthz: SocketAddr, admin: Option<Admin>, metrics: &Arc<Metrics>) -> anyhow::Result<Site> {
        let (standing, standings) = watch::channel(Standing::NotReady("starting".to_owned()));
        let (ending, ends) = watch::channel(false);
        let socket = operations::bind(healthz)
            .await
            .with_context(|| format!("cannot listen on {healthz} for probes and metrics"))?;
        let (accepted, follow_accepted) = watch::channel(Err("starting".to_owned()));
        let operations = Operations {
            standing: standings,
            ending: ends,
            accepted: follow_accepted.clone(),
            metrics: Arc::clone(metrics),
            admin,
            turn: Arc::default(),
        };
        operations.serve(socket);
        Ok(Site { standing, ending, accepted, follow_accepted })
    }
}

/// Follows the objects and hands their translations on. `served` is followed by those who write.
fn start_loop(
    settings: &Settings,
    client: &kube::Client,
    sink: Sink,
    accepted: watch::Sender<Result<Accepted, String>>,
    served: watch::Sender<Served>,
    metrics: Arc<Metrics>,
) -> JoinHandle<()> {
    let (wanted, follow_wanted) = watch::channel(Arc::default());
    let by_selector = settings.scope.namespace_selector.is_some();
    let store = Store::new(settings.options.clone(), settings.scope.prefix.clone(), by_selector);
    let watches = watches::start(client, &settings.scope, &follow_wanted, &metrics);
    let controller = Controller { store, watches, wanted, sink, accepted, served, metrics };
    // A task of its own: a translation takes its thread for a while.
    tokio::spawn(controller.run())
}

async fn with_envoy(
    settings: &Settings,
    own_envoy: &EnvoySettings,
    client: kube::Client,
    own: OwnPod,
    metrics: Arc<Metrics>,
    mut end: mpsc::Receiver<()>,
) -> anyhow::Result<()> {
    let EnvoySettings { http, https, access_log, run_dir, envoy, patience } = own_envoy;
    let directory = RunDirectory::open(run_dir)?;
    // Held until the process ends.
    let _lock: File = directory.lock()?;
    directory.clear_socket()?;
    directory.write()?;
    let site = Site::new(settings.healthz, Some(directory.admin()), &metrics).await?;
    let listeners = Listeners {
        http: *http,
        https: *https,
        access_log: access_log.clone(),
        probe: Some(directory.probe()),
    };
    let certificate = https.map(|_| directory.certificate()).transpose()?;
    let builder = ResourceBuilder::new(&listeners, certificate.as_ref(), directory.module());
    // Asked of Envoy once it is there.
    let workers = Workers::new(directory.probe(), NonZeroU32::MIN);
    let (feed, events) = Feed::start(&directory.xds(), builder)?;
    let child = match envoy {
        Some(envoy) => Some(start_envoy(envoy, &directory).await?),
        None => None,
    };
    let Site { standing, ending, accepted, follow_accepted } = site;
    let readiness = Readiness {
        admin: directory.admin(),
        workers,
        accepted: follow_accepted,
        standing,
        metrics: Arc::clone(&metrics),
    };
    tokio::spawn(readiness.run());

    let (served, follow_served) = watch::channel(Served::default());
    if let Some(webhook) = &settings.webhook {
        serve_webhook(&client, webhook, &own, &settings.scope, &follow_served, &metrics.activity).await?;
    }
    let (leadership, candidate) = stand(&client, &settings.status, &own, &metrics);
    let writers =
        writers(&client, &settings.status, own, &follow_served, leadership, candidate, &metrics.activity);
    let sink = Sink::Envoy { feed: Box::new(feed), events, metrics: Arc::clone(&metrics) };
    let controller = start_loop(settings, &client, sink, accepted, served, metrics);

    end.recv().await;
    tracing::info!(grace_seconds = patience.grace.as_secs(), "ending");
    ending.send_replace(true);
    tokio::select! {
        () = async {
            tokio::time::sleep(patience.grace).await;
            let admin = directory.admin();
            tokio::join!(shutdown::drain(&admin, patience.drain), writers.finish());
        } => {}
        Some(()) = end.recv() => tracing::warn!("a second signal: ending at once"),
    }
    controller.abort();
    match child {
        Some(child) => child.shutdown().await,
        None => shutdown::quit(&directory.admin()).await,
    }
    directory.clear_socket()?;
    Ok(())
}

async fn with_mesh(
    settings: &Settings,
    mesh: &MeshSettings,
    client: kube::Client,
    own: OwnPod,
    metrics: Arc<Metrics>,
    mut end: mpsc::Receiver<()>,
) -> anyhow::Result<()> {
    let Site { standing, ending, accepted, follow_accepted } =
        Site::new(settings.healthz, None, &metrics).await?;
    let (served, follow_served) = watch::channel(Served::default());
    if let Some(webhook) = &settings.webhook {
        serve_webhook(&client, webhook, &own, &settings.scope, &follow_served, &metrics.activity).await?;
    }
    let (leadership, candidate) = stand(&client, &settings.status, &own, &metrics);
    let sink = Mesh::start(
        mesh,
        mesh::Site {
            client: &client,
            owner: format!("{}/{}", own.namespace, settings.status.election_id),
            leadership: leadership.clone(),
            accepted: follow_accepted,
            standing,
            metrics: Arc::clone(&metrics),
        },
    );
    let writers =
        writers(&client, &settings.status, own, &follow_served, leadership, candidate, &metrics.activity);
    let controller = start_loop(settings, &client, Sink::Mesh(Box::new(sink)), accepted, served, metrics);

    end.recv().await;
    tracing::info!("ending: the gateway goes on serving what is written");
    ending.send_replace(true);
    // Nothing is written any more before the Lease is handed back.
    controller.abort();
    let _ = controller.await;
    tokio::select! {
        () = writers.finish() => {}
        Some(()) = end.recv() => tracing::warn!("a second signal: ending at once"),
    }
    Ok(())
}

/// Takes part in the election of the replica that writes.
fn stand(
    client: &kube::Client,
    settings: &StatusSettings,
    own: &OwnPod,
    metrics: &Arc<Metrics>,
) -> (Leadership, leader::Candidate) {
    let election = Election {
        namespace: own.namespace.clone(),
        lease: settings.election_id.clone(),
        identity: own.identity(),
        ttl: settings.election_ttl,
    };
    leader::stand(client, election, Arc::clone(&metrics.activity))
}

async fn serve_webhook(
    client: &kube::Client,
    settings: &WebhookSettings,
    own: &OwnPod,
    scope: &Scope,
    served: &Receiver,
    activity: &Arc<Activity>,
) -> anyhow::Result<()> {
    let WebhookSettings { address, files, secret, service, configuration } = settings.clone();
    let origin = match files {
        Some((certificate, key)) => Origin::Files { certificate, key },
        None => Origin::Made { namespace: own.namespace.clone(), secret, service, configuration },
    };
    let socket = operations::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for the admission webhook"))?;
    let webhook = Webhook {
        served: served.clone(),
        namespace: scope.namespace.clone(),
        activity: Arc::clone(activity),
    };
    webhook.serve(socket, webhook_certificate::follow(client.clone(), origin));
    Ok(())
}

/// What writes to the API server, and by which right.
struct Writers {
    status: Option<status::Writer>,
    events: JoinHandle<()>,
    candidate: leader::Candidate,
}

fn writers(
    client: &kube::Client,
    settings: &StatusSettings,
    own: OwnPod,
    served: &Receiver,
    leadership: Leadership,
    candidate: leader::Candidate,
    activity: &Arc<Activity>,
) -> Writers {
    let identity = own.identity();
    let status = settings.update.then(|| {
        let status = Status {
            client: client.clone(),
            settings: settings.clone(),
            own,
            served: served.clone(),
            leadership: leadership.clone(),
            activity: Arc::clone(activity),
        };
        status.start()
    });
    let events = Events {
        client: client.clone(),
        identity,
        served: served.clone(),
        leadership,
        activity: Arc::clone(activity),
    };
    Writers { status, events: tokio::spawn(events.run()), candidate }
}

impl Writers {
    /// The last words, then the Lease is handed back.
    async fn finish(self) {
        if let Some(status) = self.status {
            status.finish().await;
        }
        self.events.abort();
        self.candidate.resign().await;
    }
}

async fn start_envoy(envoy: &Envoy, directory: &RunDirectory) -> anyhow::Result<Supervisor> {
    let Envoy { binary, concurrency, log_level } = envoy;
    Supervisor::start(supervisor::Settings {
        binary: binary.path.clone(),
        bootstrap: directory.bootstrap(),
        concurrency: *concurrency,
        log_level: *log_level,
        admin_address_file: None,
        on_log: Arc::new(envoy_log),
    })
    .await
    .with_context(|| format!("cannot start {}", binary.path.display()))
}

/// Relays what Envoy has to say.
fn envoy_log(line: LogLine) {
    let LogLine { level, component, text } = line;
    match level {
        Level::Critical | Level::Error => tracing::error!(target: "envoy", component, "{text}"),
        Level::Warning => tracing::warn!(target: "envoy", component, "{text}"),
        Level::Info => tracing::info!(target: "envoy", component, "{text}"),
        Level::Debug | Level::Trace => tracing::debug!(target: "envoy", component, "{text}"),
    }
}
