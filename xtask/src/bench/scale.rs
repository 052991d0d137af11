//! What thousands of Ingress objects cost: translation, start, a change to one file, peak memory.
//!
//! A change is seen through a path of the changed Ingress that was answered 404 before, so nothing depends
//! on which backend answers.

pub mod objects;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::objects::Objects;
use super::median;
use super::processes::{Memory, child_of, memory};
use crate::args::{self, Arg, Args, Misuse};
use crate::product::{Listen, Running};
use crate::{envoy, http, process, product, tools, ui};

const HELP: &str = "\
Writes many Ingress objects, each with a host of its own, as YAML files of 100 objects; then prints how long
`translate` takes, how large the plugin configuration is, how long `run` takes until it serves, how long a
change to one file takes until it is reported and until a request sees it, and what both processes hold: as such,
more than an empty configuration, and per route and worker (by starting with four workers as well).

Usage: cargo xtask bench scale [OPTIONS]

Options:
  --ingresses N   Ingress objects (default 10000)
  --paths N       paths of each (default 5)
  --services N    Services, each with an EndpointSlice (default: one per Ingress)
  --repeats N     changes (default 3)";

/// How long a change may take to be seen.
const LIMIT: Duration = Duration::from_secs(300);

/// `cargo xtask bench scale`
pub fn run(mut args: Args) -> Result<bool> {
    let (mut ingresses, mut paths, mut services, mut repeats) = (10_000_usize, 5_usize, None, 3_usize);
    while let Some(arg) = args.next() {
        match arg {
            Arg::Option(name) if args::is_help(&name) => {
                println!("{HELP}");
                return Ok(true);
            }
            Arg::Option(name) => match name.as_str() {
                "--ingresses" => ingresses = args.value(&name)?,
                "--paths" => paths = args.value(&name)?,
                "--services" => services = Some(args.value(&name)?),
                "--repeats" => repeats = args.value(&name)?,
                _ => return Err(args::unknown("bench scale", &Arg::Option(name)).into()),
            },
            word => return Err(args::unknown("bench scale", &word).into()),
        }
    }
    let services = services.unwrap_or(ingresses);
    if [ingresses, paths, services, repeats].contains(&0) {
        return Err(Misuse("bench scale: every number must be at least 1".to_owned()).into());
    }
    tools::targets()?;
    let envoy = envoy::find()?;
    let binary = product::build()?;
    let backend = backend()?;
    let folder = tempfile::tempdir().context("create a temporary folder")?;
    let objects = Objects { ingresses, paths, services, backend };
    ui::timed(&format!("writing {ingresses} Ingress objects, {services} Services"), || {
        objects.write(folder.path())
    })?;

    let nothing = folder.path().join("nothing");
    fs::create_dir(&nothing).context("create a temporary folder")?;
    let mut rows =
        vec![vec![format!("{ingresses} Ingresses, {paths} paths each, {services} Services"), String::new()]];
    let mut row = |what: &str, value: String| rows.push(vec![what.to_owned(), value]);
    let (took, size) = translate(&binary, folder.path())?;
    row("translate --output plugin, whole process", ui::millis(took));
    row("plugin configuration", ui::bytes(size));
    let interrupted = process::interrupts()?;
    let mut running =
        product::serve(&binary, &envoy, Listen::FREE, &[folder.path().as_os_str()], &interrupted)?;
    row("run, to the ready line", ui::millis(running.took));
    let changes = (1..=repeats)
        .map(|round| change(&objects, folder.path(), &mut running, round, &interrupted))
        .collect::<Result<Vec<Change>>>()?;
    for (what, times) in [
        (
            "changed file to the reloaded line",
            changes.iter().map(|change| change.reported).collect::<Vec<_>>(),
        ),
        (
            "changed file to the first request that sees it",
            changes.iter().map(|change| change.seen).collect(),
        ),
    ] {
        let all: Vec<String> = times.iter().copied().map(ui::millis).collect();
        row(what, format!("{}  ({})", ui::millis(median(&times)), all.join(", ")));
    }
    let full = Footprint::of(&running);
    for (what, process) in [("ingress-wasm", Some(running.server.id())), ("Envoy", envoy_of(&running))] {
        let held = process.and_then(|process| memory(process, Memory::Held)).map_or(String::new(), ui::bytes);
        let peak = process.and_then(|process| memory(process, Memory::Peak)).map_or(String::new(), ui::bytes);
        row(&format!("memory of {what}"), format!("{held}, {peak} at its peak"));
    }
    running.server.stop()?;
    let start = |folder: &Path, workers: &str| -> Result<Footprint> {
        let further = [folder.as_os_str(), OsStr::new("--concurrency"), OsStr::new(workers)];
        let running = product::serve(&binary, &envoy, Listen::FREE, &further, &interrupted)?;
        let footprint = Footprint::of(&running);
        running.server.stop()?;
        Ok(footprint)
    };
    let empty = ui::timed("measuring an empty configuration", || start(&nothing, "2"))?;
    let more = ui::timed("measuring with 4 workers", || start(folder.path(), "4"))?;
    let empty_more = ui::timed("measuring an empty configuration with 4 workers", || start(&nothing, "4"))?;
    let routes = (ingresses * paths) as u64;
    let of_5000 = |bytes: u64| ui::bytes(bytes * 5000 / routes);
    for (what, full, empty) in
        [("ingress-wasm", full.product, empty.product), ("Envoy, 2 workers", full.envoy, empty.envoy)]
    {
        row(&format!("per 5,000 routes, more than empty, {what}"), of_5000(full.saturating_sub(empty)));
    }
    // What two more workers hold, beyond what they hold without any route.
    let worker =
        more.envoy.saturating_sub(full.envoy).saturating_sub(empty_more.envoy.saturating_sub(empty.envoy))
            / 2;
    row("bytes per route and worker", format!("{}", worker / routes));
    ui::heading("bench scale");
    ui::table(&rows);
    Ok(true)
}

