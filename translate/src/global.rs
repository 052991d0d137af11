//! The options of ingress-nginx's ConfigMap that concern every Ingress, with its defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ingress_wasm::config::{Forwarded, Global, HeaderEdit, TlsRedirect};
use ingress_wasm::policy::HeaderTemplate;

use crate::access::{self, AddressDefaults};
use crate::annotations::{GlobalDenial, GlobalSettings, Value, check_config_map, global_denials, parse_size};
use crate::diagnostic::Diagnostic;
use crate::objects::{ConfigMap, ObjectName, ObjectRef, Snapshot};
use crate::output::{LoadBalancing, Options, RouteProfile};
use crate::report::Report;
use crate::retries;
use crate::upstreams::UpstreamDefaults;

/// What holds where no annotation says otherwise.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// The part that the filter takes as it is.
    pub global: Global,
    /// Lists of addresses.
    pub addresses: AddressDefaults,
    /// Largest request body in bytes; none: any.
    pub max_body_bytes: Option<u64>,
    /// How long a connection to a backend may take to be made.
    pub connect_timeout: Duration,
    /// Timeouts of the default route.
    pub profile: RouteProfile,
    /// How endpoints are chosen.
    pub upstreams: UpstreamDefaults,
    /// Requests that may not be repeated are, whatever an annotation says.
    pub retry_non_idempotent: bool,
    /// X-Original-URI is set for every Ingress.
    pub original_uri_header: bool,
    /// Plain HTTP is redirected where the host has a certificate.
    pub ssl_redirect: bool,
    /// How plain HTTP is redirected, and whether it always is.
    pub tls_redirect: TlsRedirect,
    /// Rules whose path begins so are served by plain HTTP whatever else holds.
    pub no_tls_redirect_locations: Vec<String>,
    /// Rules whose path begins so are served without asking who the client is.
    pub no_auth_locations: Vec<String>,
    /// The `global-auth-…` options that are set, by what follows this in their names.
    pub global_auth: BTreeMap<String, Value>,
    /// `global-auth-url` is set and cannot be read.
    pub global_auth_broken: bool,
    /// Redirects to a path are sent without scheme and host.
    pub relative_redirects: bool,
    /// `proxy-redirect-from` and `proxy-redirect-to`, as written.
    pub proxy_redirect: (String, String),
    /// `proxy-cookie-domain`, as written.
    pub cookie_domain: String,
    /// `proxy-cookie-path`, as written.
    pub cookie_path: String,
    /// Names that `custom-headers` may set, as written.
    pub allowed_response_headers: BTreeSet<String>,
    /// Statuses that are replaced by a page with the status 404.
    pub custom_http_errors: Vec<u16>,
    /// The cluster of the Service that answers for them, and what no rule takes (`--default-backend-service`).
    pub default_backend: Option<String>,
    /// Errors of backends are not among those.
    pub keep_backend_errors: bool,
    /// The options as read.
    pub settings: GlobalSettings,
    /// Protections of all Ingresses that are asked for and cannot be honoured.
    pub denials: Vec<GlobalDenial>,
}

/// Reads the ConfigMap that the options name, if it is there.
pub fn read(snapshot: &Snapshot, options: &Options, report: &mut Report) -> Defaults {
    let Some(map) = options.config_map.as_ref().and_then(|name| snapshot.config_maps.get(name)) else {
        return defaults(GlobalSettings::default(), options);
    };
    check_config_map(map).into_iter().for_each(|diagnostic| report.add(diagnostic));
    let settings = GlobalSettings::read(map);
    let mut named = |option, name: &Option<(Option<String>, String)>| match name {
        Some(name) => header_map(map, option, name, snapshot, report),
        None => Vec::new(),
    };
    let request_headers = named("proxy-set-headers", &settings.proxy_set_headers);
    let added = named("add-headers", &settings.add_headers);
    let mut denials = global_denials(map);
    if header_buffers(&settings.large_client_header_buffers).is_none() {
        let consequence = "a number and a size are needed: it is ignored and the default holds";
        let diagnostic = Diagnostic::warning("option-invalid", consequence)
            .object(reference(map), map.metadata.source.clone())
            .field("data[\"large-client-header-buffers\"]", &settings.large_client_header_buffers)
            .remedy("write how many buffers there are and how large they are, for example `4 16k`");
        report.add(diagnostic);
    }
    let block = access::block(map, &settings, &mut denials, report);
    let mut defaults = defaults(settings, options);
    defaults.global.block = block;
    defaults.global.request_headers = request_headers;
    defaults.global.response_headers.extend(added);
    defaults.denials = denials;
    defaults
}

