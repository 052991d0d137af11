//! The language, and what directives come to.

use ingress_wasm::config::{AnswerEdit, HeaderEdit, Step};

use super::*;

/// Directives in one line each, words in angle brackets.
fn shown(directives: &[Directive], out: &mut String) {
    for Directive { name, args, block, line } in directives {
        out.push_str(&format!("{line}:{name}"));
        args.iter().for_each(|arg| out.push_str(&format!("<{arg}>")));
        if let Some(inner) = block {
            out.push('{');
            shown(inner, out);
            out.push('}');
        }
        out.push(' ');
    }
}

/// What nginx 1.22.1 makes of these words (`return 200` with each, and `nginx -t` for the errors).
#[test]
fn words_are_cut_as_nginx_cuts_them() {
    let cases = [
        ("", ""),
        ("a;", "1:a "),
        ("a b  c\t;\n# d e;\nf;", "1:a<b><c> 3:f "),
        ("a 'b c' \"d;{}#\";", "1:a<b c><d;{}#> "),
        ("a '';", "1:a<> "),
        (r#"a "b\"c" 'd\'e' f\;g;"#, r#"1:a<b"c><d'e><f\;g> "#),
        (r#"a \.php$ "\d+" b\\c "x\ty";"#, "1:a<\\.php$><\\d+><b\\c><x\ty> "),
        ("a ${b}c $d{e;}", "1:a<${b}c><$d>{1:e } "),
        ("if ($a = \"b\") { c; }", "1:if<($a><=><b><)>{1:c } "),
        ("a b#c;", "1:a<b#c> "),
        ("a { b { c; } d; }", "1:a{1:b{1:c } 1:d } "),
        ("'a' b;", "1:a<b> "),
        ("x_by_lua_block { if a then { b } end } c;", "1:x_by_lua_block{} 1:c "),
    ];
    for (text, expected) in cases {
        let directives = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut found = String::new();
        shown(&directives, &mut found);
        assert_eq!(found, expected, "{text}");
        let printed = print(&directives);
        let mut again = parse(&printed).unwrap_or_else(|error| panic!("{text}: {printed}: {error}"));
        let mut first = directives;
        forget_lines(&mut again);
        forget_lines(&mut first);
        assert_eq!(again, first, "{text}: {printed}");
    }
}

fn forget_lines(directives: &mut [Directive]) {
    for directive in directives {
        directive.line = 0;
        forget_lines(directive.block.as_deref_mut().unwrap_or_default());
    }
}

#[test]
fn what_nginx_refuses_is_refused_with_its_line() {
    let cases = [
        ("a", "line 1: `a` does not end with a semicolon"),
        ("a;\nb {\nc;", "line 3: a closing brace is missing"),
        ("}", "line 1: unexpected `}`"),
        ("a { b }", "line 1: `b` does not end with a semicolon"),
        (";", "line 1: unexpected `;`"),
        ("{ a; }", "line 1: unexpected `{`"),
        ("a \"b;", "line 1: the quote is not closed"),
        ("a 'b'c;", "line 1: `c` follows a quote at once"),
        ("a \\", "line 1: nothing follows the backslash"),
    ];
    for (text, expected) in cases {
        let found = parse(text).map_err(|error| error.to_string());
        assert_eq!(found, Err(expected.to_owned()), "{text}");
    }
}

/// What a script does with a request is carried out without a fault, and starts no header line of the client's own.
fn decide_with(script: &ingress_wasm::config::Script, of_host: bool) -> Result<(), String> {
    use ingress_wasm::decision::{Connection, Decision, Edit, RequestView, Scheme};

    let rule = serde_json::json!({"ingress": "n/i", "path": "/", "policies": 0, "action": {"forward": {"cluster": "c"}}});
    let (host, set) = match of_host {
        true => (serde_json::json!({"name": "*", "rules": [rule], "script": script}), serde_json::json!({})),
        false => (serde_json::json!({"name": "*", "rules": [rule]}), serde_json::json!({"script": script})),
    };
    let config = serde_json::json!({"version": 1, "policies": [set], "hosts": [host]}).to_string();
    let config =
        ingress_wasm::config::from_slice(config.as_bytes()).map_err(|error| format!("{config}: {error}"))?;
    let table = ingress_wasm::router::compile(config).map_err(|error| error.to_string())?;
    let targets: [&[u8]; 3] = [b"/ab%0d%0aX:%20y?x=%0a&b=c", b"/b", b"/a\xff"];
    for (target, value) in targets.into_iter().zip([&b"b"[..], b"", b"\xff\t("]) {
        let headers = [
            (&b":method"[..], &b"POST"[..]),
            (b":path", target),
            (b":authority", b"a.example"),
            (b"x", value),
            (b"cookie", value),
        ];
        let connection = Connection { scheme: Scheme::Http, port: 80, peer: b"192.0.2.1" };
        let request = RequestView { headers: &headers, connection, now_ms: 1, random: 2 };
        let mut state = ingress_wasm::policy::State::new([0; 32]);
        let breaks = |value: &[u8]| value.iter().any(|byte| b"\r\n\0".contains(byte));
        let edit_breaks = |edit: &Edit<'_>| match edit {
            Edit::Set(_, value) | Edit::Add(_, value) => breaks(value),
            Edit::For(_, edit) => {
                matches!(&**edit, Edit::Set(_, value) | Edit::Add(_, value) if breaks(value))
            }
            Edit::Remove(_) | Edit::RemoveAll(_) => false,
        };
        let broken = match ingress_wasm::policy::decide(&table, &request, &mut state) {
            Decision::Forward(forward) => {
                forward.edits.iter().chain(&forward.on_response).chain(&forward.on_success).any(edit_breaks)
            }
            Decision::Reply(reply) => reply.headers.iter().any(|(_, value)| breaks(value)),
            other => return Err(format!("{other:?}")),
        };
        if broken {
            return Err(format!("{} starts a line", target.escape_ascii()));
        }
    }
    Ok(())
}

/// Random text of what means something in it; so many of `SNIPPET_ROUNDS`, where that is set.
#[test]
fn no_text_makes_it_panic_and_what_is_read_can_be_printed() {
    let pieces = [
        "a",
        " ",
        "\n",
        ";",
        "{",
        "}",
        "\"",
        "'",
        "\\",
        "$",
        "#",
        "(",
        ")",
        "if ",
        "set $x ",
        "return 403;",
        "rewrite ^/a(?<n>.*)$ /$1?x=$n last;",
        "location ~ ",
        "map $a $b { ",
        "default ",
        "add_header X $y always;",
        "more_set_headers -s 404 'A: b';",
        "limit_except GET { deny all; }",
        "expires 1h;",
        "é",
        "\u{0}",
        "x_by_lua_block {",
        "proxy_set_header Host $host;",
        "if ($x ~* \"(b|c)\") {",
        "set $x $uri;",
        "set $x \"$x$arg_b$cookie_b\";",
        "add_header Y \"$x$http_x\" always;",
        "return 302 $x$request_uri;",
        "return 200 $x;",
        "rewrite ^(.*)$ $1;",
        "if ($request_method = POST) {",
        "allow 192.0.2.0/24;",
        "proxy_hide_header X;",
    ];
    let mut state = 0x5eed_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize) % below
    };
    let (mut read, mut steps) = (0, 0);
    let rounds = std::env::var("SNIPPET_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    for _ in 0..rounds.unwrap_or(20_000) {
        let text: String = (0..next(12)).map(|_| pieces[next(pieces.len())]).collect();
        let Ok(mut directives) = parse(&text) else { continue };
        read += usize::from(!directives.is_empty());
        let printed = print(&directives);
        let mut again = parse(&printed).unwrap_or_else(|error| panic!("{text}: {printed}: {error}"));
        for place in [Place::Http, Place::Server, Place::Location] {
            let mut compiler = Compiler::new(place, Vec::new(), &["host"]);
            compiler.add(&directives);
            let compiled = compiler.finish();
            let Some(script) = script(&compiled, &[], &compiled.maps) else { continue };
            steps += 1;
            let decided = decide_with(&script, place != Place::Location);
            assert!(decided.is_ok(), "{text}: {decided:?}");
        }
        forget_lines(&mut again);
        forget_lines(&mut directives);
        assert_eq!(again, directives, "{text}: {printed}");
    }
    assert!(read > 1_000 && steps > 100, "{read} texts were read, {steps} made scripts");
}

