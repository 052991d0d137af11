//! How requests are divided, as far as no single case can say it: endpoints that come and go, and what copies
//! have in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ingress_wasm_echo::wire;
use ingress_wasm_tests::client::WireRequest;
use ingress_wasm_tests::site::Backend;

use crate::support::{SOON, Served, answered, eventually, expect_status, ingress, serve, serve_files};

/// A Service without a selector, and slices for some of the endpoints of the backend `pool`.
fn slices(service: &str, served: &Served, endpoints: &[usize]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {service}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    );
    for endpoint in endpoints {
        let address = served.site.servers("pool")[*endpoint].address();
        text.push_str(&format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-{endpoint}\n  labels: \
             {{kubernetes.io/service-name: {service}}}\naddressType: IPv4\nports: [{{port: {}}}]\nendpoints: \
             [{{addresses: [{}]}}]\n",
            address.port(),
            address.ip(),
        ));
    }
    text
}

fn change(served: &Served, name: &str, text: &str) -> Result<(), String> {
    let mark = served.product.stdout_mark();
    served.site.write(name, text).map_err(|error| error.to_string())?;
    served.product.wait_stdout(mark, "reloaded", SOON).map(drop)
}

/// The endpoint that answers a client with this cookie, and the cookie that the answer sets.
fn endpoint(served: &Served, cookie: Option<&str>) -> Result<(String, Option<String>), String> {
    let mut request = WireRequest::new("GET", "shop.example", "/");
    if let Some(cookie) = cookie {
        request = request.header("Cookie", cookie);
    }
    let response = served.send(&request)?;
    expect_status(&response, 200, "shop.example")?;
    let who = response.header(ingress_wasm_echo::BACKEND_HEADER).unwrap_or_default();
    // `SERVICE/ENDPOINT/SERIAL`
    let who = who.rsplit_once('/').map_or(who.clone(), |(endpoint, _)| endpoint.to_owned());
    let set = response.header("Set-Cookie");
    Ok((who, set.and_then(|set| set.split(';').next().map(str::to_owned))))
}

pub fn affinity_keeps_clients_when_an_endpoint_comes() -> Result<(), String> {
    let served = serve(&[Backend::new("pool", 4)], &ingress("shop", "shop", &[("affinity", "cookie")]))?;
    change(&served, "shop.yaml", &slices("shop", &served, &[0, 1, 2]))?;
    let mut clients = BTreeMap::new();
    while clients.len() < 60 {
        let (endpoint, cookie) = endpoint(&served, None)?;
        clients.insert(cookie.ok_or("a client without a cookie gets one")?, endpoint);
    }
    let (new, _) = {
        change(&served, "shop.yaml", &slices("shop", &served, &[0, 1, 2, 3]))?;
        let known: Vec<&String> = clients.values().collect();
        let mut found = None;
        eventually("the new endpoint gets clients", SOON, || {
            found = endpoint(&served, None).ok().filter(|(endpoint, _)| !known.contains(&endpoint));
            found.is_some()
        })?;
        found.ok_or("no new endpoint")?
    };
    let (mut moved, mut to_new) = (0, 0);
    for (cookie, before) in &clients {
        let (now, set) = endpoint(&served, Some(cookie))?;
        assert_eq!(set, None, "a client with a cookie keeps it");
        moved += usize::from(now != *before);
        to_new += usize::from(now == new);
    }
    // A quarter moves to the new endpoint. Envoy's ring has a fixed size, so that a few move among the others.
    assert!(to_new > 0 && moved <= clients.len() / 2, "{moved} of {} clients have moved", clients.len());
    Ok(())
}

