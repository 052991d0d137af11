//! Which Service is the canary of which, and what that means for the rules: `mergeAlternativeBackends` of
//! ingress-nginx. It comes last, when it is known which rules there are.

use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm::config::{Action, Balancing, Canary, Host, PathType, Rule};

use crate::backends::{Backends, Place};
use crate::diagnostic::Diagnostic;
use crate::hosts::{ANY_HOST, host_name, path_type};
use crate::objects::{Ingress, IngressBackend};
use crate::report::Report;
use crate::upstreams::{Admitted, CanaryRules, Upstream, service_port};

/// A canary of a Service.
#[derive(Clone)]
struct Alternative<'a> {
    /// `namespace/name:port`
    name: String,
    ingress: &'a Ingress,
    backend: &'a IngressBackend,
    /// Where the Ingress names it.
    field: String,
    line: u32,
    sticky: bool,
}

/// The canaries of each Service, by `namespace/name:port`; the first one counts.
type Alternatives<'a> = BTreeMap<String, Vec<Alternative<'a>>>;

/// Divides the requests of all rules whose Service has a canary, affinity or a hash. Gives the list that the rules
/// refer to.
pub fn divide(
    hosts: &mut [Host],
    admitted: &[Admitted<'_>],
    backends: &mut Backends<'_>,
    report: &mut Report,
) -> Vec<Balancing> {
    let alternatives = merge(hosts, admitted, backends, report);
    let mut list = Vec::new();
    let mut positions = BTreeMap::new();
    for Host { name, rules, .. } in hosts {
        for rule in rules {
            let divided = divide_rule(name, rule, &alternatives, backends, report);
            let Action::Forward { balancing, .. } = &mut rule.action else { continue };
            *balancing = divided.filter(|found| *found != Balancing::default()).map(|found| {
                let key = serde_json::to_string(&found).unwrap_or_default();
                *positions.entry(key).or_insert_with(|| {
                    list.push(found);
                    list.len() - 1
                })
            });
        }
    }
    list
}

/// How the requests of one rule are divided.
fn divide_rule(
    host: &str,
    rule: &Rule,
    alternatives: &Alternatives<'_>,
    backends: &mut Backends<'_>,
    report: &mut Report,
) -> Option<Balancing> {
    let Action::Forward { cluster, service, .. } = &rule.action else { return None };
    let name = if service.is_empty() { cluster } else { service };
    let main = backends.upstreams().get(name)?.clone();
    let affinity = main.affinity(host, &rule.path, &main.name, backends.uid(&main.name));
    let hash_by = backends.hash_by(cluster, &main);
    let first = alternatives.get(name).and_then(|found| found.first());
    let canary = first.and_then(|first| canary(host, rule, cluster, &main, first, backends, report));
    Some(Balancing { canary, affinity, hash_by })
}

/// The canary of a rule; none where it, or the main Service, has no endpoints: those of a Service are told to
/// Envoy only, but whether it has any decides here.
fn canary(
    host: &str,
    rule: &Rule,
    main_cluster: &str,
    main: &Upstream,
    alternative: &Alternative<'_>,
    backends: &mut Backends<'_>,
    report: &mut Report,
) -> Option<Canary> {
    let found = backends.upstreams().get(&alternative.name)?.clone();
    let CanaryRules { header, header_value, header_pattern, cookie, weight, weight_total } =
        found.canary.clone()?;
    let uid = backends.uid(&found.name);
    let affinity = main.affinity(host, &rule.path, &found.name, uid).filter(|_| alternative.sticky);
    let place =
        Place { ingress: alternative.ingress, field: alternative.field.clone(), line: alternative.line };
    if !backends.has_endpoints(main_cluster) {
        return None;
    }
    let load_balancing = if affinity.is_some() { main.load_balancing() } else { found.load_balancing() };
    let cluster =
        backends.beside(main_cluster, &found, load_balancing, &place, alternative.backend, report)?;
    if !backends.has_endpoints(&cluster) {
        return None;
    }
    let hash_by = if affinity.is_some() { None } else { backends.hash_by(&cluster, &found) };
    Some(Canary {
        ingress: alternative.ingress.metadata.name.to_string(),
        service: alternative.name.clone(),
        cluster,
        header,
        header_value,
        header_pattern,
        cookie,
        weight,
        weight_total,
        affinity,
        hash_by,
    })
}

/// Finds the Services that canaries stand beside. A canary that names one path without a rule of the same host,
/// path and type is no canary of any.
fn merge<'a>(
    hosts: &[Host],
    admitted: &[Admitted<'a>],
    backends: &Backends<'_>,
    report: &mut Report,
) -> Alternatives<'a> {
    let mut alternatives = Alternatives::new();
    let mut dead = BTreeSet::new();
    for canary in admitted.iter().filter(|admitted| admitted.is_canary()) {
        for (named, path) in named(canary) {
            let main = mains(hosts, &path, &named.name);
            match backends.upstreams().get(&named.name) {
                Some(upstream) if upstream.canary.is_some() => {}
                Some(upstream) => {
                    let consequence = format!(
                        "the canary gets no requests: an Ingress that comes first ({}) uses its Service directly",
                        upstream.owner
                    );
                    say(
                        &named,
                        "canary-conflict",
                        consequence,
                        "give the canary a Service of its own",
                        report,
                    );
                    continue;
                }
                None => continue,
            }
            if dead.contains(&named.name) {
                continue;
            }
            if main.is_empty() {
                let consequence = format!(
                    "no rule of another Ingress has the host, path and type of {path}: {} gets no requests of any \
                     rule as a canary",
                    named.name
                );
                let remedy = "remove the path, or add it to the Ingress that the canary stands beside";
                say(&named, "canary-without-main", consequence, remedy, report);
                dead.insert(named.name.clone());
                continue;
            }
            // Rules whose Service is not there have nothing in common.
            for main in main.into_iter().filter(|main| !main.is_empty()) {
                add(alternatives.entry(main).or_default(), &named, report);
            }
        }
    }
    // The first place is taken even by one that is dead.
    alternatives.retain(|_, found| found.first().is_some_and(|first| !dead.contains(&first.name)));
    alternatives
}

