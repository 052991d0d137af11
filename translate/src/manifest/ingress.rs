//! Ingress and IngressClass. The rules are those of the API server (kubernetes `pkg/apis/networking/validation`).

use std::net::IpAddr;

use crate::objects::{
    ClassParameters, Ingress, IngressApi, IngressBackend, IngressClass, IngressPath, IngressRule, IngressTls,
    Metadata, ObjectName, PathType, PortRef,
};

use super::fields::{At, Faults, Unknown, near_miss};
use super::names;
use super::node::{Scalar, Value};

/// Fields of early versions, and what became of them.
const EARLY: [(&str, &str); 3] = [
    ("serviceName", "this is v1beta1; in networking.k8s.io/v1 write `service: {name: …}`"),
    (
        "servicePort",
        "this is v1beta1; in networking.k8s.io/v1 write `service: {port: {number: …}}` (or `name`)",
    ),
    ("backend", "this is v1beta1; in networking.k8s.io/v1 write `defaultBackend`"),
];

/// Fields that came with v1.
const LATE: [(&str, &str); 2] = [
    ("service", "this is networking.k8s.io/v1; in v1beta1 write `serviceName` and `servicePort`"),
    ("defaultBackend", "this is networking.k8s.io/v1; in v1beta1 write `backend`"),
];

/// Fields that are often written one level too high.
const MISPLACED: [(&str, &str); 4] = [
    ("paths", "write it below `http:`"),
    ("path", "write it in a list below `http: {paths: …}`"),
    ("name", "write it below `service:`"),
    ("port", "write it below `service:`"),
];

pub(super) fn ingress(
    root: &At<'_>,
    metadata: Metadata,
    api: IngressApi,
    faults: &mut Faults<'_>,
) -> Ingress {
    let mut ingress = Ingress {
        metadata,
        api,
        class_name: None,
        default_backend: None,
        rules: Vec::new(),
        tls: Vec::new(),
    };
    faults.check_fields(root, &["apiVersion", "kind", "metadata", "spec", "status"], &[], Unknown::Refuse);
    let Some(spec) = root.get("spec") else {
        faults.missing(root, "spec", "write at least one rule or a default backend below `spec:`");
        return ingress;
    };
    if !faults.mapping(&spec) {
        return ingress;
    }
    let v1 = api == IngressApi::NetworkingV1;
    let default_backend = if v1 { "defaultBackend" } else { "backend" };
    let elsewhere = if v1 { &EARLY[..] } else { &LATE[..] };
    faults.check_fields(
        &spec,
        &["ingressClassName", default_backend, "tls", "rules"],
        elsewhere,
        Unknown::Refuse,
    );
    ingress.class_name = faults.text_field(&spec, "ingressClassName");
    if let Some(at) = spec.get("ingressClassName")
        && ingress.class_name.as_deref().is_some_and(|name| !names::is_subdomain(name))
    {
        faults.error(
            "name-invalid",
            &at,
            "this is no valid name of an IngressClass",
            "use the name of an IngressClass",
        );
    }
    if let Some(at) = spec.get(default_backend) {
        ingress.default_backend = backend(&at, v1, faults);
    }
    if let Some(at) = spec.get("rules").filter(|at| faults.list(at)) {
        ingress.rules = at.items().map(|at| rule(&at, v1, faults)).collect();
    }
    if let Some(at) = spec.get("tls").filter(|at| faults.list(at)) {
        ingress.tls = at.items().map(|at| tls(&at, faults)).collect();
    }
    if ingress.rules.is_empty()
        && spec.get("rules").is_none_or(|at| at.items().next().is_none())
        && spec.get(default_backend).is_none()
    {
        faults.missing(&spec, "rules", format!("write at least one rule or a `{default_backend}`"));
    }
    ingress
}

