//! Rules that need a JSON Web Token.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ingress_wasm_echo::wire;
use ingress_wasm_tests::client::{Target, WireRequest, once};
use ingress_wasm_tests::site::Backend;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use serde_json::{Value, json};

use crate::support::{SOON, Served, eventually, expect_status, ingress, serve};

/// Who signs tokens.
struct Issuer {
    hs: hmac::Key,
    es: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    /// The same for every issuer: making one takes a while.
    rs: RsaKeyPair,
    /// The secret of HS256 as the key set has it.
    shared: String,
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes between the lines of a key in PEM.
fn of_pem(text: &str) -> Vec<u8> {
    let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(lines).expect("a key")
}

impl Issuer {
    fn new() -> Result<Issuer, ring::error::Unspecified> {
        let random = SystemRandom::new();
        let secret: [u8; 32] = ring::rand::generate(&random)?.expose();
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let es = EcdsaKeyPair::generate_pkcs8(algorithm, &random)?;
        let ed = Ed25519KeyPair::generate_pkcs8(&random)?;
        let broken = |_| ring::error::Unspecified;
        Ok(Issuer {
            hs: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            es: EcdsaKeyPair::from_pkcs8(algorithm, es.as_ref(), &random).map_err(broken)?,
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).map_err(broken)?,
            rs: RsaKeyPair::from_der(&of_pem(include_str!(
                "../../translate/src/certificates/samples/rsa.key.pem"
            )))
            .map_err(broken)?,
            shared: base64(secret),
        })
    }

    /// The key set of a Secret.
    fn keys(&self) -> Value {
        let rsa = signature::RsaPublicKeyComponents::<Vec<u8>>::from(self.rs.public_key());
        let point = self.es.public_key().as_ref();
        json!({"keys": [
            {"kty": "oct", "k": self.shared, "alg": "HS256", "kid": "hs"},
            {"kty": "EC", "crv": "P-256", "x": base64(&point[1..33]), "y": base64(&point[33..]), "alg": "ES256", "kid": "es"},
            {"kty": "OKP", "crv": "Ed25519", "x": base64(self.ed.public_key()), "alg": "EdDSA", "kid": "ed"},
            // For RS and PS: it says no algorithm.
            {"kty": "RSA", "n": base64(rsa.n), "e": base64(rsa.e), "kid": "rs"},
        ]})
    }

    fn token(&self, algorithm: &str, claims: &Value) -> String {
        let head = json!({"alg": algorithm, "typ": "JWT"});
        let text = format!("{}.{}", base64(head.to_string()), base64(claims.to_string()));
        let signed = match algorithm {
            "HS256" => base64(hmac::sign(&self.hs, text.as_bytes())),
            "ES256" => base64(self.es.sign(&SystemRandom::new(), text.as_bytes()).expect("signs")),
            "EdDSA" => base64(self.ed.sign(text.as_bytes())),
            "RS256" => base64(self.rsa(&signature::RSA_PKCS1_SHA256, &text)),
            "PS256" => base64(self.rsa(&signature::RSA_PSS_SHA256, &text)),
            "PS512" => base64(self.rsa(&signature::RSA_PSS_SHA512, &text)),
            _ => String::new(),
        };
        format!("{text}.{signed}")
    }

