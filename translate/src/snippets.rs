//! Snippets of Ingresses and of the ConfigMap as policies: which are allowed, what of them is honoured, and what
//! happens where something is not.
//!
//! Deliberately knows nothing of nginx's language: that is [`crate::snippet`].

use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm::config::{AnswerEdit, HeaderEdit, PolicySet, Script, ScriptBlock};

use crate::annotations::{AnnotationSet, GlobalDenial, GlobalSettings, Risk, Setting};
use crate::diagnostic::Diagnostic;
use crate::objects::{ConfigMap, Ingress, Kind, ObjectRef};
use crate::output::KEPT_BACK;
use crate::report::Report;
use crate::snippet::{self, Compiled, Compiler, Directive, Finding, Map, Place};

/// Headers that ingress-nginx sets for backends in each location: nginx sends a second line of them.
const STANDARD: &[&str] = &[
    "host",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-real-ip",
    "x-request-id",
    "x-scheme",
];

/// What is known of snippets before Ingresses are read.
#[derive(Debug, Default)]
pub struct Snippets {
    allowed: bool,
    risk: Option<Risk>,
    blocklist: Vec<String>,
    http: Compiled,
    server: Vec<Directive>,
    location: Vec<Directive>,
    /// Names of all variables that any snippet sets: nginx knows a variable everywhere.
    names: Vec<String>,
    /// Headers that nginx keeps back unless told otherwise, and that some snippet passes.
    pub passed: BTreeSet<String>,
    /// `hide-headers`
    hidden: Vec<String>,
}

impl Snippets {
    /// Reads the snippets of the ConfigMap; `names` are the variables in those of Ingresses. What guards and cannot be
    /// honoured denies all rules.
    pub fn read(
        map: Option<&ConfigMap>,
        settings: &GlobalSettings,
        hidden: &[String],
        mut names: BTreeSet<String>,
        denials: &mut Vec<GlobalDenial>,
        report: &mut Report,
    ) -> Self {
        let mut snippets = Snippets {
            allowed: settings.allow_snippet_annotations,
            risk: Some(settings.annotations_risk_level),
            blocklist: settings.annotation_value_word_blocklist.clone(),
            hidden: hidden.to_vec(),
            ..Snippets::default()
        };
        let mut texts = [Vec::new(), Vec::new(), Vec::new()];
        for (option, directives) in
            ["http-snippet", "server-snippet", "location-snippet"].iter().zip(&mut texts)
        {
            let Some((map, text)) = map.and_then(|map| Some((map, map.data.get(*option)?))) else { continue };
            match snippet::parse(text) {
                Ok(parsed) => {
                    names.extend(snippet::names(&parsed));
                    *directives = parsed;
                }
                Err(error) => {
                    denials.push(denial(option));
                    let diagnostic = Diagnostic::error(
                        "snippet-syntax",
                        format!("the snippet cannot be read ({error}): all rules answer 503"),
                    );
                    report.add(of_map(diagnostic, map, option).remedy("correct the snippet"));
                }
            }
        }
        let [http, server, location] = texts;
        snippets.names = names.into_iter().collect();
        let places = [
            ("http-snippet", &http, Place::Http),
            ("server-snippet", &server, Place::Server),
            ("location-snippet", &location, Place::Location),
        ];
        for (option, directives, place) in places {
            let compiled = snippets.compile(place, &[directives]);
            if let Some(map) = map {
                for finding in &compiled.findings {
                    let diagnostic = diagnostic(finding, "all rules answer 503");
                    report.add(of_map(diagnostic, map, option));
                }
            }
            if compiled.lost_guard().is_some() {
                denials.push(denial(option));
            }
            if place == Place::Http {
                snippets.http = compiled;
            }
        }
        (snippets.server, snippets.location) = (server, location);
        snippets
    }

