//! Paths as regular expressions, as ingress-nginx reads them: without case, anchored at their start, tried
//! by length of the text, longest first; of equal length the greater text first.
//!
//! Each expression is filed under the literal text that a match must begin with, and where many share that
//! text, under four bytes that a match must hold. A request tries only those whose texts it has, so the cost
//! does not grow with the number of paths, unless these have no text at all.

use std::cmp::Ordering;

use crate::regex::{self, Captures, LimitExceeded, Options, Regex};

/// What the groups of an expression matched: byte ranges of the path, for `$0` to `$9`. One that took no
/// part is an empty range, as nginx has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Groups([(u32, u32); 10]);

impl Groups {
    fn of(captures: &Captures<'_>) -> Self {
        // No path is longer than Envoy's limit for all headers, far below 4 GiB.
        let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        let mut groups = Groups::default();
        for (number, group) in groups.0.iter_mut().enumerate() {
            *group = captures.get(number).map_or((0, 0), |range| (narrow(range.start), narrow(range.end)));
        }
        groups
    }

    /// The text of a group.
    pub fn get<'p>(&self, path: &'p [u8], number: usize) -> &'p [u8] {
        let (start, end) = self.0.get(number).copied().unwrap_or_default();
        path.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// How many expressions under one text are tried one after the other before they are told apart by what a
/// match must hold.
const FEW: usize = 8;
/// How many expressions may share the piece of text that they are told apart by.
const MOST_SHARED: usize = 16;

/// The paths of one host, as expressions.
#[derive(Debug)]
pub struct ExpressionPaths {
    /// In the order in which they are tried.
    expressions: Box<[Expression]>,
    /// By literal text, sorted.
    prefixes: Box<[Prefix]>,
}

#[derive(Debug)]
struct Expression {
    rule: usize,
    matcher: Matcher,
}

#[derive(Debug)]
enum Matcher {
    Regex(Regex),
    /// The expression is broken: requests that begin with its literal text (in lower case) are refused.
    Broken(Box<[u8]>),
}

#[derive(Debug)]
struct Prefix {
    /// In lower case.
    text: Box<[u8]>,
    /// Position of the longest other text that this one begins with.
    parent: Option<usize>,
    /// Positions of the expressions, ascending.
    expressions: Vec<usize>,
    /// Positions of those that are only tried where the path holds these bytes, by the bytes.
    by_gram: Box<[(Gram, usize)]>,
}

/// Four bytes, the first in the high bits; or three, with zero in the high bits.
type Gram = u32;

/// The pieces of this length, 3 or 4. A zero ends a run of text and is in no piece; no path holds one.
fn grams(text: &[u8], length: usize) -> impl Iterator<Item = Gram> {
    text.windows(length)
        .filter(|window| !window.contains(&0))
        .map(|window| window.iter().fold(0, |gram, byte| gram << 8 | Gram::from(*byte)))
}

/// Whether it is one of three bytes.
fn is_short(gram: Gram) -> bool {
    gram < 1 << 24
}

/// What the expressions say to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// This rule's expression matches, with these groups.
    Rule(usize, Groups),
    /// This rule would have been asked but cannot be: refuse.
    Refuse(usize),
}

/// Reusable memory of a search.
#[derive(Debug, Default)]
pub struct Scratch {
    regex: regex::Scratch,
    candidates: Vec<usize>,
    /// A bit for each expression that was found by its bytes.
    seen: Vec<u64>,
    lower: Vec<u8>,
}

impl Scratch {
    /// The memory of matches, for expressions that are not paths.
    pub fn regex(&mut self) -> &mut regex::Scratch {
        &mut self.regex
    }
}

/// Says whether a path is an expression that the filter can match.
///
/// # Errors
///
/// What is wrong with it, and at which byte of the path.
pub fn check(path: &str) -> Result<(), regex::Error> {
    // Without the anchor, which would shift the place by one.
    Regex::new(path, Options::CASELESS).map(drop)
}

fn compile_path(path: &str) -> Result<(Regex, Vec<u8>), regex::Error> {
    Regex::with_required(&anchored(path), Options::CASELESS)
}

/// As ingress-nginx writes it; an alternation at the top level escapes the anchor there as well.
fn anchored(path: &str) -> String {
    format!("^{path}")
}

