//! Switches for what goes wrong, and a record of what was asked.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

/// How the server is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Away {
    /// It is there.
    No,
    /// Connections are refused, and those that were open are closed.
    Refuse,
    /// Connections are accepted and nothing is answered; watches are silent.
    Hang,
}

/// Answers some requests otherwise. The first rule that takes a request decides.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// The verb as RBAC has it; none: all.
    #[serde(default)]
    pub verb: Option<String>,
    /// `plural.group`; none: all.
    #[serde(default)]
    pub resource: Option<String>,
    /// The namespace; none: all.
    #[serde(default)]
    pub namespace: Option<String>,
    /// How many requests it takes; none: all.
    #[serde(default)]
    pub times: Option<u32>,
    /// What becomes of the request.
    pub answer: Answer,
}

/// What becomes of a request that a rule takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// 429 with `Retry-After`.
    TooMany {
        /// Its seconds.
        seconds: u32,
    },
    /// 500.
    Fail,
    /// 503.
    Unavailable,
    /// 410 with the reason `Expired`.
    Expired,
    /// 403 as RBAC words it.
    Forbidden,
    /// Answered as usual, after so many milliseconds.
    Slow {
        /// How many.
        milliseconds: u64,
    },
    /// Answered as usual, but the connection ends after so many bytes of the body.
    Cut {
        /// How many.
        bytes: usize,
    },
}

/// A request, as rules see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Who asked: the token, or empty.
    pub user: String,
    /// The verb as RBAC has it.
    pub verb: String,
    /// `plural.group`.
    pub resource: String,
    /// The namespace, empty for none or all.
    pub namespace: String,
    /// The name, empty for none.
    pub name: String,
    /// `status`, or empty.
    pub subresource: String,
    /// Only the metadata was asked for.
    pub metadata_only: bool,
}

/// How many requests are remembered one by one. All are counted.
const REMEMBERED: usize = 100_000;

/// The rules in force, and the record.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Vec<Rule>,
    counts: BTreeMap<String, u64>,
    asked: VecDeque<Asked>,
}

impl Faults {
    /// Adds a rule, after those there are.
    pub fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    /// Takes all rules away.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// Notes a request and gives what becomes of it, if not the usual.
    pub fn ask(&mut self, asked: Asked) -> Option<Answer> {
        *self.counts.entry(format!("{} {}", asked.verb, asked.resource)).or_default() += 1;
        let fits =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let at = self.rules.iter().position(|rule| {
            fits(&rule.verb, &asked.verb)
                && fits(&rule.resource, &asked.resource)
                && fits(&rule.namespace, &asked.namespace)
                && rule.times != Some(0)
        });
        let answer = at.and_then(|at| self.rules.get_mut(at)).map(|rule| {
            if let Some(times) = &mut rule.times {
                *times -= 1;
            }
            rule.answer.clone()
        });
        if self.asked.len() == REMEMBERED {
            self.asked.pop_front();
        }
        self.asked.push_back(asked);
        answer
    }

    /// How many requests of a verb for a resource there were.
    pub fn count(&self, verb: &str, resource: &str) -> u64 {
        self.counts.get(&format!("{verb} {resource}")).copied().unwrap_or_default()
    }

    /// All counts, by `VERB RESOURCE`.
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    /// The requests, oldest first.
    pub fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter()
    }

    /// Forgets what was asked.
    pub fn forget(&mut self) {
        self.counts.clear();
        self.asked.clear();
    }
}