pub fn persistent_affinity_moves_nobody_who_need_not() -> Result<(), String> {
    let annotations = [("affinity", "cookie"), ("affinity-mode", "persistent")];
    let served = serve(&[Backend::new("pool", 4)], &ingress("shop", "shop", &annotations))?;
    change(&served, "shop.yaml", &slices("shop", &served, &[0, 1, 2]))?;
    let mut clients = BTreeMap::new();
    let mut endpoints = BTreeSet::new();
    // As many clients as it takes for each endpoint to have one.
    for _ in 0..60 {
        let (endpoint, cookie) = endpoint(&served, None)?;
        endpoints.insert(endpoint.clone());
        clients.insert(cookie.ok_or("a client without a cookie gets one")?, endpoint);
    }
    assert_eq!((endpoints.len(), clients.len()), (3, 3), "one cookie for each endpoint: {clients:?}");
    let address = served.site.servers("pool")[0].address().to_string();
    for cookie in clients.keys() {
        assert!(!cookie.contains(&address) && !cookie.contains(&STANDARD.encode(&address)), "{cookie}");
    }
    let stays = |what: &str, expected: &BTreeMap<String, String>| {
        for (cookie, before) in expected {
            let (now, set) = endpoint(&served, Some(cookie))?;
            assert_eq!((&now, set), (before, None), "{what}: {cookie}");
        }
        Ok::<(), String>(())
    };
    stays("nothing has changed", &clients)?;
    change(&served, "shop.yaml", &slices("shop", &served, &[0, 1, 2, 3]))?;
    stays("an endpoint has come", &clients)?;

    change(&served, "shop.yaml", &slices("shop", &served, &[1, 2, 3]))?;
    let (lost, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
        clients.into_iter().partition(|(_, endpoint)| endpoint.ends_with("/0"));
    stays("another endpoint has gone", &kept)?;
    assert_eq!(lost.len(), 1, "{lost:?}");
    for cookie in lost.keys() {
        let (now, set) = endpoint(&served, Some(cookie))?;
        let set = set.ok_or("a client whose endpoint has gone gets another cookie")?;
        stays("the client has moved", &BTreeMap::from([(set, now)]))?;
    }
    // No client tells Envoy where to go, and none hears of it.
    let asked = WireRequest::new("GET", "shop.example", "/")
        .header("X-Ingress-Wasm-Endpoint", &STANDARD.encode("127.0.0.1:1"))
        .header("X-Ingress-Wasm-Profile", "+session");
    let response = served.send(&asked)?;
    expect_status(&response, 200, "with a private header")?;
    assert_eq!(response.header("X-Ingress-Wasm-Endpoint"), None);
    for received in served.site.servers("pool").iter().flat_map(|server| server.received()) {
        let ours =
            |(name, _): &(Vec<u8>, Vec<u8>)| wire::text(name).to_lowercase().starts_with("x-ingress-wasm-");
        assert!(!received.headers.iter().any(ours), "{:?}", received.headers);
    }
    Ok(())
}

pub fn cookie_changes_on_failure_where_it_should() -> Result<(), String> {
    for (mode, change_on_failure) in
        [("balanced", false), ("balanced", true), ("persistent", false), ("persistent", true)]
    {
        let what = format!("{mode}, {change_on_failure}");
        let annotations = [
            ("affinity", "cookie"),
            ("affinity-mode", mode),
            ("session-cookie-change-on-failure", if change_on_failure { "true" } else { "false" }),
        ];
        let served = serve(&[Backend::new("pool", 3)], &ingress("shop", "shop", &annotations))?;
        change(&served, "shop.yaml", &slices("shop", &served, &[0, 1, 2]))?;
        let (before, cookie) = endpoint(&served, None)?;
        let cookie = cookie.ok_or("a client without a cookie gets one")?;
        let failing = before.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
        let server =
            failing.and_then(|number| served.site.servers("pool").get(number)).ok_or("no endpoint")?;
        server.refuse();
        eventually("the endpoint refuses", SOON, || TcpStream::connect(server.address()).is_err())?;
        let (after, set) = endpoint(&served, Some(&cookie))?;
        assert_ne!(after, before, "{what}: another one answers");
        assert_eq!(set.is_some(), change_on_failure, "{what}: {set:?}");
        server.listen().map_err(|error| error.to_string())?;
        let back = || endpoint(&served, Some(&cookie)).is_ok_and(|(endpoint, _)| endpoint == before);
        eventually("the endpoint takes connections again", SOON, back)?;
        if let Some(set) = set {
            // The client stays where it was taken to, although the first one is well again.
            assert_ne!(set, cookie, "{what}");
            assert_eq!(endpoint(&served, Some(&set))?, (after, None), "{what}");
        }
    }
    Ok(())
}

pub fn canary_follows_its_endpoints() -> Result<(), String> {
    let canary = ingress("canary", "next", &[("canary", "true"), ("canary-weight", "100")])
        .replace("host: canary.example", "host: shop.example");
    let served = serve_files(
        &[Backend::new("pool", 2), Backend::new("main", 1)],
        &[("main.yaml", &ingress("shop", "main", &[])), ("canary.yaml", &canary)],
    )?;
    let who = || served.get("shop.example", "/").map(|response| answered(&response));
    assert_eq!(who()?.as_deref(), Some("main"), "without a Service there is no canary");
    change(&served, "next.yaml", &slices("next", &served, &[0]))?;
    assert_eq!(who()?.as_deref(), Some("pool"), "the canary has an endpoint");
    change(&served, "next.yaml", &slices("next", &served, &[]))?;
    assert_eq!(who()?.as_deref(), Some("main"), "the canary has none any more");
    Ok(())
}

pub fn hash_of_a_client_is_not_taken_and_not_passed_on() -> Result<(), String> {
    let manifests = ingress("web", "web", &[("upstream-hash-by", "$request_uri")]);
    let served = serve(&[Backend::new("web", 3)], &manifests)?;
    let mut endpoints = Vec::new();
    for value in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        let request = WireRequest::new("GET", "web.example", "/same").header("X-Ingress-Wasm-Hash", value);
        expect_status(&served.send(&request)?, 200, value)?;
    }
    for (index, server) in served.site.servers("web").iter().enumerate() {
        for received in server.received() {
            endpoints.push(index);
            let names: Vec<_> =
                received.headers.iter().map(|(name, _)| wire::text(name).to_lowercase()).collect();
            assert!(!names.iter().any(|name| name.starts_with("x-ingress-wasm-")), "{names:?}");
        }
    }
    assert_eq!(endpoints.len(), 8);
    endpoints.dedup();
    assert_eq!(endpoints.len(), 1, "the value of the annotation decides, not that of the client");
    Ok(())
}

