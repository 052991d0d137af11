//! The Envoy of this pod: the directory that is shared with it, its bootstrap, and how it is reached.
//!
//! Everything in the directory has the same name and, from the same binary, the same content each time: a
//! controller that is started anew finds an Envoy that serves, and changes nothing about it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::certificate::{Certificate, SelfSignedError};
use crate::envoy::{Admin, DynamicBootstrap, ToJsonError, dynamic_bootstrap};
use crate::filter;

/// The name of this Envoy for the xDS server.
const NODE: &str = "ingress-wasm";

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each names what failed; the sources say how")]
pub enum EdgeError {
    #[error("--run-dir: {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("--run-dir: {0} is in use by another controller")]
    InUse(PathBuf),
    #[error("bootstrap: {0}")]
    Bootstrap(#[from] ToJsonError),
    #[error(transparent)]
    Certificate(#[from] SelfSignedError),
}

/// The directory that controller and Envoy share.
#[derive(Debug, Clone)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// A directory, made if it is not there.
    ///
    /// # Errors
    ///
    /// [`EdgeError`]
    pub fn open(path: &Path) -> Result<RunDirectory, EdgeError> {
        let path = std::path::absolute(path).map_err(|source| file_error(path, source))?;
        fs::create_dir_all(&path).map_err(|source| file_error(&path, source))?;
        Ok(RunDirectory { path })
    }

    /// Where the xDS server listens.
    pub fn xds(&self) -> PathBuf {
        self.path.join("xds.sock")
    }

    /// Where Envoy's admin interface listens.
    pub fn admin(&self) -> Admin {
        Admin::Unix(self.path.join("admin.sock"))
    }

    /// Where each worker says what it serves.
    pub fn probe(&self) -> PathBuf {
        self.path.join("probe.sock")
    }

    /// The filter.
    pub fn module(&self) -> PathBuf {
        self.path.join("ingress_wasm.wasm")
    }

    /// What Envoy is started with.
    pub fn bootstrap(&self) -> PathBuf {
        self.path.join("bootstrap.json")
    }

    /// Writes what Envoy needs to start.
    ///
    /// # Errors
    ///
    /// [`EdgeError`]
    pub fn write(&self) -> Result<(), EdgeError> {
        let bootstrap = dynamic_bootstrap(&DynamicBootstrap {
            node_id: NODE.to_owned(),
            admin: self.admin(),
            xds: self.xds(),
        })?;
        write(&self.module(), filter::MODULE, 0o644)?;
        write(&self.bootstrap(), format!("{bootstrap:#}\n").as_bytes(), 0o644)
    }

    /// Holds the directory for as long as the file lives: two xDS servers would take each other's socket.
    ///
    /// # Errors
    ///
    /// [`EdgeError`]
    pub fn lock(&self) -> Result<File, EdgeError> {
        let path = self.path.join("controller.lock");
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|source| file_error(&path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(EdgeError::InUse(self.path.clone())),
            Err(fs::TryLockError::Error(source)) => Err(file_error(&path, source)),
        }
    }

    /// Removes the socket of an xDS server that was killed. To be called with the lock held.
    ///
    /// # Errors
    ///
    /// [`EdgeError`]
    pub fn clear_socket(&self) -> Result<(), EdgeError> {
        let path = self.xds();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(&path, error)),
            _ => Ok(()),
        }
    }

    /// The certificate for hosts that have none: made once, and kept for a controller that is started anew.
    ///
    /// # Errors
    ///
    /// [`EdgeError`]
    pub fn certificate(&self) -> Result<Certificate, EdgeError> {
        let (chain_path, key_path) = (self.path.join("default.crt"), self.path.join("default.key"));
        if let (Ok(chain), Ok(key)) = (fs::read_to_string(&chain_path), fs::read_to_string(&key_path))
            && !chain.is_empty()
            && !key.is_empty()
        {
            return Ok(Certificate { chain, key });
        }
        let certificate = Certificate::self_signed()?;
        // The key last: with it the pair is complete.
        let _ = fs::remove_file(&key_path);
        write(&chain_path, certificate.chain.as_bytes(), 0o600)?;
        write(&key_path, certificate.key.as_bytes(), 0o600)?;
        Ok(certificate)
    }
}

/// Writes a file in one step, unless it has this content already: Envoy may be reading it.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), EdgeError> {
    if fs::read(path).is_ok_and(|held| held == content) {
        return Ok(());
    }
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    let next = PathBuf::from(next);
    let written = || -> io::Result<()> {
        let _ = fs::remove_file(&next);
        let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(&next)?;
        io::Write::write_all(&mut file, content)?;
        // Whatever the umask: Envoy may run as another user.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&next, path)
    };
    written().map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: io::Error) -> EdgeError {
    EdgeError::File { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_changes_nothing() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("run/dir");
        let run = RunDirectory::open(&path).expect("made");
        run.write().expect("written");
        let certificate = run.certificate().expect("made");
        let state = |path: &Path| {
            let meta = fs::metadata(path).expect("there");
            (fs::read(path).expect("read"), std::os::unix::fs::MetadataExt::ino(&meta))
        };
        let before = (state(&run.bootstrap()), state(&run.module()));
        let again = RunDirectory::open(&path).expect("there");
        again.write().expect("written");
        assert_eq!((state(&run.bootstrap()), state(&run.module())), before);
        assert_eq!(again.certificate().expect("kept"), certificate);
        let mode = fs::metadata(path.join("default.key")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn one_controller_for_a_directory() {
        let directory = tempfile::tempdir().expect("made");
        let run = RunDirectory::open(directory.path()).expect("made");
        let lock = run.lock().expect("free");
        assert!(matches!(run.lock(), Err(EdgeError::InUse(_))));
        fs::write(run.xds(), "").expect("written");
        run.clear_socket().expect("removed");
        run.clear_socket().expect("nothing to remove");
        drop(lock);
        run.lock().expect("free again");
    }
}
