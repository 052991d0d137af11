//! What requests do with objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::State;
use super::failure::Failure;
use super::patch::{self, Applied};
use super::resources::{Resource, Target};
use super::select::Selector;
use super::store::{Key, Object};

/// Whether objects are sent with everything in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// They are.
    Whole,
    /// Their metadata only.
    Metadata,
}

/// How objects of a resource are sent.
#[derive(Debug, Clone)]
pub struct View {
    /// With everything or not.
    pub form: Form,
    /// In which version.
    pub api_version: String,
    /// Their kind.
    pub kind: String,
}

impl View {
    /// The object as it is sent.
    pub fn of(&self, value: &Value) -> Value {
        match self.form {
            Form::Whole if value["apiVersion"] == self.api_version.as_str() => value.clone(),
            Form::Whole => {
                let mut value = value.clone();
                value["apiVersion"] = self.api_version.as_str().into();
                value
            }
            Form::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"],
            }),
        }
    }
}

/// Query parameters of writes.
#[derive(Debug, Clone, Default)]
pub struct Write {
    /// Nothing is kept.
    pub dry_run: bool,
    /// Who writes.
    pub manager: Option<String>,
    /// Conflicts of server-side apply are won.
    pub force: bool,
}

/// What a `PATCH` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// A merge patch; a strategic one is taken as that.
    Merge,
    /// A list of operations.
    Operations,
    /// Server-side apply.
    Apply,
}

fn key(target: &Target, name: &str) -> Key {
    (target.namespace.clone().unwrap_or_default(), name.to_owned())
}

/// The one object that a request names.
fn named(target: &Target) -> Result<&str, Failure> {
    target.name.as_deref().ok_or_else(|| Failure::bad_request("name is required"))
}

/// The object.
pub fn get(state: &State, resource: &Resource, target: &Target) -> Result<Arc<Object>, Failure> {
    let name = named(target)?;
    let found = state.store.get(&resource.name(), &key(target, name));
    found.ok_or_else(|| Failure::not_found(&resource.name(), name))
}

/// Makes an object.
pub fn create(
    state: &mut State,
    resource: &Resource,
    target: &Target,
    mut value: Value,
    write: &Write,
) -> Result<Value, Failure> {
    check_identity(resource, target, &mut value)?;
    let generate = value["metadata"]["generateName"].as_str().map(str::to_owned);
    let name = match (value["metadata"]["name"].as_str(), generate) {
        (Some(name), _) if !name.is_empty() => name.to_owned(),
        (_, Some(prefix)) => format!("{prefix}{:05x}", next_number() & 0xf_ffff),
        _ => {
            return Err(Failure::invalid(format!(
                "{} \"\" is invalid: metadata.name: Required value",
                resource.kind
            )));
        }
    };
    if let Some(namespace) = &target.namespace
        && state.store.get("namespaces", &(String::new(), namespace.clone())).is_none()
    {
        return Err(Failure::not_found("namespaces", namespace));
    }
    let key = key(target, &name);
    if state.store.get(&resource.name(), &key).is_some() {
        return Err(Failure::exists(&resource.name(), &name));
    }
    if resource.status && resource.kind != "Namespace" {
        members(&mut value).remove("status");
    }
    value["metadata"]["name"] = name.into();
    new(resource, target, &mut value);
    keep(state, resource, key, value, Applied::new(), write)
}

/// Replaces an object, or its status.
pub fn update(
    state: &mut State,
    resource: &Resource,
    target: &Target,
    mut value: Value,
    write: &Write,
) -> Result<Value, Failure> {
    check_identity(resource, target, &mut value)?;
    let live = get(state, resource, target)?;
    check_version(resource, target, &live, &value)?;
    change(state, resource, target, &live, value, live.applied.clone(), write)
}

