//! What authentication costs requests, and what the slowest of it costs those of others.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::load::{Connection, percentile};
use crate::args::{self, Arg, Args, Misuse};
use crate::product::{self, Listen};
use crate::{envoy, process, tools, ui};

const HELP: &str = "\
Sends requests with each kind of credentials in turns, one at a time, and prints how long they took: from the client
to the backend and back. Then asks for an open host, with and without 50 wrong bcrypt passwords a second from
another client. Status 1 if an answer had another status than it should have.

Usage: cargo xtask bench auth [OPTIONS]

Options:
  --rounds N      requests of each kind (default 500)
  --seconds N     how long the open host is asked, each time (default 10)";

const PASSWORD: &str = "correct horse";
const KEY: &str = "6f1d0cbb7a3e4b5f9d2a8c7e1b0f3a5d";
/// How many wrong passwords a second another client sends.
const GUESSES: u32 = 50;

/// Hashes of the password, in the forms of an htpasswd file.
const HASHES: [(&str, &str); 4] = [
    ("bcrypt", "$2y$10$Sa1ecU7DlDtajBF0q4ELuOf0p9VZPcGc4QzRHjNRWSIJjEKAgrlp."),
    (
        "sha512",
        "$6$0123456789abcdef$lDHzA5IdO41viXIs6llkDKq4Uh2VG9JXIYJ.taq2zlNFqBnKQ0/fOUW0Zoz49ZnOpe2ACY.PoF6wosL.jL3Af0",
    ),
    ("apr1", "$apr1$01234567$ci/pK3.qnUZOyE.Xerv.C0"),
    ("sha1", "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A="),
];

/// A kind of request.
struct Kind {
    what: String,
    host: String,
    /// The header lines of the request with this number.
    headers: Box<dyn Fn(usize) -> String>,
    status: u16,
}

/// `cargo xtask bench auth`
pub fn run(mut args: Args) -> Result<bool> {
    let (mut rounds, mut seconds) = (500_usize, 10_u64);
    while let Some(arg) = args.next() {
        match arg {
            Arg::Option(name) if args::is_help(&name) => {
                println!("{HELP}");
                return Ok(true);
            }
            Arg::Option(name) if name == "--rounds" => rounds = args.value(&name)?,
            Arg::Option(name) if name == "--seconds" => seconds = args.value(&name)?,
            word => return Err(args::unknown("bench auth", &word).into()),
        }
    }
    if rounds == 0 {
        return Err(Misuse("bench auth: --rounds must be at least 1".to_owned()).into());
    }
    tools::targets()?;
    let envoy = envoy::find()?;
    let binary = product::build()?;
    let folder = tempfile::tempdir().context("create a temporary folder")?;
    let tokens = Tokens::make(folder.path())?;
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests)?;
    fs::write(manifests.join("auth.json"), objects(&tokens).to_string()).context("write the manifests")?;
    let interrupted = process::interrupts()?;
    let further = ["--demo-backends".as_ref(), "--concurrency".as_ref(), "2".as_ref(), manifests.as_os_str()];
    let running = product::serve(&binary, &envoy, Listen::FREE, &further, &interrupted)?;

    ui::heading(&format!("bench auth: {rounds} requests of each kind, one at a time, 2 workers"));
    let mut good = in_turns(running.http, &kinds(&tokens), rounds);
    println!();
    good &= beside_guesses(running.http, Duration::from_secs(seconds));
    running.server.stop()?;
    Ok(good)
}

fn basic(password: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(format!("ann:{password}")))
}

fn kinds(tokens: &Tokens) -> Vec<Kind> {
    let fixed = |what: &str, host: &str, headers: String| Kind {
        what: what.to_owned(),
        host: format!("{host}.example"),
        headers: Box::new(move |_| headers.clone()),
        status: 200,
    };
    let mut kinds = vec![fixed("none", "open", String::new())];
    for (scheme, _) in HASHES {
        kinds.push(fixed(&format!("password, {scheme}, verified before"), scheme, basic(PASSWORD)));
        kinds.push(Kind {
            what: format!("password, {scheme}, not seen before (wrong)"),
            host: format!("{scheme}.example"),
            headers: Box::new(|number| basic(&format!("wrong {number}"))),
            status: 401,
        });
    }
    kinds.push(fixed("API key", "key", format!("x-api-key: {KEY}\r\n")));
    kinds.push(fixed("token, HS256", "jwt", format!("authorization: Bearer {}\r\n", tokens.hs)));
    kinds.push(fixed("token, RS256 of 2048 bits", "jwt", format!("authorization: Bearer {}\r\n", tokens.rs)));
    kinds
}

