//! The rule sets, in the form that each contender takes, and the requests.

use std::fmt::Write;
use std::net::SocketAddr;

use serde_json::{Value, json};

/// A number of hosts with the same paths.
#[derive(Debug)]
pub struct Set {
    pub name: &'static str,
    pub text: &'static str,
    pub hosts: usize,
    pub paths: usize,
    /// The paths are expressions, and the target is rewritten.
    pub expressions: bool,
    /// What ours may cost to Envoy's own routes.
    pub to_routes: Option<f64>,
    /// What ours may cost to Envoy's own routes with a filter that does nothing.
    pub to_nothing: Option<f64>,
}

/// All rule sets.
pub const SETS: [Set; 5] = [
    Set {
        name: "1x10",
        text: "1 host, 10 paths",
        hosts: 1,
        paths: 10,
        expressions: false,
        to_routes: Some(1.25),
        to_nothing: Some(1.10),
    },
    Set {
        name: "1000x5",
        text: "1,000 hosts, 5 paths each",
        hosts: 1_000,
        paths: 5,
        expressions: false,
        to_routes: None,
        to_nothing: None,
    },
    Set {
        name: "1x2000",
        text: "1 host, 2,000 paths",
        hosts: 1,
        paths: 2_000,
        expressions: false,
        to_routes: Some(0.85),
        to_nothing: None,
    },
    Set {
        name: "1x500-expressions",
        text: "1 host, 500 paths that are expressions, with a rewrite",
        hosts: 1,
        paths: 500,
        expressions: true,
        to_routes: Some(0.60),
        to_nothing: None,
    },
    Set {
        name: "10000x5",
        text: "10,000 hosts, 5 paths each",
        hosts: 10_000,
        paths: 5,
        expressions: false,
        to_routes: None,
        to_nothing: None,
    },
];

/// Different requests that are sent in turn.
const REQUESTS: usize = 500;

/// The credentials of the contender with basic authentication, `user:secret`.
const AUTHORIZATION: &str = "Basic dXNlcjpzZWNyZXQ=";

impl Set {
    pub fn host(host: usize) -> String {
        format!("h{host}.example.org")
    }

    /// The path of a rule, as an Ingress has it.
    pub fn path(&self, path: usize) -> String {
        if self.expressions { format!("/service-{path}(/|$)(.*)") } else { format!("/service-{path}") }
    }

    /// What wrk runs: requests spread over hosts and paths, and the figures in lines that can be read.
    pub fn requests(&self) -> String {
        let mut text = String::from("local requests = {}\nlocal at = 0\nfunction init()\n");
        for number in 0..REQUESTS {
            // Primes, so that hosts and paths are all reached, in no order.
            let (host, path) = (number * 7919 % self.hosts, number * 104_729 % self.paths);
            let _ = writeln!(
                text,
                "requests[{}] = wrk.format('GET', '/service-{path}/users/42?page=7', {{\
                 ['Host']='{}', ['Authorization']='{AUTHORIZATION}', ['User-Agent']='bench/1.0', \
                 ['Accept']='application/json', ['Cookie']='session=0123456789abcdef'}})",
                number + 1,
                Set::host(host),
            );
        }
        let _ = writeln!(text, "end\nfunction request() at = at % {REQUESTS} + 1; return requests[at] end");
        text.push_str(
            "function done(summary, latency)\n\
             local e = summary.errors\n\
             print('requests ' .. summary.requests)\n\
             print('bad ' .. (e.connect + e.read + e.write + e.status + e.timeout))\n\
             print('p50 ' .. latency:percentile(50))\n\
             print('p99 ' .. latency:percentile(99))\n\
             end\n",
        );
        text
    }