    fn rsa(&self, how: &'static dyn signature::RsaEncoding, text: &str) -> Vec<u8> {
        let mut signed = vec![0; self.rs.public().modulus_len()];
        self.rs.sign(how, &SystemRandom::new(), text.as_bytes(), &mut signed).expect("signs");
        signed
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn claims() -> Value {
    json!({"iss": "https://login.example/", "aud": "shop", "sub": "ann", "exp": now() + 600, "org": {"tenant": "t1"}})
}

/// With these claims in place of the usual ones; null takes one away.
fn but(changed: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changed.as_object().expect("an object") {
        let all = claims.as_object_mut().expect("an object");
        match value {
            Value::Null => all.remove(name),
            value => all.insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// An Ingress with annotations of our own, one to a line of YAML.
fn own(name: &str, service: &str, annotations: &str) -> String {
    let lines: String = annotations.lines().map(|line| format!("    ingress-wasm.io/{line}\n")).collect();
    ingress(name, service, &[]).replacen("spec:\n", &format!("  annotations:\n{lines}spec:\n"), 1)
}

fn secret(name: &str, keys: &Value) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{jwks.json: '{keys}'}}\n"
    )
}

fn send(
    served: &Served,
    request: WireRequest,
    status: u16,
    what: &str,
) -> Result<Vec<(String, String)>, String> {
    served.site.forget();
    let response = served.send(&request)?;
    expect_status(&response, status, what)?;
    let received = served.site.servers("web")[0].received();
    assert_eq!(received.len(), usize::from(status == 200), "{what}");
    Ok(received.first().map_or_else(Vec::new, |received| {
        let text =
            |(name, value): &(Vec<u8>, Vec<u8>)| (wire::text(name).to_ascii_lowercase(), wire::text(value));
        received.headers.iter().map(text).collect()
    }))
}

fn get(host: &str, target: &str) -> WireRequest {
    WireRequest::new("GET", &format!("{host}.example"), target)
}

pub fn tokens_are_asked_for() -> Result<(), String> {
    let issuer = Issuer::new().map_err(|error| error.to_string())?;
    let stranger = Issuer::new().map_err(|error| error.to_string())?;
    let manifests = [
        ingress("open", "web", &[]),
        own(
            "shop",
            "web",
            "jwt-jwks-secret: keys\njwt-issuer: https://login.example/\njwt-audiences: 'shop, other'\n\
             jwt-claims-to-headers: \"X-User: sub\\nX-Tenant: org.tenant\\nX-Mail: mail\"",
        ),
        own(
            "dotted",
            "web",
            "jwt-jwks-secret: keys\njwt-claims-to-headers: \"X-Roles: \\\"https://a.example/roles\\\"\"",
        ),
        own("hidden", "web", "jwt-jwks-secret: keys\njwt-forward: 'false'\njwt-from-headers: \"X-Token:\""),
        own("cookie", "web", "jwt-jwks-secret: keys\njwt-from-cookies: session\njwt-from-params: t"),
        own("missing", "web", "jwt-jwks-secret: nothing"),
        own("keyless", "web", "jwt-issuer: https://login.example/"),
        own("broken", "web", "jwt-jwks-secret: keys\njwt-clock-skew: soon"),
        secret("keys", &issuer.keys()),
    ];
    let served = serve(&[Backend::new("web", 1)], &manifests.concat())?;
    let bearer = |token: &str| get("shop", "/").header("Authorization", &format!("Bearer {token}"));
    send(&served, get("open", "/"), 200, "an open rule")?;
    for algorithm in ["HS256", "ES256", "EdDSA"] {
        let token = issuer.token(algorithm, &claims());
        let request = bearer(&token).header("X-User", "root").header("x-mail", "root@example");
        let received = send(&served, request, 200, algorithm)?;
        let values = |name: &str| {
            received.iter().filter(|(found, _)| found == name).map(|(_, value)| &**value).collect::<Vec<_>>()
        };
        assert_eq!((values("x-user"), values("x-tenant")), (vec!["ann"], vec!["t1"]), "{received:?}");
        assert!(values("x-mail").is_empty() && values("authorization").len() == 1, "{received:?}");
        let strange = bearer(&stranger.token(algorithm, &claims()));
        send(&served, strange, 401, &format!("{algorithm} of a stranger"))?;
    }
    for algorithm in ["RS256", "PS256", "PS512"] {
        let token = issuer.token(algorithm, &claims());
        send(&served, bearer(&token), 200, algorithm)?;
        let (head, signed) = token.rsplit_once('.').ok_or("no token")?;
        let other = issuer.token(algorithm, &but(&json!({"sub": "eve"})));
        let (other, _) = other.rsplit_once('.').ok_or("no token")?;
        send(&served, bearer(&format!("{other}.{signed}")), 401, &format!("{algorithm} of something else"))?;
        let stripped = format!("{head}.{}", signed.get(..signed.len() - 8).unwrap_or_default());
        send(&served, bearer(&stripped), 401, &format!("{algorithm}, cut off"))?;
    }
    let refused = [
        (but(&json!({"iss": "https://evil.example/"})), 401),
        (but(&json!({"aud": "evil"})), 403),
        (but(&json!({"aud": null})), 403),
        (but(&json!({"exp": now() - 120})), 401),
        (but(&json!({"exp": null})), 401),
        (but(&json!({"nbf": now() + 600})), 401),
    ];
    for (claims, status) in refused {
        send(&served, bearer(&issuer.token("HS256", &claims)), status, &claims.to_string())?;
    }
    // Nobody has signed it, or with what everybody knows.
    send(&served, bearer(&issuer.token("none", &claims())), 401, "none")?;
    send(&served, get("shop", "/"), 401, "no token")?;
    send(&served, bearer("a.b.c"), 401, "no token at all")?;
    let token = issuer.token("ES256", &claims());
    send(&served, get("shop", &format!("/?access_token={token}")), 200, "a parameter")?;
    let roles = issuer.token("ES256", &but(&json!({"https://a.example/roles": "admin"})));
    let request = get("dotted", "/").header("Authorization", &format!("Bearer {roles}"));
    let received = send(&served, request.header("X-Roles", "root"), 200, "a claim with dots in its name")?;
    let seen: Vec<&str> =
        received.iter().filter(|(name, _)| name == "x-roles").map(|(_, value)| &**value).collect();
    assert_eq!(seen, ["admin"]);
    let received = send(&served, get("hidden", "/").header("X-Token", &token), 200, "a header of its own")?;
    assert!(received.iter().all(|(name, _)| name != "x-token"), "{received:?}");
    send(
        &served,
        get("hidden", "/").header("Authorization", &format!("Bearer {token}")),
        401,
        "the usual one",
    )?;
    send(&served, get("cookie", "/").header("Cookie", &format!("a=b; session={token}")), 200, "a cookie")?;
    send(&served, get("cookie", &format!("/?t={token}")), 200, "a parameter of its own")?;
    for host in ["missing", "keyless", "broken"] {
        let request = get(host, "/").header("Authorization", &format!("Bearer {token}"));
        send(&served, request, 503, host)?;
    }
    // A client chooses no route.
    let request = get("shop", "/").header("X-Ingress-Wasm-Profile", "").header("X-Ingress-Wasm-Cluster", "a");
    send(&served, request, 401, "a profile of the client's own")?;
    rotated(&served, &manifests[..8].concat(), &issuer, &stranger)
}

/// Keys change while they are used; secret ones are shown nowhere.
fn rotated(served: &Served, rest: &str, issuer: &Issuer, next: &Issuer) -> Result<(), String> {
    let admin = served.product.admin.ok_or("the product does not tell where Envoy's administration is")?;
    let dump = || {
        let request = WireRequest::new("GET", "admin", "/config_dump?include_eds");
        once(&Target::plain(admin), &request).map(|response| response.text()).unwrap_or_default()
    };
    assert!(
        dump().contains("jwks-") && !dump().contains(&issuer.shared),
        "the secret is in the configuration"
    );
    served
        .site
        .write("site.yaml", &[rest, &secret("keys", &next.keys())].concat())
        .map_err(|e| e.to_string())?;
    let with = |issuer: &Issuer| {
        let token = issuer.token("HS256", &claims());
        served.send(&get("shop", "/").header("Authorization", &format!("Bearer {token}")))
    };
    eventually("new keys", SOON, || with(next).is_ok_and(|response| response.status == 200))?;
    expect_status(&with(issuer)?, 401, "keys of before")?;
    assert!(!dump().contains(&next.shared) && !served.product.stderr_tail().contains(&next.shared));
    Ok(())
}

pub fn keys_of_tokens_are_fetched() -> Result<(), String> {
    let issuer = Issuer::new().map_err(|error| error.to_string())?;
    // The backend answers with what the target asks it for.
    let keys = issuer.keys().to_string();
    let manifests =
        own("shop", "web", "jwt-jwks-url: http://login.default.svc/jwks.json\njwt-audiences: shop");
    let away = own("away", "web", "jwt-jwks-url: http://nobody.default.svc/jwks.json");
    let server = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = server.local_addr().map_err(|error| error.to_string())?.port();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut part = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut part);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                keys.len()
            );
            let _ = std::io::Write::write_all(
                &mut stream,
                [head.as_bytes(), keys.as_bytes()].concat().as_slice(),
            );
        }
    });
    let login = format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: login}}
