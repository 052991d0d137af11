//! Prefixes and misspelt names: what a key was most likely meant to be.

use super::{all, lookup, lookup_own, own};

/// Whose annotations a prefix marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// `ingress.kubernetes.io/`, of the first releases of ingress-nginx.
    Legacy,
    /// `nginx.ingress.kubernetes.io/`, or the prefix that was configured besides.
    Nginx,
    /// `ingress-wasm.io/`.
    Own,
}

const NGINX: &str = "nginx.ingress.kubernetes.io";
const LEGACY: &str = "ingress.kubernetes.io";
const OWN: &str = "ingress-wasm.io";

impl Prefix {
    /// The prefix without its slash.
    pub fn name(self) -> &'static str {
        match self {
            Prefix::Legacy => LEGACY,
            Prefix::Nginx => NGINX,
            Prefix::Own => OWN,
        }
    }
}

/// Prefix and name of a key of ours; none for keys of others. `extra_prefix` (with or without its slash) is
/// one more that stands for `nginx.ingress.kubernetes.io/`, as `--annotations-prefix` of ingress-nginx does.
pub fn split<'a>(key: &'a str, extra_prefix: Option<&str>) -> Option<(Prefix, &'a str)> {
    let (prefix, name) = key.split_once('/')?;
    let extra = extra_prefix.map(|extra| extra.trim_end_matches('/'));
    match prefix {
        _ if extra == Some(prefix) => Some((Prefix::Nginx, name)),
        NGINX => Some((Prefix::Nginx, name)),
        LEGACY => Some((Prefix::Legacy, name)),
        OWN => Some((Prefix::Own, name)),
        _ => None,
    }
}

/// The prefix that a key was meant to have: it is misspelt by no more than two letters, or in other case, or
/// has a full stop or a colon for its slash before a name that is known. None for keys whose prefix is right
/// or altogether different.
pub fn prefix_hint(key: &str) -> Option<&'static str> {
    let known = [NGINX, LEGACY, OWN];
    let Some((prefix, _)) = key.split_once('/') else {
        return known.into_iter().find(|known| {
            key.strip_prefix(known)
                .and_then(|rest| rest.strip_prefix(['.', ':', '-', '_']))
                .is_some_and(|name| lookup(name).is_some() || lookup_own(name).is_some())
        });
    };
    if known.contains(&prefix) {
        return None;
    }
    let lower = prefix.trim().to_ascii_lowercase();
    known
        .into_iter()
        .map(|known| (distance(&lower, known, 2), known))
        .filter_map(|(distance, known)| distance.map(|distance| (distance, known)))
        .min()
        .map(|(_, known)| known)
}

/// The known annotation that a misspelt name was most likely meant to be: the same letters in other case or
/// with other signs between words, else the one that the fewest edits lead to (a letter more, less, other,
/// or two exchanged), up to two, or one for short names. Among equals the first by name.
pub fn nearest(name: &str) -> Option<&'static str> {
    nearest_of(name, all().iter().map(|entry| entry.name))
}

/// As [`nearest`], among the annotations of this project.
pub(super) fn nearest_own(name: &str) -> Option<&'static str> {
    nearest_of(name, own().iter().map(|entry| entry.name))
}

/// As [`nearest`], among names that come sorted.
pub(super) fn nearest_of(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // Nothing that long is a misspelling; and the work stays bounded whatever the key.
    if name.len() > 64 {
        return None;
    }
    let name: String = name
        .trim()
        .chars()
        .map(|c| if matches!(c, '_' | '.' | ' ') { '-' } else { c.to_ascii_lowercase() })
        .collect();
    let bound = if name.len() < 8 { 1 } else { 2 };
    known
        .filter_map(|known| distance(&name, known, bound).map(|distance| (distance, known)))
        .min()
        .map(|(_, known)| known)
}

/// Edits from one text to the other (optimal string alignment), if there are no more than `bound`.
fn distance(from: &str, to: &str, bound: usize) -> Option<usize> {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    if from.len().abs_diff(to.len()) > bound {
        return None;
    }
    // Three rows of the table: the one before the last, the last, the current.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (i, &a) in from.iter().enumerate() {
        let mut row = Vec::with_capacity(last.len());
        row.push(i + 1);
        for (j, &b) in to.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best = at(&last, j) + usize::from(a != b);
            best = best.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let exchanged = j > 0 && previous == Some(b) && to.get(j - 1) == Some(&a);
            if exchanged {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
        previous = Some(a);
    }
    last.last().copied().filter(|&distance| distance <= bound)
}