fn rule(at: &At<'_>, v1: bool, faults: &mut Faults<'_>) -> IngressRule {
    let mut rule = IngressRule { host: None, paths: Vec::new(), line: at.line };
    if !faults.mapping(at) {
        return rule;
    }
    faults.check_fields(at, &["host", "http"], &MISPLACED[..2], Unknown::Refuse);
    rule.host = at.get("host").and_then(|at| host(&at, true, faults));
    if let Some(http) = at.get("http").filter(|http| faults.mapping(http)) {
        faults.check_fields(&http, &["paths"], &MISPLACED[1..2], Unknown::Refuse);
        let Some(paths) =
            http.get("paths").filter(|paths| paths.items().next().is_some() || !faults.list(paths))
        else {
            faults.missing(&http, "paths", "write at least one path, or leave out `http`");
            return rule;
        };
        rule.paths = paths.items().map(|at| path(&at, v1, faults)).collect();
    }
    rule
}

/// A host name; capitals are taken as small letters, as they are in requests.
fn host(at: &At<'_>, may_be_empty: bool, faults: &mut Faults<'_>) -> Option<String> {
    let written = faults.text(at)?;
    if written.is_empty() && may_be_empty {
        return Some(written);
    }
    let host = written.to_ascii_lowercase();
    if host.parse::<IpAddr>().is_ok() {
        let remedy = "use a name, or leave out the host so that the rule holds for every host";
        faults.error("host-invalid", at, "a host is a name and no IP address", remedy);
    } else if !(names::is_subdomain(&host) || names::is_wildcard_subdomain(&host)) {
        let remedy = if !host.is_ascii() {
            "write an internationalised name in its ASCII form (`xn--…`)"
        } else if host.contains('/') {
            "write the host alone, without scheme and path"
        } else if host.contains(':') {
            "write the host without a port"
        } else if host.contains('*') {
            "a wildcard is `*.` and a name, such as `*.example.com`"
        } else {
            "use letters, digits, `-` and `.`; each part begins and ends with a letter or digit"
        };
        faults.error("host-invalid", at, "this is no valid host name", remedy);
    } else if host != written {
        let what = "Kubernetes refuses a host with capital letters; it is taken in small letters here";
        faults.warning("host-uppercase", at, what, format!("write `{host}`"));
    }
    Some(host)
}

fn path(at: &At<'_>, v1: bool, faults: &mut Faults<'_>) -> IngressPath {
    let mut decoded = IngressPath { path: None, path_type: None, backend: None, line: at.line };
    if !faults.mapping(at) {
        return decoded;
    }
    faults.check_fields(at, &["path", "pathType", "backend"], &[], Unknown::Refuse);
    decoded.path_type = path_type(at, v1, faults);
    decoded.path = faults.text_field(at, "path");
    check_path(at, decoded.path.as_deref().unwrap_or_default(), decoded.path_type, faults);
    match at.get("backend") {
        Some(at) => decoded.backend = backend(&at, v1, faults),
        None => faults.missing(at, "backend", "name the Service that requests go to"),
    }
    decoded
}

fn path_type(at: &At<'_>, v1: bool, faults: &mut Faults<'_>) -> Option<PathType> {
    const CHOICE: &str = "write `Exact`, `Prefix` or `ImplementationSpecific`";
    let Some(field) = at.get("pathType") else {
        if v1 {
            faults.missing(at, "pathType", CHOICE);
        }
        return None;
    };
    let text = faults.text(&field)?;
    let path_type = match text.as_str() {
        "Exact" => PathType::Exact,
        "Prefix" => PathType::Prefix,
        "ImplementationSpecific" => PathType::ImplementationSpecific,
        _ => {
            let what = match near_miss(&text, &["Exact", "Prefix", "ImplementationSpecific"]) {
                Some(meant) => format!("there is no such path type; did you mean `{meant}`?"),
                None => "there is no such path type".to_owned(),
            };
            faults.error("path-type-invalid", &field, &what, CHOICE);
            return None;
        }
    };
    Some(path_type)
}

