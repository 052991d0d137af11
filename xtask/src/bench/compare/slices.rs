//! Load on several proxies in slices of a moment, in turns: what else the machine does hits all of them alike, which
//! it does not in turns of a second.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// How long one of them is asked before the next one is.
const SLICE: Duration = Duration::from_millis(80);

/// What sends the requests to one of the proxies. It waits until it is its turn.
struct Load(Child);

impl Load {
    fn start(mut command: Command) -> Result<Load> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let load = Load(child.context("start what sends requests")?);
        load.signal(Signal::STOP)?;
        Ok(load)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.0), signal).context("signal what sends requests")
    }

    /// What it has to say once it has ended.
    fn end(mut self) -> Result<String> {
        let mut text = String::new();
        let mut output = self.0.stdout.take().context("no output")?;
        output.read_to_string(&mut text).context("read what was measured")?;
        self.0.wait().context("wait for what sends requests")?;
        Ok(text)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // One that waits takes no signal but this. Both fail where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the commands, each of which goes on for `total`, until then in slices in turns; gives what they say.
pub fn run(commands: Vec<Command>, total: Duration) -> Result<Vec<String>> {
    // Against the clock, for however long each of them may have waited by then.
    let until = Instant::now() + total;
    let loads = commands.into_iter().map(Load::start).collect::<Result<Vec<_>>>()?;
    while Instant::now() + SLICE < until {
        for load in &loads {
            load.signal(Signal::CONT)?;
            thread::sleep(SLICE);
            load.signal(Signal::STOP)?;
        }
    }
    for load in &loads {
        load.signal(Signal::CONT)?;
    }
    loads.into_iter().map(Load::end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_to_its_end() {
        let commands = ["first", "second"].map(|word| {
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 0.1; echo $0", word]);
            command
        });
        let said = run(commands.into(), Duration::from_millis(200)).unwrap();
        assert_eq!(said, ["first\n", "second\n"]);
    }
}
