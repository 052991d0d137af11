//! The filter as Envoy is told of it.

use std::path::Path;
use std::time::Duration;

use super::names::FILTER;
use super::pb::{Any, StringValue, boolean, core, duration, http_wasm, pack_any, wasm};

/// How soon a worker's VM that crashed is started anew. Envoy waits a second unless told otherwise, and
/// every request of the worker fails until then.
const RELOAD_AFTER: Duration = Duration::from_millis(100);

/// The filter with this plugin configuration (JSON), its module read from a file.
pub(super) fn filter_config(module: &Path, configuration: &str) -> Any {
    let code = core::AsyncDataSource {
        specifier: Some(core::async_data_source::Specifier::Local(core::DataSource {
            specifier: Some(core::data_source::Specifier::Filename(module.to_string_lossy().into_owned())),
            ..core::DataSource::default()
        })),
    };
    let vm = wasm::VmConfig {
        vm_id: FILTER.to_owned(),
        runtime: "envoy.wasm.runtime.v8".to_owned(),
        code: Some(code),
        allow_precompiled: true,
        ..wasm::VmConfig::default()
    };
    pack_any(http_wasm::Wasm {
        config: Some(wasm::PluginConfig {
            name: FILTER.to_owned(),
            root_id: FILTER.to_owned(),
            vm: Some(wasm::plugin_config::Vm::VmConfig(vm)),
            configuration: Some(pack_any(StringValue { value: configuration.to_owned() })),
            failure_policy: wasm::FailurePolicy::FailReload.into(),
            reload_config: Some(wasm::ReloadConfig {
                backoff: Some(core::BackoffStrategy {
                    base_interval: duration(RELOAD_AFTER),
                    max_interval: duration(RELOAD_AFTER * 10),
                }),
            }),
            // A request that waits for a service stops as a whole: its body comes when it goes on.
            allow_on_headers_stop_iteration: boolean(false),
            ..wasm::PluginConfig::default()
        }),
    })
}
