//! Knows when every worker of Envoy serves a generation of the plugin configuration.
//!
//! Each worker has a VM of its own and takes a new configuration in its own time. One connection to the
//! probe listener is held open to each; the filter answers on it for the worker that it runs in.
//!
//! Deliberately knows nothing of how a configuration gets to Envoy.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use hyper::Response;
use tokio::time::Instant;

use crate::admin::{CallError, Connection};
use crate::envoy::{Admin, GENERATION_HEADER, VM_HEADER};

/// The pause before workers are asked again that were not ready.
const PAUSE: Duration = Duration::from_millis(5);

/// How long one worker may take to answer a probe.
const ANSWER: Duration = Duration::from_secs(5);

/// Not every worker serves the generation in time.
#[derive(Debug, thiserror::Error)]
#[error("generation {wanted:?} is not served by every worker after {} ms: {last}", waited.as_millis())]
pub struct NotReady {
    /// The generation that was waited for.
    pub wanted: String,
    /// For how long.
    pub waited: Duration,
    /// What was found last.
    pub last: String,
}

/// The workers of one Envoy, with a connection to each.
#[derive(Debug)]
pub struct Workers {
    probe: Admin,
    count: usize,
    connections: Vec<Connection>,
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Served {
    generation: String,
    vm: String,
}

impl Workers {
    /// The workers behind this probe listener, as many as Envoy's concurrency.
    pub fn new(probe: PathBuf, concurrency: NonZeroU32) -> Workers {
        let count = usize::try_from(concurrency.get()).unwrap_or(usize::MAX);
        Workers { probe: Admin::Unix(probe), count, connections: Vec::new() }
    }

    /// Envoy has another number of workers, as after a start with other arguments.
    pub fn set_count(&mut self, concurrency: NonZeroU32) {
        self.count = usize::try_from(concurrency.get()).unwrap_or(usize::MAX);
        self.connections.truncate(self.count);
    }

    /// Whether each of them serves some configuration.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub async fn serve_any(&mut self) -> Result<(), String> {
        self.ask(None).await
    }

    /// Waits until all of them serve `generation`. Gives how long it took. Connections that broke, as when
    /// Envoy was started again, are opened anew.
    ///
    /// # Errors
    ///
    /// [`NotReady`] after `patience`.
    pub async fn serve(&mut self, generation: &str, patience: Duration) -> Result<Duration, NotReady> {
        let start = Instant::now();
        loop {
            let last = match self.ask(Some(generation)).await {
                Ok(()) => return Ok(start.elapsed()),
                Err(last) => last,
            };
            let waited = start.elapsed();
            if waited >= patience {
                return Err(NotReady { wanted: generation.to_owned(), waited, last });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One round; without a generation, any will do. The error says what is missing.
    async fn ask(&mut self, generation: Option<&str>) -> Result<(), String> {
        while self.connections.len() < self.count {
            let connection = Connection::open(&self.probe).await.map_err(|error| error.to_string())?;
            self.connections.push(connection);
        }
        // At once, so that no two connections that are new are taken by the same worker.
        let answers = join_all(self.connections.iter_mut().map(ask_one)).await;
        let mut seen = BTreeSet::new();
        let mut missing = Vec::new();
        let mut answers = answers.into_iter();
        self.connections.retain(|_| match answers.next() {
            Some(Ok(served)) => {
                if generation.map_or(served.generation.is_empty(), |wanted| served.generation != wanted) {
                    missing.push(format!("a worker serves {:?}", served.generation));
                }
                // Two connections to one worker: one is closed, another opened in the next round.
                let is_another = seen.insert(served.vm);
                if !is_another {
                    missing.push("a worker was asked twice".to_owned());
                }
                is_another
            }
            Some(Err(error)) => {
                missing.push(error);
                false
            }
            None => false,
        });
        if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
    }
}

async fn ask_one(connection: &mut Connection) -> Result<Served, String> {
    let answer = tokio::time::timeout(ANSWER, connection.get("/")).await;
    let answer = answer.map_err(|_| format!("no answer to a probe within {} s", ANSWER.as_secs()))?;
    let (head, _) = answer.map_err(|error: CallError| error.to_string())?;
    read(&head)
}

fn read(head: &Response<()>) -> Result<Served, String> {
    let header = |name| head.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    match (header(GENERATION_HEADER), header(VM_HEADER)) {
        (Some(generation), Some(vm)) => Ok(Served { generation, vm }),
        _ => Err(format!("the filter did not answer a probe (status {})", head.status())),
    }
}
