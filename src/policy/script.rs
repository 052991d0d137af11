//! What snippets of nginx configuration come to: the rewrite module's steps (`set`, `if`, `return`, `rewrite`,
//! `break`) in order, and what holds when they are through (headers, `allow` and `deny`).
//!
//! A host's script runs before a rule is chosen, a rule's before anything of the rule but what answers at once.
//! As in nginx the headers of an `if` take the place of those around it: the last `if` that held counts.

use std::borrow::Cow;
use std::rc::Rc;

use super::rewrite::{escaped_groups, unescaped};
use super::template::Template;
use super::{Facts, HeaderTemplate, NetworkSet, Opinion, page, redirect, reply};
use crate::decision::{Answers, Edit, Reply};
use crate::regex::{self, LimitExceeded, Regex};
use crate::router::path::escape;

/// Stands for `$args` among the variables that a step sets.
pub const ARGS: usize = usize::MAX;

/// A script. See [`crate::config::Script`].
#[derive(Debug)]
pub struct Script {
    /// What is done, in order.
    pub steps: Box<[Step]>,
    /// What holds afterwards, by the block that was entered last.
    pub blocks: Box<[Block]>,
    /// Who may come in by address.
    pub access: Box<[Access]>,
    /// Methods, and who may come in with any other.
    pub limited: Option<Limited>,
}

/// See [`crate::config::LimitExcept`].
#[derive(Debug)]
pub struct Limited {
    /// The methods that it is not for.
    pub methods: Box<[Box<str>]>,
    /// Who may come in with any other.
    pub access: Box<[Access]>,
}

/// See [`crate::config::Step`].
#[derive(Debug)]
pub enum Step {
    /// Passes over the next steps unless it holds.
    If {
        /// What is looked at.
        value: Template,
        /// What it is held against.
        test: Test,
        /// It has not to hold.
        negated: bool,
        /// How many steps belong to it.
        skip: usize,
    },
    /// The headers of this block hold.
    Enter(usize),
    /// Sets a variable.
    Set {
        /// Which one.
        variable: usize,
        /// To what.
        value: Template,
    },
    /// Answers.
    Return {
        /// The status.
        status: u16,
        /// A text, or where a redirect goes to.
        text: Option<Template>,
        /// Content-Type of the text.
        content_type: Box<str>,
    },
    /// Changes path and query, or redirects.
    Rewrite {
        /// What the path is held against.
        pattern: Pattern,
        /// The new path, or a URL.
        path: Template,
        /// The new query.
        query: Option<Template>,
        /// The old query is appended.
        keep_query: bool,
        /// What comes then.
        then: Then,
    },
    /// Ends the script.
    Break,
}

/// What comes after a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next step; in the end a rule is chosen anew.
    Next,
    /// A rule is chosen anew.
    Last,
    /// The rest of the rule.
    Break,
    /// The client is sent there, with this status.
    Redirect(u16),
}

/// A test of an `if`.
#[derive(Debug)]
pub enum Test {
    /// Neither empty nor `0`.
    True,
    /// This text.
    Equals(Template),
    /// A match of the expression.
    Matches(Pattern),
}

/// An expression, and the variables that its named groups set.
#[derive(Debug)]
pub struct Pattern {
    /// The expression.
    pub regex: Regex,
    /// Variable and group.
    pub names: Box<[(usize, usize)]>,
}

/// The headers of a block.
#[derive(Debug)]
pub struct Block {
    /// Changes to what the client sent, before anything is added.
    pub inputs: Box<[HeaderTemplate]>,
    /// Changes to what the backend receives.
    pub requests: Box<[HeaderTemplate]>,
    /// Changes to the answer, and to which answers.
    pub answers: Box<[(HeaderTemplate, Option<Rc<Answers>>)]>,
}

/// A line of `allow` or `deny`.
#[derive(Debug)]
pub struct Access {
    /// They may come in.
    pub allow: bool,
    /// Who; none: everybody.
    pub network: Option<NetworkSet>,
}

/// How far the scripts of a request have come.
#[derive(Debug, Default)]
pub struct Running<'a> {
    script: Option<&'a Script>,
    block: usize,
    values: Vec<(usize, Vec<u8>)>,
    /// Of the last match; none: those of the rule's expression.
    groups: Vec<Vec<u8>>,
    query: Option<Vec<u8>>,
    /// Path or query are not those of the request any more.
    pub moved: bool,
    /// Nothing else may rewrite the path.
    pub ended: bool,
}

