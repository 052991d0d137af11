//! What every object has: name, annotations, labels.

use std::collections::BTreeMap;

use crate::objects::{Annotation, Kind, Metadata, ObjectName, Source};

use super::fields::{At, Faults, Unknown};
use super::names;

/// An object without a name.
pub(super) struct NoName {
    pub line: u32,
    pub field: &'static str,
    /// Continues "the Ingress".
    pub what: &'static str,
    pub remedy: &'static str,
}

/// Fields of `ObjectMeta`, those of former versions included.
const FIELDS: [&str; 16] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "clusterName",
];

/// Namespace and name as written; they are checked by [`decode`].
pub(super) fn object_name(root: &At<'_>, kind: Kind) -> Result<ObjectName, NoName> {
    let metadata = root.get("metadata");
    let text =
        |field| metadata.as_ref().and_then(|metadata| metadata.get(field).map(|at| at.found().to_owned()));
    let name = text("name").filter(|name| !name.is_empty()).ok_or_else(|| NoName {
        line: metadata.as_ref().map_or(root.line, |metadata| metadata.line),
        field: "metadata.name",
        what: if text("generateName").is_some() {
            "has `generateName` and no name, which only an API server can make up"
        } else {
            "has no name"
        },
        remedy: "give it a `name` under `metadata`",
    })?;
    let namespace = match kind {
        Kind::IngressClass => String::new(),
        _ => text("namespace")
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
    };
    Ok(ObjectName { namespace, name })
}

/// Decodes `metadata` and looks for unknown fields beside it.
pub(super) fn decode(
    root: &At<'_>,
    name: ObjectName,
    source: Option<Source>,
    faults: &mut Faults<'_>,
) -> Metadata {
    let mut decoded = Metadata {
        name,
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        creation_timestamp: String::new(),
        uid: String::new(),
        source,
    };
    let Some(at) = root.get("metadata") else { return decoded };
    faults.check_fields(&at, &FIELDS, &[], Unknown::PassOver);
    check_names(&at, faults);
    if let Some(timestamp) = at.get("creationTimestamp") {
        decoded.creation_timestamp = timestamp.found().to_owned();
    }
    if let Some(uid) = at.get("uid") {
        decoded.uid = uid.found().to_owned();
    }
    if let Some(annotations) = at.get("annotations").filter(|annotations| faults.mapping(annotations)) {
        for (key, at) in annotations.entries() {
            if let Some(value) = faults.loose_text(&at, "annotation-not-string") {
                decoded.annotations.insert(key.to_owned(), Annotation { value, line: at.line });
            }
        }
    }
    if let Some(labels) = at.get("labels").filter(|labels| faults.mapping(labels)) {
        for (key, at) in labels.entries() {
            if let Some(value) = faults.loose_text(&at, "label-not-string") {
                decoded.labels.insert(key.to_owned(), value);
            }
        }
    }
    decoded
}

fn check_names(metadata: &At<'_>, faults: &mut Faults<'_>) {
    let remedy =
        "use lower-case letters, digits, `-` and, in a name, `.`; begin and end with a letter or digit";
    if let Some(at) = metadata.get("name")
        && faults.text(&at).is_some_and(|name| !names::is_subdomain(&name))
    {
        faults.error("name-invalid", &at, "this is no valid name", remedy);
    }
    if let Some(at) = metadata.get("namespace")
        && faults.text(&at).is_some_and(|name| !name.is_empty() && !names::is_label(&name))
    {
        faults.error("name-invalid", &at, "this is no valid namespace", remedy);
    }
}
