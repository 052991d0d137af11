//! The options of the controller's ConfigMap: which are known, what is to be said of those that are set, and
//! the values of those that are honoured.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::diagnostic::{Diagnostic, Severity};
use crate::objects::{ConfigMap, Kind, ObjectRef};

use crate::access::AddressDefaults;

use super::config_table;
use super::nearest::nearest_of;
use super::snippet;
use super::{InvalidValue, Network, Risk, Support, Value, ValueGrammar};

/// One option of the ConfigMap.
#[derive(Debug, Clone, Copy)]
pub struct ConfigOption {
    /// The key.
    pub name: &'static str,
    /// Which values it may have.
    pub value: ValueGrammar,
    /// What holds in ingress-nginx where it is not set; empty: nothing.
    pub default: &'static str,
    /// How far it is honoured.
    pub support: Support,
    /// It keeps somebody out of all rules: while it is not honoured all rules answer 503.
    pub protects: bool,
    /// How grave it is that it is not honoured, where it does not protect.
    pub lost: Severity,
    /// Values that ask for nothing beyond what holds anyway.
    pub neutral: &'static [&'static str],
    /// The annotation whose value `false` takes a rule out of the protection.
    pub waived_by: Option<&'static str>,
}

/// Why all rules answer 503: the ConfigMap asks for a protection that is not honoured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalDenial {
    /// The option.
    pub option: &'static str,
    /// A phrase for `PolicySet.denied`, logs and `explain`.
    pub reason: String,
    /// The annotation whose value `false` takes a rule out of it.
    pub waived_by: Option<&'static str>,
}

static OPTIONS: LazyLock<Vec<ConfigOption>> = LazyLock::new(|| {
    let mut all: Vec<ConfigOption> = config_table::GROUPS.iter().copied().flatten().copied().collect();
    all.sort_by_key(|option| option.name);
    all
});

/// All options, sorted by name.
pub fn config_options() -> &'static [ConfigOption] {
    &OPTIONS
}

/// The option with this name.
pub fn config_option(name: &str) -> Option<&'static ConfigOption> {
    let all = config_options();
    all.binary_search_by_key(&name, |option| option.name).ok().and_then(|position| all.get(position))
}

/// The protections that the ConfigMap asks for and that are not honoured, by name. Rules answer 503 because
/// of them ([`verdict`](super::verdict)).
pub fn global_denials(config_map: &ConfigMap) -> Vec<GlobalDenial> {
    let mut denials = Vec::new();
    for (name, value) in &config_map.data {
        let Some(option) = config_option(name) else { continue };
        if asks_for_protection(option, value) {
            let reason = format!("{name} of the ConfigMap is not supported");
            denials.push(GlobalDenial { option: option.name, reason, waived_by: option.waived_by });
        }
    }
    denials
}

/// An option that protects, is set, and is not honoured. An invalid value asks for protection too; a
/// snippet only if a directive in it could keep somebody out.
fn asks_for_protection(option: &ConfigOption, value: &str) -> bool {
    option.protects
        && (option.value != ValueGrammar::Snippet || snippet::guards(value))
        && matches!(option.support, Support::NotSupported(_))
        && !value.trim().is_empty()
        && !option.value.is_among(value, option.neutral)
}

/// Lists of addresses that keep somebody out: with a mistake in one nobody knows whom.
const ADDRESS_LISTS: [&str; 3] = ["block-cidrs", "denylist-source-range", "whitelist-source-range"];

/// Everything there is to say of the controller's ConfigMap, in the order of its keys.
pub fn check_config_map(config_map: &ConfigMap) -> Vec<Diagnostic> {
    config_map.data.iter().filter_map(|(name, value)| check(config_map, name, value)).collect()
}

fn check(config_map: &ConfigMap, name: &str, value: &str) -> Option<Diagnostic> {
    let option = config_option(name);
    let diagnostic = match option {
        Some(option) => check_option(option, value)?,
        None => {
            let remedy = match nearest_of(name, config_options().iter().map(|option| option.name)) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "remove it, or look for its name in the list of options".to_owned(),
            };
            Diagnostic::warning("option-unknown", "the option is unknown and ignored").remedy(remedy)
        }
    };
    let hidden = option.is_none_or(|option| option.value.hides(value));
    let found = if hidden { "" } else { value };
    let object = ObjectRef { kind: Kind::ConfigMap, name: config_map.metadata.name.clone() };
    Some(
        diagnostic
            .field(format!("data[\"{}\"]", name.escape_debug()), found)
            .object(object, config_map.metadata.source.clone()),
    )
}

