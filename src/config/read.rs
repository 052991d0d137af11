//! The configuration from JSON: for each type its fields. A field that is missing here does not compile, and
//! a name that differs from the written one fails the test of both readers.

use std::collections::BTreeMap;

use super::json::{Read, Reader};
use super::{
    Action, Addresses, Affinity, Alias, AnswerEdit, ApiKeyAuth, AuthCache, Balancing, BasicAuth, Block,
    CacheTime, Canary, ClientCertificate, Cors, Credentials, ErrorPages, ExternalAuth, Forwarded, Global,
    GlobalLimit, HashBy, HeaderEdit, Host, LimitExcept, Limits, Location, Mirror, PartNumber, PathMatching,
    PathType, PluginConfig, PolicySet, Redirect, Replacement, Rewrite, Rule, Script, ScriptBlock, Step,
    TlsRedirect, VerifyClient,
};

/// What can be read from JSON.
pub trait FromJson: Sized {
    /// Reads one value.
    fn from_json(reader: &mut Reader<'_>) -> Read<Self>;
}

impl FromJson for String {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        reader.string()
    }
}

impl FromJson for bool {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        reader.boolean()
    }
}

impl FromJson for u16 {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        reader.number(u64::from(u16::MAX)).map(|number| u16::try_from(number).unwrap_or(u16::MAX))
    }
}

impl FromJson for u32 {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        reader.number(u64::from(u32::MAX)).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }
}

impl FromJson for u64 {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        reader.number(u64::MAX)
    }
}

impl FromJson for usize {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        // A position: the module's addresses have 32 bits, and no configuration comes near.
        reader.number(u64::from(u32::MAX)).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        T::from_json(reader).map(Some)
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        let mut elements = Vec::new();
        reader.array(&mut |reader| {
            elements.push(T::from_json(reader)?);
            Ok(())
        })?;
        Ok(elements)
    }
}

impl<T: FromJson> FromJson for BTreeMap<String, T> {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        let mut entries = BTreeMap::new();
        reader.object(&mut |reader, key| {
            let value = T::from_json(reader)?;
            if entries.insert(key.to_owned(), value).is_some() {
                return Err(reader.fault("the key stands here for the second time"));
            }
            Ok(true)
        })?;
        Ok(entries)
    }
}

