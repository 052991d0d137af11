//! From directives to steps and headers: the part of nginx that is honoured. What is outside of it, or cannot be
//! read, becomes a [`Finding`].

use std::collections::BTreeMap;

use ingress_wasm::config::{AnswerEdit, HeaderEdit, LimitExcept, Step};
use ingress_wasm::policy::{HeaderTemplate, Network, Template};

use super::ast::Directive;
use super::directives::{self, Treatment};
use super::maps::Map;
use super::{headers, rewrite};

/// Where directives stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In `http`, beside the servers.
    Http,
    /// In a server.
    Server,
    /// In a location.
    Location,
}

/// Something that is not done as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The line of the snippet, counted from 1.
    pub line: u32,
    /// The directive.
    pub directive: String,
    /// What is the matter with it.
    pub reason: String,
    /// Without it somebody may get in, or a backend may trust what it should not.
    pub guards: bool,
    /// Nothing is lost.
    pub harmless: bool,
}

/// What holds in a block: the snippet itself, or an `if` in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    /// The block around it.
    pub parent: usize,
    /// `more_set_headers`, `more_clear_headers`
    pub more: Vec<AnswerEdit>,
    /// `add_header`
    pub added: Vec<AnswerEdit>,
    /// `expires`
    pub expires: Option<Vec<AnswerEdit>>,
    /// `more_set_input_headers`, `more_clear_input_headers`
    pub inputs: Vec<HeaderEdit>,
    /// `proxy_set_header`
    pub requests: Vec<HeaderEdit>,
}

impl Part {
    fn is_empty(&self) -> bool {
        let Part { parent: _, more, added, expires, inputs, requests } = self;
        more.is_empty() && added.is_empty() && expires.is_none() && inputs.is_empty() && requests.is_empty()
    }
}

/// A `location` of a server snippet.
#[derive(Debug, Clone)]
pub struct Location {
    /// `=`, `^~`, `~`, `~*` or nothing.
    pub modifier: String,
    /// The path or expression.
    pub path: String,
    /// What is inside.
    pub inside: Compiled,
}

/// What the snippets of one place come to.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    /// Names of the variables that are set.
    pub variables: Vec<String>,
    pub(super) steps: Vec<Step>,
    pub(super) parts: Vec<Part>,
    /// Lines of `allow` and `deny`.
    pub access: Vec<String>,
    /// Methods, and the lines for all others.
    pub limit_except: Option<LimitExcept>,
    /// `satisfy any`, or `satisfy all`.
    pub satisfy_any: Option<bool>,
    /// Headers of backends that clients do not get.
    pub hidden: Vec<String>,
    /// Headers of backends that clients do get, although nginx keeps them back.
    pub passed: Vec<String>,
    /// `default_type`
    pub default_type: Option<String>,
    /// Locations of a server.
    pub locations: Vec<Location>,
    /// Tables of `http`, by the variable that they set.
    pub maps: BTreeMap<String, Map>,
    /// What is not done as written.
    pub findings: Vec<Finding>,
}

impl Compiled {
    /// What guards is not done as written, for this reason.
    pub fn lost_guard(&self) -> Option<String> {
        self.findings.iter().find(|finding| finding.guards).map(|finding| {
            format!("`{}` of a snippet cannot be honoured: {}", finding.directive, finding.reason)
        })
    }

    /// Nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
            && self.parts.iter().all(Part::is_empty)
            && self.access.is_empty()
            && self.limit_except.is_none()
    }
}

/// Compiles the snippets of one place, one after the other as nginx would read them.
pub struct Compiler<'a> {
    pub(super) place: Place,
    /// Variables that others set.
    outer: Vec<String>,
    /// Names of the standard headers, in lower case, of which nginx sends a second line.
    pub(super) standard: &'a [&'a str],
    pub(super) out: Compiled,
}

/// What a directive comes to: what is the matter with it, if anything is.
pub(super) type Read = Result<(), String>;

