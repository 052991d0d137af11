//! The options of listeners, logs, traces and nginx's own machinery: the second half of
//! [`super::config_table`].

use crate::diagnostic::Severity;

use super::config_map::ConfigOption;
use super::config_table::{COUNT, INTEGER, STREAM, idle, lacks, option};
use super::grammar::NAME;
use super::{Support, ValueGrammar};

use Severity::{Error, Note, Warning};
use Support::NoEffect;
use ValueGrammar::{Boolean, CidrList, Duration, Number, Seconds, Size, Snippet, Text};

pub(super) const CONNECTIONS: &[ConfigOption] = &[
    lacks("bind-address", Text, "", &[], Warning, "addresses to listen on are given on the command line"),
    option("use-proxy-protocol", Boolean, "false", Support::Exact),
    option(
        "proxy-protocol-header-timeout",
        Duration,
        "5s",
        Support::Differs("over TLS it is the time for the client's first message as well"),
    ),
    option("use-http2", Boolean, "true", Support::Exact),
    option("keep-alive", COUNT, "75", Support::Exact),
    option(
        "keep-alive-requests",
        COUNT,
        "1000",
        Support::Differs("only where it is set are connections closed by number"),
    ),
    option(
        "client-body-timeout",
        Seconds,
        "60",
        Support::Differs(
            "it holds until the backend is chosen; from then on `proxy-send-timeout` and `proxy-read-timeout` do",
        ),
    ),
    option(
        "client-header-timeout",
        Seconds,
        "60",
        Support::Differs("it is the time for all headers and not that between two reads"),
    ),
    option("http2-max-concurrent-streams", COUNT, "128", Support::Exact),
    option(
        "large-client-header-buffers",
        Text,
        "4 8k",
        Support::Differs("the headers of a request may come to 128 kB in all at most"),
    ),
    idle("client-header-buffer-size", Size, "1k"),
    option("http2-max-field-size", Text, "", NoEffect("ingress-nginx has replaced it with another option")),
    option("http2-max-header-size", Text, "", NoEffect("ingress-nginx has replaced it with another option")),
    option("http2-max-requests", INTEGER, "0", NoEffect("ingress-nginx has replaced it with another option")),
    lacks(
        "disable-ipv6",
        Boolean,
        "false",
        &["false"],
        Note,
        "addresses to listen on are given on the command line",
    ),
    lacks(
        "disable-ipv6-dns",
        Boolean,
        "false",
        &["false"],
        Note,
        "how Envoy looks up names does not depend on it",
    ),
];

const LOG: &str = "Envoy's logs are set up where Envoy is started";

pub(super) const LOGS: &[ConfigOption] = &[
    lacks("access-log-params", Text, "", &[], Note, LOG),
    lacks("access-log-path", Text, "/var/log/nginx/access.log", &[], Note, LOG),
    lacks("http-access-log-path", Text, "", &[], Note, LOG),
    lacks("stream-access-log-path", Text, "", &[], Note, LOG),
    lacks("disable-access-log", Boolean, "false", &["false"], Note, LOG),
    lacks("disable-http-access-log", Boolean, "false", &["false"], Note, LOG),
    lacks("disable-stream-access-log", Boolean, "false", &["false"], Note, LOG),
    lacks("enable-access-log-for-default-backend", Boolean, "false", &["false"], Note, LOG),
    lacks("enable-auth-access-log", Boolean, "false", &["false"], Note, LOG),
    lacks("error-log-level", Text, "notice", &[], Note, LOG),
    lacks("error-log-path", Text, "/var/log/nginx/error.log", &[], Note, LOG),
    lacks("log-format-escape-json", Boolean, "false", &["false"], Note, LOG),
    lacks("log-format-escape-none", Boolean, "false", &["false"], Note, LOG),
    lacks("log-format-stream", Text, "a line of nginx variables", &[], Note, LOG),
    lacks("log-format-upstream", Text, "a line of nginx variables", &[], Warning, LOG),
    lacks("skip-access-log-urls", Text, "", &[], Note, LOG),
    lacks("enable-syslog", Boolean, "false", &["false"], Warning, LOG),
    lacks("syslog-host", Text, "", &[], Note, LOG),
    lacks("syslog-port", INTEGER, "514", &["514"], Note, LOG),
];

const SPANS: &str = "no spans are sent";

