//! Child processes that end with the test.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A process whose output goes to a file. Killed when dropped.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it.
    pub fn start(command: &mut Command, log: &Path) -> Result<Process, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let file = || File::options().create(true).append(true).open(log).map_err(|error| error.to_string());
        command.stdin(Stdio::null()).stdout(file()?).stderr(file()?);
        let child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
        Ok(Process { child })
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGTERM; nothing is waited for.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It is not reaped yet, so the number is not another's.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
