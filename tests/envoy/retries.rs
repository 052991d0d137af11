//! What is tried again, and how often.

use ingress_wasm_tests::client::WireRequest;
use ingress_wasm_tests::site::Backend;

use crate::support::{expect_status, ingress, serve};

/// As with nginx: POST, PATCH and LOCK may not be repeated once they were sent, unless that is asked for.
pub fn what_was_sent_is_repeated_by_method() -> Result<(), String> {
    let manifests = [
        ingress("usual", "web", &[]),
        ingress("status", "web", &[("proxy-next-upstream", "error timeout http_502 http_404")]),
        ingress("any", "web", &[("proxy-next-upstream", "http_502 non_idempotent")]),
        ingress("silent", "web", &[("proxy-read-timeout", "1"), ("proxy-next-upstream-tries", "2")]),
        ingress("off", "web", &[("proxy-next-upstream", "off")]),
    ]
    .concat();
    let served = serve(&[Backend::new("web", 1)], &manifests)?;
    let cases = [
        ("usual", "GET", "/status/502", 502, 1),
        ("status", "GET", "/status/502", 502, 3),
        ("status", "PUT", "/status/404", 404, 3),
        ("status", "GET", "/status/503", 503, 1),
        ("status", "POST", "/status/502", 502, 1),
        ("status", "PATCH", "/status/502", 502, 1),
        ("any", "POST", "/status/502", 502, 3),
        ("any", "GET", "/status/404", 404, 1),
        ("silent", "GET", "/delay/1500", 504, 2),
        ("silent", "POST", "/delay/1500", 504, 1),
        ("off", "GET", "/status/502", 502, 1),
    ];
    for (host, method, target, status, times) in cases {
        served.site.forget();
        let mut request = WireRequest::new(method, &format!("{host}.example"), target);
        if ["POST", "PUT", "PATCH"].contains(&method) {
            request = request.body(b"body".to_vec());
        }
        expect_status(&served.send(&request)?, status, &format!("{host} {method} {target}"))?;
        assert_eq!(served.reached("web"), times, "{host} {method} {target}");
    }
    Ok(())
}
