#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::{Format, InvalidPasswordHash, PasswordHash, VerifiedCache};

/// Stands for [`long`] in the table of vectors.
const LONG: &[u8] = b"LONG";

/// Two hundred digits, as the vectors have them.
fn long() -> Vec<u8> {
    (0..200).map(|index| b'0' + index % 10).collect()
}

/// Made with htpasswd 2.4.71, `openssl passwd` and libxcrypt's `crypt`.
fn vectors() -> Vec<(Format, &'static str, Vec<u8>)> {
    use Format::*;
    let table: [(Format, &str, &[u8]); 42] = [
        (Bcrypt, "$2y$05$4qXyGYRf4ictlmjc.ORZT.o7MYWIlsg2yp5QeU.H8azOZ1nYSn0YW", b"secret"),
        (Bcrypt, "$2y$04$O7yLUN11xM.VY.SOAB5AOe0ESpBwqmKoaHGkfTNqIqmFCTQG2lA8O", b""),
        (Bcrypt, "$2y$04$Lkoe7Dw3MbTpKUz4fhdkmu3YyVE1iW8wcX2tZu4vJgY.9Okqr4DYK", "pässwörd".as_bytes()),
        (Bcrypt, "$2y$04$ahRBmQ4KW85bnxSL46DUo.9Ojro99nJej5UiPIfimtxQ8Q.Is5Nxa", &[b'a'; 72]),
        (Bcrypt, "$2y$04$ahRBmQ4KW85bnxSL46DUo.9Ojro99nJej5UiPIfimtxQ8Q.Is5Nxa", &[b'a'; 73]),
        (Bcrypt, "$2y$04$ahRBmQ4KW85bnxSL46DUo.9Ojro99nJej5UiPIfimtxQ8Q.Is5Nxa", &[b'a'; 511]),
        (Bcrypt, "$2b$04$abcdefghijklmnopqrstuu5FfXk1eFWXC7aN/fIBM3vUuC450abfK", b"\xff\xfe\x80"),
        (Bcrypt, "$2a$04$abcdefghijklmnopqrstuu5FfXk1eFWXC7aN/fIBM3vUuC450abfK", b"\xff\xfe\x80"),
        (Bcrypt, "$2b$04$abcdefghijklmnopqrstuuPp7HPfoAs8I2dCQCQ/fW7zEJv8I8C8e", b"x"),
        (Apr1, "$apr1$XPPFIjA9$zY/uORd3a0wNqUN2.t38V1", b"secret"),
        (Apr1, "$apr1$qe3FPXiP$4JSZTUialZ6xT9/yDBbN0/", b""),
        (Apr1, "$apr1$.s76CrBd$unoEfVMwMQMWV9JDzqaso0", LONG),
        (Apr1, "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0", b"secret"),
        (Apr1, "$apr1$xy$43..WIhbfuznGvwoCyUek/", b""),
        (Apr1, "$apr1$saltsalt$uyLUoTVztDpNdZNrSOdum/", LONG),
        (Md5Crypt, "$1$saltsalt$9xy1btjgzLYfb7hivXtC//", b"secret"),
        (Md5Crypt, "$1$xy$JSgu5Zv4igzK2ULm5nTM30", b""),
        (Md5Crypt, "$1$saltsalt$y.mmLwX1NHrbYzt86MHFs/", LONG),
        (Md5Crypt, "$1$abc$8paHhI8.Lwr1SSDv9594.1", b"\xff\xfe\x80"),
        (Sha, "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", b"secret"),
        (Sha, "{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=", b""),
        (SaltedSha, "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0", b"secret"),
        (Plain, "{PLAIN}secret", b"secret"),
        (Plain, "{PLAIN}", b""),
        (DesCrypt, "zRq4qlAduORVg", b"secret"),
        (DesCrypt, "abNANd1rDfiNc", b"secret"),
        (DesCrypt, "abmF1QH4PEr.E", b""),
        (DesCrypt, "zZb64kacvY9KA", b"longer than eight"),
        (DesCrypt, "zZb64kacvY9KA", b"longer t"),
        (DesCrypt, "./vYBXr45rAoM", "pässwörd".as_bytes()),
        (DesCrypt, "abVJkGGfiVrlE", b"\xff\xfe\x80"),
        (Sha256Crypt, "$5$jWA5.7VW63fyw41H$U.tGAZ6mwbZFd0PLvIIHfz/cwOtIObDt77.cZSi8s53", b"secret"),
        (Sha256Crypt, "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA", b"secret"),
        (Sha256Crypt, "$5$saltsalt$WByRiweX9laPeC3jXCRgmVEmQvam8jEH65RUMKMYm93", LONG),
        (Sha256Crypt, "$5$rounds=1000$saltstring$AH5PD0i.riCRu4BNDy9v7OPV7u3dfLBApcXI6khquVA", b"secret"),
        (
            Sha256Crypt,
            "$5$rounds=1000$0123456789abcdef$H2qGeI1IfggqPbmlRs9xfCArkv1HknaUrz/TI4AL/g/",
            &[b'a'; 64],
        ),
        (
            Sha512Crypt,
            "$6$rounds=2000$2QXFlgUbZ.0YirTJ$5qynDRi5x.RQLBi84j6n1UP8VHGUQArbsop.oTNVoF6XLaZ/Fi6bmYoiokE7h/uSHzxda9TGLf.OMWsqYTa5U0",
            b"secret",
        ),
        (
            Sha512Crypt,
            "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1",
            b"secret",
        ),
        (
            Sha512Crypt,
            "$6$saltsalt$OPGMaSxtAB3FYPKoH7xnnMfCbg0ldVI8N./8kbXbGXKMM6x5ULLG50vOy2yHBkyqQN48hPAF/Vak13RyieUCJ.",
            LONG,
        ),
        (
            Sha512Crypt,
            "$6$$/chiBau24cE26QQVW3IfIe68Xu5.JQ4E8Ie7lcRLwqxO5cxGuBhqF2HmTL.zWJ9zjChg3yJYFXeGBQ2y3Ba1d1",
            b"",
        ),
        (
            Sha512Crypt,
            "$6$abc$iS7aW7wxv3IdbZHIlyWibIJu4IGXhIz/Qf4p71rc1FpcRUesGfZ6bkkoFR3yZoKxE2QtKHAhueSUisSD2q/gN0",
            b"\xff\xfe\x80",
        ),
        (
            Sha512Crypt,
            "$6$abc$ih9MLXzdBdejhxiNARhJC1fLdFQzFfgdxxbuoTIgOIAv21s5ek4cUlGdNonKnOhCL2roZzZOzcCtbkFyZLp651",
            &[b'x'; 511],
        ),
    ];
    table
        .into_iter()
        .map(|(format, hash, password)| {
            let password = if password == LONG { long() } else { password.to_vec() };
            (format, hash, password)
        })
        .collect()
}