    /// Why an Ingress is not served for the sake of its annotations' risk or words, if so.
    pub fn withholds(
        &self,
        ingress: &Ingress,
        annotations: &AnnotationSet<'_>,
        report: &mut Report,
    ) -> Option<String> {
        let mut reason = None;
        for setting in annotations.iter() {
            if self.risk.is_some_and(|level| setting.entry.risk > level) && !setting.text.trim().is_empty() {
                let consequence = format!(
                    "its risk ({}) is above annotations-risk-level of the ConfigMap: the Ingress is not served, as in \
                     ingress-nginx",
                    setting.entry.risk.name()
                );
                let diagnostic = Diagnostic::error("annotation-risk", consequence)
                    .remedy("remove the annotation, or set annotations-risk-level to a higher level");
                report.ingress(ingress, setting.line, field(diagnostic, setting.key));
                reason.get_or_insert_with(|| format!("the risk of {} is too high", setting.entry.name));
            } else if let Some(word) = self.blocklist.iter().find(|word| setting.text.contains(word.as_str()))
            {
                let consequence = format!(
                    "it holds `{word}`, a word of annotation-value-word-blocklist: the Ingress is not served, as in \
                     ingress-nginx"
                );
                let diagnostic = Diagnostic::error("annotation-word", consequence)
                    .remedy("write the value without that word, or take it off the list");
                report.ingress(ingress, setting.line, field(diagnostic, setting.key));
                reason.get_or_insert_with(|| format!("{} holds a forbidden word", setting.entry.name));
            }
        }
        reason
    }

    /// The policies that the snippets of the locations of an Ingress come to.
    pub fn location(
        &mut self,
        ingress: &Ingress,
        annotations: &AnnotationSet<'_>,
        set: &mut PolicySet,
        report: &mut Report,
    ) {
        let own = self.own(ingress, annotations, "configuration-snippet", report);
        let own = own.unwrap_or_else(|reason| {
            set.denied.get_or_insert(reason);
            Vec::new()
        });
        if own.is_empty() && self.location.is_empty() {
            return;
        }
        let text = self.compile(Place::Location, &[&own]);
        if let Some(setting) = annotations.get("configuration-snippet") {
            tell(ingress, &setting, &text, "all rules of this Ingress answer 503", report);
        }
        if let Some(reason) = text.lost_guard() {
            set.denied.get_or_insert(reason);
        }
        let both = self.compile(Place::Location, &[&own, &self.location]);
        self.apply(&both, set);
    }

    /// The `server-snippet` of an Ingress; an error says why the rules of its hosts are denied.
    ///
    /// # Errors
    ///
    /// Why the hosts are to be denied.
    pub fn server(
        &self,
        ingress: &Ingress,
        annotations: &AnnotationSet<'_>,
        report: &mut Report,
    ) -> Result<Vec<Directive>, String> {
        let own = self.own(ingress, annotations, "server-snippet", report)?;
        let compiled = self.compile(Place::Server, &[&own]);
        if let Some(setting) = annotations.get("server-snippet") {
            tell(ingress, &setting, &compiled, "all rules of the hosts of this Ingress answer 503", report);
        }
        compiled.lost_guard().map_or(Ok(own), Err)
    }

    /// What holds for a host: its own snippet and that of the ConfigMap.
    pub fn of_host(&mut self, own: &[Directive]) -> Option<Server> {
        if own.is_empty() && self.server.is_empty() && self.http.is_empty() {
            return None;
        }
        let compiled = self.compile(Place::Server, &[own, &self.server]);
        self.passed.extend(compiled.passed.iter().cloned());
        let script = snippet::script(&compiled, &[&self.http], &self.http.maps);
        let mut locations = Vec::with_capacity(compiled.locations.len());
        for location in &compiled.locations {
            let mut set = PolicySet { denied: location.inside.lost_guard(), ..PolicySet::default() };
            self.apply(&location.inside, &mut set);
            locations.push((location.modifier.clone(), location.path.clone(), set));
        }
        Some(Server { compiled, script, locations, maps: self.http.maps.clone(), names: self.names.clone() })
    }

