//! What limits are worth under load, and whether many clients make the memory grow that counts them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::load::Connection;
use super::processes::{Memory, memory};
use super::scale::envoy_of;
use crate::args::{self, Arg, Args};
use crate::product::{self, Listen};
use crate::{envoy, process, tools, ui};

const HELP: &str = "\
Asks for more than limits allow, over connections to both workers of an Envoy, and prints how many requests were
admitted and how many should have been; then sends requests of many client addresses, and prints Envoy's memory.
Of requests under way the limit is what all slots could take if each were filled the moment it is free. Status 1 if more
was admitted than allowed, or of a rate less than 95 % of it, or memory has grown by more than 16 MB after
the first fiftieth of the addresses.

Usage: cargo xtask bench limits [OPTIONS]

Options:
  --seconds N     how long each limit is tried (default 10)
  --addresses N   client addresses (default 1000000)";

/// Connections at a time.
const CONNECTIONS: usize = 32;
/// How long the backend takes where requests under way are limited.
const DELAY: Duration = Duration::from_millis(50);
/// How much memory may grow, in bytes: Envoy's own pools do as well.
const GROWTH: u64 = 16 << 20;

/// A limit: the Ingress's name, its annotations, and how many clients ask at a time.
struct Trial {
    name: &'static str,
    annotations: &'static [(&'static str, &'static str)],
    clients: usize,
    /// Requests of each client that are admitted in so many seconds.
    allowed: fn(f64) -> f64,
}

const TRIALS: [Trial; 4] = [
    Trial {
        name: "rps-one",
        annotations: &[("limit-rps", "100"), ("limit-burst-multiplier", "1")],
        clients: 1,
        allowed: |seconds| 100.0 * seconds + 101.0,
    },
    Trial {
        name: "rps-many",
        annotations: &[("limit-rps", "10")],
        clients: 20,
        allowed: |seconds| 10.0 * seconds + 51.0,
    },
    Trial {
        name: "rpm-one",
        annotations: &[("limit-rpm", "600"), ("limit-burst-multiplier", "1")],
        clients: 1,
        allowed: |seconds| 10.0 * seconds + 601.0,
    },
    // The slots of each client, in use all the time.
    Trial {
        name: "connections",
        annotations: &[("limit-connections", "10")],
        clients: 1,
        allowed: |seconds| 10.0 * seconds / DELAY.as_secs_f64(),
    },
];

