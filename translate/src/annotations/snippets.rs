//! Pieces of nginx configuration, and ModSecurity.

use super::*;

const BASE: Annotation = Annotation { group: Group::Snippets, ..super::BASE };

/// A snippet in the middle of requests.
const SNIPPET: Annotation = Annotation {
    value: ValueGrammar::Snippet,
    protects: true,
    lost: Lost::DeniedIfGuarding,
    risk: Risk::Critical,
    ..BASE
};

/// ModSecurity keeps attacks out.
const FIREWALL: Annotation = Annotation {
    support: Support::NotSupported("requests are not inspected, so the rule answers 503"),
    protects: true,
    lost: Lost::Denied,
    ..BASE
};

pub(super) const ENTRIES: &[Annotation] = &[
    Annotation {
        name: "auth-snippet",
        support: Support::Differs(
            "`proxy_set_header` is honoured; any other directive makes the rule answer 503",
        ),
        lost: Lost::Denied,
        needs: &["auth-url"],
        summary: "nginx configuration for the request to the authentication service.",
        example: "proxy_set_header X-Tenant shop;",
        ..SNIPPET
    },
    Annotation {
        name: "configuration-snippet",
        support: Support::Differs(SNIPPET_SUBSET),
        summary: "nginx configuration for the paths of the Ingress.",
        example: "more_set_headers \"X-Frame-Options: DENY\";",
        ..SNIPPET
    },
    Annotation {
        name: "enable-modsecurity",
        // Invalid, it means `false` in ingress-nginx.
        neutral: &["false"],
        summary: "Inspects requests with ModSecurity.",
        example: "true",
        ..FIREWALL
    },
    Annotation {
        name: "enable-owasp-core-rules",
        neutral: &["false"],
        needs: &["enable-modsecurity"],
        summary: "Inspects requests by the OWASP Core Rule Set.",
        example: "true",
        ..FIREWALL
    },
    Annotation {
        name: "modsecurity-snippet",
        value: ValueGrammar::Text,
        needs: &["enable-modsecurity"],
        risk: Risk::Critical,
        summary: "Rules for ModSecurity.",
        example: "SecRuleEngine On",
        ..FIREWALL
    },
    Annotation {
        name: "modsecurity-transaction-id",
        value: ValueGrammar::Characters(&grammar::VARIABLES),
        support: Support::NotSupported("the rule answers 503 because of `enable-modsecurity`"),
        protects: false,
        lost: Lost::Ignored(Severity::Note),
        needs: &["enable-modsecurity"],
        risk: Risk::High,
        summary: "The nginx variable that names a request in ModSecurity's log.",
        example: "$request_id",
        ..FIREWALL
    },
    Annotation {
        name: "server-snippet",
        scope: Scope::Host,
        support: Support::Differs(SNIPPET_SUBSET),
        summary: "nginx configuration for the hosts of the Ingress.",
        example: "more_set_headers \"X-Served-By: edge\";",
        ..SNIPPET
    },
    Annotation {
        name: "stream-snippet",
        scope: Scope::Ingress,
        support: Support::NotSupported("TCP and UDP services are not served"),
        protects: false,
        lost: Lost::Ignored(Severity::Error),
        summary: "nginx configuration for TCP and UDP services, outside of HTTP.",
        example: "server { listen 8000; proxy_pass 127.0.0.1:80; }",
        ..SNIPPET
    },
];
