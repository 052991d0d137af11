//! Tables of patterns, subjects and expected groups; limits; errors; literal prefixes.
//!
//! Rows marked "PCRE2" were differences that the comparison with PCRE2 once found.

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::{
    Error, ErrorKind, LimitExceeded, MAX_PATTERN, Options, Regex, Scratch, Unsupported, literal_prefix,
};

/// The groups of a match, written `start-end` each and `-` for one that took no part; `no` for no match.
fn groups(pattern: &str, caseless: bool, subject: &[u8], patience: usize) -> String {
    let regex = match Regex::new(pattern, Options { caseless }) {
        Ok(regex) => regex,
        Err(error) => return format!("{pattern:?}: {error}"),
    };
    let mut scratch = Scratch::new();
    scratch.patience = patience;
    match regex.captures(subject, &mut scratch) {
        Err(error) => error.to_string(),
        Ok(None) => "no".into(),
        Ok(Some(captures)) => {
            assert_eq!(captures.len(), regex.group_count() + 1, "{pattern:?}");
            assert_eq!(captures.get(captures.len()), None, "{pattern:?}");
            let text = |n| captures.get(n).map_or("-".into(), |r| format!("{}-{}", r.start, r.end));
            (0..captures.len()).map(text).collect::<Vec<String>>().join(" ")
        }
    }
}

/// Checks rows of (pattern, subject, groups), as a match usually goes and remembering from the start.
fn check(caseless: bool, rows: &[(&str, &[u8], &str)]) {
    for &(pattern, subject, expected) in rows {
        for patience in [4_000, 0] {
            let found = groups(pattern, caseless, subject, patience);
            let subject = String::from_utf8_lossy(subject);
            assert_eq!(found, expected, "{pattern:?} on {subject:?}, patience {patience}");
        }
    }
}

