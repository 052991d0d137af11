//! What a proxied request costs: ours against Envoy's own routes, a filter that does nothing, nginx and a Lua
//! filter, with the same rules, the same backend and the same requests.
//!
//! The proxies of a rule set all run, one worker each, and are asked in turns of a moment; so what else the machine does
//! hits all of them, and the ratios within one turn say more than the figures. CPU is what the proxy's process used, user and
//! system, by `/proc`.

mod contenders;
mod sets;
mod slices;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use self::contenders::{Contender, KINDS, Kind, Tools};
use self::sets::{SETS, Set};
use crate::args::{self, Arg, Args, Misuse};
use crate::process::{self, Server};
use crate::ui::{self, Style};
use crate::{envoy, nginx, product, tools};

/// The help text.
pub const HELP: &str = "\
Measures what a proxied request costs with the filter, against Envoy's own routes, Envoy with a filter that does
nothing, Envoy with a Lua filter, and nginx: CPU of the proxy, requests per core, latency, memory and start. Fails
where the limits for the ratios do not hold. Needs wrk (`apt-get install wrk`) and nginx, whose package is
fetched where there is none.

Usage: cargo xtask bench [OPTIONS]

Options:
  --only NAMES    rule sets and contenders to measure, by commas (default: all); Envoy's own routes always run
  --repeats N     turns for each rule set, at least 5 (default 5)
  --seconds N     how long each is asked in each turn (default 2)
  --quick         5 turns of one second, with the rule sets of one host only

A product that was built before is taken from INGRESS_WASM_BIN; only its `translate` is used.

Rule sets: 1x10, 1000x5, 1x2000, 1x500-expressions, 10000x5.
Contenders: routes, nothing, ours, ours-uncounted, ours-auth, ours-canary, nginx, lua.";

/// Connections that are kept open.
const CONNECTIONS: &str = "16";

/// What was measured in one turn.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// CPU of the proxy in microseconds per request.
    cpu: f64,
    /// Requests per second of CPU of the proxy.
    per_core: f64,
    /// Latency in microseconds.
    p50: f64,
    p99: f64,
}

/// `cargo xtask bench` without a subcommand. `first` was read already.
pub fn run(first: Option<Arg>, mut args: Args) -> Result<bool> {
    let (mut only, mut repeats, mut seconds, mut quick) = (Vec::new(), 5_usize, 2_u64, false);
    let mut next = first.or_else(|| args.next());
    while let Some(arg) = next {
        match &arg {
            Arg::Option(name) if name == "--only" => {
                only = args.value::<String>(name)?.split(',').map(str::to_owned).collect();
            }
            Arg::Option(name) if name == "--repeats" => repeats = args.value(name)?,
            Arg::Option(name) if name == "--seconds" => seconds = args.value(name)?,
            Arg::Option(name) if name == "--quick" => quick = true,
            other => return Err(args::unknown("bench", other).into()),
        }
        next = args.next();
    }
    if repeats < 5 || seconds == 0 {
        return Err(Misuse("bench: at least 5 repeats of at least one second".to_owned()).into());
    }
    let seconds = if quick { 1 } else { seconds };
    let known = |name: &String| {
        SETS.iter().any(|set| set.name == name) || KINDS.iter().any(|kind| kind.name() == name)
    };
    if let Some(name) = only.iter().find(|name| !known(name)) {
        return Err(Misuse(format!("--only: there is no `{name}`; see `cargo xtask bench --help`")).into());
    }
    let named_sets = SETS.iter().any(|set| only.iter().any(|name| name == set.name));
    let named_kinds = KINDS.iter().any(|kind| only.iter().any(|name| name == kind.name()));
    let sets = SETS.iter().filter(|set| match named_sets {
        true => only.iter().any(|name| name == set.name),
        false => !quick || set.hosts == 1,
    });
    let kinds: Vec<Kind> = KINDS
        .into_iter()
        .filter(|kind| !named_kinds || *kind == Kind::Routes || only.iter().any(|name| name == kind.name()))
        .collect();
    let wrk = wrk()?;
    tools::targets()?;
    let tools = Tools {
        envoy: envoy::find()?,
        nginx: nginx::find()?,
        filter: product::build_filter()?,
        nothing: ui::timed("building the filter that does nothing", super::start::build_nothing)?,
        product: match env::var_os("INGRESS_WASM_BIN").filter(|path| !path.is_empty()) {
            Some(path) => path.into(),
            None => product::build()?,
        },
    };
    let interrupted = process::interrupts()?;
    let folder = tempfile::tempdir().context("create a temporary folder")?;
    let (backend, _server) = contenders::backend(&tools.nginx, folder.path(), &interrupted)?;
    let mut holds = true;
    let mut flat = Vec::new();
    for set in sets {
        let bench = Bench { set, wrk: &wrk, seconds, repeats, folder: folder.path() };
        let results = bench.measure(&kinds, &tools, backend, &interrupted)?;
        holds &= report(set, &results);
        if let Some(ours) = results.iter().find(|result| result.kind == Kind::Ours) {
            flat.push((set.name, middle(ours.turns.iter().map(|turn| turn.cpu))));
        }
    }
    if let (Some((_, small)), Some((_, large))) =
        (flat.iter().find(|(name, _)| *name == "1x10"), flat.iter().find(|(name, _)| *name == "10000x5"))
    {
        println!();
        // Not of one turn: the rule sets are measured one after the other.
        println!("  ours at 10000x5 / ours at 1x10: {:.2}", large / small.max(f64::EPSILON));
    }
    Ok(holds)
}

