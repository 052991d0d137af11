//! The command `ingress-wasm`.

fn main() {}
