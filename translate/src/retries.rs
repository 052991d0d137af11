//! When another endpoint is tried: `proxy-next-upstream` and what belongs to it.

use crate::annotations::{AnnotationSet, Value};
use crate::output::{NextUpstream, RouteProfile};

/// As many tries as there are where the author wants them without end.
const MOST_TRIES: u32 = 10;

/// What the words of `proxy-next-upstream` say; `non_idempotent` and `tries` are taken over where no word
/// speaks of them.
pub fn by_words(words: &[String], non_idempotent: bool, tries: u32) -> NextUpstream {
    let mut next = NextUpstream {
        error: false,
        timeout: false,
        invalid_header: false,
        statuses: Vec::new(),
        non_idempotent,
        tries,
    };
    let mut off = false;
    for word in words {
        match word.as_str() {
            "error" => next.error = true,
            "timeout" => next.timeout = true,
            "invalid_header" => next.invalid_header = true,
            "non_idempotent" => next.non_idempotent = true,
            "off" => off = true,
            status => {
                next.statuses.extend(status.strip_prefix("http_").and_then(|code| code.parse::<u16>().ok()))
            }
        }
    }
    next.statuses.sort_unstable();
    next.statuses.dedup();
    if off {
        // nginx: one word `off` is enough.
        next = NextUpstream { tries: 1, ..by_words(&[], non_idempotent, 1) };
    }
    next
}

/// A number of tries; 0 is without end.
pub fn tries(number: i64) -> u32 {
    match u32::try_from(number) {
        Ok(0) => MOST_TRIES,
        Ok(number) => number.min(MOST_TRIES),
        Err(_) => NextUpstream::default().tries,
    }
}

/// What the annotations of an Ingress say. `non_idempotent` is the option `retry-non-idempotent`, which no
/// annotation takes back.
pub fn read(annotations: &AnnotationSet<'_>, default: &NextUpstream, non_idempotent: bool) -> NextUpstream {
    let tries = match annotations.value("proxy-next-upstream-tries") {
        Some(Value::Integer(number)) => tries(number),
        _ => default.tries,
    };
    match annotations.value("proxy-next-upstream") {
        Some(Value::List(words)) => by_words(&words, non_idempotent, tries),
        _ if default.is_off() => default.clone(),
        _ => NextUpstream { tries, ..default.clone() },
    }
}

impl NextUpstream {
    /// Nothing is tried again.
    fn is_off(&self) -> bool {
        !self.error && !self.timeout && !self.invalid_header && self.statuses.is_empty()
    }
}

/// A name for a profile, by what it holds.
pub fn profile_name(profile: &RouteProfile) -> String {
    let RouteProfile { read_timeout, send_timeout, next_upstream, mirror: _, jwt: _, limits: _ } = profile;
    let mut name = format!("read{}s-send{}s", read_timeout.as_secs(), send_timeout.as_secs());
    if *next_upstream == NextUpstream::default() {
        return name;
    }
    let NextUpstream { error, timeout, invalid_header, statuses, non_idempotent, tries } = next_upstream;
    name.push_str(&format!("-tries{tries}"));
    let words = [
        (error, "error"),
        (timeout, "timeout"),
        (invalid_header, "invalid"),
        (non_idempotent, "nonidempotent"),
    ];
    for (_, word) in words.into_iter().filter(|(set, _)| **set) {
        name.push('-');
        name.push_str(word);
    }
    for status in statuses {
        name.push_str(&format!("-{status}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_nginx() {
        let cases = [
            ("error timeout", "read60s-send60s"),
            ("timeout error", "read60s-send60s"),
            ("error", "read60s-send60s-tries3-error"),
            ("http_502 error http_429 http_502", "read60s-send60s-tries3-error-429-502"),
            ("error timeout non_idempotent", "read60s-send60s-tries3-error-timeout-nonidempotent"),
            ("invalid_header", "read60s-send60s-tries3-invalid"),
            ("off", "read60s-send60s-tries1"),
            ("error off", "read60s-send60s-tries1"),
            ("non_idempotent", "read60s-send60s-tries3-nonidempotent"),
        ];
        for (words, expected) in cases {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            let next_upstream = by_words(&words, false, 3);
            let profile = RouteProfile { next_upstream, ..RouteProfile::default() };
            assert_eq!(profile_name(&profile), expected, "{words:?}");
        }
    }

    #[test]
    fn numbers_of_tries() {
        for (number, expected) in [(0, 10), (1, 1), (2, 2), (3, 3), (99, 10), (-1, 3), (i64::MAX, 3)] {
            assert_eq!(tries(number), expected, "{number}");
        }
    }
}
