//! What is told to Envoy, as far as it can be judged without one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ingress_wasm::config::{PluginConfig, SCHEMA_VERSION};
use ingress_wasm_translate::objects::ObjectName;
use ingress_wasm_translate::output::{
    Cluster, Endpoint, Endpoints, RouteProfile, ServicePortName, Translation,
};
use serde_json::Value;

use super::*;
use crate::certificate::Certificate;
use crate::xds::ResourceType;

fn translation(clusters: &[(&str, Endpoints)]) -> Translation {
    let service = ServicePortName { service: ObjectName::new("n", "s"), port: "80".to_owned() };
    let cluster = |endpoints: &Endpoints| Cluster {
        service: service.clone(),
        connect_timeout: Duration::from_secs(5),
        load_balancing: <_>::default(),
        mirror: false,
        endpoints: endpoints.clone(),
        tls: None,
    };
    let profile =
        |seconds| RouteProfile { read_timeout: Duration::from_secs(seconds), ..RouteProfile::default() };
    Translation {
        config: PluginConfig {
            version: SCHEMA_VERSION,
            generation: "g".to_owned(),
            global: Default::default(),
            credentials: BTreeMap::new(),
            api_keys: BTreeMap::new(),
            balancing: Vec::new(),
            policies: Vec::new(),
            hosts: Vec::new(),
            parts: Vec::new(),
            part: None,
        },
        clusters: clusters.iter().map(|(name, endpoints)| ((*name).to_owned(), cluster(endpoints))).collect(),
        route_profiles: (0..20).map(|number| (format!("profile-{number}"), profile(number))).collect(),
        default_profile: RouteProfile::default(),
        passed_headers: <_>::default(),
        certificates: BTreeMap::new(),
        default_certificate: None,
        client_authorities: Default::default(),
        passthrough: <_>::default(),
        host_ciphers: <_>::default(),
        transports: Default::default(),
        tls: ingress_wasm_translate::tls::TlsSettings::default(),
        connections: Default::default(),
        diagnostics: Vec::new(),
        rejected: Vec::new(),
    }
}

fn at(ports: &[u16]) -> Endpoints {
    Endpoints::Addresses(
        ports.iter().map(|port| Endpoint { address: "10.0.0.1".to_owned(), port: *port }).collect(),
    )
}

fn listeners() -> Listeners {
    let bind = |text: &str| Some(Bind::from(text.parse::<SocketAddr>().expect("an address")));
    Listeners {
        access_log: None,
        http: bind("0.0.0.0:8080"),
        https: Some(Bind { public_port: Some(443), ..bind("[::]:8443").expect("given") }),
        probe: Some("/run/probe.sock".into()),
    }
}

fn builder() -> ResourceBuilder {
    let certificate = Certificate { chain: "chain".to_owned(), key: "key".to_owned() };
    ResourceBuilder::new(&listeners(), Some(&certificate), PathBuf::from("/run/filter.wasm"))
}

fn bootstrap() -> Value {
    let settings = StaticBootstrap {
        admin: None,
        listeners: listeners(),
        certificate: Some(Certificate { chain: "chain".to_owned(), key: "key".to_owned() }),
        key_directory: None,
        module: "/run/filter.wasm".into(),
    };
    let named = Endpoints::Name(Endpoint { address: "backend.example".to_owned(), port: 80 });
    static_bootstrap(&settings, &translation(&[("n/a:80", at(&[1, 2])), ("n/b:80", named)]))
        .expect("has a JSON form")
}

fn pointer<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer} in {value:#}"))
}

#[test]
fn only_what_changed_is_encoded_anew() {
    let mut builder = builder();
    let before =
        builder.build(&translation(&[("a", at(&[1])), ("b", at(&[1])), ("c", at(&[1]))])).expect("encodes");
    let after =
        builder.build(&translation(&[("a", at(&[1])), ("b", at(&[2])), ("d", at(&[1]))])).expect("encodes");
    let get = |kind, name| match (before.get(kind, name), after.get(kind, name)) {
        (Some(before), Some(after)) => (Arc::ptr_eq(before, after), before.version() == after.version()),
        (before, after) => panic!("{kind} {name}: {before:?}, {after:?}"),
    };
    let cases = [
        (ResourceType::Cluster, "a", true, true),
        (ResourceType::Endpoints, "a", true, true),
        (ResourceType::Cluster, "b", true, true),
        (ResourceType::Endpoints, "b", false, false),
        (ResourceType::Route, "ingress", true, true),
        (ResourceType::Listener, "https", true, true),
        (ResourceType::Secret, "default-certificate", true, true),
        (ResourceType::Extension, "ingress-wasm", true, true),
    ];
    for (kind, name, same, same_version) in cases {
        assert_eq!(get(kind, name), (same, same_version), "{kind} {name}");
    }
    assert!(after.get(ResourceType::Cluster, "c").is_none());
    assert!(after.get(ResourceType::Endpoints, "d").is_some());
}

