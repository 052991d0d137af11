//! The product as a child process: `ingress-wasm run`, its lines, its end.
//!
//! It knows the contract of the command line and nothing of cases.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long the product may take until it serves. An unoptimised build on a busy machine is slow.
const READY: Duration = Duration::from_secs(90);

/// How long it may take to end before it is killed.
const END: Duration = Duration::from_secs(10);

/// How much of its output goes into a failure, in lines.
const TAIL: usize = 30;

/// Where the product's binary is: `$INGRESS_WASM_BIN`, or next to the test's executable, or in the folder of
/// the other profile.
///
/// # Errors
///
/// Names the places that were looked at.
pub fn binary() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("INGRESS_WASM_BIN") {
        let path = PathBuf::from(path);
        let missing = || format!("INGRESS_WASM_BIN names {}, which is no file", path.display());
        return if path.is_file() { Ok(path) } else { Err(missing()) };
    }
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    // target/PROFILE/deps/NAME-HASH
    let profile = executable.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let target = profile.parent().unwrap_or(Path::new("."));
    let places = [profile.to_owned(), target.join("debug"), target.join("release")];
    let mut places: Vec<_> = places.into_iter().map(|folder| folder.join("ingress-wasm")).collect();
    places.dedup();
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        format!("the product is not built: looked for {} (or set INGRESS_WASM_BIN)", places.join(", "))
    })
}

/// A running product. It is ended when dropped.
#[derive(Debug)]
pub struct Product {
    process: Arc<Process>,
    /// Where it serves HTTP.
    pub http: SocketAddr,
    /// Where it serves HTTPS.
    pub https: SocketAddr,
    /// Where Envoy's administration interface is, if the product tells.
    pub admin: Option<SocketAddr>,
}

/// What the ready line tells.
type Addresses = (SocketAddr, SocketAddr, Option<SocketAddr>);

/// What the threads that watch the process tell.
#[derive(Debug)]
struct Process {
    pid: Pid,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stdout: Vec<String>,
    stderr: Vec<String>,
    /// Streams that are read to their end.
    closed: usize,
    status: Option<ExitStatus>,
}

