//! The translation as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ingress_wasm::config::{PluginConfig, PolicySet, SCHEMA_VERSION};

use crate::annotations::{AnnotationSet, Effect, Verdict, check_annotations, verdict};
use crate::backend_protocol::{Protocols, Transport};
use crate::backends::{Asked, Backends};
use crate::canaries::divide;
use crate::certificates::{certificates, default_certificate};
use crate::class::{Claim, check_parameters, claim};
use crate::client_certificates;
use crate::connections;
use crate::error_pages;
use crate::exemptions::PathPolicies;
use crate::external_auth;
use crate::generation::{Digests, generation};
use crate::global;
use crate::host_ciphers;
use crate::hosts::{self, Entrant, Hosts};
use crate::jwt;
use crate::mesh;
use crate::mirror;
use crate::objects::{Ingress, ObjectName, Snapshot};
use crate::output::{KEPT_BACK, Options, Translation};
use crate::passthrough;
use crate::policies::{self, Context, Finished, Policies};
use crate::rate_limits;
use crate::report::Report;
use crate::snippets::{self, Snippets};
use crate::tls;
use crate::upstreams::{Admitted, Upstreams};
use crate::used::keep_used;

/// What follows from all Ingresses and holds for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct World {
    /// Some Ingress has a TLS section.
    pub(crate) any_tls: bool,
    /// The variables that the snippets of Ingresses name.
    pub(crate) variables: BTreeSet<String>,
}

impl World {
    fn of(ingresses: &[&Ingress]) -> Self {
        let variables = |ingress: &&Ingress| snippets::variables(&AnnotationSet::of(ingress, None));
        World {
            any_tls: ingresses.iter().any(|ingress| !ingress.tls.is_empty()),
            variables: ingresses.iter().flat_map(variables).collect(),
        }
    }
}

/// Translates all objects. Never fails: what cannot be honoured is among the diagnostics.
pub fn translate(snapshot: &Snapshot, options: &Options) -> Translation {
    translate_some(snapshot, options, None).0
}

