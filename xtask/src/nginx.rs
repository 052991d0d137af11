//! The real nginx that the engine is compared with: one that is installed, or Debian's, unpacked into the cache.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::debian::Package;

/// Where distributions put it; not on everybody's PATH.
const USUAL: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

const DEBIAN: Package =
    Package { name: "nginx", packages: &["nginx", "nginx-core"], program: "usr/sbin/nginx", probe: "-v" };

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
    installed.map_or_else(|| DEBIAN.fetch(), Ok)
}

fn runs(program: &Path) -> bool {
    DEBIAN.runs(program)
}
