//! Gathers the rules of all Ingresses by host, as ingress-nginx builds its servers (`controller.go`): the
//! older Ingress wins a path, one that asks for expressions changes all paths of its hosts, and what no rule
//! takes has the policies of the first Ingress that names the host.

use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm::config::{
    Action, Alias, Host, Location, PathMatching, PathType, PolicySet, Rewrite, Rule, Script,
};
use ingress_wasm::router::check_expression;

use crate::annotations::AnnotationSet;
use crate::backends::{Backends, Place};
use crate::diagnostic::Diagnostic;
use crate::exemptions::PathPolicies;
use crate::objects::{self, Ingress, IngressBackend, IngressPath, IngressRule, ObjectName};
use crate::policies::{IngressPolicies, Policies};
use crate::report::Report;
use crate::snippet::Directive;
use crate::snippets::Snippets;

/// The name of the host entry for requests that no other takes.
pub const ANY_HOST: &str = "*";
/// Where the catch-all server of ingress-nginx answers health checks.
const HEALTH_PATH: &str = "/healthz";

/// The hosts so far.
#[derive(Default)]
pub struct Hosts {
    hosts: BTreeMap<String, HostRules>,
    /// The backend of an Ingress without rules: the first one takes what no rule does.
    catch_all: Option<Rule>,
    /// What becomes of requests that no rule takes, unless an Ingress says; none: 404.
    default: Option<Action>,
}

#[derive(Default)]
struct HostRules {
    /// Where `/` is redirected, and the path whose Ingress says so: the longest, of the same length the
    /// greatest, since that is the order in which ingress-nginx writes them.
    app_root: Option<(String, String)>,
    /// The same of the Ingress that `unmatched` is from.
    unmatched_app_root: Option<String>,
    /// An Ingress with a TLS section names it.
    tls: bool,
    /// The hosts that the first such Ingress lists there.
    tls_hosts: Vec<String>,
    /// Further names, and the Ingress they come from: the first that has some.
    aliases: Option<(ObjectName, Vec<String>)>,
    /// An Ingress that asks for the redirect between the names with and without `www.`.
    from_to_www: Option<ObjectName>,
    expressions: bool,
    /// Positions of Prefix rules that do not ask for expressions.
    plain_prefixes: Vec<usize>,
    /// The `server-snippet` of the first Ingress that has one.
    snippet: Option<(ObjectName, Vec<Directive>)>,
    script: Option<Script>,
    locations: Vec<Location>,
    /// What no rule takes: from the first Ingress that names the host.
    unmatched: Option<Rule>,
    rules: Vec<Rule>,
    /// Every rule is denied, those of other Ingresses too: why.
    denied: Option<String>,
    /// But those of these Ingresses, which nobody is served by.
    withheld: BTreeSet<String>,
    /// Which Ingress has a path, and where in it.
    owners: BTreeMap<(String, PathType), ObjectName>,
    /// Where expressions were written, to check them once the host is complete.
    places: Vec<(ObjectName, String, u32)>,
}

/// An Ingress on its way into the hosts.
pub struct Entrant<'a> {
    /// The Ingress.
    pub ingress: &'a Ingress,
    /// Its policies.
    pub policies: &'a IngressPolicies,
    /// The cluster that answers where a Service of its has no endpoints (`default-backend`).
    pub stand_in: Option<&'a str>,
    /// Why its rules answer 404 and nothing else of it holds, if they do.
    pub withheld: Option<&'a str>,
    /// Their positions in the configuration.
    pub positions: &'a PathPolicies<'a>,
}

impl Hosts {
    /// What no rule takes goes to this Service.
    pub fn default_to(&mut self, cluster: String, service: &ObjectName) {
        let service =
            if cluster.starts_with(&format!("{service}:")) { String::new() } else { service.to_string() };
        self.default = Some(Action::Forward { cluster, service, balancing: None });
    }

