use std::collections::{BTreeMap, BTreeSet};

use super::super::check::tests::metadata;
use super::*;

fn config_map(data: &[(&str, &str)]) -> ConfigMap {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ConfigMap { metadata: metadata(BTreeMap::new()), data }
}

#[test]
fn options_are_distinct_and_complete() {
    let names: BTreeSet<&str> = config_options().iter().map(|option| option.name).collect();
    assert_eq!(names.len(), config_options().len(), "a name stands twice");
    // 192 of the reference page, 16 that only the code has, and 5 of this project.
    assert_eq!(names.len(), 213);
    for option in config_options() {
        assert_eq!(config_option(option.name).map(|found| found.name), Some(option.name));
        assert!(option.support == Support::Exact || !option.support.reason().is_empty(), "{}", option.name);
        assert!(!option.support.reason().ends_with('.'), "{}", option.name);
        for neutral in option.neutral {
            assert!(option.value.parse(neutral).is_ok(), "{} {neutral}", option.name);
        }
        let unlike = ["random", "size of", "number of", "a line of", "empty"];
        if !option.default.is_empty() && !unlike.iter().any(|start| option.default.starts_with(start)) {
            assert!(option.value.parse(option.default).is_ok(), "{} {}", option.name, option.default);
        }
    }
    assert!(config_option("no-such-option").is_none());
}

#[test]
fn honoured_options() {
    let honoured: Vec<&str> = config_options()
        .iter()
        .filter(|option| matches!(option.support, Support::Exact | Support::Differs(_)))
        .map(|option| option.name)
        .collect();
    // Read by `snippets`, `tls`, `connections`, `rate_limits` and `backend_protocol`, where their tests are.
    let elsewhere = [
        "brotli-level",
        "brotli-min-length",
        "brotli-types",
        "client-body-timeout",
        "client-header-timeout",
        "enable-brotli",
        "gzip-level",
        "gzip-min-length",
        "gzip-types",
        "http-snippet",
        "http2-max-concurrent-streams",
        "ingress-wasm-rate-limit-domain",
        "ingress-wasm-rate-limit-failure",
        "ingress-wasm-rate-limit-service",
        "ingress-wasm-rate-limit-status-code",
        "ingress-wasm-rate-limit-timeout",
        "keep-alive",
        "keep-alive-requests",
        "location-snippet",
        "proxy-protocol-header-timeout",
        "proxy-ssl-location-only",
        "server-snippet",
        "ssl-ciphers",
        "ssl-protocols",
        "ssl-reject-handshake",
        "upstream-keepalive-connections",
        "upstream-keepalive-requests",
        "upstream-keepalive-time",
        "upstream-keepalive-timeout",
        "use-gzip",
        "use-http2",
    ];
    let (mut read_there, honoured): (Vec<&str>, Vec<&str>) =
        honoured.into_iter().partition(|name| elsewhere.contains(name));
    read_there.sort_unstable();
    assert_eq!(read_there, elsewhere);
    // Each of the others changes what is read.
    let samples = [
        "GET",
        "200 1h",
        "429",
        "http://a.example",
        "503",
        "n/a",
        "true",
        "false",
        "a b",
        "/a",
        "X-Other",
        "2m",
        "7",
        "301",
        "10.0.0.0/8",
        "off",
        "Low",
    ];
    for name in honoured {
        let changes = samples
            .iter()
            .any(|sample| GlobalSettings::read(&config_map(&[(name, sample)])) != GlobalSettings::default());
        assert!(changes, "{name}");
    }
}

#[test]
fn defaults_are_those_of_the_table() {
    let defaults: Vec<(&str, &str)> = config_options()
        .iter()
        .filter(|option| matches!(option.support, Support::Exact | Support::Differs(_)))
        .map(|option| (option.name, option.default))
        .collect();
    assert_eq!(GlobalSettings::read(&config_map(&defaults)), GlobalSettings::default());
}

