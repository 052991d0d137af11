//! Whatever stands in a manifest, the configuration that comes of it is read and compiles.
#![no_main]

use std::sync::Arc;

use ingress_wasm::config::from_slice;
use ingress_wasm::router::compile;
use ingress_wasm_translate::objects::Snapshot;
use ingress_wasm_translate::output::Options;
use ingress_wasm_translate::{manifest, translate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let file: Arc<str> = "fuzz.yaml".into();
    let mut snapshot = Snapshot::default();
    manifest::merge_into(&mut snapshot, manifest::read(&file, text).objects);
    let config = translate(&snapshot, &Options::default()).config;
    let written = serde_json::to_vec(&config).expect("it is written");
    assert_eq!(from_slice(&written).expect("it is read"), config);
    if let Err(error) = compile(config) {
        panic!("{error}");
    }
});