fn add<'a>(alternatives: &mut Vec<Alternative<'a>>, named: &Alternative<'a>, report: &mut Report) {
    if alternatives.iter().any(|other| other.name == named.name) {
        return;
    }
    if let Some(first) = alternatives.first() {
        let by = &first.ingress.metadata.name;
        let consequence = format!("the canary gets no requests: another one comes first ({by})");
        say(named, "canary-conflict", consequence, "remove one of the two", report);
    }
    alternatives.push(named.clone());
}

fn say(named: &Alternative<'_>, code: &'static str, consequence: String, remedy: &str, report: &mut Report) {
    let diagnostic = Diagnostic::warning(code, consequence)
        .field(named.field.clone(), &named.backend.service)
        .remedy(remedy);
    report.ingress(named.ingress, named.line, diagnostic);
}

/// What a canary stands beside.
enum MainPath {
    /// All rules without a host.
    CatchAll,
    /// Rules with this host, path and type.
    Path(String, String, PathType),
}

impl std::fmt::Display for MainPath {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MainPath::CatchAll => write!(formatter, "the default backend"),
            MainPath::Path(host, path, path_type) => write!(formatter, "{host}{path} ({path_type:?})"),
        }
    }
}

/// The Services that a canary Ingress names, and what each stands beside.
fn named<'a>(admitted: &Admitted<'a>) -> Vec<(Alternative<'a>, MainPath)> {
    let ingress = admitted.ingress;
    let sticky = admitted.is_sticky();
    let alternative = |backend, field, line| Alternative {
        name: service_port(ingress, backend).to_string(),
        ingress,
        backend,
        field,
        line,
        sticky,
    };
    let mut all = Vec::new();
    if let Some(backend) = &ingress.default_backend {
        all.push((alternative(backend, "spec.defaultBackend".to_owned(), 0), MainPath::CatchAll));
    }
    for (index, rule) in ingress.rules.iter().enumerate() {
        for (position, path) in rule.paths.iter().enumerate() {
            let Some(backend) = &path.backend else { continue };
            let field = format!("spec.rules[{index}].http.paths[{position}].backend");
            let text = path.path.clone().unwrap_or_default();
            let main = MainPath::Path(host_name(rule), text, path_type(path));
            all.push((alternative(backend, field, path.line), main));
        }
    }
    all
}

/// The Services of the rules beside which a canary stands, which may have no endpoints or not exist.
fn mains(hosts: &[Host], path: &MainPath, canary: &str) -> Vec<String> {
    let rules = hosts.iter().flat_map(|host| host.rules.iter().map(move |rule| (host, rule)));
    let beside = rules.filter(|(host, rule)| match path {
        MainPath::CatchAll => host.name == ANY_HOST,
        MainPath::Path(name, path, path_type) => {
            host.name == *name && rule.path == *path && rule.path_type == *path_type
        }
    });
    beside
        .filter_map(|(_, rule)| match &rule.action {
            Action::Forward { cluster, service, .. } if service.is_empty() => Some(cluster.clone()),
            Action::Forward { service, .. } | Action::StandIn { service, .. } => Some(service.clone()),
            // Its Service is not there, the rule is.
            Action::Respond { status: 503, .. } => Some(String::new()),
            Action::Respond { .. } => None,
        })
        .filter(|main| main != canary)
        .collect()
}
