//! A translation as the set of resources that the xDS server serves.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use ingress_wasm::config::{ConfigError, PluginConfig};
use ingress_wasm::router::compile_document;
use ingress_wasm_translate::backend_protocol::Transport;
use ingress_wasm_translate::connections::{BackendConnections, ClientConnections, Connections};
use ingress_wasm_translate::output::{Cluster, Endpoints, RouteProfile, Translation};

use super::backend_tls::{SecretSource, backend_secrets};
use super::clusters::{Discovery, assignment, at_start, cluster};
use super::connection_manager::Source;
use super::jwt;
use super::listeners::{Bind, CertificateSource, Listeners, https_listener, https_managers, plain_listeners};
use super::names::{DEFAULT_CERTIFICATE, FILTER, JWT_FILTER, ROUTES};
use super::parts;
use super::pb::{Kind, Struct, Value, core, listener, pack_any, tls};
use super::routes::{Profiles, route_configuration};
use super::tls::{Managers, TlsPlan, authorities_name, authorities_secret, secret, secret_name};
use super::wasm::filter_config;
use crate::certificate::Certificate;
use crate::xds::{Resource, ResourceSet, ResourceType};

/// Builds resource sets, and keeps what it encoded: a translation in which little has changed costs little.
#[derive(Debug)]
pub struct ResourceBuilder {
    listeners: Listeners,
    /// What the listeners and the clusters were made with.
    connections: Connections,
    plain: Vec<Arc<Resource>>,
    https: Option<Https>,
    /// Shown where the translation names no default certificate.
    own_certificate: Option<Certificate>,
    secrets: HashMap<String, Secret>,
    refusals: Refusals,
    module: PathBuf,
    routes: Option<Routes>,
    clusters: HashMap<String, Encoded>,
    /// The clusters and their endpoints as resources.
    reachable: ResourceSet,
    /// The filter's documents, by the name of their resource.
    documents: BTreeMap<String, Document>,
    /// The generation that they are of.
    generation: String,
    /// Into how many parts the hosts were divided last, and the listener that holds them.
    parts: usize,
    parts_listener: Option<Arc<Resource>>,
}

/// Why there are no resources of a translation.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The plugin configuration has no JSON form, which no configuration is known to lack.
    #[error("it has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    /// The filter would refuse it. The translator writes nothing of the kind; if it does, nobody is served by it.
    #[error("it is no configuration that the filter takes: {0}")]
    Refused(#[from] ConfigError),
}

/// A document of the plugin configuration and its resource.
#[derive(Debug)]
struct Document {
    /// Of its content without the generation.
    digest: [u8; 32],
    generation: String,
    /// The content of a part.
    part: Option<PluginConfig>,
    resource: Arc<Resource>,
}

/// The TLS listener.
#[derive(Debug)]
struct Https {
    bind: Bind,
    managers: Managers,
    /// As it was built last, and from what.
    built: Option<(TlsPlan, Refusals, Arc<Resource>)>,
}

/// How often certificates and authorities were refused, by the names of their resources.
pub(super) type Refusals = BTreeMap<String, u32>;

/// A certificate's resource and what it was made from.
#[derive(Debug)]
struct Secret {
    certificate: Certificate,
    resource: Arc<Resource>,
}

/// A route configuration and what it was made from.
#[derive(Debug)]
struct Routes {
    default: RouteProfile,
    profiles: BTreeMap<String, RouteProfile>,
    sessions: bool,
    passed: BTreeSet<String>,
    resource: Arc<Resource>,
}

/// A cluster and what it was made from.
#[derive(Debug)]
struct Encoded {
    settings: Cluster,
    transport: Option<Transport>,
    cluster: Arc<Resource>,
    /// None where the cluster finds its endpoints by itself.
    endpoints: Option<Arc<Resource>>,
}

impl ResourceBuilder {
    /// For these listeners; the certificate is that of the TLS listener and of no use without one, and
    /// `module` is the file from which Envoy reads the filter.
    pub fn new(settings: &Listeners, certificate: Option<&Certificate>, module: PathBuf) -> ResourceBuilder {
        let connections = Connections::default();
        ResourceBuilder {
            plain: plain(settings, &connections.clients),
            https: https(settings, &connections.clients),
            listeners: settings.clone(),
            connections,
            own_certificate: certificate.cloned(),
            secrets: HashMap::new(),
            refusals: Refusals::new(),
            module,
            routes: None,
            clusters: HashMap::new(),
            reachable: ResourceSet::default(),
            documents: BTreeMap::new(),
            generation: String::new(),
            parts: 0,
            parts_listener: None,
        }
    }

