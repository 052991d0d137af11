//! A configuration is read as a plain JSON reader reads it, or refused; and compiled, or refused.
#![no_main]

use ingress_wasm::config::{PluginConfig, from_slice};
use ingress_wasm::router::{Scratch, compile, select};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = from_slice(bytes) else { return };
    let plain = serde_json::from_slice::<PluginConfig>(bytes).expect("a plain reader takes it too");
    assert_eq!(config, plain);
    let written = serde_json::to_vec(&config).expect("it is written");
    assert_eq!(from_slice(&written).expect("it is read again"), config);
    if let Ok(table) = compile(config) {
        // Paths are indexed when they are first asked for.
        for host in table.hosts() {
            select(&table, host.name.replace('*', "a").as_bytes(), b"/a/b", &mut Scratch::default());
        }
    }
});