/// Changes an object by a patch, or makes it by one that is applied.
pub fn patch(
    state: &mut State,
    resource: &Resource,
    target: &Target,
    kind: Patch,
    body: &Value,
    write: &Write,
) -> Result<Value, Failure> {
    let name = named(target)?.to_owned();
    let live = match get(state, resource, target) {
        Err(_) if kind == Patch::Apply && target.subresource.is_none() => None,
        found => Some(found?),
    };
    let mut value = live.as_ref().map_or_else(|| json!({}), |live| live.value.clone());
    let mut applied = live.as_ref().map(|live| live.applied.clone()).unwrap_or_default();
    match kind {
        Patch::Merge => patch::merge(&mut value, body),
        Patch::Operations => patch::operations(&mut value, body)?,
        Patch::Apply => {
            let Some(manager) = write.manager.clone() else {
                return Err(Failure::invalid(
                    "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
                ));
            };
            if body["kind"] != resource.kind.as_str() {
                return Err(Failure::bad_request(
                    "apiVersion and kind of the object have to be those of the URL",
                ));
            }
            let owner = (manager, target.subresource.clone().unwrap_or_default());
            patch::apply(&mut value, &mut applied, &owner, body, write.force)?;
            value["metadata"]["managedFields"] =
                patch::managers(&applied, &resource.api_version(&target.version));
        }
    }
    let Some(live) = live else {
        value["metadata"]["name"] = name.as_str().into();
        let target = Target { name: None, ..target.clone() };
        check_identity(resource, &target, &mut value)?;
        new(resource, &target, &mut value);
        return keep(state, resource, key(&target, &name), value, applied, write);
    };
    check_identity(resource, target, &mut value)?;
    if !body["metadata"]["resourceVersion"].is_null() || kind == Patch::Operations {
        check_version(resource, target, &live, &value)?;
    }
    change(state, resource, target, &live, value, applied, write)
}

/// Removes an object, or marks it where it has finalizers.
pub fn delete(
    state: &mut State,
    resource: &Resource,
    target: &Target,
    options: &Value,
    write: &Write,
) -> Result<Value, Failure> {
    let live = get(state, resource, target)?;
    let name = named(target)?;
    let wanted = &options["preconditions"];
    for field in ["uid", "resourceVersion"] {
        let (wanted, found) = (&wanted[field], &live.value["metadata"][field]);
        if !wanted.is_null() && wanted != found {
            return Err(Failure::new(
                409,
                "Conflict",
                format!(
                    "Operation cannot be fulfilled on {} \"{name}\": Precondition failed: {field} in precondition: \
                     {wanted}, {field} in object meta: {found}",
                    resource.name()
                ),
            ));
        }
    }
    let finalizers = live.value["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    if write.dry_run {
        return Ok(live.value.clone());
    }
    if finalizers {
        let mut value = live.value.clone();
        if value["metadata"]["deletionTimestamp"].is_null() {
            value["metadata"]["deletionTimestamp"] = now().into();
            value["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        }
        let applied = live.applied.clone();
        return keep(state, resource, key(target, name), value, applied, write);
    }
    state.store.delete(&resource.name(), &key(target, name));
    Ok(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {
            "name": name, "group": resource.group, "kind": resource.plural, "uid": live.value["metadata"]["uid"],
        },
    }))
}

/// Removes what a selector takes.
pub fn delete_all(
    state: &mut State,
    resource: &Resource,
    target: &Target,
    selector: &Selector,
    write: &Write,
) -> Result<Vec<Arc<Object>>, Failure> {
    let objects = state.store.objects(&resource.name());
    let mut gone = Vec::new();
    for ((namespace, name), object) in objects.iter() {
        let here = target.namespace.as_ref().is_none_or(|wanted| wanted == namespace);
        if here && selector.takes(&object.value) {
            let namespace = (!namespace.is_empty()).then(|| namespace.clone());
            let target = Target { namespace, name: Some(name.clone()), ..target.clone() };
            delete(state, resource, &target, &Value::Null, write)?;
            gone.push(Arc::clone(object));
        }
    }
    Ok(gone)
}

