//! A configuration of Envoy like the one that istiod makes for an ingress gateway from the objects that the product
//! writes (`pilot/pkg/networking/core`: `gateway.go`, `listener_builder.go`, `cluster.go`), as a static bootstrap.
//!
//! What is left out is what Istio's own build of Envoy has and others have not: the filters `istio.*`. Endpoints stand
//! in the clusters, and routes in the listeners, so that nothing has to be discovered.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::patches::Patches;

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// Where the gateway listens: the ports of its pods.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Plain HTTP, behind port 80 of its Service.
    pub http: SocketAddr,
    /// TLS, behind port 443 of its Service.
    pub https: SocketAddr,
    /// Envoy's own administration.
    pub admin: SocketAddr,
}

/// The bootstrap for these objects of Istio and of Kubernetes.
///
/// # Errors
///
/// Names what is not known here, or missing.
pub fn bootstrap(objects: &[Value], cluster: &[Value], addresses: Addresses) -> Result<Value, String> {
    let patches = Patches::new(objects)?;
    let mesh = Mesh { objects, cluster };
    let filters = http_filters(objects)?;
    let mut listeners = vec![listener("http", addresses.http)];
    let mut chains = Vec::new();
    let mut secrets = Vec::new();
    for gateway in mesh.of("Gateway") {
        for server in gateway["spec"]["servers"].as_array().into_iter().flatten() {
            let port = &server["port"];
            match port["protocol"].as_str() {
                Some("HTTP") => {
                    let routes = mesh.routes(&format!("http.{}", addresses.http.port()), 80, &patches);
                    listeners[0]["filter_chains"] = json!([{"filters": [manager(&filters, routes)]}]);
                }
                Some("HTTPS") => {
                    let name = format!(
                        "https.443.{}.{}.{}",
                        text(&port["name"]),
                        text(&gateway["metadata"]["name"]),
                        text(&gateway["metadata"]["namespace"])
                    );
                    // istiod takes such a name apart by its dots.
                    if name.matches('.').count() != 4 {
                        return Err(format!("a name with a dot in it: {name}"));
                    }
                    let routes = mesh.routes(&name, 443, &patches);
                    chains.push(json!({
                        "filter_chain_match": server_names(&server["hosts"]),
                        "filters": [manager(&filters, routes)],
                        "transport_socket": mesh.downstream_tls(server, &mut secrets)?,
                    }));
                }
                Some("TLS") => chains.extend(mesh.passthrough(server)?),
                other => return Err(format!("unknown here: a server of protocol {other:?}")),
            }
        }
    }
    if !chains.is_empty() {
        let mut https = listener("https", addresses.https);
        https["listener_filters"] = json!([{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
            },
        }]);
        https["filter_chains"] = chains.into();
        listeners.push(https);
    }
    listeners.iter_mut().for_each(|listener| patches.listener(listener));
    let mut clusters = mesh.clusters()?;
    clusters.iter_mut().for_each(|cluster| patches.cluster(cluster));
    Ok(json!({
        "node": {"id": "gateway", "cluster": "gateway"},
        "admin": {"address": address(addresses.admin)},
        // Nobody listens there: names are those of this machine, and none is waited for. A gateway starts with
        // all its names looked up.
        "typed_dns_resolver_config": {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": 1}}],
            },
        },
        // As Istio's own bootstrap has it.
        "layered_runtime": {"layers": [{
            "name": "static_layer",
            "static_layer": {"re2.max_program_size.error_level": 32768, "re2.max_program_size.warn_level": 32768},
        }]},
        "static_resources": {"listeners": listeners, "clusters": clusters, "secrets": secrets},
    }))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn listener(name: &str, at: SocketAddr) -> Value {
    json!({"name": name, "address": address(at), "filter_chains": []})
}

fn server_names(hosts: &Value) -> Value {
    let all = hosts.as_array().into_iter().flatten().any(|host| host == "*");
    if all { json!({}) } else { json!({"server_names": hosts}) }
}

/// The connection manager of a gateway.
fn manager(filters: &[Value], routes: Value) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": MANAGER,
            "stat_prefix": "outbound",
            "normalize_path": true,
            "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
            "use_remote_address": true,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "stream_idle_timeout": "0s",
            "forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": {"subject": true, "cert": true, "dns": true, "uri": true},
            "server_name": "istio-envoy",
            "http_protocol_options": {},
            "route_config": routes,
            "http_filters": filters,
        },
    })
}

