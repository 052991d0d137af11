//! Client certificates (`auth-tls-*`): what a host asks of its clients, and by which authorities.
//!
//! It holds for whole hosts, as in ingress-nginx (`controller.go`, `getBackendServers`): the first Ingress of a
//! host with authorities decides, and one whose Secret cannot be used closes the host, whatever others say.
//! Wherever ingress-nginx would let everybody in by mistake, nobody is.
//!
//! Deliberately knows nothing of listeners and of the time: an expired authority is handed on.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingress_wasm::config::{ClientCertificate, Host, VerifyClient};
use ingress_wasm::regex::{Options, Regex};

use crate::annotations::{AnnotationSet, Setting, Value};
use crate::certificates::material;
use crate::diagnostic::Diagnostic;
use crate::objects::{Ingress, ObjectName, Snapshot};
use crate::report::Report;

/// Whose signature on a client's certificate counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// The Secret.
    pub secret: ObjectName,
    /// How many certificates may stand between the client's and that of the authority.
    pub depth: u32,
    /// The certificates of the authorities, as PEM.
    pub certificates: String,
    /// Lists of revoked certificates, as PEM; with one there has to be one of each authority.
    pub revoked: Option<String>,
}

/// The authorities by host name, or by an alias of a host. Hosts that ask for no certificate are not in it.
pub type ClientAuthorities = BTreeMap<String, Arc<Authorities>>;

/// What an Ingress asks for.
struct Asked<'s> {
    ingress: &'s Ingress,
    settings: ClientCertificate,
    /// None where no certificate is asked for.
    authorities: Option<Arc<Authorities>>,
}

/// Reads what these Ingresses ask for, which come in order of age, and puts it into their hosts.
pub fn apply(
    snapshot: &Snapshot,
    ingresses: &[&Ingress],
    hosts: &mut [Host],
    report: &mut Report,
) -> ClientAuthorities {
    let mut by_host: BTreeMap<String, Asked<'_>> = BTreeMap::new();
    for ingress in ingresses {
        let Some(asked) = read(snapshot, ingress, report) else { continue };
        for rule in &ingress.rules {
            let host = rule.host.as_deref().filter(|host| !host.is_empty()).unwrap_or("*");
            add(&mut by_host, host.to_ascii_lowercase(), &asked, report);
        }
    }
    let mut authorities = ClientAuthorities::new();
    for host in hosts {
        let Some(Asked { settings, authorities: asked, .. }) = by_host.remove(&host.name) else { continue };
        host.client_certificate = Some(settings);
        let Some(asked) = asked else { continue };
        let aliases = host.aliases.iter().map(|alias| &alias.name).filter(|name| is_name(name));
        authorities.extend(aliases.chain([&host.name]).map(|name| (name.clone(), Arc::clone(&asked))));
    }
    authorities
}

/// Whether an alias is a name or a wildcard for one label, which the listener can tell by the server name: by others it
/// asks for no certificate, and who comes by one of them is answered as without.
pub(crate) fn is_name(alias: &str) -> bool {
    !alias.starts_with(['~', '.']) && !alias.ends_with('*')
}

fn add<'s>(by_host: &mut BTreeMap<String, Asked<'s>>, host: String, asked: &Asked<'s>, report: &mut Report) {
    let copy =
        || Asked { settings: asked.settings.clone(), authorities: asked.authorities.clone(), ..*asked };
    let refuses = |asked: &Asked<'_>| asked.settings.verify == VerifyClient::Refuse;
    match by_host.get(&host) {
        None => {
            by_host.insert(host, copy());
        }
        Some(first) if refuses(asked) && !refuses(first) => {
            by_host.insert(host, copy());
        }
        Some(first) if refuses(first) || std::ptr::eq(first.ingress, asked.ingress) => {}
        Some(first) if first.settings == asked.settings && first.authorities == asked.authorities => {}
        Some(first) => {
            let consequence = format!(
                "what another Ingress that comes first ({}) says of client certificates holds for {host}",
                first.ingress.metadata.name
            );
            let diagnostic = Diagnostic::warning("auth-tls-conflict", consequence)
                .remedy("say the same in both, or only in one of them");
            let set = AnnotationSet::of(asked.ingress, None);
            let key = set.get("auth-tls-secret").map_or("", |setting| setting.key);
            report.annotation(asked.ingress, key, diagnostic);
        }
    }
}

