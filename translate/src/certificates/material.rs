//! Chains and keys: whether Envoy can serve them, and for which names.
//!
//! Says nothing of what is in a key: not in errors either.

use std::fmt;

use base64::Engine as _;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, RsaKeyPair};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// Why a chain and a key cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// No certificate in the text.
    NoCertificate,
    /// A block of the chain is no certificate; counted from 1.
    BadCertificate(usize),
    /// No private key in the text.
    NoKey,
    /// The key is under a password.
    EncryptedKey,
    /// The certificate's kind of key: neither RSA of 2048 to 4096 bits nor ECDSA on P-256 or P-384.
    KeyKind,
    /// The key is damaged or of a size that cannot be used.
    BadKey,
    /// The key belongs to another certificate.
    KeyMismatch,
    /// No certificate of an authority in the text.
    NoAuthority,
    /// A block of the authorities is no certificate; counted from 1.
    BadAuthority(usize),
    /// The text holds no list of revoked certificates, or something else.
    BadRevocationList,
}

impl fmt::Display for Unusable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::NoCertificate => formatter.write_str("`tls.crt` holds no certificate"),
            Unusable::BadCertificate(number) => {
                write!(formatter, "block {number} of `tls.crt` is no certificate")
            }
            Unusable::NoKey => formatter.write_str("`tls.key` holds no private key"),
            Unusable::EncryptedKey => formatter.write_str("the key is encrypted"),
            Unusable::KeyKind => formatter.write_str(
                "the key is of a kind that cannot be served: RSA of 2048 to 4096 bits and ECDSA on P-256 and P-384 can",
            ),
            Unusable::BadKey => formatter.write_str(
                "the key is damaged, or of a kind that cannot be served: RSA of 2048 to 4096 bits and ECDSA on P-256 and P-384 can",
            ),
            Unusable::NoAuthority => formatter.write_str("`ca.crt` holds no certificate"),
            Unusable::BadAuthority(number) => {
                write!(formatter, "block {number} of `ca.crt` is no certificate")
            }
            Unusable::BadRevocationList => {
                formatter.write_str("`ca.crl` holds something else than lists of revoked certificates")
            }
            Unusable::KeyMismatch => formatter.write_str("the key does not belong to the certificate"),
        }
    }
}

/// The names of the chain's first certificate, if the key belongs to it.
pub fn check(chain: &str, key: &str) -> Result<Vec<String>, Unusable> {
    let mut names = None;
    for (index, block) in Pem::iter_from_buffer(chain.as_bytes()).enumerate() {
        let bad = Unusable::BadCertificate(index + 1);
        let block = block.map_err(|_| bad)?;
        if block.label != "CERTIFICATE" {
            return Err(bad);
        }
        let (rest, certificate) = X509Certificate::from_der(&block.contents).map_err(|_| bad)?;
        if !rest.is_empty() {
            return Err(bad);
        }
        if index == 0 {
            match_key(&certificate, key)?;
            names = Some(names_of(&certificate));
        }
    }
    names.ok_or(Unusable::NoCertificate)
}

/// The certificates of authorities, as PEM and nothing else: Envoy refuses a text with one that it cannot read.
pub fn authorities(text: &[u8]) -> Result<String, Unusable> {
    let mut clean = String::new();
    for (index, block) in Pem::iter_from_buffer(text).enumerate() {
        let bad = Unusable::BadAuthority(index + 1);
        let block = block.map_err(|_| bad)?;
        let whole = X509Certificate::from_der(&block.contents).is_ok_and(|(rest, _)| rest.is_empty());
        if block.label != "CERTIFICATE" || !whole {
            return Err(bad);
        }
        push_pem(&block, &mut clean);
    }
    if clean.is_empty() { Err(Unusable::NoAuthority) } else { Ok(clean) }
}

