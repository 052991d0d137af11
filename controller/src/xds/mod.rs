//! The xDS server: resource sets go in, and reach each connected Envoy by the incremental protocol, aggregated
//! on one stream.
//!
//! Deliberately knows nothing of what is in a resource.
//!
//! A set is made live in an order in which nothing refers to what is not there yet: clusters and endpoints
//! that are new or changed, then listeners, routes, filters and secrets, then the removal of what is left
//! over. Each step waits for the acknowledgement of the one before. A set of which Envoy rejects anything is
//! taken back as a whole, and the last accepted set goes on serving.

mod publisher;
mod resource;
mod server;
mod stream;

pub use publisher::{Generation, Outcome, Publisher, XdsEvent};
pub use resource::{Resource, ResourceSet, ResourceType};
pub use server::{Server, ServerError};
pub use stream::Rejection;
