//! The directives of nginx's rewrite module as steps.

use ingress_wasm::config::Step;
use ingress_wasm::policy::Template;
use ingress_wasm::regex::{Options, Regex};

use super::ast::Directive;
use super::compile::{Compiler, Part, Place, Read};

/// Reads one of them.
pub(super) fn read(compiler: &mut Compiler<'_>, directive: &Directive, part: usize) -> Read {
    match directive.name.as_str() {
        "set" => set(compiler, directive),
        "if" => condition(compiler, directive, part),
        "return" => returned(compiler, directive),
        "rewrite" => rewrite(compiler, directive),
        _ => {
            compiler.out.steps.push(Step::Break {});
            Ok(())
        }
    }
}

fn set(compiler: &mut Compiler<'_>, directive: &Directive) -> Read {
    let [name, value] = directive.words()[..] else {
        return Err("a variable and a value are needed".to_owned());
    };
    let Some(variable) = name.strip_prefix('$').filter(|name| is_name(name)) else {
        return Err(format!("`{name}` is no name of a variable"));
    };
    // Variables such as `$http_NAME` may be set, and then have that value.
    let free = variable == "args" || variable.contains("http_") || is_free(variable);
    if !free {
        return Err(format!("`{name}` is a variable of nginx itself"));
    }
    let value = compiler.template(value)?;
    compiler.out.steps.push(Step::Set { variable: variable.to_owned(), value });
    Ok(())
}

/// No variable that has a meaning already, but for those with a parameter.
fn is_free(name: &str) -> bool {
    name.starts_with("arg_") || name.starts_with("cookie_") || Template::parse(&format!("${name}")).is_err()
}

fn is_name(name: &str) -> bool {
    let is_sign = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(is_sign) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn condition(compiler: &mut Compiler<'_>, directive: &Directive, part: usize) -> Read {
    let (Some(inside), Some(words)) = (&directive.block, bracketed(&directive.args)) else {
        return Err("a condition in brackets and a block are needed".to_owned());
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (value, sign, against) = match words[..] {
        [value] => (value, "", ""),
        [value, sign, against] => (value, sign, against),
        _ => return Err("the condition cannot be read".to_owned()),
    };
    if !value.strip_prefix('$').is_some_and(is_name) {
        return Err(format!("`{value}` cannot be tested"));
    }
    let (negated, test) = match sign.strip_prefix('!') {
        Some(test) => (true, test),
        None => (false, sign),
    };
    let against = match test {
        "" if !negated => String::new(),
        "=" => compiler.template(against)?,
        "~" | "~*" => check_expression(against)?,
        _ => return Err(format!("the condition `{sign}` is not supported")),
    };
    let value = compiler.template(value)?;
    let at = compiler.out.steps.len();
    let test = test.to_owned();
    compiler.out.steps.push(Step::If { value, test, against, negated, skip: 0 });
    let mut own = part;
    if compiler.place == Place::Location {
        own = compiler.out.parts.len();
        compiler.out.parts.push(Part { parent: part, ..Part::default() });
        compiler.out.steps.push(Step::Enter { block: own });
    }
    // In a server only the directives of this module may stand there.
    compiler.block(inside, if own == 0 { usize::MAX } else { own });
    let belonging = compiler.out.steps.len().saturating_sub(at).saturating_sub(1);
    if let Some(Step::If { skip, .. }) = compiler.out.steps.get_mut(at) {
        *skip = belonging;
    }
    Ok(())
}

/// The words between the brackets.
fn bracketed(args: &[String]) -> Option<Vec<String>> {
    let mut words = args.to_vec();
    let first = words.first_mut()?;
    *first = first.strip_prefix('(')?.to_owned();
    let last = words.last_mut()?;
    *last = last.strip_suffix(')')?.to_owned();
    if words.first().is_some_and(String::is_empty) {
        words.remove(0);
    }
    // `= )` compares with nothing at all, which nginx refuses; `= "")` keeps its empty word.
    if words.len() > 1 && args.last().is_some_and(|last| last == ")") {
        words.pop();
    }
    Some(words)
}

fn returned(compiler: &mut Compiler<'_>, directive: &Directive) -> Read {
    let is_url = |text: &str| ["http://", "https://", "$scheme"].iter().any(|start| text.starts_with(start));
    let (code, text) = match directive.words()[..] {
        [url] if is_url(url) => ("302", Some(url)),
        [code] => (code, None),
        [code, text] => (code, Some(text)),
        _ => return Err("a status, a text, or both are needed".to_owned()),
    };
    let status = code.parse().ok().filter(|status| (200..600).contains(status));
    let Some(status) = status else { return Err(format!("`{code}` is no status from 200 to 599")) };
    let text = text.map(|text| compiler.template(text)).transpose()?;
    let content_type = compiler.out.default_type.clone().unwrap_or_else(|| "text/html".to_owned());
    compiler.out.steps.push(Step::Return { status, text, content_type });
    Ok(())
}

fn rewrite(compiler: &mut Compiler<'_>, directive: &Directive) -> Read {
    let (pattern, target, flag) = match directive.words()[..] {
        [pattern, target] => (pattern, target, ""),
        [pattern, target, flag] => (pattern, target, flag),
        _ => return Err("an expression and a path are needed".to_owned()),
    };
    let pattern = check_expression(pattern)?;
    let is_url = ["http://", "https://", "$scheme"].iter().any(|start| target.starts_with(start));
    let then = match flag {
        "permanent" => "permanent",
        "redirect" => "redirect",
        "" | "last" | "break" if is_url => "redirect",
        "" => "next",
        "last" => "last",
        "break" => "break",
        other => return Err(format!("the flag `{other}` is not known")),
    };
    let (target, keep_query) = match target.strip_suffix('?') {
        Some(target) => (target, false),
        None => (target, true),
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(compiler.template(query)?)),
        None => (target, None),
    };
    let path = compiler.template(path)?;
    if path.is_empty() {
        return Err("the path is empty".to_owned());
    }
    let then = then.to_owned();
    compiler.out.steps.push(Step::Rewrite { pattern, path, query, keep_query, then });
    Ok(())
}

/// Checks an expression.
pub(super) fn check_expression(pattern: &str) -> Result<String, String> {
    match Regex::new(pattern, Options::default()) {
        Ok(_) => Ok(pattern.to_owned()),
        Err(error) => Err(format!("the expression cannot be matched: {error}")),
    }
}

/// The names of groups of an expression: `(?<name>`, `(?P<name>`, `(?'name'`.
pub(super) fn group_names(pattern: &str) -> Vec<String> {
    let mut names = Vec::new();
    for rest in pattern.split("(?").skip(1) {
        let rest = rest.strip_prefix('P').unwrap_or(rest);
        let name = match rest.split_at_checked(1) {
            Some(("<", rest)) => rest.split_once('>').map(|(name, _)| name),
            Some(("'", rest)) => rest.split_once('\'').map(|(name, _)| name),
            _ => None,
        };
        names.extend(name.filter(|name| is_name(name)).map(str::to_owned));
    }
    names
}

/// Takes out the steps that enter blocks.
pub(super) fn without_entering(steps: &mut Vec<Step>) {
    let enters: Vec<bool> = steps.iter().map(|step| matches!(step, Step::Enter { .. })).collect();
    for (position, step) in steps.iter_mut().enumerate() {
        if let Step::If { skip, .. } = step {
            let inside = enters.iter().skip(position.saturating_add(1)).take(*skip);
            *skip = skip.saturating_sub(inside.filter(|enters| **enters).count());
        }
    }
    steps.retain(|step| !matches!(step, Step::Enter { .. }));
}
