//! Which objects a refusal of Envoy is about.

use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::{Kind, ObjectName, ObjectRef};
use ingress_wasm_translate::output::Translation;

use crate::xds::{Rejection, ResourceType};

/// What to say of a refusal, one diagnostic for each object that it is known to be about; without an object
/// where it is not known.
pub fn culprits(rejection: &Rejection, translation: &Translation) -> Vec<Diagnostic> {
    let diagnostic = |object: Option<ObjectRef>, name: &str| {
        let consequence = format!(
            "Envoy refused the {} {name}: {}; what was served before goes on serving",
            rejection.kind, rejection.message
        );
        let diagnostic = Diagnostic::error("envoy-refused", consequence)
            .remedy("correct or remove the object that changed last, and report this: it should have been found before");
        match object {
            Some(object) => diagnostic.object(object, None),
            None => diagnostic,
        }
    };
    rejection.names.iter().map(|name| diagnostic(object(rejection.kind, name, translation), name)).collect()
}

fn object(kind: ResourceType, name: &str, translation: &Translation) -> Option<ObjectRef> {
    match kind {
        ResourceType::Cluster | ResourceType::Endpoints => {
            let service = translation.clusters.get(name)?.service.service.clone();
            Some(ObjectRef { kind: Kind::Service, name: service })
        }
        ResourceType::Secret => {
            // A certificate is named as its Secret, authorities with a word before and maybe a number behind.
            let (namespace, name) = name.split(':').find_map(|part| part.split_once('/'))?;
            Some(ObjectRef { kind: Kind::Secret, name: ObjectName::new(namespace, name) })
        }
        ResourceType::Listener | ResourceType::Route | ResourceType::Extension => None,
    }
}