fn read<'s>(snapshot: &Snapshot, ingress: &'s Ingress, report: &mut Report) -> Option<Asked<'s>> {
    let annotations = AnnotationSet::of(ingress, None);
    let setting = annotations.get("auth-tls-secret").filter(Setting::asks)?;
    let text = |name: &str| match annotations.value(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    };
    let verify = match text("auth-tls-verify-client").as_deref() {
        Some("off") => VerifyClient::Off,
        Some("optional") => VerifyClient::Optional,
        Some("optional_no_ca") => VerifyClient::OptionalNoCa,
        _ => VerifyClient::On,
    };
    let mut settings = ClientCertificate {
        verify,
        subject: subject(ingress, &annotations, report),
        error_page: error_page(ingress, &annotations, report),
        pass_certificate: annotations.is_true("auth-tls-pass-certificate-to-upstream"),
    };
    let depth = match annotations.value("auth-tls-verify-depth") {
        Some(Value::Integer(depth)) if depth > 0 => u32::try_from(depth).unwrap_or(u32::MAX).min(100),
        _ => 1,
    };
    let authorities = match authorities(snapshot, ingress, &setting, depth, report) {
        Some(authorities) => Some(Arc::new(authorities)).filter(|_| verify != VerifyClient::Off),
        None => {
            settings.verify = VerifyClient::Refuse;
            None
        }
    };
    Some(Asked { ingress, settings, authorities })
}

/// The authorities of the Secret; none, and a diagnostic, where there are none to be had.
fn authorities(
    snapshot: &Snapshot,
    ingress: &Ingress,
    setting: &Setting<'_>,
    depth: u32,
    report: &mut Report,
) -> Option<Authorities> {
    let own_namespace = &ingress.metadata.name.namespace;
    let Ok(Value::Name { namespace, name }) = setting.parse() else {
        // The registry says so.
        return None;
    };
    let name = ObjectName::new(namespace.unwrap_or_else(|| own_namespace.clone()), name);
    let mut refuse = |code, fault: String, remedy: &str| {
        let consequence = format!("{fault}: every request for the hosts of this Ingress is answered 403");
        report.annotation(ingress, setting.key, Diagnostic::error(code, consequence).remedy(remedy));
        None
    };
    if name.namespace != *own_namespace {
        let fault = format!("Secret {name} is in another namespace");
        let remedy = "move the Secret to the namespace of the Ingress";
        return refuse("auth-tls-secret-namespace", fault, remedy);
    }
    let remedy = "create the Secret, with the certificates of the authorities as PEM under the key `ca.crt`";
    let Some(secret) = snapshot.secrets.get(&name) else {
        return refuse("auth-tls-secret-missing", format!("Secret {name} does not exist"), remedy);
    };
    let Some(certificates) = secret.data.get("ca.crt").filter(|bytes| !bytes.is_empty()) else {
        let remedy = "put the certificates of the authorities as PEM under the key `ca.crt`";
        return refuse("auth-tls-secret-malformed", format!("Secret {name} has no `ca.crt`"), remedy);
    };
    let certificates = match material::authorities(certificates) {
        Ok(certificates) => certificates,
        Err(error) => {
            let fault = format!("Secret {name}: {error}");
            return refuse("auth-tls-secret-malformed", fault, remedy);
        }
    };
    let revoked = match secret.data.get("ca.crl").filter(|bytes| !bytes.is_empty()) {
        None => None,
        Some(lists) => match material::revocation_lists(lists) {
            Ok(lists) => Some(lists),
            Err(error) => {
                let remedy = "put the lists as PEM under the key `ca.crl`, or take the key away";
                let fault = format!("Secret {name}: {error}");
                return refuse("auth-tls-secret-malformed", fault, remedy);
            }
        },
    };
    Some(Authorities { secret: name, depth, certificates, revoked })
}

/// The expression for the subject. The filter lets nobody in by one that it cannot match.
fn subject(ingress: &Ingress, annotations: &AnnotationSet<'_>, report: &mut Report) -> Option<String> {
    let setting = annotations.get("auth-tls-match-cn")?;
    let Ok(Value::Text(expression)) = setting.parse() else { return None };
    if let Err(error) = Regex::new(&expression, Options::default()) {
        let consequence = format!(
            "the value is not an expression that can be matched: {error}: every request for the hosts of this \
             Ingress is answered 403"
        );
        let diagnostic =
            Diagnostic::error("expression-invalid", consequence).remedy("correct the expression");
        report.annotation(ingress, setting.key, diagnostic);
    }
    Some(expression)
}

fn error_page(ingress: &Ingress, annotations: &AnnotationSet<'_>, report: &mut Report) -> Option<String> {
    let setting = annotations.get("auth-tls-error-page")?;
    let Ok(Value::Text(page)) = setting.parse() else { return None };
    if !page.starts_with('@') {
        return Some(page);
    }
    let consequence =
        "there are no named locations: clients without an accepted certificate are answered 400";
    let diagnostic =
        Diagnostic::warning("annotation-invalid", consequence).remedy("name a URL, or a path of the host");
    report.annotation(ingress, setting.key, diagnostic);
    None
}

#[cfg(test)]
#[path = "client_certificates_tests.rs"]
mod tests;
