//! Copies of requests (`mirror-target`): the cluster they go to, their Host, and their path.

use std::net::IpAddr;

use ingress_wasm::policy::Template;

use crate::annotations::{AnnotationSet, Value};
use crate::backends::{Backends, Origin};
use crate::diagnostic::Diagnostic;
use crate::objects::Ingress;
use crate::output::Mirror;
use crate::report::Report;

/// Where the copies of an Ingress's requests go, and their path and query as a template; none where it asks for
/// none, or where it cannot be had, which is reported.
pub fn read(
    ingress: &Ingress,
    annotations: &AnnotationSet<'_>,
    backends: &mut Backends<'_>,
    report: &mut Report,
) -> Option<(Mirror, String)> {
    let setting = annotations.get("mirror-target")?;
    let target = text(annotations, "mirror-target")?;
    let found = parse(&target).and_then(|target| {
        let host = text(annotations, "mirror-host").unwrap_or_else(|| target.origin.host.clone());
        if host.contains('$') {
            return Err("a Host with variables is not supported".to_owned());
        }
        Template::parse(&target.path).map_err(|error| error.to_string())?;
        let cluster = backends.mirror(&target.origin)?;
        let body = text(annotations, "mirror-request-body").as_deref() != Some("off");
        Ok((Mirror { cluster, host, body }, target.path))
    });
    match found {
        Ok(found) => Some(found),
        Err(fault) => {
            let diagnostic = Diagnostic::error("mirror-invalid", format!("nothing is mirrored: {fault}"))
                .remedy("write the scheme, a host without variables, and a path, as `http://NAME.NAMESPACE.svc.cluster.local$request_uri`");
            report.annotation(ingress, setting.key, diagnostic);
            None
        }
    }
}

/// The part of a route profile's name that tells its mirror.
pub fn profile_name(Mirror { cluster, host, body }: &Mirror) -> String {
    let body = if *body { "" } else { "-without-body" };
    format!("-mirror={host}@{cluster}{body}")
}

fn text(annotations: &AnnotationSet<'_>, name: &str) -> Option<String> {
    match annotations.value(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// A target, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    origin: Origin,
    path: String,
}

/// Takes a target apart. As nginx does, a path without variables is followed by the query of the request. One that
/// is missing is that of the request; nginx would send the name of an internal location.
fn parse(target: &str) -> Result<Target, String> {
    let (scheme, rest) = target.split_once("://").unwrap_or_default();
    let (tls, default_port) = match scheme {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return Err("a URL with http or https is needed".to_owned()),
    };
    let end = rest.find(['/', '$', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => {
            (host, port.parse().map_err(|_| format!("`{port}` is no port"))?)
        }
        _ => (authority, default_port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.is_empty() || !(host.bytes().all(is_name) || host.parse::<IpAddr>().is_ok()) {
        return Err(format!("`{host}` is no host"));
    }
    let path = match path {
        "" => "$request_uri".to_owned(),
        path if path.contains('$') => path.to_owned(),
        path if path.starts_with('?') => format!("/{path}"),
        path => format!("{path}$is_args$args"),
    };
    Ok(Target { origin: Origin { tls, host: host.to_ascii_lowercase(), port }, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_taken_apart() {
        let cases = [
            ("http://a.n.svc.cluster.local$request_uri", "a.n.svc.cluster.local:80 $request_uri"),
            ("http://a.n.svc:8080/x$request_uri", "a.n.svc:8080 /x$request_uri"),
            ("http://Shadow.example/x", "shadow.example:80 /x$is_args$args"),
            ("http://shadow.example", "shadow.example:80 $request_uri"),
            ("http://shadow.example?x=1", "shadow.example:80 /?x=1"),
            ("http://[::1]:8080/", "::1:8080 /$is_args$args"),
            ("http://a.b.c.svc/", "a.b.c.svc:80 /$is_args$args"),
            ("https://shadow.example$request_uri", "TLS shadow.example:443 $request_uri"),
            ("shadow.example", "a URL with http or https is needed"),
            ("http://$host/", "`` is no host"),
            ("http://a:b/", "`b` is no port"),
        ];
        for (target, expected) in cases {
            let found = match parse(target) {
                Ok(target) => {
                    let Origin { tls, host, port } = &target.origin;
                    format!("{}{host}:{port} {}", if *tls { "TLS " } else { "" }, target.path)
                }
                Err(fault) => fault,
            };
            assert_eq!(found, expected, "{target}");
        }
    }
}
