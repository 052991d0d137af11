//! What the command line says of the gateway of a mesh.

use std::collections::BTreeMap;

use clap::Args;

use crate::istio::{Api, FailStrategy, Module, Phase, PullPolicy, Settings};

/// Where the gateway is and how it gets the filter (with `--output istio`).
#[derive(Debug, Args)]
#[command(next_help_heading = "Istio")]
pub struct IstioArgs {
    /// The namespace of the gateway's pods; all objects go there
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-ingress", value_parser = label)]
    istio_namespace: String,
    /// The name of the objects, and the beginning of it where there are several of a kind
    #[arg(long, value_name = "NAME", default_value = "ingress-wasm", value_parser = label)]
    istio_name: String,
    /// A label of the gateway's pods; may be repeated
    #[arg(long, value_name = "KEY=VALUE", default_values = ["istio=ingress"], value_parser = pair)]
    istio_selector: Vec<(String, String)>,
    /// The port of the gateway's Service for plain HTTP
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    istio_http_port: u16,
    /// The port of the gateway's Service for TLS
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    istio_https_port: u16,
    /// The revision of the control plane that is to take the objects; by default all do
    #[arg(long, value_name = "NAME")]
    istio_revision: Option<String>,
    /// An expression for the versions of proxies that get the patches, as '^1\.(2[6-9]|3)'; by default all do
    #[arg(long, value_name = "REGEX")]
    istio_proxy_version: Option<String>,
    /// The object that loads the filter
    #[arg(long, value_enum, default_value_t = Api::WasmPlugin)]
    istio_api: Api,
    /// Where the gateway gets the module: oci://…, https://… or file://…
    #[arg(long, value_name = "URL", default_value = concat!("oci://ghcr.io/ingress-wasm/filter:", env!("CARGO_PKG_VERSION")))]
    istio_module: String,
    /// The SHA-256 of the module, or of the image
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    istio_module_sha256: Option<String>,
    /// Whether a module that was pulled before is used; by default it is, unless its tag is `latest`
    #[arg(long, value_enum, value_name = "POLICY")]
    istio_pull_policy: Option<PullPolicy>,
    /// The Secret to pull the module with, in the namespace of the gateway
    #[arg(long, value_name = "NAME")]
    istio_pull_secret: Option<String>,
    /// Where the filter stands among others
    #[arg(long, value_enum, default_value_t = Phase::Unspecified)]
    istio_phase: Phase,
    /// Its place among those of the same phase: higher ones come first
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    istio_priority: Option<i32>,
    /// What happens when the filter cannot run
    #[arg(long, value_enum, default_value_t = FailStrategy::FailReload)]
    istio_fail_strategy: FailStrategy,
    /// Write VirtualServices that name all destinations, for an istiod with PILOT_FILTER_GATEWAY_CLUSTER_CONFIG
    #[arg(long)]
    istio_virtual_services: bool,
}

impl IstioArgs {
    /// What the objects are made with.
    pub fn settings(&self) -> Settings {
        Settings {
            namespace: self.istio_namespace.clone(),
            name: self.istio_name.clone(),
            selector: self.istio_selector.iter().cloned().collect::<BTreeMap<_, _>>(),
            http_port: self.istio_http_port,
            https_port: self.istio_https_port,
            revision: self.istio_revision.clone(),
            proxy_version: self.istio_proxy_version.clone(),
            api: self.istio_api,
            module: Module {
                url: self.istio_module.clone(),
                sha256: self.istio_module_sha256.clone(),
                pull_policy: self.istio_pull_policy,
                pull_secret: self.istio_pull_secret.clone(),
            },
            phase: self.istio_phase,
            priority: self.istio_priority,
            fail_strategy: self.istio_fail_strategy,
            virtual_services: self.istio_virtual_services,
            // Keys are not for files.
            copy_secrets: false,
        }
    }
}

/// A label of DNS: without dots, which istiod tells the parts of its own names apart by.
fn label(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("use lower-case letters, digits and `-`, at most 63".to_owned())
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

fn sha256(text: &str) -> Result<String, String> {
    let fits = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if fits { Ok(text.to_owned()) } else { Err("write it as 64 hexadecimal digits in lower case".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_dots() {
        for (text, fits) in [("ingress-wasm", true), ("a.b", false), ("A", false), ("-a", false), ("", false)]
        {
            assert_eq!(label(text).is_ok(), fits, "{text}");
        }
    }
}
