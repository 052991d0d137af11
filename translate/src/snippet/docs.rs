//! `docs/snippets.md`, from the table of directives.

use super::{DIRECTIVES, Treatment};

const HEAD: &str = "\
# Snippets

This page is made from the code (`translate/src/snippet/directives.rs`).

No other Ingress controller reads the snippets of ingress-nginx. ingress-wasm parses them as nginx does, and carries out
what is listed here: `configuration-snippet` and `server-snippet` of Ingresses, `location-snippet`, `server-snippet` and
`http-snippet` of the ConfigMap. There is no nginx; a snippet becomes a short list of steps that the filter takes.

As in ingress-nginx an annotation with a snippet needs `allow-snippet-annotations: \"true\"` and `annotations-risk-level:
Critical` in the ConfigMap. Without the level the Ingress is not served, without the permission the snippet is left out.

What is not in the list never passes in silence. A diagnostic names the directive and its line, and one of two things
happens:

* A directive that only changes how answers look, are buffered, compressed, cached or logged is left out.
* Any other may keep somebody out, or change what a backend trusts. The rule answers 503; for a `server-snippet` all rules
  of the host do, for the ConfigMap all rules.

## Honoured

| Directive | Example | Difference |
|---|---|---|
";

const MIDDLE: &str = "
Directives take effect in nginx's order: `set`, `if`, `return`, `rewrite` and `break` of the server, then those of the
rule, before redirects to HTTPS, addresses and authentication; then `allow` and `deny`; headers at the end. `rewrite` works
on the decoded path. Of several `if` that hold, the headers of the last one count, as in nginx; unlike there, they never take
those of `enable-cors` away. An `add_header` in a block takes the place of those around it.

Variables: groups `$1` to `$9` and named groups, those that `set` and `map` make, and `$arg_…`, `$args`, `$best_http_host`,
`$content_length`, `$content_type`, `$cookie_…`, `$document_uri`, `$host`, `$http_…`, `$https`, `$ingress_name`, `$is_args`,
`$location_path`, `$msec`, `$namespace`, `$pass_access_scheme`, `$pass_port`, `$proxy_add_x_forwarded_for`, `$proxy_host`,
`$proxy_upstream_name`, `$query_string`, `$remote_addr`, `$remote_user`, `$req_id`, `$request_id`, `$request_method`,
`$request_uri`, `$scheme`, `$server_name`, `$server_port`, `$service_name`, `$service_port`, `$uri`. What is known only with the
answer (`$upstream_…`, `$status`) is not there.

## Nothing to be done

";

/// The page.
pub fn snippets_markdown() -> String {
    let mut page = HEAD.to_owned();
    let list = |treatment: fn(Treatment) -> bool| {
        let names = DIRECTIVES.iter().filter(|known| treatment(known.treatment));
        names.map(|known| format!("`{}`", known.name)).collect::<Vec<_>>().join(", ")
    };
    for known in DIRECTIVES {
        if let Treatment::Honoured(difference) = known.treatment {
            let example = known.example.replace('|', "\\|");
            page.push_str(&format!("| `{}` | `{example}` | {difference} |\n", known.name));
        }
    }
    page.push_str(MIDDLE);
    page.push_str(&list(|treatment| matches!(treatment, Treatment::NoEffect(_))));
    page.push_str(".\n\n## Left out\n\n");
    page.push_str(&list(|treatment| treatment == Treatment::LeftOut));
    page.push_str(".\n");
    page
}
