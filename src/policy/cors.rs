//! Cross-origin resource sharing, as the template `CORS` of ingress-nginx has it: every OPTIONS request of an
//! allowed origin is answered here, whether or not it is a preflight request, and every answer to such an origin
//! gets the headers.
//!
//! One thing is stricter: ingress-nginx looks for an allowed origin at the end of what the client sent, so that
//! `evil-app://x` passes where `app://x` is allowed. Here it has to be the whole.

use std::borrow::Cow;

use super::{Facts, reply};
use crate::config;
use crate::decision::{Edit, Reply};

/// Which origins are allowed, and the headers for them. See [`crate::config::Cors`].
#[derive(Debug)]
pub struct Cors {
    origins: Origins,
    headers: Box<[(&'static str, Box<str>)]>,
}

#[derive(Debug)]
enum Origins {
    All,
    Listed(Box<[Pattern]>),
}

/// An origin, in two parts where one label of it is free.
#[derive(Debug)]
struct Pattern {
    before: Box<str>,
    after: Option<Box<str>>,
}

impl Cors {
    /// Compiles the setting, whose texts hold no control characters.
    pub fn compile(setting: config::Cors) -> Self {
        let config::Cors { origins, methods, headers, expose_headers, max_age, credentials } = setting;
        let pattern = |origin: &String| match origin.split_once('*') {
            Some((before, after)) => Pattern { before: before.into(), after: Some(after.into()) },
            None => Pattern { before: origin.as_str().into(), after: None },
        };
        let origins = match origins.as_slice() {
            [all] if all == "*" => Origins::All,
            listed => Origins::Listed(listed.iter().map(pattern).collect()),
        };
        let credentials = if credentials { "true" } else { "" };
        let headers = [
            ("access-control-allow-credentials", credentials.to_owned()),
            ("access-control-allow-methods", methods),
            ("access-control-allow-headers", headers),
            ("access-control-expose-headers", expose_headers),
            ("access-control-max-age", max_age),
        ];
        let set = headers.into_iter().filter(|(_, value)| !value.is_empty());
        Cors { origins, headers: set.map(|(name, value)| (name, value.into())).collect() }
    }

    /// What an allowed request is told in Access-Control-Allow-Origin; none where it is not allowed.
    fn allowed<'a>(&self, facts: &Facts<'a>) -> Option<Cow<'a, [u8]>> {
        match &self.origins {
            Origins::All => Some(Cow::Borrowed(b"*")),
            Origins::Listed(patterns) => {
                let origin = facts.request.joined_header("origin")?;
                patterns.iter().any(|pattern| pattern.matches(&origin)).then_some(origin)
            }
        }
    }

    /// The changes to each answer.
    pub fn edits<'a>(&'a self, facts: &Facts<'a>, edits: &mut Vec<Edit<'a>>) {
        let Some(origin) = self.allowed(facts) else { return };
        edits.push(Edit::Set(Cow::Borrowed("access-control-allow-origin"), origin));
        let line = |(name, value): &'a (&'static str, Box<str>)| {
            Edit::Set(Cow::Borrowed(*name), Cow::Borrowed(value.as_bytes()))
        };
        edits.extend(self.headers.iter().map(line));
    }

    /// The answer to a request that does not go on; without the headers that every answer gets.
    pub fn preflight(&self, facts: &Facts<'_>) -> Option<Reply<'static>> {
        if facts.request.method() != b"OPTIONS" || self.allowed(facts).is_none() {
            return None;
        }
        let text = Cow::Borrowed(&b"text/plain charset=UTF-8"[..]);
        let headers = vec![("content-type".into(), text)];
        Some(Reply { headers, ..reply::empty(204, "cors_preflight") })
    }
}

