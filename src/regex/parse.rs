//! Reads a pattern into a tree. Groups, alternatives and quantifiers are here; what begins with a backslash
//! or a bracket is in [`super::escape`].
//!
//! Knows nothing of programs and of matching.

use super::error::{Error, ErrorKind, Unsupported};
use super::set::ByteSet;
use super::{MAX_DEPTH, MAX_PATTERN};

/// A repetition without an upper bound.
pub(super) const UNBOUNDED: u32 = u32::MAX;
/// PCRE's largest repetition count.
const MAX_REPEAT: u32 = 65_535;
/// PCRE's longest group name.
const MAX_NAME: usize = 128;

/// One piece of a pattern.
#[derive(Debug)]
pub(super) enum Node {
    /// Matches nothing, anywhere.
    Empty,
    /// One byte; with `fold`, a lower-case letter that stands for both cases.
    Byte {
        byte: u8,
        fold: bool,
    },
    Set(Box<ByteSet>),
    Assert(Assert),
    /// `\K`
    Keep,
    Capture(u16, Box<Node>),
    Cat(Vec<Node>),
    Alt(Vec<Node>),
    /// `max` may be [`UNBOUNDED`].
    Repeat {
        node: Box<Node>,
        min: u32,
        max: u32,
        kind: Kind,
    },
    /// `at` is where a look-behind stands, for the error.
    Look {
        node: Box<Node>,
        behind: bool,
        negative: bool,
        at: usize,
    },
    Atomic(Box<Node>),
    /// Index into [`Parsed::references`].
    Backref(u16),
}

/// What a quantifier tries first, and whether it gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Greedy,
    Lazy,
    Possessive,
}

/// What matches a place and no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assert {
    /// The start of the subject.
    Start,
    /// The start of the subject, or after a newline that does not end it.
    LineStart,
    /// The end of the subject.
    End,
    /// The end of the subject, or before the newline that ends it.
    EndOrNewline,
    /// The end of the subject, or before any newline.
    LineEnd,
    WordBoundary,
    NotWordBoundary,
}

/// A pattern as a tree.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) root: Node,
    /// Number of capturing groups; the whole match does not count.
    pub(super) groups: u16,
    pub(super) names: Vec<(Box<str>, u16)>,
    /// The group each back-reference means, and whether it ignores case.
    pub(super) references: Vec<(u16, bool)>,
}

/// The options that a pattern can switch, as bits.
pub(super) mod flag {
    pub(crate) const CASELESS: u8 = 1;
    pub(crate) const MULTILINE: u8 = 2;
    pub(crate) const DOTALL: u8 = 4;
    pub(crate) const EXTENDED: u8 = 8;
    /// `xx`: space and tab are ignored in classes too.
    pub(crate) const EXTENDED_MORE: u8 = 16;
    pub(crate) const NO_CAPTURE: u8 = 32;
    pub(crate) const UNGREEDY: u8 = 64;
}

/// What a back-reference is written with.
pub(super) enum Target {
    Number(u32),
    Name(Box<str>),
}

pub(super) struct Parser<'p> {
    pub(super) pattern: &'p [u8],
    pub(super) at: usize,
    pub(super) flags: u8,
    /// Between `\Q` and `\E`.
    pub(super) quoting: bool,
    pub(super) groups: u16,
    depth: usize,
    /// The nodes of the open branches, from the outermost group inwards.
    pub(super) nodes: Vec<Node>,
    /// Inside how many look-arounds.
    pub(super) looks: usize,
    names: Vec<(Box<str>, u16)>,
    references: Vec<(Target, bool, usize)>,
}

/// Whether a quantifier may follow what was read.
pub(super) type Repeatable = Result<bool, Error>;

