//! Backends: protocol, timeouts, retries, load balancing, stickiness, canaries, mirroring, buffers.

use super::*;

const BASE: Annotation = Annotation { group: Group::Traffic, ..super::BASE };

/// What belongs to `affinity`.
const COOKIE: Annotation =
    Annotation { scope: Scope::Service, support: Support::Exact, needs: &["affinity"], ..BASE };
/// What belongs to `mirror-target`.
const MIRROR: Annotation = Annotation { support: Support::Exact, needs: &["mirror-target"], ..BASE };
/// What belongs to `canary`.
const CANARY_RULE: Annotation =
    Annotation { scope: Scope::Service, support: Support::Exact, needs: &["canary"], ..BASE };
/// Sizes and counts of nginx's buffers.
const BUFFERS: Support = Support::NoEffect("Envoy streams through buffers whose bounds are its own");

/// The words of `proxy-next-upstream`.
pub(super) const NEXT_UPSTREAM: &[&str] = &[
    "error",
    "timeout",
    "invalid_header",
    "http_500",
    "http_502",
    "http_503",
    "http_504",
    "http_403",
    "http_404",
    "http_429",
    "non_idempotent",
    "off",
];
/// How `proxy-next-upstream` differs.
pub(super) const AFTER_SENDING: &str = "a request that was sent and got no answer is tried again where `timeout` is \
     among the words, whether the connection broke or was silent, and not on account of `error` or \
     `invalid_header` alone; a request with a body of more than 256 kB is not sent twice";
/// How `proxy-next-upstream-tries` differs.
pub(super) const MOST_TRIES: &str = "there are ten tries at most, also where 0 asks for no end";
/// Why `proxy-next-upstream-timeout` is not honoured.
pub(super) const TRIES_ONLY: &str = "tries are limited by their number only, not by time";