fn defaults(settings: GlobalSettings, options: &Options) -> Defaults {
    let kept = settings.clone();
    let seconds = Duration::from_secs;
    let hsts = hsts(&settings);
    let trust_headers = settings.use_forwarded_headers;
    let networks = settings.proxy_real_ip_cidr.iter().map(ToString::to_string);
    let forwarded = Forwarded {
        trust_headers,
        trusted_proxies: if trust_headers || settings.enable_real_ip || settings.use_proxy_protocol {
            networks.collect()
        } else {
            Vec::new()
        },
        address_header: settings.forwarded_for_header,
        append: trust_headers && settings.compute_full_forwarded_for,
        proxy_protocol: settings.use_proxy_protocol,
    };
    let is_name = |name: &String| HeaderTemplate::compile(HeaderEdit::Remove { name: name.clone() }).is_ok();
    let buffers = header_buffers(&settings.large_client_header_buffers);
    let global = Global {
        connection_header: options.connection_header,
        statistics: options.statistics,
        log_fields: options.log_fields,
        forwarded,
        hidden_headers: settings.hide_headers.iter().filter(|name| is_name(name)).cloned().collect(),
        underscores_in_headers: settings.enable_underscores_in_headers,
        no_request_id: !settings.generate_request_id,
        header_buffers: buffers.map(|(count, _)| count).filter(|count| *count != 4),
        header_line_bytes: buffers.map(|(_, size)| size).filter(|size| *size != 8192),
        redirect_status: (settings.http_redirect_code != 308).then_some(settings.http_redirect_code),
        rate_status: (settings.limit_req_status_code != 503).then_some(settings.limit_req_status_code),
        connection_status: (settings.limit_conn_status_code != 503)
            .then_some(settings.limit_conn_status_code),
        hsts,
        ..Global::default()
    };
    Defaults {
        global,
        addresses: settings.addresses,
        max_body_bytes: (settings.proxy_body_size > 0).then_some(settings.proxy_body_size),
        connect_timeout: seconds(settings.proxy_connect_timeout),
        profile: RouteProfile {
            read_timeout: seconds(settings.proxy_read_timeout),
            send_timeout: seconds(settings.proxy_send_timeout),
            next_upstream: retries::by_words(
                &settings.proxy_next_upstream,
                settings.retry_non_idempotent,
                retries::tries(settings.proxy_next_upstream_tries),
            ),
            mirror: None,
            jwt: None,
            limits: Vec::new(),
        },
        upstreams: UpstreamDefaults {
            load_balancing: match settings.load_balance.as_str() {
                "ewma" => LoadBalancing::LeastRequest,
                _ => LoadBalancing::RoundRobin,
            },
            service_upstream: settings.service_upstream,
        },
        retry_non_idempotent: settings.retry_non_idempotent,
        ssl_redirect: settings.ssl_redirect,
        tls_redirect: TlsRedirect {
            always: settings.force_ssl_redirect,
            preserve_trailing_slash: settings.preserve_trailing_slash,
        },
        no_tls_redirect_locations: settings.no_tls_redirect_locations,
        no_auth_locations: settings.no_auth_locations,
        global_auth: settings.global_auth,
        global_auth_broken: settings.global_auth_broken,
        relative_redirects: settings.relative_redirects,
        proxy_redirect: (settings.proxy_redirect_from, settings.proxy_redirect_to),
        cookie_domain: settings.proxy_cookie_domain,
        cookie_path: settings.proxy_cookie_path,
        original_uri_header: settings.proxy_add_original_uri_header,
        allowed_response_headers: settings.global_allowed_response_headers.into_iter().collect(),
        custom_http_errors: settings.custom_http_errors,
        default_backend: None,
        keep_backend_errors: settings.disable_proxy_intercept_errors,
        settings: kept,
        denials: Vec::new(),
    }
}

/// The two parts of `large-client-header-buffers`: how many, and how large in bytes.
fn header_buffers(text: &str) -> Option<(u32, u32)> {
    let mut words = text.split_ascii_whitespace();
    let (count, size) = (words.next()?.parse().ok()?, parse_size(words.next()?)?);
    let size = u32::try_from(size).ok()?;
    (words.next().is_none() && count > 0 && size > 0).then_some((count, size))
}

/// The value of Strict-Transport-Security (RFC 6797), if it is to be sent.
fn hsts(settings: &GlobalSettings) -> Option<String> {
    let subdomains = if settings.hsts_include_subdomains { "; includeSubDomains" } else { "" };
    let preload = if settings.hsts_preload { "; preload" } else { "" };
    settings.hsts.then(|| format!("max-age={}{subdomains}{preload}", settings.hsts_max_age))
}

/// The headers of the ConfigMap that an option names.
fn header_map(
    map: &ConfigMap,
    option: &'static str,
    (namespace, name): &(Option<String>, String),
    snapshot: &Snapshot,
    report: &mut Report,
) -> Vec<HeaderEdit> {
    let named = namespace.as_ref().map(|namespace| ObjectName::new(namespace.clone(), name.clone()));
    if let Some(headers) = named.and_then(|name| snapshot.config_maps.get(&name)) {
        return header_edits(headers, report);
    }
    let consequence = "the ConfigMap with the headers does not exist: none of them is set";
    let diagnostic = Diagnostic::warning("config-map-missing", consequence)
        .object(reference(map), map.metadata.source.clone())
        .field(format!("data[\"{option}\"]"), map.data.get(option).map_or("", String::as_str))
        .remedy("name an existing ConfigMap as namespace/name");
    report.add(diagnostic);
    Vec::new()
}

/// One edit per entry of a ConfigMap; entries that are no headers are reported and left out.
fn header_edits(map: &ConfigMap, report: &mut Report) -> Vec<HeaderEdit> {
    let mut edits = Vec::with_capacity(map.data.len());
    for (name, value) in &map.data {
        let edit = HeaderEdit::Set { name: name.clone(), value: value.trim().to_owned() };
        match HeaderTemplate::compile(edit.clone()) {
            Ok(_) => edits.push(edit),
            Err(error) => report.add(
                Diagnostic::error("header-invalid", format!("the header is not set: {error}"))
                    .object(reference(map), map.metadata.source.clone())
                    .field(format!("data[\"{name}\"]"), value)
                    .remedy("write a header name of letters, digits and hyphens, and a value of one line"),
            ),
        }
    }
    edits
}

pub(crate) fn reference(map: &ConfigMap) -> ObjectRef {
    ObjectRef { kind: crate::objects::Kind::ConfigMap, name: map.metadata.name.clone() }
}