    /// Adds the rules of an Ingress. Ingresses come in order of age.
    pub fn add(&mut self, entrant: &Entrant<'_>, backends: &mut Backends<'_>, report: &mut Report) {
        let ingress = entrant.ingress;
        let default = ingress.default_backend.as_ref().map(|backend| {
            let place = Place { ingress, field: "spec.defaultBackend".to_owned(), line: 0 };
            entrant.action(&place, backend, backends, report)
        });
        if ingress.rules.is_empty() {
            match (default.filter(|_| entrant.withheld.is_none()), &self.catch_all) {
                (None, _) => {}
                (Some(action), None) => {
                    self.catch_all = Some(entrant.rule("/".to_owned(), PathType::Prefix, action));
                }
                (Some(_), Some(first)) => {
                    let consequence = format!(
                        "another Ingress that comes first ({}) has the default backend of the hosts that nobody \
                         names: this one is not served",
                        first.ingress
                    );
                    let diagnostic = Diagnostic::warning("default-backend-conflict", consequence)
                        .field("spec.defaultBackend", "")
                        .remedy("remove one of the two");
                    report.ingress(ingress, 0, diagnostic);
                }
            }
            return;
        }
        let fallback = default.clone().or_else(|| self.default.clone());
        for (index, rule) in ingress.rules.iter().enumerate() {
            let name = host_name(rule);
            let host = self.hosts.entry(name.clone()).or_default();
            // The hosts that nobody names have their implicit `/` before any Ingress is looked at: it has the
            // annotations of none.
            if name != ANY_HOST || default.is_some() {
                host.unmatched.get_or_insert_with(|| {
                    let nothing =
                        || Action::Respond { status: 404, reason: "no rule takes this path".to_owned() };
                    host.unmatched_app_root.clone_from(&entrant.policies.app_root);
                    entrant.rule("/".to_owned(), PathType::Prefix, fallback.clone().unwrap_or_else(nothing))
                });
            }
            if name != ANY_HOST && !ingress.tls.is_empty() && !host.tls {
                host.tls = true;
                host.tls_hosts = ingress.tls.iter().flat_map(|tls| tls.hosts.clone()).collect();
            }
            host.add_aliases(&name, entrant, report);
            for (position, path) in rule.paths.iter().enumerate() {
                let field = format!("spec.rules[{index}].http.paths[{position}]");
                host.add_path(&name, entrant, path, field, backends, report);
            }
        }
    }

    /// Denies all rules of the hosts that an Ingress names, whatever Ingress they are of: it asks for a
    /// protection of whole hosts that cannot be honoured. Its own are left alone if they are `withheld`.
    pub fn deny(&mut self, ingress: &Ingress, reason: &str, withheld: bool) {
        for rule in &ingress.rules {
            let host = self.hosts.entry(host_name(rule)).or_default();
            host.withheld.extend(withheld.then(|| ingress.metadata.name.to_string()));
            host.denied.get_or_insert_with(|| reason.to_owned());
        }
    }

    /// Adds the snippet of an Ingress to its hosts; of each the first one counts.
    pub fn add_snippet(&mut self, ingress: &Ingress, directives: &[Directive], report: &mut Report) {
        if directives.is_empty() {
            return;
        }
        let own = &ingress.metadata.name;
        for rule in &ingress.rules {
            let name = host_name(rule);
            let host = self.hosts.entry(name.clone()).or_default();
            let (owner, _) = host.snippet.get_or_insert_with(|| (own.clone(), directives.to_vec()));
            if owner == own {
                continue;
            }
            let consequence =
                format!("the snippet is left out: that of an older Ingress ({owner}) holds for {name}");
            let diagnostic = Diagnostic::error("snippet-conflict", consequence)
                .remedy("write the snippets of the host into one Ingress");
            let set = AnnotationSet::of(ingress, None);
            let setting = set.get("server-snippet");
            let key = setting.map_or("server-snippet", |setting| setting.key);
            let field = format!("metadata.annotations[\"{key}\"]");
            report.ingress(ingress, setting.map_or(0, |setting| setting.line), diagnostic.field(field, ""));
        }
    }

