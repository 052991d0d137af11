//! What is to be said of the annotations of an Ingress, and what becomes of it because of them. Both come
//! from one list of findings, so that what is said is what is done.

use crate::diagnostic::{Diagnostic, Severity};
use crate::objects::{Ingress, Kind, ObjectRef, Source};

use super::config_map::GlobalDenial;
use super::nearest::{Prefix, nearest, nearest_own, prefix_hint, retired, split};
use super::set::{AnnotationSet, Setting};
use super::{Annotation, InvalidValue, Lost, Scope, Support, Value, lookup, lookup_own};

/// What becomes of an Ingress because of its annotations; the graver, the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// It is served.
    Ignored,
    /// It is left out, as if it did not exist.
    NotServed,
    /// Its rules are there and answer 404, as if nobody served them: ingress-nginx drops it, but a broader rule
    /// must not get paths that were to be protected.
    Withheld,
    /// Its rules are there and answer 503.
    Denied,
}

/// What becomes of an Ingress, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of it.
    pub effect: Effect,
    /// Why, one phrase per cause, without values: for `PolicySet.denied`, logs and `explain`. Empty where it
    /// is served.
    pub reasons: Vec<String>,
    /// The protection that cannot be honoured is one of whole hosts in ingress-nginx (client certificates,
    /// server snippets): the rules of other Ingresses for the same hosts have to answer 503 too.
    pub host_wide: bool,
}

/// What is wrong with, or worth knowing of, one annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    /// Not a name that is known under its prefix.
    UnknownName,
    /// A prefix that is nearly one of ours.
    UnknownPrefix(&'static str),
    /// The same name stands under a prefix that counts before this one.
    Shadowed,
    /// Of the time before `nginx.` was part of the prefix.
    Legacy,
    /// The value breaks the grammar.
    Invalid(InvalidValue),
    /// Without one of the annotations that it needs.
    Idle,
    /// Not complete without this annotation.
    Incomplete(&'static str),
    /// A value that is not honoured.
    Refused,
    /// An annotation that is not honoured.
    Unsupported,
    /// Needs nothing.
    NoEffect,
    /// Honoured with a difference.
    Differs,
    /// On a canary Ingress, where it does not count.
    OfCanary,
}

struct Finding<'a> {
    key: &'a str,
    text: &'a str,
    line: u32,
    /// None for [`Fault::UnknownName`] and [`Fault::UnknownPrefix`].
    entry: Option<&'static Annotation>,
    fault: Fault,
    effect: Effect,
}

/// Everything there is to say of the annotations of an Ingress, in the order of their keys. Annotations of
/// others (`kubernetes.io/…`, `cert-manager.io/…`) are passed over.
pub fn check_annotations(ingress: &Ingress) -> Vec<Diagnostic> {
    check_annotations_with(ingress, None)
}

/// As [`check_annotations`], with one more prefix that stands for `nginx.ingress.kubernetes.io/`.
pub fn check_annotations_with(ingress: &Ingress, extra_prefix: Option<&str>) -> Vec<Diagnostic> {
    let set = AnnotationSet::of(ingress, extra_prefix);
    let findings = findings(ingress, &set, extra_prefix);
    let effect = judge(&findings, &set).effect;
    findings.iter().map(|finding| diagnostic(ingress, finding, effect)).collect()
}

/// What becomes of an Ingress because of its annotations, and of what the ConfigMap asks for all
/// ([`global_denials`](super::global_denials)).
///
/// One refused protection denies the Ingress as a whole, since its annotations hold for all its rules. An
/// Ingress that ingress-nginx would drop for a wrong value is withheld instead if it carries any protection:
/// dropped, its paths could fall to a broader rule without one. What it asked of whole hosts denies the rules of
/// the other Ingresses for them.
pub fn verdict(ingress: &Ingress, extra_prefix: Option<&str>, global: &[GlobalDenial]) -> Verdict {
    let set = AnnotationSet::of(ingress, extra_prefix);
    let mut verdict = judge(&findings(ingress, &set, extra_prefix), &set);
    if verdict.effect == Effect::NotServed {
        return verdict;
    }
    for denial in global {
        let waived = denial.waived_by.is_some_and(|name| set.value(name) == Some(Value::Bool(false)));
        if !waived {
            verdict.effect = Effect::Denied;
            verdict.reasons.push(denial.reason.clone());
        }
    }
    verdict
}

