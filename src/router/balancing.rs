//! The compiled form of [`crate::config::Balancing`].

use super::compile::{inconsistent, text};
use super::table::Fault;
use crate::config::{Affinity, Balancing, Canary, ConfigError, HashBy};
use crate::policy::{Seal, Template};
use crate::regex::{Options, Regex};

/// How the requests for a Service are divided.
#[derive(Debug, Default)]
pub struct CompiledBalancing {
    /// Another Service that gets a part of the requests.
    pub canary: Option<CompiledCanary>,
    /// A client stays with one endpoint.
    pub affinity: Option<CompiledAffinity>,
    /// Requests with the same value go to the same endpoint.
    pub hash_by: Option<CompiledHashBy>,
}

/// See [`Canary`].
#[derive(Debug)]
pub struct CompiledCanary {
    /// The Ingress it comes from, `namespace/name`.
    pub ingress: Box<str>,
    /// The Service, `namespace/name:port`.
    pub service: Box<str>,
    /// Its Envoy cluster.
    pub cluster: Box<str>,
    /// The header, in lower case, and what its value says.
    pub header: Option<(Box<str>, HeaderRule)>,
    /// The cookie that says `always` or `never`.
    pub cookie: Option<Box<str>>,
    /// How many of `weight_total` other requests.
    pub weight: u32,
    /// Never 0.
    pub weight_total: u32,
    /// As of [`CompiledBalancing`], among the endpoints of the canary.
    pub affinity: Option<CompiledAffinity>,
    /// As of [`CompiledBalancing`], among the endpoints of the canary.
    pub hash_by: Option<CompiledHashBy>,
}

/// What the value of a canary's header says.
#[derive(Debug)]
pub enum HeaderRule {
    /// `always` and `never`.
    Words,
    /// This value chooses the canary.
    Value(Box<str>),
    /// Values that match choose the canary.
    Pattern(Regex),
    /// An expression that cannot be matched: whoever sends the header goes to the main Service.
    Broken,
}

/// See [`Affinity`].
#[derive(Debug)]
pub struct CompiledAffinity {
    /// Name of the cookie.
    pub cookie: Box<str>,
    /// Tells the Services apart.
    pub key: Box<str>,
    /// How the cookie is set; none: it is only read.
    pub set: Option<CompiledCookie>,
    /// How endpoints stand in the cookie; none: they never do.
    pub endpoint: Option<EndpointInCookie>,
}

/// How endpoints stand in the cookie.
#[derive(Debug)]
pub struct EndpointInCookie {
    /// What they are sealed with.
    pub seal: Seal,
    /// Every cookie holds one; otherwise only one that is set after a failure.
    pub persistent: bool,
    /// The cookie changes where its endpoint has failed.
    pub change_on_failure: bool,
}

/// The attributes of a cookie that is set.
#[derive(Debug)]
pub struct CompiledCookie {
    /// Seconds from the request.
    pub expires: Option<u64>,
    /// `; Max-Age=…; Domain=…`, as far as they are configured.
    pub before_path: Box<str>,
    /// Path; none: that of the rule.
    pub path: Option<Box<str>>,
    /// Secure also over plain HTTP.
    pub secure: bool,
    /// `; SameSite=…` or nothing.
    pub same_site: Box<str>,
    /// `same_site` is left out for browsers that misread it.
    pub same_site_for_some: bool,
}

/// See [`HashBy`].
#[derive(Debug)]
pub struct CompiledHashBy {
    /// The value.
    pub value: Template,
    /// The clusters of the subsets; empty: the endpoints of the one cluster are chosen among.
    pub subsets: Box<[Box<str>]>,
}

impl CompiledBalancing {
    /// Some cookie or value has the time in it.
    pub(super) fn needs_clock(&self) -> bool {
        let canary = self.canary.as_ref();
        let affinities = [self.affinity.as_ref(), canary.and_then(|canary| canary.affinity.as_ref())];
        let hashes = [self.hash_by.as_ref(), canary.and_then(|canary| canary.hash_by.as_ref())];
        let expires =
            |affinity: &CompiledAffinity| affinity.set.as_ref().is_some_and(|c| c.expires.is_some());
        affinities.into_iter().flatten().any(expires)
            || hashes.into_iter().flatten().any(|hash| hash.value.needs_clock())
    }
}

/// Compiles one entry; `at` is its JSON path.
///
/// # Errors
///
/// [`ConfigError::Inconsistent`]. An expression that cannot be matched is a [`Fault`] only.
pub(super) fn compile(
    at: &str,
    balancing: Balancing,
) -> Result<(CompiledBalancing, Option<Fault>), ConfigError> {
    let Balancing { canary, affinity, hash_by } = balancing;
    let mut fault = None;
    let canary = match canary {
        None => None,
        Some(canary) => {
            let (canary, found) = compile_canary(&format!("{at}.canary"), canary)?;
            fault = found;
            Some(canary)
        }
    };
    let affinity = compile_affinity(at, affinity)?;
    let hash_by = compile_hash_by(at, hash_by)?;
    Ok((CompiledBalancing { canary, affinity, hash_by }, fault))
}

