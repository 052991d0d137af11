//! The object that has the gateway load the filter: a WasmPlugin, or the TrafficExtension of newer releases.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use ingress_wasm::config::{PluginConfig, SCHEMA_VERSION};
use serde_json::{Value, json};

use super::{IstioError, OBJECT_LIMIT, Settings};
use crate::envoy::FILTER;

/// Which object loads the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Api {
    /// WasmPlugin, which every release of Istio knows
    WasmPlugin,
    /// TrafficExtension, which takes its place in newer ones
    TrafficExtension,
}

/// The module, and how the gateway gets it.
#[derive(Debug, Clone)]
pub struct Module {
    /// `oci://…`, `https://…` or `file://…`.
    pub url: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: Option<String>,
    /// Whether one that is there already is used.
    pub pull_policy: Option<PullPolicy>,
    /// The Secret to pull with, in the namespace of the gateway.
    pub pull_secret: Option<String>,
}

/// Whether a module that was pulled before is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    /// It is
    IfNotPresent,
    /// It is pulled again with each change
    Always,
}

/// Where the filter stands among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// Last, just before the router
    Unspecified,
    /// Before Istio's authentication
    Authn,
    /// Between Istio's authentication and authorization
    Authz,
    /// Between Istio's authorization and statistics
    Stats,
}

/// What happens when the filter cannot run. It never fails open: it carries authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailStrategy {
    /// After a crash it is started anew; requests fail until then
    FailReload,
    /// Requests fail; for releases of Istio that do not know the other
    FailClose,
}

/// Up to this size the configuration is written as it is, so that people can read it.
const READABLE: usize = 100_000;

/// The object.
pub(super) fn plugin(config: &PluginConfig, settings: &Settings) -> Result<Value, IstioError> {
    let Settings { selector, module, api, .. } = settings;
    let mut wasm = json!({
        "url": module.url,
        "pluginName": FILTER,
        "pluginConfig": plugin_config(config)?,
        "failStrategy": match settings.fail_strategy {
            FailStrategy::FailReload => "FAIL_RELOAD",
            FailStrategy::FailClose => "FAIL_CLOSE",
        },
    });
    if let Some(sha256) = &module.sha256 {
        wasm["sha256"] = sha256.as_str().into();
    }
    match module.pull_policy {
        None => {}
        Some(PullPolicy::IfNotPresent) => wasm["imagePullPolicy"] = "IfNotPresent".into(),
        Some(PullPolicy::Always) => wasm["imagePullPolicy"] = "Always".into(),
    }
    if let Some(secret) = &module.pull_secret {
        wasm["imagePullSecret"] = secret.as_str().into();
    }
    let mut place = json!({"selector": {"matchLabels": selector}});
    match settings.phase {
        Phase::Unspecified => {}
        Phase::Authn => place["phase"] = "AUTHN".into(),
        Phase::Authz => place["phase"] = "AUTHZ".into(),
        Phase::Stats => place["phase"] = "STATS".into(),
    }
    if let Some(priority) = settings.priority {
        place["priority"] = priority.into();
    }
    let (kind, spec) = match api {
        Api::WasmPlugin => {
            if let (Some(all), Some(wasm)) = (place.as_object_mut(), wasm.as_object_mut()) {
                all.append(wasm);
            }
            ("WasmPlugin", place)
        }
        Api::TrafficExtension => {
            place["wasm"] = wasm;
            ("TrafficExtension", place)
        }
    };
    Ok(settings.object("extensions.istio.io/v1alpha1", kind, "", spec))
}

/// The configuration; compressed where it is large, or where a number in it would not come through: istiod reads
/// numbers as ones with a binary point.
fn plugin_config(config: &PluginConfig) -> Result<Value, IstioError> {
    let plain = serde_json::to_value(config)?;
    let text = plain.to_string();
    if text.len() <= READABLE && comes_through(&plain) {
        return Ok(plain);
    }
    let compressed = STANDARD.encode(miniz_oxide::deflate::compress_to_vec(text.as_bytes(), 9));
    if compressed.len() > OBJECT_LIMIT {
        return Err(IstioError::TooLarge { size: compressed.len(), limit: OBJECT_LIMIT });
    }
    Ok(json!({"version": SCHEMA_VERSION, "compressed": compressed}))
}

fn comes_through(value: &Value) -> bool {
    /// From here on not every whole number has a form with a binary point.
    const EXACT: u64 = 1 << 53;
    match value {
        Value::Number(number) => number.as_u64().is_some_and(|number| number <= EXACT),
        Value::Array(values) => values.iter().all(comes_through),
        Value::Object(fields) => fields.values().all(comes_through),
        _ => true,
    }
}