/// Puts an object as it is.
pub fn put(state: &mut State, mut value: Value) -> Result<(), Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&value["apiVersion"]), text(&value["kind"]));
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    let resource = state.resources.iter().find(|resource| resource.group == group && resource.kind == kind);
    let resource = resource.cloned().ok_or_else(|| {
        Failure::invalid(format!("no resource is known for apiVersion {api_version:?} and kind {kind:?}"))
    })?;
    let name = text(&value["metadata"]["name"]);
    if name.is_empty() {
        return Err(Failure::invalid("the object has no name"));
    }
    let namespace = resource.namespaced.then(|| match text(&value["metadata"]["namespace"]) {
        namespace if namespace.is_empty() => "default".to_owned(),
        namespace => namespace,
    });
    if let Some(namespace) = &namespace {
        make_namespace(state, namespace);
    }
    let (version, plural) = (version.to_owned(), resource.plural.clone());
    let group = resource.group.clone();
    let target = Target { group, version, plural, namespace, name: Some(name.clone()), subresource: None };
    members(&mut value["metadata"]).remove("resourceVersion");
    check_identity(&resource, &target, &mut value)?;
    let write = Write::default();
    match get(state, &resource, &target) {
        Ok(live) => {
            let status = value.get("status").cloned();
            change(state, &resource, &target, &live, value.clone(), live.applied.clone(), &write)?;
            if let Some(status) = status.filter(|_| resource.status) {
                let live = get(state, &resource, &target)?;
                let mut value = live.value.clone();
                value["status"] = status;
                let target = Target { subresource: Some("status".to_owned()), ..target };
                change(state, &resource, &target, &live, value, live.applied.clone(), &write)?;
            }
        }
        Err(_) => {
            new(&resource, &target, &mut value);
            keep(state, &resource, key(&target, &name), value, Applied::new(), &write)?;
        }
    }
    Ok(())
}

/// Makes a namespace where there is none.
pub fn make_namespace(state: &mut State, name: &str) {
    let key = (String::new(), name.to_owned());
    if state.store.get("namespaces", &key).is_some() {
        return;
    }
    let value = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": name, "uid": uid(), "creationTimestamp": now(),
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    });
    state.store.put("namespaces", key, value, Applied::new());
}

/// Fills in what the URL says, and refuses what contradicts it.
fn check_identity(resource: &Resource, target: &Target, value: &mut Value) -> Result<(), Failure> {
    if !value.is_object() {
        return Err(Failure::bad_request("the body is no object"));
    }
    if value.get("metadata").is_some_and(|metadata| !metadata.is_object()) {
        return Err(Failure::bad_request("metadata is no object"));
    }
    let api_version = resource.api_version(&target.version);
    for (field, expected) in [("apiVersion", &api_version), ("kind", &resource.kind)] {
        match value[field].as_str() {
            // Objects are kept in the version they were written in.
            Some(found) if field == "apiVersion" && served(resource, found) => {}
            None => value[field] = expected.as_str().into(),
            Some(found) if found == expected => {}
            Some(found) => {
                return Err(Failure::bad_request(format!(
                    "{field} in the data ({found}) does not match the expected {field} ({expected})"
                )));
            }
        }
    }
    let given = [("namespace", &target.namespace), ("name", &target.name)];
    for (field, expected) in given {
        let Some(expected) = expected else { continue };
        let found = value["metadata"][field].as_str().unwrap_or_default().to_owned();
        if found.is_empty() {
            value["metadata"][field] = expected.as_str().into();
        } else if found != *expected {
            return Err(Failure::bad_request(format!(
                "the {field} of the provided object does not match the {field} sent on the request"
            )));
        }
    }
    Ok(())
}

fn served(resource: &Resource, api_version: &str) -> bool {
    resource.versions.iter().any(|version| resource.api_version(version) == api_version)
}

fn check_version(resource: &Resource, target: &Target, live: &Object, value: &Value) -> Result<(), Failure> {
    let wanted = &value["metadata"]["resourceVersion"];
    if wanted.is_null() || *wanted == "" || *wanted == live.value["metadata"]["resourceVersion"] {
        return Ok(());
    }
    Err(Failure::conflict(&resource.name(), target.name.as_deref().unwrap_or_default()))
}

