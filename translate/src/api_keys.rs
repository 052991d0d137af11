//! API keys from Secrets (`ingress-wasm.io/api-key-…`): one client to a key of the Secret. Only digests go on.

use std::collections::BTreeMap;

use ingress_wasm::config::{ApiKeyAuth, Credentials, HeaderEdit, PolicySet};
use ingress_wasm::policy::{HeaderTemplate, may_be_taken};

use crate::annotations::{Setting, Value};
use crate::diagnostic::Diagnostic;
use crate::jwt::own_secret;
use crate::objects::Secret;
use crate::policies::{Context, Policies, deny};
use crate::report::Report;

/// A shorter key could be guessed.
const SHORTEST: usize = 16;

/// The header where nothing is said.
const HEADER: &str = "X-API-Key";

/// Puts the API keys that an Ingress asks for into its policies.
pub fn read(context: &Context<'_>, set: &mut PolicySet, policies: &mut Policies, report: &mut Report) {
    let asks = |setting: &Setting<'_>| setting.entry.name.starts_with("api-key-") && setting.asks();
    let Some(first) = context.annotations.iter().find(asks) else { return };
    let text = |name: &str| match context.annotations.own(name).map(|setting| setting.parse()) {
        Some(Ok(Value::Text(text))) => Some(text),
        _ => None,
    };
    let (mut header, parameter) = (text("api-key-header"), text("api-key-parameter"));
    if header.is_none() && parameter.is_none() {
        header = Some(HEADER.to_owned());
    }
    let client_header = text("api-key-client-header");
    let forward = context.annotations.own("api-key-forward").and_then(|setting| setting.parse().ok());
    let is_name = |name: &String| HeaderTemplate::compile(HeaderEdit::Remove { name: name.clone() }).is_ok();
    let mut refuse = |name: &str, fault: &str, remedy: &str| {
        let setting = context.annotations.own(name).unwrap_or(first);
        deny(context, &setting, &mut set.denied, report, "api-key-invalid", fault, remedy);
    };
    if header.as_ref().is_some_and(|name| !is_name(name)) {
        return refuse("api-key-header", "the header cannot hold a key", "name another header");
    }
    if client_header.as_ref().is_some_and(|name| !is_name(name) || !may_be_taken(name)) {
        return refuse("api-key-client-header", "the header cannot name a client", "name another header");
    }
    let Some(setting) = context.annotations.own("api-key-secret") else {
        let remedy = "name a Secret by `ingress-wasm.io/api-key-secret`";
        return refuse("", "no Secret is named with the keys of clients", remedy);
    };
    const REMEDY: &str =
        "create the Secret, with the name of each client as a key and the client's API key as its value";
    let secret = match own_secret(context, &setting, REMEDY) {
        Ok(secret) => secret,
        Err((fault, remedy)) => return refuse("api-key-secret", &fault, remedy),
    };
    let (clients, faults) = digests(secret);
    for fault in faults {
        let diagnostic = Diagnostic::warning("api-key-entry", fault)
            .remedy("write a key of random characters, for example by `openssl rand -hex 32`");
        report.annotation(context.ingress, setting.key, diagnostic);
    }
    let keys = secret.metadata.name.to_string();
    policies.api_keys.insert(keys.clone(), clients);
    let forward = forward == Some(Value::Bool(true));
    set.api_key = Some(ApiKeyAuth { keys, header, parameter, client_header, forward });
}

/// The digest of each client's key, and what is wrong with the rest; never with a key.
fn digests(secret: &Secret) -> (Credentials, Vec<String>) {
    let name = &secret.metadata.name;
    let mut users = BTreeMap::new();
    let mut faults = Vec::new();
    for (client, key) in &secret.data {
        let key = key.trim_ascii();
        if key.is_empty() {
            faults.push(format!("in Secret {name} the key of `{client}` is empty: the client is not let in"));
            continue;
        }
        if key.len() < SHORTEST {
            let fault = format!("is shorter than {SHORTEST} characters and could be guessed");
            faults.push(format!("in Secret {name} the key of `{client}` {fault}"));
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, key);
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        users.insert(client.clone(), digest);
    }
    if users.is_empty() {
        faults.push(format!("Secret {name} has no keys: nobody is let in"));
    }
    (Credentials { users }, faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{Metadata, ObjectName};

    #[test]
    fn only_digests_go_on() {
        let metadata = Metadata {
            name: ObjectName::new("default", "keys"),
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            creation_timestamp: String::new(),
            uid: String::new(),
            source: None,
        };
        let data = [("ann", "k\n"), ("bob", " "), ("eve", "0123456789abcdef")];
        let data = data.map(|(client, key)| (client.to_owned(), key.as_bytes().to_vec())).into();
        let secret = Secret { metadata, type_: "Opaque".to_owned(), data };
        let (clients, faults) = digests(&secret);
        let names: Vec<&str> = clients.users.keys().map(String::as_str).collect();
        assert_eq!(names, ["ann", "eve"]);
        assert_eq!(clients.users["ann"], "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a");
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("`ann` is shorter") && faults[1].contains("`bob` is empty"), "{faults:?}");
    }
}
