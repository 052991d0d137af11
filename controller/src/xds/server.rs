//! The server: one task for each stream between Envoy and the publisher.

use std::path::Path;
use std::pin::Pin;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::publisher::{Progress, Publisher, Snapshot, StreamSide, XdsEvent};
use super::stream::{Standing, StreamState};

/// The largest request that is taken, in bytes. An Envoy that comes back names everything it holds.
const MAX_REQUEST: usize = 64 * 1024 * 1024;

/// The server cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("xDS socket {path}: {source}")]
pub struct ServerError {
    path: String,
    source: std::io::Error,
}

/// A running xDS server.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Server {
    /// Serves what `publisher` publishes on a Unix socket that does not exist yet.
    ///
    /// # Errors
    ///
    /// [`ServerError`] where the socket cannot be made.
    pub fn start(socket: &Path, publisher: &Publisher) -> Result<Server, ServerError> {
        let listener = UnixListener::bind(socket)
            .map_err(|source| ServerError { path: socket.display().to_string(), source })?;
        let (stop, mut stopped) = watch::channel(false);
        let service = Service { streams: publisher.streams(), stopped: stopped.clone() };
        let service = AggregatedDiscoveryServiceServer::new(service).max_decoding_message_size(MAX_REQUEST);
        let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            async move {
                let _ = stopped.wait_for(|stopped| *stopped).await;
            },
        );
        Ok(Server { stop, task: tokio::spawn(server) })
    }

    /// Ends all streams and the server.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        match self.task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::warn!("xDS server: {error}"),
            Err(error) => log::warn!("xDS server: {error}"),
        }
    }
}

struct Service {
    streams: StreamSide,
    stopped: watch::Receiver<bool>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only the incremental protocol is served (api_type DELTA_GRPC)"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        // As many as there are kinds can be on their way, and a few more cost nothing.
        let (send, receive) = mpsc::channel(16);
        let connection = Connection {
            id: self.streams.next_stream(),
            node: String::new(),
            streams: self.streams.clone(),
            state: StreamState::default(),
            send,
        };
        tokio::spawn(connection.run(request.into_inner(), self.stopped.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }
}

/// One stream.
struct Connection {
    id: u64,
    node: String,
    streams: StreamSide,
    state: StreamState,
    send: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

impl Connection {
    async fn run(
        mut self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut snapshots = self.streams.snapshots.clone();
        let mut connected = false;
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => break,
                request = requests.message() => match request {
                    Ok(Some(request)) => {
                        if !connected {
                            connected = true;
                            self.node = request.node.as_ref().map_or_else(String::new, |node| node.id.clone());
                            self.tell(XdsEvent::Connected { node: self.node.clone() });
                        }
                        self.request(request);
                    }
                    Ok(None) => break,
                    Err(status) => {
                        log::debug!("xDS stream of {:?}: {status}", self.node);
                        break;
                    }
                },
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.state.new_set();
                }
            }
            // Also marks the snapshot as seen that is looked at: none comes twice.
            let snapshot = snapshots.borrow_and_update().clone();
            // Before the first set nothing is said: an Envoy that comes back holds one that serves.
            let Some(complete) = snapshot.complete else {
                if connected {
                    self.report(&snapshot, Standing::Working);
                }
                continue;
            };
            for response in self.state.responses(&snapshot.set, complete) {
                if self.send.send(Ok(response)).await.is_err() {
                    break;
                }
            }
            if connected {
                let standing = self.state.standing(&snapshot.set, complete);
                self.report(&snapshot, standing);
            }
        }
        self.streams.progress.send_modify(|streams| {
            streams.remove(&self.id);
        });
        if connected {
            self.tell(XdsEvent::Disconnected { node: self.node.clone() });
        }
    }

    fn request(&mut self, request: DeltaDiscoveryRequest) {
        let Some(rejection) = self.state.request(request) else { return };
        self.tell(XdsEvent::Rejected { node: self.node.clone(), rejection });
    }

    fn report(&self, snapshot: &Snapshot, standing: Standing) {
        let rejections = match standing {
            Standing::Rejected => self.state.rejections(&snapshot.set),
            Standing::Working | Standing::Settled => Vec::new(),
        };
        let progress = Progress { serial: snapshot.serial, standing, rejections };
        self.streams.progress.send_modify(|streams| {
            streams.insert(self.id, progress);
        });
    }

    fn tell(&self, event: XdsEvent) {
        // Nobody may be listening.
        let _ = self.streams.events.send(event);
    }
}
