//! Who may come in: basic authentication, authentication by another service, client certificates.

use super::*;

const BASE: Annotation = Annotation { group: Group::Auth, ..super::BASE };

/// What belongs to `auth-url`: without it ingress-nginx does not read the rest.
const EXTERNAL: Annotation = Annotation { needs: &["auth-url"], ..BASE };
/// What belongs to `auth-tls-secret`.
const CERTIFICATE: Annotation = Annotation { scope: Scope::Host, needs: &["auth-tls-secret"], ..BASE };

pub(super) const ENTRIES: &[Annotation] = &[
    Annotation {
        name: "auth-always-set-cookie",
        support: Support::Exact,
        // Invalid, it switches auth-url off in ingress-nginx.
        protects: true,
        lost: Lost::Ignored(Severity::Note),
        neutral: &["false"],
        summary: "Hands cookies of the authentication service to the client whatever the status of the answer.",
        example: "true",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-cache-duration",
        value: ValueGrammar::CacheDurations,
        support: Support::Exact,
        // Foreign characters in it switch auth-url off in ingress-nginx.
        protects: true,
        on_invalid: OnInvalid::DeniesRule,
        lost: Lost::Ignored(Severity::Note),
        risk: Risk::Medium,
        summary: "How long answers of the authentication service are remembered, by status.",
        example: "200 202 30m",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-cache-key",
        value: ValueGrammar::Characters(&grammar::VARIABLES),
        support: Support::Exact,
        lost: Lost::Ignored(Severity::Note),
        risk: Risk::Medium,
        summary: "Remembers answers of the authentication service under this key.",
        example: "$remote_user$http_authorization",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-keepalive",
        value: ValueGrammar::ANY_INTEGER,
        support: Support::NoEffect("Envoy manages its connections by itself"),
        summary: "How many idle connections to the authentication service are kept.",
        example: "16",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-keepalive-requests",
        value: ValueGrammar::ANY_INTEGER,
        support: Support::NoEffect("Envoy manages its connections by itself"),
        summary: "How many requests one connection to the authentication service carries.",
        example: "1000",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-keepalive-share-vars",
        support: Support::NoEffect("there are no nginx variables that requests could share"),
        summary: "Lets the authentication request share nginx variables with the request.",
        example: "true",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-keepalive-timeout",
        value: ValueGrammar::ANY_INTEGER,
        support: Support::NoEffect("Envoy manages its connections by itself"),
        summary: "How many seconds an idle connection to the authentication service is kept.",
        example: "60",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-method",
        value: ValueGrammar::Method,
        support: Support::Exact,
        on_invalid: OnInvalid::DeniesRule,
        protects: true,
        lost: Lost::Ignored(Severity::Note),
        summary: "The method of the request to the authentication service.",
        example: "POST",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-proxy-set-headers",
        value: ValueGrammar::ConfigMapName,
        support: Support::Exact,
        on_invalid: OnInvalid::DeniesRule,
        protects: true,
        lost: Lost::Ignored(Severity::Note),
        risk: Risk::Medium,
        summary: "A ConfigMap with headers for the request to the authentication service.",
        example: "default/auth-headers",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-realm",
        value: ValueGrammar::Characters(&grammar::REALM),
        support: Support::Differs("`off` does not switch authentication off: such a rule answers 503"),
        on_invalid: OnInvalid::DropsIngress,
        protects: true,
        lost: Lost::Denied,
        refused: &["off"],
        needs: &["auth-type"],
        risk: Risk::Medium,
        summary: "What a browser shows when it asks for name and password.",
        example: "Staff only",
        ..BASE
    },
    Annotation {
        name: "auth-request-redirect",
        value: ValueGrammar::Url,
        support: Support::Exact,
        // Invalid, it switches auth-url off in ingress-nginx.
        protects: true,
        lost: Lost::Ignored(Severity::Note),
        risk: Risk::Medium,
        summary: "The value of X-Auth-Request-Redirect in the request to the authentication service.",
        example: "https://app.example/start",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-response-headers",
        value: ValueGrammar::HeaderNames,
        support: Support::Exact,
        on_invalid: OnInvalid::DeniesRule,
        protects: true,
        lost: Lost::Ignored(Severity::Note),
        risk: Risk::Medium,
        summary: "Headers of the authentication service's answer that the backend gets.",
        example: "X-Auth-User, X-Auth-Role",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-secret",
        value: ValueGrammar::SecretName { namespace_required: false },
        support: Support::Differs(
            "understood are the hashes apr1, bcrypt, SHA, SSHA, MD5 crypt, SHA-256 crypt, SHA-512 crypt and plain \
             text; a user with any other cannot log in",
        ),
        on_invalid: OnInvalid::DeniesRule,
        protects: true,
        empty_is_mistake: true,
        lost: Lost::Denied,
        risk: Risk::Medium,
        summary: "The Secret with names and passwords for basic authentication.",
        example: "basic-auth",
        ..BASE
    },
    Annotation {
        name: "auth-secret-type",
        value: ValueGrammar::one_of(&["auth-file", "auth-map"]),
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        protects: true,
        lost: Lost::Denied,
        needs: &["auth-type"],
        summary: "The form of the Secret: one htpasswd file under the key `auth`, or one key per user.",
        example: "auth-map",
        ..BASE
    },
    Annotation {
        name: "auth-signin",
        value: ValueGrammar::UrlWithVariables,
        support: Support::Exact,
        lost: Lost::Ignored(Severity::Note),
        risk: Risk::High,
        summary: "Where a client that the authentication service refused is redirected.",
        example: "https://login.example/start?rd=$escaped_request_uri",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-signin-redirect-param",
        value: ValueGrammar::Url,
        support: Support::Exact,
        lost: Lost::Ignored(Severity::Note),
        risk: Risk::Medium,
        summary: "The query parameter of `auth-signin` that carries the original URL; `rd` unless set.",
        example: "return_to",
        ..EXTERNAL
    },
    Annotation {
        name: "auth-tls-error-page",
        value: ValueGrammar::Characters(&grammar::PAGE),
        support: Support::Differs("a named location (`@…`) is no page: such clients are answered 400"),
        on_invalid: OnInvalid::DropsIngress,
        protects: true,
        lost: Lost::Ignored(Severity::Note),
        risk: Risk::High,
        summary: "Where a client without an accepted certificate is redirected.",
        example: "https://help.example/certificates",
        ..CERTIFICATE
    },
    Annotation {
        name: "auth-tls-match-cn",
        value: ValueGrammar::CommonName,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        protects: true,
        lost: Lost::Denied,
        risk: Risk::High,
        summary: "Accepts only certificates whose subject matches.",
        example: "CN=client-.*",
        ..CERTIFICATE
    },
    Annotation {
        name: "auth-tls-pass-certificate-to-upstream",
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        protects: true,
        lost: Lost::Ignored(Severity::Note),
        neutral: &["false"],
        summary: "Hands the client's certificate to the backend in the header ssl-client-cert.",
        example: "true",
        ..CERTIFICATE
    },
    Annotation {
        name: "auth-tls-secret",
        scope: Scope::Host,
        value: ValueGrammar::SecretName { namespace_required: true },
        support: Support::Differs(
            "sessions of TLS are not resumed on such hosts; a Secret without `ca.crt` refuses every request, where \
             ingress-nginx asks for no certificate; a header ssl-client-cert of the client is always taken away",
        ),
        on_invalid: OnInvalid::DeniesRule,
        protects: true,
        lost: Lost::Denied,
        risk: Risk::Medium,
        summary: "Asks clients of the host for a certificate that one of these authorities has signed.",
        example: "default/client-ca",
        ..BASE
    },
    Annotation {
        name: "auth-tls-verify-client",
        value: ValueGrammar::one_of(&["on", "off", "optional", "optional_no_ca"]),
        support: Support::Differs(
            "whatever is the matter with a certificate, the backend is told `FAILED:unable to verify the first \
             certificate`; with `optional_no_ca` that holds for a revoked one and for a chain that is too long as well",
        ),
        // An invalid value means `on`, the strictest.
        protects: true,
        safe_if_invalid: true,
        lost: Lost::Denied,
        risk: Risk::Medium,
        summary: "Whether a client certificate is demanded; `on` unless set.",
        example: "optional",
        ..CERTIFICATE
    },
    Annotation {
        name: "auth-tls-verify-depth",
        value: ValueGrammar::ANY_INTEGER,
        support: Support::Exact,
        // An invalid value means 1, the strictest.
        protects: true,
        safe_if_invalid: true,
        lost: Lost::Denied,
        summary: "How long the chain of certificates may be; 1 unless set.",
        example: "2",
        ..CERTIFICATE
    },
    Annotation {
        name: "auth-type",
        value: ValueGrammar::one_of(&["basic", "digest"]),
        support: Support::Differs(
            "`digest` is not offered: such a rule answers 503, and so does `auth-secret` alone",
        ),
        on_invalid: OnInvalid::DropsIngress,
        protects: true,
        empty_is_mistake: true,
        lost: Lost::Denied,
        refused: &["digest"],
        summary: "Asks for name and password.",
        example: "basic",
        ..BASE
    },
    Annotation {
        name: "auth-url",
        value: ValueGrammar::AuthUrl,
        support: Support::Differs(
            "the service gets no forwarded headers (X-Forwarded-Host, X-Original-URI, …) that an untrusted client made \
             up; a host that is the proxy itself, or has variables other than $host, makes the rule answer 503",
        ),
        on_invalid: OnInvalid::DropsIngress,
        protects: true,
        lost: Lost::Denied,
        risk: Risk::High,
        summary: "Asks this service about every request and lets only those pass that it answers with 2xx.",
        example: "http://oauth2-proxy.auth.svc.cluster.local:4180/oauth2/auth",
        ..BASE
    },
    Annotation {
        name: "enable-global-auth",
        support: Support::Exact,
        lost: Lost::Ignored(Severity::Note),
        neutral: &["true", "false"],
        summary: "Whether `global-auth-url` of the ConfigMap holds for the rule; `true` unless set.",
        example: "false",
        ..BASE
    },
    Annotation {
        name: "satisfy",
        value: ValueGrammar::one_of(&["any", "all"]),
        support: Support::Exact,
        // An invalid value means `all`, the stricter one.
        protects: true,
        safe_if_invalid: true,
        lost: Lost::Denied,
        neutral: &["all"],
        summary: "Whether a request has to pass all of address lists and authentication, or any one of them.",
        example: "all",
        ..BASE
    },
];
