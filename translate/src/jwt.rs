//! JSON Web Tokens (`ingress-wasm.io/jwt-…`): what Envoy's filter for them is told. Where they are asked for and cannot
//! be checked, the rules are denied.

use std::time::Duration;

use ingress_wasm::config::HeaderEdit;
use ingress_wasm::policy::may_be_taken;

use crate::annotations::{AnnotationSet, Setting, Value, parse_milliseconds};
use crate::backends::{Backends, Origin};
use crate::diagnostic::Diagnostic;
use crate::objects::{ObjectName, Secret};
use crate::policies::{Context, IngressPolicies, Policies, deny};
use crate::report::Report;

/// How the name of a route profile begins whose requests need a token. A name that begins so and is not known is
/// refused.
pub const PROFILE_PREFIX: &str = "jwt:";

/// What a token has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwt {
    /// The name of this requirement: of all but the keys.
    pub name: String,
    /// What `iss` has to be.
    pub issuer: Option<String>,
    /// One of them has to be in `aud`; empty: it is not looked at.
    pub audiences: Vec<String>,
    /// Where the keys come from.
    pub keys: Keys,
    /// Headers that hold the token, with what stands before it.
    pub headers: Vec<(String, String)>,
    /// Query parameters that hold the token.
    pub params: Vec<String>,
    /// Cookies that hold the token.
    pub cookies: Vec<String>,
    /// Headers to the backend with the path of the claim in each.
    pub claims: Vec<(String, Vec<String>)>,
    /// By how many seconds clocks may differ.
    pub clock_skew: u32,
    /// The backend gets the token.
    pub forward: bool,
    /// A token without `exp` is none.
    pub require_expiration: bool,
}

/// The keys by which tokens are checked (RFC 7517).
#[derive(Clone, PartialEq, Eq)]
pub enum Keys {
    /// The text of a Secret.
    Inline(String),
    /// Fetched.
    Remote {
        /// The cluster that is asked.
        cluster: String,
        /// The URL.
        url: String,
        /// How long they are kept.
        cache: Duration,
    },
}

impl std::fmt::Debug for Keys {
    /// Without keys: those of a Secret may be secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Keys::Inline(_) => formatter.write_str("Inline"),
            Keys::Remote { cluster, url, cache } => write!(formatter, "Remote({cluster} {url} {cache:?})"),
        }
    }
}

/// The keys of a Secret that may hold the key set, in this order.
const FILES: [&str; 2] = ["jwks.json", "jwks"];

/// The shortest key of HMAC in bytes (RFC 7518, 3.2); a shorter one could be guessed from a token.
const SHORTEST: usize = 32;

/// Puts the tokens that an Ingress asks for into its route profile.
pub fn read(
    context: &Context<'_>,
    read: &mut IngressPolicies,
    policies: &mut Policies,
    backends: &mut Backends<'_>,
    report: &mut Report,
) {
    let asks = |setting: &Setting<'_>| setting.entry.name.starts_with("jwt-") && setting.asks();
    let Some(first) = context.annotations.iter().find(asks) else { return };
    if read.set.denied.is_some() {
        return;
    }
    let keys = match keys(context, backends, report) {
        Ok(keys) => keys,
        Err((name, fault, remedy)) => {
            let setting = context.annotations.own(name).unwrap_or(first);
            deny(context, &setting, &mut read.set.denied, report, "jwt-invalid", &fault, remedy);
            return;
        }
    };
    let Some(mut jwt) = requirement(context, keys, read, report) else { return };
    if read.set.satisfy_any {
        let consequence = "`satisfy: any` does not hold for tokens: one is needed whatever else is passed";
        report.annotation(context.ingress, first.key, Diagnostic::note("jwt-satisfy", consequence));
    }
    // A client says none of what a token does, not even where the claim is missing.
    let remove = |(name, _): &(String, _)| HeaderEdit::Remove { name: name.clone() };
    let removed: Vec<HeaderEdit> = jwt.claims.iter().map(remove).collect();
    read.set.request_headers.extend(removed);
    jwt.name = format!("{PROFILE_PREFIX}{:016x}", fnv(&format!("{jwt:?}{}", source(context))));
    let mut name = jwt.name.clone();
    if let Some(other) = &read.set.route_profile {
        name = format!("{name}/{other}");
    }
    read.profile.jwt = Some(jwt);
    policies.profiles.insert(name.clone(), read.profile.clone());
    read.set.route_profile = Some(name);
}

/// A fault: the annotation, what is wrong and what to do.
type Fault = (&'static str, String, &'static str);