/// Reads a pattern; `flags` are the options it starts with.
pub(super) fn parse(pattern: &str, flags: u8) -> Result<Parsed, Error> {
    if pattern.len() > MAX_PATTERN {
        return Err(Error::new(MAX_PATTERN, ErrorKind::TooLong));
    }
    let mut parser = Parser {
        pattern: pattern.as_bytes(),
        at: 0,
        flags,
        quoting: false,
        groups: 0,
        depth: 0,
        nodes: Vec::new(),
        looks: 0,
        names: Vec::new(),
        references: Vec::new(),
    };
    let root = parser.alternatives()?;
    if parser.peek().is_some() {
        return Err(parser.error(ErrorKind::UnopenedGroup));
    }
    let mut references = Vec::new();
    for (target, fold, at) in parser.references {
        let group = match target {
            Target::Number(number) => u16::try_from(number).ok().filter(|&group| group <= parser.groups),
            Target::Name(name) => parser.names.iter().find(|(n, _)| *n == name).map(|&(_, group)| group),
        };
        references.push((group.ok_or(Error::new(at, ErrorKind::UnknownGroup))?, fold));
    }
    Ok(Parsed { root, groups: parser.groups, names: parser.names, references })
}

impl Parser<'_> {
    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(self.at, kind)
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.pattern.get(self.at.saturating_add(ahead)).copied()
    }

    pub(super) fn skip(&mut self, count: usize) {
        self.at = self.at.wrapping_add(count);
    }

    pub(super) fn bump(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.skip(1);
        Some(byte)
    }

    /// Passes over `text` if it comes next.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.pattern.get(self.at..).is_some_and(|rest| rest.starts_with(text.as_bytes()));
        if found {
            self.skip(text.len());
        }
        found
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Adds a node that may be repeated.
    pub(super) fn add(&mut self, node: Node) -> Repeatable {
        self.nodes.push(node);
        Ok(true)
    }

    /// Adds an assertion such as `^`: PCRE refuses a quantifier after it.
    pub(super) fn add_fixed(&mut self, node: Node) -> Repeatable {
        self.nodes.push(node);
        Ok(false)
    }

    /// Adds a byte, under the caseless option.
    pub(super) fn literal(&mut self, byte: u8) -> Repeatable {
        let fold = self.has(flag::CASELESS) && byte.is_ascii_alphabetic();
        self.add(Node::Byte { byte: if fold { byte.to_ascii_lowercase() } else { byte }, fold })
    }

    /// Passes over what stands between items: comments, `\E`, `\Q`, and white space under the extended option.
    fn skip_ignored(&mut self) -> Result<(), Error> {
        loop {
            if self.quoting {
                if !self.eat("\\E") {
                    return Ok(());
                }
                self.quoting = false;
            } else if self.eat("\\Q") {
                self.quoting = true;
            } else if self.eat("(?#") {
                let start = self.at.wrapping_sub(3);
                while self.bump().ok_or(Error::new(start, ErrorKind::UnclosedComment))? != b')' {}
            } else if self.eat("\\E") {
            } else if self.has(flag::EXTENDED) && matches!(self.peek(), Some(9..=13 | b' ')) {
                self.skip(1);
            } else if self.has(flag::EXTENDED) && self.peek() == Some(b'#') {
                while !matches!(self.bump(), None | Some(b'\n')) {}
            } else {
                return Ok(());
            }
        }
    }

    /// Branches up to the `)` that closes them, or the end.
    fn alternatives(&mut self) -> Result<Node, Error> {
        let mut branches = Vec::new();
        let first = self.nodes.len();
        loop {
            self.skip_ignored()?;
            let next = self.peek();
            if next.is_none() || (!self.quoting && matches!(next, Some(b'|' | b')'))) {
                branches.push(sequence(self.nodes.split_off(first)));
                if next != Some(b'|') {
                    break;
                }
                self.skip(1);
            } else {
                let repeatable = self.item()?;
                self.quantified(repeatable)?;
            }
        }
        Ok(if branches.len() == 1 { sequence(branches) } else { Node::Alt(branches) })
    }

    /// Reads the quantifier after an item, if there is one, and puts the repetition in the item's place.
    fn quantified(&mut self, repeatable: bool) -> Result<(), Error> {
        self.skip_ignored()?;
        let at = self.at;
        let times = if self.quoting { None } else { self.quantifier()? };
        let Some((min, max)) = times else { return Ok(()) };
        let (true, Some(node)) = (repeatable, self.nodes.pop()) else {
            return Err(Error::new(at, ErrorKind::NothingToRepeat));
        };
        self.skip_ignored()?;
        let (first, other) = match self.has(flag::UNGREEDY) {
            false => (Kind::Greedy, Kind::Lazy),
            true => (Kind::Lazy, Kind::Greedy),
        };
        let kind = match self.peek() {
            Some(b'?') if !self.quoting => other,
            Some(b'+') if !self.quoting => Kind::Possessive,
            _ => first,
        };
        if kind != first {
            self.skip(1);
        }
        self.nodes.push(Node::Repeat { node: Box::new(node), min, max, kind });
        Ok(())
    }

    /// Reads `*`, `+`, `?` or `{n,m}`. A brace that begins no such thing is left where it is: it stands for
    /// itself. So does `{,m}`, which PCRE2 takes for a quantifier only since 10.43.
    pub(super) fn quantifier(&mut self) -> Result<Option<(u32, u32)>, Error> {
        let times = match self.peek() {
            Some(b'*') => (0, UNBOUNDED),
            Some(b'+') => (1, UNBOUNDED),
            Some(b'?') => (0, 1),
            Some(b'{') => return self.counts(),
            _ => return Ok(None),
        };
        self.skip(1);
        Ok(Some(times))
    }

    fn counts(&mut self) -> Result<Option<(u32, u32)>, Error> {
        let start = self.at;
        self.skip(1);
        let min = self.number();
        let comma = self.eat(",");
        let max = if comma { self.number() } else { min };
        let (Some(min), true) = (min, self.eat("}")) else {
            self.at = start;
            return Ok(None);
        };
        let max = max.unwrap_or(UNBOUNDED);
        if min > MAX_REPEAT || (max > MAX_REPEAT && max != UNBOUNDED) {
            return Err(Error::new(start, ErrorKind::RepeatTooBig));
        }
        if min > max {
            return Err(Error::new(start, ErrorKind::RepeatOrder));
        }
        Ok(Some((min, max)))
    }

    /// Reads decimal digits, if any; a number out of range comes out as the largest below [`UNBOUNDED`].
    pub(super) fn number(&mut self) -> Option<u32> {
        let mut value = None;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            let sum = value.unwrap_or(0u32).saturating_mul(10).saturating_add(u32::from(digit & 15));
            value = Some(sum.min(UNBOUNDED ^ 1));
            self.skip(1);
        }
        value
    }

    fn item(&mut self) -> Repeatable {
        let at = self.at;
        let Some(byte) = self.bump() else { return Ok(false) };
        if self.quoting {
            return self.literal(byte);
        }
        let multiline = self.has(flag::MULTILINE);
        match byte {
            b'(' => self.group(at),
            b'[' => self.class(at),
            b'\\' => self.escape(at),
            b'*' | b'+' | b'?' => Err(Error::new(at, ErrorKind::NothingToRepeat)),
            b'{' => {
                self.at = at;
                if self.counts()?.is_some() {
                    return Err(Error::new(at, ErrorKind::NothingToRepeat));
                }
                self.skip(1);
                self.literal(byte)
            }
            b'.' if self.has(flag::DOTALL) => self.add(any()),
            b'.' => self.add(not_newline()),
            b'^' if multiline => self.add_fixed(Node::Assert(Assert::LineStart)),
            b'^' => self.add_fixed(Node::Assert(Assert::Start)),
            b'$' if multiline => self.add_fixed(Node::Assert(Assert::LineEnd)),
            b'$' => self.add_fixed(Node::Assert(Assert::EndOrNewline)),
            _ => self.literal(byte),
        }
    }

    /// Reads what follows a `(` that stands at `open`.
    fn group(&mut self, open: usize) -> Repeatable {
        let unsupported = |what| Err(Error::new(open, ErrorKind::Unsupported(what)));
        match self.peek() {
            Some(b'*') if self.peek_at(1).is_some_and(|b| b.is_ascii_alphabetic() || b == b':') => {
                return unsupported(Unsupported::Verb);
            }
            Some(b'*') => return Err(self.error(ErrorKind::NothingToRepeat)),
            Some(b'?') => self.skip(1),
            _ if self.has(flag::NO_CAPTURE) => return self.plain(open),
            _ => return self.capture(open, None),
        }
        match (self.bump(), self.peek()) {
            (Some(b':'), _) => self.plain(open),
            (Some(b'>'), _) => {
                let node = Box::new(self.body(open)?);
                self.add(Node::Atomic(node))
            }
            (Some(b'='), _) => self.look(open, false, false),
            (Some(b'!'), _) => self.look(open, false, true),
            (Some(b'<'), Some(sign @ (b'=' | b'!'))) => {
                self.skip(1);
                self.look(open, true, sign == b'!')
            }
            (Some(b'*'), _) | (Some(b'<'), Some(b'*')) => unsupported(Unsupported::NonAtomicLook),
            (Some(b'P'), Some(b'=')) => {
                self.skip(1);
                let name = self.name(b')')?;
                self.reference(Target::Name(name), open)
            }
            (Some(b'P'), Some(b'<')) => {
                self.skip(1);
                let name = self.name(b'>')?;
                self.capture(open, Some(name))
            }
            (Some(b'<'), _) => {
                let name = self.name(b'>')?;
                self.capture(open, Some(name))
            }
            (Some(b'\''), _) => {
                let name = self.name(b'\'')?;
                self.capture(open, Some(name))
            }
            (Some(b'('), _) => unsupported(Unsupported::Conditional),
            (Some(b'R' | b'0'..=b'9' | b'+' | b'&'), _)
            | (Some(b'P'), Some(b'>'))
            | (Some(b'-'), Some(b'0'..=b'9')) => unsupported(Unsupported::Recursion),
            (Some(b'|'), _) => unsupported(Unsupported::BranchReset),
            (Some(b'C'), _) => unsupported(Unsupported::Callout),
            (Some(b'['), _) => unsupported(Unsupported::ExtendedClass),
            (None, _) => Err(Error::new(open, ErrorKind::UnclosedGroup)),
            _ => {
                self.at = self.at.wrapping_sub(1);
                self.options(open)
            }
        }
    }

    /// Reads `(?i)` or `(?i:…)`.
    fn options(&mut self, open: usize) -> Repeatable {
        let saved = self.flags;
        let mut dash = false;
        if self.eat("^") {
            self.flags &= flag::UNGREEDY;
            dash = true;
        }
        let (mut set, mut unset, mut minus) = (0, 0, false);
        loop {
            let at = self.at;
            let letter = match self.bump() {
                None => return Err(Error::new(open, ErrorKind::UnclosedGroup)),
                Some(b')' | b':') => break,
                Some(b'-') if !dash => {
                    (dash, minus) = (true, true);
                    continue;
                }
                Some(b'i') => flag::CASELESS,
                Some(b'm') => flag::MULTILINE,
                Some(b's') => flag::DOTALL,
                Some(b'n') => flag::NO_CAPTURE,
                Some(b'U') => flag::UNGREEDY,
                Some(b'x') if self.eat("x") => flag::EXTENDED | flag::EXTENDED_MORE,
                Some(b'x') => {
                    unset |= flag::EXTENDED_MORE;
                    flag::EXTENDED
                }
                Some(b'J' | b'a' | b'r') => {
                    return Err(Error::new(at, ErrorKind::Unsupported(Unsupported::Option)));
                }
                _ => return Err(Error::new(at, ErrorKind::UnknownSyntax)),
            };
            if minus {
                unset |= letter | if letter & flag::EXTENDED != 0 { flag::EXTENDED_MORE } else { 0 };
            } else {
                set |= letter;
            }
        }
        // As PCRE: what is switched off wins over what is switched on.
        self.flags = (self.flags | set) & !unset;
        if self.pattern.get(self.at.wrapping_sub(1)) == Some(&b')') {
            return Ok(false);
        }
        self.plain(open)?;
        self.flags = saved;
        Ok(true)
    }

    /// A group that does nothing but hold its branches together.
    fn plain(&mut self, open: usize) -> Repeatable {
        let node = self.body(open)?;
        self.add(node)
    }

    /// Reads the branches of a group and its `)`. Options set inside end with it.
    fn body(&mut self, open: usize) -> Result<Node, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::new(open, ErrorKind::TooDeep));
        }
        self.depth = self.depth.wrapping_add(1);
        let saved = self.flags;
        let node = self.alternatives()?;
        self.flags = saved;
        self.depth = self.depth.wrapping_sub(1);
        if self.bump() != Some(b')') {
            return Err(Error::new(open, ErrorKind::UnclosedGroup));
        }
        Ok(node)
    }

    fn capture(&mut self, open: usize, name: Option<Box<str>>) -> Repeatable {
        self.groups = self.groups.wrapping_add(1);
        let group = self.groups;
        if let Some(name) = name {
            if self.names.iter().any(|(other, _)| *other == name) {
                return Err(Error::new(open, ErrorKind::DuplicateName));
            }
            self.names.push((name, group));
        }
        let node = Box::new(self.body(open)?);
        self.add(Node::Capture(group, node))
    }

    fn look(&mut self, at: usize, behind: bool, negative: bool) -> Repeatable {
        self.looks = self.looks.wrapping_add(1);
        let node = Box::new(self.body(at)?);
        self.looks = self.looks.wrapping_sub(1);
        self.add(Node::Look { node, behind, negative, at })
    }

    /// Reads a group name and the byte that closes it.
    pub(super) fn name(&mut self, close: u8) -> Result<Box<str>, Error> {
        let start = self.at;
        let bad = Error::new(start, ErrorKind::BadName);
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
            self.skip(1);
        }
        let name = self.pattern.get(start..self.at).unwrap_or_default();
        if name.first().is_none_or(u8::is_ascii_digit) || name.len() > MAX_NAME || self.bump() != Some(close)
        {
            return Err(bad);
        }
        std::str::from_utf8(name).map(Into::into).map_err(|_| bad)
    }

    /// A back-reference whose group is looked up when the whole pattern is read.
    pub(super) fn reference(&mut self, target: Target, at: usize) -> Repeatable {
        let index = u16::try_from(self.references.len()).unwrap_or(u16::MAX);
        self.references.push((target, self.has(flag::CASELESS), at));
        self.add(Node::Backref(index))
    }
}