fn check_option(option: &ConfigOption, value: &str) -> Option<Diagnostic> {
    if asks_for_protection(option, value) {
        let but = match option.waived_by {
            Some(annotation) => format!(" but those of an Ingress with `{annotation}: \"false\"`"),
            None => String::new(),
        };
        let reason = option.support.reason();
        let consequence = format!("it is not supported: {reason}; as it protects, all rules{but} answer 503");
        return Some(
            Diagnostic::error("option-unsupported", consequence)
                .remedy("remove it if it is not needed, or keep the controller that has it"),
        );
    }
    match option.value.parse(value) {
        Err(InvalidValue::Empty) => return None,
        Err(fault) => {
            let expected = option.value.description();
            let holds = match (option.name, option.support) {
                ("proxy-real-ip-cidr", _) => "no proxy is trusted",
                ("global-auth-url", _) => "all rules that it holds for answer 503",
                ("custom-http-errors", _) => "such elements are passed over",
                (name, _) if ADDRESS_LISTS.contains(&name) => "rules for which it would hold answer 503",
                ("hide-headers" | "global-allowed-response-headers", _) => "such names are passed over",
                (_, Support::Exact | Support::Differs(_)) => "it is ignored and the default holds",
                _ => "it is ignored",
            };
            let consequence = format!("the value has to be {expected}; {fault}: {holds}");
            let severity =
                if ADDRESS_LISTS.contains(&option.name) { Severity::Error } else { Severity::Warning };
            return Some(
                Diagnostic::new(severity, "option-invalid", consequence).remedy(format!("write {expected}")),
            );
        }
        Ok(_) if option.value.is_among(value, option.neutral) => return None,
        Ok(_) => {}
    }
    match option.support {
        Support::Exact => None,
        Support::Differs(how) => Some(Diagnostic::note("option-differs", how)),
        Support::NoEffect(why) => {
            Some(Diagnostic::note("option-no-effect", format!("it needs nothing here: {why}")))
        }
        Support::NotSupported(what) => {
            Some(Diagnostic::new(option.lost, "option-unsupported", format!("it is not supported: {what}")))
        }
    }
}

