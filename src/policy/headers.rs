//! What a backend receives besides what the client sent: the standard headers of ingress-nginx
//! (`nginx.tmpl`, the `proxy_set_header` lines of each location), and edits that users configure.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::template::Scope;
use super::{Facts, Template, client_certificate, global_limit, script};
use crate::config::HeaderEdit;
use crate::decision::{CLUSTER_HEADER, ENDPOINT_HEADER, Edit, PROFILE_HEADER, SESSION_SUFFIX, Scheme};
use crate::router::{CompiledPolicies, RoutingTable};

/// Prefix of the headers between Envoy and the filter.
const PRIVATE_PREFIX: &str = "x-ingress-wasm-";
/// Prefix of the headers with which Envoy's router can be steered: never taken from a client.
const STEERING_PREFIX: &[u8] = b"x-envoy-";

/// A header edit that a user configured.
#[derive(Debug)]
pub struct HeaderTemplate {
    name: Box<str>,
    operation: Operation,
}

#[derive(Debug)]
enum Operation {
    Set(Template),
    Add(Template),
    Remove,
    RemoveAll,
}

/// Why a header edit is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidHeader {
    /// Not a token of RFC 9110, section 5.6.2.
    Name(String),
    /// A header between Envoy and the filter, or one that steers Envoy.
    Reserved(String),
    /// The value holds control characters.
    Value(String),
    /// The value names a variable that is not known.
    Variable(super::UnknownVariable),
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidHeader::Name(name) => write!(formatter, "{name:?} is not a header name"),
            InvalidHeader::Reserved(name) => write!(formatter, "the header `{name}` is reserved"),
            InvalidHeader::Value(name) => write!(formatter, "the value of `{name}` holds control characters"),
            InvalidHeader::Variable(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for InvalidHeader {}

impl HeaderTemplate {
    /// Compiles an edit. `Host` is the request's authority.
    ///
    /// # Errors
    ///
    /// [`InvalidHeader`]
    pub fn compile(edit: HeaderEdit) -> Result<Self, InvalidHeader> {
        HeaderTemplate::compile_with(edit, &[])
    }

    /// Compiles an edit whose value may name variables of a script.
    ///
    /// # Errors
    ///
    /// [`InvalidHeader`]
    pub fn compile_with(edit: HeaderEdit, scope: &Scope) -> Result<Self, InvalidHeader> {
        let (name, operation) = match edit {
            HeaderEdit::Set { name, value } => (header_name(name)?, Operation::Set(template(value, scope)?)),
            HeaderEdit::Add { name, value } => (header_name(name)?, Operation::Add(template(value, scope)?)),
            HeaderEdit::Remove { name } => match name.strip_suffix('*') {
                Some("") => (Box::default(), Operation::RemoveAll),
                Some(beginning) => (header_name(beginning.to_owned())?, Operation::RemoveAll),
                None => (header_name(name)?, Operation::Remove),
            },
        };
        Ok(HeaderTemplate { name, operation })
    }

    /// Rendering looks at the time.
    pub fn needs_clock(&self) -> bool {
        match &self.operation {
            Operation::Set(value) | Operation::Add(value) => value.needs_clock(),
            Operation::Remove | Operation::RemoveAll => false,
        }
    }

    /// The edit for a request.
    pub fn render<'a>(&'a self, facts: &Facts<'a>) -> Edit<'a> {
        let name = Cow::Borrowed(&*self.name);
        match &self.operation {
            Operation::Set(value) => Edit::Set(name, value.render_header(facts)),
            Operation::Add(value) => Edit::Add(name, value.render_header(facts)),
            Operation::Remove => Edit::Remove(name),
            Operation::RemoveAll => Edit::RemoveAll(name),
        }
    }
}

/// Reads a value.
fn template(value: String, scope: &Scope) -> Result<Template, InvalidHeader> {
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(InvalidHeader::Value(value.chars().filter(|c| !c.is_control()).take(40).collect()));
    }
    Template::parse_with(&value, scope).map_err(InvalidHeader::Variable)
}

