use std::sync::Arc;

use super::super::{decode_json, merge_into, read};
use super::{load, names, summary};
use crate::objects::{Object, Snapshot};

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\n";

fn config(name: &str) -> String {
    CONFIG.replace("NAME", name)
}

#[test]
fn documents_of_a_stream() {
    let (a, b) = (config("a"), config("b"));
    let deep_quote = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"a}\n";
    // text, objects, diagnostics, broken
    let cases: &[(String, &[&str], &[&str], bool)] = &[
        (String::new(), &[], &[], false),
        ("# only a comment\n---\n\n---\n# and another\n".into(), &[], &[], false),
        (format!("{a}---\n{b}"), &["ConfigMap default/a", "ConfigMap default/b"], &[], false),
        (
            format!("---\n# first\n{a}--- # second\n{b}...\n"),
            &["ConfigMap default/a", "ConfigMap default/b"],
            &[],
            false,
        ),
        (
            format!("{a}---\n{b}").replace('\n', "\r\n"),
            &["ConfigMap default/a", "ConfigMap default/b"],
            &[],
            false,
        ),
        (format!("\u{feff}{a}"), &["ConfigMap default/a"], &[], false),
        (format!("%YAML 1.2\n---\n{a}...\n{b}"), &["ConfigMap default/a", "ConfigMap default/b"], &[], false),
        (format!("# licence\n%YAML 1.2\n# more\n---\n{a}"), &["ConfigMap default/a"], &[], false),
        // A document marker within a block scalar is indented and so is none.
        (
            format!("{a}data:\n  x: |\n    ---\n    y\n---\n{b}"),
            &["ConfigMap default/a", "ConfigMap default/b"],
            &[],
            false,
        ),
        // A fault costs no other document, whatever was left open.
        (
            format!("{a}---\nx: [1, 2\n---\n{b}"),
            &["ConfigMap default/a", "ConfigMap default/b"],
            &["error yaml-syntax 5"],
            true,
        ),
        (format!("{deep_quote}---\n{b}"), &["ConfigMap default/b"], &["error yaml-syntax 3"], true),
        (format!("a: b: c\n---\n{b}"), &["ConfigMap default/b"], &["error yaml-syntax 1"], true),
        (format!("metadata:\n\tname: x\n---\n{b}"), &["ConfigMap default/b"], &["error yaml-syntax 2"], true),
        (format!("a: *nothing\n---\n{b}"), &["ConfigMap default/b"], &["error yaml-syntax 1"], true),
        (
            format!("a: {{{{ .Values.x }}}}\n---\n{b}"),
            &["ConfigMap default/b"],
            &["error yaml-syntax 1"],
            true,
        ),
        (format!("a: !vault x\n---\n{b}"), &["ConfigMap default/b"], &["error yaml-syntax 1"], true),
        ("just words".into(), &[], &["error not-an-object 1"], true),
        ("- a\n- b".into(), &[], &["error not-an-object 1"], true),
        ("replicas: 3".into(), &[], &["error not-an-object 1 apiVersion"], true),
        ("kind: Ingress".into(), &[], &["error not-an-object 1 apiVersion"], true),
        ("apiVersion: v1".into(), &[], &["error not-an-object 1 kind"], true),
    ];
    for (text, objects, diagnostics, broken) in cases {
        let loaded = load(text);
        assert_eq!(names(&loaded), *objects, "{text}\n{:#?}", loaded.diagnostics);
        assert_eq!(summary(&loaded.diagnostics), *diagnostics, "{text}\n{:#?}", loaded.diagnostics);
        assert_eq!(loaded.broken, *broken, "{text}");
    }
}

#[test]
fn syntax_faults_tell_column_and_remedy() {
    let cases = [
        ("a:\n  b: c: d\n", 2, "column 7: ", "look for wrong indentation"),
        ("a:\n\tb: c\n", 2, "column 2: ", "not with tabs"),
        ("a: {{ .Values.x }}\n", 1, "column ", "`helm template`"),
        ("{\"a\": 1,\n \"b\" 2}", 2, "column 6: ", "correct the JSON"),
    ];
    for (text, line, consequence, remedy) in cases {
        let loaded = load(text);
        let [fault] = loaded.diagnostics.as_slice() else { panic!("{text}: {:?}", loaded.diagnostics) };
        assert_eq!(fault.source.as_ref().map(|source| source.line), Some(line), "{text}");
        assert!(fault.consequence.starts_with(consequence), "{text}: {}", fault.consequence);
        assert!(fault.remedy.contains(remedy), "{text}: {}", fault.remedy);
    }
}