pub fn mirror_gets_what_it_should() -> Result<(), String> {
    let target = "http://shadow.default.svc$request_uri";
    let plain = ingress("whole", "web", &[("mirror-target", target), ("upstream-hash-by", "$host")]);
    let bare = ingress("bare", "web", &[("mirror-target", target), ("mirror-request-body", "off")]);
    let served = serve(&[Backend::new("web", 1), Backend::new("shadow", 1)], &[plain, bare].concat())?;
    for (host, body) in [("whole.example", "a=1"), ("bare.example", "")] {
        served.site.forget();
        let request = WireRequest::new("POST", host, "/x?y").body(b"a=1".to_vec());
        expect_status(&served.send(&request)?, 200, host)?;
        let shadow = &served.site.servers("shadow")[0];
        eventually("a copy", SOON, || shadow.received().iter().any(|copy| copy.complete))?;
        let copy = shadow.received().remove(0);
        let backend = served.site.servers("web")[0].received().remove(0);
        assert_eq!(wire::text(&copy.target), "/x?y", "{host}");
        assert_eq!(wire::text(&copy.body), body, "{host}");
        let value = |headers: &[(Vec<u8>, Vec<u8>)], name: &str| {
            let found = headers.iter().find(|(found, _)| wire::text(found).eq_ignore_ascii_case(name));
            found.map(|(_, value)| wire::text(value))
        };
        assert_eq!(value(&copy.headers, "host").as_deref(), Some("shadow.default.svc"), "{host}");
        let forwarded = value(&copy.headers, "x-forwarded-for");
        assert!(
            forwarded.is_some() && forwarded == value(&backend.headers, "x-forwarded-for"),
            "{forwarded:?}"
        );
        let names: Vec<_> = copy.headers.iter().map(|(name, _)| wire::text(name).to_lowercase()).collect();
        let ours = |name: &String| name.starts_with("x-ingress-wasm-") || name.starts_with("x-envoy-");
        assert!(!names.iter().any(ours), "{host}: {names:?}");
    }
    Ok(())
}