/// What stands in the name of a requirement for the keys of a Secret.
fn source(context: &Context<'_>) -> String {
    let secret = context.annotations.own("jwt-jwks-secret").map_or("", |setting| setting.text);
    format!("{}/{secret}", context.ingress.metadata.name.namespace)
}

fn keys(context: &Context<'_>, backends: &mut Backends<'_>, report: &mut Report) -> Result<Keys, Fault> {
    let annotations = context.annotations;
    if backends.in_mesh() {
        let fault = "tokens are not checked in a mesh's gateway by this project";
        return Err((
            "",
            fault.to_owned(),
            "use a RequestAuthentication and an AuthorizationPolicy of Istio",
        ));
    }
    match (annotations.own("jwt-jwks-secret"), annotations.own("jwt-jwks-url")) {
        (Some(secret), None) => of_secret(context, &secret).map(Keys::Inline),
        (None, Some(url)) => remote(context, &url, backends, report),
        (Some(_), Some(_)) => {
            let fault = "both a Secret and a URL are named for the keys of tokens".to_owned();
            Err(("jwt-jwks-url", fault, "leave one of `jwt-jwks-secret` and `jwt-jwks-url` out"))
        }
        (None, None) => {
            let fault = "no keys are named by which tokens are checked".to_owned();
            Err((
                "",
                fault,
                "name them by `ingress-wasm.io/jwt-jwks-secret` or `ingress-wasm.io/jwt-jwks-url`",
            ))
        }
    }
}

/// The Secret of the Ingress's own namespace that an annotation names.
pub fn own_secret<'a>(
    context: &Context<'a>,
    setting: &Setting<'_>,
    remedy: &'static str,
) -> Result<&'a Secret, (String, &'static str)> {
    let own_namespace = &context.ingress.metadata.name.namespace;
    let Ok(Value::Name { namespace, name }) = setting.parse() else {
        return Err(("the name of the Secret cannot be read".to_owned(), remedy));
    };
    let name = ObjectName::new(namespace.unwrap_or_else(|| own_namespace.clone()), name);
    if name.namespace != *own_namespace {
        let remedy = "move the Secret to the namespace of the Ingress";
        return Err((format!("Secret {name} is in another namespace"), remedy));
    }
    let secret = context.snapshot.secrets.get(&name);
    secret.map(|secret| &**secret).ok_or_else(|| (format!("Secret {name} does not exist"), remedy))
}

fn of_secret(context: &Context<'_>, setting: &Setting<'_>) -> Result<String, Fault> {
    const NAME: &str = "jwt-jwks-secret";
    const REMEDY: &str = "create the Secret, with the key set (RFC 7517) under the key `jwks.json`";
    let secret = own_secret(context, setting, REMEDY).map_err(|(fault, remedy)| (NAME, fault, remedy))?;
    let Some(text) = FILES.iter().find_map(|file| secret.data.get(*file)) else {
        return Err((NAME, "the Secret has no key `jwks.json`".to_owned(), REMEDY));
    };
    let text = std::str::from_utf8(text).map_err(|_| (NAME, "the key set is no text".to_owned(), REMEDY))?;
    check(text).map_err(|fault| (NAME, fault, REMEDY))?;
    Ok(text.to_owned())
}

/// Whether Envoy will take a key set: what it does not take it writes to its log, keys and all. Never says what is in
/// the set.
fn check(text: &str) -> Result<(), String> {
    let set: serde_json::Value =
        serde_json::from_str(text).map_err(|_| "the key set is no JSON".to_owned())?;
    let keys = set.get("keys").and_then(|keys| keys.as_array()).filter(|keys| !keys.is_empty());
    let keys = keys.ok_or_else(|| "the key set has no list `keys` with a key in it".to_owned())?;
    keys.iter().enumerate().try_for_each(|(position, key)| {
        check_key(key).map_err(|fault| format!("key {} of the key set {fault}", position + 1))
    })
}

