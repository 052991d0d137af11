//! Secrets are shown nowhere: not in logs, however much is logged, not in metrics, and not by Envoy's administration
//! beyond what docs/authentication.md says.

use std::collections::BTreeMap;

use ingress_wasm_tests::client::{Target, WireRequest, once};
use ingress_wasm_tests::product::{Product, binary};
use ingress_wasm_tests::site::{Backend, Site};

use crate::support::{SOON, Served, eventually, expect_status, ingress};

const PASSWORD: &str = "correct-horse-battery";
/// Of that password, as nginx takes it.
const HASH: &str = "{PLAIN}correct-horse-battery";
const BCRYPT: &str = "$2y$10$Sa1ecU7DlDtajBF0q4ELuOf0p9VZPcGc4QzRHjNRWSIJjEKAgrlp.";
const API_KEY: &str = "6f1d0cbb7a3e4b5f9d2a8c7e1b0f3a5d";
/// A key of HS256, in base64url.
const SHARED: &str = "c2VjcmV0LW9mLXRva2Vucy0wMTIzNDU2Nzg5YWJjZGVm";
const COOKIE: &str = "session-of-ann-0123456789";
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.bm90LXNpZ25lZC1ieS1hbnlib2R5";

/// The parts of Envoy that write headers of requests to the log at debug level: docs/authentication.md names them.
const WRITE_HEADERS: [&str; 5] = ["http", "router", "http2", "client", "jwt"];

