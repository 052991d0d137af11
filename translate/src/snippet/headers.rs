//! The directives that change headers.

use ingress_wasm::config::{AnswerEdit, HeaderEdit};

use super::ast::Directive;
use super::compile::{Compiler, Read};
use super::directives::{UPGRADE_HEADERS, UPGRADE_REASON};

/// The statuses of answers that `add_header` and `expires` are for, unless it says `always`.
const GOOD: [u16; 10] = [200, 201, 204, 206, 301, 302, 303, 304, 307, 308];
/// Headers that Envoy writes by itself.
const OF_THE_CONNECTION: [&str; 7] =
    ["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// `more_set_headers`, `more_clear_headers`, `add_header`, `expires`
pub(super) fn answer(compiler: &mut Compiler<'_>, directive: &Directive, part: usize) -> Read {
    match directive.name.as_str() {
        "add_header" => {
            let edit = added(compiler, directive)?;
            if let Some(part) = compiler.out.parts.get_mut(part) {
                part.added.push(edit);
            }
        }
        "expires" => {
            let edits = expires(directive)?;
            if let Some(part) = compiler.out.parts.get_mut(part) {
                part.expires = Some(edits);
            }
        }
        name => {
            let edits = more(compiler, directive, name == "more_clear_headers")?;
            if let Some(part) = compiler.out.parts.get_mut(part) {
                part.more.extend(edits);
            }
        }
    }
    Ok(())
}

fn added(compiler: &Compiler<'_>, directive: &Directive) -> Result<AnswerEdit, String> {
    let (name, value, always) = match directive.words()[..] {
        [name, value] => (name, value, false),
        [name, value, "always"] => (name, value, true),
        _ => return Err("a name, a value and perhaps `always` are needed".to_owned()),
    };
    free(name)?;
    let edit = HeaderEdit::Add { name: name.to_owned(), value: value.to_owned() };
    let statuses = if always { Vec::new() } else { GOOD.to_vec() };
    Ok(AnswerEdit { edit: compiler.edit(edit)?, statuses, types: Vec::new() })
}

fn more(compiler: &Compiler<'_>, directive: &Directive, clear: bool) -> Result<Vec<AnswerEdit>, String> {
    let (mut statuses, mut types, mut edits) = (Vec::new(), Vec::new(), Vec::new());
    let mut words = directive.args.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-s" | "-t" => {
                let Some(list) = words.next() else { return Err(format!("nothing follows {word}")) };
                for item in list.split_ascii_whitespace() {
                    match item.parse() {
                        _ if word == "-t" => types.push(item.to_ascii_lowercase()),
                        Ok(status) => statuses.push(status),
                        Err(_) => return Err(format!("`{item}` is no status")),
                    }
                }
            }
            option if option.starts_with('-') => return Err(format!("the option {option} is not supported")),
            header => edits.push(compiler.edit(header_edit(header, clear)?)?),
        }
    }
    if edits.is_empty() {
        return Err("no header is named".to_owned());
    }
    let edit = |edit| AnswerEdit { edit, statuses: statuses.clone(), types: types.clone() };
    Ok(edits.into_iter().map(edit).collect())
}

/// `Name: value`, or a name that is taken away.
fn header_edit(text: &str, clear: bool) -> Result<HeaderEdit, String> {
    let (name, value) = match text.split_once(':') {
        Some((name, value)) => (name.trim(), value.trim()),
        None => (text.trim(), ""),
    };
    free(name)?;
    let name = name.to_owned();
    if clear || value.is_empty() {
        return Ok(HeaderEdit::Remove { name });
    }
    Ok(HeaderEdit::Set { name, value: value.to_owned() })
}

/// No header of the connection, which Envoy writes.
fn free(name: &str) -> Read {
    match OF_THE_CONNECTION.iter().any(|other| other.eq_ignore_ascii_case(name)) {
        true => Err(format!("Envoy writes the header `{name}` by itself")),
        false => Ok(()),
    }
}

