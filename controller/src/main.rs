//! The command `ingress-wasm`.

/// Translating makes and drops many small values; the system's allocator spends half of the time on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ingress_wasm_controller::cli::main()
}