/// The values of the options that are honoured, with their defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct GlobalSettings {
    /// `allow-snippet-annotations`.
    pub allow_snippet_annotations: bool,
    /// `annotations-risk-level`.
    pub annotations_risk_level: Risk,
    /// `annotation-value-word-blocklist`.
    pub annotation_value_word_blocklist: Vec<String>,
    /// `use-forwarded-headers`.
    pub use_forwarded_headers: bool,
    /// `proxy-real-ip-cidr`; of an invalid list nothing is left, so that nobody is trusted by mistake. Only
    /// of meaning with `use_forwarded_headers`.
    pub proxy_real_ip_cidr: Vec<Network>,
    /// `enable-real-ip`.
    pub enable_real_ip: bool,
    /// `use-proxy-protocol`
    pub use_proxy_protocol: bool,
    /// `forwarded-for-header`.
    pub forwarded_for_header: String,
    /// `compute-full-forwarded-for`.
    pub compute_full_forwarded_for: bool,
    /// `whitelist-source-range`, `denylist-source-range` and `block-cidrs`.
    pub addresses: AddressDefaults,
    /// `limit-req-status-code`.
    pub limit_req_status_code: u16,
    /// `limit-conn-status-code`.
    pub limit_conn_status_code: u16,
    /// `block-user-agents`, as written.
    pub block_user_agents: String,
    /// `block-referers`, as written.
    pub block_referers: String,
    /// `proxy-add-original-uri-header`.
    pub proxy_add_original_uri_header: bool,
    /// `proxy-set-headers`: the ConfigMap, as namespace (none: not named) and name.
    pub proxy_set_headers: Option<(Option<String>, String)>,
    /// `add-headers`: the ConfigMap, as namespace (none: not named) and name.
    pub add_headers: Option<(Option<String>, String)>,
    /// `hide-headers`.
    pub hide_headers: Vec<String>,
    /// `enable-underscores-in-headers`.
    pub enable_underscores_in_headers: bool,
    /// `generate-request-id`.
    pub generate_request_id: bool,
    /// `proxy-body-size` in bytes; 0 is no limit.
    pub proxy_body_size: u64,
    /// `proxy-connect-timeout` in seconds.
    pub proxy_connect_timeout: u64,
    /// `proxy-read-timeout` in seconds.
    pub proxy_read_timeout: u64,
    /// `proxy-send-timeout` in seconds.
    pub proxy_send_timeout: u64,
    /// `proxy-next-upstream`: its words.
    pub proxy_next_upstream: Vec<String>,
    /// `proxy-next-upstream-tries`; 0 is without end.
    pub proxy_next_upstream_tries: i64,
    /// `retry-non-idempotent`.
    pub retry_non_idempotent: bool,
    /// `large-client-header-buffers`, as written.
    pub large_client_header_buffers: String,
    /// `global-allowed-response-headers`.
    pub global_allowed_response_headers: Vec<String>,
    /// `ssl-redirect`.
    pub ssl_redirect: bool,
    /// `force-ssl-redirect`.
    pub force_ssl_redirect: bool,
    /// `preserve-trailing-slash`.
    pub preserve_trailing_slash: bool,
    /// `no-tls-redirect-locations`: beginnings of paths of rules.
    pub no_tls_redirect_locations: Vec<String>,
    /// `no-auth-locations`: beginnings of paths of rules.
    pub no_auth_locations: Vec<String>,
    /// The `global-auth-…` options, by what follows this in their names.
    pub global_auth: BTreeMap<String, Value>,
    /// `global-auth-url` is set and invalid.
    pub global_auth_broken: bool,
    /// `http-redirect-code`.
    pub http_redirect_code: u16,
    /// `relative-redirects`.
    pub relative_redirects: bool,
    /// `custom-http-errors`: of a list in which not all are statuses, those that are.
    pub custom_http_errors: Vec<u16>,
    /// `disable-proxy-intercept-errors`.
    pub disable_proxy_intercept_errors: bool,
    /// `proxy-cookie-domain`, as written.
    pub proxy_cookie_domain: String,
    /// `proxy-cookie-path`, as written.
    pub proxy_cookie_path: String,
    /// `proxy-redirect-from`.
    pub proxy_redirect_from: String,
    /// `proxy-redirect-to`.
    pub proxy_redirect_to: String,
    /// `load-balance`.
    pub load_balance: String,
    /// `service-upstream`.
    pub service_upstream: bool,
    /// `hsts`.
    pub hsts: bool,
    /// `hsts-include-subdomains`.
    pub hsts_include_subdomains: bool,
    /// `hsts-max-age` in seconds.
    pub hsts_max_age: i64,
    /// `hsts-preload`.
    pub hsts_preload: bool,
}

impl Default for GlobalSettings {
    fn default() -> Self {
        GlobalSettings {
            allow_snippet_annotations: false,
            annotations_risk_level: Risk::High,
            annotation_value_word_blocklist: Vec::new(),
            use_forwarded_headers: false,
            proxy_real_ip_cidr: Network::parse("0.0.0.0/0").into_iter().collect(),
            enable_real_ip: false,
            use_proxy_protocol: false,
            forwarded_for_header: "X-Forwarded-For".to_owned(),
            compute_full_forwarded_for: false,
            addresses: AddressDefaults::default(),
            limit_req_status_code: 503,
            limit_conn_status_code: 503,
            block_user_agents: String::new(),
            block_referers: String::new(),
            proxy_add_original_uri_header: false,
            proxy_set_headers: None,
            add_headers: None,
            hide_headers: Vec::new(),
            enable_underscores_in_headers: false,
            generate_request_id: true,
            proxy_body_size: 1 << 20,
            proxy_connect_timeout: 5,
            proxy_read_timeout: 60,
            proxy_send_timeout: 60,
            proxy_next_upstream: vec!["error".to_owned(), "timeout".to_owned()],
            proxy_next_upstream_tries: 3,
            retry_non_idempotent: false,
            large_client_header_buffers: "4 8k".to_owned(),
            global_allowed_response_headers: Vec::new(),
            ssl_redirect: true,
            force_ssl_redirect: false,
            preserve_trailing_slash: false,
            no_tls_redirect_locations: vec!["/.well-known/acme-challenge".to_owned()],
            no_auth_locations: vec!["/.well-known/acme-challenge".to_owned()],
            global_auth: BTreeMap::new(),
            global_auth_broken: false,
            http_redirect_code: 308,
            relative_redirects: false,
            custom_http_errors: Vec::new(),
            disable_proxy_intercept_errors: false,
            proxy_cookie_domain: "off".to_owned(),
            proxy_cookie_path: "off".to_owned(),
            proxy_redirect_from: "off".to_owned(),
            proxy_redirect_to: "off".to_owned(),
            load_balance: "round_robin".to_owned(),
            service_upstream: false,
            hsts: true,
            hsts_include_subdomains: true,
            hsts_max_age: 31_536_000,
            hsts_preload: false,
        }
    }
}

