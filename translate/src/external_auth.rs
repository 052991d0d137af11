//! Authentication by another service: `auth-url` and what belongs to it, and the same for all Ingresses by the
//! `global-auth-…` options of the ConfigMap.

use std::collections::BTreeSet;

use ingress_wasm::config::{AuthCache, CacheTime, ExternalAuth, HeaderEdit, PolicySet};
use ingress_wasm::policy::{HeaderTemplate, Template, may_be_taken};

use crate::annotations::{InvalidValue, Value, parse_milliseconds};
use crate::backends::{Backends, Origin};
use crate::diagnostic::Diagnostic;
use crate::objects::ObjectName;
use crate::policies::{Context, deny};
use crate::report::Report;
use crate::snippet::{self, Directive};

/// Where an Ingress without `auth-cache-duration` stands.
const DEFAULT_TIMES: &str = "200 202 401 5m";

/// Where the settings of an authentication service come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origins {
    /// Annotations `auth-…`.
    Ingress,
    /// Options `global-auth-…`.
    ConfigMap,
}

/// The settings of one Ingress, whichever of the two places they come from.
struct Settings<'a> {
    context: &'a Context<'a>,
    origins: Origins,
}

impl Settings<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        match self.origins {
            Origins::Ingress => self.context.annotations.value(&format!("auth-{name}")),
            Origins::ConfigMap => self.context.defaults.global_auth.get(name).cloned(),
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Says something of a setting. What is said of the ConfigMap is the same for every Ingress.
    fn tell(&self, name: &str, diagnostic: Diagnostic, report: &mut Report) {
        match self.origins {
            Origins::Ingress => {
                let name = format!("auth-{name}");
                let key = self.context.annotations.get(&name).map_or("", |setting| setting.key);
                report.annotation(self.context.ingress, key, diagnostic);
            }
            Origins::ConfigMap => report.ingress(self.context.ingress, 0, diagnostic),
        }
    }

    /// Denies all rules of the Ingress.
    fn deny(&self, name: &str, fault: &str, remedy: &str, set: &mut PolicySet, report: &mut Report) {
        let code = "auth-url-invalid";
        match self.origins {
            Origins::Ingress => {
                let Some(setting) = self.context.annotations.get(&format!("auth-{name}")) else { return };
                deny(self.context, &setting, &mut set.denied, report, code, fault, remedy);
            }
            Origins::ConfigMap => {
                let consequence =
                    format!("global-auth-{name} of the ConfigMap: {fault}: requests are answered 503");
                report.ingress(self.context.ingress, 0, Diagnostic::error(code, consequence).remedy(remedy));
                set.denied.get_or_insert_with(|| fault.to_owned());
            }
        }
    }
}