#[test]
fn reads_settings() {
    let settings = GlobalSettings::read(&config_map(&[
        ("use-forwarded-headers", "true"),
        ("proxy-real-ip-cidr", "127.0.0.0/8,::1/128"),
        ("proxy-body-size", "0"),
        ("proxy-read-timeout", "5s"),
        ("hide-headers", "X-Powered-By, X Bad, X-Secret"),
        ("add-headers", "default/more"),
        ("unknown", "true"),
    ]));
    assert!(settings.use_forwarded_headers);
    assert_eq!(settings.proxy_real_ip_cidr.len(), 2);
    assert_eq!(settings.proxy_body_size, 0);
    assert_eq!(settings.proxy_read_timeout, 60);
    assert_eq!(settings.hide_headers, ["X-Powered-By", "X-Secret"]);
    assert_eq!(settings.add_headers, Some((Some("default".to_owned()), "more".to_owned())));
    // A mistake in the list of proxies never means that everybody is believed.
    let settings = GlobalSettings::read(&config_map(&[("proxy-real-ip-cidr", "10.0.0.0/8, nonsense")]));
    assert_eq!(settings.proxy_real_ip_cidr, []);
    // With a mistake in a list that keeps somebody out nobody knows whom.
    let settings = GlobalSettings::read(&config_map(&[
        ("whitelist-source-range", "10.0.0.0/8"),
        ("denylist-source-range", "10.0.0.0/8, nonsense"),
        ("block-cidrs", ""),
    ]));
    let lists = settings.addresses;
    let lengths = [lists.allow, lists.deny, lists.block].map(|list| list.map(|list| list.len()));
    assert_eq!(lengths, [Some(1), None, Some(0)]);
}

#[test]
fn diagnostics() {
    let cases = [
        ("use-forwarded-headers", "true", ""),
        ("proxy-read-timeout", "60", "note[option-differs]: it bounds"),
        ("use-forwarded-header", "true", "warning[option-unknown]: the option is unknown and ignored"),
        ("use_forwarded_headers", "true", "did you mean `use-forwarded-headers`?"),
        ("xyzzy", "1", "look for its name"),
        ("proxy-read-timeout", "5s", "it is ignored and the default holds"),
        ("proxy-real-ip-cidr", "nonsense", "no proxy is trusted"),
        ("hide-headers", "X A", "such names are passed over"),
        ("enable-brotli", "true", "note[option-differs]: answers of every status"),
        ("enable-brotli", "false", ""),
        ("ssl-redirect", "true", ""),
        ("http-redirect-code", "303", "`301`, `302`, `307` or `308`"),
        ("worker-processes", "4", "note[option-no-effect]"),
        ("block-cidrs", "10.0.0.0/8", ""),
        ("block-cidrs", "nonsense", "rules for which it would hold answer 503"),
        ("whitelist-source-range", "10.0.0.0/8, 10", "error[option-invalid]"),
        ("block-user-agents", "~*bot", ""),
        ("block-cidrs", "", ""),
        ("global-auth-url", "http://a.svc/ok", "note[option-differs]: as `auth-url`"),
        ("global-auth-url", "a.svc", "all rules that it holds for answer 503"),
        ("enable-modsecurity", "true", "`enable-modsecurity: \"false\"` answer 503"),
        ("enable-modsecurity", "false", ""),
        ("http-snippet", "deny all;", "note[option-differs]"),
    ];
    for (name, value, expected) in cases {
        let found: Vec<String> =
            check_config_map(&config_map(&[(name, value)])).iter().map(ToString::to_string).collect();
        match found.as_slice() {
            [] => assert_eq!(expected, "", "{name}: {value}"),
            [one] => assert!(!expected.is_empty() && one.contains(expected), "{name}: {value}: {one}"),
            _ => panic!("{name}: {found:#?}"),
        }
    }
}

#[test]
fn denials_by_option() {
    let found = global_denials(&config_map(&[
        ("enable-modsecurity", "true"),
        ("http-snippet", "gzip on;"),
        ("use-gzip", "true"),
    ]));
    let names: Vec<(&str, Option<&str>)> =
        found.iter().map(|denial| (denial.option, denial.waived_by)).collect();
    assert_eq!(names, [("enable-modsecurity", Some("enable-modsecurity"))]);
}
