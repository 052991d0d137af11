//! Gateways: on which ports the gateway listens, for which hosts, and with which certificates.

use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::ObjectName;
use ingress_wasm_translate::output::Translation;
use ingress_wasm_translate::tls::{TlsSettings, TlsVersion};
use serde_json::{Value, json};

use super::clusters::{Clusters, Destination};
use super::credentials::Credentials;
use super::{Settings, short_hash};

const API: &str = "networking.istio.io/v1";

/// How many servers one Gateway has: far below the size that an API server takes.
const SERVERS: usize = 1000;

/// How many hosts one server, and how many destinations one VirtualService has.
const MANY: usize = 1000;

/// A server that speaks TLS, with one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// The name of its port, which no other has.
    name: String,
    /// The names that clients ask for.
    pub hosts: Vec<String>,
    /// The certificate.
    credential: String,
    /// What is allowed for versions before 1.3; none: Envoy's own list.
    ciphers: Vec<&'static str>,
    /// Clients are asked for certificates.
    pub asks: Option<Asks>,
}

/// Whose certificates clients are asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asks {
    /// The Secret of the authorities.
    secret: ObjectName,
    /// How many certificates may stand between the client's and that of the authority.
    pub depth: u32,
}

/// The servers that speak TLS.
pub(super) fn servers(translation: &Translation, credentials: &mut Credentials<'_>) -> Vec<Server> {
    let mut servers = Vec::new();
    for ((secret, ciphers, asks), hosts) in by_certificate(translation, credentials) {
        let own = if ciphers == translation.tls.ciphers { String::new() } else { ciphers.join(":") };
        let (credential, named) = match &asks {
            None => (credentials.of(&secret), format!("{secret}{own}")),
            Some(asks) => {
                let credential = credentials.asking(&secret, &asks.secret);
                (credential, format!("{secret}{own} {} {}", asks.secret, asks.depth))
            }
        };
        let hosts: Vec<String> = hosts.into_iter().collect();
        servers.extend(hosts.chunks(MANY).enumerate().map(|(index, part)| Server {
            name: format!("https-{}-{index}", short_hash(&named)),
            hosts: part.to_vec(),
            credential: credential.clone(),
            ciphers: ciphers.clone(),
            asks: asks.clone(),
        }));
    }
    match &translation.default_certificate {
        // A name that no server has is refused.
        _ if translation.tls.reject_unknown => {}
        Some(default) => servers.push(Server {
            name: "https-default".to_owned(),
            hosts: vec!["*".to_owned()],
            credential: credentials.of(&default.secret),
            ciphers: translation.tls.ciphers.clone(),
            asks: None,
        }),
        None => credentials.diagnostics.push(
            Diagnostic::note(
                "istio-no-default-certificate",
                "over TLS only hosts with a certificate of their own are served: there is no default certificate",
            )
            .remedy("name one by --default-ssl-certificate NAMESPACE/NAME"),
        ),
    }
    servers
}

/// The Gateways.
pub(super) fn gateways(tls: &[Server], translation: &Translation, settings: &Settings) -> Vec<Value> {
    let Settings { http_port, https_port, .. } = settings;
    let mut servers = vec![json!({
        "port": {"number": http_port, "name": "http", "protocol": "HTTP"},
        "hosts": ["*"],
    })];
    servers.extend(tls.iter().map(|Server { name, hosts, credential, ciphers, asks }| {
        let tls = TlsSettings { ciphers: ciphers.clone(), ..translation.tls.clone() };
        json!({
            "port": {"number": https_port, "name": name, "protocol": "HTTPS"},
            "hosts": hosts,
            "tls": server_tls(credential, asks.is_some(), &tls),
        })
    }));
    if !translation.passthrough.is_empty() {
        let hosts: Vec<&String> = translation.passthrough.keys().collect();
        // In the first Gateway, which the VirtualService names.
        let server = json!({
            "port": {"number": https_port, "name": "tls-passthrough", "protocol": "TLS"},
            "hosts": hosts,
            "tls": {"mode": "PASSTHROUGH"},
        });
        servers.insert(1, server);
    }
    servers
        .chunks(SERVERS)
        .enumerate()
        .map(|(index, servers)| {
            let spec = json!({"selector": settings.selector, "servers": servers});
            settings.object(API, "Gateway", &part(index), spec)
        })
        .collect()
}

