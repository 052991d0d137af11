//! The filter module that this binary carries, and which build it is.
//!
//! Deliberately knows nothing of how Envoy loads it.

/// The WebAssembly module, as Envoy loads it.
pub static MODULE: &[u8] = include_bytes!(env!("INGRESS_WASM_MODULE_PATH"));

/// Version of the filter and of this binary: they are built together.
pub const VERSION: &str = ingress_wasm::VERSION;

/// The commit both were built from; `unknown` where the build could not tell.
pub const COMMIT: &str = ingress_wasm::COMMIT;

/// Version of the plugin configuration that the filter reads.
pub const SCHEMA_VERSION: u32 = ingress_wasm::config::SCHEMA_VERSION;

#[cfg(test)]
mod tests {
    #[test]
    fn the_module_is_one() {
        assert!(super::MODULE.starts_with(b"\0asm\x01\0\0\0"), "{:?}", super::MODULE.get(..8));
    }
}
