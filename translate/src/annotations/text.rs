//! The small value forms that ingress-nginx takes over from Go and nginx, as strict as they are there.

/// A boolean as Go's `strconv.ParseBool` reads it: no blanks, and only these spellings.
pub fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A whole number as Go's `strconv.Atoi` reads it: an optional sign and digits, no blanks.
pub fn parse_integer(value: &str) -> Option<i64> {
    let digits = value.strip_prefix(['+', '-']).unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    value.parse().ok()
}

/// A whole number of seconds, without unit and blanks, not negative. nginx would refuse a negative one.
pub fn parse_seconds(value: &str) -> Option<u64> {
    parse_integer(value).and_then(|seconds| u64::try_from(seconds).ok())
}

/// A size in bytes as nginx reads one: digits and an optional unit `k`, `m` or `g` of either case. 0 stands
/// for "unlimited" where it is a limit. Blanks around it do not matter.
///
/// None for anything else, for the unit `b` (which ingress-nginx lets pass and nginx does not know) and for
/// what does not fit 64 bits.
pub fn parse_size(value: &str) -> Option<u64> {
    let value = value.trim();
    let (digits, unit) = match value.as_bytes().last()? {
        b'k' | b'K' => (value.get(..value.len() - 1)?, 1 << 10),
        b'm' | b'M' => (value.get(..value.len() - 1)?, 1 << 20),
        b'g' | b'G' => (value.get(..value.len() - 1)?, 1 << 30),
        _ => (value, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// A time with its unit as nginx reads it, in milliseconds; a month has 30 days, a year 365.
pub fn parse_milliseconds(word: &str) -> Option<u64> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match word.strip_prefix(digits)? {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 7 * 86_400_000,
        "M" => 30 * 86_400_000,
        "y" => 365 * 86_400_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans() {
        let cases = [
            ("true", Some(true)),
            ("True", Some(true)),
            ("TRUE", Some(true)),
            ("t", Some(true)),
            ("1", Some(true)),
            ("false", Some(false)),
            ("F", Some(false)),
            ("0", Some(false)),
            ("tRUE", None),
            ("yes", None),
            ("on", None),
            (" true", None),
            ("true ", None),
            ("", None),
        ];
        for (input, expected) in cases {
            assert_eq!(parse_bool(input), expected, "{input:?}");
        }
    }

    #[test]
    fn integers_and_seconds() {
        let cases = [
            ("0", Some(0), Some(0)),
            ("60", Some(60), Some(60)),
            ("+5", Some(5), Some(5)),
            ("-1", Some(-1), None),
            ("007", Some(7), Some(7)),
            ("", None, None),
            ("-", None, None),
            (" 1 ", None, None),
            ("1s", None, None),
            ("1.5", None, None),
            ("9223372036854775808", None, None),
        ];
        for (input, integer, seconds) in cases {
            assert_eq!(parse_integer(input), integer, "{input:?}");
            assert_eq!(parse_seconds(input), seconds, "{input:?}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("0", Some(0)),
            ("1500", Some(1500)),
            ("1k", Some(1024)),
            ("2K", Some(2048)),
            ("8m", Some(8 << 20)),
            ("1M", Some(1 << 20)),
            ("1g", Some(1 << 30)),
            (" 8m ", Some(8 << 20)),
            ("8 m", None),
            ("8b", None),
            ("15r", None),
            ("m", None),
            ("huge", None),
            ("", None),
            ("-1", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551615k", None),
            ("8é", None),
        ];
        for (input, expected) in cases {
            assert_eq!(parse_size(input), expected, "{input:?}");
        }
    }
}
