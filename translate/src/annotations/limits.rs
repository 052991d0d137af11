//! Sizes, rates, and addresses that may or may not come in.

use super::*;

const BASE: Annotation = Annotation { group: Group::Limits, ..super::BASE };

/// Lists of addresses: an empty one is never what its author meant.
const ADDRESSES: Annotation = Annotation {
    value: ValueGrammar::CidrList,
    support: Support::Exact,
    on_invalid: OnInvalid::DeniesRule,
    protects: true,
    empty_is_mistake: true,
    lost: Lost::Denied,
    risk: Risk::Medium,
    ..BASE
};

/// Rates and connections; 0 means no limit.
const LIMIT: Annotation = Annotation {
    value: ValueGrammar::COUNT,
    support: Support::Exact,
    on_invalid: OnInvalid::DropsIngress,
    protects: true,
    lost: Lost::Denied,
    neutral: &["0"],
    ..BASE
};

pub(super) const ENTRIES: &[Annotation] = &[
    Annotation {
        name: "allowlist-source-range",
        summary: "Only clients with these addresses may come in; others get 403.",
        example: "10.0.0.0/8, 192.0.2.7",
        ..ADDRESSES
    },
    Annotation {
        name: "denylist-source-range",
        summary: "Clients with these addresses get 403.",
        example: "198.51.100.0/24",
        ..ADDRESSES
    },
    Annotation {
        name: "limit-allowlist",
        value: ValueGrammar::CidrList,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        lost: Lost::Ignored(Severity::Note),
        summary: "Clients with these addresses are not limited by `limit-rps`, `limit-rpm` and `limit-connections`.",
        example: "10.0.0.0/8",
        ..BASE
    },
    Annotation {
        name: "limit-burst-multiplier",
        value: ValueGrammar::ANY_INTEGER,
        support: Support::Exact,
        lost: Lost::Ignored(Severity::Note),
        needs: &["limit-rps", "limit-rpm", "limit-connections"],
        summary: "How many times the limit may be used at once; 5 unless set.",
        example: "3",
        ..BASE
    },
    Annotation {
        name: "limit-connections",
        summary: "How many requests of one client address may be under way at once; others get 503.",
        example: "20",
        ..LIMIT
    },
    Annotation {
        name: "limit-rate",
        value: ValueGrammar::COUNT,
        support: Support::NotSupported("answers are sent as fast as the client takes them"),
        neutral: &["0"],
        summary: "How many bytes of an answer are sent per second.",
        example: "102400",
        ..BASE
    },
    Annotation {
        name: "limit-rate-after",
        value: ValueGrammar::COUNT,
        support: Support::NotSupported("answers are sent as fast as the client takes them"),
        lost: Lost::Ignored(Severity::Note),
        neutral: &["0"],
        summary: "How many bytes of an answer are sent before `limit-rate` begins.",
        example: "1048576",
        ..BASE
    },
    Annotation {
        name: "limit-rpm",
        summary: "How many requests of one client address are served per minute; others get 503.",
        example: "300",
        ..LIMIT
    },
    Annotation {
        name: "limit-rps",
        summary: "How many requests of one client address are served per second; others get 503.",
        example: "10",
        ..LIMIT
    },
    Annotation {
        name: "limit-whitelist",
        value: ValueGrammar::CidrList,
        support: Support::Exact,
        on_invalid: OnInvalid::DropsIngress,
        lost: Lost::Ignored(Severity::Note),
        alias_of: Some("limit-allowlist"),
        summary: "An older name of `limit-allowlist`.",
        example: "10.0.0.0/8",
        ..BASE
    },
    Annotation {
        name: "proxy-body-size",
        value: ValueGrammar::Size,
        support: Support::Differs(
            "a body without Content-Length is counted while it streams: the backend may have got a part of it when \
             the client gets 413",
        ),
        // The default that then holds is a limit too.
        protects: true,
        safe_if_invalid: true,
        lost: Lost::Denied,
        risk: Risk::Medium,
        summary: "The largest body of a request; a larger one gets 413. 0 is no limit.",
        example: "8m",
        ..BASE
    },
    Annotation {
        name: "whitelist-source-range",
        alias_of: Some("allowlist-source-range"),
        summary: "An older name of `allowlist-source-range`.",
        example: "10.0.0.0/8, 192.0.2.7",
        ..ADDRESSES
    },
];
