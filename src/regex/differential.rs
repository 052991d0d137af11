//! Compares this engine with PCRE2 on random patterns and subjects.
//!
//! What is left out on purpose: patterns that PCRE2 reads otherwise than PCRE1 (the parent module's head
//! lists them), and those that this engine refuses as not supported.

use std::fmt::Write as _;

use pcre2::bytes::{CaptureLocations, RegexBuilder};

use super::{ErrorKind, LimitExceeded, Options, Regex, Scratch, tests};

const PATTERNS: usize = 40_000;
const SUBJECTS: usize = 6;

/// Writes random patterns, mostly sound ones.
struct Writer {
    random: fastrand::Rng,
    groups: usize,
    out: String,
}

impl Writer {
    fn pick(&mut self, from: &[&str]) {
        let index = self.random.usize(..from.len());
        self.out.push_str(from[index]);
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(..100) < percent
    }

    fn alternatives(&mut self, depth: usize) {
        self.branch(depth);
        while self.chance(25) {
            self.out.push('|');
            self.branch(depth);
        }
    }

    fn branch(&mut self, depth: usize) {
        for _ in 0..self.random.usize(..4) {
            self.item(depth);
        }
    }

    fn item(&mut self, depth: usize) {
        match self.random.u32(..100) {
            0..35 => {
                self.pick(&["a", "b", "c", "/", "A", "B", "1", "ab", "abc", "\\.", "-", "_", "\\n", "\\x61"])
            }
            35..50 => self.class(),
            50..58 => {
                self.pick(&[
                    "^", "$", "\\b", "\\B", "\\A", "\\z", "\\Z", "\\G", "(?i)", "(?-i)", "(?m)", "(?s)",
                ]);
                return;
            }
            58..60 => {
                self.pick(&["\\K", "(?#x)", "\\Q*\\E", "\\E", "(?x) ", "(?^)", "{", "}", "{2", "]"]);
                return;
            }
            60..64 if self.groups > 0 => {
                let group = self.random.usize(1..=self.groups);
                match self.random.u32(..4) {
                    0 => write!(self.out, "\\{group}").unwrap(),
                    1 => write!(self.out, "\\g{{{group}}}").unwrap(),
                    2 => write!(self.out, "\\g{{-{group}}}").unwrap(),
                    _ => write!(self.out, "(?:\\{group})").unwrap(),
                }
            }
            _ if depth > 0 => self.group(depth - 1),
            _ => self.pick(&["a", "b"]),
        }
        if self.chance(35) {
            self.quantifier();
        }
    }

    fn class(&mut self) {
        if self.chance(40) {
            self.pick(&[
                ".", "\\d", "\\w", "\\s", "\\D", "\\W", "\\S", "\\h", "\\v", "\\H", "\\V", "\\R", "\\N",
            ]);
            return;
        }
        self.pick(&["[", "[^", "[]", "["]);
        for _ in 0..=self.random.usize(..3) {
            self.pick(&[
                "a",
                "b",
                "a-c",
                "A-B",
                "/",
                "\\d",
                "\\W",
                "[:alpha:]",
                "[:^upper:]",
                "[:space:]",
                "^",
                "\\n",
                ".",
                "\\Qb]\\E",
            ]);
        }
        self.pick(&["]", "]", "]", "-]"]);
    }

    fn group(&mut self, depth: usize) {
        let kind = self.random.u32(..100);
        self.out.push('(');
        match kind {
            0..45 => self.groups += 1,
            45..50 => {
                self.groups += 1;
                let groups = self.groups;
                write!(self.out, "?<n{groups}>").unwrap();
            }
            50..70 => self.out.push_str("?:"),
            70..76 => self.out.push_str("?>"),
            76..82 => self.out.push_str("?="),
            82..88 => self.out.push_str("?!"),
            88..92 => self.out.push_str("?<="),
            92..96 => self.out.push_str("?<!"),
            _ => self.pick(&["?i:", "?-i:", "?s:", "?im:"]),
        }
        self.alternatives(depth);
        self.out.push(')');
    }

    fn quantifier(&mut self) {
        // PCRE2 can take a pattern for anchored because of a group repeated no times.
        if !self.out.ends_with(')') && self.chance(8) {
            return self.out.push_str("{0}");
        }
        self.pick(&["*", "*", "+", "+", "?", "?", "{2}", "{0,2}", "{1,}", "{2,3}", "{1}", "{2,1}"]);
        self.pick(&["", "", "", "?", "?", "+", "*"]);
    }
}

fn subject(random: &mut fastrand::Rng) -> Vec<u8> {
    let len = random.usize(..12);
    (0..len).map(|_| b"aaabbbccAB/1.-_\n \xe9"[random.usize(..18)]).collect()
}

