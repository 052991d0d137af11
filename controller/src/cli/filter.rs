//! `ingress-wasm filter`: the embedded module as a file, for an Envoy that someone else configures.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::filter::MODULE;

/// Arguments of `filter`.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// The file to write; - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Writes the module.
pub fn filter(args: &FilterArgs) -> anyhow::Result<ExitCode> {
    super::write_output(Some(&args.output), MODULE)?;
    Ok(ExitCode::SUCCESS)
}
