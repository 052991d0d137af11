//! The annotations of one Ingress that are ours, under whichever prefix they stand.

use std::collections::BTreeMap;

use crate::objects::Ingress;

use super::nearest::{Prefix, split};
use super::{Annotation, InvalidValue, Value, lookup, lookup_own};

/// One annotation of an Ingress.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// What is known of it.
    pub entry: &'static Annotation,
    /// The prefix it stands under: under [`Prefix::Legacy`] a few had another meaning.
    pub prefix: Prefix,
    /// The whole key.
    pub key: &'a str,
    /// The value as written.
    pub text: &'a str,
    /// Line in the file, 0 where not known.
    pub line: u32,
}

impl Setting<'_> {
    /// Reads the value.
    ///
    /// # Errors
    ///
    /// As [`Annotation::parse`].
    pub fn parse(&self) -> Result<Value, InvalidValue> {
        self.entry.parse(self.text)
    }

    /// Whether it asks for something: the value is neither empty nor neutral. An invalid one does ask.
    pub fn asks(&self) -> bool {
        !self.text.trim().is_empty() && !self.entry.is_neutral(self.text)
    }
}

/// The annotations of one Ingress, by name.
///
/// Where the same name stands under several prefixes, the configured one counts before
/// `nginx.ingress.kubernetes.io/`, and that before `ingress.kubernetes.io/`.
#[derive(Debug, Clone, Default)]
pub struct AnnotationSet<'a> {
    nginx: BTreeMap<&'static str, Setting<'a>>,
    own: BTreeMap<&'static str, Setting<'a>>,
}

impl<'a> AnnotationSet<'a> {
    /// Those of an Ingress; for `extra_prefix` see [`split`].
    pub fn of(ingress: &'a Ingress, extra_prefix: Option<&str>) -> Self {
        let mut set = AnnotationSet::default();
        let mut ranks: BTreeMap<&'static str, u8> = BTreeMap::new();
        for (key, annotation) in &ingress.metadata.annotations {
            let Some((prefix, name)) = split(key, extra_prefix) else { continue };
            let entry = if prefix == Prefix::Own { lookup_own(name) } else { lookup(name) };
            let Some(entry) = entry else { continue };
            let setting = Setting { entry, prefix, key, text: &annotation.value, line: annotation.line };
            if prefix == Prefix::Own {
                set.own.insert(entry.name, setting);
                continue;
            }
            let rank = match prefix {
                Prefix::Nginx if !key.starts_with(Prefix::Nginx.name()) => 2,
                Prefix::Nginx => 1,
                _ => 0,
            };
            if ranks.get(entry.name).is_none_or(|&other| other < rank) {
                ranks.insert(entry.name, rank);
                set.nginx.insert(entry.name, setting);
            }
        }
        set
    }

    /// The annotation of ingress-nginx with this name. One that is absent or empty is looked for under the
    /// other spelling that it may have (`allowlist-source-range`, `limit-allowlist`).
    pub fn get(&self, name: &str) -> Option<Setting<'a>> {
        let own_name = self.nginx.get(name).copied();
        if own_name.is_some_and(|setting| !setting.text.trim().is_empty()) {
            return own_name;
        }
        let other = self.nginx.values().find(|setting| setting.entry.alias_of == Some(name)).copied();
        other.or(own_name)
    }

    /// The annotation of this project with this name.
    pub fn own(&self, name: &str) -> Option<Setting<'a>> {
        self.own.get(name).copied()
    }

    /// The value of the annotation of ingress-nginx with this name; none where it is absent or invalid.
    pub fn value(&self, name: &str) -> Option<Value> {
        self.get(name)?.parse().ok()
    }

    /// Whether the boolean annotation of this name is valid and true.
    pub fn is_true(&self, name: &str) -> bool {
        self.value(name) == Some(Value::Bool(true))
    }

    /// All of them: those of ingress-nginx by name, then those of this project by name.
    pub fn iter(&self) -> impl Iterator<Item = Setting<'a>> + '_ {
        self.nginx.values().chain(self.own.values()).copied()
    }

    /// Whether this key is the one that counts for its name.
    pub(super) fn counts(&self, key: &str) -> bool {
        self.iter().any(|setting| setting.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::check::tests::ingress;

    #[test]
    fn prefixes_in_order_of_weight() {
        let object = ingress(&[
            ("ingress.kubernetes.io/rewrite-target", "/legacy"),
            ("nginx.ingress.kubernetes.io/rewrite-target", "/nginx"),
            ("edge.example/rewrite-target", "/edge"),
            ("ingress.kubernetes.io/app-root", "/legacy"),
        ]);
        let set = AnnotationSet::of(&object, Some("edge.example/"));
        assert_eq!(set.get("rewrite-target").map(|s| s.text), Some("/edge"));
        assert_eq!(set.get("app-root").map(|s| (s.text, s.prefix)), Some(("/legacy", Prefix::Legacy)));
        let set = AnnotationSet::of(&object, None);
        assert_eq!(set.get("rewrite-target").map(|s| s.text), Some("/nginx"));
    }

    #[test]
    fn other_spellings() {
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: [Case<'_>; 4] = [
            (&[("nginx.ingress.kubernetes.io/whitelist-source-range", "10.0.0.1")], Some("10.0.0.1")),
            (
                &[
                    ("nginx.ingress.kubernetes.io/allowlist-source-range", "10.0.0.2"),
                    ("nginx.ingress.kubernetes.io/whitelist-source-range", "10.0.0.1"),
                ],
                Some("10.0.0.2"),
            ),
            (
                &[
                    ("nginx.ingress.kubernetes.io/allowlist-source-range", " "),
                    ("nginx.ingress.kubernetes.io/whitelist-source-range", "10.0.0.1"),
                ],
                Some("10.0.0.1"),
            ),
            (&[], None),
        ];
        for (annotations, expected) in cases {
            let object = ingress(annotations);
            let set = AnnotationSet::of(&object, None);
            assert_eq!(set.get("allowlist-source-range").map(|s| s.text), expected, "{annotations:?}");
        }
    }

    #[test]
    fn values() {
        let object = ingress(&[
            ("nginx.ingress.kubernetes.io/use-regex", "true"),
            ("nginx.ingress.kubernetes.io/proxy-read-timeout", "1s"),
            ("nginx.ingress.kubernetes.io/proxy-body-size", "8m"),
            ("ingress-wasm.io/request-headers", "X-A: 1"),
        ]);
        let set = AnnotationSet::of(&object, None);
        assert!(set.is_true("use-regex"));
        assert_eq!(set.value("proxy-read-timeout"), None);
        assert_eq!(set.value("proxy-body-size"), Some(Value::Size(8 << 20)));
        assert!(set.own("request-headers").is_some());
        assert!(set.get("request-headers").is_none());
        assert_eq!(set.iter().count(), 4);
    }
}
