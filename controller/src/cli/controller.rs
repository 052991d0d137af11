//! `ingress-wasm controller`: the ingress controller in a cluster, and `ingress-wasm bootstrap`, which prepares
//! for an Envoy that another container runs.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgAction, Args, ValueEnum};
use ingress_wasm_translate::objects::ObjectName;
use ingress_wasm_translate::output::Options;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use super::istio::IstioArgs;
use super::object_name;
use crate::cluster::edge::RunDirectory;
use crate::cluster::{
    self, AnnotationsPrefix, Envoy, EnvoySettings, MeshSettings, Patience, Scope, Server, Settings,
    StatusSettings, WebhookSettings,
};
use crate::envoy::Bind;
use crate::istio;
use crate::supervisor::{self, Level};

/// The controller of this project, which is always ours.
const OWN_CONTROLLER: &str = "ingress-wasm.io/controller";

/// Arguments of `controller`. Those that ingress-nginx has are named as there.
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// The class of the Ingresses to serve, where they name it in the annotation or no IngressClass has its name
    #[arg(long, value_name = "NAME", default_value = "nginx")]
    ingress_class: String,
    /// `spec.controller` of the IngressClasses to serve, besides ingress-wasm.io/controller
    #[arg(long, value_name = "NAME", default_value = "k8s.io/ingress-nginx")]
    controller_class: String,
    /// Serve Ingresses that name no class
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = ArgAction::Set)]
    watch_ingress_without_class: bool,
    /// The IngressClass with the name of --ingress-class is ours whatever its controller
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = ArgAction::Set)]
    ingress_class_by_name: bool,
    /// The Service that answers what no rule takes, by its first port; by default it is answered 404
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_name)]
    default_backend_service: Option<ObjectName>,
    /// The ConfigMap with the global options
    #[arg(long, visible_alias = "config-map", value_name = "NAMESPACE/NAME", value_parser = object_name)]
    configmap: Option<ObjectName>,
    /// The Secret with the certificate for hosts that have none of their own; by default a self-signed one
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_name)]
    default_ssl_certificate: Option<ObjectName>,
    /// Serve Ingresses of this namespace only
    #[arg(long, value_name = "NAMESPACE")]
    watch_namespace: Option<String>,
    /// Serve Ingresses of namespaces with these labels only
    #[arg(long, value_name = "SELECTOR", conflicts_with = "watch_namespace")]
    watch_namespace_selector: Option<String>,
    /// What annotations begin with
    #[arg(long, value_name = "PREFIX", default_value = "nginx.ingress.kubernetes.io")]
    annotations_prefix: String,
    /// Count requests by Ingress, Service, status and decision in Envoy's statistics
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = ArgAction::Set)]
    enable_metrics: bool,
    #[command(flatten)]
    status: StatusArgs,
    #[command(flatten)]
    webhook: WebhookArgs,
    /// The port for plain HTTP
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    http_port: u16,
    /// The port for TLS
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    https_port: u16,
    /// The address of both; by default all, of IPv6 as well where there is IPv6
    #[arg(long, value_name = "ADDRESS")]
    bind_address: Option<IpAddr>,
    /// The port for /healthz, /readyz and /metrics
    #[arg(long, value_name = "PORT", default_value_t = 10254)]
    healthz_port: u16,
    /// The address for /healthz, /readyz and /metrics; by default all
    #[arg(long, value_name = "ADDRESS")]
    healthz_host: Option<IpAddr>,
    /// Seconds to go on serving after the signal to end, before connections are drained
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    shutdown_grace_period: u64,
    /// Seconds that requests may take after that
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    drain_timeout: u64,
    /// Log each request to this file, as a line of JSON
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// The directory that is shared with Envoy
    #[arg(long, value_name = "DIRECTORY", default_value = "/run/ingress-wasm")]
    run_dir: PathBuf,
    /// Run this Envoy as a child; without it, another container has to: `envoy -c RUN_DIR/bootstrap.json`
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// Worker threads of the Envoy that is run as a child; by default as many as there are CPUs
    #[arg(long, value_name = "NUMBER", requires = "envoy")]
    concurrency: Option<NonZeroU32>,
    /// The kubeconfig to use; by default $KUBECONFIG, ~/.kube/config, or the service account of the pod
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The address of the API server, in place of the one that is configured
    #[arg(long, value_name = "URL")]
    apiserver_host: Option<String>,
    #[command(flatten)]
    log: LogArgs,
    /// Who serves
    #[arg(long, value_enum, default_value_t = Output::Envoy)]
    output: Output,
    #[command(flatten)]
    istio: IstioArgs,
    /// How long the mesh may take until gateways know of a change, as 5s: what is not used any more goes after that
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration, help_heading = "Istio")]
    istio_settle_time: Duration,
    /// Copy Secrets with certificates and authorities to the namespace of the gateway, which reads no others
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = ArgAction::Set, help_heading = "Istio")]
    istio_copy_secrets: bool,
}

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The Envoy of the same pod
    Envoy,
    /// The gateway of an Istio mesh, for which objects are written; options of the Envoy mean nothing then
    Istio,
}

