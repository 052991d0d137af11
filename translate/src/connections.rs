//! The options of the ConfigMap for connections: of clients, and to backends; and for compressing answers.
//!
//! Deliberately knows nothing of TLS and of listeners.

use std::time::Duration;

use crate::annotations::{InvalidValue, Value, config_option, parse_milliseconds};
use crate::diagnostic::Diagnostic;
use crate::objects::{ConfigMap, Snapshot};
use crate::output::Options;
use crate::rate_limits::RateLimitService;
use crate::report::Report;

/// How connections are kept, and what is sent over them compressed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Connections {
    /// With clients.
    pub clients: ClientConnections,
    /// With backends.
    pub backends: BackendConnections,
}

/// Connections of clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConnections {
    /// How long one may lie unused (`keep-alive`); zero: it is closed after each request.
    pub keep_alive: Duration,
    /// After how many requests one is closed (`keep-alive-requests`); none: after no number.
    pub keep_alive_requests: Option<u32>,
    /// How long the headers of a request may take (`client-header-timeout`).
    pub header_timeout: Duration,
    /// How long a request may be silent before its route is chosen (`client-body-timeout`).
    pub body_timeout: Duration,
    /// How many requests may be under way on one connection by HTTP/2 (`http2-max-concurrent-streams`).
    pub http2_streams: u32,
    /// Connections begin with the PROXY protocol, for which there is this much time (`use-proxy-protocol`,
    /// `proxy-protocol-header-timeout`); none: they do not.
    pub proxy_protocol: Option<Duration>,
    /// The service that limits requests over all replicas (`ingress-wasm-rate-limit-service`).
    pub rate_limits: Option<RateLimitService>,
    /// Answers are compressed by gzip (`use-gzip`).
    pub gzip: Option<Compression>,
    /// Answers are compressed by Brotli (`enable-brotli`).
    pub brotli: Option<Compression>,
}

/// How answers are compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// How hard it is tried; what the numbers mean is up to the format.
    pub level: u32,
    /// The shortest body that is compressed, in bytes.
    pub min_length: u32,
    /// The types of content, `text/html` included.
    pub types: Vec<String>,
}

/// Connections to backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendConnections {
    /// They are used for more than one request (`upstream-keepalive-connections` is not 0).
    pub keep: bool,
    /// How long one may lie unused (`upstream-keepalive-timeout`).
    pub keep_alive: Duration,
    /// After how many requests one is closed (`upstream-keepalive-requests`); none: after no number.
    pub requests: Option<u32>,
    /// How old one may be when it takes its last request (`upstream-keepalive-time`); none: any age.
    pub lifetime: Option<Duration>,
}

impl Default for ClientConnections {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        ClientConnections {
            keep_alive: Duration::from_secs(75),
            keep_alive_requests: None,
            header_timeout: minute,
            body_timeout: minute,
            http2_streams: 128,
            proxy_protocol: None,
            rate_limits: None,
            gzip: None,
            brotli: None,
        }
    }
}

impl Default for BackendConnections {
    fn default() -> Self {
        BackendConnections { keep: true, keep_alive: Duration::from_secs(60), requests: None, lifetime: None }
    }
}

/// What ingress-nginx compresses beside `text/html` (`internal/ingress/controller/config`, `gzipTypes`).
const TYPES: &str = "application/atom+xml application/javascript application/x-javascript application/json \
                     application/rss+xml application/vnd.ms-fontobject application/x-font-ttf \
                     application/x-web-app-manifest+json application/xhtml+xml application/xml font/opentype \
                     image/svg+xml image/x-icon text/css text/javascript text/plain text/x-component";

/// Reads the options from the ConfigMap that the options name, if it is there. What is absent or invalid has
/// its default; of invalid values the check of the ConfigMap tells.
pub fn read(snapshot: &Snapshot, options: &Options, report: &mut Report) -> Connections {
    let Some(map) = options.config_map.as_ref().and_then(|name| snapshot.config_maps.get(name)) else {
        return Connections::default();
    };
    Connections { clients: clients(map, report), backends: backends(map) }
}

