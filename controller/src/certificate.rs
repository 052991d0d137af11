//! The certificate of the TLS listener: given as PEM, or made for one run.
//!
//! Deliberately knows nothing of Secrets and of which host a certificate is for.

use std::fmt;

/// A certificate chain and its key, both as PEM. The key is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, the server's own certificate first.
    pub chain: String,
    /// The private key.
    pub key: String,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Certificate").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// The self-signed certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a self-signed certificate: {0}")]
pub struct SelfSignedError(#[from] rcgen::Error);

impl Certificate {
    /// A new key and a certificate signed with it, named as the one that ingress-nginx serves where no
    /// other is configured.
    ///
    /// # Errors
    ///
    /// [`SelfSignedError`] where the system has no randomness to give.
    pub fn self_signed() -> Result<Certificate, SelfSignedError> {
        let key = rcgen::KeyPair::generate()?;
        let mut parameters = rcgen::CertificateParams::new(vec!["ingress.local".to_owned()])?;
        let mut subject = rcgen::DistinguishedName::new();
        subject.push(rcgen::DnType::OrganizationName, "Acme Co");
        subject.push(rcgen::DnType::CommonName, "Kubernetes Ingress Controller Fake Certificate");
        parameters.distinguished_name = subject;
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.self_signed(&key)?;
        Ok(Certificate { chain: certificate.pem(), key: key.serialize_pem() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_shown() {
        let certificate = Certificate::self_signed().expect("made");
        assert!(certificate.key.contains("PRIVATE KEY"));
        assert!(certificate.chain.contains("BEGIN CERTIFICATE"));
        assert!(!format!("{certificate:?}").contains("PRIVATE"), "{certificate:?}");
        assert_ne!(certificate, Certificate::self_signed().expect("made again"));
    }
}
