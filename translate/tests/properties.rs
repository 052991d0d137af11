//! What holds for all objects: translation depends on nothing but them, never panics, and gives only
//! configurations that the filter takes.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use ingress_wasm::{config, router};
use ingress_wasm_translate::annotations;
use ingress_wasm_translate::manifest::{merge_into, read};
use ingress_wasm_translate::objects::{Object, ObjectName, Snapshot};
use ingress_wasm_translate::output::{Options, Translation};
use ingress_wasm_translate::{Extent, Translator, translate};
use serde::Deserialize;

/// What is used of a conformance case.
#[derive(Deserialize)]
struct Case {
    name: String,
    manifests: String,
    #[serde(default)]
    config: BTreeMap<String, String>,
}

/// The manifests of all golden files and conformance cases, by name; with the Services of the golden files.
fn manifests() -> Vec<(String, String)> {
    let folder = common::tests();
    let text = |path: &std::path::Path| std::fs::read_to_string(path).expect("a file");
    let services = text(&folder.join("golden/services.yaml"));
    let mut all = Vec::new();
    for path in common::files(&folder.join("golden"), "golden") {
        let golden = text(&path);
        let input = golden.split("\n=== ").find_map(|section| section.strip_prefix("input\n"));
        let input = input.unwrap_or_else(|| panic!("{} has no input", path.display()));
        all.push((path.display().to_string(), format!("{services}---\n{input}")));
    }
    for path in common::files(&folder.join("conformance"), "yaml") {
        let cases: Vec<Case> = serde_saphyr::from_str(&text(&path)).expect("cases");
        for Case { name, manifests, config } in cases {
            let data = serde_json::to_string(&config).expect("JSON");
            let map = format!(
                "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ingress-nginx-controller, namespace: \
                 ingress-nginx}}\ndata: {data}\n"
            );
            all.push((name, format!("{manifests}{map}")));
        }
    }
    assert!(all.len() > 60, "only {} sets of manifests are found", all.len());
    all
}

fn objects(text: &str) -> Vec<Object> {
    read(&Arc::from("test.yaml"), text).objects
}

fn snapshot(objects: Vec<Object>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    merge_into(&mut snapshot, objects);
    snapshot
}

/// What there is to compare: the configuration byte by byte, and all that goes with it.
fn comparable(translation: &Translation) -> (String, String) {
    let Translation {
        config,
        clusters,
        transports,
        passthrough,
        route_profiles,
        default_profile,
        passed_headers,
        certificates,
        default_certificate,
        client_authorities,
        tls,
        host_ciphers,
        connections,
        diagnostics,
        rejected,
    } = translation;
    let rest = format!(
        "{clusters:?} {transports:?} {route_profiles:?} {default_profile:?} {passed_headers:?} {certificates:?} \
         {default_certificate:?} {client_authorities:?} {passthrough:?} {tls:?} {host_ciphers:?} {connections:?} {diagnostics:?} {rejected:?}"
    );
    (serde_json::to_string(config).expect("JSON"), rest)
}

