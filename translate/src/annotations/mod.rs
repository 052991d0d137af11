//! The registry of annotations and ConfigMap options: for each its name, its grammar, whom it holds for, and
//! how far it is honoured. Diagnostics, the reference page, suggestions for misspelt names and what becomes
//! of an Ingress with a wrong value are all made from these tables, so that they cannot say different things.
//!
//! Deliberately knows nothing of how an honoured annotation is carried out: that is the translator's.

mod auth;
mod check;
mod config_machinery;
mod config_map;
mod config_table;
mod docs;
mod grammar;
mod headers;
mod limits;
mod nearest;
mod observability;
mod own;
mod routing;
mod set;
mod snippet;
mod snippets;
mod text;
mod tls;
mod traffic;

use std::sync::LazyLock;

use crate::diagnostic::Severity;

pub use check::{Effect, Verdict, check_annotations, check_annotations_with, verdict};
pub use config_map::{
    ConfigOption, GlobalDenial, GlobalSettings, check_config_map, config_option, config_options,
    global_denials,
};
pub use docs::annotations_markdown;
pub use grammar::{HeaderLine, InvalidValue, Value, ValueGrammar};
pub use ingress_wasm::policy::Network;
pub use nearest::{Prefix, nearest, prefix_hint, split};
pub use set::{AnnotationSet, Setting};
pub use text::{parse_bool, parse_integer, parse_milliseconds, parse_seconds, parse_size};

/// One annotation: everything that is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Annotation {
    /// Name without prefix.
    pub name: &'static str,
    /// The chapter of the reference page it belongs to.
    pub group: Group,
    /// What one setting of it holds for.
    pub scope: Scope,
    /// Which values it may have.
    pub value: ValueGrammar,
    /// How far it is honoured.
    pub support: Support,
    /// What ingress-nginx does with a value that breaks the grammar.
    pub on_invalid: OnInvalid,
    /// It keeps somebody or something out: a mistake in it must never open anything. An invalid value is
    /// answered by denying, unless `safe_if_invalid`; one that is not honoured by what `lost` says.
    pub protects: bool,
    /// For what protects: the default that holds for an invalid value keeps out as much as any value would,
    /// so such a value is ignored as ingress-nginx does.
    pub safe_if_invalid: bool,
    /// An empty value is a mistake of an author who wanted protection, rather than a way to say "unset".
    pub empty_is_mistake: bool,
    /// What becomes of an Ingress that asks for it, as long as it is not honoured.
    pub lost: Lost,
    /// Values that ask for nothing beyond what holds without the annotation.
    pub neutral: &'static [&'static str],
    /// Values that are not honoured although the annotation is.
    pub refused: &'static [&'static str],
    /// Annotations without at least one of which ingress-nginx does not use this one. Empty: it stands alone.
    pub needs: &'static [&'static str],
    /// The name that this one is another spelling of.
    pub alias_of: Option<&'static str>,
    /// How much an author of Ingresses can do with it, as ingress-nginx ranks it.
    pub risk: Risk,
    /// What it is for. One sentence.
    pub summary: &'static str,
    /// A value that someone would write. Parses by `value`.
    pub example: &'static str,
}

/// What of snippets is honoured.
const SNIPPET_SUBSET: &str = "the directives that docs/snippets.md lists are honoured; of others those that may keep somebody out \
                              make the rules answer 503, the rest is left out";

/// What the tables start from. Every entry sets at least name, grammar, summary and example.
const BASE: Annotation = Annotation {
    name: "",
    group: Group::Routing,
    scope: Scope::Rule,
    value: ValueGrammar::Boolean,
    support: Support::NotSupported(""),
    on_invalid: OnInvalid::Ignored,
    protects: false,
    safe_if_invalid: false,
    empty_is_mistake: false,
    lost: Lost::Ignored(Severity::Warning),
    neutral: &[],
    refused: &[],
    needs: &[],
    alias_of: None,
    risk: Risk::Low,
    summary: "",
    example: "",
};

impl Annotation {
    /// Reads a value by the grammar of this annotation.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] says what is wrong with it. An empty value is [`InvalidValue::Empty`].
    pub fn parse(&self, value: &str) -> Result<Value, InvalidValue> {
        self.value.parse(value)
    }

    /// Whether the value asks for nothing beyond what holds without the annotation.
    pub fn is_neutral(&self, value: &str) -> bool {
        self.value.is_among(value, self.neutral)
    }

    /// Whether the value is one that is not honoured although the annotation is.
    pub fn is_refused(&self, value: &str) -> bool {
        self.value.is_among(value, self.refused)
    }

    /// What becomes of an Ingress whose value for this annotation is invalid.
    pub fn effect_if_invalid(&self, fault: &InvalidValue) -> Effect {
        match (fault, self.on_invalid) {
            (InvalidValue::Empty, _) if !self.empty_is_mistake => Effect::Ignored,
            // The validator of ingress-nginx lets it pass, nginx gets no directive: its own default holds.
            (InvalidValue::UnknownUnit, _) => Effect::Ignored,
            _ if self.protects && !self.safe_if_invalid => match (fault, self.on_invalid) {
                // ingress-nginx takes an empty value for none, and lets everybody in.
                (InvalidValue::Empty, _) => Effect::Denied,
                // Its validator looks at the characters of a URL only; the rest denies.
                (InvalidValue::Malformed, _) if self.value == ValueGrammar::AuthUrl => Effect::Denied,
                (_, OnInvalid::DropsIngress) => Effect::Withheld,
                _ => Effect::Denied,
            },
            (_, OnInvalid::DropsIngress) => Effect::NotServed,
            (_, OnInvalid::DeniesRule) => Effect::Denied,
            (_, OnInvalid::Ignored) => Effect::Ignored,
        }
    }

