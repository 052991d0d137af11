use std::collections::BTreeMap;

use super::super::global_denials;
use super::*;
use crate::objects::{self, ConfigMap, IngressApi, Metadata, ObjectName};

/// An Ingress with these annotations, which stand on lines 10, 11 and so on of `web.yaml`.
pub(in super::super) fn ingress(annotations: &[(&str, &str)]) -> Ingress {
    let annotations = annotations.iter().zip(10..);
    let annotations = annotations.map(|((key, value), line)| {
        ((*key).to_owned(), objects::Annotation { value: (*value).to_owned(), line })
    });
    Ingress {
        metadata: metadata(annotations.collect()),
        api: IngressApi::NetworkingV1,
        class_name: None,
        default_backend: None,
        rules: Vec::new(),
        tls: Vec::new(),
    }
}

pub(in super::super) fn metadata(annotations: BTreeMap<String, objects::Annotation>) -> Metadata {
    Metadata {
        name: ObjectName::new("shop", "web"),
        annotations,
        labels: BTreeMap::new(),
        creation_timestamp: String::new(),
        uid: String::new(),
        source: Some(Source { file: "web.yaml".into(), line: 1 }),
    }
}

/// With the usual prefix where none is written.
fn prefixed(annotations: &[(&str, &str)]) -> Ingress {
    let keys: Vec<(String, &str)> = annotations
        .iter()
        .map(|(key, value)| {
            let key = if key.contains('/') {
                (*key).to_owned()
            } else {
                format!("nginx.ingress.kubernetes.io/{key}")
            };
            (key, *value)
        })
        .collect();
    ingress(&keys.iter().map(|(key, value)| (key.as_str(), *value)).collect::<Vec<_>>())
}

