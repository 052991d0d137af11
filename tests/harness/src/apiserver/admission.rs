//! Validating admission: before something is written, the webhooks are asked that ValidatingWebhookConfigurations name
//! for it, as the real API server does it (`admission.k8s.io/v1`).
//!
//! Left out: `matchConditions`, and review of what is called by another version of its group (`matchPolicy`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::State;
use super::failure::Failure;
use super::objects;
use super::resources::{Resource, Target};

const CONFIGURATIONS: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";

/// Where Services are, by `NAMESPACE/NAME`: nobody routes to cluster addresses here.
pub type Services = BTreeMap<String, SocketAddr>;

/// What is about to be written.
#[derive(Debug, Clone)]
pub struct Change {
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub operation: &'static str,
    /// Of which resource.
    pub resource: Resource,
    /// By which URL.
    pub target: Target,
    /// What comes of it; null for what is deleted.
    pub object: Value,
    /// What there was; null for what is new.
    pub old: Value,
    /// Who writes.
    pub user: String,
    /// Nothing is kept.
    pub dry_run: bool,
}

/// A webhook that has something to say of a change.
#[derive(Debug)]
pub struct Hook {
    name: String,
    address: Result<Address, String>,
    authorities: Vec<u8>,
    ignores_failure: bool,
    patience: Duration,
    side_effects: bool,
}

#[derive(Debug)]
struct Address {
    socket: SocketAddr,
    host: String,
    port: u16,
    path: String,
}