    /// Gives hosts the snippets that hold for all their rules.
    fn apply_snippets(&mut self, snippets: &mut Snippets, policies: &mut Policies) {
        for host in self.hosts.values_mut() {
            let own = host.snippet.as_ref().map_or(&[][..], |(_, directives)| directives);
            let Some(server) = snippets.of_host(own) else { continue };
            if server.is_inherited() {
                for rule in host.rules.iter_mut().chain(&mut host.unmatched) {
                    rule.policies = policies.changed(rule.policies, |set| server.bequeath(set));
                }
            }
            let ingress = host.snippet.as_ref().map_or(String::new(), |(owner, _)| owner.to_string());
            for (modifier, path, mut set) in server.locations.clone() {
                server.bequeath(&mut set);
                let reason = "a location of a server-snippet without a backend".to_owned();
                let rule = Rule {
                    ingress: ingress.clone(),
                    path,
                    path_type: PathType::Prefix,
                    policies: policies.position(set),
                    action: Action::Respond { status: 404, reason },
                };
                host.locations.push(Location { modifier, rule });
            }
            host.script = server.script;
        }
    }

    /// The hosts of the configuration, by name. `nobody`: the policies of requests that no Ingress takes.
    pub fn finish(
        mut self,
        nobody: PolicySet,
        snippets: &mut Snippets,
        policies: &mut Policies,
        report: &mut Report,
        ingresses: &Ingresses<'_>,
    ) -> Vec<Host> {
        let any = self.hosts.entry(ANY_HOST.to_owned()).or_default();
        let [nobody, plain] = [nobody, PolicySet::default()].map(|set| policies.position(set));
        let respond = |status, path: &str, path_type, policies, reason: &str| Rule {
            ingress: String::new(),
            path: path.to_owned(),
            path_type,
            policies,
            action: Action::Respond { status, reason: reason.to_owned() },
        };
        if let Some(catch_all) = self.catch_all.take() {
            any.unmatched = Some(catch_all);
        } else if any.unmatched.is_none() {
            let mut rule = respond(404, "/", PathType::Prefix, nobody, "no Ingress names this host");
            rule.action = self.default.take().unwrap_or(rule.action);
            any.unmatched = Some(rule);
        }
        let taken = |path_type| any.owners.contains_key(&(HEALTH_PATH.to_owned(), path_type));
        if !taken(PathType::Exact) && !taken(PathType::Prefix) {
            any.rules.push(respond(
                200,
                HEALTH_PATH,
                PathType::Exact,
                plain,
                "health check of load balancers",
            ));
        }
        self.apply_snippets(snippets, policies);
        for host in self.hosts.values_mut() {
            let Some(reason) = host.denied.take() else { continue };
            (host.script, host.locations) = (None, Vec::new());
            let position = policies.position(PolicySet { denied: Some(reason), ..PolicySet::default() });
            let all = host.rules.iter_mut().chain(&mut host.unmatched);
            all.filter(|rule| !host.withheld.contains(&rule.ingress))
                .for_each(|rule| rule.policies = position);
        }
        let redirects = self.redirects(report, ingresses);
        self.check_aliases(&redirects, report, ingresses);
        let hosts = self.hosts.into_iter().map(|(name, host)| host.finish(name, report, ingresses));
        let mut hosts: Vec<Host> = hosts.chain(redirects).collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts
    }

    /// The hosts that only redirect, to the name with or without `www.` (`BuildRedirects` of ingress-nginx).
    fn redirects(&self, report: &mut Report, ingresses: &Ingresses<'_>) -> Vec<Host> {
        let mut redirects = Vec::new();
        for (to, host) in &self.hosts {
            let Some(owner) = &host.from_to_www else { continue };
            let from = to.strip_prefix("www.").map_or_else(|| format!("www.{to}"), str::to_owned);
            let obstacle = if self.hosts.contains_key(&from) {
                "which an Ingress names as a host"
            } else if from.contains('*') {
                "which is no name"
            } else {
                redirects.push(Host {
                    name: from,
                    path_matching: PathMatching::Elements,
                    app_root: None,
                    tls: false,
                    aliases: Vec::new(),
                    redirect_to: Some(to.clone()),
                    client_certificate: None,
                    script: None,
                    locations: Vec::new(),
                    rules: Vec::new(),
                });
                continue;
            };
            let consequence = format!("there is no redirect from {from}, {obstacle}");
            let diagnostic = Diagnostic::warning("host-conflict", consequence)
                .remedy("set from-to-www-redirect to \"false\", or remove the rules for the other name");
            report_annotation(owner, "from-to-www-redirect", diagnostic, report, ingresses);
        }
        redirects
    }

