//! Builds what the binary carries inside: the filter module, and the descriptors of the Envoy messages that
//! it shows to people as JSON.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;

/// What the filter is compiled for.
const FILTER_TARGET: &str = "wasm32-wasip1";

/// The files whose messages may stand in a configuration that is written as JSON; what they import comes
/// with them.
const PROTO_ROOTS: &[&str] = &[
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/access_loggers/filters/cel/v3/cel.proto",
    "envoy/extensions/access_loggers/stream/v3/stream.proto",
    "envoy/extensions/compression/brotli/compressor/v3/brotli.proto",
    "envoy/extensions/compression/gzip/compressor/v3/gzip.proto",
    "envoy/extensions/filters/http/compressor/v3/compressor.proto",
    "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/filters/http/jwt_authn/v3/config.proto",
    "envoy/extensions/filters/http/lua/v3/lua.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/http/stateful_session/v3/stateful_session.proto",
    "envoy/extensions/filters/http/upstream_codec/v3/upstream_codec.proto",
    "envoy/extensions/filters/http/wasm/v3/wasm.proto",
    "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/http/stateful_session/header/v3/header.proto",
    "envoy/extensions/matching/common_inputs/network/v3/network_inputs.proto",
    "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.proto",
    "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/transport_sockets/tls/v3/secret.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "envoy/type/matcher/v3/http_inputs.proto",
    "google/protobuf/wrappers.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    descriptors(&out)?;
    filter(&out)
}

// === descriptors ===

/// Compiles the descriptors of [`PROTO_ROOTS`] from the files that the crate `envoy-types` ships, so that
/// types and descriptors are of one origin.
fn descriptors(out: &Path) -> Result<(), Box<dyn Error>> {
    let protos = envoy_types_source()?.join("proto");
    let includes: Vec<PathBuf> = fs::read_dir(&protos)
        .map_err(|error| format!("{}: {error}", protos.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    let set = protox::Compiler::new(includes)?
        .include_imports(true)
        .include_source_info(false)
        .open_files(PROTO_ROOTS)?
        .file_descriptor_set();
    fs::write(out.join("envoy.binpb"), set.encode_to_vec())?;
    Ok(())
}

/// Where cargo keeps the source of `envoy-types`.
fn envoy_types_source() -> Result<PathBuf, Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--filter-platform"])
        .arg(env::var("HOST")?)
        .current_dir(env::var("CARGO_MANIFEST_DIR")?)
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|package| package["name"] == "envoy-types")
        .find_map(|package| Path::new(package["manifest_path"].as_str()?).parent().map(Path::to_owned))
        .ok_or_else(|| "cargo metadata does not list envoy-types".into())
}

// === filter ===

/// Puts the filter module where `filter.rs` includes it from.
fn filter(out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=INGRESS_WASM_MODULE");
    let module = match env::var_os("INGRESS_WASM_MODULE").filter(|path| !path.is_empty()) {
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo::rerun-if-changed={}", path.display());
            path
        }
        None => build_filter(out)?,
    };
    let bytes = fs::read(&module).map_err(|error| format!("filter module {}: {error}", module.display()))?;
    if !bytes.starts_with(b"\0asm") {
        return Err(format!("{} is not a WebAssembly module", module.display()).into());
    }
    let included = out.join("ingress_wasm.wasm");
    fs::write(&included, bytes)?;
    println!("cargo::rustc-env=INGRESS_WASM_MODULE_PATH={}", included.display());
    Ok(())
}

/// Compiles the root package for Envoy with a cargo of its own and says where the module is.
fn build_filter(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?)
        .parent()
        .ok_or("the manifest directory has no parent")?
        .to_owned();
    for path in ["src", "Cargo.toml", "Cargo.lock", "build.rs"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    check_filter_target()?;
    let target = filter_target_dir(out);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--package",
            "ingress-wasm",
            "--lib",
            "--profile",
            "filter",
            "--target",
            FILTER_TARGET,
        ])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(&root);
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_the_outer_build(name)) {
        cargo.env_remove(name);
    }
    let output = cargo.output()?;
    if !output.status.success() {
        return Err(format!("cannot build the filter:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(target.join(FILTER_TARGET).join("filter").join("ingress_wasm.wasm"))
}

/// Refuses to go on without the standard library for the filter's target.
fn check_filter_target() -> Result<(), Box<dyn Error>> {
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--print", "target-libdir", "--target", FILTER_TARGET])
        .output()?;
    let libraries = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    Err(format!(
        "the Rust target {FILTER_TARGET} is not installed, which the filter is compiled for: run `rustup target \
         add {FILTER_TARGET}`, or name a module that is ready in INGRESS_WASM_MODULE"
    )
    .into())
}

/// `filter` in the target directory of this build, so that debug and release builds of the controller share
/// one filter; within `OUT_DIR` where that directory cannot be told.
fn filter_target_dir(out: &Path) -> PathBuf {
    out.ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").is_file())
        .map_or_else(|| out.join("filter"), |target| target.join("filter"))
}

/// Whether a variable speaks of the controller's build and would make the filter another one: flags,
/// profiles, the target, clippy in place of the compiler. What tells cargo how to work at all stays
/// (registries, network, the job server, a compiler cache).
fn is_of_the_outer_build(name: &OsString) -> bool {
    let Some(name) = name.to_str() else { return false };
    let stays = ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_BUILD_JOBS", "CARGO_BUILD_RUSTC_WRAPPER"];
    let kinds = ["CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];
    match name {
        "RUSTFLAGS"
        | "RUSTDOCFLAGS"
        | "RUSTC_WORKSPACE_WRAPPER"
        | "RUSTC_LINKER"
        | "TARGET"
        | "HOST"
        | "OUT_DIR"
        | "PROFILE"
        | "OPT_LEVEL"
        | "DEBUG" => true,
        _ => {
            (name.starts_with("CARGO_")
                && !stays.contains(&name)
                && !kinds.iter().any(|kind| name.starts_with(kind)))
                || name == "__CARGO_TEST_CHANNEL_OVERRIDE_DO_NOT_USE_THIS"
        }
    }
}