#[test]
fn diagnostics() {
    // Annotations; per diagnostic, in the order of the keys: severity and code, and a part of what it says.
    type Expected = &'static [(&'static str, &'static str)];
    let cases: &[(&[(&str, &str)], Expected)] = &[
        (&[("kubernetes.io/ingress.class", "nginx"), ("cert-manager.io/cluster-issuer", "x")], &[]),
        (&[("rewrite-target", "/$1"), ("use-regex", "true")], &[("note[annotation-differs]", "PCRE")]),
        // Names and prefixes.
        (&[("rewrite-taget", "/")], &[("warning[annotation-unknown]", "did you mean `rewrite-target`?")]),
        (
            &[("whitelist-source-rnage", "10.0.0.1")],
            &[("error[annotation-unknown]", "`whitelist-source-range`?")],
        ),
        (&[("xyzzy", "1")], &[("warning[annotation-unknown]", "unknown and ignored")]),
        (&[("secure-backends", "true")], &[("warning[annotation-unknown]", "backend-protocol: HTTPS")]),
        (
            &[("nginx.ingress.kubernets.io/auth-url", "x")],
            &[("error[annotation-unknown]", "did you mean nginx.ingress.kubernetes.io/auth-url?")],
        ),
        (
            &[("ingress-wasm.io/request-header", "X-A: 1")],
            &[("warning[annotation-unknown]", "did you mean `request-headers`?")],
        ),
        (
            &[("ingress.kubernetes.io/rewrite-target", "/")],
            &[("note[annotation-legacy]", "replaces only the path of the rule")],
        ),
        (
            &[("ingress.kubernetes.io/app-root", "/a"), ("app-root", "/b")],
            &[("warning[annotation-legacy]", "newer prefix counts")],
        ),
        (
            &[("ingress.kubernetes.io/whitelist-source-range", "10.0.0.0/8")],
            &[("note[annotation-legacy]", "old prefix")],
        ),
        // Values.
        (&[("rewrite-target", "/new?x=1")], &[("warning[annotation-invalid]", "'?': it is ignored")]),
        (&[("proxy-read-timeout", " 1 ")], &[("warning[annotation-invalid]", "whole number of seconds")]),
        (&[("proxy-body-size", "huge")], &[("warning[annotation-invalid]", "the default holds")]),
        (&[("proxy-body-size", "8b")], &[("warning[annotation-invalid]", "does not know the unit b")]),
        (&[("upstream-vhost", "a; deny all")], &[("error[annotation-invalid]", "the Ingress is not served")]),
        (&[("app-root", "")], &[("note[annotation-invalid]", "counts as absent")]),
        (&[("auth-url", "")], &[("note[annotation-invalid]", "counts as absent")]),
        (
            &[("whitelist-source-range", "")],
            &[("error[annotation-invalid]", "all rules of this Ingress answer 503")],
        ),
        (
            &[("auth-tls-secret", "bare")],
            &[("error[annotation-invalid]", "every request for the hosts of this Ingress is refused")],
        ),
        (&[("ingress-wasm.io/request-headers", "X-A: 1\nbad")], &[("error[annotation-invalid]", "line 2")]),
        // Dropped by ingress-nginx, denied here because of what else the Ingress carries.
        (
            &[("upstream-vhost", "a; deny all"), ("enable-modsecurity", "true")],
            &[
                ("error[annotation-unsupported]", "503"),
                ("error[annotation-invalid]", "all rules of this Ingress answer 503"),
            ],
        ),
        // Halves of basic authentication, and values that are not honoured.
        (
            &[("auth-type", "basic"), ("auth-secret", "s")],
            &[("note[annotation-differs]", "hashes"), ("note[annotation-differs]", "digest")],
        ),
        (
            &[("auth-secret", "s")],
            &[("note[annotation-differs]", "hashes"), ("error[annotation-invalid]", "needs `auth-type` too")],
        ),
        (
            &[("auth-type", "digest"), ("auth-secret", "s")],
            &[
                ("note[annotation-differs]", "hashes"),
                ("error[annotation-unsupported]", "this value is not supported"),
            ],
        ),
        // Not supported, by gravity.
        (&[("auth-url", "http://a.svc/ok")], &[("note[annotation-differs]", "untrusted client")]),
        (&[("canary", "true"), ("canary-weight", "10")], &[]),
        (
            &[("canary", "true"), ("auth-url", "http://a.svc/ok"), ("rewrite-target", "/")],
            &[
                ("warning[annotation-no-effect]", "does not count on a canary"),
                ("note[annotation-no-effect]", "does not count on a canary"),
            ],
        ),
        (
            &[("canary", "true"), ("custom-http-errors", "abc")],
            &[("error[annotation-invalid]", "the Ingress is not served")],
        ),
        (
            &[("canary", "false"), ("canary-weight", "10")],
            &[("note[annotation-no-effect]", "without `canary`")],
        ),
        (&[("backend-protocol", "GRPC")], &[("note[annotation-differs]", "gRPC status")]),
        (&[("backend-protocol", "FCGI")], &[("error[annotation-unsupported]", "FCGI is not spoken")]),
        (&[("backend-protocol", "http")], &[]),
        (&[("backend-protocol", "SPDY")], &[("warning[annotation-invalid]", "it is ignored")]),
        (&[("enable-cors", "true")], &[]),
        (&[("ssl-redirect", "false"), ("limit-rps", "0"), ("satisfy", "all"), ("enable-cors", "0")], &[]),
        (&[("satisfy", "any"), ("whitelist-source-range", "10.0.0.0/8")], &[]),
        (&[("cors-max-age", "5")], &[("note[annotation-no-effect]", "without `enable-cors`")]),
        (&[("http2-push-preload", "true")], &[("note[annotation-no-effect]", "server push")]),
        (&[("proxy-http-version", "1.0")], &[("warning[annotation-unsupported]", "HTTP/1.1")]),
        (
            &[("configuration-snippet", "more_set_headers \"A: b\";")],
            &[("note[annotation-differs]", "docs/snippets.md")],
        ),
    ];
    for (annotations, expected) in cases {
        let found: Vec<String> =
            check_annotations(&prefixed(annotations)).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{annotations:?}: {found:#?}");
        for (found, (start, part)) in found.iter().zip(*expected) {
            assert!(
                found.starts_with(start) && found.contains(part),
                "{annotations:?}: {found}\nexpected {start} {part}"
            );
        }
    }
}

#[test]
fn verdicts() {
    use Effect::{Denied, Ignored, NotServed, Withheld};
    type Case<'a> = (&'a [(&'a str, &'a str)], Effect, &'a [&'a str], bool);
    let cases: &[Case<'_>] = &[
        (&[], Ignored, &[], false),
        (&[("rewrite-target", "/$1"), ("mirror-target", "a")], Ignored, &[], false),
        (&[("auth-type", "basic"), ("auth-secret", "s"), ("auth-realm", "Staff")], Ignored, &[], false),
        (&[("auth-url", "http://a.svc/ok")], Ignored, &[], false),
        (
            &[("auth-url", "http://a.svc/ok"), ("auth-always-set-cookie", "yes")],
            Denied,
            &["the value of auth-always-set-cookie is not valid"],
            false,
        ),
        (
            &[("auth-type", "form"), ("auth-secret", "s")],
            Withheld,
            &["the value of auth-type is not valid"],
            false,
        ),
        (&[("auth-type", ""), ("auth-secret", "s")], Denied, &["the value of auth-type is not valid"], false),
        (
            &[("auth-type", "digest"), ("auth-secret", "s")],
            Denied,
            &["the value of auth-type is not supported"],
            false,
        ),
        (
            &[("auth-type", "basic"), ("auth-secret", "s"), ("auth-realm", "off")],
            Denied,
            &["the value of auth-realm is not supported"],
            false,
        ),
        (&[("auth-secret", "s")], Denied, &["auth-secret without auth-type"], false),
        (&[("auth-type", "basic")], Denied, &["auth-type without auth-secret"], false),
        (&[("auth-tls-secret", "n/s")], Ignored, &[], false),
        (&[("auth-tls-secret", "s")], Denied, &["the value of auth-tls-secret is not valid"], true),
        // Withheld, and what it asked of the whole host denies the rules of others.
        (
            &[("auth-tls-secret", "n/s"), ("auth-tls-match-cn", "bob")],
            Withheld,
            &["the value of auth-tls-match-cn is not valid"],
            true,
        ),
        (
            &[("auth-tls-secret", "n/s"), ("custom-http-errors", "404,abc")],
            Withheld,
            &["the value of custom-http-errors is not valid"],
            true,
        ),
        (&[("auth-tls-match-cn", "bob")], Ignored, &[], false),
        (
            &[("custom-http-errors", "404,abc")],
            NotServed,
            &["the value of custom-http-errors is not valid"],
            false,
        ),
        (
            &[("custom-http-errors", "404,abc"), ("enable-modsecurity", "true")],
            Denied,
            &["the value of custom-http-errors is not valid", "enable-modsecurity is not supported"],
            false,
        ),
        (
            &[("custom-http-errors", "404,abc"), ("proxy-body-size", "1k")],
            Withheld,
            &["the value of custom-http-errors is not valid"],
            false,
        ),
        (
            &[("canary", "true"), ("auth-url", "http://a.svc/ok"), ("custom-http-errors", "abc")],
            NotServed,
            &["the value of custom-http-errors is not valid"],
            false,
        ),
        (&[("canary", "true"), ("auth-url", "http://a.svc/ok")], Ignored, &[], false),
        (&[("canary", "maybe")], Ignored, &[], false),
        (&[("proxy-body-size", "huge"), ("satisfy", "one")], Ignored, &[], false),
        (&[("client-body-buffer-size", "1b")], Ignored, &[], false),
        (
            &[("client-body-buffer-size", "big")],
            NotServed,
            &["the value of client-body-buffer-size is not valid"],
            false,
        ),
        (&[("enable-modsecurity", "true")], Denied, &["enable-modsecurity is not supported"], false),
        (&[("enable-cors", "true"), ("cors-allow-origin", "https://a.example")], Ignored, &[], false),
        (
            &[("enable-cors", "true"), ("cors-allow-origin", "https://a.example/")],
            Denied,
            &["the value of cors-allow-origin is not valid"],
            false,
        ),
        (&[("cors-allow-origin", "https://a.example/")], Ignored, &[], false),
        (&[("configuration-snippet", "expires 1h;")], Ignored, &[], false),
        (
            &[("whitelist-source-range", " ")],
            Denied,
            &["the value of whitelist-source-range is not valid"],
            false,
        ),
    ];
    for (annotations, effect, reasons, host_wide) in cases {
        let found = verdict(&prefixed(annotations), None, &[]);
        let reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        assert_eq!(found, Verdict { effect: *effect, reasons, host_wide: *host_wide }, "{annotations:?}");
    }
}

