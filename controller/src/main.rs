//! The command `ingress-wasm`.

fn main() -> std::process::ExitCode {
    ingress_wasm_controller::cli::main()
}