/// Translates these Ingresses as if there were no others but for the world they are in; without that, all of them.
/// Gives as well which Services they name other than as backends, and the numbers of hosts.
pub(crate) fn translate_some(
    snapshot: &Snapshot,
    options: &Options,
    some: Option<(&BTreeSet<ObjectName>, &World)>,
) -> (Translation, Asked, Digests) {
    let mut report = Report::default();
    let mut defaults = global::read(snapshot, options, &mut report);
    let mut policies = Policies::default();
    let mut hosts = Hosts::default();
    let mut protocols = Protocols::new(snapshot, options);
    check_parameters(snapshot, options, &mut report);
    let served = match some {
        None => served(snapshot.ingresses.values(), snapshot, options, &mut report),
        Some((chosen, _)) => {
            let ingresses = chosen.iter().filter_map(|name| snapshot.ingresses.get(name));
            served(ingresses, snapshot, options, &mut report)
        }
    };
    let World { any_tls, variables } = some.map_or_else(|| World::of(&served), |(_, world)| world.clone());
    let map = options.config_map.as_ref().and_then(|name| snapshot.config_maps.get(name)).map(AsRef::as_ref);
    let mut snippets = Snippets::read(
        map,
        &defaults.settings,
        &defaults.global.hidden_headers,
        variables,
        &mut defaults.denials,
        &mut report,
    );
    let mut on_tls = Vec::with_capacity(served.len());
    let mut admitted = Vec::with_capacity(served.len());
    let mut asking = Vec::with_capacity(served.len());
    for ingress in &served {
        check_annotations(ingress).into_iter().for_each(|diagnostic| report.add(diagnostic));
        let annotations = AnnotationSet::of(ingress, None);
        let Verdict { mut effect, mut reasons, host_wide } = verdict(ingress, None, &defaults.denials);
        if let Some(reason) = snippets.withholds(ingress, &annotations, &mut report) {
            let guarded = annotations.iter().any(|setting| setting.entry.protects && setting.asks());
            effect = if guarded { Effect::Withheld } else { Effect::NotServed };
            reasons = vec![reason];
        }
        let denied = (effect == Effect::Denied).then(|| reasons.join("; "));
        if effect == Effect::NotServed {
            report.reject(ingress);
            continue;
        }
        let withheld = (effect == Effect::Withheld).then(|| reasons.join("; "));
        if withheld.is_some() {
            report.reject(ingress);
        }
        on_tls.push(*ingress);
        if let (true, Some(reason)) = (host_wide, denied.as_ref().or(withheld.as_ref())) {
            hosts.deny(ingress, reason, withheld.is_some());
        }
        if withheld.is_none() {
            asking.push(*ingress);
        }
        admitted.push(Admitted { ingress, annotations, denied, withheld });
    }
    let upstreams = Upstreams::gather(&admitted, defaults.upstreams, &mut report);
    let mut backends = Backends::new(snapshot, options, defaults.connect_timeout, &upstreams);
    if let Some((cluster, service)) = error_pages::default_backend(options, &mut backends, &mut report) {
        hosts.default_to(cluster.clone(), &service);
        defaults.default_backend = Some(cluster);
    }
    let rate_limits = rate_limits::service(map, &mut backends, &mut report);
    // Of a canary nothing counts but what it says of its Service.
    for admitted in admitted.iter().filter(|admitted| !admitted.is_canary()) {
        let Admitted { ingress, annotations, denied, withheld } = admitted;
        backends.read_for(&ingress.metadata.name);
        let protocol = match withheld {
            None => protocols.read(snapshot, ingress, annotations, &mut report),
            Some(_) => Ok(()),
        };
        let unserved = if options.mesh { mesh::check(ingress, annotations, &mut report) } else { None };
        let stand_in = error_pages::stand_in(ingress, annotations, &mut backends, &mut report);
        let mirror = mirror::read(ingress, annotations, &mut backends, &mut report);
        let context = Context {
            snapshot,
            defaults: &defaults,
            ingress,
            annotations,
            denied: denied.clone().or(protocol.err()).or(unserved),
            certificates: any_tls,
            stand_in: stand_in.as_deref(),
            mirror,
        };
        let mut read = policies::read(&context, &mut policies, &mut report);
        let names = hosts::names(ingress, &read.aliases);
        external_auth::read(&context, &names, &mut read.set, &mut backends, &mut report);
        rate_limits::read(&context, rate_limits.as_ref(), &mut read, &mut policies, &backends, &mut report);
        jwt::read(&context, &mut read, &mut policies, &mut backends, &mut report);
        if withheld.is_none() {
            snippets.location(ingress, annotations, &mut read.set, &mut report);
            match snippets.server(ingress, annotations, &mut report) {
                Ok(directives) => hosts.add_snippet(ingress, &directives, &mut report),
                Err(reason) => hosts.deny(ingress, &reason, false),
            }
        }
        if withheld.is_some() {
            (read.app_root, read.from_to_www) = (None, false);
            read.aliases.clear();
        }
        let mut set = if withheld.is_some() { PolicySet::default() } else { read.set.clone() };
        if ingress.rules.is_empty() {
            // For the hosts that nobody names ingress-nginx takes over everything but rewrites and
            // redirects (`controller.go`).
            set.rewrite = None;
            set.redirect = None;
            set.tls_redirect = None;
        }
        let positions = PathPolicies::new(&set, ingress, &defaults, &mut policies);
        let entrant = Entrant {
            ingress,
            policies: &read,
            stand_in: stand_in.as_deref(),
            withheld: withheld.as_deref(),
            positions: &positions,
        };
        hosts.add(&entrant, &mut backends, &mut report);
    }
    let by_name = served.iter().map(|ingress| (&ingress.metadata.name, *ingress)).collect();
    let nobody = defaults.addresses.for_nobody();
    let mut hosts = hosts.finish(nobody, &mut snippets, &mut policies, &mut report, &by_name);
    let passed: BTreeSet<String> =
        snippets.passed.into_iter().filter(|name| KEPT_BACK.contains(&name.as_str())).collect();
    // What Envoy's routes must not take away the filter does, where no rule passes it on.
    defaults.global.hidden_headers.extend(passed.iter().cloned());
    let balancing = divide(&mut hosts, &admitted, &mut backends, &mut report);
    let client_authorities = client_certificates::apply(snapshot, &asking, &mut hosts, &mut report);
    if options.mesh {
        mesh::check_global(snapshot, options, &mut report);
    }
    let Finished { sets, credentials, api_keys, profiles: mut route_profiles } = policies.finish();
    let mut config = PluginConfig {
        version: SCHEMA_VERSION,
        generation: String::new(),
        global: defaults.global,
        credentials,
        api_keys,
        policies: sets,
        balancing,
        hosts,
        parts: Vec::new(),
        part: None,
    };
    let (mut clusters, asked) = backends.finish();
    let mut transports = protocols.apply(&mut config, &mut clusters);
    if let Some(service) = &rate_limits {
        transports.insert(service.cluster.clone(), Transport { http2: true, tls: None });
    }
    let passthrough = passthrough::read(&admitted, &config, &mut clusters, &mut report);
    let mut connections = connections::read(snapshot, options, &mut report);
    connections.clients.rate_limits = rate_limits;
    let elsewhere = (&passthrough, &connections);
    keep_used(&mut config, &mut clusters, &mut transports, &mut route_profiles, elsewhere);
    let mut digests = Digests::new();
    config.generation = generation(&config, &mut digests);
    let tls = tls::read(snapshot, options, &mut report);
    let host_ciphers = host_ciphers::read(&admitted, &config.hosts, &tls, &mut report);
    let certificates = certificates(snapshot, &on_tls, &mut report);
    let default_certificate = default_certificate(snapshot, options, &mut report);
    let (diagnostics, rejected) = report.finish();
    let translation = Translation {
        config,
        clusters,
        transports,
        route_profiles,
        default_profile: defaults.profile,
        passed_headers: passed,
        certificates,
        default_certificate,
        client_authorities,
        passthrough,
        tls,
        host_ciphers,
        connections,
        diagnostics,
        rejected,
    };
    (translation, asked, digests)
}

