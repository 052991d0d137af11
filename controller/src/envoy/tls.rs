//! The TLS listener: which certificate Envoy shows to which client, so that thousands of hosts can each have
//! their own and a change for one of them leaves the connections of the others alone.
//!
//! How it is done, and what was tried against a real Envoy:
//!
//! * Each Secret is an SDS resource of its own. A renewed certificate is pushed there and nothing else changes:
//!   no listener update, no connection is lost.
//! * The listener's `filter_chain_matcher` leads from the server name to a filter chain, so the Ingress decides
//!   which certificate serves a host and not the names inside certificates. A change of the matcher and of
//!   chains is an in-place update: Envoy drains only the chains that are changed or gone. The plain listener
//!   is never touched.
//! * Chains are shared. A chain for each Secret costs half a megabyte and two milliseconds of each change of
//!   routes, since each chain has its own copy of the filter's configuration (measured: 1,000 chains 620 MB,
//!   9 s until the first answer, 2 s for a change; 3,000 Secrets in 64 chains 270 MB and 5 s of CPU). One chain for all would drain every TLS connection
//!   whenever a Secret comes or goes, and Envoy's work to take in the Secrets of a chain grows with the
//!   square of their number. So Secrets are spread over a fixed number of chains by a hash of their name: one
//!   that comes or goes drains the chain that it shares, gracefully, and no other.
//! * In a shared chain Envoy chooses by the names in certificates. A Secret for which that could choose wrongly
//!   for one of its hosts has a chain of its own, where there is nothing to choose. One limit remains: Envoy
//!   compares names in certificates with capitals as the client wrote them, so a client that writes some gets
//!   the default certificate from a chain with several Secrets.
//! * Envoy's `on_demand_secret` selector would need no chains at all. It asks for whatever name a client sends
//!   and, as of 1.40, forgets none of them: every client could fill the memory. It also rules out resumption
//!   of sessions, and 1.36 does not have it.
//!
//! * A host that asks for certificates of clients has a chain of its own kind, one for each pair of certificate
//!   and authorities. There Envoy asks for a certificate, checks it and accepts every connection: nginx answers in
//!   HTTP to clients that it refuses, and so does the filter, which is told the outcome. The authorities are an
//!   SDS resource too. Envoy forgets the outcome when a session is resumed, so there is no resumption there.
//!
//! * A host with ciphers of its own has a chain for each pair of certificate and ciphers.
//!
//! The default certificate is the first of a chain with several Secrets, which is the one that Envoy shows where no name
//! fits, and alone in the chain of all server names that no Ingress has.
//!
//! Deliberately knows nothing of keys: the plan holds names of Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ingress_wasm_translate::certificates::{Certificate, wildcard_of};
use ingress_wasm_translate::client_certificates::Authorities;
use ingress_wasm_translate::host_ciphers::HostCiphers;
use ingress_wasm_translate::objects::ObjectName;
use ingress_wasm_translate::output::Translation;
use ingress_wasm_translate::tls::{TlsSettings, TlsVersion};

use super::names::DEFAULT_CERTIFICATE;
use super::pb::{
    Any, StringValue, ads, core, inline, listener, matcher, matching, number, pack_any, tcp_proxy, tls,
    tls_inspector, xds_core,
};

/// The number of chains that Secrets share. More cost memory for each, fewer drain more connections when a
/// Secret comes or goes.
const SHARED_CHAINS: u64 = 64;

/// The chain for server names that have no certificate of their own.
const DEFAULT_CHAIN: &str = "default";

/// Which chains there are, what is in them, and which server name leads where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TlsPlan {
    /// The Secrets of each chain, by its name; the default certificate is not among them.
    chains: BTreeMap<String, Chain>,
    /// Chains by host. Wildcards are among them.
    hosts: BTreeMap<String, String>,
    /// The chain of server names that are in no entry; none: they are refused.
    otherwise: Option<String>,
    settings: TlsSettings,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Chain {
    secrets: BTreeSet<ObjectName>,
    /// Clients are asked for a certificate, which is checked by this resource.
    authorities: Option<String>,
    /// The ciphers; none: those of all.
    ciphers: Option<HostCiphers>,
    /// Connections go to this cluster unopened; nothing else counts then.
    passed_to: Option<String>,
}

impl Chain {
    /// The certificates as resources. The default certificate is the first but where there is one Secret,
    /// and so nothing to choose.
    fn certificates(&self) -> impl Iterator<Item = String> {
        let default = (self.secrets.len() != 1).then(|| DEFAULT_CERTIFICATE.to_owned());
        default.into_iter().chain(self.secrets.iter().map(secret_name))
    }
}

