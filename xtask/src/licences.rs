//! Licences and sources of all dependencies: every package must come from the public index or from this
//! repository, under a licence that lets the product be passed on under its own.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;

/// Licences that ask for no more than to be named.
const ALLOWED: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Licences that are fine for single packages only, each with the reason.
const EXCEPTIONS: [(&str, &str); 2] = [
    // Data, not code: the Mozilla root certificates, passed on unchanged.
    ("webpki-roots", "CDLA-Permissive-2.0"),
    ("webpki-root-certs", "CDLA-Permissive-2.0"),
];

/// How Cargo names the public index.
const INDEX: &str = "/crates.io-index";

/// Fails with every package that may not be used, and why.
pub fn check() -> Result<()> {
    let metadata = process::output(process::cargo().args(["metadata", "--format-version", "1", "--locked"]))
        .context("is Cargo.lock up to date?")?;
    let metadata: Value = serde_json::from_slice(&metadata).context("read the output of cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let faults: Vec<String> = packages.iter().filter_map(fault).collect();
    if !faults.is_empty() {
        bail!("{} of {} packages may not be used:\n  {}", faults.len(), packages.len(), faults.join("\n  "));
    }
    println!("{} packages", packages.len());
    Ok(())
}

/// Why a package of `cargo metadata` may not be used.
fn fault(package: &Value) -> Option<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let version = package["version"].as_str().unwrap_or_default();
    // Without a source: part of this repository, or another path, which `--locked` ties to this checkout.
    if let Some(source) = package["source"].as_str()
        && !(source.starts_with("registry+") && source.ends_with(INDEX))
    {
        return Some(format!("{name} {version} comes from {source}, not from the public index"));
    }
    let Some(licence) = package["license"].as_str() else {
        return Some(format!("{name} {version} names no licence"));
    };
    let fine = |licence: &str| ALLOWED.contains(&licence) || EXCEPTIONS.contains(&(name, licence));
    match satisfied(licence, &fine) {
        Some(true) => None,
        Some(false) => Some(format!("{name} {version} is under `{licence}`, which is not on the list")),
        None => Some(format!("{name} {version} has a licence that cannot be read: `{licence}`")),
    }
}

/// Whether a licence expression (SPDX 2.3, annex D) can be met with fine licences only; `None` if it cannot
/// be read. A slash is the `OR` of old packages.
fn satisfied(expression: &str, fine: &dyn Fn(&str) -> bool) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let met = either(&mut words, fine)?;
    words.next().is_none().then_some(met)
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words, fine: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut met = both(words, fine)?;
    while words.next_if_eq(&"OR").is_some() {
        met |= both(words, fine)?;
    }
    Some(met)
}

fn both(words: &mut Words, fine: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut met = one(words, fine)?;
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, fine)?;
    }
    Some(met)
}

fn one(words: &mut Words, fine: &dyn Fn(&str) -> bool) -> Option<bool> {
    match words.next()? {
        "(" => {
            let met = either(words, fine)?;
            (words.next()? == ")").then_some(met)
        }
        "OR" | "AND" | "WITH" | ")" => None,
        licence => Some(match words.next_if_eq(&"WITH") {
            // An exception permits more than its licence does.
            Some(_) => {
                let exception = words.next()?;
                fine(&format!("{licence} WITH {exception}")) || fine(licence)
            }
            None => fine(licence),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_expressions() {
        for (expression, expected) in [
            ("MIT", Some(true)),
            ("GPL-3.0-only", Some(false)),
            ("MIT OR GPL-3.0-only", Some(true)),
            ("GPL-3.0-only OR MIT AND LGPL-3.0-only", Some(false)),
            ("MIT AND LGPL-3.0-only", Some(false)),
            ("(MIT OR GPL-3.0-only) AND Unicode-3.0", Some(true)),
            ("MIT/Apache-2.0", Some(true)),
            ("Apache-2.0 WITH LLVM-exception", Some(true)),
            ("GPL-2.0-only WITH Classpath-exception-2.0", Some(false)),
            ("", None),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT Apache-2.0", None),
            ("AND MIT", None),
        ] {
            assert_eq!(
                satisfied(expression, &|licence| ALLOWED.contains(&licence)),
                expected,
                "{expression}"
            );
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let index = "registry+https://github.com/rust-lang/crates.io-index";
        for (package, expected) in [
            (json!({"name": "a", "source": index, "license": "MIT"}), None),
            (json!({"name": "a", "source": null, "license": "MIT"}), None),
            (
                json!({"name": "a", "source": "git+https://example.com/a", "license": "MIT"}),
                Some("comes from"),
            ),
            (
                json!({"name": "a", "source": "registry+https://example.com/a", "license": "MIT"}),
                Some("comes from"),
            ),
            (json!({"name": "a", "source": index, "license": null}), Some("names no licence")),
            (
                json!({"name": "a", "source": index, "license": "CDLA-Permissive-2.0"}),
                Some("not on the list"),
            ),
            (json!({"name": "webpki-roots", "source": index, "license": "CDLA-Permissive-2.0"}), None),
        ] {
            let found = fault(&package);
            match expected {
                None => assert_eq!(found, None, "{package}"),
                Some(part) => {
                    assert!(found.as_ref().is_some_and(|text| text.contains(part)), "{package}: {found:?}")
                }
            }
        }
    }
}
