//! Objects as an API server sends them: JSON, read without a schema.
//!
//! One object that is not as expected must not hold up the watch of all others, so nothing is demanded here
//! but a mapping. What is in it, [`ingress_wasm_translate::manifest`] reads.

use std::borrow::Cow;

use ingress_wasm_translate::manifest::{Loaded, decode_json};
use ingress_wasm_translate::objects::ObjectName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object of any kind.
#[derive(Debug, Clone)]
pub struct Raw {
    metadata: ObjectMeta,
    value: Value,
}

/// What is known of an object besides its content.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Identity {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// The version at which its content changed last, as seen from here: a status that is written leaves it.
    pub content: String,
    /// `status`, as the API server has it; null where there is none.
    pub status: Value,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let metadata = value.get_mut("metadata");
        let metadata = metadata.and_then(Value::as_object_mut).map_or_else(ObjectMeta::default, |metadata| {
            // Larger than the rest, and of no use here.
            metadata.remove("managedFields");
            let text = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
            ObjectMeta {
                name: text("name"),
                namespace: text("namespace"),
                uid: text("uid"),
                resource_version: text("resourceVersion"),
                ..ObjectMeta::default()
            }
        });
        Ok(Raw { metadata, value })
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(kind: &ApiResource) -> Cow<'_, str> {
        kind.kind.as_str().into()
    }

    fn group(kind: &ApiResource) -> Cow<'_, str> {
        kind.group.as_str().into()
    }

    fn version(kind: &ApiResource) -> Cow<'_, str> {
        kind.version.as_str().into()
    }

    fn api_version(kind: &ApiResource) -> Cow<'_, str> {
        kind.api_version.as_str().into()
    }

    fn plural(kind: &ApiResource) -> Cow<'_, str> {
        kind.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Namespace and name; the namespace is empty for objects of the cluster.
pub fn name_of(metadata: &ObjectMeta) -> ObjectName {
    ObjectName::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

impl Raw {
    /// What names it, and all of it.
    pub fn into_parts(self) -> (ObjectMeta, Value) {
        (self.metadata, self.value)
    }

    /// What the object comes to. `kind` is what was asked for: in a list, items do not say it themselves.
    pub fn decode(self, kind: &ApiResource, prefix: &AnnotationsPrefix) -> (ObjectName, Identity, Loaded) {
        let Raw { metadata, mut value } = self;
        let name = name_of(&metadata);
        let status = value.as_object_mut().and_then(|object| object.remove("status")).unwrap_or(Value::Null);
        if let Some(object) = value.as_object_mut() {
            object.insert("apiVersion".to_owned(), kind.api_version.clone().into());
            object.insert("kind".to_owned(), kind.kind.clone().into());
        }
        prefix.inward(&mut value);
        let ObjectMeta { uid, resource_version, .. } = metadata;
        let resource_version = resource_version.unwrap_or_default();
        let identity = Identity {
            uid: uid.unwrap_or_default(),
            content: resource_version.clone(),
            resource_version,
            status,
        };
        (name, identity, decode_json(&value))
    }
}

/// What ingress-nginx's annotations begin with in this cluster (`--annotations-prefix`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnotationsPrefix {
    /// With its slash.
    prefix: String,
}

/// What they begin with unless told otherwise.
const USUAL_PREFIX: &str = "nginx.ingress.kubernetes.io/";

impl AnnotationsPrefix {
    /// A prefix, with or without its slash.
    pub fn new(prefix: &str) -> AnnotationsPrefix {
        AnnotationsPrefix { prefix: format!("{}/", prefix.trim_end_matches('/')) }
    }

    fn is_usual(&self) -> bool {
        self.prefix == USUAL_PREFIX
    }

    /// Gives the annotations the prefix that the translator knows. As in ingress-nginx, those that had it
    /// before count no more.
    fn inward(&self, object: &mut Value) {
        if self.is_usual() {
            return;
        }
        let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
        let Some(annotations) = annotations else { return };
        let all = std::mem::take(annotations);
        for (key, value) in all {
            if let Some(name) = key.strip_prefix(&self.prefix) {
                annotations.insert(format!("{USUAL_PREFIX}{name}"), value);
            } else if !key.starts_with(USUAL_PREFIX) {
                annotations.insert(key, value);
            }
        }
    }

    /// A text of a diagnostic with the prefix that the cluster knows.
    pub fn outward(&self, text: &mut String) {
        if !self.is_usual() && text.contains(USUAL_PREFIX) {
            *text = text.replace(USUAL_PREFIX, &self.prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::Ingress;
    use serde_json::json;

    use super::*;

    fn raw(value: Value) -> Raw {
        serde_json::from_value(value).expect("any value is read")
    }

    fn ingress(annotations: Value) -> Value {
        json!({
            "metadata": {"name": "a", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                         "annotations": annotations, "managedFields": [{"manager": "kubectl"}]},
            "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
            "status": {"loadBalancer": {}},
        })
    }

    #[test]
    fn an_item_of_a_list_is_read() {
        let kind = ApiResource::erase::<Ingress>(&());
        let (name, identity, loaded) =
            raw(ingress(json!({}))).decode(&kind, &AnnotationsPrefix::new("nginx.ingress.kubernetes.io"));
        assert_eq!(name.to_string(), "shop/a");
        let expected = Identity {
            uid: "u".to_owned(),
            resource_version: "7".to_owned(),
            content: "7".to_owned(),
            status: json!({"loadBalancer": {}}),
        };
        assert_eq!(identity, expected);
        assert_eq!((loaded.objects.len(), &loaded.diagnostics), (1, &Vec::new()));
    }

    #[test]
    fn odd_objects_are_no_errors() {
        let kind = ApiResource::erase::<Ingress>(&());
        let prefix = AnnotationsPrefix::new(USUAL_PREFIX);
        for odd in [json!(null), json!([]), json!({"metadata": 3}), json!({"metadata": {"name": {}}})] {
            let (_, _, loaded) = raw(odd.clone()).decode(&kind, &prefix);
            assert!(loaded.objects.is_empty(), "{odd}");
            assert!(!loaded.diagnostics.is_empty() || odd.is_null(), "{odd}");
        }
    }

    #[test]
    fn another_prefix_stands_for_the_usual_one() {
        let prefix = AnnotationsPrefix::new("edge.example/");
        let mut object = ingress(json!({
            "edge.example/rewrite-target": "/mine",
            "nginx.ingress.kubernetes.io/ssl-redirect": "false",
            "other/x": "y",
        }));
        prefix.inward(&mut object);
        let expected = json!({"nginx.ingress.kubernetes.io/rewrite-target": "/mine", "other/x": "y"});
        assert_eq!(object["metadata"]["annotations"], expected);
        let mut field = "metadata.annotations[\"nginx.ingress.kubernetes.io/x\"]".to_owned();
        prefix.outward(&mut field);
        assert_eq!(field, "metadata.annotations[\"edge.example/x\"]");
    }
}