impl TlsPlan {
    /// The plan for a translation.
    pub(super) fn new(translation: &Translation) -> TlsPlan {
        let Translation { certificates, default_certificate, client_authorities, tls, config, .. } =
            translation;
        let by_name: BTreeMap<&ObjectName, &Certificate> = certificates
            .values()
            .flatten()
            .map(|certificate| (&certificate.secret, &**certificate))
            .collect();
        let mut buckets: BTreeMap<u64, Vec<&Certificate>> = BTreeMap::new();
        for certificate in by_name.values() {
            buckets.entry(bucket(&certificate.secret)).or_default().push(certificate);
        }
        let names: BTreeMap<u64, Names<'_>> =
            buckets.iter().map(|(bucket, secrets)| (*bucket, Names::of(secrets))).collect();
        let default_names: BTreeSet<&str> =
            default_certificate.iter().flat_map(|default| &default.names).map(String::as_str).collect();
        let mut alone: BTreeSet<&ObjectName> = BTreeSet::new();
        let own = certificates.iter().filter_map(|(host, certificate)| Some((host, certificate.as_ref()?)));
        for (host, certificate) in own.clone() {
            let is_right = names
                .get(&bucket(&certificate.secret))
                .is_some_and(|names| names.would_choose(host, certificate, &default_names));
            if !is_right {
                alone.insert(&certificate.secret);
            }
        }
        let otherwise = (!tls.reject_unknown).then(|| DEFAULT_CHAIN.to_owned());
        let mut plan = TlsPlan { settings: tls.clone(), otherwise, ..TlsPlan::default() };
        plan.chains.insert(DEFAULT_CHAIN.to_owned(), Chain::default());
        for (host, certificate) in own.filter(|(host, _)| !client_authorities.contains_key(*host)) {
            let secret = &certificate.secret;
            let name = if alone.contains(secret) {
                format!("secret-{secret}")
            } else {
                format!("shared-{}", bucket(secret))
            };
            plan.chains.entry(name.clone()).or_default().secrets.insert(secret.clone());
            plan.hosts.insert(host.clone(), name);
        }
        let is_served = |host: &&String| {
            *host != "*"
                && !certificates.contains_key(*host)
                && !wildcard_of(host).is_some_and(|wildcard| certificates.contains_key(&wildcard))
        };
        let others = config.hosts.iter().map(|host| &host.name).filter(is_served);
        let by_name = tls.reject_unknown || client_authorities.contains_key("*");
        let others = others.take(if by_name { usize::MAX } else { 0 });
        let decided =
            certificates.iter().filter(|(_, certificate)| certificate.is_none()).map(|(host, _)| host);
        for host in decided.chain(others) {
            plan.hosts.insert(host.clone(), DEFAULT_CHAIN.to_owned());
        }
        plan.ask_clients(translation);
        plan.choose_ciphers(translation);
        for (host, cluster) in &translation.passthrough {
            let name = format!("passthrough-{cluster}");
            let chain = Chain { passed_to: Some(cluster.clone()), ..Chain::default() };
            plan.chains.insert(name.clone(), chain);
            plan.hosts.insert(host.clone(), name);
        }
        plan
    }

    /// Leads hosts that ask for certificates of clients to chains that do.
    fn ask_clients(&mut self, translation: &Translation) {
        let Translation { certificates, client_authorities, config, tls, .. } = translation;
        // A host below a wildcard that asks does not ask by itself.
        for host in config.hosts.iter().map(|host| &host.name) {
            let Some(wildcard) = wildcard_of(host).filter(|name| client_authorities.contains_key(name))
            else {
                continue;
            };
            if !client_authorities.contains_key(host) && !certificates.contains_key(host) {
                let secret = certificates.get(&wildcard).and_then(Option::as_ref);
                let secret = secret.map(|certificate| certificate.secret.clone());
                let name = secret.as_ref().map_or(DEFAULT_CHAIN.to_owned(), |name| format!("secret-{name}"));
                self.chains.entry(name.clone()).or_default().secrets.extend(secret);
                self.hosts.insert(host.clone(), name);
            }
        }
        for (host, authorities) in client_authorities {
            let wildcard = || wildcard_of(host).and_then(|wildcard| certificates.get(&wildcard));
            let certificate = certificates.get(host).or_else(wildcard).and_then(Option::as_ref);
            let secret = certificate.map(|certificate| certificate.secret.clone());
            let shown = secret.as_ref().map_or(DEFAULT_CHAIN.to_owned(), ObjectName::to_string);
            let resource = authorities_name(authorities);
            let name = format!("{resource}+{shown}");
            let secrets = secret.into_iter().collect();
            let chain = Chain { secrets, authorities: Some(resource), ..Chain::default() };
            self.chains.insert(name.clone(), chain);
            match host.as_str() {
                "*" if tls.reject_unknown => {}
                "*" => self.otherwise = Some(name),
                _ => drop(self.hosts.insert(host.clone(), name)),
            }
        }
    }