/// A struct: its fields, each with its key; one with a default may be left out.
macro_rules! read_struct {
    ($type:ident { $($field:ident: $key:literal $(or $default:expr)?),* $(,)? }) => {
        impl FromJson for $type {
            fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
                $(let mut $field = None;)*
                reader.object(&mut |reader, key| {
                    match key {
                        $($key => set(reader, &mut $field)?,)*
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                Ok($type { $($field: match $field {
                    Some(value) => value,
                    None => read_struct!(@missing reader $key $($default)?),
                }),* })
            }
        }
    };
    (@missing $reader:ident $key:literal) => {
        return Err($reader.fault(concat!("missing field `", $key, "`")))
    };
    (@missing $reader:ident $key:literal $default:expr) => { $default };
}

/// An enum: variants without content are strings, others objects with one key. The fields of a variant are
/// read like those of a struct.
macro_rules! read_enum {
    ($type:ident { $($key:literal => $variant:ident { $($field:ident: $field_key:literal $(or $default:expr)?),* }),* $(,)? }) => {
        #[allow(unreachable_code, unused_variables, reason = "a variant may be without fields")]
        impl FromJson for $type {
            fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
                let mut found = None;
                reader.object(&mut |reader, key| {
                    if found.is_some() {
                        return Err(reader.fault("only one of the kinds may be given"));
                    }
                    match key {
                        $($key => {
                            $(let mut $field = None;)*
                            reader.object(&mut |reader, key| {
                                match key {
                                    $($field_key => set(reader, &mut $field)?,)*
                                    _ => return Ok(false),
                                }
                                Ok(true)
                            })?;
                            found = Some($type::$variant { $($field: match $field {
                                Some(value) => value,
                                None => read_struct!(@missing reader $field_key $($default)?),
                            }),* });
                        })*
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                found.ok_or_else(|| reader.fault("none of the kinds is given"))
            }
        }
    };
}

/// Reads a field, which may stand only once.
fn set<T: FromJson>(reader: &mut Reader<'_>, field: &mut Option<T>) -> Read<()> {
    match field.replace(T::from_json(reader)?) {
        None => Ok(()),
        Some(_) => Err(reader.fault("the field stands here for the second time")),
    }
}

read_struct!(PluginConfig {
    version: "version",
    generation: "generation" or String::new(),
    global: "global" or Global::default(),
    credentials: "credentials" or BTreeMap::new(),
    api_keys: "apiKeys" or BTreeMap::new(),
    policies: "policies" or Vec::new(),
    balancing: "balancing" or Vec::new(),
    hosts: "hosts" or Vec::new(),
    parts: "parts" or Vec::new(),
    part: "part" or None,
});

read_struct!(PartNumber { number: "number", of: "of" });

read_struct!(Global {
    connection_header: "connectionHeader" or false,
    forwarded: "forwarded" or Forwarded::default(),
    block: "block" or None,
    request_headers: "requestHeaders" or Vec::new(),
    hidden_headers: "hiddenHeaders" or Vec::new(),
    response_headers: "responseHeaders" or Vec::new(),
    underscores_in_headers: "underscoresInHeaders" or false,
    no_request_id: "noRequestId" or false,
    redirect_status: "redirectStatus" or None,
    rate_status: "rateStatus" or None,
    connection_status: "connectionStatus" or None,
    hsts: "hsts" or None,
    header_line_bytes: "headerLineBytes" or None,
    header_buffers: "headerBuffers" or None,
    statistics: "statistics" or false,
    log_fields: "logFields" or false,
});

read_struct!(Forwarded {
    trust_headers: "trustHeaders" or false,
    trusted_proxies: "trustedProxies" or Vec::new(),
    address_header: "addressHeader" or Forwarded::default().address_header,
    append: "append" or false,
    proxy_protocol: "proxyProtocol" or false,
});

read_struct!(Block { user_agents: "userAgents" or Vec::new(), referers: "referers" or Vec::new() });

read_struct!(Credentials { users: "users" });

read_struct!(Host {
    name: "name",
    path_matching: "pathMatching" or PathMatching::Elements,
    app_root: "appRoot" or None,
    tls: "tls" or false,
    aliases: "aliases" or Vec::new(),
    redirect_to: "redirectTo" or None,
    client_certificate: "clientCertificate" or None,
    script: "script" or None,
    locations: "locations" or Vec::new(),
    rules: "rules" or Vec::new(),
});

read_struct!(ClientCertificate {
    verify: "verify",
    subject: "subject" or None,
    error_page: "errorPage" or None,
    pass_certificate: "passCertificate" or false,
});

read_struct!(Location { modifier: "modifier" or String::new(), rule: "rule" });

read_struct!(Alias { name: "name", tls: "tls" or false });

read_struct!(Rule {
    ingress: "ingress",
    path: "path",
    path_type: "pathType" or PathType::Prefix,
    policies: "policies",
    action: "action",
});

read_struct!(PolicySet {
    denied: "denied" or None,
    max_body_bytes: "maxBodyBytes" or None,
    limits: "limits" or None,
    global_limit: "globalLimit" or None,
    addresses: "addresses" or None,
    satisfy_any: "satisfyAny" or false,
    basic_auth: "basicAuth" or None,
    cors: "cors" or None,
    api_key: "apiKey" or None,
    external_auth: "externalAuth" or None,
    redirect: "redirect" or None,
    relative_redirects: "relativeRedirects" or false,
    tls_redirect: "tlsRedirect" or None,
    rewrite: "rewrite" or None,
    original_uri_header: "originalUriHeader" or false,
    error_pages: "errorPages" or None,
    request_headers: "requestHeaders" or Vec::new(),
    response_headers: "responseHeaders" or Vec::new(),
    location_rewrite: "locationRewrite" or None,
    cookie_domain_rewrite: "cookieDomainRewrite" or None,
    cookie_path_rewrite: "cookiePathRewrite" or None,
    tls_cluster_suffix: "tlsClusterSuffix" or None,
    mirror: "mirror" or None,
    hidden_headers: "hiddenHeaders" or None,
    script: "script" or None,
    route_profile: "routeProfile" or None,
});

read_struct!(Limits {
    per_second: "perSecond" or 0,
    per_second_burst: "perSecondBurst" or 0,
    per_minute: "perMinute" or 0,
    per_minute_burst: "perMinuteBurst" or 0,
    connections: "connections" or 0,
    exempt: "exempt" or Vec::new(),
});

read_struct!(GlobalLimit { values: "values", limit: "limit" or None, exempt: "exempt" or Vec::new() });

read_struct!(Script {
    variables: "variables" or Vec::new(),
    steps: "steps" or Vec::new(),
    blocks: "blocks" or Vec::new(),
    access: "access" or Vec::new(),
    limit_except: "limitExcept" or None,
});

read_struct!(LimitExcept { methods: "methods", access: "access" });

read_enum!(Step {
    "if" => If {
        value: "value",
        test: "test" or String::new(),
        against: "against" or String::new(),
        negated: "negated" or false,
        skip: "skip"
    },
    "enter" => Enter { block: "block" },
    "set" => Set { variable: "variable", value: "value" },
    "return" => Return { status: "status", text: "text" or None, content_type: "contentType" or String::new() },
    "rewrite" => Rewrite {
        pattern: "pattern",
        path: "path",
        query: "query" or None,
        keep_query: "keepQuery" or false,
        then: "then"
    },
    "break" => Break {},
});

read_struct!(ScriptBlock {
    input_headers: "inputHeaders" or Vec::new(),
    request_headers: "requestHeaders" or Vec::new(),
    response_headers: "responseHeaders" or Vec::new(),
});

read_struct!(AnswerEdit {
    edit: "edit",
    statuses: "statuses" or Vec::new(),
    types: "types" or Vec::new(),
});

read_struct!(Addresses { allow: "allow" or Vec::new(), deny: "deny" or Vec::new() });

read_struct!(Balancing {
    canary: "canary" or None,
    affinity: "affinity" or None,
    hash_by: "hashBy" or None,
});

read_struct!(Canary {
    ingress: "ingress",
    service: "service",
    cluster: "cluster",
    header: "header" or None,
    header_value: "headerValue" or None,
    header_pattern: "headerPattern" or None,
    cookie: "cookie" or None,
    weight: "weight" or 0,
    weight_total: "weightTotal" or 100,
    affinity: "affinity" or None,
    hash_by: "hashBy" or None,
});

read_struct!(Affinity {
    cookie: "cookie",
    key: "key",
    sets_cookie: "setsCookie" or false,
    path: "path" or None,
    domain: "domain" or None,
    expires: "expires" or None,
    max_age: "maxAge" or None,
    secure: "secure" or false,
    same_site: "sameSite" or None,
    conditional_same_site_none: "conditionalSameSiteNone" or false,
    persistent: "persistent" or false,
    change_on_failure: "changeOnFailure" or false,
    endpoint_secret: "endpointSecret" or None,
});

read_struct!(Mirror { cluster: "cluster", target: "target" });

read_struct!(HashBy { value: "value", subsets: "subsets" or Vec::new() });

read_struct!(ApiKeyAuth {
    keys: "keys",
    header: "header" or None,
    parameter: "parameter" or None,
    client_header: "clientHeader" or None,
    forward: "forward" or false,
});

read_struct!(BasicAuth { realm: "realm" or String::new(), credentials: "credentials" });

read_struct!(Cors {
    origins: "origins",
    methods: "methods",
    headers: "headers",
    expose_headers: "exposeHeaders" or String::new(),
    max_age: "maxAge",
    credentials: "credentials" or false,
});

read_struct!(ExternalAuth {
    cluster: "cluster",
    host: "host",
    target: "target" or String::new(),
    method: "method" or None,
    request_redirect: "requestRedirect" or None,
    request_headers: "requestHeaders" or Vec::new(),
    response_headers: "responseHeaders" or Vec::new(),
    sign_in: "signIn" or None,
    always_set_cookie: "alwaysSetCookie" or false,
    cache: "cache" or None,
});

read_struct!(AuthCache { key: "key", times: "times" });

read_struct!(CacheTime { status: "status", ms: "ms" });

read_struct!(ErrorPages {
    statuses: "statuses",
    cluster: "cluster" or None,
    keep_backend_errors: "keepBackendErrors" or false,
});

read_struct!(Redirect { url: "url", status: "status" });

read_struct!(Replacement { from: "from", to: "to" });

read_struct!(TlsRedirect {
    always: "always" or false,
    preserve_trailing_slash: "preserveTrailingSlash" or false,
});

read_enum!(Action {
    "forward" => Forward { cluster: "cluster", service: "service" or String::new(), balancing: "balancing" or None },
    "standIn" => StandIn { cluster: "cluster", service: "service" },
    "respond" => Respond { status: "status", reason: "reason" or String::new() },
});

read_enum!(Rewrite {
    "path" => Path { target: "target", forwarded_prefix: "forwardedPrefix" or String::new() },
    "prefix" => Prefix { target: "target" },
});

read_enum!(HeaderEdit {
    "set" => Set { name: "name", value: "value" },
    "add" => Add { name: "name", value: "value" },
    "remove" => Remove { name: "name" },
});

/// One of a few words.
fn word<T: Copy>(reader: &mut Reader<'_>, words: &[(&str, T)], reason: &str) -> Read<T> {
    let found = reader.string()?;
    let known = words.iter().find(|(word, _)| *word == found);
    known.map(|(_, value)| *value).ok_or_else(|| reader.fault(reason))
}

impl FromJson for PathMatching {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        let words = [("elements", PathMatching::Elements), ("expressions", PathMatching::Expressions)];
        word(reader, &words, "expected `elements` or `expressions`")
    }
}

impl FromJson for PathType {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        let words = [("Exact", PathType::Exact), ("Prefix", PathType::Prefix)];
        word(reader, &words, "expected `Exact` or `Prefix`")
    }
}

impl FromJson for VerifyClient {
    fn from_json(reader: &mut Reader<'_>) -> Read<Self> {
        let words = [
            ("on", VerifyClient::On),
            ("off", VerifyClient::Off),
            ("optional", VerifyClient::Optional),
            ("optionalNoCa", VerifyClient::OptionalNoCa),
            ("refuse", VerifyClient::Refuse),
        ];
        word(reader, &words, "expected `on`, `off`, `optional`, `optionalNoCa` or `refuse`")
    }
}