/// wrk where it is installed. It needs libraries that a package of its own does not bring, so it is not fetched.
fn wrk() -> Result<PathBuf> {
    // Whatever it is asked it ends with another status than 0.
    let output = Command::new("wrk").arg("-v").output();
    if output.is_ok_and(|output| output.stdout.starts_with(b"wrk")) {
        return Ok(PathBuf::from("wrk"));
    }
    bail!("wrk is missing, which sends the requests: `apt-get install wrk`")
}

/// All turns of one contender.
struct Outcome {
    kind: Kind,
    turns: Vec<Turn>,
    started: Duration,
    memory: u64,
}

struct Bench<'a> {
    set: &'a Set,
    wrk: &'a Path,
    seconds: u64,
    repeats: usize,
    folder: &'a Path,
}

impl Bench<'_> {
    fn measure(
        &self,
        kinds: &[Kind],
        tools: &Tools,
        backend: SocketAddr,
        interrupted: &Arc<AtomicBool>,
    ) -> Result<Vec<Outcome>> {
        let script = self.folder.join("requests.lua");
        fs::write(&script, self.set.requests()).context("write the requests")?;
        let mut running = Vec::new();
        for &kind in kinds {
            let contender = Contender::start(kind, self.set, tools, backend, self.folder, interrupted)
                .with_context(|| format!("{} with {}", kind.name(), self.set.name))?;
            running.push((contender, Vec::new()));
        }
        // Not counted: each has its code compiled and its connections made.
        for (contender, _) in &mut running {
            self.alone(contender, &script)?;
        }
        for turn in 1..=self.repeats {
            eprintln!("{}: turn {turn} of {}", self.set.name, self.repeats);
            let costs = self.costs(&mut running, &script)?;
            for ((contender, turns), cpu) in running.iter_mut().zip(costs) {
                let (p50, p99) = self.alone(contender, &script)?;
                turns.push(Turn { cpu, per_core: 1e6 / cpu.max(f64::EPSILON), p50, p99 });
            }
        }
        running
            .into_iter()
            .map(|(contender, turns)| {
                let memory = resident(contender.server.id())?;
                let (kind, started) = (contender.kind, contender.started);
                contender.server.end()?;
                Ok(Outcome { kind, turns, started, memory })
            })
            .collect()
    }

    /// CPU in microseconds per request of each, asked in slices in turns.
    fn costs(&self, running: &mut [(Contender, Vec<Turn>)], script: &Path) -> Result<Vec<f64>> {
        let mut before = Vec::new();
        for (contender, _) in &mut *running {
            contender.server.check()?;
            before.push(cpu(contender.server.id())?);
        }
        // Each runs for as long as all take together, and waits for most of it.
        let seconds = self.seconds.saturating_mul(running.len() as u64).saturating_add(1);
        let commands = running.iter().map(|(contender, _)| self.load(contender, script, seconds)).collect();
        let texts = slices::run(commands, Duration::from_secs(seconds))?;
        let mut costs = Vec::new();
        for (((contender, _), before), text) in running.iter().zip(before).zip(texts) {
            let requests = answered(contender.kind, &text)?;
            costs.push((cpu(contender.server.id())?.saturating_sub(before)).as_secs_f64() * 1e6 / requests);
        }
        Ok(costs)
    }

    /// Latencies in microseconds where nobody else is asked: the median, and what one request in a hundred exceeds.
    fn alone(&self, contender: &mut Contender, script: &Path) -> Result<(f64, f64)> {
        contender.server.check()?;
        let output = process::output(&mut self.load(contender, script, 1))?;
        let text = String::from_utf8_lossy(&output);
        answered(contender.kind, &text)?;
        Ok((field(&text, "p50 ")?, field(&text, "p99 ")?))
    }

    /// What sends requests to one of them.
    fn load(&self, contender: &Contender, script: &Path, seconds: u64) -> Command {
        let mut wrk = Command::new(self.wrk);
        wrk.args(["--threads", "1", "--connections", CONNECTIONS, "--duration", &format!("{seconds}s")]);
        // Waiting for one's turn is no fault of the proxy.
        wrk.args(["--timeout", &format!("{}s", seconds.saturating_add(60))]);
        wrk.arg("--script").arg(script).arg(format!("http://{}/", contender.address));
        wrk
    }
}