    /// Leads hosts with ciphers of their own to chains that have them. Such a chain is for one certificate, so that
    /// there is nothing to choose in it.
    fn choose_ciphers(&mut self, translation: &Translation) {
        let Translation { certificates, host_ciphers, config, tls, .. } = translation;
        let before = self.hosts.clone();
        let otherwise = self.otherwise.clone();
        let wildcard_among = |host: &str| wildcard_of(host).filter(|name| host_ciphers.contains_key(name));
        // A host beside one of these has what it had.
        for host in config.hosts.iter().map(|host| &host.name) {
            if before.contains_key(host) || host_ciphers.contains_key(host) {
                continue;
            }
            let chain = match wildcard_among(host) {
                Some(wildcard) => before.get(&wildcard).cloned().or_else(|| otherwise.clone()),
                None if host_ciphers.contains_key("*") && host != "*" => otherwise.clone(),
                None => None,
            };
            if let Some(chain) = chain {
                self.hosts.insert(host.clone(), chain);
            }
        }
        for (host, ciphers) in host_ciphers {
            let wildcard = wildcard_of(host);
            let found = before.get(host).or_else(|| before.get(wildcard.as_ref()?)).or(otherwise.as_ref());
            let Some(base) = found.and_then(|name| self.chains.get(name)) else { continue };
            let own = certificates.get(host).or_else(|| certificates.get(wildcard.as_ref()?));
            let secret = own.and_then(Option::as_ref).map(|certificate| certificate.secret.clone());
            let shown = secret.as_ref().map_or(DEFAULT_CHAIN.to_owned(), ObjectName::to_string);
            let HostCiphers { ciphers: list, clients_order } = ciphers;
            let order = if *clients_order { "client" } else { "server" };
            let authorities = base.authorities.as_deref().unwrap_or_default();
            let name = format!("{authorities}+{shown}+{}+{order}", list.join(":"));
            let chain = Chain {
                secrets: secret.into_iter().collect(),
                authorities: base.authorities.clone(),
                ciphers: Some(ciphers.clone()),
                passed_to: None,
            };
            self.chains.insert(name.clone(), chain);
            match host.as_str() {
                "*" if tls.reject_unknown => {}
                "*" => self.otherwise = Some(name),
                _ => drop(self.hosts.insert(host.clone(), name)),
            }
        }
    }

    /// The listener filter that finds the server name.
    pub(super) fn inspector() -> listener::ListenerFilter {
        listener::ListenerFilter {
            name: "envoy.filters.listener.tls_inspector".to_owned(),
            config_type: Some(listener::listener_filter::ConfigType::TypedConfig(pack_any(
                tls_inspector::TlsInspector::default(),
            ))),
            ..listener::ListenerFilter::default()
        }
    }

    /// The filter chains, with these network filters. With `from_server` their certificates come from the
    /// xDS server, else from the bootstrap.
    pub(super) fn filter_chains(&self, managers: &Managers, from_server: bool) -> Vec<listener::FilterChain> {
        let chain = |(name, chain): (&String, &Chain)| {
            if let Some(cluster) = &chain.passed_to {
                return listener::FilterChain {
                    name: name.clone(),
                    filters: vec![to_cluster(cluster)],
                    ..listener::FilterChain::default()
                };
            }
            let filter = if chain.authorities.is_some() { &managers.asking } else { &managers.plain };
            listener::FilterChain {
                name: name.clone(),
                filters: vec![filter.clone()],
                transport_socket: Some(server_tls(&self.settings, chain, from_server)),
                ..listener::FilterChain::default()
            }
        };
        self.chains.iter().map(chain).collect()
    }

