//! What Envoy is started with: a bootstrap that asks the xDS server for everything, or one that holds
//! everything itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use ingress_wasm_translate::output::Translation;
use prost::{Message, Name};

use super::backend_tls::{SecretSource, backend_secrets};
use super::clusters::{Discovery, cluster, xds_cluster};
use super::connection_manager::Source;
use super::json::{ToJsonError, to_json};
use super::jwt;
use super::key_files::{KeyFiles, to_files};
use super::listeners::{CertificateSource, Listeners, https_listener, https_managers, plain_listeners};
use super::names::XDS_CLUSTER;
use super::pb::{
    self, UInt64Value, ads, bootstrap, cares, connections, core, matcher_inputs, metrics, number, overload,
    pack_any, pipe, seconds, tcp,
};
use super::resources::{all_authorities, all_certificates};
use super::routes::{Profiles, route_configuration};
use super::tls::{TlsPlan, secret};
use super::wasm::filter_config;
use crate::certificate::Certificate;

/// The most connections of clients at one time: ingress-nginx `max-worker-connections` for four workers.
const MAX_CONNECTIONS: i64 = 65_536;

/// How long a name server may take, the first of two times that it is asked; the second time it has twice as long. Envoy's
/// own default is a minute and more, and a changed cluster with a name holds up the changes after it for as long.
pub(super) const DNS_PATIENCE: u64 = 2;

/// Statistics that are left out: one set for each worker and listener, which nothing here looks at.
const LEFT_OUT: &str = r"^listener\..*\.worker_\d+\..*$";

/// Where Envoy's admin interface listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    /// TCP; port 0 asks for a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Admin {
    fn message(&self) -> bootstrap::Admin {
        let address = match self {
            Admin::Tcp(address) => tcp(address.ip().to_string(), address.port()),
            Admin::Unix(path) => pipe(path),
        };
        bootstrap::Admin { address: Some(address), ..bootstrap::Admin::default() }
    }
}

/// What [`dynamic_bootstrap`] needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicBootstrap {
    /// Names this Envoy to the xDS server.
    pub node_id: String,
    /// The admin interface.
    pub admin: Admin,
    /// The xDS server's Unix socket.
    pub xds: PathBuf,
}

/// The bootstrap of an Envoy that gets everything from the xDS server, as JSON.
///
/// # Errors
///
/// [`ToJsonError`], which would be a fault of this binary.
pub fn dynamic_bootstrap(settings: &DynamicBootstrap) -> Result<serde_json::Value, ToJsonError> {
    use core::api_config_source::ApiType;
    use core::grpc_service::{EnvoyGrpc, TargetSpecifier};

    let DynamicBootstrap { node_id, admin, xds } = settings;
    let source = core::ApiConfigSource {
        api_type: ApiType::DeltaGrpc.into(),
        transport_api_version: core::ApiVersion::V3.into(),
        grpc_services: vec![core::GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: XDS_CLUSTER.to_owned(),
                // A server that was away is asked again soon.
                retry_policy: Some(core::RetryPolicy {
                    retry_back_off: Some(core::BackoffStrategy {
                        base_interval: pb::duration(std::time::Duration::from_millis(100)),
                        max_interval: seconds(2),
                    }),
                    ..core::RetryPolicy::default()
                }),
                ..EnvoyGrpc::default()
            })),
            ..core::GrpcService::default()
        }],
        set_node_on_first_message_only: true,
        ..core::ApiConfigSource::default()
    };
    readable(&bootstrap::Bootstrap {
        dynamic_resources: Some(bootstrap::bootstrap::DynamicResources {
            lds_config: Some(ads(std::time::Duration::ZERO)),
            cds_config: Some(ads(std::time::Duration::ZERO)),
            ads_config: Some(source),
            ..bootstrap::bootstrap::DynamicResources::default()
        }),
        static_resources: Some(bootstrap::bootstrap::StaticResources {
            clusters: vec![xds_cluster(XDS_CLUSTER, pipe(xds))],
            ..bootstrap::bootstrap::StaticResources::default()
        }),
        ..common(node_id, Some(admin))
    })
}

