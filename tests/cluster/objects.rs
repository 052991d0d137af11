//! The objects that tests put into the cluster.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// An Ingress `NAME` for the host `NAME.example`, all paths to a service.
pub fn ingress(name: &str, service: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "namespace": "default", "annotations": {}},
        "spec": {
            "ingressClassName": "nginx",
            "rules": [{
                "host": format!("{name}.example"),
                "http": {"paths": [{
                    "path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": service, "port": {"number": 80}}},
                }]},
            }],
        },
    })
}

/// The same with annotations of ingress-nginx.
pub fn annotated(mut ingress: Value, annotations: &[(&str, &str)]) -> Value {
    for (name, value) in annotations {
        ingress["metadata"]["annotations"][format!("nginx.ingress.kubernetes.io/{name}")] = (*value).into();
    }
    ingress
}

/// A Service on port 80.
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    })
}

/// Its endpoints. They have one port, so each has a slice.
pub fn slice(service: &str, number: usize, address: SocketAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{number}"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": address.port(), "protocol": "TCP"}],
        "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
    })
}

/// A Secret.
pub fn secret(name: &str, kind: &str, data: &[(&str, &str)]) -> Value {
    use base64::Engine;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let data: serde_json::Map<String, Value> =
        data.iter().map(|(key, text)| ((*key).to_owned(), encode(text).into())).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "data": data,
        "metadata": {"name": name, "namespace": "default"},
    })
}

/// A Secret with a fresh certificate for one name, which is its common name, too.
pub fn certificate(secret_name: &str, host: &str, common: &str) -> Result<Value, String> {
    let made = (|| {
        let mut parameters = rcgen::CertificateParams::new([host.to_owned()])?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, common);
        let key = rcgen::KeyPair::generate()?;
        Ok::<_, rcgen::Error>((parameters.self_signed(&key)?.pem(), key.serialize_pem()))
    })();
    let (chain, key) = made.map_err(|error| error.to_string())?;
    Ok(secret(secret_name, "kubernetes.io/tls", &[("tls.crt", &chain), ("tls.key", &key)]))
}

/// The ConfigMap of the controller.
pub fn options(data: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": "controller", "namespace": "ingress-nginx"},
    })
}
