//! The real nginx that the engine is compared with: one that is installed, or Debian's, unpacked into the cache.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{process, repository, ui, wheel};

/// Where distributions put it; not on everybody's PATH.
const USUAL: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// The packages that hold the program, in newer and older releases of Debian and its kin.
const PACKAGES: [&str; 2] = ["nginx", "nginx-core"];

/// The nginx to compare with: `$NGINX`, one that is installed, or one that is fetched.
pub fn find() -> Result<PathBuf> {
    if let Some(asked) = env::var_os("NGINX").filter(|value| !value.is_empty()) {
        let path = std::path::absolute(PathBuf::from(asked))?;
        if !runs(&path) {
            bail!("$NGINX is {}, which is no nginx that runs here", path.display());
        }
        return Ok(path);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(USUAL.iter().map(PathBuf::from));
    let installed = folders.map(|folder| folder.join("nginx")).find(|path| path.is_file() && runs(path));
    installed.map_or_else(fetch, Ok)
}

/// Unpacks Debian's package into the cache. apt compares the digest; nothing is installed.
fn fetch() -> Result<PathBuf> {
    let place = repository::cache().join("nginx");
    let program = place.join("usr/sbin/nginx");
    if program.is_file() && runs(&program) {
        return Ok(program);
    }
    let _lock = wheel::lock("nginx")?;
    ui::timed("fetching Debian's nginx", || {
        let scratch = wheel::scratch("nginx")?;
        let root = scratch.path().join("root");
        for package in PACKAGES {
            let mut apt = Command::new("apt-get");
            apt.args(["download", "--quiet", package]).current_dir(scratch.path()).stderr(Stdio::null());
            if !process::succeeds(&mut apt) {
                continue;
            }
            for archive in std::fs::read_dir(scratch.path()).context("read the fetched package")? {
                let archive = archive?.path();
                if archive.extension().is_some_and(|extension| extension == "deb") {
                    process::run(Command::new("dpkg").arg("-x").arg(&archive).arg(&root))?;
                }
            }
            if runs(&root.join("usr/sbin/nginx")) {
                return wheel::publish(&root, &place);
            }
        }
        bail!("Debian's package could not be fetched, or does not run here")
    })?;
    Ok(program)
}

fn runs(program: &Path) -> bool {
    process::succeeds(Command::new(program).arg("-v"))
}
