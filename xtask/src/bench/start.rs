//! How long Envoy needs until it answers: with our filter, and with one that does nothing.
//!
//! Both run from a static bootstrap that differs only in module and plugin configuration; the time goes
//! from the start of the process to the first answer.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::median;
use crate::args::{self, Arg, Args, Misuse};
use crate::process::{self, Server};
use crate::ui::{self, Style};
use crate::{demo, envoy, http, product, repository, size, tools};

const HELP: &str = "\
Prints the size of the filter module and the time that Envoy needs from its start to its first answer, with
two workers: with the filter and the configuration of envoy/demo, and with a filter that does nothing, in
turns. Status 1 if a limit does not hold: 600 kB, and three times the start-up of the other.

Usage: cargo xtask bench start [--repeats N]

Options:
  --repeats N     measure each N times, at least 5 (default 7)";

/// The module may be this large, in bytes.
const LARGEST_MODULE: u64 = 600_000;

/// Start-up may take this many times that of the filter that does nothing.
const LARGEST_RATIO: f64 = 3.0;

/// `cargo xtask bench start`
pub fn run(mut args: Args) -> Result<bool> {
    let mut repeats = 7_usize;
    while let Some(arg) = args.next() {
        match arg {
            Arg::Option(name) if args::is_help(&name) => {
                println!("{HELP}");
                return Ok(true);
            }
            Arg::Option(name) if name == "--repeats" => repeats = args.value(&name)?,
            other => return Err(args::unknown("bench start", &other).into()),
        }
    }
    if repeats < 5 {
        return Err(Misuse("--repeats: at least 5, for a median that says something".to_owned()).into());
    }
    tools::targets()?;
    let envoy = envoy::find()?;
    let filter = product::build_filter()?;
    let nothing = ui::timed("building the filter that does nothing", build_nothing)?;
    let configuration = configuration(&product::build()?)?;
    let folder = tempfile::tempdir().context("create a temporary folder")?;
    let interrupted = process::interrupts()?;
    let contenders = [
        Contender { name: "nothing", module: nothing, configuration: String::new() },
        Contender { name: "ingress-wasm", module: filter, configuration },
    ];
    let mut times = [Vec::new(), Vec::new()];
    for round in 1..=repeats {
        for (contender, times) in contenders.iter().zip(&mut times) {
            let took = contender.measure(&envoy, folder.path(), &interrupted)?;
            eprintln!("round {round} of {repeats}, {}: {}", contender.name, ui::millis(took));
            times.push(took);
        }
    }
    report(&contenders, &times)
}

pub(super) fn build_nothing() -> Result<PathBuf> {
    let manifest = repository::root().join("xtask/noop-filter/Cargo.toml");
    let mut cargo = process::cargo();
    cargo.args(["build", "--quiet", "--target", "wasm32-wasip1", "--profile", "filter", "--manifest-path"]);
    cargo.arg(manifest);
    // Beside the other builds; not in a target folder of its own in the source tree.
    cargo.arg("--target-dir").arg(process::target_directory()?.join("noop-filter"));
    product::module(&mut cargo, "noop_filter")
}

/// The plugin configuration of the demo.
fn configuration(binary: &Path) -> Result<String> {
    let manifests = repository::root().join(demo::MANIFESTS);
    let output =
        process::output(Command::new(binary).args(["translate", "--output", "plugin"]).arg(manifests))?;
    String::from_utf8(output).context("read the plugin configuration")
}

struct Contender {
    name: &'static str,
    module: PathBuf,
    configuration: String,
}