/// The webhooks for a change, in order of their configurations.
pub fn hooks(state: &State, services: &Services, change: &Change) -> Vec<Hook> {
    let configurations = state.store.objects(CONFIGURATIONS);
    let all = configurations.values().flat_map(|object| object.value["webhooks"].as_array());
    all.flatten()
        .filter(|hook| {
            array(&hook["rules"]).any(|rule| covers(rule, change)) && selected(state, hook, change)
        })
        .map(|hook| Hook::read(state, services, hook))
        .collect()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn covers(rule: &Value, change: &Change) -> bool {
    let has = |field: &str, wanted: &str| array(&rule[field]).any(|found| *found == "*" || *found == wanted);
    let (plural, subresource) = (change.target.plural.as_str(), change.target.subresource.as_deref());
    let named = array(&rule["resources"]).filter_map(Value::as_str).any(|named| {
        let (of, sub) = named.split_once('/').map_or((named, None), |(of, sub)| (of, Some(sub)));
        (of == "*" || of == plural)
            && match (sub, subresource) {
                (None, found) => found.is_none(),
                (Some("*"), _) => true,
                (wanted, found) => wanted == found,
            }
    });
    let scope = match rule["scope"].as_str() {
        Some("Namespaced") => change.resource.namespaced,
        Some("Cluster") => !change.resource.namespaced,
        _ => true,
    };
    has("apiGroups", &change.target.group)
        && has("apiVersions", &change.target.version)
        && has("operations", change.operation)
        && named
        && scope
}

/// By the labels of the object, before or after, and of its namespace.
fn selected(state: &State, hook: &Value, change: &Change) -> bool {
    let of_object =
        [&change.object, &change.old].into_iter().any(|object| takes(&hook["objectSelector"], object));
    let of_namespace = change.target.namespace.as_ref().is_none_or(|namespace| {
        let namespace = state.store.get("namespaces", &(String::new(), namespace.clone()));
        namespace.is_none_or(|namespace| takes(&hook["namespaceSelector"], &namespace.value))
    });
    of_object && of_namespace
}

fn takes(selector: &Value, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    let exact = selector["matchLabels"].as_object().into_iter().flatten();
    exact.into_iter().all(|(key, value)| labels[key] == *value)
        && array(&selector["matchExpressions"]).all(|term| {
            let found = &labels[term["key"].as_str().unwrap_or_default()];
            let listed = array(&term["values"]).any(|value| value == found);
            match term["operator"].as_str() {
                Some("In") => listed,
                Some("NotIn") => !listed,
                Some("Exists") => !found.is_null(),
                Some("DoesNotExist") => found.is_null(),
                _ => false,
            }
        })
}

impl Hook {
    fn read(state: &State, services: &Services, hook: &Value) -> Hook {
        let client = &hook["clientConfig"];
        let seconds = hook["timeoutSeconds"].as_u64().unwrap_or(10);
        let bundle = client["caBundle"].as_str().unwrap_or_default();
        Hook {
            name: hook["name"].as_str().unwrap_or_default().to_owned(),
            address: Address::find(state, services, client, seconds),
            authorities: STANDARD.decode(bundle).unwrap_or_default(),
            ignores_failure: hook["failurePolicy"] == "Ignore",
            patience: Duration::from_secs(seconds),
            side_effects: !matches!(hook["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")),
        }
    }
}

impl Address {
    fn find(state: &State, services: &Services, client: &Value, seconds: u64) -> Result<Address, String> {
        if let Some(url) = client["url"].as_str() {
            let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let ip =
                host.parse().map_err(|_| format!("Post {url:?}: dial tcp: lookup {host}: no such host"))?;
            let path = format!("{}?timeout={seconds}s", uri.path());
            return Ok(Address { socket: SocketAddr::new(ip, port), host, port, path });
        }
        let service = &client["service"];
        let text = |field: &str| service[field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
        let host = format!("{name}.{namespace}.svc");
        let path = format!("/{}?timeout={seconds}s", text("path").trim_start_matches('/'));
        let url = format!("https://{host}:{port}{path}");
        if state.store.get("services", &(namespace.to_owned(), name.to_owned())).is_none() {
            return Err(format!("Post {url:?}: service {name:?} not found"));
        }
        match services.get(&format!("{namespace}/{name}")) {
            Some(socket) => Ok(Address { socket: *socket, host, port, path }),
            None => Err(format!("Post {url:?}: no endpoints available for service {name:?}")),
        }
    }

    fn url(&self) -> String {
        format!("https://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Asks all of them. Gives their warnings.
///
/// # Errors
///
/// The refusal, as the client is told it.
pub async fn ask(hooks: &[Hook], change: &Change) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    for hook in hooks {
        if change.dry_run && hook.side_effects {
            return Err(Failure::bad_request(format!(
                "admission webhook {:?} does not support dry run",
                hook.name
            )));
        }
        let uid = objects::uid();
        let response = match hook.call(&review(change, &uid)).await {
            Ok(response) => response,
            Err(_) if hook.ignores_failure => continue,
            Err(error) => {
                return Err(Failure::new(
                    500,
                    "InternalError",
                    format!("Internal error occurred: failed calling webhook {:?}: {error}", hook.name),
                ));
            }
        };
        let said = verified(&response, &uid);
        match said {
            Ok(said) => {
                warnings.extend(array(&said["warnings"]).filter_map(Value::as_str).map(str::to_owned));
                if said["allowed"] != true {
                    return Err(denied(&hook.name, &said["status"]));
                }
            }
            Err(_) if hook.ignores_failure => {}
            Err(error) => {
                return Err(Failure::new(
                    500,
                    "InternalError",
                    format!(
                        "Internal error occurred: failed calling webhook {:?}: received invalid webhook response: \
                         {error}",
                        hook.name
                    ),
                ));
            }
        }
    }
    Ok(warnings)
}

fn denied(name: &str, status: &Value) -> Failure {
    let text = |field: &str| status[field].as_str().filter(|text| !text.is_empty());
    let by = format!("admission webhook {name:?} denied the request");
    let message = match text("message").or(text("reason")) {
        Some(why) => format!("{by}: {why}"),
        None => format!("{by} without explanation"),
    };
    // A refusal with the code of a success is still one.
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400);
    let reason = match (text("reason"), code) {
        (Some("BadRequest"), _) | (None, Some(400)) => "BadRequest",
        (Some("Invalid"), _) | (None, Some(422)) => "Invalid",
        (None, Some(500..)) => "InternalError",
        _ => "Forbidden",
    };
    Failure::new(code.unwrap_or(403), reason, message)
}

fn review(change: &Change, uid: &str) -> Value {
    let Change { operation, resource, target, object, old, user, dry_run } = change;
    let kind = json!({"group": resource.group, "version": target.version, "kind": resource.kind});
    let of = json!({"group": resource.group, "version": target.version, "resource": resource.plural});
    let options = match *operation {
        "CREATE" => "CreateOptions",
        "UPDATE" => "UpdateOptions",
        _ => "DeleteOptions",
    };
    let name = [object, old].into_iter().find_map(|object| object["metadata"]["name"].as_str());
    let mut request = json!({
        "uid": uid, "kind": kind, "resource": of, "requestKind": kind, "requestResource": of,
        "name": name.unwrap_or_default(), "operation": operation,
        "userInfo": {"username": user, "groups": ["system:authenticated"]},
        "object": object, "oldObject": old, "dryRun": dry_run,
        "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
    });
    if let Some(namespace) = &target.namespace {
        request["namespace"] = namespace.as_str().into();
    }
    if let Some(subresource) = &target.subresource {
        request["subResource"] = subresource.as_str().into();
        request["requestSubResource"] = subresource.as_str().into();
    }
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

/// The response in a review, where it is one to this request.
fn verified(review: &Value, uid: &str) -> Result<Value, String> {
    let (version, kind) = (&review["apiVersion"], &review["kind"]);
    if *version != "admission.k8s.io/v1" || *kind != "AdmissionReview" {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {version}, Kind={kind}"
        ));
    }
    let response = &review["response"];
    if response.is_null() {
        return Err("webhook response did not contain a response".to_owned());
    }
    if response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {}", response["uid"]));
    }
    Ok(response.clone())
}

impl Hook {
    async fn call(&self, review: &Value) -> Result<Value, String> {
        let address = self.address.as_ref().map_err(|error| format!("failed to call webhook: {error}"))?;
        let asked = tokio::time::timeout(self.patience, self.exchange(address, review)).await;
        asked
            .unwrap_or_else(|_| Err("context deadline exceeded".to_owned()))
            .map_err(|error| format!("failed to call webhook: Post {:?}: {error}", address.url()))
    }

    async fn exchange(&self, address: &Address, review: &Value) -> Result<Value, String> {
        let stream = TcpStream::connect(address.socket)
            .await
            .map_err(|error| format!("dial tcp {}: connect: {error}", address.socket))?;
        let name = ServerName::try_from(address.host.clone()).map_err(|error| error.to_string())?;
        let stream =
            self.connector()?.connect(name, stream).await.map_err(|error| format!("tls: {error}"))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let connection = tokio::spawn(connection);
        let body = review.to_string();
        let request = Request::builder()
            .method(Method::POST)
            .uri(&address.path)
            .header("host", &address.host)
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let code = response.status();
            let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            if !code.is_success() {
                return Err(format!("the server answered {code}: {}", String::from_utf8_lossy(&body)));
            }
            serde_json::from_slice(&body).map_err(|error| format!("the answer is no JSON: {error}"))
        };
        let answer = answer.await;
        connection.abort();
        answer
    }

    /// Trusts the `caBundle` alone.
    fn connector(&self) -> Result<TlsConnector, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.authorities) {
            let certificate = certificate.map_err(|error| format!("caBundle: {error}"))?;
            roots.add(certificate).map_err(|error| format!("caBundle: {error}"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(operation: &'static str, subresource: Option<&str>) -> Change {
        let resource = Resource {
            group: "networking.k8s.io".to_owned(),
            versions: vec!["v1".to_owned()],
            plural: "ingresses".to_owned(),
            kind: "Ingress".to_owned(),
            namespaced: true,
            status: true,
        };
        let target = Target {
            group: resource.group.clone(),
            version: "v1".to_owned(),
            plural: resource.plural.clone(),
            namespace: Some("shop".to_owned()),
            name: Some("a".to_owned()),
            subresource: subresource.map(str::to_owned),
        };
        let object = json!({"metadata": {"name": "a", "labels": {"tier": "web"}}});
        Change { operation, resource, target, object, old: Value::Null, user: String::new(), dry_run: false }
    }

    #[test]
    fn rules_cover_what_they_say() {
        let rule = |resources: &[&str], operations: &[&str]| json!({"apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "operations": operations, "resources": resources});
        let cases = [
            (rule(&["ingresses"], &["CREATE"]), "CREATE", None, true),
            (rule(&["ingresses"], &["CREATE"]), "UPDATE", None, false),
            (rule(&["ingresses"], &["*"]), "UPDATE", Some("status"), false),
            (rule(&["ingresses/status"], &["*"]), "UPDATE", Some("status"), true),
            (rule(&["ingresses/status"], &["*"]), "UPDATE", None, false),
            (rule(&["*/*"], &["*"]), "UPDATE", Some("status"), true),
            (rule(&["*"], &["*"]), "DELETE", None, true),
            (rule(&["services"], &["*"]), "CREATE", None, false),
        ];
        for (rule, operation, subresource, expected) in cases {
            assert_eq!(covers(&rule, &change(operation, subresource)), expected, "{rule} {operation}");
        }
        let mut of_cluster = rule(&["*"], &["*"]);
        of_cluster["scope"] = "Cluster".into();
        assert!(!covers(&of_cluster, &change("CREATE", None)));
    }

    #[test]
    fn selectors_take_what_they_say() {
        let object = change("CREATE", None).object;
        let cases = [
            (Value::Null, true),
            (json!({}), true),
            (json!({"matchLabels": {"tier": "web"}}), true),
            (json!({"matchLabels": {"tier": "db"}}), false),
            (json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["web"]}]}), true),
            (json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]}), false),
            (json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}), true),
            (json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]}), false),
        ];
        for (selector, expected) in cases {
            assert_eq!(takes(&selector, &object), expected, "{selector}");
        }
    }

    #[test]
    fn answers_to_others_and_refusals() {
        let review = |response: Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        assert!(verified(&review(json!({"uid": "u", "allowed": true})), "u").is_ok());
        assert!(verified(&review(json!({"uid": "v", "allowed": true})), "u").is_err());
        assert!(verified(&review(Value::Null), "u").is_err());
        assert!(verified(&json!({"response": {"uid": "u"}}), "u").is_err());
        let cases = [
            (json!({"code": 400, "reason": "BadRequest", "message": "odd"}), 400, "denied the request: odd"),
            (json!({"code": 200, "message": "odd"}), 403, "denied the request: odd"),
            (json!({"reason": "Invalid"}), 403, "denied the request: Invalid"),
            (Value::Null, 403, "denied the request without explanation"),
        ];
        for (status, code, text) in cases {
            let failure = denied("hook", &status);
            assert_eq!(failure.code, code, "{status}");
            assert!(failure.message.ends_with(text), "{}", failure.message);
        }
    }
}