impl Running<'_> {
    /// The value of a variable.
    pub fn value(&self, variable: usize) -> &[u8] {
        self.values.iter().find(|(found, _)| *found == variable).map_or(&[][..], |(_, value)| value)
    }

    /// A group of the last match; none where there was no match.
    pub fn group(&self, number: usize) -> Option<&[u8]> {
        match self.groups.get(number) {
            Some(group) => Some(group),
            None => (!self.groups.is_empty()).then_some(&[][..]),
        }
    }

    /// The query, where it is another than the request's.
    pub fn query(&self) -> Option<&[u8]> {
        self.query.as_deref()
    }

    fn set(&mut self, variable: usize, value: Vec<u8>) {
        if variable == ARGS {
            self.query = Some(value);
            self.moved = true;
            return;
        }
        match self.values.iter_mut().find(|(found, _)| *found == variable) {
            Some(slot) => slot.1 = value,
            None => self.values.push((variable, value)),
        }
    }
}

/// What becomes of a request after a script.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// It goes on.
    On,
    /// A rule is to be chosen for the path that it has now.
    Relocate,
    /// It is answered.
    Reply(Reply<'a>),
}

/// Runs a script. `relative`: redirects to a path are sent without scheme and host.
pub fn run<'a>(
    script: &'a Script,
    facts: &mut Facts<'a>,
    relative: bool,
    scratch: &mut regex::Scratch,
) -> Outcome<'a> {
    let mut running = facts.script.take().unwrap_or_default();
    running.script = Some(script);
    running.block = 0;
    running.ended = false;
    // Those of another rule's expression count again.
    running.groups.clear();
    facts.script = Some(running);
    steps(script, facts, relative, scratch)
        .unwrap_or_else(|LimitExceeded| Outcome::Reply(page(500, "expression_limit")))
}

fn steps<'a>(
    script: &'a Script,
    facts: &mut Facts<'a>,
    relative: bool,
    scratch: &mut regex::Scratch,
) -> Result<Outcome<'a>, LimitExceeded> {
    let mut at = 0_usize;
    let mut outcome = Outcome::On;
    while let Some(step) = script.steps.get(at) {
        at = at.saturating_add(1);
        match step {
            Step::If { value, test, negated, skip } => {
                if holds(value, test, facts, scratch)? == *negated {
                    at = at.saturating_add(*skip);
                }
            }
            Step::Enter(block) => {
                if let Some(running) = &mut facts.script {
                    running.block = *block;
                }
            }
            Step::Set { variable, value } => {
                let value = value.render(facts).into_owned();
                if let Some(running) = &mut facts.script {
                    running.set(*variable, value);
                }
            }
            Step::Return { status, text, content_type } => {
                return Ok(Outcome::Reply(returned(*status, text.as_ref(), content_type, relative, facts)));
            }
            Step::Rewrite { pattern, path, query, keep_query, then } => {
                let subject = facts.path.clone();
                if !pattern.matches(&subject, facts, scratch)? {
                    continue;
                }
                if let Then::Redirect(status) = then {
                    let location = location(path, query.as_ref(), *keep_query, facts);
                    let location = redirect::completed(&location, relative, facts);
                    return Ok(Outcome::Reply(reply::redirect(*status, location, "snippet_rewrite")));
                }
                relocate(path, query.as_ref(), *keep_query, facts);
                outcome = Outcome::Relocate;
                match then {
                    Then::Next | Then::Redirect(_) => {}
                    Then::Last => break,
                    Then::Break => return Ok(end(facts)),
                }
            }
            Step::Break => return Ok(end(facts)),
        }
    }
    Ok(outcome)
}

/// The request stays where it is.
fn end<'a>(facts: &mut Facts<'a>) -> Outcome<'a> {
    if let Some(running) = &mut facts.script {
        running.ended = true;
    }
    Outcome::On
}

fn holds(
    value: &Template,
    test: &Test,
    facts: &mut Facts<'_>,
    scratch: &mut regex::Scratch,
) -> Result<bool, LimitExceeded> {
    let value = render(value, facts);
    Ok(match test {
        Test::True => !value.is_empty() && value != b"0",
        Test::Equals(other) => value == render(other, facts),
        Test::Matches(pattern) => pattern.matches(&value, facts, scratch)?,
    })
}

fn render(template: &Template, facts: &Facts<'_>) -> Vec<u8> {
    template.render(facts).into_owned()
}

impl Pattern {
    /// Whether it matches; the groups are kept.
    fn matches(
        &self,
        subject: &[u8],
        facts: &mut Facts<'_>,
        scratch: &mut regex::Scratch,
    ) -> Result<bool, LimitExceeded> {
        let Some(captures) = self.regex.captures(subject, scratch)? else { return Ok(false) };
        let group = |number| {
            let range = captures.get(number);
            range.and_then(|range| subject.get(range)).unwrap_or_default().to_vec()
        };
        let groups: Vec<Vec<u8>> = (0..captures.len()).map(group).collect();
        if let Some(running) = &mut facts.script {
            for (variable, number) in &self.names {
                running.set(*variable, groups.get(*number).cloned().unwrap_or_default());
            }
            running.groups = groups;
        }
        Ok(true)
    }
}

