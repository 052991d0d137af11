//! Which Envoy is run.

use std::env;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

/// The minor versions of Envoy 1 that this program was tried with. 1.36 is the first that has all the
/// fields which the configuration uses.
pub const SUPPORTED_MINORS: RangeInclusive<u32> = 36..=40;

/// How long `envoy --version` may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An Envoy that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// The executable.
    pub path: PathBuf,
    /// Its version, as in `1.40.0`.
    pub version: String,
}

/// Why there is no Envoy to run.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// None of the places has one.
    #[error("no Envoy found: name one with --envoy or in ENVOY, or put `envoy` on the PATH")]
    NotFound,
    /// The named file is no executable.
    #[error("{path} (from {origin}) is not an executable file")]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// Who named it.
        origin: &'static str,
    },
    /// It does not tell its version.
    #[error("{path} --version: {reason}")]
    NoVersion {
        /// The executable.
        path: PathBuf,
        /// What happened instead.
        reason: String,
    },
    /// Not a version that is known to work.
    #[error(
        "{path} is Envoy {version}; supported are 1.{} to 1.{}",
        SUPPORTED_MINORS.start(),
        SUPPORTED_MINORS.end()
    )]
    Unsupported {
        /// The executable.
        path: PathBuf,
        /// Its version.
        version: String,
    },
}

/// The first of: `named` (`--envoy`), the environment's `ENVOY`, `envoy` on the PATH, and `others`.
///
/// # Errors
///
/// [`BinaryError`]. A named file that does not do is an error, not a reason to look elsewhere.
pub async fn find(named: Option<&Path>, others: &[PathBuf]) -> Result<Binary, BinaryError> {
    let from_environment = env::var_os("ENVOY").filter(|path| !path.is_empty()).map(PathBuf::from);
    let path = if let Some(path) = named {
        executable(path, "--envoy")?
    } else if let Some(path) = from_environment {
        executable(&path, "ENVOY")?
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .map(|directory| directory.join("envoy"))
            .chain(others.iter().cloned())
            .find(|path| is_executable(path))
            .ok_or(BinaryError::NotFound)?
    };
    let version = version(&path).await?;
    if is_supported(&version) {
        Ok(Binary { path, version })
    } else {
        Err(BinaryError::Unsupported { path, version })
    }
}

fn executable(path: &Path, origin: &'static str) -> Result<PathBuf, BinaryError> {
    if is_executable(path) {
        Ok(path.to_owned())
    } else {
        Err(BinaryError::NotExecutable { path: path.to_owned(), origin })
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

async fn version(path: &Path) -> Result<String, BinaryError> {
    let fail = |reason: String| BinaryError::NoVersion { path: path.to_owned(), reason };
    let output = Command::new(path).arg("--version").kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output)
        .await
        .map_err(|_| fail(format!("no answer within {} s", PATIENCE.as_secs())))?
        .map_err(|error| fail(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    read_version(&text).map(str::to_owned).ok_or_else(|| fail(format!("cannot read {:?}", text.trim())))
}

/// The version in what Envoy prints: `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
fn read_version(text: &str) -> Option<&str> {
    let (_, build) = text.split_once("version:")?;
    number(build.trim())
}

/// The number in what Envoy calls its version: `COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
fn number(build: &str) -> Option<&str> {
    build.split('/').nth(1).filter(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

/// Why an Envoy that runs already will not do, from the version that it tells (`COMMIT/1.40.0/Clean/…`).
///
/// # Errors
///
/// The version, and those that are supported.
pub fn check_running(build: &str) -> Result<(), String> {
    let version = number(build).unwrap_or(build);
    if is_supported(version) {
        return Ok(());
    }
    let (first, last) = (SUPPORTED_MINORS.start(), SUPPORTED_MINORS.end());
    Err(format!("Envoy is {version}; supported are 1.{first} to 1.{last}: use an image of one of these"))
}

fn is_supported(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(str::parse::<u32>);
    matches!((parts.next(), parts.next()), (Some(Ok(1)), Some(Ok(minor))) if SUPPORTED_MINORS.contains(&minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_envoy_prints() {
        let cases = [
            ("\n/usr/bin/envoy  version: 0123abc/1.40.0/Clean/RELEASE/BoringSSL\n\n", Some("1.40.0"), true),
            ("envoy  version: 0123abc/1.36.2-dev/Modified/DEBUG/BoringSSL", Some("1.36.2-dev"), true),
            ("envoy  version: 0123abc/1.35.9/Clean/RELEASE/BoringSSL", Some("1.35.9"), false),
            ("envoy  version: 0123abc/1.41.0/Clean/RELEASE/BoringSSL", Some("1.41.0"), false),
            ("envoy  version: 0123abc/2.38.0/Clean/RELEASE/BoringSSL", Some("2.38.0"), false),
            ("version: ", None, false),
            ("", None, false),
        ];
        for (text, expected, supported) in cases {
            assert_eq!(read_version(text), expected, "{text:?}");
            assert_eq!(expected.is_some_and(is_supported), supported, "{text:?}");
            let build = text.split_once("version: ").map_or("", |(_, build)| build.trim());
            assert_eq!(check_running(build).is_ok(), supported, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_named_file_has_to_do() {
        let error = find(Some(Path::new("/nonexistent/envoy")), &[]).await.expect_err("none there");
        assert!(matches!(error, BinaryError::NotExecutable { origin: "--envoy", .. }), "{error}");
        let error = find(Some(Path::new("/bin/true")), &[]).await.expect_err("no Envoy");
        assert!(
            matches!(error, BinaryError::NoVersion { .. } | BinaryError::NotExecutable { .. }),
            "{error}"
        );
    }
}
