//! What one stream has asked for, was sent and has acknowledged: the incremental protocol as a value that
//! turns requests and snapshots into responses.
//!
//! Deliberately knows nothing of sockets, tasks and the order in which snapshots come.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::resource::{Named, Resource, ResourceSet, ResourceType};

/// The name that stands for every resource of a kind.
const WILDCARD: &str = "*";

/// Resources that a client refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Their kind.
    pub kind: ResourceType,
    /// Their names: those that the client blames, or all of the response where it blames none by name.
    pub names: Vec<String>,
    /// The client blames each of them by its name.
    pub by_name: bool,
    /// The client's words.
    pub message: String,
}

/// How far a stream is with a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Something is still to be asked for, sent or acknowledged.
    Working,
    /// The client holds all of it.
    Settled,
    /// The client refused some of it.
    Rejected,
}

/// The protocol's state of one stream.
#[derive(Debug, Default)]
pub(super) struct StreamState {
    subscriptions: BTreeMap<ResourceType, Subscription>,
    nonces: u64,
}

/// What a stream wants and has of one kind.
#[derive(Debug, Default)]
struct Subscription {
    /// Every resource is wanted.
    wildcard: bool,
    /// Resources that are wanted by name, whether or not they exist.
    names: HashSet<Arc<str>>,
    /// What the client was last told of each resource.
    told: HashMap<Arc<str>, Told>,
    /// The one response that is not answered yet.
    in_flight: Option<InFlight>,
    /// Versions that are not sent again.
    rejected: HashMap<Arc<str>, Refused>,
    /// The resources at the last look, where nothing was left to say.
    done: Option<Arc<Named>>,
    /// The resources of which the client was found to hold all, and whether it held nothing else. Of no worth
    /// once there is something to say again.
    held: Option<(Arc<Named>, bool)>,
    /// It has had an answer.
    answered: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Version(Arc<str>),
    Absent,
    /// A version that it was sent together with others it refused: it may have kept this one.
    Unknown,
}

/// What a client has to be told.
struct Difference {
    resources: Vec<Arc<Resource>>,
    removed: Vec<Arc<str>>,
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    resources: Vec<(Arc<str>, Arc<str>)>,
}

#[derive(Debug)]
struct Refused {
    version: Arc<str>,
    /// The client said that it means this one.
    by_name: bool,
    /// The client did not say which resource of several it means.
    by_suspicion: bool,
    /// The client's words.
    message: Arc<str>,
}

// === impl StreamState ===

impl StreamState {
    /// Takes in a request: an answer to a response, a change of what is wanted, or both. Requests for kinds
    /// that are not served change nothing.
    pub(super) fn request(&mut self, request: DeltaDiscoveryRequest) -> Option<Rejection> {
        let kind = ResourceType::from_type_url(&request.type_url)?;
        let first = !self.subscriptions.contains_key(&kind);
        let subscription = self.subscriptions.entry(kind).or_default();
        let rejection = subscription.answered(kind, &request);

        let held = request.initial_resource_versions;
        for (name, version) in &held {
            subscription.told.insert(name.as_str().into(), Told::Version(version.as_str().into()));
        }
        // Before the wildcard had a name, a first request without names asked for everything.
        let may_be_wildcard = matches!(kind, ResourceType::Cluster | ResourceType::Listener);
        if first && may_be_wildcard && request.resource_names_subscribe.is_empty() {
            subscription.wildcard = true;
        }
        for name in request.resource_names_subscribe {
            subscription.done = None;
            if name == WILDCARD {
                subscription.wildcard = true;
                continue;
            }
            // Who asks again for what it was sent has lost it.
            if !held.contains_key(&name) {
                subscription.told.remove(name.as_str());
            }
            subscription.names.insert(name.into());
        }
        for name in request.resource_names_unsubscribe {
            subscription.done = None;
            if name == WILDCARD {
                subscription.wildcard = false;
                let Subscription { names, told, .. } = subscription;
                told.retain(|name, _| names.contains(name));
            } else {
                subscription.names.remove(name.as_str());
                // Under a wildcard it is sent again, as the protocol demands.
                subscription.told.remove(name.as_str());
            }
        }
        rejection
    }

