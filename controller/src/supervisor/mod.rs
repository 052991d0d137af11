//! The Envoy process: found, started, kept alive, and ended with everything that it left.
//!
//! Deliberately knows nothing of what Envoy is configured with.

mod binary;
mod log_lines;
mod process;
mod run_dir;

pub use binary::{Binary, BinaryError, SUPPORTED_MINORS, check_running, find};
pub use log_lines::{Level, LogLine};
pub use process::{Settings, State, Supervisor};
pub use run_dir::{RunDir, RunDirError};
