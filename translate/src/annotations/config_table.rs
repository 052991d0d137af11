//! The table of the ConfigMap's options; those of listeners, logs, traces and nginx's own machinery are in
//! [`super::config_machinery`].

use crate::diagnostic::Severity;

use super::config_machinery::{CONNECTIONS, LOGS, NGINX, TRACES};
use super::config_map::ConfigOption;
use super::grammar::{COOKIE_PATHS, NAME, VARIABLES};
use super::traffic::{AFTER_SENDING, MOST_TRIES, NEXT_UPSTREAM, TRIES_ONLY};
use super::{Support, ValueGrammar};

use Severity::{Error, Note, Warning};
use Support::{Differs, Exact, NoEffect, NotSupported};
use ValueGrammar::{
    AuthUrl, Boolean, CacheDurations, CidrList, ConfigMapName, Duration, HeaderName, HeaderNames, Method,
    Seconds, Size, Snippet, StatusCodes, Text, Url, UrlWithVariables,
};

pub(super) const COUNT: ValueGrammar = ValueGrammar::COUNT;
pub(super) const INTEGER: ValueGrammar = ValueGrammar::ANY_INTEGER;
const ERROR_STATUS: ValueGrammar = ValueGrammar::Integer { min: 400, max: 599 };
const ON_OFF: ValueGrammar = ValueGrammar::ON_OFF;

pub(super) const GROUPS: &[&[ConfigOption]] = &[
    HONOURED,
    PROTECTIONS,
    AUTH,
    REDIRECTS_AND_ERRORS,
    TRAFFIC,
    HEADERS,
    TLS,
    CONNECTIONS,
    LOGS,
    TRACES,
    NGINX,
];

pub(super) const fn option(
    name: &'static str,
    value: ValueGrammar,
    default: &'static str,
    support: Support,
) -> ConfigOption {
    ConfigOption {
        name,
        value,
        default,
        support,
        protects: false,
        lost: Warning,
        neutral: &[],
        waived_by: None,
    }
}

/// An option that is not honoured. Its neutral value is written out, since the default of ingress-nginx is
/// not always what happens here.
pub(super) const fn lacks(
    name: &'static str,
    value: ValueGrammar,
    default: &'static str,
    neutral: &'static [&'static str],
    lost: Severity,
    what: &'static str,
) -> ConfigOption {
    ConfigOption {
        name,
        value,
        default,
        support: NotSupported(what),
        protects: false,
        lost,
        neutral,
        waived_by: None,
    }
}

/// A protection of all rules that is not honoured.
pub(super) const fn guard(
    name: &'static str,
    value: ValueGrammar,
    default: &'static str,
    neutral: &'static [&'static str],
    waived_by: Option<&'static str>,
    what: &'static str,
) -> ConfigOption {
    ConfigOption {
        name,
        value,
        default,
        support: NotSupported(what),
        protects: true,
        lost: Error,
        neutral,
        waived_by,
    }
}

/// An option of nginx's machinery that has no counterpart to set.
pub(super) const fn idle(name: &'static str, value: ValueGrammar, default: &'static str) -> ConfigOption {
    option(name, value, default, NoEffect("it tunes nginx; Envoy has no such part or sizes it by itself"))
}

