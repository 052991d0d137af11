//! Reads a plugin configuration and says where it is at fault.

use std::fmt;

use super::json::{Reader, version};
use super::packed::unpack;
use super::read::FromJson;
use super::{PluginConfig, SCHEMA_VERSION};

/// Why a configuration is refused as a whole. The previous one keeps serving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// Not JSON, a field that is unknown or missing, or a value of the wrong type.
    Malformed {
        /// Where, in the form `hosts[3].rules[0].action`; empty for the document as a whole.
        path: String,
        /// What is wrong there, with line and column.
        reason: String,
    },
    /// Written for another version of the contract.
    UnknownVersion {
        /// The version found.
        found: u64,
    },
    /// Well-formed, but refers to something that is not there or breaks a rule between fields.
    Inconsistent {
        /// Where, as above.
        path: String,
        /// What is wrong there.
        reason: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Malformed { path, reason } | ConfigError::Inconsistent { path, reason } => {
                let path = if path.is_empty() { "." } else { path };
                write!(formatter, "plugin configuration at {path}: {reason}")
            }
            ConfigError::UnknownVersion { found } => write!(
                formatter,
                "plugin configuration at version: version {found} is not understood, this filter reads version \
                 {SCHEMA_VERSION}"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads the JSON form of a [`PluginConfig`], which may be compressed: `{"version":1,"compressed":"…"}`, with that
/// form in base64 after DEFLATE (RFC 1951).
///
/// # Errors
///
/// [`ConfigError`], with the JSON path of the fault. A document for another version is reported as such
/// and not as one with unknown fields.
pub fn from_slice(bytes: &[u8]) -> Result<PluginConfig, ConfigError> {
    match unpack(bytes)? {
        Some(unpacked) => read(&unpacked),
        None => read(bytes),
    }
}

fn read(bytes: &[u8]) -> Result<PluginConfig, ConfigError> {
    let mut reader = Reader::new(bytes);
    let read = PluginConfig::from_json(&mut reader).and_then(|config| reader.end().map(|()| config));
    match read {
        Ok(config) if config.version == SCHEMA_VERSION => Ok(config),
        Ok(config) => Err(ConfigError::UnknownVersion { found: u64::from(config.version) }),
        Err(error) => match version(bytes) {
            Some(found) if found != u64::from(SCHEMA_VERSION) => Err(ConfigError::UnknownVersion { found }),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn refuses_with_the_path_of_the_fault() {
        let cases = [
            ("", "plugin configuration at .: unexpected end at line 1 column 0"),
            ("{}", "plugin configuration at .: missing field `version` at line 1 column 2"),
            ("[1]", "at .: expected an object"),
            (r#"{"version":01}"#, "at version: a number begins with no zero at line 1 column 12"),
            (r#"{"version":2}"#, "version 2 is not understood, this filter reads version 1"),
            (r#"{"future":{"a":[1,{"b":"}"}]},"version":2,"#, "version 2 is not understood"),
            (r#"{"version":1,"hosst":[]}"#, "at hosst: unknown field at line 1 column 21"),
            (
                r#"{"version":1,"hosts":[{"name":"a","rules":[{"path":3}]}]}"#,
                "at hosts[0].rules[0].path: expected a string",
            ),
            (
                r#"{"version":1,"hosts":[{"name":"a","rules":[{"ingress":"n/i","path":"/","policies":0,
                    "action":{"forward":{}}}]}]}"#,
                "at hosts[0].rules[0].action.forward: missing field `cluster` at line 2",
            ),
            (r#"{"version":1,"hosts":[{"name":"a","name":"b"}]}"#, "at hosts[0].name: the field stands here"),
            (
                r#"{"version":1,"hosts":[{"name":"a"},{"name":"b","pathMatching":"x"}]}"#,
                "at hosts[1].pathMatching: expected `elements`",
            ),
            (r#"{"version":1,"policies":[{"rewrite":{}}]}"#, "at policies[0].rewrite: none of the kinds"),
            (r#"{"version":1} x"#, "trailing characters"),
            (
                r#"{"version":1,"policies":[{"maxBodyBytes":-1}]}"#,
                "at policies[0].maxBodyBytes: expected a whole number",
            ),
            (
                r#"{"version":1,"policies":[{"maxBodyBytes":1.5}]}"#,
                "at policies[0].maxBodyBytes: expected a whole number",
            ),
            (
                r#"{"version":1,"policies":[{"maxBodyBytes":99999999999999999999}]}"#,
                "the number is too large",
            ),
            (r#"{"version":1,"generation":"\ud800x"}"#, "at generation: invalid escape"),
            ("{\"version\":1,\"generation\":\"a\nb\"}", "at generation: control character in a string"),
            (r#"{"version":1,"hosts":[{"name":"a"}}"#, "at hosts: expected `,` or `]`"),
        ];
        for (input, expected) in cases {
            let error = from_slice(input.as_bytes()).expect_err(input).to_string();
            assert!(error.contains(expected), "{input}: {error}");
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let text = r#"{"version":1,"generation":"g","hosts":[{"name":"a.example","rules":[{"ingress":"n/i",
            "path":"/","policies":0,"action":{"forward":{"cluster":"n/s:80","service":"n/s:80"}}}]}],
            "policies":[{"rewrite":{"path":{"target":"/$1","forwardedPrefix":"/x"}},"maxBodyBytes":1048576}]}"#;
        let config = from_slice(text.as_bytes()).expect("reads");
        let written = serde_json::to_vec(&config).expect("writes");
        assert_eq!(from_slice(&written).expect("reads again"), config);
    }

    /// The own reader and serde's take the same text for the same configuration, every field of it.
    #[test]
    fn both_readers_agree() {
        let text = r#"{"version":1,"generation":"g\u00e4\ud83d\ude00\n\"\\","global":{"connectionHeader":true,
            "forwarded":{"trustHeaders":true,"trustedProxies":["10.0.0.0/8"],"addressHeader":"X-A","append":true},
            "requestHeaders":[{"set":{"name":"a","value":"b"}},{"add":{"name":"c","value":"d"}},{"remove":{"name":"e"}}],
            "responseHeaders":[{"set":{"name":"f","value":"g"}}],"underscoresInHeaders":true,"redirectStatus":301,
            "hsts":"max-age=1"},
            "credentials":{"n/s":{"users":{"u":"h","v":"i"}}},"apiKeys":{"n/k":{"users":{"c":"00"}}},
            "policies":[{"denied":"why","maxBodyBytes":18446744073709551615,"basicAuth":{"realm":"r","credentials":"n/s"},"apiKey":{"keys":"n/k","header":"h","parameter":"p","clientHeader":"c","forward":true},
            "rewrite":{"path":{"target":"/$1","forwardedPrefix":"/x"}},"originalUriHeader":true,
            "requestHeaders":[{"remove":{"name":"e"}}],"responseHeaders":[{"remove":{"name":"f"}}],"routeProfile":"p","mirror":{"cluster":"c","target":"$request_uri"}},
            {"rewrite":{"prefix":{"target":"/"}},"basicAuth":{"credentials":"n/s"}},{"redirect":{"url":"/u","status":302},
            "relativeRedirects":true,"tlsRedirect":{"always":true,"preserveTrailingSlash":true}},{"tlsRedirect":{},"locationRewrite":{"from":"a","to":"b"},
            "cookieDomainRewrite":{"from":"c","to":"d"},"cookiePathRewrite":{"from":"e","to":"f"}}],
            "hosts":[{"name":"a","pathMatching":"expressions","appRoot":"/r","tls":true,"aliases":[{"name":"~b"},
            {"name":"c","tls":true}],"redirectTo":"d","rules":[{"ingress":"n/i","path":"/",
            "pathType":"Exact","policies":0,"action":{"forward":{"cluster":"c","service":"s"}}},{"ingress":"n/i","path":"/b",
            "policies":1,"action":{"respond":{"status":503,"reason":"w"}}},{"ingress":"n/i","path":"/c",
            "policies":1,"action":{"forward":{"cluster":"c","balancing":0}}}]},{"name":"*"}],
            "balancing":[{"canary":{"ingress":"n/c","service":"n/d:80","cluster":"d","header":"x","headerValue":"y",
            "headerPattern":"z","cookie":"k","weight":3,"weightTotal":10,"affinity":{"cookie":"s","key":"1"},
            "hashBy":{"value":"$host"}},"affinity":{"cookie":"s","key":"2","setsCookie":true,"path":"/","domain":"d",
            "expires":1,"maxAge":2,"secure":true,"sameSite":"None","conditionalSameSiteNone":true},
            "hashBy":{"value":"$uri","subsets":["c#1","c#2"]}},{}]}"#;
        let own = from_slice(text.as_bytes()).expect("the own reader reads");
        let serdes: PluginConfig = serde_json::from_str(text).expect("serde reads");
        assert_eq!(own, serdes);
        let written = serde_json::to_string(&own).expect("writes");
        assert_eq!(from_slice(written.as_bytes()).expect("reads what serde writes"), own);
    }

    #[cfg(not(target_family = "wasm"))]
    #[test]
    fn compressed_configurations() {
        use base64::Engine;
        let pack = |text: &str| {
            let packed = miniz_oxide::deflate::compress_to_vec(text.as_bytes(), 6);
            base64::engine::general_purpose::STANDARD.encode(packed)
        };
        let plain = r#"{"version":1,"generation":"g","hosts":[{"name":"a"}]}"#;
        let expected = from_slice(plain.as_bytes()).expect("reads");
        for form in [
            format!(r#"{{"version":1,"compressed":"{}"}}"#, pack(plain)),
            format!(" {{\"compressed\": \"{}\", \"version\": 1}}\n", pack(plain)),
        ] {
            assert_eq!(from_slice(form.as_bytes()).as_ref(), Ok(&expected), "{form}");
        }
        let refused = [
            (
                format!(r#"{{"version":1,"compressed":"{}"}}"#, pack("{\"version\":2}")),
                "version 2 is not understood",
            ),
            (format!(r#"{{"version":2,"compressed":"{}"}}"#, pack(plain)), "version 2 is not understood"),
            (format!(r#"{{"version":1,"compressed":"{}"}}"#, pack("{}")), "missing field `version`"),
            (r#"{"version":1,"compressed":"?"}"#.to_owned(), "at compressed: not base64"),
            (r#"{"version":1,"compressed":"AAAA"}"#.to_owned(), "at compressed: cannot be decompressed"),
            (r#"{"version":1,"compressed":"","hosts":[]}"#.to_owned(), "at compressed: unknown field"),
        ];
        for (form, expected) in refused {
            let error = from_slice(form.as_bytes()).expect_err(&form).to_string();
            assert!(error.contains(expected), "{form}: {error}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let config = from_slice(br#"{"version":1,"credentials":{"n/s":{"users":{"u":"secret-hash"}}}}"#)
            .expect("reads");
        assert!(!format!("{config:?}").contains("secret"));
    }
}
