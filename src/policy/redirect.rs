//! Redirects: those that a rule asks for, to HTTPS, and to the path with a slash.

use std::borrow::Cow;

use super::{Facts, page, reply};
use crate::config::TlsRedirect;
use crate::decision::Reply;
use crate::router::path::escape;
use crate::router::{CompiledRedirect, RoutingTable, canonical_host, without_port};

/// What a rule answers to every request: nginx's `return CODE URL`.
pub fn configured<'a>(redirect: &'a CompiledRedirect, relative: bool, facts: &Facts<'a>) -> Reply<'a> {
    const DETAILS: &str = "redirect";
    let url = redirect.url.as_bytes();
    match redirect.status {
        301 | 302 | 303 | 307 | 308 => {
            reply::redirect(redirect.status, completed(url, relative, facts), DETAILS)
        }
        // To nginx these are no redirects: it sends the text as a page.
        status => {
            let body = if status == 304 { &[][..] } else { url };
            Reply { body: Cow::Borrowed(body), ..page(status, DETAILS) }
        }
    }
}

/// A path as nginx completes it in Location: with the scheme of the connection, and the Host in lower case
/// and without its port (`port_in_redirect off`). A URL stays as it is, and so does a path where redirects
/// are to be relative.
pub fn completed(location: &[u8], relative: bool, facts: &Facts<'_>) -> Vec<u8> {
    if relative || !location.starts_with(b"/") {
        return location.to_vec();
    }
    let request = facts.request;
    let scheme = request.connection.scheme.as_str().as_bytes();
    [scheme, b"://", &canonical_host(request.authority()), location].concat()
}