    /// The resources of a translation.
    ///
    /// # Errors
    ///
    /// [`BuildError`]
    pub fn build(&mut self, translation: &Translation) -> Result<ResourceSet, BuildError> {
        self.connect(&translation.connections);
        self.reach(translation);
        let mut set = self.reachable.clone();
        self.plugin(&translation.config, &mut set)?;
        for listener in &self.plain {
            set.insert(ResourceType::Listener, Arc::clone(listener));
        }
        if let Some(https) = &mut self.https {
            set.insert(ResourceType::Listener, https.listener(translation, &self.refusals));
            self.certificates(translation, &mut set);
        }
        // One that a host is served with as well is the same resource.
        for (name, secret) in backend_secrets(translation) {
            set.insert(ResourceType::Secret, Arc::new(Resource::new(name, pack_any(secret))));
        }
        set.insert(ResourceType::Extension, Arc::new(self.jwt(&translation.route_profiles)));
        set.insert(ResourceType::Route, self.routes(translation));
        Ok(set)
    }

    /// Brings clusters and endpoints up to date. Where none has changed the set is the same in memory, which spares
    /// all that follows a look at each.
    fn reach(&mut self, translation: &Translation) {
        let Translation { clusters, transports, .. } = translation;
        let gone: Vec<String> =
            self.clusters.keys().filter(|name| !clusters.contains_key(*name)).cloned().collect();
        for name in gone {
            self.clusters.remove(&name);
            self.reachable.remove(ResourceType::Cluster, &name);
            self.reachable.remove(ResourceType::Endpoints, &name);
        }
        for (name, settings) in clusters {
            self.cluster(name, settings, transports.get(name));
        }
    }