#[test]
fn right_and_wrong_passwords() {
    for (format, text, password) in vectors() {
        let hash = PasswordHash::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(hash.format(), format, "{text}");
        assert_eq!(
            hash.is_slow(),
            !matches!(format, Format::Plain | Format::Sha | Format::SaltedSha),
            "{text}"
        );
        assert!(hash.verify(&password), "{text}");
        let mut other_case = password.clone();
        if let Some(first) = other_case.first_mut() {
            *first ^= 0x20;
        }
        let wrong: [&[u8]; 2] = [b"wrong", &other_case];
        for wrong in wrong.into_iter().filter(|wrong| *wrong != password) {
            assert!(!hash.verify(wrong), "{text} takes {wrong:?}");
        }
        assert!(!hash.verify(&[b'x'; 1022]), "{text} takes twice as much as any bound");
    }
}

#[test]
fn a_password_ends_at_its_first_nul() {
    for text in ["{PLAIN}secret", "abNANd1rDfiNc", "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0"] {
        let hash = PasswordHash::parse(text).expect("valid");
        assert!(hash.verify(b"secret\0more"), "{text}");
        assert!(!hash.verify(b"\0secret"), "{text}");
    }
}

#[test]
fn lengths_at_the_bounds() {
    let hash = |text| PasswordHash::parse(text).expect("valid");
    let bcrypt = hash("$2y$04$ahRBmQ4KW85bnxSL46DUo.9Ojro99nJej5UiPIfimtxQ8Q.Is5Nxa");
    assert!(!bcrypt.verify(&[b'a'; 71]));
    assert!(!bcrypt.verify(&[b'a'; 512]));
    let sha =
        hash("$6$abc$ih9MLXzdBdejhxiNARhJC1fLdFQzFfgdxxbuoTIgOIAv21s5ek4cUlGdNonKnOhCL2roZzZOzcCtbkFyZLp651");
    assert!(!sha.verify(&[b'x'; 510]));
    assert!(!sha.verify(&[b'x'; 512]));
    assert!(!hash("zZb64kacvY9KA").verify(b"longer "), "DES counts eight characters");
}

