//! Label and field selectors.

use serde_json::Value;

use super::failure::Failure;

/// Which objects of a resource are meant.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    labels: Vec<Label>,
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Label {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    There(String),
    NotThere(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    pointer: String,
    value: String,
    equal: bool,
}

/// The fields that built-in resources can be selected by, besides name and namespace.
const FIELDS: &[(&str, &[&str])] = &[
    ("secrets", &["type"]),
    ("nodes", &["spec.unschedulable"]),
    ("namespaces", &["status.phase"]),
    ("services", &["spec.clusterIP", "spec.type"]),
    ("pods", &["spec.nodeName", "spec.restartPolicy", "status.phase", "status.podIP"]),
    (
        "events",
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "reason",
            "type",
            "reportingComponent",
        ],
    ),
    ("events.events.k8s.io", &["regarding.kind", "regarding.namespace", "regarding.name", "reason", "type"]),
];

impl Selector {
    /// Reads `labelSelector` and `fieldSelector` for a resource.
    pub fn new(resource: &str, labels: Option<&str>, fields: Option<&str>) -> Result<Selector, Failure> {
        let mut selector = Selector::default();
        for term in terms(labels.unwrap_or_default()) {
            selector.labels.push(label(term)?);
        }
        for term in terms(fields.unwrap_or_default()) {
            selector.fields.push(field(resource, term)?);
        }
        Ok(selector)
    }

    /// Whether this object is meant.
    pub fn takes(&self, object: &Value) -> bool {
        let value = |key: &str| object["metadata"]["labels"].get(key).and_then(Value::as_str);
        let labels = self.labels.iter().all(|label| match label {
            Label::In(key, values) => value(key).is_some_and(|found| values.iter().any(|v| v == found)),
            Label::NotIn(key, values) => value(key).is_none_or(|found| values.iter().all(|v| v != found)),
            Label::There(key) => value(key).is_some(),
            Label::NotThere(key) => value(key).is_none(),
        });
        labels
            && self.fields.iter().all(|field| {
                let found = match object.pointer(&field.pointer) {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Bool(flag)) => flag.to_string(),
                    _ => String::new(),
                };
                (found == field.value) == field.equal
            })
    }
}

/// The parts between commas that are not in parentheses.
fn terms(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut terms) = (0, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms.into_iter().map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn label(term: &str) -> Result<Label, Failure> {
    let one = |key: &str, value: &str| (key.trim().to_owned(), vec![value.trim().to_owned()]);
    let set = |text: &str| -> Option<Vec<String>> {
        let inner = text.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
    };
    if let Some((key, values)) = term.split_once(" notin ") {
        return match set(values) {
            Some(values) => Ok(Label::NotIn(key.trim().to_owned(), values)),
            None => Err(unreadable(term)),
        };
    }
    if let Some((key, values)) = term.split_once(" in ") {
        return match set(values) {
            Some(values) => Ok(Label::In(key.trim().to_owned(), values)),
            None => Err(unreadable(term)),
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        let (key, values) = one(key, value);
        return Ok(Label::NotIn(key, values));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        let (key, values) = one(key, value);
        return Ok(Label::In(key, values));
    }
    if term.contains(char::is_whitespace) {
        return Err(unreadable(term));
    }
    Ok(match term.strip_prefix('!') {
        Some(key) => Label::NotThere(key.to_owned()),
        None => Label::There(term.to_owned()),
    })
}

fn field(resource: &str, term: &str) -> Result<Field, Failure> {
    let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (path, value, true)
    } else {
        return Err(unreadable(term));
    };
    let own = FIELDS.iter().find(|(name, _)| *name == resource).map_or(&[][..], |(_, fields)| fields);
    if !["metadata.name", "metadata.namespace"].contains(&path) && !own.contains(&path) {
        return Err(Failure::bad_request(format!(
            "Unable to find {resource:?} that match label selector \"\", field selector \"{term}\": field label \
             not supported: {path}"
        )));
    }
    Ok(Field { pointer: format!("/{}", path.replace('.', "/")), value: value.to_owned(), equal })
}

fn unreadable(term: &str) -> Failure {
    Failure::bad_request(format!("unable to parse requirement: found '{term}'"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selects() {
        let object = json!({
            "metadata": {"name": "a", "namespace": "n", "labels": {"app": "web", "tier": "front"}},
            "type": "Opaque",
        });
        let cases = [
            ("", "", true),
            ("app=web", "", true),
            ("app==web,tier!=back", "", true),
            ("app in (web, api),!zone", "", true),
            ("app notin (web,api)", "", false),
            ("zone notin (a)", "", true),
            ("app", "metadata.name=a", true),
            ("!app", "", false),
            ("", "metadata.name=b", false),
            ("", "type!=helm.sh/release.v1,metadata.namespace=n", true),
            ("", "type!=Opaque", false),
        ];
        for (labels, fields, expected) in cases {
            let selector = Selector::new("secrets", Some(labels), Some(fields)).expect(labels);
            assert_eq!(selector.takes(&object), expected, "{labels} {fields}");
        }
    }

    #[test]
    fn refuses() {
        for (labels, fields) in [("a b", ""), ("a in b", ""), ("", "data.x=1"), ("", "metadata.name")] {
            let refused =
                Selector::new("configmaps", Some(labels), Some(fields)).map_err(|failure| failure.code);
            assert_eq!(refused.err(), Some(400), "{labels} {fields}");
        }
    }
}
