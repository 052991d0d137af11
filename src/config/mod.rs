//! The plugin configuration: serde types, version, and refusals that give the JSON path of the fault.
//!
//! Deliberately knows nothing of matching, of Kubernetes objects and of the host.

mod json_path;
mod load;
mod model;

pub use load::{ConfigError, from_slice};
pub use model::*;
