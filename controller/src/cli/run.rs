//! `ingress-wasm run`: manifests served through a local Envoy, and their changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use ingress_wasm_echo::EchoServer;
use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::output::{Endpoint, Options, ServicePortName, Translation};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::InputArgs;
use crate::catalog::Catalog;
use crate::envoy::{Admin, Bind};
use crate::feed::NotLive;
use crate::files::FileSet;
use crate::local::{Local, Settings};
use crate::supervisor::{self, Level, LogLine};
use crate::terminal::{Style, Terminal, count};
use crate::watch::FileWatch;
use crate::xds::XdsEvent;

/// How long a configuration may take until every worker serves it.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long files must be quiet after a change: many are often written at once.
const QUIET: Duration = Duration::from_millis(80);

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    input: InputArgs,
    /// The address for plain HTTP; port 0 asks for a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// The address for TLS; port 0 asks for a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    https: SocketAddr,
    /// The address of Envoy's admin interface; a private socket by default
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Answer for every Service that an Ingress names with a built-in backend that tells what it received
    #[arg(long)]
    demo_backends: bool,
    /// The Envoy to run; by default $ENVOY, or `envoy` on the PATH
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// Log each request to this file, as a line of JSON
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// Envoy's worker threads
    #[arg(long, value_name = "NUMBER", default_value = "2")]
    concurrency: NonZeroU32,
}

