//! Golden files: `tests/golden/NAME.golden` holds objects and what they are translated to, one behaviour each.
//!
//! `UPDATE_GOLDEN=1 cargo test -p ingress-wasm-translate --test golden` writes the results anew; read the
//! difference before you commit it. `tests/golden/services.yaml` is loaded with every file.
//!
//! A file is prose that says what is shown, then sections that begin with a line `=== NAME`:
//!
//! * `options` (may be missing): `NAME VALUE` lines, see [`options`];
//! * `input`: the objects, as YAML. Lines in diagnostics count from here;
//! * `config`, `clusters`, `profiles`, `diagnostics`, `rejected`: the result; an empty one is left out.

mod common;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use ingress_wasm::router;
use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::manifest::{merge_into, read};
use ingress_wasm_translate::objects::{ObjectName, Snapshot};
use ingress_wasm_translate::output::{
    Cluster, Endpoint, Endpoints, LoadBalancing, Mirror, NextUpstream, Options, RouteProfile,
    ServicePortName, Translation,
};
use ingress_wasm_translate::translate;

/// Longest line of JSON before it is broken up.
const WIDTH: usize = 180;

#[test]
fn golden_files() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let services =
        std::fs::read_to_string(common::tests().join("golden/services.yaml")).expect("services.yaml");
    let files = common::files(&common::tests().join("golden"), "golden");
    assert!(files.len() >= 30, "only {} golden files are found", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let golden = Golden::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let expected = golden.render(&services);
        if expected == text {
            continue;
        }
        if update {
            std::fs::write(&path, expected).expect("writes");
        } else {
            wrong.push(format!("{}\n{}", path.display(), difference(&text, &expected)));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 writes the files anew\n\n{}", wrong.join("\n"));
}

/// The parts of a golden file that people write.
struct Golden<'a> {
    prose: &'a str,
    options: &'a str,
    input: &'a str,
}

impl<'a> Golden<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let mut golden = Golden { prose: "", options: "", input: "" };
        for (index, section) in text.split("\n=== ").enumerate() {
            if index == 0 {
                golden.prose = section.trim();
                continue;
            }
            let (name, content) = section.split_once('\n').unwrap_or((section, ""));
            match name {
                "options" => golden.options = content.trim_end(),
                "input" => golden.input = content.trim_end(),
                "config" | "clusters" | "profiles" | "diagnostics" | "rejected" => {}
                other => return Err(format!("unknown section `{other}`")),
            }
        }
        match (golden.prose.is_empty(), golden.input.is_empty()) {
            (true, _) => Err("it begins with no sentence that says what it shows".to_owned()),
            (_, true) => Err("it has no input".to_owned()),
            _ => Ok(golden),
        }
    }

    /// The whole file, with the result as it is now.
    fn render(&self, services: &str) -> String {
        let options = options(self.options);
        let mut snapshot = Snapshot::default();
        let mut diagnostics = Vec::new();
        for (name, text) in [("services.yaml", services), ("input", self.input)] {
            let loaded = read(&Arc::from(name), text);
            diagnostics.extend(loaded.diagnostics);
            diagnostics.extend(merge_into(&mut snapshot, loaded.objects));
        }
        let translation = translate(&snapshot, &options);
        if let Err(error) = router::compile(translation.config.clone()) {
            panic!("{}\nthe filter refuses the configuration: {error}", self.prose);
        }
        diagnostics.extend(translation.diagnostics.iter().cloned());
        let mut text = format!("{}\n", self.prose);
        let mut section = |name: &str, content: &str| {
            if !content.is_empty() {
                let _ = write!(text, "\n=== {name}\n{}\n", content.trim_end());
            }
        };
        section("options", self.options);
        section("input", self.input);
        section("config", &config(&translation));
        section("clusters", &translation.clusters.iter().map(cluster).collect::<String>());
        section("profiles", &profiles(&translation));
        let diagnostics: Vec<String> = diagnostics.iter().map(Diagnostic::to_string).collect();
        section("diagnostics", &diagnostics.join("\n"));
        section(
            "rejected",
            &translation.rejected.iter().map(|object| format!("{object}\n")).collect::<String>(),
        );
        text
    }
}