fn location(text: &str) -> Compiled {
    let mut compiler = Compiler::new(Place::Location, Vec::new(), &["x-real-ip"]);
    compiler.add(&parse(text).unwrap_or_else(|error| panic!("{text}: {error}")));
    compiler.finish()
}

#[test]
fn every_example_is_honoured() {
    for known in DIRECTIVES.iter().filter(|known| matches!(known.treatment, Treatment::Honoured(_))) {
        let place = match known.name {
            "location" => Place::Server,
            "map" => Place::Http,
            _ => Place::Location,
        };
        let mut compiler = Compiler::new(place, Vec::new(), &[]);
        compiler.add(&parse(known.example).unwrap_or_else(|error| panic!("{}: {error}", known.example)));
        let compiled = compiler.finish();
        assert_eq!(compiled.findings, [], "{}", known.example);
        assert!(known.example.starts_with(known.name), "{}", known.example);
    }
    assert!(DIRECTIVES.is_sorted_by_key(|known| known.name), "sorted by name");
}

#[test]
fn what_is_not_honoured_is_found() {
    let cases = [
        ("gzip on;", "1 gzip it is not supported"),
        ("\nauth_request /x;", "2! auth_request it is not supported"),
        ("limit_req zone=a;", "1! limit_req it is not supported"),
        ("if (-f $request_filename) { return 403; }", "1! if the condition cannot be read"),
        ("if ($nothing) { return 403; }", "1! if the variable `$nothing` is not known"),
        ("if ($arg_a ~ \"(\") { return 403; }", "1! if the expression cannot be matched"),
        ("if ($arg_a) { proxy_pass http://x; }", "1! proxy_pass it is not supported"),
        ("set $uri /x;", "1! set `$uri` is a variable of nginx itself"),
        ("set $x $upstream_addr;", "1! set the variable `$upstream_addr` is not known"),
        ("add_header X $upstream_addr;", "1 add_header the variable `$upstream_addr` is not known"),
        ("proxy_set_header X $upstream_addr;", "1! proxy_set_header the variable"),
        ("more_set_headers -a 'A: b';", "1 more_set_headers the option -a is not supported"),
        ("return 999;", "1! return `999` is no status"),
        ("rewrite ^ /x sometimes;", "1! rewrite the flag `sometimes` is not known"),
        ("deny nobody;", "1! deny an address, a network or `all` is needed"),
        ("limit_except GET { auth_basic x; }", "1! limit_except `auth_basic` is not supported"),
        ("location /x { deny all; }", "1! location it is not supported in this kind of snippet"),
        ("proxy_set_header Upgrade $http_upgrade;", "1. proxy_set_header nothing needs to be done"),
        ("add_header Content-Length 5;", "1 add_header Envoy writes"),
        ("return 200 \"5 $\";", "1! return a dollar without the name of a variable"),
    ];
    for (text, expected) in cases {
        let compiled = location(text);
        let [finding] = &compiled.findings[..] else { panic!("{text}: {:?}", compiled.findings) };
        let sign = match (finding.harmless, finding.guards) {
            (true, _) => ".",
            (false, true) => "!",
            (false, false) => "",
        };
        let found = format!("{}{sign} {} {}", finding.line, finding.directive, finding.reason);
        assert!(found.starts_with(expected), "{text}: {found}");
        assert_eq!(compiled.lost_guard().is_some(), finding.guards, "{text}");
    }
}

