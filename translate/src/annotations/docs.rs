//! The reference page of annotations and ConfigMap options.

use std::fmt::Write as _;

use super::{Annotation, ConfigOption, Group, Lost, Support, all, config_options, own};

const INTRO: &str = "\
# Annotations and options

<!-- Generated from the registry in translate/src/annotations; UPDATE_DOCS=1 cargo test -p ingress-wasm-translate \
writes it anew. -->

All annotations of ingress-nginx 1.15 under `nginx.ingress.kubernetes.io/`, and how far each is honoured. The old
prefix `ingress.kubernetes.io/` is read too; there `rewrite-target` has the meaning it had then: it replaces only the
path of the rule. `ingress-wasm check` says the same of your own manifests, line by line.

Each annotation has one of four levels:

- **exact**: as ingress-nginx does.
- **differs**: honoured, with the difference that is named.
- **no effect**: read, and nothing has to be done, for the reason that is named.
- **not supported**: not honoured; what happens without it is named.

The scope says what one setting holds for: the *rule* (the paths of the Ingress), the *host* (all paths of the hosts
that the Ingress names, those of other Ingresses too), the *Service* (all uses of it) or the *Ingress* as an object.

An annotation marked 🔒 protects. A mistake in one never opens anything: where its value is wrong, or where it is not
supported, the rules of the Ingress answer 503, and those of its hosts where the scope is the host, unless the table
says otherwise. Other wrong values are treated as ingress-nginx treats them: the default holds, the rules answer 503,
or the Ingress is not served (503 instead, if it carries a protection, since without its rules a broader one could
answer).
";

/// Renders `docs/annotations.md`.
pub fn annotations_markdown() -> String {
    let mut page = INTRO.to_owned();
    counts(&mut page);
    for group in Group::ALL {
        let entries: Vec<&Annotation> =
            all().iter().chain(own()).filter(|entry| entry.group == group).collect();
        _ = write!(page, "\n## {}\n\n", group.title());
        if group == Group::Own {
            page.push_str("Under the prefix `ingress-wasm.io/`.\n\n");
        }
        page.push_str("| Annotation | Scope | What for | Value | Support |\n|---|---|---|---|---|\n");
        for entry in entries {
            row(&mut page, entry);
        }
    }
    options(&mut page);
    page
}

fn counts(page: &mut String) {
    page.push_str("\n| Level | Annotations | ConfigMap options |\n|---|---|---|\n");
    let levels = [Support::Exact, Support::Differs(""), Support::NoEffect(""), Support::NotSupported("")]
        .map(Support::level);
    for level in levels {
        let annotations = all().iter().filter(|entry| entry.support.level() == level).count();
        let options = config_options().iter().filter(|option| option.support.level() == level).count();
        _ = writeln!(page, "| {level} | {annotations} | {options} |");
    }
    _ = writeln!(page, "| all | {} | {} |", all().len(), config_options().len());
}

fn row(page: &mut String, entry: &Annotation) {
    let mark = if entry.protects { " 🔒" } else { "" };
    let mut summary = entry.summary.to_owned();
    if !entry.needs.is_empty() {
        let needed = entry.needs.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
        _ = write!(summary, " Only with {needed}.");
    }
    let value = format!("{}; for example {}", entry.value.description(), code(entry.example));
    let mut support = support(entry.support);
    if entry.protects && !matches!(entry.support, Support::NotSupported(_)) && entry.safe_if_invalid {
        support.push_str(". A wrong value is ignored: the default is a protection too");
    }
    if let (Support::NotSupported(_), Lost::Denied | Lost::NotServed, [first, ..]) =
        (entry.support, entry.lost, entry.neutral)
    {
        _ = write!(support, ". {} asks for nothing and is fine", code(first));
    }
    _ = writeln!(
        page,
        "| `{}`{mark} | {} | {} | {} | {} |",
        entry.name,
        entry.scope.name(),
        cell(&summary),
        cell(&value),
        cell(&support),
    );
}

fn options(page: &mut String) {
    page.push_str(
        "\n## Options of the ConfigMap\n\n\
         Options of the controller's ConfigMap, with the default that holds in ingress-nginx. While an option marked \
         🔒 is set and not supported, all rules answer 503. Those that begin with `ingress-wasm-` are of this project: \
         see [limits.md](limits.md).\n\n\
         | Option | Value | Default | Support |\n|---|---|---|---|\n",
    );
    for ConfigOption { name, value, default, support: level, protects, waived_by, .. } in config_options() {
        let mark = if *protects { " 🔒" } else { "" };
        let default = if default.is_empty() { String::new() } else { code(default) };
        let mut support = support(*level);
        if let Some(annotation) = waived_by {
            _ = write!(support, ". The annotation `{annotation}: \"false\"` takes an Ingress out of it");
        }
        let value = value.description();
        _ = writeln!(page, "| `{name}`{mark} | {} | {} | {} |", cell(&value), cell(&default), cell(&support));
    }
}

fn support(support: Support) -> String {
    match support.reason() {
        "" => support.level().to_owned(),
        reason => format!("{}: {reason}", support.level()),
    }
}

/// A value as code; of several lines each by itself.
fn code(value: &str) -> String {
    value.lines().map(|line| format!("`{line}`")).collect::<Vec<_>>().join(" and ")
}

/// A bar ends a cell, even within code.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