fn check_path(at: &At<'_>, path: &str, path_type: Option<PathType>, faults: &mut Faults<'_>) {
    let by_elements = matches!(path_type, Some(PathType::Exact | PathType::Prefix));
    let field = at.get("path");
    let Some(field) = field.filter(|field| field.node.text().is_some()) else {
        if by_elements && at.get("path").is_none() {
            faults.missing(at, "path", "write `path: /` for every path");
        }
        return;
    };
    if !path.starts_with('/') && (by_elements || !path.is_empty()) {
        let remedy = match path.strip_prefix('^') {
            Some(rest) if rest.starts_with('/') => {
                format!("write `{rest}`: expressions are anchored as they are")
            }
            _ => format!("write `/{path}`"),
        };
        return faults.error("path-not-absolute", &field, "a path begins with `/`", remedy);
    }
    // "//" and the like can never match a path by its elements.
    let inside = ["//", "/./", "/../", "%2f", "%2F"].into_iter().find(|sequence| path.contains(sequence));
    let at_end = ["/..", "/."].into_iter().find(|suffix| path.ends_with(suffix));
    if by_elements && let Some(sequence) = inside.or(at_end) {
        let what = format!("a path of this type may not hold `{sequence}`");
        faults.error("path-invalid", &field, &what, "write the path as it is after normalisation");
    }
}

fn backend(at: &At<'_>, v1: bool, faults: &mut Faults<'_>) -> Option<IngressBackend> {
    if !faults.mapping(at) {
        return None;
    }
    let known: &[&str] =
        if v1 { &["service", "resource"] } else { &["serviceName", "servicePort", "resource"] };
    let elsewhere: Vec<_> =
        if v1 { EARLY.iter().chain(&MISPLACED[2..]).copied().collect() } else { LATE.to_vec() };
    faults.check_fields(at, known, &elsewhere, Unknown::Refuse);
    let service_field = if v1 { "service" } else { "serviceName" };
    match (at.get(service_field), at.get("resource")) {
        (Some(_), Some(resource)) => {
            faults.error(
                "field-value",
                &resource,
                "a backend is a Service or a resource, not both",
                "remove one",
            );
            None
        }
        (None, Some(_)) => None,
        (None, None) => {
            // A misspelt field has been told already.
            if at.entries().next().is_none() {
                faults.missing(at, service_field, "name the Service that requests go to");
            }
            None
        }
        (Some(service), None) if v1 => service_backend(&service, faults),
        (Some(name), None) => {
            let service = service_name(&name, faults);
            let Some(port) = at.get("servicePort") else {
                faults.missing(at, "servicePort", "name the port of the Service by number or name");
                return None;
            };
            Some(IngressBackend { service: service?, port: port_ref(&port, faults)? })
        }
    }
}

fn service_backend(at: &At<'_>, faults: &mut Faults<'_>) -> Option<IngressBackend> {
    if !faults.mapping(at) {
        return None;
    }
    faults.check_fields(at, &["name", "port"], &[], Unknown::Refuse);
    let service = match at.get("name") {
        Some(name) => service_name(&name, faults),
        None => {
            faults.missing(at, "name", "name the Service that requests go to");
            None
        }
    };
    let Some(port) = at.get("port") else {
        faults.missing(at, "port", "write `port: {number: …}` or `port: {name: …}`");
        return None;
    };
    if let Value::Scalar(..) = port.node.value {
        let what = "a mapping with `number` or `name` is needed here";
        faults.error("field-type", &port, what, format!("write `port: {{number: {}}}`", port.found()));
        return None;
    }
    if !faults.mapping(&port) {
        return None;
    }
    faults.check_fields(&port, &["name", "number"], &[], Unknown::Refuse);
    let port = match (port.get("name"), port.get("number")) {
        (Some(name), Some(_)) => {
            faults.error(
                "port-invalid",
                &name,
                "a port is given by number or by name, not both",
                "remove one",
            );
            None
        }
        (Some(name), None) => port_name(&name, faults),
        (None, Some(number)) => faults.port(&number).map(PortRef::Number),
        (None, None) => {
            if port.entries().next().is_none() {
                faults.missing(&port, "number", "name the port of the Service by number or name");
            }
            None
        }
    };
    Some(IngressBackend { service: service?, port: port? })
}

