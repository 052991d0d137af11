//! Which directives a piece of nginx configuration names: enough to tell whether leaving it out could open
//! something. It is not evaluated here.

/// Directives that change how an answer looks, is buffered, compressed, cached or logged. Without them a
/// request reaches no more than with them. Everything else may keep somebody out or clean what a backend
/// trusts (`deny`, `return`, `rewrite`, `if`, `proxy_set_header`, `client_max_body_size`, …).
const HARMLESS: &[&str] = &[
    "access_log",
    "add_header",
    "add_trailer",
    "chunked_transfer_encoding",
    "client_body_buffer_size",
    "client_body_timeout",
    "default_type",
    "error_log",
    "etag",
    "expires",
    "geo",
    "gzip",
    "gzip_comp_level",
    "gzip_min_length",
    "gzip_proxied",
    "gzip_types",
    "gzip_vary",
    "brotli",
    "brotli_comp_level",
    "brotli_types",
    "keepalive_timeout",
    "limit_conn_zone",
    "limit_req_zone",
    "log_format",
    "log_not_found",
    "map",
    "map_hash_bucket_size",
    "map_hash_max_size",
    "more_clear_headers",
    "more_set_headers",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_cache_bypass",
    "proxy_cache_path",
    "proxy_connect_timeout",
    "proxy_cookie_domain",
    "proxy_cookie_flags",
    "proxy_cookie_path",
    "proxy_force_ranges",
    "proxy_http_version",
    "proxy_ignore_headers",
    "proxy_max_temp_file_size",
    "proxy_next_upstream",
    "proxy_next_upstream_timeout",
    "proxy_next_upstream_tries",
    "proxy_pass_header",
    "proxy_read_timeout",
    "proxy_redirect",
    "proxy_request_buffering",
    "proxy_send_timeout",
    "send_timeout",
    "set",
    "split_clients",
    "sub_filter",
    "sub_filter_last_modified",
    "sub_filter_once",
    "sub_filter_types",
    "tcp_nodelay",
];

/// Blocks that hold values rather than directives.
const TABLES: &[&str] = &["geo", "map", "split_clients"];

/// Whether a directive of the snippet could keep somebody out, so that it must not be left out silently. A
/// snippet that cannot be read counts as such.
pub(super) fn guards(snippet: &str) -> bool {
    directives(snippet).is_none_or(|names| names.iter().any(|name| !HARMLESS.contains(&name.as_str())))
}

/// The names of the directives in order of appearance, those inside blocks too but for [`TABLES`]. None where quotes or braces
/// are not balanced or the last directive has no end.
pub(super) fn directives(snippet: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut word = String::new();
    let mut in_directive = false;
    let mut depth = 0_usize;
    // The depth outside of the table that is being read.
    let mut table: Option<usize> = None;
    let mut characters = snippet.chars().peekable();
    // A word ends at a blank or a delimiter; only the first one of a directive is kept.
    let mut finish = |word: &mut String, in_directive: &mut bool, in_table: bool| {
        if !word.is_empty() {
            let text = std::mem::take(word);
            if !*in_directive {
                *in_directive = true;
                if !in_table {
                    names.push(text);
                }
            }
        }
        names.last().is_some_and(|name| TABLES.contains(&name.as_str()))
    };
    while let Some(character) = characters.next() {
        match character {
            '#' if word.is_empty() => while characters.next_if(|&c| c != '\n').is_some() {},
            '"' | '\'' if word.is_empty() => {
                loop {
                    match characters.next()? {
                        '\\' => word.push(characters.next()?),
                        end if end == character => break,
                        other => word.push(other),
                    }
                }
                // An empty string is a word too.
                if word.is_empty() {
                    word.push(character);
                }
            }
            '\\' => word.push(characters.next()?),
            '$' if characters.next_if_eq(&'{').is_some() => {
                word.push_str("${");
                loop {
                    let inner = characters.next()?;
                    word.push(inner);
                    if inner == '}' {
                        break;
                    }
                }
            }
            ';' => {
                finish(&mut word, &mut in_directive, table.is_some());
                in_directive = false;
            }
            '{' => {
                let opens_table = finish(&mut word, &mut in_directive, table.is_some());
                if opens_table && table.is_none() {
                    table = Some(depth);
                }
                in_directive = false;
                depth += 1;
            }
            '}' => {
                if in_directive || !word.is_empty() {
                    return None;
                }
                depth = depth.checked_sub(1)?;
                if table == Some(depth) {
                    table = None;
                }
            }
            blank if blank.is_ascii_whitespace() => {
                finish(&mut word, &mut in_directive, table.is_some());
            }
            other => word.push(other),
        }
    }
    (depth == 0 && !in_directive && word.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_directives() {
        let cases: [(&str, Option<&[&str]>); 14] = [
            ("map $a $b { default 0; ~x 1; }\ndeny all;", Some(&["map", "deny"])),
            ("", Some(&[])),
            ("# deny all; { }", Some(&[])),
            ("more_set_headers \"Foo1: Bar1; {x}\";", Some(&["more_set_headers"])),
            ("add_header A b;\nadd_header C d;", Some(&["add_header", "add_header"])),
            ("if ($http_x = \"a}b\") { return 403; }", Some(&["if", "return"])),
            ("rewrite ^([^.]*[^/])$ $1/ permanent;", Some(&["rewrite"])),
            ("set $a ${request_uri};", Some(&["set"])),
            ("proxy_set_header X-User '';", Some(&["proxy_set_header"])),
            ("add_header A b; # deny all;\nexpires 1h;", Some(&["add_header", "expires"])),
            ("deny all", None),
            ("add_header \"A b;", None),
            ("location / { deny all; ", None),
            ("}", None),
        ];
        for (input, expected) in cases {
            let expected =
                expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            assert_eq!(directives(input), expected, "{input}");
        }
    }

    #[test]
    fn what_may_not_be_left_out() {
        let cases = [
            ("more_set_headers \"X-A: b\"; gzip on;", false),
            ("deny all;", true),
            ("more_set_headers \"A: b\"; return 403;", true),
            ("'deny' all;", true),
            ("proxy_set_header X-User \"\";", true),
            ("client_max_body_size 1k;", true),
            ("some_future_directive;", true),
            ("add_header A", true),
        ];
        for (input, expected) in cases {
            assert_eq!(guards(input), expected, "{input}");
        }
    }
}