/// Names that ingress-nginx knew once and no longer reads, and what to use instead.
pub(super) fn retired(name: &str) -> Option<&'static str> {
    const RETIRED: &[(&str, &str)] = &[
        ("add-base-url", "let the application write its own links"),
        ("base-url-scheme", "let the application write its own links"),
        ("custom-timeouts", "use `proxy-read-timeout` and its like"),
        ("enable-influxdb", "collect Envoy's statistics"),
        ("enable-opentracing", "use `enable-opentelemetry`"),
        ("global-rate-limit", "use `ingress-wasm.io/global-rate-limit`"),
        ("global-rate-limit-window", "use `ingress-wasm.io/global-rate-limit-window`"),
        ("global-rate-limit-key", "use `ingress-wasm.io/global-rate-limit-key`"),
        ("global-rate-limit-ignored-cidrs", "use `ingress-wasm.io/global-rate-limit-ignored-cidrs`"),
        ("grpc-backend", "use `backend-protocol: GRPC`"),
        ("lua-resty-waf", "use another application firewall"),
        ("opentracing-trust-incoming-span", "use `opentelemetry-trust-incoming-span`"),
        ("secure-backends", "use `backend-protocol: HTTPS`"),
        ("secure-verify-ca-secret", "use `proxy-ssl-secret`"),
        ("session-cookie-hash", "remove it"),
        ("influxdb-measurement", "collect Envoy's statistics"),
        ("influxdb-port", "collect Envoy's statistics"),
        ("influxdb-host", "collect Envoy's statistics"),
        ("influxdb-server-name", "collect Envoy's statistics"),
        ("upstream-fail-timeout", "remove it"),
        ("upstream-max-fails", "remove it"),
    ];
    RETIRED.iter().find(|(old, _)| *old == name).map(|(_, instead)| *instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_keys() {
        let cases = [
            ("nginx.ingress.kubernetes.io/auth-url", None, Some((Prefix::Nginx, "auth-url"))),
            ("ingress.kubernetes.io/rewrite-target", None, Some((Prefix::Legacy, "rewrite-target"))),
            ("ingress-wasm.io/request-headers", None, Some((Prefix::Own, "request-headers"))),
            ("edge.example/auth-url", None, None),
            ("edge.example/auth-url", Some("edge.example"), Some((Prefix::Nginx, "auth-url"))),
            ("edge.example/auth-url", Some("edge.example/"), Some((Prefix::Nginx, "auth-url"))),
            ("kubernetes.io/ingress.class", None, None),
            ("auth-url", None, None),
            ("nginx.ingress.kubernetes.io/", None, Some((Prefix::Nginx, ""))),
        ];
        for (key, extra, expected) in cases {
            assert_eq!(split(key, extra), expected, "{key}");
        }
    }

    #[test]
    fn hints_at_prefixes() {
        let cases = [
            ("nginx.ingress.kubernets.io/auth-url", Some(NGINX)),
            ("ngnix.ingress.kubernetes.io/auth-url", Some(NGINX)),
            ("nginx.ingres.kuberntes.io/auth-url", Some(NGINX)),
            ("Nginx.Ingress.Kubernetes.io/auth-url", Some(NGINX)),
            ("nginx.ingress.kubernetes.io.auth-url", Some(NGINX)),
            ("ingress.kubernetes.oi/auth-url", Some(LEGACY)),
            ("ingress_wasm.io/request-headers", Some(OWN)),
            ("nginx.ingress.kubernetes.io/auth-url", None),
            ("ingress.kubernetes.io/auth-url", None),
            ("kubernetes.io/ingress.class", None),
            ("alb.ingress.kubernetes.io/scheme", None),
            ("nginx.org/client-max-body-size", None),
            ("cert-manager.io/cluster-issuer", None),
            ("traefik.ingress.kubernetes.io/router", None),
            ("note", None),
        ];
        for (key, expected) in cases {
            assert_eq!(prefix_hint(key), expected, "{key}");
        }
    }

    #[test]
    fn suggests_names() {
        let cases = [
            ("auth-ulr", Some("auth-url")),
            ("auth_url", Some("auth-url")),
            ("Auth-Url", Some("auth-url")),
            ("rewrite-taget", Some("rewrite-target")),
            ("rewrite-targets", Some("rewrite-target")),
            ("rewritetarget", Some("rewrite-target")),
            ("whitelist-source-rnage", Some("whitelist-source-range")),
            ("white-list-source-range", Some("whitelist-source-range")),
            ("proxy_body_size", Some("proxy-body-size")),
            ("proxy-bodysize", Some("proxy-body-size")),
            ("proxy-read-timeouts", Some("proxy-read-timeout")),
            ("ssl_redirect", Some("ssl-redirect")),
            ("canary-wieght", Some("canary-weight")),
            ("limit-rsp", Some("limit-rps")),
            ("secure-backends", None),
            ("something-else", None),
            ("", None),
            ("a", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name), expected, "{name}");
        }
        assert_eq!(nearest(&"auth-url".repeat(100)), None);
        assert_eq!(nearest_own("request-header"), Some("request-headers"));
    }

    #[test]
    fn every_known_name_is_its_own_nearest() {
        for entry in all() {
            assert_eq!(nearest(entry.name), Some(entry.name), "{}", entry.name);
            assert_eq!(retired(entry.name), None, "{}", entry.name);
        }
    }

    #[test]
    fn distances() {
        let cases = [
            ("abc", "abc", Some(0)),
            ("abc", "acb", Some(1)),
            ("abc", "abd", Some(1)),
            ("abc", "ab", Some(1)),
            ("ab", "abc", Some(1)),
            ("abcd", "badc", Some(2)),
            ("abc", "xyz", None),
            ("", "ab", Some(2)),
            ("", "abc", None),
        ];
        for (from, to, expected) in cases {
            assert_eq!(distance(from, to, 2), expected, "{from} {to}");
        }
    }
}
