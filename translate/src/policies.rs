//! The annotations of an Ingress as policies of its rules.
//!
//! Deliberately knows nothing of grammar, support levels and messages: those are the registry's.

use std::collections::BTreeMap;
use std::time::Duration;

use ingress_wasm::config::{
    self, BasicAuth, Credentials, HeaderEdit, PolicySet, Redirect, Replacement, Rewrite, TlsRedirect,
};
use ingress_wasm::policy::{HeaderTemplate, Template};
use ingress_wasm::router::check_alias;

use crate::access;
use crate::annotations::{AnnotationSet, HeaderLine, InvalidValue, Prefix, Setting, Value};
use crate::api_keys;
use crate::cors;
use crate::credentials::{self, UserList};
use crate::diagnostic::Diagnostic;
use crate::error_pages::error_pages;
use crate::global::Defaults;
use crate::limits;
use crate::mirror;
use crate::objects::{Ingress, IngressApi, ObjectName, Snapshot};
use crate::output::{Mirror, RouteProfile};
use crate::report::Report;
use crate::retries;

/// What the annotations of one Ingress come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressPolicies {
    /// The policies of its rules.
    pub set: PolicySet,
    /// Its paths are expressions (`use-regex`).
    pub use_regex: bool,
    /// Where `/` of its hosts is redirected.
    pub app_root: Option<String>,
    /// Further names of its hosts, in lower case.
    pub aliases: Vec<String>,
    /// The other name of its hosts, with or without `www.`, is redirected.
    pub from_to_www: bool,
    /// How long a connection to its backends may take to be made.
    pub connect_timeout: Duration,
    /// Timeouts of its routes.
    pub profile: RouteProfile,
}

/// Lists of users and sets of policies that rules have asked for so far.
#[derive(Debug, Default)]
pub struct Policies {
    /// By the name that `BasicAuth.credentials` has.
    pub credentials: BTreeMap<String, Credentials>,
    /// Digests of API keys by the name that `ApiKeyAuth.keys` has.
    pub api_keys: BTreeMap<String, Credentials>,
    /// Route profiles by name.
    pub profiles: BTreeMap<String, RouteProfile>,
    sets: Vec<PolicySet>,
    positions: BTreeMap<String, usize>,
}

impl Policies {
    /// The position of a set; the same set has one position.
    pub fn position(&mut self, set: PolicySet) -> usize {
        // The JSON form stands for the set: it is what the filter gets to see.
        let key = serde_json::to_string(&set).unwrap_or_default();
        *self.positions.entry(key).or_insert_with(|| {
            self.sets.push(set);
            self.sets.len() - 1
        })
    }

    /// The position of a set that is another one but for some changes.
    pub fn changed(&mut self, position: usize, change: impl FnOnce(&mut PolicySet)) -> usize {
        let mut set = self.sets.get(position).cloned().unwrap_or_default();
        change(&mut set);
        self.position(set)
    }

    /// All sets, in order of position.
    pub fn finish(self) -> Finished {
        let Policies { credentials, api_keys, profiles, sets, positions: _ } = self;
        Finished { sets, credentials, api_keys, profiles }
    }
}

/// What was gathered in [`Policies`].
#[derive(Debug)]
pub struct Finished {
    /// All sets, in order of position.
    pub sets: Vec<PolicySet>,
    /// Lists of users.
    pub credentials: BTreeMap<String, Credentials>,
    /// Lists of clients with API keys.
    pub api_keys: BTreeMap<String, Credentials>,
    /// Route profiles by name.
    pub profiles: BTreeMap<String, RouteProfile>,
}

/// Everything that an Ingress is read with.
pub struct Context<'a> {
    /// All objects.
    pub snapshot: &'a Snapshot,
    /// What holds where the Ingress is silent.
    pub defaults: &'a Defaults,
    /// The Ingress.
    pub ingress: &'a Ingress,
    /// Its annotations.
    pub annotations: &'a AnnotationSet<'a>,
    /// Why all its rules are denied, if the registry says so.
    pub denied: Option<String>,
    /// The cluster that answers in place of errors (`default-backend`).
    pub stand_in: Option<&'a str>,
    /// Where copies of requests go, and their path.
    pub mirror: Option<(Mirror, String)>,
    /// Some host has a certificate: else nothing is redirected to HTTPS on account of one.
    pub certificates: bool,
}

