//! Objects, their versions, and what happened to them lately.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::patch::Applied;

/// `(namespace, name)`; the namespace is empty where there is none.
pub type Key = (String, String);

/// A version of an object.
#[derive(Debug)]
pub struct Object {
    /// As it is sent.
    pub value: Value,
    /// What was applied by whom.
    pub applied: Applied,
}

/// What happened to an object.
#[derive(Debug, Clone)]
pub struct Event {
    /// The version that came of it.
    pub version: u64,
    /// The object, as it was last if it is gone.
    pub object: Arc<Object>,
    /// The version before.
    pub before: Option<Arc<Object>>,
    /// It is gone.
    pub deleted: bool,
}

/// All objects of a resource.
pub type Objects = BTreeMap<Key, Arc<Object>>;

#[derive(Debug, Default)]
struct Shelf {
    objects: Arc<Objects>,
    events: VecDeque<Event>,
    /// Events up to this version are forgotten.
    forgotten: u64,
}

/// The store: by resource (`plural.group`).
#[derive(Debug)]
pub struct Store {
    version: u64,
    shelves: BTreeMap<String, Shelf>,
    history: usize,
    /// Everything up to this version is forgotten.
    compacted: u64,
    /// What lists that are read page by page go on with.
    snapshots: VecDeque<(String, u64, Arc<Objects>)>,
}

/// How many lists may be read page by page at a time.
const SNAPSHOTS: usize = 32;

impl Store {
    /// An empty store that remembers so many events of a resource.
    pub fn new(history: usize) -> Store {
        Store { version: 1, shelves: BTreeMap::new(), history, compacted: 0, snapshots: VecDeque::new() }
    }

    /// The newest version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All objects of a resource, as they are now.
    pub fn objects(&self, resource: &str) -> Arc<Objects> {
        self.shelves.get(resource).map(|shelf| Arc::clone(&shelf.objects)).unwrap_or_default()
    }

    /// One object.
    pub fn get(&self, resource: &str, key: &Key) -> Option<Arc<Object>> {
        self.shelves.get(resource)?.objects.get(key).cloned()
    }

    /// Puts an object, under a new version that is written into it.
    pub fn put(&mut self, resource: &str, key: Key, mut value: Value, applied: Applied) -> Arc<Object> {
        self.version += 1;
        let version = self.version;
        stamp(&mut value, version);
        let object = Arc::new(Object { value, applied });
        let shelf = self.shelves.entry(resource.to_owned()).or_default();
        let before = Arc::make_mut(&mut shelf.objects).insert(key, Arc::clone(&object));
        shelf.events.push_back(Event { version, object: Arc::clone(&object), before, deleted: false });
        shelf.trim(self.history);
        object
    }

    /// Removes an object.
    pub fn delete(&mut self, resource: &str, key: &Key) -> Option<Arc<Object>> {
        let shelf = self.shelves.get_mut(resource)?;
        let before = Arc::make_mut(&mut shelf.objects).remove(key)?;
        self.version += 1;
        let version = self.version;
        let mut value = before.value.clone();
        stamp(&mut value, version);
        let object = Arc::new(Object { value, applied: Applied::new() });
        shelf.events.push_back(Event {
            version,
            object: Arc::clone(&object),
            before: Some(before),
            deleted: true,
        });
        shelf.trim(self.history);
        Some(object)
    }

    /// What happened to a resource after a version, at most `limit` events; `Err` with the oldest version that
    /// can be asked for if that is not known any more.
    pub fn since(&self, resource: &str, version: u64, limit: usize) -> Result<Vec<Event>, u64> {
        let shelf = self.shelves.get(resource);
        let forgotten = shelf.map_or(0, |shelf| shelf.forgotten).max(self.compacted);
        if version < forgotten {
            return Err(forgotten);
        }
        let Some(shelf) = shelf else { return Ok(Vec::new()) };
        let start = shelf.events.partition_point(|event| event.version <= version);
        Ok(shelf.events.range(start..).take(limit).cloned().collect())
    }

    /// Forgets everything that happened.
    pub fn compact(&mut self) {
        // So that even who has just listed is too late.
        self.version += 1;
        self.snapshots.clear();
        self.compacted = self.version;
        for shelf in self.shelves.values_mut() {
            shelf.events.clear();
        }
    }

    /// Keeps a list for those who go on reading it.
    pub fn keep(&mut self, resource: &str, version: u64, objects: &Arc<Objects>) {
        if self.kept(resource, version).is_some() {
            return;
        }
        if self.snapshots.len() == SNAPSHOTS {
            self.snapshots.pop_front();
        }
        self.snapshots.push_back((resource.to_owned(), version, Arc::clone(objects)));
    }

    /// A list that was kept.
    pub fn kept(&self, resource: &str, version: u64) -> Option<Arc<Objects>> {
        self.snapshots
            .iter()
            .find(|(name, of, _)| name == resource && *of == version)
            .map(|(_, _, objects)| Arc::clone(objects))
    }
}

impl Shelf {
    fn trim(&mut self, history: usize) {
        while self.events.len() > history {
            if let Some(event) = self.events.pop_front() {
                self.forgotten = event.version;
            }
        }
    }
}

fn stamp(value: &mut Value, version: u64) {
    value["metadata"]["resourceVersion"] = version.to_string().into();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> Key {
        ("n".to_owned(), name.to_owned())
    }

    #[test]
    fn remembers_so_much_and_no_more() {
        let mut store = Store::new(2);
        let versions = ["a", "b", "c"].map(|name| {
            store.put("x", key(name), json!({}), Applied::new());
            store.version()
        });
        assert_eq!(store.since("x", versions[0], 9).map(|events| events.len()), Ok(2));
        assert_eq!(store.since("x", versions[0] - 1, 9).map(|_| ()), Err(versions[0]));
        assert!(store.delete("x", &key("a")).is_some());
        let gone = store.version();
        let events = store.since("x", versions[2], 9).expect("known");
        assert!(events[0].deleted && events[0].version == gone, "{events:?}");
        store.compact();
        assert!(store.since("x", gone, 9).is_err());
        assert_eq!(store.since("x", store.version(), 9).map(|events| events.len()), Ok(0));
        assert_eq!(store.objects("x").len(), 2, "objects stay");
    }
}