/// A figure of those that the script of wrk prints.
fn field(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("wrk did not tell {name}in {text:?}"))?;
    Ok(value.trim().parse()?)
}

/// How many requests were answered, all of them well.
fn answered(kind: Kind, text: &str) -> Result<f64> {
    let (requests, bad) = (field(text, "requests ")?, field(text, "bad ")?);
    if bad > 0.0 || requests < 1.0 {
        bail!("{}: {bad} of {requests} requests were not answered with 200", kind.name());
    }
    Ok(requests)
}

/// CPU that a process has used, user and system.
fn cpu(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("read the CPU of a process")?;
    // After the name, which may hold anything, come state and 10 more before the times.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let (Some(user), Some(system)) = (ticks(11), ticks(12)) else { bail!("/proc/{process}/stat: {stat}") };
    let second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64((user + system) as f64 / second as f64))
}

/// Resident memory in bytes.
fn resident(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("read the memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).and_then(|field| field.parse().ok());
    kilobytes.map(|count: u64| count * 1024).context("no VmRSS in /proc")
}

fn report(set: &Set, outcomes: &[Outcome]) -> bool {
    ui::heading(&format!("{}: {}", set.name, set.text));
    let head =
        ["", "CPU / request", "to routes", "spread", "requests / core s", "p50", "p99", "memory", "start"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for outcome in outcomes {
        let ratios = ratios(outcomes, outcome, Kind::Routes);
        let middle_of = |pick: fn(&Turn) -> f64| middle(outcome.turns.iter().map(pick));
        rows.push(vec![
            outcome.kind.name().to_owned(),
            format!("{:.1} µs", middle_of(|turn| turn.cpu)),
            format!("{:.2}", middle(ratios.iter().copied())),
            format!(
                "{:.2}–{:.2}",
                ratios.iter().copied().fold(f64::INFINITY, f64::min),
                ratios.iter().copied().fold(0.0, f64::max)
            ),
            format!("{:.0}", middle_of(|turn| turn.per_core)),
            format!("{:.2} ms", middle_of(|turn| turn.p50) / 1e3),
            format!("{:.2} ms", middle_of(|turn| turn.p99) / 1e3),
            ui::bytes(outcome.memory),
            ui::millis(outcome.started),
        ]);
    }
    ui::table(&rows);
    let Some(ours) = outcomes.iter().find(|outcome| outcome.kind == Kind::Ours) else { return true };
    let mut holds = true;
    for (against, limit) in [(Kind::Routes, set.to_routes), (Kind::Nothing, set.to_nothing)] {
        let (Some(limit), true) = (limit, outcomes.iter().any(|outcome| outcome.kind == against)) else {
            continue;
        };
        let ratio = middle(ratios(outcomes, ours, against).into_iter());
        let verdict =
            if ratio <= limit { ui::paint(Style::Good, "holds") } else { ui::paint(Style::Bad, "BROKEN") };
        println!("  ours / {}: {ratio:.2}, limit {limit:.2}: {verdict}", against.name());
        holds &= ratio <= limit;
    }
    holds
}

/// CPU of one contender to another's, turn by turn.
fn ratios(outcomes: &[Outcome], of: &Outcome, to: Kind) -> Vec<f64> {
    let Some(to) = outcomes.iter().find(|outcome| outcome.kind == to) else { return Vec::new() };
    of.turns.iter().zip(&to.turns).map(|(of, to)| of.cpu / to.cpu.max(f64::EPSILON)).collect()
}

/// The median.
fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    match (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => f64::NAN,
    }
}

/// A running server: its address is where it was told to listen.
type Started = (SocketAddr, Server);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in [(&[3.0, 1.0, 2.0][..], 2.0), (&[4.0, 1.0], 2.5), (&[7.0], 7.0)] {
            assert_eq!(middle(values.iter().copied()), expected, "{values:?}");
        }
        assert!(middle(std::iter::empty()).is_nan());
    }

    #[test]
    fn own_process() {
        let id = std::process::id();
        assert!(cpu(id).is_ok());
        assert!(resident(id).unwrap() > 100_000);
    }
}
