//! Which certificate serves which host, as ingress-nginx decides it (`controller.go`, `createServers` and
//! `extractTLSSecretName`): the oldest Ingress of a host that has a `tls` section decides, by the entry that
//! lists the host, else by the first entry whose certificate covers it. What it decides for is final: where
//! its Secret cannot be used the host gets the default certificate, and no younger Ingress is asked.
//!
//! Everything that Envoy would refuse is found here, since a refused Secret would hold up every change.
//!
//! Deliberately knows nothing of listeners and of the time: an expired certificate is served.

pub(crate) mod material;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::annotations::AnnotationSet;
use crate::diagnostic::Diagnostic;
use crate::objects::{Ingress, Kind, ObjectName, ObjectRef, Snapshot};
use crate::output::Options;
use crate::report::Report;

/// A certificate of a Secret. Its key is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The Secret.
    pub secret: ObjectName,
    /// The chain as PEM, the server's own certificate first.
    pub chain: String,
    /// The private key as PEM.
    pub key: String,
    /// The names that it is for, in small letters: its alternative names of type DNS, else its common name.
    pub names: Vec<String>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Certificate")
            .field("secret", &self.secret)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// Whether it is for a host; for `*.example.com` if it is for just that.
    pub fn covers(&self, host: &str) -> bool {
        self.names
            .iter()
            .any(|name| name == host || wildcard_of(host).is_some_and(|wildcard| wildcard == *name))
    }
}

/// `*.example.com` for `www.example.com`; nothing for a name without a dot and for a wildcard.
pub fn wildcard_of(host: &str) -> Option<String> {
    let (label, rest) = host.split_once('.')?;
    (label != "*" && !label.is_empty() && !rest.is_empty()).then(|| format!("*.{rest}"))
}

/// The certificates by host; none: the default certificate, even below a wildcard with one of its own.
pub type Certificates = BTreeMap<String, Option<Arc<Certificate>>>;

/// What was found in each Secret so far.
type Read = BTreeMap<ObjectName, Result<Arc<Certificate>, Fault>>;

/// Why a Secret gives no certificate.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    code: &'static str,
    pub(crate) what: String,
    pub(crate) remedy: &'static str,
}

/// The certificates of these Ingresses, which come in order of age. Hosts that are not in it have that of
/// their wildcard, else the default certificate.
pub fn certificates(snapshot: &Snapshot, ingresses: &[&Ingress], report: &mut Report) -> Certificates {
    let mut read = Read::new();
    let mut decided = Certificates::new();
    for ingress in ingresses {
        if ingress.tls.is_empty() || AnnotationSet::of(ingress, None).is_true("canary") {
            continue;
        }
        for rule in &ingress.rules {
            let host = rule.host.as_deref().unwrap_or_default().to_ascii_lowercase();
            // Rules without a host belong to the default server, which has the default certificate.
            if host.is_empty() || decided.contains_key(&host) {
                continue;
            }
            let certificate = choose(snapshot, ingress, &host, &mut read, report);
            decided.insert(host, certificate);
        }
        unused_hosts(ingress, report);
    }
    decided
}

/// The certificate that the options name, for hosts that have none of their own.
pub fn default_certificate(
    snapshot: &Snapshot,
    options: &Options,
    report: &mut Report,
) -> Option<Arc<Certificate>> {
    let name = options.default_certificate.as_ref()?;
    match read_secret(snapshot, name) {
        Ok(certificate) => Some(certificate),
        Err(Fault { code, what, remedy }) => {
            let consequence = format!(
                "{what}: a self-signed certificate stands in for the one that --default-ssl-certificate names"
            );
            let source = snapshot.secrets.get(name).and_then(|secret| secret.metadata.source.clone());
            let object = ObjectRef { kind: Kind::Secret, name: name.clone() };
            report.add(Diagnostic::error(code, consequence).object(object, source).remedy(remedy));
            None
        }
    }
}