fn header_name(name: String) -> Result<Box<str>, InvalidHeader> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(InvalidHeader::Name(name));
    }
    let lower = name.to_ascii_lowercase();
    if lower.starts_with(PRIVATE_PREFIX) || lower.as_bytes().starts_with(STEERING_PREFIX) {
        return Err(InvalidHeader::Reserved(name));
    }
    Ok(if lower == "host" { ":authority".into() } else { lower.into() })
}

/// All edits to a request that goes to `cluster`, in order. The path is not among them.
pub fn request_edits<'a>(
    table: &'a RoutingTable,
    policies: &'a CompiledPolicies,
    cluster: &'a str,
    facts: &Facts<'a>,
) -> Vec<Edit<'a>> {
    let mut edits = Vec::new();
    script::input_edits(facts, &mut edits);
    edits.extend(standard_edits(table, facts));
    if policies.basic_auth.is_some() {
        // The password was for the gateway. What a user configures below may set another.
        edits.push(Edit::Remove(Cow::Borrowed("authorization")));
    }
    if let Some(auth) = &policies.api_key {
        auth.hide_header(&mut edits);
    }
    if policies.original_uri_header {
        edits.push(Edit::Set(Cow::Borrowed("x-original-uri"), Cow::Borrowed(facts.request.target())));
    }
    let configured = table.request_headers.iter().chain(&policies.request_headers);
    edits.extend(configured.map(|edit| edit.render(facts)));
    script::request_edits(facts, &mut edits);
    edits.retain(|edit| !takes_host_away(edit));
    if let Some(limit) = &policies.global_limit {
        global_limit::edits(limit, facts, &mut edits);
    }
    choose(cluster, policies.route_profile.as_deref().unwrap_or_default(), &mut edits);
    edits
}

/// Has Envoy choose this endpoint, or any, and tell which has answered.
pub fn keep_endpoint(endpoint: Option<String>, profile: Option<&str>, edits: &mut Vec<Edit<'_>>) {
    let profile = [profile.unwrap_or_default(), SESSION_SUFFIX].concat();
    edits.push(Edit::Set(Cow::Borrowed(PROFILE_HEADER), Cow::Owned(profile.into_bytes())));
    if let Some(endpoint) = endpoint {
        let endpoint = STANDARD.encode(endpoint).into_bytes();
        edits.push(Edit::Set(Cow::Borrowed(ENDPOINT_HEADER), Cow::Owned(endpoint)));
    }
}

/// Chooses cluster and route of a request. An empty profile stands for the default route.
pub fn choose<'a>(cluster: &'a str, profile: &'a str, edits: &mut Vec<Edit<'a>>) {
    edits.push(Edit::Set(Cow::Borrowed(CLUSTER_HEADER), Cow::Borrowed(cluster.as_bytes())));
    edits.push(Edit::Set(Cow::Borrowed(PROFILE_HEADER), Cow::Borrowed(profile.as_bytes())));
}

/// The edits that every request gets, whatever its rule: what a client must not send goes, and the backend is
/// told of the client.
pub fn standard_edits<'a>(table: &'a RoutingTable, facts: &Facts<'a>) -> Vec<Edit<'a>> {
    let request = facts.request;
    let client = &facts.client;
    let set = |name: &'static str, value: Cow<'a, [u8]>| Edit::Set(Cow::Borrowed(name), value);
    let mut edits = Vec::with_capacity(24);
    unwanted(table, facts, &mut edits);
    if client.host != request.authority() {
        edits.push(set(":authority", Cow::Borrowed(client.host)));
    }
    let request_id = facts.req_id();
    let original_host = request.header("x-forwarded-host").unwrap_or_default();
    let original_for = client.original_forwarded_for.clone().unwrap_or_default();
    edits.extend([
        set("x-request-id", request_id),
        set("x-real-ip", client.address.clone()),
        set("x-forwarded-for", client.forwarded_for.clone()),
        set("x-forwarded-host", Cow::Borrowed(client.host)),
        set("x-forwarded-port", client.port.clone()),
        set("x-forwarded-proto", Cow::Borrowed(client.scheme)),
        set("x-forwarded-scheme", Cow::Borrowed(client.scheme)),
        set("x-scheme", Cow::Borrowed(client.scheme)),
        set("x-original-forwarded-for", original_for),
        set("x-original-forwarded-host", Cow::Borrowed(original_host)),
        // https://httpoxy.org: many CGI programs take this header for their HTTP_PROXY variable.
        Edit::Remove(Cow::Borrowed("proxy")),
    ]);
    // What Envoy lets through asks for another protocol; nginx writes this in small letters.
    if request.header("upgrade").is_some() {
        edits.push(set("connection", Cow::Borrowed(b"upgrade")));
    }
    if let Some(told) = &facts.certificate {
        client_certificate::edits(told, &mut edits);
    }
    edits
}

