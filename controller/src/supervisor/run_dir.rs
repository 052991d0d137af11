//! The private directory of one run: bootstrap, sockets and the filter module.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How the directories begin.
const PREFIX: &str = "ingress-wasm-run-";

/// The file that is locked for as long as its directory is in use.
const LOCK: &str = "lock";

/// The longest path of a Unix socket that every system takes, in bytes.
const LONGEST_SOCKET: usize = 103;

/// The directory cannot be made or written to.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct RunDirError {
    path: PathBuf,
    source: io::Error,
}

/// A directory that only its user can look into, removed when dropped.
///
/// What a run leaves that was killed is removed by the next one: it is recognised by its lock, which nobody
/// holds any more.
#[derive(Debug)]
pub struct RunDir {
    // Dropped first: without the directory nobody looks at the lock.
    directory: tempfile::TempDir,
    _lock: File,
}

impl RunDir {
    /// A new directory among the system's temporary files.
    ///
    /// # Errors
    ///
    /// [`RunDirError`]
    pub fn create() -> Result<RunDir, RunDirError> {
        let temporary = std::env::temp_dir();
        sweep(&temporary);
        // Where the usual place has a long name, its sockets could not be bound.
        let longest_name = PREFIX.len() + "/XXXXXX/admin.sock".len();
        let parent = if temporary.as_os_str().len() + longest_name > LONGEST_SOCKET {
            "/tmp".into()
        } else {
            temporary
        };
        create_in(&parent).map_err(|source| RunDirError { path: parent, source })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file in it and gives its path.
    ///
    /// # Errors
    ///
    /// [`RunDirError`]
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, RunDirError> {
        let path = self.join(name);
        fs::write(&path, content).map_err(|source| RunDirError { path: path.clone(), source })?;
        Ok(path)
    }
}

fn create_in(parent: &Path) -> io::Result<RunDir> {
    let directory = tempfile::Builder::new()
        .prefix(PREFIX)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)?;
    // Locked before it has its name, so that no other run finds it unlocked.
    let unnamed = directory.path().join("new-lock");
    let lock = File::create(&unnamed)?;
    lock.lock()?;
    fs::rename(unnamed, directory.path().join(LOCK))?;
    Ok(RunDir { directory, _lock: lock })
}

/// Removes directories of runs that ended without doing so.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let left = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for entry in left {
        let abandoned = File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        // Best effort: another user's directory cannot be opened or removed.
        if abandoned && fs::remove_dir_all(entry.path()).is_ok() {
            log::info!("removed {}, left by a run that was killed", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_private_and_goes_away() {
        let run = RunDir::create().expect("made");
        let path = run.path().to_owned();
        run.write("file", b"x").expect("written");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o700);
        drop(run);
        assert!(!path.exists(), "{}", path.display());
    }

    #[test]
    fn only_abandoned_directories_are_swept() {
        let parent = tempfile::tempdir().expect("made");
        let used = create_in(parent.path()).expect("made");
        let abandoned = create_in(parent.path()).expect("made");
        let abandoned_path = abandoned.path().to_owned();
        let RunDir { directory, _lock } = abandoned;
        let _ = directory.keep();
        drop(_lock);
        let foreign = parent.path().join(format!("{PREFIX}without-lock"));
        fs::create_dir(&foreign).expect("made");
        sweep(parent.path());
        assert!(used.path().exists(), "in use");
        assert!(foreign.exists(), "not ours to judge");
        assert!(!abandoned_path.exists(), "abandoned");
    }
}
