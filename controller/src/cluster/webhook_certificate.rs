//! The certificate of the admission webhook: from files, or made here, kept in a Secret that all replicas share
//! and told to the API server by the `caBundle` of the ValidatingWebhookConfiguration.
//!
//! What is made is renewed a month before it ends. The bundle then has the authority before it as well, until the
//! next renewal: replicas that still show the certificate before go on being trusted. A Secret without the
//! annotation that tells when it ends is somebody else's (cert-manager's, say) and used as it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp, tz::TimeZone};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often it is looked whether anything has changed: in files, and at the API server.
const PERIOD_OF_FILES: Duration = Duration::from_secs(2);
const PERIOD: Duration = Duration::from_secs(15);

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a certificate holds.
const VALIDITY: SignedDuration = SignedDuration::from_hours(24 * 365);

/// How long before its end it is renewed.
const RENEWAL: SignedDuration = SignedDuration::from_hours(24 * 30);

/// When the certificate of a Secret ends.
const ENDS: &str = "ingress-wasm.io/certificate-ends";

/// Which Service it is for.
const SERVICE: &str = "ingress-wasm.io/certificate-service";

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Files, read again when they change.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Made here.
    Made {
        /// The namespace of Secret and Service.
        namespace: String,
        /// The Secret.
        secret: String,
        /// The Service by which the API server reaches the webhook.
        service: String,
        /// The ValidatingWebhookConfiguration.
        configuration: String,
    },
}

/// What is in a Secret. Never shown.
#[derive(Clone, PartialEq, Eq)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<u8>,
}

/// Keeps the certificate current. The first one is awaited by whoever holds the receiver.
pub fn follow(client: Client, origin: Origin) -> watch::Receiver<Option<Arc<ServerConfig>>> {
    let (config, follow) = watch::channel(None);
    tokio::spawn(async move {
        let mut held: Option<Pair> = None;
        let mut said = String::new();
        let mut look = tokio::time::interval(match origin {
            Origin::Files { .. } => PERIOD_OF_FILES,
            Origin::Made { .. } => PERIOD,
        });
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            let current = tokio::time::timeout(PATIENCE, current(&client, &origin)).await;
            let outcome = current
                .unwrap_or_else(|_| Err(anyhow!("the API server does not answer in time")))
                .and_then(|(pair, told)| {
                    if held.as_ref() != Some(&pair) {
                        // Where the API server does not know of a new one, the one before goes on being shown.
                        if held.is_none() || told.is_ok() {
                            config.send_replace(Some(Arc::new(server_config(&pair)?)));
                            tracing::info!("the admission webhook has a certificate");
                            held = Some(pair);
                        }
                    }
                    told
                });
            match outcome {
                Ok(()) => said.clear(),
                Err(error) => say(&mut said, &error),
            }
            if held.is_none() {
                // At first it is soon tried again.
                look.reset_after(Duration::from_secs(2));
            }
        }
    });
    follow
}

fn say(said: &mut String, error: &anyhow::Error) {
    let error = format!("{error:#}");
    if *said != error {
        tracing::warn!(
            error,
            "the certificate of the admission webhook cannot be had or renewed: tried again"
        );
        *said = error;
    }
}

/// The certificate as it is to be, and whether the API server trusts it.
async fn current(client: &Client, origin: &Origin) -> anyhow::Result<(Pair, anyhow::Result<()>)> {
    match origin {
        Origin::Files { certificate, key } => {
            let read = |path: &PathBuf| {
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
            };
            let pair = Pair { certificate: read(certificate)?, key: read(key)?, authorities: Vec::new() };
            Ok((pair, Ok(())))
        }
        Origin::Made { namespace, secret, service, configuration } => {
            let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
            let pair = of_secret(&secrets, secret, namespace, service).await?;
            let told = tell(client, configuration, &pair.authorities).await;
            Ok((pair, told))
        }
    }
}

/// What the Secret holds; made or renewed first where need be.
async fn of_secret(
    secrets: &Api<Secret>,
    name: &str,
    namespace: &str,
    service: &str,
) -> anyhow::Result<Pair> {
    let held = secrets.get_opt(name).await.with_context(|| format!("cannot read Secret {name}"))?;
    let Some(held) = held else {
        let pair = make(namespace, service, &[])?;
        let made = secrets.create(&PostParams::default(), &as_secret(name, service, &pair, None)).await;
        return match made {
            Ok(_) => Ok(pair),
            // Another replica was faster: what it made is read the next time.
            Err(error) => Err(error).with_context(|| format!("cannot make Secret {name}")),
        };
    };
    let held_pair = pair_of(&held);
    let annotations = held.metadata.annotations.clone().unwrap_or_default();
    let Some(ends) = annotations.get(ENDS) else {
        return held_pair
            .with_context(|| format!("Secret {name} has no tls.crt and tls.key, and is not made here"));
    };
    let is_fresh = ends.parse::<Timestamp>().is_ok_and(|ends| ends > Timestamp::now() + RENEWAL)
        && annotations.get(SERVICE).map(String::as_str) == Some(service);
    match held_pair {
        Some(pair) if is_fresh && server_config(&pair).is_ok() => Ok(pair),
        before => {
            let authorities = before.map(|pair| pair.authorities).unwrap_or_default();
            let pair = make(namespace, service, &authorities)?;
            let renewed = as_secret(name, service, &pair, held.metadata.resource_version);
            secrets
                .replace(name, &PostParams::default(), &renewed)
                .await
                .with_context(|| format!("cannot renew Secret {name}"))?;
            tracing::info!(secret = name, "the certificate of the admission webhook is renewed");
            Ok(pair)
        }
    }
}