    /// From the server name to the chain: whole names by a map, then wildcards, each for one label.
    pub(super) fn matcher(&self) -> matcher::Matcher {
        use matcher::matcher::matcher_tree::{MatchMap, TreeType};
        use matcher::matcher::{MatcherTree, MatcherType};

        let (wildcards, exact): (Vec<_>, Vec<_>) =
            self.hosts.iter().partition(|(host, _)| host.starts_with("*."));
        let otherwise = self.otherwise.as_ref().map(|chain| Box::new(to_chain(chain)));
        let wildcards = matcher::Matcher {
            on_no_match: otherwise,
            matcher_type: Some(MatcherType::MatcherList(matcher::matcher::MatcherList {
                matchers: wildcards.into_iter().map(|(host, chain)| wildcard(host, chain)).collect(),
            })),
        };
        let rest = match &wildcards.matcher_type {
            Some(MatcherType::MatcherList(list)) if list.matchers.is_empty() => wildcards.on_no_match,
            _ => Some(Box::new(matcher::matcher::OnMatch {
                keep_matching: false,
                on_match: Some(matcher::matcher::on_match::OnMatch::Matcher(Box::new(wildcards))),
            })),
        };
        if exact.is_empty() {
            return matcher::Matcher { on_no_match: rest, matcher_type: None };
        }
        let map = exact.into_iter().map(|(host, chain)| (host.clone(), to_chain(chain))).collect();
        matcher::Matcher {
            on_no_match: rest,
            matcher_type: Some(MatcherType::MatcherTree(MatcherTree {
                input: Some(server_name()),
                tree_type: Some(TreeType::ExactMatchMap(MatchMap { map })),
            })),
        }
    }
}

/// The network filter that hands connections to a cluster.
fn to_cluster(cluster: &str) -> listener::Filter {
    let proxy = tcp_proxy::TcpProxy {
        stat_prefix: "passthrough".to_owned(),
        cluster_specifier: Some(tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..tcp_proxy::TcpProxy::default()
    };
    listener::Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(proxy))),
    }
}

/// The names in the certificates of one shared chain, as Envoy looks them up, and whose they are.
struct Names<'a>(BTreeMap<&'a str, BTreeSet<&'a ObjectName>>);

impl<'a> Names<'a> {
    fn of(certificates: &[&'a Certificate]) -> Names<'a> {
        let mut names: BTreeMap<&str, BTreeSet<&ObjectName>> = BTreeMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                names.entry(name).or_default().insert(&certificate.secret);
            }
        }
        Names(names)
    }

    /// Whether Envoy would choose this certificate for every server name that the host stands for: it takes
    /// one with just that name, else one with its wildcard.
    fn would_choose(&self, host: &str, certificate: &Certificate, default: &BTreeSet<&str>) -> bool {
        let only = |name: &str| {
            let owners = self.0.get(name);
            owners.is_some_and(|owners| owners.len() == 1 && owners.contains(&certificate.secret))
                && !default.contains(name)
        };
        match host.strip_prefix('*') {
            None if self.0.contains_key(host) || default.contains(host) => only(host),
            None => wildcard_of(host).is_some_and(|wildcard| only(&wildcard)),
            Some(_) => {
                let is_below = |name: &str| wildcard_of(name).is_some_and(|wildcard| wildcard == host);
                only(host)
                    && self.0.iter().all(|(name, owners)| {
                        !is_below(name) || owners.contains(&certificate.secret) && owners.len() == 1
                    })
                    && !default.iter().any(|name| is_below(name))
            }
        }
    }
}

/// The chain that a Secret shares: the FNV-1a hash of its name, the same in every process.
fn bucket(secret: &ObjectName) -> u64 {
    let hash = secret.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The low bits alone depend on few of the name's.
    (hash ^ (hash >> 32)) % SHARED_CHAINS
}

/// The SDS resource of a Secret. It has a slash, so none is the default certificate's.
pub(super) fn secret_name(secret: &ObjectName) -> String {
    secret.to_string()
}

/// A certificate as an SDS resource.
pub(super) fn secret(name: &str, chain: &str, key: &str) -> tls::Secret {
    tls::Secret {
        name: name.to_owned(),
        r#type: Some(tls::secret::Type::TlsCertificate(tls::TlsCertificate {
            certificate_chain: Some(inline(chain)),
            private_key: Some(inline(key)),
            ..tls::TlsCertificate::default()
        })),
    }
}

/// The SDS resource of authorities. It has a colon, so none is a certificate's.
pub(super) fn authorities_name(authorities: &Authorities) -> String {
    format!("clients:{}:{}", authorities.secret, authorities.depth)
}

/// Authorities as an SDS resource.
pub(super) fn authorities_secret(authorities: &Authorities) -> tls::Secret {
    use tls::certificate_validation_context::TrustChainVerification;

    let Authorities { secret: _, depth, certificates, revoked } = authorities;
    let context = tls::CertificateValidationContext {
        trusted_ca: Some(inline(certificates)),
        crl: revoked.as_ref().map(inline),
        trust_chain_verification: TrustChainVerification::AcceptUntrusted.into(),
        // nginx does not count the authority itself.
        max_verify_depth: number(depth.saturating_add(1)),
        ..tls::CertificateValidationContext::default()
    };
    tls::Secret {
        name: authorities_name(authorities),
        r#type: Some(tls::secret::Type::ValidationContext(context)),
    }
}

