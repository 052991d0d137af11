//! Running other programs: Cargo and tools to their end, servers until they are told to stop.

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::repository;

/// How long a server may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// Cargo, in the repository: the one that runs this task, hence the pinned toolchain.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository::root());
    // Set for this process by `cargo run`; nested builds of other packages must not see it.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    command
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs to the end, output on the terminal; an error unless it succeeds.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| shown(command))?;
    if !status.success() {
        bail!("`{}` ended with {}", shown(command), outcome(status));
    }
    Ok(())
}

/// Standard output of a command that must succeed; its standard error goes to the terminal.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().with_context(|| shown(command))?;
    if !output.status.success() {
        bail!("`{}` ended with {}", shown(command), outcome(output.status));
    }
    Ok(output.stdout)
}

/// Whether a command can be run and succeeds; its output is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The files that a Cargo build command made, as Cargo names them: no guess about target directories.
pub fn artifacts(command: &mut Command) -> Result<Vec<Artifact>> {
    command.arg("--message-format=json-render-diagnostics");
    let stdout = output(command)?;
    let mut artifacts = Vec::new();
    for line in stdout.split(|&byte| byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Value>(line) else { continue };
        if message["reason"] != "compiler-artifact" {
            continue;
        }
        let target = message["target"]["name"].as_str().unwrap_or_default();
        for file in message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            artifacts.push(Artifact { target: target.to_owned(), file: file.into() });
        }
    }
    Ok(artifacts)
}

/// Where Cargo puts what it builds.
pub fn target_directory() -> Result<PathBuf> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_slice(&metadata).context("read the output of cargo metadata")?;
    let directory =
        metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(directory.into())
}

/// A file that Cargo made.
pub struct Artifact {
    /// Name of the Cargo target.
    pub target: String,
    /// Where it is.
    pub file: PathBuf,
}

fn outcome(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        _ => status.to_string(),
    }
}

/// Set as soon as the person asks for the end: SIGINT, SIGTERM, SIGHUP.
pub fn interrupts() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag)).context("handle signals")?;
    }
    Ok(flag)
}

/// A server that runs beside this process. Ended by SIGTERM, at the latest when it is dropped.
pub struct Server {
    child: Child,
    name: String,
    lines: Receiver<(Instant, String)>,
    interrupted: Arc<AtomicBool>,
}

impl Server {
    /// Starts the command in a process group of its own, so that Ctrl-C reaches only this process, which
    /// then ends the server by one SIGTERM. Its lines on standard output are kept for [`Server::wait_for`].
    pub fn start(command: &mut Command, interrupted: &Arc<AtomicBool>) -> Result<Self> {
        let name = shown(command).split(' ').next().unwrap_or_default().to_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| shown(command))?;
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    // Read on although nobody listens any more: a full pipe would stop the server.
                    let _ = sender.send((Instant::now(), line));
                }
            });
        }
        Ok(Server { child, name, lines, interrupted: Arc::clone(interrupted) })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output that begins with `prefix`, and says when it came.
    pub fn wait_for(&mut self, prefix: &str, limit: Duration) -> Result<(Instant, String)> {
        let deadline = Instant::now() + limit;
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok((at, line)) if line.starts_with(prefix) => return Ok((at, line)),
                Ok((_, line)) => eprintln!("{line}"),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} did not print `{prefix}…` within {} s", self.name, limit.as_secs());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("wait")?;
                    bail!("{} ended with {} before it printed `{prefix}…`", self.name, outcome(status));
                }
            }
        }
    }

    /// An error if it ended, or if the person asks for the end.
    pub fn check(&mut self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        match self.child.try_wait().context("wait")? {
            Some(status) => bail!("{} ended by itself with {}", self.name, outcome(status)),
            None => Ok(()),
        }
    }

    /// Drops the lines that came so far.
    pub fn forget_lines(&mut self) {
        while self.lines.try_recv().is_ok() {}
    }

    /// Passes on its lines until the person asks for the end or it ends by itself, which is an error.
    pub fn until_interrupted(&mut self) -> Result<()> {
        while !self.interrupted.load(Ordering::Relaxed) {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok((_, line)) => println!("{line}"),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("wait")?;
                    if self.interrupted.load(Ordering::Relaxed) {
                        break;
                    }
                    bail!("{} ended by itself with {}", self.name, outcome(status));
                }
            }
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end. An error if it had to be killed or ended with another status than 0.
    pub fn stop(mut self) -> Result<()> {
        let status = self.terminate()?;
        if !status.success() {
            bail!("{} ended with {} after SIGTERM", self.name, outcome(status));
        }
        Ok(())
    }

    /// Like [`Server::stop`], for a server whose status says nothing.
    pub fn end(mut self) -> Result<()> {
        self.terminate().map(|_| ())
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        if let Some(pid) = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0)) {
            kill_process(pid, Signal::TERM).with_context(|| format!("end {}", self.name))?;
        }
        let deadline = Instant::now() + GRACE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                bail!("{} did not end within {} s of SIGTERM; killed", self.name, GRACE.as_secs());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.terminate() {
            crate::ui::note(&format!("{error:#}"));
        }
    }
}