/// The filters: ours where a plugin without a phase stands, and those of istiod that any Envoy has.
fn http_filters(objects: &[Value]) -> Result<Vec<Value>, String> {
    let filter = |name: &str, kind: &str| json!({"name": name, "typed_config": {"@type": format!("type.googleapis.com/envoy.extensions.filters.http.{kind}")}});
    let mut filters: Vec<Value> = objects
        .iter()
        .filter(|object| object["kind"] == "WasmPlugin" || object["kind"] == "TrafficExtension")
        .map(wasm)
        .collect::<Result<_, _>>()?;
    filters.extend([
        filter("istio.grpc_stats", "grpc_stats.v3.FilterConfig"),
        filter("envoy.filters.http.fault", "fault.v3.HTTPFault"),
        filter("envoy.filters.http.cors", "cors.v3.Cors"),
        filter("envoy.filters.http.router", "router.v3.Router"),
    ]);
    Ok(filters)
}

fn wasm(object: &Value) -> Result<Value, String> {
    let wasm = if object["kind"] == "WasmPlugin" { &object["spec"] } else { &object["spec"]["wasm"] };
    let url = text(&wasm["url"]);
    let file = url.strip_prefix("file://").ok_or_else(|| format!("unknown here: a module at {url}"))?;
    let name = format!("{}.{}", text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    let policy = match text(&wasm["failStrategy"]) {
        "FAIL_RELOAD" => "FAIL_RELOAD",
        "" | "FAIL_CLOSE" => "FAIL_CLOSED",
        other => return Err(format!("unknown here: failStrategy {other}")),
    };
    Ok(json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": name,
                "root_id": wasm["pluginName"],
                "failure_policy": policy,
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": wasm["pluginConfig"].to_string(),
                },
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": file}},
                    "environment_variables": {},
                },
            },
        },
    }))
}

/// What there is to make a gateway of.
struct Mesh<'a> {
    objects: &'a [Value],
    cluster: &'a [Value],
}

impl<'a> Mesh<'a> {
    fn of(&self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    fn in_cluster(&self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.cluster.iter().filter(move |object| object["kind"] == kind)
    }

    /// The routes of a server, patched.
    fn routes(&self, name: &str, port: u16, patches: &Patches) -> Value {
        let bound = self.of("VirtualService").any(|service| !service["spec"]["http"].is_null());
        // With VirtualServices there is a virtual host for each of their hosts, else one that answers 404.
        let host = if bound { format!("*:{port}") } else { format!("blackhole:{port}") };
        let mut routes = json!({
            "name": name,
            "virtual_hosts": [{"name": host, "domains": ["*"]}],
            "validate_clusters": false,
            "ignore_port_in_host_matching": true,
            "max_direct_response_body_size_bytes": 1048576,
        });
        patches.route_configuration(port, &mut routes);
        routes
    }

    /// The Secret of a `credentialName`, copied to the gateway's namespace as the diagnostic says.
    fn secret(&self, credential: &str) -> Result<&'a Value, String> {
        let (namespace, name) = credential.split_once('.').unwrap_or(("istio-ingress", credential));
        let found = self.in_cluster("Secret").find(|secret| {
            let metadata = &secret["metadata"];
            metadata["name"] == name && metadata["namespace"].as_str().unwrap_or("default") == namespace
        });
        found.ok_or_else(|| format!("no Secret {namespace}/{name}"))
    }

    fn certificate(&self, credential: &str) -> Result<Value, String> {
        let secret = self.secret(credential)?;
        let part = |key: &str| {
            let encoded = text(&secret["data"][key]);
            match STANDARD.decode(encoded.split_whitespace().collect::<String>()) {
                Ok(bytes) if !bytes.is_empty() => Ok(json!({"inline_bytes": STANDARD.encode(bytes)})),
                _ if secret["stringData"][key].is_string() => {
                    Ok(json!({"inline_string": secret["stringData"][key]}))
                }
                _ => Err(format!("{credential} has no {key}")),
            }
        };
        Ok(json!({"certificate_chain": part("tls.crt")?, "private_key": part("tls.key")?}))
    }