/// What is written into the status of Ingresses.
#[derive(Debug, Args)]
struct StatusArgs {
    /// The Service whose addresses are written into the status of Ingresses
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_name)]
    publish_service: Option<ObjectName>,
    /// Addresses to write into the status of Ingresses, with commas between
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', conflicts_with = "publish_service")]
    publish_status_address: Vec<String>,
    /// Write the internal addresses of nodes where there is neither a Service nor an address to publish
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = ArgAction::Set)]
    report_node_internal_ip_address: bool,
    /// Write the status of Ingresses
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = ArgAction::Set)]
    update_status: bool,
    /// Clear the status of Ingresses when the last replica ends
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = ArgAction::Set)]
    update_status_on_shutdown: bool,
    /// The Lease by which replicas agree on who writes the status
    #[arg(long, value_name = "NAME", default_value = "ingress-wasm-leader")]
    election_id: String,
    /// How long the Lease holds without being renewed, as 30s or 1m30s
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    election_ttl: Duration,
}

/// The validating admission webhook.
#[derive(Debug, Args)]
struct WebhookArgs {
    /// Answer the API server, which asks before an Ingress is written, at this address: [HOST]:PORT
    #[arg(long, value_name = "ADDRESS", value_parser = listen)]
    validating_webhook: Option<SocketAddr>,
    /// The certificate of the webhook, PEM; without it, one is made and kept in a Secret
    #[arg(long, value_name = "FILE", requires = "validating_webhook_key")]
    validating_webhook_certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "validating_webhook_certificate")]
    validating_webhook_key: Option<PathBuf>,
    /// The Secret in the namespace of the pod in which a certificate that is made is kept
    #[arg(long, value_name = "NAME", default_value = "ingress-wasm-admission")]
    validating_webhook_secret: String,
    /// The Service by which the API server reaches the webhook: the name in a certificate that is made
    #[arg(long, value_name = "NAME", default_value = "ingress-wasm-admission")]
    validating_webhook_service: String,
    /// The ValidatingWebhookConfiguration whose caBundle is written where the certificate is made
    #[arg(long, value_name = "NAME", default_value = "ingress-wasm-admission")]
    validating_webhook_configuration: String,
}

/// An address as Go writes it: without a host, all.
fn listen(text: &str) -> Result<SocketAddr, String> {
    let parsed = match text.strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port| SocketAddr::new(unspecified(), port)),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| "write :PORT or ADDRESS:PORT, such as :8443".to_owned())
}

/// A duration as Go writes it: numbers with `h`, `m`, `s` or `ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let form = || "write a duration such as 30s or 1m30s".to_owned();
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(form)?;
        let (number, behind) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| form())?;
        let letters = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(letters);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(form()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| form())?;
        total = total.checked_add(part).ok_or_else(form)?;
        rest = next;
    }
    if total.is_zero() { Err(form()) } else { Ok(total) }
}

/// How is logged.
#[derive(Debug, Args)]
struct LogArgs {
    /// The form of log lines
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged
    #[arg(long, value_enum)]
    log_level: Option<LogLevel>,
    /// The same as a number, as ingress-nginx has it: from 3 on debug, from 5 on trace
    #[arg(short = 'v', long = "v", value_name = "NUMBER", conflicts_with = "log_level")]
    verbosity: Option<u8>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Arguments of `bootstrap`.
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// The directory that the controller and Envoy share
    #[arg(long, value_name = "DIRECTORY", default_value = "/run/ingress-wasm")]
    run_dir: PathBuf,
}

/// Writes what Envoy needs to start.
pub fn bootstrap(args: &BootstrapArgs) -> anyhow::Result<ExitCode> {
    RunDirectory::open(&args.run_dir)?.write()?;
    Ok(ExitCode::SUCCESS)
}

/// Serves until a signal ends it.
pub fn controller(args: &ControllerArgs) -> anyhow::Result<ExitCode> {
    args.log.begin();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The loop, the xDS server and the watches; translations take one of them for a while.
        .worker_threads(3)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(serve(args));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(args: &ControllerArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let envoy = match &args.envoy {
        Some(path) => {
            let binary = supervisor::find(Some(path), &[]).await?;
            let cpus = std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok());
            let cpus = cpus.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
            let concurrency = args.concurrency.unwrap_or(cpus);
            Some(Envoy { binary, concurrency, log_level: Level::Warning })
        }
        None => None,
    };
    tracing::info!(version = ingress_wasm::VERSION, commit = ingress_wasm::COMMIT, "starting");
    let settings = args.settings(envoy)?;
    let (tell, end) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // One that nobody waits for any more is no news.
            let _ = tell.send(()).await;
        }
    });
    cluster::run(settings, end).await
}

