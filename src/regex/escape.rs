//! Reads what begins with a backslash, and character classes.

use super::error::{Error, ErrorKind, Unsupported};
use super::parse::{Assert, Node, Parser, Repeatable, Target, any, class_node, flag, not_newline};
use super::set::ByteSet;

/// What an escape means inside and outside a class alike.
enum Escape {
    Byte(u8),
    Set(ByteSet),
    /// A letter or digit whose meaning depends on the place.
    Other(u8),
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_space(byte: u8) -> bool {
    matches!(byte, 9..=13 | b' ')
}

fn is_vertical(byte: u8) -> bool {
    matches!(byte, 10..=13 | 0x85)
}

/// A named class.
type Posix = (&'static [u8], fn(u8) -> bool);

/// The POSIX classes in the C locale, which nginx leaves PCRE in.
const POSIX: &[Posix] = &[
    (b"alpha", |b| b.is_ascii_alphabetic()),
    (b"lower", |b| b.is_ascii_lowercase()),
    (b"upper", |b| b.is_ascii_uppercase()),
    (b"alnum", |b| b.is_ascii_alphanumeric()),
    (b"ascii", |b| b.is_ascii()),
    (b"blank", |b| matches!(b, b' ' | b'\t')),
    (b"cntrl", |b| b.is_ascii_control()),
    (b"digit", |b| b.is_ascii_digit()),
    (b"graph", |b| b.is_ascii_graphic()),
    (b"print", |b| matches!(b, b' '..=b'~')),
    (b"punct", |b| b.is_ascii_punctuation()),
    (b"space", is_space),
    (b"word", is_word),
    (b"xdigit", |b| b.is_ascii_hexdigit()),
];

impl Parser<'_> {
    /// Reads the part of an escape that means the same everywhere; the backslash is read.
    fn common_escape(&mut self, at: usize) -> Result<Escape, Error> {
        let Some(letter) = self.bump() else {
            return Err(Error::new(at, ErrorKind::TrailingBackslash));
        };
        let set: fn(u8) -> bool = match letter.to_ascii_lowercase() {
            b'd' => |b| b.is_ascii_digit(),
            b'w' => is_word,
            b's' => is_space,
            b'h' => |b| matches!(b, b'\t' | b' ' | 0xa0),
            b'v' => is_vertical,
            _ => {
                return Ok(Escape::Byte(match letter {
                    b'a' => 7,
                    b'e' => 0x1b,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'0' => self.octal(0),
                    b'o' => self.braced(8, at)?,
                    b'x' if self.peek() == Some(b'{') => self.braced(16, at)?,
                    b'x' => {
                        let first = self.hex_digit().ok_or(Error::new(at, ErrorKind::BadCode))?;
                        self.hex_digit().map_or(first, |second| (first << 4) | second)
                    }
                    b'c' => match self.bump() {
                        Some(byte @ b' '..=b'~') => byte.to_ascii_uppercase() ^ 0x40,
                        _ => return Err(Error::new(at, ErrorKind::BadEscape)),
                    },
                    b'p' | b'P' | b'X' => {
                        return Err(Error::new(at, ErrorKind::Unsupported(Unsupported::Unicode)));
                    }
                    b'F' | b'l' | b'L' | b'u' | b'U' => {
                        return Err(Error::new(at, ErrorKind::BadEscape));
                    }
                    b'1'..=b'9'
                    | b'A'
                    | b'B'
                    | b'C'
                    | b'E'
                    | b'G'
                    | b'K'
                    | b'N'
                    | b'Q'
                    | b'R'
                    | b'Z'
                    | b'b'
                    | b'g'
                    | b'k'
                    | b'z' => return Ok(Escape::Other(letter)),
                    // PCRE1 takes the letters that are left for themselves, PCRE2 refuses them.
                    _ => letter,
                }));
            }
        };
        let set = ByteSet::of(set);
        Ok(Escape::Set(if letter.is_ascii_uppercase() { set.complement() } else { set }))
    }

    fn hex_digit(&mut self) -> Option<u8> {
        let digit = char::from(self.peek()?).to_digit(16)?;
        self.skip(1);
        u8::try_from(digit).ok()
    }

    /// Reads up to two more octal digits after `first`, which is at most 3 if there are two.
    fn octal(&mut self, first: u8) -> u8 {
        let mut value = first;
        for _ in 0..2 {
            let Some(digit @ b'0'..=b'7') = self.peek() else { break };
            value = (value << 3) | (digit & 7);
            self.skip(1);
        }
        value
    }

    /// Reads `{digits}` as a byte.
    fn braced(&mut self, radix: u32, at: usize) -> Result<u8, Error> {
        let bad = Error::new(at, ErrorKind::BadCode);
        if !self.eat("{") {
            return Err(bad);
        }
        let mut value = None;
        while let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(radix)) {
            value = Some(value.unwrap_or(0u32).saturating_mul(radix).saturating_add(digit));
            self.skip(1);
        }
        let value = value.and_then(|v| u8::try_from(v).ok()).ok_or(bad)?;
        if self.eat("}") { Ok(value) } else { Err(bad) }
    }