/// The filter reads and compiles a configuration, and it is the one that was written.
fn check(name: &str, translation: &Translation) {
    let bytes = serde_json::to_vec(&translation.config).expect("JSON");
    let config = config::from_slice(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(config, translation.config, "{name}");
    if let Err(error) = router::compile(config) {
        panic!("{name}: {error}");
    }
    for rule in translation.config.hosts.iter().flat_map(|host| &host.rules) {
        if let config::Action::Forward { cluster, .. } = &rule.action {
            assert!(translation.clusters.contains_key(cluster), "{name}: no cluster {cluster}");
        }
        let policies = translation.config.policies.get(rule.policies);
        let profile = policies.unwrap_or_else(|| panic!("{name}: no policies {}", rule.policies));
        if let Some(profile) = &profile.route_profile {
            assert!(translation.route_profiles.contains_key(profile), "{name}: no route profile {profile}");
        }
    }
}

#[test]
fn every_configuration_compiles() {
    for (name, text) in manifests() {
        check(&name, &translate(&snapshot(objects(&text)), &Options::default()));
        let all = Options { ingress_without_class: true, ..Options::default() };
        check(&name, &translate(&snapshot(objects(&text)), &all));
    }
}

#[test]
fn all_manifests_at_once_compile() {
    let mut all = Vec::new();
    for (index, (_, text)) in manifests().iter().enumerate() {
        for object in objects(text) {
            match object {
                // Each set of manifests has its own, and they disagree.
                Object::IngressClass(_) => {}
                Object::Ingress(mut ingress) => {
                    let name = &mut Arc::make_mut(&mut ingress).metadata.name.name;
                    name.push_str(&format!("-{index}"));
                    all.push(Object::Ingress(ingress));
                }
                other => all.push(other),
            }
        }
    }
    let translation = translate(&snapshot(all), &Options::default());
    assert!(translation.config.hosts.len() > 20, "{} hosts", translation.config.hosts.len());
    check("all manifests", &translation);
}

#[test]
fn order_is_of_no_concern() {
    let mut random = fastrand::Rng::with_seed(1);
    for (name, text) in manifests() {
        let all = objects(&text);
        let expected = comparable(&translate(&snapshot(all.clone()), &Options::default()));
        for _ in 0..4 {
            let mut shuffled = all.clone();
            random.shuffle(&mut shuffled);
            let found = comparable(&translate(&snapshot(shuffled), &Options::default()));
            assert_eq!(found, expected, "{name}");
        }
    }
}

/// Changes the addresses of a random EndpointSlice, or takes it away.
fn change_endpoints(snapshot: &mut Snapshot, random: &mut fastrand::Rng) {
    let Some(key) = random.choice(snapshot.endpoint_slices.keys().cloned().collect::<Vec<_>>()) else {
        return;
    };
    if random.u8(..8) == 0 {
        snapshot.endpoint_slices.remove(&key);
        return;
    }
    let Some(slice) = snapshot.endpoint_slices.get_mut(&key) else { return };
    let slice = Arc::make_mut(slice);
    match random.u8(..5) {
        0 => drop(slice.addresses.pop()),
        4 => slice.addresses.clear(),
        1 => slice.addresses = (0..random.u8(..6)).map(|last| format!("10.9.0.{last}")).collect(),
        _ => slice.addresses.push(format!("10.8.0.{}", random.u8(..))),
    }
}

/// Changes some object, or takes one away or puts one back that was there before.
fn change_something(snapshot: &mut Snapshot, all: &Snapshot, random: &mut fastrand::Rng) {
    fn swap<K: Ord + Clone, V>(held: &mut BTreeMap<K, V>, all: &BTreeMap<K, V>, random: &mut fastrand::Rng)
    where
        V: Clone,
    {
        let Some((key, value)) = random.choice(all.iter().collect::<Vec<_>>()) else { return };
        if held.remove(key).is_none() {
            held.insert(key.clone(), value.clone());
        }
    }
    match random.u8(..12) {
        0 => swap(&mut snapshot.services, &all.services, random),
        1 => swap(&mut snapshot.secrets, &all.secrets, random),
        2 => swap(&mut snapshot.config_maps, &all.config_maps, random),
        3 => swap(&mut snapshot.endpoint_slices, &all.endpoint_slices, random),
        4 => change_endpoints(snapshot, random),
        5 => {
            // The content of one Secret for another.
            let others: Vec<_> = all.secrets.values().cloned().collect();
            let names: Vec<_> = snapshot.secrets.keys().cloned().collect();
            if let (Some(name), Some(other)) = (random.choice(names), random.choice(others)) {
                let mut changed = (*other).clone();
                changed.metadata.name = name.clone();
                snapshot.secrets.insert(name, Arc::new(changed));
            }
        }
        6..9 => swap(&mut snapshot.ingresses, &all.ingresses, random),
        _ => change_ingress(snapshot, random),
    }
}

/// Gives an Ingress something that another one has.
fn change_ingress(snapshot: &mut Snapshot, random: &mut fastrand::Rng) {
    let names: Vec<_> = snapshot.ingresses.keys().cloned().collect();
    let (Some(name), Some(other)) = (random.choice(names.clone()), random.choice(names)) else { return };
    let other = Arc::clone(&snapshot.ingresses[&other]);
    let Some(ingress) = snapshot.ingresses.get_mut(&name).map(Arc::make_mut) else { return };
    match random.u8(..8) {
        0 => ingress.metadata.annotations.clone_from(&other.metadata.annotations),
        1 => ingress.metadata.annotations.clear(),
        2 => ingress.rules.clone_from(&other.rules),
        3 => drop(ingress.rules.pop()),
        4 => ingress.tls.clone_from(&other.tls),
        5 => ingress.default_backend.clone_from(&other.default_backend),
        6 => ingress.class_name = random.bool().then(|| "nginx".to_owned()),
        _ => ingress.metadata.annotations.extend(other.metadata.annotations.clone()),
    }
}

/// Makes changes one after the other, and compares what is translated by them with what is translated as a whole.
fn follow(
    name: &str,
    all: &Snapshot,
    options: &Options,
    changes: usize,
    random: &mut fastrand::Rng,
    extents: &mut BTreeMap<&'static str, usize>,
    change: fn(&mut Snapshot, &Snapshot, &mut fastrand::Rng),
) {
    let (mut snapshot, mut translator) = (all.clone(), Translator::default());
    for round in 0..changes {
        let (found, extent) = translator.translate(&snapshot, options);
        let extent = match extent {
            Extent::Nothing => "nothing",
            Extent::Endpoints => "endpoints",
            Extent::Ingresses(_) => "ingresses",
            Extent::Everything => "everything",
        };
        *extents.entry(extent).or_default() += 1;
        let expected = translate(&snapshot, options);
        let (found, expected) = (comparable(found), comparable(&expected));
        assert_eq!(found.0, expected.0, "{name}, change {round}: {extent}");
        assert_eq!(found.1, expected.1, "{name}, change {round}: {extent}");
        change(&mut snapshot, all, random);
    }
}

const PARTS_OF_ENDPOINTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations:
    nginx.ingress.kubernetes.io/upstream-hash-by: $uri
    nginx.ingress.kubernetes.io/upstream-hash-by-subset: 'true'
spec: {ingressClassName: nginx, defaultBackend: {service: {name: web, port: {number: 80}}}}
";

#[test]
fn changed_endpoints_are_taken_over_as_if_all_were_translated() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut extents = BTreeMap::new();
    let parts = ("parts of endpoints".to_owned(), PARTS_OF_ENDPOINTS.to_owned());
    let all = std::iter::repeat_n(parts, 20).chain(manifests());
    for ((name, text), mesh) in all.flat_map(|case| [(case.clone(), false), (case, true)]) {
        let options = Options { mesh, ..Options::default() };
        let all = snapshot(objects(&text));
        follow(&name, &all, &options, 5, &mut random, &mut extents, |snapshot, _, random| {
            change_endpoints(snapshot, random);
        });
    }
    assert!(extents["endpoints"] > 400 && extents["everything"] > 1000, "{extents:?}");
}