impl GlobalSettings {
    /// Reads them. What is absent, empty or invalid has its default, of lists of headers the valid names
    /// remain; [`check_config_map`] says so.
    #[must_use]
    pub fn read(config_map: &ConfigMap) -> Self {
        let mut settings = GlobalSettings::default();
        for (name, text) in &config_map.data {
            let value = config_option(name)
                .ok_or(InvalidValue::Malformed)
                .and_then(|option| option.value.parse(text));
            match value {
                Ok(value) => settings.set(name, value),
                Err(fault) if name == "proxy-real-ip-cidr" && fault != InvalidValue::Empty => {
                    settings.proxy_real_ip_cidr.clear();
                }
                Err(InvalidValue::Element(_)) if name == "custom-http-errors" => {
                    settings.custom_http_errors = statuses(text);
                }
                Err(fault) if fault != InvalidValue::Empty && settings.addresses_of(name).is_some() => {
                    if let Some(list) = settings.addresses_of(name) {
                        *list = None;
                    }
                }
                Err(fault) if name == "global-auth-url" && fault != InvalidValue::Empty => {
                    settings.global_auth_broken = true;
                }
                Err(InvalidValue::Element(_)) => settings.set(name, header_names(text)),
                Err(_) => {}
            }
        }
        settings
    }

    /// The list of addresses that an option holds.
    fn addresses_of(&mut self, name: &str) -> Option<&mut Option<Vec<Network>>> {
        match name {
            "whitelist-source-range" => Some(&mut self.addresses.allow),
            "denylist-source-range" => Some(&mut self.addresses.deny),
            "block-cidrs" => Some(&mut self.addresses.block),
            _ => None,
        }
    }

