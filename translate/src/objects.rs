//! The Kubernetes objects that the translator understands, in one form whatever API version they were
//! written in. They hold checked text only; how they are read from YAML, JSON or an API server is the
//! business of [`crate::manifest`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// The kinds of objects that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// networking.k8s.io/v1, networking.k8s.io/v1beta1 or extensions/v1beta1.
    Ingress,
    /// networking.k8s.io/v1 or v1beta1.
    IngressClass,
    /// v1.
    Service,
    /// discovery.k8s.io/v1 or v1beta1.
    EndpointSlice,
    /// v1.
    Endpoints,
    /// v1.
    Secret,
    /// v1.
    ConfigMap,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectName {
    /// Empty for objects of the cluster, such as an IngressClass.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectName {
    /// A name within a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        ObjectName { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            formatter.write_str(&self.name)
        } else {
            write!(formatter, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One object among all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    #[serde(flatten)]
    pub name: ObjectName,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind, self.name)
    }
}

/// A place in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Source {
    /// The file as it was named on the command line or found in a directory; `-` for standard input.
    pub file: Arc<str>,
    /// Line, from 1; 0 where it is not known.
    pub line: u32,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            formatter.write_str(&self.file)
        } else {
            write!(formatter, "{}:{}", self.file, self.line)
        }
    }
}

/// What every object has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Namespace (`default` where none is written; empty for an IngressClass) and name.
    pub name: ObjectName,
    /// Annotations, with the line of each as far as known (0: unknown).
    pub annotations: BTreeMap<String, Annotation>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `metadata.creationTimestamp` as written (RFC 3339, so that text order is time order); empty where
    /// there is none, which counts as younger than any.
    pub creation_timestamp: String,
    /// `metadata.uid`, which an API server gives at random and never twice; empty where there is none.
    pub uid: String,
    /// Where the object was read; none for objects from an API server.
    pub source: Option<Source>,
}

/// The value of an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// The value.
    pub value: String,
    /// Line in the file of the object, 0 where not known.
    pub line: u32,
}

/// An Ingress of any version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// What every object has.
    pub metadata: Metadata,
    /// The API version it was written in: early ones have habits of their own.
    pub api: IngressApi,
    /// `spec.ingressClassName`.
    pub class_name: Option<String>,
    /// `spec.defaultBackend` (`spec.backend` in early versions).
    pub default_backend: Option<IngressBackend>,
    /// `spec.rules`.
    pub rules: Vec<IngressRule>,
    /// `spec.tls`.
    pub tls: Vec<IngressTls>,
}

/// API versions of the Ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum IngressApi {
    /// extensions/v1beta1
    ExtensionsV1beta1,
    /// networking.k8s.io/v1beta1
    NetworkingV1beta1,
    /// networking.k8s.io/v1
    NetworkingV1,
}

/// One entry of `spec.rules`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressRule {
    /// The host as written; none or empty: any host.
    pub host: Option<String>,
    /// `http.paths`.
    pub paths: Vec<IngressPath>,
    /// Line in the file, 0 where not known.
    pub line: u32,
}

/// One entry of `http.paths`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressPath {
    /// The path as written; none or empty: `/`.
    pub path: Option<String>,
    /// The path type; none in early versions.
    pub path_type: Option<PathType>,
    /// Where requests go; none where the object names a `resource` or nothing.
    pub backend: Option<IngressBackend>,
    /// Line in the file, 0 where not known.
    pub line: u32,
}

/// The path types of the Ingress API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum PathType {
    /// Exactly this path.
    Exact,
    /// By path elements.
    Prefix,
    /// Left to the controller.
    ImplementationSpecific,
}

/// A Service and one of its ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IngressBackend {
    /// Name of the Service in the namespace of the Ingress.
    pub service: String,
    /// The port, by number or name.
    pub port: PortRef,
}

/// A port by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

impl fmt::Display for PortRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortRef::Number(number) => write!(formatter, "{number}"),
            PortRef::Name(name) => formatter.write_str(name),
        }
    }
}

/// One entry of `spec.tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressTls {
    /// The hosts that the certificate is for.
    pub hosts: Vec<String>,
    /// The Secret with the certificate; none: the default certificate.
    pub secret_name: Option<String>,
}

/// An IngressClass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressClass {
    /// What every object has; the annotation `ingressclass.kubernetes.io/is-default-class` is here.
    pub metadata: Metadata,
    /// `spec.controller`.
    pub controller: String,
    /// `spec.parameters`.
    pub parameters: Option<ClassParameters>,
}

/// An object with settings for the controller, as an IngressClass names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassParameters {
    /// The API group; empty for the core group.
    pub api_group: String,
    /// The kind.
    pub kind: String,
    /// Its name; without a namespace where it is said to be of the cluster.
    pub name: ObjectName,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What every object has.
    pub metadata: Metadata,
    /// `spec.type` is `ExternalName`: the name.
    pub external_name: Option<String>,
    /// `spec.clusterIP`; none where unset or `None`.
    pub cluster_ip: Option<String>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
}