fn clients(map: &ConfigMap, report: &mut Report) -> ClientConnections {
    let default = ClientConnections::default();
    ClientConnections {
        keep_alive: time(map, "keep-alive").unwrap_or(default.keep_alive),
        keep_alive_requests: number(map, "keep-alive-requests").filter(|requests| *requests > 0),
        header_timeout: time(map, "client-header-timeout").unwrap_or(default.header_timeout),
        body_timeout: time(map, "client-body-timeout").unwrap_or(default.body_timeout),
        http2_streams: number(map, "http2-max-concurrent-streams")
            .filter(|streams| *streams > 0)
            .unwrap_or(default.http2_streams),
        proxy_protocol: (value(map, "use-proxy-protocol") == Some(Value::Bool(true))).then(|| {
            // None at all would be forever to Envoy.
            let time = time(map, "proxy-protocol-header-timeout").filter(|time| !time.is_zero());
            time.unwrap_or(Duration::from_secs(5))
        }),
        rate_limits: None,
        gzip: compression(map, "use-gzip", "gzip", Levels { usual: 1, most: 9, min_length: 256 }, report),
        brotli: compression(
            map,
            "enable-brotli",
            "brotli",
            Levels { usual: 4, most: 11, min_length: 20 },
            report,
        ),
    }
}

fn backends(map: &ConfigMap) -> BackendConnections {
    let default = BackendConnections::default();
    BackendConnections {
        keep: number(map, "upstream-keepalive-connections") != Some(0),
        keep_alive: time(map, "upstream-keepalive-timeout").unwrap_or(default.keep_alive),
        requests: number(map, "upstream-keepalive-requests").filter(|requests| *requests > 0),
        lifetime: time(map, "upstream-keepalive-time").filter(|time| !time.is_zero()),
    }
}

/// The levels of a format, and what ingress-nginx takes where nothing is said.
struct Levels {
    usual: u32,
    most: u32,
    min_length: u32,
}

fn compression(
    map: &ConfigMap,
    switch: &str,
    format: &str,
    levels: Levels,
    report: &mut Report,
) -> Option<Compression> {
    let Some(Value::Bool(true)) = value(map, switch) else { return None };
    let option = |part: &str| format!("{format}-{part}");
    let types = option("types");
    let mut words: Vec<&str> =
        map.data.get(&types).map_or(TYPES, String::as_str).split_ascii_whitespace().collect();
    if words.contains(&"*") {
        let consequence =
            "`*` is no type to Envoy: the types that ingress-nginx compresses by default are compressed";
        report.add(
            Diagnostic::warning("option-differs", consequence)
                .object(crate::global::reference(map), map.metadata.source.clone())
                .field(format!("data[\"{types}\"]"), "*")
                .remedy("name the types one by one"),
        );
        words.retain(|word| *word != "*");
        words.extend(TYPES.split_ascii_whitespace());
    }
    words.push("text/html");
    words.sort_unstable();
    words.dedup();
    Some(Compression {
        level: number(map, &option("level")).unwrap_or(levels.usual).clamp(1, levels.most),
        // Envoy has no shorter limit than this.
        min_length: number(map, &option("min-length")).unwrap_or(levels.min_length).max(1),
        types: words.into_iter().map(str::to_owned).collect(),
    })
}

/// The value of an option, if it is set and valid.
pub fn value(map: &ConfigMap, name: &str) -> Option<Value> {
    let text = map.data.get(name)?;
    config_option(name).ok_or(InvalidValue::Malformed).and_then(|option| option.value.parse(text)).ok()
}

fn number(map: &ConfigMap, name: &str) -> Option<u32> {
    match value(map, name)? {
        Value::Integer(number) => u32::try_from(number).ok(),
        _ => None,
    }
}

