//! Runs Envoy and starts it again when it dies.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::log_lines::{FORMAT, Level, LogLine, Reader};

/// How long Envoy may take to end once it was asked to.
const PATIENCE: Duration = Duration::from_secs(3);

/// The pause before the first new start; doubled with each one that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An Envoy that lived this long was well: the next pause is the first one again.
const WELL: Duration = Duration::from_secs(10);

/// How Envoy is run.
#[derive(Clone)]
pub struct Settings {
    /// The executable.
    pub binary: PathBuf,
    /// The bootstrap file.
    pub bootstrap: PathBuf,
    /// Number of worker threads.
    pub concurrency: NonZeroU32,
    /// What Envoy logs at all.
    pub log_level: Level,
    /// Where Envoy writes the address of its admin interface, for port 0.
    pub admin_address_file: Option<PathBuf>,
    /// Told each line of Envoy's log. Must not block.
    pub on_log: Arc<dyn Fn(LogLine) + Send + Sync>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { binary, bootstrap, concurrency, log_level, admin_address_file, on_log: _ } = self;
        formatter
            .debug_struct("Settings")
            .field("binary", binary)
            .field("bootstrap", bootstrap)
            .field("concurrency", concurrency)
            .field("log_level", log_level)
            .field("admin_address_file", admin_address_file)
            .finish_non_exhaustive()
    }
}

/// How the process fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It runs, which does not mean that it serves yet.
    Running {
        /// Its process id.
        pid: u32,
        /// How often it was started, this time included.
        starts: u64,
    },
    /// It ended by itself and is started again soon.
    Pausing {
        /// How it ended.
        reason: String,
        /// The pause until the next start.
        pause: Duration,
    },
    /// It was asked to end, and has.
    Stopped,
}

/// Keeps one Envoy running. Dropping it ends Envoy as [`Supervisor::shutdown`] does, without waiting.
#[derive(Debug)]
pub struct Supervisor {
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Supervisor {
    /// Starts Envoy.
    ///
    /// # Errors
    ///
    /// Where the executable cannot be started at all. Later failures are retried and told by [`State`].
    pub async fn start(settings: Settings) -> io::Result<Supervisor> {
        let (stop, stopped) = watch::channel(false);
        let (tell, told) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        // A thread of its own: Linux ends the child together with the thread that started it, and threads
        // of a runtime come and go.
        thread::Builder::new().name("envoy-supervisor".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(supervise(settings, stopped, tell)),
                Err(error) => drop(tell.send(Err(error))),
            }
            let _ = end.send(());
        })?;
        let state = told.await.map_err(|_| io::Error::other("the supervisor ended"))??;
        Ok(Supervisor { state, stop, ended })
    }

    /// How the process fares, now and after each change.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Ends Envoy: asks it to, and kills it when it takes longer than three seconds. Returns when it is gone.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        // An error says that the thread has ended, which is what is waited for.
        let _ = self.ended.await;
    }
}

type Started = io::Result<watch::Receiver<State>>;

/// Runs until it is told to stop or nobody could tell it any more.
async fn supervise(settings: Settings, mut stopped: watch::Receiver<bool>, tell: oneshot::Sender<Started>) {
    let mut child = match spawn(&settings) {
        Ok(child) => child,
        Err(error) => {
            let _ = tell.send(Err(error));
            return;
        }
    };
    let mut starts = 1;
    let mut pause = FIRST_PAUSE;
    let (state, states) = watch::channel(running(&child, starts));
    let _ = tell.send(Ok(states));
    loop {
        let since = Instant::now();
        let relay = tokio::spawn(relay(child.stderr.take(), Arc::clone(&settings.on_log)));
        let reason = tokio::select! {
            status = child.wait() => {
                last_lines(relay).await;
                describe(status)
            }
            () = told_to_stop(&mut stopped) => {
                end(&mut child).await;
                last_lines(relay).await;
                state.send_replace(State::Stopped);
                return;
            }
        };
        if since.elapsed() >= WELL {
            pause = FIRST_PAUSE;
        }
        loop {
            log::warn!("Envoy ended ({reason}), next start in {} ms", pause.as_millis());
            state.send_replace(State::Pausing { reason: reason.clone(), pause });
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = told_to_stop(&mut stopped) => {
                    state.send_replace(State::Stopped);
                    return;
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            match spawn(&settings) {
                Ok(next) => {
                    child = next;
                    break;
                }
                Err(error) => log::warn!("{}: {error}", settings.binary.display()),
            }
        }
        starts += 1;
        state.send_replace(running(&child, starts));
    }
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error says that nobody could tell any more.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn running(child: &Child, starts: u64) -> State {
    State::Running { pid: child.id().unwrap_or_default(), starts }
}

fn describe(status: io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// Asks the process to end, then makes it.
async fn end(child: &mut Child) {
    if let Some(pid) = process_id(child) {
        // Gone already is as good.
        let _ = rustix::process::kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
        log::warn!("Envoy did not end within {} s and is killed", PATIENCE.as_secs());
        // With everything it may have started: it leads a process group of its own.
        if let Some(pid) = process_id(child) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let _ = child.wait().await;
    }
}

/// None once it was waited for, so that nobody else is hit who got the number since.
fn process_id(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

fn spawn(settings: &Settings) -> io::Result<Child> {
    let Settings { binary, bootstrap, concurrency, log_level, admin_address_file, on_log: _ } = settings;
    let mut command = std::process::Command::new(binary);
    command
        .arg("--config-path")
        .arg(bootstrap)
        .args(["--concurrency", &concurrency.to_string()])
        .args(["--log-level", log_level.word(), "--log-format", FORMAT])
        // Several may run on one machine, and none takes over from another.
        .arg("--disable-hot-restart")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A terminal's Ctrl-C goes to the group in front: us, who then end Envoy in order.
        .process_group(0);
    if let Some(path) = admin_address_file {
        command.arg("--admin-address-path").arg(path);
    }
    prepare(&mut command);
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    command.spawn()
}

/// What the child does before it becomes Envoy.
fn prepare(command: &mut std::process::Command) {
    let parent = rustix::process::getpid();
    let in_child = move || {
        #[cfg(target_os = "linux")]
        {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before that.
            if rustix::process::getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = parent;
        // A proxy needs two files for each request; how many it may have is no reason not to start.
        let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
        let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, which are safe there: no allocation, no
    // locks. An `ErrorKind` is made into an error without allocating.
    #[allow(unsafe_code, reason = "the only way to have the kernel end the child with its parent")]
    unsafe {
        command.pre_exec(in_child);
    }
}

/// Hands on what Envoy logs, until the pipe is closed.
async fn relay(lines: Option<ChildStderr>, on_log: Arc<dyn Fn(LogLine) + Send + Sync>) {
    let Some(lines) = lines else { return };
    let mut lines = BufReader::new(lines);
    let mut reader = Reader::new();
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await.is_ok_and(|length| length > 0) {
        on_log(reader.read(String::from_utf8_lossy(&line).trim_end_matches('\n')));
        line.clear();
    }
}

/// Gives the relay a moment for what is still in the pipe of a process that has ended.
async fn last_lines(relay: JoinHandle<()>) {
    let _ = tokio::time::timeout(Duration::from_secs(1), relay).await;
}
