//! Which protocols a client may switch to.
//!
//! nginx hands every Upgrade token to the backend, which may take it up or go on with HTTP. Envoy knows only
//! tokens by name and answers 403 to any other, so the known ones are passed on and all others are taken out
//! of the request, which then goes on as plain HTTP: what happens with a backend that declines.

use super::pb::{hcm, matcher_inputs};

/// The tokens that are passed on, in lower case: RFC 6455, RFC 9298, RFC 9484, and what the Kubernetes,
/// Docker and Tailscale protocols use.
const TOKENS: &[&str] =
    &["connect-ip", "connect-udp", "derp", "spdy/3.1", "tailscale-control-protocol", "tcp", "websocket"];

/// The upgrades that the connection manager passes on.
pub(super) fn allowed() -> Vec<hcm::http_connection_manager::UpgradeConfig> {
    TOKENS
        .iter()
        .map(|token| hcm::http_connection_manager::UpgradeConfig {
            upgrade_type: (*token).to_owned(),
            ..hcm::http_connection_manager::UpgradeConfig::default()
        })
        .collect()
}

/// The tokens that are taken out of a request: all that [`allowed`] does not name.
pub(super) fn ignored() -> matcher_inputs::StringMatcher {
    use matcher_inputs::string_matcher::MatchPattern;

    matcher_inputs::StringMatcher {
        match_pattern: Some(MatchPattern::SafeRegex(matcher_inputs::RegexMatcher {
            regex: format!("(?i){}", other_than(TOKENS)),
            ..matcher_inputs::RegexMatcher::default()
        })),
        ..matcher_inputs::StringMatcher::default()
    }
}

/// An expression for every text but these words. RE2 has no negation, so it follows the words letter by
/// letter and leaves them wherever the text does.
fn other_than(words: &[&str]) -> String {
    let mut alternatives = Vec::new();
    if !words.contains(&"") {
        alternatives.push(String::new());
    }
    let mut heads: Vec<char> = words.iter().filter_map(|word| word.chars().next()).collect();
    heads.sort_unstable();
    heads.dedup();
    let class: String = heads.iter().map(|head| literal(*head)).collect();
    alternatives.push(if class.is_empty() { ".+".to_owned() } else { format!("[^{class}].*") });
    for head in heads {
        let tails: Vec<&str> = words.iter().filter_map(|word| word.strip_prefix(head)).collect();
        alternatives.push(format!("{}{}", literal(head), other_than(&tails)));
    }
    format!("(?:{})", alternatives.join("|"))
}

/// A character that stands for itself, in a class too.
fn literal(character: char) -> String {
    if character.is_ascii_alphanumeric() { character.to_string() } else { format!("\\{character}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complement_of_few_words() {
        let cases: &[(&[&str], &str)] = &[
            (&["a"], "(?:|[^a].*|a(?:.+))"),
            (&["ab", "a"], r"(?:|[^a].*|a(?:[^b].*|b(?:.+)))"),
            (&["a/"], r"(?:|[^a].*|a(?:|[^\/].*|\/(?:.+)))"),
        ];
        for (words, expected) in cases {
            assert_eq!(other_than(words), *expected, "{words:?}");
        }
    }
}
