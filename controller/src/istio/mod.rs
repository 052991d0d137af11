//! Objects of Istio, made from a translation: what `controller/src/envoy` is to an Envoy of our own, this is to the
//! gateway of a mesh.
//!
//! Deliberately knows nothing of how the objects reach an API server, of Ingresses, and of how a request is matched.

mod clusters;
mod credentials;
mod destinations;
mod envoy_filter;
mod gateway;
mod plugin;
mod rename;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ingress_wasm::config::{ConfigError, PluginConfig};
use ingress_wasm::router::compile;
use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::Snapshot;
use ingress_wasm_translate::output::Translation;
use serde_json::{Value, json};

use crate::envoy::ToJsonError;
use credentials::Credentials;

pub use plugin::{Api, FailStrategy, Module, Phase, PullPolicy};

/// The label that says who writes an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Who that is.
pub const MANAGER: &str = "ingress-wasm";

/// The label that tells the objects of one set from those of others: [`Settings::name`].
pub const INSTANCE: &str = "app.kubernetes.io/instance";

/// What is said of the gateway on the command line.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespace of the gateway's pods; all objects go there.
    pub namespace: String,
    /// The name of the objects, and the beginning of it where there are several of a kind. Without dots.
    pub name: String,
    /// Labels of the gateway's pods.
    pub selector: BTreeMap<String, String>,
    /// The port of the gateway's Service for plain HTTP.
    pub http_port: u16,
    /// The port of the gateway's Service for TLS.
    pub https_port: u16,
    /// The control plane that is to take the objects (label `istio.io/rev`); none: all.
    pub revision: Option<String>,
    /// An expression for the versions of proxies that get the patches; none: all.
    pub proxy_version: Option<String>,
    /// The object that loads the filter.
    pub api: Api,
    /// The module.
    pub module: Module,
    /// Where the filter stands among others.
    pub phase: Phase,
    /// Its place among those of the same phase: higher ones come first.
    pub priority: Option<i32>,
    /// What happens when the filter cannot run.
    pub fail_strategy: FailStrategy,
    /// Write VirtualServices that name all destinations, for an istiod that tells a gateway of no others
    /// (`PILOT_FILTER_GATEWAY_CLUSTER_CONFIG`).
    pub virtual_services: bool,
    /// Copies of Secrets are among the objects, which then hold keys; otherwise a person has to make them.
    pub copy_secrets: bool,
}

/// The objects, and what there is to say of them.
#[derive(Debug)]
pub struct Objects {
    /// In the order in which they should be applied.
    pub objects: Vec<Value>,
    /// What their author should know, besides what the translation says.
    pub diagnostics: Vec<Diagnostic>,
}

/// Why there are no objects.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each names what failed; the sources say how")]
pub enum IstioError {
    #[error("no JSON form: {0}")]
    Envoy(#[from] ToJsonError),
    #[error("no JSON form: {0}")]
    Json(#[from] serde_json::Error),
    #[error("no YAML form: {0}")]
    Yaml(String),
    #[error("it is no configuration that the filter takes: {0}")]
    Refused(#[from] ConfigError),
    #[error(
        "the plugin configuration comes to {size} bytes, compressed: an API server takes no object of more than \
         {limit}. Divide the Ingresses among several gateways, by --ingress-class, each with a --istio-name of its own"
    )]
    TooLarge { size: usize, limit: usize },
}

/// Largest object that is written, in bytes of JSON. etcd takes requests of 1.5 MiB unless told otherwise.
const OBJECT_LIMIT: usize = 1_200_000;

/// The object that loads the filter, as it was made last: most changes of objects do not concern it.
#[derive(Debug, Default)]
pub struct Cache(Option<(PluginConfig, Value)>);

/// Makes the objects. The translation is one for a mesh (`Options::mesh`).
///
/// # Errors
///
/// [`IstioError`]
pub fn objects(
    translation: &Translation,
    snapshot: &Snapshot,
    settings: &Settings,
    cache: &mut Cache,
) -> Result<Objects, IstioError> {
    let mut credentials = Credentials::new(settings, snapshot);
    let clusters = clusters::Clusters::new(translation, snapshot);
    let config = rename::rename(&translation.config, &clusters);
    let mut objects = destinations::service_entries(&clusters, settings);
    objects.extend(destinations::destination_rules(&clusters, settings, &mut credentials));
    let servers = gateway::servers(translation, &mut credentials);
    objects.extend(gateway::gateways(&servers, translation, settings));
    objects.extend(gateway::virtual_services(translation, &clusters, settings));
    objects.push(envoy_filter::envoy_filter(translation, &clusters, &servers, settings)?);
    objects.push(match &cache.0 {
        Some((held, plugin)) if *held == config => plugin.clone(),
        _ => {
            // As the filter does it: one that it would refuse is never written.
            compile(config.clone())?;
            let plugin = plugin::plugin(&config, settings)?;
            cache.0 = Some((config, plugin.clone()));
            plugin
        }
    });
    objects.splice(0..0, credentials.objects());
    let mut diagnostics = credentials.diagnostics;
    for object in &objects {
        let size = object.to_string().len();
        if size > OBJECT_LIMIT {
            return Err(IstioError::TooLarge { size, limit: OBJECT_LIMIT });
        }
    }
    diagnostics.sort();
    diagnostics.dedup();
    Ok(Objects { objects, diagnostics })
}

/// The objects as documents of YAML.
///
/// # Errors
///
/// Where one of them has no such form, which none is known to lack.
pub fn to_yaml(objects: &[Value]) -> Result<String, IstioError> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(object).map_err(|error| IstioError::Yaml(error.to_string()))?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

impl Settings {
    /// An object of ours with this `spec`; `suffix` goes behind the name.
    fn object(&self, api_version: &str, kind: &str, suffix: &str, spec: Value) -> Value {
        let name = if suffix.is_empty() { self.name.clone() } else { format!("{}-{suffix}", self.name) };
        let mut labels = BTreeMap::from([(MANAGED_BY, MANAGER), (INSTANCE, self.name.as_str())]);
        labels.extend(self.revision.as_deref().map(|revision| ("istio.io/rev", revision)));
        json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels},
            "spec": spec,
        })
    }
}

/// A name for a text: short, and fit for the name of an object. FNV-1a.
fn short_hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}
