//! A site of so many rules that the filter's configuration goes to Envoy in parts.

use ingress_wasm_tests::client::{Target, WireRequest, once};
use ingress_wasm_tests::site::Backend;

use crate::support::{
    SOON, Served, answered, eventually, expect_status, ingress, serve_files, without_a_failed_request,
};

const HOSTS: usize = 300;
const PATHS: [&str; 4] = ["/", "/a", "/b", "/c"];

/// The Ingress of a host, with a rule for each path. Every tenth one redirects to a place of its own: policies that
/// one part has and the others do not.
fn host(number: usize, service: &str) -> String {
    let to = format!("http://moved.example/{number}");
    let annotations: &[_] = if redirects(number) { &[("permanent-redirect", to.as_str())] } else { &[] };
    let one = ingress(&format!("h{number}"), service, annotations);
    let (head, rest) = one.split_once("      - path: /\n").expect("a path");
    let paths = PATHS.map(|path| format!("      - path: {path}\n{rest}"));
    format!("{head}{}", paths.concat())
}

fn redirects(number: usize) -> bool {
    number % 10 == 1
}

/// The first so many hosts but number 0, which has a file of its own.
fn hosts(count: usize) -> String {
    (1..count).map(|number| host(number, "web")).collect()
}

/// Writes a file and waits until it is live.
fn change(served: &Served, name: &str, text: &str) -> Result<(), String> {
    let mark = served.product.stdout_mark();
    served.site.write(name, text).map_err(|error| error.to_string())?;
    served.product.wait_stdout(mark, "reloaded", SOON).map(drop)
}

/// Fails unless the first so many hosts answer as they should, and no other.
fn expect_hosts(served: &Served, count: usize, first: &str) -> Result<(), String> {
    for number in 0..HOSTS {
        let name = format!("h{number}.example");
        let response = served.get(&name, PATHS[number % PATHS.len()])?;
        if number >= count {
            expect_status(&response, 404, &name)?;
        } else if redirects(number) {
            expect_status(&response, 301, &name)?;
            let to = format!("http://moved.example/{number}");
            assert_eq!(response.header("Location"), Some(to), "{name}");
        } else {
            expect_status(&response, 200, &name)?;
            let service = if number == 0 { first } else { "web" };
            assert_eq!(answered(&response).as_deref(), Some(service), "{name}");
        }
    }
    expect_status(&served.get("nobody.example", "/")?, 404, "an unknown host")
}

/// Fails unless Envoy has the listener that holds the parts, or has it no longer: what is left over goes last, after the
/// change is live.
fn expect_parts(served: &Served, expected: bool) -> Result<(), String> {
    let admin = served.product.admin.ok_or("the product does not tell where Envoy's administration is")?;
    let request = WireRequest::new("GET", "admin", "/listeners");
    eventually(&format!("a listener with parts: {expected}"), SOON, || {
        let listeners = once(&Target::plain(admin), &request).map(|response| response.text());
        listeners.is_ok_and(|text| {
            text.contains("http::") && text.lines().any(|line| line.starts_with("parts::")) == expected
        })
    })
}

pub fn many_rules_are_served_and_changed_in_parts() -> Result<(), String> {
    let served = serve_files(
        &[Backend::new("web", 1), Backend::new("alt", 1)],
        &[("first.yaml", &host(0, "web")), ("hosts.yaml", &hosts(HOSTS))],
    )?;
    expect_parts(&served, true)?;
    expect_hosts(&served, HOSTS, "web")?;
    without_a_failed_request(&served, &["h0.example", "h2.example", "h3.example", "h4.example"], || {
        for service in ["alt", "web", "alt"] {
            change(&served, "first.yaml", &host(0, service))?;
            let response = served.get("h0.example", "/")?;
            assert_eq!(answered(&response).as_deref(), Some(service), "the change is said to be live");
        }
        expect_hosts(&served, HOSTS, "alt")?;
        // A little below a thousand rules it stays in parts; below half of that it does not.
        for (count, parts) in [(240, true), (120, false), (HOSTS, true)] {
            change(&served, "hosts.yaml", &hosts(count))?;
            expect_parts(&served, parts)?;
            expect_hosts(&served, count, "alt")?;
        }
        Ok(())
    })
}
