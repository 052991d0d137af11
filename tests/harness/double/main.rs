//! The API server's double as a process: for benches, and for trying the controller without a cluster.
//!
//!     apiserver-double [--listen ADDRESS:PORT] [--control ADDRESS:PORT] [--kubeconfig FILE] [MANIFEST…]
//!
//! Prints `ready api=URL control=URL` when it answers and ends on SIGTERM or SIGINT. What the control address
//! understands stands at the head of `tests/harness/src/apiserver/control.rs`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use ingress_wasm_tests::apiserver::{ApiServer, Settings};
use tokio::signal::unix::{SignalKind, signal};

struct Arguments {
    listen: SocketAddr,
    control: SocketAddr,
    kubeconfig: Option<PathBuf>,
    manifests: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("apiserver-double: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut arguments = Arguments { listen: free, control: free, kubeconfig: None, manifests: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if !word.starts_with("--") {
            arguments.manifests.push(word.into());
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let address = || value.parse().map_err(|_| format!("{word}: {value} is no ADDRESS:PORT"));
        match word.as_str() {
            "--listen" => arguments.listen = address()?,
            "--control" => arguments.control = address()?,
            "--kubeconfig" => arguments.kubeconfig = Some(value.into()),
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    Ok(arguments)
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let settings = Settings { address: arguments.listen, ..Settings::default() };
    let server = ApiServer::start_with(settings)
        .map_err(|error| format!("cannot listen on {}: {error}", arguments.listen))?;
    let control = server
        .control(arguments.control)
        .map_err(|error| format!("cannot listen on {}: {error}", arguments.control))?;
    for path in &arguments.manifests {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        text.and_then(|text| server.apply(&text)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some(path) = &arguments.kubeconfig {
        server.write_kubeconfig(path, "double").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    println!("ready api={} control=http://{control}", server.url());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let cannot = |error: std::io::Error| format!("cannot listen for signals: {error}");
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