    /// `\1` to `\9` with the digits after it: a back-reference or an octal code. The first digit is read.
    fn digits(&mut self, digit: u8, at: usize) -> Repeatable {
        self.at = self.at.wrapping_sub(1);
        let start = self.at;
        let number = self.number().unwrap_or(0);
        if number < 10 || digit >= b'8' || number <= u32::from(self.groups) {
            return self.reference(Target::Number(number), at);
        }
        self.at = start.wrapping_add(1);
        let byte = self.octal_code(digit, at)?;
        self.literal(byte)
    }

    fn octal_code(&mut self, digit: u8, at: usize) -> Result<u8, Error> {
        let more = |byte: Option<u8>| matches!(byte, Some(b'0'..=b'7'));
        if digit > b'3' && more(self.peek()) && more(self.peek_at(1)) {
            return Err(Error::new(at, ErrorKind::BadCode));
        }
        Ok(self.octal(digit & 7))
    }

    /// Reads an escape outside a class; the backslash, at `at`, is read.
    pub(super) fn escape(&mut self, at: usize) -> Repeatable {
        let letter = match self.common_escape(at)? {
            Escape::Byte(byte) => return self.literal(byte),
            Escape::Set(set) => return self.add(class_node(set)),
            Escape::Other(letter) => letter,
        };
        let assert = match letter {
            b'A' | b'G' => Assert::Start,
            b'z' => Assert::End,
            b'Z' => Assert::EndOrNewline,
            b'b' => Assert::WordBoundary,
            b'B' => Assert::NotWordBoundary,
            b'K' if self.looks > 0 => {
                return Err(Error::new(at, ErrorKind::Unsupported(Unsupported::KeepInLook)));
            }
            b'K' => return self.add_fixed(Node::Keep),
            b'C' => return self.add(any()),
            b'N' => {
                let after = self.at;
                if self.peek() == Some(b'{') && self.quantifier()?.is_none() {
                    return Err(Error::new(at, ErrorKind::BadEscape));
                }
                self.at = after;
                return self.add(not_newline());
            }
            b'R' => return self.add(newline_sequence()),
            b'g' => return self.numbered(at),
            b'k' => {
                let close = match self.bump() {
                    Some(b'{') => b'}',
                    Some(b'<') => b'>',
                    Some(b'\'') => b'\'',
                    _ => return Err(Error::new(at, ErrorKind::BadName)),
                };
                let name = self.name(close)?;
                return self.reference(Target::Name(name), at);
            }
            _ => return self.digits(letter, at),
        };
        self.add_fixed(Node::Assert(assert))
    }

    /// Reads what follows `\g`: a number, absolute or relative, or a name in braces.
    fn numbered(&mut self, at: usize) -> Repeatable {
        if matches!(self.peek(), Some(b'<' | b'\'')) {
            return Err(Error::new(at, ErrorKind::Unsupported(Unsupported::Recursion)));
        }
        let braced = self.eat("{");
        let start = self.at;
        let (minus, plus) = (self.eat("-"), self.eat("+"));
        let groups = u32::from(self.groups);
        let number = match self.number() {
            Some(number) if minus && plus => Some(number).filter(|_| false),
            // Relative to the group to be opened next: \g{-1} is the last one opened.
            Some(number) if minus => groups.checked_add(1).and_then(|next| next.checked_sub(number)),
            Some(number) if plus => groups.checked_add(number),
            Some(number) => Some(number),
            None if braced && !minus && !plus => {
                self.at = start;
                let name = self.name(b'}')?;
                return self.reference(Target::Name(name), at);
            }
            None => None,
        };
        match number.filter(|&n| n > 0) {
            Some(number) if !braced || self.eat("}") => self.reference(Target::Number(number), at),
            _ => Err(Error::new(at, ErrorKind::UnknownGroup)),
        }
    }

    /// Reads a class; its `[`, at `open`, is read.
    pub(super) fn class(&mut self, open: usize) -> Repeatable {
        if self.eat("[:<:]]") || self.eat("[:>:]]") {
            return Err(Error::new(open, ErrorKind::Unsupported(Unsupported::ExtendedClass)));
        }
        if self.posix_end().is_some() {
            return Err(Error::new(open, ErrorKind::PosixOutsideClass));
        }
        let mut class = Class::default();
        let mut negated = false;
        loop {
            if self.eat("\\E") || self.eat("\\Q\\E") || (self.has(flag::EXTENDED_MORE) && self.eat_blank()) {
                continue;
            }
            if negated || !self.eat("^") {
                break;
            }
            negated = true;
        }
        if self.eat("]") {
            class.literal(b']', self.has(flag::CASELESS));
        }
        loop {
            let at = self.at;
            let Some(byte) = self.bump() else {
                return Err(Error::new(open, ErrorKind::UnclosedClass));
            };
            let literal = match byte {
                b'\\' if self.quoting && self.eat("E") => {
                    self.quoting = false;
                    None
                }
                _ if self.quoting => Some(byte),
                b']' => break,
                b' ' | b'\t' if self.has(flag::EXTENDED_MORE) => None,
                b'[' if self.posix_end().is_some() => {
                    class.set(&self.posix_class(at)?);
                    None
                }
                b'-' if class.last.is_some() && !class.dash => {
                    class.dash = true;
                    None
                }
                b'\\' => self.class_escape(at, &mut class)?,
                _ => Some(byte),
            };
            if let Some(byte) = literal
                && !class.literal(byte, self.has(flag::CASELESS))
            {
                return Err(Error::new(at, ErrorKind::RangeOrder));
            }
        }
        let mut set = class.close();
        if negated {
            set = set.complement();
        }
        self.add(class_node(set))
    }