/// Puts the authentication service of an Ingress into its policies. `names` are all names of its hosts.
pub fn read(
    context: &Context<'_>,
    names: &BTreeSet<String>,
    set: &mut PolicySet,
    backends: &mut Backends<'_>,
    report: &mut Report,
) {
    let annotations = context.annotations;
    let origins = match annotations.get("auth-url").map(|setting| setting.parse()) {
        // The registry has denied the rules.
        Some(Err(fault)) if fault != InvalidValue::Empty => return,
        Some(Ok(_)) => Origins::Ingress,
        _ if annotations.value("enable-global-auth") == Some(Value::Bool(false)) => return,
        _ if context.defaults.global_auth_broken => {
            set.denied.get_or_insert_with(|| "global-auth-url of the ConfigMap cannot be read".to_owned());
            return;
        }
        _ => Origins::ConfigMap,
    };
    let settings = Settings { context, origins };
    let Some(url) = settings.text("url") else { return };
    let url = match Url::read(&url, context) {
        Ok(url) => url,
        Err(fault) => {
            let remedy = "write a URL with http or https, and with no variable in its host but $host";
            settings.deny("url", &fault, remedy, set, report);
            return;
        }
    };
    if settings.text("method").as_deref() == Some("CONNECT") {
        settings.deny("method", "CONNECT is not supported", "use another method", set, report);
        return;
    }
    let Some(mut request_headers) = request_headers(&settings, set, report) else { return };
    match of_snippet(&settings, report) {
        Ok(headers) => request_headers.extend(headers),
        Err(fault) => {
            settings.deny("snippet", &fault, "leave `proxy_set_header NAME VALUE;` alone in it", set, report);
            return;
        }
    }
    let Some(cluster) = cluster(&settings, &url, names, set, backends, report) else { return };
    let mut response_headers = match settings.value("response-headers") {
        Some(Value::List(names)) => names,
        _ => Vec::new(),
    };
    if let Some(name) = response_headers.iter().find(|name| !may_be_taken(name)) {
        let fault = format!("the header {name} cannot be taken from the answer of a service");
        settings.deny("response-headers", &fault, "take it from the list", set, report);
        return;
    }
    response_headers.dedup();
    set.external_auth = Some(ExternalAuth {
        cluster,
        host: url.host,
        target: url.target,
        method: settings.text("method"),
        request_redirect: variables(
            &settings,
            "request-redirect",
            "the target of the request is told",
            report,
        ),
        request_headers,
        response_headers,
        sign_in: sign_in(&settings, report),
        always_set_cookie: settings.value("always-set-cookie") == Some(Value::Bool(true)),
        cache: variables(&settings, "cache-key", "nothing is remembered", report)
            .map(|key| AuthCache { key, times: cache_times(&settings) }),
    });
}

/// A URL as nginx's `proxy_pass` takes it apart.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    tls: bool,
    /// The Host that the service gets: without a port, and with the variables as written.
    host: String,
    /// The host to connect to; the only variable in it is `$host`.
    name: String,
    port: u16,
    /// Path and query.
    target: String,
}

impl Url {
    fn read(url: &str, context: &Context<'_>) -> Result<Url, String> {
        let (scheme, rest) = url.split_once("://").ok_or("the URL has no scheme")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(format!("the scheme {scheme} is not supported")),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = match authority.rsplit_once(':') {
            None => (authority, if tls { 443 } else { 80 }),
            Some((host, port)) => match port.parse() {
                Ok(port) if port > 0 => (host, port),
                _ => return Err(format!("{port} is not a port")),
            },
        };
        let slash = if target.starts_with('?') { "/" } else { "" };
        let target = format!("{slash}{target}");
        for text in [host, &target] {
            Template::parse(text).map_err(|error| error.to_string())?;
        }
        Ok(Url { tls, host: host.to_owned(), name: host_name(host, context)?, port, target })
    }
}

/// The host to connect to. Of variables in it, those that are known now are put in.
fn host_name(host: &str, context: &Context<'_>) -> Result<String, String> {
    let mut name = host.to_owned();
    let ObjectName { namespace, name: ingress } = &context.ingress.metadata.name;
    let known = [("namespace", namespace.as_str()), ("ingress_name", ingress)];
    let same = ["best_http_host", "http_host", "host"].map(|variable| (variable, "\0"));
    for (variable, value) in known.into_iter().chain(same) {
        name = name.replace(&format!("${{{variable}}}"), value);
        while let Some(at) = name.find(&format!("${variable}")) {
            let after = at + 1 + variable.len();
            if name[after..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
                break;
            }
            name.replace_range(at..after, value);
        }
    }
    if name.contains('$') {
        return Err("the host of the URL has a variable other than $host".to_owned());
    }
    let plain = name.replace('\0', "h").to_ascii_lowercase();
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !plain.strip_suffix('.').unwrap_or(&plain).split('.').all(is_label) {
        return Err("the host of the URL is not a name".to_owned());
    }
    Ok(name.to_ascii_lowercase().replace('\0', "$host"))
}

