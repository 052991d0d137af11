//! How backends are spoken to: `backend-protocol` and `proxy-ssl-*`.
//!
//! The settings of TLS hold for the rules of an Ingress and, where other Ingresses of a host have none of their
//! own, for those too: ingress-nginx writes them into the location and into the server (`nginx.tmpl`).
//!
//! A cluster whose endpoints are spoken to in another way than HTTP/1.1 in plain text is another cluster: its name
//! has what is different behind a `#`.
//!
//! Deliberately knows nothing of Services and endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingress_wasm::config::{Action, Balancing, Canary, PluginConfig, PolicySet};

use crate::annotations::{AnnotationSet, Setting, Value, parse_bool};
use crate::certificates::{self, Certificate, material};
use crate::ciphers::{CipherList, cipher_list};
use crate::diagnostic::Diagnostic;
use crate::objects::{Ingress, ObjectName, Snapshot};
use crate::output::{Cluster, Options};
use crate::report::Report;
use crate::tls::TlsVersion;

/// How the endpoints of a cluster are spoken to, where it is not HTTP/1.1 in plain text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transport {
    /// HTTP/2, as gRPC needs it.
    pub http2: bool,
    /// TLS.
    pub tls: Option<Arc<BackendTls>>,
}

/// TLS with backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTls {
    /// The server name that is sent; none unless asked for.
    pub server_name: Option<String>,
    /// How the backend's certificate is checked; it is not unless asked for.
    pub verify: Option<Verify>,
    /// The certificate that is shown to the backend if it asks.
    pub certificate: Option<Arc<Certificate>>,
    /// The oldest version.
    pub oldest: TlsVersion,
    /// The newest version.
    pub newest: TlsVersion,
    /// Ciphers for versions before 1.3; none: Envoy's own list.
    pub ciphers: Vec<&'static str>,
}

/// How a backend's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// The Secret of the authorities.
    pub secret: ObjectName,
    /// The certificates of the authorities, as PEM.
    pub authorities: String,
    /// The name that the certificate has to be for.
    pub name: String,
    /// How many certificates may stand between the backend's and that of the authority.
    pub depth: u32,
}

impl Default for BackendTls {
    /// What nginx does where nothing is said: any certificate will do, and no name is sent.
    fn default() -> Self {
        BackendTls {
            server_name: None,
            verify: None,
            certificate: None,
            oldest: TlsVersion::V1_2,
            newest: TlsVersion::V1_3,
            ciphers: Vec::new(),
        }
    }
}

/// What nginx calls the backends of ingress-nginx: the name that is checked and sent unless another is given.
const NGINX_NAME: &str = "upstream_balancer";

/// What an Ingress says of its backends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    protocol: Protocol,
    tls: Option<Arc<BackendTls>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Https,
    Grpc,
    Grpcs,
    /// That of the client's connection.
    Auto,
}

/// What all Ingresses say of their backends.
#[derive(Debug, Default)]
pub struct Protocols {
    by_ingress: BTreeMap<String, Asked>,
    /// The settings of TLS of the first Ingress of a host that has authorities.
    by_host: BTreeMap<String, Arc<BackendTls>>,
    /// Settings hold for the rules of their Ingress only (ConfigMap `proxy-ssl-location-only`).
    location_only: bool,
}

/// The clusters that are spoken to in another way, by name.
pub type Transports = BTreeMap<String, Transport>;

impl Protocols {
    /// Nothing read yet but the ConfigMap.
    pub fn new(snapshot: &Snapshot, options: &Options) -> Self {
        let map = options.config_map.as_ref().and_then(|name| snapshot.config_maps.get(name));
        let text = map.and_then(|map| map.data.get("proxy-ssl-location-only"));
        let location_only = text.and_then(|text| parse_bool(text)) == Some(true);
        Protocols { location_only, ..Protocols::default() }
    }