fn in_turns(address: SocketAddr, kinds: &[Kind], rounds: usize) -> bool {
    let mut connection = Connection::new(address);
    let mut times = vec![Vec::with_capacity(rounds); kinds.len()];
    let mut wrong = 0;
    let mut put_off = vec![0_usize; kinds.len()];
    // The first round, in which passwords are verified, is not counted.
    for round in 0..=rounds {
        for ((kind, times), put_off) in kinds.iter().zip(&mut times).zip(&mut put_off) {
            match connection.get(&kind.host, "/", &(kind.headers)(round)) {
                Ok((status, took)) if status == kind.status => {
                    if round > 0 {
                        times.push(took);
                    }
                }
                // The filter looks at so many wrong passwords at a time and no more.
                Ok((429, _)) if kind.status == 401 => *put_off += 1,
                Ok((status, _)) => {
                    wrong += 1;
                    ui::error(&format!("{}: {status} in place of {}", kind.what, kind.status));
                }
                Err(error) => {
                    wrong += 1;
                    ui::error(&format!("{}: {error}", kind.what));
                }
            }
        }
    }
    let mut rows = vec![["credentials", "p50", "p99", "put off (429)"].map(str::to_owned).to_vec()];
    for ((kind, times), put_off) in kinds.iter().zip(&times).zip(&put_off) {
        let (half, most) = (shown(percentile(times, 50)), shown(percentile(times, 99)));
        rows.push(vec![kind.what.clone(), half, most, put_off.to_string()]);
    }
    ui::table(&rows);
    wrong == 0
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// An open host's requests, on eight connections, without and with guesses of passwords of another host.
fn beside_guesses(address: SocketAddr, time: Duration) -> bool {
    let mut rows = vec![["open host", "requests", "p50", "p99"].map(str::to_owned).to_vec()];
    let mut failed = 0;
    for (what, guesses) in [("alone", 0), ("beside wrong passwords", GUESSES)] {
        let (ended, sent) = (AtomicBool::new(false), AtomicU32::new(0));
        let times: Vec<Duration> = thread::scope(|scope| {
            if guesses > 0 {
                scope.spawn(|| guess(address, &ended, &sent));
            }
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| ask(address, time))).collect();
            let times = clients.into_iter().flat_map(|client| client.join().unwrap_or_default()).collect();
            ended.store(true, Ordering::Relaxed);
            times
        });
        failed += usize::from(times.is_empty());
        let sent = sent.into_inner();
        rows.push(vec![
            if guesses > 0 {
                format!("{what}, {:.0} a second", f64::from(sent) / time.as_secs_f64())
            } else {
                what.to_owned()
            },
            times.len().to_string(),
            shown(percentile(&times, 50)),
            shown(percentile(&times, 99)),
        ]);
    }
    ui::table(&rows);
    failed == 0
}

fn ask(address: SocketAddr, time: Duration) -> Vec<Duration> {
    let mut connection = Connection::new(address);
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < time {
        match connection.get("open.example", "/", "") {
            Ok((200, took)) => times.push(took),
            _ => return Vec::new(),
        }
        thread::sleep(Duration::from_millis(2));
    }
    times
}

fn guess(address: SocketAddr, ended: &AtomicBool, sent: &AtomicU32) {
    let mut connection = Connection::new(address);
    let start = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let _ = connection.get("bcrypt.example", "/", &basic(&format!("guess {number}")));
        let due = Duration::from_secs(1) * (number + 1) / GUESSES;
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
}

/// Keys, and tokens that they signed.
struct Tokens {
    set: Value,
    hs: String,
    rs: String,
}

impl Tokens {
    /// By OpenSSL: nothing else here knows of signatures.
    fn make(folder: &Path) -> Result<Self> {
        let secret = [7_u8; 32];
        let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = folder.join("key.pem");
        let openssl = |args: &[&str]| -> Result<Vec<u8>> {
            let mut command = Command::new("openssl");
            command.args(args).arg(&key).stdin(Stdio::null()).stderr(Stdio::null());
            let output = command.output().context("run openssl")?;
            if !output.status.success() {
                bail!("`openssl {}` failed", args.join(" "));
            }
            Ok(output.stdout)
        };
        openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"])?;
        let modulus = String::from_utf8(openssl(&["rsa", "-noout", "-modulus", "-in"])?)?;
        let modulus = modulus.trim().strip_prefix("Modulus=").context("read the modulus")?;
        let modulus: Vec<u8> = (0..modulus.len() / 2)
            .filter_map(|at| u8::from_str_radix(modulus.get(2 * at..2 * at + 2)?, 16).ok())
            .collect();
        let claims = URL_SAFE_NO_PAD.encode(json!({"sub": "ann", "exp": 4_102_444_800_u64}).to_string());
        let text = |algorithm: &str| {
            format!(
                "{}.{claims}",
                URL_SAFE_NO_PAD.encode(json!({"alg": algorithm, "typ": "JWT"}).to_string())
            )
        };
        let signed = |text: String, args: &[&str]| -> Result<String> {
            let file = folder.join("text");
            fs::write(&file, &text)?;
            let mut command = Command::new("openssl");
            command.args(["dgst", "-sha256", "-binary"]).args(args).arg(&file).stdin(Stdio::null());
            let signature = process::output(&mut command)?;
            Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
        };
        let option = format!("hexkey:{hexadecimal}");
        Ok(Tokens {
            set: json!({"keys": [
                {"kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(secret)},
                {"kty": "RSA", "alg": "RS256", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"},
            ]}),
            hs: signed(text("HS256"), &["-mac", "HMAC", "-macopt", &option])?,
            rs: signed(text("RS256"), &["-sign", &key.to_string_lossy()])?,
        })
    }
}

fn objects(tokens: &Tokens) -> Value {
    let secret = |name: &str, data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    let annotations = |list: &[(&str, &str)]| -> serde_json::Map<String, Value> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
    };
    let mut items = vec![
        super::ingress("open", annotations(&[])),
        super::ingress("key", annotations(&[("ingress-wasm.io/api-key-secret", "keys")])),
        super::ingress("jwt", annotations(&[("ingress-wasm.io/jwt-jwks-secret", "tokens")])),
        secret("keys", json!({"ann": KEY})),
        secret("tokens", json!({"jwks.json": tokens.set.to_string()})),
    ];
    for (scheme, hash) in HASHES {
        let type_of = ("nginx.ingress.kubernetes.io/auth-type", "basic");
        let named = ("nginx.ingress.kubernetes.io/auth-secret", scheme);
        items.push(super::ingress(scheme, annotations(&[type_of, named])));
        items.push(secret(scheme, json!({"auth": format!("ann:{hash}\n")})));
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}