/// A time; a bare number is one of seconds.
pub fn time(map: &ConfigMap, name: &str) -> Option<Duration> {
    match value(map, name)? {
        Value::Seconds(seconds) => Some(Duration::from_secs(seconds)),
        Value::Integer(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
        // Without a unit nginx takes seconds.
        Value::Text(text) => text
            .parse()
            .map(Duration::from_secs)
            .ok()
            .or_else(|| parse_milliseconds(&text).map(Duration::from_millis)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(data: &[(&str, &str)]) -> (Connections, Vec<String>) {
        let data: std::collections::BTreeMap<_, _> = data.iter().copied().collect();
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"namespace": "ingress-nginx", "name": "ingress-nginx-controller"},
        });
        let loaded = crate::manifest::read(&"map.json".into(), &text.to_string());
        let mut snapshot = Snapshot::default();
        loaded.objects.into_iter().for_each(|object| drop(snapshot.insert(object)));
        let mut report = Report::default();
        let found = read(&snapshot, &Options::default(), &mut report);
        (found, report.finish().0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn options_are_read() {
        let default = Connections::default();
        let clients = default.clients.clone();
        let backends = default.backends.clone();
        let seconds = Duration::from_secs;
        let of_clients = |clients| Connections { clients, ..default.clone() };
        let of_backends = |backends| Connections { backends, ..default.clone() };
        let cases = [
            (
                ("keep-alive", "10"),
                of_clients(ClientConnections { keep_alive: seconds(10), ..clients.clone() }),
            ),
            (
                ("keep-alive", "0"),
                of_clients(ClientConnections { keep_alive: seconds(0), ..clients.clone() }),
            ),
            (("keep-alive", "ten"), default.clone()),
            (("keep-alive-requests", "0"), default.clone()),
            (
                ("keep-alive-requests", "7"),
                of_clients(ClientConnections { keep_alive_requests: Some(7), ..clients.clone() }),
            ),
            (
                ("client-header-timeout", "5"),
                of_clients(ClientConnections { header_timeout: seconds(5), ..clients.clone() }),
            ),
            (
                ("client-body-timeout", "5"),
                of_clients(ClientConnections { body_timeout: seconds(5), ..clients.clone() }),
            ),
            (
                ("http2-max-concurrent-streams", "9"),
                of_clients(ClientConnections { http2_streams: 9, ..clients.clone() }),
            ),
            (
                ("use-proxy-protocol", "true"),
                of_clients(ClientConnections { proxy_protocol: Some(seconds(5)), ..clients.clone() }),
            ),
            (("proxy-protocol-header-timeout", "9s"), default.clone()),
            (
                ("upstream-keepalive-connections", "0"),
                of_backends(BackendConnections { keep: false, ..backends.clone() }),
            ),
            (
                ("upstream-keepalive-timeout", "4"),
                of_backends(BackendConnections { keep_alive: seconds(4), ..backends.clone() }),
            ),
            (
                ("upstream-keepalive-requests", "100"),
                of_backends(BackendConnections { requests: Some(100), ..backends.clone() }),
            ),
            (
                ("upstream-keepalive-time", "30m"),
                of_backends(BackendConnections { lifetime: Some(seconds(1800)), ..backends.clone() }),
            ),
        ];
        for (option, expected) in cases {
            assert_eq!(read_from(&[option]), (expected, vec![]), "{option:?}");
        }
    }

    #[test]
    fn compression_is_read() {
        let (found, told) = read_from(&[
            ("use-gzip", "true"),
            ("gzip-level", "12"),
            ("gzip-min-length", "0"),
            ("gzip-types", "text/css text/css text/html"),
            ("enable-brotli", "true"),
        ]);
        assert_eq!(told, [""; 0]);
        let types = vec!["text/css".to_owned(), "text/html".to_owned()];
        assert_eq!(found.clients.gzip, Some(Compression { level: 9, min_length: 1, types }));
        let brotli = found.clients.brotli.expect("compression");
        assert_eq!((brotli.level, brotli.min_length, brotli.types.len()), (4, 20, 18));
        let (found, told) = read_from(&[("use-gzip", "true"), ("gzip-types", "*")]);
        assert_eq!(found.clients.gzip.expect("compression").types.len(), 18);
        assert!(told[0].contains("gzip-types"), "{told:?}");
        assert_eq!(read_from(&[("gzip-level", "3"), ("use-gzip", "false")]).0, Connections::default());
    }
}