    /// Reads what an Ingress says. Ingresses come in order of age.
    ///
    /// # Errors
    ///
    /// Why its rules are denied: what was to be protected by TLS must not travel otherwise.
    pub fn read(
        &mut self,
        snapshot: &Snapshot,
        ingress: &Ingress,
        annotations: &AnnotationSet<'_>,
        report: &mut Report,
    ) -> Result<(), String> {
        let tls = match annotations.get("proxy-ssl-secret").filter(Setting::asks) {
            None => None,
            Some(setting) => Some(read_tls(snapshot, ingress, annotations, &setting, report)?),
        };
        let protocol = match annotations.value("backend-protocol") {
            Some(Value::Text(text)) => match text.to_ascii_uppercase().as_str() {
                "HTTPS" => Protocol::Https,
                "GRPC" => Protocol::Grpc,
                "GRPCS" => Protocol::Grpcs,
                "AUTO_HTTP" => Protocol::Auto,
                _ => Protocol::Http,
            },
            _ => Protocol::Http,
        };
        if let Some((tls, true)) = &tls {
            for rule in &ingress.rules {
                let host = rule.host.as_deref().filter(|host| !host.is_empty()).unwrap_or("*");
                self.by_host.entry(host.to_ascii_lowercase()).or_insert_with(|| Arc::clone(tls));
            }
        }
        if protocol != Protocol::Http {
            let tls = tls.map(|(tls, _)| tls);
            self.by_ingress.insert(ingress.metadata.name.to_string(), Asked { protocol, tls });
        }
        Ok(())
    }

    /// Leads rules to clusters that are spoken to as their Ingress says, and makes those.
    pub fn apply(&self, config: &mut PluginConfig, clusters: &mut BTreeMap<String, Cluster>) -> Transports {
        let mut transports = Transports::new();
        let PluginConfig { hosts, policies, balancing, .. } = config;
        for host in hosts {
            for rule in &mut host.rules {
                let Some(asked) = self.by_ingress.get(&rule.ingress) else { continue };
                let Action::Forward { cluster, service, balancing: position_of } = &mut rule.action else {
                    continue;
                };
                let divided = *position_of;
                let inherited = self.by_host.get(&host.name).filter(|_| !self.location_only);
                let tls = asked.tls.as_ref().or(inherited).cloned().unwrap_or_default();
                let over_tls = Transport { http2: asked.protocol == Protocol::Grpcs, tls: Some(tls) };
                let transport = match asked.protocol {
                    Protocol::Http => continue,
                    Protocol::Grpc => Transport { http2: true, tls: None },
                    Protocol::Https | Protocol::Grpcs | Protocol::Auto => over_tls,
                };
                let suffix = suffix(&transport);
                let mut variant = |cluster: &str| {
                    let other = format!("{cluster}{suffix}");
                    if let Some(settings) = clusters.get(cluster).cloned() {
                        clusters.insert(other.clone(), settings);
                        transports.insert(other.clone(), transport.clone());
                    }
                    other
                };
                let other = variant(cluster);
                let divided =
                    divided.and_then(|position| balancing.get(position)).cloned().map(|mut found| {
                        clusters_of(&mut found).for_each(|cluster| *cluster = variant(cluster));
                        found
                    });
                if asked.protocol == Protocol::Auto {
                    // The filter chooses, by the connection of the client.
                    rule.policies = with_suffix(policies, rule.policies, suffix);
                    continue;
                }
                if let Some(found) = divided {
                    *position_of = Some(position(balancing, found));
                }
                if service.is_empty() {
                    service.clone_from(cluster);
                }
                *cluster = other;
            }
        }
        transports
    }
}

/// The clusters that requests are divided among, besides that of the rule.
fn clusters_of(balancing: &mut Balancing) -> impl Iterator<Item = &mut String> {
    let Balancing { canary, hash_by, .. } = balancing;
    let (canary, hashes) = match canary {
        Some(Canary { cluster, hash_by, .. }) => (Some(cluster), hash_by.as_mut()),
        None => (None, None),
    };
    let subsets = hash_by.as_mut().into_iter().chain(hashes).flat_map(|hash| &mut hash.subsets);
    canary.into_iter().chain(subsets)
}

