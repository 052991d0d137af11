//! The directives that are known: which are honoured, and what becomes of the rest. `docs/snippets.md` is made
//! from this table.

/// What becomes of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Honoured, but for the difference, if there is one.
    Honoured(&'static str),
    /// Nothing needs to be done, for this reason.
    NoEffect(&'static str),
    /// Left out: it changes how an answer looks, is buffered, compressed, cached or logged, and without it a
    /// request reaches no more than with it.
    LeftOut,
}

/// A directive of nginx or of one of its modules.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// What becomes of it.
    pub treatment: Treatment,
    /// How it is written.
    pub example: &'static str,
}

const fn honoured(name: &'static str, example: &'static str) -> Known {
    Known { name, treatment: Treatment::Honoured(""), example }
}

const fn differs(name: &'static str, example: &'static str, how: &'static str) -> Known {
    Known { name, treatment: Treatment::Honoured(how), example }
}

const fn idle(name: &'static str, reason: &'static str) -> Known {
    Known { name, treatment: Treatment::NoEffect(reason), example: "" }
}

const fn left_out(name: &'static str) -> Known {
    Known { name, treatment: Treatment::LeftOut, example: "" }
}

const UPGRADES: &str = "Envoy passes WebSockets on by itself";
const ENVOY: &str = "Envoy does this by itself";

/// All of them, sorted by name. What is not here may keep somebody out, or change what a backend trusts.
pub const DIRECTIVES: &[Known] = &[
    left_out("access_log"),
    differs(
        "add_header",
        "add_header X-Frame-Options DENY always;",
        "variables that are known only with the answer, such as `$upstream_addr`, are not",
    ),
    left_out("add_trailer"),
    honoured("allow", "allow 10.0.0.0/8;"),
    honoured("break", "break;"),
    left_out("brotli"),
    left_out("brotli_comp_level"),
    left_out("brotli_types"),
    left_out("chunked_transfer_encoding"),
    left_out("client_body_buffer_size"),
    left_out("client_body_timeout"),
    differs(
        "default_type",
        "default_type text/plain;",
        "it is the type of the text of `return`, whatever the path ends in; answers of backends keep theirs",
    ),
    honoured("deny", "deny all;"),
    left_out("error_log"),
    left_out("etag"),
    differs("expires", "expires 1h;", "`modified`, times of the day and variables are not"),
    left_out("geo"),
    left_out("gzip"),
    left_out("gzip_comp_level"),
    left_out("gzip_min_length"),
    left_out("gzip_proxied"),
    left_out("gzip_types"),
    left_out("gzip_vary"),
    differs(
        "if",
        "if ($http_user_agent ~* \"(bot|crawler)\") { return 403; }",
        "tests of files (`-f`, `-d`) are not",
    ),
    left_out("keepalive_timeout"),
    left_out("limit_conn_zone"),
    differs("limit_except", "limit_except GET { deny all; }", "only `allow` and `deny` inside"),
    left_out("limit_req_zone"),
    differs(
        "location",
        "location ~* ^/(metrics|actuator) { deny all; }",
        "only in a server snippet, and only with directives of this list inside",
    ),
    left_out("log_format"),
    left_out("log_not_found"),
    differs(
        "map",
        "map $http_x_tier $tier { default free; gold paid; ~^s silver; }",
        "only in `http-snippet`; without `include` and `hostnames`",
    ),
    left_out("map_hash_bucket_size"),
    left_out("map_hash_max_size"),
    honoured("more_clear_headers", "more_clear_headers \"X-Powered-By\" \"X-Internal-*\";"),
    honoured("more_clear_input_headers", "more_clear_input_headers \"X-Debug\";"),
    differs(
        "more_set_headers",
        "more_set_headers -s '404 500' \"Cache-Control: no-store\";",
        "the option `-a` is not",
    ),
    differs(
        "more_set_input_headers",
        "more_set_input_headers \"X-Tenant: shop\";",
        "the options `-r` and `-t` are not; variables of the snippet still have what the client sent",
    ),
    left_out("proxy_buffer_size"),
    left_out("proxy_buffering"),
    left_out("proxy_buffers"),
    left_out("proxy_busy_buffers_size"),
    left_out("proxy_cache_bypass"),
    left_out("proxy_cache_path"),
    left_out("proxy_connect_timeout"),
    left_out("proxy_cookie_domain"),
    left_out("proxy_cookie_flags"),
    left_out("proxy_cookie_path"),
    left_out("proxy_force_ranges"),
    honoured("proxy_hide_header", "proxy_hide_header X-Powered-By;"),
    idle("proxy_http_version", ENVOY),
    left_out("proxy_ignore_headers"),
    left_out("proxy_max_temp_file_size"),
    left_out("proxy_next_upstream"),
    left_out("proxy_next_upstream_timeout"),
    left_out("proxy_next_upstream_tries"),
    honoured("proxy_pass_header", "proxy_pass_header X-Accel-Expires;"),
    left_out("proxy_read_timeout"),
    left_out("proxy_redirect"),
    left_out("proxy_request_buffering"),
    left_out("proxy_send_timeout"),
    differs(
        "proxy_set_header",
        "proxy_set_header X-Client $remote_addr;",
        "a second Host takes the place of the first, where nginx sends both",
    ),
    differs(
        "return",
        "return 301 https://new.example$request_uri;",
        "444 is answered with this status and no body, where nginx closes the connection",
    ),
    differs(
        "rewrite",
        "rewrite ^/old/(.*)$ /new/$1 permanent;",
        "one without a flag, beside the annotation `rewrite-target`, chooses a rule anew",
    ),
    honoured("satisfy", "satisfy any;"),
    left_out("send_timeout"),
    differs(
        "set",
        "set $tier \"free\";",
        "variables that nginx has by itself cannot be set, but for `$args`",
    ),
    left_out("split_clients"),
    left_out("sub_filter"),
    left_out("sub_filter_last_modified"),
    left_out("sub_filter_once"),
    left_out("sub_filter_types"),
    idle("tcp_nodelay", ENVOY),
    idle("variables_hash_bucket_size", ENVOY),
    idle("variables_hash_max_size", ENVOY),
];

/// Headers of one connection: nginx configurations set them to pass WebSockets on.
pub const UPGRADE_HEADERS: [&str; 2] = ["connection", "upgrade"];
/// Why they are passed over.
pub const UPGRADE_REASON: &str = UPGRADES;

/// What is known of a directive.
pub fn lookup(name: &str) -> Option<&'static Known> {
    DIRECTIVES.iter().find(|known| known.name == name)
}

/// Whether a directive may keep somebody out or change what a backend trusts, so that a rule without it has to
/// answer 503.
pub fn guards(name: &str) -> bool {
    !lookup(name).is_some_and(|known| match known.treatment {
        Treatment::LeftOut | Treatment::NoEffect(_) => true,
        Treatment::Honoured(_) => {
            matches!(
                name,
                "add_header"
                    | "more_set_headers"
                    | "more_clear_headers"
                    | "expires"
                    | "default_type"
                    | "proxy_pass_header"
                    | "error_page"
                    | "proxy_intercept_errors"
            )
        }
    })
}
