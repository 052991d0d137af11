use std::sync::Arc;

use ingress_wasm::config::{Host, PathMatching, PluginConfig};

use super::*;

fn certificate(secret: &str, names: &[&str]) -> Arc<Certificate> {
    Arc::new(Certificate {
        secret: ObjectName::new("n", secret),
        chain: "chain".to_owned(),
        key: "PRIVATE KEY".to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    })
}

fn plan(
    hosts: &[(&str, Option<Arc<Certificate>>)],
    default: &[&str],
    served: &[&str],
    reject: bool,
) -> TlsPlan {
    let host = |name: &&str| Host {
        name: (*name).to_owned(),
        path_matching: PathMatching::Elements,
        app_root: None,
        tls: false,
        aliases: Vec::new(),
        redirect_to: None,
        script: None,
        locations: Vec::new(),
        client_certificate: None,
        rules: Vec::new(),
    };
    let config = PluginConfig {
        version: ingress_wasm::config::SCHEMA_VERSION,
        generation: "g".to_owned(),
        global: Default::default(),
        credentials: BTreeMap::new(),
        api_keys: BTreeMap::new(),
        balancing: Vec::new(),
        policies: Vec::new(),
        hosts: served.iter().map(host).collect(),
        parts: Vec::new(),
        part: None,
    };
    TlsPlan::new(&Translation {
        config,
        clusters: BTreeMap::new(),
        route_profiles: BTreeMap::new(),
        default_profile: Default::default(),
        passed_headers: <_>::default(),
        certificates: hosts
            .iter()
            .map(|(host, certificate)| ((*host).to_owned(), certificate.clone()))
            .collect(),
        default_certificate: (!default.is_empty()).then(|| certificate("default", default)),
        client_authorities: Default::default(),
        passthrough: <_>::default(),
        host_ciphers: <_>::default(),
        transports: Default::default(),
        tls: TlsSettings { reject_unknown: reject, ..TlsSettings::default() },
        connections: Default::default(),
        diagnostics: Vec::new(),
        rejected: Vec::new(),
    })
}

fn managers() -> Managers {
    let named = |name: &str| listener::Filter { name: name.to_owned(), ..listener::Filter::default() };
    Managers { plain: named("plain"), asking: named("asking") }
}

/// Two names of Secrets that share a chain, and one that does not.
fn neighbours() -> (String, String, String) {
    let bucket_of = |name: &str| bucket(&ObjectName::new("n", name));
    let names: Vec<String> = (0..200).map(|number| format!("s{number}")).collect();
    let first = names[0].clone();
    let second = names[1..].iter().find(|name| bucket_of(name) == bucket_of(&first)).expect("few chains");
    let third = names[1..].iter().find(|name| bucket_of(name) != bucket_of(&first)).expect("many chains");
    (first, second.clone(), third.clone())
}

