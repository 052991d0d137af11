//! Compiles the scripts that snippets of nginx configuration come to.

use std::rc::Rc;

use super::compile::{Compiler, inconsistent, regex};
use crate::config::{self, AnswerEdit, ConfigError, HeaderEdit, LimitExcept, ScriptBlock};
use crate::decision::Answers;
use crate::policy::script::{ARGS, Access, Block, Limited, Pattern, Script, Step, Test, Then};
use crate::policy::{HeaderTemplate, Network, NetworkSet, Scope, Template};

impl Compiler {
    /// Compiles a script.
    pub(super) fn script(&mut self, at: &str, script: config::Script) -> Result<Script, ConfigError> {
        let config::Script { variables, steps, blocks, access, limit_except } = script;
        let scope: Vec<(Box<str>, usize)> =
            variables.into_iter().map(|name| (name.as_str().into(), self.variable(&name))).collect();
        let mut compiled = Vec::with_capacity(steps.len());
        for (position, step) in steps.into_iter().enumerate() {
            compiled.push(self.step(&format!("{at}.steps[{position}]"), step, &scope, blocks.len())?);
        }
        let mut headers = Vec::with_capacity(blocks.len());
        for (position, block) in blocks.into_iter().enumerate() {
            headers.push(self.block(&format!("{at}.blocks[{position}]"), block, &scope)?);
        }
        let limited = match limit_except {
            None => None,
            Some(LimitExcept { methods, access }) => {
                let methods = methods.into_iter().map(Into::into).collect();
                Some(Limited { methods, access: lines(&format!("{at}.limitExcept.access"), &access)? })
            }
        };
        Ok(Script {
            steps: compiled.into(),
            blocks: headers.into(),
            access: lines(&format!("{at}.access"), &access)?,
            limited,
        })
    }

    /// The number of a variable.
    fn variable(&mut self, name: &str) -> usize {
        let found = self.variables.iter().position(|other| **other == *name);
        found.unwrap_or_else(|| {
            self.variables.push(name.into());
            self.variables.len().saturating_sub(1)
        })
    }

    fn scripted(&mut self, at: &str, text: &str, scope: &Scope) -> Result<Template, ConfigError> {
        let template =
            Template::parse_with(text, scope).map_err(|error| inconsistent(at, error.to_string()))?;
        self.needs_clock |= template.needs_clock();
        Ok(template)
    }

    fn step(
        &mut self,
        at: &str,
        step: config::Step,
        scope: &Scope,
        blocks: usize,
    ) -> Result<Step, ConfigError> {
        Ok(match step {
            config::Step::If { value, test, against, negated, skip } => {
                let test = match test.as_str() {
                    "" => Test::True,
                    "=" => Test::Equals(self.scripted(at, &against, scope)?),
                    "~" => Test::Matches(pattern(at, &against, false, scope)?),
                    "~*" => Test::Matches(pattern(at, &against, true, scope)?),
                    other => return Err(inconsistent(at, format!("`{other}` is no test"))),
                };
                Step::If { value: self.scripted(at, &value, scope)?, test, negated, skip }
            }
            config::Step::Enter { block } if block < blocks => Step::Enter(block),
            config::Step::Enter { block } => {
                return Err(inconsistent(
                    at,
                    format!("there are {blocks} blocks, this names number {block}"),
                ));
            }
            config::Step::Set { variable, value } => {
                let value = self.scripted(at, &value, scope)?;
                let variable = if variable == "args" { ARGS } else { self.variable(&variable) };
                Step::Set { variable, value }
            }
            config::Step::Return { status, text, content_type } => {
                if !(200..600).contains(&status) {
                    return Err(inconsistent(at, format!("{status} is not a status between 200 and 599")));
                }
                super::compile::text(at, &content_type)?;
                let text = text.map(|text| self.scripted(at, &text, scope)).transpose()?;
                Step::Return { status, text, content_type: content_type.into() }
            }
            config::Step::Rewrite { pattern: expression, path, query, keep_query, then } => {
                let then = match then.as_str() {
                    "next" => Then::Next,
                    "last" => Then::Last,
                    "break" => Then::Break,
                    "redirect" => Then::Redirect(302),
                    "permanent" => Then::Redirect(301),
                    other => return Err(inconsistent(at, format!("`{other}` is nothing that can follow"))),
                };
                Step::Rewrite {
                    pattern: pattern(at, &expression, false, scope)?,
                    path: self.scripted(at, &path, scope)?,
                    query: query.map(|query| self.scripted(at, &query, scope)).transpose()?,
                    keep_query,
                    then,
                }
            }
            config::Step::Break {} => Step::Break,
        })
    }

    fn block(&mut self, at: &str, block: ScriptBlock, scope: &Scope) -> Result<Block, ConfigError> {
        let ScriptBlock { input_headers, request_headers, response_headers } = block;
        let mut edit = |edit: HeaderEdit| {
            let template = HeaderTemplate::compile_with(edit, scope)
                .map_err(|error| inconsistent(at, error.to_string()))?;
            self.needs_clock |= template.needs_clock();
            Ok(template)
        };
        let inputs = input_headers.into_iter().map(&mut edit).collect::<Result<_, _>>()?;
        let requests = request_headers.into_iter().map(&mut edit).collect::<Result<_, _>>()?;
        let mut answers = Vec::with_capacity(response_headers.len());
        for AnswerEdit { edit: change, statuses, types } in response_headers {
            let all = statuses.is_empty() && types.is_empty();
            let types = types.into_iter().map(Into::into).collect();
            let which = (!all).then(|| Rc::new(Answers { statuses: statuses.into(), types }));
            answers.push((edit(change)?, which));
        }
        Ok(Block { inputs, requests, answers: answers.into() })
    }
}

fn pattern(at: &str, text: &str, caseless: bool, scope: &Scope) -> Result<Pattern, ConfigError> {
    let regex = *regex(at, text, caseless)?;
    let named = scope.iter().filter_map(|(name, number)| Some((*number, regex.group_index(name)?)));
    let names = named.collect();
    Ok(Pattern { regex, names })
}

/// Lines of `allow` and `deny`.
fn lines(at: &str, lines: &[String]) -> Result<Box<[Access]>, ConfigError> {
    let line = |line: &String| {
        let (verb, who) = line.split_once(' ')?;
        let network = match who {
            "all" => None,
            network => Some(NetworkSet::new([Network::parse(network)?])),
        };
        let allow = verb == "allow";
        (allow || verb == "deny").then_some(Access { allow, network })
    };
    let all: Option<Box<[Access]>> = lines.iter().map(line).collect();
    all.ok_or_else(|| inconsistent(at, "`allow` or `deny` and an address, a network or `all` are needed"))
}
