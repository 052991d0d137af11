//! Directives as a tree, and the parser that makes it of text.

use std::fmt;

use super::lexer::{Lexer, Token};

/// Deepest nesting of blocks.
const MAX_DEPTH: usize = 16;
/// The end of the names of directives whose block is a program in Lua.
const LUA_BLOCK: &str = "_by_lua_block";

/// A word of a directive, without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Its text.
    pub text: String,
    /// The line where it stands, counted from 1.
    pub line: u32,
}

/// A directive with its arguments and, where it has one, its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Its name.
    pub name: String,
    /// What stands behind the name.
    pub args: Vec<String>,
    /// The directives between its braces.
    pub block: Option<Vec<Directive>>,
    /// The line where it begins, counted from 1.
    pub line: u32,
}

impl Directive {
    /// An argument, by position.
    pub fn arg(&self, position: usize) -> &str {
        self.args.get(position).map_or("", String::as_str)
    }

    /// The arguments as texts.
    pub fn words(&self) -> Vec<&str> {
        self.args.iter().map(String::as_str).collect()
    }
}

/// Why a text is not nginx configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// The line, counted from 1.
    pub line: u32,
    /// What is wrong there.
    pub reason: String,
}

impl SyntaxError {
    pub(super) fn new(line: u32, reason: impl Into<String>) -> Self {
        SyntaxError { line, reason: reason.into() }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for SyntaxError {}

/// Reads a snippet.
///
/// # Errors
///
/// [`SyntaxError`], with the line.
pub fn parse(text: &str) -> Result<Vec<Directive>, SyntaxError> {
    directives(&mut Lexer::new(text), 0)
}

fn directives(lexer: &mut Lexer<'_>, depth: usize) -> Result<Vec<Directive>, SyntaxError> {
    let mut found = Vec::new();
    let mut words: Vec<Word> = Vec::new();
    loop {
        let token = lexer.next_token()?;
        let begun = words.first().map(|word| (word.text.clone(), word.line));
        match (token, begun) {
            (Some(Token::Word(word)), _) => words.push(word),
            (Some(Token::End), Some(_)) => found.extend(directive(&mut words, None)),
            (Some(Token::Open), Some((name, line))) => {
                if depth >= MAX_DEPTH {
                    return Err(SyntaxError::new(line, "the blocks are nested too deeply"));
                }
                let inner = if name.ends_with(LUA_BLOCK) {
                    lexer.raw_block()?;
                    Vec::new()
                } else {
                    directives(lexer, depth.saturating_add(1))?
                };
                found.extend(directive(&mut words, Some(inner)));
            }
            (Some(Token::Close), None) if depth > 0 => return Ok(found),
            (None, None) if depth == 0 => return Ok(found),
            (None, None) => return Err(SyntaxError::new(lexer.line(), "a closing brace is missing")),
            (None | Some(Token::Close), Some((name, line))) => {
                return Err(SyntaxError::new(line, format!("`{name}` does not end with a semicolon")));
            }
            (Some(Token::End), None) => return Err(unexpected(lexer, ";")),
            (Some(Token::Open), None) => return Err(unexpected(lexer, "{")),
            (Some(Token::Close), None) => return Err(unexpected(lexer, "}")),
        }
    }
}

/// The directive of the words so far.
fn directive(words: &mut Vec<Word>, block: Option<Vec<Directive>>) -> Option<Directive> {
    let mut words = std::mem::take(words).into_iter();
    let Word { text: name, line } = words.next()?;
    Some(Directive { name, args: words.map(|word| word.text).collect(), block, line })
}

fn unexpected(lexer: &Lexer<'_>, sign: &str) -> SyntaxError {
    SyntaxError::new(lexer.line(), format!("unexpected `{sign}`"))
}

/// Writes directives so that they read as the same.
pub fn print(directives: &[Directive]) -> String {
    let mut out = String::new();
    write_all(directives, 0, &mut out);
    out
}

fn write_all(directives: &[Directive], depth: usize, out: &mut String) {
    for Directive { name, args, block, .. } in directives {
        out.push_str(&"    ".repeat(depth));
        write_word(name, out);
        for arg in args {
            out.push(' ');
            write_word(arg, out);
        }
        match block {
            None => out.push_str(";\n"),
            Some(inner) => {
                out.push_str(" {\n");
                write_all(inner, depth.saturating_add(1), out);
                out.push_str(&"    ".repeat(depth));
                out.push_str("}\n");
            }
        }
    }
}

fn write_word(word: &str, out: &mut String) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:$^*~=,@%+!?".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        out.push_str(word);
        return;
    }
    out.push('"');
    for character in word.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other => out.push(other),
        }
    }
    out.push('"');
}
