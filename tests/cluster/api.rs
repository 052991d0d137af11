//! The API server that a test has: the double, or a real one.
//!
//! On a real one each test has a namespace of its own, which stands for all that it names, and leaves nothing behind.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ingress_wasm_tests::apiserver::{ApiServer, Resource, known};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::world::{SOON, wait_for};

/// Who writes what tests put.
const MANAGER: &str = "ingress-wasm-tests";

/// Against what a test runs.
#[derive(Debug, Clone)]
pub enum On {
    /// A double of its own.
    Double,
    /// The API server that this file leads to.
    Real(Arc<Kubeconfig>),
}

/// An API server.
pub enum Api {
    Double(ApiServer),
    Real(Box<Cluster>),
}

/// A namespace of a real API server.
pub struct Cluster {
    client: Client,
    kubeconfig: Arc<Kubeconfig>,
    namespace: String,
    /// What was made outside of the namespace.
    made: Mutex<Vec<(Resource, String)>>,
}

impl From<ApiServer> for Api {
    fn from(double: ApiServer) -> Api {
        Api::Double(double)
    }
}

impl Api {
    /// One without any object.
    pub fn start(on: &On) -> Result<Api, String> {
        match on {
            On::Double => Ok(ApiServer::start().map_err(|error| error.to_string())?.into()),
            On::Real(kubeconfig) => Ok(Api::Real(Box::new(Cluster::start(kubeconfig)?))),
        }
    }

    /// The double, for what only that can do.
    pub fn double(&self) -> Option<&ApiServer> {
        match self {
            Api::Double(double) => Some(double),
            Api::Real(_) => None,
        }
    }

    /// The namespace that stands for one that a test names.
    pub fn namespace<'a>(&'a self, named: &'a str) -> &'a str {
        match self {
            Api::Double(_) => named,
            Api::Real(cluster) => &cluster.namespace,
        }
    }

    /// Where a backend listens: no endpoint of a real API server may have a loopback address.
    pub fn backend_ip(&self) -> IpAddr {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        match self {
            Api::Double(_) => local,
            Api::Real(_) => own_address().unwrap_or(local),
        }
    }

    /// Arguments that the controller needs here.
    pub fn arguments(&self) -> Vec<String> {
        match self {
            Api::Double(_) => Vec::new(),
            Api::Real(cluster) => vec!["--watch-namespace".to_owned(), cluster.namespace.clone()],
        }
    }

    /// Writes a file by which the controller finds it.
    pub fn write_kubeconfig(&self, path: &Path, user: &str) -> Result<(), String> {
        match self {
            Api::Double(double) => double.write_kubeconfig(path, user).map_err(|error| error.to_string()),
            Api::Real(cluster) => {
                let text = serde_json::to_string(&*cluster.kubeconfig).map_err(|error| error.to_string())?;
                std::fs::write(path, text).map_err(|error| error.to_string())
            }
        }
    }

    /// Makes an object, or changes it to this, status included.
    pub fn put(&self, object: Value) -> Result<(), String> {
        match self {
            Api::Double(double) => double.put(object),
            Api::Real(cluster) => cluster.put(object),
        }
    }

    /// The object, if there is one. `resource` is `plural.group`; no namespace is the empty one.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        match self {
            Api::Double(double) => double.get(resource, namespace, name),
            Api::Real(cluster) => cluster.get(resource, namespace, name),
        }
    }

    /// All objects of a resource with namespaces.
    pub fn list(&self, resource: &str) -> Vec<Value> {
        match self {
            Api::Double(double) => double.list(resource),
            Api::Real(cluster) => cluster.list(resource),
        }
    }

    /// Removes an object; whether there was one.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        match self {
            Api::Double(double) => double.delete(resource, namespace, name),
            Api::Real(cluster) => cluster.delete(resource, namespace, name),
        }
    }
}

/// The address by which others would see this machine; nothing is sent to find it.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn resource_of(object: &Value) -> Result<Resource, String> {
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, _) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    let of_it = |resource: &Resource| resource.group == group && resource.kind == kind;
    known().into_iter().find(of_it).ok_or_else(|| format!("{api_version} {kind} is not known"))
}

impl Cluster {
    fn start(kubeconfig: &Arc<Kubeconfig>) -> Result<Cluster, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("ingress-wasm-test-{}-{number}", std::process::id());
        let client = wait_for(async {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig((**kubeconfig).clone(), &options).await;
            Client::try_from(config.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
        })?;
        let cluster = Cluster {
            client,
            kubeconfig: Arc::clone(kubeconfig),
            namespace: namespace.clone(),
            made: Mutex::default(),
        };
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        let namespaces = resource_of(&object)?;
        cluster.apply(&namespaces, &namespace, &object, false)?;
        cluster.made(namespaces, namespace);
        Ok(cluster)
    }

