use std::collections::BTreeSet;
use std::path::Path;

use super::*;

fn everything() -> impl Iterator<Item = &'static Annotation> {
    all().iter().chain(own())
}

#[test]
fn names_are_distinct_and_resolve() {
    let names: BTreeSet<&str> = all().iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), all().len(), "a name stands twice");
    assert_eq!(all().len(), 138);
    assert_eq!(own().len(), 24);
    for entry in all() {
        assert_eq!(lookup(entry.name).map(|found| found.name), Some(entry.name));
        assert!(!names.contains(format!("nginx.ingress.kubernetes.io/{}", entry.name).as_str()));
        let well_formed =
            entry.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        assert!(well_formed, "{}", entry.name);
    }
    for entry in own() {
        assert_eq!(lookup_own(entry.name).map(|found| found.name), Some(entry.name));
        assert!(lookup(entry.name).is_none(), "{}", entry.name);
    }
    for name in ["", "auth", "zzz", "Auth-Url"] {
        assert!(lookup(name).is_none(), "{name}");
    }
}

#[test]
fn entries_are_complete() {
    for entry in everything() {
        let name = entry.name;
        assert!(entry.parse(entry.example).is_ok(), "{name}: example {:?}", entry.example);
        assert!(entry.summary.ends_with('.') && !entry.summary.contains("  "), "{name}: {}", entry.summary);
        let reason = entry.support.reason();
        assert!(entry.support == Support::Exact || !reason.is_empty(), "{name}: no reason");
        assert!(!reason.ends_with('.') && !reason.contains("  "), "{name}: {reason}");
        for value in entry.neutral.iter().chain(entry.refused) {
            assert!(entry.parse(value).is_ok(), "{name}: {value}");
        }
        for value in entry.neutral {
            assert!(!entry.refused.contains(value), "{name}: {value}");
        }
        for other in entry.needs.iter().chain(&entry.alias_of) {
            assert!(lookup(other).is_some_and(|found| found.name != name), "{name}: {other}");
        }
    }
}

/// What protects denies, unless it is in one of these lists: each is a decision that was thought about.
#[test]
fn what_protects_never_opens() {
    // The default that holds for an invalid value is as strict as any.
    let strict_defaults =
        ["auth-tls-verify-client", "auth-tls-verify-depth", "backend-protocol", "proxy-body-size", "satisfy"];
    // Without CORS headers browsers refuse; the others only add to a protection that denies by itself.
    let parts = [
        "auth-always-set-cookie",
        "auth-cache-duration",
        "auth-method",
        "auth-proxy-set-headers",
        "auth-request-redirect",
        "auth-response-headers",
        "auth-tls-error-page",
        "auth-tls-pass-certificate-to-upstream",
        "cors-allow-origin",
    ];
    let mut found = (Vec::new(), Vec::new());
    for entry in everything().filter(|entry| entry.protects) {
        if entry.safe_if_invalid {
            found.0.push(entry.name);
        } else {
            let effect = entry.effect_if_invalid(&InvalidValue::Malformed);
            assert!(matches!(effect, Effect::Denied | Effect::Withheld), "{}: {effect:?}", entry.name);
        }
        match entry.lost {
            Lost::Denied | Lost::DeniedIfGuarding => {}
            Lost::Ignored(_) | Lost::NotServed => found.1.push(entry.name),
        }
    }
    assert_eq!(found, (strict_defaults.to_vec(), parts.to_vec()));
}

#[test]
fn protections() {
    let expected = [
        "allowlist-source-range",
        "auth-realm",
        "auth-secret",
        "auth-secret-type",
        "auth-tls-match-cn",
        "auth-tls-secret",
        "auth-type",
        "auth-url",
        "configuration-snippet",
        "denylist-source-range",
        "enable-modsecurity",
        "limit-connections",
        "limit-rpm",
        "limit-rps",
        "proxy-body-size",
        "satisfy",
        "server-snippet",
        "whitelist-source-range",
    ];
    for name in expected {
        assert!(lookup(name).is_some_and(|entry| entry.protects), "{name}");
    }
}

/// `UPDATE_DOCS=1` writes the page anew.
#[test]
fn docs_annotations_md_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/annotations.md");
    let page = annotations_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("makes docs");
        std::fs::write(&path, &page).expect("writes the page");
    }
    let written = std::fs::read_to_string(&path).expect("docs/annotations.md can be read");
    assert!(written == page, "docs/annotations.md is not current: run this test with UPDATE_DOCS=1");
}

#[test]
fn the_page_names_everything_in_whole_rows() {
    let page = annotations_markdown();
    for name in everything().map(|entry| entry.name).chain(config_options().iter().map(|option| option.name))
    {
        assert!(page.contains(&format!("\n| `{name}`")), "{name}");
    }
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let bars = line.replace("\\|", "").matches('|').count();
        assert!(bars == 5 || bars == 6, "{line}");
    }
}
