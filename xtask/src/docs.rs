//! Holds the pages for people against the repository: each path that is named in README.md, in docs/ or in
//! another README exists, and so does each file that is linked to.
//!
//! Deliberately knows nothing of what a page says.

use std::fs;
use std::path::{Path, PathBuf};

use crate::repository;

/// First parts of paths that are named although git does not hold them.
const MADE: [&str; 2] = [".cache", "target"];

/// Endings by which a word is taken for a file of the repository.
const FILES: [&str; 7] = ["json", "lock", "md", "rs", "toml", "wasm", "yaml"];

/// Files that the examples of a page write or name; they are not in the repository.
const EXAMPLES: [&str; 6] =
    ["bootstrap.json", "controller.lock", "dump.yaml", "ingress_wasm.wasm", "jwks.json", "plugin.wasm"];

fn pages() -> Vec<PathBuf> {
    let root = repository::root();
    let mut pages: Vec<PathBuf> =
        ["README.md", "envoy/README.md", "envoy/kubernetes/README.md", "fuzz/README.md", "istio/README.md"]
            .iter()
            .map(|page| root.join(page))
            .collect();
    for entry in fs::read_dir(root.join("docs")).expect("docs/") {
        let page = entry.expect("docs/").path();
        if page.extension().is_some_and(|extension| extension == "md") {
            pages.push(page);
        }
    }
    pages.sort();
    pages
}

/// The page without its code blocks.
fn prose(text: &str) -> String {
    let mut code = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !fence && !code
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What stands between single backticks.
fn spans(prose: &str) -> Vec<&str> {
    prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The path in the repository that a word names, if it names one.
fn path(word: &str, top: &[String]) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if word.starts_with('/') || !word.bytes().all(plain) || EXAMPLES.contains(&word) {
        return None;
    }
    let first = word.split('/').next().unwrap_or_default();
    if MADE.contains(&first) || first.ends_with(".io") {
        return None;
    }
    let is_file =
        || Path::new(word).extension().and_then(|end| end.to_str()).is_some_and(|end| FILES.contains(&end));
    let inside = word.contains('/') && top.iter().any(|name| name == first);
    (inside || is_file() || word.ends_with('/')).then(|| word.to_owned())
}

/// Relative targets of `[text](target)`, without what follows `#`.
fn links(prose: &str) -> Vec<&str> {
    prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next())
        .filter(|target| !target.is_empty() && !target.contains(':'))
        .collect()
}

#[test]
fn each_path_in_the_pages_exists() {
    let root = repository::root();
    let entries = fs::read_dir(root).expect("the repository");
    let top: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let mut found = 0;
    let mut missing = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let text = prose(&text);
        let shown = repository::shown(&page);
        for path in spans(&text).into_iter().filter_map(|span| path(span, &top)) {
            found += 1;
            if !root.join(&path).exists() {
                missing.push(format!("{shown} names `{path}`"));
            }
        }
        for link in links(&text) {
            found += 1;
            if !page.parent().unwrap_or(root).join(link).exists() {
                missing.push(format!("{shown} links to {link}"));
            }
        }
    }
    assert!(missing.is_empty(), "not in the repository:\n{}", missing.join("\n"));
    assert!(found > 100, "only {found} paths were recognised: the pages are read wrongly");
}

#[test]
fn knows_paths_from_other_words() {
    let top = ["src", "docs", "shop"].map(str::to_owned);
    for (word, expected) in [
        ("src/router/path.rs", true),
        ("src/router", true),
        ("Cargo.toml", true),
        ("fuzz/", true),
        ("target/release/ingress-wasm", false),
        (".cache/", false),
        ("networking.k8s.io/v1", false),
        ("nginx.ingress.kubernetes.io/", false),
        ("default/web", false),
        ("/etc/passwd", false),
        ("cargo xtask demo", false),
        ("bootstrap.json", false),
        ("*.yaml", false),
    ] {
        assert_eq!(path(word, &top).is_some(), expected, "{word}");
    }
}

#[test]
fn code_blocks_are_left_out_and_links_are_found() {
    let page = "a `src/a.rs`\n```sh\n`src/b.rs`\n```\n[c](c.md#part), [d](https://d.example/), [e](#e)";
    assert_eq!(spans(&prose(page)), ["src/a.rs"]);
    assert_eq!(links(&prose(page)), ["c.md"]);
}
