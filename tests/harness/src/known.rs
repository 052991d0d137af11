//! The list of known gaps: cases that an engine does not pass, with the reason.
//!
//! A listed case has to fail. One that passes is a failure as well, so that a repair shows and the list does
//! not rot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

/// Known gaps by engine and case.
#[derive(Debug, Clone, Default)]
pub struct Known {
    gaps: BTreeMap<(String, String), String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    known: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    case: String,
    engine: String,
    reason: String,
}

impl Known {
    /// Reads the list.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, an entry has no reason, or is there twice.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut gaps = BTreeMap::new();
        for Entry { case, engine, reason } in file.known {
            if reason.trim().is_empty() {
                return Err(format!("{case} ({engine}) has no reason"));
            }
            if gaps.insert((engine.clone(), case.clone()), reason).is_some() {
                return Err(format!("{case} ({engine}) is there twice"));
            }
        }
        Ok(Self { gaps })
    }

    /// Why an engine does not pass a case, if that is known.
    pub fn reason(&self, engine: &str, case: &str) -> Option<&str> {
        self.gaps.get(&(engine.to_owned(), case.to_owned())).map(String::as_str)
    }

    /// Entries that name no case or no engine.
    pub fn unknown(&self, engines: &BTreeSet<&str>, cases: &BTreeSet<&str>) -> Vec<String> {
        let known = |(engine, case): &&(String, String)| {
            engines.contains(engine.as_str()) && cases.contains(case.as_str())
        };
        let unknown = self.gaps.keys().filter(|key| !known(key));
        unknown.map(|(engine, case)| format!("{case} ({engine})")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_read_and_checked() {
        let known = Known::parse(
            "[[known]]\ncase = 'a'\nengine = 'envoy'\nreason = 'r'\n[[known]]\ncase = 'b'\nengine = 'x'\nreason = 's'\n",
        )
        .unwrap();
        assert_eq!(known.reason("envoy", "a"), Some("r"));
        assert_eq!(known.reason("x", "a"), None);
        assert_eq!(known.unknown(&["envoy"].into(), &["a", "b"].into()), ["b (x)"]);
        assert_eq!(known.unknown(&["envoy", "x"].into(), &["b"].into()), ["a (envoy)"]);
        let entry = "[[known]]\ncase = 'a'\nengine = 'envoy'\nreason = 'r'\n";
        for bad in [entry.replace("'r'", "' '"), entry.replace("reason", "raison"), format!("{entry}{entry}")]
        {
            assert!(Known::parse(&bad).is_err(), "{bad}");
        }
        assert!(Known::parse("").is_ok());
    }
}
