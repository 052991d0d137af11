use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::output::{Options, Translation};

/// An authority, as PEM.
fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key");
    let pem = parameters.self_signed(&key).expect("signed").pem();
    (pem, Issuer::new(parameters, key))
}

fn revocations(issuer: &Issuer<'static, KeyPair>) -> String {
    let parameters = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(2100, 1, 1),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    parameters.signed_by(issuer).expect("signed").pem().expect("PEM")
}

fn ingress(name: &str, age: u32, host: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(key, value)| (format!("nginx.ingress.kubernetes.io/{key}"), json!(value)))
        .collect();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {
            "name": name, "annotations": annotations,
            "creationTimestamp": format!("2020-01-01T00:00:{age:02}Z"),
        },
        "spec": {"ingressClassName": "nginx", "rules": [{"host": host}]},
    })
}

fn secret(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": name}, "stringData": data})
}

fn translate(objects: &[Value]) -> Translation {
    let mut snapshot = Snapshot::default();
    for object in objects {
        let loaded = crate::manifest::read(&"test.json".into(), &object.to_string());
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        loaded.objects.into_iter().for_each(|object| drop(snapshot.insert(object)));
    }
    crate::translate(&snapshot, &Options::default())
}

/// `VERIFY DEPTH REVOKED` of a host; the depth is `-` where no certificate is asked for.
fn shown(translation: &Translation, host: &str) -> String {
    let found = translation.config.hosts.iter().find(|found| found.name == host).expect(host);
    let Some(settings) = &found.client_certificate else { return "none".to_owned() };
    match translation.client_authorities.get(host) {
        None => format!("{:?} -", settings.verify),
        Some(asked) => format!("{:?} {} {}", settings.verify, asked.depth, asked.revoked.is_some()),
    }
}

#[test]
fn what_annotations_and_secrets_come_to() {
    let (ca, issuer) = authority("ca");
    let crl = revocations(&issuer);
    let secrets = [
        secret("ca", &json!({"ca.crt": ca})),
        secret("two", &json!({"ca.crt": format!("# first\n{ca}\nsecond\n{}", authority("b").0)})),
        secret("crl", &json!({"ca.crt": ca, "ca.crl": crl})),
        secret("crl-is-ca", &json!({"ca.crt": ca, "ca.crl": ca})),
        secret("no-crl", &json!({"ca.crt": ca, "ca.crl": "nothing"})),
        secret("key-only", &json!({"tls.crt": ca, "tls.key": "x"})),
        secret("cut", &json!({"ca.crt": ca.replace("MII", "MI")})),
        secret("request", &json!({"ca.crt": ca.replace("CERTIFICATE", "CERTIFICATE REQUEST")})),
        secret("tail", &json!({"ca.crt": format!("{ca}{crl}")})),
    ];
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("auth-tls-secret", "default/ca")], "On 1 false"),
        (&[("auth-tls-secret", "default/two"), ("auth-tls-verify-depth", "3")], "On 3 false"),
        (&[("auth-tls-secret", "default/ca"), ("auth-tls-verify-depth", "0")], "On 1 false"),
        (&[("auth-tls-secret", "default/ca"), ("auth-tls-verify-depth", "-1")], "On 1 false"),
        (&[("auth-tls-secret", "default/ca"), ("auth-tls-verify-depth", "many")], "On 1 false"),
        (&[("auth-tls-secret", "default/ca"), ("auth-tls-verify-depth", "99999999999")], "On 100 false"),
        (&[("auth-tls-secret", "default/ca"), ("auth-tls-verify-client", "off")], "Off -"),
        (&[("auth-tls-secret", "default/ca"), ("auth-tls-verify-client", "optional")], "Optional 1 false"),
        (
            &[("auth-tls-secret", "default/ca"), ("auth-tls-verify-client", "optional_no_ca")],
            "OptionalNoCa 1 false",
        ),
        (&[("auth-tls-secret", "default/ca"), ("auth-tls-verify-client", "maybe")], "On 1 false"),
        (&[("auth-tls-secret", "default/crl")], "On 1 true"),
        (&[("auth-tls-secret", "default/crl-is-ca")], "Refuse -"),
        (&[("auth-tls-secret", "default/no-crl")], "Refuse -"),
        (&[("auth-tls-secret", "default/key-only")], "Refuse -"),
        (&[("auth-tls-secret", "default/key-only"), ("auth-tls-verify-client", "off")], "Refuse -"),
        (&[("auth-tls-secret", "default/cut")], "Refuse -"),
        (&[("auth-tls-secret", "default/request")], "Refuse -"),
        (&[("auth-tls-secret", "default/tail")], "Refuse -"),
        (&[("auth-tls-secret", "ca")], "Refuse -"),
        (&[("auth-tls-secret", " ")], "none"),
        (&[("auth-tls-verify-client", "on")], "none"),
    ];
    for (annotations, expected) in cases {
        let mut objects = secrets.to_vec();
        objects.push(ingress("i", 0, "a.example", annotations));
        let translation = translate(&objects);
        assert_eq!(shown(&translation, "a.example"), *expected, "{annotations:?}");
        let grave = translation.diagnostics.iter().any(|told| told.code.starts_with("auth-tls-secret"));
        let told = grave || translation.diagnostics.iter().any(|told| told.code == "annotation-invalid");
        assert!(told || !expected.starts_with("Refuse"), "{annotations:?}: {:?}", translation.diagnostics);
    }
}

#[test]
fn several_ingresses_of_one_host() {
    let objects = |first: &[(&str, &str)], second: &[(&str, &str)]| {
        let ca = secret("ca", &json!({"ca.crt": authority("ca").0}));
        [ingress("b", 1, "a.example", second), ingress("a", 0, "a.example", first), ca]
    };
    let ca = ("auth-tls-secret", "default/ca");
    let gone = ("auth-tls-secret", "default/gone");
    let deep = ("auth-tls-verify-depth", "2");
    type Annotations<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(Annotations<'_>, Annotations<'_>, &str, bool)] = &[
        (&[ca], &[], "On 1 false", false),
        (&[], &[ca], "On 1 false", false),
        (&[ca], &[ca], "On 1 false", false),
        (&[ca], &[ca, deep], "On 1 false", true),
        // One whose authorities cannot be had closes the host.
        (&[ca], &[gone], "Refuse -", false),
        (&[gone], &[ca], "Refuse -", false),
    ];
    for (first, second, expected, conflict) in cases {
        let translation = translate(&objects(first, second));
        assert_eq!(shown(&translation, "a.example"), *expected, "{first:?} {second:?}");
        let found = translation.diagnostics.iter().any(|told| told.code == "auth-tls-conflict");
        assert_eq!(found, *conflict, "{first:?} {second:?}: {:?}", translation.diagnostics);
    }
}

#[test]
fn aliases_ask_as_their_host_does() {
    let (ca, _) = authority("ca");
    let annotations =
        [("auth-tls-secret", "default/ca"), ("server-alias", "b.example,*.c.example,~d.*,.e.example")];
    let objects = [ingress("i", 0, "a.example", &annotations), secret("ca", &json!({"ca.crt": ca}))];
    let translation = translate(&objects);
    let names: Vec<&str> = translation.client_authorities.keys().map(String::as_str).collect();
    assert_eq!(names, ["*.c.example", "a.example", "b.example"]);
}