#[test]
fn changes_are_translated_as_if_all_were() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut extents = BTreeMap::new();
    let all = manifests();
    for (name, text) in &all {
        let all = snapshot(objects(text));
        follow(name, &all, &Options::default(), 12, &mut random, &mut extents, change_something);
    }
    // The manifests of several cases at once, which get into each other's way.
    for round in 0..150 {
        let mut together = Vec::new();
        for index in 0..random.usize(2..6) {
            let Some((_, text)) = random.choice(&all) else { continue };
            for object in objects(text) {
                if let Object::Ingress(mut ingress) = object {
                    let name = &mut Arc::make_mut(&mut ingress).metadata.name.name;
                    name.push_str(&format!("-{index}"));
                    together.push(Object::Ingress(ingress));
                } else {
                    together.push(object);
                }
            }
        }
        let default_backend = (round % 5 == 0).then(|| ObjectName::new("default", "web"));
        let options = Options { default_backend, ..Options::default() };
        let name = format!("round {round}");
        follow(&name, &snapshot(together), &options, 25, &mut random, &mut extents, change_something);
    }
    assert!(extents["ingresses"] > 3000, "{extents:?}");
}

#[test]
fn endpoints_that_only_a_mesh_knows_are_translated_anew() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: []
";
    let before = snapshot(objects(text));
    let mut after = before.clone();
    assert!(after.endpoint_slices.pop_first().is_some());
    // None are said to be there; then nothing is said.
    let options = Options { mesh: true, ..Options::default() };
    let mut translator = Translator::default();
    translator.translate(&before, &options);
    assert_eq!(translator.translate(&after, &options).1, Extent::Everything);
}

#[test]
fn files_are_of_no_concern() {
    for (name, text) in manifests() {
        let expected = translate(&snapshot(objects(&text)), &Options::default());
        let documents = text.split("\n---\n").enumerate();
        let split =
            documents.flat_map(|(index, text)| read(&Arc::from(format!("{index}.yaml")), text).objects);
        let found = translate(&snapshot(split.collect()), &Options::default());
        assert_eq!(comparable(&found).0, comparable(&expected).0, "{name}");
        assert_eq!(found.clusters, expected.clusters, "{name}");
        assert_eq!(found.rejected, expected.rejected, "{name}");
        assert_eq!(found.diagnostics.len(), expected.diagnostics.len(), "{name}");
    }
}

