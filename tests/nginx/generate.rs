//! Random Ingresses and requests. Nothing in here knows what becomes of a request.

use fastrand::Rng;

use crate::scene::{Annotations, Ingress, Kind, Path, Rule, Scene};

const HOSTS: [&str; 8] = ["a.test", "a.test", "b.test", "www.a.test", "*.test", "*.w.test", "x.w.test", ""];
const ALIASES: [&str; 8] = [
    "al.test",
    "*.al.test",
    "mail.*",
    "~^re\\d+\\.test$",
    "b.test",
    "www.a.test, other.org",
    ".dot.test",
    "*.test",
];
const PLAIN: [&str; 20] = [
    "/",
    "/",
    "/foo",
    "/foo",
    "/foo/",
    "/foo/bar",
    "/foo/bar/",
    "/Foo",
    "/foo.bar",
    "/foobar",
    "/fo",
    "/a",
    "/a/b",
    "/a/b/c/",
    "/a/",
    "/b-c_d",
    "/index.html",
    "/x/y/z",
    "/healthz",
    "/api/v1",
];
/// Paths that may stand for something else, with requests that some of them match.
const EXPRESSIONS: [(&str, &[&str]); 28] = [
    ("/foo(/|$)(.*)", &["/foo", "/foo/", "/foo/x/y", "/foox"]),
    ("/api/v[0-9]+/.*", &["/api/v1/x", "/api/v22/", "/api/v/"]),
    ("/(a|b)/(.*)", &["/a/x", "/b/", "/c/a/x"]),
    ("/.*\\.(png|jpg)$", &["/x.png", "/a/b.JPG", "/x.png/y"]),
    ("/foo/?(.*)", &["/foo", "/foobar", "/foo/bar"]),
    ("/[^/]+/end$", &["/x/end", "/x/y/end", "/x/END"]),
    ("/foo|/b", &["/foo", "/b", "/x/b", "/x/foo"]),
    ("/(a)|/x/(b)", &["/a", "/x/b", "/y/x/b", "/y/a", "/x/b/a"]),
    ("/(?i)Foo", &["/foo", "/FOO/x"]),
    ("/a{2,3}", &["/aa", "/aaaa", "/a"]),
    ("/x\\.y", &["/x.y", "/xzy"]),
    ("/(?!foo)[a-z]+", &["/foo", "/bar", "/fooo"]),
    ("/.*", &["/anything", "/"]),
    ("/(.*)", &["/anything/here", "/"]),
    ("/(foo)(/bar)?(.*)", &["/foo", "/foo/bar", "/foobar"]),
    ("/foo\\b", &["/foo", "/foo-", "/food"]),
    ("/foo/(.*)/bar", &["/foo//bar", "/foo/x/bar", "/foo/x/y/bar/z"]),
    ("/\\w+/(\\d+)", &["/foo/1", "/bar/22/x", "/foo/x"]),
    ("/(?<name>[a-c]+)/(?<rest>.*)", &["/abc/x", "/a/", "/d/x"]),
    ("/^foo", &["/^foo", "/foo"]),
    ("/foo$", &["/foo", "/foo/", "/foo$"]),
    ("/a+b", &["/a+b", "/aab"]),
    ("/x(y)", &["/x(y)", "/xy"]),
    ("/{id}", &["/{id}", "/id"]),
    ("/foo%20bar", &["/foo%20bar", "/foo%2520bar"]),
    ("/caf\u{e9}", &["/caf%c3%a9", "/caf\u{e9}", "/caf%e9"]),
    ("/*", &["/*", "//", "/x"]),
    ("/say\"hi\"", &["/say\"hi\"", "/say%22hi%22"]),
];
const TARGETS: [&str; 18] = [
    "/",
    "/",
    "/$1",
    "/$2",
    "/new/$1/$2",
    "/foo",
    "/foo/",
    "$1",
    "/$3/end",
    "http://other.test/$1",
    "https://other.test$1",
    "/a$1b",
    "//x/$1",
    "/$1$2$3",
    "/~$1/./..",
    "/x",
    "/$1/",
    "/$9",
];
const URLS: [&str; 6] = [
    "https://else.test",
    "https://else.test/x/y?z=1",
    "/rel/path",
    "http://else.test/",
    "/rel?q=1&r",
    "https://else.test:8443/a//b",
];

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn chance(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(..100) < percent
}

