//! Headers of requests and answers, cookies and CORS.

use super::*;

const BASE: Annotation = Annotation { group: Group::Headers, ..super::BASE };

/// What belongs to `enable-cors`.
const CORS: Annotation = Annotation { needs: &["enable-cors"], lost: Lost::Ignored(Severity::Note), ..BASE };

pub(super) const ENTRIES: &[Annotation] = &[
    Annotation {
        name: "connection-proxy-header",
        value: ValueGrammar::one_of(&["close", "keep-alive"]),
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        lost: Lost::Ignored(Severity::Note),
        summary: "The Connection header of requests to the backend.",
        example: "keep-alive",
        ..BASE
    },
    Annotation {
        name: "cors-allow-credentials",
        support: Support::Exact,
        summary: "Whether browsers may send credentials to another origin; `true` unless set.",
        example: "false",
        ..CORS
    },
    Annotation {
        name: "cors-allow-headers",
        value: ValueGrammar::HeaderNames,
        support: Support::Exact,
        risk: Risk::Medium,
        summary: "Headers that scripts of another origin may send.",
        example: "Authorization, Content-Type",
        ..CORS
    },
    Annotation {
        name: "cors-allow-methods",
        value: ValueGrammar::Methods,
        support: Support::Exact,
        risk: Risk::Medium,
        summary: "Methods that scripts of another origin may use.",
        example: "GET, POST, OPTIONS",
        ..CORS
    },
    Annotation {
        name: "cors-allow-origin",
        value: ValueGrammar::Origins,
        support: Support::Exact,
        // Invalid, it means `*`, with credentials, in ingress-nginx.
        protects: true,
        risk: Risk::Medium,
        summary: "The origins whose scripts may read answers; `*` unless set.",
        example: "https://app.example, https://*.shop.example",
        ..CORS
    },
    Annotation {
        name: "cors-expose-headers",
        value: ValueGrammar::HeaderNames,
        support: Support::Exact,
        risk: Risk::Medium,
        summary: "Headers of the answer that scripts of another origin may read.",
        example: "X-Total-Count",
        ..CORS
    },
    Annotation {
        name: "cors-max-age",
        value: ValueGrammar::ANY_INTEGER,
        support: Support::Exact,
        summary: "How many seconds browsers remember the answer to a preflight request.",
        example: "600",
        ..CORS
    },
    Annotation {
        name: "custom-headers",
        value: ValueGrammar::ConfigMapName,
        support: Support::Exact,
        risk: Risk::Medium,
        summary: "A ConfigMap with headers for the answer; their names must be among `global-allowed-response-headers` \
                  of the controller's ConfigMap.",
        example: "default/answer-headers",
        ..BASE
    },
    Annotation {
        name: "enable-cors",
        scope: Scope::Rule,
        support: Support::Exact,
        neutral: &["false"],
        summary: "Answers preflight requests and sends CORS headers.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "proxy-cookie-domain",
        value: ValueGrammar::CookieDomains,
        support: Support::Exact,
        neutral: &["off"],
        risk: Risk::Medium,
        summary: "Replaces the domain in cookies of the backend.",
        example: "internal.example public.example",
        ..BASE
    },
    Annotation {
        name: "proxy-cookie-path",
        value: ValueGrammar::Characters(&grammar::COOKIE_PATHS),
        support: Support::Exact,
        neutral: &["off"],
        risk: Risk::Medium,
        summary: "Replaces the path in cookies of the backend.",
        example: "/internal/ /",
        ..BASE
    },
    Annotation {
        name: "proxy-redirect-from",
        value: ValueGrammar::Url,
        support: Support::Exact,
        neutral: &["off"],
        risk: Risk::Medium,
        summary: "The beginning of Location in redirects of the backend that `proxy-redirect-to` replaces.",
        example: "http://internal.example/",
        ..BASE
    },
    Annotation {
        name: "proxy-redirect-to",
        value: ValueGrammar::Url,
        support: Support::Exact,
        neutral: &["off"],
        risk: Risk::Medium,
        summary: "What stands in place of `proxy-redirect-from`.",
        example: "https://public.example/",
        ..BASE
    },
    Annotation {
        name: "upstream-vhost",
        value: ValueGrammar::HostName,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        summary: "The Host header of requests to the backend.",
        example: "internal.example",
        ..BASE
    },
    Annotation {
        name: "x-forwarded-prefix",
        value: ValueGrammar::Characters(&grammar::PREFIX),
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        risk: Risk::Medium,
        summary: "The header X-Forwarded-Prefix of requests whose path `rewrite-target` changes; may use `$1` to `$9`.",
        example: "/shop",
        ..BASE
    },
];
