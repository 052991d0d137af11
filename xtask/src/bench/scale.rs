//! What thousands of Ingress objects cost: translation, start, a change to one file, peak memory.
//!
//! A change is seen through a path of the changed Ingress that was answered 404 before, so nothing depends
//! on which backend answers.

mod objects;

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
use crate::args::{self, Arg, Args, Misuse};
use crate::product::{Listen, Running};
use crate::{envoy, http, process, product, tools, ui};

const HELP: &str = "\
Writes many Ingress objects, each with a host of its own, as YAML files of 100 objects; then prints how long
`translate` takes, how large the plugin configuration is, how long `run` takes until it serves, how long a
change to one file takes until it is reported and until a request sees it, and the peak memory.

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
    let product = running.server.id();
    row("peak memory of ingress-wasm", peak(product));
    row("peak memory of Envoy", child_of(product, "envoy").map_or("unknown".to_owned(), peak));
    running.server.stop()?;
    ui::heading("bench scale");
    ui::table(&rows);
    Ok(true)
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
fn backend() -> Result<SocketAddr> {
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

/// The most memory that a process held at a time.
fn peak(process: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    kibibytes.map_or("unknown".to_owned(), |count| ui::bytes(count * 1024))
}

/// A descendant of a process whose name begins so.
fn child_of(process: u32, name: &str) -> Option<u32> {
    let mut parents = vec![process];
    let all: Vec<(u32, u32, String)> =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| stat(&entry.path())).collect();
    while let Some(parent) = parents.pop() {
        for (id, of, found) in &all {
            if *of == parent {
                if found.starts_with(name) {
                    return Some(*id);
                }
                parents.push(*id);
            }
        }
    }
    None
}

/// Id, parent and name out of `/proc/ID/stat`, whose second field is the name in parentheses.
fn stat(folder: &Path) -> Option<(u32, u32, String)> {
    let text = fs::read_to_string(folder.join("stat")).ok()?;
    let (head, rest) = text.rsplit_once(')')?;
    let (id, name) = head.split_once('(')?;
    let parent = rest.split_whitespace().nth(1)?;
    Some((id.trim().parse().ok()?, parent.parse().ok()?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_child_and_its_memory() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let found = child_of(std::process::id(), "sleep");
        let memory = peak(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Some(child.id()));
        assert!(memory.ends_with("kB") || memory.ends_with("MB"), "{memory}");
        assert_eq!(child_of(std::process::id(), "no such program"), None);
    }
}
