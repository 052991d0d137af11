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

/// A Secret with a certificate that says it is of X.509's first version and has what came with the third. Nothing that
/// reads it for its names and its key minds, but Envoy's TLS library does.
pub fn misissued(secret_name: &str, host: &str) -> Result<Value, String> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let mut made = certificate(secret_name, host, "misissued")?;
    let text =
        STANDARD.decode(made["data"]["tls.crt"].as_str().unwrap_or_default()).map_err(|e| e.to_string())?;
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let mut der = STANDARD.decode(lines).map_err(|error| error.to_string())?;
    let version = [0xa0, 0x03, 0x02, 0x01, 0x02];
    let at = der.windows(version.len()).position(|window| window == version).ok_or("it has a version")?;
    der[at + version.len() - 1] = 0;
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der));
    made["data"]["tls.crt"] = STANDARD.encode(pem).into();
    Ok(made)
}
