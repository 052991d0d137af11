//! What happens when files change, and when they are wrong.

use ingress_wasm_tests::site::Backend;

use crate::support::{
    SOON, Served, answered, expect_status, ingress, serve, serve_files, without_a_failed_request,
};

fn backends() -> [Backend; 2] {
    [Backend::new("web", 1), Backend::new("alt", 1)]
}

/// Which service answers for the host `web.example`.
fn service(served: &Served) -> Result<Option<String>, String> {
    let response = served.get("web.example", "/")?;
    expect_status(&response, 200, "web.example")?;
    Ok(answered(&response))
}

pub fn changed_file_is_live_without_a_failed_request() -> Result<(), String> {
    let served = serve(&backends(), &ingress("web", "web", &[]))?;
    without_a_failed_request(&served, &["web.example"], || {
        (1..=6).try_for_each(|round| {
            let next = if round % 2 == 0 { "web" } else { "alt" };
            let mark = served.product.stdout_mark();
            served.site.write("site.yaml", &ingress("web", next, &[])).map_err(|error| error.to_string())?;
            served.product.wait_stdout(mark, "reloaded", SOON)?;
            match service(&served)? {
                Some(service) if service == next => Ok(()),
                other => Err(format!("change {round} is said to be live, but {other:?} answers, not {next}")),
            }
        })
    })
}

/// Replaces a good file by a bad one, waits for the report, and looks whether the last good version serves;
/// then repairs it.
fn spoil_and_repair(spoilt: &str, report: &[&str]) -> Result<(), String> {
    let rest = ingress("rest", "alt", &[]);
    let served =
        serve_files(&backends(), &[("site.yaml", &ingress("web", "web", &[])), ("rest.yaml", &rest)])?;
    assert_eq!(service(&served)?.as_deref(), Some("web"));
    let write = |name: &str, text: &str| served.site.write(name, text).map_err(|error| error.to_string());
    let mark = served.product.stderr_mark();
    write("site.yaml", spoilt)?;
    served.product.wait_all_on_stderr(mark, report, SOON)?;
    // A change elsewhere must go through, and must not bring the bad version in.
    let mark = served.product.stdout_mark();
    write("rest.yaml", &ingress("rest", "web", &[]))?;
    served.product.wait_stdout(mark, "reloaded", SOON)?;
    assert_eq!(service(&served)?.as_deref(), Some("web"), "the last good version serves");
    assert_eq!(answered(&served.get("rest.example", "/")?).as_deref(), Some("web"), "other files change");
    let mark = served.product.stdout_mark();
    write("site.yaml", &ingress("web", "alt", &[]))?;
    served.product.wait_stdout(mark, "reloaded", SOON)?;
    assert_eq!(service(&served)?.as_deref(), Some("alt"), "the repaired version serves");
    Ok(())
}

pub fn object_that_becomes_invalid_keeps_serving() -> Result<(), String> {
    let good = ingress("web", "alt", &[]);
    let spoilt = good.replace("pathType: Prefix", "pathType: Nonsense");
    assert_ne!(spoilt, good);
    spoil_and_repair(&spoilt, &["site.yaml", "default/web", "pathType", "Nonsense"])
}

pub fn file_that_becomes_unreadable_keeps_serving() -> Result<(), String> {
    let good = ingress("web", "alt", &[]);
    let spoilt = good.replace("spec:", "spec: [");
    assert_ne!(spoilt, good);
    spoil_and_repair(&spoilt, &["site.yaml"])
}

/// The line, counted from 1, on which a text stands.
fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).map_or(0, |index| index + 1)
}

pub fn mistakes_are_named_and_the_rest_serves() -> Result<(), String> {
    let typo = ingress("typo", "web", &[]).replace("- host:", "- Host:");
    let expression = ingress("expression", "web", &[("use-regex", "true")])
        .replace("path: /\n        pathType: Prefix", "path: /a(b\n        pathType: ImplementationSpecific");
    let secret = ingress("locked", "web", &[("auth-type", "basic"), ("auth-secret", "no-such-secret")]);
    let syntax = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: syntax\nspec: ]\n";
    let files = [
        ("good.yaml", ingress("web", "web", &[])),
        ("typo.yaml", typo.clone()),
        ("expression.yaml", expression.clone()),
        ("secret.yaml", secret.clone()),
        ("syntax.yaml", syntax.to_owned()),
    ];
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let served = serve_files(&backends(), &files)?;
    assert_eq!(service(&served)?.as_deref(), Some("web"), "the good file serves");
    // File and line, object, field.
    let reports = [
        [format!("typo.yaml:{}", line_of(&typo, "Host:")), "default/typo".to_owned(), "Host".to_owned()],
        [
            format!("expression.yaml:{}", line_of(&expression, "/a(b")),
            "default/expression".to_owned(),
            "/a(b".to_owned(),
        ],
        [
            format!("secret.yaml:{}", line_of(&secret, "no-such-secret")),
            "default/locked".to_owned(),
            "auth-secret".to_owned(),
        ],
        // The object of a text that is no YAML cannot be known, and neither can its field.
        ["syntax.yaml:".to_owned(), "syntax.yaml".to_owned(), "syntax.yaml".to_owned()],
    ];
    for report in &reports {
        let parts: Vec<_> = report.iter().map(String::as_str).collect();
        served.product.wait_all_on_stderr(0, &parts, SOON)?;
    }
    expect_status(&served.get("locked.example", "/")?, 503, "a protection that cannot be honoured")?;
    assert_ne!(
        served.get("typo.example", "/")?.status,
        200,
        "a rule with a mistake in its host serves nothing"
    );
    let anybody = served.get("nobody.example", "/")?;
    expect_status(&anybody, 404, "a misspelt host must not make the rule one for all hosts")
}