spec: {{clusterIP: 10.0.0.9, ports: [{{port: 80, targetPort: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: login, labels: {{kubernetes.io/service-name: login}}}}
addressType: IPv4
ports: [{{name: '', port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    );
    let served = serve(&[Backend::new("web", 1)], &[manifests, away, login].concat())?;
    let bearer = |host: &str, claims: &Value| {
        get(host, "/").header("Authorization", &format!("Bearer {}", issuer.token("ES256", claims)))
    };
    eventually("fetched keys", SOON, || {
        served.send(&bearer("shop", &claims())).is_ok_and(|response| response.status == 200)
    })?;
    send(&served, bearer("shop", &but(&json!({"aud": "evil"}))), 403, "another audience")?;
    send(&served, get("shop", "/"), 401, "no token")?;
    // Keys that cannot be had let nobody in.
    send(&served, bearer("away", &claims()), 401, "no keys").map(drop)
}

/// A server that answers every request with this text, under TLS.
fn serve_by_tls(text: String, made: &rcgen::Certificate, key: &rcgen::KeyPair) -> Result<u16, String> {
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der())?;
    let config = rustls::ServerConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .map_err(|error| error.to_string())?
    .with_no_client_auth()
    .with_single_cert(vec![made.der().clone()], key)
    .map_err(|error| error.to_string())?;
    let config = std::sync::Arc::new(config);
    let server = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let port = server.local_addr().map_err(|error| error.to_string())?.port();
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            let Ok(connection) = rustls::ServerConnection::new(std::sync::Arc::clone(&config)) else {
                return;
            };
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let mut part = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut part);
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length";
            let _ = std::io::Write::write_all(
                &mut stream,
                format!("{head}: {}\r\n\r\n{text}", text.len()).as_bytes(),
            );
            stream.conn.send_close_notify();
            let _ = std::io::Write::flush(&mut stream);
        }
    });
    Ok(port)
}