fn compile_canary(at: &str, canary: Canary) -> Result<(CompiledCanary, Option<Fault>), ConfigError> {
    let Canary {
        ingress,
        service,
        cluster,
        header,
        header_value,
        header_pattern,
        cookie,
        weight,
        weight_total,
        affinity,
        hash_by,
    } = canary;
    if weight_total == 0 {
        return Err(inconsistent(format!("{at}.weightTotal"), "it has to be at least 1"));
    }
    let mut fault = None;
    let rule = match (header_value, header_pattern) {
        (Some(value), _) => HeaderRule::Value(value.into()),
        (None, Some(pattern)) => match Regex::new(&pattern, Options::default()) {
            Ok(regex) => HeaderRule::Pattern(regex),
            Err(error) => {
                fault = Some(Fault { path: format!("{at}.headerPattern"), reason: error.to_string() });
                HeaderRule::Broken
            }
        },
        (None, None) => HeaderRule::Words,
    };
    let canary = CompiledCanary {
        ingress: ingress.into(),
        service: service.into(),
        cluster: cluster.into(),
        header: header.map(|name| (name.to_ascii_lowercase().into(), rule)),
        cookie: cookie.map(Into::into),
        weight,
        weight_total,
        affinity: compile_affinity(at, affinity)?,
        hash_by: compile_hash_by(at, hash_by)?,
    };
    Ok((canary, fault))
}

fn compile_affinity(at: &str, affinity: Option<Affinity>) -> Result<Option<CompiledAffinity>, ConfigError> {
    let Some(affinity) = affinity else { return Ok(None) };
    let Affinity {
        cookie,
        key,
        sets_cookie,
        path,
        domain,
        expires,
        max_age,
        secure,
        same_site,
        conditional_same_site_none,
        persistent,
        change_on_failure,
        endpoint_secret,
    } = affinity;
    if !is_cookie_text(&cookie) {
        return Err(inconsistent(format!("{at}.affinity.cookie"), "this is not the name of a cookie"));
    }
    for (name, value) in [("path", &path), ("domain", &domain), ("sameSite", &same_site)] {
        let value = value.as_deref().unwrap_or_default();
        let at = format!("{at}.affinity.{name}");
        text(&at, value)?;
        if value.contains(';') {
            return Err(inconsistent(at, "a semicolon would begin another attribute"));
        }
    }
    if !is_cookie_text(&key) {
        return Err(inconsistent(format!("{at}.affinity.key"), "this is not the value of a cookie"));
    }
    let mut before_path = String::new();
    if let Some(max_age) = max_age {
        before_path.push_str("; Max-Age=");
        before_path.push_str(&max_age.to_string());
    }
    if let Some(domain) = domain {
        before_path.push_str("; Domain=");
        before_path.push_str(&domain);
    }
    let same_site_for_some = conditional_same_site_none && same_site.as_deref() == Some("None");
    let same_site = same_site.map_or_else(String::new, |value| String::from("; SameSite=") + &value).into();
    let set = CompiledCookie {
        expires,
        before_path: before_path.into(),
        path: path.map(Into::into),
        secure,
        same_site,
        same_site_for_some,
    };
    let endpoint = match endpoint_secret {
        None if persistent || change_on_failure => {
            let at = format!("{at}.affinity.endpointSecret");
            return Err(inconsistent(at, "an endpoint cannot be put into a cookie without"));
        }
        Some(secret) if persistent || change_on_failure => {
            Some(EndpointInCookie { seal: Seal::new(&secret), persistent, change_on_failure })
        }
        _ => None,
    };
    let set = sets_cookie.then_some(set);
    Ok(Some(CompiledAffinity { cookie: cookie.into(), key: key.into(), set, endpoint }))
}

fn compile_hash_by(at: &str, hash_by: Option<HashBy>) -> Result<Option<CompiledHashBy>, ConfigError> {
    let Some(HashBy { value, subsets }) = hash_by else { return Ok(None) };
    let value = Template::parse(&value)
        .map_err(|error| inconsistent(format!("{at}.hashBy.value"), error.to_string()))?;
    Ok(Some(CompiledHashBy { value, subsets: subsets.into_iter().map(Into::into).collect() }))
}

/// Text that neither ends a cookie's name or value nor begins another.
fn is_cookie_text(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;=".contains(&byte))
}