    fn set(&mut self, name: &str, value: Value) {
        match (name, value) {
            (name, Value::Networks(networks)) if self.addresses_of(name).is_some() => {
                if let Some(list) = self.addresses_of(name) {
                    *list = Some(networks);
                }
            }
            ("limit-req-status-code", Value::Integer(status)) => {
                self.limit_req_status_code = u16::try_from(status).unwrap_or(503);
            }
            ("limit-conn-status-code", Value::Integer(status)) => {
                self.limit_conn_status_code = u16::try_from(status).unwrap_or(503);
            }
            ("block-user-agents", Value::Text(list)) => self.block_user_agents = list,
            ("block-referers", Value::Text(list)) => self.block_referers = list,
            ("allow-snippet-annotations", Value::Bool(on)) => self.allow_snippet_annotations = on,
            ("annotations-risk-level", Value::Text(level)) => {
                let levels = [Risk::Low, Risk::Medium, Risk::High, Risk::Critical];
                let found = levels.into_iter().find(|risk| risk.name().eq_ignore_ascii_case(&level));
                self.annotations_risk_level = found.unwrap_or(Risk::High);
            }
            ("annotation-value-word-blocklist", Value::Text(list)) => {
                let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
                self.annotation_value_word_blocklist = words.map(str::to_owned).collect();
            }
            ("use-forwarded-headers", Value::Bool(on)) => self.use_forwarded_headers = on,
            ("proxy-real-ip-cidr", Value::Networks(networks)) => self.proxy_real_ip_cidr = networks,
            ("enable-real-ip", Value::Bool(on)) => self.enable_real_ip = on,
            ("use-proxy-protocol", Value::Bool(on)) => self.use_proxy_protocol = on,
            ("forwarded-for-header", Value::Text(header)) => self.forwarded_for_header = header,
            ("compute-full-forwarded-for", Value::Bool(on)) => self.compute_full_forwarded_for = on,
            ("proxy-add-original-uri-header", Value::Bool(on)) => self.proxy_add_original_uri_header = on,
            ("proxy-set-headers", Value::Name { namespace, name }) => {
                self.proxy_set_headers = Some((namespace, name));
            }
            ("add-headers", Value::Name { namespace, name }) => self.add_headers = Some((namespace, name)),
            ("hide-headers", Value::List(headers)) => self.hide_headers = headers,
            ("generate-request-id", Value::Bool(on)) => self.generate_request_id = on,
            ("enable-underscores-in-headers", Value::Bool(on)) => self.enable_underscores_in_headers = on,
            ("proxy-body-size", Value::Size(size)) => self.proxy_body_size = size,
            ("proxy-connect-timeout", Value::Seconds(seconds)) => self.proxy_connect_timeout = seconds,
            ("proxy-read-timeout", Value::Seconds(seconds)) => self.proxy_read_timeout = seconds,
            ("proxy-send-timeout", Value::Seconds(seconds)) => self.proxy_send_timeout = seconds,
            ("proxy-next-upstream", Value::List(words)) => self.proxy_next_upstream = words,
            ("proxy-next-upstream-tries", Value::Integer(tries)) => self.proxy_next_upstream_tries = tries,
            ("retry-non-idempotent", Value::Bool(on)) => self.retry_non_idempotent = on,
            ("large-client-header-buffers", Value::Text(text)) => self.large_client_header_buffers = text,
            ("global-allowed-response-headers", Value::List(headers)) => {
                self.global_allowed_response_headers = headers;
            }
            ("ssl-redirect", Value::Bool(on)) => self.ssl_redirect = on,
            ("force-ssl-redirect", Value::Bool(on)) => self.force_ssl_redirect = on,
            ("preserve-trailing-slash", Value::Bool(on)) => self.preserve_trailing_slash = on,
            ("no-tls-redirect-locations", Value::Text(list)) => {
                let paths = list.split(',').map(str::trim).filter(|path| !path.is_empty());
                self.no_tls_redirect_locations = paths.map(str::to_owned).collect();
            }
            ("no-auth-locations", Value::Text(list)) => {
                let paths =
                    list.split(',').map(|path| path.trim_matches(' ')).filter(|path| !path.is_empty());
                self.no_auth_locations = paths.map(str::to_owned).collect();
            }
            ("http-redirect-code", Value::Text(code)) => {
                self.http_redirect_code = code.parse().unwrap_or(self.http_redirect_code);
            }
            ("relative-redirects", Value::Bool(on)) => self.relative_redirects = on,
            ("custom-http-errors", Value::Codes(codes)) => self.custom_http_errors = codes,
            ("disable-proxy-intercept-errors", Value::Bool(on)) => self.disable_proxy_intercept_errors = on,
            ("proxy-cookie-domain", Value::Text(domains)) => self.proxy_cookie_domain = domains,
            ("proxy-cookie-path", Value::Text(paths)) => self.proxy_cookie_path = paths,
            ("proxy-redirect-from", Value::Text(from)) => self.proxy_redirect_from = from,
            ("proxy-redirect-to", Value::Text(to)) => self.proxy_redirect_to = to,
            ("load-balance", Value::Text(name)) => self.load_balance = name,
            ("service-upstream", Value::Bool(on)) => self.service_upstream = on,
            ("hsts", Value::Bool(on)) => self.hsts = on,
            ("hsts-include-subdomains", Value::Bool(on)) => self.hsts_include_subdomains = on,
            ("hsts-max-age", Value::Integer(seconds)) => self.hsts_max_age = seconds,
            ("hsts-preload", Value::Bool(on)) => self.hsts_preload = on,
            (full, value) => {
                let is_default =
                    |option: &ConfigOption| option.value.parse(option.default) == Ok(value.clone());
                if let Some(name) = full.strip_prefix("global-auth-")
                    && !config_option(full).is_some_and(is_default)
                {
                    self.global_auth.insert(name.to_owned(), value);
                }
            }
        }
    }
}

/// The statuses of a list in which not all are.
fn statuses(text: &str) -> Vec<u16> {
    let codes = text.split(',').filter_map(|code| code.trim().parse().ok());
    codes.filter(|code| (300..600).contains(code)).collect()
}

/// The valid names of a list in which not all are.
fn header_names(text: &str) -> Value {
    let names = text.split(',').map(str::trim);
    let valid = names.filter(|name| ValueGrammar::HeaderName.parse(name).is_ok());
    Value::List(valid.map(str::to_owned).collect())
}

#[cfg(test)]
#[path = "config_map_tests.rs"]
mod tests;