fn choose(
    snapshot: &Snapshot,
    ingress: &Ingress,
    host: &str,
    read: &mut Read,
    report: &mut Report,
) -> Option<Arc<Certificate>> {
    let namespace = &ingress.metadata.name.namespace;
    let mut get = |name: &str| {
        let name = ObjectName::new(namespace.clone(), name);
        read.entry(name.clone()).or_insert_with(|| read_secret(snapshot, &name)).clone()
    };
    let lists = |hosts: &[String]| hosts.iter().any(|listed| listed.eq_ignore_ascii_case(host));
    let listed = ingress.tls.iter().enumerate().find(|(_, tls)| lists(&tls.hosts));
    let Some((index, tls)) = listed else {
        // No entry lists it: the first whose certificate is for it, by its alternative names.
        let named = ingress.tls.iter().filter_map(|tls| tls.secret_name.as_deref());
        let found = named.filter_map(|name| get(name).ok()).find(|certificate| certificate.covers(host));
        if found.is_none() {
            let consequence =
                format!("no entry lists {host} or has a certificate for it: it gets the default certificate");
            let diagnostic = Diagnostic::note("tls-host-unlisted", consequence)
                .field("spec.tls", "")
                .remedy("list the host in the entry whose Secret has its certificate");
            report.ingress(ingress, 0, diagnostic);
        }
        return found;
    };
    let name = tls.secret_name.as_deref()?;
    let (code, what, remedy) = match get(name) {
        Ok(certificate) if certificate.covers(host) => return Some(certificate),
        Ok(certificate) => {
            let what = format!("the certificate is for {} and not for {host}", certificate.names.join(", "));
            ("tls-secret-other-host", what, "put a certificate for the host into the Secret")
        }
        Err(Fault { code, what, remedy }) => (code, what, remedy),
    };
    let diagnostic = Diagnostic::error(code, format!("{what}: {host} gets the default certificate"))
        .field(format!("spec.tls[{index}].secretName"), name)
        .remedy(remedy);
    report.ingress(ingress, 0, diagnostic);
    None
}

/// A host in a `tls` section that no rule of the Ingress names has no effect in ingress-nginx either.
fn unused_hosts(ingress: &Ingress, report: &mut Report) {
    let is_named = |host: &String| {
        let mut hosts = ingress.rules.iter().filter_map(|rule| rule.host.as_deref());
        hosts.any(|named| named.eq_ignore_ascii_case(host))
    };
    for (index, tls) in ingress.tls.iter().enumerate() {
        for (position, host) in tls.hosts.iter().enumerate().filter(|(_, host)| !is_named(host)) {
            let diagnostic = Diagnostic::note(
                "tls-host-unused",
                "no rule of the Ingress is for this host: the entry has no effect on it",
            )
            .field(format!("spec.tls[{index}].hosts[{position}]"), host)
            .remedy("add a rule for the host, or remove it here");
            report.ingress(ingress, 0, diagnostic);
        }
    }
}

/// Reads `tls.crt` and `tls.key`; the type of the Secret does not matter, as in ingress-nginx.
pub(crate) fn read_secret(snapshot: &Snapshot, name: &ObjectName) -> Result<Arc<Certificate>, Fault> {
    let fault = |code, what: String, remedy| Fault { code, what, remedy };
    let Some(secret) = snapshot.secrets.get(name) else {
        let what = format!("Secret {name} does not exist");
        return Err(fault("tls-secret-missing", what, "create the Secret, of type kubernetes.io/tls"));
    };
    let malformed = |what: String| {
        let remedy = "put the chain under `tls.crt` and its key under `tls.key`, both as PEM";
        fault("tls-secret-malformed", format!("Secret {name}: {what}"), remedy)
    };
    let text = |key: &str| {
        let bytes = secret.data.get(key).ok_or_else(|| malformed(format!("there is no `{key}`")))?;
        String::from_utf8(bytes.clone()).map_err(|_| malformed(format!("`{key}` is no PEM text")))
    };
    let (chain, key) = (text("tls.crt")?, text("tls.key")?);
    let names = material::check(&chain, &key).map_err(|error| malformed(error.to_string()))?;
    Ok(Arc::new(Certificate { secret: name.clone(), chain, key, names }))
}

#[cfg(test)]
mod tests;