#[test]
fn no_hash_to_verify_against() {
    use Format::*;
    use InvalidPasswordHash::*;
    let digest22 = "a".repeat(22);
    let digest43 = "a".repeat(43);
    let digest86 = "a".repeat(86);
    let salted = format!("abcdefghijklmnopqrstuu{}", "a".repeat(30) + "e");
    let cases: Vec<(String, InvalidPasswordHash)> = vec![
        ("".into(), Empty),
        ("secret".into(), UnknownFormat),
        ("*".into(), UnknownFormat),
        ("abNANd1rDfiNcX".into(), UnknownFormat),
        ("ab:ANd1rDfiNc".into(), UnknownFormat),
        ("_J9..K0AyUubLXmC1Rq".into(), UnknownFormat),
        ("$y$j9T$abc$def".into(), UnknownFormat),
        ("$argon2id$v=19$m=1,t=1,p=1$a$b".into(), UnknownFormat),
        ("$2x$05$abcdefghijklmnopqrstuuPp7HPfoAs8I2dCQCQ/fW7zEJv8I8C8e".into(), UnknownFormat),
        ("{MD5}abc".into(), UnknownFormat),
        ("{sha}5en6G6MezRroT3XKqkdPOmY/BfQ=".into(), UnknownFormat),
        ("{SHA}".into(), Malformed(Sha)),
        ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ".into(), Malformed(Sha)),
        ("{SHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0".into(), Malformed(Sha)),
        ("{SSHA}AAAA".into(), Malformed(SaltedSha)),
        ("{SSHA}%".into(), Malformed(SaltedSha)),
        ("$apr1$".into(), Malformed(Apr1)),
        (format!("$apr1$123456789${digest22}"), Malformed(Apr1)),
        (format!("$apr1$salt${digest22}a"), Malformed(Apr1)),
        (format!("$1$salt${}!", &digest22[1..]), Malformed(Md5Crypt)),
        (format!("$5$12345678901234567${digest43}"), Malformed(Sha256Crypt)),
        (format!("$5$salt${digest43}a"), Malformed(Sha256Crypt)),
        (format!("$5$rounds=999$salt${digest43}"), Malformed(Sha256Crypt)),
        (format!("$5$rounds=05000$salt${digest43}"), Malformed(Sha256Crypt)),
        (format!("$5$rounds=$salt${digest43}"), Malformed(Sha256Crypt)),
        (format!("$5$rounds=+5000$salt${digest43}"), Malformed(Sha256Crypt)),
        (format!("$6$rounds=1000001$salt${digest86}"), TooSlow(Sha512Crypt)),
        (format!("$6$rounds=99999999999999999999$salt${digest86}"), TooSlow(Sha512Crypt)),
        (format!("$6$salt${digest43}"), Malformed(Sha512Crypt)),
        (format!("$2y$16${salted}"), TooSlow(Bcrypt)),
        (format!("$2y$31${salted}"), TooSlow(Bcrypt)),
        (format!("$2y$32${salted}"), Malformed(Bcrypt)),
        (format!("$2y$03${salted}"), Malformed(Bcrypt)),
        (format!("$2y$5${salted}"), Malformed(Bcrypt)),
        (format!("$2y$05${salted}a"), Malformed(Bcrypt)),
        (format!("$2y$05${}", salted.replace("uu", "u~")), Malformed(Bcrypt)),
        ("$2y$05$ääääääääääääääääääääääääääääääää".into(), Malformed(Bcrypt)),
        ("$2y$".into(), Malformed(Bcrypt)),
    ];
    for (text, expected) in cases {
        let error = PasswordHash::parse(&text).expect_err(&text);
        assert_eq!(error, expected, "{text}");
        assert!(text.len() < 8 || !format!("{error} {error:?}").contains(&text[5..]), "{text}: {error}");
    }
    let highest = [format!("$6$rounds=1000000$salt${digest86}"), format!("$2y$15${salted}")];
    for text in highest {
        assert!(PasswordHash::parse(&text).is_ok(), "{text}");
    }
}