/// A request without a Host cannot be sent on: where variables come to nothing the Host stays.
pub(super) fn takes_host_away(edit: &Edit<'_>) -> bool {
    match edit {
        Edit::Set(name, value) => name == ":authority" && value.is_empty(),
        Edit::Remove(name) => name == ":authority",
        Edit::Add(name, _) => name == ":authority",
        Edit::RemoveAll(_) | Edit::For(..) => false,
    }
}

/// Takes away what a client must not send: headers that steer Envoy, and, as nginx does, names with an
/// underscore.
pub(super) fn unwanted<'a>(table: &RoutingTable, facts: &Facts<'a>, edits: &mut Vec<Edit<'a>>) {
    for (name, _) in facts.request.headers {
        let underscore = !table.underscores_in_headers && name.contains(&b'_');
        if (underscore || name.starts_with(STEERING_PREFIX))
            && let Ok(name) = std::str::from_utf8(name)
        {
            edits.push(Edit::Remove(Cow::Borrowed(name)));
        }
    }
}

/// All edits to an answer, in order. `policies` is none where no rule was selected.
pub fn response_edits<'a>(
    table: &'a RoutingTable,
    policies: Option<&'a CompiledPolicies>,
    facts: &Facts<'a>,
) -> Vec<Edit<'a>> {
    let cors = policies.and_then(|policies| policies.cors.as_ref());
    let own = policies.map_or(&[][..], |policies| &policies.response_headers);
    let hidden = policies.and_then(|policies| policies.hidden_headers.as_deref());
    let hidden = hidden.unwrap_or(&table.hidden_headers).iter();
    let mut edits: Vec<Edit<'a>> = hidden.map(|name| Edit::Remove(Cow::Borrowed(name))).collect();
    if let Some(hsts) = table.hsts.as_deref()
        && facts.selected.is_some()
        && facts.request.connection.scheme == Scheme::Https
    {
        let name = Cow::Borrowed("strict-transport-security");
        edits.push(Edit::Set(name, Cow::Borrowed(hsts.as_bytes())));
    }
    edits.extend(table.response_headers.iter().chain(own).map(|edit| edit.render(facts)));
    if let Some(cors) = cors {
        cors.edits(facts, &mut edits);
    }
    script::response_edits(facts, &mut edits);
    edits
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn names_and_values_are_checked() {
        let set = |name: &str, value: &str| HeaderEdit::Set { name: name.into(), value: value.into() };
        let cases = [
            (set("X-A", "b"), None),
            (set("Host", "b"), None),
            (set("", "b"), Some("\"\" is not a header name")),
            (set(":path", "/"), Some("\":path\" is not a header name")),
            (set("a b", "c"), Some("\"a b\" is not a header name")),
            (set("X-Ingress-Wasm-Cluster", "c"), Some("the header `X-Ingress-Wasm-Cluster` is reserved")),
            (set("x-envoy-retry-on", "c"), Some("the header `x-envoy-retry-on` is reserved")),
            (set("a", "b\r\nc: d"), Some("the value of `bc: d` holds control characters")),
            (set("a", "$nope"), Some("the variable `$nope` is not known")),
        ];
        for (edit, expected) in cases {
            let found = HeaderTemplate::compile(edit.clone()).err().map(|error| error.to_string());
            assert_eq!(found.as_deref(), expected, "{edit:?}");
        }
    }
}
