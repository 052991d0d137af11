//! From the tree of a document to objects: which kind it is, lists, and what becomes of faults.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::objects::{IngressApi, Kind, Object, ObjectRef, Source};

use super::document::SyntaxFault;
use super::fields::{At, Faults, near_miss};
use super::node::{Node, Value};
use super::{Loaded, data, endpoints, ingress, metadata, service};

/// Where a document comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin<'a> {
    File(&'a Arc<str>),
    Server,
}

impl Origin<'_> {
    pub fn is_file(self) -> bool {
        matches!(self, Origin::File(_))
    }

    pub fn source(self, line: u32) -> Option<Source> {
        match self {
            Origin::File(file) => Some(Source { file: Arc::clone(file), line }),
            Origin::Server => None,
        }
    }
}

/// The schema of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schema {
    Ingress(IngressApi),
    IngressClass,
    Service,
    EndpointSlice,
    Endpoints,
    Secret,
    ConfigMap,
}

/// Every API version and kind that is understood.
const SCHEMAS: [(&str, &str, Schema); 11] = [
    ("networking.k8s.io/v1", "Ingress", Schema::Ingress(IngressApi::NetworkingV1)),
    ("networking.k8s.io/v1beta1", "Ingress", Schema::Ingress(IngressApi::NetworkingV1beta1)),
    ("extensions/v1beta1", "Ingress", Schema::Ingress(IngressApi::ExtensionsV1beta1)),
    ("networking.k8s.io/v1", "IngressClass", Schema::IngressClass),
    ("networking.k8s.io/v1beta1", "IngressClass", Schema::IngressClass),
    ("v1", "Service", Schema::Service),
    ("discovery.k8s.io/v1", "EndpointSlice", Schema::EndpointSlice),
    ("discovery.k8s.io/v1beta1", "EndpointSlice", Schema::EndpointSlice),
    ("v1", "Endpoints", Schema::Endpoints),
    ("v1", "Secret", Schema::Secret),
    ("v1", "ConfigMap", Schema::ConfigMap),
];

impl Schema {
    fn kind(self) -> Kind {
        match self {
            Schema::Ingress(_) => Kind::Ingress,
            Schema::IngressClass => Kind::IngressClass,
            Schema::Service => Kind::Service,
            Schema::EndpointSlice => Kind::EndpointSlice,
            Schema::Endpoints => Kind::Endpoints,
            Schema::Secret => Kind::Secret,
            Schema::ConfigMap => Kind::ConfigMap,
        }
    }
}

/// What an API version and kind come to.
enum Known {
    Schema(Schema),
    /// A kind that is ours in a version that is not: the versions there are.
    WrongVersion(Vec<&'static str>),
    /// Probably a slip for this kind.
    Slip(&'static str),
    No,
}

fn look_up(api_version: &str, kind: &str) -> Known {
    if let Some((.., schema)) =
        SCHEMAS.iter().find(|(version, name, _)| *version == api_version && *name == kind)
    {
        return Known::Schema(*schema);
    }
    let versions: Vec<_> =
        SCHEMAS.iter().filter(|(_, name, _)| *name == kind).map(|(version, ..)| *version).collect();
    // Other projects have kinds of the same name (`serving.knative.dev/v1 Service`): their group has a domain
    // that is not ours.
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let ours =
        !group.contains('.') || SCHEMAS.iter().any(|(version, ..)| version.starts_with(&format!("{group}/")));
    if !versions.is_empty() {
        return if ours { Known::WrongVersion(versions) } else { Known::No };
    }
    let kinds: Vec<_> =
        SCHEMAS.iter().filter(|(version, ..)| *version == api_version).map(|(_, name, _)| *name).collect();
    match near_miss(kind, &kinds) {
        Some(slip) => Known::Slip(slip),
        None => Known::No,
    }
}

/// Gathers what the documents of one text come to.
pub(super) struct Decoder<'a> {
    origin: Origin<'a>,
    loaded: Loaded,
    /// Kinds passed over (kind, API version), how many, and the line of the first.
    passed_over: BTreeMap<(String, String), (usize, u32)>,
}

impl<'a> Decoder<'a> {
    pub fn new(origin: Origin<'a>) -> Self {
        Decoder { origin, loaded: Loaded::default(), passed_over: BTreeMap::new() }
    }

    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.loaded.diagnostics
    }

    /// Adds what another one has gathered.
    pub fn append(&mut self, other: Decoder<'_>) {
        let Loaded { objects, diagnostics, broken, rejected } = other.loaded;
        self.loaded.objects.extend(objects);
        self.loaded.diagnostics.extend(diagnostics);
        self.loaded.broken |= broken;
        self.loaded.rejected.extend(rejected);
        for (kind, (count, line)) in other.passed_over {
            self.passed_over.entry(kind).or_insert((0, line)).0 += count;
        }
    }

    /// What was gathered.
    pub fn finish(mut self) -> Loaded {
        for ((kind, api_version), (count, line)) in self.passed_over {
            let what = if count == 1 { "1 object is".to_owned() } else { format!("{count} objects are") };
            self.loaded.diagnostics.push(
                Diagnostic::note(
                    "kind-ignored",
                    format!("{what} passed over: this kind has no part in routing"),
                )
                .source(self.origin.source(line))
                .field("kind", &format!("{kind} ({api_version})")),
            );
        }
        self.loaded
    }

    /// A document that does not parse.
    pub fn syntax(&mut self, fault: SyntaxFault) {
        self.loaded.broken = true;
        let SyntaxFault { code, line, column, message, remedy } = fault;
        self.loaded.diagnostics.push(
            Diagnostic::error(code, format!("column {column}: {message}; the document is not loaded"))
                .source(self.origin.source(line))
                .remedy(remedy),
        );
    }