/// What both processes hold.
struct Footprint {
    product: u64,
    envoy: u64,
}

impl Footprint {
    fn of(running: &Running) -> Footprint {
        let held = |process| memory(process, Memory::Held).unwrap_or(0);
        Footprint { product: held(running.server.id()), envoy: envoy_of(running).map_or(0, held) }
    }
}

/// Envoy's process.
pub fn envoy_of(running: &Running) -> Option<u32> {
    child_of(running.server.id(), "envoy")
}

fn translate(binary: &Path, folder: &Path) -> Result<(Duration, u64)> {
    let start = Instant::now();
    let output = process::output(
        Command::new(binary).args(["translate", "--output", "plugin"].map(OsStr::new)).arg(folder),
    )?;
    Ok((start.elapsed(), output.len() as u64))
}

/// How long a change took, from the moment its file was in place.
struct Change {
    reported: Duration,
    seen: Duration,
}

fn change(
    objects: &Objects,
    folder: &Path,
    running: &mut Running,
    round: usize,
    interrupted: &Arc<AtomicBool>,
) -> Result<Change> {
    // Another object each time, from all over the files.
    let ingress = (round * 7919) % objects.ingresses;
    let (host, path) = (Objects::host(ingress), format!("/changed-{round}"));
    let address = running.http;
    let status = |path: &str| {
        http::request(address, "GET", &host, path, &[], Duration::from_secs(10))
            .map(|response| response.status)
    };
    let (old, new) = (status("/p0/x").context("ask")?, status(&path).context("ask")?);
    if (old, new) != (200, 404) {
        bail!("{host} should answer 200 and 404 before the change, but answers {old} and {new}");
    }
    running.server.forget_lines();
    let start = objects.change(folder, ingress, &path)?;
    // The request is watched beside the line, since either may come first.
    let watch = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&status, &path, start, interrupted));
        let reported = running.server.wait_for("reloaded", LIMIT);
        let seen = watcher.join().unwrap_or_else(|_| bail!("watching for the change broke off"));
        Ok::<_, anyhow::Error>(Change { reported: reported?.0.duration_since(start), seen: seen? })
    })?;
    eprintln!(
        "change {round}: reported after {}, seen after {}",
        ui::millis(watch.reported),
        ui::millis(watch.seen)
    );
    Ok(watch)
}

fn watch(
    status: &(dyn Fn(&str) -> io::Result<u16> + Sync),
    path: &str,
    start: Instant,
    interrupted: &AtomicBool,
) -> Result<Duration> {
    loop {
        let status = status(path);
        if matches!(status, Ok(200)) {
            return Ok(start.elapsed());
        }
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if start.elapsed() > LIMIT {
            bail!("{path} still answers {status:?} {} s after the change", LIMIT.as_secs());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Starts a backend that answers everything with 200.
pub fn backend() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let address = listener.local_addr().context("listen")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    Ok(address)
}

/// Requests here have no body: each ends with an empty line.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        let Some(new) = buffer.get(..count).filter(|new| !new.is_empty()) else { return Ok(()) };
        received.extend_from_slice(new);
        while let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            received.drain(..end + 4);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n")?;
        }
    }
}
