//! `cargo xtask lint`: what can be said of the code without running it.

use std::time::Instant;

use anyhow::Result;

use crate::args::Args;
use crate::ui::{self, Style};
use crate::{licences, process, tools};

const HELP: &str = "\
Runs clippy on every target of the workspace and on the filter as Envoy gets it (warnings are errors), checks
the formatting, and the licences and sources of all dependencies. Runs them all, then tells which failed.

Usage: cargo xtask lint";

/// A check and its name.
type Check = (&'static str, fn() -> Result<()>);

/// `cargo xtask lint`
pub fn run(args: Args) -> Result<bool> {
    if args.help_only("lint", HELP)? {
        return Ok(true);
    }
    tools::targets()?;
    let checks: [Check; 4] = [
        ("formatting", || cargo("fmt --all --check")),
        ("clippy", || cargo("clippy --quiet --workspace --all-targets -- -D warnings")),
        ("clippy, the filter", || {
            cargo("clippy --quiet --package ingress-wasm --target wasm32-wasip1 --lib -- -D warnings")
        }),
        ("licences and sources", licences::check),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        ui::heading(name);
        let start = Instant::now();
        match check() {
            Ok(()) => println!("{}  {}", ui::paint(Style::Good, "ok"), ui::seconds(start.elapsed())),
            Err(error) => {
                ui::error(&format!("{error:#}"));
                failed.push(name);
            }
        }
    }
    match failed.is_empty() {
        true => println!("\n{}", ui::paint(Style::Good, "no complaints")),
        false => println!("\n{}", ui::paint(Style::Bad, &format!("failed: {}", failed.join("; ")))),
    }
    Ok(failed.is_empty())
}

fn cargo(words: &str) -> Result<()> {
    process::run(process::cargo().args(words.split(' ')))
}
