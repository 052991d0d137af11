//! Lists of ciphers in OpenSSL's form, as far as BoringSSL has them: names, families (`HIGH`, `ECDHE+AESGCM`), and the
//! signs before them. Ciphers of TLS 1.3 are in no such list: they are always on.
//!
//! Deliberately knows nothing of where a list stands.

/// A cipher of TLS before 1.3.
struct Cipher {
    /// OpenSSL's name.
    name: &'static str,
    /// The families that it belongs to, by OpenSSL's names.
    families: &'static [&'static str],
}

macro_rules! ciphers {
    ($($name:literal: $($family:literal)*;)*) => {
        &[$(Cipher { name: $name, families: &[$($family),*] }),*]
    };
}

/// What BoringSSL has, in the order in which OpenSSL takes them of a family.
const CIPHERS: &[Cipher] = ciphers! {
    "ECDHE-ECDSA-AES256-GCM-SHA384": "ECDHE" "ECDSA" "AES" "AES256" "AESGCM" "SHA384" "TLSv1.2";
    "ECDHE-RSA-AES256-GCM-SHA384": "ECDHE" "aRSA" "AES" "AES256" "AESGCM" "SHA384" "TLSv1.2";
    "ECDHE-ECDSA-CHACHA20-POLY1305": "ECDHE" "ECDSA" "CHACHA20" "TLSv1.2";
    "ECDHE-RSA-CHACHA20-POLY1305": "ECDHE" "aRSA" "CHACHA20" "TLSv1.2";
    "ECDHE-ECDSA-AES128-GCM-SHA256": "ECDHE" "ECDSA" "AES" "AES128" "AESGCM" "SHA256" "TLSv1.2";
    "ECDHE-RSA-AES128-GCM-SHA256": "ECDHE" "aRSA" "AES" "AES128" "AESGCM" "SHA256" "TLSv1.2";
    "ECDHE-ECDSA-AES256-SHA": "ECDHE" "ECDSA" "AES" "AES256" "SHA1" "TLSv1.0";
    "ECDHE-RSA-AES256-SHA": "ECDHE" "aRSA" "AES" "AES256" "SHA1" "TLSv1.0";
    "ECDHE-ECDSA-AES128-SHA": "ECDHE" "ECDSA" "AES" "AES128" "SHA1" "TLSv1.0";
    "ECDHE-RSA-AES128-SHA": "ECDHE" "aRSA" "AES" "AES128" "SHA1" "TLSv1.0";
    "AES256-GCM-SHA384": "kRSA" "aRSA" "AES" "AES256" "AESGCM" "SHA384" "TLSv1.2";
    "AES128-GCM-SHA256": "kRSA" "aRSA" "AES" "AES128" "AESGCM" "SHA256" "TLSv1.2";
    "AES256-SHA": "kRSA" "aRSA" "AES" "AES256" "SHA1" "SSLv3";
    "AES128-SHA": "kRSA" "aRSA" "AES" "AES128" "SHA1" "SSLv3";
};

/// A list as far as it is understood.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CipherList<'a> {
    /// The ciphers, in order of preference, by OpenSSL's names.
    pub ciphers: Vec<&'static str>,
    /// What BoringSSL has not, or nobody; of what is ruled out, nothing.
    pub unknown: Vec<&'a str>,
}