    /// Takes away aliases that are names of hosts, or aliases of a host that comes before in the alphabet: the
    /// order in which ingress-nginx writes its servers, of which nginx takes the first.
    fn check_aliases(&mut self, redirects: &[Host], report: &mut Report, ingresses: &Ingresses<'_>) {
        let mut taken: BTreeMap<String, String> = self.hosts.keys().map(|n| (n.clone(), n.clone())).collect();
        taken.extend(redirects.iter().map(|host| (host.name.clone(), host.name.clone())));
        // The catch-all server is called `_` there.
        let name = |host: &str| if host == ANY_HOST { "_".to_owned() } else { host.to_owned() };
        let mut hosts: Vec<_> = self.hosts.iter_mut().collect();
        hosts.sort_by_key(|(host, _)| name(host));
        for (host, rules) in hosts {
            let Some((owner, aliases)) = &mut rules.aliases else { continue };
            aliases.retain(|alias| {
                if alias == host {
                    return false;
                }
                let Some(other) = taken.get(alias) else {
                    taken.insert(alias.clone(), host.clone());
                    return true;
                };
                let consequence =
                    format!("the alias {alias} is passed over: it is a name of the host {other}");
                let diagnostic = Diagnostic::warning("host-conflict", consequence)
                    .remedy("remove the alias, or the rules for the host of that name");
                report_annotation(owner, "server-alias", diagnostic, report, ingresses);
                false
            });
        }
    }
}

/// The Ingresses by name, for diagnostics that come late.
pub type Ingresses<'a> = BTreeMap<&'a ObjectName, &'a Ingress>;

impl Entrant<'_> {
    /// What a rule with this backend does. A Service without endpoints is 503 before anybody is asked who they
    /// are, as in ingress-nginx; without authentication Envoy says so, which is one change less to publish.
    fn action(
        &self,
        place: &Place<'_>,
        backend: &IngressBackend,
        backends: &mut Backends<'_>,
        report: &mut Report,
    ) -> Action {
        let IngressPolicies { connect_timeout, set, .. } = self.policies;
        let action = backends.action(place, backend, *connect_timeout, self.stand_in, report);
        let authenticates = set.basic_auth.is_some() || set.external_auth.is_some();
        match &action {
            Action::Forward { cluster, .. } if authenticates && backends.is_empty(cluster) => {
                Action::Respond { status: 503, reason: "the Service has no endpoints".to_owned() }
            }
            _ => action,
        }
    }

    fn rule(&self, path: String, path_type: PathType, action: Action) -> Rule {
        let action = match self.withheld {
            Some(reason) => Action::Respond { status: 404, reason: reason.to_owned() },
            None => action,
        };
        let ingress = self.ingress.metadata.name.to_string();
        let policies = self.positions.position(&path);
        Rule { ingress, path, path_type, policies, action }
    }
}

/// Reports what is to be said of an annotation, under whichever prefix it stands.
fn report_annotation(
    owner: &ObjectName,
    name: &str,
    diagnostic: Diagnostic,
    report: &mut Report,
    ingresses: &Ingresses<'_>,
) {
    let Some(ingress) = ingresses.get(owner) else { return };
    let set = AnnotationSet::of(ingress, None);
    report.annotation(ingress, set.get(name).map_or(name, |setting| setting.key), diagnostic);
}

