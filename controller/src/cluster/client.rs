//! The connection to the API server.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long an answer may take to begin or go on. Longer than a watch that the server ends by itself
/// ([`super::watches::WATCH_SECONDS`]): an API server that went away without a word is found out by it.
const READ_TIMEOUT: Duration = Duration::from_secs(super::watches::WATCH_SECONDS as u64 + 15);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each names what failed; the sources say how")]
pub enum ClientError {
    #[error("--kubeconfig: {0}")]
    File(#[source] kube::config::KubeconfigError),
    #[error("--apiserver-host: {0:?} is no address, write http://HOST:PORT or https://HOST:PORT")]
    Address(String),
    #[error("neither a kubeconfig nor the service account of a pod is found: {0}")]
    Nowhere(#[source] Box<kube::config::InferConfigError>),
    #[error("cannot make a client of the API server: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// A client by the named file, else by `KUBECONFIG` or `~/.kube/config`, else by the service account of the pod
/// this runs in. `host` takes the place of the address that any of them has.
///
/// # Errors
///
/// [`ClientError`]. That the API server cannot be reached is none.
pub async fn client(kubeconfig: Option<&Path>, host: Option<&str>) -> Result<Client, ClientError> {
    let address = host
        .map(|host| match host.parse::<hyper::Uri>() {
            Ok(uri) if uri.scheme().is_some() && uri.authority().is_some() => Ok(uri),
            _ => Err(ClientError::Address(host.to_owned())),
        })
        .transpose()?;
    let mut config = match (kubeconfig, &address) {
        (Some(path), _) => {
            let file = Kubeconfig::read_from(path).map_err(ClientError::File)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(file, &options).await.map_err(ClientError::File)?
        }
        (None, address) => match (Config::infer().await, address) {
            (Ok(config), _) => config,
            // As with ingress-nginx, an address alone will do.
            (Err(_), Some(address)) => Config::new(address.clone()),
            (Err(error), None) => return Err(ClientError::Nowhere(Box::new(error))),
        },
    };
    if let Some(address) = address {
        config.cluster_url = address;
    }
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|error| ClientError::Client(Box::new(error)))
}