/// A Service `NAME` whose port 443 is this one.
fn https_service(name: &str, port: u16) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{clusterIP: 10.0.0.9, ports: [{{port: 443, targetPort: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: '', port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
}

/// By https keys are taken from a server whose certificate is good only: signed by an authority that is known, and
/// for the name.
pub fn keys_of_tokens_are_fetched_by_https() -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;

    let text = |error: &dyn std::fmt::Display| error.to_string();
    let issuer = Issuer::new().map_err(|error| error.to_string())?;
    let authority_key = rcgen::KeyPair::generate().map_err(|error| text(&error))?;
    let mut authority = rcgen::CertificateParams::new(Vec::new()).map_err(|error| text(&error))?;
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    // Another name than theirs: a certificate of its own name is taken for one that signs itself.
    authority.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    let root = authority.self_signed(&authority_key).map_err(|error| text(&error))?;
    let by_authority = rcgen::Issuer::from_params(&authority, &authority_key);
    let made = |name: &str, known: bool| -> Result<u16, String> {
        let key = rcgen::KeyPair::generate().map_err(|error| text(&error))?;
        let parameters = rcgen::CertificateParams::new(vec![format!("{name}.default.svc")])
            .map_err(|error| text(&error))?;
        let certificate = match known {
            true => parameters.signed_by(&key, &by_authority),
            false => parameters.self_signed(&key),
        };
        serve_by_tls(issuer.keys().to_string(), &certificate.map_err(|error| text(&error))?, &key)
    };
    let of = |name: &str, port: u16| {
        let url = format!("jwt-jwks-url: https://{name}.default.svc/jwks.json");
        own(name, "web", &url) + &https_service(name, port)
    };
    let manifests = [
        of("good", made("good", true)?),
        of("other", made("another", true)?),
        of("stranger", made("stranger", false)?),
    ]
    .concat();
    let site =
        ingress_wasm_tests::site::Site::new(&[Backend::new("web", 1)], &std::collections::BTreeMap::new());
    let site = site.map_err(|error| error.to_string())?;
    site.write("site.yaml", &manifests).map_err(|error| error.to_string())?;
    let (roots, program) = (site.temporary().join("roots.pem"), site.temporary().join("with-roots"));
    std::fs::write(&roots, root.pem()).map_err(|error| error.to_string())?;
    let binary = ingress_wasm_tests::product::binary()?;
    let script =
        format!("#!/bin/sh\nSSL_CERT_FILE='{}' exec '{}' \"$@\"\n", roots.display(), binary.display());
    std::fs::write(&program, script).map_err(|error| error.to_string())?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700))
        .map_err(|error| error.to_string())?;
    let product =
        ingress_wasm_tests::product::Product::start(&program, &site.manifests(), &site.temporary())?;
    let served = Served { product, site };
    let bearer = |host: &str| {
        get(host, "/").header("Authorization", &format!("Bearer {}", issuer.token("ES256", &claims())))
    };
    eventually("fetched keys", SOON, || {
        served.send(&bearer("good")).is_ok_and(|response| response.status == 200)
    })?;
    // Asked as early as the good ones.
    for host in ["other", "stranger"] {
        send(&served, bearer(host), 401, host)?;
    }
    Ok(())
}