impl HostRules {
    /// Only the first Ingress with aliases gives its host names.
    fn add_aliases(&mut self, host: &str, entrant: &Entrant<'_>, report: &mut Report) {
        let (ingress, aliases) = (entrant.ingress, &entrant.policies.aliases);
        if aliases.is_empty() {
            return;
        }
        match &self.aliases {
            None => self.aliases = Some((ingress.metadata.name.clone(), aliases.clone())),
            Some((owner, _)) if *owner == ingress.metadata.name => {}
            Some((owner, _)) => {
                let consequence = format!(
                    "the aliases are not served: those of an older Ingress ({owner}) hold for {host}"
                );
                let diagnostic = Diagnostic::warning("alias-conflict", consequence)
                    .remedy("name all aliases of the host in one Ingress");
                let set = AnnotationSet::of(ingress, None);
                let key = set.get("server-alias").map_or("server-alias", |setting| setting.key);
                report.annotation(ingress, key, diagnostic);
            }
        }
    }

    /// Whether the certificate is taken to cover an alias: the TLS section lists it, or the wildcard above.
    fn covers(&self, alias: &str) -> bool {
        let wildcard = alias.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let is_alias = |host: &String| host.eq_ignore_ascii_case(alias);
        let is_wildcard = |host: &String| wildcard.as_ref().is_some_and(|w| host.eq_ignore_ascii_case(w));
        self.tls_hosts.iter().any(|host| is_alias(host) || is_wildcard(host))
    }

    fn add_path(
        &mut self,
        host: &str,
        entrant: &Entrant<'_>,
        path: &IngressPath,
        field: String,
        backends: &mut Backends<'_>,
        report: &mut Report,
    ) {
        let ingress = entrant.ingress;
        let text = path.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        let path_type = path_type(path);
        if let Some(backend) = &path.backend
            && let Some(owner) = backends.canary_of(ingress, backend)
        {
            let consequence = format!(
                "the path is not served: an Ingress that comes first ({owner}) makes its Service a canary"
            );
            let diagnostic = Diagnostic::error("canary-conflict", consequence)
                .field(format!("{field}.backend"), &backend.service)
                .remedy("give the canary a Service of its own");
            report.ingress(ingress, path.line, diagnostic);
            return;
        }
        let key = (text.clone(), path_type);
        if let Some(owner) = self.owners.get(&key) {
            let by = if *owner == ingress.metadata.name {
                "an earlier path of the same Ingress"
            } else {
                "another Ingress that comes first"
            };
            let consequence = format!("{by} ({owner}) has the same host and path: this one is not served");
            let diagnostic = Diagnostic::warning("path-conflict", consequence)
                .field(format!("{field}.path"), &format!("{host}{text}"))
                .remedy("remove one of the two, or give them different paths");
            report.ingress(ingress, path.line, diagnostic);
            return;
        }
        let action = match &path.backend {
            Some(backend) => {
                let place = Place { ingress, field: format!("{field}.backend"), line: path.line };
                entrant.action(&place, backend, backends, report)
            }
            None => {
                let consequence = "the path names no Service: requests are answered 503";
                let diagnostic = Diagnostic::warning("backend-missing", consequence)
                    .field(format!("{field}.backend"), "")
                    .remedy("name a Service and a port");
                report.ingress(ingress, path.line, diagnostic);
                Action::Respond { status: 503, reason: "the path names no Service".to_owned() }
            }
        };
        if entrant.policies.from_to_www && host != ANY_HOST {
            self.from_to_www.get_or_insert_with(|| ingress.metadata.name.clone());
        }
        self.owners.insert(key, ingress.metadata.name.clone());
        if let Some(root) = &entrant.policies.app_root {
            let rank = |path: &str| (path.len(), path.to_owned());
            if self.app_root.as_ref().is_none_or(|(held, _)| rank(&text) > rank(held)) {
                self.app_root = Some((text.clone(), root.clone()));
            }
        }
        let asks = entrant.policies.use_regex || rewrites(entrant.policies, &text);
        self.expressions |= asks;
        if !asks && path_type == PathType::Prefix {
            self.plain_prefixes.push(self.rules.len());
        }
        self.places.push((ingress.metadata.name.clone(), field, path.line));
        self.rules.push(entrant.rule(text, path_type, action));
    }

