//! The command line: what can be asked for, and the exit status.
//!
//! 0: fine. 1: the input has errors. 2: wrong usage.

mod check;
mod controller;
mod explain;
mod filter;
mod istio;
mod run;
mod translate;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ingress_wasm_translate::objects::ObjectName;
use ingress_wasm_translate::output::{Endpoint, Options, ServicePortName};

use crate::catalog::Catalog;
use crate::files::FileSet;
use crate::terminal::Terminal;

/// Kubernetes Ingress manifests, nginx annotations included, served by Envoy
#[derive(Debug, Parser)]
#[command(name = "ingress-wasm", version = version(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Colour in messages
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

/// When messages have colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve manifests through a local Envoy; follow changes of the files
    Run(run::RunArgs),
    /// Serve the Ingresses of a cluster through the Envoy of this pod
    Controller(Box<controller::ControllerArgs>),
    /// Write what an Envoy beside the controller is started with
    Bootstrap(controller::BootstrapArgs),
    /// Write what the filter or Envoy loads
    Translate(Box<translate::TranslateArgs>),
    /// Say which rule takes a request, why, and what the backend gets
    Explain(explain::ExplainArgs),
    /// Report what works, what differs and what is not supported
    Check(check::CheckArgs),
    /// Write the embedded filter module to a file
    Filter(filter::FilterArgs),
}

/// Where the objects come from and which of them are served.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// Manifests: files, directories, or - for standard input
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<String>,
    /// Look into the directories of directories too
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// The class of the Ingresses to serve
    #[arg(long, value_name = "NAME", default_value = "nginx")]
    pub ingress_class: String,
    /// `spec.controller` of the IngressClasses to serve
    #[arg(long, value_name = "NAME", default_values = ["k8s.io/ingress-nginx", "ingress-wasm.io/controller"])]
    pub controller_class: Vec<String>,
    /// Serve Ingresses that name no class
    #[arg(long)]
    pub watch_ingress_without_class: bool,
    /// The ConfigMap with the global options of ingress-nginx
    #[arg(long, visible_alias = "configmap", value_name = "NAMESPACE/NAME", value_parser = object_name,
          default_value = "ingress-nginx/ingress-nginx-controller")]
    pub config_map: ObjectName,
    /// The Secret with the certificate for hosts that have none of their own; by default a self-signed one
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_name)]
    pub default_ssl_certificate: Option<ObjectName>,
    /// An address for a Service's port, in place of its endpoints; may be repeated
    #[arg(long, value_name = "NAMESPACE/SERVICE:PORT=ADDRESS:PORT", value_parser = backend)]
    pub backend: Vec<(ServicePortName, Endpoint)>,
    /// Count requests by Ingress, Service, status and decision in Envoy's statistics
    #[arg(long, value_name = "BOOLEAN", default_value_t = true, action = clap::ArgAction::Set)]
    pub enable_metrics: bool,
    /// Show all notes; `check` always does
    #[arg(short, long)]
    pub verbose: bool,
}

/// The exit status for arguments that cannot be read, as clap has it.
const WRONG_USAGE: u8 = 2;

/// How a command writes what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

impl InputArgs {
    /// Reads all files.
    fn load(&self) -> (FileSet, Catalog) {
        let mut files = FileSet::new(&self.paths, self.recursive);
        let mut catalog = Catalog::default();
        catalog.apply(files.scan());
        (files, catalog)
    }

    /// The options of the translation.
    fn options(&self) -> Options {
        let mut options = Options {
            ingress_class: self.ingress_class.clone(),
            controller_classes: self.controller_class.clone(),
            config_map: Some(self.config_map.clone()),
            default_certificate: self.default_ssl_certificate.clone(),
            ingress_without_class: self.watch_ingress_without_class,
            statistics: self.enable_metrics,
            ..Options::default()
        };
        for (name, endpoint) in &self.backend {
            options.backends.entry(name.clone()).or_default().push(endpoint.clone());
        }
        options
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let terminal = Terminal::new(cli.color);
    // The controller logs in another way.
    if !matches!(cli.command, Command::Controller(_)) {
        terminal.take_log();
    }
    let outcome = match cli.command {
        Command::Run(args) => run::run(&args, &terminal),
        Command::Controller(args) => controller::controller(&args),
        Command::Bootstrap(args) => controller::bootstrap(&args),
        Command::Translate(args) => translate::translate(&args, &terminal),
        Command::Explain(args) => explain::explain(&args, &terminal),
        Command::Check(args) => check::check(&args, &terminal),
        Command::Filter(args) => filter::filter(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            terminal.failure(&error);
            ExitCode::FAILURE
        }
    }
}

/// What `--version` prints behind the name.
fn version() -> &'static str {
    static VERSION: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        format!(
            "{} ({}), configuration schema {}",
            ingress_wasm::VERSION,
            ingress_wasm::COMMIT,
            ingress_wasm::config::SCHEMA_VERSION
        )
    });
    &VERSION
}

fn object_name(text: &str) -> Result<ObjectName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ObjectName::new(namespace, name))
        }
        _ => Err("write it as NAMESPACE/NAME".to_owned()),
    }
}

fn backend(text: &str) -> Result<(ServicePortName, Endpoint), String> {
    let form = || "write it as NAMESPACE/SERVICE:PORT=ADDRESS:PORT".to_owned();
    let (name, address) = text.split_once('=').ok_or_else(form)?;
    let (service, port) = name.rsplit_once(':').filter(|(_, port)| !port.is_empty()).ok_or_else(form)?;
    let service = object_name(service)?;
    let address: SocketAddr = address.parse().map_err(|_| form())?;
    let endpoint = Endpoint { address: address.ip().to_string(), port: address.port() };
    Ok((ServicePortName { service, port: port.to_owned() }, endpoint))
}

/// Writes to a file, or to standard output for `-` or none.
fn write_output(path: Option<&PathBuf>, bytes: &[u8]) -> anyhow::Result<()> {
    use anyhow::Context;
    use std::io::Write;
    match path.filter(|path| path.as_os_str() != "-") {
        Some(path) => std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display())),
        None => {
            let mut out = std::io::stdout().lock();
            match out.write_all(bytes).and_then(|()| out.flush()) {
                // The reader has seen enough, as `head` has.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                other => other.context("cannot write to standard output"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn backends_are_read() {
        let (name, endpoint) = backend("shop/web:http=127.0.0.1:8081").expect("reads");
        assert_eq!(
            (name.to_string().as_str(), endpoint.address.as_str(), endpoint.port),
            ("shop/web:http", "127.0.0.1", 8081)
        );
        let (_, endpoint) = backend("shop/web:80=[::1]:8081").expect("reads");
        assert_eq!(endpoint.address, "::1");
        for text in [
            "",
            "web:80=127.0.0.1:1",
            "shop/web=127.0.0.1:1",
            "shop/web:80=127.0.0.1",
            "shop/web:=127.0.0.1:1",
            "a/b/c:80=127.0.0.1:1",
        ] {
            assert!(backend(text).is_err(), "{text}");
        }
    }
}