const HONOURED: &[ConfigOption] = &[
    option("allow-snippet-annotations", Boolean, "false", Exact),
    option("annotation-value-word-blocklist", Text, "", Exact),
    option(
        "annotations-risk-level",
        ValueGrammar::any_case(&["Low", "Medium", "High", "Critical"]),
        "High",
        Exact,
    ),
    option("add-headers", ConfigMapName, "", Exact),
    option("block-cidrs", CidrList, "", Exact),
    option("block-referers", Text, "", Exact),
    option("block-user-agents", Text, "", Exact),
    option("compute-full-forwarded-for", Boolean, "false", Exact),
    option("denylist-source-range", CidrList, "", Exact),
    option("enable-real-ip", Boolean, "false", Exact),
    option("enable-underscores-in-headers", Boolean, "false", Exact),
    option("forwarded-for-header", HeaderName, "X-Forwarded-For", Exact),
    option("global-allowed-response-headers", HeaderNames, "", Exact),
    option("generate-request-id", Boolean, "true", Exact),
    option("hide-headers", HeaderNames, "", Exact),
    option("ingress-wasm-rate-limit-domain", ValueGrammar::Characters(&NAME), "ingress-wasm", Exact),
    option("ingress-wasm-rate-limit-failure", ValueGrammar::one_of(&["deny", "allow"]), "deny", Exact),
    option("ingress-wasm-rate-limit-service", Url, "", Exact),
    option("ingress-wasm-rate-limit-status-code", ERROR_STATUS, "429", Exact),
    option("ingress-wasm-rate-limit-timeout", Duration, "100ms", Exact),
    option("limit-conn-status-code", ERROR_STATUS, "503", Exact),
    option("limit-req-status-code", ERROR_STATUS, "503", Exact),
    option("proxy-add-original-uri-header", Boolean, "false", Exact),
    option(
        "proxy-body-size",
        Size,
        "1m",
        Differs(
            "a body without Content-Length is counted while it streams: the backend may have got a part of it when \
             the client gets 413",
        ),
    ),
    option("proxy-connect-timeout", Seconds, "5", Exact),
    option(
        "proxy-read-timeout",
        Seconds,
        "60",
        Differs("it bounds the time without activity in either direction, not only the backend's"),
    ),
    option("proxy-real-ip-cidr", CidrList, "0.0.0.0/0", Exact),
    option(
        "proxy-send-timeout",
        Seconds,
        "60",
        Differs("there is one bound for silence in either direction, the idle time of the stream"),
    ),
    option("proxy-set-headers", ConfigMapName, "", Exact),
    option("use-forwarded-headers", Boolean, "false", Exact),
    option("whitelist-source-range", CidrList, "", Exact),
];

const PROTECTIONS: &[ConfigOption] = &[
    guard(
        "enable-modsecurity",
        Boolean,
        "false",
        &["false"],
        Some("enable-modsecurity"),
        "requests are not inspected",
    ),
    lacks(
        "enable-owasp-modsecurity-crs",
        Boolean,
        "false",
        &["false"],
        Note,
        "requests are not inspected; `enable-modsecurity` decides what happens",
    ),
    lacks(
        "modsecurity-snippet",
        Text,
        "",
        &[],
        Note,
        "requests are not inspected; `enable-modsecurity` decides what happens",
    ),
    lacks(
        "limit-conn-zone-variable",
        Text,
        "$binary_remote_addr",
        &["$binary_remote_addr"],
        Warning,
        "clients are told apart by their address",
    ),
    lacks("limit-rate", COUNT, "0", &["0"], Warning, "answers are sent as fast as the client takes them"),
    lacks("limit-rate-after", COUNT, "0", &["0"], Note, "answers are sent as fast as the client takes them"),
    lacks(
        "allow-cross-namespace-resources",
        Boolean,
        "false",
        &["false"],
        Warning,
        "Secrets and ConfigMaps of other namespaces are never read for an Ingress",
    ),
    lacks(
        "strict-validate-path-type",
        Boolean,
        "true",
        &["true", "false"],
        Note,
        "there is no admission webhook that could refuse paths",
    ),
];

const AUTH: &[ConfigOption] = &[
    option("global-auth-always-set-cookie", Boolean, "false", Exact),
    option("global-auth-cache-duration", CacheDurations, "200 202 401 5m", Exact),
    option("global-auth-cache-key", Text, "", Exact),
    option("global-auth-method", Method, "", Exact),
    option("global-auth-request-redirect", Text, "", Exact),
    option("global-auth-response-headers", HeaderNames, "", Exact),
    option("global-auth-signin", UrlWithVariables, "", Exact),
    option("global-auth-signin-redirect-param", Text, "rd", Exact),
    option(
        "global-auth-snippet",
        Snippet,
        "",
        Differs("`proxy_set_header` is honoured; any other directive makes the rules answer 503"),
    ),
    option(
        "global-auth-url",
        AuthUrl,
        "",
        Differs(
            "as `auth-url`; one that cannot be read does not switch it off: all rules answer 503 that it holds for",
        ),
    ),
    option("no-auth-locations", Text, "/.well-known/acme-challenge", Exact),
    option("proxy-ssl-location-only", Boolean, "false", Exact),
];

