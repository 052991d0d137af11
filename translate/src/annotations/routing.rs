//! Paths, rewrites, redirects and default backends.

use super::*;

pub(super) const ENTRIES: &[Annotation] = &[
    Annotation {
        name: "app-root",
        scope: Scope::Host,
        value: ValueGrammar::Path,
        support: Support::Exact,
        risk: Risk::Medium,
        summary: "Redirects (302) a request for exactly `/` to this path, for the whole host.",
        example: "/dashboard",
        ..BASE
    },
    Annotation {
        name: "custom-http-errors",
        value: ValueGrammar::StatusCodes,
        support: Support::Differs(
            "where the error comes from a backend, the Service that writes the page gets the method and the headers of \
             the request but not its body",
        ),
        on_invalid: OnInvalid::DropsIngress,
        summary: "Hands answers with these statuses to the default backend, which writes the page that the client \
                  sees.",
        example: "404,503",
        ..BASE
    },
    Annotation {
        name: "default-backend",
        value: ValueGrammar::ServiceName,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        summary: "The Service that answers when the Service of a rule has no endpoints, and that writes the pages \
                  of `custom-http-errors`.",
        example: "errors",
        ..BASE
    },
    Annotation {
        name: "disable-proxy-intercept-errors",
        support: Support::Exact,
        neutral: &["false"],
        summary: "Leaves answers of the backend alone although `custom-http-errors` names their status.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "force-ssl-redirect",
        support: Support::Exact,
        neutral: &["false"],
        risk: Risk::Medium,
        summary: "Redirects plain HTTP to HTTPS even where the Ingress has no certificate.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "from-to-www-redirect",
        scope: Scope::Host,
        support: Support::Differs(
            "Location has the port that the client named in Host, and none where it named none, instead of that of \
             the listener",
        ),
        on_invalid: OnInvalid::DropsIngress,
        neutral: &["false"],
        summary: "Redirects `www.` and the host to each other, towards the one that the Ingress names.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "permanent-redirect",
        value: ValueGrammar::Url,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        risk: Risk::Medium,
        summary: "Answers every request with a permanent redirect to this URL.",
        example: "https://new.example",
        ..BASE
    },
    Annotation {
        name: "permanent-redirect-code",
        value: ValueGrammar::ANY_INTEGER,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        summary: "The status of `permanent-redirect`, 300 to 308; any other number means 301.",
        example: "308",
        ..BASE
    },
    Annotation {
        name: "preserve-trailing-slash",
        support: Support::Exact,
        neutral: &["false"],
        risk: Risk::Medium,
        summary: "Keeps a final `/` of the path when redirecting to HTTPS.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "relative-redirects",
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        neutral: &["false"],
        summary: "Writes redirects of the proxy itself without scheme and host.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "rewrite-target",
        value: ValueGrammar::RewriteTarget,
        support: Support::Exact,
        risk: Risk::Medium,
        summary: "The path that the backend gets; `$1` to `$9` stand for the groups of the rule's expression. All \
                  paths of the host become expressions.",
        example: "/$2",
        ..BASE
    },
    Annotation {
        name: "server-alias",
        scope: Scope::Host,
        value: ValueGrammar::HostNames,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        risk: Risk::High,
        summary: "Further names of the host: exact, with `*.`, or regular expressions after `~`.",
        example: "www.shop.example,shop.test",
        ..BASE
    },
    Annotation {
        name: "ssl-redirect",
        support: Support::Differs(
            "an alias counts as covered by the certificate where `spec.tls` lists it; the certificate itself is not \
             looked into",
        ),
        neutral: &["false"],
        summary: "Redirects plain HTTP to HTTPS where the host has a certificate; on unless it is `false`.",
        example: "false",
        ..BASE
    },
    Annotation {
        name: "temporal-redirect",
        value: ValueGrammar::Url,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        risk: Risk::Medium,
        summary: "Answers every request with a temporary redirect to this URL; without a scheme it is ignored.",
        example: "https://status.example/maintenance",
        ..BASE
    },
    Annotation {
        name: "temporal-redirect-code",
        value: ValueGrammar::ANY_INTEGER,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        needs: &["temporal-redirect"],
        summary: "The status of `temporal-redirect`, 300 to 307; any other number means 302.",
        example: "307",
        ..BASE
    },
    Annotation {
        name: "use-port-in-redirects",
        support: Support::NotSupported("how redirects are written does not depend on it"),
        neutral: &["false"],
        summary: "Names the port in redirects of the proxy itself.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "use-regex",
        scope: Scope::Host,
        support: Support::Differs(
            "PCRE's expressions, but without recursion, conditionals, verbs and Unicode properties: such a path is \
             reported and refused, never guessed",
        ),
        summary: "Makes every path of the host a regular expression without case, anchored at its start.",
        example: "true",
        ..BASE
    },
];
