//! What requests feel while one Ingress of many changes, and whether memory grows over many changes.
//!
//! Requests go to a path that no rule takes: the filter answers them itself, so that nothing is measured but the
//! worker.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::processes::{Memory, memory, thread_times};
use super::quantile;
use super::scale::objects::Objects;
use super::scale::{backend, envoy_of};
use crate::args::{self, Arg, Args, Misuse};
use crate::product::{Listen, Running};
use crate::{envoy, process, product, tools, ui};

const HELP: &str = "\
Serves many Ingress objects, each with a host of its own, and changes one of them again and again while requests
go on, on connections to each worker. Prints how long requests took without changes and with them, how long a
worker ran for each change, and the memory of both processes after 100 changes (half of them where there are
fewer) and at the end. Status 1 if a request failed.

Usage: cargo xtask bench reload [OPTIONS]

Options:
  --ingresses N   Ingress objects (default 10000)
  --paths N       paths of each (default 1)
  --services N    Services, each with an EndpointSlice (default 100)
  --reloads N     changes (default 50)";

/// How long a change may take.
const LIMIT: Duration = Duration::from_secs(300);
/// How long requests are watched without changes.
const QUIET: Duration = Duration::from_secs(10);
/// Connections, which the kernel spreads over the two workers.
const CONNECTIONS: usize = 8;
/// The pause between the requests of a connection.
const PAUSE: Duration = Duration::from_millis(2);

/// `cargo xtask bench reload`
pub fn run(mut args: Args) -> Result<bool> {
    let (mut ingresses, mut paths, mut services, mut reloads) = (10_000_usize, 1_usize, 100_usize, 50_usize);
    while let Some(arg) = args.next() {
        match arg {
            Arg::Option(name) if args::is_help(&name) => {
                println!("{HELP}");
                return Ok(true);
            }
            Arg::Option(name) => match name.as_str() {
                "--ingresses" => ingresses = args.value(&name)?,
                "--paths" => paths = args.value(&name)?,
                "--services" => services = args.value(&name)?,
                "--reloads" => reloads = args.value(&name)?,
                _ => return Err(args::unknown("bench reload", &Arg::Option(name)).into()),
            },
            word => return Err(args::unknown("bench reload", &word).into()),
        }
    }
    if [ingresses, paths, services].contains(&0) || reloads < 2 {
        return Err(Misuse("bench reload: every number must be at least 1, --reloads 2".to_owned()).into());
    }
    tools::targets()?;
    let envoy = envoy::find()?;
    let binary = product::build()?;
    let folder = tempfile::tempdir().context("create a temporary folder")?;
    let objects = Objects { ingresses, paths, services, backend: backend()? };
    ui::timed(&format!("writing {ingresses} Ingress objects"), || objects.write(folder.path()))?;
    let interrupted = process::interrupts()?;
    let mut running =
        product::serve(&binary, &envoy, Listen::FREE, &[folder.path().as_os_str()], &interrupted)?;
    let workers = envoy_of(&running).context("find Envoy's process")?;

    let (stream, address) = (Stream::default(), running.http);
    let (quiet, busy, marks) = thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| stream.send(address));
        }
        let outcome = measure(&objects, folder.path(), &mut running, workers, reloads, &stream, &interrupted);
        stream.ended.store(true, Ordering::Relaxed);
        outcome
    })?;
    running.server.stop()?;
    Ok(report(&format!("{ingresses} Ingresses, {paths} paths each"), reloads, &quiet, &busy, &marks))
}

/// What a time was like.
struct Span {
    took: Duration,
    /// Of the worker that ran for the longest.
    worker: Duration,
    /// How long each request took, ascending.
    requests: Vec<Duration>,
    failed: usize,
}

/// Memory of both processes after so many changes.
struct Mark {
    changes: usize,
    product: u64,
    envoy: u64,
}