/// The position of a value in a list; it is added where it is not there.
fn position<T: PartialEq>(list: &mut Vec<T>, value: T) -> usize {
    list.iter().position(|found| *found == value).unwrap_or_else(|| {
        list.push(value);
        list.len() - 1
    })
}

/// The position of the same policies with the suffix of the clusters for requests over TLS.
fn with_suffix(policies: &mut Vec<PolicySet>, position: usize, suffix: String) -> usize {
    let Some(set) = policies.get(position) else { return position };
    let set = PolicySet { tls_cluster_suffix: Some(suffix), ..set.clone() };
    self::position(policies, set)
}

/// What is different, for the name of the cluster.
fn suffix(transport: &Transport) -> String {
    let protocol = match (transport.http2, &transport.tls) {
        (false, _) => "https",
        (true, None) => "grpc",
        (true, Some(_)) => "grpcs",
    };
    match transport.tls.as_deref().filter(|tls| **tls != BackendTls::default()) {
        None => format!("#protocol={protocol}"),
        // The content of Secrets is not in the name, so that a new one changes nothing else.
        Some(tls) => format!("#protocol={protocol},tls={:08x}", tls.hash()),
    }
}

impl BackendTls {
    /// A hash of the settings: FNV-1a over a text that holds names of Secrets and not their content.
    fn hash(&self) -> u32 {
        let BackendTls { server_name, verify, certificate, oldest, newest, ciphers } = self;
        let verify = verify.as_ref().map(|verify| (&verify.secret, &verify.name, verify.depth));
        let certificate = certificate.as_ref().map(|certificate| &certificate.secret);
        let text = format!("{server_name:?}{verify:?}{certificate:?}{oldest:?}{newest:?}{ciphers:?}");
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}

/// The settings of TLS, and whether there are authorities among them.
fn read_tls(
    snapshot: &Snapshot,
    ingress: &Ingress,
    annotations: &AnnotationSet<'_>,
    setting: &Setting<'_>,
    report: &mut Report,
) -> Result<(Arc<BackendTls>, bool), String> {
    let mut deny = |key: &str, code, fault: String, remedy: &str| {
        let diagnostic =
            Diagnostic::error(code, format!("{fault}: requests are answered 503")).remedy(remedy);
        report.annotation(ingress, key, diagnostic);
        fault
    };
    // The registry denies what is no name of a Secret.
    let Ok(Value::Name { namespace, name }) = setting.parse() else {
        return Err("the value of proxy-ssl-secret is not valid".to_owned());
    };
    let own_namespace = &ingress.metadata.name.namespace;
    let secret = ObjectName::new(namespace.unwrap_or_else(|| own_namespace.clone()), name);
    if secret.namespace != *own_namespace {
        let fault = format!("Secret {secret} is in another namespace");
        let remedy = "move the Secret to the namespace of the Ingress";
        return Err(deny(setting.key, "proxy-ssl-secret-namespace", fault, remedy));
    }
    let Some(found) = snapshot.secrets.get(&secret) else {
        let fault = format!("Secret {secret} does not exist");
        let remedy = "create the Secret, with `ca.crt`, or with `tls.crt` and `tls.key`, or with all of them";
        return Err(deny(setting.key, "proxy-ssl-secret-missing", fault, remedy));
    };
    let malformed = "proxy-ssl-secret-malformed";
    let has = |key: &str| found.data.get(key).is_some_and(|bytes| !bytes.is_empty());
    let mut tls = BackendTls::default();
    if has("tls.crt") || has("tls.key") {
        match certificates::read_secret(snapshot, &secret) {
            Ok(certificate) => tls.certificate = Some(certificate),
            Err(fault) => return Err(deny(setting.key, malformed, fault.what, fault.remedy)),
        }
    }
    let authorities = match found.data.get("ca.crt").filter(|bytes| !bytes.is_empty()) {
        None => None,
        Some(bytes) => match material::authorities(bytes) {
            Ok(authorities) => Some(authorities),
            Err(error) => {
                let fault = format!("Secret {secret}: {error}");
                let remedy = "put the certificates of the authorities as PEM under the key `ca.crt`";
                return Err(deny(setting.key, malformed, fault, remedy));
            }
        },
    };
    if authorities.is_none() && tls.certificate.is_none() {
        let fault = format!("Secret {secret} holds neither a certificate nor authorities");
        let remedy = "put `ca.crt`, or `tls.crt` and `tls.key`, or all of them into it";
        return Err(deny(setting.key, malformed, fault, remedy));
    }
    let is_on = |name: &str| matches!(annotations.value(name), Some(Value::Text(text)) if text == "on");
    let name_setting = annotations.get("proxy-ssl-name");
    let name = match name_setting.map(|setting| (setting, setting.parse())) {
        Some((setting, Ok(Value::Text(name)))) => {
            if name.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            {
                let fault = "only a host name can be checked and sent, without variables".to_owned();
                return Err(deny(setting.key, "annotation-invalid", fault, "write the name of the backend"));
            }
            Some(name)
        }
        _ => None,
    };
    let server_name = name.clone().unwrap_or_else(|| NGINX_NAME.to_owned());
    tls.server_name = is_on("proxy-ssl-server-name").then(|| server_name.clone());
    let verifies = is_on("proxy-ssl-verify");
    let Some(authorities) = authorities else {
        if verifies {
            let fault = format!("Secret {secret} has no `ca.crt` to check backends by");
            let remedy = "put the certificates of the authorities as PEM under the key `ca.crt`";
            return Err(deny(setting.key, malformed, fault, remedy));
        }
        return Ok((Arc::new(tls), false));
    };
    // Beside authorities ingress-nginx allows version 1.2 alone unless told otherwise.
    let versions = match annotations.value("proxy-ssl-protocols") {
        Some(Value::List(names)) => names,
        _ => Vec::new(),
    };
    let asks = |version: &str| versions.iter().any(|name| name == version);
    tls.oldest = if asks("TLSv1.3") && !asks("TLSv1.2") { TlsVersion::V1_3 } else { TlsVersion::V1_2 };
    tls.newest = if asks("TLSv1.3") { TlsVersion::V1_3 } else { TlsVersion::V1_2 };
    if let Some(setting) = annotations.get("proxy-ssl-ciphers") {
        let CipherList { ciphers, unknown } = cipher_list(setting.text);
        // That of OpenSSL is no particular list.
        tls.ciphers = if setting.text.trim() == "DEFAULT" { Vec::new() } else { ciphers };
        if !unknown.is_empty() {
            let consequence = format!("not available and left out: {}", unknown.join(", "));
            let diagnostic = Diagnostic::warning("ssl-ciphers-unknown", consequence)
                .remedy("use ciphers with AES-GCM or ChaCha20, by OpenSSL's names");
            report.annotation(ingress, setting.key, diagnostic);
        }
    }
    if verifies {
        if name.is_none() {
            let consequence = format!(
                "without proxy-ssl-name the certificate of a backend has to be for the name {NGINX_NAME}, as in \
                 ingress-nginx: others are answered 502"
            );
            let key = annotations.get("proxy-ssl-verify").map_or(setting.key, |setting| setting.key);
            let diagnostic = Diagnostic::warning("proxy-ssl-name-missing", consequence)
                .remedy("set proxy-ssl-name to a name in the certificates of the backends");
            report.annotation(ingress, key, diagnostic);
        }
        let depth = match annotations.value("proxy-ssl-verify-depth") {
            Some(Value::Integer(depth)) if depth > 0 => u32::try_from(depth).unwrap_or(100).min(100),
            _ => 1,
        };
        tls.verify = Some(Verify { secret, authorities, name: server_name, depth });
    }
    Ok((Arc::new(tls), true))
}

#[cfg(test)]
#[path = "backend_protocol_tests.rs"]
mod tests;
