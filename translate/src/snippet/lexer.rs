//! The words of nginx configuration, cut as `ngx_conf_read_token` cuts them.

use super::ast::{SyntaxError, Word};

/// One token, with the line where it begins, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A word, without its quotes.
    Word(Word),
    /// `;`
    End,
    /// `{`
    Open,
    /// `}`
    Close,
}

/// Cuts a snippet into tokens.
pub(super) struct Lexer<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    line: u32,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Lexer { rest: text.chars().peekable(), line: 1 }
    }

    /// The line of what comes next.
    pub(super) fn line(&self) -> u32 {
        self.line
    }

    fn next_char(&mut self) -> Option<char> {
        let next = self.rest.next();
        if next == Some('\n') {
            self.line = self.line.saturating_add(1);
        }
        next
    }

    /// The next token; none at the end.
    pub(super) fn next_token(&mut self) -> Result<Option<Token>, SyntaxError> {
        loop {
            match self.rest.peek().copied() {
                None => return Ok(None),
                Some(blank) if blank.is_ascii_whitespace() => {
                    self.next_char();
                }
                Some('#') => while self.next_char().is_some_and(|c| c != '\n') {},
                Some(';') => return self.sign(Token::End),
                Some('{') => return self.sign(Token::Open),
                Some('}') => return self.sign(Token::Close),
                Some(quote @ ('"' | '\'')) => return self.quoted(quote).map(Some),
                Some(_) => return self.bare().map(Some),
            }
        }
    }

    fn sign(&mut self, token: Token) -> Result<Option<Token>, SyntaxError> {
        self.next_char();
        Ok(Some(token))
    }

    fn quoted(&mut self, quote: char) -> Result<Token, SyntaxError> {
        let line = self.line;
        let mut text = String::new();
        self.next_char();
        loop {
            match self.next_char() {
                None => return Err(SyntaxError::new(line, "the quote is not closed")),
                Some('\\') => self.escaped(&mut text, line)?,
                Some(end) if end == quote => break,
                Some(other) => text.push(other),
            }
        }
        // Only the bracket at the end of an `if` may follow a quote at once.
        match self.rest.peek() {
            None | Some(';' | '{' | ')') => {}
            Some(blank) if blank.is_ascii_whitespace() => {}
            Some(other) => {
                return Err(SyntaxError::new(self.line, format!("`{other}` follows a quote at once")));
            }
        }
        Ok(Token::Word(Word { text, line }))
    }

    fn bare(&mut self) -> Result<Token, SyntaxError> {
        let line = self.line;
        let mut text = String::new();
        let mut after_dollar = false;
        while let Some(next) = self.rest.peek().copied() {
            let ends = next.is_ascii_whitespace() || next == ';' || (next == '{' && !after_dollar);
            if ends {
                break;
            }
            after_dollar = next == '$';
            self.next_char();
            if next == '\\' {
                self.escaped(&mut text, line)?;
            } else {
                text.push(next);
            }
        }
        Ok(Token::Word(Word { text, line }))
    }

    /// What follows a backslash: a sign that it takes the meaning from, or, with the backslash, any other.
    fn escaped(&mut self, text: &mut String, line: u32) -> Result<(), SyntaxError> {
        match self.next_char() {
            None => return Err(SyntaxError::new(line, "nothing follows the backslash")),
            Some(sign @ ('"' | '\'' | '\\')) => text.push(sign),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('n') => text.push('\n'),
            Some(other) => {
                text.push('\\');
                text.push(other);
            }
        }
        Ok(())
    }

    /// The text of a block that is no nginx configuration (Lua), up to its closing brace.
    pub(super) fn raw_block(&mut self) -> Result<String, SyntaxError> {
        let line = self.line;
        let mut text = String::new();
        let mut depth = 0_u32;
        loop {
            match self.next_char() {
                None => return Err(SyntaxError::new(line, "the block is not closed")),
                Some('}') if depth == 0 => return Ok(text),
                Some(other) => {
                    depth = match other {
                        '{' => depth.saturating_add(1),
                        '}' => depth.saturating_sub(1),
                        _ => depth,
                    };
                    text.push(other);
                }
            }
        }
    }
}