#[test]
fn the_config_map_denies_unless_waived() {
    let data = [("enable-modsecurity", "true")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let config_map = ConfigMap { metadata: metadata(BTreeMap::new()), data: data.into() };
    let global = global_denials(&config_map);
    let cases: [(&[(&str, &str)], Effect); 4] = [
        (&[], Effect::Denied),
        (&[("enable-modsecurity", "true")], Effect::Denied),
        (&[("enable-modsecurity", "false")], Effect::Ignored),
        (&[("canary", "true")], Effect::Denied),
    ];
    for (annotations, effect) in cases {
        assert_eq!(verdict(&prefixed(annotations), None, &global).effect, effect, "{annotations:?}");
    }
}

#[test]
fn says_where_and_hides_what_may_be_secret() {
    let object = ingress(&[
        ("nginx.ingress.kubernetes.io/affinity", "ip"),
        ("ingress-wasm.io/request-headers", "Authorization: Bearer hunter2\nbad"),
        ("nginx.ingress.kubernetes.io/auth-url", "http://u:hunter2@a.svc/ok"),
        ("nginx.ingress.kubernetes.io/configuration-snippet", "proxy_set_header A hunter2;"),
        ("nginx.ingress.kubernetes.io/auth-ulr", "hunter2"),
    ]);
    let found = check_annotations(&object);
    assert_eq!(found.len(), 5, "{found:#?}");
    for diagnostic in &found {
        let shown = format!("{diagnostic}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(diagnostic.object.as_ref().map(ToString::to_string).as_deref(), Some("Ingress shop/web"));
    }
    let affinity = found.iter().find(|diagnostic| diagnostic.field.contains("affinity")).expect("affinity");
    assert_eq!(affinity.field, "metadata.annotations[\"nginx.ingress.kubernetes.io/affinity\"]");
    assert_eq!(affinity.found, "ip");
    assert_eq!(affinity.source.as_ref().map(ToString::to_string).as_deref(), Some("web.yaml:10"));
}

#[test]
fn reads_another_prefix() {
    let object = ingress(&[("edge.example/enable-modsecurity", "true")]);
    assert_eq!(check_annotations(&object), []);
    assert_eq!(verdict(&object, None, &[]).effect, Effect::Ignored);
    assert_eq!(check_annotations_with(&object, Some("edge.example")).len(), 1);
    assert_eq!(verdict(&object, Some("edge.example"), &[]).effect, Effect::Denied);
}
