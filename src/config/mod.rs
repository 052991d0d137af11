//! The plugin configuration: serde types, version, and refusals that give the JSON path of the fault.
//!
//! Deliberately knows nothing of matching, of Kubernetes objects and of the host.

mod auth;
mod balancing;
mod inflate;
mod json;
mod load;
mod model;
mod packed;
mod policies;
mod read;
mod script;

pub use auth::*;
pub use balancing::{Affinity, Balancing, Canary, HashBy, Mirror};
pub use load::{ConfigError, from_slice};
pub use model::*;
pub use policies::*;
pub use script::*;