    fn downstream_tls(&self, server: &Value, secrets: &mut Vec<Value>) -> Result<Value, String> {
        let tls = &server["tls"];
        let credential = text(&tls["credentialName"]);
        // A Secret with authorities is made as the diagnostic says: of the two that its name tells.
        let (certificate, authorities) = credential.split_once(".with.").unwrap_or((credential, ""));
        let mut validation = json!({});
        match text(&tls["mode"]) {
            "SIMPLE" => {}
            "OPTIONAL_MUTUAL" => {
                let name = format!("kubernetes://{credential}-cacert");
                let secret = self.secret(authorities)?;
                let mut context = json!({"trusted_ca": {"inline_bytes": secret["data"]["ca.crt"]}});
                if secret["data"]["ca.crl"].is_string() {
                    context["crl"] = json!({"inline_bytes": secret["data"]["ca.crl"]});
                }
                if !secrets.iter().any(|secret: &Value| secret["name"] == name) {
                    secrets.push(json!({"name": name, "validation_context": context}));
                }
                validation = json!({"combined_validation_context": {
                    "default_validation_context": {},
                    "validation_context_sds_secret_config": {"name": name},
                }});
            }
            other => return Err(format!("unknown here: TLS mode {other}")),
        }
        let version = |name: &Value| name.as_str().map(|name| name.replace("TLSV", "TLSv"));
        let mut socket = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "require_client_certificate": false,
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [self.certificate(certificate)?],
                    "tls_params": {
                        "tls_minimum_protocol_version": version(&tls["minProtocolVersion"]),
                        "tls_maximum_protocol_version": version(&tls["maxProtocolVersion"]),
                        "cipher_suites": tls["cipherSuites"].as_array().cloned().unwrap_or_default(),
                    },
                },
            },
        });
        let common = socket["typed_config"]["common_tls_context"].as_object_mut();
        common
            .into_iter()
            .for_each(|fields| fields.extend(validation.as_object().cloned().unwrap_or_default()));
        Ok(socket)
    }

    /// A chain for each host of a server that opens no connection.
    fn passthrough(&self, server: &Value) -> Result<Vec<Value>, String> {
        let hosts = server["hosts"].as_array().into_iter().flatten();
        let routes: Vec<&Value> = self
            .of("VirtualService")
            .flat_map(|service| service["spec"]["tls"].as_array().into_iter().flatten())
            .collect();
        hosts
            .map(|host| {
                let takes = |route: &&&Value| route["match"][0]["sniHosts"][0] == *host;
                let route = routes.iter().find(takes).ok_or_else(|| format!("nothing takes {host}"))?;
                let to = &route["route"][0]["destination"];
                let cluster = format!("outbound|{}||{}", to["port"]["number"], text(&to["host"]));
                Ok(json!({
                    "filter_chain_match": {"server_names": [host]},
                    "filters": [{
                        "name": "envoy.filters.network.tcp_proxy",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                            "stat_prefix": "passthrough",
                            "cluster": cluster,
                        },
                    }],
                }))
            })
            .collect()
    }

    /// A cluster for each port of each host, and one for each subset of it.
    fn clusters(&self) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        for service in self.in_cluster("Service") {
            let metadata = &service["metadata"];
            let namespace = metadata["namespace"].as_str().unwrap_or("default");
            let host = format!("{}.{namespace}.svc.cluster.local", text(&metadata["name"]));
            if service["spec"]["type"] == "ExternalName" {
                continue;
            }
            for port in service["spec"]["ports"].as_array().into_iter().flatten() {
                let endpoints = self.endpoints(namespace, text(&metadata["name"]), &port["name"]);
                let number = port["port"].as_u64().unwrap_or(0);
                self.add(&host, number, json!({"type": "STATIC"}), endpoints, &mut found)?;
            }
        }
        for entry in self.of("ServiceEntry") {
            let spec = &entry["spec"];
            let host = text(&spec["hosts"][0]);
            for port in spec["ports"].as_array().into_iter().flatten() {
                let number = port["number"].as_u64().unwrap_or(0);
                let (kind, address) = match text(&spec["resolution"]) {
                    "DNS" => ("STRICT_DNS", host),
                    "STATIC" => ("STATIC", text(&spec["endpoints"][0]["address"])),
                    other => return Err(format!("unknown here: resolution {other}")),
                };
                let kind = json!({"type": kind, "dns_lookup_family": "V4_ONLY"});
                self.add(host, number, kind, vec![(address.to_owned(), number)], &mut found)?;
            }
        }
        Ok(found)
    }

    fn endpoints(&self, namespace: &str, service: &str, port: &Value) -> Vec<(String, u64)> {
        let slices = self.in_cluster("EndpointSlice").filter(|slice| {
            let metadata = &slice["metadata"];
            metadata["labels"]["kubernetes.io/service-name"] == service
                && metadata["namespace"].as_str().unwrap_or("default") == namespace
        });
        let mut found = Vec::new();
        for slice in slices {
            let ports = slice["ports"].as_array().into_iter().flatten();
            let numbers: Vec<u64> = ports
                .filter(|found| found["name"] == *port)
                .filter_map(|port| port["port"].as_u64())
                .collect();
            let ready = |endpoint: &&Value| endpoint["conditions"]["ready"] != false;
            let endpoints = slice["endpoints"].as_array().into_iter().flatten().filter(ready);
            for address in endpoints.flat_map(|one| one["addresses"].as_array().into_iter().flatten()) {
                found.extend(numbers.iter().map(|number| (text(address).to_owned(), *number)));
            }
        }
        found
    }

    fn add(
        &self,
        host: &str,
        port: u64,
        kind: Value,
        endpoints: Vec<(String, u64)>,
        found: &mut Vec<Value>,
    ) -> Result<(), String> {
        let rule = self.of("DestinationRule").find(|rule| rule["spec"]["host"] == host);
        let none = Value::Null;
        let base = rule.map_or(&none, |rule| level(&rule["spec"]["trafficPolicy"], port));
        let mut add = |subset: &str, policies: &[&Value]| -> Result<(), String> {
            let name = format!("outbound|{port}|{subset}|{host}");
            let lb_endpoints: Vec<Value> = endpoints
                .iter()
                .map(|(address, port)| {
                    json!({"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}})
                })
                .collect();
            let mut cluster = json!({
                "name": name,
                "connect_timeout": "10s",
                "lb_policy": "LEAST_REQUEST",
                "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": lb_endpoints}]},
            });
            cluster.as_object_mut().into_iter().for_each(|fields| {
                fields.extend(kind.as_object().cloned().unwrap_or_default());
            });
            for policy in policies {
                self.traffic_policy(policy, &mut cluster)?;
            }
            found.push(cluster);
            Ok(())
        };
        add("", &[base])?;
        for subset in
            rule.into_iter().flat_map(|rule| rule["spec"]["subsets"].as_array().into_iter().flatten())
        {
            add(text(&subset["name"]), &[base, level(&subset["trafficPolicy"], port)])?;
        }
        Ok(())
    }

    fn traffic_policy(&self, policy: &Value, cluster: &mut Value) -> Result<(), String> {
        if let Some(timeout) = policy["connectionPool"]["tcp"]["connectTimeout"].as_str() {
            let milliseconds: u64 =
                timeout.strip_suffix("ms").and_then(|text| text.parse().ok()).unwrap_or(10_000);
            cluster["connect_timeout"] =
                format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000).into();
        }
        let http2 = policy["connectionPool"]["http"]["h2UpgradePolicy"] == "UPGRADE";
        // Without a name of its own istiod has Envoy send that of the request (`PILOT_ENABLE_AUTO_SNI`).
        let named_by_request = !policy["tls"].is_null() && policy["tls"]["sni"].is_null();
        if http2 || named_by_request {
            let protocol = if http2 { "http2_protocol_options" } else { "http_protocol_options" };
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {protocol: {}},
                    "upstream_http_protocol_options": {"auto_sni": named_by_request},
                },
            });
        }
        let balancer = &policy["loadBalancer"];
        match text(&balancer["simple"]) {
            "" => {}
            simple => cluster["lb_policy"] = simple.into(),
        }
        if balancer["consistentHash"]["httpHeaderName"].is_string() {
            cluster["lb_policy"] = "RING_HASH".into();
        }
        let tls = &policy["tls"];
        if tls.is_null() {
            return Ok(());
        }
        let mut common = json!({});
        if let Some(credential) = tls["credentialName"].as_str() {
            if tls["mode"] == "MUTUAL" {
                common["tls_certificates"] = json!([self.certificate(credential)?]);
            }
            if tls["insecureSkipVerify"] != true {
                let secret = self.secret(credential)?;
                common["validation_context"] =
                    json!({"trusted_ca": {"inline_bytes": secret["data"]["ca.crt"]}});
            }
        }
        cluster["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": tls["sni"].as_str().unwrap_or_default(),
                "common_tls_context": common,
            },
        });
        Ok(())
    }
}

/// What a policy says of a port: its level, or itself where there is none.
fn level(policy: &Value, port: u64) -> &Value {
    let levels = policy["portLevelSettings"].as_array();
    let found = levels.into_iter().flatten().find(|level| level["port"]["number"] == port);
    found.unwrap_or(policy)
}
