//! The nginx configuration for a scene, with the same locations in the same order as ingress-nginx writes them.
//!
//! Written after `createServers`, `getBackendServers` and `BuildRedirects`, `updateServerLocations`
//! (`location.go`), `buildLocation`, `buildProxyPass` (`template.go`) and `nginx.tmpl` of ingress-nginx 1.15,
//! and on purpose without a look at this project's translator. What Lua does there, the redirects to HTTPS and
//! between two names, is done with `map` here.

use std::fmt::Write as _;

use crate::scene::{Annotations, Ingress, Kind, Scene, service};

/// The server for the hosts that no other takes.
const ANY: &str = "_";

struct Server {
    host: String,
    aliases: Vec<String>,
    locations: Vec<Location>,
    from_to_www: bool,
}

#[derive(Clone)]
struct Location {
    path: String,
    exact: bool,
    /// The path and its type as the Ingress has them.
    origin: (String, bool),
    /// Nobody asked for it: it holds for what no path takes.
    implicit: bool,
    service: Option<usize>,
    ingress: String,
    annotations: Annotations,
}

/// The directives for the `http` block, or why nginx would refuse them.
pub fn write(scene: &Scene, socket: &str) -> Result<String, String> {
    let mut servers = servers(scene);
    add_paths(scene, &mut servers);
    servers.sort_by(|a, b| a.host.cmp(&b.host));
    let mut out = String::new();
    redirects(&servers, socket, &mut out)?;
    for server in &mut servers {
        sort(&mut server.locations);
        server.locations = split(std::mem::take(&mut server.locations));
        write_server(server, socket, &mut out)?;
    }
    Ok(out)
}

/// Servers with their implicit location and their aliases.
fn servers(scene: &Scene) -> Vec<Server> {
    let root = |service, ingress: Option<&Ingress>| Location {
        path: "/".to_owned(),
        exact: false,
        origin: ("/".to_owned(), false),
        implicit: true,
        service,
        ingress: ingress.map(Ingress::name).unwrap_or_default(),
        annotations: ingress.map(|ingress| ingress.annotations).unwrap_or_default(),
    };
    let server = |host: &str, location| Server {
        host: host.to_owned(),
        aliases: Vec::new(),
        locations: vec![location],
        from_to_www: false,
    };
    let mut servers = vec![server(ANY, root(None, None))];
    for ingress in &scene.ingresses {
        let any = &mut servers[0].locations[0];
        if ingress.default_backend.is_some() && ingress.rules.is_empty() && any.implicit {
            let kept = any.annotations;
            *any = root(ingress.default_backend, Some(ingress));
            any.implicit = false;
            let own = ingress.annotations;
            any.annotations = Annotations {
                permanent_redirect: kept.permanent_redirect,
                temporal_redirect: kept.temporal_redirect,
                relative_redirects: kept.relative_redirects,
                rewrite_target: kept.rewrite_target,
                use_regex: kept.use_regex,
                app_root: kept.app_root,
                force_tls: kept.force_tls,
                preserve_slash: kept.preserve_slash,
                ..own
            };
        }
        for rule in &ingress.rules {
            let host = if rule.host.is_empty() { ANY } else { rule.host };
            if servers.iter().all(|server| server.host != host) {
                servers.push(server(host, root(ingress.default_backend, Some(ingress))));
            }
        }
    }
    for ingress in &scene.ingresses {
        for rule in &ingress.rules {
            let host = if rule.host.is_empty() { ANY } else { rule.host };
            let server = servers.iter_mut().find(|server| server.host == host).expect("it was added");
            if server.aliases.is_empty() {
                let aliases = ingress.annotations.aliases.split(',').map(str::trim);
                server.aliases = aliases.filter(|alias| !alias.is_empty()).map(str::to_owned).collect();
            }
        }
    }
    let hosts: Vec<String> = servers.iter().map(|server| server.host.clone()).collect();
    for server in &mut servers {
        server.aliases.retain(|alias| !hosts.contains(alias));
        server.aliases.sort();
        server.aliases.dedup();
    }
    servers
}