fn service_name(at: &At<'_>, faults: &mut Faults<'_>) -> Option<String> {
    let name = faults.text(at)?;
    if !names::is_label(&name) {
        let remedy = match name.split_once('/') {
            Some((_, name)) => {
                format!("an Ingress reaches Services of its own namespace only: write `{name}`")
            }
            None => "use the name of a Service in the namespace of the Ingress".to_owned(),
        };
        faults.error("name-invalid", at, "this is no valid name of a Service", remedy);
    }
    Some(name)
}

/// A port that is a number or a name, by its type.
pub(super) fn port_ref(at: &At<'_>, faults: &mut Faults<'_>) -> Option<PortRef> {
    match at.node.value {
        Value::Scalar(Scalar::Int, _) => faults.port(at).map(PortRef::Number),
        _ => port_name(at, faults),
    }
}

fn port_name(at: &At<'_>, faults: &mut Faults<'_>) -> Option<PortRef> {
    let name = faults.text(at)?;
    if !names::is_port_name(&name) {
        let remedy = if name.bytes().all(|b| b.is_ascii_digit()) {
            "write the number without quotes"
        } else {
            "use at most 15 lower-case letters, digits and `-`, with at least one letter"
        };
        faults.error("port-invalid", at, "this is no name of a port", remedy);
    }
    Some(PortRef::Name(name))
}

fn tls(at: &At<'_>, faults: &mut Faults<'_>) -> IngressTls {
    let mut tls = IngressTls { hosts: Vec::new(), secret_name: None };
    if !faults.mapping(at) {
        return tls;
    }
    faults.check_fields(at, &["hosts", "secretName"], &[("host", "write a list, `hosts:`")], Unknown::Refuse);
    if let Some(hosts) = at.get("hosts").filter(|hosts| faults.list(hosts)) {
        tls.hosts = hosts.items().filter_map(|at| host(&at, false, faults)).collect();
    }
    tls.secret_name = faults.text_field(at, "secretName").filter(|name| !name.is_empty());
    if let (Some(name), Some(at)) = (&tls.secret_name, at.get("secretName"))
        && !names::is_subdomain(name)
    {
        let remedy = "use the name of a Secret in the namespace of the Ingress";
        faults.error("name-invalid", &at, "this is no valid name of a Secret", remedy);
    }
    tls
}

pub(super) fn class(root: &At<'_>, metadata: Metadata, faults: &mut Faults<'_>) -> IngressClass {
    let mut class = IngressClass { metadata, controller: String::new(), parameters: None };
    faults.check_fields(root, &["apiVersion", "kind", "metadata", "spec"], &[], Unknown::RefuseSlips);
    let Some(spec) = root.get("spec") else {
        faults.missing(root, "spec", "name the controller below `spec:`");
        return class;
    };
    if !faults.mapping(&spec) {
        return class;
    }
    faults.check_fields(&spec, &["controller", "parameters"], &[], Unknown::RefuseSlips);
    match spec.get("controller") {
        Some(at) => class.controller = faults.text(&at).unwrap_or_default(),
        None => {
            faults.missing(&spec, "controller", "write `controller: k8s.io/ingress-nginx` or that of another")
        }
    }
    class.parameters = spec.get("parameters").and_then(|at| parameters(&at, faults));
    class
}

fn parameters(at: &At<'_>, faults: &mut Faults<'_>) -> Option<ClassParameters> {
    if !faults.mapping(at) {
        return None;
    }
    faults.check_fields(at, &["apiGroup", "kind", "name", "namespace", "scope"], &[], Unknown::RefuseSlips);
    let mut text = |field| faults.text_field(at, field).unwrap_or_default();
    let (api_group, kind, name) = (text("apiGroup"), text("kind"), text("name"));
    // Of the cluster unless told otherwise (IngressClassParametersReference).
    let namespace = if text("scope") == "Namespace" { text("namespace") } else { String::new() };
    Some(ClassParameters { api_group, kind, name: ObjectName::new(namespace, name) })
}
