//! Answers that are no success: a `Status` object with the code and reason that clients act on.

use serde_json::{Value, json};

/// A request that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The HTTP status.
    pub code: u16,
    /// The word that programs read.
    pub reason: &'static str,
    /// What people read.
    pub message: String,
    /// What it is about.
    pub details: Value,
    /// After how many seconds to ask again.
    pub retry_after: Option<u32>,
}

impl Failure {
    /// A failure without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, reason, message: message.into(), details: json!({}), retry_after: None }
    }

    /// There is no such object.
    pub fn not_found(resource: &str, name: &str) -> Failure {
        let mut failure = Failure::new(404, "NotFound", format!("{resource} \"{name}\" not found"));
        failure.details = json!({"name": name, "kind": resource});
        failure
    }

    /// There is no such resource, or no such path.
    pub fn no_resource() -> Failure {
        Failure::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// It is there already.
    pub fn exists(resource: &str, name: &str) -> Failure {
        let mut failure = Failure::new(409, "AlreadyExists", format!("{resource} \"{name}\" already exists"));
        failure.details = json!({"name": name, "kind": resource});
        failure
    }

    /// Somebody else was faster.
    pub fn conflict(resource: &str, name: &str) -> Failure {
        Failure::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {resource} \"{name}\": the object has been modified; please \
                 apply your changes to the latest version and try again"
            ),
        )
    }

    /// What was asked about is forgotten.
    pub fn expired(asked: u64, oldest: u64) -> Failure {
        Failure::new(410, "Expired", format!("too old resource version: {asked} ({oldest})"))
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(400, "BadRequest", message)
    }

    /// The object makes no sense.
    pub fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(422, "Invalid", message)
    }

    /// RBAC says no.
    pub fn forbidden(verb: &str, resource: &str, namespace: Option<&str>, name: Option<&str>) -> Failure {
        let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
        let what = match name {
            Some(name) => format!("{resource} \"{name}\""),
            None => resource.to_owned(),
        };
        let scope = match namespace {
            Some(namespace) => format!("in the namespace \"{namespace}\""),
            None => "at the cluster scope".to_owned(),
        };
        Failure::new(
            403,
            "Forbidden",
            format!(
                "{what} is forbidden: User \"system:serviceaccount:test:test\" cannot {verb} resource \
                 \"{plural}\" in API group \"{group}\" {scope}"
            ),
        )
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut details = self.details.clone();
        if let (Some(seconds), Some(details)) = (self.retry_after, details.as_object_mut()) {
            details.insert("retryAfterSeconds".to_owned(), seconds.into());
        }
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": details, "code": self.code,
        })
    }
}