    /// The directives of an annotation, if snippets are allowed.
    fn own(
        &self,
        ingress: &Ingress,
        annotations: &AnnotationSet<'_>,
        name: &str,
        report: &mut Report,
    ) -> Result<Vec<Directive>, String> {
        let Some(setting) = annotations.get(name).filter(Setting::asks) else { return Ok(Vec::new()) };
        let parsed = snippet::parse(setting.text);
        if !self.allowed {
            let guards = parsed.as_ref().map_or(true, |all| all.iter().any(|one| snippet::guards(&one.name)));
            let what = if guards {
                "all rules of this Ingress answer 503, since a directive in it may keep somebody out"
            } else {
                "it is left out"
            };
            let consequence =
                format!("snippets are not allowed (allow-snippet-annotations of the ConfigMap): {what}");
            let diagnostic = Diagnostic::error("snippet-not-allowed", consequence)
                .remedy("set allow-snippet-annotations to \"true\", or remove the snippet");
            report.ingress(ingress, setting.line, field(diagnostic, setting.key));
            return if guards { Err(format!("{name} is not allowed")) } else { Ok(Vec::new()) };
        }
        parsed.map_err(|error| {
            let consequence =
                format!("the snippet cannot be read ({error}): all rules of this Ingress answer 503");
            let diagnostic = Diagnostic::error("snippet-syntax", consequence).remedy("correct the snippet");
            report.ingress(ingress, setting.line, field(diagnostic, setting.key));
            format!("{name} cannot be read")
        })
    }

    fn compile(&self, place: Place, texts: &[&[Directive]]) -> Compiled {
        let mut compiler = Compiler::new(place, self.names.clone(), STANDARD);
        texts.iter().for_each(|directives| compiler.add(directives));
        compiler.finish()
    }

    /// Puts what a location comes to into its policies.
    fn apply(&mut self, compiled: &Compiled, set: &mut PolicySet) {
        set.script = snippet::script(compiled, &[], &self.http.maps);
        if let Some(script) = &mut set.script {
            declare(script, &self.names);
        }
        if let Some(any) = compiled.satisfy_any {
            set.satisfy_any = any;
        }
        if !compiled.hidden.is_empty() || !compiled.passed.is_empty() {
            let list = if compiled.hidden.is_empty() { &self.hidden } else { &compiled.hidden };
            let kept_back = KEPT_BACK.iter().map(|name| (*name).to_owned());
            let mut hidden: BTreeSet<String> = list.iter().map(|name| name.to_ascii_lowercase()).collect();
            hidden.extend(kept_back);
            hidden.retain(|name| !compiled.passed.contains(name));
            set.hidden_headers = Some(hidden.into_iter().collect());
            self.passed.extend(compiled.passed.iter().cloned());
        }
    }
}

/// The variables that the snippets of an Ingress name.
pub fn variables(annotations: &AnnotationSet<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for name in ["configuration-snippet", "server-snippet"] {
        let parsed = annotations.get(name).map(|setting| snippet::parse(setting.text));
        if let Some(Ok(directives)) = parsed {
            names.extend(snippet::names(&directives));
        }
    }
    names
}

/// What holds for all rules of a host.
#[derive(Debug)]
pub struct Server {
    compiled: Compiled,
    /// What is done before a rule is chosen.
    pub script: Option<Script>,
    /// Modifier, path and policies of each `location`.
    pub locations: Vec<(String, String, PolicySet)>,
    maps: BTreeMap<String, Map>,
    names: Vec<String>,
}

impl Server {
    /// Whether rules of the host have to be told of anything.
    pub fn is_inherited(&self) -> bool {
        let Compiled { access, hidden, satisfy_any, variables, .. } = &self.compiled;
        self.blocks().is_some()
            || !access.is_empty()
            || !hidden.is_empty()
            || satisfy_any.is_some()
            || !variables.is_empty()
    }

    fn blocks(&self) -> Option<&ScriptBlock> {
        self.script.as_ref()?.blocks.first()
    }

    /// Adds to the policies of a rule what it inherits. `more_…` headers come before those of the rule,
    /// `add_header`, `expires`, `allow` and `deny` hold where the rule has none.
    pub fn bequeath(&self, set: &mut PolicySet) {
        let Compiled { access, hidden, satisfy_any, .. } = &self.compiled;
        if set.hidden_headers.is_none() && !hidden.is_empty() {
            set.hidden_headers = Some(hidden.clone());
        }
        set.satisfy_any |= satisfy_any.unwrap_or(false);
        let mut script = set.script.take().unwrap_or_default();
        if script.access.is_empty() {
            script.access.clone_from(access);
        }
        if let Some(outer) = self.blocks() {
            if script.blocks.is_empty() {
                script.blocks.push(ScriptBlock::default());
            }
            script.blocks.iter_mut().for_each(|block| inherit(block, outer));
        }
        declare(&mut script, &self.names);
        let (names, steps) = snippet::map_steps(&script, &self.maps);
        for name in names {
            if !script.variables.contains(&name) {
                script.variables.push(name);
            }
        }
        if script.steps.is_empty() {
            script.steps = steps;
        }
        set.script = (script != Script::default()).then_some(script);
    }
}

