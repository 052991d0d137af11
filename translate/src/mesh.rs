//! What the gateway of an Istio mesh cannot carry out. Each is said by name.
//!
//! Deliberately knows nothing of Istio's objects: they are made from the translation.

use crate::annotations::{AnnotationSet, Setting, Value, parse_bool};
use crate::diagnostic::{Diagnostic, Severity};
use crate::objects::{Ingress, Kind, ObjectRef, Snapshot};
use crate::output::Options;
use crate::report::Report;

/// What is not carried out, or not in the same way.
struct Gap {
    /// The annotation, or the option of the ConfigMap.
    name: &'static str,
    severity: Severity,
    consequence: &'static str,
    remedy: &'static str,
}

const fn gap(name: &'static str, severity: Severity, consequence: &'static str, remedy: &'static str) -> Gap {
    Gap { name, severity, consequence, remedy }
}

use Severity::{Note, Warning};

/// Annotations, whatever they ask for.
const ANNOTATIONS: &[Gap] = &[
    gap(
        "upstream-hash-by-subset",
        Warning,
        "one endpoint is chosen among all of the Service: a mesh has no such parts of them",
        "leave it away",
    ),
    gap(
        "upstream-hash-by",
        Note,
        "backends get the private header x-ingress-wasm-hash, which Envoy chooses the endpoint by",
        "",
    ),
    gap(
        "affinity",
        Note,
        "backends get the private header x-ingress-wasm-hash, which Envoy chooses the endpoint by",
        "",
    ),
    gap(
        "ssl-prefer-server-ciphers",
        Note,
        "the order of the list of ciphers decides: a Gateway cannot leave it to clients",
        "",
    ),
    gap(
        "service-upstream",
        Warning,
        "requests go to the endpoints that the mesh knows, not to the address of the Service",
        "leave it away",
    ),
    gap(
        "proxy-ssl-ciphers",
        Warning,
        "the ciphers of the mesh are used towards backends: a DestinationRule has none",
        "set `meshConfig.tlsDefaults.cipherSuites`",
    ),
    gap(
        "proxy-ssl-protocols",
        Warning,
        "the versions of TLS of the mesh are used towards backends: a DestinationRule has none",
        "set `meshConfig.tlsDefaults.minProtocolVersion`",
    ),
    gap(
        "proxy-ssl-verify-depth",
        Warning,
        "a chain of any length is accepted from backends: a DestinationRule has no limit",
        "leave it away",
    ),
];

/// Options of the ConfigMap that ask for what a gateway does otherwise, and the value that does so.
const OPTIONS: &[(bool, Gap)] = &[
    (
        true,
        gap(
            "use-forwarded-headers",
            Warning,
            "X-Forwarded-Proto of a proxy before the gateway is only seen where the gateway is told of that proxy: \
             until then the scheme is that of the connection",
            "set `gatewayTopology.numTrustedProxies` for the gateway, in meshConfig or by `proxy.istio.io/config`",
        ),
    ),
    (
        true,
        gap(
            "use-proxy-protocol",
            Warning,
            "the gateway reads no PROXY protocol unless it is told so",
            "set `gatewayTopology.proxyProtocol: {}` for the gateway, by `proxy.istio.io/config`",
        ),
    ),
    (
        true,
        gap(
            "service-upstream",
            Warning,
            "requests go to the endpoints that the mesh knows, not to the addresses of Services",
            "leave it away",
        ),
    ),
    (
        false,
        gap(
            "generate-request-id",
            Warning,
            "requests without X-Request-ID get one from the gateway all the same",
            "leave it away",
        ),
    ),
    (
        false,
        gap(
            "use-http2",
            Warning,
            "HTTP/2 is offered to clients: a Gateway cannot leave it away",
            "leave it away",
        ),
    ),
];

/// Options of the ConfigMap that a gateway has settings of its own for, whatever they ask for.
const SETTINGS: &[Gap] = &[
    gap("upstream-keepalive-connections", Warning, KEPT, KEEP),
    gap("upstream-keepalive-requests", Warning, KEPT, KEEP),
    gap("upstream-keepalive-time", Warning, KEPT, KEEP),
    gap("upstream-keepalive-timeout", Warning, KEPT, KEEP),
];

const KEPT: &str = "connections to backends are kept as the mesh has it";
const KEEP: &str = "say it in a DestinationRule of the Service, under `connectionPool`";