/// Hosts by certificate, ciphers, and what clients are asked for.
type ByCertificate = BTreeMap<(ObjectName, Vec<&'static str>, Option<Asks>), BTreeSet<String>>;

/// The hosts of each Secret.
fn by_certificate(translation: &Translation, credentials: &mut Credentials<'_>) -> ByCertificate {
    let ciphers_of = |host: &str| {
        let own = translation.host_ciphers.get(host).map(|own| &own.ciphers);
        own.unwrap_or(&translation.tls.ciphers).clone()
    };
    let mut secrets: BTreeMap<String, (ObjectName, Vec<&'static str>)> = BTreeMap::new();
    for (host, certificate) in &translation.certificates {
        let Some(certificate) = certificate else { continue };
        if translation.passthrough.contains_key(host) {
            continue;
        }
        // Names under which it goes as well, as far as a Gateway can have them.
        let entry = translation.config.hosts.iter().find(|entry| entry.name == *host);
        let aliases = entry.iter().flat_map(|entry| &entry.aliases).filter(|alias| alias.tls);
        let names = aliases.map(|alias| &alias.name).filter(|name| is_gateway_host(name));
        let names = names.filter(|name| !translation.certificates.contains_key(*name));
        let how = (certificate.secret.clone(), ciphers_of(host));
        secrets.extend(names.chain([host]).map(|name| (name.clone(), how.clone())));
    }
    // A host that asks has a server of its own, even if its certificate is the default one.
    for host in translation.client_authorities.keys() {
        if secrets.contains_key(host) || translation.passthrough.contains_key(host) {
            continue;
        }
        match &translation.default_certificate {
            Some(default) if is_gateway_host(host) => {
                secrets.insert(host.clone(), (default.secret.clone(), ciphers_of(host)));
            }
            _ => credentials.diagnostics.push(
                Diagnostic::error(
                    "istio-client-certificates",
                    format!(
                        "clients of {host:?} are asked for no certificate, and are answered as those that have none: a \
                         server of the gateway needs a name of its own, and a certificate"
                    ),
                )
                .remedy("name the host, and a certificate for it under spec.tls or by --default-ssl-certificate"),
            ),
        }
    }
    let mut found = ByCertificate::new();
    for (host, (secret, ciphers)) in secrets {
        let asks = translation.client_authorities.get(&host);
        let asks =
            asks.map(|authorities| Asks { secret: authorities.secret.clone(), depth: authorities.depth });
        found.entry((secret, ciphers, asks)).or_default().insert(host);
    }
    found
}

fn is_gateway_host(name: &str) -> bool {
    let bare = name.strip_prefix("*.").unwrap_or(name);
    !bare.is_empty()
        && !bare.starts_with('.')
        && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
}

/// TLS with a certificate.
fn server_tls(credential: &str, asks: bool, tls: &TlsSettings) -> Value {
    let version = |version: TlsVersion| match version {
        TlsVersion::V1_0 => "TLSV1_0",
        TlsVersion::V1_1 => "TLSV1_1",
        TlsVersion::V1_2 => "TLSV1_2",
        TlsVersion::V1_3 => "TLSV1_3",
    };
    let mut found = json!({
        "mode": if asks { "OPTIONAL_MUTUAL" } else { "SIMPLE" },
        "credentialName": credential,
        "minProtocolVersion": version(tls.oldest),
        "maxProtocolVersion": version(tls.newest),
    });
    if !tls.ciphers.is_empty() {
        found["cipherSuites"] = json!(tls.ciphers);
    }
    found
}

/// VirtualServices: where connections go that are not opened; and all destinations, for an istiod that has to be told.
pub(super) fn virtual_services(
    translation: &Translation,
    clusters: &Clusters,
    settings: &Settings,
) -> Vec<Value> {
    let gateway = format!("{}/{}", settings.namespace, settings.name);
    let to = |Destination { host, port, subset }: &Destination| {
        let mut destination = json!({"host": host, "port": {"number": port}});
        if let Some(subset) = subset {
            destination["subset"] = subset.as_str().into();
        }
        json!([{"destination": destination}])
    };
    let mut found = Vec::new();
    let passed: Vec<(&String, &Destination)> = translation
        .passthrough
        .iter()
        .filter_map(|(host, cluster)| Some((host, clusters.destinations.get(cluster)?)))
        .collect();
    for (index, part_of) in passed.chunks(MANY).enumerate() {
        let hosts: Vec<&String> = part_of.iter().map(|(host, _)| *host).collect();
        let tls: Vec<Value> = part_of
            .iter()
            .map(|(host, destination)| {
                // The connection is the client's: none of our settings of requests hold for it.
                let plain = Destination { subset: None, ..(*destination).clone() };
                json!({
                    "match": [{"port": settings.https_port, "sniHosts": [host]}],
                    "route": to(&plain),
                })
            })
            .collect();
        let spec = json!({"hosts": hosts, "gateways": [gateway], "exportTo": ["."], "tls": tls});
        found.push(settings.object(API, "VirtualService", &format!("passthrough{}", dashed(index)), spec));
    }
    if settings.virtual_services {
        let destinations: BTreeSet<&Destination> = clusters.destinations.values().collect();
        let destinations: Vec<&Destination> = destinations.into_iter().collect();
        for (index, part_of) in destinations.chunks(MANY).enumerate() {
            // Routes that no request takes: those of the gateway are replaced.
            let http: Vec<Value> = part_of
                .iter()
                .map(|destination| {
                    let exact = json!({"exact": destination.cluster()});
                    json!({
                        "match": [{"headers": {crate::envoy::CLUSTER_HEADER: exact}}],
                        "route": to(destination),
                    })
                })
                .collect();
            let spec = json!({"hosts": ["*"], "gateways": [gateway], "exportTo": ["."], "http": http});
            found.push(settings.object(
                API,
                "VirtualService",
                &format!("destinations{}", dashed(index)),
                spec,
            ));
        }
    }
    found
}

/// The end of the name of a part: none for the first.
fn part(index: usize) -> String {
    if index == 0 { String::new() } else { (index + 1).to_string() }
}

fn dashed(index: usize) -> String {
    if index == 0 { String::new() } else { format!("-{}", index + 1) }
}
