//! The kinds of objects that a mesh is given, and the order in which they are written.

use std::collections::BTreeMap;
use std::fmt;

use kube::api::ApiResource;
use serde_json::Value;

use super::super::follow::Watch;

/// A kind of objects. In the order in which they are written: what others refer to comes first, and what makes use
/// of all others last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Secret,
    ServiceEntry,
    DestinationRule,
    Gateway,
    VirtualService,
    EnvoyFilter,
    WasmPlugin,
    TrafficExtension,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] = [
        Kind::Secret,
        Kind::ServiceEntry,
        Kind::DestinationRule,
        Kind::Gateway,
        Kind::VirtualService,
        Kind::EnvoyFilter,
        Kind::WasmPlugin,
        Kind::TrafficExtension,
    ];

    /// Its name in objects.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Secret => "Secret",
            Kind::ServiceEntry => "ServiceEntry",
            Kind::DestinationRule => "DestinationRule",
            Kind::Gateway => "Gateway",
            Kind::VirtualService => "VirtualService",
            Kind::EnvoyFilter => "EnvoyFilter",
            Kind::WasmPlugin => "WasmPlugin",
            Kind::TrafficExtension => "TrafficExtension",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Kind::Secret => "secrets",
            Kind::ServiceEntry => "serviceentries",
            Kind::DestinationRule => "destinationrules",
            Kind::Gateway => "gateways",
            Kind::VirtualService => "virtualservices",
            Kind::EnvoyFilter => "envoyfilters",
            Kind::WasmPlugin => "wasmplugins",
            Kind::TrafficExtension => "trafficextensions",
        }
    }

    fn group(self) -> (&'static str, &'static str) {
        match self {
            Kind::Secret => ("", "v1"),
            Kind::EnvoyFilter => ("networking.istio.io", "v1alpha3"),
            Kind::WasmPlugin | Kind::TrafficExtension => ("extensions.istio.io", "v1alpha1"),
            _ => ("networking.istio.io", "v1"),
        }
    }

    /// It loads the filter: what the filter chooses from has to be there before.
    pub fn loads_filter(self) -> bool {
        matches!(self, Kind::WasmPlugin | Kind::TrafficExtension)
    }

    /// As the API server knows it.
    pub fn resource(self) -> ApiResource {
        let (group, version) = self.group();
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
            kind: self.name().to_owned(),
            plural: self.plural().to_owned(),
        }
    }

    /// As a watch is named.
    pub fn watch(self, namespace: &str) -> Watch {
        let resource = match self.group() {
            ("", _) => self.plural().to_owned(),
            (group, _) => format!("{}.{group}", self.plural()),
        };
        Watch { resource, namespace: Some(namespace.to_owned()), metadata_only: false }
    }
}

/// Names an object within the gateway's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind.name(), self.name)
    }
}

/// Objects in the order in which they are written.
pub type Set = BTreeMap<Key, Value>;

/// The objects by kind and name. One of a kind that is not known here is none of them.
pub fn set(objects: Vec<Value>) -> Set {
    let keyed = objects.into_iter().filter_map(|object| {
        let kind = Kind::ALL.into_iter().find(|kind| object["kind"] == kind.name())?;
        let name = object["metadata"]["name"].as_str()?.to_owned();
        Some((Key { kind, name }, object))
    });
    keyed.collect()
}
