//! The objects of the cluster.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Where Ingresses are at the API server.
pub const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
/// Where EndpointSlices are.
pub const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// Where Secrets are.
pub const SECRETS: &str = "/api/v1/namespaces/default/secrets";
/// Where the controller's ConfigMap is.
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/ingress-nginx/configmaps";

/// The host of an Ingress.
pub fn host(number: usize) -> String {
    format!("host-{number}.example")
}

/// Everything that there is at the start.
pub fn all(ingresses: usize, backend: SocketAddr) -> Vec<Value> {
    let mut objects = vec![users(1).0, options("false")];
    for number in 0..ingresses {
        let service = format!("service-{number}");
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": service, "namespace": "default"},
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }));
        objects.push(slice(number, backend));
        objects.push(ingress(&format!("ingress-{number}"), &host(number), "/more", &service));
    }
    let mut protected = ingress("protected", "protected.example", "/more", "service-0");
    protected["metadata"]["annotations"] = json!({
        "nginx.ingress.kubernetes.io/auth-type": "basic", "nginx.ingress.kubernetes.io/auth-secret": "users",
    });
    objects.push(protected);
    objects
}

/// An Ingress with `/` as an exact path and another one.
pub fn ingress(name: &str, host: &str, path: &str, service: &str) -> Value {
    let backend = json!({"service": {"name": service, "port": {"number": 80}}});
    let mut paths = vec![json!({"path": "/", "pathType": "Exact", "backend": backend})];
    if path != "/" {
        paths.push(json!({"path": path, "pathType": "Prefix", "backend": backend}));
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": host, "http": {"paths": paths}}]},
    })
}

/// The endpoint of a service.
pub fn slice(number: usize, backend: SocketAddr) -> Value {
    let service = format!("service-{number}");
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": service, "namespace": "default", "labels": {"kubernetes.io/service-name": service},
        },
        "ports": [{"name": "http", "port": backend.port(), "protocol": "TCP"}],
        "endpoints": [{"addresses": [backend.ip().to_string()], "conditions": {"ready": true}}],
    })
}

/// A Secret with one of two passwords in turn, and the header by which it is entered.
pub fn users(round: usize) -> (Value, String) {
    // By SHA-1: the hash of a word that is known.
    let (password, hash) = if round.is_multiple_of(2) {
        ("password", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=")
    } else {
        ("other", "{SHA}0JQeaNqPOBUf+Gph/Fn3xc+fyqI=")
    };
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "users", "namespace": "default"},
        "data": {"auth": STANDARD.encode(format!("bob:{hash}\n"))},
    });
    (secret, format!("Basic {}", STANDARD.encode(format!("bob:{password}"))))
}

/// The controller's options.
pub fn options(force_ssl_redirect: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"force-ssl-redirect": force_ssl_redirect},
        "metadata": {"name": "controller", "namespace": "ingress-nginx"},
    })
}