fn add_paths(scene: &Scene, servers: &mut [Server]) {
    for ingress in &scene.ingresses {
        for rule in &ingress.rules {
            let host = if rule.host.is_empty() { ANY } else { rule.host };
            let server = servers.iter_mut().find(|server| server.host == host).expect("it was added");
            for path in &rule.paths {
                let text = if path.text.is_empty() { "/" } else { path.text };
                let location = Location {
                    path: text.to_owned(),
                    exact: path.kind == Kind::Exact,
                    origin: (text.to_owned(), path.kind == Kind::Exact),
                    implicit: false,
                    service: Some(path.service),
                    ingress: ingress.name(),
                    annotations: ingress.annotations,
                };
                // Only the first location with this text is compared.
                let known = server.locations.iter_mut().find(|known| known.path == text);
                match known {
                    Some(known) if known.exact == location.exact => {
                        if known.implicit {
                            *known = location;
                            server.from_to_www |= ingress.annotations.redirects_names();
                        }
                    }
                    _ => {
                        server.locations.push(location);
                        server.from_to_www |= ingress.annotations.redirects_names();
                    }
                }
            }
        }
    }
}

impl Annotations {
    fn redirects_names(&self) -> bool {
        self.from_to_www
    }

    /// The URL and the status of a redirect that is asked for.
    fn redirect(&self) -> Option<(&str, u16)> {
        if !self.temporal_redirect.is_empty() {
            let code = self.temporal_code;
            return Some((self.temporal_redirect, if (300..=307).contains(&code) { code } else { 302 }));
        }
        if self.permanent_redirect.is_empty() {
            return None;
        }
        let code = self.permanent_code;
        Some((self.permanent_redirect, if (300..=308).contains(&code) { code } else { 301 }))
    }
}

/// The longest first, of the same length the greatest.
fn sort(locations: &mut [Location]) {
    locations.sort_by(|a, b| b.path.len().cmp(&a.path.len()).then_with(|| b.path.cmp(&a.path)));
}

fn rewrites(location: &Location) -> bool {
    let target = location.annotations.rewrite_target;
    !target.is_empty() && target != location.path
}

/// A prefix becomes two locations: the path with a slash behind it, and the path itself.
fn split(locations: Vec<Location>) -> Vec<Location> {
    let exact: Vec<String> =
        locations.iter().filter(|location| location.exact).map(|location| location.path.clone()).collect();
    let mut all = Vec::new();
    for mut location in locations {
        let stays =
            location.path == "/" || location.exact || rewrites(&location) || location.annotations.use_regex;
        if stays {
            all.push(location);
            continue;
        }
        let itself = Location { exact: true, ..location.clone() };
        if !location.path.ends_with('/') {
            location.path.push('/');
        }
        all.push(location);
        if !exact.contains(&itself.path) {
            all.push(itself);
        }
    }
    all
}

fn redirects(servers: &[Server], socket: &str, out: &mut String) -> Result<(), String> {
    for server in servers.iter().filter(|server| server.from_to_www) {
        let from = match server.host.strip_prefix("www.") {
            Some(rest) => rest.to_owned(),
            None => format!("www.{}", server.host),
        };
        if servers.iter().any(|other| other.host == from) {
            continue;
        }
        if from.contains('*') {
            return Err(format!("{from} is no server name"));
        }
        let to = &server.host;
        let _ = writeln!(
            out,
            "server {{ listen {socket}; server_name {}; return 308 $scheme://{to}:80$without_slash; }}",
            quoted(&from)
        );
    }
    Ok(())
}

/// A text in double quotes, for nginx to take as it is.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn server_name(host: &str) -> String {
    match host.strip_prefix("*.") {
        Some(rest) => quoted(&format!("~^(?<subdomain>[\\w-]+)\\.{}$", rest.replace('.', "\\."))),
        None => quoted(host),
    }
}

