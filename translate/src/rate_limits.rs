//! Limits over all replicas (`ingress-wasm.io/global-rate-limit…`): what Envoy asks a rate limit service, and which.
//! Where they are asked for and nobody can be asked, the rules are denied.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ingress_wasm::config::GlobalLimit;
use ingress_wasm::decision::LIMIT_HEADERS;
use ingress_wasm::policy::Template;

use crate::annotations::{Setting, Value, parse_milliseconds};
use crate::backends::Backends;
use crate::connections::{time, value};
use crate::diagnostic::Diagnostic;
use crate::jwt::{fnv, origin};
use crate::objects::ConfigMap;
use crate::policies::{Context, IngressPolicies, Policies, deny};
use crate::report::Report;

/// How the name of a route profile begins whose requests are counted. A name that begins so and is not known is
/// refused.
pub const PROFILE_PREFIX: &str = "limit:";

/// The service that is asked, by Envoy's protocol (`envoy.service.ratelimit.v3`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimitService {
    /// Its cluster, which speaks HTTP/2.
    pub cluster: String,
    /// Its host and port, by which it is addressed: the name of the cluster is no authority.
    pub authority: String,
    /// How long it may take.
    pub timeout: Duration,
    /// The domain of what it is asked.
    pub domain: String,
    /// Where it does not answer, requests are answered 503; otherwise they are let through.
    pub deny: bool,
    /// What requests over the limit are answered with.
    pub status: u16,
}

/// One descriptor of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The keys of its entries, each with the private header that has the value.
    pub entries: Vec<(String, &'static str)>,
    /// The number of requests is told as well.
    pub limited: bool,
}

const SERVICE: &str = "ingress-wasm-rate-limit-service";

/// The service that the ConfigMap names, with its cluster.
pub fn service(
    map: Option<&ConfigMap>,
    backends: &mut Backends<'_>,
    report: &mut Report,
) -> Option<RateLimitService> {
    let map = map?;
    let Some(Value::Text(text)) = value(map, SERVICE) else { return None };
    if backends.in_mesh() {
        // The rules that need it say so.
        return None;
    }
    let mut tell = |diagnostic: Diagnostic| {
        let object = crate::global::reference(map);
        report.add(
            diagnostic
                .object(object, map.metadata.source.clone())
                .field(format!("data[\"{SERVICE}\"]"), text.as_str()),
        );
    };
    let url = if text.contains("://") { text.clone() } else { format!("http://{text}") };
    let found = match url.split_once("://").and_then(|(_, rest)| rest.split_once('/')) {
        Some((_, path)) if !path.is_empty() => Err("a path is of no meaning here".to_owned()),
        _ => origin(&url),
    };
    let found = found.and_then(|origin| {
        let authority = format!("{}:{}", origin.host, origin.port);
        backends.rate_limits(&origin).map(|(cluster, missing)| (cluster, authority, missing))
    });
    let (cluster, authority, missing) = match found {
        Ok(found) => found,
        Err(fault) => {
            let consequence = format!("{fault}: rules with a global rate limit are answered 503");
            let remedy = "write the service as host:port, or as https://host:port for TLS";
            tell(Diagnostic::error("rate-limit-service", consequence).remedy(remedy));
            return None;
        }
    };
    if let Some(mut diagnostic) = missing {
        diagnostic.consequence =
            diagnostic.consequence.replace("requests are answered 500", "no request is counted");
        tell(diagnostic);
    }
    let word = |name: &str| match value(map, name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    };
    Some(RateLimitService {
        cluster,
        authority,
        timeout: time(map, "ingress-wasm-rate-limit-timeout")
            .filter(|time| !time.is_zero())
            .unwrap_or(Duration::from_millis(100)),
        domain: word("ingress-wasm-rate-limit-domain").unwrap_or_else(|| "ingress-wasm".to_owned()),
        deny: word("ingress-wasm-rate-limit-failure").as_deref() != Some("allow"),
        status: match value(map, "ingress-wasm-rate-limit-status-code") {
            Some(Value::Integer(status)) => u16::try_from(status).unwrap_or(429),
            _ => 429,
        },
    })
}

