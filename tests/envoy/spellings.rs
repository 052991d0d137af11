//! Ways to spell a request for `/admin` of a host.

/// One way.
pub struct Spelling {
    /// What to call it in a message.
    pub name: String,
    /// What goes onto the wire.
    pub bytes: Vec<u8>,
    /// Nothing of HTTP/1.1 can follow.
    pub is_http2: bool,
}

/// Targets that are, or that somebody could take for, something at or below `/admin`.
const TARGETS: &str = r"
    /admin /admin/ /admin/x //admin ///admin /./admin /.//admin /x/../admin /x/..//admin /x/y/../../admin
    /x//../admin /admin// /admin/. /admin/./ /admin/x/.. /admin/../admin /admin/x/../..//admin /%61dmin
    /%61%64%6d%69%6e /%61%64%6D%69%6E /admi%6e /admi%6E/x %2fadmin /%2fadmin /%2Fadmin /x%2f..%2fadmin
    /x/%2e%2e/admin /x/%2E%2E/admin /x/.%2e/admin /x/%2e./admin /%2e/admin /%2e%2fadmin /admin%2f /admin%2fx
    /admin%2F..%2Fadmin /admin%2e /admin%00 /admin%00x /%00admin /admin%20 /%20admin /admin%09 /admin%0a
    /admin%0d%0a /admin%3f /admin%3fx=1 /admin%23 /admin? /admin?x /admin?/../x /admin# /admin#/x /admin;
    /admin;x=1 /;/admin /admin;/../x /x;/../admin /..;/admin /x/..;/admin /admin/..;/admin /ADMIN /Admin
    /aDmIn /%41dmin /admin\ \admin /\admin /x\..\admin /x/..\admin /%5cadmin /x%5c..%5cadmin /%c0%afadmin
    /%c0%ae%c0%ae/admin /%e0%80%afadmin /%252fadmin /%2561dmin /x/%252e%252e/admin /%u0061dmin /／admin
    /%ef%bc%8fadmin /adm%C4%B1n /admin. /admin.. /admin/... /admin~ /admin.html /admin.json /admin/.json
    /.admin /../admin /../../admin /x/../../admin ..//admin /%2e%2e/admin /admin/%2e%2e/admin
    /admin/%2e%2e%2fadmin /admin/x%2f.. /admin/%2e /*/../admin /admin* /admin%2a /admin:80 /admin@x /admin$
    /admin! /admin,x /admin|x /admin%7cx /admin^ /admin/x?y=/../.. /admin?x=/open /% /admin% /admin%2
    /admin%zz * admin ?/admin /x?/../admin /healthz/../admin /.well-known/acme-challenge/../../admin
    /admin/.well-known/acme-challenge
";

/// Targets in absolute form, and for other hosts; `HOST` stands for the host.
const ABSOLUTE: &str = r"
    http://HOST/admin http://HOST:80/admin http://HOST:8080/admin HTTP://HOST/admin https://HOST/admin
    http://u:p@HOST/admin http://HOST./admin http://HOST//admin http://HOST/x/../admin http://HOST/%61dmin
    http://other.example/admin http://other.example@HOST/admin http://HOST@other.example/admin
    http://HOST\admin http://HOST?/admin http://HOST#/admin ftp://HOST/admin //HOST/admin http:/admin
    http:///admin http://HOST HOST:80
";

/// Host lines in place of `Host: HOST`; several between `|`.
const HOSTS: &[&str] = &[
    "Host: HOST:80",
    "Host: HOST:8080",
    "Host: HOST.",
    "Host: HOST.:80",
    "host: HOST",
    "HOST: HOST",
    "Host:HOST",
    "Host:  HOST",
    "Host: HOST ",
    "Host:\tHOST",
    "Host: HOST|Host: other.example",
    "Host: other.example|Host: HOST",
    "Host: HOST|Host: HOST",
    "Host: HOST,other.example",
    "Host: other.example, HOST",
    "Host: HOST, HOST",
    "Host : HOST",
    " Host: HOST",
    "Host: HOST\0",
    "Host: HOST#",
    "Host: HOST/",
    "Host: HOST/admin",
    "Host: HOST?x",
    "Host: u@HOST",
    "Host: HOST:",
    "Host: HOST:x",
    "Host: HOST:99999",
    "Host: [::1]",
    "Host: ",
    "Host: other.example|X-Forwarded-Host: HOST",
    "X-Forwarded-Host: HOST",
    "Host: HOST|X-Forwarded-Host: other.example",
    "Host: HOST|X-Host: other.example",
    "Host: HOST|:authority: other.example",
];

/// Further lines; `\r\n` comes after each, several stand between `|`.
const LINES: &[&str] = &[
    // Addresses.
    "X-Forwarded-For: 203.0.113.7",
    "X-Forwarded-For: 203.0.113.7, 127.0.0.1",
    "X-Forwarded-For: 127.0.0.1, 203.0.113.7",
    "X-Forwarded-For: ::ffff:203.0.113.7",
    "X-Forwarded-For: 203.0.113.7|X-Forwarded-For: 203.0.113.7",
    "x-forwarded-for: 203.0.113.7",
    "X_Forwarded_For: 203.0.113.7",
    "X-Forwarded-For : 203.0.113.7",
    "X-Forwarded-For:203.0.113.7",
    "X-Forwarded-For:",
    "X-Forwarded-For: 2001:db8::1",
    "X-Forwarded-For: [2001:db8::1]:1",
    "X-Real-IP: 203.0.113.7",
    "X-Real-Ip: 2001:db8::1",
    "Forwarded: for=203.0.113.7",
    "Forwarded: for=\"[2001:db8::1]\"",
    "X-Client-IP: 203.0.113.7",
    "Client-IP: 203.0.113.7",
    "True-Client-IP: 203.0.113.7",
    "CF-Connecting-IP: 203.0.113.7",
    "Fastly-Client-IP: 203.0.113.7",
    "X-Cluster-Client-IP: 203.0.113.7",
    "X-Originating-IP: 203.0.113.7",
    "X-Remote-IP: 203.0.113.7",
    "X-Remote-Addr: 203.0.113.7",
    "X-Original-Forwarded-For: 203.0.113.7",
    "X-ProxyUser-Ip: 203.0.113.7",
    "X-Forwarded: 203.0.113.7",
    "Forwarded-For: 203.0.113.7",
    "Via: 1.1 203.0.113.7",
    "X-Envoy-External-Address: 203.0.113.7",
    "X-Envoy-Internal: true",
    "Remote-Addr: 203.0.113.7",
    // Headers of the proxy's own.
    "X-Ingress-Wasm-Connection: http 80 203.0.113.7",
    "x-ingress-wasm-connection: https 443 203.0.113.7",
    "X_Ingress_Wasm_Connection: http 80 203.0.113.7",
    "x-ingress-wasm-connection: probe 0 -",
    "x-ingress-wasm-connection: probe 0 -|x-ingress-wasm-connection: http 80 203.0.113.7",
    "x-ingress-wasm-connection:",
    "x-ingress-wasm-cluster: default/secret-SERVICE:80",
    "X-Ingress-Wasm-Cluster: default/secret-SERVICE:80|X-Ingress-Wasm-Profile: x",
    "x-ingress-wasm-profile: read60s-send60s",
    "X-Ingress-Wasm-Profile: ",
    "x-ingress-wasm-generation: 1",
    "x-envoy-original-path: /",
    "x-envoy-original-host: other.example",
    "x-envoy-decorator-operation: x",
    "x-envoy-upstream-rq-timeout-ms: 1",
    "x-envoy-retry-on: 5xx|x-envoy-max-retries: 9",
    "x-envoy-force-trace: 1",
    "x-envoy-upstream-alt-stat-name: x",
    "x-envoy-hedge-on-per-try-timeout: true",
    "x-envoy-attempt-count: 3",
    // Paths and methods that something behind might go by.
    "X-Original-URI: /",
    "X-Original-URL: /",
    "X-Rewrite-URL: /",
    "X-Forwarded-Prefix: /open",
    "X-Forwarded-Path: /",
    "X-Forwarded-Uri: /",
    "X-Accel-Redirect: /admin",
    "X-Sendfile: /admin",
    "X-HTTP-Method-Override: OPTIONS",
    "X-Method-Override: HEAD",
    "X-HTTP-Method: OPTIONS",
    "X-Forwarded-Method: OPTIONS",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Scheme: https",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Server: localhost",
    "X-Auth-Request-Redirect: /",
    "X-Sent-From: nginx-ingress-controller",
    "X-Code: 503|X-Format: text/html",
    "X-Request-ID: 1",
    "X-Scheme: https",
    "Front-End-Https: on",
    // Credentials that are none.
    "Authorization: Basic",
    "Authorization: Basic Og==",
    "Authorization: Basic YWxpY2U6",
    "Authorization: Basic YWxpY2U=",
    "Authorization: Basic YWxpY2U6KTpi",
    "Authorization: Basic OmFsaWNl",
    "Authorization: Bearer YWxpY2U6",
    "Authorization: Basic e1NIQX0=",
    "Authorization: Digest username=\"alice\"",
    "Authorization: basic  YWxpY2U6eA",
    "Proxy-Authorization: Basic YWxpY2U6eA==",
    "Remote-User: alice",
    "X-Remote-User: alice",
    "X-Auth-Request-User: alice",
    "Authorization: Basic YWxpY2U6|Authorization: Basic YWxpY2U6",
    "Cookie: user=alice",
    "X-Forwarded-User: alice",
    // Connections and the like.
    "Connection: close",
    "Connection: X-Ingress-Wasm-Connection",
    "Connection: x-forwarded-for, authorization",
    "Connection: Upgrade|Upgrade: h2c|HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    "Upgrade: websocket|Connection: upgrade",
    "Connection: Upgrade|Upgrade: TLS/1.0",
    "Expect: 100-continue",
    "TE: trailers",
    "Range: bytes=0-1",
    "Max-Forwards: 0",
    "Origin: https://open.example",
    "Origin: null|Access-Control-Request-Method: GET",
    "Referer: http://127.0.0.1/",
    "User-Agent: kube-probe/1.30",
    "Proxy: http://127.0.0.1/",
    "Transfer-Encoding: identity",
    "Content-Encoding: gzip",
    "X: a\r\n folded",
    "X : a",
    "X\t: a",
    ": a",
    "=: a",
    "X-Bad\u{e9}: a",
    "Trailer: X-Forwarded-For",
];

const METHODS: &str = r"
    HEAD POST PUT PATCH DELETE OPTIONS TRACE CONNECT PROPFIND PURGE PRI get Get GETT G X-GET GET,POST LOCK
    SEARCH DEBUG
";

/// All ways, with a body of this many bytes.
pub fn all(host: &str, body: usize) -> Vec<Spelling> {
    let mut all = Vec::new();
    let mut add = |method: &str, target: &str, version: &str, hosts: &str, lines: &str| {
        let service = host.split('.').next().unwrap_or_default();
        let [target, hosts, lines] =
            [target, hosts, lines].map(|text| text.replace("HOST", host).replace("SERVICE", service));
        let mut head = format!("{method} {target} {version}\r\n");
        for line in hosts.split('|').chain(lines.split('|')).filter(|line| !line.is_empty()) {
            head += &format!("{line}\r\n");
        }
        if body > 0 {
            head += &format!("Content-Length: {body}\r\n");
        }
        head += "\r\n";
        let name = format!("{head:?}");
        let bytes = [head.into_bytes(), vec![b'x'; body]].concat();
        all.push(Spelling { name, bytes, is_http2: false });
    };
    let plain = "Host: HOST";
    for target in TARGETS.split_ascii_whitespace().chain(ABSOLUTE.split_ascii_whitespace()) {
        add("GET", target, "HTTP/1.1", plain, "");
    }
    for hosts in HOSTS {
        add("GET", "/admin", "HTTP/1.1", hosts, "");
        add("GET", "http://HOST/admin", "HTTP/1.1", hosts, "");
    }
    for lines in LINES {
        add("GET", "/admin", "HTTP/1.1", plain, lines);
    }
    for method in METHODS.split_ascii_whitespace() {
        add(method, "/admin", "HTTP/1.1", plain, "");
    }
    for version in ["HTTP/1.0", "HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "HTTP/01.1", ""]
    {
        add("GET", "/admin", version, plain, "");
        add("GET", "http://HOST/admin", version, "", "");
    }
    if body == 0 {
        all.extend(smuggled(host));
        all.extend(http2(host));
    }
    all
}

/// Requests within requests.
fn smuggled(host: &str) -> Vec<Spelling> {
    let inner = format!("GET /admin HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let framings = [
        format!("Content-Length: 0\r\n\r\n{inner}"),
        format!("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n{inner}", inner.len() + 5),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0;x=\"\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n{inner}"),
        format!("Content-Length: +0\r\n\r\n{inner}"),
        format!("Content-Length: 0, {}\r\n\r\n{inner}", inner.len()),
        format!("Content-Length: 0\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("Content_Length: {}\r\n\r\n{inner}", inner.len()),
        format!("Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n{inner}"),
        format!("\r\n{inner}"),
    ];
    let outer = |rest: String| {
        let text = format!("POST / HTTP/1.1\r\nHost: {host}\r\n{rest}");
        Spelling { name: format!("{text:?}"), bytes: text.into_bytes(), is_http2: false }
    };
    framings.into_iter().map(outer).collect()
}

/// HTTP/2 with prior knowledge: header lists that HTTP/1.1 cannot carry.
fn http2(host: &str) -> Vec<Spelling> {
    let plain = [(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", "/admin")];
    let stolen = format!("default/secret-{}:80", host.split('.').next().unwrap_or_default());
    let path = |path: &'static str| {
        vec![(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", path)]
    };
    let lists: Vec<Vec<(&str, &str)>> = vec![
        plain.to_vec(),
        path("//admin"),
        path("/x/../admin"),
        path("/%61dmin"),
        path("admin"),
        path("http://other.example/admin"),
        path("/admin#"),
        path("/admin\0"),
        path("/admin\r\nx-forwarded-for: 203.0.113.7"),
        path("/admin HTTP/1.1"),
        path(""),
        with(&plain, &[(":path", "/")]),
        with(&plain, &[("host", "other.example")]),
        with(&plain, &[(":authority", "other.example")]),
        with(&plain, &[(":scheme", "https")]),
        with(&plain, &[(":protocol", "websocket")]),
        with(&plain, &[("X-Forwarded-For", "203.0.113.7")]),
        with(&plain, &[("x-forwarded-for", "203.0.113.7")]),
        with(&plain, &[("x-ingress-wasm-connection", "http 80 203.0.113.7")]),
        with(&plain, &[("x-ingress-wasm-cluster", &stolen)]),
        with(&plain, &[("connection", "x-ingress-wasm-connection")]),
        with(&plain, &[("transfer-encoding", "chunked")]),
        with(&plain, &[("x", "a\r\nx-forwarded-for: 203.0.113.7")]),
        with(&plain, &[("x-envoy-original-path", "/")]),
        with(&plain, &[("content-length", "0"), ("content-length", "7")]),
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/admin"), ("host", host)],
        vec![("x", "a"), (":method", "GET"), (":scheme", "http"), (":authority", host), (":path", "/admin")],
        vec![(":method", "CONNECT"), (":authority", host)],
        vec![
            (":method", "CONNECT"),
            (":protocol", "x"),
            (":scheme", "http"),
            (":authority", host),
            (":path", "/admin"),
        ],
        vec![(":method", "get"), (":scheme", "http"), (":authority", host), (":path", "/admin")],
        vec![(":method", "GET /admin"), (":scheme", "http"), (":authority", host), (":path", "/admin")],
        vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", host),
            (":path", "/open"),
            (":path", "/admin"),
        ],
    ];
    lists
        .into_iter()
        .map(|list| Spelling { name: format!("HTTP/2 {list:?}"), bytes: frames(&list), is_http2: true })
        .collect()
}

/// A header list with further lines.
fn with<'a>(list: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [list, more].concat()
}

/// A connection with one request, in literal header fields (RFC 9113, RFC 7541 section 6.2.2).
fn frames(headers: &[(&str, &str)]) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let [.., high, middle, low] = payload.len().to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let block: Vec<u8> =
        headers.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect();
    let go_away = frame(7, 0, 0, &[0; 8]);
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frame(1, 5, 1, &block), go_away]
        .concat()
}

/// Whether the frames so far hold the end of the one request, or of the connection.
pub fn http2_ended(mut frames: &[u8]) -> bool {
    while let [high, middle, low, kind, flags, _, _, _, stream, rest @ ..] = frames {
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        let ends = match kind {
            0 | 1 => *stream == 1 && flags & 1 != 0,
            3 | 7 => true,
            _ => false,
        };
        if ends {
            return true;
        }
        frames = rest.get(length..).unwrap_or_default();
    }
    false
}

/// Whether a target means something at or below `/admin`, to whoever decodes it once, merges slashes and resolves dot
/// segments.
pub fn means_admin(target: &str) -> bool {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let path =
        path.strip_prefix("http://").map_or(path, |rest| rest.find('/').map_or("/", |slash| &rest[slash..]));
    let bytes = path.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| path.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
            .flatten();
        decoded.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments.first() == Some(&"admin")
}