/// Where nginx sends a request for `/foo` when the rule is `/foo/`; the query is kept.
pub fn with_slash(facts: &Facts<'_>, rule_path: &str, relative: bool) -> Vec<u8> {
    let mut path = Vec::with_capacity(rule_path.len());
    escape(rule_path.as_bytes(), &mut path);
    let mut location = completed(&path, relative, facts);
    let query = facts.args();
    if !query.is_empty() {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    location
}

/// Where a request goes that came by plain HTTP and has to come by HTTPS; none where it may stay. As in
/// `lua_ingress.lua`: the target as on the wire but for a slash at its very end, in the query too.
pub fn to_tls(redirect: TlsRedirect, table: &RoutingTable, facts: &Facts<'_>) -> Option<Vec<u8>> {
    let (request, client) = (facts.request, &facts.client);
    if client.scheme != b"http" || !(redirect.always || table.has_certificate(request.authority())) {
        return None;
    }
    let target = request.target();
    let target = match target.strip_suffix(b"/") {
        Some(shorter) if !redirect.preserve_trailing_slash => shorter,
        _ => target,
    };
    Some([b"https://", without_port(client.host), target].concat())
}

/// Where a request goes that is for the other one of two names (`ngx_srv_redirect.lua`). ingress-nginx names
/// the port of its listener; here it is the one that the client used, since the listener's may lie behind a
/// Service with another.
pub fn to_host(to: &str, table: &RoutingTable, facts: &Facts<'_>) -> Vec<u8> {
    let (request, client) = (facts.request, &facts.client);
    let target = request.target();
    let target = target.strip_suffix(b"/").unwrap_or(target);
    let authority = request.authority();
    let port = authority.get(without_port(authority).len()..).unwrap_or_default();
    let forwarded = request.header("x-forwarded-port").filter(|_| table.client.trusts_headers());
    let port = forwarded.map_or_else(|| port.to_vec(), |port| [b":", port].concat());
    [client.scheme, b"://", to.as_bytes(), &port, target].concat()
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use crate::config::from_slice;
    use crate::decision::{Connection, Decision, HeaderLine, RequestView, Scheme, apply_edits};
    use crate::policy::{State, decide};
    use crate::router::compile;

    /// Status, Location and Strict-Transport-Security of an answer; 200 stands for a backend.
    fn answer(config: &str, scheme: Scheme, url: &str, headers: &[HeaderLine<'_>]) -> String {
        let table = compile(from_slice(config.as_bytes()).expect(config)).expect(config);
        let (host, path) = url.split_at(url.find('/').expect(url));
        let mut lines: Vec<HeaderLine<'_>> =
            vec![(b":method", b"GET"), (b":path", path.as_bytes()), (b":authority", host.as_bytes())];
        lines.extend(headers);
        let connection = Connection { scheme, port: 8080, peer: b"10.0.0.1" };
        let request = RequestView { headers: &lines, connection, now_ms: 0, random: 0 };
        let decision = decide(&table, &request, &mut State::new([0; 32]));
        let (status, headers) = match &decision {
            Decision::Forward(forward) => {
                let lines: [HeaderLine<'_>; 1] = [(b"server", b"x")];
                let lines = apply_edits(&lines, &forward.on_response);
                (200, lines.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
            }
            Decision::Reply(reply) => {
                let lines = reply.headers.iter();
                let lines: Vec<_> = lines.map(|(n, v)| (n.as_bytes().to_vec(), v.to_vec())).collect();
                (reply.status, lines)
            }
            Decision::Ask(callout) => panic!("{callout:?}"),
            Decision::Count(count) => panic!("{count:?}"),
        };
        let mut shown = status.to_string();
        for (name, value) in headers {
            if name == b"location" || name == b"strict-transport-security" {
                shown.push(' ');
                shown.push_str(&String::from_utf8_lossy(&value));
            }
        }
        shown
    }

    /// A configuration with one policy for `/p` of the hosts `a.example` and `*.w.example`.
    fn config(global: &str, policy: &str) -> String {
        let rules = r#"[{"ingress":"n/i","path":"/p","policies":0,"action":{"forward":{"cluster":"c",
            "service":"n/s:80"}}},{"ingress":"n/i","path":"/slash/","policies":0,"action":{"forward":
            {"cluster":"c","service":"n/s:80"}}},{"ingress":"n/i","path":"/gone","policies":0,
            "action":{"respond":{"status":503}}}]"#;
        format!(
            r#"{{"version":1,"global":{global},"policies":[{policy}],"hosts":[
            {{"name":"a.example","rules":{rules}}},{{"name":"b.w.example","rules":{rules}}},
            {{"name":"*.w.example","tls":true,"rules":{rules}}},{{"name":"*","rules":{rules}}}]}}"#
        )
    }

    #[test]
    fn redirects_of_a_rule() {
        let url = r#"{"redirect":{"url":"https://to.example/x","status":301}}"#;
        let path = r#"{"redirect":{"url":"/x","status":302}}"#;
        let relative = r#"{"relativeRedirects":true,"redirect":{"url":"/x","status":307}}"#;
        let page = r#"{"redirect":{"url":"/x","status":300}}"#;
        let denied = r#"{"denied":"why","redirect":{"url":"/x","status":302}}"#;
        let tls = r#"{"tlsRedirect":{"always":true},"redirect":{"url":"/x","status":302}}"#;
        let cases = [
            (url, "a.example/p/q?r=s", "301 https://to.example/x"),
            (url, "a.example/gone", "301 https://to.example/x"),
            (url, "a.example/other", "404"),
            (path, "A.example.:81/p", "302 http://a.example/x"),
            (relative, "a.example/p", "307 /x"),
            (relative, "a.example/slash?q", "301 /slash/?q"),
            (path, "a.example:81/slash?q", "301 http://a.example/slash/?q"),
            (page, "a.example/p", "300"),
            (denied, "a.example/p", "503"),
            (tls, "a.example/p", "302 http://a.example/x"),
        ];
        for (policy, url, expected) in cases {
            let found = answer(&config("{}", policy), Scheme::Http, url, &[]);
            assert_eq!(found, expected, "{policy} {url}");
        }
    }

    #[test]
    fn redirects_to_https() {
        let certificate = r#"{"tlsRedirect":{}}"#;
        let always = r#"{"tlsRedirect":{"always":true}}"#;
        let keep = r#"{"tlsRedirect":{"always":true,"preserveTrailingSlash":true}}"#;
        let cases = [
            (certificate, "a.example/p", "200"),
            (certificate, "x.w.example/p", "308 https://x.w.example/p"),
            (certificate, "b.w.example/p", "308 https://b.w.example/p"),
            (certificate, "b.b.w.example/p", "200"),
            (certificate, "w.example/p", "200"),
            (always, "A.example:81/p//%41?q=/", "308 https://A.example/p//%41?q="),
            (always, "[::1]:81/p/", "308 https://[::1]/p"),
            (always, "a.example/gone", "308 https://a.example/gone"),
            (always, "a.example/slash", "301 http://a.example/slash/"),
            (keep, "a.example/p/", "308 https://a.example/p/"),
            ("{}", "x.w.example/gone", "503"),
        ];
        for (policy, url, expected) in cases {
            assert_eq!(answer(&config("{}", policy), Scheme::Http, url, &[]), expected, "{policy} {url}");
            if expected.starts_with("308") {
                let found = answer(&config("{}", policy), Scheme::Https, url, &[]);
                assert!(found == "200" || found == "503", "{policy} {url} by HTTPS: {found}");
            }
        }
    }

    #[test]
    fn forwarded_headers_count_where_they_are_trusted() {
        let policy = r#"{"tlsRedirect":{"always":true}}"#;
        let trusting = r#"{"forwarded":{"trustHeaders":true},"redirectStatus":301}"#;
        let secure: &[HeaderLine<'_>] = &[(b"x-forwarded-proto", b"https")];
        let host: &[HeaderLine<'_>] = &[(b"x-forwarded-host", b"public.example:81, inner.example")];
        let cases = [
            ("{}", secure, "308 https://a.example/p"),
            ("{}", host, "308 https://a.example/p"),
            (trusting, secure, "200"),
            (trusting, host, "301 https://public.example/p"),
        ];
        for (global, headers, expected) in cases {
            let found = answer(&config(global, policy), Scheme::Http, "a.example/p", headers);
            assert_eq!(found, expected, "{global} {headers:?}");
        }
    }

    #[test]
    fn from_one_host_to_another() {
        let config = r#"{"version":1,"global":{"redirectStatus":307},"hosts":[{"name":"www.a.example",
            "redirectTo":"a.example","appRoot":"/r"}]}"#;
        let trusting = r#"{"version":1,"global":{"forwarded":{"trustHeaders":true}},
            "hosts":[{"name":"www.a.example","redirectTo":"a.example"}]}"#;
        let forwarded: &[HeaderLine<'_>] = &[(b"x-forwarded-port", b"444"), (b"x-forwarded-proto", b"https")];
        let cases = [
            (config, "www.a.example/", "307 http://a.example"),
            (config, "WWW.a.example:81/p/?q=/", "307 http://a.example:81/p/?q="),
            (trusting, "www.a.example/p", "308 https://a.example:444/p"),
        ];
        for (config, url, expected) in cases {
            assert_eq!(answer(config, Scheme::Http, url, forwarded), expected, "{config} {url}");
        }
    }

    #[test]
    fn strict_transport_security() {
        let hsts = r#"{"hsts":"max-age=9"}"#;
        let hidden = r#"{"hsts":"max-age=9","hiddenHeaders":["Strict-Transport-Security"]}"#;
        let own = r#"{"hsts":"max-age=9","responseHeaders":[{"set":{"name":"Strict-Transport-Security","value":"0"}}]}"#;
        let cases = [
            (hsts, Scheme::Https, "/p", "200 max-age=9"),
            (hsts, Scheme::Https, "/gone", "503 max-age=9"),
            (hsts, Scheme::Https, "/slash", "301 https://a.example/slash/ max-age=9"),
            (hsts, Scheme::Https, "/none", "404"),
            (hsts, Scheme::Http, "/p", "200"),
            (hidden, Scheme::Https, "/p", "200 max-age=9"),
            (own, Scheme::Https, "/p", "200 0"),
            ("{}", Scheme::Https, "/p", "200"),
        ];
        for (global, scheme, path, expected) in cases {
            let found = answer(&config(global, "{}"), scheme, &format!("a.example{path}"), &[]);
            assert_eq!(found, expected, "{global} {scheme:?} {path}");
        }
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_refused() {
        let cases = [
            (r#"{"hsts":"a\nb"}"#, "{}", "global.hsts"),
            (r#"{"redirectStatus":200}"#, "{}", "global.redirectStatus"),
            ("{}", r#"{"redirect":{"url":"/\r","status":301}}"#, "policies[0].redirect.url"),
            ("{}", r#"{"redirect":{"url":"/","status":309}}"#, "policies[0].redirect.status"),
        ];
        for (global, policy, at) in cases {
            let config = from_slice(config(global, policy).as_bytes()).expect(at);
            let error = compile(config).expect_err(at).to_string();
            assert!(error.contains(at), "{error}");
        }
    }
}