fn judge(findings: &[Finding<'_>], set: &AnnotationSet<'_>) -> Verdict {
    let of = |effect| findings.iter().filter(move |finding| finding.effect == effect);
    // Without a canary there is no rule less.
    let guarded =
        !set.is_true("canary") && set.iter().any(|setting| setting.entry.protects && setting.asks());
    let gravest = findings.iter().map(|finding| finding.effect).max().unwrap_or(Effect::Ignored);
    let effect = match gravest {
        Effect::NotServed if guarded => Effect::Withheld,
        gravest => gravest,
    };
    let of_hosts = |finding: &Finding<'_>| finding.entry.is_some_and(|entry| entry.scope == Scope::Host);
    let guards_hosts = || {
        set.iter()
            .any(|setting| setting.entry.protects && setting.entry.scope == Scope::Host && setting.asks())
    };
    let host_wide = of(Effect::Denied).any(of_hosts) || effect == Effect::Withheld && guards_hosts();
    let reasons = findings.iter().filter(|finding| finding.effect != Effect::Ignored).map(reason).collect();
    Verdict { effect, reasons, host_wide }
}

fn reason(finding: &Finding<'_>) -> String {
    let name = finding.entry.map_or("", |entry| entry.name);
    match &finding.fault {
        Fault::Invalid(_) => format!("the value of {name} is not valid"),
        Fault::Incomplete(other) => format!("{name} without {other}"),
        Fault::Refused => format!("the value of {name} is not supported"),
        _ => format!("{name} is not supported"),
    }
}

fn findings<'a>(
    ingress: &'a Ingress,
    set: &AnnotationSet<'_>,
    extra_prefix: Option<&str>,
) -> Vec<Finding<'a>> {
    let mut all = Vec::new();
    for (key, annotation) in &ingress.metadata.annotations {
        let mut push = |entry, fault, effect| {
            all.push(Finding { key, text: &annotation.value, line: annotation.line, entry, fault, effect });
        };
        let Some((prefix, name)) = split(key, extra_prefix) else {
            if let Some(hint) = prefix_hint(key) {
                push(None, Fault::UnknownPrefix(hint), Effect::Ignored);
            }
            continue;
        };
        let entry = if prefix == Prefix::Own { lookup_own(name) } else { lookup(name) };
        let Some(entry) = entry else {
            push(None, Fault::UnknownName, Effect::Ignored);
            continue;
        };
        if !set.counts(key) {
            push(Some(entry), Fault::Shadowed, Effect::Ignored);
            continue;
        }
        if prefix == Prefix::Legacy {
            push(Some(entry), Fault::Legacy, Effect::Ignored);
        }
        let setting = Setting { entry, prefix, key, text: &annotation.value, line: annotation.line };
        if set.is_true("canary") && !counts_on_canary(entry) {
            match assess(&setting, set) {
                Some((fault, Effect::NotServed)) => push(Some(entry), fault, Effect::NotServed),
                _ if setting.asks() && !matches!(entry.support, Support::NoEffect(_)) => {
                    push(Some(entry), Fault::OfCanary, Effect::Ignored);
                }
                _ => {}
            }
            continue;
        }
        if let Some((fault, effect)) = assess(&setting, set) {
            push(Some(entry), fault, effect);
        }
        if let Some(missing) = missing(&setting, set) {
            push(Some(entry), Fault::Incomplete(missing), Effect::Denied);
        }
    }
    all
}

/// Whether an annotation counts on a canary Ingress: what is said of its Service does, and of whole hosts. Of
/// rules the main Ingress has the say.
fn counts_on_canary(entry: &Annotation) -> bool {
    entry.name.starts_with("canary")
        || entry.scope == Scope::Host
        || matches!(
            entry.name,
            "affinity-canary-behavior"
                | "load-balance"
                | "service-upstream"
                | "upstream-hash-by"
                | "upstream-hash-by-subset"
                | "upstream-hash-by-subset-size"
        )
}