const REDIRECTS_AND_ERRORS: &[ConfigOption] = &[
    lacks("app-root", Text, "", &[], Note, "the annotation of the same name is read, the option is not"),
    option("custom-http-errors", StatusCodes, "", Exact),
    option("disable-proxy-intercept-errors", Boolean, "false", Exact),
    option("force-ssl-redirect", Boolean, "false", Exact),
    option("http-redirect-code", ValueGrammar::one_of(&["301", "302", "307", "308"]), "308", Exact),
    option("no-tls-redirect-locations", Text, "/.well-known/acme-challenge", Exact),
    option("preserve-trailing-slash", Boolean, "false", Exact),
    option("relative-redirects", Boolean, "false", Exact),
    option("ssl-redirect", Boolean, "true", Exact),
    lacks(
        "use-port-in-redirects",
        Boolean,
        "false",
        &["false"],
        Warning,
        "how redirects are written does not depend on it",
    ),
];

const ONLY_ANNOTATION: &str = "ingress-nginx reads the annotation of this name only";
pub(super) const STREAM: &str = "TCP and UDP services are not served";

const TRAFFIC: &[ConfigOption] = &[
    ConfigOption {
        neutral: &["round_robin"],
        ..option(
            "load-balance",
            Text,
            "round_robin",
            Differs(
                "`ewma` takes, of two endpoints at random, the one with fewer requests at the time instead of the one \
                 that has answered faster; with any other value endpoints take turns",
            ),
        )
    },
    option("upstream-hash-by", ValueGrammar::Characters(&VARIABLES), "", NoEffect(ONLY_ANNOTATION)),
    option("upstream-hash-by-subset", Boolean, "false", NoEffect(ONLY_ANNOTATION)),
    option("upstream-hash-by-subset-size", INTEGER, "3", NoEffect(ONLY_ANNOTATION)),
    option("service-upstream", Boolean, "false", Exact),
    ConfigOption {
        neutral: &["error timeout"],
        ..option(
            "proxy-next-upstream",
            ValueGrammar::Words(NEXT_UPSTREAM),
            "error timeout",
            Differs(AFTER_SENDING),
        )
    },
    lacks("proxy-next-upstream-timeout", Seconds, "0", &["0"], Warning, TRIES_ONLY),
    option("proxy-next-upstream-tries", COUNT, "3", Differs(MOST_TRIES)),
    option("retry-non-idempotent", Boolean, "false", Exact),
    lacks(
        "proxy-http-version",
        ValueGrammar::one_of(&["1.0", "1.1"]),
        "1.1",
        &["1.1"],
        Warning,
        "backends are always spoken to in HTTP/1.1",
    ),
    lacks("proxy-stream-next-upstream", Boolean, "true", &["true"], Note, STREAM),
    lacks("proxy-stream-next-upstream-timeout", Duration, "600s", &["600s"], Note, STREAM),
    lacks("proxy-stream-next-upstream-tries", COUNT, "3", &["3"], Note, STREAM),
    lacks("proxy-stream-responses", INTEGER, "1", &["1"], Note, STREAM),
    lacks("proxy-stream-timeout", Duration, "600s", &["600s"], Note, STREAM),
    option(
        "proxy-buffering",
        ON_OFF,
        "off",
        NoEffect("answers always stream through bounded buffers, as with `off`"),
    ),
    option(
        "proxy-request-buffering",
        ON_OFF,
        "on",
        NoEffect("bodies always stream to the backend through bounded buffers, as with `off`"),
    ),
    option(
        "proxy-buffer-size",
        Size,
        "4k",
        NoEffect(
            "the headers of an answer may take a megabyte in any case, and no answer becomes a 502 for less",
        ),
    ),
    idle("proxy-buffers-number", INTEGER, "4"),
    idle("proxy-busy-buffers-size", Size, ""),
    option("proxy-max-temp-file-size", Size, "1024m", NoEffect("answers are never written to files")),
    idle("client-body-buffer-size", Size, "8k"),
    idle("grpc-buffer-size-kb", INTEGER, "0"),
    option(
        "upstream-keepalive-connections",
        INTEGER,
        "320",
        Differs(
            "only 0 has an effect: connections are used once; Envoy keeps as many as were needed at a time",
        ),
    ),
    option("upstream-keepalive-requests", INTEGER, "10000", Differs(ONLY_WHERE_SET)),
    option("upstream-keepalive-time", Duration, "1h", Differs(ONLY_WHERE_SET)),
    option("upstream-keepalive-timeout", INTEGER, "60", Exact),
];

