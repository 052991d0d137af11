//! Programs of Debian's packages, unpacked into the cache: nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{process, repository, ui, wheel};

/// A program in a package.
pub struct Package {
    /// What it is called in messages, and its folder in the cache.
    pub name: &'static str,
    /// The packages that may hold it, in newer and older releases of Debian and its kin.
    pub packages: &'static [&'static str],
    /// Where it is in them.
    pub program: &'static str,
    /// The argument with which it does nothing and succeeds.
    pub probe: &'static str,
}

impl Package {
    /// The program in the cache; fetched if it is not there. apt compares the digest.
    ///
    /// # Errors
    ///
    /// Where there is no apt, no package, or none whose program runs here.
    pub fn fetch(&self) -> Result<PathBuf> {
        let place = repository::cache().join(self.name);
        let program = place.join(self.program);
        if program.is_file() && self.runs(&program) {
            return Ok(program);
        }
        let _lock = wheel::lock(self.name)?;
        if program.is_file() && self.runs(&program) {
            return Ok(program);
        }
        ui::timed(&format!("fetching Debian's {}", self.name), || {
            let scratch = wheel::scratch(self.name)?;
            let root = scratch.path().join("root");
            for package in self.packages {
                if download(package, scratch.path(), &root)? && self.runs(&root.join(self.program)) {
                    return wheel::publish(&root, &place);
                }
            }
            bail!("Debian's package could not be fetched, or does not run here")
        })?;
        Ok(program)
    }

    /// Whether a program of this name runs.
    pub fn runs(&self, program: &Path) -> bool {
        process::succeeds(Command::new(program).arg(self.probe))
    }
}

/// Fetches a package and unpacks it; false where there is none.
fn download(package: &str, scratch: &Path, root: &Path) -> Result<bool> {
    let mut apt = Command::new("apt-get");
    apt.args(["download", "--quiet", package]).current_dir(scratch).stderr(Stdio::null());
    if !process::succeeds(&mut apt) {
        return Ok(false);
    }
    for archive in fs::read_dir(scratch).context("read the fetched package")? {
        let archive = archive?.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            process::run(Command::new("dpkg").arg("-x").arg(&archive).arg(root))?;
        }
    }
    Ok(true)
}