/// What [`static_bootstrap`] needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticBootstrap {
    /// The admin interface; none where it is not wanted.
    pub admin: Option<Admin>,
    /// The listeners.
    pub listeners: Listeners,
    /// The default certificate where the translation names none.
    pub certificate: Option<Certificate>,
    /// Where Envoy will find what [`key_files`] gives; none: certificates and keys stand in the bootstrap.
    pub key_directory: Option<PathBuf>,
    /// The file from which Envoy reads the filter.
    pub module: PathBuf,
}

/// A bootstrap that holds a whole translation, as JSON.
///
/// # Errors
///
/// [`ToJsonError`], which would be a fault of this binary.
pub fn static_bootstrap(
    settings: &StaticBootstrap,
    translation: &Translation,
) -> Result<serde_json::Value, ToJsonError> {
    let StaticBootstrap { admin, listeners: wanted, certificate: _, key_directory: _, module } = settings;
    let configuration = serde_json::to_string(&translation.config)?;
    let source = Source::Inline {
        routes: Box::new(route_configuration(Profiles::of(translation), &translation.passed_headers)),
        filter: filter_config(module, &configuration),
        jwt: pack_any(jwt::filter(&translation.route_profiles, |_, keys| jwt::inline_keys(keys))),
    };
    let mut listeners = plain_listeners(wanted, &source, &translation.connections.clients);
    let (secrets, _) = secrets(settings, translation);
    if let Some(bind) = wanted.https {
        let plan = TlsPlan::new(translation);
        let clients = &translation.connections.clients;
        let managers = https_managers(bind, &source, wanted.access_log.as_deref(), clients);
        listeners.push(https_listener(bind, &managers, &plan, CertificateSource::Bootstrap, clients));
    }
    readable(&bootstrap::Bootstrap {
        static_resources: Some(bootstrap::bootstrap::StaticResources {
            listeners,
            clusters: translation
                .clusters
                .iter()
                .map(|(name, settings)| {
                    let transport = translation.transports.get(name);
                    cluster(
                        name,
                        settings,
                        transport,
                        Discovery::Inline,
                        SecretSource::Bootstrap,
                        &translation.connections.backends,
                    )
                })
                .collect(),
            secrets,
        }),
        ..common("ingress-wasm", admin.as_ref())
    })
}

/// The files that the bootstrap names, for its `key_directory`: certificates and keys. None where there is no such
/// directory.
pub fn key_files(settings: &StaticBootstrap, translation: &Translation) -> KeyFiles {
    secrets(settings, translation).1
}

/// The secrets of a static bootstrap, and the files that they name.
fn secrets(settings: &StaticBootstrap, translation: &Translation) -> (Vec<Secret>, KeyFiles) {
    let mut secrets: Vec<Secret> = Vec::new();
    if settings.listeners.https.is_some() {
        let certificates = all_certificates(translation, settings.certificate.as_ref());
        secrets.extend(certificates.iter().map(|(name, held)| secret(name, &held.chain, &held.key)));
        secrets.extend(all_authorities(translation));
    }
    for (name, secret) in backend_secrets(translation) {
        if !secrets.iter().any(|held| held.name == name) {
            secrets.push(secret);
        }
    }
    let mut files = KeyFiles::new();
    if let Some(directory) = &settings.key_directory {
        secrets.iter_mut().for_each(|secret| to_files(secret, directory, &mut files));
    }
    (secrets, files)
}