/// The groups by PCRE2: `None` for no match.
fn expected(
    regex: &pcre2::bytes::Regex,
    subject: &[u8],
    at: &mut CaptureLocations,
) -> Result<String, String> {
    match regex.captures_read(at, subject) {
        Err(error) => Err(error.to_string()),
        Ok(None) => Ok("no match".into()),
        Ok(Some(_)) => Ok(format!("{:?}", (0..at.len()).map(|n| at.get(n)).collect::<Vec<_>>())),
    }
}

fn found(regex: &Regex, subject: &[u8], scratch: &mut Scratch) -> Result<String, LimitExceeded> {
    let Some(captures) = regex.captures(subject, scratch)? else { return Ok("no match".into()) };
    let groups = (0..captures.len()).map(|n| captures.get(n).map(|r| (r.start, r.end)));
    Ok(format!("{:?}", groups.collect::<Vec<_>>()))
}

/// The pattern compiled by both engines. `Ok(None)` if both refuse it, or this one does on purpose.
fn compiled(pattern: &str, options: Options) -> Result<Option<(Regex, pcre2::bytes::Regex)>, String> {
    // Without two optimisations of PCRE2 10.46 that change what matches: `\R*\s` should match a newline,
    // and `(?:c|.*\Z(?:|)|\A\n){0}?a` an `a`.
    let verbs = "(*NO_START_OPT)(*NO_AUTO_POSSESS)";
    let theirs = RegexBuilder::new().caseless(options.caseless).build(&format!("{verbs}{pattern}"));
    match (Regex::new(pattern, options), theirs) {
        (Ok(ours), Ok(theirs)) => Ok(Some((ours, theirs))),
        (Err(_), Err(_)) => Ok(None),
        (Err(error), Ok(_)) => match error.kind() {
            ErrorKind::Unsupported(_) | ErrorKind::LookbehindLength => Ok(None),
            _ => Err(format!("{pattern:?} compiles with PCRE2; here: {error}")),
        },
        // `[\w-.]` is PCRE1.
        (Ok(_), Err(error)) if error.to_string().contains("invalid range in character class") => Ok(None),
        (Ok(_), Err(error)) => Err(format!("{pattern:?} compiles here; {error}")),
    }
}

#[test]
fn agrees_with_pcre() {
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let mut scratch = Scratch::new();
    // Remembers from the first step on.
    let mut eager = Scratch::new();
    eager.patience = 0;
    let (mut compared, mut matched, mut differences) = (0, 0, Vec::new());
    for _ in 0..PATTERNS {
        let mut writer = Writer { random: random.fork(), groups: 0, out: String::new() };
        writer.alternatives(3);
        let (pattern, options) = (writer.out, Options { caseless: random.bool() });
        let (ours, theirs) = match compiled(&pattern, options) {
            Ok(Some(both)) => both,
            Ok(None) => continue,
            Err(difference) => {
                differences.push(difference);
                continue;
            }
        };
        let mut locations = theirs.capture_locations();
        for _ in 0..SUBJECTS {
            let subject = subject(&mut random);
            let Ok(expected) = expected(&theirs, &subject, &mut locations) else { continue };
            // PCRE's own limits are far wider: giving up is allowed, as long as it stays rare.
            let memory = if random.bool() { &mut eager } else { &mut scratch };
            let Ok(found) = found(&ours, &subject, memory) else { continue };
            compared += 1;
            matched += usize::from(expected != "no match");
            if found != expected {
                let text = String::from_utf8_lossy(&subject).into_owned();
                differences.push(format!("{pattern:?} {options:?} on {text:?}: {found}, PCRE2 {expected}"));
                break;
            }
        }
    }
    differences.sort_by_key(String::len);
    differences.truncate(20);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(compared > 100_000 && matched > 40_000, "{compared} compared, {matched} matched");
}

/// The tables of the unit tests say what PCRE2 says.
#[test]
fn tables_agree_with_pcre() {
    for (caseless, rows) in
        [(true, tests::PATHS), (true, tests::CASELESS), (false, tests::SYNTAX), (false, tests::BACKTRACKING)]
    {
        for &(pattern, subject, wanted) in rows {
            let theirs = RegexBuilder::new().caseless(caseless).build(pattern).unwrap();
            let mut at = theirs.capture_locations();
            let found = match theirs.captures_read(&mut at, subject).unwrap() {
                None => "no".into(),
                Some(_) => {
                    let text = |n| at.get(n).map_or("-".into(), |(start, end)| format!("{start}-{end}"));
                    (0..at.len()).map(text).collect::<Vec<String>>().join(" ")
                }
            };
            assert_eq!(found, wanted, "{pattern:?} on {:?}", String::from_utf8_lossy(subject));
        }
    }
}