/// One entry of a Service's `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where there is only one.
    pub name: String,
    /// The port of the Service.
    pub port: u16,
    /// The port of the pods; none: the same as `port`.
    pub target_port: Option<PortRef>,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// Addresses of a Service: one EndpointSlice, or one subset of an Endpoints object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// What every object has.
    pub metadata: Metadata,
    /// The Service, in the namespace of the slice (label `kubernetes.io/service-name`, or the name of the
    /// Endpoints object).
    pub service: String,
    /// The ports, by name.
    pub ports: Vec<EndpointPort>,
    /// The ready addresses. An address without a condition counts as ready.
    pub addresses: Vec<String>,
}

/// A port of an [`EndpointSlice`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPort {
    /// The name of the Service's port it belongs to; may be empty.
    pub name: String,
    /// The number.
    pub port: u16,
}

/// A Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// What every object has.
    pub metadata: Metadata,
    /// `type`.
    pub type_: String,
    /// `data` decoded, with `stringData` on top.
    pub data: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secret({}, {} keys)", self.metadata.name, self.data.len())
    }
}

/// A ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMap {
    /// What every object has.
    pub metadata: Metadata,
    /// `data`.
    pub data: BTreeMap<String, String>,
}

/// One object of any kind that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// An Ingress.
    Ingress(Arc<Ingress>),
    /// An IngressClass.
    IngressClass(Arc<IngressClass>),
    /// A Service.
    Service(Arc<Service>),
    /// An EndpointSlice, or what was a subset of an Endpoints object.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Secret.
    Secret(Arc<Secret>),
    /// A ConfigMap.
    ConfigMap(Arc<ConfigMap>),
}

impl Object {
    /// What every object has.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Object::Ingress(object) => &object.metadata,
            Object::IngressClass(object) => &object.metadata,
            Object::Service(object) => &object.metadata,
            Object::EndpointSlice(object) => &object.metadata,
            Object::Secret(object) => &object.metadata,
            Object::ConfigMap(object) => &object.metadata,
        }
    }

    /// Its kind and name.
    pub fn reference(&self) -> ObjectRef {
        let kind = match self {
            Object::Ingress(_) => Kind::Ingress,
            Object::IngressClass(_) => Kind::IngressClass,
            Object::Service(_) => Kind::Service,
            Object::EndpointSlice(_) => Kind::EndpointSlice,
            Object::Secret(_) => Kind::Secret,
            Object::ConfigMap(_) => Kind::ConfigMap,
        };
        ObjectRef { kind, name: self.metadata().name.clone() }
    }
}

/// All objects at one moment. Shared by reference count: a change of one object copies no other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Ingresses by name.
    pub ingresses: BTreeMap<ObjectName, Arc<Ingress>>,
    /// IngressClasses by name.
    pub classes: BTreeMap<ObjectName, Arc<IngressClass>>,
    /// Services by name.
    pub services: BTreeMap<ObjectName, Arc<Service>>,
    /// EndpointSlices by the name of the Service and their own (an Endpoints object gives slices named
    /// `NAME`, `NAME#1` and so on).
    pub endpoint_slices: BTreeMap<(ObjectName, String), Arc<EndpointSlice>>,
    /// Secrets by name.
    pub secrets: BTreeMap<ObjectName, Arc<Secret>>,
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<ObjectName, Arc<ConfigMap>>,
}

impl Snapshot {
    /// Adds an object. One of the same kind and name is replaced and given back.
    pub fn insert(&mut self, object: Object) -> Option<Object> {
        match object {
            Object::Ingress(o) => self.ingresses.insert(o.metadata.name.clone(), o).map(Object::Ingress),
            Object::IngressClass(o) => {
                self.classes.insert(o.metadata.name.clone(), o).map(Object::IngressClass)
            }
            Object::Service(o) => self.services.insert(o.metadata.name.clone(), o).map(Object::Service),
            Object::EndpointSlice(o) => self.endpoint_slices.insert(o.key(), o).map(Object::EndpointSlice),
            Object::Secret(o) => self.secrets.insert(o.metadata.name.clone(), o).map(Object::Secret),
            Object::ConfigMap(o) => {
                self.config_maps.insert(o.metadata.name.clone(), o).map(Object::ConfigMap)
            }
        }
    }

    /// Takes an object away, if it is the one that is held. Gives whether it was.
    pub fn remove(&mut self, object: &Object) -> bool {
        fn take<K: Ord, V>(held: &mut BTreeMap<K, Arc<V>>, key: &K, object: &Arc<V>) -> bool {
            held.get(key).is_some_and(|held| Arc::ptr_eq(held, object)) && held.remove(key).is_some()
        }
        match object {
            Object::Ingress(o) => take(&mut self.ingresses, &o.metadata.name, o),
            Object::IngressClass(o) => take(&mut self.classes, &o.metadata.name, o),
            Object::Service(o) => take(&mut self.services, &o.metadata.name, o),
            Object::EndpointSlice(o) => take(&mut self.endpoint_slices, &o.key(), o),
            Object::Secret(o) => take(&mut self.secrets, &o.metadata.name, o),
            Object::ConfigMap(o) => take(&mut self.config_maps, &o.metadata.name, o),
        }
    }
}

impl EndpointSlice {
    /// Its place in a snapshot.
    fn key(&self) -> (ObjectName, String) {
        let service = ObjectName::new(self.metadata.name.namespace.clone(), self.service.clone());
        (service, self.metadata.name.name.clone())
    }
}