impl ControllerArgs {
    fn settings(&self, envoy: Option<Envoy>) -> anyhow::Result<Settings> {
        let mesh = self.output == Output::Istio;
        if mesh {
            self.check_mesh()?;
        }
        let mut controller_classes = vec![self.controller_class.clone()];
        if self.controller_class != OWN_CONTROLLER {
            controller_classes.push(OWN_CONTROLLER.to_owned());
        }
        let named = [&self.configmap, &self.default_ssl_certificate, &self.default_backend_service];
        let more_namespaces: BTreeSet<String> = named
            .into_iter()
            .flatten()
            .map(|name| name.namespace.clone())
            .filter(|namespace| Some(namespace) != self.watch_namespace.as_ref())
            .collect();
        let all = unspecified();
        let address = self.bind_address.unwrap_or(all);
        let server = if mesh {
            Server::Mesh(Box::new(MeshSettings {
                istio: istio::Settings { copy_secrets: self.istio_copy_secrets, ..self.istio.settings() },
                settle: self.istio_settle_time,
            }))
        } else {
            Server::Envoy(Box::new(EnvoySettings {
                http: Some(Bind::from(SocketAddr::new(address, self.http_port))),
                https: Some(Bind::from(SocketAddr::new(address, self.https_port))),
                access_log: self.access_log.clone(),
                run_dir: self.run_dir.clone(),
                envoy,
                patience: Patience {
                    grace: Duration::from_secs(self.shutdown_grace_period),
                    drain: Duration::from_secs(self.drain_timeout),
                },
            }))
        };
        Ok(Settings {
            kubeconfig: self.kubeconfig.clone(),
            apiserver_host: self.apiserver_host.clone(),
            scope: Scope {
                namespace: self.watch_namespace.clone().filter(|namespace| !namespace.is_empty()),
                more_namespaces,
                namespace_selector: self.watch_namespace_selector.clone(),
                prefix: AnnotationsPrefix::new(&self.annotations_prefix),
            },
            options: Options {
                ingress_class: self.ingress_class.clone(),
                controller_classes,
                config_map: self.configmap.clone(),
                default_certificate: self.default_ssl_certificate.clone(),
                ingress_without_class: self.watch_ingress_without_class,
                class_by_name: self.ingress_class_by_name,
                default_backend: self.default_backend_service.clone(),
                statistics: self.enable_metrics,
                log_fields: self.access_log.is_some(),
                mesh,
                ..Options::default()
            },
            status: StatusSettings {
                // The gateway goes on serving without us.
                clear_at_end: self.status.update_status_on_shutdown && !mesh,
                ..self.status.settings()
            },
            webhook: self.webhook.settings(),
            healthz: SocketAddr::new(self.healthz_host.unwrap_or(all), self.healthz_port),
            server,
        })
    }

    /// What the gateway of a mesh cannot be told by us, and would be taken for done.
    fn check_mesh(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.envoy.is_none(),
            "--envoy: with --output istio there is no Envoy to run, leave it out"
        );
        anyhow::ensure!(
            self.access_log.is_none(),
            "--access-log: with --output istio the gateway writes the log, set meshConfig.accessLogFile instead"
        );
        let StatusArgs { publish_service, publish_status_address, update_status, .. } = &self.status;
        anyhow::ensure!(
            !update_status || publish_service.is_some() || !publish_status_address.is_empty(),
            "--publish-service: name the Service of the gateway, as istio-ingress/istio-ingress, so that Ingresses have \
             its address as their status, or leave their status alone by --update-status=false"
        );
        Ok(())
    }
}

impl StatusArgs {
    fn settings(&self) -> StatusSettings {
        StatusSettings {
            publish_service: self.publish_service.clone(),
            publish_addresses: self.publish_status_address.clone(),
            internal_addresses: self.report_node_internal_ip_address,
            update: self.update_status,
            clear_at_end: self.update_status_on_shutdown,
            election_id: self.election_id.clone(),
            election_ttl: self.election_ttl,
        }
    }
}

impl WebhookArgs {
    fn settings(&self) -> Option<WebhookSettings> {
        let files = self.validating_webhook_certificate.clone().zip(self.validating_webhook_key.clone());
        Some(WebhookSettings {
            address: self.validating_webhook?,
            files,
            secret: self.validating_webhook_secret.clone(),
            service: self.validating_webhook_service.clone(),
            configuration: self.validating_webhook_configuration.clone(),
        })
    }
}