    /// Notes certificates and authorities that Envoy refused, by the names of their resources. The chains that hold
    /// them are other chains from now on: of one that is as it was, Envoy keeps what it made before, and does not
    /// say once more that it cannot be used.
    pub fn refused<'a>(&mut self, secrets: impl Iterator<Item = &'a String>) {
        for name in secrets {
            let count = self.refusals.entry(name.clone()).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Makes anew what depends on how connections are kept, where that has changed.
    fn connect(&mut self, connections: &Connections) {
        let Connections { clients, backends } = connections;
        if *clients != self.connections.clients {
            self.plain = plain(&self.listeners, clients);
            self.https = https(&self.listeners, clients);
        }
        if *backends != self.connections.backends {
            self.clusters.clear();
            self.reachable = ResourceSet::default();
        }
        self.connections = connections.clone();
    }

    /// One resource for each Secret, and the default certificate.
    fn certificates(&mut self, translation: &Translation, set: &mut ResourceSet) {
        let wanted = all_certificates(translation, self.own_certificate.as_ref());
        self.secrets.retain(|name, _| wanted.contains_key(name));
        for (name, certificate) in wanted {
            let held = self.secrets.get(&name).filter(|held| held.certificate == certificate);
            let resource = match held {
                Some(held) => Arc::clone(&held.resource),
                None => {
                    let message = secret(&name, &certificate.chain, &certificate.key);
                    let resource = Arc::new(Resource::new(name.clone(), pack_any(message)));
                    self.secrets.insert(name, Secret { certificate, resource: Arc::clone(&resource) });
                    resource
                }
            };
            set.insert(ResourceType::Secret, resource);
        }
        for secret in all_authorities(translation) {
            set.insert(ResourceType::Secret, Arc::new(Resource::new(secret.name.clone(), pack_any(secret))));
        }
    }

    /// The filter's configuration: one document, or several.
    fn plugin(&mut self, config: &PluginConfig, set: &mut ResourceSet) -> Result<(), BuildError> {
        if config.generation != self.generation || self.documents.is_empty() {
            self.encode_plugin(config)?;
        }
        for document in self.documents.values() {
            set.insert(ResourceType::Extension, Arc::clone(&document.resource));
        }
        if let Some(listener) = &self.parts_listener {
            set.insert(ResourceType::Listener, Arc::clone(listener));
        }
        Ok(())
    }

    /// Makes the documents anew that have changed.
    fn encode_plugin(&mut self, config: &PluginConfig) -> Result<(), BuildError> {
        let count = parts::count(parts::rules(config), self.parts);
        self.generation.clear();
        let mut before = std::mem::take(&mut self.documents);
        let mut documents = BTreeMap::new();
        if count == 0 {
            let document = self.document(FILTER, config.clone(), before.remove(FILTER))?;
            documents.insert(FILTER.to_owned(), document);
            (self.documents, self.parts, self.parts_listener) = (documents, 0, None);
            self.generation.clone_from(&config.generation);
            return Ok(());
        }
        let (others, hosts) = parts::divide(config, count);
        let mut generations = Vec::with_capacity(count);
        for (number, hosts) in hosts.iter().enumerate() {
            let name = parts::name(number);
            let is_same = |held: &Document| {
                let held = held.part.as_ref();
                held.is_some_and(|held| parts::is_part(held, config, number, count, hosts))
            };
            let document = match before.remove(&name).filter(is_same) {
                Some(held) => held,
                None => self.document(&name, parts::part(config, number, count, hosts)?, None)?,
            };
            generations.push(document.generation.clone());
            documents.insert(name, document);
        }
        let whole = parts::whole(config, &others, generations)?;
        documents.insert(FILTER.to_owned(), self.document(FILTER, whole, before.remove(FILTER))?);
        self.documents = documents;
        if self.parts != count || self.parts_listener.is_none() {
            let listener = parts::listener(count);
            self.parts_listener = Some(Arc::new(Resource::new(listener.name.clone(), pack_any(listener))));
            self.parts = count;
        }
        self.generation.clone_from(&config.generation);
        Ok(())
    }

    /// A document with its resource: the one that there is, if it is the same. A new one is compiled as the filter
    /// will do it.
    fn document(
        &self,
        name: &str,
        mut document: PluginConfig,
        before: Option<Document>,
    ) -> Result<Document, BuildError> {
        let json = serde_json::to_vec(&document)?;
        let digest: [u8; 32] = Sha256::digest(&json).into();
        if let Some(before) = before.filter(|before| before.digest == digest) {
            return Ok(before);
        }
        if document.part.is_some() {
            document.generation = generation(&digest);
        }
        let json = serde_json::to_string(&document)?;
        let generation = document.generation.clone();
        let part = document.part.is_some().then(|| document.clone());
        compile_document(document)?;
        let config = core::TypedExtensionConfig {
            name: name.to_owned(),
            typed_config: Some(filter_config(&self.module, &json)),
        };
        let resource = Arc::new(Resource::new(name, pack_any(config)));
        Ok(Document { digest, generation, part, resource })
    }

    /// The filter for tokens. Keys are handed over in files that only this user can read: what stands in a
    /// configuration Envoy's administration shows.
    fn jwt(&self, profiles: &BTreeMap<String, RouteProfile>) -> Resource {
        let directory = self.module.parent().unwrap_or(Path::new("."));
        let mut origin = String::new();
        let message = jwt::filter(profiles, |jwt, keys| {
            let source = jwt::keys_in_file(directory, keys);
            origin.push_str(&format!("{jwt:?}{source:?}"));
            source
        });
        // Of fetched keys the requirement is all there is.
        let remote = profiles.values().filter_map(|profile| profile.jwt.as_ref());
        remote.for_each(|jwt| origin.push_str(&format!("{jwt:?}")));
        let config =
            core::TypedExtensionConfig { name: JWT_FILTER.to_owned(), typed_config: Some(pack_any(message)) };
        Resource::with_version_of(JWT_FILTER, pack_any(config), origin.as_bytes())
    }

    fn routes(&mut self, translation: &Translation) -> Arc<Resource> {
        let wanted = Profiles::of(translation);
        let Profiles { default, named: profiles, sessions } = wanted;
        let passed = &translation.passed_headers;
        if let Some(routes) = &self.routes
            && routes.default == *default
            && routes.profiles == *profiles
            && routes.sessions == sessions
            && routes.passed == *passed
        {
            return Arc::clone(&routes.resource);
        }
        // The version is that of the input: the message holds a map, whose bytes come in any order.
        let message = pack_any(route_configuration(wanted, passed));
        let resource = Arc::new(Resource::with_version_of(
            ROUTES,
            message,
            format!("{default:?}{profiles:?}{sessions}{passed:?}").as_bytes(),
        ));
        self.routes = Some(Routes {
            default: default.clone(),
            profiles: profiles.clone(),
            sessions,
            passed: passed.clone(),
            resource: Arc::clone(&resource),
        });
        resource
    }

    fn cluster(&mut self, name: &str, settings: &Cluster, transport: Option<&Transport>) {
        let backends: &BackendConnections = &self.connections.backends;
        let encode = || {
            let endpoints = match &settings.endpoints {
                Endpoints::Addresses(addresses) => {
                    Some(Arc::new(Resource::new(name, pack_any(assignment(name, addresses)))))
                }
                Endpoints::Name(_) => None,
            };
            let (discovery, secrets) = (Discovery::Eds, SecretSource::Server);
            let message = cluster(name, settings, transport, discovery, secrets, backends);
            let mut resource = Resource::new(name, pack_any(message.clone()));
            if let Some(at_start) = at_start(message) {
                resource = resource.at_start(pack_any(at_start));
            }
            let transport = transport.cloned();
            Encoded { settings: settings.clone(), transport, cluster: Arc::new(resource), endpoints }
        };
        let is_same = |held: &Encoded| held.settings == *settings && held.transport.as_ref() == transport;
        if self.clusters.get(name).is_some_and(is_same) {
            return;
        }
        let encoded = encode();
        self.reachable.insert(ResourceType::Cluster, Arc::clone(&encoded.cluster));
        match &encoded.endpoints {
            Some(endpoints) => self.reachable.insert(ResourceType::Endpoints, Arc::clone(endpoints)),
            None => self.reachable.remove(ResourceType::Endpoints, name),
        }
        self.clusters.insert(name.to_owned(), encoded);
    }
}

/// The listeners without TLS.
fn plain(listeners: &Listeners, clients: &ClientConnections) -> Vec<Arc<Resource>> {
    plain_listeners(listeners, &Source::Ads, clients)
        .into_iter()
        .map(|listener| Arc::new(Resource::new(listener.name.clone(), pack_any(listener))))
        .collect()
}

/// The TLS listener, if there is to be one.
fn https(listeners: &Listeners, clients: &ClientConnections) -> Option<Https> {
    let bind = listeners.https?;
    let managers = https_managers(bind, &Source::Ads, listeners.access_log.as_deref(), clients);
    Some(Https { bind, managers, built: None })
}

/// Tells chains that hold something that was refused from those that were there then.
pub(super) fn mark(listener: &mut listener::Listener, refusals: &Refusals) {
    if refusals.is_empty() {
        return;
    }
    for chain in &mut listener.filter_chains {
        // Names stand in it as they are.
        let bytes = pack_any(chain.clone()).value;
        let holds = |name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
        let held = refusals.iter().filter(|(name, _)| holds(name));
        let count = held.fold(0_u32, |sum, (_, count)| sum.saturating_add(*count));
        if count > 0 {
            let count = Value { kind: Some(Kind::NumberValue(f64::from(count))) };
            let refused = Struct { fields: [("refused".to_owned(), count)].into() };
            chain.metadata = Some(core::Metadata {
                filter_metadata: [(FILTER.to_owned(), refused)].into(),
                ..core::Metadata::default()
            });
        }
    }
}

/// A name for the content with this digest.
fn generation(digest: &[u8; 32]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Https {
    fn listener(&mut self, translation: &Translation, refusals: &Refusals) -> Arc<Resource> {
        let plan = TlsPlan::new(translation);
        if let Some((built, with, resource)) = &self.built
            && *built == plan
            && with == refusals
        {
            return Arc::clone(resource);
        }
        let clients = &translation.connections.clients;
        let mut message =
            https_listener(self.bind, &self.managers, &plan, CertificateSource::Server, clients);
        mark(&mut message, refusals);
        // The version is that of the input: the message holds a map, whose bytes come in any order.
        let origin =
            format!("{:?}{:?}{plan:?}{:?}{refusals:?}", self.bind, self.managers, clients.proxy_protocol);
        let resource =
            Arc::new(Resource::with_version_of(message.name.clone(), pack_any(message), origin.as_bytes()));
        self.built = Some((plan, refusals.clone(), Arc::clone(&resource)));
        resource
    }
}

/// The certificates that Envoy has to have, by the name of their resource.
pub(super) fn all_certificates(
    translation: &Translation,
    own: Option<&Certificate>,
) -> BTreeMap<String, Certificate> {
    let plain = |certificate: &ingress_wasm_translate::certificates::Certificate| Certificate {
        chain: certificate.chain.clone(),
        key: certificate.key.clone(),
    };
    let mut all: BTreeMap<String, Certificate> = translation
        .certificates
        .values()
        .flatten()
        .map(|certificate| (secret_name(&certificate.secret), plain(certificate)))
        .collect();
    let default = translation.default_certificate.as_deref().map(plain).or_else(|| own.cloned());
    all.extend(default.map(|default| (DEFAULT_CERTIFICATE.to_owned(), default)));
    all
}

/// The authorities that Envoy checks certificates of clients by.
pub(super) fn all_authorities(translation: &Translation) -> impl Iterator<Item = tls::Secret> {
    let all = translation.client_authorities.values();
    let by_name: BTreeMap<String, _> = all.map(|one| (authorities_name(one), one)).collect();
    by_name.into_values().map(|one| authorities_secret(one))
}