fn sequence(mut items: Vec<Node>) -> Node {
    match items.len() {
        0 => Node::Empty,
        1 => items.pop().unwrap_or(Node::Empty),
        _ => Node::Cat(items),
    }
}

/// Any byte.
pub(super) fn any() -> Node {
    class_node(ByteSet::NONE.complement())
}

/// Any byte but a newline.
pub(super) fn not_newline() -> Node {
    class_node(ByteSet::of(|byte| byte != b'\n'))
}

/// A set as a node; one byte, or the two cases of a letter, become a literal.
pub(super) fn class_node(set: ByteSet) -> Node {
    if let (Some(first), len @ 1..=2) = (set.first(), set.len()) {
        let lower = first.to_ascii_lowercase();
        if len == 1 || (lower != first && set.contains(lower)) {
            return Node::Byte { byte: if len == 1 { first } else { lower }, fold: len == 2 };
        }
    }
    Node::Set(Box::new(set))
}

impl Node {
    /// The fewest and the most bytes the node matches. A back-reference counts as anything.
    pub(super) fn lengths(&self) -> (u32, u32) {
        match self {
            Self::Byte { .. } | Self::Set(_) => (1, 1),
            Self::Capture(_, node) | Self::Atomic(node) => node.lengths(),
            Self::Cat(items) => items.iter().fold((0, 0), |(low, high): (u32, u32), item| {
                let (min, max) = item.lengths();
                (low.saturating_add(min), high.saturating_add(max))
            }),
            Self::Alt(branches) => branches.iter().fold((UNBOUNDED, 0), |(low, high), branch| {
                let (min, max) = branch.lengths();
                (low.min(min), high.max(max))
            }),
            Self::Repeat { node, min, max, .. } => {
                let (low, high) = node.lengths();
                // As PCRE: what is unbounded stays so, were it over nothing or no times.
                let high = if *max == UNBOUNDED || high == UNBOUNDED {
                    UNBOUNDED
                } else {
                    high.saturating_mul(*max)
                };
                (low.saturating_mul(*min), high)
            }
            Self::Backref(_) => (0, UNBOUNDED),
            Self::Empty | Self::Assert(_) | Self::Keep | Self::Look { .. } => (0, 0),
        }
    }
}
