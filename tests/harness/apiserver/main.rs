//! The double of an API server as a program: `apiserver-double [--port PORT] [--kubeconfig FILE] [MANIFEST…]`.
//!
//! It prints `ready ADDRESS` and serves until it is ended. `POST /double/…` makes it fail; see
//! `tests/harness/src/apiserver/serve.rs`.

use std::process::ExitCode;

use ingress_wasm_tests::apiserver::{ApiServer, kubeconfig};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let (mut port, mut config, mut files) = (0, None, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--port" => port = value()?.parse().map_err(|error| format!("--port: {error}"))?,
            "--kubeconfig" => config = Some(value()?),
            file => files.push(file.to_owned()),
        }
    }
    let server = ApiServer::start(port).map_err(|error| error.to_string())?;
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        server.apply(&text).map_err(|error| format!("{file}: {error}"))?;
    }
    if let Some(path) = config {
        std::fs::write(&path, kubeconfig(server.address())).map_err(|error| format!("{path}: {error}"))?;
    }
    println!("ready {}", server.address());
    loop {
        std::thread::park();
    }
}