/// Puts the limits that an Ingress asks for into its route profile, and what they are told into its policies.
pub fn read(
    context: &Context<'_>,
    service: Option<&RateLimitService>,
    read: &mut IngressPolicies,
    policies: &mut Policies,
    backends: &Backends<'_>,
    report: &mut Report,
) {
    let asks = |setting: &Setting<'_>| setting.entry.name.starts_with("global-rate-limit") && setting.asks();
    let Some(first) = context.annotations.iter().find(asks) else { return };
    if read.set.denied.is_some() {
        return;
    }
    let asked = match (backends.in_mesh(), service) {
        (true, _) => Err((
            "",
            "no rate limit service is asked by this project in a mesh's gateway".to_owned(),
            "limit requests by an EnvoyFilter with Envoy's rate limit filter, as Istio's documentation has it",
        )),
        (false, None) => Err((
            "",
            "there is no rate limit service to ask".to_owned(),
            "name one by `ingress-wasm-rate-limit-service` in the ConfigMap",
        )),
        (false, Some(_)) => descriptors(context, first.key, report),
    };
    let (descriptors, limit) = match asked {
        Ok(asked) => asked,
        Err((name, fault, remedy)) => {
            let setting = context.annotations.own(name).unwrap_or(first);
            deny(context, &setting, &mut read.set.denied, report, "global-rate-limit", &fault, remedy);
            return;
        }
    };
    let keys = format!("{descriptors:?}");
    let mut name = format!("{PROFILE_PREFIX}{:016x}", fnv(&keys));
    if let Some(other) = &read.set.route_profile {
        name = format!("{name}/{other}");
    }
    read.profile.limits = descriptors;
    policies.profiles.insert(name.clone(), read.profile.clone());
    read.set.route_profile = Some(name);
    read.set.global_limit = Some(limit);
}

/// A fault: the annotation, what is wrong and what to do.
type Fault = (&'static str, String, &'static str);

fn descriptors(
    context: &Context<'_>,
    key: &str,
    report: &mut Report,
) -> Result<(Vec<Descriptor>, GlobalLimit), Fault> {
    const DESCRIPTOR: &str = "global-rate-limit-descriptor";
    let value = |name: &str| context.annotations.own(name).and_then(|setting| setting.parse().ok());
    let mut limit = GlobalLimit::default();
    let mut descriptors = Vec::new();
    let window = match value("global-rate-limit-window") {
        Some(Value::Text(text)) => parse_milliseconds(&text).map(Duration::from_millis),
        _ => None,
    };
    match (value("global-rate-limit"), window) {
        (Some(Value::Integer(requests)), Some(window)) => {
            let requests = u64::try_from(requests).unwrap_or(1);
            let Some((rate, unit, exact)) = per_unit(requests, window) else {
                let remedy = "name a window of 1s, 1m, 1h or 1d, or a larger limit";
                return Err((
                    "global-rate-limit-window",
                    "no such rate can be told the service".to_owned(),
                    remedy,
                ));
            };
            if !exact {
                let consequence = format!("the service counts {rate} requests per {}", unit.to_lowercase());
                report.annotation(
                    context.ingress,
                    key,
                    Diagnostic::note("global-rate-limit-window", consequence),
                );
            }
            limit.limit = Some(told(rate, unit));
            limit.values.push(context.ingress.metadata.name.to_string());
            limit.values.push(match value("global-rate-limit-key") {
                Some(Value::Text(key)) => key,
                _ => "$remote_addr".to_owned(),
            });
            let keys = ["ingress".to_owned(), "key".to_owned()];
            descriptors
                .push(Descriptor { entries: keys.into_iter().zip(headers(0)).collect(), limited: true });
        }
        (None, None) if value(DESCRIPTOR).is_some() => {}
        (None, _) => {
            let fault = "it is not said how many requests are served".to_owned();
            return Err((
                "",
                fault,
                "set `ingress-wasm.io/global-rate-limit` and `ingress-wasm.io/global-rate-limit-window`",
            ));
        }
        (Some(_), _) => {
            let fault = "it is not said in which time so many requests are served".to_owned();
            return Err(("global-rate-limit", fault, "set `ingress-wasm.io/global-rate-limit-window`"));
        }
    }
    if let Some(Value::Headers(lines)) = value(DESCRIPTOR) {
        let before = limit.values.len();
        if lines.is_empty() || before + lines.len() > LIMIT_HEADERS.len() - 1 {
            let fault = "it has no entries, or more than six".to_owned();
            return Err((DESCRIPTOR, fault, "write one to six lines `key: value`"));
        }
        let keys = lines.iter().map(|line| line.name.clone());
        descriptors.push(Descriptor { entries: keys.zip(headers(before)).collect(), limited: false });
        limit.values.extend(lines.into_iter().map(|line| line.value.unwrap_or_default()));
    }
    for text in &limit.values {
        if let Err(error) = Template::parse(text) {
            let name = if context.annotations.own(DESCRIPTOR).is_some() {
                DESCRIPTOR
            } else {
                "global-rate-limit-key"
            };
            return Err((name, error.to_string(), "use variables of nginx such as `$remote_addr`"));
        }
    }
    if let Some(Value::Networks(networks)) = value("global-rate-limit-ignored-cidrs") {
        limit.exempt = networks.iter().map(ToString::to_string).collect();
    }
    Ok((descriptors, limit))
}

