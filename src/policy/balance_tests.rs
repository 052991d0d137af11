//! Which Service, which hash and which cookie: whole decisions, with and without what divides requests.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::decision::{
    CLUSTER_HEADER, Connection, HeaderLine, PROFILE_HEADER, Scheme, SessionPlan, SplitBy, apply_edits,
};
use crate::router::compile;

fn table(balancing: &Value) -> RoutingTable {
    let text = json!({
        "version": 1,
        "policies": [{}],
        "balancing": [balancing],
        "hosts": [{"name": "h", "rules": [{"ingress": "n/i", "path": "/shop", "policies": 0,
            "action": {"forward": {"cluster": "main", "service": "n/s:80", "balancing": 0}}}]}],
    })
    .to_string();
    let config = crate::config::from_slice(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    compile(config).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Where a request goes, what decided, the hash and the cookies of the answer.
struct Decided {
    cluster: String,
    by: Option<SplitBy>,
    hash: Option<String>,
    cookies: Vec<String>,
    /// The endpoint that Envoy is told, as text.
    endpoint: Option<String>,
    profile: Option<String>,
    session: Option<SessionPlan>,
}

fn decided(table: &RoutingTable, scheme: Scheme, lines: &[(&str, &str)], random: u128) -> Decided {
    let mut headers: Vec<HeaderLine<'_>> =
        vec![(b":method", b"GET"), (b":path", b"/shop/x?y"), (b":authority", b"h")];
    headers.extend(lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    let connection = Connection { scheme, port: 80, peer: b"10.0.0.9" };
    let request = RequestView { headers: &headers, connection, now_ms: 1_700_000_000_000, random };
    let decision = decide(table, &request, &mut State::new([0; 32]));
    let Decision::Forward(forward) = decision else { panic!("{lines:?}: {decision:?}") };
    let sent = apply_edits(&headers, &forward.edits);
    let value = |name: &str| {
        let line = sent.iter().find(|line| *line.0 == *name.as_bytes())?;
        Some(String::from_utf8_lossy(line.1).into_owned())
    };
    let cookies = forward.on_response.iter().filter_map(|edit| match edit {
        Edit::Add(name, value) if name == "set-cookie" => Some(String::from_utf8_lossy(value).into_owned()),
        _ => None,
    });
    Decided {
        cluster: value(CLUSTER_HEADER).unwrap_or_default(),
        by: forward.split.map(|split| split.by),
        hash: value(HASH_HEADER),
        cookies: cookies.collect(),
        endpoint: value(ENDPOINT_HEADER)
            .map(|text| String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()),
        profile: value(PROFILE_HEADER),
        session: forward.session,
    }
}

fn canary(rules: &Value) -> Value {
    let mut canary = json!({"ingress": "n/c", "service": "n/d:80", "cluster": "canary"});
    canary.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
    json!({"canary": canary})
}

#[test]
fn header_cookie_and_weight_in_this_order() {
    use SplitBy::{Cookie, Header, Weight};
    let words = json!({"header": "X-Canary", "cookie": "try"});
    let value = json!({"header": "X-Canary", "headerValue": "yes", "headerPattern": ".", "cookie": "try"});
    let pattern = json!({"header": "x-canary", "headerPattern": "beta|rc[0-9]", "weight": 100});
    let broken = json!({"header": "x-canary", "headerPattern": "(", "cookie": "try", "weight": 100});
    let weight = json!({"cookie": "try", "weight": 100});
    type Case<'a> = (&'a Value, &'a [(&'a str, &'a str)], &'a str, SplitBy);
    let cases: [Case<'_>; 21] = [
        (&words, &[], "main", Weight),
        (&words, &[("x-canary", "always")], "canary", Header),
        (&words, &[("x-canary", "Always")], "main", Weight),
        (&words, &[("x-canary", "never"), ("cookie", "try=always")], "main", Header),
        (&words, &[("x-canary", "other"), ("cookie", "try=always")], "canary", Cookie),
        (&words, &[("x-canary", "always"), ("x-canary", "always")], "main", Weight),
        (&words, &[("cookie", "a=1; TRY=always")], "canary", Cookie),
        (&words, &[("cookie", "a=1"), ("cookie", "try=always; try=never")], "canary", Cookie),
        (&words, &[("cookie", "try=1")], "main", Weight),
        (&words, &[("cookie", "tryx=always; xtry=always")], "main", Weight),
        (&value, &[("x-canary", "yes")], "canary", Header),
        (&value, &[("x-canary", "always")], "main", Weight),
        (&value, &[("x-canary", "never"), ("cookie", "try=always")], "canary", Cookie),
        (&pattern, &[("x-canary", "a-beta")], "canary", Header),
        (&pattern, &[("x-canary", "RC1")], "canary", Weight),
        (&broken, &[("x-canary", "("), ("cookie", "try=always")], "main", Header),
        (&broken, &[("cookie", "try=never")], "main", Cookie),
        (&broken, &[], "canary", Weight),
        (&weight, &[("x-canary", "never")], "canary", Weight),
        (&weight, &[("cookie", "try=never")], "main", Cookie),
        (&weight, &[], "canary", Weight),
    ];
    for (rules, lines, cluster, by) in cases {
        let decided = decided(&table(&canary(rules)), Scheme::Http, lines, 7);
        assert_eq!((decided.cluster.as_str(), decided.by), (cluster, Some(by)), "{rules} {lines:?}");
        assert_eq!(decided.hash, None, "{rules} {lines:?}");
    }
}

#[test]
fn weights_are_shares() {
    for (weight, total) in [(0, 100), (20, 100), (1, 3), (30, 200), (100, 100), (7, 5)] {
        let table = table(&canary(&json!({"weight": weight, "weightTotal": total})));
        let chosen = (0..1000).filter(|n| decided(&table, Scheme::Http, &[], *n).cluster == "canary").count();
        let expected = (1000 * weight / total).min(1000);
        let slack = if weight == 0 || weight >= total { 0 } else { 50 };
        assert!(chosen.abs_diff(expected) <= slack, "{weight} of {total}: {chosen} of 1000");
    }
}

#[test]
fn a_client_stays_where_its_cookie_binds_it() {
    let affinity = |key: &str| json!({"cookie": "s", "key": key, "setsCookie": true});
    let mut balancing = canary(&json!({"weight": 100, "affinity": affinity("bbb"), "header": "x"}));
    balancing["affinity"] = affinity("aaa");
    let table = table(&balancing);
    let cases: [(&str, &str, SplitBy, bool); 9] = [
        ("", "canary", SplitBy::Weight, true),
        ("s=k|aaa", "main", SplitBy::Affinity, false),
        ("s=k|bbb", "canary", SplitBy::Affinity, false),
        ("s=k", "canary", SplitBy::Weight, false),
        ("s=k|ccc", "canary", SplitBy::Weight, false),
        ("S=k|aaa", "canary", SplitBy::Weight, true),
        ("s=1|bbb; s=k|aaa", "main", SplitBy::Affinity, false),
        ("s=k|aaa ; x=1", "main", SplitBy::Affinity, false),
        ("s=; x=1", "canary", SplitBy::Weight, true),
    ];
    let mut hashes = Vec::new();
    for (cookie, cluster, by, sets) in cases {
        // The canary's header counts for clients that are bound to neither.
        let lines = if cookie.is_empty() { vec![] } else { vec![("cookie", cookie)] };
        let decided = decided(&table, Scheme::Http, &lines, 7);
        assert_eq!((decided.cluster.as_str(), decided.by), (cluster, Some(by)), "{cookie}");
        assert_eq!(!decided.cookies.is_empty(), sets, "{cookie}: {:?}", decided.cookies);
        assert!(decided.cookies.iter().all(|set| set.contains("|bbb; Path=/shop; HttpOnly")), "{cookie}");
        let hash = decided.hash.unwrap_or_else(|| panic!("{cookie}: no hash"));
        if cookie.contains("s=k") {
            hashes.push(hash);
        }
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "the same text is the same endpoint: {hashes:?}");
    let bound = [("cookie", "s=k|aaa"), ("x", "always")];
    assert_eq!(decided(&table, Scheme::Http, &bound, 7).cluster, "main");
}

#[test]
fn the_cookie_that_is_set_leads_back() {
    let table = table(&json!({"affinity": {"cookie": "s", "key": "aaa", "setsCookie": true}}));
    let first = decided(&table, Scheme::Http, &[], 7);
    let cookie =
        first.cookies.first().and_then(|cookie| cookie.split(';').next()).expect("is set").to_owned();
    let second = decided(&table, Scheme::Http, &[("cookie", &cookie)], 8);
    assert_eq!((second.hash, second.cookies.len()), (first.hash.clone(), 0), "{cookie}");
    let other = decided(&table, Scheme::Http, &[], 8);
    assert!(other.cookies != first.cookies && other.hash != first.hash, "each client has a text of its own");
}

/// An affinity whose cookies may hold endpoints.
fn with_endpoints(persistent: bool, change_on_failure: bool, sets_cookie: bool) -> RoutingTable {
    table(
        &json!({"affinity": {"cookie": "s", "key": "aaa", "setsCookie": sets_cookie, "persistent": persistent,
        "changeOnFailure": change_on_failure, "endpointSecret": "secret"}}),
    )
}

/// The cookie of an answer: `endpoint` is the one of which Envoy tells, as text.
fn answered(decided: &Decided, endpoint: Option<&str>, failed: bool) -> Option<String> {
    let told = endpoint.map(|endpoint| STANDARD.encode(endpoint).into_bytes());
    let cookie = session_cookie(decided.session.as_ref()?, told.as_deref(), || failed)?;
    Some(String::from_utf8(cookie).unwrap())
}

fn pair(cookie: &str) -> &str {
    cookie.split(';').next().unwrap()
}

#[test]
fn a_persistent_session_stays_until_its_endpoint_is_gone() {
    let (one, other) = ("10.1.2.3:8080", "[2001:db8::7]:80");
    for change_on_failure in [false, true] {
        let table = with_endpoints(true, change_on_failure, true);
        let first = decided(&table, Scheme::Http, &[], 7);
        assert_eq!((&first.hash, &first.endpoint, &first.cookies), (&None, &None, &vec![]));
        assert_eq!(first.profile.as_deref(), Some("+session"));
        let cookie = answered(&first, Some(one), false).expect("a client without a cookie gets one");
        assert!(cookie.ends_with("|aaa; Path=/shop; HttpOnly"), "{cookie}");
        assert!(!cookie.contains("10.1.2.3") && !cookie.contains(&STANDARD.encode(one)), "{cookie}");
        assert_eq!(
            answered(&first, Some(one), true),
            Some(cookie.clone()),
            "nobody is bound to one that failed"
        );
        assert_eq!(answered(&first, None, false), None, "no endpoint, no cookie");

        let bound = decided(&table, Scheme::Http, &[("cookie", pair(&cookie))], 8);
        assert_eq!((bound.endpoint.as_deref(), bound.profile.as_deref()), (Some(one), Some("+session")));
        assert_eq!(answered(&bound, None, false), None, "the same one has answered");
        let gone = answered(&bound, Some(other), false).expect("the endpoint is gone");
        let moved = decided(&table, Scheme::Http, &[("cookie", pair(&gone))], 9);
        assert_eq!(moved.endpoint.as_deref(), Some(other));
        assert_eq!(answered(&bound, Some(other), true).is_some(), change_on_failure);

        for foreign in ["s=5a1b9b8b3f1d4c3f9d0f6a1b2c3d4e5f|aaa", "s=k|aaa", "s=|", "s=10.1.2.3:8080|aaa"] {
            let decided = decided(&table, Scheme::Http, &[("cookie", foreign)], 7);
            assert_eq!(decided.endpoint, None, "{foreign}");
            assert!(answered(&decided, Some(one), false).is_some(), "{foreign}");
        }
    }
}

#[test]
fn a_balanced_session_changes_on_failure() {
    let table = with_endpoints(false, true, true);
    let first = decided(&table, Scheme::Http, &[], 7);
    assert_eq!((first.hash.is_some(), &first.endpoint, &first.cookies), (true, &None, &vec![]));
    let usual = answered(&first, Some("10.0.0.1:80"), false).expect("a client without a cookie gets one");
    let bound = decided(&table, Scheme::Http, &[("cookie", pair(&usual))], 8);
    assert_eq!((&bound.hash, &bound.endpoint), (&first.hash, &None), "{usual}");
    assert_eq!(answered(&bound, Some("10.0.0.1:80"), false), None);
    for decided_before in [&first, &bound] {
        let cookie = answered(decided_before, Some("10.0.0.2:80"), true).expect("the cookie changes");
        let moved = decided(&table, Scheme::Http, &[("cookie", pair(&cookie))], 9);
        assert_eq!(moved.endpoint.as_deref(), Some("10.0.0.2:80"));
        assert!(moved.hash.is_some(), "where that is gone, a hash chooses");
        assert_eq!(answered(&moved, None, false), None);
    }
}

#[test]
fn a_rule_that_sets_no_cookie_reads_the_endpoint() {
    let cookie = answered(
        &decided(&with_endpoints(true, false, true), Scheme::Http, &[], 7),
        Some("10.0.0.1:80"),
        false,
    );
    let table = with_endpoints(true, false, false);
    let lines = [("cookie", pair(cookie.as_deref().unwrap()))];
    let bound = decided(&table, Scheme::Http, &lines, 7);
    assert_eq!((bound.endpoint.as_deref(), bound.session), (Some("10.0.0.1:80"), None));
    let free = decided(&table, Scheme::Http, &[], 7);
    assert_eq!((free.endpoint, free.session, free.profile), (None, None, None));
}

#[test]
fn attributes_of_the_cookie() {
    let base = json!({"cookie": "s", "key": "k", "setsCookie": true});
    let with = |fields: Value| {
        let mut affinity = base.clone();
        affinity.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        affinity
    };
    let none = with(json!({"sameSite": "None", "conditionalSameSiteNone": true}));
    let all =
        with(json!({"expires": 10, "maxAge": 20, "domain": "d.example", "path": "/p", "sameSite": "Lax"}));
    let (http, https) = (Scheme::Http, Scheme::Https);
    let cases = [
        (&base, http, "", "; Path=/shop; HttpOnly"),
        (&base, https, "", "; Path=/shop; Secure; HttpOnly"),
        (&with(json!({"secure": true})), http, "", "; Path=/shop; Secure; HttpOnly"),
        (&none, http, "curl", "; Path=/shop; HttpOnly; SameSite=None"),
        (&none, http, "Chrome/51", "; Path=/shop; HttpOnly"),
        (&with(json!({"sameSite": "None"})), http, "Chrome/51", "; Path=/shop; HttpOnly; SameSite=None"),
        (
            &all,
            http,
            "",
            "; Expires=Tue, 14-Nov-23 22:13:30 GMT; Max-Age=20; Domain=d.example; Path=/p; HttpOnly; SameSite=Lax",
        ),
    ];
    for (affinity, scheme, agent, expected) in cases {
        let table = table(&json!({"affinity": affinity}));
        assert_eq!(table.needs_clock(), affinity.get("expires").is_some(), "{affinity}");
        let decided = decided(&table, scheme, &[("user-agent", agent)], 7);
        let (value, attributes) = decided.cookies[0].split_at(decided.cookies[0].find(';').unwrap());
        assert_eq!(attributes, expected, "{affinity} {agent}");
        assert!(value.starts_with("s=") && value.ends_with("|k") && value.len() == 20, "{value}");
    }
    let silent = table(&json!({"affinity": {"cookie": "s", "key": "k"}}));
    let silent = decided(&silent, Scheme::Http, &[], 7);
    assert!(silent.cookies.is_empty() && silent.hash.is_some(), "only read: an endpoint by chance");
}

#[test]
fn the_same_value_has_the_same_hash() {
    let one = table(&json!({"hashBy": {"value": "$http_x_user"}}));
    let hash = |user| decided(&one, Scheme::Http, &[("x-user", user)], 7).hash;
    assert_eq!(hash("ann"), hash("ann"));
    assert_ne!(hash("ann"), hash("bob"));
    assert!(decided(&one, Scheme::Http, &[], 7).hash.is_some(), "no value is a value");
    let parts = table(&json!({"hashBy": {"value": "$http_x_user", "subsets": ["p0", "p1", "p2"]}}));
    let mut found: Vec<String> = (0..60)
        .map(|user| {
            let user = user.to_string();
            let first = decided(&parts, Scheme::Http, &[("x-user", &user)], 7);
            assert_eq!(
                first.cluster,
                decided(&parts, Scheme::Http, &[("x-user", &user)], 8).cluster,
                "{user}"
            );
            assert_eq!(first.hash, None, "{user}: endpoints of a part take turns");
            first.cluster
        })
        .collect();
    found.sort();
    found.dedup();
    assert_eq!(found, ["p0", "p1", "p2"]);
}