    fn eat_blank(&mut self) -> bool {
        self.eat(" ") || self.eat("\t")
    }

    /// Reads an escape in a class: a byte that may be part of a range, or what is added here.
    fn class_escape(&mut self, at: usize, class: &mut Class) -> Result<Option<u8>, Error> {
        Ok(match self.common_escape(at)? {
            Escape::Byte(byte) => Some(byte),
            Escape::Set(set) => {
                class.set(&set);
                None
            }
            Escape::Other(b'Q') => {
                self.quoting = true;
                None
            }
            Escape::Other(b'E') => None,
            Escape::Other(b'b') => Some(8),
            Escape::Other(letter @ (b'g' | b'k' | b'8' | b'9')) => Some(letter),
            Escape::Other(digit @ b'1'..=b'7') => Some(self.octal_code(digit, at)?),
            Escape::Other(_) => return Err(Error::new(at, ErrorKind::BadEscape)),
        })
    }

    /// After a `[`: where `:name:`, `.x.` or `=x=` ends, if that comes next, as the offset of its last mark.
    fn posix_end(&self) -> Option<usize> {
        let mark = self.peek().filter(|b| matches!(b, b':' | b'.' | b'='))?;
        let mut ahead = 1usize;
        loop {
            let (byte, next) = (self.peek_at(ahead)?, self.peek_at(ahead.wrapping_add(1))?);
            match byte {
                b'\\' if matches!(next, b']' | b'\\') => ahead = ahead.wrapping_add(1),
                b'[' if next == mark => return None,
                b']' => return None,
                _ if byte == mark && next == b']' => return Some(self.at.saturating_add(ahead)),
                _ => {}
            }
            ahead = ahead.wrapping_add(1);
        }
    }

    fn posix_class(&mut self, at: usize) -> Result<ByteSet, Error> {
        let unknown = Error::new(at, ErrorKind::UnknownPosixClass);
        let end = self.posix_end().ok_or(unknown)?;
        if !self.eat(":") {
            return Err(unknown);
        }
        let negated = self.eat("^");
        let name = self.pattern.get(self.at..end).unwrap_or_default();
        let mut is = POSIX.iter().find(|(known, _)| *known == name).ok_or(unknown)?.1;
        // The two cases are one when case is ignored.
        if self.has(flag::CASELESS) && matches!(name, b"lower" | b"upper") {
            is = |b| b.is_ascii_alphabetic();
        }
        self.at = end.wrapping_add(2);
        let set = ByteSet::of(is);
        Ok(if negated { set.complement() } else { set })
    }
}

/// A class while it is read.
struct Class {
    bytes: ByteSet,
    /// The byte read last, if a range may start with it.
    last: Option<u8>,
    /// A `-` followed it.
    dash: bool,
}

impl Default for Class {
    fn default() -> Self {
        Self { bytes: ByteSet::NONE, last: None, dash: false }
    }
}

impl Class {
    /// Takes a byte, as itself or as the end of a range; false if the range is out of order.
    fn literal(&mut self, byte: u8, fold: bool) -> bool {
        let start = self.last.filter(|_| self.dash).unwrap_or(byte);
        for byte in start..=byte {
            self.bytes.insert(byte);
            if fold {
                self.bytes.insert(byte.to_ascii_lowercase());
                self.bytes.insert(byte.to_ascii_uppercase());
            }
        }
        self.last = if self.dash { None } else { Some(byte) };
        self.dash = false;
        start <= byte
    }

    /// Takes a set such as `\d`. A `-` beside it stands for itself, as in PCRE1 (PCRE2 refuses it).
    fn set(&mut self, set: &ByteSet) {
        self.bytes.union(set);
        if self.dash {
            self.bytes.insert(b'-');
        }
        (self.last, self.dash) = (None, false);
    }

    fn close(mut self) -> ByteSet {
        if self.dash {
            self.bytes.insert(b'-');
        }
        self.bytes
    }
}

/// `\R`: CR LF, or one byte of vertical space. PCRE never gives the LF back, so the group is atomic.
fn newline_sequence() -> Node {
    let byte = |byte| Node::Byte { byte, fold: false };
    Node::Atomic(Box::new(Node::Alt(vec![
        Node::Cat(vec![byte(b'\r'), byte(b'\n')]),
        Node::Set(Box::new(ByteSet::of(is_vertical))),
    ])))
}