    fn finish(mut self, name: String, report: &mut Report, ingresses: &Ingresses<'_>) -> Host {
        let path_matching = if self.expressions { PathMatching::Expressions } else { PathMatching::Elements };
        if self.expressions {
            self.check_expressions(report, ingresses);
            self.leave_to_exact();
        }
        // A rule of its own for all paths takes the place of what holds for unmatched ones.
        let mut app_root = self.app_root.take().map(|(_, root)| root);
        if !self.owners.contains_key(&("/".to_owned(), PathType::Prefix)) {
            self.rules.extend(self.unmatched.take());
            app_root = app_root.or(self.unmatched_app_root.take());
        }
        if self.expressions {
            // The implicit `/` is the first location of a server: of two for `/` it hides the other.
            self.rules.sort_by_key(|rule| (rule.path_type, &*rule.path) != (PathType::Prefix, "/"));
        }
        let covered = |alias: &String| self.tls && !alias.starts_with('~') && self.covers(alias);
        let aliases = self.aliases.iter().flat_map(|(_, aliases)| aliases);
        let aliases = aliases.map(|alias| Alias { name: alias.clone(), tls: covered(alias) }).collect();
        Host {
            name,
            path_matching,
            app_root,
            tls: self.tls,
            aliases,
            redirect_to: None,
            client_certificate: None,
            script: self.script,
            locations: self.locations,
            rules: self.rules,
        }
    }

    /// A Prefix rule that does not ask for expressions itself, and that comes before an Exact one for the same
    /// path, leaves the path itself to that one (`location.go`): it takes what lies below.
    fn leave_to_exact(&mut self) {
        for &position in &self.plain_prefixes {
            let Some((rule, after)) = self.rules.get_mut(position..).and_then(<[_]>::split_first_mut) else {
                continue;
            };
            let twin = |other: &Rule| other.path_type == PathType::Exact && other.path == rule.path;
            if !rule.path.ends_with('/') && after.iter().any(twin) {
                rule.path.push('/');
            }
        }
    }

    /// Reports expressions that cannot be matched. The filter answers their literal beginning with 503.
    fn check_expressions(&self, report: &mut Report, ingresses: &Ingresses<'_>) {
        for (rule, (owner, field, line)) in self.rules.iter().zip(&self.places) {
            let Err(error) = check_expression(&rule.path) else { continue };
            let consequence = format!("the path is not a regular expression that can be matched: {error}");
            let diagnostic = Diagnostic::error("expression-invalid", consequence)
                .field(format!("{field}.path"), &rule.path)
                .remedy("correct the expression; until then requests that begin like it are answered 503");
            if let Some(ingress) = ingresses.get(owner) {
                report.ingress(ingress, *line, diagnostic);
                report.reject(ingress);
            }
        }
    }
}

/// How a path is meant.
pub fn path_type(path: &IngressPath) -> PathType {
    match path.path_type {
        Some(objects::PathType::Exact) => PathType::Exact,
        _ => PathType::Prefix,
    }
}

/// A rewrite to another text than the path makes ingress-nginx write the path as an expression.
fn rewrites(policies: &IngressPolicies, path: &str) -> bool {
    matches!(&policies.set.rewrite, Some(Rewrite::Path { target, .. }) if target != path)
}

/// All names of the hosts of an Ingress; empty stands for any name.
pub fn names(ingress: &Ingress, aliases: &[String]) -> BTreeSet<String> {
    let hosts =
        ingress.rules.iter().map(|rule| rule.host.as_deref().unwrap_or_default().to_ascii_lowercase());
    hosts.chain(aliases.iter().cloned()).collect()
}

/// The host of a rule as the configuration names it.
pub fn host_name(rule: &IngressRule) -> String {
    match rule.host.as_deref() {
        None | Some("") => ANY_HOST.to_owned(),
        Some(host) => host.to_ascii_lowercase(),
    }
}
