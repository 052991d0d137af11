//! Limits over all replicas, with a rate limit service that speaks Envoy's protocol.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use ingress_wasm_echo::wire;
use ingress_wasm_tests::client::{Response, WireRequest};
use ingress_wasm_tests::site::Backend;
use tonic::transport::server::TcpIncoming;

use crate::support::{SOON, Served, eventually, expect_status, ingress, serve_with};

/// Counts without end, and remembers what it was asked.
#[derive(Clone, Default)]
struct Limiter(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    asked: Vec<String>,
    used: BTreeMap<String, u32>,
}

/// `KEY=VALUE KEY=VALUE <= NUMBER UNIT`
fn text(descriptor: &RateLimitDescriptor) -> String {
    let entries: Vec<String> =
        descriptor.entries.iter().map(|entry| format!("{}={}", entry.key, entry.value)).collect();
    let limit = descriptor.limit.map_or_else(String::new, |RateLimitOverride { requests_per_unit, unit }| {
        format!(" <= {requests_per_unit} {unit}")
    });
    entries.join(" ") + &limit
}

#[tonic::async_trait]
impl RateLimitService for Limiter {
    async fn should_rate_limit(
        &self,
        request: tonic::Request<RateLimitRequest>,
    ) -> Result<tonic::Response<RateLimitResponse>, tonic::Status> {
        let RateLimitRequest { domain, descriptors, .. } = request.into_inner();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut code = Code::Ok;
        for descriptor in &descriptors {
            let text = text(descriptor);
            // What comes without a limit is in this service's own configuration.
            let own = if text.starts_with("plan=free") { 1 } else { u32::MAX };
            let most = descriptor.limit.map_or(own, |limit| limit.requests_per_unit);
            let used = counts.used.entry(text.clone()).or_default();
            *used += 1;
            if *used > most {
                code = Code::OverLimit;
            }
            counts.asked.push(format!("{domain}: {text}"));
        }
        let overall_code = code.into();
        Ok(tonic::Response::new(RateLimitResponse { overall_code, ..RateLimitResponse::default() }))
    }
}

impl Limiter {
    /// What it was asked since this was last called.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).asked)
    }

    /// Serves until the runtime ends.
    fn start(&self) -> Result<(tokio::runtime::Runtime, SocketAddr), String> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let service = RateLimitServiceServer::new(self.clone());
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener)),
        );
        Ok((runtime, address))
    }
}