/// Lists of revoked certificates, as PEM and nothing else.
pub fn revocation_lists(text: &[u8]) -> Result<String, Unusable> {
    let mut clean = String::new();
    for block in Pem::iter_from_buffer(text) {
        let block = block.map_err(|_| Unusable::BadRevocationList)?;
        let whole =
            CertificateRevocationList::from_der(&block.contents).is_ok_and(|(rest, _)| rest.is_empty());
        if block.label != "X509 CRL" || !whole {
            return Err(Unusable::BadRevocationList);
        }
        push_pem(&block, &mut clean);
    }
    if clean.is_empty() { Err(Unusable::BadRevocationList) } else { Ok(clean) }
}

/// Writes a block in lines of 64 characters.
fn push_pem(block: &Pem, text: &mut String) {
    let encoded = base64::engine::general_purpose::STANDARD.encode(&block.contents);
    text.push_str(&format!("-----BEGIN {}-----\n", block.label));
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {}-----\n", block.label));
}

/// The alternative names of type DNS; the common name where there are none.
fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let mut names = Vec::new();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        if let GeneralName::DNSName(name) = name {
            names.push(name.to_ascii_lowercase());
        }
    }
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(str::to_ascii_lowercase));
    }
    names
}

fn match_key(certificate: &X509Certificate<'_>, key: &str) -> Result<(), Unusable> {
    let blocks = Pem::iter_from_buffer(key.as_bytes()).map_while(Result::ok);
    let block =
        blocks.into_iter().find(|block| block.label.ends_with("PRIVATE KEY")).ok_or(Unusable::NoKey)?;
    let public = certificate.public_key();
    let algorithm = &public.algorithm;
    let expected = public.subject_public_key.data.as_ref();
    let kind = block.label.as_str();
    if kind.starts_with("ENCRYPTED") || key.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Unusable::EncryptedKey);
    }
    if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        let pair = match kind {
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&block.contents),
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&block.contents),
            _ => return Err(Unusable::KeyMismatch),
        };
        let pair = pair.map_err(|_| Unusable::BadKey)?;
        return if pair.public_key().as_ref() == expected { Ok(()) } else { Err(Unusable::KeyMismatch) };
    }
    if algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Err(Unusable::KeyKind);
    }
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let (signing, bytes): (&'static EcdsaSigningAlgorithm, usize) = match curve {
        Some(curve) if curve == OID_EC_P256 => (&signature::ECDSA_P256_SHA256_ASN1_SIGNING, 32),
        Some(curve) if curve == OID_NIST_EC_P384 => (&signature::ECDSA_P384_SHA384_ASN1_SIGNING, 48),
        _ => return Err(Unusable::KeyKind),
    };
    let scalar = match kind {
        "EC PRIVATE KEY" => sec1_scalar(&block.contents),
        "PRIVATE KEY" => pkcs8_content(&block.contents).and_then(sec1_scalar),
        _ => return Err(Unusable::KeyMismatch),
    };
    let scalar = scalar.filter(|scalar| scalar.len() <= bytes).ok_or(Unusable::KeyMismatch)?;
    let mut padded = vec![0; bytes - scalar.len()];
    padded.extend_from_slice(scalar);
    // Derives the public key and compares it.
    EcdsaKeyPair::from_private_key_and_public_key(signing, &padded, expected, &SystemRandom::new())
        .map(|_| ())
        .map_err(|_| Unusable::KeyMismatch)
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// The private scalar of an `ECPrivateKey` (RFC 5915).
fn sec1_scalar(der: &[u8]) -> Option<&[u8]> {
    let (content, _) = element(der, SEQUENCE)?;
    let (_version, rest) = element(content, INTEGER)?;
    Some(element(rest, OCTET_STRING)?.0)
}

/// The key inside a `PrivateKeyInfo` (RFC 5958).
fn pkcs8_content(der: &[u8]) -> Option<&[u8]> {
    let (content, _) = element(der, SEQUENCE)?;
    let (_version, rest) = element(content, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    Some(element(rest, OCTET_STRING)?.0)
}

/// The content of the first DER element, if it has this tag, and what comes after it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