fn returned<'a>(
    status: u16,
    text: Option<&'a Template>,
    content_type: &'a str,
    relative: bool,
    facts: &Facts<'a>,
) -> Reply<'a> {
    const DETAILS: &str = "snippet_return";
    match (status, text) {
        (301 | 302 | 303 | 307 | 308, Some(url)) => {
            let location = redirect::completed(&url.render_header(facts), relative, facts);
            reply::redirect(status, location, DETAILS)
        }
        (_, Some(text)) => Reply {
            headers: vec![("content-type".into(), Cow::Borrowed(content_type.as_bytes()))],
            body: text.render(facts),
            ..reply::empty(status, DETAILS)
        },
        (status, None) if reply::has_page(status) => page(status, DETAILS),
        (status, None) => reply::empty(status, DETAILS),
    }
}

/// Where a rewrite sends the client.
fn location(path: &Template, query: Option<&Template>, keep_query: bool, facts: &Facts<'_>) -> Vec<u8> {
    let mut rendered = escaped_groups(path, facts).into_owned();
    if let Some(query) = query {
        rendered.push(b'?');
        rendered.extend_from_slice(&escaped_groups(query, facts));
    }
    let mut location = unescaped(&rendered);
    let old = facts.args();
    if keep_query && !old.is_empty() {
        location.push(if query.is_some() { b'&' } else { b'?' });
        location.extend_from_slice(old);
    }
    location
}

/// Gives the request another path and query.
fn relocate(path: &Template, query: Option<&Template>, keep_query: bool, facts: &mut Facts<'_>) {
    let mut new = render(path, facts);
    if new.first() != Some(&b'/') {
        new.insert(0, b'/');
    }
    let old = if keep_query { facts.args().to_vec() } else { Vec::new() };
    let query = match query {
        None => old,
        Some(query) => {
            let mut query = escaped_groups(query, facts).into_owned();
            if !old.is_empty() {
                query.push(b'&');
                query.extend_from_slice(&old);
            }
            query
        }
    };
    facts.path = Cow::Owned(new);
    if let Some(running) = &mut facts.script {
        running.query = Some(query);
        running.moved = true;
    }
}

/// Target of a request whose path or query a script has changed; none where none has.
pub fn target(facts: &Facts<'_>) -> Option<Vec<u8>> {
    if !facts.script.as_ref()?.moved {
        return None;
    }
    let mut target = Vec::new();
    escape(&facts.path, &mut target);
    let query = facts.args();
    if !query.is_empty() {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    Some(target)
}

/// Changes to what the client sent.
pub fn input_edits<'a>(facts: &Facts<'a>, edits: &mut Vec<Edit<'a>>) {
    if let Some(block) = block(facts) {
        edits.extend(block.inputs.iter().map(|edit| edit.render(facts)));
    }
}

/// Changes to what the backend receives.
pub fn request_edits<'a>(facts: &Facts<'a>, edits: &mut Vec<Edit<'a>>) {
    if let Some(block) = block(facts) {
        let rendered = block.requests.iter().map(|edit| edit.render(facts));
        edits.extend(rendered.filter(|edit| !adds_nothing(edit)));
    }
}

/// Changes to the answer.
pub fn response_edits<'a>(facts: &Facts<'a>, edits: &mut Vec<Edit<'a>>) {
    let Some(block) = block(facts) else { return };
    for (edit, answers) in &block.answers {
        let edit = edit.render(facts);
        if adds_nothing(&edit) {
            continue;
        }
        edits.push(match answers {
            None => edit,
            Some(answers) => Edit::For(Rc::clone(answers), Box::new(edit)),
        });
    }
}

fn block<'a>(facts: &Facts<'a>) -> Option<&'a Block> {
    let running = facts.script.as_ref()?;
    running.script?.blocks.get(running.block)
}

/// nginx sends no header without a value.
fn adds_nothing(edit: &Edit<'_>) -> bool {
    matches!(edit, Edit::Add(_, value) if value.is_empty())
}

/// What the lines of `allow` and `deny` say: the first that fits counts.
pub fn check_address<'a>(script: &Script, facts: &Facts<'a>) -> Opinion<'a> {
    let method = facts.request.method();
    let lines = match &script.limited {
        Some(limited) if !limited.methods.iter().any(|other| other.as_bytes() == method) => &limited.access,
        _ => &script.access,
    };
    let ip = facts.client.ip();
    let fits = |line: &&Access| match &line.network {
        None => true,
        // What is no address is on no list, and nobody who is refused.
        Some(network) => ip.is_some_and(|ip| network.contains(ip)),
    };
    match lines.iter().find(fits) {
        None => Opinion::Silent,
        Some(Access { allow: true, .. }) => Opinion::Passed,
        Some(_) => Opinion::Refused(page(403, "address")),
    }
}