/// A random set of Ingresses.
pub fn scene(rng: &mut Rng) -> Scene {
    // Most scenes are of one kind, so that rules meet: few hosts, with or without expressions.
    let regex = chance(rng, 50);
    let ingresses = 1 + rng.usize(..4);
    let redirects = chance(rng, 40);
    Scene {
        ingresses: (0..ingresses)
            .map(|number| Ingress {
                number,
                rules: if chance(rng, 6) { Vec::new() } else { rules(rng, regex) },
                default_backend: chance(rng, 20).then(|| rng.usize(..4)),
                annotations: annotations(rng, regex, redirects),
            })
            .collect(),
    }
}

fn rules(rng: &mut Rng, regex: bool) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for _ in 0..1 + rng.usize(..3) {
        let host = pick(rng, &HOSTS);
        let paths = (0..1 + rng.usize(..4)).map(|_| path(rng, regex)).collect();
        rules.push(Rule { host, paths });
    }
    rules
}

fn path(rng: &mut Rng, regex: bool) -> Path {
    let service = rng.usize(..4);
    if chance(rng, if regex { 60 } else { 10 }) {
        return Path { text: pick(rng, &EXPRESSIONS).0, kind: Kind::Specific, service };
    }
    let kind = pick(rng, &[Kind::Exact, Kind::Prefix, Kind::Prefix, Kind::Specific]);
    Path { text: pick(rng, &PLAIN), kind, service }
}

fn annotations(rng: &mut Rng, regex: bool, redirects: bool) -> Annotations {
    let mut set = Annotations::default();
    if regex {
        set.use_regex = chance(rng, 50);
        if chance(rng, 50) {
            set.rewrite_target = pick(rng, &TARGETS);
            if chance(rng, 50) {
                set.forwarded_prefix = pick(rng, &["/prefix", "/p/$1", "$2"]);
            }
        }
    }
    if chance(rng, 3) {
        set.rewrite_target = pick(rng, &["/foo", "/foo/", "/foo/bar", "/a"]);
    }
    if chance(rng, 15) {
        set.aliases = pick(rng, &ALIASES);
    }
    if !redirects {
        return set;
    }
    if chance(rng, 25) {
        set.app_root = pick(rng, &["/app", "/app/x.html"]);
    }
    if chance(rng, 20) {
        set.permanent_redirect = pick(rng, &URLS);
        set.permanent_code = pick(rng, &[0, 0, 301, 302, 303, 304, 307, 308, 299, 309]);
    }
    if chance(rng, 15) {
        set.temporal_redirect =
            pick(rng, &["https://else.test", "http://else.test/x?y", "https://else.test/a/"]);
        set.temporal_code = pick(rng, &[0, 0, 301, 302, 303, 307, 308]);
    }
    set.relative_redirects = chance(rng, 20);
    set.force_tls = chance(rng, 20);
    set.preserve_slash = chance(rng, 30);
    set.from_to_www = chance(rng, 20);
    set
}

/// A Host and a target, as they stand on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub host: Vec<u8>,
    pub target: Vec<u8>,
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Host: {} GET {}", self.host.escape_ascii(), self.target.escape_ascii())
    }
}

/// A request that has something to do with the scene.
pub fn request(rng: &mut Rng, scene: &Scene) -> Request {
    Request { host: host(rng, scene), target: target(rng, scene) }
}

fn host(rng: &mut Rng, scene: &Scene) -> Vec<u8> {
    let named: Vec<&str> =
        scene.ingresses.iter().flat_map(|ingress| &ingress.rules).map(|rule| rule.host).collect();
    let mut host = match rng.u32(..100) {
        0..70 if !named.is_empty() => {
            pick(rng, &named).replacen('*', pick(rng, &["x", "a", "y-1", "x.y"]), 1)
        }
        0..85 => pick(
            rng,
            &[
                "al.test",
                "x.al.test",
                "x.y.al.test",
                "mail.org",
                "mail.a.b",
                "re12.test",
                "re.test",
                "dot.test",
                "x.dot.test",
                "other.org",
                "www.b.test",
                "www.a.test",
                "a.test",
                "b.test",
                "x.w.test",
            ],
        )
        .to_owned(),
        85..95 => pick(
            rng,
            &[
                "nobody.example",
                "test",
                ".test",
                "x_y.test",
                "x.y.test",
                "w.test",
                "..test",
                "a..test",
                "[::1]",
                "127.0.0.1",
                "a.test,b.test",
                "\u{e4}.test",
                "~.test",
                "_",
                "www.*.test",
                "*.test",
            ],
        )
        .to_owned(),
        _ => pick(rng, &HOSTS).replacen('*', "z", 1),
    };
    if host.is_empty() {
        host = "anything.example".to_owned();
    }
    if chance(rng, 8) {
        host = host.to_ascii_uppercase();
    }
    if chance(rng, 6) {
        host.push('.');
    }
    if chance(rng, 12) {
        host.push_str(pick(rng, &[":80", ":8080", ":", ":x"]));
    }
    host.into_bytes()
}

