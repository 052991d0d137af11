//! What is counted and logged of requests.

use std::collections::BTreeMap;

use ingress_wasm_tests::client::{Target, WireRequest, once};
use ingress_wasm_tests::product::{Product, binary};
use ingress_wasm_tests::site::{Backend, Site};
use serde_json::Value;

use crate::support::{SOON, Served, eventually, expect_status, ingress};

/// One Ingress that rewrites, one with a password, and a log in `access.log`.
fn served() -> Result<(Served, std::path::PathBuf), String> {
    let site = Site::new(&[Backend::new("web", 1)], &BTreeMap::new()).map_err(|error| error.to_string())?;
    let rewrite = ingress("a", "web", &[("rewrite-target", "/new")]);
    let password =
        ingress("b", "web", &[("auth-type", "basic"), ("auth-secret", "users"), ("auth-realm", "r")]);
    let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: users}\nstringData: {auth: 'ann:{PLAIN}secret'}\n";
    site.write("site.yaml", &[rewrite, password, secret.to_owned()].concat())
        .map_err(|error| error.to_string())?;
    let log = site.temporary().join("access.log");
    let arguments = ["--access-log".as_ref(), log.as_os_str()];
    let product = Product::start_with(&binary()?, &site.manifests(), &site.temporary(), &arguments)?;
    Ok((Served { product, site }, log))
}

pub fn requests_are_counted() -> Result<(), String> {
    let (served, _) = served()?;
    for _ in 0..3 {
        expect_status(&served.get("a.example", "/x")?, 200, "rewritten")?;
    }
    expect_status(&served.get("a.example", "/status/418")?, 200, "rewritten away")?;
    expect_status(&served.get("b.example", "/x")?, 401, "without a password")?;
    expect_status(&served.get("c.example", "/x")?, 404, "a host that nobody names")?;
    let admin = served.product.admin.ok_or("the product does not tell where Envoy's administration is")?;
    let metrics = || {
        let request = WireRequest::new("GET", "admin", "/stats/prometheus?filter=ingress_wasm_");
        once(&Target::plain(admin), &request).map(|response| response.text()).unwrap_or_default()
    };
    let expected = [
        r#"decision="forward",ingress="default/a",service="default/web:80",status="200"} 4"#,
        r#"decision="basic_auth",ingress="default/b",service="default/web:80",status="401"} 1"#,
        r#"status="404"} 1"#,
        r#"result="loaded"} "#,
    ];
    // Workers hand their counts on now and then.
    let sorted = |line: &str| match line.split_once('{').and_then(|(_, rest)| rest.split_once('}')) {
        Some((labels, count)) => {
            let mut labels: Vec<&str> = labels.split(',').collect();
            labels.sort_unstable();
            format!("{}}}{count}", labels.join(","))
        }
        None => line.to_owned(),
    };
    let mut shown = String::new();
    let all = eventually("counts", SOON, || {
        let text = metrics();
        shown = text
            .lines()
            .filter(|line| line.starts_with("ingress_wasm_"))
            .map(sorted)
            .collect::<Vec<_>>()
            .join("\n");
        expected.iter().all(|line| shown.contains(line))
    });
    all.map_err(|error| format!("{error}\n{shown}"))
}

pub fn requests_are_logged() -> Result<(), String> {
    let (served, log) = served()?;
    expect_status(&served.get("a.example", "/x?q=%22")?, 200, "rewritten")?;
    let forged = WireRequest::new("GET", "b.example", "/y").header("User-Agent", "\"}\t{\"status\":\"200\"");
    expect_status(&served.send(&forged)?, 401, "without a password")?;
    let mut lines: Vec<Value> = Vec::new();
    eventually("two lines of log", SOON, || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        lines.len() >= 2
    })?;
    let expected = [
        serde_json::json!({"client": "127.0.0.1", "method": "GET", "host": "a.example", "target": "/x?q=%22",
            "status": 200, "ingress": "default/a", "rule": "/", "service": "default/web:80",
            "cluster": "default/web:80", "backend_target": "/new?q=%22", "details": "via_upstream"}),
        serde_json::json!({"host": "b.example", "target": "/y", "status": 401, "ingress": "default/b",
            "details": "basic_auth", "user_agent": "\"}\t{\"status\":\"200\""}),
    ];
    for (line, expected) in lines.iter().zip(expected) {
        for (field, value) in expected.as_object().into_iter().flatten() {
            if line[field] != *value {
                return Err(format!("{field}: expected {value}, got {}\n{line:#}", line[field]));
            }
        }
    }
    Ok(())
}
