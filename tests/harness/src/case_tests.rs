use super::*;

const EVERYTHING: &str = r#"
- name: everything
  source: nowhere
  area: routing
  isolated: true
  services: ['web:80', 'auth:8080']
  endpoints: {web: 3}
  dead_endpoints: {web: 1}
  config: {use-http2: "false"}
  needs: [client-cert, tls-options, observe-others]
  manifests: |
    kind: Ingress
  requests:
    - url: https://a.example:8443/x%20y//?q=#f
      method: POST
      headers: {X-B: "1", X-A: ["2", "3"], X-Empty: ""}
      body: "a"
      repeat: 2
      parallel: 3
      http: "2"
      client_ip: 192.0.2.1
      client_cert: {cert: C, key: K}
      tls: {min: "1.2", max: "1.3", sni: b.example, alpn: [h2]}
      expect:
        status: [200, 301]
        backend: web
        path: /x
        method: POST
        request_headers: {X-Gone: null, X-B: "1", X-M: {matches: "^a+$"}, X-A: ["2", {matches: "3"}]}
        headers: {Location: "https://x/"}
        body: {matches: "x"}
        share: {web: [1, 2]}
        statuses: {200: [1, 2], 503: [0, 0]}
        endpoints: [1, 2]
        endpoint_share: [3, 4]
        reached: [{backend: auth, times: 1, method: GET, path: /v, request_headers: {A: b}}]
        also_reached: {auth: {times: 2, body: "x"}}
        tls: {handshake: failed, version: TLSv1.3, alpn: h2, certificate_cn: a, certificate_cn_not: b}
    - url: http://a.example
      body_bytes: 10
      expect:
        backend: null
        endpoints: 2
    - url: http://a.example/
"#;

#[test]
fn every_key_is_read() {
    let case = parse(EVERYTHING).unwrap().remove(0);
    assert_eq!(case.endpoints_of("web"), (3, 1));
    assert_eq!(case.endpoints_of("auth"), (1, 0));
    let first = &case.requests[0];
    let url = Url { https: true, host: "a.example:8443".to_owned(), target: "/x%20y//?q=#f".to_owned() };
    assert_eq!(first.url, url);
    assert_eq!(first.url.to_string(), "https://a.example:8443/x%20y//?q=#f");
    let names: Vec<_> = first.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["X-B", "X-A", "X-Empty"], "headers keep the order of the file");
    assert_eq!(first.headers[1].1.as_slice(), ["2", "3"]);
    assert_eq!(first.tls.max, Some(TlsVersion::Tls13));
    let expect = &first.expect;
    assert_eq!(expect.status.as_ref().unwrap().as_slice(), [200, 301]);
    assert_eq!(expect.backend, Some(Some("web".to_owned())));
    assert!(matches!(expect.request_headers[0].1, Lines::Absent(())));
    assert!(matches!(expect.request_headers[1].1, Lines::One(Text::Exact(_))));
    assert!(matches!(expect.request_headers[2].1, Lines::One(Text::Matches(_))));
    assert!(matches!(&expect.request_headers[3].1, Lines::All(lines) if lines.len() == 2));
    assert_eq!(expect.statuses.get(&503), Some(&(0, 0)));
    assert_eq!(expect.endpoints.unwrap().bounds(), (1, 2));
    assert_eq!(expect.all_reached().len(), 2);
    let second = &case.requests[1];
    assert_eq!((second.url.target.as_str(), second.method.as_str(), second.repeat), ("/", "GET", 1));
    assert_eq!(second.expect.backend, Some(None), "null is not the same as missing");
    assert_eq!(case.requests[2].expect.backend, None);
    let implied = case.abilities();
    assert!(implied.contains(&Ability::Http2) && implied.contains(&Ability::Parallel), "{implied:?}");
}

#[test]
fn mistakes_are_refused() {
    let good = "
- name: a
  source: s
  area: x
  services: ['web:80']
  manifests: ''
  requests:
    - url: http://a.example/
      expect: {status: 200}
";
    parse(good).unwrap();
    let mistakes = [
        ("area: x", "area: x\n  arena: y", "arena"),
        ("expect: {status: 200}", "expect: {stratus: 200}", "stratus"),
        ("expect: {status: 200}", "expct: {status: 200}", "expct"),
        ("expect: {status: 200}", "tls: {sin: a}", "sin"),
        ("expect: {status: 200}", "expect: {body: {matches: '('}}", ""),
        ("expect: {status: 200}", "expect: {backend: other}", "`other` is not among its services"),
        ("expect: {status: 200}", "expect: {reached: [{backend: other}]}", "`other`"),
        ("expect: {status: 200}", "repeat: 0", "no time at all"),
        ("expect: {status: 200}", "body: a\n      body_bytes: 1", "both body and body_bytes"),
        ("expect: {status: 200}", "http: '3'", ""),
        ("http://a.example/", "ftp://a.example/", "neither http:// nor https://"),
        ("'web:80'", "'web'", "NAME:PORT"),
        ("area: x", "area: x\n  needs: [magic]", "magic"),
        ("area: x", "area: x\n  endpoints: {other: 1}", "`other`"),
    ];
    for (from, to, message) in mistakes {
        let text = good.replace(from, to);
        assert_ne!(text, good, "{from}");
        let error = parse(&text).expect_err(&text);
        assert!(error.contains(message), "{to}: {error}");
    }
    let twice = format!("{good}{good}");
    assert!(parse(&twice).unwrap_err().contains("twice"));
}

#[test]
fn a_name_in_two_files_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.yaml", "b.yaml", "c.txt"] {
        std::fs::write(folder.path().join(name), EVERYTHING).unwrap();
    }
    let error = load(folder.path()).unwrap_err();
    assert!(error.contains("case everything is in") && error.contains("a.yaml"), "{error}");
    std::fs::remove_file(folder.path().join("b.yaml")).unwrap();
    assert_eq!(load(folder.path()).unwrap().len(), 1, "only *.yaml is read");
}