impl ExpressionPaths {
    /// Compiles the paths of a host: the position of each rule and its path.
    pub fn compile<'a>(rules: impl Iterator<Item = (usize, &'a str)>) -> Self {
        let mut sorted: Vec<Entry<'_>> = Vec::new();
        for (rule, path) in rules {
            match compile_path(path) {
                Ok((regex, required)) => {
                    // Of one that escapes the anchor nothing is certain.
                    let literal = if regex.is_anchored() { regex.literal_prefix() } else { Vec::new() };
                    let expression = Expression { rule, matcher: Matcher::Regex(regex) };
                    sorted.push(Entry { expression, text: path, literal, required });
                }
                Err(_) => {
                    let literal = plain_beginning(path);
                    // Nothing is known of what it was to protect where only the slash is certain: to
                    // refuse the whole host would do more harm than good.
                    if literal.len() > 1 {
                        let text = path.get(..literal.len()).unwrap_or(path);
                        let matcher = Matcher::Broken(literal.clone().into());
                        let (expression, required) = (Expression { rule, matcher }, Vec::new());
                        sorted.push(Entry { expression, text, literal, required });
                    }
                }
            }
        }
        let mut order: Vec<usize> = (0..sorted.len()).collect();
        sort_positions(&mut order, &|a, b| match (sorted.get(a), sorted.get(b)) {
            (Some(a), Some(b)) => a.compare(b),
            _ => Ordering::Equal,
        });
        let mut slots: Vec<Option<Entry<'_>>> = sorted.into_iter().map(Some).collect();
        let mut expressions = Vec::with_capacity(order.len());
        let mut literals = Vec::with_capacity(order.len());
        let mut required = Vec::with_capacity(order.len());
        for entry in order.into_iter().filter_map(|position| slots.get_mut(position).and_then(Option::take)) {
            expressions.push(entry.expression);
            literals.push(entry.literal);
            required.push(entry.required);
        }
        let mut prefixes = file(&literals);
        for prefix in prefixes.iter_mut().filter(|prefix| prefix.expressions.len() > FEW) {
            tell_apart(prefix, &required);
        }
        ExpressionPaths { expressions: expressions.into(), prefixes }
    }

    /// The rule for a normalised path.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`] where an expression that needs backtracking takes too many steps for this path;
    /// nginx answers 500 then.
    pub fn find(&self, path: &[u8], scratch: &mut Scratch) -> Result<Option<Found>, LimitExceeded> {
        self.collect(path, scratch);
        let Scratch { regex, candidates, lower, seen: _ } = scratch;
        for expression in candidates.iter().filter_map(|position| self.expressions.get(*position)) {
            match &expression.matcher {
                Matcher::Broken(literal) if lower.starts_with(literal) => {
                    return Ok(Some(Found::Refuse(expression.rule)));
                }
                Matcher::Broken(_) => {}
                Matcher::Regex(candidate) => {
                    if let Some(captures) = candidate.captures(path, regex)? {
                        return Ok(Some(Found::Rule(expression.rule, Groups::of(&captures))));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Puts the positions of the expressions that can match into the scratch, in the order to try them.
    fn collect(&self, path: &[u8], scratch: &mut Scratch) {
        scratch.candidates.clear();
        scratch.lower.clear();
        scratch.lower.extend(path.iter().map(u8::to_ascii_lowercase));
        let path = scratch.lower.as_slice();
        // Every text that the path begins with is the greatest text not above the path, or one that this
        // one begins with.
        let after = self.prefixes.partition_point(|prefix| *prefix.text <= *path);
        let mut next = after.checked_sub(1);
        let mut sources = 0_usize;
        scratch.seen.clear();
        while let Some(prefix) = next.and_then(|position| self.prefixes.get(position)) {
            if path.starts_with(&prefix.text) {
                scratch.candidates.extend_from_slice(&prefix.expressions);
                sources = sources.saturating_add(1);
                if !prefix.by_gram.is_empty() {
                    scratch.seen.resize(self.expressions.len().div_ceil(64), 0);
                    prefix.collect(path, &mut scratch.seen, &mut scratch.candidates);
                    sources = sources.saturating_add(1);
                }
            }
            next = prefix.parent;
        }
        if sources > 1 {
            sort_positions(&mut scratch.candidates, &|a, b| a.cmp(&b));
        }
    }
}

impl Prefix {
    /// Adds the expressions whose bytes the path holds, each once.
    fn collect(&self, path: &[u8], seen: &mut [u64], candidates: &mut Vec<usize>) {
        let mut look_up = |gram: Gram| {
            let from = self.by_gram.partition_point(|(other, _)| *other < gram);
            let same = self.by_gram.iter().skip(from).take_while(|(other, _)| *other == gram);
            for &(_, position) in same {
                let bit = 1_u64.wrapping_shl(u32::try_from(position & 63).unwrap_or(0));
                if let Some(word) = seen.get_mut(position >> 6)
                    && *word & bit == 0
                {
                    *word |= bit;
                    candidates.push(position);
                }
            }
        };
        grams(path, 4).for_each(&mut look_up);
        if self.by_gram.first().is_some_and(|(gram, _)| is_short(*gram)) {
            grams(path, 3).for_each(look_up);
        }
    }
}

/// Files the expressions of a prefix by a piece of what a match must hold: of those of an expression, the one
/// that the fewest others have. Where these are many the expression stays where it is.
fn tell_apart(prefix: &mut Prefix, required: &[Vec<u8>]) {
    let pieces = |position: &usize| {
        let text = required.get(*position).map(Vec::as_slice).unwrap_or_default();
        let length = if grams(text, 4).next().is_some() { 4 } else { 3 };
        grams(text, length)
    };
    let all: Vec<Gram> = prefix.expressions.iter().flat_map(pieces).collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    let gram = |at: usize| all.get(at).copied().unwrap_or_default();
    sort_positions(&mut order, &|a, b| gram(a).cmp(&gram(b)));
    let count = |wanted: Gram| {
        let below = order.partition_point(|at| gram(*at) < wanted);
        order.partition_point(|at| gram(*at) <= wanted).saturating_sub(below)
    };
    let (mut stay, mut filed) = (Vec::new(), Vec::new());
    for position in std::mem::take(&mut prefix.expressions) {
        match pieces(&position).map(|gram| (count(gram), gram)).min() {
            Some((count, gram)) if count <= MOST_SHARED => filed.push((gram, position)),
            _ => stay.push(position),
        }
    }
    let mut order: Vec<usize> = (0..filed.len()).collect();
    sort_positions(&mut order, &|a, b| filed.get(a).cmp(&filed.get(b)));
    prefix.expressions = stay;
    prefix.by_gram = order.into_iter().filter_map(|at| filed.get(at).copied()).collect();
}

/// The text before the first sign with a meaning, in lower case: all that is known of a broken expression.
fn plain_beginning(path: &str) -> Vec<u8> {
    let end = path.find(|c| "\\.[](){}*+?^$|".contains(c)).unwrap_or(path.len());
    let (beginning, rest) = path.split_at_checked(end).unwrap_or((path, ""));
    // What may be left out or come several times is not certain.
    let optional = rest.starts_with(['*', '?', '{', '+']);
    let certain = beginning.len().saturating_sub(usize::from(optional && !beginning.is_empty()));
    beginning.as_bytes().get(..certain).unwrap_or_default().to_ascii_lowercase()
}

/// An expression on its way into the table.
struct Entry<'a> {
    expression: Expression,
    /// What its length and order are taken from.
    text: &'a str,
    /// In lower case.
    literal: Vec<u8>,
    /// Runs of text that a match must hold; see [`Regex::with_required`].
    required: Vec<u8>,
}

impl Entry<'_> {
    /// The longer text first, then the greater; of the same text a broken expression first, since it refuses,
    /// then the earlier rule.
    fn compare(&self, other: &Self) -> Ordering {
        let broken = |entry: &Self| matches!(entry.expression.matcher, Matcher::Broken(_));
        other
            .text
            .len()
            .cmp(&self.text.len())
            .then_with(|| other.text.cmp(self.text))
            .then_with(|| broken(other).cmp(&broken(self)))
            .then_with(|| self.expression.rule.cmp(&other.expression.rule))
    }
}

/// Sorts positions. One instance of the sort for all orders: each costs 6 kB of the module.
fn sort_positions(positions: &mut [usize], compare: &dyn Fn(usize, usize) -> Ordering) {
    positions.sort_unstable_by(|a, b| compare(*a, *b));
}

/// Makes the index of the literal texts of expressions.
fn file(literals: &[Vec<u8>]) -> Box<[Prefix]> {
    let mut order: Vec<usize> = (0..literals.len()).collect();
    let text = |position: usize| literals.get(position).map(Vec::as_slice).unwrap_or_default();
    sort_positions(&mut order, &|a, b| text(a).cmp(text(b)).then(a.cmp(&b)));
    let mut prefixes: Vec<Prefix> = Vec::new();
    for expression in order {
        let text = text(expression);
        if let Some(last) = prefixes.last_mut()
            && *last.text == *text
        {
            last.expressions.push(expression);
            continue;
        }
        let mut parent = prefixes.len().checked_sub(1);
        while let Some(candidate) = parent.and_then(|position| prefixes.get(position)) {
            if text.starts_with(&candidate.text) {
                break;
            }
            parent = candidate.parent;
        }
        let expressions = vec![expression];
        prefixes.push(Prefix { text: text.into(), parent, expressions, by_gram: Box::default() });
    }
    prefixes.into()
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    /// Forms of paths; `#` stands for a number.
    const FORMS: [&str; 12] = [
        "/.*foo#",
        "/.*/a#(/|$)(.*)",
        "/[a-z]+/item-#/.*",
        "/(v#|w#)/x",
        "/.*Name#$",
        "/(.*)\\.f#",
        "/x#|/y#",
        "/p#/(.*)",
        "/[0-9]+",
        "/(?!a)(b#c)+",
        "/.*(k#)?l",
        "/.*\\d#-(q|r)s#t",
    ];

    fn many(count: usize) -> Vec<String> {
        (0..count).map(|n| FORMS[n % FORMS.len()].replace('#', &(n / FORMS.len()).to_string())).collect()
    }

    #[test]
    fn the_index_finds_what_a_search_through_all_finds() {
        let texts = many(400);
        let paths = ExpressionPaths::compile(texts.iter().map(String::as_str).enumerate());
        let filed = paths.prefixes.iter().map(|prefix| prefix.by_gram.len()).sum::<usize>();
        assert!(filed > 100, "{filed} are filed by bytes");
        let mut scratch = Scratch::default();
        let mut found = 0;
        for form in FORMS {
            for number in 0..40 {
                let plain = form.replace(['(', ')', '\\', '+', '$', '?', '!'], "").replace(".*", "zz");
                for request in [
                    plain.replace('#', &number.to_string()),
                    plain.replace('#', &number.to_string()).replace(['|', '[', ']', '^'], "/").to_uppercase(),
                    format!("/zz/a{number}/foo{number}/x"),
                    format!("/abc/item-{number}/y{number}"),
                    format!("/b{number}cb{number}c"),
                    format!("/1{number}-qs{number}t"),
                ] {
                    let indexed = paths.find(request.as_bytes(), &mut scratch).expect(&request);
                    let all = paths.expressions.iter().find_map(|expression| match &expression.matcher {
                        Matcher::Broken(_) => None,
                        Matcher::Regex(regex) => {
                            let captures = regex.captures(request.as_bytes(), &mut scratch.regex).ok()??;
                            Some(Found::Rule(expression.rule, Groups::of(&captures)))
                        }
                    });
                    assert_eq!(indexed, all, "{request}");
                    found += usize::from(all.is_some());
                }
            }
        }
        assert!(found > 1000, "{found}");
    }

    #[test]
    fn few_are_tried() {
        let cases: [(&str, &str, usize); 5] = [
            ("/.*foo#x", "/abc/foo17x", 1),
            ("/[a-z]+/#", "/abc/17", 16),
            ("/API/v1/Service#(/|$)(.*)", "/api/v1/service17/y", 2),
            ("/[a-z]+/item-#-end", "/abc/ITEM-17-end", 8),
            ("/.*", "/abc", 1000),
        ];
        for (form, request, most) in cases {
            let texts: Vec<String> = (0..1000).map(|n| form.replace('#', &n.to_string())).collect();
            let paths = ExpressionPaths::compile(texts.iter().map(String::as_str).enumerate());
            let mut scratch = Scratch::default();
            paths.collect(request.as_bytes(), &mut scratch);
            let tried = scratch.candidates.len();
            assert!((1..=most).contains(&tried), "{form} {request}: {tried} are tried");
            assert!(paths.find(request.as_bytes(), &mut scratch).expect(form).is_some(), "{form} {request}");
        }
    }
}