    fn made(&self, resource: Resource, name: String) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push((resource, name));
    }

    fn api(&self, resource: &Resource) -> kube::Api<DynamicObject> {
        let version = resource.versions.first().cloned().unwrap_or_default();
        let api_resource = ApiResource {
            group: resource.group.clone(),
            api_version: resource.api_version(&version),
            version,
            kind: resource.kind.clone(),
            plural: resource.plural.clone(),
        };
        if resource.namespaced {
            kube::Api::namespaced_with(self.client.clone(), &self.namespace, &api_resource)
        } else {
            kube::Api::all_with(self.client.clone(), &api_resource)
        }
    }

    /// The name here of what has no namespace, and which others may have as well.
    fn name_of(&self, resource: &Resource, name: &str) -> String {
        if resource.namespaced || name == self.namespace {
            return name.to_owned();
        }
        format!("{name}-{}", self.namespace)
    }

    fn put(&self, mut object: Value) -> Result<(), String> {
        let resource = resource_of(&object)?;
        let name = self.name_of(&resource, object["metadata"]["name"].as_str().unwrap_or_default());
        let given = &object["metadata"];
        let mut metadata =
            json!({"name": name, "labels": given["labels"], "annotations": given["annotations"]});
        if resource.namespaced {
            metadata["namespace"] = self.namespace.as_str().into();
        }
        object["metadata"] = metadata;
        let status = object.as_object_mut().and_then(|object| object.remove("status"));
        match resource.kind.as_str() {
            // Another in each cluster.
            "Service" => drop(object["spec"].as_object_mut().and_then(|spec| spec.remove("clusterIP"))),
            // Nobody is to run them.
            "Pod" => object["spec"]["schedulerName"] = "nobody".into(),
            "Ingress" if object["spec"]["ingressClassName"] != "nginx" => {
                let class = object["spec"]["ingressClassName"].as_str().unwrap_or_default();
                object["spec"]["ingressClassName"] = format!("{class}-{}", self.namespace).into();
            }
            _ => {}
        }
        self.apply(&resource, &name, &object, false)?;
        if let Some(status) = status.filter(|_| resource.status) {
            let object = json!({
                "apiVersion": object["apiVersion"], "kind": object["kind"], "status": status,
                "metadata": {"name": name, "namespace": object["metadata"]["namespace"]},
            });
            self.apply(&resource, &name, &object, true)?;
        }
        if !resource.namespaced {
            self.made(resource, name);
        }
        Ok(())
    }

    /// Tried for a while: what a new namespace needs may come a moment later.
    fn apply(&self, resource: &Resource, name: &str, object: &Value, status: bool) -> Result<(), String> {
        let api = self.api(resource);
        let params = PatchParams::apply(MANAGER).force();
        let object: DynamicObject =
            serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
        let end = Instant::now() + SOON;
        loop {
            let patch = Patch::Apply(&object);
            let applied = wait_for(async {
                let applied = async {
                    match status {
                        true => api.patch_status(name, &params, &patch).await,
                        false => api.patch(name, &params, &patch).await,
                    }
                };
                Ok(applied.await)
            })?;
            let error = match applied {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let passes = match &error {
                kube::Error::Api(status) => matches!(status.code, 403 | 404 | 409 | 429 | 500..),
                _ => true,
            };
            if !passes || Instant::now() > end {
                return Err(format!("{} {name}: {error}", resource.name()));
            }
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    fn named(&self, resource: &str) -> Option<Resource> {
        known().into_iter().find(|known| known.name() == resource)
    }

    fn get(&self, resource: &str, _: &str, name: &str) -> Option<Value> {
        let resource = self.named(resource)?;
        let (api, name) = (self.api(&resource), self.name_of(&resource, name));
        let found =
            wait_for(async { api.get_opt(&name).await.map_err(|error| error.to_string()) }).ok()??;
        serde_json::to_value(found).ok()
    }

    fn list(&self, resource: &str) -> Vec<Value> {
        let Some(resource) = self.named(resource) else { return Vec::new() };
        let api = self.api(&resource);
        let all =
            wait_for(async { api.list(&ListParams::default()).await.map_err(|error| error.to_string()) });
        let items = all.map(|list| list.items).unwrap_or_default();
        items.into_iter().filter_map(|object| serde_json::to_value(object).ok()).collect()
    }

    fn delete(&self, resource: &str, _: &str, name: &str) -> bool {
        self.named(resource).is_some_and(|resource| self.remove(&resource, &self.name_of(&resource, name)))
    }

    fn remove(&self, resource: &Resource, name: &str) -> bool {
        let api = self.api(resource);
        let params = DeleteParams::default().grace_period(0);
        wait_for(async { api.delete(name, &params).await.map_err(|error| error.to_string()) }).is_ok()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        // The namespace last, and all that is in it.
        for (resource, name) in made.iter().rev() {
            self.remove(resource, name);
        }
    }
}
