//! `ingress-wasm translate`: what the filter or Envoy loads, as files.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::output::{Options, Translation};

use super::InputArgs;
use super::istio::IstioArgs;
use crate::certificate::Certificate;
use crate::envoy::{
    Admin, Bind, DEFAULT_CERTIFICATE, KeyFiles, Listeners, StaticBootstrap, key_files, static_bootstrap,
};
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
    /// The address of the listener for TLS in the bootstrap, which is there with --key-directory
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    https: std::net::SocketAddr,
    /// Write certificates and keys into this directory, for a bootstrap with TLS
    #[arg(long, value_name = "DIRECTORY")]
    key_directory: Option<PathBuf>,
    /// Where Envoy will find the key directory; by default where it is written
    #[arg(long, value_name = "DIRECTORY", requires = "key_directory")]
    key_path: Option<PathBuf>,
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
            let made = istio::objects(
                &translation,
                &snapshot,
                &args.istio.settings(),
                &mut istio::Cache::default(),
            )?;
            translation.diagnostics.extend(made.diagnostics);
            made.objects
        }
        false => Vec::new(),
    };
    if args.output == Output::Envoy {
        translation.diagnostics.extend(without_tls(args, &translation));
    }
    terminal.diagnostics(&translation.diagnostics, args.input.verbose);
    let mut bytes = match args.output {
        Output::Istio => istio::to_yaml(&objects)?.into_bytes(),
        Output::Plugin => serde_json::to_vec_pretty(&translation.config).context("cannot write JSON")?,
        Output::Envoy => bootstrap(args, &translation)?,
    };
    if !mesh {
        bytes.push(b'\n');
    }
    super::write_output(args.output_file.as_ref(), &bytes)?;
    Ok(terminal.exit_code(&translation.diagnostics))
}

/// The bootstrap; the files that it names are written.
fn bootstrap(args: &TranslateArgs, translation: &Translation) -> anyhow::Result<Vec<u8>> {
    let absolute = |path: &PathBuf| std::path::absolute(path).context("cannot find the key directory");
    let written = args.key_directory.as_ref().map(absolute).transpose()?;
    let certificate = match &written {
        Some(directory) if translation.default_certificate.is_none() => Some(default_certificate(directory)?),
        _ => None,
    };
    let settings = StaticBootstrap {
        admin: Some(Admin::Tcp(args.admin)),
        listeners: Listeners {
            http: Some(Bind::from(args.http)),
            https: written.is_some().then(|| Bind::from(args.https)),
            ..Listeners::default()
        },
        certificate,
        key_directory: args.key_path.clone().or_else(|| written.clone()),
        module: args.filter_path.clone(),
    };
    if let Some(directory) = &written {
        write_keys(directory, &key_files(&settings, translation))?;
    }
    serde_json::to_vec_pretty(&static_bootstrap(&settings, translation)?).context("cannot write JSON")
}

/// The certificate for server names that have none: that of the last time, so that the same input gives the same output.
fn default_certificate(directory: &Path) -> anyhow::Result<Certificate> {
    let read = |kind: &str| std::fs::read_to_string(directory.join(format!("{DEFAULT_CERTIFICATE}.{kind}")));
    match (read("crt"), read("key")) {
        (Ok(chain), Ok(key)) => Ok(Certificate { chain, key }),
        _ => Ok(Certificate::self_signed()?),
    }
}

/// Writes the files, for this user only. Those of Secrets that are gone stay.
fn write_keys(directory: &Path, files: &KeyFiles) -> anyhow::Result<()> {
    let cannot = |path: &Path| format!("cannot write {}", path.display());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| cannot(directory))?;
    for (name, text) in files {
        let path = directory.join(name);
        let new = directory.join(format!(".{name}.new"));
        // One that was left behind may be readable to others.
        let _ = std::fs::remove_file(&new);
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| std::fs::rename(&new, &path))
            .with_context(|| cannot(&path))?;
    }
    Ok(())
}

/// What is lost where TLS is asked for and there is no place for keys.
fn without_tls(args: &TranslateArgs, translation: &Translation) -> Option<Diagnostic> {
    let asks = !translation.certificates.is_empty() || !translation.passthrough.is_empty();
    let lost = asks && args.key_directory.is_none();
    lost.then(|| {
        let consequence = "the bootstrap has no listener for TLS: keys are written into files only";
        Diagnostic::warning("no-tls-listener", consequence)
            .remedy("name a directory for certificates and keys with --key-directory")
    })
}
