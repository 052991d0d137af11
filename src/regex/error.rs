//! Why a pattern is refused, and the refusal of a match that costs too much.

use std::fmt;

/// A pattern that cannot be compiled.
///
/// Four bytes in all: the parser hands it through many calls, and its size is the module's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    at: u16,
    kind: ErrorKind,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The pattern has more bytes than [`super::MAX_PATTERN`].
    TooLong,
    /// Groups are nested deeper than [`super::MAX_DEPTH`].
    TooDeep,
    /// The compiled program passes [`super::MAX_PROGRAM`] instructions, or its literals 64 KiB.
    TooLarge,
    /// A group is not closed.
    UnclosedGroup,
    /// A `)` without its `(`.
    UnopenedGroup,
    /// A `[` without its `]`.
    UnclosedClass,
    /// A comment `(?#` without its `)`.
    UnclosedComment,
    /// A quantifier with nothing before it that can be repeated.
    NothingToRepeat,
    /// `{n,m}` with `n` above `m`.
    RepeatOrder,
    /// A repetition count above 65535.
    RepeatTooBig,
    /// A class range whose end is below its start.
    RangeOrder,
    /// `[:name:]` with a name that does not exist, or `[.x.]` and `[=x=]`, which PCRE refuses too.
    UnknownPosixClass,
    /// `[:name:]` outside a character class.
    PosixOutsideClass,
    /// The pattern ends in a backslash.
    TrailingBackslash,
    /// An escape that PCRE refuses here.
    BadEscape,
    /// A character code without digits, without its `}`, or above 255.
    BadCode,
    /// A group name that is empty, too long, begins with a digit or holds something but word characters.
    BadName,
    /// The same group name twice.
    DuplicateName,
    /// A reference to a group that does not exist.
    UnknownGroup,
    /// `(?` followed by something that is neither a group nor an option.
    UnknownSyntax,
    /// A look-behind branch whose length is not fixed.
    LookbehindLength,
    /// PCRE syntax that this engine does not have.
    Unsupported(Unsupported),
}

/// PCRE syntax that is refused although PCRE takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// `(*…)`: verbs and the named forms of look-around.
    Verb,
    /// `(?*…)` and `(?<*…)`.
    NonAtomicLook,
    /// `(?(…)…|…)`.
    Conditional,
    /// `(?R)`, `(?1)`, `(?&name)`, `(?P>name)`, `\g<name>`.
    Recursion,
    /// `(?|…)`.
    BranchReset,
    /// `(?C…)`.
    Callout,
    /// `(?[…])`, `[[:<:]]` and `[[:>:]]`.
    ExtendedClass,
    /// The options `J`, `a` and `r`.
    Option,
    /// `\p{…}`, `\P{…}` and `\X`.
    Unicode,
    /// `\K` inside a look-around.
    KeepInLook,
}

impl Error {
    pub(super) const fn new(at: usize, kind: ErrorKind) -> Self {
        // No pattern is longer than that: see `MAX_PATTERN`.
        Self { at: at as u16, kind }
    }

    /// Where in the pattern, as a byte offset.
    #[must_use]
    pub fn at(&self) -> usize {
        usize::from(self.at)
    }

    /// What is wrong there.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.kind {
            ErrorKind::TooLong => "the pattern is too long; at most 8192 bytes are taken",
            ErrorKind::TooDeep => "groups are nested too deep; at most 100 levels are taken",
            ErrorKind::TooLarge => "the pattern grows too large; lower the repetition counts",
            ErrorKind::UnclosedGroup => "group is not closed; add `)` or write `\\(`",
            ErrorKind::UnopenedGroup => "`)` closes no group; write `\\)`",
            ErrorKind::UnclosedClass => "class is not closed; add `]` or write `\\[`",
            ErrorKind::UnclosedComment => "comment is not closed; add `)`",
            ErrorKind::NothingToRepeat => "nothing to repeat; escape the quantifier with a backslash",
            ErrorKind::RepeatOrder => "repetition has its counts out of order; swap them",
            ErrorKind::RepeatTooBig => "repetition count is too big; at most 65535",
            ErrorKind::RangeOrder => "range is out of order; swap its ends or escape the `-`",
            ErrorKind::UnknownPosixClass => "unknown POSIX class; use one such as `[:alpha:]`",
            ErrorKind::PosixOutsideClass => "POSIX class outside a class; write `[[:alpha:]]`",
            ErrorKind::TrailingBackslash => "pattern ends in a backslash; write `\\\\`",
            ErrorKind::BadEscape => "escape is not allowed here; drop the backslash",
            ErrorKind::BadCode => "bad character code; write two hexadecimal digits as in `\\x2f`",
            ErrorKind::BadName => "bad group name; use a letter, then letters, digits or `_`",
            ErrorKind::DuplicateName => "group name is taken; choose another",
            ErrorKind::UnknownGroup => "reference to a group that does not exist",
            ErrorKind::UnknownSyntax => "unknown group syntax after `(?`; write `\\(` for a parenthesis",
            ErrorKind::LookbehindLength => {
                "look-behind is not of fixed length; split it into alternatives of fixed length"
            }
            ErrorKind::Unsupported(what) => match what {
                Unsupported::Verb => "a verb `(*…)`",
                Unsupported::NonAtomicLook => "a non-atomic look-around",
                Unsupported::Conditional => "a conditional `(?(…)…)`",
                Unsupported::Recursion => "a recursion or subroutine call",
                Unsupported::BranchReset => "a branch reset `(?|…)`",
                Unsupported::Callout => "a callout `(?C…)`",
                Unsupported::ExtendedClass => "an extended class",
                Unsupported::Option => "the option J, a or r",
                Unsupported::Unicode => "a Unicode property",
                Unsupported::KeepInLook => "`\\K` in a look-around",
            },
        };
        let hint = match self.kind {
            ErrorKind::Unsupported(_) => " is not supported; write the pattern without it",
            _ => "",
        };
        write!(f, "byte {}: {text}{hint}", self.at)
    }
}

impl std::error::Error for Error {}

/// A match was given up because it took more steps or memory than allowed. It is neither a match nor a
/// mismatch: the caller has to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitExceeded;

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("regular expression gave up: too many steps for this subject")
    }
}

impl std::error::Error for LimitExceeded {}