impl<'a> Compiler<'a> {
    /// `outer`: names of variables that are set before, by maps or by a server.
    pub fn new(place: Place, outer: Vec<String>, standard: &'a [&'a str]) -> Self {
        let out = Compiled { parts: vec![Part::default()], ..Compiled::default() };
        Compiler { place, outer, standard, out }
    }

    /// Adds a snippet.
    pub fn add(&mut self, directives: &[Directive]) {
        self.declare(directives);
        self.block(directives, 0);
    }

    /// What all of them come to.
    pub fn finish(mut self) -> Compiled {
        // Entering a block is of no use where no block has headers.
        if self.out.parts.iter().skip(1).all(Part::is_empty) && self.out.parts.len() > 1 {
            self.out.parts.truncate(1);
            rewrite::without_entering(&mut self.out.steps);
        }
        self.out
    }

    /// Takes down the names of variables: nginx knows them wherever they are set.
    pub(super) fn declare(&mut self, directives: &[Directive]) {
        for directive in directives {
            let names: Vec<String> = match directive.name.as_str() {
                "set" => directive.arg(0).strip_prefix('$').map(str::to_owned).into_iter().collect(),
                "map" => directive.arg(1).strip_prefix('$').map(str::to_owned).into_iter().collect(),
                "if" | "rewrite" => directive.args.iter().flat_map(|arg| rewrite::group_names(arg)).collect(),
                _ => Vec::new(),
            };
            for name in names {
                if name != "args" && !self.out.variables.contains(&name) {
                    self.out.variables.push(name);
                }
            }
            if directive.name == "if" {
                self.declare(directive.block.as_deref().unwrap_or_default());
            }
        }
    }

    /// All variables that templates may name besides those of nginx.
    pub(super) fn scope(&self) -> Vec<(Box<str>, usize)> {
        let names = self.out.variables.iter().chain(&self.outer);
        names.enumerate().map(|(position, name)| (name.as_str().into(), position)).collect()
    }

    /// Checks text with variables.
    pub(super) fn template(&self, text: &str) -> Result<String, String> {
        let bad = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '{');
        if text.split('$').skip(1).any(bad) {
            return Err("a dollar without the name of a variable".to_owned());
        }
        match Template::parse_with(text, &self.scope()) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Checks a change to headers.
    pub(super) fn edit(&self, edit: HeaderEdit) -> Result<HeaderEdit, String> {
        if let HeaderEdit::Set { value, .. } | HeaderEdit::Add { value, .. } = &edit {
            self.template(value)?;
        }
        match HeaderTemplate::compile_with(edit.clone(), &self.scope()) {
            Ok(_) => Ok(edit),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The directives of a block whose headers are those of `part`.
    pub(super) fn block(&mut self, directives: &[Directive], part: usize) {
        for directive in directives {
            let read = self.directive(directive, part);
            if let Err(reason) = read {
                let guards = directives::guards(&directive.name);
                self.find(directive, reason, guards, false);
            }
        }
    }

    pub(super) fn find(&mut self, directive: &Directive, reason: String, guards: bool, harmless: bool) {
        let Directive { name, line, .. } = directive;
        self.out.findings.push(Finding { line: *line, directive: name.clone(), reason, guards, harmless });
    }

    fn directive(&mut self, directive: &Directive, part: usize) -> Read {
        let nested = part > 0;
        let in_location = self.place == Place::Location;
        let name = directive.name.as_str();
        match name {
            "set" | "if" | "return" | "rewrite" | "break" if self.place != Place::Http => {
                rewrite::read(self, directive, part)
            }
            "more_set_headers" | "more_clear_headers" | "add_header" | "expires"
                if in_location || !nested =>
            {
                headers::answer(self, directive, part)
            }
            "more_set_input_headers" | "more_clear_input_headers" if in_location || !nested => {
                headers::input(self, directive, part)
            }
            "proxy_set_header" if in_location && !nested => headers::request(self, directive, part),
            "proxy_set_header" if !in_location => {
                let reason = "it has no effect here: ingress-nginx sets headers of its own in each location";
                self.find(directive, reason.to_owned(), false, true);
                Ok(())
            }
            "proxy_hide_header" | "proxy_pass_header" if !nested => match directive.words()[..] {
                [header] => {
                    let list =
                        if name == "proxy_hide_header" { &mut self.out.hidden } else { &mut self.out.passed };
                    list.push(header.to_ascii_lowercase());
                    Ok(())
                }
                _ => Err("one name of a header is needed".to_owned()),
            },
            "allow" | "deny" if !nested && self.place != Place::Http => {
                let line = access(directive)?;
                self.out.access.push(line);
                Ok(())
            }
            "satisfy" if !nested && self.place != Place::Http => match directive.words()[..] {
                ["any"] => self.satisfy(true),
                ["all"] => self.satisfy(false),
                _ => Err("`any` or `all` is needed".to_owned()),
            },
            "limit_except" if in_location && !nested => self.limit_except(directive),
            "default_type" if !nested => match directive.words()[..] {
                [kind] if !kind.bytes().any(|byte| byte.is_ascii_control()) => {
                    self.out.default_type = Some(kind.to_owned());
                    Ok(())
                }
                _ => Err("one type is needed".to_owned()),
            },
            "location" if self.place == Place::Server && !nested => self.location(directive),
            "map" if self.place == Place::Http => {
                let (name, map) = Map::read(directive)?;
                for text in map.texts() {
                    self.template(text)?;
                }
                self.out.maps.insert(name, map);
                Ok(())
            }
            _ => self.other(directive, nested),
        }
    }

    fn satisfy(&mut self, any: bool) -> Read {
        self.out.satisfy_any = Some(any);
        Ok(())
    }

    /// A directive that is not carried out.
    fn other(&mut self, directive: &Directive, nested: bool) -> Read {
        match directives::lookup(&directive.name).map(|known| known.treatment) {
            Some(Treatment::NoEffect(reason)) => {
                self.find(directive, format!("nothing needs to be done: {reason}"), false, true);
                Ok(())
            }
            Some(Treatment::LeftOut) => Err("it is not supported".to_owned()),
            Some(Treatment::Honoured(_)) if nested => Err("it is not supported inside of an `if`".to_owned()),
            Some(Treatment::Honoured(_)) => Err("it is not supported in this kind of snippet".to_owned()),
            None => Err("it is not supported".to_owned()),
        }
    }

    fn limit_except(&mut self, directive: &Directive) -> Read {
        let inside = directive.block.as_deref().unwrap_or_default();
        if directive.args.is_empty() || inside.is_empty() || self.out.limit_except.is_some() {
            return Err("it needs methods and a block, and may stand there once".to_owned());
        }
        let mut methods = directive.args.clone();
        // Who may GET may HEAD.
        if methods.iter().any(|method| method == "GET") {
            methods.push("HEAD".to_owned());
        }
        let access = inside.iter().map(|inner| match inner.name.as_str() {
            "allow" | "deny" => access(inner),
            other => Err(format!("`{other}` is not supported inside of it")),
        });
        self.out.limit_except = Some(LimitExcept { methods, access: access.collect::<Result<_, _>>()? });
        Ok(())
    }

    fn location(&mut self, directive: &Directive) -> Read {
        let (modifier, path) = match directive.words()[..] {
            [path] => match ["=", "^~", "~*", "~"].into_iter().find(|sign| path.starts_with(sign)) {
                Some(sign) => (sign, path.strip_prefix(sign).unwrap_or_default()),
                None => ("", path),
            },
            [modifier @ ("=" | "^~" | "~" | "~*"), path] => (modifier, path),
            _ => return Err("a path is needed".to_owned()),
        };
        if modifier.starts_with('~') {
            rewrite::check_expression(path)?;
        } else if !path.starts_with('/') {
            return Err("the path has to begin with a slash".to_owned());
        }
        let outer = self.out.variables.iter().chain(&self.outer).cloned().collect();
        let mut compiler = Compiler::new(Place::Location, outer, self.standard);
        compiler.add(directive.block.as_deref().unwrap_or_default());
        let inside = compiler.finish();
        self.out.locations.push(Location { modifier: modifier.to_owned(), path: path.to_owned(), inside });
        Ok(())
    }
}

/// A line of `allow` or `deny`, checked.
fn access(directive: &Directive) -> Result<String, String> {
    match directive.words()[..] {
        [who] if who == "all" || Network::parse(who).is_some() => Ok(format!("{} {who}", directive.name)),
        _ => Err("an address, a network or `all` is needed".to_owned()),
    }
}
