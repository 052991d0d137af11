//! Who may come in: lists of addresses of annotations and ConfigMap, and the ConfigMap's lists of user agents
//! and referers.
//!
//! Deliberately knows nothing of passwords and of how an address is found out.

use ingress_wasm::config::{Addresses, Block, PolicySet};
use ingress_wasm::router::check_pattern;

use crate::annotations::{GlobalDenial, GlobalSettings, Network, Value};
use crate::diagnostic::Diagnostic;
use crate::objects::ConfigMap;
use crate::policies::Context;
use crate::report::Report;

/// The lists of the ConfigMap. None: the list cannot be read, and whom it was to keep out is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressDefaults {
    /// `whitelist-source-range`.
    pub allow: Option<Vec<Network>>,
    /// `denylist-source-range`.
    pub deny: Option<Vec<Network>>,
    /// `block-cidrs`.
    pub block: Option<Vec<Network>>,
}

impl Default for AddressDefaults {
    fn default() -> Self {
        AddressDefaults { allow: Some(Vec::new()), deny: Some(Vec::new()), block: Some(Vec::new()) }
    }
}

impl AddressDefaults {
    /// What holds for requests that no Ingress takes: `block-cidrs` alone.
    pub fn for_nobody(&self) -> PolicySet {
        let block = self.block.as_deref().unwrap_or_default();
        PolicySet { addresses: addresses(&[], block), ..PolicySet::default() }
    }
}

/// Reads who may come in by address. A list of the Ingress stands in for that of the ConfigMap, and `block-cidrs`
/// holds only where there is neither an allow- nor a denylist, as nginx inherits such lists.
pub fn read(context: &Context<'_>, set: &mut PolicySet) {
    let defaults = &context.defaults.addresses;
    // What the registry has found invalid denies the Ingress as a whole.
    let own = |name| match context.annotations.value(name) {
        Some(Value::Networks(networks)) => Some(networks),
        _ => None,
    };
    let allow = own("allowlist-source-range").or_else(|| defaults.allow.clone());
    let deny = own("denylist-source-range").or_else(|| defaults.deny.clone());
    let lists = match (allow, deny) {
        (Some(allow), Some(deny)) if allow.is_empty() && deny.is_empty() => {
            defaults.block.clone().map(|block| (allow, block))
        }
        (Some(allow), Some(deny)) => Some((allow, deny)),
        _ => None,
    };
    match lists {
        Some((allow, deny)) => set.addresses = addresses(&allow, &deny),
        None => {
            set.denied.get_or_insert_with(|| "a list of addresses in the ConfigMap is not valid".to_owned());
        }
    }
    set.satisfy_any = matches!(context.annotations.value("satisfy"), Some(Value::Text(how)) if how == "any");
}

fn addresses(allow: &[Network], deny: &[Network]) -> Option<Addresses> {
    let texts = |networks: &[Network]| {
        let mut texts: Vec<String> = networks.iter().map(ToString::to_string).collect();
        texts.sort();
        texts.dedup();
        texts
    };
    (!allow.is_empty() || !deny.is_empty()).then(|| Addresses { allow: texts(allow), deny: texts(deny) })
}

/// Reads the lists of user agents and referers. With an entry that cannot be read nobody knows whom it was to keep
/// out: all rules are denied.
pub fn block(
    map: &ConfigMap,
    settings: &GlobalSettings,
    denials: &mut Vec<GlobalDenial>,
    report: &mut Report,
) -> Option<Block> {
    let mut patterns = |option: &'static str, list: &str| {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(unquoted);
        let mut patterns = Vec::new();
        for entry in entries {
            let Err(error) = check_pattern(&entry) else {
                patterns.push(entry);
                continue;
            };
            let consequence =
                format!("`{entry}` cannot be read: {error}; as it protects, all rules answer 503");
            let diagnostic = Diagnostic::error("option-invalid", consequence)
                .object(crate::global::reference(map), map.metadata.source.clone())
                .field(format!("data[\"{option}\"]"), "")
                .remedy("write the whole value of the header, or an expression after `~` or `~*`");
            report.add(diagnostic);
            denials.push(GlobalDenial {
                option,
                reason: format!("{option} of the ConfigMap is not valid"),
                waived_by: None,
            });
        }
        patterns
    };
    let user_agents = patterns("block-user-agents", &settings.block_user_agents);
    let referers = patterns("block-referers", &settings.block_referers);
    (!user_agents.is_empty() || !referers.is_empty()).then_some(Block { user_agents, referers })
}

/// A word of nginx's configuration, as the entries of these lists become: without quotes around it, and with the
/// characters that a backslash stands for. A backslash before a plain text only keeps it from being an expression.
fn unquoted(word: &str) -> String {
    let quoted = |quote| word.strip_prefix(quote).and_then(|word| word.strip_suffix(quote));
    let word = quoted('"').or_else(|| quoted('\'')).unwrap_or(word);
    let mut text = String::with_capacity(word.len());
    let mut characters = word.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = match characters.peek() {
            Some(next @ ('"' | '\'' | '\\')) if character == '\\' => Some(*next),
            Some('t') if character == '\\' => Some('\t'),
            Some('r') if character == '\\' => Some('\r'),
            Some('n') if character == '\\' => Some('\n'),
            _ => None,
        };
        if escaped.is_some() {
            characters.next();
        }
        text.push(escaped.unwrap_or(character));
    }
    match text.strip_prefix('\\') {
        Some(plain) => plain.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_nginx_reads_them() {
        let cases = [
            ("AlphaBot", "AlphaBot"),
            (r"~*chrome\/68\.0\ safari", r"~*chrome\/68\.0\ safari"),
            (r#""~*a b""#, "~*a b"),
            (r"'x\'y'", "x'y"),
            (r"~*a\\.b", r"~*a\.b"),
            (r"a\tb", "a\tb"),
            (r"\~plain", "~plain"),
            (r"end\", r"end\"),
            ("", ""),
        ];
        for (word, expected) in cases {
            assert_eq!(unquoted(word), expected, "{word}");
        }
    }
}