/// Serves until a signal ends it.
pub fn run(args: &RunArgs, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(serve(args, terminal));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(args: &RunArgs, terminal: &Terminal) -> anyhow::Result<()> {
    // From here on a signal ends the run in an orderly way, however early it comes.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let binary = supervisor::find(args.envoy.as_deref(), &[]).await?;
    let (files, catalog) = args.input.load();
    let mut site = Site::new(args, *terminal, files, catalog);
    let translation = site.translate().await?;
    // Envoy may run in another directory.
    let access_log = args.access_log.as_ref().map(std::path::absolute).transpose();
    let access_log = access_log.context("cannot find the place of the access log")?;
    let settings = Settings {
        binary,
        http: Some(Bind::from(args.http)),
        https: Some(Bind::from(args.https)),
        certificate: None,
        admin: args.admin,
        access_log,
        concurrency: args.concurrency,
        log_level: Level::Warning,
        on_log: envoy_log(*terminal),
        module: None,
    };
    let watch = FileWatch::start(&site.files.directories());
    let (mut local, events) = Local::start(settings).await?;
    let outcome = tokio::select! {
        outcome = site.follow(&mut local, translation, watch, events) => outcome,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    local.shutdown().await;
    outcome
}

/// Relays what Envoy has to say.
fn envoy_log(terminal: Terminal) -> Arc<dyn Fn(LogLine) + Send + Sync> {
    Arc::new(move |line| {
        let style = if line.level >= Level::Error { Style::Red } else { Style::Yellow };
        terminal.line(&format!("{} {}", terminal.paint(style, "envoy:"), line.text));
    })
}

/// What is served, and how it is said.
struct Site {
    terminal: Terminal,
    verbose: bool,
    files: FileSet,
    catalog: Catalog,
    options: Options,
    /// The built-in backends, if they are asked for.
    demo: Option<BTreeMap<ServicePortName, EchoServer>>,
    /// What was said already: after a change only what is new is said.
    said: BTreeSet<Diagnostic>,
}

impl Site {
    fn new(args: &RunArgs, terminal: Terminal, files: FileSet, catalog: Catalog) -> Self {
        let demo = args.demo_backends.then(BTreeMap::new);
        let verbose = args.input.verbose;
        let options = Options { log_fields: args.access_log.is_some(), ..args.input.options() };
        Site { terminal, verbose, files, catalog, options, demo, said: BTreeSet::new() }
    }

    /// Translates all objects and says what is new to say.
    async fn translate(&mut self) -> anyhow::Result<Translation> {
        if let Some(demo) = &mut self.demo {
            let (snapshot, _) = self.catalog.snapshot();
            for name in ingress_wasm_translate::referenced_backends(&snapshot, &self.options) {
                if self.options.backends.contains_key(&name) {
                    continue;
                }
                let server =
                    EchoServer::start(&name.service.name, 0).context("cannot start a demo backend")?;
                let address = server.address();
                let endpoint = Endpoint { address: address.ip().to_string(), port: address.port() };
                self.options.backends.insert(name.clone(), vec![endpoint]);
                demo.insert(name, server);
            }
        }
        let mut translation = self.catalog.translate(&self.options);
        let diagnostics = std::mem::take(&mut translation.diagnostics);
        let fresh: Vec<Diagnostic> =
            diagnostics.iter().filter(|diagnostic| !self.said.contains(*diagnostic)).cloned().collect();
        self.terminal.diagnostics(&fresh, self.verbose);
        self.said = diagnostics.iter().cloned().collect();
        translation.diagnostics = diagnostics;
        Ok(translation)
    }

    /// Publishes the first translation, then each change. Ends only with an error.
    async fn follow(
        &mut self,
        local: &mut Local,
        first: Translation,
        mut watch: FileWatch,
        mut events: mpsc::UnboundedReceiver<XdsEvent>,
    ) -> anyhow::Result<()> {
        let published = local.publish(&first).context("cannot make a plugin configuration of the objects")?;
        local
            .live(published, &first, PATIENCE)
            .await
            .context("Envoy does not serve the first configuration")?;
        self.say_ready(local)?;
        let mut served = first;
        loop {
            tokio::select! {
                () = watch.changed(QUIET) => {
                    served = self.reload(local, served).await?;
                    watch.follow(&self.files.directories());
                }
                Some(event) = events.recv() => self.say_event(&event),
            }
        }
    }

    fn say_ready(&self, local: &Local) -> anyhow::Result<()> {
        let addresses = local.addresses();
        let mut line = "ready".to_owned();
        for (name, address) in [("http", addresses.http), ("https", addresses.https)] {
            if let Some(address) = address {
                line.push_str(&format!(" {name}={address}"));
            }
        }
        if let Ok(Admin::Tcp(address)) = local.admin() {
            line.push_str(&format!(" admin={address}"));
        }
        say(&line)
    }

    /// Takes over what changed in the files. Gives what is served now.
    async fn reload(&mut self, local: &mut Local, served: Translation) -> anyhow::Result<Translation> {
        let changes = self.files.scan();
        if changes.is_empty() {
            return Ok(served);
        }
        let began = Instant::now();
        let files = changes.read.len() + changes.removed.len();
        self.catalog.apply(changes);
        let translation = self.translate().await?;
        if translation.serves_like(&served) {
            say(&format!("unchanged generation={} files={files}", served.config.generation))?;
            return Ok(served);
        }
        let published =
            local.publish(&translation).context("cannot make a plugin configuration of the objects")?;
        match local.live(published, &translation, PATIENCE).await {
            Ok(_) => {
                let milliseconds = began.elapsed().as_millis();
                say(&format!(
                    "reloaded generation={} hosts={} clusters={} files={files} ms={milliseconds}{}",
                    translation.config.generation,
                    translation.config.hosts.len(),
                    translation.clusters.len(),
                    found(&translation.diagnostics),
                ))?;
                Ok(translation)
            }
            // What Envoy refuses is said by the event; the configuration before it goes on serving.
            Err(NotLive::Rejected(_)) => Ok(served),
            Err(error) => {
                self.terminal.failure(&anyhow::Error::new(error).context("a change is not live everywhere"));
                Ok(translation)
            }
        }
    }

    fn say_event(&self, event: &XdsEvent) {
        if let XdsEvent::Rejected { rejection, .. } = event {
            let terminal = &self.terminal;
            let resources = rejection.names.join(", ");
            terminal.line(&format!(
                "{}: Envoy refused {resources}: {}; the last good configuration goes on serving",
                terminal.paint(Style::Red, "error"),
                rejection.message
            ));
        }
    }
}

/// ` errors=… warnings=…`, or nothing.
fn found(diagnostics: &[Diagnostic]) -> String {
    let text = count(diagnostics);
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// Writes a line that programs wait for.
fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
}
