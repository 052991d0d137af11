use std::collections::BTreeMap;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};

use super::material::{Unusable, check};
use super::*;

/// A chain and its key for these names; the first is the common name.
fn pair(names: &[&str]) -> (String, String) {
    made_with(names, &KeyPair::generate().expect("made"))
}

fn made_with(names: &[&str], key: &KeyPair) -> (String, String) {
    let mut parameters =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .expect("names");
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("none"));
    (parameters.self_signed(key).expect("signed").pem(), key.serialize_pem())
}

fn ingress(name: &str, age: u32, hosts: &[&str], tls: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "creationTimestamp": format!("2020-01-01T00:00:{age:02}Z")},
        "spec": {
            "ingressClassName": "nginx", "tls": tls,
            "rules": hosts.iter().map(|host| json!({"host": host})).collect::<Vec<_>>(),
        },
    })
}

fn secret(name: &str, (chain, key): &(String, String)) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name},
        "stringData": {"tls.crt": chain, "tls.key": key},
    })
}

/// The Secret of each host, and the codes of what is said.
fn translate(objects: &[Value], default: Option<&str>) -> (BTreeMap<String, String>, Vec<&'static str>) {
    let mut snapshot = Snapshot::default();
    for object in objects {
        let loaded = crate::manifest::read(&"test.json".into(), &object.to_string());
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        loaded.objects.into_iter().for_each(|object| drop(snapshot.insert(object)));
    }
    let options = Options {
        default_certificate: default.map(|name| ObjectName::new("default", name)),
        ..Options::default()
    };
    let translation = crate::translate(&snapshot, &options);
    let shown = format!("{translation:?}");
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    let text = serde_json::to_string(&translation.config).expect("JSON");
    assert!(!text.contains("PRIVATE KEY") && !text.contains("BEGIN CERTIFICATE"), "{text}");
    let mut hosts: BTreeMap<_, _> = translation
        .certificates
        .iter()
        .filter_map(|(host, certificate)| Some((host.clone(), certificate.as_ref()?.secret.name.clone())))
        .collect();
    hosts.extend(translation.default_certificate.map(|default| (String::new(), default.secret.name.clone())));
    let codes = translation.diagnostics.iter().map(|diagnostic| diagnostic.code);
    (hosts, codes.filter(|code| code.starts_with("tls-")).collect())
}

#[test]
fn which_secret_serves_which_host() {
    let (a, b) = (pair(&["a.example"]), pair(&["b.example"]));
    let wildcard = pair(&["*.example"]);
    let mismatch = (a.0.clone(), b.1.clone());
    let secrets = [
        secret("a", &a),
        secret("b", &b),
        secret("wild", &wildcard),
        secret("mismatch", &mismatch),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "empty"}}),
    ];
    let tls = |hosts: &[&str], secret: &str| json!([{"hosts": hosts, "secretName": secret}]);
    type Expected<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: Vec<(&str, Vec<Value>, Expected<'_>)> = vec![
        (
            "listed",
            vec![ingress("i", 1, &["a.example"], tls(&["a.example"], "a"))],
            (&[("a.example", "a")], &[]),
        ),
        (
            "a wildcard certificate, for a host and for a wildcard host",
            vec![ingress("i", 1, &["c.example", "*.example"], tls(&["c.example", "*.example"], "wild"))],
            (&[("*.example", "wild"), ("c.example", "wild")], &[]),
        ),
        (
            "not of more than one label",
            vec![ingress("i", 1, &["c.d.example"], tls(&["c.d.example"], "wild"))],
            (&[], &["tls-secret-other-host"]),
        ),
        (
            "the older decides, even for the default certificate",
            vec![
                ingress("young", 2, &["a.example"], tls(&["a.example"], "a")),
                ingress("old", 1, &["a.example"], json!([{"hosts": ["a.example"]}])),
            ],
            (&[], &[]),
        ),
        (
            "an older one without a section does not decide",
            vec![
                ingress("young", 2, &["a.example"], tls(&["a.example"], "a")),
                ingress("old", 1, &["a.example"], json!([])),
            ],
            (&[("a.example", "a")], &[]),
        ),
        (
            "an entry without hosts serves what its certificate covers",
            vec![ingress(
                "i",
                1,
                &["b.example", "x.other"],
                json!([{"secretName": "a"}, {"secretName": "b"}]),
            )],
            (&[("b.example", "b")], &["tls-host-unlisted"]),
        ),
        (
            "the entry that lists the host comes before one that covers it",
            vec![ingress(
                "i",
                1,
                &["a.example"],
                json!([{"secretName": "a"}, {"hosts": ["a.example"], "secretName": "wild"}]),
            )],
            (&[("a.example", "wild")], &[]),
        ),
        (
            "for another host",
            vec![ingress("i", 1, &["a.example"], tls(&["a.example"], "b"))],
            (&[], &["tls-secret-other-host"]),
        ),
        (
            "no such Secret",
            vec![ingress("i", 1, &["a.example"], tls(&["a.example"], "none"))],
            (&[], &["tls-secret-missing"]),
        ),
        (
            "a Secret without certificate",
            vec![ingress("i", 1, &["a.example"], tls(&["a.example"], "empty"))],
            (&[], &["tls-secret-malformed"]),
        ),
        (
            "the key of another certificate",
            vec![ingress("i", 1, &["a.example"], tls(&["a.example"], "mismatch"))],
            (&[], &["tls-secret-malformed"]),
        ),
        (
            "a listed host without a rule",
            vec![ingress("i", 1, &["a.example"], tls(&["a.example", "b.example"], "a"))],
            (&[("a.example", "a")], &["tls-host-unused"]),
        ),
    ];
    for (what, ingresses, (hosts, codes)) in cases {
        let objects: Vec<Value> = secrets.iter().cloned().chain(ingresses).collect();
        let expected =
            hosts.iter().map(|(host, secret)| ((*host).to_owned(), (*secret).to_owned())).collect();
        assert_eq!(translate(&objects, None), (expected, codes.to_vec()), "{what}");
    }
}

