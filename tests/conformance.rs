//! Runs the cases of `tests/conformance` on every engine, one named test per case and engine.
//!
//!     cargo test -p ingress-wasm-tests --test conformance                      all
//!     cargo test -p ingress-wasm-tests --test conformance -- decide::          in process: fast, no Envoy
//!     cargo test -p ingress-wasm-tests --test conformance -- envoy::k8s-path   by name
//!
//! `INGRESS_WASM_CASES` names another file or folder of cases, `INGRESS_WASM_BIN` another binary,
//! `INGRESS_WASM_KEEP` keeps the manifests that were served.

use std::process::ExitCode;
use std::sync::Arc;

use ingress_wasm_tests::decide_engine::DecideEngine;
use ingress_wasm_tests::envoy_engine::EnvoyEngine;
use ingress_wasm_tests::istio::IstioEngine;
use ingress_wasm_tests::{product, runner};

fn main() -> ExitCode {
    let envoy = EnvoyEngine::new(product::binary());
    let istio = IstioEngine::new(product::binary());
    runner::main(vec![Arc::new(DecideEngine), Arc::new(envoy), Arc::new(istio)]).exit_code()
}