impl Pattern {
    /// Without case, as nginx's `~*`; what is free is letters, digits and hyphens.
    fn matches(&self, origin: &[u8]) -> bool {
        let Some((start, rest)) = origin.split_at_checked(self.before.len()) else { return false };
        if !start.eq_ignore_ascii_case(self.before.as_bytes()) {
            return false;
        }
        let Some(after) = &self.after else { return rest.is_empty() };
        let length = rest.len().saturating_sub(after.len());
        let Some((free, end)) = rest.split_at_checked(length) else { return false };
        !free.is_empty()
            && free.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && end.eq_ignore_ascii_case(after.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use crate::config::from_slice;
    use crate::decision::{Connection, Decision, HeaderLine, RequestView, Scheme, apply_edits};
    use crate::policy::{State, decide};
    use crate::router::compile;

    /// Status and CORS headers of an answer, names shortened; 200 stands for a backend.
    fn answer(policy: &str, method: &str, origin: Option<&str>) -> String {
        let config = format!(
            r#"{{"version":1,"policies":[{policy}],"hosts":[{{"name":"h","rules":[
            {{"ingress":"n/i","path":"/","policies":0,"action":{{"forward":{{"cluster":"c"}}}}}}]}}]}}"#
        );
        let table = compile(from_slice(config.as_bytes()).expect(&config)).expect(&config);
        let mut lines: Vec<HeaderLine<'_>> =
            vec![(b":method", method.as_bytes()), (b":path", b"/"), (b":authority", b"h")];
        lines.extend(origin.map(|origin| (&b"origin"[..], origin.as_bytes())));
        let connection = Connection { scheme: Scheme::Http, port: 80, peer: b"10.0.0.1" };
        let request = RequestView { headers: &lines, connection, now_ms: 0, random: 0 };
        let decision = decide(&table, &request, &mut State::new([0; 32]));
        let none: [HeaderLine<'_>; 0] = [];
        let (status, headers) = match &decision {
            Decision::Forward(forward) => {
                let lines = apply_edits(&none, &forward.on_response);
                (200, lines.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect::<Vec<_>>())
            }
            Decision::Reply(reply) => {
                let lines = reply.headers.iter();
                (reply.status, lines.map(|(n, v)| (n.as_bytes().to_vec(), v.to_vec())).collect())
            }
            Decision::Ask(callout) => panic!("{callout:?}"),
            Decision::Count(count) => panic!("{count:?}"),
        };
        let shown = headers.iter().filter_map(|(name, value)| {
            let name = std::str::from_utf8(name).expect("UTF-8").strip_prefix("access-control-")?;
            Some(format!(" {name}={}", String::from_utf8_lossy(value)))
        });
        format!("{status}{}", shown.collect::<String>())
    }

    #[test]
    fn which_origins_are_allowed() {
        let list = r#"["https://a.example","http://*.b.example:81","null","tauri://localhost"]"#;
        let cases = [
            (r#"["*"]"#, None, "*"),
            (r#"["*"]"#, Some("https://x"), "*"),
            (list, None, ""),
            (list, Some(""), ""),
            (list, Some("https://a.example"), "https://a.example"),
            (list, Some("HTTPS://A.example"), "HTTPS://A.example"),
            (list, Some("https://a.example:443"), ""),
            (list, Some("xhttps://a.example"), ""),
            (list, Some("https://a.example, https://a.example"), ""),
            (list, Some("http://x-1.b.example:81"), "http://x-1.b.example:81"),
            (list, Some("http://x.y.b.example:81"), ""),
            (list, Some("http://.b.example:81"), ""),
            (list, Some("http://b.example:81"), ""),
            (list, Some("http://x.b.example:812"), ""),
            (list, Some("http://evil/.b.example:81"), ""),
            (list, Some("null"), "null"),
            (list, Some("tauri://localhost"), "tauri://localhost"),
        ];
        for (origins, origin, expected) in cases {
            let policy =
                format!(r#"{{"cors":{{"origins":{origins},"methods":"","headers":"","maxAge":""}}}}"#);
            let header =
                if expected.is_empty() { String::new() } else { format!(" allow-origin={expected}") };
            assert_eq!(answer(&policy, "GET", origin), format!("200{header}"), "{origins} {origin:?}");
            let status = if expected.is_empty() { 200 } else { 204 };
            assert_eq!(
                answer(&policy, "OPTIONS", origin),
                format!("{status}{header}"),
                "{origins} {origin:?}"
            );
        }
    }

    #[test]
    fn which_answers_have_the_headers() {
        let cors = r#""cors":{"origins":["https://a"],"methods":"GET, PUT","headers":"X-A","exposeHeaders":"X-B",
            "credentials":true,"maxAge":"5"}"#;
        let all = " allow-origin=https://a allow-credentials=true allow-methods=GET, PUT allow-headers=X-A \
                   expose-headers=X-B max-age=5";
        let cases = [
            ("", "GET", format!("200{all}")),
            ("", "OPTIONS", format!("204{all}")),
            (r#","redirect":{"url":"/x","status":302}"#, "OPTIONS", format!("204{all}")),
            (r#","redirect":{"url":"/x","status":302}"#, "GET", format!("302{all}")),
            (r#","tlsRedirect":{"always":true}"#, "GET", format!("308{all}")),
            (r#","denied":"why""#, "OPTIONS", "503".to_owned()),
        ];
        for (more, method, expected) in cases {
            let policy = format!("{{{cors}{more}}}");
            assert_eq!(answer(&policy, method, Some("https://a")), expected, "{method} {more}");
        }
        assert_eq!(answer(&format!("{{{cors}}}"), "OPTIONS", Some("https://b")), "200");
    }
}