/// All addresses: those of IPv6 and IPv4, or of IPv4 where the system knows no other.
fn unspecified() -> IpAddr {
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    if std::net::TcpListener::bind(v6).is_ok() { v6.ip() } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

impl LogArgs {
    fn begin(&self) {
        let level = match (self.log_level, self.verbosity) {
            (Some(LogLevel::Error), _) => "error",
            (Some(LogLevel::Warn), _) => "warn",
            (Some(LogLevel::Info), _) | (None, None | Some(0..=2)) => "info",
            (Some(LogLevel::Debug), _) | (None, Some(3..=4)) => "debug",
            (Some(LogLevel::Trace), _) | (None, Some(_)) => "trace",
        };
        // Libraries have their own idea of what matters; what they warn of is said here with what it means.
        let filter = EnvFilter::new(format!(
            "warn,ingress_wasm={level},ingress_wasm_controller={level},envoy=debug,kube_runtime=off,kube_client=off"
        ));
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Text => subscriber.init(),
            LogFormat::Json => subscriber.json().flatten_event(true).init(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ControllerArgs,
    }

    fn settings(line: &str) -> Result<Settings, String> {
        let words = std::iter::once("controller").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.args.settings(None).map_err(|error| error.to_string())
    }

    /// The arguments that ingress-nginx's chart gives its controller, as far as they concern what is watched.
    #[test]
    fn arguments_of_ingress_nginx() {
        let settings = settings(
            "--controller-class=k8s.io/ingress-nginx --ingress-class=nginx --configmap=i/c \
             --watch-ingress-without-class=true --watch-namespace=shop --default-ssl-certificate=tls/wild --v=2",
        )
        .expect("reads");
        assert_eq!(settings.options.controller_classes, ["k8s.io/ingress-nginx", OWN_CONTROLLER]);
        assert!(settings.options.ingress_without_class);
        assert_eq!(settings.scope.namespace.as_deref(), Some("shop"));
        let more: Vec<&str> = settings.scope.more_namespaces.iter().map(String::as_str).collect();
        assert_eq!(more, ["i", "tls"]);
    }

    #[test]
    fn defaults() {
        let settings = settings("").expect("reads");
        assert_eq!(settings.options.config_map, None);
        assert!(!settings.options.ingress_without_class);
        let Server::Envoy(envoy) = &settings.server else { panic!("{:?}", settings.server) };
        assert_eq!(envoy.http.map(|bind| bind.address.port()), Some(80));
        assert_eq!(settings.healthz.port(), 10254);
        assert_eq!(settings.webhook, None);
    }

    #[test]
    fn the_webhook_of_ingress_nginx() {
        let webhook = settings(
            "--validating-webhook=:8443 --validating-webhook-certificate=/usr/local/certificates/cert \
             --validating-webhook-key=/usr/local/certificates/key",
        );
        let webhook = webhook.expect("reads").webhook.expect("a webhook");
        assert_eq!(webhook.address.port(), 8443);
        let files = ("/usr/local/certificates/cert".into(), "/usr/local/certificates/key".into());
        assert_eq!(webhook.files, Some(files));
        let made = settings("--validating-webhook=127.0.0.1:0").expect("reads").webhook.expect("a webhook");
        assert_eq!((made.files, made.address.to_string().as_str()), (None, "127.0.0.1:0"));
        for line in ["--validating-webhook=8443", "--validating-webhook=:1 --validating-webhook-key=k"] {
            assert!(settings(line).is_err(), "{line}");
        }
    }

    #[test]
    fn durations() {
        let cases = [
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("250ms", Some(250)),
            ("", None),
            ("30", None),
            ("s", None),
            ("0s", None),
            ("1d", None),
            ("1e400s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text).ok().map(|duration| duration.as_millis()), expected, "{text}");
        }
    }

    #[test]
    fn the_gateway_of_a_mesh() {
        let settings = settings(
            "--output=istio --publish-service=edge/gw --istio-namespace=edge --istio-settle-time=2s",
        );
        let settings = settings.expect("reads");
        assert!(settings.options.mesh);
        let Server::Mesh(mesh) = &settings.server else { panic!("{:?}", settings.server) };
        assert_eq!((mesh.istio.namespace.as_str(), mesh.settle.as_secs()), ("edge", 2));
    }

    #[test]
    fn faults() {
        for line in [
            "--output=istio",
            "--output=istio --update-status=false --access-log=/l",
            "--configmap=c",
            "--concurrency=2",
            "--watch-namespace=a --watch-namespace-selector=b",
        ] {
            assert!(settings(line).is_err(), "{line}");
        }
    }
}
