//! What Linux tells of processes: memory, descendants, the time that threads ran.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Resident memory of a process in bytes: what it holds, or the most that it held at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Now.
    Held,
    /// At its peak.
    Peak,
}

/// The memory of a process; none where it is gone.
pub fn memory(process: u32, memory: Memory) -> Option<u64> {
    let field = match memory {
        Memory::Held => "VmRSS:",
        Memory::Peak => "VmHWM:",
    };
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// How long a process has run on CPUs, all its threads that live together.
pub fn cpu_time(process: u32) -> Duration {
    thread_times(process, "").iter().sum()
}

/// How long each thread whose name begins so has run.
pub fn thread_times(process: u32, name: &str) -> Vec<Duration> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of_name = tasks
        .map(|task| task.path())
        .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|found| found.starts_with(name)));
    let time = |task: std::path::PathBuf| {
        let text = fs::read_to_string(task.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    of_name.filter_map(time).collect()
}

/// A descendant of a process whose name begins so.
pub fn child_of(process: u32, name: &str) -> Option<u32> {
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
    use std::process::Command;

    use super::*;

    #[test]
    fn finds_a_child_and_its_memory() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let found = child_of(std::process::id(), "sleep");
        let memory = [Memory::Held, Memory::Peak].map(|kind| memory(child.id(), kind));
        let times = thread_times(child.id(), "sleep");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, Some(child.id()));
        assert!(memory[0].is_some_and(|held| held > 0) && memory[1] >= memory[0], "{memory:?}");
        assert_eq!(times.len(), 1);
        assert_eq!(child_of(std::process::id(), "no such program"), None);
    }
}