/// The headers for values, from this one on.
fn headers(from: usize) -> impl Iterator<Item = &'static str> {
    LIMIT_HEADERS.into_iter().skip(from + 1)
}

/// So many requests in this time, as requests per unit of the protocol; whether it is the same. None: there is no
/// whole number that is not more.
fn per_unit(requests: u64, window: Duration) -> Option<(u64, &'static str, bool)> {
    const UNITS: [(u64, &str); 4] = [(86_400, "DAY"), (3_600, "HOUR"), (60, "MINUTE"), (1, "SECOND")];
    let window = u64::try_from(window.as_millis()).ok()?;
    let unit = UNITS.into_iter().find(|(seconds, _)| seconds * 1000 <= window);
    let (seconds, name) = unit?;
    let rate = requests.checked_mul(seconds * 1000)?.checked_div(window)?.min(u64::from(u32::MAX));
    (rate > 0).then_some((rate, name, seconds * 1000 == window))
}

/// The limit as a `google.protobuf.Value` in Base64: a struct of `requests_per_unit` and `unit`.
fn told(requests: u64, unit: &str) -> String {
    #[expect(clippy::cast_precision_loss, reason = "at most 32 bits")]
    let requests = [&[0x11][..], &(requests as f64).to_le_bytes()].concat();
    let number = entry("requests_per_unit", &requests);
    let unit = entry("unit", &field(0x1a, unit.as_bytes()));
    STANDARD.encode(field(0x2a, &[number, unit].concat()))
}

/// An entry of a struct.
fn entry(name: &str, value: &[u8]) -> Vec<u8> {
    field(0x0a, &[field(0x0a, name.as_bytes()), field(0x12, value)].concat())
}

/// A field with this tag whose content is shorter than 128 bytes.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or(0);
    [&[tag, length], content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_become_units() {
        let seconds = Duration::from_secs;
        let cases = [
            (10, seconds(1), Some((10, "SECOND", true))),
            (10, seconds(60), Some((10, "MINUTE", true))),
            (10, seconds(3600), Some((10, "HOUR", true))),
            (10, seconds(86_400), Some((10, "DAY", true))),
            (100, seconds(120), Some((50, "MINUTE", false))),
            (100, seconds(30), Some((3, "SECOND", false))),
            (10, seconds(30), None),
            (10, Duration::from_millis(500), None),
            (u64::MAX, seconds(60), None),
        ];
        for (requests, window, expected) in cases {
            assert_eq!(per_unit(requests, window), expected, "{requests} in {window:?}");
        }
    }
}