/// What is to be said of one annotation by itself.
fn assess(setting: &Setting<'_>, set: &AnnotationSet<'_>) -> Option<(Fault, Effect)> {
    let entry = setting.entry;
    let idle = !entry.needs.is_empty()
        && !entry.needs.iter().any(|needed| set.get(needed).is_some_and(|other| other.asks()));
    if idle {
        return Some((Fault::Idle, Effect::Ignored));
    }
    if let Err(fault) = setting.parse() {
        let effect = entry.effect_if_invalid(&fault);
        return Some((Fault::Invalid(fault), effect));
    }
    if entry.is_refused(setting.text) {
        return Some((Fault::Refused, entry.effect_if_lost(setting.text)));
    }
    if entry.is_neutral(setting.text) {
        return None;
    }
    match entry.support {
        Support::Exact => None,
        Support::Differs(_) => Some((Fault::Differs, Effect::Ignored)),
        Support::NoEffect(_) => Some((Fault::NoEffect, Effect::Ignored)),
        Support::NotSupported(_) => Some((Fault::Unsupported, entry.effect_if_lost(setting.text))),
    }
}

/// The other half of basic authentication. ingress-nginx asks for no password when only `auth-type` is
/// missing; here half of it is a mistake that must not open anything.
fn missing(setting: &Setting<'_>, set: &AnnotationSet<'_>) -> Option<&'static str> {
    let other = match setting.entry.name {
        "auth-secret" => "auth-type",
        "auth-type" => "auth-secret",
        _ => return None,
    };
    // An empty one of them is a fault of its own.
    (setting.asks() && set.get(other).is_none()).then_some(other)
}

fn diagnostic(ingress: &Ingress, finding: &Finding<'_>, verdict: Effect) -> Diagnostic {
    // What ingress-nginx drops may be denied here: see `verdict`.
    let effect = if finding.effect == Effect::NotServed { verdict } else { finding.effect };
    let Finding { key, text, line, entry, fault, .. } = finding;
    let mut diagnostic = match entry {
        Some(entry) => known(entry, text, fault, effect),
        None => unknown(key, fault),
    };
    let hidden = entry.is_none_or(|entry| entry.value.hides(text)) || *fault == Fault::Legacy;
    diagnostic = diagnostic
        .field(format!("metadata.annotations[\"{}\"]", key.escape_debug()), if hidden { "" } else { text });
    let source = ingress.metadata.source.as_ref().map(|source| Source {
        file: source.file.clone(),
        line: if *line == 0 { source.line } else { *line },
    });
    diagnostic.object(ObjectRef { kind: Kind::Ingress, name: ingress.metadata.name.clone() }, source)
}

/// For annotations in the registry.
fn known(entry: &Annotation, text: &str, fault: &Fault, effect: Effect) -> Diagnostic {
    let honoured = matches!(entry.support, Support::Exact | Support::Differs(_));
    let refused = match (effect, entry.scope) {
        (Effect::Denied, Scope::Host) => "every request for the hosts of this Ingress is refused",
        (Effect::Denied, _) => "all rules of this Ingress answer 503",
        (Effect::Withheld, _) => "all rules of this Ingress answer 404",
        (Effect::NotServed, _) => "the Ingress is not served",
        (Effect::Ignored, _) if honoured => "it is ignored and the default holds",
        (Effect::Ignored, _) => "it is ignored",
    };
    let reason = entry.support.reason();
    let grave = |severity| if effect == Effect::Ignored { severity } else { Severity::Error };
    match fault {
        Fault::Invalid(InvalidValue::Empty) if effect == Effect::Ignored => {
            Diagnostic::note("annotation-invalid", "it is empty and counts as absent")
        }
        Fault::Invalid(fault) => {
            let expected = entry.value.description();
            let consequence = format!("the value has to be {expected}; {fault}: {refused}");
            Diagnostic::new(grave(Severity::Warning), "annotation-invalid", consequence)
                .remedy(format!("write {expected}, for example {:?}", entry.example))
        }
        Fault::Incomplete(other) => {
            let consequence = format!("basic authentication needs `{other}` too; without it {refused}");
            Diagnostic::error("annotation-invalid", consequence)
                .remedy(format!("add `{other}`, or remove `{}` to let everybody in", entry.name))
        }
        Fault::Refused => {
            let consequence = format!("this value is not supported: {reason}");
            Diagnostic::new(grave(Severity::Warning), "annotation-unsupported", consequence)
                .remedy("use another value, or keep this Ingress on a controller that has this one")
        }
        Fault::Unsupported => unsupported(entry, text, effect, refused),
        Fault::NoEffect => Diagnostic::note("annotation-no-effect", format!("it needs nothing here: {reason}")),
        Fault::Idle => {
            let needed = entry.needs.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ");
            Diagnostic::note("annotation-no-effect", format!("it has no effect without {needed}"))
        }
        Fault::Differs => Diagnostic::note("annotation-differs", reason),
        Fault::OfCanary => {
            let severity = if entry.protects { Severity::Warning } else { Severity::Note };
            let consequence = "it does not count on a canary: what the main Ingress says holds for its requests too";
            Diagnostic::new(severity, "annotation-no-effect", consequence)
        }
        Fault::Shadowed => {
            Diagnostic::warning("annotation-legacy", "the same annotation under a newer prefix counts, this one does not")
                .remedy("remove it")
        }
        Fault::Legacy if entry.name == "rewrite-target" => Diagnostic::note(
            "annotation-legacy",
            "under this old prefix it replaces only the path of the rule, and what follows stays; later releases of \
             ingress-nginx do not read it",
        )
        .remedy("use the prefix nginx.ingress.kubernetes.io/ with groups in the path"),
        Fault::Legacy => Diagnostic::note(
            "annotation-legacy",
            "this old prefix is read as nginx.ingress.kubernetes.io/; later releases of ingress-nginx do not read it",
        )
        .remedy("use the prefix nginx.ingress.kubernetes.io/"),
        Fault::UnknownName | Fault::UnknownPrefix(_) => unknown("", fault),
    }
}

