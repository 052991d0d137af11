//! Backends that Envoy finds by a name: a name server that does not answer.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ingress_wasm_tests::product::{Product, binary};
use ingress_wasm_tests::site::{Backend, Site};

use crate::support::{SOON, Served, eventually, expect_status, ingress, without_a_failed_request};

/// How long an answer of the name server takes.
const LATENCY: Duration = Duration::from_millis(200);

/// A name server for whose every name is 127.0.0.1, once it answers.
struct NameServer {
    socket: Arc<UdpSocket>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answers: bool,
    /// What it has been asked and has not answered.
    held: Vec<(Vec<u8>, SocketAddr)>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NameServer {
    fn start() -> std::io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        let state: Arc<Mutex<State>> = Arc::default();
        let server = NameServer { socket: Arc::clone(&socket), state: Arc::clone(&state) };
        thread::spawn(move || {
            let mut buffer = [0; 512];
            // An empty datagram ends it.
            while let Ok((length @ 1.., from)) = socket.recv_from(&mut buffer) {
                let query = buffer.get(..length).unwrap_or_default().to_vec();
                lock(&state).held.push((query, from));
                // As far away as name servers are: who does not wait for the answer is found out.
                thread::park_timeout(LATENCY);
                let mut state = lock(&state);
                if state.answers {
                    answer(&socket, &mut state);
                }
            }
        });
        Ok(server)
    }

    fn port(&self) -> std::io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    fn was_asked(&self) -> bool {
        !lock(&self.state).held.is_empty()
    }

    fn fall_silent(&self) {
        lock(&self.state).answers = false;
    }

    /// Answers from now on, what it was asked before as well.
    fn speak(&self) {
        let mut state = lock(&self.state);
        state.answers = true;
        answer(&self.socket, &mut state);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let to_itself = self.socket.local_addr().and_then(|address| self.socket.send_to(&[], address));
        drop(to_itself);
    }
}

fn answer(socket: &UdpSocket, state: &mut State) {
    for (query, from) in state.held.drain(..) {
        // Who asks notices what is missing.
        let _ = answer_to(&query).map(|answer| socket.send_to(&answer, from));
    }
}

/// The message that answers a query (RFC 1035, section 4): of a name it knows IPv4 addresses only.
fn answer_to(query: &[u8]) -> Option<Vec<u8>> {
    let mut end = 12;
    loop {
        let label = usize::from(*query.get(end)?);
        end += label + 1;
        if label == 0 {
            break;
        }
    }
    let question = query.get(12..end + 4)?;
    let is_for_ipv4 = question.get(question.len() - 4..)? == [0, 1, 0, 1];
    let mut answer =
        [query.get(..2)?, &[0x81, 0x80, 0, 1, 0, u8::from(is_for_ipv4), 0, 0, 0, 0], question].concat();
    if is_for_ipv4 {
        // The name of the question, A, IN, for 60 seconds.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

/// A program that runs Envoy with this name server alone, which it asks so many times before it gives up.
fn envoy_asking(site: &Site, port: u16, tries: u32) -> std::io::Result<std::path::PathBuf> {
    let envoy = std::env::var("ENVOY").unwrap_or_else(|_| "envoy".to_owned());
    let resolver = format!(
        "{{typed_dns_resolver_config: {{name: envoy.network.dns_resolver.cares, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, \
         resolvers: [{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}], \
         query_timeout_seconds: 2, query_tries: {tries}}}}}}}"
    );
    let file = site.temporary().with_file_name("envoy-asking");
    std::fs::write(&file, format!("#!/bin/sh\nexec '{envoy}' \"$@\" --config-yaml '{resolver}'\n"))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

fn named(port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: named}}\nspec: {{type: ExternalName, externalName: \
         api.partner.example, ports: [{{port: 80, targetPort: {port}}}]}}\n"
    )
}

/// What is served, and the name server that Envoy asks.
fn serve(tries: u32, manifests: impl Fn(&Site) -> String) -> Result<(Served, NameServer), String> {
    let io = |error: std::io::Error| error.to_string();
    let server = NameServer::start().map_err(io)?;
    let site = Site::new(&[Backend::new("web", 1), Backend::new("far", 1)], &BTreeMap::new()).map_err(io)?;
    site.write("site.yaml", &manifests(&site)).map_err(io)?;
    let envoy = envoy_asking(&site, server.port().map_err(io)?, tries).map_err(io)?;
    let arguments = [OsStr::new("--envoy"), envoy.as_os_str()];
    let product = Product::start_with(&binary()?, &site.manifests(), &site.temporary(), &arguments)?;
    Ok((Served { product, site }, server))
}

fn change(served: &Served, text: &str) -> Result<(), String> {
    let mark = served.product.stdout_mark();
    served.site.write("site.yaml", text).map_err(|error| error.to_string())?;
    served.product.wait_stdout(mark, "reloaded", SOON).map(drop)
}

/// Two hosts, one of which leads to the name.
fn hosts(site: &Site) -> String {
    let port = site.servers("far")[0].address().port();
    [named(port), ingress("web", "web", &[]), ingress("far", "named", &[])].concat()
}

pub fn silent_name_server_holds_up_no_start() -> Result<(), String> {
    // It gives up later than anybody waits for a start.
    let (served, server) = serve(100, hosts)?;
    assert!(server.was_asked(), "Envoy has asked for the name");
    expect_status(&served.get("web.example", "/")?, 200, "a Service with addresses")?;
    expect_status(&served.get("far.example", "/")?, 503, "a Service whose name nobody knows")?;
    let more = [hosts(&served.site), ingress("more", "web", &[])].concat();
    change(&served, &more)?;
    expect_status(&served.get("more.example", "/")?, 200, "a host that was added meanwhile")?;
    server.speak();
    let answers = || served.get("far.example", "/").is_ok_and(|response| response.status == 200);
    eventually("an answer of the backend with the name", SOON, answers)
}

pub fn changed_cluster_with_a_name_loses_no_request() -> Result<(), String> {
    let (served, server) = serve(1, hosts)?;
    server.speak();
    let answers = || served.get("far.example", "/").is_ok_and(|response| response.status == 200);
    eventually("an answer of the backend with the name", SOON, answers)?;
    let with = |annotation: &str| {
        hosts(&served.site).replace("name: far\n", &format!("name: far\n  annotations: {{{annotation}}}\n"))
    };
    // A cluster of another name, then the same one with other settings.
    let changes = [
        "nginx.ingress.kubernetes.io/proxy-connect-timeout: \"11\"",
        "nginx.ingress.kubernetes.io/load-balance: ewma",
        "nginx.ingress.kubernetes.io/load-balance: round_robin",
    ];
    without_a_failed_request(&served, &["far.example"], || {
        changes.iter().try_for_each(|annotation| change(&served, &with(annotation)))
    })?;
    // One whose name server has fallen silent holds the others up for no longer than Envoy waits for it.
    server.fall_silent();
    change(&served, &[with(changes[0]), ingress("more", "web", &[])].concat())?;
    expect_status(&served.get("more.example", "/")?, 200, "a host that was added meanwhile")
}