/// A pattern, a subject, and the groups as [`groups`] writes them.
pub(super) type Row = (&'static str, &'static [u8], &'static str);

/// Case is ignored.
pub(super) const PATHS: &[Row] = &[
    ("^/api/v[0-9]+(/|$)(.*)", b"/API/v12/users", "0-14 8-9 9-14"),
    ("^/api/v[0-9]+(/|$)(.*)", b"/api/v1", "0-7 7-7 7-7"),
    ("^/api/v[0-9]+(/|$)(.*)", b"/api/vx", "no"),
    ("^/something(/|$)(.*)", b"/somethingelse", "no"),
    ("^/([a-z]+)/([0-9]+)(/.*)?", b"/Orders/42", "0-10 1-7 8-10 -"),
    ("^/app(/(.*))?$", b"/app/x", "0-6 4-6 5-6"),
    ("^/files/[^/]+\\.(jpg|png)$", b"/files/a.b.PNG", "0-14 11-14"),
    ("^/(one|two)/x", b"/two/xyz", "0-6 1-4"),
    ("^/foo/bar/[a-z]{3}", b"/foo/bar/BaR", "0-12"),
    ("^/a|/b", b"/x/b", "2-4"),
    ("^/(?!api/|static/).*", b"/api/x", "no"),
    ("^/(?!api/|static/).*", b"/app/x", "0-6"),
    ("^/*", b"//a", "0-2"),
    ("^/img/*", b"/img", "0-4"),
    ("^/a b/[0-9]+$", b"/a b/7", "0-6"),
    ("^/caf\u{e9}", b"/caf\xc3\xa9", "0-6"),
    ("^/caf\u{e9}", b"/caf\xc3\x89", "no"),
    ("^/.*\\.(?<ext>gif|jpe?g)$", b"/x/y.jpeg", "0-9 5-9"),
    ("^/x.y$", b"/x\ny", "no"),
    ("^/x.y$", b"/x\xffy", "0-4"),
    ("^/end$", b"/end\n", "0-4"),
    ("^/(\\w+)-\\1$", b"/ab-AB", "0-6 1-3"),
];

/// Case is ignored.
pub(super) const CASELESS: &[Row] = &[
    ("[a-c]+", b"xABc", "1-4"),
    ("[^a]", b"Ab", "1-2"),
    ("[[:upper:]]", b"a", "0-1"),
    ("(a)\\1", b"aA", "0-2 0-1"),
    ("(?-i)a", b"Aa", "1-2"),
    ("[k]", b"K", "0-1"),
    ("\\x41", b"a", "0-1"),
    ("@", b"`", "no"),
];

/// What syntax means.
pub(super) const SYNTAX: &[Row] = &[
    ("", b"abc", "0-0"),
    ("a.c", b"xabc", "1-4"),
    ("a|ab|", b"ab", "0-1"),
    ("(?:|a)b", b"ab", "0-2"),
    ("[]a]+", b"]a]b", "0-3"),
    ("[^]a]", b"]ab", "2-3"),
    ("[a-]+", b"a-b", "0-2"),
    ("[a\\-c]+", b"a-cb", "0-3"),
    ("[[:alpha:]_]+", b"1a_Z2", "1-4"),
    ("[[:^digit:]]+", b"1ab2", "1-3"),
    ("[[:punct:][:space:]]+", b"a, b", "1-3"),
    ("[[a]]", b"a]", "0-2"),
    ("[a[:b]+", b"[:a", "0-3"),
    ("[\\Q^]\\E]+", b"a^]", "1-3"),
    ("[\\b\\n\\x41]+", b"\x08\nAb", "0-3"),
    ("[\\101-\\103]+", b"ABCD", "0-3"),
    ("\\d\\D\\w\\W\\s\\S", b"1xy- z", "0-6"),
    ("\\h+\\H\\v\\V", b"\t\xa0x\ny", "0-5"),
    ("\\N+", b"ab\nc", "0-2"),
    ("a\\Rb", b"a\r\nb", "0-4"),
    ("\\R\\n", b"\r\n", "no"),
    ("\\R{2}", b"\n\x85", "0-2"),
    ("\\bfoo\\b", b"afoo foo", "5-8"),
    ("\\Boo", b"oo foo", "4-6"),
    ("\\Afoo\\Z", b"foo\n", "0-3"),
    ("foo\\z", b"foo\n", "no"),
    ("\\Gb", b"ab", "no"),
    ("(?m)^b$", b"a\nb\nc", "2-3"),
    ("(?m)^", b"\n", "0-0"),
    ("(?m)a\n^", b"a\n", "no"),
    ("\\Qa.b*\\E+", b"a.b**", "0-5"),
    ("a\\Q\\E*", b"aaa", "0-3"),
    ("\\x2f\\x{2F}\\057\\cA\\e\\a\\f\\t", b"//\x2f\x01\x1b\x07\x0c\t", "0-8"),
    ("\\0\\o{101}", b"\0A", "0-2"),
    ("(a)\\12", b"a\n", "0-2 0-1"),
    ("a{2", b"a{2", "0-3"),
    ("a{2}", b"aaa", "0-2"),
    ("a{2,}", b"aaa", "0-3"),
    ("a{1,2}", b"aaa", "0-2"),
    ("a{0}b", b"ab", "1-2"),
    ("(a)(?<n>b)(?'m'c)(?P<k>d)\\k<n>\\k'm'\\k{k}(?P=n)", b"abcdbcdb", "0-8 0-1 1-2 2-3 3-4"),
    ("(a)(b)\\g2\\g{1}\\g{-1}\\g{n}(?<n>c)?", b"abbab", "no"),
    ("(a)(b)\\g2\\g{1}\\g{-1}", b"abbab", "0-5 0-1 1-2"),
    ("(?i)a(?-i)b", b"Ab", "0-2"),
    ("(?i)a(?-i)b", b"AB", "no"),
    ("(?i:a)b", b"Ab", "0-2"),
    ("(?:a(?i)b|c)d", b"Cd", "0-2"),
    ("(?:a(?i)b)c", b"aBC", "no"),
    ("(?s).+", b"a\nb", "0-3"),
    ("(?x) a b # c\n d [ ]", b"abd ", "0-4"),
    ("(?xx)[a b]+", b"a b", "0-1"),
    ("a(?#no)+b", b"aab", "0-3"),
    ("(?x)a + +", b"aa", "0-2"),
    ("(?U)a+", b"aaa", "0-1"),
    ("(?U)a+?", b"aaa", "0-3"),
    ("(?n)(a)(?<x>b)", b"ab", "0-2 1-2"),
    ("(?^)a", b"A", "no"),
    ("foo\\Kbar", b"foobar", "3-6"),
    ("(?:a\\Kb|ac)", b"ac", "0-2"),
];

/// What PCRE1 takes and PCRE2 refuses or reads otherwise.
pub(super) const PCRE1: &[Row] = &[
    ("[\\w-.]+", b"a-b.c!", "0-5"),
    ("[a-\\d]+", b"a-9b", "0-3"),
    ("\\y\\-\\/", b"y-/", "0-3"),
    ("a{,3}", b"a{,3}", "0-5"),
    ("a{ 1 }{", b"a{ 1 }{", "0-7"),
];

/// Which of several ways is found.
pub(super) const BACKTRACKING: &[Row] = &[
    ("a*ab", b"aaab", "0-4"),
    ("a*?b", b"aab", "0-3"),
    ("<.+?>", b"<a><b>", "0-3"),
    ("<.+>", b"<a><b>c", "0-6"),
    ("a++a", b"aaa", "no"),
    ("a?+a", b"a", "no"),
    ("a{1,2}+a", b"aa", "no"),
    ("(?>a|ab)c", b"abc", "no"),
    ("(?>ab|a)c", b"abc", "0-3"),
    ("(?:a|ab)++c", b"abc", "no"),
    ("(a|ab)(c|bcd)(d*)", b"abcd", "0-4 0-1 1-4 4-4"),
    ("(a|ab){2,3}?", b"aba", "0-3 2-3"),
    ("(?:(a)|b)*", b"ab", "0-2 0-1"),
    ("(?:(a)|(b))+", b"ab", "0-2 0-1 1-2"),
    ("(a)?b|ac", b"ac", "0-2 -"),
    ("(a*)*", b"aa", "0-2 2-2"),
    ("(a*)+", b"b", "0-0 0-0"),
    ("(a|)+b", b"aab", "0-3 2-2"),
    ("(|a)+b", b"aab", "0-3 2-2"),
    ("(?:a?)*?b", b"aab", "0-3"),
    ("(a?){3}", b"aa", "0-2 2-2"),
    ("(a(b)?)+", b"aba", "0-3 2-3 1-2"),
    ("(a\\1|b)+", b"bab", "0-3 1-3"),
    ("(a|b\\1)+", b"aba", "0-3 1-3"),
    ("(?:\\1a|(b))+", b"bba", "0-3 0-1"),
    ("\\1(a)", b"aa", "no"),
    ("(?=(a+))a*b\\1", b"baaabac", "3-6 3-4"),
    ("(?=(a))b|(?:a)", b"a", "0-1 -"),
    ("(?!(a)b)a", b"abac", "2-3 -"),
    ("(?!)|b", b"ab", "1-2"),
    ("(?<=a|bc)d", b"dbcd", "3-4"),
    ("(?<!a)b", b"abb", "2-3"),
    ("(?<=^|/)x", b"ax/x", "3-4"),
    ("(?<=(?<!c)ab{2})c", b"cabbcabbc", "no"),
    ("(?<=(?<!d)ab{2})c", b"cabbc", "4-5"),
    ("(?:(?=(a))a)+b", b"aab", "0-3 1-2"),
    ("((?>a+)b)+c", b"aababc", "0-6 3-5"),
    ("(?:a(?>(b)|c))*d|ab", b"ab", "0-2 -"),
    ("[^x]*x[^x]*y", b"aaxbby", "0-6"),
    (".*?(\\d+)$", b"ab12", "0-4 2-4"),
    // PCRE2
    ("(?-i:c+?)?+c", b"c-a", "no"),
    ("((ab\\s??)*+a)", b"_bcabb", "no"),
    ("([]\\n]+)*+\\n\\w", b"_a_\n_b", "no"),
    ("(?>()|x){0,2}?ab", b"abba", "0-2 -"),
    ("(?=(a\\1|))+", b"a", "0-0 0-1"),
    ("(?=((a\\n|a\\1)|))+", b"a\n", "0-0 0-2 0-2"),
];

#[test]
fn tables() {
    check(true, PATHS);
    check(true, CASELESS);
    check(false, SYNTAX);
    check(false, PCRE1);
    check(false, BACKTRACKING);
}

#[test]
fn names_and_anchors() {
    let regex = Regex::new("^(a)(?<tail>b)|\\A(?:c|^d)", Options::default()).unwrap();
    assert_eq!(regex.group_count(), 2);
    assert_eq!(regex.group_index("tail"), Some(2));
    assert_eq!(regex.group_index("head"), None);
    assert!(regex.is_anchored());
    for (pattern, anchored) in [
        ("^/a", true),
        ("^/a|/b", false),
        ("^/a|^/b", true),
        ("(^/a)+", true),
        ("(^/a)?", false),
        ("(?m)^/a", false),
        ("(?:)^a", true),
        ("(?=a)^a", true),
        ("(?>^)a", true),
        ("a^", false),
        ("", false),
    ] {
        let regex = Regex::new(pattern, Options::default()).unwrap();
        assert_eq!(regex.is_anchored(), anchored, "{pattern:?}");
    }
}

#[test]
fn literal_prefixes() {
    for (pattern, caseless, expected) in [
        ("^/foo/(.*)", true, "/foo/"),
        ("^/Foo\\.Bar/x?", true, "/foo.bar/"),
        ("^/Foo\\.Bar/x?", false, "/Foo.Bar/"),
        ("^/a|/b", true, ""),
        ("^/(a|b)", true, "/"),
        ("^(/a|/b)", true, ""),
        ("^/ab*c", true, "/a"),
        ("^/ab+c", false, "/ab"),
        ("^/ab{2}c", false, "/abbc"),
        ("^/ab{2,3}c", false, "/abb"),
        ("^/a{0}b", false, "/b"),
        ("^/(?:foo/)+bar", false, "/foo/"),
        ("^/(foo)/(?<n>bar)\\d", false, "/foo/bar"),
        ("^/(?!api)foo", false, "/foo"),
        ("^/\\Qa.b\\E/", false, "/a.b/"),
        ("^/[.]x", false, "/.x"),
        ("^/a(?i)b", false, "/a"),
        ("^/a(?i)b", true, "/ab"),
        ("^/a(?-i)B", true, "/ab"),
        ("^/x|", false, ""),
        ("^/?a", false, ""),
        ("^.*", false, ""),
        ("(?x) ^ / a", false, "/a"),
        ("^/(", true, ""),
        ("", true, ""),
    ] {
        let found = literal_prefix(pattern, Options { caseless });
        assert_eq!(String::from_utf8_lossy(&found), expected, "{pattern:?}, caseless {caseless}");
    }
}

#[test]
fn errors() {
    use ErrorKind as K;
    use Unsupported as U;
    for (pattern, at, kind) in [
        ("a(b", 1, K::UnclosedGroup),
        ("(?", 0, K::UnclosedGroup),
        ("(?i", 0, K::UnclosedGroup),
        ("ab)", 2, K::UnopenedGroup),
        ("a[b", 1, K::UnclosedClass),
        ("[]", 0, K::UnclosedClass),
        ("a(?#b", 1, K::UnclosedComment),
        ("*a", 0, K::NothingToRepeat),
        ("a|+", 2, K::NothingToRepeat),
        ("a**", 2, K::NothingToRepeat),
        ("^*", 1, K::NothingToRepeat),
        ("\\b+", 2, K::NothingToRepeat),
        ("(?i)*", 4, K::NothingToRepeat),
        ("(*)", 1, K::NothingToRepeat),
        ("{2}", 0, K::NothingToRepeat),
        ("a{3,2}", 1, K::RepeatOrder),
        ("a{65536}", 1, K::RepeatTooBig),
        ("a{1,99999999999}", 1, K::RepeatTooBig),
        ("[b-a]", 3, K::RangeOrder),
        ("[[:foo:]]", 1, K::UnknownPosixClass),
        ("[[.x.]]", 1, K::UnknownPosixClass),
        ("[:alpha:]", 0, K::PosixOutsideClass),
        ("a\\", 1, K::TrailingBackslash),
        ("\\u0041", 0, K::BadEscape),
        ("[\\R]", 1, K::BadEscape),
        ("\\c\u{e9}", 0, K::BadEscape),
        ("\\N{LATIN}", 0, K::BadEscape),
        ("\\xg", 0, K::BadCode),
        ("\\x{100}", 0, K::BadCode),
        ("\\x{41", 0, K::BadCode),
        ("[\\400]", 1, K::BadCode),
        ("(?<1a>b)", 3, K::BadName),
        ("(?<a-b>c)", 3, K::BadName),
        ("(?<>c)", 3, K::BadName),
        ("(?<a>b)(?<a>c)", 7, K::DuplicateName),
        ("(a)\\2", 3, K::UnknownGroup),
        ("\\g{-1}", 0, K::UnknownGroup),
        ("\\k<a>", 0, K::UnknownGroup),
        ("(?y)", 2, K::UnknownSyntax),
        ("(?i-m-s)", 5, K::UnknownSyntax),
        ("(?<=a+)b", 0, K::LookbehindLength),
        ("(?<=(?:)+)b", 0, K::LookbehindLength),
        ("x(?<!a|(?:b|cd))", 1, K::LookbehindLength),
        ("(?:(?<!ab+|c)x){0}y", 3, K::LookbehindLength),
        ("a(*SKIP)", 1, K::Unsupported(U::Verb)),
        ("(?*a)", 0, K::Unsupported(U::NonAtomicLook)),
        ("(a)?(?(1)b|c)", 4, K::Unsupported(U::Conditional)),
        ("a(?R)?", 1, K::Unsupported(U::Recursion)),
        ("(a)(?-1)", 3, K::Unsupported(U::Recursion)),
        ("(?<n>a)(?P>n)", 7, K::Unsupported(U::Recursion)),
        ("(a)\\g<1>", 3, K::Unsupported(U::Recursion)),
        ("(?|a|b)", 0, K::Unsupported(U::BranchReset)),
        ("(?C1)", 0, K::Unsupported(U::Callout)),
        ("[[:<:]]a", 0, K::Unsupported(U::ExtendedClass)),
        ("(?J)a", 2, K::Unsupported(U::Option)),
        ("\\p{L}", 0, K::Unsupported(U::Unicode)),
        ("(?=a\\K)", 4, K::Unsupported(U::KeepInLook)),
    ] {
        let error = Regex::new(pattern, Options::default()).unwrap_err();
        assert_eq!((error.at(), error.kind()), (at, kind), "{pattern:?}: {error}");
        assert!(error.to_string().starts_with(&format!("byte {at}: ")), "{pattern:?}: {error}");
    }
}

#[test]
fn limits_of_patterns() {
    let kind = |pattern: String| Regex::new(&pattern, Options::default()).map_err(|e: Error| e.kind()).err();
    assert_eq!(kind("a".repeat(MAX_PATTERN)), None);
    assert_eq!(kind("a".repeat(MAX_PATTERN + 1)), Some(ErrorKind::TooLong));
    assert_eq!(kind(format!("{}{}", "(".repeat(100), ")".repeat(100))), None);
    assert_eq!(kind(format!("{}{}", "(".repeat(101), ")".repeat(101))), Some(ErrorKind::TooDeep));
    assert_eq!(kind("(?:ab|c){3000}".into()), Some(ErrorKind::TooLarge));
    assert_eq!(kind("(?:(?:(?:){60000}){60000}){60000}".into()), None);
    assert_eq!(kind("(?:(?:(?:a){60000}b){60000}c){60000}".into()), Some(ErrorKind::TooLarge));
    assert_eq!(kind("()".repeat(4000)), None);
    assert_eq!(kind(format!("(?:{}[ab]){{60}}", "x".repeat(2000))), Some(ErrorKind::TooLarge));
}

#[test]
fn catastrophes_stay_linear() {
    let mut scratch = Scratch::new();
    for pattern in [
        "^(a+)+$",
        "^(a*)*$",
        "^(?:a|a)*$",
        "^(?:a?){30}a{30}b",
        "^(?:(?:a*)*a*)*$",
        "(?:a*?)*?$",
        ".*.*.*.*=",
        "(.*)(.*)(.*)(.*)(.*)x",
        "(?:a{1,}){1,}b",
        "^(?:(a|)*|b)*c",
    ] {
        let regex = Regex::new(pattern, Options::default()).unwrap();
        let mut subject = vec![b'a'; 2_000];
        subject.push(b'!');
        assert_eq!(regex.is_match(&subject, &mut scratch), Ok(pattern == "(?:a*?)*?$"), "{pattern:?}");
    }
}

#[test]
fn a_budget_bounds_what_cannot_remember() {
    let mut scratch = Scratch::new();
    for pattern in ["^(a+)+\\1b", "^(?:(?=a)a|a)*b", "^(?:a(?>a*?)|aa?)+b", "^(a|a)*(?<!a)$"] {
        let regex = Regex::new(pattern, Options::default()).unwrap();
        assert_eq!(regex.is_match(&[b'a'; 100], &mut scratch), Err(LimitExceeded), "{pattern:?}");
        assert_eq!(regex.is_match(b"x", &mut scratch), Ok(false), "{pattern:?} after giving up");
    }
    // Too large to remember, and too deep for the stack.
    let regex = Regex::new("^(?:(a|b)|(c|a))*$", Options::default()).unwrap();
    assert_eq!(regex.is_match(&vec![b'a'; 1 << 20], &mut scratch), Err(LimitExceeded));
    assert_eq!(regex.is_match(&[b'a'; 3_000], &mut scratch), Ok(true));
}

#[test]
fn long_subjects() {
    let mut scratch = Scratch::new();
    let subject = [b"/a/".as_slice(), &vec![b'x'; 60_000], b"/end.html"].concat();
    for (pattern, expected) in
        [("^/a/(.*)/end\\.html$", true), ("^/a/[^/]+/e", true), ("^(/|[a-z])+\\.html", true), ("y", false)]
    {
        let regex = Regex::new(pattern, Options::CASELESS).unwrap();
        assert_eq!(regex.is_match(&subject, &mut scratch), Ok(expected), "{pattern:?}");
    }
}