#[test]
fn two_controllers_give_the_same_versions() {
    let translation = translation(&[("a", at(&[1]))]);
    assert_eq!(
        builder().build(&translation).expect("encodes").versions(),
        builder().build(&translation).expect("encodes").versions()
    );
}

#[test]
fn without_a_tls_listener_there_is_no_secret() {
    let certificate = Certificate { chain: "chain".to_owned(), key: "key".to_owned() };
    let listeners = Listeners { https: None, ..listeners() };
    let mut builder = ResourceBuilder::new(&listeners, Some(&certificate), PathBuf::new());
    let set = builder.build(&translation(&[])).expect("encodes");
    assert_eq!(set.of(ResourceType::Secret).count(), 0);
}

#[test]
fn the_filter_is_told_the_connection_and_nothing_by_clients() {
    let bootstrap = bootstrap();
    let manager = "filter_chains/0/filters/0/typed_config";
    let cases = [
        (0, "http", "http 8080 %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"),
        (2, "https", "https 443 %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %REQUESTED_SERVER_NAME%"),
        (1, "probe", "probe 0 -"),
    ];
    for (position, name, value) in cases {
        let listener = pointer(&bootstrap, &format!("/static_resources/listeners/{position}"));
        assert_eq!(pointer(listener, "/name"), name);
        let early = pointer(
            listener,
            &format!("/{manager}/early_header_mutation_extensions/0/typed_config/mutations"),
        );
        let early = early.as_array().expect("a list");
        for header in [CLUSTER_HEADER, PROFILE_HEADER, "x-envoy-upstream-rq-timeout-ms", "x-envoy-retry-on"] {
            assert!(early.iter().any(|mutation| mutation["remove"] == header), "{name}: {header}");
        }
        let expected = serde_json::json!({
            "append": {
                "header": {"key": CONNECTION_HEADER, "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        });
        assert_eq!(early.last(), Some(&expected), "{name}");
        let routes = pointer(listener, &format!("/{manager}/route_config"));
        for header in [CLUSTER_HEADER, PROFILE_HEADER, CONNECTION_HEADER] {
            let removed = routes["request_headers_to_remove"].as_array().expect("a list");
            assert!(removed.iter().any(|removed| removed == header), "{name}: {header}");
        }
    }
}

#[test]
fn the_static_form_holds_everything() {
    let bootstrap = bootstrap();
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let cases = [
        ("/static_resources/clusters/0/type", "STATIC"),
        ("/static_resources/clusters/1/type", "STRICT_DNS"),
        ("/static_resources/secrets/0/name", "default-certificate"),
        (
            &*format!("{manager}/http_filters/0/typed_config/config/vm_config/code/local/filename"),
            "/run/filter.wasm",
        ),
        (
            &*format!(
                "{manager}/route_config/virtual_hosts/0/matcher/matcher_tree/exact_match_map/map/profile-7/matcher/on_no_match/action/typed_config/route/retry_policy/per_try_idle_timeout"
            ),
            "7s",
        ),
    ];
    for (path, expected) in cases {
        assert_eq!(pointer(&bootstrap, path), expected, "{path}");
    }
    let configuration =
        pointer(&bootstrap, &format!("{manager}/http_filters/0/typed_config/config/configuration/value"));
    let configuration = configuration.as_str().expect("text");
    ingress_wasm::config::from_slice(configuration.as_bytes()).expect("what the filter reads");
    assert!(!bootstrap.to_string().contains("\"ads\""), "nothing is asked of a server");
}

#[test]
fn the_dynamic_form_asks_the_server() {
    let settings = DynamicBootstrap {
        node_id: "local".to_owned(),
        admin: Admin::Tcp("127.0.0.1:9901".parse().expect("an address")),
        xds: "/run/xds.sock".into(),
    };
    let bootstrap = dynamic_bootstrap(&settings).expect("has a JSON form");
    let socket =
        "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/path";
    let cases = [
        ("/dynamic_resources/ads_config/api_type", "DELTA_GRPC"),
        ("/dynamic_resources/ads_config/grpc_services/0/envoy_grpc/cluster_name", XDS_CLUSTER),
        ("/static_resources/clusters/0/name", XDS_CLUSTER),
        (socket, "/run/xds.sock"),
        ("/admin/address/socket_address/address", "127.0.0.1"),
    ];
    for (path, expected) in cases {
        assert_eq!(pointer(&bootstrap, path), expected, "{path}");
    }
}
