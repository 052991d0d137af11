//! What a request costs on a host with 10 and on one with 1,000 paths that are regular expressions: the whole
//! decision of the engine, natively. `cargo xtask bench regex` runs it.
//!
//! Both hosts are asked for the same requests, which the first ten paths take, in turns; the figures are
//! medians. It fails where the larger host costs more than twice as much, for all families of paths but those
//! that hold no text by which they could be told apart.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ingress_wasm::config::from_slice;
use ingress_wasm::decision::{Connection, Decision, RequestView, Scheme};
use ingress_wasm::policy::{State, decide};
use ingress_wasm::router::{RoutingTable, compile};

const FEW: usize = 10;
const MANY: usize = 1_000;
const ROUNDS: usize = 41;
const REQUESTS: usize = 2_000;
const MOST: f64 = 2.0;

/// A family of paths, `#` standing for a number, and a request that the path takes.
struct Family {
    name: &'static str,
    path: &'static str,
    request: &'static str,
    /// The paths can be told apart by text.
    has_text: bool,
}

const FAMILIES: [Family; 6] = [
    Family {
        name: "text at the beginning",
        path: "/service-#(/|$)(.*)",
        request: "/service-#/v1/users/42?page=7",
        has_text: true,
    },
    Family {
        name: "long common beginning",
        path: "/api/v1/tenants/common/service-#/(.*)",
        request: "/api/v1/tenants/common/service-#/users/42",
        has_text: true,
    },
    Family {
        name: "without case",
        path: "/Api/Service#/[A-Z]+",
        request: "/aPI/sERVICE#/uSERS",
        has_text: true,
    },
    Family {
        name: "wildcard at the beginning",
        path: "/.*/report-#\\\\.pdf$",
        request: "/archive/2026/11/report-#.pdf",
        has_text: true,
    },
    Family {
        name: "class at the beginning",
        path: "/[a-z]{2}/shop#/(.*)",
        request: "/de/shop#/basket",
        has_text: true,
    },
    Family {
        name: "no text at all",
        path: "/[a-z]+/([0-9]{#,})/[a-z]",
        request: "/users/12345678901234567890/x",
        has_text: false,
    },
];

fn table(family: &Family, count: usize) -> RoutingTable {
    let rule = |number: usize| {
        let path = family.path.replace('#', &(number % 250 + number / 250 * 1000).to_string());
        format!(
            r#"{{"ingress":"n/i","path":"{path}","policies":0,"action":{{"forward":{{"cluster":"n/s:80"}}}}}}"#
        )
    };
    let rules: Vec<String> = (0..count).map(rule).collect();
    let config = format!(
        r#"{{"version":1,"policies":[{{}}],"hosts":[{{"name":"a.example","pathMatching":"expressions","rules":[{}]}}]}}"#,
        rules.join(",")
    );
    compile(from_slice(config.as_bytes()).expect("it is a configuration")).expect("it compiles")
}

/// How long a number of requests take.
fn time(table: &RoutingTable, targets: &[String], state: &mut State) -> Duration {
    let start = Instant::now();
    for number in 0..REQUESTS {
        let target = &targets[number % targets.len()];
        let lines: [(&[u8], &[u8]); 9] = [
            (b":authority", b"a.example"),
            (b":path", target.as_bytes()),
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            (b"accept-encoding", b"gzip, deflate, br"),
            (b"cookie", b"session=0123456789abcdef; theme=dark"),
            (b"x-ingress-wasm-connection", b"http 80 10.0.0.1"),
        ];
        let view = RequestView {
            headers: &lines,
            connection: Connection { scheme: Scheme::Http, port: 80, peer: b"10.0.0.1" },
            now_ms: 0,
            random: number as u128,
        };
        let decision = decide(table, &view, state);
        assert!(matches!(decision, Decision::Forward(_)), "{target}: {decision:?}");
        black_box(&decision);
    }
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() / REQUESTS as f64 * 1e6
}

fn main() -> ExitCode {
    println!("{:28} {:>10} {:>10} {:>7}", "paths", FEW, MANY, "ratio");
    let mut good = true;
    for family in &FAMILIES {
        let tables = [FEW, MANY].map(|count| table(family, count));
        let targets: Vec<String> =
            (0..FEW).map(|number| family.request.replace('#', &number.to_string())).collect();
        let mut state = State::new([0; 32]);
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (table, times) in tables.iter().zip(&mut times) {
                times.push(time(table, &targets, &mut state));
            }
        }
        let [few, many] = times.map(median);
        let ratio = many / few;
        let verdict = match (family.has_text, ratio <= MOST) {
            (true, true) => "",
            (true, false) => "  more than allowed",
            (false, _) => "  not indexed: no text tells them apart",
        };
        good &= !family.has_text || ratio <= MOST;
        println!("{:28} {few:7.2} µs {many:7.2} µs {ratio:7.2}{verdict}", family.name);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