#[test]
fn secrets_share_a_chain_only_where_their_names_cannot_mislead() {
    let (one, two, far) = neighbours();
    type Names<'a> = &'a [&'a str];
    // Names in the first certificate and its host, those of its neighbour and its host, those of the default
    // certificate, and whether each of the two shares.
    type Case<'a> = (&'a str, Names<'a>, &'a str, Names<'a>, &'a str, Names<'a>, (bool, bool));
    let cases: &[Case<'_>] = &[
        ("different names", &["a.x"], "a.x", &["b.x"], "b.x", &[], (true, true)),
        ("the neighbour has the name too", &["a.x"], "a.x", &["b.x", "a.x"], "b.x", &[], (false, true)),
        ("both by the same wildcard", &["*.x"], "a.x", &["*.x"], "b.x", &[], (false, false)),
        ("a wildcard beside a whole name", &["a.x"], "a.x", &["*.x"], "b.x", &[], (true, true)),
        ("a wildcard host over a whole name", &["a.x"], "a.x", &["*.x"], "*.x", &[], (true, false)),
        (
            "a wildcard, and its host by name elsewhere",
            &["*.x"],
            "a.x",
            &["a.x", "b.x"],
            "b.x",
            &[],
            (false, true),
        ),
        ("the default certificate has the name", &["a.x"], "a.x", &["b.x"], "b.x", &["a.x"], (false, true)),
        (
            "the default certificate has the wildcard",
            &["*.x"],
            "a.x",
            &["b.x"],
            "b.x",
            &["*.x"],
            (false, true),
        ),
    ];
    for (what, names, host, other_names, other_host, default, (first, second)) in cases {
        let hosts =
            [(*host, Some(certificate(&one, names))), (*other_host, Some(certificate(&two, other_names)))];
        let plan = plan(&hosts, default, &[], false);
        let shares = |host: &str| plan.hosts[host].starts_with("shared-");
        assert_eq!((shares(host), shares(other_host)), (*first, *second), "{what}: {plan:?}");
    }
    let apart = plan(
        &[("a.x", Some(certificate(&one, &["*.x"]))), ("b.x", Some(certificate(&far, &["*.x"])))],
        &[],
        &[],
        false,
    );
    assert!(apart.hosts.values().all(|chain| chain.starts_with("shared-")), "{apart:?}");
}

#[test]
fn a_secret_that_comes_changes_no_other_chain() {
    let (one, two, far) = neighbours();
    let encoded = |plan: &TlsPlan| -> BTreeMap<String, Vec<u8>> {
        let chains = plan.filter_chains(&managers(), true);
        chains.into_iter().map(|chain| (chain.name.clone(), prost::Message::encode_to_vec(&chain))).collect()
    };
    let base = [("a.x", Some(certificate(&one, &["a.x"])))];
    let before = encoded(&plan(&base, &[], &[], false));
    for (what, secret, changed) in [("another chain", &far, 0), ("the same chain", &two, 1)] {
        let hosts = [base[0].clone(), ("b.x", Some(certificate(secret, &["b.x"])))];
        let after = encoded(&plan(&hosts, &[], &[], false));
        let differing = before.iter().filter(|(name, bytes)| after.get(*name) != Some(bytes)).count();
        assert_eq!(differing, changed, "{what}");
    }
    let renewed = [("a.x", Some(certificate(&one, &["a.x", "more.x"])))];
    assert_eq!(plan(&base, &[], &[], false), plan(&renewed, &[], &[], false));
}

#[test]
fn server_names_lead_to_chains() {
    let own = Some(certificate("own", &["*.x"]));
    let hosts = [("*.x", own), ("plain.x", None)];
    let chains = |reject| {
        let plan = plan(&hosts, &[], &["*", "*.x", "plain.x", "below.x", "bare.y"], reject);
        let leads = |host: &str| plan.hosts.get(host).map(String::as_str);
        let found = ["plain.x", "below.x", "bare.y"].map(|host| leads(host).map(str::to_owned));
        let matcher = format!("{:?}", plan.matcher());
        (found, matcher.contains("[^.]+\\\\.x"), plan.matcher().on_no_match.is_some())
    };
    let default = || Some(DEFAULT_CHAIN.to_owned());
    assert_eq!(chains(false), ([default(), None, None], true, true));
    assert_eq!(chains(true), ([default(), None, default()], true, true));
    let empty = plan(&[], &[], &[], false).matcher();
    assert!(empty.on_no_match.is_some() && empty.matcher_type.is_none(), "{empty:?}");
}

#[test]
fn keys_are_not_in_a_plan() {
    let plan = plan(&[("a.x", Some(certificate("own", &["a.x"])))], &["b.x"], &[], false);
    assert!(!format!("{plan:?}").contains("KEY"), "{plan:?}");
}

/// Of a chain that is as it was, Envoy keeps what it made, whether it could be used or not.
#[test]
fn chains_with_what_was_refused_are_others() {
    let chain = |name: &str, secret: &str| listener::FilterChain {
        name: name.to_owned(),
        filters: vec![listener::Filter { name: secret.to_owned(), ..listener::Filter::default() }],
        ..listener::FilterChain::default()
    };
    let before = listener::Listener {
        filter_chains: vec![chain("one", "n/a"), chain("two", "n/b")],
        ..listener::Listener::default()
    };
    let marked = |count: u32| {
        let mut after = before.clone();
        let refusals = [("n/a".to_owned(), count)].into_iter().filter(|(_, count)| *count > 0).collect();
        super::super::resources::mark(&mut after, &refusals);
        after.filter_chains
    };
    assert_eq!(marked(0), before.filter_chains);
    assert_ne!(marked(1)[0], before.filter_chains[0]);
    assert_ne!(marked(1)[0], marked(2)[0], "refused again");
    assert_eq!(marked(1)[1], before.filter_chains[1], "others stay");
}