pub(super) const ENTRIES: &[Annotation] = &[
    Annotation {
        name: "affinity",
        scope: Scope::Service,
        value: ValueGrammar::one_of(&["cookie"]),
        support: Support::Differs(
            "a cookie that ingress-nginx has set is taken, but it may lead to another endpoint than there",
        ),
        summary: "Keeps a client with one endpoint, by a cookie.",
        example: "cookie",
        ..BASE
    },
    Annotation {
        name: "affinity-canary-behavior",
        value: ValueGrammar::one_of(&["sticky", "legacy"]),
        summary: "Whether a client stays with the canary or the main Service that it met first.",
        needs: &["canary"],
        example: "legacy",
        ..COOKIE
    },
    Annotation {
        name: "affinity-mode",
        value: ValueGrammar::one_of(&["balanced", "persistent"]),
        neutral: &["balanced"],
        summary: "Whether clients are spread anew when endpoints are added.",
        example: "persistent",
        ..COOKIE
    },
    Annotation {
        name: "backend-protocol",
        value: ValueGrammar::any_case(&["HTTP", "HTTPS", "GRPC", "GRPCS", "AUTO_HTTP", "FCGI"]),
        support: Support::Differs(
            "FCGI is not spoken, such a rule answers 503; what Envoy itself answers to a gRPC request is a gRPC status \
             with the HTTP status 200, where nginx sends a page",
        ),
        refused: &["FCGI"],
        // An invalid value means HTTP, which is what ingress-nginx then speaks.
        protects: true,
        safe_if_invalid: true,
        lost: Lost::Denied,
        neutral: &["HTTP"],
        summary: "The protocol that the backend speaks.",
        example: "GRPC",
        ..BASE
    },
    Annotation {
        name: "client-body-buffer-size",
        value: ValueGrammar::Size,
        support: BUFFERS,
        on_invalid: OnInvalid::DropsIngress,
        summary: "How much of a request's body is held in memory.",
        example: "16k",
        ..BASE
    },
    Annotation {
        name: "fastcgi-index",
        value: ValueGrammar::Characters(&grammar::FILE),
        support: Support::NotSupported("FastCGI is not spoken"),
        on_invalid: OnInvalid::DropsIngress,
        lost: Lost::Ignored(Severity::Note),
        risk: Risk::Medium,
        summary: "The file that FastCGI adds to a path that ends in a slash.",
        example: "index.php",
        ..BASE
    },
    Annotation {
        name: "fastcgi-params-configmap",
        value: ValueGrammar::ConfigMapName,
        support: Support::NotSupported("FastCGI is not spoken"),
        on_invalid: OnInvalid::DropsIngress,
        lost: Lost::Ignored(Severity::Note),
        risk: Risk::Medium,
        summary: "A ConfigMap with parameters for FastCGI.",
        example: "default/php-params",
        ..BASE
    },
    Annotation {
        name: "http2-push-preload",
        support: Support::NoEffect("browsers no longer accept server push, and nginx has dropped it"),
        summary: "Pushes what Link headers of the answer preload.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "load-balance",
        scope: Scope::Service,
        value: ValueGrammar::one_of(&[
            "round_robin",
            "chash",
            "chashsubset",
            "sticky_balanced",
            "sticky_persistent",
            "ewma",
        ]),
        support: Support::Differs(
            "`ewma` takes, of two endpoints at random, the one with fewer requests at the time instead of the one \
             that has answered faster; only it and `round_robin` have a meaning by themselves",
        ),
        on_invalid: OnInvalid::DropsIngress,
        neutral: &["round_robin"],
        refused: &["chash", "chashsubset", "sticky_balanced", "sticky_persistent"],
        summary: "How requests are spread over the endpoints.",
        example: "ewma",
        ..BASE
    },
    Annotation {
        name: "mirror-host",
        value: ValueGrammar::HostName,
        risk: Risk::High,
        summary: "The Host header of mirrored requests.",
        example: "shadow.example",
        ..MIRROR
    },
    Annotation {
        name: "mirror-request-body",
        value: ValueGrammar::ON_OFF,
        summary: "Whether mirrored requests have their body; `on` unless set.",
        example: "off",
        ..MIRROR
    },
    Annotation {
        name: "mirror-target",
        value: ValueGrammar::HostName,
        support: Support::Differs(
            "copies also have the headers that backends get, such as X-Forwarded-For; the host has no variables",
        ),
        needs: &[],
        risk: Risk::High,
        summary: "Sends a copy of each request there and drops the answer.",
        example: "https://shadow.example$request_uri",
        ..MIRROR
    },
    Annotation {
        name: "proxy-buffer-size",
        value: ValueGrammar::Size,
        support: Support::NoEffect(
            "the headers of an answer may take a megabyte in any case, and no answer becomes a 502 for less",
        ),
        summary: "The size of the buffer for the headers of an answer.",
        example: "16k",
        ..BASE
    },
    Annotation {
        name: "proxy-buffering",
        value: ValueGrammar::ON_OFF,
        support: Support::NoEffect("answers always stream through bounded buffers, as with `off`"),
        summary: "Whether answers of the backend are collected before they are sent.",
        example: "off",
        ..BASE
    },
    Annotation {
        name: "proxy-buffers-number",
        value: ValueGrammar::ANY_INTEGER,
        support: BUFFERS,
        summary: "How many buffers there are for an answer.",
        example: "8",
        ..BASE
    },
    Annotation {
        name: "proxy-busy-buffers-size",
        value: ValueGrammar::Size,
        support: BUFFERS,
        summary: "How much of an answer may be on its way to the client while the rest is still read.",
        example: "32k",
        ..BASE
    },
    Annotation {
        name: "proxy-connect-timeout",
        value: ValueGrammar::Seconds,
        support: Support::Exact,
        summary: "How long a connection to the backend may take.",
        example: "10",
        ..BASE
    },
    Annotation {
        name: "proxy-http-version",
        value: ValueGrammar::one_of(&["1.0", "1.1"]),
        support: Support::Differs("backends are always spoken to in HTTP/1.1"),
        neutral: &["1.1"],
        refused: &["1.0"],
        summary: "The version of HTTP that the backend speaks.",
        example: "1.1",
        ..BASE
    },
    Annotation {
        name: "proxy-max-temp-file-size",
        value: ValueGrammar::Size,
        support: Support::NoEffect("answers are never written to files"),
        summary: "How much of an answer is kept in a file.",
        example: "1024m",
        ..BASE
    },
    Annotation {
        name: "proxy-next-upstream",
        value: ValueGrammar::Words(NEXT_UPSTREAM),
        neutral: &["error timeout"],
        support: Support::Differs(AFTER_SENDING),
        risk: Risk::Medium,
        summary: "After which failures another endpoint is tried.",
        example: "error timeout http_502",
        ..BASE
    },
    Annotation {
        name: "proxy-next-upstream-timeout",
        value: ValueGrammar::Seconds,
        support: Support::NotSupported(TRIES_ONLY),
        neutral: &["0"],
        summary: "For how long further endpoints are tried; 0 is without end.",
        example: "30",
        ..BASE
    },
    Annotation {
        name: "proxy-next-upstream-tries",
        value: ValueGrammar::COUNT,
        support: Support::Differs(MOST_TRIES),
        summary: "How many endpoints are tried; 0 is without end.",
        example: "2",
        ..BASE
    },
    Annotation {
        name: "proxy-read-timeout",
        value: ValueGrammar::Seconds,
        support: Support::Differs(
            "it bounds the time without activity in either direction, not only the backend's",
        ),
        summary: "How long the backend may be silent.",
        example: "120",
        ..BASE
    },
    Annotation {
        name: "proxy-request-buffering",
        value: ValueGrammar::ON_OFF,
        support: Support::NoEffect(
            "bodies always stream to the backend through bounded buffers, as with `off`",
        ),
        summary: "Whether the body of a request is collected before the backend gets it.",
        example: "off",
        ..BASE
    },
    Annotation {
        name: "proxy-send-timeout",
        value: ValueGrammar::Seconds,
        support: Support::Differs(
            "there is one bound for silence in either direction, the idle time of the stream",
        ),
        summary: "How long the backend may take no data.",
        example: "120",
        ..BASE
    },
    Annotation {
        name: "service-upstream",
        scope: Scope::Service,
        support: Support::Exact,
        neutral: &["false"],
        summary: "Sends requests to the cluster address of the Service and leaves the choice of endpoint to it.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "session-cookie-change-on-failure",
        support: Support::Differs(
            "a request whose endpoint fails is tried at another one in any case, not at the same one again; the cookie \
             changes only with `true`",
        ),
        neutral: &["false"],
        summary: "Gives the client another endpoint when its own fails.",
        example: "true",
        ..COOKIE
    },
    Annotation {
        name: "session-cookie-conditional-samesite-none",
        summary: "Leaves out SameSite=None for browsers that misread it.",
        example: "true",
        ..COOKIE
    },
    Annotation {
        name: "session-cookie-domain",
        value: ValueGrammar::Characters(&grammar::NAME),
        risk: Risk::Medium,
        summary: "The domain of the cookie.",
        example: "shop.example",
        ..COOKIE
    },
    Annotation {
        name: "session-cookie-expires",
        value: ValueGrammar::CookieSeconds,
        risk: Risk::Medium,
        summary: "After how many seconds the cookie ends, for old browsers.",
        example: "172800",
        ..COOKIE
    },
    Annotation {
        name: "session-cookie-max-age",
        value: ValueGrammar::CookieSeconds,
        risk: Risk::Medium,
        summary: "After how many seconds the cookie ends.",
        example: "172800",
        ..COOKIE
    },
    Annotation {
        name: "session-cookie-name",
        value: ValueGrammar::Characters(&grammar::NAME),
        risk: Risk::Medium,
        summary: "The name of the cookie; INGRESSCOOKIE unless set.",
        example: "SERVERID",
        ..COOKIE
    },
    Annotation {
        name: "session-cookie-path",
        value: ValueGrammar::Url,
        risk: Risk::Medium,
        summary: "The path of the cookie.",
        example: "/shop",
        ..COOKIE
    },
    Annotation {
        name: "session-cookie-samesite",
        value: ValueGrammar::any_case(&["None", "Lax", "Strict"]),
        summary: "The SameSite attribute of the cookie.",
        example: "Lax",
        ..COOKIE
    },
    Annotation {
        name: "session-cookie-secure",
        summary: "Marks the cookie as Secure.",
        example: "true",
        ..COOKIE
    },
    Annotation {
        name: "upstream-hash-by",
        scope: Scope::Service,
        value: ValueGrammar::Characters(&grammar::VARIABLES),
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        risk: Risk::High,
        summary: "Sends requests with the same value to the same endpoint.",
        example: "$request_uri",
        ..BASE
    },
    Annotation {
        name: "upstream-hash-by-subset",
        scope: Scope::Service,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        needs: &["upstream-hash-by"],
        neutral: &["false"],
        summary: "Sends requests with the same value to a few endpoints rather than to one.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "upstream-hash-by-subset-size",
        scope: Scope::Service,
        value: ValueGrammar::ANY_INTEGER,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        needs: &["upstream-hash-by-subset"],
        summary: "How many endpoints that are; 3 unless set.",
        example: "3",
        ..BASE
    },
];