fn write_server(server: &Server, socket: &str, out: &mut String) -> Result<(), String> {
    let default = if server.host == ANY { " default_server" } else { "" };
    let names =
        std::iter::once(server_name(&server.host)).chain(server.aliases.iter().map(|alias| quoted(alias)));
    let names: Vec<String> = names.collect();
    let _ = writeln!(out, "server {{\n  listen {socket}{default};\n  server_name {};", names.join(" "));
    let expressions =
        server.locations.iter().any(|location| rewrites(location) || location.annotations.use_regex);
    let mut written: Vec<String> = Vec::new();
    for location in &server.locations {
        let annotations = &location.annotations;
        if !annotations.app_root.is_empty() {
            let _ = writeln!(
                out,
                "  if ($uri = /) {{ return 302 $scheme://$http_host{}; }}",
                annotations.app_root
            );
        }
        let head = if expressions {
            format!("~* {}", quoted(&format!("^{}", location.path)))
        } else if location.exact {
            format!("= {}", quoted(&location.path))
        } else {
            quoted(&location.path)
        };
        if !expressions && written.contains(&head) {
            return Err(format!("two locations {head}"));
        }
        written.push(head.clone());
        let _ = writeln!(out, "  location {head} {{");
        write_location(location, out);
        out.push_str("  }\n");
    }
    if server.host == ANY {
        if written.iter().any(|head| head == "\"/healthz\"") {
            return Err("two locations for /healthz".to_owned());
        }
        let id = id("", "/healthz", true);
        let _ = writeln!(out, "  location /healthz {{ add_header X-Rule \"{id}\" always; return 200; }}");
    }
    out.push_str("}\n");
    Ok(())
}

fn write_location(location: &Location, out: &mut String) {
    let Location { path, origin, annotations, .. } = location;
    let id = id(&location.ingress, &origin.0, origin.1);
    let _ = writeln!(out, "    add_header X-Rule \"{id}\" always;");
    if let Some(number) = location.service {
        let _ = writeln!(out, "    add_header X-Service {} always;", service(number));
    }
    if annotations.relative_redirects {
        out.push_str("    absolute_redirect off;\n");
    }
    if let Some((url, code)) = annotations.redirect() {
        let _ = writeln!(out, "    return {code} {url};");
    }
    // The redirect to HTTPS comes after the directives of the rewrite module, of which only a rewrite to
    // another site ends the request.
    let target = annotations.rewrite_target;
    let rewrite = if target.is_empty() || target == path {
        String::new()
    } else {
        format!("    rewrite {} {target} break;\n", quoted(&format!("(?i){path}")))
    };
    let elsewhere = target.starts_with("http");
    if elsewhere {
        out.push_str(&rewrite);
    }
    if annotations.force_tls {
        let rest = if annotations.preserve_slash { "$request_uri" } else { "$without_slash" };
        let _ = writeln!(out, "    return 308 https://$host_without_port{rest};");
    }
    if !elsewhere {
        out.push_str(&rewrite);
    }
    if !rewrite.is_empty() && !annotations.forwarded_prefix.is_empty() {
        // Headers of this level take the place of those above.
        out.push_str("    proxy_set_header Connection \"\";\n");
        let _ =
            writeln!(out, "    proxy_set_header X-Forwarded-Prefix \"{}\";", annotations.forwarded_prefix);
    }
    let upstream = if location.service.is_some() { "echo" } else { "nothing" };
    let _ = writeln!(out, "    proxy_pass http://{upstream};");
}

/// What tells a rule from others: its Ingress, path and path type.
pub fn id(ingress: &str, path: &str, exact: bool) -> String {
    let kind = if exact { "exact" } else { "prefix" };
    let ingress = if ingress.is_empty() { "-" } else { ingress };
    let mut id = format!("{ingress} {kind} ");
    path.bytes().for_each(|byte| {
        let _ = write!(id, "{byte:02x}");
    });
    id
}
