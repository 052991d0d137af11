//! The tasks of this repository, as `cargo xtask TASK`. What a person runs and what CI runs is the same.
//!
//! One module per task. Tools that a task needs are fetched once into `.cache/`; a second run needs no
//! network. Deliberately knows nothing of the product's code: it builds and runs it as a user would.

mod args;
mod bench;
mod debian;
mod demo;
#[cfg(test)]
mod docs;
mod envoy;
mod http;
mod kubernetes;
mod licences;
mod lint;
mod nginx;
mod oci;
mod process;
mod product;
mod repository;
mod size;
mod test;
mod tools;
mod ui;
mod wheel;

use std::process::ExitCode;

use args::Args;

const HELP: &str = "\
Tasks of ingress-wasm. Each fetches the tools that it needs into .cache/ the first time.

Usage: cargo xtask TASK [OPTIONS]

Tasks:
  demo          build everything, serve the manifests of envoy/demo through Envoy, show a few requests
  test          run every test: native, in Node, end to end against a real Envoy
  lint          clippy, formatting, licences and sources of all dependencies
  bench start   module size, and Envoy's start-up time with the filter against one that does nothing
  bench regex   what a decision costs on a host with 10 and with 1,000 expressions
  bench scale   what thousands of Ingress objects cost: translation, start, a change, memory
  kubernetes    lint and render the Helm chart, check it and the plain manifests against Kubernetes' schemas
  oci           write the filter module as OCI images, as Istio pulls it
  size          size of the filter module by section
  envoy         print the path of the Envoy that the other tasks use

`cargo xtask TASK --help` tells the options of a task.

Environment:
  ENVOY         the Envoy to use, instead of one from PATH or the cache
  NO_COLOR      no colours";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(task) = words.next() else {
        eprintln!("{HELP}");
        return ExitCode::from(2);
    };
    let args = Args::new(words.collect());
    let outcome = match task.as_str() {
        "demo" => demo::run(args),
        "test" => test::run(args),
        "lint" => lint::run(args),
        "bench" => bench::run(args),
        "kubernetes" => kubernetes::run(args),
        "oci" => oci::run(args),
        "size" => size::run(args),
        "envoy" => envoy::run(args),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(true)
        }
        other => Err(args::Misuse(format!("there is no task `{other}`; see `cargo xtask --help`")).into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            ui::error(&format!("{error:#}"));
            ExitCode::from(if error.is::<args::Misuse>() { 2 } else { 1 })
        }
    }
}