    /// What becomes of an Ingress that asks for this annotation with this (valid) value while it is not
    /// honoured.
    pub fn effect_if_lost(&self, value: &str) -> Effect {
        match self.lost {
            Lost::Ignored(_) => Effect::Ignored,
            Lost::NotServed => Effect::NotServed,
            Lost::Denied => Effect::Denied,
            Lost::DeniedIfGuarding if snippet::guards(value) => Effect::Denied,
            Lost::DeniedIfGuarding => Effect::Ignored,
        }
    }
}

/// The chapters of the reference page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Paths, rewrites, redirects, default backends.
    Routing,
    /// Who may come in.
    Auth,
    /// Headers of requests and answers, cookies, CORS.
    Headers,
    /// Timeouts, retries, load balancing, canaries, mirroring, buffers.
    Traffic,
    /// TLS with clients and with backends.
    Tls,
    /// Sizes, rates and addresses.
    Limits,
    /// Logs and traces.
    Observability,
    /// Pieces of nginx configuration and ModSecurity.
    Snippets,
    /// Our own, under the prefix `ingress-wasm.io/`.
    Own,
}

impl Group {
    /// All chapters in the order of the page.
    pub const ALL: [Group; 9] = [
        Group::Routing,
        Group::Auth,
        Group::Headers,
        Group::Traffic,
        Group::Tls,
        Group::Limits,
        Group::Observability,
        Group::Snippets,
        Group::Own,
    ];

    /// The title of the chapter.
    pub fn title(self) -> &'static str {
        match self {
            Group::Routing => "Routing, rewrites and redirects",
            Group::Auth => "Authentication",
            Group::Headers => "Headers, cookies and CORS",
            Group::Traffic => "Backends and traffic",
            Group::Tls => "TLS",
            Group::Limits => "Limits and addresses",
            Group::Observability => "Logs and traces",
            Group::Snippets => "Snippets and ModSecurity",
            Group::Own => "Annotations of this project",
        }
    }
}

/// What one setting of an annotation holds for, as ingress-nginx applies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The paths of the Ingress (nginx location).
    Rule,
    /// All paths of the hosts that the Ingress names, those of other Ingresses too (nginx server).
    Host,
    /// All uses of the Services that the Ingress names (upstream).
    Service,
    /// The Ingress as an object.
    Ingress,
}

impl Scope {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Rule => "rule",
            Scope::Host => "host",
            Scope::Service => "Service",
            Scope::Ingress => "Ingress",
        }
    }
}

/// How far an annotation or option is honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// As ingress-nginx does.
    Exact,
    /// Honoured, with this difference.
    Differs(&'static str),
    /// Read and needing nothing, for this reason.
    NoEffect(&'static str),
    /// Not honoured; what happens without it.
    NotSupported(&'static str),
}

impl Support {
    /// Name of the level.
    pub fn level(self) -> &'static str {
        match self {
            Support::Exact => "exact",
            Support::Differs(_) => "differs",
            Support::NoEffect(_) => "no effect",
            Support::NotSupported(_) => "not supported",
        }
    }

    /// The difference or reason; empty where there is none.
    pub fn reason(self) -> &'static str {
        match self {
            Support::Exact => "",
            Support::Differs(reason) | Support::NoEffect(reason) | Support::NotSupported(reason) => reason,
        }
    }
}

/// What ingress-nginx does with an invalid value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInvalid {
    /// The whole Ingress is not configured.
    DropsIngress,
    /// The paths of the Ingress answer 503.
    DeniesRule,
    /// The default holds. For some that protect this switches the protection off.
    Ignored,
}

/// What becomes of an Ingress that asks for something that is not honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Served without it; how grave that is.
    Ignored(Severity),
    /// Not served.
    NotServed,
    /// Its rules answer 503, or all rules of its hosts where the scope is [`Scope::Host`].
    Denied,
    /// A snippet: denied if a directive in it could keep somebody out, else served without it.
    DeniedIfGuarding,
}

/// Risk levels of ingress-nginx (`annotations-risk-level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Risk {
    /// A few fixed values.
    Low,
    /// Text of a narrow alphabet.
    Medium,
    /// Regular expressions or nginx variables.
    High,
    /// Anything at all.
    Critical,
}

impl Risk {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Risk::Low => "low",
            Risk::Medium => "medium",
            Risk::High => "high",
            Risk::Critical => "critical",
        }
    }
}

static ALL: LazyLock<Vec<Annotation>> = LazyLock::new(|| {
    let groups = [
        routing::ENTRIES,
        auth::ENTRIES,
        headers::ENTRIES,
        traffic::ENTRIES,
        traffic::CANARY,
        tls::ENTRIES,
        limits::ENTRIES,
        observability::ENTRIES,
        snippets::ENTRIES,
    ];
    let mut all: Vec<Annotation> = groups.into_iter().flatten().copied().collect();
    all.sort_by_key(|entry| entry.name);
    all
});

/// All annotations of ingress-nginx, sorted by name.
pub fn all() -> &'static [Annotation] {
    &ALL
}

/// The annotations of this project, sorted by name.
pub fn own() -> &'static [Annotation] {
    own::ENTRIES
}

/// The annotation of ingress-nginx with this name (without prefix).
pub fn lookup(name: &str) -> Option<&'static Annotation> {
    let all = all();
    all.binary_search_by_key(&name, |entry| entry.name).ok().and_then(|position| all.get(position))
}

/// The annotation of this project with this name (without prefix).
pub fn lookup_own(name: &str) -> Option<&'static Annotation> {
    own().iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests;
