//! The options of ingress-nginx's ConfigMap that concern every Ingress, with its defaults.

use std::collections::BTreeSet;
use std::time::Duration;

use ingress_wasm::config::{Forwarded, Global, HeaderEdit};
use ingress_wasm::policy::{HeaderTemplate, Network};

use crate::annotations::{check_config_map, parse_bool, parse_seconds, parse_size};
use crate::diagnostic::Diagnostic;
use crate::objects::{ConfigMap, ObjectName, ObjectRef, Snapshot};
use crate::output::{Options, RouteProfile};
use crate::report::Report;

/// ingress-nginx's `proxy-body-size`, in bytes.
const DEFAULT_BODY_SIZE: u64 = 1 << 20;
/// ingress-nginx's `proxy-connect-timeout`.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What holds where no annotation says otherwise.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// The part that the filter takes as it is.
    pub global: Global,
    /// Largest request body in bytes; none: any.
    pub max_body_bytes: Option<u64>,
    /// How long a connection to a backend may take to be made.
    pub connect_timeout: Duration,
    /// Timeouts of the default route.
    pub profile: RouteProfile,
    /// X-Original-URI is set for every Ingress.
    pub original_uri_header: bool,
    /// Names that `custom-headers` may set, as written.
    pub allowed_response_headers: BTreeSet<String>,
}

/// Reads the ConfigMap that the options name, if it is there.
pub fn read(snapshot: &Snapshot, options: &Options, report: &mut Report) -> Defaults {
    let mut defaults = Defaults {
        global: Global { connection_header: options.connection_header, ..Global::default() },
        max_body_bytes: Some(DEFAULT_BODY_SIZE),
        connect_timeout: DEFAULT_CONNECT_TIMEOUT,
        profile: RouteProfile::default(),
        original_uri_header: false,
        allowed_response_headers: BTreeSet::new(),
    };
    if let Some(map) = options.config_map.as_ref().and_then(|name| snapshot.config_maps.get(name)) {
        check_config_map(map).into_iter().for_each(|diagnostic| report.add(diagnostic));
        Reader { map, snapshot, report }.apply(&mut defaults);
    }
    defaults
}

struct Reader<'a> {
    map: &'a ConfigMap,
    snapshot: &'a Snapshot,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn apply(mut self, defaults: &mut Defaults) {
        let seconds = |reader: &Self, name| {
            let value = reader.text(name).and_then(parse_seconds);
            value.filter(|seconds| *seconds > 0).map(Duration::from_secs)
        };
        if let Some(size) = self.text("proxy-body-size").and_then(parse_size) {
            defaults.max_body_bytes = (size > 0).then_some(size);
        }
        defaults.connect_timeout =
            seconds(&self, "proxy-connect-timeout").unwrap_or(defaults.connect_timeout);
        let profile = &mut defaults.profile;
        profile.read_timeout = seconds(&self, "proxy-read-timeout").unwrap_or(profile.read_timeout);
        profile.send_timeout = seconds(&self, "proxy-send-timeout").unwrap_or(profile.send_timeout);
        defaults.original_uri_header = self.is_true("proxy-add-original-uri-header");
        defaults.allowed_response_headers =
            self.list("global-allowed-response-headers").map(str::to_owned).collect();
        defaults.global.underscores_in_headers = self.is_true("enable-underscores-in-headers");
        defaults.global.forwarded = self.forwarded();
        let request_headers = self.header_map("proxy-set-headers");
        defaults.global.request_headers = request_headers;
        let mut response_headers = self.header_map("add-headers");
        let hidden: Vec<HeaderEdit> =
            self.list("hide-headers").map(|name| HeaderEdit::Remove { name: name.to_owned() }).collect();
        // A header that is hidden comes from the backend, one that is added does not.
        response_headers
            .splice(0..0, hidden.into_iter().filter(|edit| HeaderTemplate::compile(edit.clone()).is_ok()));
        defaults.global.response_headers = response_headers;
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.map.data.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.text(name).and_then(parse_bool) == Some(true)
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        self.text(name).unwrap_or_default().split(',').map(str::trim).filter(|element| !element.is_empty())
    }

    fn forwarded(&self) -> Forwarded {
        let trust_headers = self.is_true("use-forwarded-headers");
        let mut forwarded = Forwarded { trust_headers, ..Forwarded::default() };
        if let Some(header) = self.text("forwarded-for-header") {
            forwarded.address_header = header.to_owned();
        }
        if trust_headers || self.is_true("enable-real-ip") {
            let named: Vec<String> = self
                .list("proxy-real-ip-cidr")
                .filter(|text| Network::parse(text).is_some())
                .map(str::to_owned)
                .collect();
            let configured = self.text("proxy-real-ip-cidr").is_some();
            // A list of which nothing could be read must not come to mean everyone.
            forwarded.trusted_proxies = if configured { named } else { vec!["0.0.0.0/0".to_owned()] };
        }
        forwarded.append = trust_headers && self.is_true("compute-full-forwarded-for");
        forwarded
    }

    /// The headers of a ConfigMap that an option names as `namespace/name`.
    fn header_map(&mut self, option: &'static str) -> Vec<HeaderEdit> {
        let Some(named) = self.text(option) else { return Vec::new() };
        let name = named.split_once('/').map(|(namespace, name)| ObjectName::new(namespace, name));
        let Some(headers) = name.and_then(|name| self.snapshot.config_maps.get(&name)) else {
            let consequence = "the ConfigMap with the headers does not exist: none of them is set";
            let diagnostic = Diagnostic::warning("config-map-missing", consequence)
                .object(reference(self.map), self.map.metadata.source.clone())
                .field(format!("data[\"{option}\"]"), named)
                .remedy("name an existing ConfigMap as namespace/name");
            self.report.add(diagnostic);
            return Vec::new();
        };
        let headers = headers.clone();
        header_edits(&headers, self.report)
    }
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

fn reference(map: &ConfigMap) -> ObjectRef {
    ObjectRef { kind: crate::objects::Kind::ConfigMap, name: map.metadata.name.clone() }
}
