//! API keys, end to end: who has one comes through, and the key goes no further.

use ingress_wasm_echo::wire;
use ingress_wasm_tests::client::WireRequest;
use ingress_wasm_tests::site::Backend;

use crate::support::{Served, expect_status, ingress, serve};

const ANN: &str = "6f1d0cbb7a3e4b5f9d2a8c7e1b0f3a5d";
/// Has to be escaped in a query.
const BOB: &str = "0a4f+c1e/b9d&a2c=e6f1b7d4c0a9e3f";

fn manifests() -> String {
    let own = |name: &str, annotations: &[(&str, &str)]| {
        let named: Vec<(String, &str)> = annotations
            .iter()
            .map(|(name, value)| (format!("ingress-wasm.io/api-key-{name}"), *value))
            .collect();
        let mut named: Vec<(&str, &str)> = named.iter().map(|(name, value)| (&**name, *value)).collect();
        named.push(("ingress-wasm.io/api-key-secret", "keys"));
        ingress(name, "web", &named)
    };
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData: {{ann: '{ANN}', bob: '{BOB}'}}\n"
    );
    [
        own("plain", &[("client-header", "X-Client")]),
        own("both", &[("header", "X-Key"), ("parameter", "key")]),
        own("bearer", &[("header", "Authorization")]),
        own("kept", &[("forward", "true"), ("parameter", "key"), ("header", "X-Key")]),
        secret,
    ]
    .concat()
}

fn get(host: &str, target: &str) -> WireRequest {
    WireRequest::new("GET", &format!("{host}.example"), target)
}

/// Target and header lines that the backend got, names in lower case.
fn received(
    served: &Served,
    request: &WireRequest,
    what: &str,
) -> Result<(String, Vec<(String, String)>), String> {
    served.site.forget();
    expect_status(&served.send(request)?, 200, what)?;
    let received = served.site.servers("web")[0].received();
    let received = received.first().ok_or_else(|| format!("{what}: nothing has come"))?;
    let line =
        |(name, value): &(Vec<u8>, Vec<u8>)| (wire::text(name).to_ascii_lowercase(), wire::text(value));
    Ok((wire::text(&received.target), received.headers.iter().map(line).collect()))
}

pub fn api_keys_let_in_and_go_no_further() -> Result<(), String> {
    let served = serve(&[Backend::new("web", 1)], &manifests())?;
    let values = |lines: &[(String, String)], name: &str| -> Vec<String> {
        lines.iter().filter(|(found, _)| found == name).map(|(_, value)| value.clone()).collect()
    };

    let request = get("plain", "/a?b=c").header("X-API-Key", ANN).header("X-Client", "root");
    let (target, lines) = received(&served, &request, "a key in the usual header")?;
    assert_eq!(target, "/a?b=c");
    assert_eq!(values(&lines, "x-client"), ["ann"]);
    assert_eq!(values(&lines, "x-api-key"), [""; 0]);

    let escaped = BOB.replace('+', "%2B").replace('/', "%2F").replace('&', "%26").replace('=', "%3d");
    for (sent, expected) in [
        (format!("/a?key={escaped}"), "/a"),
        (format!("/a?b=c&key={escaped}&d"), "/a?b=c&d"),
        (format!("/a?b=c&key={ANN}&key={ANN}"), "/a?b=c"),
    ] {
        let (target, lines) = received(&served, &get("both", &sent), &sent)?;
        assert_eq!(target, expected, "{sent}");
        let text = format!("{target} {lines:?}");
        assert!(values(&lines, "x-key").is_empty() && !target.contains("key"), "{text}");
    }
    let (_, lines) = received(&served, &get("both", "/").header("X-Key", BOB), "a header of its own")?;
    assert_eq!(values(&lines, "x-key"), [""; 0]);
    let request = get("bearer", "/").header("Authorization", &format!("Bearer {ANN}"));
    let (_, lines) = received(&served, &request, "a bearer's")?;
    assert_eq!(values(&lines, "authorization"), [""; 0]);
    let request = get("kept", &format!("/?key={ANN}"));
    assert_eq!(received(&served, &request, "a key that is passed on")?.0, format!("/?key={ANN}"));
    let (_, lines) = received(&served, &get("kept", "/").header("X-Key", ANN), "a header that is passed on")?;
    assert_eq!(values(&lines, "x-key"), [ANN]);

    served.site.forget();
    let refused = [
        get("plain", "/"),
        get("plain", &format!("/?key={ANN}")),
        get("plain", "/").header("X-API-Key", "ann"),
        get("plain", "/").header("X-API-Key", &ANN[1..]),
        // The header counts where both are.
        get("both", &format!("/?key={ANN}")).header("X-Key", "wrong"),
        get("both", &format!("/?key=wrong&key={ANN}")),
        get("bearer", "/").header("Authorization", "Bearer "),
    ];
    for request in &refused {
        expect_status(&served.send(request)?, 401, &format!("{request:?}"))?;
    }
    assert_eq!(served.reached("web"), 0);
    Ok(())
}
