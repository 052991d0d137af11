//! The end: no new requests, then none at all.
//!
//! On SIGTERM `/readyz` says no at once, so that load balancers look elsewhere, and everything goes on as before
//! for the grace period. Then Envoy takes no more connections and tells those that are open to end
//! (`Connection: close`, GOAWAY). When no request is under way any more, or after the drain timeout, Envoy ends,
//! and the controller with it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::admin::{self, CallError};
use crate::envoy::Admin;

/// The pause between looks at requests that are under way.
const PAUSE: Duration = Duration::from_millis(200);

/// For how many looks there have to be none: on a connection that is kept, another may just be on its way.
const QUIET: u32 = 5;

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long requests are taken after the signal.
    pub grace: Duration,
    /// How long requests may take after that.
    pub drain: Duration,
}

/// Drains Envoy's listeners and waits until no request is under way.
pub async fn drain(envoy: &Admin, patience: Duration) {
    if let Err(error) = begin(envoy).await {
        tracing::warn!(%error, "Envoy cannot be told to drain its listeners");
        return;
    }
    tracing::info!(seconds = patience.as_secs(), "draining listeners");
    let began = Instant::now();
    let mut quiet = 0;
    while quiet < QUIET {
        match requests(envoy).await {
            Ok(0) => quiet += 1,
            Ok(requests) if began.elapsed() >= patience => {
                tracing::warn!(requests, "requests are still under way and are broken off");
                return;
            }
            Ok(_) => quiet = 0,
            Err(error) => {
                tracing::warn!(%error, "Envoy does not say what is under way");
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    tracing::info!(seconds = began.elapsed().as_secs_f64(), "no request is under way any more");
}

async fn begin(envoy: &Admin) -> Result<(), CallError> {
    // From now on answers say that the connection ends with them.
    admin::post(envoy, "/healthcheck/fail").await?;
    admin::post(envoy, "/drain_listeners").await?;
    Ok(())
}

/// Has an Envoy end that is not a child of this process: one whose listeners are drained is of no use to a
/// controller that is started anew beside it.
pub async fn quit(envoy: &Admin) {
    if let Err(error) = admin::post(envoy, "/quitquitquit").await {
        tracing::debug!(%error, "Envoy is not there to be ended");
    }
}

/// How many requests of clients are under way.
async fn requests(envoy: &Admin) -> Result<u64, CallError> {
    let body = admin::get(envoy, "/stats?format=json&filter=downstream_rq_active$").await?;
    let answer: Value =
        serde_json::from_slice(&body).map_err(|error| CallError::Answer(error.to_string()))?;
    let stats = answer.get("stats").and_then(Value::as_array).into_iter().flatten();
    let of_clients = stats.filter(|stat| {
        let name = stat.get("name").and_then(Value::as_str).unwrap_or("");
        // The question itself is one of the admin interface, and probes are of no concern.
        name.starts_with("http.") && !name.contains("admin") && !name.contains("probe")
    });
    Ok(of_clients.filter_map(|stat| stat.get("value").and_then(Value::as_u64)).sum())
}
