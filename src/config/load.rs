//! Reads a plugin configuration and says where it is at fault.

use std::fmt;

use serde::Deserialize;

use super::{PluginConfig, SCHEMA_VERSION, json_path};

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
/// [`ConfigError`], with the JSON path of the fault. A document for another version is reported as such
/// and not as one with unknown fields.
pub fn from_slice(bytes: &[u8]) -> Result<PluginConfig, ConfigError> {
    /// The one field that every version has.
    #[derive(Deserialize)]
    struct Version {
        version: Option<u64>,
    }
    match serde_json::from_slice::<PluginConfig>(bytes) {
        Ok(config) if config.version == SCHEMA_VERSION => Ok(config),
        Ok(config) => Err(ConfigError::UnknownVersion { found: u64::from(config.version) }),
        Err(error) => match serde_json::from_slice(bytes) {
            Ok(Version { version: Some(found) }) if found != u64::from(SCHEMA_VERSION) => {
                Err(ConfigError::UnknownVersion { found })
            }
            _ => {
                let path = json_path::at(bytes, error.line(), error.column());
                Err(ConfigError::Malformed { path, reason: error.to_string() })
            }
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
            ("", "plugin configuration at .: EOF while parsing a value at line 1 column 0"),
            ("{}", "plugin configuration at .: missing field `version` at line 1 column 2"),
            (r#"{"version":2}"#, "version 2 is not understood, this filter reads version 1"),
            (r#"{"version":2,"future":true}"#, "version 2 is not understood"),
            (r#"{"version":1,"hosst":[]}"#, "at hosst: unknown field `hosst`"),
            (
                r#"{"version":1,"hosts":[{"name":"a","rules":[{"path":3}]}]}"#,
                "at hosts[0].rules[0].path: invalid type",
            ),
            (
                r#"{"version":1,"hosts":[{"name":"a","rules":[{"ingress":"n/i","path":"/","policies":0,
                    "action":{"forward":{}}}]}]}"#,
                "at hosts[0].rules[0].action.forward: missing field `cluster`",
            ),
            (r#"{"version":1} x"#, "trailing characters"),
            (
                r#"{"version":1,"policies":[{"maxBodyBytes":-1}]}"#,
                "at policies[0].maxBodyBytes: invalid value",
            ),
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

    #[test]
    fn credentials_are_not_shown() {
        let config = from_slice(br#"{"version":1,"credentials":{"n/s":{"users":{"u":"secret-hash"}}}}"#)
            .expect("reads");
        assert!(!format!("{config:?}").contains("secret"));
    }
}