const ONLY_WHERE_SET: &str = "only where it is set are connections to backends closed by it";
const COMPRESSED: &str = "answers of every status but 206 are compressed, those to HTTP/1.0 included; nginx does so for 200, 403 and 404";
const GEOIP: &str = "countries and cities of addresses are not looked up";

const HEADERS: &[ConfigOption] = &[
    lacks(
        "allow-backend-server-header",
        Boolean,
        "false",
        &[],
        Note,
        "which Server header the client gets does not depend on it",
    ),
    lacks("server-tokens", Boolean, "false", &["false"], Note, "there is no nginx version to show"),
    lacks(
        "default-type",
        Text,
        "text/html",
        &["text/html"],
        Note,
        "an answer without Content-Type stays without",
    ),
    lacks(
        "forwarded-host-header",
        HeaderName,
        "X-Forwarded-Host",
        &["X-Forwarded-Host"],
        Warning,
        "the client's host is taken from X-Forwarded-Host only",
    ),
    lacks(
        "forwarded-for-proxy-protocol-header",
        HeaderName,
        "X-Forwarded-For-Proxy-Protocol",
        &["X-Forwarded-For-Proxy-Protocol"],
        Note,
        "the header is not sent",
    ),
    lacks(
        "ignore-invalid-headers",
        Boolean,
        "true",
        &["true"],
        Note,
        "which header names are invalid is Envoy's to say",
    ),
    option("hsts", Boolean, "true", Exact),
    option("hsts-include-subdomains", Boolean, "true", Exact),
    option("hsts-max-age", COUNT, "31536000", Exact),
    option("hsts-preload", Boolean, "false", Exact),
    option("proxy-cookie-domain", ValueGrammar::CookieDomains, "off", Exact),
    option("proxy-cookie-path", ValueGrammar::Characters(&COOKIE_PATHS), "off", Exact),
    option("proxy-redirect-from", Url, "off", Exact),
    option("proxy-redirect-to", Url, "off", Exact),
    ConfigOption { neutral: &["false"], ..option("use-gzip", Boolean, "false", Differs(COMPRESSED)) },
    lacks("gzip-disable", Text, "", &[], Note, "clients are not told apart by User-Agent"),
    option("gzip-level", INTEGER, "1", Exact),
    option("gzip-min-length", INTEGER, "256", Exact),
    option(
        "gzip-types",
        Text,
        "application/json, text/css and others",
        Differs("`*` stands for the default list"),
    ),
    ConfigOption { neutral: &["false"], ..option("enable-brotli", Boolean, "false", Differs(COMPRESSED)) },
    option("brotli-level", INTEGER, "4", Exact),
    option("brotli-min-length", INTEGER, "20", Exact),
    option(
        "brotli-types",
        Text,
        "application/json, text/css and others",
        Differs("`*` stands for the default list"),
    ),
    lacks("use-geoip", Boolean, "true", &["false"], Note, GEOIP),
    lacks("use-geoip2", Boolean, "false", &["false"], Warning, GEOIP),
    lacks("geoip2-autoreload-in-minutes", INTEGER, "0", &["0"], Note, GEOIP),
];

const TLS_DEFAULTS: &str = "Envoy's own setting holds for TLS with clients";

const TLS: &[ConfigOption] = &[
    option(
        "ssl-ciphers",
        Text,
        "ECDHE-ECDSA-AES128-GCM-SHA256 and others",
        Differs("ciphers and families that BoringSSL lacks are left out"),
    ),
    option("ssl-protocols", ValueGrammar::Words(crate::tls::PROTOCOLS), "TLSv1.2 TLSv1.3", Exact),
    lacks("ssl-ecdh-curve", Text, "auto", &["auto"], Note, TLS_DEFAULTS),
    lacks("ssl-dh-param", Text, "", &[], Note, TLS_DEFAULTS),
    lacks("ssl-early-data", Boolean, "false", &["false"], Warning, "early data is not accepted"),
    option("ssl-reject-handshake", Boolean, "false", Exact),
    lacks("enable-ocsp", Boolean, "false", &["false"], Warning, "certificates of clients are not looked at"),
    idle("ssl-buffer-size", Size, "4k"),
    idle("ssl-session-cache", Boolean, "true"),
    idle("ssl-session-cache-size", Size, "10m"),
    idle("ssl-session-tickets", Boolean, "false"),
    lacks("ssl-session-ticket-key", Text, "random", &[], Note, TLS_DEFAULTS),
    idle("ssl-session-timeout", Duration, "10m"),
];
