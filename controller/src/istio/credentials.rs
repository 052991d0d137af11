//! The Secrets with certificates and authorities. A gateway reads those of its own namespace only: of others there has
//! to be a copy, which is made here or asked for.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::{Kind, ObjectName, ObjectRef, Snapshot};
use serde_json::{Value, json};

use super::{Settings, short_hash};

/// The longest name of an object.
const LONGEST_NAME: usize = 253;

/// What is taken from a Secret with a certificate, and from one with authorities. The copy of one for backends has both.
const CERTIFICATE: &[&str] = &["tls.crt", "tls.key"];
const AUTHORITIES: &[&str] = &["ca.crt", "ca.crl"];
const ALL: &[&str] = &["tls.crt", "tls.key", "ca.crt", "ca.crl"];

/// The Secrets that are named so far.
pub(super) struct Credentials<'a> {
    settings: &'a Settings,
    snapshot: &'a Snapshot,
    copies: BTreeMap<String, Value>,
    /// What there is to say, of these and of other things.
    pub diagnostics: Vec<Diagnostic>,
}

impl<'a> Credentials<'a> {
    /// None yet.
    pub fn new(settings: &'a Settings, snapshot: &'a Snapshot) -> Self {
        Credentials { settings, snapshot, copies: BTreeMap::new(), diagnostics: Vec::new() }
    }

    /// The `credentialName` of a Secret.
    pub fn of(&mut self, secret: &ObjectName) -> String {
        if secret.namespace == self.settings.namespace {
            return secret.name.clone();
        }
        // No namespace has a dot, so no two Secrets come to the same name.
        let name = shortened(format!("{}.{}", secret.namespace, secret.name));
        if self.settings.copy_secrets {
            self.copy(&name, &[(secret, ALL)]);
            return name;
        }
        let diagnostic = Diagnostic::warning(
            "istio-credential-namespace",
            "a gateway reads Secrets of its own namespace only: until there is a copy, TLS that needs this one fails",
        )
        .object(ObjectRef { kind: Kind::Secret, name: secret.clone() }, None)
        .remedy(format!("copy it to {}/{name}, and each new version of it", self.settings.namespace));
        self.diagnostics.push(diagnostic);
        name
    }

    /// The `credentialName` of a Secret with which clients are asked for certificates of these authorities: a copy with
    /// both in it, since a gateway takes the authorities from the same Secret.
    pub fn asking(&mut self, secret: &ObjectName, authorities: &ObjectName) -> String {
        let both = [secret, authorities].map(|name| format!("{}.{}", name.namespace, name.name));
        let name = shortened(both.join(".with."));
        if self.settings.copy_secrets {
            self.copy(&name, &[(secret, CERTIFICATE), (authorities, AUTHORITIES)]);
            return name;
        }
        let diagnostic = Diagnostic::warning(
            "istio-credential-clients",
            "a gateway takes the authorities of clients from the Secret with its certificate: until there is one with \
             both, TLS that needs them fails",
        )
        .object(ObjectRef { kind: Kind::Secret, name: authorities.clone() }, None)
        .remedy(format!(
            "make {}/{name} of tls.crt and tls.key of {secret}, and ca.crt and, if it has one, ca.crl of {authorities}; \
             and of each new version of them",
            self.settings.namespace
        ));
        self.diagnostics.push(diagnostic);
        name
    }

    /// The copies.
    pub fn objects(&self) -> impl Iterator<Item = Value> {
        self.copies.values().cloned()
    }

    /// Makes a Secret of these keys of others. Its type is that of any Secret, since it could never change.
    fn copy(&mut self, name: &str, parts: &[(&ObjectName, &[&str])]) {
        let mut data = BTreeMap::new();
        for (source, keys) in parts {
            let Some(secret) = self.snapshot.secrets.get(source) else { continue };
            let held = keys.iter().filter_map(|key| Some((*key, secret.data.get(*key)?)));
            data.extend(held.map(|(key, bytes)| (key, STANDARD.encode(bytes))));
        }
        let mut object = self.settings.object("v1", "Secret", "", Value::Null);
        object["metadata"]["name"] = name.into();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("spec");
            fields.insert("type".to_owned(), "Opaque".into());
            fields.insert("data".to_owned(), json!(data));
        }
        self.copies.insert(name.to_owned(), object);
    }
}

fn shortened(name: String) -> String {
    if name.len() > LONGEST_NAME { format!("credential-{}", short_hash(&name)) } else { name }
}
