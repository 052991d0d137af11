//! Regular expressions as nginx has them: PCRE's syntax and semantics over bytes.
//!
//! ingress-nginx writes a path with `use-regex` as `location ~* "^path"`, and people use in it what PCRE
//! gives: captures, look-around, back-references, possessive and atomic groups. This engine matches the way
//! PCRE does without its Unicode mode, ASCII letters only when case is ignored, and differs from a general
//! engine in three things: it is small (the filter's size is start-up time), it never recurses on the
//! subject, and every match is bounded in time and memory.
//!
//! Where PCRE1, which ingress-nginx was built with, and PCRE2 read a pattern differently, PCRE1's reading
//! holds if it gives one: `{,3}` and braces with spaces inside stand for themselves, `[\w-.]` has a literal
//! hyphen, `\y` and other letters without a meaning are letters, and a look-behind has branches of fixed
//! length. `\x` without a digit is refused as in PCRE2.
//!
//! Not supported, and refused by name: conditionals, recursion and subroutine calls, callouts, verbs, branch
//! reset, Unicode properties, `\X`, `\K` in a look-around, duplicate names, extended classes, and
//! non-atomic look-around.
//!
//! - [`parse`] and [`escape`] turn a pattern into a tree,
//! - [`program`] turns the tree into a program, with what [`analysis`] can tell beforehand,
//! - [`required`] tells what text a match must hold,
//! - [`matcher`] runs the program.
//!
//! Deliberately knows nothing of paths, hosts and configuration.

mod analysis;
#[cfg(all(test, not(target_family = "wasm")))]
mod differential;
mod error;
mod escape;
mod matcher;
mod parse;
mod program;
mod required;
mod set;
#[cfg(test)]
mod tests;

pub use error::{Error, ErrorKind, LimitExceeded, Unsupported};
pub use matcher::{Captures, Scratch};

/// Longest pattern taken, in bytes. nginx takes 4096.
pub const MAX_PATTERN: usize = 8192;
/// Deepest nesting of groups. The parser recurses on groups, and the stack of a WebAssembly module is small.
pub const MAX_DEPTH: usize = 100;
/// Most instructions of a program; counted repetitions of groups are written out.
pub const MAX_PROGRAM: usize = 10_000;
/// Most bytes of literal text in a program.
const MAX_LITERALS: usize = 65_535;
/// Most steps of a match whose program has a back-reference, a look-around or an atomic group, and of one
/// too large to remember where it has been: some milliseconds.
pub const MAX_STEPS: usize = 200_000;
/// Steps, besides eight for each byte of the subject, before a match begins to remember where it has been.
const STEPS_BEFORE_REMEMBERING: usize = 4_000;
/// Most steps of a match that remembers. [`MAX_MEMO_BITS`] keeps nearly all of them below.
const MAX_STEPS_REMEMBERING: usize = 8_000_000;
/// Most places, times positions in the subject, that a match remembers: 256 KiB of bits.
const MAX_MEMO_BITS: usize = 1 << 21;
/// Most frames on the stack of a match, 16 bytes each.
const MAX_FRAMES: usize = 65_536;

/// How a pattern is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Ignore the case of ASCII letters, as `location ~*` does.
    pub caseless: bool,
}

impl Options {
    /// What ingress-nginx asks for: case is ignored.
    pub const CASELESS: Self = Self { caseless: true };
}

/// A compiled expression. Immutable; some hundred bytes for a usual path.
#[derive(Debug)]
pub struct Regex {
    program: program::Program,
    names: Box<[(Box<str>, u16)]>,
    caseless: bool,
}

impl Regex {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// If PCRE would refuse the pattern, if it uses what is not supported, or if it passes a limit.
    pub fn new(pattern: &str, options: Options) -> Result<Self, Error> {
        Self::with_required(pattern, options).map(|(regex, _)| regex)
    }

    /// Compiles a pattern, and gives the runs of text, in lower case, each of which stands somewhere in every
    /// match; each ends in a zero.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_required(pattern: &str, options: Options) -> Result<(Self, Vec<u8>), Error> {
        let flags = if options.caseless { parse::flag::CASELESS } else { 0 };
        let parsed = parse::parse(pattern, flags)?;
        let program = program::compile(&parsed)?;
        let required = required::required(&parsed.root);
        Ok((Self { program, names: parsed.names.into(), caseless: options.caseless }, required))
    }

    /// Looks for the first match, at the start of the subject and then further on, as `pcre_exec` does.
    ///
    /// # Errors
    /// If the match takes too many steps or too much memory.
    pub fn captures<'r>(
        &self,
        subject: &[u8],
        scratch: &'r mut Scratch,
    ) -> Result<Option<Captures<'r>>, LimitExceeded> {
        matcher::search(&self.program, subject, scratch)
    }

    /// Whether there is a match.
    ///
    /// # Errors
    /// As [`Self::captures`].
    pub fn is_match(&self, subject: &[u8], scratch: &mut Scratch) -> Result<bool, LimitExceeded> {
        Ok(self.captures(subject, scratch)?.is_some())
    }

    /// Number of capturing groups; the whole match does not count.
    #[must_use]
    pub fn group_count(&self) -> usize {
        usize::from(self.program.groups).saturating_sub(1)
    }

    /// The number of a named group.
    #[must_use]
    pub fn group_index(&self, name: &str) -> Option<usize> {
        self.names.iter().find(|(other, _)| **other == *name).map(|&(_, group)| usize::from(group))
    }

    /// Whether every branch begins with `^` or `\A`, so that a match can only begin where the subject does.
    #[must_use]
    pub fn is_anchored(&self) -> bool {
        self.program.anchored
    }

    /// The literal text that every match begins with: an index key for expressions that are
    /// [anchored](Self::is_anchored). Empty if nothing is certain, as for `^/a|/b`. In lower case if the
    /// expression was compiled caseless; otherwise it stops where the pattern itself turns caseless.
    ///
    /// With `\K` or a look-around it is the text from where matching begins.
    #[must_use]
    pub fn literal_prefix(&self) -> Vec<u8> {
        self.program.literal_prefix(self.caseless)
    }
}

/// [`Regex::literal_prefix`] of a pattern that is compiled for this alone; empty if it cannot be compiled.
#[must_use]
pub fn literal_prefix(pattern: &str, options: Options) -> Vec<u8> {
    Regex::new(pattern, options).map(|regex| regex.literal_prefix()).unwrap_or_default()
}