#[test]
fn json_in_its_shapes() {
    let object = |name: &str| {
        format!("{{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {{\"name\": \"{name}\"}}}}")
    };
    let (a, b) = (object("a"), object("b"));
    let both: &[&str] = &["ConfigMap default/a", "ConfigMap default/b"];
    let unquoted = "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"a\"},\n \"data\": {\n  \"x\": 1}}";
    let cases: &[(String, &[&str], &[&str])] = &[
        (a.clone(), &["ConfigMap default/a"], &[]),
        (format!("{a}{b}"), both, &[]),
        (format!("{a}\n\n{b}\n"), both, &[]),
        (format!("{a}\n---\n{b}"), both, &[]),
        (format!("---\n{a}\n---\n{}", config("b")), both, &[]),
        (format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{a}, {b}]}}"), both, &[]),
        // YAML in flow style, which is no JSON.
        (format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a}}}}\n---\n{b}"), both, &[]),
        (format!("{a}\n{{\"a\": }}"), &["ConfigMap default/a"], &["error json-syntax 2"]),
        (format!("{a},\n"), &["ConfigMap default/a"], &["error json-syntax 1"]),
        // Lines come from a second reading, where there is something to tell.
        (unquoted.to_owned(), &["ConfigMap default/a"], &["warning data-not-string 3 data[\"x\"]"]),
    ];
    for (text, objects, diagnostics) in cases {
        let loaded = load(text);
        assert_eq!(names(&loaded), *objects, "{text}\n{:#?}", loaded.diagnostics);
        assert_eq!(summary(&loaded.diagnostics), *diagnostics, "{text}\n{:#?}", loaded.diagnostics);
    }
    let lines: Vec<_> = load(&format!("\n{a}\n\n{b}"))
        .objects
        .iter()
        .filter_map(|object| object.metadata().source.as_ref().map(|source| source.line))
        .collect();
    assert_eq!(lines, [2, 4]);
}

#[test]
fn lists_and_kinds() {
    let ingress_list = "apiVersion: networking.k8s.io/v1\nkind: IngressList\nitems:\n- metadata: {name: a}\n  spec: {defaultBackend: {service: {name: a, port: {number: 80}}}}\n";
    let cases: &[(&str, &[&str], &[&str])] = &[
        (ingress_list, &["Ingress default/a"], &[]),
        ("apiVersion: v1\nkind: List\nitems: []\n", &[], &[]),
        ("apiVersion: v1\nkind: List\n", &[], &[]),
        (
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n- 5\n",
            &["ConfigMap default/a"],
            &["error not-an-object 5"],
        ),
        ("apiVersion: v1\nkind: List\nitems: {a: b}\n", &[], &["error field-type 3 items"]),
        (
            "apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: apps/v1\nkind: Deployment\n---\napiVersion: v1\nkind: Pod\n",
            &[],
            &["note kind-ignored 1 kind", "note kind-ignored 7 kind"],
        ),
        (
            "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {}\n- metadata: {}\n",
            &[],
            &["note kind-ignored 4 kind"],
        ),
        ("apiVersion: serving.knative.dev/v1\nkind: Service\n", &[], &["note kind-ignored 1 kind"]),
        ("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n", &[], &["note kind-ignored 1 kind"]),
        ("apiVersion: v1\nkind: Ingress\n", &[], &["error api-version-unknown 1 apiVersion"]),
        (
            "kind: Ingress\napiVersion: networking.k8s.io/v2\n",
            &[],
            &["error api-version-unknown 2 apiVersion"],
        ),
        ("apiVersion: networking.k8s.io/v1\nkind: ingress\n", &[], &["error kind-unknown 2 kind"]),
        ("apiVersion: v1\nkind: Secrets\n", &[], &["error kind-unknown 2 kind"]),
    ];
    for (text, objects, diagnostics) in cases {
        let loaded = load(text);
        assert_eq!(names(&loaded), *objects, "{text}\n{:#?}", loaded.diagnostics);
        assert_eq!(summary(&loaded.diagnostics), *diagnostics, "{text}\n{:#?}", loaded.diagnostics);
    }
    let twice = load("apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: apps/v1\nkind: Deployment\n");
    assert!(
        twice.diagnostics[0].consequence.starts_with("2 objects are passed over"),
        "{}",
        twice.diagnostics[0]
    );
    assert_eq!(twice.diagnostics[0].found, "Deployment (apps/v1)");
}

#[test]
fn anchors_aliases_and_merge_keys() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: &name a\n  annotations: &common {x: \"1\", y: \"2\"}\n  labels:\n    <<: *common\n    y: \"3\"\n    name: *name\ndata:\n  <<: [{x: first}, *common]\n";
    let loaded = load(text);
    assert_eq!(summary(&loaded.diagnostics), [""; 0], "{text}");
    let [Object::ConfigMap(map)] = loaded.objects.as_slice() else { panic!("{:?}", loaded.objects) };
    let labels: Vec<_> = map.metadata.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(labels, ["name=a", "x=1", "y=3"]);
    let data: Vec<_> = map.data.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(data, ["x=first", "y=2"]);
}

