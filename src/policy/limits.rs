//! Whether a request has to be counted, and what becomes of it when it has been.

use super::Facts;
use super::reply::page;
use crate::decision::{Admission, Count, Reply};
use crate::limits::Key;
use crate::router::{CompiledLimits, RoutingTable, Selected};

/// What limits say of a request.
pub enum Verdict {
    /// It may go on.
    Passed,
    /// It is to be counted first.
    Count(Count),
    /// It is one too many.
    Refused(Reply<'static>),
}

/// Looks at the limits of a rule. A client and an Ingress have one budget over all hosts and paths.
pub fn check(
    limits: &CompiledLimits,
    table: &RoutingTable,
    facts: &Facts<'_>,
    selected: &Selected<'_>,
) -> Verdict {
    match facts.admission {
        Some(Admission::Admitted) => return Verdict::Passed,
        Some(Admission::TooFast) => return Verdict::Refused(page(table.rate_status, "rate_limit")),
        Some(Admission::TooMany) => {
            return Verdict::Refused(page(table.connection_status, "connection_limit"));
        }
        None => {}
    }
    let ip = facts.client.ip();
    if ip.is_some_and(|ip| limits.exempt.contains(ip)) {
        return Verdict::Passed;
    }
    Verdict::Count(Count {
        key: Key::new(&selected.rule.ingress, ip.ok_or(&facts.client.address)),
        rates: limits.rates,
        connections: limits.connections,
    })
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use crate::decision::{Admission, CalloutAnswer, Connection, Decision, HeaderLine, RequestView, Scheme};
    use crate::policy::{State, counted, decide, resume};
    use crate::router::RoutingTable;

    const CONFIG: &str = r#"{"version":1,"global":{"rateStatus":429,"connectionStatus":430},
        "credentials":{"n/u":{"users":{}}},
        "policies":[{"limits":{"perMinute":60,"perMinuteBurst":2,"connections":3,"exempt":["10.0.0.0/8"]},
            "basicAuth":{"credentials":"n/u"}}],
        "hosts":[{"name":"a","rules":[
            {"ingress":"n/i","path":"/","policies":0,"action":{"forward":{"cluster":"c"}}},
            {"ingress":"n/i","path":"/b","policies":0,"action":{"forward":{"cluster":"c"}}},
            {"ingress":"n/j","path":"/other","policies":0,"action":{"forward":{"cluster":"c"}}}]}]}"#;

    fn with_request<T>(path: &str, peer: &str, then: impl FnOnce(&RoutingTable, &RequestView<'_>) -> T) -> T {
        let config = crate::config::from_slice(CONFIG.as_bytes()).expect("reads");
        let table = crate::router::compile(config).expect("compiles");
        let headers: [HeaderLine<'_>; 3] =
            [(b":method", b"GET"), (b":path", path.as_bytes()), (b":authority", b"a")];
        let connection = Connection { scheme: Scheme::Http, port: 80, peer: peer.as_bytes() };
        then(&table, &RequestView { headers: &headers, connection, now_ms: 0, random: 0 })
    }

    fn state() -> State {
        State::new([0; 32])
    }

    #[test]
    fn a_client_is_counted_per_ingress() {
        let key = |path, peer| {
            with_request(path, peer, |table, request| match decide(table, request, &mut state()) {
                Decision::Count(count) => {
                    assert_eq!(
                        count.rates.map(|rate| rate.map(|r| (r.per_second, r.burst)))[1],
                        Some((1000, 2000))
                    );
                    assert_eq!((count.rates[0], count.connections), (None, Some(3)));
                    Some(count.key)
                }
                _ => None,
            })
        };
        assert!(key("/", "192.0.2.1").is_some());
        assert_eq!(key("/", "192.0.2.1"), key("/b", "192.0.2.1"));
        assert_ne!(key("/", "192.0.2.1"), key("/other", "192.0.2.1"));
        assert_ne!(key("/", "192.0.2.1"), key("/", "192.0.2.2"));
        assert_eq!(key("/", "10.1.1.1"), None);
    }

    #[test]
    fn counting_goes_before_credentials_and_happens_once() {
        let cases = [(Admission::Admitted, 401), (Admission::TooFast, 429), (Admission::TooMany, 430)];
        for (admission, status) in cases {
            with_request("/", "192.0.2.1", |table, request| {
                match counted(table, request, admission, &mut state()) {
                    Decision::Reply(reply) => assert_eq!(reply.status, status, "{admission:?}"),
                    other => panic!("{admission:?}: {other:?}"),
                }
            });
        }
        with_request("/", "192.0.2.1", |table, request| {
            let decision = resume(table, request, &CalloutAnswer::Unreachable, &mut state());
            assert!(matches!(decision, Decision::Reply(_)), "{decision:?}");
        });
    }
}
