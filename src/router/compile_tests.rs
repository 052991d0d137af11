//! What [`compile`] refuses and what it tells.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::compile;
use crate::config::ConfigError;
use crate::router::{RoutingTable, Selection};

fn load(config: &str) -> Result<RoutingTable, ConfigError> {
    let text = format!("{{\"version\":1,{config}}}");
    compile(crate::config::from_slice(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}")))
}

#[test]
fn a_fault_of_the_whole_refuses_with_its_path() {
    let rule = |policies: usize, action: &str| {
        format!(r#"{{"ingress":"n/i","path":"/","policies":{policies},"action":{action}}}"#)
    };
    let forward = r#"{"forward":{"cluster":"c","service":"n/s:80"}}"#;
    let status = |status: u16| rule(0, &format!(r#"{{"respond":{{"status":{status}}}}}"#));
    let rules = |rules: String| format!(r#""policies":[{{}}],"hosts":[{{"name":"a","rules":[{rules}]}}]"#);
    let policy = |policy: &str| format!(r#""policies":[{{}},{policy}]"#);
    let global = |global: &str| format!(r#""global":{global}"#);
    let cases = [
        (rules(rule(1, forward)), "hosts[0].rules[0].policies", "this names number 1"),
        (
            rules(format!("{},{}", rule(0, forward), rule(u32::MAX as usize, forward))),
            "hosts[0].rules[1].policies",
            "there are 1 sets",
        ),
        (
            rules(rule(0, r#"{"forward":{"cluster":"c","balancing":0}}"#)),
            "hosts[0].rules[0].action.balancing",
            "there are 0 of them",
        ),
        (
            r#""balancing":[{},{"hashBy":{"value":"$nothing"}}]"#.into(),
            "balancing[1].hashBy.value",
            "`$nothing` is not known",
        ),
        (
            r#""balancing":[{"affinity":{"cookie":"a b","key":"k"}}]"#.into(),
            "balancing[0].affinity.cookie",
            "not the name of a cookie",
        ),
        (
            r#""balancing":[{"canary":{"ingress":"n/i","service":"s","cluster":"c","weightTotal":0}}]"#
                .into(),
            "balancing[0].canary.weightTotal",
            "at least 1",
        ),
        (rules(status(199)), "hosts[0].rules[0].action.status", "199 is not"),
        (rules(status(600)), "hosts[0].rules[0].action.status", "600 is not"),
        (rules(status(0)), "hosts[0].rules[0].action.status", "0 is not"),
        (r#""hosts":[{"name":"A"}]"#.into(), "hosts[0].name", "`A` is neither"),
        (r#""hosts":[{"name":""}]"#.into(), "hosts[0].name", "`` is neither"),
        (r#""hosts":[{"name":"a"},{"name":"a.b:80"}]"#.into(), "hosts[1].name", "`a.b:80` is neither"),
        (r#""hosts":[{"name":"a"},{"name":"a"}]"#.into(), "hosts[1].name", "for the second time"),
        (r#""hosts":[{"name":"*"},{"name":"*"}]"#.into(), "hosts[1].name", "for the second time"),
        (
            r#""hosts":[{"name":"a","appRoot":"/x\r\nEvil: 1"}]"#.into(),
            "hosts[0].appRoot",
            "control characters",
        ),
        (
            policy(r#"{"basicAuth":{"credentials":"n/none"}}"#),
            "policies[1].basicAuth.credentials",
            "no credentials named `n/none`",
        ),
        (
            policy(r#"{"rewrite":{"path":{"target":"/$nope"}}}"#),
            "policies[1].rewrite.target",
            "`$nope` is not known",
        ),
        (
            policy(r#"{"rewrite":{"path":{"target":"/","forwardedPrefix":"${nope}"}}}"#),
            "policies[1].rewrite.forwardedPrefix",
            "`$nope` is not known",
        ),
        (
            policy(r#"{"requestHeaders":[{"remove":{"name":"a"}},{"set":{"name":"a b","value":""}}]}"#),
            "policies[1].requestHeaders[1]",
            "is not a header name",
        ),
        (
            policy(r#"{"responseHeaders":[{"add":{"name":"a","value":"b\n"}}]}"#),
            "policies[1].responseHeaders[0]",
            "control characters",
        ),
        (
            global(r#"{"requestHeaders":[{"remove":{"name":"X-Envoy-A"}}]}"#),
            "global.requestHeaders[0]",
            "is reserved",
        ),
        (
            global(r#"{"responseHeaders":[{"set":{"name":"a","value":"$nope"}}]}"#),
            "global.responseHeaders[0]",
            "`$nope` is not known",
        ),
        (
            policy(r#"{"addresses":{"deny":["::1"],"allow":["10.0.0.0/8","10.0.0/8"]}}"#),
            "policies[1].addresses.allow[1]",
            "`10.0.0/8` is not an address",
        ),
        (policy(r#"{"addresses":{"deny":[""]}}"#), "policies[1].addresses.deny[0]", "`` is not an address"),
        (policy(r#"{"limits":{"exempt":["::1","?"]}}"#), "policies[1].limits.exempt[1]", "`?` is not"),
        (policy(r#"{"globalLimit":{"values":[]}}"#), "policies[1].globalLimit", "has 0 values"),
        (
            policy(r#"{"globalLimit":{"values":["a","$no"]}}"#),
            "policies[1].globalLimit.values[1]",
            "`$no` is",
        ),
        (
            policy(r#"{"globalLimit":{"values":[""],"exempt":["?"]}}"#),
            "policies[1].globalLimit.exempt[0]",
            "`?`",
        ),
        (global(r#"{"rateStatus":200}"#), "global.rateStatus", "200 is not"),
        (global(r#"{"connectionStatus":600}"#), "global.connectionStatus", "600 is not"),
        (
            global(r#"{"block":{"userAgents":["(","~*ok"],"referers":["~*("]}}"#),
            "global.block.referers[0]",
            "",
        ),
        (
            global(r#"{"forwarded":{"trustedProxies":["10.0.0.0/8","10.0.0.0/33"]}}"#),
            "global.forwarded.trustedProxies[1]",
            "`10.0.0.0/33` is not an address",
        ),
    ];
    for (config, path, reason) in cases {
        match load(&config) {
            Err(ConfigError::Inconsistent { path: found, reason: why }) => {
                assert_eq!(found, path, "{config}");
                assert!(why.contains(reason), "{config}: {why}");
            }
            other => panic!("{config}: {other:?}"),
        }
    }
}

#[test]
fn a_fault_of_one_rule_is_told_and_the_rest_serves() {
    let table = load(
        r#""credentials":{"n/u":{"users":{"ann":"{PLAIN}x","mal":"$9$x"}}},"policies":[{}],
        "hosts":[{"name":"a","pathMatching":"expressions","rules":[
            {"ingress":"n/i","path":"/ok","policies":0,"action":{"respond":{"status":200}}},
            {"ingress":"n/i","path":"/bad/(","policies":0,"action":{"respond":{"status":200}}}]}]"#,
    )
    .expect("compiles");
    let paths: Vec<&str> = table.faults().iter().map(|fault| fault.path.as_str()).collect();
    // Expressions are told beforehand: a host is indexed when it is first asked for.
    assert_eq!(paths, [r#"credentials["n/u"].users["mal"]"#]);
    let select = |path: &[u8]| crate::router::select(&table, b"a", path, &mut <_>::default());
    assert!(matches!(select(b"/ok"), Selection::Rule(_)), "{:?}", select(b"/ok"));
    assert!(matches!(select(b"/bad/x"), Selection::Refuse(_)), "{:?}", select(b"/bad/x"));
}

#[test]
fn the_clock_is_asked_for_only_where_it_is_needed() {
    let header = |value: &str| {
        format!(r#""policies":[{{"requestHeaders":[{{"set":{{"name":"a","value":"{value}"}}}}]}}]"#)
    };
    let users = |hash: &str| format!(r#""credentials":{{"n/u":{{"users":{{"ann":"{hash}"}}}}}}"#);
    let cases = [
        (String::from(r#""generation":"g""#), false),
        (header("$host"), false),
        (header("t=${msec}"), true),
        (users("{SHA}JfOwpCDy5ASLqp0M24rdutzyYk8="), false),
        (users("$2y$04$1ZwO2U4vVGrqQcz84cW/1u8ylpHYJyX9FgPex2xwzvU9vX27Y.lnO"), true),
        (String::from(r#""global":{"responseHeaders":[{"add":{"name":"a","value":"$msec"}}]}"#), true),
    ];
    for (config, expected) in cases {
        assert_eq!(load(&config).expect(&config).needs_clock(), expected, "{config}");
    }
}

#[test]
fn a_generation_goes_into_a_header() {
    let table = load(r#""generation":"a\r\nb\u0000""#).expect("compiles");
    assert_eq!(&*table.generation, "ab");
}

#[test]
fn a_document_that_is_no_configuration_is_refused() {
    let host = |name: &str| format!(r#""part":{{"number":0,"of":1}},"hosts":[{{"name":"{name}"}}]"#);
    let part = |number: u32, of: u32| format!(r#""part":{{"number":{number},"of":{of}}}"#);
    let cases = [
        (r#""parts":["g"]"#.to_owned(), "these parts of the configuration are not here"),
        (host("a.example"), "only a part"),
        (host("*"), "does not belong to this part"),
        (
            r#""part":{"number":0,"of":1},"hosts":[{"name":"a","aliases":[{"name":"b"}]}]"#.to_owned(),
            "does not belong to this part",
        ),
        // The hash of the name says 1.
        (
            r#""part":{"number":0,"of":2},"hosts":[{"name":"b.example"},{"name":"a.example"}]"#.to_owned(),
            "does not belong to this part",
        ),
        (part(2, 2), "there is no part 2 of 2"),
        (part(0, 0), "there is no part 0 of 0"),
        (part(0, 513), "there is no part 0 of 513"),
        (format!(r#"{},"global":{{"redirectStatus":301}}"#, part(0, 1)), "neither `global` nor `parts`"),
        (format!(r#"{},"parts":["g"]"#, part(0, 1)), "neither `global` nor `parts`"),
    ];
    for (config, expected) in cases {
        let error = load(&config).expect_err(&config).to_string();
        assert!(error.contains(expected), "{config}: {error}");
    }
}