fn service(address: SocketAddr) -> String {
    let port = address.port();
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: limits}}
spec: {{clusterIP: 10.0.0.9, ports: [{{port: 8081, targetPort: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: limits, labels: {{kubernetes.io/service-name: limits}}}}
addressType: IPv4
ports: [{{name: '', port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
}

/// An Ingress with annotations of our own, and basic authentication for the host `guarded`.
fn limited(name: &str, annotations: &[(&str, &str)]) -> String {
    let own: Vec<(String, &str)> = annotations
        .iter()
        .map(|(name, value)| (format!("ingress-wasm.io/global-rate-limit{name}"), *value))
        .collect();
    let own: Vec<(&str, &str)> = own.iter().map(|(name, value)| (&**name, *value)).collect();
    ingress(name, "web", &own)
}

fn manifests(address: SocketAddr) -> String {
    let hour = ("-window", "1h");
    [
        ingress("open", "web", &[]),
        limited("keyed", &[("", "2"), hour, ("-key", "${remote_addr}-${http_x_key}")]),
        limited("plain", &[("", "2"), hour]),
        limited("exempt", &[("", "1"), hour, ("-ignored-cidrs", "127.0.0.0/8")]),
        limited("described", &[("-descriptor", "plan: free\nwho: $arg_who")]),
        limited("broken", &[("", "2")]),
        service(address),
    ]
    .concat()
}

const OPTIONS: [(&str, &str); 3] = [
    ("ingress-wasm-rate-limit-service", "limits.default.svc:8081"),
    // Only to be told apart from one that does not answer.
    ("ingress-wasm-rate-limit-timeout", "20s"),
    ("ingress-wasm-rate-limit-domain", "gate"),
];

fn get(host: &str, target: &str) -> WireRequest {
    WireRequest::new("GET", &format!("{host}.example"), target)
}

fn send(served: &Served, request: WireRequest, status: u16, what: &str) -> Result<Response, String> {
    let response = served.send(&request)?;
    expect_status(&response, status, what)?;
    Ok(response)
}

pub fn requests_are_limited_by_a_service() -> Result<(), String> {
    let limiter = Limiter::default();
    let (runtime, address) = limiter.start()?;
    let served = serve_with(&[Backend::new("web", 1)], &manifests(address), &OPTIONS)?;
    send(&served, get("open", "/"), 200, "no limit")?;
    assert_eq!(limiter.asked(), [""; 0]);

    // By address and key; what a client says of itself in private headers and X-Forwarded-For is of no meaning.
    let keyed = |key: &str| get("keyed", "/a?b").header("X-Key", key);
    let spoofed = keyed("one")
        .header("X-Ingress-Wasm-Limit-2", "other")
        .header("X-Ingress-Wasm-Limit", "Zg==")
        .header("X-Forwarded-For", "192.0.2.7");
    send(&served, keyed("one"), 200, "the first")?;
    send(&served, spoofed.clone(), 200, "the second")?;
    let asked = "gate: ingress=default/keyed key=127.0.0.1-one <= 2 3";
    assert_eq!(limiter.asked(), [asked; 2]);
    let refused = send(&served, spoofed, 429, "the third")?;
    assert!(refused.text().contains("<h1>429 Too Many Requests</h1>"), "{}", refused.text());
    assert!(refused.header("x-envoy-ratelimited").is_none());
    send(&served, keyed("two"), 200, "another key")?;
    let received = served.site.servers("web")[0].received();
    assert_eq!(received.len(), 4, "what is refused does not come through");
    let names = received.iter().flat_map(|received| &received.headers).map(|(name, _)| wire::text(name));
    let private: Vec<String> =
        names.filter(|name| name.to_ascii_lowercase().contains("ingress-wasm")).collect();
    assert_eq!(private, [""; 0]);
    limiter.asked();

    for status in [200, 200, 429] {
        send(&served, get("plain", "/"), status, "by address")?;
    }
    assert_eq!(limiter.asked(), ["gate: ingress=default/plain key=127.0.0.1 <= 2 3"; 3]);
    for _ in 0..3 {
        send(&served, get("exempt", "/"), 200, "a client that is not counted")?;
    }
    assert_eq!(limiter.asked(), [""; 0]);

    // The service's own limits. A value that is no text is told as one, and one that is empty as well.
    for (target, status) in
        [("/?who=ann", 200), ("/?who=ann", 429), ("/?who=%ff", 200), ("/", 200), ("/", 429)]
    {
        send(&served, get("described", target), status, target)?;
    }
    let told: Vec<String> = limiter.asked();
    assert!(told.iter().all(|told| told.starts_with("gate: plan=free who=")), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("gate: plan=free who=-"));
    send(&served, get("broken", "/"), 503, "a limit without a time")?;

    // Nobody to ask lets nobody in.
    runtime.shutdown_background();
    eventually("the end of the service", SOON, || {
        served.send(&get("keyed", "/").header("X-Key", "away")).is_ok_and(|response| response.status == 503)
    })?;
    let away = send(&served, get("plain", "/"), 503, "nobody to ask")?;
    assert!(away.text().contains("<h1>503 Service Temporarily Unavailable</h1>"), "{}", away.text());
    send(&served, get("open", "/"), 200, "no limit").map(drop)
}

pub fn requests_pass_without_the_service_where_asked_for() -> Result<(), String> {
    let nobody = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    let address = nobody.local_addr().map_err(|error| error.to_string())?;
    drop(nobody);
    let options = [
        OPTIONS[0],
        ("ingress-wasm-rate-limit-failure", "allow"),
        ("ingress-wasm-rate-limit-status-code", "420"),
    ];
    let dead = Backend::new("web", 1);
    let served = serve_with(&[dead], &manifests(address), &options)?;
    for _ in 0..3 {
        send(&served, get("keyed", "/").header("X-Key", "a"), 200, "nobody to ask")?;
    }
    send(&served, get("broken", "/"), 503, "a limit without a time")?;
    // The service comes.
    let limiter = Limiter::default();
    let (_runtime, address) = limiter.start()?;
    served.site.write("site.yaml", &manifests(address)).map_err(|error| error.to_string())?;
    let mut last = None;
    eventually("the service", SOON, || {
        last = served.send(&get("plain", "/")).ok();
        last.as_ref().is_some_and(|response| response.status == 420)
    })?;
    let text = last.map(|response| response.text()).unwrap_or_default();
    assert!(text.contains("nginx"), "{text}");
    Ok(())
}
