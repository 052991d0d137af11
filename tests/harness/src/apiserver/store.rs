//! The objects, and what became of them: what etcd is to an API server.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::address::{Address, Selector};

/// How many changes are remembered.
const HISTORY: usize = 20_000;

/// Resources whose `status` is written by its subresource only.
const WITH_STATUS: &[&str] = &["ingresses", "services", "pods", "nodes"];

/// Where an object stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Group and plural, without version: an object is the same in each.
    resource: String,
    namespace: String,
    name: String,
}

/// A change.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    resource: String,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    kind: &'static str,
    object: Arc<Value>,
    before: Option<Arc<Value>>,
}

/// Which objects are wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) labels: Selector,
    pub(super) fields: Selector,
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    NotFound,
    AlreadyExists,
    Conflict,
    Invalid,
}

/// The objects.
#[derive(Debug)]
pub(super) struct Store {
    version: u64,
    /// Changes after this one are remembered.
    forgotten: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    news: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        // Not 0: that has a meaning of its own.
        Store {
            version: 1,
            forgotten: 1,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            news: watch::channel(1).0,
        }
    }
}

impl Key {
    pub(super) fn new(address: &Address, namespace: &str, name: &str) -> Key {
        Key { resource: address.resource(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl Wanted {
    fn takes(&self, object: &Value) -> bool {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let label = |key: &str| text(&object["metadata"]["labels"][key]);
        let field = |key: &str| {
            let mut value = object;
            for part in key.split('.') {
                value = value.get(part)?;
            }
            text(value)
        };
        self.labels.matches(label) && self.fields.matches(field)
    }
}

impl Change {
    /// The event of a watch, if the change is one to it: an object that no longer matches is deleted to it.
    pub(super) fn event(
        &self,
        address: &Address,
        namespace: Option<&str>,
        wanted: &Wanted,
    ) -> Option<(&'static str, &Value)> {
        let of_namespace = namespace.is_none_or(|wanted| self.object["metadata"]["namespace"] == wanted);
        if self.resource != address.resource() || !of_namespace {
            return None;
        }
        let was = self.before.as_ref().is_some_and(|before| wanted.takes(before));
        let is = self.kind != "DELETED" && wanted.takes(&self.object);
        let kind = match (was, is) {
            (false, false) => return None,
            (true, false) => "DELETED",
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
        };
        Some((kind, &self.object))
    }
}

impl Store {
    /// The version of the last change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Tells of each change.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Forgets what has happened so far: watches from before cannot be taken up.
    pub(super) fn forget_history(&mut self) {
        self.history.clear();
        self.forgotten = self.version;
    }

    /// The changes after a version; none where they are no longer known.
    pub(super) fn since(&self, version: u64) -> Option<impl Iterator<Item = &Change>> {
        let start = self.history.partition_point(|change| change.version <= version);
        (version >= self.forgotten).then(|| self.history.range(start..))
    }

    /// All objects that are wanted, in the order of their names.
    pub(super) fn list(&self, address: &Address, wanted: &Wanted) -> Vec<Arc<Value>> {
        let resource = address.resource();
        let first = Key {
            resource: resource.clone(),
            namespace: address.namespace.clone().unwrap_or_default(),
            name: String::new(),
        };
        self.objects
            .range(first..)
            .take_while(|(key, _)| key.resource == resource)
            .filter(|(key, _)| address.namespace.as_ref().is_none_or(|wanted| key.namespace == *wanted))
            .map(|(_, object)| object)
            .filter(|object| wanted.takes(object))
            .cloned()
            .collect()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// Puts a new object in.
    pub(super) fn create(&mut self, address: &Address, mut object: Value) -> Result<Arc<Value>, Refusal> {
        let fields = object.as_object_mut().ok_or(Refusal::Invalid)?;
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        let metadata = metadata.as_object_mut().ok_or(Refusal::Invalid)?;
        if let Some(namespace) = &address.namespace {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        if let (None, Some(Value::String(start))) = (metadata.get("name"), metadata.get("generateName")) {
            let name = format!("{start}{:05x}", self.version);
            metadata.insert("name".to_owned(), json!(name));
        }
        let name = metadata.get("name").and_then(Value::as_str).ok_or(Refusal::Invalid)?.to_owned();
        let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = Key::new(address, &namespace, &name);
        if self.objects.contains_key(&key) {
            return Err(Refusal::AlreadyExists);
        }
        metadata.insert("uid".to_owned(), json!(format!("00000000-0000-4000-8000-{:012x}", self.version)));
        metadata.entry("creationTimestamp").or_insert_with(|| json!(now()));
        metadata.insert("generation".to_owned(), json!(1));
        Ok(self.put(key, object, "ADDED"))
    }

    /// Replaces an object. With `status`, only its status; without, all but that.
    pub(super) fn replace(
        &mut self,
        key: &Key,
        mut object: Value,
        status: bool,
    ) -> Result<Arc<Value>, Refusal> {
        let before = Arc::clone(self.objects.get(key).ok_or(Refusal::NotFound)?);
        let given = object["metadata"]["resourceVersion"].as_str().filter(|version| !version.is_empty());
        if given.is_some_and(|given| before["metadata"]["resourceVersion"] != given) {
            return Err(Refusal::Conflict);
        }
        let own_status = WITH_STATUS.iter().any(|plural| key.resource.split('.').next() == Some(*plural));
        if status {
            let new = object.get("status").cloned();
            object = (*before).clone();
            set(&mut object, "status", new);
        } else if own_status {
            set(&mut object, "status", before.get("status").cloned());
        }
        let metadata = object["metadata"].as_object_mut().ok_or(Refusal::Invalid)?;
        for fixed in ["uid", "creationTimestamp", "generation", "name", "namespace"] {
            match before["metadata"].get(fixed) {
                Some(value) => drop(metadata.insert(fixed.to_owned(), value.clone())),
                None => drop(metadata.remove(fixed)),
            }
        }
        metadata.insert("resourceVersion".to_owned(), before["metadata"]["resourceVersion"].clone());
        if object == *before {
            return Ok(before);
        }
        if object.get("spec") != before.get("spec") {
            let generation = before["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
            object["metadata"]["generation"] = json!(generation);
        }
        Ok(self.put(key.clone(), object, "MODIFIED"))
    }

    pub(super) fn delete(&mut self, key: &Key) -> Result<Arc<Value>, Refusal> {
        let before = self.objects.remove(key).ok_or(Refusal::NotFound)?;
        let mut last = (*before).clone();
        self.version += 1;
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let last = Arc::new(last);
        self.remember(key, "DELETED", Arc::clone(&last), Some(before));
        Ok(last)
    }

    fn put(&mut self, key: Key, mut object: Value, kind: &'static str) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.remember(&key, kind, Arc::clone(&object), before);
        object
    }

    fn remember(&mut self, key: &Key, kind: &'static str, object: Arc<Value>, before: Option<Arc<Value>>) {
        let resource = key.resource.clone();
        self.history.push_back(Change { version: self.version, resource, kind, object, before });
        if self.history.len() > HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.forgotten = oldest.version;
        }
        self.news.send_replace(self.version);
    }
}

fn set(object: &mut Value, name: &str, value: Option<Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    match value {
        Some(value) => drop(fields.insert(name.to_owned(), value)),
        None => drop(fields.remove(name)),
    }
}

/// The present time as objects have it (RFC 3339, whole seconds).
pub(super) fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (now.as_secs() / 86_400, now.as_secs() % 86_400);
    // Howard Hinnant's `civil_from_days`, for days after 1970.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// JSON Merge Patch (RFC 7396).
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), change);
        }
    }
}