/// An option of the tracer that the last releases no longer have.
const fn jaeger(name: &'static str, default: &'static str) -> ConfigOption {
    option(name, Text, default, NoEffect("the last releases of ingress-nginx do not read it"))
}

pub(super) const TRACES: &[ConfigOption] = &[
    lacks("enable-opentelemetry", Boolean, "false", &["false"], Warning, SPANS),
    lacks(
        "opentelemetry-config",
        Text,
        "/etc/ingress-controller/telemetry/opentelemetry.toml",
        &[],
        Note,
        SPANS,
    ),
    lacks("opentelemetry-operation-name", Text, "", &[], Note, SPANS),
    lacks("opentelemetry-trust-incoming-span", Boolean, "true", &[], Note, SPANS),
    lacks("otel-max-export-batch-size", INTEGER, "512", &[], Note, SPANS),
    lacks("otel-max-queuesize", INTEGER, "2048", &[], Note, SPANS),
    lacks("otel-sampler", Text, "AlwaysOn", &[], Note, SPANS),
    lacks("otel-sampler-parent-based", Boolean, "true", &[], Note, SPANS),
    lacks("otel-sampler-ratio", Number, "0.01", &[], Note, SPANS),
    lacks("otel-schedule-delay-millis", INTEGER, "5000", &[], Note, SPANS),
    lacks("otel-service-name", Text, "nginx", &[], Note, SPANS),
    lacks("otlp-collector-host", Text, "", &[], Note, SPANS),
    lacks("otlp-collector-port", INTEGER, "4317", &[], Note, SPANS),
    jaeger("jaeger-baggage-header", "jaeger-baggage"),
    jaeger("jaeger-collector-host", ""),
    jaeger("jaeger-collector-port", "6831"),
    jaeger("jaeger-debug-header", "uber-debug-id"),
    jaeger("jaeger-endpoint", ""),
    jaeger("jaeger-propagation-format", "jaeger"),
    jaeger("jaeger-sampler-host", "http://127.0.0.1"),
    jaeger("jaeger-sampler-param", "1"),
    jaeger("jaeger-sampler-port", "5778"),
    jaeger("jaeger-sampler-type", "const"),
    jaeger("jaeger-service-name", "nginx"),
    jaeger("jaeger-trace-baggage-header-prefix", "uberctx-"),
    jaeger("jaeger-trace-context-header-name", "uber-trace-id"),
];

/// A snippet of which the directives that docs/snippets.md lists are honoured; [`crate::snippets`] tells of others.
const fn snippet(name: &'static str) -> ConfigOption {
    option(name, Snippet, "", Support::Differs(super::SNIPPET_SUBSET))
}

pub(super) const NGINX: &[ConfigOption] = &[
    snippet("http-snippet"),
    snippet("location-snippet"),
    snippet("server-snippet"),
    lacks("main-snippet", Snippet, "", &[], Warning, "the snippet is left out"),
    lacks("stream-snippet", Snippet, "", &[], Error, STREAM),
    idle("debug-connections", Text, ""),
    idle("enable-aio-write", Boolean, "true"),
    idle("enable-multi-accept", Boolean, "true"),
    idle("enable-serial-reloads", Boolean, "false"),
    idle("lua-shared-dicts", Text, ""),
    idle("map-hash-bucket-size", INTEGER, "64"),
    idle("max-worker-connections", INTEGER, "16384"),
    idle("max-worker-open-files", INTEGER, "0"),
    idle("nginx-status-ipv4-whitelist", CidrList, "127.0.0.1"),
    idle("nginx-status-ipv6-whitelist", CidrList, "::1"),
    idle("proxy-headers-hash-bucket-size", INTEGER, "64"),
    idle("proxy-headers-hash-max-size", INTEGER, "512"),
    idle("reuse-port", Boolean, "true"),
    idle("server-name-hash-bucket-size", INTEGER, "size of a cache line"),
    idle("server-name-hash-max-size", INTEGER, "1024"),
    idle("variables-hash-bucket-size", INTEGER, "256"),
    idle("variables-hash-max-size", INTEGER, "2048"),
    idle("worker-cpu-affinity", Text, ""),
    idle("worker-processes", ValueGrammar::Characters(&NAME), "number of CPUs"),
    idle("worker-shutdown-timeout", Duration, "240s"),
];
