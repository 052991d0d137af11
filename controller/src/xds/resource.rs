//! Resources with versions, and sets of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::protobuf::Any;
use sha2::{Digest, Sha256};

/// The kinds of resources that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// ECDS.
    Extension,
    /// SDS.
    Secret,
}

impl ResourceType {
    /// All of them, in the order in which they are sent: what is referred to comes first, so that a single
    /// step can hold several.
    pub const ALL: [ResourceType; 6] = [
        ResourceType::Cluster,
        ResourceType::Endpoints,
        ResourceType::Secret,
        ResourceType::Extension,
        ResourceType::Listener,
        ResourceType::Route,
    ];

    /// The name on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            ResourceType::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            ResourceType::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            ResourceType::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            ResourceType::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            ResourceType::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            ResourceType::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    /// The kind with this name on the wire.
    pub fn from_type_url(type_url: &str) -> Option<ResourceType> {
        ResourceType::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            ResourceType::Cluster => "cluster",
            ResourceType::Endpoints => "endpoints",
            ResourceType::Listener => "listener",
            ResourceType::Route => "route configuration",
            ResourceType::Extension => "filter configuration",
            ResourceType::Secret => "secret",
        })
    }
}

/// One encoded resource. Its version is a digest of its content, so the same content is never sent twice,
/// not even by a server that was started anew.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    name: Arc<str>,
    version: Arc<str>,
    content: Any,
    /// What a client gets that holds no resource of the kind yet; none: the same.
    at_start: Option<Any>,
}

impl fmt::Debug for Resource {
    /// Without the content: it may hold keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.name, self.version)
    }
}

impl Resource {
    /// A resource whose version is the digest of its bytes.
    pub fn new(name: impl Into<Arc<str>>, content: Any) -> Resource {
        let version = digest(&content.value);
        Resource { name: name.into(), version, content, at_start: None }
    }

    /// A resource whose version is the digest of `origin`: for messages of the same content whose bytes may
    /// differ, as those with maps do.
    pub fn with_version_of(name: impl Into<Arc<str>>, content: Any, origin: &[u8]) -> Resource {
        Resource { name: name.into(), version: digest(origin), content, at_start: None }
    }

    /// The same resource, of which a client that holds none of the kind yet gets this form. It has to say the same,
    /// but for what the client waits for.
    #[must_use]
    pub fn at_start(self, content: Any) -> Resource {
        Resource { at_start: Some(content), ..self }
    }

    /// Its name among those of its kind.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Names its content.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The form on the wire; `starts`: for a client that holds no resource of the kind yet.
    pub(super) fn message(&self, starts: bool) -> discovery::Resource {
        let at_start = self.at_start.as_ref().filter(|_| starts);
        discovery::Resource {
            name: self.name.to_string(),
            version: self.version.to_string(),
            resource: Some(at_start.unwrap_or(&self.content).clone()),
            ..discovery::Resource::default()
        }
    }
}

/// The first 64 bits of SHA-256, in hexadecimal digits.
fn digest(bytes: &[u8]) -> Arc<str> {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// The resources of one kind, by name.
pub(super) type Named = BTreeMap<Arc<str>, Arc<Resource>>;

/// No resources; one value, so that looking twice can be told by its address.
static NOTHING: LazyLock<Arc<Named>> = LazyLock::new(Arc::default);

/// A set of resources of all kinds. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceSet {
    kinds: BTreeMap<ResourceType, Arc<Named>>,
}

impl ResourceSet {
    /// Adds a resource, in place of one with its kind and name.
    pub fn insert(&mut self, kind: ResourceType, resource: Arc<Resource>) {
        let named = self.kinds.entry(kind).or_default();
        // Where it is there already, what is shared stays shared.
        if named.get(&resource.name) != Some(&resource) {
            Arc::make_mut(named).insert(Arc::clone(&resource.name), resource);
        }
    }

    /// Takes a resource away.
    pub fn remove(&mut self, kind: ResourceType, name: &str) {
        if let Some(named) = self.kinds.get_mut(&kind).filter(|named| named.contains_key(name)) {
            Arc::make_mut(named).remove(name);
        }
    }

    /// The resources of one kind, in order of name.
    pub fn of(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        self.kinds.get(&kind).into_iter().flat_map(|named| named.values())
    }

