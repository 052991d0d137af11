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