impl Contender {
    /// From the start of Envoy to its first answer.
    fn measure(&self, envoy: &Path, folder: &Path, interrupted: &Arc<AtomicBool>) -> Result<Duration> {
        const LIMIT: Duration = Duration::from_secs(60);
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .context("find a free port")?;
        let bootstrap = folder.join("bootstrap.json");
        let text = bootstrap_text(address, &self.module, &self.configuration).to_string();
        fs::write(&bootstrap, text).with_context(|| format!("write {}", bootstrap.display()))?;
        let log = folder.join("envoy.log");
        let mut command = Command::new(envoy);
        command.args([
            "--concurrency",
            "2",
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "--config-path",
        ]);
        command.arg(&bootstrap).stderr(Stdio::from(fs::File::create(&log).context("create a log")?));
        let start = Instant::now();
        let mut server = Server::start(&mut command, interrupted)?;
        let failure = || format!("{}: {}", self.name, tail(&log));
        loop {
            match http::request(address, "GET", "bench.invalid", "/healthz", &[], Duration::from_secs(5)) {
                // The filter answers health checks for hosts that no rule names.
                Ok(response) if response.status == 200 => break,
                Ok(response) => bail!("Envoy answered {}; {}", response.status, failure()),
                Err(error) if start.elapsed() > LIMIT => bail!("no answer: {error}; {}", failure()),
                Err(_) => {
                    server.check().with_context(failure)?;
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        let took = start.elapsed();
        server.end()?;
        Ok(took)
    }
}

/// The end of a log, for an error.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
}

/// A bootstrap with one listener, the filter, and an answer for whatever the filter lets pass.
fn bootstrap_text(address: SocketAddr, module: &Path, configuration: &str) -> Value {
    const TYPES: &str = "type.googleapis.com";
    let filter = json!({
        "@type": format!("{TYPES}/envoy.extensions.filters.http.wasm.v3.Wasm"),
        "config": {
            "name": "bench",
            "root_id": "",
            "vm_config": {
                "vm_id": "bench",
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": module}},
            },
            "configuration": {"@type": format!("{TYPES}/google.protobuf.StringValue"), "value": configuration},
        },
    });
    let router = json!({"@type": format!("{TYPES}/envoy.extensions.filters.http.router.v3.Router")});
    let manager = json!({
        "@type": format!(
            "{TYPES}/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        ),
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
        }]},
        "http_filters": [
            {"name": "bench", "typed_config": filter},
            {"name": "router", "typed_config": router},
        ],
    });
    json!({"static_resources": {"listeners": [{
        "name": "bench",
        "address": {"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }]}})
}

fn report(contenders: &[Contender; 2], times: &[Vec<Duration>; 2]) -> Result<bool> {
    ui::heading("start of Envoy to its first answer, 2 workers");
    let mut rows = vec![["filter", "module", "median", "fastest", "slowest"].map(str::to_owned).to_vec()];
    for (contender, times) in contenders.iter().zip(times) {
        let (fastest, slowest) = (times.iter().min(), times.iter().max());
        rows.push(vec![
            contender.name.to_owned(),
            ui::bytes(size::of(&contender.module)?),
            ui::millis(median(times)),
            ui::millis(fastest.copied().unwrap_or_default()),
            ui::millis(slowest.copied().unwrap_or_default()),
        ]);
    }
    ui::table(&rows);
    let [nothing, ours] = times;
    let ratio = median(ours).as_secs_f64() / median(nothing).as_secs_f64().max(f64::EPSILON);
    let module = size::of(&contenders[1].module)?;
    println!();
    let size_holds =
        limit("module", &ui::bytes(module), &ui::bytes(LARGEST_MODULE), module <= LARGEST_MODULE);
    let ratio_holds =
        limit("ratio", &format!("{ratio:.2}"), &format!("{LARGEST_RATIO:.2}"), ratio <= LARGEST_RATIO);
    Ok(size_holds && ratio_holds)
}

fn limit(what: &str, found: &str, largest: &str, holds: bool) -> bool {
    let verdict = if holds { ui::paint(Style::Good, "holds") } else { ui::paint(Style::Bad, "BROKEN") };
    println!("  {what} {found}, limit {largest}: {verdict}");
    holds
}
