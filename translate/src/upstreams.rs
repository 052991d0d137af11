//! What Ingresses say of Services as such: canaries, session affinity, hashing, load balancing. ingress-nginx
//! keeps it in its upstreams, one for each namespace, Service and port as written, whichever rules lead there
//! (`controller.go`, `createUpstreams` and `getBackendServers`).
//!
//! Deliberately knows nothing of clusters and of how rules compete.

use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm::config::Affinity;
use ingress_wasm::policy::Template;
use md5::{Digest, Md5};

use crate::annotations::{AnnotationSet, Value};
use crate::diagnostic::Diagnostic;
use crate::hosts::host_name;
use crate::objects::{Ingress, IngressBackend, ObjectName, PortRef};
use crate::output::{LoadBalancing, ServicePortName};
use crate::report::Report;

/// The name of the affinity cookie where the Ingress gives none.
const COOKIE: &str = "INGRESSCOOKIE";
/// `upstream-hash-by-subset-size` where the Ingress gives none.
const SUBSET_SIZE: usize = 3;

/// Everything that is said of Services, by `namespace/name:port`.
#[derive(Debug, Default)]
pub struct Upstreams {
    by_name: BTreeMap<String, Upstream>,
}

/// What is said of one Service and port.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its name.
    pub name: ServicePortName,
    /// Its port.
    pub port: PortRef,
    /// The Ingress whose word counts: the first that names it.
    pub owner: ObjectName,
    /// How a canary gets its requests. Such a Service takes part in no rule of its own.
    pub canary: Option<CanaryRules>,
    /// What requests are hashed by.
    pub hash_by: Option<HashBy>,
    /// How endpoints are chosen where nothing is hashed.
    pub load_balancing: LoadBalancing,
    /// Requests go to the Service's cluster address.
    pub service_upstream: bool,
    /// The affinity cookie, without its key.
    affinity: Option<Affinity>,
    /// Host and path of rules whose answers set the cookie.
    locations: BTreeSet<(String, String)>,
}

/// `upstream-hash-by`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashBy {
    /// The value, with variables.
    pub value: String,
    /// `upstream-hash-by-subset`: how many endpoints share a value.
    pub subset_size: Option<usize>,
}

/// `canary-…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryRules {
    /// `canary-by-header`
    pub header: Option<String>,
    /// `canary-by-header-value`
    pub header_value: Option<String>,
    /// `canary-by-header-pattern`
    pub header_pattern: Option<String>,
    /// `canary-by-cookie`
    pub cookie: Option<String>,
    /// `canary-weight`
    pub weight: u32,
    /// `canary-weight-total`
    pub weight_total: u32,
}

/// An Ingress that is served, with its annotations.
pub struct Admitted<'a> {
    /// The Ingress.
    pub ingress: &'a Ingress,
    /// Its annotations.
    pub annotations: AnnotationSet<'a>,
    /// Why all its rules answer 503.
    pub denied: Option<String>,
    /// Why all its rules answer 404.
    pub withheld: Option<String>,
}

impl Admitted<'_> {
    /// The Ingress is a canary of others.
    pub fn is_canary(&self) -> bool {
        self.annotations.is_true("canary")
    }

    /// A client that the canary serves stays with it.
    pub fn is_sticky(&self) -> bool {
        text(&self.annotations, "affinity-canary-behavior").as_deref() != Some("legacy")
    }
}

/// What the ConfigMap says of all Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UpstreamDefaults {
    /// `load-balance`
    pub load_balancing: LoadBalancing,
    /// `service-upstream`
    pub service_upstream: bool,
}