pub(super) const CANARY: &[Annotation] = &[
    Annotation {
        name: "canary",
        neutral: &["false"],
        needs: &[],
        summary: "Makes the Ingress an alternative that takes a part of another Ingress's requests.",
        example: "true",
        ..CANARY_RULE
    },
    Annotation {
        name: "canary-by-cookie",
        value: ValueGrammar::Characters(&grammar::NAME),
        risk: Risk::Medium,
        summary: "The cookie that chooses the canary by `always` or `never`.",
        example: "try-canary",
        ..CANARY_RULE
    },
    Annotation {
        name: "canary-by-header",
        value: ValueGrammar::Characters(&grammar::NAME),
        risk: Risk::Medium,
        summary: "The header that chooses the canary by `always` or `never`.",
        example: "X-Canary",
        ..CANARY_RULE
    },
    Annotation {
        name: "canary-by-header-pattern",
        value: ValueGrammar::Regex,
        risk: Risk::Medium,
        summary: "Values of the header that choose the canary, as an expression.",
        example: "beta|rc[0-9]",
        ..CANARY_RULE
    },
    Annotation {
        name: "canary-by-header-value",
        value: ValueGrammar::Characters(&grammar::NAME),
        risk: Risk::Medium,
        summary: "The value of the header that chooses the canary.",
        example: "beta",
        ..CANARY_RULE
    },
    Annotation {
        name: "canary-weight",
        value: ValueGrammar::ANY_INTEGER,
        summary: "The share of the other requests that the canary gets, out of `canary-weight-total`.",
        example: "10",
        ..CANARY_RULE
    },
    Annotation {
        name: "canary-weight-total",
        value: ValueGrammar::ANY_INTEGER,
        summary: "What `canary-weight` is counted out of; 100 unless set.",
        example: "1000",
        ..CANARY_RULE
    },
];