/// Reads the policies of an Ingress.
pub fn read(context: &Context<'_>, policies: &mut Policies, report: &mut Report) -> IngressPolicies {
    let Context { defaults, ingress, annotations, .. } = context;
    let mut set = PolicySet {
        denied: context.denied.clone(),
        max_body_bytes: body_limit(annotations, defaults),
        cors: cors::read(annotations),
        redirect: redirect(context, report),
        relative_redirects: defaults.relative_redirects || annotations.is_true("relative-redirects"),
        tls_redirect: tls_redirect(context),
        rewrite: rewrite(context, report),
        original_uri_header: defaults.original_uri_header || is_of_old(ingress, annotations),
        error_pages: error_pages(annotations, defaults, context.stand_in),
        ..PolicySet::default()
    };
    answer_rewrites(context, &mut set, report);
    access::read(context, &mut set);
    set.mirror = context
        .mirror
        .as_ref()
        .map(|(mirror, target)| config::Mirror { cluster: mirror.cluster.clone(), target: target.clone() });
    set.limits = limits::read(context.annotations);
    basic_auth(context, &mut set, policies, report);
    api_keys::read(context, &mut set, policies, report);
    set.request_headers = upstream_host(context, report);
    if let Some(value) = text(annotations, "connection-proxy-header") {
        set.request_headers.push(HeaderEdit::Set { name: "Connection".to_owned(), value });
    }
    set.request_headers.extend(own_headers(context, "request-headers", &mut set.denied, report));
    set.response_headers = custom_headers(context, &mut set.denied, report);
    set.response_headers.extend(own_headers(context, "response-headers", &mut set.denied, report));
    let seconds = |name, default: Duration| match annotations.value(name) {
        Some(Value::Seconds(seconds)) if seconds > 0 => Duration::from_secs(seconds),
        _ => default,
    };
    let profile = RouteProfile {
        read_timeout: seconds("proxy-read-timeout", defaults.profile.read_timeout),
        send_timeout: seconds("proxy-send-timeout", defaults.profile.send_timeout),
        next_upstream: retries::read(
            annotations,
            &defaults.profile.next_upstream,
            defaults.retry_non_idempotent,
        ),
        mirror: context.mirror.as_ref().map(|(mirror, _)| mirror.clone()),
        jwt: None,
        limits: Vec::new(),
    };
    if profile != defaults.profile {
        let mut name = retries::profile_name(&profile);
        if let Some(mirror) = &profile.mirror {
            name.push_str(&mirror::profile_name(mirror));
        }
        policies.profiles.insert(name.clone(), profile.clone());
        set.route_profile = Some(name);
    }
    IngressPolicies {
        set,
        use_regex: annotations.is_true("use-regex"),
        app_root: text(annotations, "app-root"),
        aliases: aliases(context, report),
        // A wrong `temporal-redirect` takes the other redirects with it in ingress-nginx.
        from_to_www: annotations.is_true("from-to-www-redirect")
            && text(annotations, "temporal-redirect").is_none_or(|url| has_http_scheme(&url)),
        connect_timeout: seconds("proxy-connect-timeout", defaults.connect_timeout),
        profile,
    }
}

/// Releases of that time set X-Original-URI on every request.
fn is_of_old(ingress: &Ingress, annotations: &AnnotationSet<'_>) -> bool {
    ingress.api == IngressApi::ExtensionsV1beta1
        || annotations.iter().any(|setting| setting.prefix == Prefix::Legacy)
}