fn check_key(key: &serde_json::Value) -> Result<(), String> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let text = |name: &str| key.get(name).and_then(serde_json::Value::as_str);
    let bytes = |name: &str| {
        let decoded = text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok());
        decoded.filter(|bytes| !bytes.is_empty()).ok_or_else(|| format!("has no `{name}` in base64url"))
    };
    let curve = |known: &[&str]| match text("crv") {
        Some(curve) if known.contains(&curve) => Ok(()),
        _ => Err(format!("has a `crv` that is none of {}", known.join(", "))),
    };
    let algorithm = |known: &[&str]| match key.get("alg").map(|_| text("alg")) {
        None => Ok(()),
        Some(Some(algorithm)) if known.contains(&algorithm) => Ok(()),
        Some(_) => Err(format!("has an `alg` that is none of {}", known.join(", "))),
    };
    match text("kty") {
        Some("RSA") => {
            algorithm(&["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])?;
            bytes("n").and(bytes("e")).map(drop)
        }
        Some("EC") => {
            algorithm(&["ES256", "ES384", "ES512"])?;
            curve(&["P-256", "P-384", "P-521"])?;
            bytes("x").and(bytes("y")).map(drop)
        }
        Some("OKP") => {
            algorithm(&["EdDSA"])?;
            curve(&["Ed25519"])?;
            match bytes("x")?.len() {
                32 => Ok(()),
                _ => Err("has an `x` of another length than 32 bytes".to_owned()),
            }
        }
        Some("oct") => {
            algorithm(&["HS256", "HS384", "HS512"])?;
            match bytes("k")?.len() {
                SHORTEST.. => Ok(()),
                _ => Err(format!("is shorter than {SHORTEST} bytes, which HMAC needs (RFC 7518)")),
            }
        }
        _ => Err("has a `kty` that is none of RSA, EC, OKP, oct".to_owned()),
    }
}

fn remote(
    context: &Context<'_>,
    setting: &Setting<'_>,
    backends: &mut Backends<'_>,
    report: &mut Report,
) -> Result<Keys, Fault> {
    const NAME: &str = "jwt-jwks-url";
    const REMEDY: &str = "write a URL with http or https, a host and a path";
    let Ok(Value::Text(url)) = setting.parse() else {
        return Err((NAME, "the URL cannot be read".to_owned(), REMEDY));
    };
    let origin = origin(&url).map_err(|fault| (NAME, fault, REMEDY))?;
    let (cluster, diagnostic) = backends.keys(&origin).map_err(|fault| (NAME, fault, REMEDY))?;
    if let Some(mut diagnostic) = diagnostic {
        diagnostic.consequence = diagnostic.consequence.replace("answered 500", "answered 401");
        report.annotation(context.ingress, setting.key, diagnostic);
    }
    let cache = match context.annotations.own("jwt-jwks-cache-duration").map(|setting| setting.parse()) {
        Some(Ok(Value::Text(text))) => parse_milliseconds(&text).map(Duration::from_millis),
        _ => None,
    };
    let cache = cache.filter(|cache| *cache >= Duration::from_secs(1)).unwrap_or(Duration::from_secs(300));
    Ok(Keys::Remote { cluster, url, cache })
}

/// Scheme, host and port of a URL.
pub fn origin(url: &str) -> Result<Origin, String> {
    let (scheme, rest) = url.split_once("://").ok_or("the URL has no scheme")?;
    let (tls, default) = match scheme {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return Err(format!("the scheme {scheme} is not supported")),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| format!("`{port}` is no port"))?),
        None => (authority, default),
    };
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        return Err(format!("`{host}` is no host"));
    }
    Ok(Origin { tls, host: host.to_ascii_lowercase(), port })
}