impl Process {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until the state gives a value, or the time is over.
    fn wait<T>(&self, timeout: Duration, mut look: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if let Some(value) = look(&state) {
                return Some(value);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends a signal unless the process has ended.
    fn signal(&self, signal: Signal) {
        // Under the lock, so that the process cannot be reaped, and its number reused, in between.
        let state = self.lock();
        if state.status.is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    fn tail(&self) -> String {
        let state = self.lock();
        let from = state.stderr.len().saturating_sub(TAIL);
        let lines = state.stderr.get(from..).unwrap_or_default();
        if lines.is_empty() { "(nothing on standard error)".to_owned() } else { lines.join("\n") }
    }
}

impl Product {
    /// Starts `ingress-wasm run` on free ports and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, or does not become ready; with the end of its standard error.
    pub fn start(binary: &Path, manifests: &Path, temporary: &Path) -> Result<Self, String> {
        Self::start_with(binary, manifests, temporary, &[])
    }

    /// As [`Product::start`], with further arguments.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_with(
        binary: &Path,
        manifests: &Path,
        temporary: &Path,
        arguments: &[&OsStr],
    ) -> Result<Self, String> {
        let mut command = Command::new(binary);
        let free = "127.0.0.1:0";
        command.arg("run").args(["--http", free, "--https", free, "--admin", free]);
        command.args(["--ingress-class", "nginx"]);
        command.args(["--config-map", "ingress-nginx/ingress-nginx-controller"]);
        let option = OsStr::new("--envoy");
        if let Some(envoy) = std::env::var_os("ENVOY").filter(|_| !arguments.contains(&option)) {
            command.arg(option).arg(envoy);
        }
        command.args(arguments).arg(manifests).env("TMPDIR", temporary);
        Self::spawn(command)
    }

    /// Starts an Envoy with a configuration of somebody else's and waits until it serves.
    ///
    /// # Errors
    ///
    /// As for [`Product::start`].
    pub fn envoy(
        config: &Path,
        http: SocketAddr,
        https: SocketAddr,
        admin: SocketAddr,
    ) -> Result<Self, String> {
        let envoy = std::env::var_os("ENVOY").ok_or("ENVOY names no Envoy")?;
        let mut command = Command::new(envoy);
        command.arg("--config-path").arg(config).args(["--concurrency", "2", "--disable-hot-restart"]);
        command.args(["--log-level", "warning", "--component-log-level", "main:info"]);
        let product = Self::spawn_until(command, |state| {
            let runs = state.stderr.iter().any(|line| line.contains("starting main dispatch loop"));
            runs.then_some(Ok((http, https, Some(admin))))
        })?;
        // It listens once its clusters are ready, which may be after its main loop has begun.
        product.wait_listening()?;
        Ok(product)
    }

    /// Waits until a connection to the HTTP address is taken.
    fn wait_listening(&self) -> Result<(), String> {
        let end = Instant::now() + READY;
        loop {
            let Err(error) = TcpStream::connect(self.http) else { return Ok(()) };
            let ended = self.wait_end(Duration::from_millis(5));
            if ended.is_some() || Instant::now() > end {
                let tail = self.process.tail();
                return Err(format!("{}: {error}; the end of standard error:\n{tail}", self.http));
            }
        }
    }

    fn spawn(command: Command) -> Result<Self, String> {
        Self::spawn_until(command, |state| {
            let line = state.stdout.iter().find(|line| line.starts_with("ready "))?;
            Some(addresses(line).ok_or_else(|| format!("cannot read {line:?}")))
        })
    }

    /// Starts a process that tells its addresses in some way.
    fn spawn_until(
        mut command: Command,
        told: impl Fn(&State) -> Option<Result<Addresses, String>>,
    ) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
        let process = watch(child).map_err(|error| format!("{program} cannot be watched: {error}"))?;
        let ready = process.wait(READY, |state| {
            told(state).or_else(|| state.status.map(|status| Err(format!("it ended with {status}"))))
        });
        let failed = match ready {
            Some(Ok((http, https, admin))) => return Ok(Self { process, http, https, admin }),
            Some(Err(error)) => error,
            None => format!("it was not ready after {} s", READY.as_secs()),
        };
        // What it says at its end is often the reason: read all of it.
        end(&process);
        Err(format!("{program} does not serve: {failed}; the end of its standard error:\n{}", process.tail()))
    }

    /// The number of the process.
    pub fn pid(&self) -> i32 {
        self.process.pid.as_raw_nonzero().get()
    }

    /// How many lines there are on standard output so far: a mark for [`wait_stdout`](Self::wait_stdout).
    pub fn stdout_mark(&self) -> usize {
        self.process.lock().stdout.len()
    }

    /// Waits for a line on standard output, after the first `mark` lines, that begins with this text.
    ///
    /// # Errors
    ///
    /// When no such line comes in time; with the end of standard error.
    pub fn wait_stdout(&self, mark: usize, begin: &str, timeout: Duration) -> Result<String, String> {
        let line =
            |state: &State| state.stdout.iter().skip(mark).find(|line| line.starts_with(begin)).cloned();
        self.process.wait(timeout, line).ok_or_else(|| {
            format!("no line {begin:?} in {timeout:?}; the end of standard error:\n{}", self.process.tail())
        })
    }

    /// Waits for a line on standard error in which all of these texts are, whatever their case.
    ///
    /// # Errors
    ///
    /// When no such line comes in time; with the end of standard error.
    pub fn wait_stderr(&self, parts: &[&str], timeout: Duration) -> Result<String, String> {
        let holds = |line: &&String| {
            let line = line.to_lowercase();
            parts.iter().all(|part| line.contains(&part.to_lowercase()))
        };
        let found = self.process.wait(timeout, |state| state.stderr.iter().find(holds).cloned());
        found.ok_or_else(|| {
            format!(
                "no line with {parts:?} in {timeout:?}; the end of standard error:\n{}",
                self.process.tail()
            )
        })
    }

    /// How many lines there are on standard error so far: a mark for
    /// [`wait_all_on_stderr`](Self::wait_all_on_stderr).
    pub fn stderr_mark(&self) -> usize {
        self.process.lock().stderr.len()
    }

    /// Waits until each of these texts is somewhere on standard error, after the first `mark` lines.
    ///
    /// # Errors
    ///
    /// Names the texts that did not come in time; with the end of standard error.
    pub fn wait_all_on_stderr(&self, mark: usize, parts: &[&str], timeout: Duration) -> Result<(), String> {
        let missing = |state: &State| -> Vec<String> {
            let has = |part: &str| state.stderr.iter().skip(mark).any(|line| line.contains(part));
            parts.iter().filter(|part| !has(part)).map(|part| (*part).to_owned()).collect()
        };
        match self.process.wait(timeout, |state| missing(state).is_empty().then_some(())) {
            Some(()) => Ok(()),
            None => {
                let missing = missing(&self.process.lock());
                Err(format!(
                    "{missing:?} did not come in {timeout:?}; standard error:\n{}",
                    self.process.tail()
                ))
            }
        }
    }

    /// What is on standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.process.lock().stderr.clone()
    }

    /// The end of standard error, for messages.
    pub fn stderr_tail(&self) -> String {
        self.process.tail()
    }

    /// Asks the product to end, as a service manager would.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for its end.
    pub fn wait_end(&self, timeout: Duration) -> Option<ExitStatus> {
        self.process.wait(timeout, |state| state.status)
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        end(&self.process);
    }
}

