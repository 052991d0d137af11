//! `cargo xtask bench`: figures of the product as a whole, measured from outside.

mod auth;
mod churn;
mod compare;
mod limits;
mod load;
mod processes;
mod reload;
mod scale;
mod start;

use std::time::Duration;

use anyhow::Result;

use crate::args::{self, Arg, Args};
use crate::process;

const HELP: &str = "\
Measures the product from outside.

Usage: cargo xtask bench [--quick] [--only NAMES] [--repeats N] [--seconds N]
       cargo xtask bench start [--repeats N]
       cargo xtask bench scale [--ingresses N] [--paths N] [--services N] [--repeats N]
       cargo xtask bench reload [--ingresses N] [--paths N] [--services N] [--reloads N]
       cargo xtask bench regex
       cargo xtask bench churn [--quick]
       cargo xtask bench limits [--seconds N] [--addresses N]
       cargo xtask bench auth [--rounds N] [--seconds N]

  without a word: what a proxied request costs, against Envoy's own routes, a filter that does nothing, nginx
          and Lua; see below
  start   size of the filter module, and how long Envoy needs from its start to its first answer: with the
          filter and the demo's configuration, and with a filter that does nothing
  scale   many Ingress objects: translation, start, a change to one file, memory
  reload  what requests feel of changes, and whether memory grows over many
  regex   what a decision costs on a host with 10 and with 1,000 paths that are expressions; it fails where
          that is more than twice as much
  limits  how many requests are admitted of those that limits allow, and memory with many client addresses
  auth    how long requests take with each kind of credentials, and beside guesses of passwords

`cargo xtask bench start --help` and so on tell more.";

/// `cargo xtask bench`
pub fn run(mut args: Args) -> Result<bool> {
    match args.next() {
        Some(Arg::Word(word)) if word == "start" => start::run(args),
        Some(Arg::Word(word)) if word == "scale" => scale::run(args),
        Some(Arg::Word(word)) if word == "reload" => reload::run(args),
        Some(Arg::Word(word)) if word == "regex" => regex(args),
        Some(Arg::Word(word)) if word == "churn" => churn::run(args),
        Some(Arg::Word(word)) if word == "limits" => limits::run(args),
        Some(Arg::Word(word)) if word == "auth" => auth::run(args),
        Some(Arg::Option(name)) if args::is_help(&name) => {
            println!("{HELP}\n\n{}", compare::HELP);
            Ok(true)
        }
        Some(word @ Arg::Word(_)) => Err(args::unknown("bench", &word).into()),
        first => compare::run(first, args),
    }
}

/// The engine's own measurement, in this process's terminal.
fn regex(args: Args) -> Result<bool> {
    if args.help_only("bench regex", HELP)? {
        return Ok(true);
    }
    let mut bench = process::cargo();
    bench.args(["bench", "--quiet", "--package", "ingress-wasm", "--bench", "expressions"]);
    process::run(&mut bench)?;
    Ok(true)
}

/// An Ingress `NAME` for the host `NAME.example`, with these annotations.
fn ingress(name: &str, annotations: serde_json::Map<String, serde_json::Value>) -> serde_json::Value {
    let backend = serde_json::json!({"service": {"name": "web", "port": {"number": 80}}});
    serde_json::json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"ingressClassName": "nginx", "rules": [{
            "host": format!("{name}.example"),
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
        }]},
    })
}

/// The middle of some measurements; of an even number, between the two in the middle.
fn median(values: &[Duration]) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    match (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => (*low + *high) / 2,
        _ => Duration::ZERO,
    }
}

/// What so many in a thousand are at most.
fn quantile(ascending: &[Duration], thousandths: usize) -> Duration {
    let position = (ascending.len() * thousandths).div_ceil(1000).saturating_sub(1);
    ascending.get(position).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in [(&[3, 1, 2][..], 2), (&[4, 1, 2, 8], 3), (&[7], 7), (&[], 0)] {
            let values: Vec<Duration> = values.iter().map(|&value| Duration::from_millis(value)).collect();
            assert_eq!(median(&values), Duration::from_millis(expected), "{values:?}");
        }
    }

    #[test]
    fn quantiles() {
        let times: Vec<Duration> = (1..=1000).map(Duration::from_millis).collect();
        for (thousandths, expected) in [(500, 500), (999, 999), (1000, 1000), (1, 1)] {
            assert_eq!(quantile(&times, thousandths), Duration::from_millis(expected), "{thousandths}");
        }
        assert_eq!(quantile(&[], 500), Duration::ZERO);
    }
}