/// Reads a list.
pub(crate) fn cipher_list(text: &str) -> CipherList<'_> {
    let mut list = CipherList::default();
    let mut killed: Vec<&'static str> = Vec::new();
    for word in text.split([':', ',', ' ', '\n']).filter(|word| !word.is_empty()) {
        // Order by strength is the order here; what is too weak for any level BoringSSL has not.
        if word == "@STRENGTH" {
            let order = |name: &&'static str| CIPHERS.iter().position(|cipher| cipher.name == *name);
            list.ciphers.sort_by_key(order);
            continue;
        }
        if word.starts_with("@SECLEVEL=") || word.starts_with("TLS_") {
            continue;
        }
        let (sign, family) = match word.split_at_checked(1) {
            Some((sign @ ("!" | "-" | "+"), rest)) => (sign, rest),
            _ => ("", word),
        };
        let found = members(family);
        // Of what is ruled out there may be none.
        if found.is_empty() && sign.is_empty() {
            list.unknown.push(word);
        }
        let is_one = |name: &&'static str| found.contains(name);
        match sign {
            "" => {
                let news = found.iter().filter(|name| !killed.contains(name));
                let news: Vec<_> = news.filter(|name| !list.ciphers.contains(name)).copied().collect();
                list.ciphers.extend(news);
            }
            "+" => {
                let (moved, kept): (Vec<_>, Vec<_>) = list.ciphers.iter().partition(|name| is_one(name));
                list.ciphers = [kept, moved].concat();
            }
            _ => {
                list.ciphers.retain(|name| !is_one(name));
                if sign == "!" {
                    killed.extend(found);
                }
            }
        }
    }
    list
}

/// The cipher of this name, or those in all of these families, which stand between plus signs.
fn members(text: &str) -> Vec<&'static str> {
    let families: Vec<&str> = text.split('+').collect();
    let is_meant =
        |cipher: &&Cipher| cipher.name == text || families.iter().all(|family| belongs(cipher, family));
    CIPHERS.iter().filter(is_meant).map(|cipher| cipher.name).collect()
}

fn belongs(cipher: &Cipher, family: &str) -> bool {
    let is = |name| cipher.families.contains(&name);
    match family {
        "ALL" | "DEFAULT" | "HIGH" => true,
        "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" => is("ECDHE"),
        "ECDSA" | "aECDSA" => is("ECDSA"),
        "RSA" | "kRSA" => is("kRSA"),
        "SHA" => is("SHA1"),
        // The version that a cipher came with.
        "TLSv1" => is("TLSv1.0"),
        _ => is(family),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let ecdhe_gcm: &[&str] = &[
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
        ];
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("", &[], &[]),
            ("AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256", &["AES128-SHA", "ECDHE-RSA-AES128-GCM-SHA256"], &[]),
            ("AES128-SHA,AES128-SHA AES256-SHA", &["AES128-SHA", "AES256-SHA"], &[]),
            (
                "AES128-SHA:AES256-SHA:!AES128-SHA:AES128-SHA:!aNULL:TLS_AES_128_GCM_SHA256",
                &["AES256-SHA"],
                &[],
            ),
            ("AES128-SHA:AES256-SHA:-AES128-SHA:AES128-SHA", &["AES256-SHA", "AES128-SHA"], &[]),
            ("AES128-SHA:AES256-SHA:+AES128", &["AES256-SHA", "AES128-SHA"], &[]),
            ("AES128-SHA:AES256-SHA:@STRENGTH:@SECLEVEL=1", &["AES256-SHA", "AES128-SHA"], &[]),
            ("EECDH+AESGCM:EDH+AESGCM", ecdhe_gcm, &["EDH+AESGCM"]),
            ("ECDHE+AESGCM:!3DES:!MD5", ecdhe_gcm, &[]),
            ("ECDHE+aRSA+CHACHA20", &["ECDHE-RSA-CHACHA20-POLY1305"], &[]),
            ("HIGH:!ECDHE:!SHA", &["AES256-GCM-SHA384", "AES128-GCM-SHA256"], &[]),
            ("RSA+TLSv1.2", &["AES256-GCM-SHA384", "AES128-GCM-SHA256"], &[]),
            (
                "SSLv3:DHE-RSA-AES128-GCM-SHA256",
                &["AES256-SHA", "AES128-SHA"],
                &["DHE-RSA-AES128-GCM-SHA256"],
            ),
            ("nonsense:!nonsense:+", &[], &["nonsense"]),
        ];
        for (text, ciphers, unknown) in cases {
            let list = cipher_list(text);
            assert_eq!((&*list.ciphers, &*list.unknown), (*ciphers, *unknown), "{text}");
        }
        for all in ["ALL", "DEFAULT", "HIGH:!aNULL:!MD5", "ALL:!EXPORT:+HIGH"] {
            assert_eq!(cipher_list(all).ciphers.len(), CIPHERS.len(), "{all}");
        }
    }
}