#[test]
fn headers_of_blocks() {
    let text = "more_set_headers 'A: 1'; add_header B 2 always; proxy_set_header X-Real-IP 9; proxy_set_header C 3; \
                if ($arg_x) { more_set_headers 'D: 4'; } if ($arg_y) { add_header E 5 always; }";
    let script = script(&location(text), &[], &<_>::default()).expect("a script");
    let line = |edit: &HeaderEdit| match edit {
        HeaderEdit::Set { name, value } => format!("{name}={value}"),
        HeaderEdit::Add { name, value } => format!("{name}+{value}"),
        HeaderEdit::Remove { name } => format!("{name}-"),
    };
    let answers: Vec<String> = script
        .blocks
        .iter()
        .map(|block| {
            let edits = block.response_headers.iter().map(|AnswerEdit { edit, .. }| line(edit));
            edits.collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(answers, ["A=1 B+2", "A=1 D=4 B+2", "A=1 E+5"]);
    let requests: Vec<String> = script.blocks[1].request_headers.iter().map(line).collect();
    assert_eq!(requests, ["X-Real-IP+9", "C=3"]);
    assert_eq!(script.steps.len(), 4);
    assert!(matches!(script.steps[0], Step::If { skip: 1, .. }));
}

#[test]
fn only_maps_that_are_named_become_steps() {
    let mut http = Compiler::new(Place::Http, Vec::new(), &[]);
    http.add(&parse("map $arg_a $b { default 0; x 1; ~^y 2; } map $arg_a $c { default 1; }").expect("reads"));
    let http = http.finish();
    assert_eq!(http.findings, []);
    let mut own = Compiler::new(Place::Location, vec!["b".to_owned(), "c".to_owned()], &[]);
    own.add(&parse("if ($b) { return 403; }").expect("reads"));
    let script = script(&own.finish(), &[], &http.maps).expect("a script");
    assert_eq!(script.variables, ["b"]);
    let kinds: Vec<&str> = script
        .steps
        .iter()
        .map(|step| match step {
            Step::If { against, .. } => against,
            Step::Set { value, .. } => value,
            _ => "return",
        })
        .collect();
    assert_eq!(kinds, ["0", "^y", "2", "^x$", "1", "", "return"]);
}

/// `UPDATE_DOCS=1` writes the page anew.
#[test]
fn docs_snippets_md_is_current() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/snippets.md");
    let page = snippets_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &page).expect("writes the page");
    }
    let written = std::fs::read_to_string(&path).expect("docs/snippets.md can be read");
    assert!(written == page, "docs/snippets.md is not current: run this test with UPDATE_DOCS=1");
}