/// The cluster of the service, by a name that may hold `$host`: then there is one for each name of the hosts.
fn cluster(
    settings: &Settings<'_>,
    url: &Url,
    names: &BTreeSet<String>,
    set: &mut PolicySet,
    backends: &mut Backends<'_>,
    report: &mut Report,
) -> Option<String> {
    let Url { tls, name, port, .. } = url;
    if *tls {
        let consequence = "the certificate of the service is not verified, as ingress-nginx does not either";
        settings.tell("url", Diagnostic::note("auth-url-unverified", consequence), report);
    }
    let origin = |host: String| Origin { tls: *tls, host, port: *port };
    if !name.contains("$host") {
        return match backends.asked(&origin(name.clone())) {
            Ok((cluster, diagnostic)) => {
                diagnostic.into_iter().for_each(|diagnostic| settings.tell("url", diagnostic, report));
                Some(cluster)
            }
            Err(fault) => {
                settings.deny("url", &fault, "name another host", set, report);
                None
            }
        };
    }
    let (known, unknown): (Vec<_>, Vec<_>) = names
        .iter()
        .partition(|name| !name.is_empty() && !name.contains(['*', '~']) && !name.starts_with('.'));
    if known.is_empty() {
        let fault = "$host in the URL of the authentication service needs hosts with a name";
        settings.deny("url", fault, "name the host of the service in the URL", set, report);
        return None;
    }
    if !unknown.is_empty() {
        let consequence = "requests for hosts by a wildcard or an expression are answered 500: $host in the URL \
                           stands for names that are known";
        let diagnostic = Diagnostic::warning("auth-url-host", consequence)
            .remedy("name the host of the service in the URL");
        settings.tell("url", diagnostic, report);
    }
    for host in known {
        if let Err(fault) = backends.asked(&origin(name.replace("$host", host))) {
            settings.deny("url", &fault, "name another host", set, report);
            return None;
        }
    }
    Some(backends.asked_by_host(*tls, name, *port))
}

/// The headers of `auth-proxy-set-headers`; none where the rules are denied.
fn request_headers(
    settings: &Settings<'_>,
    set: &mut PolicySet,
    report: &mut Report,
) -> Option<Vec<HeaderEdit>> {
    let Some(Value::Name { namespace, name }) = settings.value("proxy-set-headers") else {
        return Some(Vec::new());
    };
    let context = settings.context;
    let setting = "proxy-set-headers";
    let own = &context.ingress.metadata.name.namespace;
    let Some(namespace) = namespace.filter(|namespace| namespace == own) else {
        let fault = "the ConfigMap with the headers has to be in the namespace of the Ingress";
        settings.deny(setting, fault, "name it as namespace/name", set, report);
        return None;
    };
    let Some(map) = context.snapshot.config_maps.get(&ObjectName::new(namespace, name)) else {
        let fault = "the ConfigMap with the headers does not exist";
        settings.deny(setting, fault, "create it, or correct its name", set, report);
        return None;
    };
    let mut edits = Vec::with_capacity(map.data.len());
    for (name, value) in &map.data {
        let edit = HeaderEdit::Set { name: name.clone(), value: value.trim().to_owned() };
        if let Err(error) = HeaderTemplate::compile(edit.clone()) {
            let remedy = "write a header name of letters, digits and hyphens, and a value of one line";
            settings.deny(setting, &error.to_string(), remedy, set, report);
            return None;
        }
        edits.push(edit);
    }
    Some(edits)
}

/// The headers that `auth-snippet` sets for the service. Any other directive may be one that the service's word depends
/// on.
fn of_snippet(settings: &Settings<'_>, report: &mut Report) -> Result<Vec<HeaderEdit>, String> {
    let Some(text) = settings.text("snippet") else { return Ok(Vec::new()) };
    if settings.origins == Origins::Ingress && !settings.context.defaults.settings.allow_snippet_annotations {
        let consequence =
            "snippets are not allowed (allow-snippet-annotations of the ConfigMap): it is left out";
        let diagnostic = Diagnostic::error("snippet-not-allowed", consequence)
            .remedy("allow them in the ConfigMap, or take the annotation away");
        settings.tell("snippet", diagnostic, report);
        return Ok(Vec::new());
    }
    let directives = snippet::parse(&text).map_err(|error| format!("the snippet cannot be read: {error}"))?;
    directives.iter().map(header).collect()
}