/// Ends a process: politely, then by force.
fn end(process: &Process) {
    process.signal(Signal::TERM);
    let ended = |state: &State| state.status.filter(|_| state.closed == 2);
    if process.wait(END, ended).is_none() {
        // Its children would outlive it: they are known only as long as it lives.
        let children = descendants(process.pid.as_raw_nonzero().get());
        process.signal(Signal::KILL);
        for pid in children.into_iter().filter_map(|(pid, _)| Pid::from_raw(pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        process.wait(Duration::from_secs(2), ended);
    }
}

/// Starts the threads that read the output of a child and wait for its end.
fn watch(mut child: Child) -> io::Result<Arc<Process>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("no process number"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let process = Arc::new(Process { pid, state: Mutex::default(), changed: Condvar::new() });
    let read = |stream: Box<dyn io::Read + Send>, push: fn(&mut State, String)| {
        let process = Arc::clone(&process);
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stream).split(b'\n');
            while let Some(Ok(line)) = lines.next() {
                process.update(|state| push(state, String::from_utf8_lossy(&line).into_owned()));
            }
            process.update(|state| state.closed += 1);
        });
    };
    if let (Some(stdout), Some(stderr)) = (stdout, stderr) {
        read(Box::new(stdout), |state, line| state.stdout.push(line));
        read(Box::new(stderr), |state, line| state.stderr.push(line));
    }
    let waiting = Arc::clone(&process);
    std::thread::spawn(move || {
        // The state is locked while the child is reaped, see `signal`: so look first, without reaping.
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        let _ = rustix::process::waitid(rustix::process::WaitId::Pid(pid), options);
        waiting.update(|state| state.status = child.wait().ok().or(Some(ExitStatus::from_raw(-1))));
    });
    Ok(process)
}

/// The addresses in `ready http=ADDRESS https=ADDRESS`, and `admin=ADDRESS` if that is there too.
fn addresses(line: &str) -> Option<Addresses> {
    let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let admin = value("admin").and_then(|address| address.parse().ok());
    Some((value("http")?.parse().ok()?, value("https")?.parse().ok()?, admin))
}

/// The numbers of the processes that have this one as an ancestor, with their command names.
pub fn descendants(pid: i32) -> Vec<(i32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let all: Vec<(i32, i32, String)> = numbers.filter_map(parent).collect();
    let mut found = vec![(pid, String::new())];
    let mut index = 0;
    while let Some((ancestor, _)) = found.get(index) {
        let ancestor = *ancestor;
        found.extend(
            all.iter().filter(|(_, of, _)| *of == ancestor).map(|(pid, _, name)| (*pid, name.clone())),
        );
        index += 1;
    }
    found.remove(0);
    found
}

/// Number, parent and command name of a process that has not ended.
fn parent(pid: i32) -> Option<(i32, i32, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then(|| (pid, parent, name.to_owned()))
}

/// Whether a process is there and has not ended.
pub fn alive(pid: i32) -> bool {
    parent(pid).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Product, String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Product::spawn(command)
    }

    const READY_LINE: &str = "echo ready http=127.0.0.1:1 https=127.0.0.1:2 admin=127.0.0.1:3;";

    #[test]
    fn ready_line_gives_the_addresses() {
        let product =
            shell(&format!("{READY_LINE} echo trouble >&2; echo reloaded 2; exec sleep 600")).unwrap();
        assert_eq!((product.http.port(), product.https.port()), (1, 2));
        assert_eq!(product.admin.unwrap().port(), 3);
        product.wait_stderr(&["TROUBLE"], Duration::from_secs(10)).unwrap();
        assert_eq!(product.wait_stdout(1, "reloaded", Duration::from_secs(10)).unwrap(), "reloaded 2");
        product.wait_all_on_stderr(0, &["tro", "uble"], Duration::from_secs(10)).unwrap();
        assert!(product.wait_all_on_stderr(1, &["tro"], Duration::from_millis(1)).is_err());
        let error = product.wait_stdout(2, "reloaded", Duration::from_millis(1)).unwrap_err();
        assert!(error.contains("trouble"), "{error}");
        let pid = product.pid();
        assert!(alive(pid));
        product.terminate();
        assert_eq!(product.wait_end(Duration::from_secs(10)).unwrap().signal(), Some(15));
        drop(product);
        assert!(!alive(pid));
    }

    #[test]
    fn what_does_not_get_ready_tells_why() {
        let error = shell("echo no Envoy here >&2; exit 1").unwrap_err();
        assert!(error.contains("no Envoy here") && error.contains("ended with exit status: 1"), "{error}");
        let error = shell("echo ready at last; exec sleep 600").unwrap_err();
        assert!(error.contains("cannot read"), "{error}");
        let command = Command::new("/nowhere/ingress-wasm");
        assert!(Product::spawn(command).unwrap_err().contains("cannot be started"));
    }

    #[test]
    fn descendants_are_found_and_ended_with_their_parent() {
        let product = shell(&format!("sh -c 'sleep 20 & {READY_LINE} wait'; true")).unwrap();
        let found = descendants(product.pid());
        assert_eq!(found.len(), 2, "a shell and its own child: {found:?}");
        for (pid, _) in found {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}
