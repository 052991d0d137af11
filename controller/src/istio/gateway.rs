//! Gateways: on which ports the gateway listens, for which hosts, and with which certificates.

use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::ObjectName;
use ingress_wasm_translate::output::Translation;
use ingress_wasm_translate::tls::{TlsSettings, TlsVersion};
use serde_json::{Value, json};

use super::clusters::{Clusters, Destination};
use super::{Settings, short_hash};

const API: &str = "networking.istio.io/v1";

/// How many servers one Gateway has: far below the size that an API server takes.
const SERVERS: usize = 1000;

/// How many hosts one server, and how many destinations one VirtualService has.
const MANY: usize = 1000;

/// The Gateways.
pub(super) fn gateways(
    translation: &Translation,
    settings: &Settings,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Value> {
    let Settings { http_port, https_port, .. } = settings;
    let mut servers = vec![json!({
        "port": {"number": http_port, "name": "http", "protocol": "HTTP"},
        "hosts": ["*"],
    })];
    let mut https = |name: String, hosts: Vec<String>, tls: Value| {
        servers.push(json!({
            "port": {"number": https_port, "name": name, "protocol": "HTTPS"},
            "hosts": hosts,
            "tls": tls,
        }));
    };
    for ((secret, ciphers), hosts) in by_secret(translation) {
        let credential = settings.credential(&secret, diagnostics);
        let hosts: Vec<String> = hosts.into_iter().collect();
        let tls = TlsSettings { ciphers: ciphers.to_vec(), ..translation.tls.clone() };
        let own = if *ciphers == *translation.tls.ciphers { String::new() } else { ciphers.join(":") };
        for (index, part) in hosts.chunks(MANY).enumerate() {
            let name = format!("https-{}-{index}", short_hash(&format!("{secret}{own}")));
            https(name, part.to_vec(), simple(&credential, &tls));
        }
    }
    match &translation.default_certificate {
        // A name that no server has is refused.
        _ if translation.tls.reject_unknown => {}
        Some(default) => {
            let credential = settings.credential(&default.secret, diagnostics);
            https("https-default".to_owned(), vec!["*".to_owned()], simple(&credential, &translation.tls));
        }
        None => diagnostics.push(
            Diagnostic::note(
                "istio-no-default-certificate",
                "over TLS only hosts with a certificate of their own are served: there is no default certificate",
            )
            .remedy("name one by --default-ssl-certificate NAMESPACE/NAME"),
        ),
    }
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

/// The hosts of each Secret and list of ciphers.
fn by_secret(translation: &Translation) -> BTreeMap<(ObjectName, &[&'static str]), BTreeSet<String>> {
    let mut found: BTreeMap<(ObjectName, &[&'static str]), BTreeSet<String>> = BTreeMap::new();
    for (host, certificate) in &translation.certificates {
        let Some(certificate) = certificate else { continue };
        if translation.passthrough.contains_key(host) {
            continue;
        }
        let ciphers = translation.host_ciphers.get(host).map_or(&translation.tls.ciphers, |own| &own.ciphers);
        let hosts = found.entry((certificate.secret.clone(), ciphers)).or_default();
        hosts.insert(host.clone());
        // Names under which it goes as well, as far as a Gateway can have them.
        let entry = translation.config.hosts.iter().find(|entry| entry.name == *host);
        let aliases = entry.iter().flat_map(|entry| &entry.aliases).filter(|alias| alias.tls);
        let names = aliases.map(|alias| &alias.name).filter(|name| is_gateway_host(name));
        hosts.extend(names.filter(|name| !translation.certificates.contains_key(*name)).cloned());
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
fn simple(credential: &str, tls: &TlsSettings) -> Value {
    let version = |version: TlsVersion| match version {
        TlsVersion::V1_0 => "TLSV1_0",
        TlsVersion::V1_1 => "TLSV1_1",
        TlsVersion::V1_2 => "TLSV1_2",
        TlsVersion::V1_3 => "TLSV1_3",
    };
    let mut found = json!({
        "mode": "SIMPLE",
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