/// `ingress-class NAME`, `controller-class NAME`, `config-map NAMESPACE/NAME`, `without-class`, `istio`,
/// `backend NAMESPACE/SERVICE:PORT ADDRESS PORT`.
fn options(text: &str) -> Options {
    let mut options = Options::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["ingress-class", name] => options.ingress_class = (*name).to_owned(),
            ["controller-class", name] => options.controller_classes = vec![(*name).to_owned()],
            ["config-map", name] => options.config_map = Some(object_name(name)),
            ["default-backend", name] => options.default_backend = Some(object_name(name)),
            ["without-class"] => options.ingress_without_class = true,
            ["istio"] => options.mesh = true,
            ["backend", name, address, port] => {
                let (service, service_port) = name.rsplit_once(':').expect("a port");
                let name = ServicePortName { service: object_name(service), port: service_port.to_owned() };
                let endpoint =
                    Endpoint { address: (*address).to_owned(), port: port.parse().expect("a number") };
                options.backends.entry(name).or_default().push(endpoint);
            }
            _ => panic!("no such option: {line:?}"),
        }
    }
    options
}

fn object_name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').expect("NAMESPACE/NAME");
    ObjectName::new(namespace, name)
}

/// The plugin configuration without what is the same in every file: version, generation, and the entry for
/// hosts that nobody names where that is as it always is.
fn config(translation: &Translation) -> String {
    let mut config = serde_json::to_value(&translation.config).expect("JSON");
    let nothing = serde_json::to_value(translate(&Snapshot::default(), &Options::default()).config);
    let any = |config: &serde_json::Value| {
        let hosts = config["hosts"].as_array().cloned().unwrap_or_default();
        hosts.into_iter().find(|host| host["name"] == "*")
    };
    let usual = any(&nothing.expect("JSON")).map(|host| without_positions(&host));
    if let Some(object) = config.as_object_mut() {
        object.remove("version");
        object.remove("generation");
        if let Some(hosts) = object.get_mut("hosts").and_then(|hosts| hosts.as_array_mut()) {
            hosts.retain(|host| host["name"] != "*" || Some(without_positions(host)) != usual);
        }
    }
    let mut text = String::new();
    json(&config, 0, &mut text);
    text
}

/// A host without the positions of its policies, which depend on the rest of the configuration.
fn without_positions(host: &serde_json::Value) -> serde_json::Value {
    let mut host = host.clone();
    for rule in host["rules"].as_array_mut().into_iter().flatten() {
        rule["policies"] = serde_json::Value::Null;
    }
    host
}

/// JSON with everything on one line that has room there.
fn json(value: &serde_json::Value, indent: usize, out: &mut String) {
    let line = value.to_string();
    let column = out.len() - out.rfind('\n').map_or(0, |position| position + 1);
    let (open, close, entries): (_, _, Vec<(Option<&String>, &serde_json::Value)>) = match value {
        serde_json::Value::Array(values) => ('[', ']', values.iter().map(|value| (None, value)).collect()),
        serde_json::Value::Object(fields) => {
            ('{', '}', fields.iter().map(|(name, value)| (Some(name), value)).collect())
        }
        _ => return out.push_str(&line),
    };
    if column + line.len() < WIDTH || entries.is_empty() {
        return out.push_str(&line);
    }
    out.push(open);
    for (index, (name, value)) in entries.into_iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        out.push_str(&" ".repeat(indent + 2));
        if let Some(name) = name {
            let _ = write!(out, "{name:?}: ");
        }
        json(value, indent + 2, out);
    }
    let _ = write!(out, "\n{}{close}", " ".repeat(indent));
}

