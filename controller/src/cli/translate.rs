//! `ingress-wasm translate`: what the filter or Envoy loads, as files.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use ingress_wasm_translate::output::Options;

use super::InputArgs;
use super::istio::IstioArgs;
use crate::envoy::{Admin, Bind, Listeners, StaticBootstrap, static_bootstrap};
use crate::istio;
use crate::terminal::Terminal;

/// Arguments of `translate`.
#[derive(Debug, Args)]
pub struct TranslateArgs {
    #[command(flatten)]
    input: InputArgs,
    /// What to write
    #[arg(long, value_enum, default_value_t = Output::Plugin)]
    output: Output,
    /// The file to write; standard output by default
    #[arg(short = 'o', long, value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// Where Envoy will find the filter (`ingress-wasm filter -o FILE` writes it)
    #[arg(long, value_name = "FILE", default_value = "/etc/envoy/ingress_wasm.wasm")]
    filter_path: PathBuf,
    /// The address of the listener for plain HTTP in the bootstrap
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    http: std::net::SocketAddr,
    /// The address of Envoy's admin interface in the bootstrap
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: std::net::SocketAddr,
    #[command(flatten)]
    istio: IstioArgs,
}

/// What can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The plugin configuration (JSON)
    Plugin,
    /// A static bootstrap for Envoy with everything in it (JSON)
    Envoy,
    /// Objects for the gateway of an Istio mesh (YAML)
    Istio,
}

/// Translates the files.
pub fn translate(args: &TranslateArgs, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let (_, mut catalog) = args.input.load();
    let mesh = args.output == Output::Istio;
    let mut translation = catalog.translate(&Options { mesh, ..args.input.options() });
    let objects = match mesh {
        true => {
            let (snapshot, _) = catalog.snapshot();
            let made = istio::objects(&translation, &snapshot, &args.istio.settings())?;
            translation.diagnostics.extend(made.diagnostics);
            made.objects
        }
        false => Vec::new(),
    };
    terminal.diagnostics(&translation.diagnostics, args.input.verbose);
    let mut bytes = match args.output {
        Output::Istio => istio::to_yaml(&objects)?.into_bytes(),
        Output::Plugin => serde_json::to_vec_pretty(&translation.config).context("cannot write JSON")?,
        Output::Envoy => {
            let bootstrap = static_bootstrap(
                &StaticBootstrap {
                    admin: Some(Admin::Tcp(args.admin)),
                    listeners: Listeners { http: Some(Bind::from(args.http)), ..Listeners::default() },
                    certificate: None,
                    module: args.filter_path.clone(),
                },
                &translation,
            )?;
            serde_json::to_vec_pretty(&bootstrap).context("cannot write JSON")?
        }
    };
    if !mesh {
        bytes.push(b'\n');
    }
    super::write_output(args.output_file.as_ref(), &bytes)?;
    Ok(terminal.exit_code(&translation.diagnostics))
}