/// The connection managers of the TLS listener. Encoded once for all chains and plans: to Envoy, a chain with
/// other bytes is another chain.
#[derive(Debug, Clone)]
pub(super) struct Managers {
    /// For chains that ask for no certificate.
    pub(super) plain: listener::Filter,
    /// For chains that do.
    pub(super) asking: listener::Filter,
}

/// TLS towards clients. Versions are always told, since Envoy's defaults are its own.
fn server_tls(settings: &TlsSettings, chain: &Chain, from_server: bool) -> core::TransportSocket {
    use tls::common_tls_context::ValidationContextType;
    use tls::downstream_tls_context::SessionTicketKeysType;

    let TlsSettings { oldest, newest, ciphers, http2, reject_unknown: _ } = settings;
    let ciphers = chain.ciphers.as_ref().map_or(ciphers, |own| &own.ciphers);
    let alpn: &[&str] = if *http2 { &["h2", "http/1.1"] } else { &["http/1.1"] };
    let secret = |name| tls::SdsSecretConfig {
        name,
        // Without a source, the name is that of a static secret.
        sds_config: from_server.then(|| ads(Duration::ZERO)),
    };
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: Some(tls::TlsParameters {
                tls_minimum_protocol_version: version(*oldest).into(),
                tls_maximum_protocol_version: version(*newest).into(),
                cipher_suites: ciphers.iter().map(|cipher| (*cipher).to_owned()).collect(),
                ..tls::TlsParameters::default()
            }),
            tls_certificate_sds_secret_configs: chain.certificates().map(secret).collect(),
            validation_context_type: chain
                .authorities
                .clone()
                .map(|name| ValidationContextType::ValidationContextSdsSecretConfig(secret(name))),
            alpn_protocols: alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
            ..tls::CommonTlsContext::default()
        }),
        prefer_client_ciphers: chain.ciphers.as_ref().is_some_and(|own| own.clients_order),
        disable_stateful_session_resumption: chain.authorities.is_some(),
        session_ticket_keys_type: chain
            .authorities
            .is_some()
            .then_some(SessionTicketKeysType::DisableStatelessSessionResumption(true)),
        ..tls::DownstreamTlsContext::default()
    };
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack_any(context))),
    }
}

/// A version as Envoy names it.
pub(super) fn version(version: TlsVersion) -> tls::tls_parameters::TlsProtocol {
    use tls::tls_parameters::TlsProtocol;
    match version {
        TlsVersion::V1_0 => TlsProtocol::TlSv10,
        TlsVersion::V1_1 => TlsProtocol::TlSv11,
        TlsVersion::V1_2 => TlsProtocol::TlSv12,
        TlsVersion::V1_3 => TlsProtocol::TlSv13,
    }
}

fn extension(name: &str, config: Any) -> xds_core::TypedExtensionConfig {
    xds_core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(config) }
}

/// The input that gives the server name, in small letters.
fn server_name() -> xds_core::TypedExtensionConfig {
    extension("server-name", pack_any(matching::ServerNameInput {}))
}

fn to_chain(name: &str) -> matcher::matcher::OnMatch {
    let name = StringValue { value: name.to_owned() };
    matcher::matcher::OnMatch {
        keep_matching: false,
        on_match: Some(matcher::matcher::on_match::OnMatch::Action(extension("chain", pack_any(name)))),
    }
}

fn wildcard(host: &str, chain: &str) -> matcher::matcher::matcher_list::FieldMatcher {
    use matcher::matcher::matcher_list::predicate::single_predicate::Matcher as Single;
    use matcher::matcher::matcher_list::predicate::{MatchType, SinglePredicate};
    use matcher::matcher::matcher_list::{FieldMatcher, Predicate};
    use matcher::regex_matcher::{EngineType, GoogleRe2};
    use matcher::string_matcher::MatchPattern;

    let suffix = host.trim_start_matches('*').replace('.', "\\.");
    let pattern = matcher::RegexMatcher {
        regex: format!("[^.]+{suffix}"),
        engine_type: Some(EngineType::GoogleRe2(GoogleRe2 {})),
    };
    let predicate = SinglePredicate {
        input: Some(server_name()),
        matcher: Some(Single::ValueMatch(matcher::StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(pattern)),
            ignore_case: false,
        })),
    };
    FieldMatcher {
        predicate: Some(Predicate { match_type: Some(MatchType::SinglePredicate(predicate)) }),
        on_match: Some(to_chain(chain)),
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
