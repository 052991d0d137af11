//! A set of Ingresses as data, and as manifests.

use serde_json::{Value, json};

/// Ingresses, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    pub ingresses: Vec<Ingress>,
}

/// An Ingress; its name follows from its number.
#[derive(Debug, Clone, Default)]
pub struct Ingress {
    pub number: usize,
    pub rules: Vec<Rule>,
    /// `spec.defaultBackend`, the number of a Service.
    pub default_backend: Option<usize>,
    pub annotations: Annotations,
}

/// The paths of a host; the empty host is every one.
#[derive(Debug, Clone)]
pub struct Rule {
    pub host: &'static str,
    pub paths: Vec<Path>,
}

#[derive(Debug, Clone)]
pub struct Path {
    pub text: &'static str,
    pub kind: Kind,
    /// The number of a Service.
    pub service: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Exact,
    Prefix,
    Specific,
}

/// Those that concern routing; as written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Annotations {
    pub use_regex: bool,
    pub rewrite_target: &'static str,
    pub forwarded_prefix: &'static str,
    pub app_root: &'static str,
    pub permanent_redirect: &'static str,
    pub permanent_code: u16,
    pub temporal_redirect: &'static str,
    pub temporal_code: u16,
    pub relative_redirects: bool,
    pub force_tls: bool,
    pub preserve_slash: bool,
    pub from_to_www: bool,
    /// Separated by commas.
    pub aliases: &'static str,
}

impl Ingress {
    pub fn name(&self) -> String {
        format!("i{}", self.number)
    }
}

/// The name of a Service.
pub fn service(number: usize) -> String {
    format!("s{number}")
}

impl Annotations {
    fn json(&self) -> Value {
        let flag = |on: bool| if on { "true".to_owned() } else { String::new() };
        let code = |code: u16| if code == 0 { String::new() } else { code.to_string() };
        let all = [
            ("use-regex", flag(self.use_regex)),
            ("rewrite-target", self.rewrite_target.to_owned()),
            ("x-forwarded-prefix", self.forwarded_prefix.to_owned()),
            ("app-root", self.app_root.to_owned()),
            ("permanent-redirect", self.permanent_redirect.to_owned()),
            ("permanent-redirect-code", code(self.permanent_code)),
            ("temporal-redirect", self.temporal_redirect.to_owned()),
            ("temporal-redirect-code", code(self.temporal_code)),
            ("relative-redirects", flag(self.relative_redirects)),
            ("force-ssl-redirect", flag(self.force_tls)),
            ("preserve-trailing-slash", flag(self.preserve_slash)),
            ("from-to-www-redirect", flag(self.from_to_www)),
            ("server-alias", self.aliases.to_owned()),
        ];
        let set = all.into_iter().filter(|(_, value)| !value.is_empty());
        set.map(|(key, value)| (format!("nginx.ingress.kubernetes.io/{key}"), Value::from(value))).collect()
    }
}

impl Scene {
    /// The Ingresses as a list in JSON.
    pub fn manifests(&self) -> String {
        let backend = |number: usize| json!({"service": {"name": service(number), "port": {"number": 80}}});
        let path = |path: &Path| {
            let kind = match path.kind {
                Kind::Exact => "Exact",
                Kind::Prefix => "Prefix",
                Kind::Specific => "ImplementationSpecific",
            };
            json!({"path": path.text, "pathType": kind, "backend": backend(path.service)})
        };
        let rule = |rule: &Rule| {
            let paths: Vec<Value> = rule.paths.iter().map(path).collect();
            let mut json = json!({"http": {"paths": paths}});
            if !rule.host.is_empty() {
                json["host"] = rule.host.into();
            }
            json
        };
        let ingress = |(age, ingress): (usize, &Ingress)| {
            let mut spec = json!({"ingressClassName": "nginx"});
            if !ingress.rules.is_empty() {
                spec["rules"] = ingress.rules.iter().map(rule).collect();
            }
            if let Some(number) = ingress.default_backend {
                spec["defaultBackend"] = backend(number);
            }
            json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": {
                    "name": ingress.name(),
                    "namespace": "default",
                    "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z"),
                    "annotations": ingress.annotations.json(),
                },
                "spec": spec,
            })
        };
        let items: Vec<Value> = self.ingresses.iter().enumerate().map(ingress).collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    }

    /// In few words, one line per path.
    pub fn describe(&self) -> String {
        let mut lines = Vec::new();
        for ingress in &self.ingresses {
            lines.push(format!("{} {}", ingress.name(), ingress.annotations.json()));
            if let Some(number) = ingress.default_backend {
                lines.push(format!("  default backend {}", service(number)));
            }
            for rule in &ingress.rules {
                let shown = rule.paths.iter().map(|path| format!("{:?} {:?}", path.kind, path.text));
                lines.push(format!("  {:?}: {}", rule.host, shown.collect::<Vec<_>>().join(", ")));
            }
        }
        lines.join("\n")
    }
}
