//! A translation as the set of resources that the xDS server serves.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use ingress_wasm_translate::output::{Cluster, Endpoints, RouteProfile, Translation};

use super::clusters::{Discovery, assignment, cluster};
use super::connection_manager::Source;
use super::listeners::{Listeners, listeners, secret};
use super::names::{DEFAULT_CERTIFICATE, FILTER, ROUTES};
use super::pb::{core, pack_any};
use super::routes::route_configuration;
use super::wasm::filter_config;
use crate::certificate::Certificate;
use crate::xds::{Resource, ResourceSet, ResourceType};

/// Builds resource sets, and keeps what it encoded: a translation in which little has changed costs little.
#[derive(Debug)]
pub struct ResourceBuilder {
    listeners: Vec<Arc<Resource>>,
    secret: Option<Arc<Resource>>,
    module: PathBuf,
    routes: Option<Routes>,
    clusters: HashMap<String, Encoded>,
}

/// A route configuration and what it was made from.
#[derive(Debug)]
struct Routes {
    default: RouteProfile,
    profiles: BTreeMap<String, RouteProfile>,
    resource: Arc<Resource>,
}

/// A cluster and what it was made from.
#[derive(Debug)]
struct Encoded {
    settings: Cluster,
    cluster: Arc<Resource>,
    /// None where the cluster finds its endpoints by itself.
    endpoints: Option<Arc<Resource>>,
}

impl ResourceBuilder {
    /// For these listeners; the certificate is that of the TLS listener and of no use without one, and
    /// `module` is the file from which Envoy reads the filter.
    pub fn new(settings: &Listeners, certificate: Option<&Certificate>, module: PathBuf) -> ResourceBuilder {
        let listeners = listeners(settings, &Source::Ads)
            .into_iter()
            .map(|listener| Arc::new(Resource::new(listener.name.clone(), pack_any(listener))))
            .collect();
        let mut builder =
            ResourceBuilder { listeners, secret: None, module, routes: None, clusters: HashMap::new() };
        if let (Some(certificate), Some(_)) = (certificate, settings.https) {
            builder.set_certificate(certificate);
        }
        builder
    }

    /// Another certificate for the TLS listener, from the next set on.
    pub fn set_certificate(&mut self, certificate: &Certificate) {
        self.secret = Some(Arc::new(Resource::new(DEFAULT_CERTIFICATE, pack_any(secret(certificate)))));
    }

    /// The resources of a translation.
    ///
    /// # Errors
    ///
    /// Where the plugin configuration has no JSON form, which no configuration is known to lack.
    pub fn build(&mut self, translation: &Translation) -> Result<ResourceSet, serde_json::Error> {
        let configuration = serde_json::to_string(&translation.config)?;
        let mut set = ResourceSet::default();
        for listener in &self.listeners {
            set.insert(ResourceType::Listener, Arc::clone(listener));
        }
        if let Some(secret) = &self.secret {
            set.insert(ResourceType::Secret, Arc::clone(secret));
        }
        set.insert(ResourceType::Extension, Arc::new(self.filter(&configuration)));
        set.insert(ResourceType::Route, self.routes(translation));
        self.clusters.retain(|name, _| translation.clusters.contains_key(name));
        for (name, settings) in &translation.clusters {
            let encoded = self.cluster(name, settings);
            set.insert(ResourceType::Cluster, Arc::clone(&encoded.cluster));
            if let Some(endpoints) = &encoded.endpoints {
                set.insert(ResourceType::Endpoints, Arc::clone(endpoints));
            }
        }
        Ok(set)
    }

    fn filter(&self, configuration: &str) -> Resource {
        let config = core::TypedExtensionConfig {
            name: FILTER.to_owned(),
            typed_config: Some(filter_config(&self.module, configuration)),
        };
        Resource::new(FILTER, pack_any(config))
    }

    fn routes(&mut self, translation: &Translation) -> Arc<Resource> {
        let (default, profiles) = (&translation.default_profile, &translation.route_profiles);
        if let Some(routes) = &self.routes
            && routes.default == *default
            && routes.profiles == *profiles
        {
            return Arc::clone(&routes.resource);
        }
        // The version is that of the input: the message holds a map, whose bytes come in any order.
        let message = pack_any(route_configuration(default, profiles));
        let resource = Arc::new(Resource::with_version_of(
            ROUTES,
            message,
            format!("{default:?}{profiles:?}").as_bytes(),
        ));
        self.routes = Some(Routes {
            default: default.clone(),
            profiles: profiles.clone(),
            resource: Arc::clone(&resource),
        });
        resource
    }

    fn cluster(&mut self, name: &str, settings: &Cluster) -> &Encoded {
        let encode = || {
            let endpoints = match &settings.endpoints {
                Endpoints::Addresses(addresses) => {
                    Some(Arc::new(Resource::new(name, pack_any(assignment(name, addresses)))))
                }
                Endpoints::Name(_) => None,
            };
            let message = pack_any(cluster(name, settings, Discovery::Eds));
            Encoded { settings: settings.clone(), cluster: Arc::new(Resource::new(name, message)), endpoints }
        };
        let entry = self.clusters.entry(name.to_owned());
        entry
            .and_modify(|held| {
                if held.settings != *settings {
                    *held = encode()
                }
            })
            .or_insert_with(encode)
    }
}