fn inherit(block: &mut ScriptBlock, outer: &ScriptBlock) {
    let is_added = |edit: &AnswerEdit| matches!(edit.edit, HeaderEdit::Add { .. });
    let is_expiry = |edit: &AnswerEdit| {
        matches!(&edit.edit, HeaderEdit::Set { name, .. } if !edit.statuses.is_empty()
            && (name == "Expires" || name == "Cache-Control"))
    };
    let own = std::mem::take(&mut block.response_headers);
    let (adds, expires) = (own.iter().any(is_added), own.iter().any(is_expiry));
    let (last, first): (Vec<_>, Vec<_>) =
        outer.response_headers.iter().cloned().partition(|edit| is_added(edit) || is_expiry(edit));
    block.response_headers = first;
    block.response_headers.extend(own);
    // What both have is there already: the snippet of `http` is inherited by the rule too.
    let new: Vec<AnswerEdit> =
        last.into_iter().filter(|edit| if is_added(edit) { !adds } else { !expires }).collect();
    block.response_headers.extend(new);
    let inputs = outer.input_headers.iter().cloned().chain(std::mem::take(&mut block.input_headers));
    block.input_headers = inputs.collect();
}

/// Takes up the variables of others that a script names.
fn declare(script: &mut Script, names: &[String]) {
    let text = serde_json::to_string(script).unwrap_or_default();
    for name in names {
        if !script.variables.contains(name) && snippet::mentions(&text, name) {
            script.variables.push(name.clone());
        }
    }
    script.variables.sort();
}

fn denial(option: &'static str) -> GlobalDenial {
    GlobalDenial { option, reason: format!("{option} of the ConfigMap cannot be honoured"), waived_by: None }
}

/// Reports what is not done as written.
fn tell(ingress: &Ingress, setting: &Setting<'_>, compiled: &Compiled, denied: &str, report: &mut Report) {
    let inside = compiled.locations.iter().flat_map(|location| &location.inside.findings);
    for finding in &compiled.findings {
        report.ingress(ingress, setting.line, field(diagnostic(finding, denied), setting.key));
    }
    for finding in inside {
        let denied = "requests for this location answer 503";
        report.ingress(ingress, setting.line, field(diagnostic(finding, denied), setting.key));
    }
}

fn diagnostic(finding: &Finding, denied: &str) -> Diagnostic {
    const CODE: &str = "snippet-directive";
    let Finding { line, directive, reason, guards, harmless } = finding;
    let name: String = directive.chars().filter(|c| !c.is_control()).take(60).collect();
    let start = format!("line {line} of the snippet: `{name}`: {reason}");
    match (harmless, guards) {
        (true, _) => Diagnostic::note(CODE, start),
        (false, true) => Diagnostic::error(CODE, format!("{start}; as it may keep somebody out, {denied}"))
            .remedy("write it with the directives that docs/snippets.md lists, or remove it"),
        (false, false) => Diagnostic::warning(CODE, format!("{start}: it is left out"))
            .remedy("remove it if it is not needed"),
    }
}

/// Names the annotation; its value may hold secrets.
fn field(diagnostic: Diagnostic, key: &str) -> Diagnostic {
    diagnostic.field(format!("metadata.annotations[\"{key}\"]"), "")
}

fn of_map(diagnostic: Diagnostic, map: &ConfigMap, option: &str) -> Diagnostic {
    let object = ObjectRef { kind: Kind::ConfigMap, name: map.metadata.name.clone() };
    diagnostic.object(object, map.metadata.source.clone()).field(format!("data[\"{option}\"]"), "")
}