fn pair_of(secret: &Secret) -> Option<Pair> {
    let data = secret.data.as_ref()?;
    let bytes = |key: &str| data.get(key).map(|value| value.0.clone());
    Some(Pair {
        certificate: bytes("tls.crt")?,
        key: bytes("tls.key")?,
        authorities: bytes("ca.crt").unwrap_or_default(),
    })
}

fn as_secret(name: &str, service: &str, pair: &Pair, version: Option<String>) -> Secret {
    let ends = (Timestamp::now() + VALIDITY).to_string();
    let annotations = [(ENDS.to_owned(), ends), (SERVICE.to_owned(), service.to_owned())];
    let data = [("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", &pair.authorities)];
    let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.clone())));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            annotations: Some(BTreeMap::from(annotations)),
            resource_version: version,
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(BTreeMap::from(data)),
        ..Secret::default()
    }
}

/// An authority of its own, and a certificate for the Service by it. The newest of the authorities before stays
/// trusted.
fn make(namespace: &str, service: &str, before: &[u8]) -> anyhow::Result<Pair> {
    let day = |time: Timestamp| {
        let date = time.to_zoned(TimeZone::UTC).date();
        let part = |part: i8| u8::try_from(part).unwrap_or(1);
        rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    let now = Timestamp::now();
    let (begins, ends) =
        (day(now - SignedDuration::from_hours(24)), day(now + VALIDITY + SignedDuration::from_hours(24)));

    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    // Named by its time, so that two in one bundle are told apart.
    authority
        .distinguished_name
        .push(DnType::CommonName, format!("ingress-wasm admission {}", now.as_second()));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (authority.not_before, authority.not_after) = (begins, ends);
    let authority_certificate = authority.self_signed(&authority_key)?;

    let key = KeyPair::generate()?;
    let names = ["", ".cluster.local"].map(|domain| format!("{service}.{namespace}.svc{domain}"));
    let mut leaf = CertificateParams::new(names.to_vec())?;
    leaf.distinguished_name.push(DnType::CommonName, service);
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (begins, ends);
    let certificate = leaf.signed_by(&key, &Issuer::from_params(&authority, &authority_key))?;

    let mut authorities = authority_certificate.pem();
    let before = String::from_utf8_lossy(before);
    if let Some(end) = before.find("-----END CERTIFICATE-----") {
        authorities.push_str(before.get(..end).unwrap_or_default().trim_start());
        authorities.push_str("-----END CERTIFICATE-----\n");
    }
    Ok(Pair {
        certificate: certificate.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
        authorities: authorities.into_bytes(),
    })
}

/// Has the API server trust the authorities.
async fn tell(client: &Client, name: &str, authorities: &[u8]) -> anyhow::Result<()> {
    if authorities.is_empty() {
        // The Secret of somebody else, who tells the API server by himself.
        return Ok(());
    }
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let held = configurations
        .get_opt(name)
        .await
        .with_context(|| format!("cannot read ValidatingWebhookConfiguration {name}"))?;
    let Some(mut held) = held else {
        bail!("there is no ValidatingWebhookConfiguration {name}: make one, or name another");
    };
    let mut news = false;
    for webhook in held.webhooks.iter_mut().flatten() {
        let bundle = ByteString(authorities.to_vec());
        if webhook.client_config.ca_bundle.as_ref() != Some(&bundle) {
            webhook.client_config.ca_bundle = Some(bundle);
            news = true;
        }
    }
    if news {
        configurations
            .replace(name, &PostParams::default(), &held)
            .await
            .with_context(|| format!("cannot write the caBundle of ValidatingWebhookConfiguration {name}"))?;
        tracing::info!(configuration = name, "the API server is told to trust the admission webhook");
    }
    Ok(())
}

fn server_config(pair: &Pair) -> anyhow::Result<ServerConfig> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pair.certificate)
        .collect::<Result<_, _>>()
        .context("the certificate is no PEM")?;
    let key = PrivateKeyDer::from_pem_slice(&pair.key).context("the key is no PEM")?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("certificate and key cannot be used")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_can_be_served_and_trusts_the_one_before() {
        let first = make("edge", "admission", &[]).expect("made");
        assert!(server_config(&first).is_ok());
        let second = make("edge", "admission", &first.authorities).expect("made");
        let bundle = String::from_utf8(second.authorities.clone()).expect("text");
        let first_authority = String::from_utf8(first.authorities.clone()).expect("text");
        assert!(bundle.contains(first_authority.trim()), "{bundle}");
        let third = make("edge", "admission", &second.authorities).expect("made");
        let bundle = String::from_utf8(third.authorities).expect("text");
        assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2, "{bundle}");
        assert!(!bundle.contains(first_authority.trim()), "it grows without bound");
        let crossed = Pair { key: second.key, ..first };
        assert!(server_config(&crossed).is_err());
    }
}
