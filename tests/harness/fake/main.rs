//! A stand-in for the product, for tests of the runner: it speaks the contract of `ingress-wasm run` (the
//! command line, the ready line, its end) and forwards by host and path, in the simplest way that can be told
//! from a wrong one. To `explain` it has nothing to say.
//!
//! `FAKE_PRODUCT` makes it wrong: `ends` and `silent` never get ready, `first-backend` forwards everything to
//! the first service, `adds-header` changes requests, `answers` answers everything itself.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ingress_wasm_echo::wire::{Head, head_length};
use serde_json::Value;

/// What requests are forwarded by.
struct Table {
    fault: String,
    /// Host, path, whether the path is exact, service.
    rules: Vec<(String, String, bool, String)>,
    endpoints: Vec<(String, SocketAddr)>,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("explain") {
        println!("null");
        return ExitCode::SUCCESS;
    }
    let fault = std::env::var("FAKE_PRODUCT").unwrap_or_default();
    let folder = std::env::args().next_back().unwrap_or_default();
    eprintln!("fake product serves {folder}");
    match fault.as_str() {
        "ends" => {
            eprintln!("this fake ends at once");
            return ExitCode::FAILURE;
        }
        "silent" => loop {
            std::thread::park();
        },
        _ => {}
    }
    match serve(Path::new(&folder), fault) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(folder: &Path, fault: String) -> io::Result<()> {
    let table = Arc::new(table(folder, fault)?);
    let (http, https) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    println!("ready http={} https={}", http.local_addr()?, https.local_addr()?);
    // It knows no TLS: such connections end at once.
    std::thread::spawn(move || https.incoming().for_each(drop));
    for client in http.incoming() {
        let (client, table) = (client?, Arc::clone(&table));
        std::thread::spawn(move || {
            if let Err(error) = forward(client, &table) {
                eprintln!("a connection ended: {error}");
            }
        });
    }
    Ok(())
}

fn table(folder: &Path, fault: String) -> io::Result<Table> {
    let mut table = Table { fault, rules: Vec::new(), endpoints: Vec::new() };
    for entry in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(entry?.path())?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_default();
        for object in &objects {
            match object["kind"].as_str() {
                Some("Ingress") => ingress(&object["spec"], &mut table),
                Some("EndpointSlice") => slice(object, &mut table),
                _ => {}
            }
        }
    }
    // Exact paths first, then the longest.
    table.rules.sort_by_key(|(_, path, exact, _)| (!*exact, std::cmp::Reverse(path.len())));
    Ok(table)
}

fn ingress(spec: &Value, table: &mut Table) {
    for rule in spec["rules"].as_array().into_iter().flatten() {
        for path in rule["http"]["paths"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let exact = path["pathType"] == "Exact";
            let service = text(&path["backend"]["service"]["name"]);
            table.rules.push((text(&rule["host"]), text(&path["path"]), exact, service));
        }
    }
}

fn slice(object: &Value, table: &mut Table) {
    let service = object["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap_or_default();
    let port = object["ports"][0]["port"].as_u64().unwrap_or_default();
    let addresses = object["endpoints"].as_array().into_iter().flatten();
    for address in addresses.filter_map(|endpoint| endpoint["addresses"][0].as_str()) {
        if let Ok(address) = format!("{address}:{port}").parse() {
            table.endpoints.push((service.to_owned(), address));
        }
    }
}

impl Table {
    fn endpoint(&self, host: &str, target: &str) -> Option<SocketAddr> {
        let path = target.split('?').next().unwrap_or(target);
        let covers = |prefix: &str| {
            let prefix = prefix.trim_end_matches('/');
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut rules = self
            .rules
            .iter()
            .filter(|(of, rule, exact, _)| of == host && if *exact { rule == path } else { covers(rule) });
        let (.., service) = rules.next()?;
        let mut endpoints = self.endpoints.iter();
        match self.fault.as_str() {
            "first-backend" => endpoints.min_by_key(|(name, _)| name.clone()),
            _ => endpoints.find(|(name, _)| name == service),
        }
        .map(|(_, address)| *address)
    }
}

/// Reads a head, sends it on with `Connection: close`, and copies bytes both ways.
fn forward(mut client: TcpStream, table: &Table) -> io::Result<()> {
    let mut bytes = Vec::new();
    let length = loop {
        if let Some(length) = head_length(&bytes) {
            break length;
        }
        let mut part = [0; 4096];
        let count = client.read(&mut part)?;
        if count == 0 {
            return Ok(());
        }
        bytes.extend(part.iter().take(count));
    };
    let rest = bytes.split_off(length);
    let head = Head::parse(&bytes).map_err(|_| io::Error::other("no head"))?;
    let host = head.values("Host").next().map(ingress_wasm_echo::wire::text).unwrap_or_default();
    let line = String::from_utf8_lossy(&head.start).into_owned();
    let target = line.split(' ').nth(1).unwrap_or_default();
    let backend = if table.fault == "answers" { None } else { table.endpoint(&host, target) };
    let Some(backend) = backend else {
        client.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        return client.shutdown(Shutdown::Write);
    };
    let mut upstream = TcpStream::connect(backend)?;
    bytes.truncate(length - 2);
    if table.fault == "adds-header" {
        bytes.extend_from_slice(b"X-Added: by the fake\r\n");
    }
    bytes.extend_from_slice(b"Connection: close\r\n\r\n");
    bytes.extend_from_slice(&rest);
    upstream.write_all(&bytes)?;
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    std::thread::spawn(move || io::copy(&mut from, &mut to));
    io::copy(&mut upstream, &mut client)?;
    client.shutdown(Shutdown::Both)
}