/// What both kinds share.
fn common(node_id: &str, admin: Option<&Admin>) -> bootstrap::Bootstrap {
    bootstrap::Bootstrap {
        node: Some(core::Node {
            id: node_id.to_owned(),
            cluster: "ingress-wasm".to_owned(),
            ..core::Node::default()
        }),
        admin: admin.map(Admin::message),
        // A cluster's statistics take memory once it is used: most of thousands never are on one proxy.
        deferred_stat_options: Some(bootstrap::bootstrap::DeferredStatOptions {
            enable_deferred_creation_stats: true,
        }),
        stats_config: Some(metrics::StatsConfig {
            stats_tags: labels(),
            stats_matcher: Some(left_out()),
            ..metrics::StatsConfig::default()
        }),
        layered_runtime: Some(runtime()),
        typed_dns_resolver_config: Some(core::TypedExtensionConfig {
            name: "envoy.network.dns_resolver.cares".to_owned(),
            typed_config: Some(pack_any(cares::CaresDnsResolverConfig {
                query_timeout_seconds: Some(UInt64Value { value: DNS_PATIENCE }),
                query_tries: number(2),
                ..cares::CaresDnsResolverConfig::default()
            })),
        }),
        overload_manager: Some(overload::OverloadManager {
            resource_monitors: vec![overload::ResourceMonitor {
                name: "envoy.resource_monitors.global_downstream_max_connections".to_owned(),
                config_type: Some(overload::resource_monitor::ConfigType::TypedConfig(pack_any(
                    connections::DownstreamConnectionsConfig {
                        max_active_downstream_connections: MAX_CONNECTIONS,
                    },
                ))),
            }],
            ..overload::OverloadManager::default()
        }),
        ..bootstrap::Bootstrap::default()
    }
}

/// Envoy refuses expressions that compile to more than 100 instructions unless told otherwise; the one for
/// upgrades has 500 to 1300, depending on Envoy's version.
fn runtime() -> bootstrap::LayeredRuntime {
    use bootstrap::runtime_layer::LayerSpecifier;

    let field = |name: &str| {
        let value = pb::Value { kind: Some(pb::Kind::NumberValue(8192.0)) };
        (name.to_owned(), value)
    };
    let fields = ["re2.max_program_size.error_level", "re2.max_program_size.warn_level"].map(field).into();
    bootstrap::LayeredRuntime {
        layers: vec![bootstrap::RuntimeLayer {
            name: "static".to_owned(),
            layer_specifier: Some(LayerSpecifier::StaticLayer(pb::Struct { fields })),
        }],
    }
}

/// How Envoy tells the labels of the filter's counters from their names.
fn labels() -> Vec<metrics::TagSpecifier> {
    use ingress_wasm::statistics::{CONFIGURATION_LABELS, REQUEST_LABELS};

    let label = |name: &&str| metrics::TagSpecifier {
        tag_name: (*name).to_owned(),
        // The outer group is taken out of the name, the inner one is the value.
        tag_value: Some(metrics::tag_specifier::TagValue::Regex(format!(
            "^wasmcustom\\.ingress_wasm_.*?(;{name}=([^;]*))"
        ))),
    };
    REQUEST_LABELS.iter().chain(&CONFIGURATION_LABELS).map(label).collect()
}

fn left_out() -> metrics::StatsMatcher {
    use matcher_inputs::string_matcher::MatchPattern;

    let pattern = matcher_inputs::StringMatcher {
        match_pattern: Some(MatchPattern::SafeRegex(matcher_inputs::RegexMatcher {
            regex: LEFT_OUT.to_owned(),
            ..matcher_inputs::RegexMatcher::default()
        })),
        ..matcher_inputs::StringMatcher::default()
    };
    metrics::StatsMatcher {
        stats_matcher: Some(metrics::stats_matcher::StatsMatcher::ExclusionList(
            matcher_inputs::ListStringMatcher { patterns: vec![pattern] },
        )),
    }
}

fn readable(message: &bootstrap::Bootstrap) -> Result<serde_json::Value, ToJsonError> {
    to_json(&bootstrap::Bootstrap::type_url(), &message.encode_to_vec())
}