    /// An error about something that is no object of ours.
    fn nameless(
        &mut self,
        code: &'static str,
        line: u32,
        field: &str,
        found: &str,
        what: &str,
        remedy: String,
    ) {
        self.loaded.broken = true;
        self.loaded.diagnostics.push(
            Diagnostic::error(code, format!("{what}; it is not loaded"))
                .source(self.origin.source(line))
                .field(field, found)
                .remedy(remedy),
        );
    }

    /// Decodes a document: an object, a list of objects, or nothing.
    pub fn document(&mut self, node: &Node<'_>) {
        if !node.is_null() {
            self.object(node, None);
        }
    }

    /// `inherited`: API version and kind of the items of the list that this stands in.
    fn object(&mut self, node: &Node<'_>, inherited: Option<(&str, &str)>) {
        if !matches!(node.value, Value::Mapping(_)) {
            let what = format!("{} is no Kubernetes object", node.describe());
            let remedy = "begin each object with `apiVersion:` and `kind:`".to_owned();
            return self.nameless("not-an-object", node.line, "", "", &what, remedy);
        }
        let header = |field: &str| node.get(field).and_then(|(_, node)| node.text());
        let (api_version, kind) = match (header("apiVersion"), header("kind"), inherited) {
            (Some(api_version), Some(kind), _) => (api_version, kind),
            (None, None, Some(inherited)) => inherited,
            (api_version, kind, _) => return self.no_header(node, api_version.is_none(), kind.is_none()),
        };
        if let Some(item_kind) = kind.strip_suffix("List") {
            let inherited = (!item_kind.is_empty()).then_some((api_version, item_kind));
            if let Some((line, items)) = node.get("items") {
                self.list(items, line, inherited);
            }
            return;
        }
        match look_up(api_version, kind) {
            Known::Schema(schema) => self.known(node, schema),
            Known::No => self.pass_over(kind, api_version, node.line),
            Known::WrongVersion(versions) => {
                let line = node.get("apiVersion").map_or(node.line, |(line, _)| line);
                let what = format!("there is no {kind} in this API version");
                let remedy = format!("write `apiVersion: {}`", versions.join("` or `apiVersion: "));
                self.nameless("api-version-unknown", line, "apiVersion", api_version, &what, remedy);
            }
            Known::Slip(slip) => {
                let line = node.get("kind").map_or(node.line, |(line, _)| line);
                let what = format!("unknown kind; did you mean `{slip}`?");
                self.nameless("kind-unknown", line, "kind", kind, &what, format!("write `kind: {slip}`"));
            }
        }
    }

    fn no_header(&mut self, node: &Node<'_>, no_version: bool, no_kind: bool) {
        let (field, what) = match (no_version, no_kind) {
            (true, true) => ("apiVersion", "the document has neither `apiVersion` nor `kind`"),
            (true, false) => ("apiVersion", "the object has no `apiVersion`"),
            (false, _) => ("kind", "the object has no `kind`"),
        };
        let remedy =
            "begin each object with `apiVersion:` and `kind:`, or keep this file elsewhere".to_owned();
        self.nameless("not-an-object", node.line, field, "", what, remedy);
    }

    fn list(&mut self, items: &Node<'_>, line: u32, inherited: Option<(&str, &str)>) {
        let Value::Sequence(items) = &items.value else {
            let what = format!("`items` is {} where a list is needed", items.describe());
            return self.nameless("field-type", line, "items", "", &what, "write a list".to_owned());
        };
        items.iter().for_each(|item| self.object(item, inherited));
    }

    fn pass_over(&mut self, kind: &str, api_version: &str, line: u32) {
        self.passed_over.entry((kind.to_owned(), api_version.to_owned())).or_insert((0, line)).0 += 1;
    }

    fn known(&mut self, node: &Node<'_>, schema: Schema) {
        let at = At::root(node);
        let name = match metadata::object_name(&at, schema.kind()) {
            Ok(name) => name,
            Err(metadata::NoName { line, field, what, remedy }) => {
                let what = format!("the {} {what}", schema.kind());
                return self.nameless("field-missing", line, field, "", &what, remedy.to_owned());
            }
        };
        let reference = ObjectRef { kind: schema.kind(), name: name.clone() };
        let mut faults = Faults::new(self.origin, reference.clone());
        faults.check_duplicates(&at);
        let metadata = metadata::decode(&at, name, self.origin.source(node.line), &mut faults);
        let objects = match schema {
            Schema::Ingress(api) => one(Object::Ingress, ingress::ingress(&at, metadata, api, &mut faults)),
            Schema::IngressClass => one(Object::IngressClass, ingress::class(&at, metadata, &mut faults)),
            Schema::Service => one(Object::Service, service::service(&at, metadata, &mut faults)),
            Schema::EndpointSlice => endpoints::slice(&at, metadata, &mut faults)
                .map_or_else(Vec::new, |slice| one(Object::EndpointSlice, slice)),
            Schema::Endpoints => endpoints::endpoints(&at, &metadata, &mut faults)
                .into_iter()
                .map(|slice| Object::EndpointSlice(Arc::new(slice)))
                .collect(),
            Schema::Secret => one(Object::Secret, data::secret(&at, metadata, &mut faults)),
            Schema::ConfigMap => one(Object::ConfigMap, data::config_map(&at, metadata, &mut faults)),
        };
        let (diagnostics, rejected) = faults.finish();
        self.loaded.diagnostics.extend(diagnostics);
        if rejected {
            self.loaded.rejected.push(reference);
        } else {
            self.loaded.objects.extend(objects);
        }
    }
}

fn one<T>(wrap: fn(Arc<T>) -> Object, object: T) -> Vec<Object> {
    vec![wrap(Arc::new(object))]
}