impl Upstreams {
    /// Gathers what the Ingresses say; they come in order of age.
    pub fn gather(admitted: &[Admitted<'_>], defaults: UpstreamDefaults, report: &mut Report) -> Self {
        let mut upstreams = Upstreams::default();
        let admitted = || admitted.iter().filter(|admitted| admitted.withheld.is_none());
        for admitted in admitted() {
            let own = Settings::read(admitted, defaults, report);
            // The last default backend counts, of rules the first.
            if let Some(backend) = &admitted.ingress.default_backend {
                let upstream = own.upstream(backend);
                upstreams.by_name.insert(upstream.name.to_string(), upstream);
            }
            for (_, _, backend) in backends(admitted.ingress) {
                let upstream = own.upstream(backend);
                upstreams.by_name.entry(upstream.name.to_string()).or_insert(upstream);
            }
            own.report_lost(&upstreams, report);
        }
        for admitted in admitted() {
            upstreams.affinity(admitted);
        }
        upstreams
    }

    /// What is said of a Service and port.
    pub fn get(&self, name: &str) -> Option<&Upstream> {
        self.by_name.get(name)
    }

    /// The last Ingress with a cookie gives its attributes; each gives the rules that set it.
    fn affinity(&mut self, admitted: &Admitted<'_>) {
        if text(&admitted.annotations, "affinity").as_deref() != Some("cookie") {
            return;
        }
        let cookie = affinity(&admitted.annotations);
        for (host, path, backend) in backends(admitted.ingress) {
            let name = service_port(admitted.ingress, backend).to_string();
            let Some(upstream) = self.by_name.get_mut(&name).filter(|found| found.canary.is_none()) else {
                continue;
            };
            upstream.affinity = Some(cookie.clone());
            upstream.locations.insert((host, path));
        }
    }
}

impl Upstream {
    /// The affinity of requests whose rule has this host and path; `key_of` is the Service among whose
    /// endpoints it holds: this one, or its canary. `uid` is that of the Service, which hardly anybody can know.
    pub fn affinity(&self, host: &str, path: &str, key_of: &ServicePortName, uid: &str) -> Option<Affinity> {
        let affinity = self.affinity.clone()?;
        let holds_endpoint = affinity.persistent || affinity.change_on_failure;
        let sets_cookie = self.locations.contains(&(host.to_owned(), path.to_owned()));
        Some(Affinity {
            key: affinity_key(key_of),
            sets_cookie,
            endpoint_secret: holds_endpoint.then(|| format!("{key_of} {uid}")),
            ..affinity
        })
    }

    /// How Envoy chooses among the endpoints.
    pub fn load_balancing(&self) -> LoadBalancing {
        let whole = |hash: &HashBy| hash.subset_size.is_none();
        if self.affinity.as_ref().is_some_and(|affinity| affinity.persistent) {
            // A client without a cookie gets any endpoint.
            LoadBalancing::RoundRobin
        } else if self.affinity.is_some() || self.hash_by.as_ref().is_some_and(whole) {
            LoadBalancing::Hash
        } else if self.hash_by.is_some() {
            LoadBalancing::RoundRobin
        } else {
            self.load_balancing
        }
    }
}

/// What one Ingress says of the Services that it names.
struct Settings<'a> {
    ingress: &'a Ingress,
    canary: Option<CanaryRules>,
    hash_by: Option<HashBy>,
    load_balancing: LoadBalancing,
    service_upstream: bool,
    /// The annotations of it that ask for something, by key.
    asked: Vec<&'a str>,
}

impl<'a> Settings<'a> {
    fn read(admitted: &Admitted<'a>, defaults: UpstreamDefaults, report: &mut Report) -> Self {
        let annotations = &admitted.annotations;
        let load_balancing = match text(annotations, "load-balance").as_deref() {
            Some("ewma") => LoadBalancing::LeastRequest,
            Some(_) => LoadBalancing::RoundRobin,
            None => defaults.load_balancing,
        };
        let service_upstream = match annotations.value("service-upstream") {
            Some(Value::Bool(on)) => on,
            _ => defaults.service_upstream,
        };
        let names = ["upstream-hash-by", "load-balance", "service-upstream"];
        let asked = names.into_iter().filter_map(|name| annotations.get(name).filter(|found| found.asks()));
        Settings {
            ingress: admitted.ingress,
            canary: admitted.is_canary().then(|| canary_rules(annotations)),
            hash_by: hash_by(admitted, report),
            load_balancing,
            service_upstream,
            asked: asked.map(|setting| setting.key).collect(),
        }
    }

    fn upstream(&self, backend: &IngressBackend) -> Upstream {
        Upstream {
            name: service_port(self.ingress, backend),
            port: backend.port.clone(),
            owner: self.ingress.metadata.name.clone(),
            canary: self.canary.clone(),
            hash_by: self.hash_by.clone(),
            load_balancing: self.load_balancing,
            service_upstream: self.service_upstream,
            affinity: None,
            locations: BTreeSet::new(),
        }
    }

    /// Says where another Ingress has named a Service first, with other settings.
    fn report_lost(&self, upstreams: &Upstreams, report: &mut Report) {
        if self.asked.is_empty() {
            return;
        }
        for (_, _, backend) in backends(self.ingress) {
            let name = service_port(self.ingress, backend).to_string();
            let Some(found) = upstreams.get(&name) else { continue };
            let same = found.hash_by == self.hash_by
                && found.load_balancing == self.load_balancing
                && found.service_upstream == self.service_upstream;
            if same || found.owner == self.ingress.metadata.name {
                continue;
            }
            let consequence = format!(
                "it does not count for the Service {name}, for which an Ingress that comes first ({}) has the say",
                found.owner
            );
            let diagnostic = Diagnostic::warning("service-conflict", consequence)
                .remedy("give all Ingresses that name the Service the same settings");
            for key in &self.asked {
                report.annotation(self.ingress, key, diagnostic.clone());
            }
        }
    }
}