/// The parts of a text between commas.
fn parts(annotations: &AnnotationSet<'_>, name: &str) -> Vec<String> {
    let text = annotations.own(name).map_or("", |setting| setting.text);
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The names in the path of a claim: dots part them, but for those between quotes.
fn claim_path(text: &str) -> Vec<String> {
    let mut path = vec![String::new()];
    let mut quoted = false;
    for sign in text.chars() {
        match sign {
            '"' => quoted = !quoted,
            '.' if !quoted => path.push(String::new()),
            _ => path.last_mut().into_iter().for_each(|name| name.push(sign)),
        }
    }
    if quoted {
        // One that has no end is none.
        path.push(String::new());
    }
    path
}

fn requirement(
    context: &Context<'_>,
    keys: Keys,
    read: &mut IngressPolicies,
    report: &mut Report,
) -> Option<Jwt> {
    let annotations = context.annotations;
    let value = |name: &str| annotations.own(name).and_then(|setting| setting.parse().ok());
    let lines = |name: &str| match value(name) {
        Some(Value::Headers(lines)) => lines,
        _ => Vec::new(),
    };
    let flag = |name: &str, default| match value(name) {
        Some(Value::Bool(on)) => on,
        _ => default,
    };
    let mut claims = Vec::new();
    for line in lines("jwt-claims-to-headers") {
        let claim = line.value.unwrap_or_default();
        let path = claim_path(&claim);
        if !may_be_taken(&line.name) || path.iter().any(String::is_empty) {
            let fault = format!("the header {} cannot be made from the claim `{claim}`", line.name);
            let setting = annotations.own("jwt-claims-to-headers")?;
            let remedy = "write lines `Header: claim`, with dots between the names of nested claims, and \
                          quotes around a name with dots in it";
            deny(context, &setting, &mut read.set.denied, report, "jwt-invalid", &fault, remedy);
            return None;
        }
        if path.iter().any(|name| name.contains('.'))
            && let Some(setting) = annotations.own("jwt-claims-to-headers")
        {
            let consequence = format!(
                "Envoy 1.36 has no way to name the claim `{claim}`: there nothing of this configuration is served"
            );
            let diagnostic = Diagnostic::warning("jwt-claim-with-dots", consequence)
                .remedy("run a newer Envoy, or have the claim under a name without dots");
            report.annotation(context.ingress, setting.key, diagnostic);
        }
        claims.push((line.name, path));
    }
    let prefixed = |prefix: String| if prefix.is_empty() { prefix } else { format!("{prefix} ") };
    Some(Jwt {
        name: String::new(),
        issuer: annotations.own("jwt-issuer").map(|setting| setting.text.trim().to_owned()),
        audiences: parts(annotations, "jwt-audiences"),
        keys,
        headers: lines("jwt-from-headers")
            .into_iter()
            .map(|line| (line.name, prefixed(line.value.unwrap_or_default())))
            .collect(),
        params: parts(annotations, "jwt-from-params"),
        cookies: parts(annotations, "jwt-from-cookies"),
        claims,
        clock_skew: match value("jwt-clock-skew") {
            Some(Value::Integer(seconds)) => u32::try_from(seconds).unwrap_or(60),
            _ => 60,
        },
        forward: flag("jwt-forward", true),
        require_expiration: flag("jwt-require-expiration", true),
    })
}

/// The FNV-1a hash.
pub fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_named() {
        let cases: [(&str, &[&str]); 7] = [
            ("sub", &["sub"]),
            ("org.tenant", &["org", "tenant"]),
            ("\"https://a.example/roles\"", &["https://a.example/roles"]),
            ("a.\"b.c\".d", &["a", "b.c", "d"]),
            ("a..b", &["a", "", "b"]),
            ("\"a.b", &["a.b", ""]),
            ("", &[""]),
        ];
        for (text, expected) in cases {
            assert_eq!(claim_path(text), expected, "{text}");
        }
    }

    #[test]
    fn key_sets() {
        let long = "A".repeat(43);
        let short = "A".repeat(22);
        let cases = [
            (
                r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "a", "use": "sig"}]}"#
                    .to_owned(),
                "",
            ),
            (
                r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB", "alg": "ES256"}]}"#
                    .to_owned(),
                "",
            ),
            (format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "x": "{long}"}}]}}"#), ""),
            (format!(r#"{{"keys": [{{"kty": "oct", "k": "{long}", "alg": "HS256"}}]}}"#), ""),
            (format!(r#"{{"keys": [{{"kty": "oct", "k": "{short}"}}]}}"#), "shorter than 32 bytes"),
            (format!(r#"{{"keys": [{{"kty": "OKP", "crv": "X25519", "x": "{long}"}}]}}"#), "`crv`"),
            (r#"{"keys": [{"kty": "RSA", "n": "AQAB"}]}"#.to_owned(), "no `e`"),
            (r#"{"keys": [{"kty": "RSA", "n": "!", "e": "AQAB"}]}"#.to_owned(), "no `n`"),
            (r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "none"}]}"#.to_owned(), "`alg`"),
            (r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}, {}]}"#.to_owned(), "key 2"),
            (r#"{"keys": []}"#.to_owned(), "no list"),
            (r#"{}"#.to_owned(), "no list"),
            ("hidden".to_owned(), "no JSON"),
        ];
        for (text, expected) in cases {
            let fault = check(&text).err().unwrap_or_default();
            assert!(fault.is_empty() == expected.is_empty() && fault.contains(expected), "{text}: {fault}");
            assert!(!fault.contains("hidden") && !fault.contains("AAAA"), "{fault}");
        }
    }

    #[test]
    fn origins() {
        let cases = [
            ("https://Login.example/keys", Some((true, "login.example", 443))),
            ("http://login.auth.svc:8080", Some((false, "login.auth.svc", 8080))),
            ("ftp://login.example/", None),
            ("login.example", None),
            ("https:///keys", None),
            ("https://a@b/keys", None),
            ("https://a:b/keys", None),
        ];
        for (url, expected) in cases {
            let found = origin(url).ok();
            let found = found.as_ref().map(|origin| (origin.tls, origin.host.as_str(), origin.port));
            assert_eq!(found, expected, "{url}");
        }
    }
}
