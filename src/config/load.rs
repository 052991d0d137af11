//! Reads a plugin configuration and says where it is at fault.

use std::fmt;

use serde::Deserialize;

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

/// Reads the JSON form of a [`PluginConfig`].
///
/// # Errors
///
/// [`ConfigError`], with the JSON path of the fault. The version is looked at first, so that a document for
/// a later version is not reported as one with unknown fields.
pub fn from_slice(bytes: &[u8]) -> Result<PluginConfig, ConfigError> {
    /// The one field that every version has.
    #[derive(Deserialize)]
    struct Version {
        version: Option<u64>,
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, PluginConfig>(&mut deserializer) {
        Ok(config) => {
            deserializer
                .end()
                .map_err(|error| ConfigError::Malformed { path: String::new(), reason: error.to_string() })?;
            if config.version == SCHEMA_VERSION {
                Ok(config)
            } else {
                Err(ConfigError::UnknownVersion { found: u64::from(config.version) })
            }
        }
        Err(error) => {
            if let Ok(Version { version: Some(found) }) = serde_json::from_slice(bytes)
                && found != u64::from(SCHEMA_VERSION)
            {
                return Err(ConfigError::UnknownVersion { found });
            }
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            Err(ConfigError::Malformed { path, reason: error.into_inner().to_string() })
        }
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
            ("", "plugin configuration at .: EOF while parsing a value at line 1 column 0"),
            ("{}", "plugin configuration at .: missing field `version` at line 1 column 2"),
            (r#"{"version":2}"#, "version 2 is not understood, this filter reads version 1"),
            (r#"{"version":2,"future":true}"#, "version 2 is not understood"),
            (r#"{"version":1,"hosst":[]}"#, "at hosst: unknown field `hosst`"),
            (r#"{"version":1,"hosts":[{"name":"a","rules":[{"path":3}]}]}"#, "at hosts[0].rules[0].path: invalid type"),
            (
                r#"{"version":1,"hosts":[{"name":"a","rules":[{"ingress":"n/i","path":"/","policies":0,
                    "action":{"type":"forward"}}]}]}"#,
                "at hosts[0].rules[0].action: missing field `cluster`",
            ),
            (r#"{"version":1} x"#, "trailing characters"),
            (r#"{"version":1,"policies":[{"maxBodyBytes":-1}]}"#, "at policies[0].maxBodyBytes: invalid value"),
        ];
        for (input, expected) in cases {
            let error = from_slice(input.as_bytes()).expect_err(input).to_string();
            assert!(error.contains(expected), "{input}: {error}");
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let text = r#"{"version":1,"generation":"g","hosts":[{"name":"a.example","rules":[{"ingress":"n/i",
            "path":"/","policies":0,"action":{"type":"forward","cluster":"n/s:80","service":"n/s:80"}}]}],
            "policies":[{"rewrite":{"type":"path","target":"/$1","forwardedPrefix":"/x"},"maxBodyBytes":1048576}]}"#;
        let config = from_slice(text.as_bytes()).expect("reads");
        let written = serde_json::to_vec(&config).expect("writes");
        assert_eq!(from_slice(&written).expect("reads again"), config);
    }

    #[test]
    fn credentials_are_not_shown() {
        let config = from_slice(br#"{"version":1,"credentials":{"n/s":{"users":{"u":"secret-hash"}}}}"#).expect("reads");
        assert!(!format!("{config:?}").contains("secret"));
    }
}