fn text(annotations: &AnnotationSet<'_>, name: &str) -> Option<String> {
    match annotations.value(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

fn body_limit(annotations: &AnnotationSet<'_>, defaults: &Defaults) -> Option<u64> {
    /// What nginx falls back to when it gets no `client_max_body_size` that it understands.
    const NGINX_DEFAULT: u64 = 1 << 20;
    match annotations.get("proxy-body-size").map(|setting| setting.parse()) {
        Some(Ok(Value::Size(0))) => None,
        Some(Ok(Value::Size(size))) => Some(size),
        Some(Err(InvalidValue::UnknownUnit)) => Some(NGINX_DEFAULT),
        _ => defaults.max_body_bytes,
    }
}

/// A temporal redirect goes before a permanent one, as in ingress-nginx, and one that is no URL does away
/// with both (`annotations/redirect`).
fn redirect(context: &Context<'_>, report: &mut Report) -> Option<Redirect> {
    let annotations = context.annotations;
    let status = |name, most, default| match annotations.value(name) {
        Some(Value::Integer(code)) if (300..=most).contains(&code) => u16::try_from(code).unwrap_or(default),
        _ => default,
    };
    if let Some(url) = text(annotations, "temporal-redirect") {
        if has_http_scheme(&url) {
            return Some(Redirect { url, status: status("temporal-redirect-code", 307, 302) });
        }
        let diagnostic =
            Diagnostic::warning("annotation-invalid", "a URL with http or https is needed: it is ignored")
                .remedy("write the whole URL, or use permanent-redirect with a path");
        let key = annotations.get("temporal-redirect").map_or("", |setting| setting.key);
        report.annotation(context.ingress, key, diagnostic);
        return None;
    }
    let url = text(annotations, "permanent-redirect")?;
    Some(Redirect { url, status: status("permanent-redirect-code", 308, 301) })
}

fn has_http_scheme(url: &str) -> bool {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    scheme.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http"))
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The aliases, sorted, without those that cannot be a name.
fn aliases(context: &Context<'_>, report: &mut Report) -> Vec<String> {
    let Some(setting) = context.annotations.get("server-alias") else { return Vec::new() };
    let Ok(Value::List(names)) = setting.parse() else { return Vec::new() };
    let lower = |name: String| if name.starts_with('~') { name } else { name.to_ascii_lowercase() };
    let mut aliases: Vec<String> = names.into_iter().map(lower).collect();
    aliases.sort();
    aliases.dedup();
    aliases.retain(|alias| {
        let Err(error) = check_alias(alias) else { return true };
        let consequence = format!("the alias `{alias}` is not served: {error}");
        let diagnostic = Diagnostic::error("alias-invalid", consequence)
            .remedy("write a host name, one that begins with `*.`, or a regular expression after `~`");
        report.annotation(context.ingress, setting.key, diagnostic);
        false
    });
    aliases
}

/// The Host that the backend gets.
fn upstream_host(context: &Context<'_>, report: &mut Report) -> Vec<HeaderEdit> {
    let Some(setting) = context.annotations.get("upstream-vhost") else { return Vec::new() };
    let Ok(Value::Text(value)) = setting.parse() else { return Vec::new() };
    let edit = HeaderEdit::Set { name: "Host".to_owned(), value };
    match HeaderTemplate::compile(edit.clone()) {
        Ok(_) => vec![edit],
        Err(error) => {
            let consequence = format!("the backend gets the Host that the client sent: {error}");
            let diagnostic = Diagnostic::error("annotation-invalid", consequence)
                .remedy("use variables of nginx such as `$service_name`");
            report.annotation(context.ingress, setting.key, diagnostic);
            Vec::new()
        }
    }
}

/// `proxy-redirect-*` and `proxy-cookie-*`: each of the two of the former has its own default.
fn answer_rewrites(context: &Context<'_>, set: &mut PolicySet, report: &mut Report) {
    let Context { annotations, defaults, .. } = context;
    let value = |name, default: &String| text(annotations, name).unwrap_or_else(|| default.clone());
    let from = value("proxy-redirect-from", &defaults.proxy_redirect.0);
    let to = value("proxy-redirect-to", &defaults.proxy_redirect.1);
    // `default` would replace the address that nginx has for the backend, which no backend knows.
    if from != "off" && from != "default" && to != "off" {
        set.location_rewrite = plain(context, "proxy-redirect-from", Replacement { from, to }, report);
    }
    let domain = value("proxy-cookie-domain", &defaults.cookie_domain);
    if let Some(Replacement { from, to }) = two_words(context, "proxy-cookie-domain", &domain, report) {
        let bare = |domain: String| domain.strip_prefix('.').map_or(domain.clone(), str::to_owned);
        let replacement = Replacement { from: bare(from), to: bare(to) };
        set.cookie_domain_rewrite = plain(context, "proxy-cookie-domain", replacement, report);
    }
    let path = value("proxy-cookie-path", &defaults.cookie_path);
    if let Some(replacement) = two_words(context, "proxy-cookie-path", &path, report) {
        set.cookie_path_rewrite = plain(context, "proxy-cookie-path", replacement, report);
    }
}

/// The two words of a value other than `off`. nginx refuses any other number.
fn two_words(context: &Context<'_>, name: &str, value: &str, report: &mut Report) -> Option<Replacement> {
    let mut words = value.split_ascii_whitespace().map(str::to_owned);
    match (words.next(), words.next(), words.next()) {
        (Some(from), Some(to), None) => Some(Replacement { from, to }),
        (Some(off), None, None) if off == "off" => None,
        _ => {
            let diagnostic = Diagnostic::warning("annotation-invalid", "two words are needed: it is ignored")
                .remedy("write what is replaced and what stands in its place, with a blank between");
            let key = context.annotations.get(name).map_or(name, |setting| setting.key);
            report.annotation(context.ingress, key, diagnostic);
            None
        }
    }
}

/// A replacement of a text; an expression, which nginx takes behind a `~`, is reported.
fn plain(context: &Context<'_>, name: &str, pair: Replacement, report: &mut Report) -> Option<Replacement> {
    if !pair.from.starts_with('~') {
        return Some(pair);
    }
    let diagnostic =
        Diagnostic::error("annotation-unsupported", "expressions are not supported here: it is ignored")
            .remedy("write the text that is replaced");
    let key = context.annotations.get(name).map_or(name, |setting| setting.key);
    report.annotation(context.ingress, key, diagnostic);
    None
}

fn tls_redirect(context: &Context<'_>) -> Option<TlsRedirect> {
    let Context { annotations, defaults, .. } = context;
    let flag = |name, default| match annotations.value(name) {
        Some(Value::Bool(on)) => on,
        _ => default,
    };
    let always = flag("force-ssl-redirect", defaults.tls_redirect.always);
    let with_certificate = context.certificates && flag("ssl-redirect", defaults.ssl_redirect);
    let preserve = flag("preserve-trailing-slash", defaults.tls_redirect.preserve_trailing_slash);
    (always || with_certificate).then_some(TlsRedirect { always, preserve_trailing_slash: preserve })
}

fn rewrite(context: &Context<'_>, report: &mut Report) -> Option<Rewrite> {
    let setting = context.annotations.get("rewrite-target")?;
    let Ok(Value::Text(target)) = setting.parse() else { return None };
    if setting.prefix == Prefix::Legacy {
        return Some(Rewrite::Prefix { target });
    }
    let forwarded_prefix = text(context.annotations, "x-forwarded-prefix").unwrap_or_default();
    for (name, value) in [("rewrite-target", &target), ("x-forwarded-prefix", &forwarded_prefix)] {
        if let Err(error) = Template::parse(value) {
            let consequence = format!("the path is not rewritten: {error}");
            let diagnostic = Diagnostic::error("annotation-invalid", consequence)
                .remedy("use the groups `$1` to `$9` and variables of nginx such as `$host`");
            let key = context.annotations.get(name).map_or(setting.key, |setting| setting.key);
            report.annotation(context.ingress, key, diagnostic);
            return None;
        }
    }
    Some(Rewrite::Path { target, forwarded_prefix })
}

/// Denies all rules of the Ingress: a protection was asked for that cannot be had.
pub fn deny(
    context: &Context<'_>,
    setting: &Setting<'_>,
    denied: &mut Option<String>,
    report: &mut Report,
    code: &'static str,
    fault: &str,
    remedy: &str,
) {
    let diagnostic = Diagnostic::error(code, format!("{fault}: requests are answered 503")).remedy(remedy);
    report.annotation(context.ingress, setting.key, diagnostic);
    denied.get_or_insert_with(|| fault.to_owned());
}

fn basic_auth(context: &Context<'_>, set: &mut PolicySet, policies: &mut Policies, report: &mut Report) {
    let annotations = context.annotations;
    if text(annotations, "auth-type").as_deref() != Some("basic") {
        return;
    }
    let Some(setting) = annotations.get("auth-secret") else {
        // The registry has said so and denies already; whatever it says, nobody is let in.
        set.denied.get_or_insert_with(|| "auth-type without auth-secret".to_owned());
        return;
    };
    let denied = &mut set.denied;
    let own_namespace = &context.ingress.metadata.name.namespace;
    let Ok(Value::Name { namespace, name }) = setting.parse() else { return };
    let secret_name = ObjectName::new(namespace.unwrap_or_else(|| own_namespace.clone()), name);
    if secret_name.namespace != *own_namespace {
        let fault = format!("Secret {secret_name} is in another namespace");
        let remedy = "move the Secret to the namespace of the Ingress";
        deny(context, &setting, denied, report, "auth-secret-namespace", &fault, remedy);
        return;
    }
    let Some(secret) = context.snapshot.secrets.get(&secret_name) else {
        let fault = format!("Secret {secret_name} does not exist");
        let remedy = "create the Secret, with the htpasswd file under the key `auth`";
        deny(context, &setting, denied, report, "auth-secret-missing", &fault, remedy);
        return;
    };
    let is_map = text(annotations, "auth-secret-type").as_deref() == Some("auth-map");
    let list = if is_map { Ok(credentials::from_map(secret)) } else { credentials::from_file(secret) };
    let UserList { credentials, faults } = match list {
        Ok(list) => list,
        Err(fault) => {
            let remedy = "put the htpasswd file under the key `auth`, or set auth-secret-type to auth-map";
            deny(context, &setting, denied, report, "auth-secret-malformed", &fault, remedy);
            return;
        }
    };
    for fault in faults {
        let diagnostic =
            Diagnostic::warning("auth-secret-entry", format!("in Secret {secret_name}: {fault}"))
                .remedy("write the entry anew with `htpasswd -B`");
        report.annotation(context.ingress, setting.key, diagnostic);
    }
    let key = if is_map { format!("{secret_name}#map") } else { secret_name.to_string() };
    policies.credentials.insert(key.clone(), credentials);
    let realm = text(annotations, "auth-realm").unwrap_or_default();
    set.basic_auth = Some(BasicAuth { realm, credentials: key });
}

/// The headers of the ConfigMap that `custom-headers` names. A dollar in them is a dollar.
fn custom_headers(
    context: &Context<'_>,
    denied: &mut Option<String>,
    report: &mut Report,
) -> Vec<HeaderEdit> {
    let Some(setting) = context.annotations.get("custom-headers") else { return Vec::new() };
    let Ok(Value::Name { namespace, name }) = setting.parse() else { return Vec::new() };
    let code = "custom-headers";
    let map = namespace.map(|namespace| ObjectName::new(namespace, name));
    let Some(map) = map.and_then(|name| context.snapshot.config_maps.get(&name)) else {
        let fault = "the ConfigMap with the headers does not exist";
        deny(context, &setting, denied, report, code, fault, "name an existing ConfigMap as namespace/name");
        return Vec::new();
    };
    let mut edits = Vec::with_capacity(map.data.len());
    for (name, value) in &map.data {
        let edit = HeaderEdit::Set { name: name.clone(), value: value.trim().replace('$', "$$") };
        if !context.defaults.allowed_response_headers.contains(name) {
            let fault = format!("the header {name} is not among global-allowed-response-headers");
            let remedy = "add it, with the same capitals, to that option of the ConfigMap";
            deny(context, &setting, denied, report, code, &fault, remedy);
        } else if let Err(error) = HeaderTemplate::compile(edit.clone()) {
            let remedy = "write a header name of letters, digits and hyphens, and a value of one line";
            deny(context, &setting, denied, report, code, &error.to_string(), remedy);
        } else {
            edits.push(edit);
        }
    }
    edits
}

/// The headers of an annotation of our own.
fn own_headers(
    context: &Context<'_>,
    name: &str,
    denied: &mut Option<String>,
    report: &mut Report,
) -> Vec<HeaderEdit> {
    let Some(setting) = context.annotations.own(name) else { return Vec::new() };
    let Ok(Value::Headers(lines)) = setting.parse() else { return Vec::new() };
    let mut edits = Vec::with_capacity(lines.len());
    for HeaderLine { name, value } in lines {
        let edit = match value {
            Some(value) => HeaderEdit::Set { name, value },
            None => HeaderEdit::Remove { name },
        };
        match HeaderTemplate::compile(edit.clone()) {
            Ok(_) => edits.push(edit),
            Err(error) => {
                let remedy = "use a header name that is free, and variables of nginx such as `$host`";
                deny(context, &setting, denied, report, "header-invalid", &error.to_string(), remedy);
            }
        }
    }
    edits
}
