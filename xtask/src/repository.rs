//! Where things are: the repository, its cache, Cargo's target directory.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Tools that were fetched; ignored by git, and safe to delete.
pub fn cache() -> PathBuf {
    root().join(".cache")
}

/// A path as one would type it in the repository.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