fn measure(
    objects: &Objects,
    folder: &Path,
    running: &mut Running,
    envoy: u32,
    reloads: usize,
    stream: &Stream,
    interrupted: &AtomicBool,
) -> Result<(Span, Span, Vec<Mark>)> {
    let span = |work: &mut dyn FnMut() -> Result<()>| -> Result<Span> {
        let _ = stream.taken();
        let (start, before) = (Instant::now(), thread_times(envoy, "wrk:worker"));
        work()?;
        let took = start.elapsed();
        let ran = thread_times(envoy, "wrk:worker").into_iter().zip(before).map(|(now, then)| now - then);
        let (mut requests, failed) = stream.taken();
        requests.sort_unstable();
        Ok(Span { took, worker: ran.max().unwrap_or_default(), requests, failed })
    };
    let quiet = span(&mut || {
        thread::sleep(QUIET);
        Ok(())
    })?;
    let mut marks = Vec::new();
    let product = running.server.id();
    let mut mark = |changes| {
        let held = |process| memory(process, Memory::Held).unwrap_or(0);
        marks.push(Mark { changes, product: held(product), envoy: held(envoy) });
    };
    let first = 100.min(reloads / 2);
    let busy = span(&mut || {
        for round in 1..=reloads {
            running.server.forget_lines();
            objects.change(folder, ingresses_in_turn(objects, round), &format!("/changed-{round}"))?;
            running.server.wait_for("reloaded", LIMIT)?;
            if interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if round == first || round == reloads {
                mark(round);
            }
        }
        Ok(())
    })?;
    Ok((quiet, busy, marks))
}

/// Another Ingress each time, all of one file: what was changed before is as it was again.
fn ingresses_in_turn(objects: &Objects, round: usize) -> usize {
    round % objects.ingresses.min(100)
}

/// Requests that go on until they are ended.
#[derive(Default)]
struct Stream {
    times: Mutex<(Vec<Duration>, usize)>,
    ended: AtomicBool,
}

impl Stream {
    fn taken(&self) -> (Vec<Duration>, usize) {
        self.times.lock().map(|mut times| std::mem::take(&mut *times)).unwrap_or_default()
    }

    /// One connection, with one request after the other.
    fn send(&self, address: SocketAddr) {
        let mut connection = None;
        while !self.ended.load(Ordering::Relaxed) {
            let start = Instant::now();
            let answered = ask(&mut connection, address);
            let took = start.elapsed();
            if let Ok(mut times) = self.times.lock() {
                match answered {
                    Ok(()) => times.0.push(took),
                    Err(_) => times.1 += 1,
                }
            }
            if answered.is_err() {
                connection = None;
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Asks for a path that there is no rule for.
fn ask(connection: &mut Option<TcpStream>, address: SocketAddr) -> io::Result<()> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            connection.insert(stream)
        }
    };
    stream.write_all(b"GET /nothing-is-here HTTP/1.1\r\nhost: host-0.example\r\n\r\n")?;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        received.extend_from_slice(buffer.get(..count).filter(|new| !new.is_empty()).unwrap_or_default());
        if count == 0 || !received.starts_with(b"HTTP/1.1 404"[..received.len().min(12)].as_ref()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
            if received.len() >= end + 4 + length {
                return Ok(());
            }
        }
    }
}

fn report(title: &str, reloads: usize, quiet: &Span, busy: &Span, marks: &[Mark]) -> bool {
    ui::heading(&format!("bench reload: {title}, {reloads} changes"));
    let micros = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    let mut rows = vec![vec![String::new(), "without changes".to_owned(), "with changes".to_owned()]];
    let spans = [quiet, busy];
    let mut row = |what: &str, values: [String; 2]| {
        rows.push([what.to_owned()].into_iter().chain(values).collect());
    };
    row("requests", spans.map(|span| span.requests.len().to_string()));
    row("failed", spans.map(|span| span.failed.to_string()));
    for (what, thousandths) in [("median", 500), ("99 %", 990), ("99.9 %", 999), ("longest", 1000)] {
        row(what, spans.map(|span| micros(quantile(&span.requests, thousandths))));
    }
    ui::table(&rows);
    let idle = quiet.worker.as_secs_f64() / quiet.took.as_secs_f64().max(f64::EPSILON);
    let work = (busy.worker.as_secs_f64() - idle * busy.took.as_secs_f64()).max(0.0) / reloads as f64;
    println!();
    println!(
        "  a change took {} on average, of which a worker ran {}",
        ui::millis(busy.took / reloads.max(1) as u32),
        micros(Duration::from_secs_f64(work))
    );
    for Mark { changes, product, envoy } in marks {
        println!(
            "  memory after {changes} changes: ingress-wasm {}, Envoy {}",
            ui::bytes(*product),
            ui::bytes(*envoy)
        );
    }
    busy.failed == 0 && quiet.failed == 0
}