    /// The objects: an Ingress for each host, and one for its canary where there is one.
    pub fn manifests(&self, auth: bool, canary: bool, backend: SocketAddr) -> Value {
        let mut items = Vec::new();
        for name in ["stable", "canary"] {
            items.push(json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "bench"},
                "spec": {"ports": [{"port": 80, "targetPort": backend.port()}]},
            }));
            items.push(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {
                    "name": name, "namespace": "bench", "labels": {"kubernetes.io/service-name": name},
                },
                "endpoints": [{"addresses": [backend.ip().to_string()], "conditions": {"ready": true}}],
                "ports": [{"port": backend.port()}],
            }));
        }
        // htpasswd -s: the SHA-1 of `secret`.
        items.push(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "users", "namespace": "bench"},
            "stringData": {"auth": "user:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="},
        }));
        for host in 0..self.hosts {
            let mut annotations = serde_json::Map::new();
            let mut annotate = |name: &str, value: &str| {
                annotations.insert(format!("nginx.ingress.kubernetes.io/{name}"), value.into());
            };
            if self.expressions {
                annotate("use-regex", "true");
                annotate("rewrite-target", "/$2");
            }
            if auth {
                annotate("auth-type", "basic");
                annotate("auth-secret", "users");
            }
            items.push(self.ingress(host, "stable", &annotations));
            if canary {
                annotations.insert("nginx.ingress.kubernetes.io/canary".to_owned(), "true".into());
                annotations.insert("nginx.ingress.kubernetes.io/canary-weight".to_owned(), "50".into());
                items.push(self.ingress(host, "canary", &annotations));
            }
        }
        json!({"apiVersion": "v1", "kind": "List", "items": items})
    }

    fn ingress(&self, host: usize, service: &str, annotations: &serde_json::Map<String, Value>) -> Value {
        let kind = if self.expressions { "ImplementationSpecific" } else { "Prefix" };
        let path = |path| {
            json!({
                "path": self.path(path), "pathType": kind,
                "backend": {"service": {"name": service, "port": {"number": 80}}},
            })
        };
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {
                "name": format!("{service}-{host}"), "namespace": "bench", "annotations": annotations,
            },
            "spec": {
                "ingressClassName": "nginx",
                "rules": [{
                    "host": Set::host(host),
                    "http": {"paths": (0..self.paths).map(path).collect::<Vec<_>>()},
                }],
            },
        })
    }

    /// Envoy's own virtual hosts.
    pub fn virtual_hosts(&self) -> Vec<Value> {
        let route = |path: usize| {
            if self.expressions {
                let expression = format!("/service-{path}(/|$)(.*)");
                json!({
                    "match": {"safe_regex": {"regex": expression}},
                    "route": {
                        "cluster": "backend",
                        "regex_rewrite": {"pattern": {"regex": expression}, "substitution": "/\\2"},
                    },
                })
            } else {
                json!({
                    "match": {"path_separated_prefix": self.path(path)},
                    "route": {"cluster": "backend"},
                })
            }
        };
        let host = |host| {
            json!({
                "name": Set::host(host), "domains": [Set::host(host)],
                "routes": (0..self.paths).map(route).collect::<Vec<_>>(),
            })
        };
        (0..self.hosts).map(host).collect()
    }

    /// nginx's servers, as ingress-nginx writes them, without what its Lua does.
    pub fn nginx_servers(&self, listen: SocketAddr) -> String {
        let mut text = String::new();
        for host in 0..self.hosts {
            let _ = writeln!(text, "server {{ server_name {}; listen {listen};", Set::host(host));
            for path in 0..self.paths {
                let (open, rewrite) = if self.expressions {
                    let expression = self.path(path);
                    (
                        vec![format!("~* \"^{expression}\"")],
                        format!("rewrite \"(?i){expression}\" /$2 break;"),
                    )
                } else {
                    let path = self.path(path);
                    (vec![format!("{path}/"), format!("= {path}")], String::new())
                };
                for location in open {
                    let _ = writeln!(text, "location {location} {{ {NGINX_LOCATION} {rewrite} }}");
                }
            }
            text.push_str("}\n");
        }
        text
    }

    /// A Lua filter that finds the rule as well as it can without libraries: hosts and paths by a table, and
    /// expressions, which it does not have, by Lua's patterns one after the other.
    pub fn lua(&self) -> String {
        let (hosts, paths) = (self.hosts, self.paths);
        let find = if self.expressions {
            "for i, pattern in ipairs(rules) do\n\
             local rest = string.match(path, pattern)\n\
             if rest then found = true; h:replace(':path', '/' .. rest .. query); break end\nend\n"
        } else {
            "local prefix = path\n\
             while true do\n\
             if rules[prefix] then found = true; break end\n\
             local cut = string.match(prefix, '^(.*)/[^/]*$')\n\
             if not cut or cut == '' then break end\n\
             prefix = cut\nend\n"
        };
        let rule = if self.expressions {
            "rules[p + 1] = '^/service%-' .. p .. '/(.*)$'"
        } else {
            "rules['/service-' .. p] = true"
        };
        format!(
            "local hosts = {{}}\n\
             for h = 0, {hosts} - 1 do\n\
             local rules = {{}}\n\
             for p = 0, {paths} - 1 do {rule} end\n\
             hosts['h' .. h .. '.example.org'] = rules\nend\n\
             function envoy_on_request(handle)\n\
             local h = handle:headers()\n\
             local authority = h:get(':authority')\n\
             local target = h:get(':path')\n\
             local path, query = string.match(target, '^([^?]*)(.*)$')\n\
             local rules = hosts[string.lower(authority)]\n\
             local found = false\n\
             if rules then\n{find}end\n\
             if not found then handle:respond({{[':status'] = '404'}}, ''); return end\n\
             local address = handle:streamInfo():downstreamDirectRemoteAddress()\n\
             address = string.match(address, '^(.*):%d+$')\n\
             h:replace('x-real-ip', address)\n\
             h:replace('x-forwarded-for', address)\n\
             h:replace('x-forwarded-host', authority)\n\
             h:replace('x-forwarded-port', '80')\n\
             h:replace('x-forwarded-proto', 'http')\n\
             h:replace('x-forwarded-scheme', 'http')\n\
             h:replace('x-scheme', 'http')\n\
             h:replace('x-bench-cluster', 'backend')\n\
             handle:clearRouteCache()\nend\n"
        )
    }
}

/// What each location of ingress-nginx sets.
const NGINX_LOCATION: &str = "\
set $best_http_host $http_host; set $pass_port $server_port; set $pass_access_scheme $scheme; \
client_max_body_size 1m; \
proxy_set_header Host $best_http_host; proxy_set_header X-Request-ID $request_id; \
proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $remote_addr; \
proxy_set_header X-Forwarded-Host $best_http_host; proxy_set_header X-Forwarded-Port $pass_port; \
proxy_set_header X-Forwarded-Proto $pass_access_scheme; \
proxy_set_header X-Forwarded-Scheme $pass_access_scheme; proxy_set_header X-Scheme $pass_access_scheme; \
proxy_set_header X-Original-Forwarded-For $http_x_forwarded_for; proxy_set_header Proxy \"\"; \
proxy_set_header Connection \"\"; proxy_connect_timeout 5s; proxy_send_timeout 60s; proxy_read_timeout 60s; \
proxy_buffering off; proxy_http_version 1.1; proxy_next_upstream error timeout; \
proxy_pass http://upstream_balancer; proxy_redirect off;";
