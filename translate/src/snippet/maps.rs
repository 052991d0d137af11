//! `map` blocks of `http-snippet`: a table from a value to that of a variable, as steps that set it.

use ingress_wasm::config::Step;

use super::ast::Directive;
use super::rewrite::check_expression;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    source: String,
    default: String,
    /// Text without case, and what it stands for.
    exact: Vec<(String, String)>,
    /// Test (`~` or `~*`), expression, and what it stands for.
    expressions: Vec<(&'static str, String, String)>,
}

impl Map {
    /// Reads a block: the name of the variable, and the table.
    pub(super) fn read(directive: &Directive) -> Result<(String, Map), String> {
        let ([source, target], Some(block)) = (&directive.words()[..], &directive.block) else {
            return Err("two variables and a block are needed".to_owned());
        };
        let Some(name) = target.strip_prefix('$') else { return Err(format!("`{target}` is no variable")) };
        let (mut exact, mut expressions, mut default) = (Vec::new(), Vec::new(), String::new());
        for Directive { name: key, args, .. } in block {
            let value = match &args[..] {
                [value] => value.clone(),
                [] if key == "volatile" => continue,
                _ => return Err(format!("`{key}` is not supported in it")),
            };
            if let Some(pattern) = key.strip_prefix("~*") {
                expressions.push(("~*", check_expression(pattern)?, value));
            } else if let Some(pattern) = key.strip_prefix('~') {
                expressions.push(("~", check_expression(pattern)?, value));
            } else if key == "default" {
                default = value;
            } else if key == "include" || key == "hostnames" {
                return Err(format!("`{key}` is not supported in it"));
            } else {
                exact.push((key.strip_prefix('\\').unwrap_or(key).to_owned(), value));
            }
        }
        let map = Map { source: (*source).to_owned(), default, exact, expressions };
        Ok((name.to_owned(), map))
    }

    /// All texts that may hold variables.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let values = self.exact.iter().map(|(_, value)| value.as_str());
        let more = self.expressions.iter().map(|(_, _, value)| value.as_str());
        [self.source.as_str(), self.default.as_str()].into_iter().chain(values).chain(more)
    }

    /// The text that is looked up.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The steps: whatever sets the variable last counts, so the weaker entries come first.
    pub fn steps(&self, variable: &str) -> Vec<Step> {
        let set = |value: &str| Step::Set { variable: variable.to_owned(), value: value.to_owned() };
        let mut steps = vec![set(&self.default)];
        let mut when = |test: &str, against: &str, value: &str| {
            steps.push(Step::If {
                value: self.source.clone(),
                test: test.to_owned(),
                against: against.to_owned(),
                negated: false,
                skip: 1,
            });
            steps.push(set(value));
        };
        for (test, pattern, value) in self.expressions.iter().rev() {
            when(test, pattern, value);
        }
        for (text, value) in &self.exact {
            when("~*", &format!("^{}$", quoted(text)), value);
        }
        steps
    }
}

/// A text as an expression that matches it and nothing else.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for sign in text.chars() {
        if sign.is_ascii() && !sign.is_ascii_alphanumeric() && !sign.is_ascii_control() {
            out.push('\\');
        }
        out.push(sign);
    }
    out
}