/// What the server writes into a new object.
fn new(resource: &Resource, target: &Target, value: &mut Value) {
    let metadata = &mut value["metadata"];
    if let (Some(namespace), true) = (&target.namespace, resource.namespaced) {
        metadata["namespace"] = namespace.as_str().into();
    }
    metadata["uid"] = uid().into();
    if metadata["creationTimestamp"].is_null() {
        metadata["creationTimestamp"] = now().into();
    }
    if !value["spec"].is_null() {
        value["metadata"]["generation"] = 1.into();
    }
}

/// Takes a changed object, as far as it may change that way.
fn change(
    state: &mut State,
    resource: &Resource,
    target: &Target,
    live: &Arc<Object>,
    value: Value,
    applied: Applied,
    write: &Write,
) -> Result<Value, Failure> {
    let mut next = match target.subresource.as_deref() {
        None => {
            let mut next = value;
            if resource.status {
                set(&mut next, "status", live.value.get("status").cloned());
            }
            next
        }
        Some("status") if resource.status => {
            let mut next = live.value.clone();
            set(&mut next, "status", value.get("status").cloned());
            if let Some(managers) = value["metadata"].get("managedFields") {
                next["metadata"]["managedFields"] = managers.clone();
            }
            next
        }
        Some(_) => return Err(Failure::no_resource()),
    };
    for field in ["uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp"] {
        let before = live.value["metadata"].get(field).cloned();
        set(&mut next["metadata"], field, before);
    }
    if next == live.value && applied == live.applied {
        return Ok(next);
    }
    let rest = |value: &Value| {
        let mut value = value.clone();
        members(&mut value).retain(|key, _| key != "metadata" && key != "status");
        value
    };
    if let Some(generation) = live.value["metadata"]["generation"].as_u64()
        && rest(&next) != rest(&live.value)
    {
        next["metadata"]["generation"] = (generation + 1).into();
    }
    let name = named(target)?;
    let finalizers = next["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    if next["metadata"].get("deletionTimestamp").is_some() && !finalizers && !write.dry_run {
        state.store.delete(&resource.name(), &key(target, name));
        return Ok(next);
    }
    keep(state, resource, key(target, name), next, applied, write)
}

fn keep(
    state: &mut State,
    resource: &Resource,
    key: Key,
    value: Value,
    applied: Applied,
    write: &Write,
) -> Result<Value, Failure> {
    if write.dry_run {
        return Ok(value);
    }
    if resource.kind == "CustomResourceDefinition" {
        define(state, &value)?;
    }
    Ok(state.store.put(&resource.name(), key, value, applied).value.clone())
}

/// Serves what a CustomResourceDefinition describes.
fn define(state: &mut State, definition: &Value) -> Result<(), Failure> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let versions: Vec<&Value> = spec["versions"].as_array().into_iter().flatten().collect();
    let described = (|| {
        Some(Resource {
            group: text(&spec["group"])?,
            versions: versions.iter().filter_map(|version| text(&version["name"])).collect(),
            plural: text(&spec["names"]["plural"])?,
            kind: text(&spec["names"]["kind"])?,
            namespaced: text(&spec["scope"])? == "Namespaced",
            status: versions.iter().any(|version| !version["subresources"]["status"].is_null()),
        })
    })();
    let described =
        described.ok_or_else(|| Failure::invalid("the CustomResourceDefinition is incomplete"))?;
    state.resources.retain(|resource| resource.name() != described.name());
    state.resources.push(described);
    Ok(())
}

/// The members of an object; of anything else none, and what is written to them is lost.
fn members(value: &mut Value) -> &mut serde_json::Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it has just been made one")
}

fn set(value: &mut Value, field: &str, to: Option<Value>) {
    match to {
        Some(to) => value[field] = to,
        None => {
            members(value).remove(field);
        }
    }
}

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Unique, and in the form of a UUID.
pub fn uid() -> String {
    format!("{:08x}-0000-4000-8000-{:012x}", std::process::id(), next_number())
}

/// Now, in seconds.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What discovery says of the versions of groups: `(group, versions)`.
pub fn groups(state: &State) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for resource in state.resources.iter().filter(|resource| !resource.group.is_empty()) {
        let versions = groups.entry(resource.group.clone()).or_default();
        for version in &resource.versions {
            if !versions.contains(version) {
                versions.push(version.clone());
            }
        }
    }
    groups
}