/// What an Ingress asks for that is not carried out. The reason, where its rules are denied for it.
pub fn check(ingress: &Ingress, annotations: &AnnotationSet<'_>, report: &mut Report) -> Option<String> {
    for gap in ANNOTATIONS {
        if let Some(setting) = annotations.get(gap.name).filter(Setting::asks) {
            report.annotation(ingress, setting.key, gap.diagnostic());
        }
    }
    let setting = annotations.get("backend-protocol")?;
    let names_itself = annotations.get("proxy-ssl-secret").is_some_and(|setting| setting.asks())
        && matches!(annotations.value("proxy-ssl-server-name"), Some(Value::Text(text)) if text == "on");
    match setting.parse() {
        Ok(Value::Text(text)) if !names_itself && is_one_of(&text, &["HTTPS", "GRPCS"]) => {
            let consequence =
                "backends get the Host of the request as the server name (SNI): ingress-nginx sends none";
            let diagnostic = Diagnostic::warning("istio-sni", consequence).remedy(
                "where a backend does not take that, set proxy-ssl-secret, proxy-ssl-name and proxy-ssl-server-name: on",
            );
            report.annotation(ingress, setting.key, diagnostic);
            None
        }
        Ok(Value::Text(text)) if text.eq_ignore_ascii_case("AUTO_HTTP") => {
            let reason = "a mesh cannot choose the protocol of backends by that of the client's connection";
            let diagnostic =
                Diagnostic::error("istio-not-honoured", format!("requests are answered 503: {reason}"))
                    .remedy("say HTTP or HTTPS");
            report.annotation(ingress, setting.key, diagnostic);
            Some(reason.to_owned())
        }
        _ => None,
    }
}

fn is_one_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// What holds for all Ingresses, and what the ConfigMap asks for that is not carried out.
pub fn check_global(snapshot: &Snapshot, options: &Options, report: &mut Report) {
    report.add(
        Diagnostic::note(
            "istio-load-balancing",
            "among the endpoints of a Service the mesh chooses, by least requests and not in turn, where an Ingress or \
             the ConfigMap asks for turns, or for nothing",
        )
        .remedy("a DestinationRule of the Service says otherwise"),
    );
    report.add(
        Diagnostic::note(
            "istio-path-normalization",
            "a gateway resolves `.` and `..` in paths before anything else, so backends get them resolved",
        )
        .remedy(
            "set `meshConfig.pathNormalization.normalization: NONE` where backends need paths as they came",
        ),
    );
    report.add(
        Diagnostic::note(
            "istio-connections",
            "a connection to a backend may take as long as the mesh allows, 10 s, and not 5 s as with ingress-nginx, \
             where an Ingress or the ConfigMap asks for 5 s, or for nothing; one that lies unused is kept for an hour \
             and not for a minute",
        )
        .remedy("set `meshConfig.connectTimeout: 5s`, and `connectionPool.http.idleTimeout` in DestinationRules"),
    );
    report.add(Diagnostic::note("istio-headers", "a gateway may add headers for tracing to requests"));
    report.add(Diagnostic::note(
        "istio-request-id",
        "requests without X-Request-ID get one from the gateway: a UUID, and not 32 hexadecimal digits",
    ));
    let Some(map) = options.config_map.as_ref().and_then(|name| snapshot.config_maps.get(name)) else {
        return;
    };
    let mut say = |gap: &Gap, text: &str| {
        let object = ObjectRef { kind: Kind::ConfigMap, name: map.metadata.name.clone() };
        let diagnostic = gap.diagnostic().object(object, map.metadata.source.clone());
        report.add(diagnostic.field(format!("data[\"{}\"]", gap.name), text));
    };
    for (asks, gap) in OPTIONS {
        match map.data.get(gap.name) {
            Some(text) if parse_bool(text) == Some(*asks) => say(gap, text),
            _ => {}
        }
    }
    for gap in SETTINGS {
        if let Some(text) = map.data.get(gap.name).filter(|text| !text.trim().is_empty()) {
            say(gap, text);
        }
    }
}

impl Gap {
    fn diagnostic(&self) -> Diagnostic {
        Diagnostic::new(self.severity, "istio-not-honoured", self.consequence).remedy(self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::{config_option, lookup};

    #[test]
    fn names_are_those_of_the_registry() {
        for gap in ANNOTATIONS {
            assert!(lookup(gap.name).is_some(), "{}", gap.name);
        }
        for gap in OPTIONS.iter().map(|(_, gap)| gap).chain(SETTINGS) {
            assert!(config_option(gap.name).is_some(), "{}", gap.name);
        }
    }
}