    /// What is to be sent so that the client gets from what it was told to `set`. At most one response of a
    /// kind is on its way: what changes meanwhile waits, and only its last state is sent. Unless the set is
    /// `complete`, nothing is taken away that it lacks.
    pub(super) fn responses(&mut self, set: &ResourceSet, complete: bool) -> Vec<DeltaDiscoveryResponse> {
        let mut responses = Vec::new();
        for kind in ResourceType::ALL {
            let Some(subscription) = self.subscriptions.get_mut(&kind) else { continue };
            let named = set.named(kind);
            // Listeners come later than what they refer to: a client that were told now that there are none
            // would begin to serve without.
            if kind == ResourceType::Listener && !complete && named.is_empty() {
                continue;
            }
            let Some(Difference { resources, removed }) = subscription.difference(&named, complete) else {
                continue;
            };
            let starts = subscription.told.is_empty();
            self.nonces = self.nonces.wrapping_add(1);
            let nonce = self.nonces.to_string();
            let response = DeltaDiscoveryResponse {
                type_url: kind.type_url().to_owned(),
                nonce: nonce.clone(),
                resources: resources.iter().map(|resource| resource.message(starts)).collect(),
                removed_resources: removed.iter().map(ToString::to_string).collect(),
                ..DeltaDiscoveryResponse::default()
            };
            let updated = subscription.sent(nonce, &resources, removed);
            // A cluster that changes is built anew in Envoy, which waits for its endpoints but does not ask
            // for them again, since it is subscribed already.
            if kind == ResourceType::Cluster
                && let Some(endpoints) = self.subscriptions.get_mut(&ResourceType::Endpoints)
            {
                for name in updated {
                    endpoints.told.remove(&name);
                    endpoints.done = None;
                }
            }
            responses.push(response);
        }
        responses
    }

    /// How far the client is with `set`. Every resource of a set counts: it is expected that the client asks
    /// for all of them sooner or later. Of a set that is not `complete`, it may hold more.
    pub(super) fn standing(&mut self, set: &ResourceSet, complete: bool) -> Standing {
        let mut standing = Standing::Settled;
        for kind in ResourceType::ALL {
            let named = set.named(kind);
            let Some(subscription) = self.subscriptions.get_mut(&kind) else {
                if !named.is_empty() {
                    standing = Standing::Working;
                }
                continue;
            };
            if subscription.refuses_some(&named) {
                return Standing::Rejected;
            }
            if !subscription.holds(&named, complete) {
                standing = Standing::Working;
            }
        }
        standing
    }

    /// What of a set is refused, and was so when it was sent: it is not sent once more.
    pub(super) fn rejections(&self, set: &ResourceSet) -> Vec<Rejection> {
        let mut rejections = Vec::new();
        for (kind, subscription) in &self.subscriptions {
            let mut by_message: BTreeMap<(&str, bool), Vec<String>> = BTreeMap::new();
            for resource in set.named(*kind).values().filter(|resource| subscription.refuses(resource)) {
                if let Some(Refused { message, by_name, .. }) = subscription.rejected.get(resource.name()) {
                    by_message.entry((message, *by_name)).or_default().push(resource.name().to_string());
                }
            }
            rejections.extend(by_message.into_iter().map(|((message, by_name), names)| Rejection {
                kind: *kind,
                names,
                by_name,
                message: message.to_owned(),
            }));
        }
        rejections
    }

    /// A new set is on its way: what was refused only by suspicion is tried once more.
    pub(super) fn new_set(&mut self) {
        for subscription in self.subscriptions.values_mut() {
            let before = subscription.rejected.len();
            subscription.rejected.retain(|_, refused| !refused.by_suspicion);
            if subscription.rejected.len() != before {
                subscription.done = None;
            }
        }
    }
}

// === impl Subscription ===

impl Subscription {
    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn has(&self, resource: &Resource) -> bool {
        matches!(self.told.get(resource.name()), Some(Told::Version(version)) if version == resource.version())
    }

    fn refuses(&self, resource: &Resource) -> bool {
        self.rejected.get(resource.name()).is_some_and(|refused| refused.version == *resource.version())
    }

    fn refuses_some(&self, named: &Named) -> bool {
        !self.rejected.is_empty() && named.values().any(|resource| self.refuses(resource))
    }

