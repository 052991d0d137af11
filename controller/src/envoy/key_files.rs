//! Certificates and their keys in files beside a bootstrap, instead of in it: a bootstrap is copied, committed and shown by
//! Envoy's administration, and keys are not to go with it.

use std::collections::BTreeMap;
use std::path::Path;

use super::pb::{core, tls};

/// The contents of files by their names.
pub type KeyFiles = BTreeMap<String, String>;

/// Takes certificate and key out of a secret, which names the files in this directory instead.
pub(super) fn to_files(secret: &mut tls::Secret, directory: &Path, files: &mut KeyFiles) {
    use core::data_source::Specifier;

    let name = file_name(&secret.name);
    let Some(tls::secret::Type::TlsCertificate(certificate)) = &mut secret.r#type else { return };
    let parts = [("crt", &mut certificate.certificate_chain), ("key", &mut certificate.private_key)];
    for (kind, source) in parts {
        let Some(core::DataSource { specifier: Some(specifier), .. }) = source else { continue };
        let Specifier::InlineString(text) = specifier else { continue };
        let name = format!("{name}.{kind}");
        let path = directory.join(&name).to_string_lossy().into_owned();
        files.insert(name, std::mem::take(text));
        *specifier = Specifier::Filename(path);
    }
}

/// The name of a secret as that of a file: `NAMESPACE_NAME`. Neither of the two can have an underscore.
fn file_name(secret: &str) -> String {
    secret.replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::super::tls::secret;
    use super::*;

    #[test]
    fn keys_go_into_files() {
        let mut files = KeyFiles::new();
        let mut message = secret("shop/tls", "the chain", "the key");
        to_files(&mut message, Path::new("/etc/envoy/keys"), &mut files);
        let expected = [("shop_tls.crt", "the chain"), ("shop_tls.key", "the key")];
        assert_eq!(files, expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into());
        let text = format!("{message:?}");
        assert!(text.contains("/etc/envoy/keys/shop_tls.key") && !text.contains("the key"), "{text}");
    }
}