#[test]
fn the_default_certificate_is_that_of_the_options() {
    let objects = [secret("own", &pair(&["default.example"]))];
    let found = |name: &str| BTreeMap::from([(String::new(), name.to_owned())]);
    assert_eq!(translate(&objects, Some("own")), (found("own"), vec![]));
    assert_eq!(translate(&objects, Some("none")), (BTreeMap::new(), vec!["tls-secret-missing"]));
    assert_eq!(translate(&objects, None), (BTreeMap::new(), vec![]));
}

#[test]
fn what_envoy_would_refuse_is_found() {
    let (chain, key) = pair(&["A.example", "*.b.example"]);
    let (other, _) = pair(&["c.example"]);
    let p384 = made_with(&["a.example"], &KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("made"));
    let ed25519 = made_with(&["a.example"], &KeyPair::generate_for(&PKCS_ED25519).expect("made"));
    let names = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    type Checked = Result<Vec<String>, Unusable>;
    let cases: Vec<(&str, String, String, Checked)> = vec![
        ("as it should be", chain.clone(), key.clone(), names(&["a.example", "*.b.example"])),
        ("with an issuer", format!("{chain}{other}"), key.clone(), names(&["a.example", "*.b.example"])),
        (
            "with text around",
            format!("text\n{chain}"),
            format!("text\n{key}"),
            names(&["a.example", "*.b.example"]),
        ),
        ("P-384", p384.0.clone(), p384.1.clone(), names(&["a.example"])),
        ("SEC 1", SEC1_CHAIN.to_owned(), SEC1_KEY.to_owned(), names(&["sec1.example"])),
        ("RSA", RSA_CHAIN.to_owned(), RSA_KEY.to_owned(), names(&["rsa.example"])),
        ("RSA with another key", RSA_CHAIN.to_owned(), key.clone(), Err(Unusable::BadKey)),
        ("RSA of 1024 bits", SHORT_CHAIN.to_owned(), SHORT_KEY.to_owned(), Err(Unusable::BadKey)),
        ("the issuer first", format!("{other}{chain}"), key.clone(), Err(Unusable::KeyMismatch)),
        ("another curve", p384.0, key.clone(), Err(Unusable::KeyMismatch)),
        ("Ed25519", ed25519.0, ed25519.1, Err(Unusable::KeyKind)),
        ("no certificate", String::new(), key.clone(), Err(Unusable::NoCertificate)),
        ("no key", chain.clone(), String::new(), Err(Unusable::NoKey)),
        ("the key in the chain", format!("{chain}{key}"), key.clone(), Err(Unusable::BadCertificate(2))),
        ("a broken issuer", format!("{chain}{broken}"), key.clone(), Err(Unusable::BadCertificate(2))),
        ("cut off", chain[..chain.len() / 2].to_owned(), key.clone(), Err(Unusable::BadCertificate(1))),
        (
            "a broken key",
            chain,
            key.replace("BEGIN PRIVATE", "BEGIN EC PRIVATE").replace("END PRIVATE", "END EC PRIVATE"),
            Err(Unusable::KeyMismatch),
        ),
    ];
    for (what, chain, key, expected) in cases {
        assert_eq!(check(&chain, &key), expected, "{what}");
    }
}

#[test]
fn damaged_texts_are_refused_without_a_panic() {
    let (chain, key) = (SEC1_CHAIN, SEC1_KEY);
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..2000 {
        let damage = |text: &str, random: &mut fastrand::Rng| {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..=random.usize(..3) {
                let position = random.usize(..bytes.len());
                bytes[position] = random.alphanumeric() as u8;
            }
            String::from_utf8(bytes).expect("ASCII")
        };
        let damaged = if round % 2 == 0 {
            check(&damage(chain, &mut random), key)
        } else {
            check(chain, &damage(key, &mut random))
        };
        // Damage may hit what does not matter, such as a name.
        drop(damaged);
    }
}

#[test]
fn secrets_of_other_namespaces_are_not_read() {
    let mut foreign = secret("a", &pair(&["a.example"]));
    foreign["metadata"]["namespace"] = json!("other");
    let tls = json!([{"hosts": ["a.example"], "secretName": "a"}]);
    let found = translate(&[foreign, ingress("i", 1, &["a.example"], tls)], None);
    assert_eq!(found, (BTreeMap::new(), vec!["tls-secret-missing"]));
}

#[test]
fn wildcards_stand_for_one_label() {
    let cases = [
        ("a.example", Some("*.example")),
        ("a.b.example", Some("*.b.example")),
        ("*.example", None),
        ("example", None),
        (".example", None),
        ("a.", None),
    ];
    for (host, expected) in cases {
        assert_eq!(wildcard_of(host).as_deref(), expected, "{host}");
    }
}

const SEC1_CHAIN: &str = include_str!("samples/sec1.chain.pem");
const SEC1_KEY: &str = include_str!("samples/sec1.key.pem");
const RSA_CHAIN: &str = include_str!("samples/rsa.chain.pem");
const RSA_KEY: &str = include_str!("samples/rsa.key.pem");
const SHORT_CHAIN: &str = include_str!("samples/short.chain.pem");
const SHORT_KEY: &str = include_str!("samples/short.key.pem");
