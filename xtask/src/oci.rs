//! `cargo xtask oci`: the filter module as an OCI image layout, in the forms that Istio pulls (`oci://`).
//!
//! The Python script beside this file writes it and reads it back: archives and digests are in Python's library,
//! and Python is needed for other tools anyway.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::args::{self, Arg, Args};
use crate::{product, repository, tools};

const HELP: &str = "\
Builds the filter and writes it as an OCI image layout with two images: VERSION, an image with plugin.wasm in its
layer, and VERSION-artifact, with the module as a layer of its own. Reads both back as Istio does.

Usage: cargo xtask oci [OPTIONS]

Options:
  --output DIR    the layout; by default target/oci. What is there is replaced
  --module FILE   this module instead of one that is built";

/// `cargo xtask oci`
pub fn run(mut args: Args) -> Result<bool> {
    let (mut output, mut module) = (repository::root().join("target/oci"), None);
    while let Some(arg) = args.next() {
        match arg {
            Arg::Option(name) if args::is_help(&name) => {
                println!("{HELP}");
                return Ok(true);
            }
            Arg::Option(name) if name == "--output" => output = args.value(&name)?,
            Arg::Option(name) if name == "--module" => module = Some(args.value::<PathBuf>(&name)?),
            other => return Err(args::unknown("oci", &other).into()),
        }
    }
    let module = match module {
        Some(module) => module,
        None => {
            tools::targets()?;
            product::build_filter()?
        }
    };
    write(&module, &output)?;
    Ok(true)
}

/// Writes the layout and checks it.
pub fn write(module: &Path, output: &Path) -> Result<()> {
    if output.exists() && !output.join("oci-layout").is_file() {
        bail!("{} is there and no image layout: it is left alone", output.display());
    }
    println!("{}", repository::shown(output));
    let script = repository::root().join("xtask/src/oci.py");
    let mut python = Command::new("python3");
    // Its checks are assertions.
    python.env_remove("PYTHONOPTIMIZE");
    python.arg(script).arg(module).arg(output).arg(env!("CARGO_PKG_VERSION"));
    if !python.status().context("python3 is needed to write the layout")?.success() {
        bail!("the image layout could not be written, or is not in order");
    }
    Ok(())
}