fn manifests(certificate: &str, key: &str) -> String {
    let indent = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let basic = [("auth-type", "basic"), ("auth-secret", "users"), ("ssl-redirect", "false")];
    let secrets = format!(
        "---
apiVersion: v1
kind: Secret
metadata: {{name: users}}
stringData: {{auth: \"ann:{HASH}\\nbob:{BCRYPT}\\n\"}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
stringData: {{ann: '{API_KEY}'}}
---
apiVersion: v1
kind: Secret
metadata: {{name: tokens}}
stringData: {{jwks.json: '{{\"keys\": [{{\"kty\": \"oct\", \"alg\": \"HS256\", \"k\": \"{SHARED}\"}}]}}'}}
---
apiVersion: v1
kind: Secret
metadata: {{name: broken}}
stringData: {{jwks.json: '{{\"keys\": [{{\"kty\": \"oct\", \"alg\": \"HS9\", \"k\": \"{SHARED}\"}}]}}'}}
---
apiVersion: v1
kind: Secret
metadata: {{name: tls}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{}  tls.key: |
{}",
        indent(certificate),
        indent(key)
    );
    let tls = "spec:\n  tls: [{hosts: [basic.example], secretName: tls}]\n";
    [
        ingress("basic", "web", &basic).replacen("spec:\n", tls, 1),
        ingress("key", "web", &[("ingress-wasm.io/api-key-secret", "keys"), ("affinity", "cookie")]),
        ingress("token", "web", &[("ingress-wasm.io/jwt-jwks-secret", "tokens")]),
        ingress("broken", "web", &[("ingress-wasm.io/jwt-jwks-secret", "broken")]),
        secrets,
    ]
    .concat()
}

/// Asks Envoy's administration.
fn admin(served: &Served, method: &str, target: &str) -> Result<String, String> {
    let address = served.product.admin.ok_or("the product does not tell where Envoy's administration is")?;
    let request = WireRequest::new(method, "admin", target);
    let response = once(&Target::plain(address), &request).map_err(|error| error.to_string())?;
    expect_status(&response, 200, target)?;
    Ok(response.text())
}

/// What a client sends.
fn basic(password: &str) -> String {
    use base64::Engine;

    base64::engine::general_purpose::STANDARD.encode(format!("ann:{password}"))
}

/// Good and bad credentials of all kinds.
fn use_secrets(served: &Served) -> Result<(), String> {
    let ann = |password: &str| {
        let value = format!("Basic {}", basic(password));
        WireRequest::new("GET", "basic.example", "/").header("Authorization", &value)
    };
    let key = |key: &str| WireRequest::new("GET", "key.example", "/").header("X-API-Key", key);
    let token =
        WireRequest::new("GET", "token.example", "/").header("Authorization", &format!("Bearer {TOKEN}"));
    let requests = [
        (ann(PASSWORD), 200),
        (ann("wrong"), 401),
        (key(API_KEY).header("Cookie", &format!("INGRESSCOOKIE={COOKIE}")), 200),
        (key(&API_KEY[1..]).header("Cookie", COOKIE), 401),
        (token, 401),
    ];
    for (request, status) in requests {
        expect_status(&served.send(&request)?, status, &format!("{request:?}"))?;
    }
    Ok(())
}

pub fn secrets_are_shown_nowhere() -> Result<(), String> {
    let site = Site::new(&[Backend::new("web", 1)], &BTreeMap::new()).map_err(|error| error.to_string())?;
    let made = rcgen::generate_simple_self_signed(["basic.example".to_owned()])
        .map_err(|error| error.to_string())?;
    let private = made.signing_key.serialize_pem();
    site.write("site.yaml", &manifests(&made.cert.pem(), &private)).map_err(|error| error.to_string())?;
    let log = site.temporary().join("access.log");
    let arguments = ["--access-log".as_ref(), log.as_os_str()];
    let product = Product::start_with(&binary()?, &site.manifests(), &site.temporary(), &arguments)?;
    let served = Served { product, site };
    let lines = private.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned);
    let mut secrets: Vec<String> = [PASSWORD, &basic(PASSWORD), API_KEY, SHARED, COOKIE, TOKEN]
        .iter()
        .map(|secret| (*secret).to_owned())
        .collect();
    secrets.extend(lines);
    let hashes = [HASH.to_owned(), BCRYPT.to_owned()];
    let shown = |text: &str, secrets: &[String]| -> Vec<String> {
        let has = |line: &&str| secrets.iter().any(|secret| line.contains(secret.as_str()));
        text.lines().filter(has).map(|line| line.chars().take(300).collect()).collect()
    };
    let all: Vec<String> = secrets.iter().chain(&hashes).cloned().collect();

    use_secrets(&served)?;
    admin(&served, "POST", "/logging?level=debug")?;
    for part in WRITE_HEADERS {
        admin(&served, "POST", &format!("/logging?{part}=info"))?;
    }
    use_secrets(&served)?;
    // A change, so that what is loaded is logged as well.
    let changed = manifests(&made.cert.pem(), &private).replace("ann: '", "eve: '");
    let mark = served.product.stdout_mark();
    served.site.write("site.yaml", &changed).map_err(|error| error.to_string())?;
    served.product.wait_stdout(mark, "reloaded", SOON)?;
    use_secrets(&served)?;
    eventually("the access log", SOON, || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() >= 15)
    })?;
    let said = served.product.stderr().join("\n");
    // Of two parts that are left at debug level.
    for part in ["remote close", "is served"] {
        assert!(said.contains(part), "`{part}` is not logged: {said}");
    }
    assert_eq!(shown(&said, &all), [""; 0], "the log");
    let access = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
    assert_eq!(shown(&access, &all), [""; 0], "the access log");
    for target in ["/stats", "/stats/prometheus", "/clusters", "/certs", "/listeners", "/server_info"] {
        assert_eq!(shown(&admin(&served, "GET", target)?, &all), [""; 0], "{target}");
    }
    // The configuration holds what passwords are checked by, and no more.
    let dump = admin(&served, "GET", "/config_dump?include_eds")?;
    let secrets: Vec<String> = secrets.into_iter().filter(|secret| secret != PASSWORD).collect();
    assert_eq!(shown(&dump, &secrets), [""; 0], "the configuration");
    Ok(())
}