#[test]
fn debug_shows_the_format_alone() {
    for (format, text, _) in vectors() {
        let hash = PasswordHash::parse(text).expect("valid");
        assert_eq!(format!("{hash:?}"), format!("PasswordHash({format})"), "{text}");
    }
}

#[test]
fn no_text_makes_it_panic() {
    let markers = [
        "",
        "$apr1$",
        "$1$",
        "$5$",
        "$6$",
        "$5$rounds=",
        "$2y$04$",
        "$2a$",
        "{SHA}",
        "{SSHA}",
        "{PLAIN}",
        "ab",
    ];
    let alphabet: Vec<char> = "./09AZaz$={}é\0+".chars().collect();
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..5_000 {
        let mut text = markers[random(markers.len())].to_owned();
        text.extend((0..random(60)).map(|_| alphabet[random(alphabet.len())]));
        if let Ok(hash) = PasswordHash::parse(&text) {
            assert!(!hash.verify(b"\xffnot it"), "{text}");
        }
    }
}

#[test]
fn what_was_verified_is_remembered() {
    let mut cache = VerifiedCache::new([7; 32]);
    cache.remember(1, b"alice", b"secret", 1_000);
    // credentials, user, password, time, whether it is held
    type Case = (u64, &'static [u8], &'static [u8], u64, bool);
    let cases: [Case; 9] = [
        (1, b"alice", b"secret", 1_000, true),
        (1, b"alice", b"secret", 60_999, true),
        (1, b"alice", b"secret", 61_000, false),
        (1, b"alice", b"secret", 999, false),
        (2, b"alice", b"secret", 1_000, false),
        (1, b"bob", b"secret", 1_000, false),
        (1, b"alice", b"wrong", 1_000, false),
        (1, b"alices", b"ecret", 1_000, false),
        (1, b"", b"alicesecret", 1_000, false),
    ];
    for (credentials, user, password, now, expected) in cases {
        let held = cache.contains(credentials, user, password, now);
        assert_eq!(held, expected, "{credentials} {user:?} {password:?} at {now}");
    }
    cache.clear();
    assert!(!cache.contains(1, b"alice", b"secret", 1_000));
}

#[test]
fn remembering_again_does_not_prolong() {
    let mut cache = VerifiedCache::new([7; 32]);
    cache.remember(1, b"alice", b"secret", 0);
    cache.remember(1, b"alice", b"secret", 59_999);
    assert!(!cache.contains(1, b"alice", b"secret", 60_000));
    cache.remember(1, b"alice", b"secret", 60_000);
    assert!(cache.contains(1, b"alice", b"secret", 119_999));
}

#[test]
fn the_oldest_goes_first() {
    let mut cache = VerifiedCache::with_limits([7; 32], 3, 1_000);
    for user in [b"a", b"b", b"c", b"d"] {
        cache.remember(1, user, b"x", 0);
    }
    let held: Vec<bool> =
        [b"a", b"b", b"c", b"d"].into_iter().map(|user| cache.contains(1, user, b"x", 1)).collect();
    assert_eq!(held, [false, true, true, true]);
    assert_eq!(format!("{cache:?}"), "VerifiedCache(3 of 3)");
    cache.remember(1, b"e", b"x", 2_000);
    assert_eq!(format!("{cache:?}"), "VerifiedCache(1 of 3)", "what expired makes room");

    let mut none = VerifiedCache::with_limits([7; 32], 0, 1_000);
    none.remember(1, b"a", b"x", 0);
    assert!(!none.contains(1, b"a", b"x", 0));
}