fn header(directive: &Directive) -> Result<HeaderEdit, String> {
    let line = directive.line;
    let ("proxy_set_header", [name, value]) = (&*directive.name, &*directive.args) else {
        return Err(format!("line {line}: the directive `{}` is not supported here", directive.name));
    };
    let (name, value) = (name.clone(), value.clone());
    // nginx does not send an empty one.
    let edit = match value.is_empty() {
        true => HeaderEdit::Remove { name },
        false => HeaderEdit::Set { name, value },
    };
    match HeaderTemplate::compile(edit.clone()) {
        Ok(_) => Ok(edit),
        Err(error) => Err(format!("line {line}: {error}")),
    }
}

/// A text with variables; one that cannot be read is told.
fn variables(settings: &Settings<'_>, name: &str, instead: &str, report: &mut Report) -> Option<String> {
    let text = settings.text(name)?;
    let Err(error) = Template::parse(&text) else { return Some(text) };
    let diagnostic = Diagnostic::warning("annotation-invalid", format!("{error}: {instead}"))
        .remedy("use variables of nginx such as `$request_uri`");
    settings.tell(name, diagnostic, report);
    None
}

/// Where a client signs in, with the URL that it asked for (`buildAuthSignURL` of ingress-nginx).
fn sign_in(settings: &Settings<'_>, report: &mut Report) -> Option<String> {
    let url = variables(settings, "signin", "clients that have to sign in get 401", report)?;
    let parameter = settings.text("signin-redirect-param").unwrap_or_else(|| "rd".to_owned());
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pairs = || query.split('&').filter(|pair| !pair.is_empty());
    let has_value =
        |pair: &str| pair.split_once('=').is_some_and(|(name, value)| name == parameter && !value.is_empty());
    let sign = match pairs().next() {
        None => '?',
        Some(_) if pairs().any(has_value) => return Some(url),
        Some(_) => '&',
    };
    Some(format!("{url}{sign}{parameter}=$pass_access_scheme://$http_host$escaped_request_uri"))
}

/// How long answers are remembered: `200 202 30m`, with times for several groups of statuses.
fn cache_times(settings: &Settings<'_>) -> Vec<CacheTime> {
    let groups = match settings.value("cache-duration") {
        Some(Value::List(groups)) => groups,
        _ => vec![DEFAULT_TIMES.to_owned()],
    };
    groups.iter().flat_map(|group| times_of(group)).collect()
}

fn times_of(group: &str) -> Vec<CacheTime> {
    let mut statuses = Vec::new();
    let mut ms = 0_u64;
    for word in group.split_ascii_whitespace() {
        if word == "any" {
            statuses.push(0);
        } else if let (3, Ok(status)) = (word.len(), word.parse()) {
            statuses.push(status);
        } else if let Some(time) = parse_milliseconds(word) {
            ms = ms.saturating_add(time);
        }
    }
    if statuses.is_empty() {
        // What nginx's `proxy_cache_valid` means without statuses.
        statuses = vec![200, 301, 302];
    }
    statuses.into_iter().map(|status| CacheTime { status, ms }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let cases: [(&str, &[(u16, u64)]); 7] = [
            (DEFAULT_TIMES, &[(200, 300_000), (202, 300_000), (401, 300_000)]),
            ("30m", &[(200, 1_800_000), (301, 1_800_000), (302, 1_800_000)]),
            ("any 1h 30m", &[(0, 5_400_000)]),
            ("200 10ms", &[(200, 10)]),
            ("200 1d", &[(200, 86_400_000)]),
            ("200 1M", &[(200, 2_592_000_000)]),
            ("200 99999999999999999999y", &[(200, 0)]),
        ];
        for (group, expected) in cases {
            let found: Vec<_> = times_of(group).iter().map(|time| (time.status, time.ms)).collect();
            assert_eq!(found, expected, "{group}");
        }
    }
}
