//! What the end-to-end tests share: a served site, manifests, requests.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ingress_wasm_tests::client::{Connection, Response, Target, WireRequest, once};
use ingress_wasm_tests::product::{Product, binary};
use ingress_wasm_tests::site::{Backend, Site};

/// How long a change may take until it is live, and a message until it is there.
pub const SOON: Duration = Duration::from_secs(30);

/// The product, and what it serves; they end in this order.
pub struct Served {
    pub product: Product,
    pub site: Site,
}

/// Serves one file of manifests, `site.yaml`.
pub fn serve(backends: &[Backend], manifests: &str) -> Result<Served, String> {
    serve_files(backends, &[("site.yaml", manifests)])
}

/// Serves several files of manifests.
pub fn serve_files(backends: &[Backend], files: &[(&str, &str)]) -> Result<Served, String> {
    serve_site(backends, files, &BTreeMap::new())
}

/// Serves one file of manifests with these options in the ConfigMap.
pub fn serve_with(backends: &[Backend], manifests: &str, options: &[(&str, &str)]) -> Result<Served, String> {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    serve_site(backends, &[("site.yaml", manifests)], &options)
}

fn serve_site(
    backends: &[Backend],
    files: &[(&str, &str)],
    options: &BTreeMap<String, String>,
) -> Result<Served, String> {
    let binary = binary()?;
    let site = Site::new(backends, options).map_err(|error| error.to_string())?;
    for (name, text) in files {
        site.write(name, text).map_err(|error| error.to_string())?;
    }
    let product = Product::start(&binary, &site.manifests(), &site.temporary())?;
    Ok(Served { product, site })
}

/// An Ingress `NAME` for the host `NAME.example`, all paths to a service. Annotations without a prefix are those of
/// ingress-nginx.
pub fn ingress(name: &str, service: &str, annotations: &[(&str, &str)]) -> String {
    let annotations: String = annotations
        .iter()
        .map(|(key, value)| match key.contains('/') {
            true => format!("    {key}: {value:?}\n"),
            false => format!("    nginx.ingress.kubernetes.io/{key}: {value:?}\n"),
        })
        .collect();
    let annotations =
        if annotations.is_empty() { annotations } else { format!("  annotations:\n{annotations}") };
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {name}
{annotations}spec:
  ingressClassName: nginx
  rules:
  - host: {name}.example
    http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service:
            name: {service}
            port:
              number: 80
"
    )
}

impl Served {
    pub fn http(&self) -> Target {
        Target::plain(self.product.http)
    }

    pub fn connect(&self) -> Result<Connection, String> {
        Connection::open(&self.http()).map_err(|error| error.to_string())
    }

    /// One request on a connection of its own; on failure with what the product said.
    pub fn send(&self, request: &WireRequest) -> Result<Response, String> {
        once(&self.http(), request).map_err(|error| {
            format!("{} {}: {error}\n{}", request.method, request.target, self.product.stderr_tail())
        })
    }

    pub fn get(&self, host: &str, target: &str) -> Result<Response, String> {
        self.send(&WireRequest::new("GET", host, target))
    }

    /// How many requests have reached a service.
    pub fn reached(&self, service: &str) -> usize {
        self.site.servers(service).iter().map(|server| server.received().len()).sum()
    }
}

/// The service that answered.
pub fn answered(response: &Response) -> Option<String> {
    let who = response.header(ingress_wasm_echo::BACKEND_HEADER)?;
    who.split('/').next().map(str::to_owned)
}

/// Fails unless the status is this one; shows the answer.
pub fn expect_status(response: &Response, status: u16, what: &str) -> Result<(), String> {
    if response.status == status {
        return Ok(());
    }
    let body: String = response.text().chars().take(500).collect();
    Err(format!("{what}: expected {status}, got {}: {body}", response.status))
}

/// Looks again and again until a condition holds that nothing tells of.
pub fn eventually(what: &str, timeout: Duration, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + timeout;
    while !holds() {
        if Instant::now() > end {
            return Err(format!("{what}: not in {timeout:?}"));
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

/// Carries changes out while requests are sent to these hosts, on new connections and on kept ones; fails unless each
/// of them is answered 200.
pub fn without_a_failed_request(
    served: &Served,
    hosts: &[&str],
    changes: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    let requests: Vec<_> = hosts.iter().map(|host| WireRequest::new("GET", host, "/")).collect();
    let note = |result: std::io::Result<_>| {
        sent.fetch_add(1, Ordering::Relaxed);
        let fault = match result {
            Ok(response) => expect_status(&response, 200, "during a change").err(),
            Err(error) => Some(error.to_string()),
        };
        failed.lock().unwrap_or_else(PoisonError::into_inner).extend(fault);
    };
    let requests = || requests.iter().cycle().take_while(|_| !over.load(Ordering::Relaxed));
    let fresh = || requests().for_each(|request| note(once(&served.http(), request)));
    let kept = || {
        let mut open: Option<Connection> = None;
        for request in requests() {
            let usable = open.take().and_then(|mut open| open.reusable().then_some(open));
            let connection = match usable {
                Some(open) => Ok(open),
                None => Connection::open(&served.http()).map_err(Into::into),
            };
            note(connection.and_then(|mut connection| {
                let response = connection.exchange(request);
                open = Some(connection);
                response
            }));
        }
    };
    let changes = std::thread::scope(|scope| {
        scope.spawn(fresh);
        scope.spawn(kept);
        // A failed assertion must not leave the threads sending.
        let changes = catch_unwind(AssertUnwindSafe(changes));
        over.store(true, Ordering::Relaxed);
        changes
    });
    changes.unwrap_or_else(|panic| resume_unwind(panic))?;
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let sent = sent.into_inner();
    match failed.first() {
        Some(first) => Err(format!("{} of {sent} requests failed, the first: {first}", failed.len())),
        None if sent == 0 => Err("no request was sent during the changes".to_owned()),
        None => Ok(()),
    }
}