/// The backends of an Ingress's rules, with host and path.
pub fn backends(ingress: &Ingress) -> impl Iterator<Item = (String, String, &IngressBackend)> {
    ingress.rules.iter().flat_map(|rule| {
        let host = host_name(rule);
        rule.paths.iter().filter_map(move |path| {
            let text = path.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
            Some((host.clone(), text, path.backend.as_ref()?))
        })
    })
}

/// The Service and port that a backend names.
pub fn service_port(ingress: &Ingress, backend: &IngressBackend) -> ServicePortName {
    let service = ObjectName::new(ingress.metadata.name.namespace.clone(), backend.service.clone());
    ServicePortName { service, port: backend.port.to_string() }
}

/// The key of a Service in affinity cookies: the one of ingress-nginx (`sticky.lua`), so that clients stay with
/// canary or main Service when they come from there.
fn affinity_key(name: &ServicePortName) -> String {
    let ServicePortName { service, port } = name;
    let name = format!("{}-{}-{port}", service.namespace, service.name);
    md5_hex(&format!("{}{name}", md5_hex(&name)))
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(annotations: &AnnotationSet<'_>, name: &str) -> Option<String> {
    match annotations.value(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

fn integer(annotations: &AnnotationSet<'_>, name: &str) -> Option<i64> {
    match annotations.value(name) {
        Some(Value::Integer(number)) => Some(number),
        _ => None,
    }
}

fn canary_rules(annotations: &AnnotationSet<'_>) -> CanaryRules {
    let number = |name| integer(annotations, name).map(|n| u32::try_from(n.max(0)).unwrap_or(u32::MAX));
    CanaryRules {
        header: text(annotations, "canary-by-header"),
        header_value: text(annotations, "canary-by-header-value"),
        header_pattern: text(annotations, "canary-by-header-pattern"),
        cookie: text(annotations, "canary-by-cookie"),
        weight: number("canary-weight").unwrap_or(0),
        // `balancer.lua` takes no total below 100.
        weight_total: number("canary-weight-total").unwrap_or(100).max(100),
    }
}

fn affinity(annotations: &AnnotationSet<'_>) -> Affinity {
    // One that ended before it began ends at once.
    let seconds = |name| integer(annotations, name).map(|seconds| u64::try_from(seconds).unwrap_or(0));
    Affinity {
        cookie: text(annotations, "session-cookie-name").unwrap_or_else(|| COOKIE.to_owned()),
        key: String::new(),
        sets_cookie: false,
        path: text(annotations, "session-cookie-path"),
        domain: text(annotations, "session-cookie-domain"),
        expires: seconds("session-cookie-expires"),
        max_age: seconds("session-cookie-max-age"),
        secure: annotations.is_true("session-cookie-secure"),
        same_site: text(annotations, "session-cookie-samesite"),
        conditional_same_site_none: annotations.is_true("session-cookie-conditional-samesite-none"),
        persistent: text(annotations, "affinity-mode").as_deref() == Some("persistent"),
        change_on_failure: annotations.is_true("session-cookie-change-on-failure"),
        endpoint_secret: None,
    }
}

fn hash_by(admitted: &Admitted<'_>, report: &mut Report) -> Option<HashBy> {
    let annotations = &admitted.annotations;
    let setting = annotations.get("upstream-hash-by")?;
    // The same address in another form; it is only hashed.
    let value = text(annotations, "upstream-hash-by")?
        .replace("$binary_remote_addr", "$remote_addr")
        .replace("${binary_remote_addr}", "${remote_addr}");
    if let Err(error) = Template::parse(&value) {
        let consequence = format!("requests are not hashed, endpoints take turns: {error}");
        let diagnostic = Diagnostic::error("annotation-invalid", consequence)
            .remedy("use variables of nginx such as `$request_uri`");
        report.annotation(admitted.ingress, setting.key, diagnostic);
        return None;
    }
    let size = integer(annotations, "upstream-hash-by-subset-size").filter(|size| *size != 0);
    let size = size.map_or(SUBSET_SIZE, |size| usize::try_from(size).unwrap_or(1));
    let subset_size = annotations.is_true("upstream-hash-by-subset").then_some(size);
    Some(HashBy { value, subset_size })
}