fn cluster((name, cluster): (&String, &Cluster)) -> String {
    let Cluster { service, connect_timeout, load_balancing, mirror: _, endpoints, tls } = cluster;
    let endpoint = |Endpoint { address, port }: &Endpoint| match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    let endpoints = match endpoints {
        Endpoints::Addresses(addresses) if addresses.is_empty() => "no endpoints".to_owned(),
        Endpoints::Addresses(addresses) => addresses.iter().map(endpoint).collect::<Vec<_>>().join(" "),
        Endpoints::Name(name) => format!("resolve {}", endpoint(name)),
    };
    let how = match load_balancing {
        LoadBalancing::RoundRobin => "",
        LoadBalancing::LeastRequest => ", fewest requests",
        LoadBalancing::Hash => ", by hash",
    };
    let tls = tls.as_ref().map_or(String::new(), |tls| format!(", TLS for {}", tls.server_name));
    format!("{name} ({service}), connect {}s{how}{tls}: {endpoints}\n", connect_timeout.as_secs())
}

/// The route profiles, unless there is only the usual one.
fn profiles(translation: &Translation) -> String {
    let profile = |name: &str, profile: &RouteProfile| {
        let RouteProfile { read_timeout, send_timeout, next_upstream, mirror, jwt, limits } = profile;
        let mirror = mirror.as_ref().map_or_else(String::new, |Mirror { cluster, host, body }| {
            format!(", mirror {cluster} as {host}{}", if *body { "" } else { " without body" })
        });
        let jwt = jwt.as_ref().map_or_else(String::new, |jwt| format!(", {jwt:?}"));
        let limits = limits.iter().map(|limit| format!(", asked {limit:?}")).collect::<String>();
        let timeouts = format!(
            "read {}s, send {}s{mirror}{jwt}{limits}",
            read_timeout.as_secs(),
            send_timeout.as_secs()
        );
        if *next_upstream == NextUpstream::default() {
            return format!("{name}: {timeouts}\n");
        }
        let NextUpstream { error, timeout, invalid_header, statuses, non_idempotent, tries } = next_upstream;
        let words = [
            (error, "error"),
            (timeout, "timeout"),
            (invalid_header, "invalid_header"),
            (non_idempotent, "non_idempotent"),
        ];
        let words = words.into_iter().filter(|(set, _)| **set).map(|(_, word)| word.to_owned());
        let words: Vec<String> = words.chain(statuses.iter().map(u16::to_string)).collect();
        format!("{name}: {timeouts}, {tries} tries after [{}]\n", words.join(" "))
    };
    let named = translation.route_profiles.iter().map(|(name, found)| profile(name, found));
    if translation.route_profiles.is_empty() && translation.default_profile == RouteProfile::default() {
        return String::new();
    }
    std::iter::once(profile("(default)", &translation.default_profile)).chain(named).collect()
}

/// The lines in which two texts differ, with the common beginning and end left out.
fn difference(was: &str, is: &str) -> String {
    let (was, is): (Vec<&str>, Vec<&str>) = (was.lines().collect(), is.lines().collect());
    let begin = was.iter().zip(&is).take_while(|(a, b)| a == b).count();
    let most = was.len().min(is.len()) - begin;
    let end = was.iter().rev().zip(is.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let mut text = format!("from line {}:\n", begin + 1);
    was[begin..was.len() - end].iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    is[begin..is.len() - end].iter().for_each(|line| text.push_str(&format!("+ {line}\n")));
    text
}

#[test]
fn what_golden_files_are_checked_for() {
    for (text, fault) in [
        ("", "no sentence"),
        ("prose", "no input"),
        ("prose\n=== outcome\nx\n=== input\ny", "unknown section"),
        ("\n=== input\ny", "no sentence"),
    ] {
        let error = Golden::parse(text).err().unwrap_or_else(|| panic!("{text:?} is taken"));
        assert!(error.contains(fault), "{text:?}: {error}");
    }
    assert_eq!(difference("a\nb\nc\n", "a\nx\nc\n"), "from line 2:\n- b\n+ x\n");
    assert_eq!(difference("a\na\n", "a\n"), "from line 2:\n- a\n");
    assert!(common::tests().join("golden").join(Path::new("services.yaml")).is_file());
}