    /// Kind, name and version of each resource: equal for sets of the same content.
    pub fn versions(&self) -> Vec<(ResourceType, Arc<str>, Arc<str>)> {
        let flat =
            self.kinds.iter().flat_map(|(kind, named)| named.values().map(move |resource| (*kind, resource)));
        flat.map(|(kind, resource)| (kind, Arc::clone(resource.name()), Arc::clone(resource.version())))
            .collect()
    }

    /// One resource.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.kinds.get(&kind)?.get(name)
    }

    /// The resources of one kind, by name.
    pub(super) fn named(&self, kind: ResourceType) -> Arc<Named> {
        self.kinds.get(&kind).map_or_else(|| Arc::clone(&NOTHING), Arc::clone)
    }

    /// A set on the way from `old` to this one: clusters and endpoints of both, this one's where both have
    /// them, and what refers to them from `referring`.
    pub(super) fn step(&self, old: &ResourceSet, referring: &ResourceSet) -> ResourceSet {
        let mut kinds = BTreeMap::new();
        for kind in ResourceType::ALL {
            let named = if matches!(kind, ResourceType::Cluster | ResourceType::Endpoints) {
                match (self.kinds.get(&kind), old.kinds.get(&kind)) {
                    (Some(new), Some(old)) => Some(union(new, old)),
                    (new, old) => new.or(old).cloned(),
                }
            } else {
                referring.kinds.get(&kind).cloned()
            };
            if let Some(named) = named {
                kinds.insert(kind, named);
            }
        }
        ResourceSet { kinds }
    }
}

impl ResourceSet {
    /// This set with the endpoints that `newer` knows for its clusters: where a set is taken back, its news
    /// of where backends are is still true.
    pub(super) fn with_endpoints_of(&self, newer: &ResourceSet) -> ResourceSet {
        let mut result = self.clone();
        for resource in self.of(ResourceType::Endpoints) {
            if let Some(news) =
                newer.get(ResourceType::Endpoints, resource.name()).filter(|news| *news != resource)
            {
                result.insert(ResourceType::Endpoints, Arc::clone(news));
            }
        }
        result
    }
}

/// What is in either, `new` first; shared where nothing is added.
fn union(new: &Arc<Named>, old: &Arc<Named>) -> Arc<Named> {
    let mut result = Arc::clone(new);
    if Arc::ptr_eq(new, old) {
        return result;
    }
    for (name, resource) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        Arc::make_mut(&mut result).insert(Arc::clone(name), Arc::clone(resource));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(resources: &[(ResourceType, &str, &str)]) -> ResourceSet {
        let mut set = ResourceSet::default();
        for (kind, name, content) in resources {
            let content = Any { type_url: String::new(), value: content.as_bytes().to_vec() };
            set.insert(*kind, Arc::new(Resource::new(*name, content)));
        }
        set
    }

    #[test]
    fn the_version_follows_the_content() {
        let one = set(&[(ResourceType::Cluster, "a", "1")]);
        assert_eq!(one, set(&[(ResourceType::Cluster, "a", "1")]));
        assert_ne!(one, set(&[(ResourceType::Cluster, "a", "2")]));
    }

    #[test]
    fn a_step_keeps_what_the_old_filter_needs() {
        let old = set(&[
            (ResourceType::Cluster, "a", "1"),
            (ResourceType::Cluster, "b", "1"),
            (ResourceType::Extension, "f", "old"),
        ]);
        let new = set(&[
            (ResourceType::Cluster, "b", "2"),
            (ResourceType::Cluster, "c", "1"),
            (ResourceType::Extension, "f", "new"),
        ]);
        let clusters = [
            (ResourceType::Cluster, "a", "1"),
            (ResourceType::Cluster, "b", "2"),
            (ResourceType::Cluster, "c", "1"),
        ];
        let with = |filter| {
            let mut all = clusters.to_vec();
            all.push((ResourceType::Extension, "f", filter));
            set(&all)
        };
        assert_eq!(new.step(&old, &old), with("old"));
        assert_eq!(new.step(&old, &new), with("new"));
    }

    #[test]
    fn wire_names_are_distinct_and_read_back() {
        for kind in ResourceType::ALL {
            assert_eq!(ResourceType::from_type_url(kind.type_url()), Some(kind), "{kind}");
        }
        assert_eq!(ResourceType::from_type_url("type.googleapis.com/envoy.config.cluster.v3.Outlier"), None);
    }
}
