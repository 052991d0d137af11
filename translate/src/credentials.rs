//! Lists of users from Secrets: the htpasswd file of `auth-file` and the keys of `auth-map`.

use std::collections::BTreeMap;

use ingress_wasm::config::Credentials;
use ingress_wasm::password::PasswordHash;

use crate::objects::Secret;

/// The key of a Secret that holds an htpasswd file.
const FILE_KEY: &str = "auth";

/// What became of a Secret.
#[derive(Debug)]
pub struct UserList {
    /// The users with a hash that can be verified.
    pub credentials: Credentials,
    /// Entries that cannot, by user or line; never with the hash.
    pub faults: Vec<String>,
}

/// Reads an htpasswd file, `user:hash` with an optional comment behind a further colon, from the key `auth`.
///
/// # Errors
///
/// What is missing in the Secret.
pub fn from_file(secret: &Secret) -> Result<UserList, String> {
    let Some(file) = secret.data.get(FILE_KEY) else {
        let keys: Vec<&str> = secret.data.keys().map(String::as_str).collect();
        return Err(format!("the Secret has no key `{FILE_KEY}`, only: {}", keys.join(", ")));
    };
    let file = String::from_utf8_lossy(file);
    let mut entries = Vec::new();
    let mut faults = Vec::new();
    for (index, line) in file.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':') {
            Some((user, rest)) if !user.is_empty() => {
                let hash = rest.split(':').next().unwrap_or_default();
                entries.push((user.to_owned(), hash.to_owned()));
            }
            _ => faults.push(format!("line {} is not `user:hash`", index + 1)),
        }
    }
    // nginx takes the first line of a user.
    entries.reverse();
    Ok(checked(entries, faults))
}

/// Reads one user per key.
pub fn from_map(secret: &Secret) -> UserList {
    let entry =
        |(user, hash): (&String, &Vec<u8>)| (user.clone(), String::from_utf8_lossy(hash).trim().to_owned());
    checked(secret.data.iter().map(entry).collect(), Vec::new())
}

fn checked(entries: Vec<(String, String)>, mut faults: Vec<String>) -> UserList {
    let mut users = BTreeMap::new();
    for (user, hash) in entries {
        match PasswordHash::parse(&hash) {
            Ok(_) => {
                users.insert(user, hash);
            }
            Err(error) => {
                faults.push(format!("user `{user}` cannot log in: {error}"));
                // nor with what a later line says
                users.remove(&user);
            }
        }
    }
    UserList { credentials: Credentials { users }, faults }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{Metadata, ObjectName};

    fn secret(data: &[(&str, &[u8])]) -> Secret {
        Secret {
            metadata: Metadata {
                name: ObjectName::new("default", "users"),
                annotations: BTreeMap::new(),
                labels: BTreeMap::new(),
                creation_timestamp: String::new(),
                uid: String::new(),
                source: None,
            },
            type_: "Opaque".to_owned(),
            data: data.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect(),
        }
    }

    fn users(list: &UserList) -> Vec<(&str, &str)> {
        list.credentials.users.iter().map(|(user, hash)| (user.as_str(), hash.as_str())).collect()
    }

    #[test]
    fn htpasswd_files() {
        type Users = &'static [(&'static str, &'static str)];
        let cases: [(&str, Users, &[&str]); 13] = [
            ("", &[], &[]),
            ("# nobody\n\n  \n", &[], &[]),
            ("a:{PLAIN}x", &[("a", "{PLAIN}x")], &[]),
            ("a:{PLAIN}x\r\nb:{PLAIN}y\r\n", &[("a", "{PLAIN}x"), ("b", "{PLAIN}y")], &[]),
            ("a:{PLAIN}x:Ada, staff", &[("a", "{PLAIN}x")], &[]),
            ("a:{PLAIN}x\na:{PLAIN}y", &[("a", "{PLAIN}x")], &[]),
            // nginx looks at the first line of a user only.
            ("a:$9$x\na:{PLAIN}y", &[], &["user `a`"]),
            ("a:{PLAIN}x\na:$9$y", &[("a", "{PLAIN}x")], &["user `a`"]),
            ("a", &[], &["line 1"]),
            ("\n:{PLAIN}x", &[], &["line 2"]),
            ("a:", &[], &["user `a`"]),
            ("a:$9$secret", &[], &["user `a`"]),
            ("a:$9$x\nb:{PLAIN}y\nc", &[("b", "{PLAIN}y")], &["line 3", "user `a`"]),
        ];
        for (file, expected, faults) in cases {
            let list = from_file(&secret(&[("auth", file.as_bytes())])).expect(file);
            assert_eq!(users(&list), expected, "{file:?}");
            assert_eq!(list.faults.len(), faults.len(), "{file:?}: {:?}", list.faults);
            for (fault, part) in list.faults.iter().zip(faults) {
                assert!(fault.contains(part), "{file:?}: {fault}");
                assert!(!fault.contains("secret") && !fault.contains("$9$"), "the hash is told: {fault}");
            }
        }
        let list = from_file(&secret(&[("auth", b"a:{PLAIN}x\n\xff\xfe:{PLAIN}y")])).expect("reads");
        assert_eq!(users(&list).first(), Some(&("a", "{PLAIN}x")));
    }

    #[test]
    fn files_that_are_not_there() {
        let error =
            from_file(&secret(&[("users", b"a:{PLAIN}hidden"), ("x", b"")])).expect_err("no key `auth`");
        assert!(error.contains("users, x") && !error.contains("hidden"), "{error}");
        assert!(from_file(&secret(&[])).is_err());
    }

    #[test]
    fn maps_of_users() {
        let list = from_map(&secret(&[("a", b"{PLAIN}x\n"), ("b", b"$9$hidden"), ("c", b"{SHA}")]));
        assert_eq!(users(&list), [("a", "{PLAIN}x")]);
        assert_eq!(list.faults.len(), 2, "{:?}", list.faults);
        assert!(list.faults.iter().all(|fault| !fault.contains("hidden")), "{:?}", list.faults);
    }
}