#[test]
fn expansion_and_nesting_are_bounded() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{},", level - 1).repeat(10);
        laughs += &format!("a{level}: &a{level} [{below}]\n");
    }
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..150 {
        chain += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    let deep_block: String = (0..5000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let cases = [
        laughs,
        chain,
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000)),
        deep_block,
        "a: &a [*a]".to_owned(),
    ];
    for text in cases {
        let loaded = load(&text);
        let codes: Vec<_> = loaded.diagnostics.iter().map(|d| d.code).collect();
        assert!(codes == ["yaml-syntax"] || codes == ["json-syntax"], "{codes:?} for {:.60}", text);
    }
}

#[test]
fn names_decide_what_is_rejected() {
    let loaded = load(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\ndata: {x: '%'}\n---\napiVersion: v1\nkind: Secret\nmetadata: {generateName: a-}\n",
    );
    assert_eq!(
        summary(&loaded.diagnostics),
        ["error secret-base64 4 data[\"x\"]", "error field-missing 8 metadata.name"]
    );
    let rejected: Vec<_> = loaded.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(rejected, ["Secret b/a"]);
    assert!(loaded.broken, "an object without a name could be any");
}

#[test]
fn an_object_defined_twice() {
    let mut snapshot = Snapshot::default();
    let first = read(&Arc::from("a.yaml"), &format!("{}data: {{x: first}}\n", config("a")));
    let second = read(&Arc::from("b.yaml"), &format!("\n{}data: {{x: second}}\n", config("a")));
    assert_eq!(merge_into(&mut snapshot, first.objects.clone()), []);
    assert_eq!(merge_into(&mut snapshot, first.objects), [], "the same place once more");
    let diagnostics = merge_into(&mut snapshot, second.objects);
    assert_eq!(summary(&diagnostics), ["warning object-duplicate 2"]);
    assert_eq!(diagnostics[0].consequence, "defined at a.yaml:1 and again at b.yaml:2; the later one counts");
    let kept: Vec<_> = snapshot.config_maps.values().map(|map| map.data["x"].as_str()).collect();
    assert_eq!(kept, ["second"]);
}

#[test]
fn objects_from_an_api_server() {
    let value = serde_json::json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "a", "namespace": "b", "uid": "u", "creationTimestamp": "2024-01-02T03:04:05Z",
                     "managedFields": [{"fieldsV1": {"f:spec": {}}}], "futureField": 1},
        "spec": {"ingressClassName": "nginx", "futureField": {"x": 1},
                 "rules": [{"host": "a.example", "http": {"paths": [
                    {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "http"}}}}]}}]},
        "status": {"loadBalancer": {}},
    });
    let loaded = decode_json(&value);
    assert_eq!(summary(&loaded.diagnostics), ["warning field-unknown 0 spec.futureField"]);
    let ingress = super::ingress(&loaded);
    assert_eq!(ingress.metadata.creation_timestamp, "2024-01-02T03:04:05Z");
    assert_eq!(ingress.metadata.source, None);
    assert_eq!(ingress.rules[0].host.as_deref(), Some("a.example"));
    assert_eq!(names(&decode_json(&serde_json::json!(null))), [""; 0]);
    assert!(decode_json(&serde_json::json!([1])).broken);
}

#[test]
fn no_text_makes_it_panic() {
    let pieces = [
        "apiVersion: networking.k8s.io/v1\n",
        "kind: Ingress\n",
        "kind: Secret\n",
        "kind: Endpoints\n",
        "apiVersion: v1\n",
        "metadata:\n",
        "  name: a\n",
        "spec:\n",
        "  rules:\n",
        "  - host: a\n",
        "    http:\n",
        "      paths:\n",
        "data:\n",
        "subsets:\n",
        "- ",
        "---\n",
        "...\n",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "? ",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "|\n",
        ">-\n",
        "\"",
        "'",
        "\t",
        " ",
        "\r",
        "\n",
        "#",
        "%YAML 1.2\n",
        "\u{feff}",
        "\u{85}",
        "é",
        "\0",
        "0x",
        "1e9",
        "~",
        "\\u",
        "items: ",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..30_000 {
        let length = random.usize(..24);
        let text: String = if round % 4 == 0 {
            let bytes: Vec<u8> = (0..length * 4).map(|_| random.u8(..)).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            (0..length).map(|_| pieces[random.usize(..pieces.len())]).collect()
        };
        let loaded = load(&text);
        let mut snapshot = Snapshot::default();
        merge_into(&mut snapshot, loaded.objects);
    }
}

#[test]
fn no_change_of_one_character_makes_it_panic() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: a\n  annotations: {x: 'y'}\nspec:\n  rules:\n  - host: a.example\n    http:\n      paths:\n      - {path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}\n";
    for (at, _) in text.char_indices() {
        for replacement in ["", " ", "\n", ":", "-", "{", "]", "\"", "&", "*", "9", "\t"] {
            let changed = format!("{}{replacement}{}", &text[..at], &text[at + 1..]);
            let loaded = load(&changed);
            assert!(
                loaded.objects.len() == 1 || !loaded.diagnostics.is_empty(),
                "an object was lost in silence: {changed}"
            );
        }
    }
}