/// Values that somebody might write, or that somebody else might want to get through.
fn value(random: &mut fastrand::Rng) -> String {
    const PIECES: [&str; 48] = [
        "true",
        "false",
        "off",
        "on",
        "basic",
        "digest",
        "auth-map",
        "/",
        "/$1",
        "/(.*)",
        "(",
        ")",
        "[a-",
        "\\",
        "$",
        "$host",
        "${",
        "$9",
        "$$",
        "{",
        "}",
        ";",
        ":",
        ",",
        " ",
        "\n",
        "\t",
        "\u{0}",
        "\u{7f}",
        "é",
        "🦀",
        "\"",
        "'",
        "http://a.example",
        "https://$host/x?y=z",
        "*.a.example",
        "~^x$",
        "10.0.0.0/8",
        "::/0",
        "0",
        "-1",
        "18446744073709551616",
        "8m",
        "1k",
        "X-A: 1",
        "default/headers",
        "users",
        "%2F",
    ];
    let count = random.usize(0..5);
    (0..count).map(|_| PIECES[random.usize(..PIECES.len())]).collect()
}

/// An Ingress with random annotations, hosts and paths, as JSON.
fn ingress(random: &mut fastrand::Rng, index: usize, names: &[String]) -> String {
    let mut annotations = BTreeMap::new();
    for _ in 0..random.usize(0..6) {
        annotations.insert(names[random.usize(..names.len())].clone(), value(random));
    }
    // A host that Kubernetes refuses drops the Ingress: few of them will do.
    const REFUSED: [&str; 6] = ["x..y", "[::1]", "-", "a*b", "ä.example", "*"];
    const HOSTS: [&str; 4] = ["a.example", "*.example", "B.example", ""];
    let types = ["Exact", "Prefix", "ImplementationSpecific"];
    let rules: Vec<_> = (0..random.usize(0..3))
        .map(|_| {
            let paths: Vec<_> = (0..random.usize(1..4))
                .map(|_| {
                    serde_json::json!({
                        "path": format!("/{}", value(random).replace("//", "/")),
                        "pathType": types[random.usize(..3)],
                        "backend": {"service": {"name": "web", "port": {"number": random.u16(..)}}},
                    })
                })
                .collect();
            let host = match random.u8(..16) {
                0 => REFUSED[random.usize(..REFUSED.len())],
                _ => HOSTS[random.usize(..HOSTS.len())],
            };
            serde_json::json!({"host": host, "http": {"paths": paths}})
        })
        .collect();
    let api = "networking.k8s.io/v1";
    let metadata = serde_json::json!({"name": format!("i{index}"), "annotations": annotations});
    let backend = serde_json::json!({"service": {"name": "web", "port": {"number": 80}}});
    let spec = serde_json::json!({"ingressClassName": "nginx", "rules": rules, "defaultBackend": backend});
    serde_json::json!({"apiVersion": api, "kind": "Ingress", "metadata": metadata, "spec": spec}).to_string()
}

#[test]
fn arbitrary_annotations_never_panic() {
    let mut names: Vec<String> = annotation_names();
    assert!(names.len() > 100, "only {} annotations are known", names.len());
    names.extend(["ingress-wasm.io/request-headers", "ingress-wasm.io/response-headers"].map(str::to_owned));
    let services = std::fs::read_to_string(common::tests().join("golden/services.yaml")).expect("services");
    let users =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: users}\nstringData: {auth: 'a:{PLAIN}x'}\n";
    let mut random = fastrand::Rng::with_seed(2);
    let mut served = 0;
    for round in 0..400 {
        let mut text = format!("{services}{users}");
        for index in 0..random.usize(1..5) {
            text.push_str("---\n");
            text.push_str(&ingress(&mut random, index, &names));
            text.push('\n');
        }
        let data: BTreeMap<String, String> = (0..random.usize(0..4))
            .map(|_| (config_options()[random.usize(..config_options().len())].clone(), value(&mut random)))
            .collect();
        let map = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": "ingress-nginx-controller", "namespace": "ingress-nginx"}});
        text.push_str(&format!("---\n{map}\n"));
        let translation = translate(&snapshot(objects(&text)), &Options::default());
        check(&format!("round {round}:\n{text}"), &translation);
        served += usize::from(translation.config.hosts.len() > 1);
    }
    assert!(served > 100, "only {served} rounds serve anything");
}

fn config_options() -> Vec<String> {
    annotations::config_options().iter().map(|option| option.name.to_owned()).collect()
}

/// All names of the registry, under both prefixes.
fn annotation_names() -> Vec<String> {
    let known = annotations::all().iter().map(|entry| entry.name);
    known
        .flat_map(|name| ["nginx.", ""].map(|prefix| format!("{prefix}ingress.kubernetes.io/{name}")))
        .collect()
}