fn unsupported(entry: &Annotation, text: &str, effect: Effect, refused: &str) -> Diagnostic {
    let reason = entry.support.reason();
    let code = "annotation-unsupported";
    let remedy = "remove it if it is not needed, or keep this Ingress on a controller that has it";
    match (entry.lost, effect) {
        (Lost::DeniedIfGuarding, Effect::Ignored) => Diagnostic::warning(
            code,
            "it is not supported: the snippet is left out; it only changes how answers look, are buffered or logged",
        )
        .remedy("set headers by the annotations ingress-wasm.io/request-headers and ingress-wasm.io/response-headers"),
        (Lost::DeniedIfGuarding, _) => {
            let guard = super::snippet::directives(text)
                .map_or("it cannot be read", |_| "it could keep somebody out or change what the backend trusts");
            Diagnostic::error(code, format!("it is not supported; as {guard}, {refused}")).remedy(remedy)
        }
        (Lost::Ignored(Severity::Note), _) => Diagnostic::note(code, format!("it is not supported: {reason}")),
        (Lost::Ignored(severity), _) => {
            Diagnostic::new(severity, code, format!("it is not supported: {reason}")).remedy(remedy)
        }
        (Lost::NotServed | Lost::Denied, _) => {
            Diagnostic::error(code, format!("it is not supported: {reason} ({refused})")).remedy(remedy)
        }
    }
}

/// For keys that are not in the registry.
fn unknown(key: &str, fault: &Fault) -> Diagnostic {
    let code = "annotation-unknown";
    let (prefix, name) = key.split_once('/').unwrap_or((key, ""));
    if let Fault::UnknownPrefix(hint) = fault {
        let protects = lookup(name).is_some_and(|entry| entry.protects);
        let severity = if protects { Severity::Error } else { Severity::Warning };
        return Diagnostic::new(severity, code, "the prefix is unknown and the annotation is ignored")
            .remedy(format!("did you mean {hint}/{}?", name.escape_debug()));
    }
    let is_own = prefix == Prefix::Own.name();
    let suggestion = if is_own { nearest_own(name) } else { nearest(name) };
    match (suggestion, retired(name)) {
        (_, Some(instead)) if !is_own => Diagnostic::warning(
            code,
            "it is ignored, as the last releases of ingress-nginx do: they no longer have this annotation",
        )
        .remedy(instead),
        (Some(suggestion), _) => {
            let protects = lookup(suggestion).is_some_and(|entry| entry.protects);
            let severity = if protects { Severity::Error } else { Severity::Warning };
            Diagnostic::new(severity, code, "the annotation is unknown and ignored")
                .remedy(format!("did you mean `{suggestion}`?"))
        }
        (None, _) => Diagnostic::warning(code, "the annotation is unknown and ignored")
            .remedy("remove it, or look for its name in the list of annotations"),
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
pub(super) mod tests;