    /// Whether the client wants and has all of these, and nothing else where that is asked for.
    fn holds(&mut self, named: &Arc<Named>, complete: bool) -> bool {
        if self.in_flight.is_some() {
            return false;
        }
        let at_rest = self.done.as_ref().is_some_and(|done| Arc::ptr_eq(done, named));
        if at_rest
            && let Some((held, alone)) = &self.held
            && Arc::ptr_eq(held, named)
            && (*alone || !complete)
        {
            return true;
        }
        let has = |resource: &Arc<Resource>| self.wants(resource.name()) && self.has(resource);
        let mut told = self.told.iter();
        let holds = named.values().all(has)
            && (!complete || told.all(|(name, told)| *told == Told::Absent || named.contains_key(name)));
        self.held = holds.then(|| (Arc::clone(named), complete));
        holds
    }

    /// Takes in the answer to the response on its way, if the request is that.
    fn answered(&mut self, kind: ResourceType, request: &DeltaDiscoveryRequest) -> Option<Rejection> {
        let in_flight = self.in_flight.take_if(|in_flight| in_flight.nonce == request.response_nonce)?;
        self.done = None;
        let error = request.error_detail.as_ref()?;
        // Of several resources, Envoy keeps those that are good, and says which are not. What it holds of
        // the others is not known, so they are sent again.
        let blamed: Vec<_> =
            in_flight.resources.iter().filter(|(name, _)| error.message.contains(&**name)).cloned().collect();
        let by_name = !blamed.is_empty();
        let by_suspicion = !by_name && in_flight.resources.len() > 1;
        for (name, _) in &in_flight.resources {
            self.told.insert(Arc::clone(name), Told::Unknown);
        }
        let blamed = if blamed.is_empty() { in_flight.resources } else { blamed };
        let names = blamed.iter().map(|(name, _)| name.to_string()).collect();
        let message: Arc<str> = error.message.as_str().into();
        for (name, version) in blamed {
            let message = Arc::clone(&message);
            self.rejected.insert(name, Refused { version, by_name, by_suspicion, message });
        }
        Some(Rejection { kind, names, by_name, message: error.message.clone() })
    }

    /// What the client has to be told; nothing while a response is on its way.
    fn difference(&mut self, named: &Arc<Named>, complete: bool) -> Option<Difference> {
        if self.in_flight.is_some() || self.done.as_ref().is_some_and(|done| Arc::ptr_eq(done, named)) {
            return None;
        }
        let is_news = |resource: &&Arc<Resource>| !self.has(resource) && !self.refuses(resource);
        let resources: Vec<_> = if self.wildcard {
            named.values().filter(is_news).cloned().collect()
        } else {
            let mut wanted: Vec<_> =
                self.names.iter().filter_map(|name| named.get(name)).filter(is_news).cloned().collect();
            wanted.sort_unstable_by(|one, other| one.name().cmp(other.name()));
            wanted
        };
        let gone =
            self.told.iter().filter(|(name, told)| **told != Told::Absent && !named.contains_key(*name));
        let gone = gone.map(|(name, _)| name);
        let withheld = !complete && gone.clone().next().is_some();
        let never = self.names.iter().filter(|name| !self.told.contains_key(*name));
        let mut removed: Vec<_> = never.filter(|name| !named.contains_key(*name)).cloned().collect();
        if !withheld {
            removed.extend(gone.cloned());
        }
        removed.sort_unstable();
        if resources.is_empty() && removed.is_empty() {
            // What is withheld now is due with the complete set, which may be of the same resources.
            self.done = (!withheld).then(|| Arc::clone(named));
            // A client that asks for everything waits for an answer even where there is nothing.
            if self.answered || !self.wildcard {
                return None;
            }
        }
        Some(Difference { resources, removed })
    }

    /// Notes what was sent; gives the names of resources of which the client had another version.
    fn sent(&mut self, nonce: String, resources: &[Arc<Resource>], removed: Vec<Arc<str>>) -> Vec<Arc<str>> {
        let mut updated = Vec::new();
        for resource in resources {
            let told = Told::Version(Arc::clone(resource.version()));
            if self
                .told
                .insert(Arc::clone(resource.name()), told)
                .is_some_and(|before| before != Told::Absent)
            {
                updated.push(Arc::clone(resource.name()));
            }
        }
        for name in removed {
            if self.names.contains(&name) {
                self.told.insert(name, Told::Absent);
            } else {
                self.told.remove(&name);
            }
        }
        let resources = resources
            .iter()
            .map(|resource| (Arc::clone(resource.name()), Arc::clone(resource.version())))
            .collect();
        self.in_flight = Some(InFlight { nonce, resources });
        self.answered = true;
        updated
    }
}
