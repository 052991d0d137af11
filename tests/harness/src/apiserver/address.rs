//! Paths of the API: which resource, namespace, object and subresource a request is about.

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Group and version, as an object's `apiVersion`.
    pub(super) api_version: String,
    /// The resource by its plural.
    pub(super) plural: String,
    /// The namespace; none: all of them, or a resource that has none.
    pub(super) namespace: Option<String>,
    /// The object; none: all of the resource.
    pub(super) name: Option<String>,
    /// `status`, if it is about that.
    pub(super) subresource: Option<String>,
}

impl Address {
    /// Reads the path of a request, without its query.
    pub(super) fn parse(path: &str) -> Option<Address> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let api_version = match parts.next()? {
            "api" => parts.next()?.to_owned(),
            "apis" => format!("{}/{}", parts.next()?, parts.next()?),
            _ => return None,
        };
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, plural, rest @ ..] if *plural != "status" => {
                (Some((*namespace).to_owned()), [&[*plural], rest].concat())
            }
            _ => (None, rest),
        };
        let mut rest = rest.into_iter().map(str::to_owned);
        let address = Address {
            api_version,
            plural: rest.next().filter(|plural| !plural.is_empty())?,
            namespace,
            name: rest.next(),
            subresource: rest.next(),
        };
        rest.next().is_none().then_some(address)
    }

    /// The resource in the words of refusals: `ingresses.networking.k8s.io`.
    pub(super) fn resource(&self) -> String {
        match self.api_version.split_once('/') {
            Some((group, _)) => format!("{}.{group}", self.plural),
            None => self.plural.clone(),
        }
    }
}

/// The value of a name in a query, decoded.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| decoded(value))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let hex = others.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        rest = others;
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = others.get(2..).unwrap_or_default();
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A label or field selector: all of its terms have to hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector(Vec<Term>);

#[derive(Debug, Clone)]
enum Term {
    Is(String, String),
    IsNot(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Lacks(String),
}

impl Selector {
    /// Reads a selector in the form that queries have.
    pub(super) fn parse(text: &str) -> Selector {
        let mut terms = Vec::new();
        let mut depth = 0;
        let mut start = 0;
        for (position, sign) in text.char_indices().chain([(text.len(), ',')]) {
            match sign {
                '(' => depth += 1,
                ')' => depth -= 1,
                ',' if depth == 0 => {
                    terms.extend(Term::parse(text[start..position].trim()));
                    start = (position + 1).min(text.len());
                }
                _ => {}
            }
        }
        Selector(terms)
    }

    /// Whether it holds; `value` gives what stands under a key.
    pub(super) fn matches(&self, value: impl Fn(&str) -> Option<String>) -> bool {
        self.0.iter().all(|term| match term {
            Term::Is(key, wanted) => value(key).as_ref() == Some(wanted),
            Term::IsNot(key, wanted) => value(key).as_ref() != Some(wanted),
            Term::In(key, all) => value(key).is_some_and(|found| all.contains(&found)),
            Term::NotIn(key, all) => value(key).is_none_or(|found| !all.contains(&found)),
            Term::Exists(key) => value(key).is_some(),
            Term::Lacks(key) => value(key).is_none(),
        })
    }
}

impl Term {
    fn parse(text: &str) -> Option<Term> {
        let list = |text: &str| {
            text.trim_matches(['(', ')']).split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>()
        };
        let own = |text: &str| text.trim().to_owned();
        if text.is_empty() {
            return None;
        }
        Some(if let Some((key, all)) = text.split_once(" notin ") {
            Term::NotIn(own(key), list(all.trim()))
        } else if let Some((key, all)) = text.split_once(" in ") {
            Term::In(own(key), list(all.trim()))
        } else if let Some((key, value)) = text.split_once("!=") {
            Term::IsNot(own(key), own(value))
        } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            Term::Is(own(key), own(value))
        } else if let Some(key) = text.strip_prefix('!') {
            Term::Lacks(own(key))
        } else {
            Term::Exists(own(text))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let cases = [
            ("/api/v1/services", Some("v1 services - - -")),
            ("/api/v1/namespaces/a/services/b", Some("v1 services a b -")),
            ("/api/v1/namespaces", Some("v1 namespaces - - -")),
            ("/api/v1/namespaces/a", Some("v1 namespaces - a -")),
            ("/api/v1/namespaces/a/status", Some("v1 namespaces - a status")),
            (
                "/apis/networking.k8s.io/v1/namespaces/a/ingresses/b/status",
                Some("networking.k8s.io/v1 ingresses a b status"),
            ),
            (
                "/apis/networking.k8s.io/v1/ingressclasses/n",
                Some("networking.k8s.io/v1 ingressclasses - n -"),
            ),
            ("/apis/g/v1/a/b/c/d", None),
            ("/version", None),
            ("/api/v1", None),
        ];
        for (path, expected) in cases {
            let found = Address::parse(path).map(|address| {
                let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
                let Address { api_version, plural, namespace, name, subresource } = &address;
                format!("{api_version} {plural} {} {} {}", word(namespace), word(name), word(subresource))
            });
            assert_eq!(found.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn selectors() {
        let labels = |key: &str| match key {
            "app" => Some("web".to_owned()),
            "kubernetes.io/tier" => Some("front".to_owned()),
            _ => None,
        };
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web,kubernetes.io/tier=front", true),
            ("app!=web", false),
            ("x!=web", true),
            ("app in (api, web),!x", true),
            ("app notin (api,web)", false),
            ("x", false),
            ("app", true),
            ("!app", false),
        ];
        for (text, expected) in cases {
            assert_eq!(Selector::parse(text).matches(labels), expected, "{text}");
        }
    }

    #[test]
    fn parameters() {
        let query = "watch=1&labelSelector=app%3Dweb%2Cx+in+%28a%29";
        assert_eq!(parameter(query, "watch").as_deref(), Some("1"));
        assert_eq!(parameter(query, "labelSelector").as_deref(), Some("app=web,x in (a)"));
        assert_eq!(parameter(query, "limit"), None);
    }
}