/// Those Ingresses that are ours, oldest first; of the same age the greater `namespace/name` first, as
/// ingress-nginx has it (`store.go`, `ListIngresses`).
fn served<'s>(
    ingresses: impl Iterator<Item = &'s Arc<Ingress>>,
    snapshot: &Snapshot,
    options: &Options,
    report: &mut Report,
) -> Vec<&'s Ingress> {
    let mut served: Vec<&Ingress> = Vec::new();
    for ingress in ingresses {
        match claim(ingress, snapshot, options) {
            Claim::Ours => served.push(ingress),
            Claim::Theirs(diagnostic) | Claim::Nobodys(diagnostic) => report.add(diagnostic),
        }
    }
    served.sort_by(|a, b| {
        // An object that never was in a cluster is younger than any that was.
        let age = |ingress: &'s Ingress| {
            let created = ingress.metadata.creation_timestamp.as_str();
            (created.is_empty(), created)
        };
        age(a).cmp(&age(b)).then_with(|| written(&b.metadata.name).cmp(written(&a.metadata.name)))
    });
    served
}

/// `namespace/name`
fn written(name: &ObjectName) -> impl Iterator<Item = u8> + '_ {
    name.namespace.bytes().chain([b'/']).chain(name.name.bytes())
}

/// The ports of Services that Ingresses of ours name, for backends that stand in for them.
pub fn referenced_backends(snapshot: &Snapshot, options: &Options) -> Vec<crate::output::ServicePortName> {
    let mut names: BTreeMap<crate::output::ServicePortName, ()> = BTreeMap::new();
    let ingresses = snapshot.ingresses.values();
    for ingress in served(ingresses, snapshot, options, &mut Report::default()) {
        let namespace = &ingress.metadata.name.namespace;
        let paths =
            ingress.rules.iter().flat_map(|rule| &rule.paths).filter_map(|path| path.backend.as_ref());
        for backend in paths.chain(&ingress.default_backend) {
            let service = ObjectName::new(namespace.clone(), backend.service.clone());
            names.insert(crate::output::ServicePortName { service, port: backend.port.to_string() }, ());
        }
    }
    names.into_keys().collect()
}