/// `cargo xtask bench limits`
pub fn run(mut args: Args) -> Result<bool> {
    let (mut seconds, mut addresses) = (10_u64, 1_000_000_u64);
    while let Some(arg) = args.next() {
        match arg {
            Arg::Option(name) if args::is_help(&name) => {
                println!("{HELP}");
                return Ok(true);
            }
            Arg::Option(name) if name == "--seconds" => seconds = args.value(&name)?,
            Arg::Option(name) if name == "--addresses" => addresses = args.value(&name)?,
            word => return Err(args::unknown("bench limits", &word).into()),
        }
    }
    tools::targets()?;
    let envoy = envoy::find()?;
    let binary = product::build()?;
    let folder = tempfile::tempdir().context("create a temporary folder")?;
    write(folder.path())?;
    let interrupted = process::interrupts()?;
    let further =
        ["--demo-backends".as_ref(), "--concurrency".as_ref(), "2".as_ref(), folder.path().as_os_str()];
    let running = product::serve(&binary, &envoy, Listen::FREE, &further, &interrupted)?;
    let process = envoy_of(&running).context("find Envoy's process")?;

    ui::heading(&format!("bench limits: {CONNECTIONS} connections, 2 workers, {seconds} s each"));
    let mut good = true;
    let headings = ["limit", "clients", "asked for", "admitted", "allowed", "error"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for trial in &TRIALS {
        let Outcome { asked, admitted, took } = trial.run(running.http, Duration::from_secs(seconds));
        let allowed = (trial.allowed)(took.as_secs_f64());
        let mut errors: Vec<f64> = admitted.iter().map(|count| *count as f64 / allowed - 1.0).collect();
        errors.sort_by(f64::total_cmp);
        let (least, most) = (errors.first().copied().unwrap_or(0.0), errors.last().copied().unwrap_or(0.0));
        good &= most <= 0.0 && (least >= -0.05 || trial.name == "connections");
        let percent = |error: f64| format!("{:+.2} %", error * 100.0);
        rows.push(vec![
            trial
                .annotations
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect::<Vec<_>>()
                .join(", "),
            trial.clients.to_string(),
            asked.to_string(),
            admitted.iter().sum::<u64>().to_string(),
            format!("{:.0}", allowed * trial.clients as f64),
            if trial.clients == 1 {
                percent(most)
            } else {
                format!("{} to {}", percent(least), percent(most))
            },
        ]);
    }
    ui::table(&rows);
    println!();
    good &= many_clients(running.http, process, addresses)?;
    running.server.stop()?;
    Ok(good)
}

struct Outcome {
    asked: u64,
    /// By client.
    admitted: Vec<u64>,
    took: Duration,
}

impl Trial {
    fn run(&self, address: SocketAddr, time: Duration) -> Outcome {
        let asked = AtomicU64::new(0);
        let admitted: Vec<AtomicU64> = (0..self.clients).map(|_| AtomicU64::new(0)).collect();
        let host = format!("{}.example", self.name);
        let target =
            if self.name == "connections" { format!("/delay/{}", DELAY.as_millis()) } else { "/".to_owned() };
        let start = Instant::now();
        thread::scope(|scope| {
            for number in 0..CONNECTIONS {
                let (asked, admitted, host, target) = (&asked, &admitted, &host, &target);
                scope.spawn(move || {
                    let mut connection = Connection::new(address);
                    for round in number.. {
                        if start.elapsed() >= time {
                            break;
                        }
                        let client = round % self.clients;
                        let from = format!("x-forwarded-for: 192.0.2.{client}\r\n");
                        let status = connection.get(host, target, &from).map_or(0, |(status, _)| status);
                        asked.fetch_add(1, Ordering::Relaxed);
                        if status == 200
                            && let Some(count) = admitted.get(client)
                        {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        // What was under way at the end is in it.
        let took = start.elapsed();
        Outcome {
            asked: asked.into_inner(),
            admitted: admitted.into_iter().map(AtomicU64::into_inner).collect(),
            took,
        }
    }
}

/// Memory while ever more clients ask.
fn many_clients(address: SocketAddr, envoy: u32, addresses: u64) -> Result<bool> {
    let held = || memory(envoy, Memory::Held).context("read Envoy's memory");
    let first = addresses.div_ceil(50).max(1);
    let steps = [first, addresses.div_ceil(4), addresses.div_ceil(2), addresses];
    println!("  memory of Envoy before: {}", ui::bytes(held()?));
    let mut from = 0;
    let mut marks = Vec::new();
    for until in steps {
        let failed = ask_from(address, from..until);
        from = until;
        let now = held()?;
        marks.push(now);
        println!(
            "  after {until} client addresses: {} ({failed} requests without an answer)",
            ui::bytes(now)
        );
    }
    let (Some(first), Some(last)) = (marks.first(), marks.last()) else { return Ok(true) };
    Ok(last.saturating_sub(*first) <= GROWTH)
}

/// One request of each address.
fn ask_from(address: SocketAddr, range: std::ops::Range<u64>) -> usize {
    let (next, failed) = (AtomicU64::new(range.start), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut connection = Connection::new(address);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= range.end {
                        return;
                    }
                    let [a, b, c, d] =
                        [number >> 24, number >> 16, number >> 8, number].map(|part| part & 255);
                    let from = format!("x-forwarded-for: {}.{b}.{c}.{d}\r\n", 1 + a);
                    if connection.get("many.example", "/", &from).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failed.into_inner()
}

fn write(folder: &Path) -> Result<()> {
    let mut objects = vec![serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "ingress-nginx", "name": "ingress-nginx-controller"},
        // So that a client can be whoever it says.
        "data": {"use-forwarded-headers": "true"},
    })];
    let many: &[(&str, &str)] = &[("limit-rps", "5"), ("limit-rpm", "100"), ("limit-connections", "5")];
    for (name, annotations) in
        TRIALS.iter().map(|trial| (trial.name, trial.annotations)).chain([("many", many)])
    {
        let annotations: serde_json::Map<String, serde_json::Value> = annotations
            .iter()
            .map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), (*value).into()))
            .collect();
        objects.push(super::ingress(name, annotations));
    }
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(folder.join("limits.json"), list.to_string()).context("write the manifests")
}