fn expires(directive: &Directive) -> Result<Vec<AnswerEdit>, String> {
    const EPOCH: &str = "Thu, 01 Jan 1970 00:00:01 GMT";
    const FAR: &str = "Thu, 31 Dec 2037 23:55:55 GMT";
    let [when] = directive.words()[..] else {
        return Err("one time is needed; `modified` is not supported".to_owned());
    };
    let (date, control) = match when {
        "off" => return Ok(Vec::new()),
        "epoch" => (EPOCH.to_owned(), "no-cache".to_owned()),
        "max" => (FAR.to_owned(), "max-age=315360000".to_owned()),
        time => {
            let (past, time) = time.strip_prefix('-').map_or((false, time), |time| (true, time));
            let seconds = seconds(time).ok_or_else(|| format!("`{when}` is not a time that is supported"))?;
            let control = if past { "no-cache".to_owned() } else { format!("max-age={seconds}") };
            let offset = if past { format!("minus_{seconds}") } else { format!("plus_{seconds}") };
            (format!("$date_{offset}"), control)
        }
    };
    let set = |name: &str, value: String| AnswerEdit {
        edit: HeaderEdit::Set { name: name.to_owned(), value },
        statuses: GOOD.to_vec(),
        types: Vec::new(),
    };
    Ok(vec![set("Expires", date), set("Cache-Control", control)])
}

/// A time as nginx writes it: `1h30m`, `1d`, a number of seconds.
fn seconds(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let (mut total, mut number, mut digits) = (0_u64, 0_u64, false);
    for sign in text.chars() {
        if let Some(digit) = sign.to_digit(10) {
            number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
            digits = true;
            continue;
        }
        let unit = match sign {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            'M' => 2_592_000,
            'y' => 31_536_000,
            _ => return None,
        };
        if !digits {
            return None;
        }
        total = total.checked_add(number.checked_mul(unit)?)?;
        (number, digits) = (0, false);
    }
    total.checked_add(number).filter(|total| *total < 1 << 40)
}

/// `more_set_input_headers`, `more_clear_input_headers`
pub(super) fn input(compiler: &mut Compiler<'_>, directive: &Directive, part: usize) -> Read {
    let clear = directive.name == "more_clear_input_headers";
    let mut edits = Vec::with_capacity(directive.args.len());
    for word in &directive.args {
        if word.starts_with('-') {
            return Err(format!("the option {word} is not supported"));
        }
        edits.push(compiler.edit(header_edit(word, clear)?)?);
    }
    if edits.is_empty() {
        return Err("no header is named".to_owned());
    }
    if let Some(part) = compiler.out.parts.get_mut(part) {
        part.inputs.extend(edits);
    }
    Ok(())
}

/// `proxy_set_header`. Of a header that ingress-nginx sets too nginx sends both lines.
pub(super) fn request(compiler: &mut Compiler<'_>, directive: &Directive, part: usize) -> Read {
    let [name, value] = directive.words()[..] else {
        return Err("a name and a value are needed".to_owned());
    };
    let lower = name.to_ascii_lowercase();
    if UPGRADE_HEADERS.contains(&lower.as_str()) {
        compiler.find(directive, format!("nothing needs to be done: {UPGRADE_REASON}"), false, true);
        return Ok(());
    }
    free(name)?;
    let name = name.to_owned();
    let taken = |edit: &HeaderEdit| match edit {
        HeaderEdit::Set { name, .. } | HeaderEdit::Add { name, .. } | HeaderEdit::Remove { name } => {
            name.eq_ignore_ascii_case(&lower)
        }
    };
    let second = compiler.standard.contains(&lower.as_str())
        || compiler.out.parts.get(part).is_some_and(|part| part.requests.iter().any(taken));
    let edit = match value {
        "" if second => return Ok(()),
        "" => HeaderEdit::Remove { name },
        // There can be only one Host.
        value if second && lower != "host" => HeaderEdit::Add { name, value: value.to_owned() },
        value => HeaderEdit::Set { name, value: value.to_owned() },
    };
    let edit = compiler.edit(edit)?;
    if let Some(part) = compiler.out.parts.get_mut(part) {
        part.requests.push(edit);
    }
    Ok(())
}
