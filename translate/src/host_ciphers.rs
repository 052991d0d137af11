//! What Ingresses say of the ciphers of their hosts (`ssl-ciphers`, `ssl-prefer-server-ciphers`), as ingress-nginx reads it
//! (`controller.go`, `createServers`): of each, the first Ingress of a host that says anything decides.
//!
//! Deliberately knows nothing of listeners and certificates.

use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm::config::Host;

use crate::annotations::Value;
use crate::ciphers::{CipherList, cipher_list};
use crate::client_certificates::is_name;
use crate::diagnostic::Diagnostic;
use crate::hosts::host_name;
use crate::objects::ObjectName;
use crate::report::Report;
use crate::tls::TlsSettings;
use crate::upstreams::Admitted;

/// The ciphers of a host with clients.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostCiphers {
    /// As [`TlsSettings::ciphers`].
    pub ciphers: Vec<&'static str>,
    /// The order of the client decides, not that of the list.
    pub clients_order: bool,
}

/// Those of hosts that differ from all the others, by name; names of aliases are among them.
pub type CiphersByHost = BTreeMap<String, HostCiphers>;

/// What was said first of a host, and by whom.
#[derive(Default)]
struct Said {
    ciphers: Option<(ObjectName, Vec<&'static str>)>,
    clients_order: Option<(ObjectName, bool)>,
}

/// Reads what the Ingresses say, which come in order of age.
pub fn read(
    admitted: &[Admitted<'_>],
    hosts: &[Host],
    settings: &TlsSettings,
    report: &mut Report,
) -> CiphersByHost {
    let mut said: BTreeMap<String, Said> = BTreeMap::new();
    let admitted = admitted.iter().filter(|admitted| !admitted.is_canary() && admitted.withheld.is_none());
    for admitted in admitted {
        let ciphers = ciphers(admitted, settings, report);
        let clients_order = match admitted.annotations.value("ssl-prefer-server-ciphers") {
            Some(Value::Bool(servers)) => Some(!servers),
            _ => None,
        };
        for host in admitted.ingress.rules.iter().map(host_name).collect::<BTreeSet<_>>() {
            let said = said.entry(host.clone()).or_default();
            add(&mut said.ciphers, &ciphers, "ssl-ciphers", &host, admitted, report);
            add(
                &mut said.clients_order,
                &clients_order,
                "ssl-prefer-server-ciphers",
                &host,
                admitted,
                report,
            );
        }
    }
    let usual = HostCiphers { ciphers: settings.ciphers.clone(), clients_order: false };
    let mut found = CiphersByHost::new();
    for host in hosts {
        let Some(Said { ciphers, clients_order }) = said.remove(&host.name) else { continue };
        let own = HostCiphers {
            ciphers: ciphers.map_or_else(|| usual.ciphers.clone(), |(_, list)| list),
            clients_order: clients_order.is_some_and(|(_, clients)| clients),
        };
        if own != usual {
            let aliases = host.aliases.iter().map(|alias| &alias.name).filter(|name| is_name(name));
            found.extend(aliases.chain([&host.name]).map(|name| (name.clone(), own.clone())));
        }
    }
    found
}

/// Takes in what an Ingress says of a host, if it is the first.
fn add<T: Clone + PartialEq>(
    first: &mut Option<(ObjectName, T)>,
    value: &Option<T>,
    annotation: &str,
    host: &str,
    admitted: &Admitted<'_>,
    report: &mut Report,
) {
    let Some(value) = value else { return };
    match first {
        None => *first = Some((admitted.ingress.metadata.name.clone(), value.clone())),
        Some((_, same)) if same == value => {}
        Some((owner, _)) => {
            let consequence =
                format!("what another Ingress that comes first ({owner}) says of ciphers holds for {host}");
            let diagnostic = Diagnostic::warning("ssl-ciphers-conflict", consequence)
                .remedy("say the same in both, or only in one of them");
            let key = admitted.annotations.get(annotation).map_or(annotation, |setting| setting.key);
            report.annotation(admitted.ingress, key, diagnostic);
        }
    }
}

/// The list of an Ingress; none where it has none of which anything is known.
fn ciphers(
    admitted: &Admitted<'_>,
    settings: &TlsSettings,
    report: &mut Report,
) -> Option<Vec<&'static str>> {
    let annotation = admitted.annotations.get("ssl-ciphers")?;
    let Some(Value::Text(text)) = admitted.annotations.value("ssl-ciphers") else { return None };
    let CipherList { ciphers, unknown } = cipher_list(&text);
    if ciphers.is_empty() {
        let instead = if settings.ciphers.is_empty() { "Envoy's own list" } else { "that of the ConfigMap" };
        let consequence = format!("none of these ciphers is known: {instead} holds");
        let diagnostic = Diagnostic::warning("ssl-ciphers-unknown", consequence)
            .remedy("use ciphers with AES-GCM or ChaCha20, by OpenSSL's names");
        report.annotation(admitted.ingress, annotation.key, diagnostic);
        return None;
    }
    if !unknown.is_empty() {
        let consequence = format!("not available and left out: {}", unknown.join(", "));
        let diagnostic = Diagnostic::warning("ssl-ciphers-unknown", consequence)
            .remedy("use ciphers with AES-GCM or ChaCha20, by OpenSSL's names");
        report.annotation(admitted.ingress, annotation.key, diagnostic);
    }
    Some(ciphers)
}