fn target(rng: &mut Rng, scene: &Scene) -> Vec<u8> {
    let paths = scene.ingresses.iter().flat_map(|ingress| &ingress.rules).flat_map(|rule| &rule.paths);
    let own: Vec<&str> = paths.map(|path| path.text).collect();
    let text = match rng.u32(..100) {
        0..55 if !own.is_empty() => {
            let path = pick(rng, &own);
            match EXPRESSIONS.iter().find(|(expression, _)| *expression == path) {
                Some((_, samples)) if chance(rng, 90) => pick(rng, samples),
                _ => path,
            }
        }
        0..75 => pick(rng, &PLAIN),
        _ => {
            let (_, samples) = pick(rng, &EXPRESSIONS);
            pick(rng, samples)
        }
    };
    let mut target = text.as_bytes().to_vec();
    for _ in 0..pick(rng, &[0, 0, 1, 1, 2, 3]) {
        change(rng, &mut target);
    }
    if chance(rng, 20) {
        target.extend_from_slice(pick(
            rng,
            &[
                &b"?"[..],
                b"?q=1",
                b"?a=%2F/../x&b",
                b"?/",
                b"?q=1/",
                b"?a?b",
                b"?\xff",
                b"?a=b+c%20d",
                b"?q#f",
            ],
        ));
    }
    if chance(rng, 3) {
        target.extend_from_slice(pick(rng, &[&b"#"[..], b"#f", b"#f?q", b"#/../x"]));
    }
    target.retain(|byte| *byte > b' ' && *byte != 0x7f);
    // Longer ones are refused for their length alone.
    target.truncate(8_000);
    target
}

/// One of the ways to write a path otherwise, or to write another.
fn change(rng: &mut Rng, target: &mut Vec<u8>) {
    let at = rng.usize(..=target.len());
    let insert = |target: &mut Vec<u8>, at: usize, text: &[u8]| {
        target.splice(at..at, text.iter().copied());
    };
    match rng.u32(..100) {
        0..12 => target.push(b'/'),
        12..16 => {
            target.pop_if(|last| *last == b'/');
        }
        16..24 => {
            target.extend_from_slice(pick(rng, &[&b"/bar"[..], b"/x/y", b"x", b"/FOO", b";v=1", b".html"]))
        }
        24..50 => {
            let middle: [&[u8]; 13] = [
                b"//", b"/./", b"/../", b"/x/../", b"/..", b"/.", b"%2F", b"%2f", b"%2e%2e/", b"/%2E",
                b"///..//", b"..", b"/..;/",
            ];
            let text = pick(rng, &middle);
            insert(target, at, text);
        }
        50..62 => {
            // An escape in place of the byte itself.
            if let Some(byte) = target.get(at).copied() {
                let text = if chance(rng, 50) { format!("%{byte:02x}") } else { format!("%{byte:02X}") };
                target.splice(at..=at, text.into_bytes());
            }
        }
        62..76 => {
            let signs: [&[u8]; 22] = [
                b"%20",
                b"%3F",
                b"%3f",
                b"%23",
                b"%25",
                b"%2525",
                b"%00",
                b"%",
                b"%z1",
                b"%4",
                b"%ff",
                b"%C3%A4",
                b"\xff",
                b"\xc3\xa4",
                b";",
                b"+",
                b"&",
                b"%0a",
                b"%0D",
                b"\\",
                b"%5c",
                b"\"<>^`{|}",
            ];
            let text = pick(rng, &signs);
            insert(target, at, text);
        }
        76..86 => {
            if let Some(byte) = target.get_mut(at) {
                *byte = if byte.is_ascii_lowercase() {
                    byte.to_ascii_uppercase()
                } else {
                    byte.to_ascii_lowercase()
                };
            }
        }
        86..90 => {
            let long = pick(rng, &[&b"a"[..], b"/seg", b"%2f", b"/../x", b"/"]).repeat(1 + rng.usize(..600));
            insert(target, at, &long);
        }
        90..94 => {
            target.truncate(at.max(1));
        }
        _ => {
            let byte = rng.u8(0x21..);
            insert(target, at, &[byte]);
        }
    }
    if target.first() != Some(&b'/') && chance(rng, 95) {
        target.insert(0, b'/');
    }
}
