//! What snippets come to: steps, and edits of headers.

use serde::{Deserialize, Serialize};

use super::HeaderEdit;
use super::model::is_default;

/// What snippets of nginx configuration come to. Texts may hold nginx variables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Script {
    /// Names of all variables that are set, here or in the script of the host, groups of expressions included. They
    /// go before variables of nginx with the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
    /// What is done, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Headers; those of the block that was entered last hold, else those of the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<ScriptBlock>,
    /// Who may come in by address, after `addresses`: `allow` or `deny`, and an address, a network or `all`. The
    /// first that fits counts; where none does the client may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<String>,
    /// Who may come in with which method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_except: Option<LimitExcept>,
}

/// Other lines of `access` for all methods but some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LimitExcept {
    /// The methods that they are not for.
    pub methods: Vec<String>,
    /// As `Script.access`.
    pub access: Vec<String>,
}

/// One step of a [`Script`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Step {
    /// The next steps are passed over unless this holds.
    If {
        /// What is looked at.
        value: String,
        /// `=` (the same text), `~` (matches the expression), `~*` (without case), or empty: neither empty nor `0`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        test: String,
        /// The text or expression.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        against: String,
        /// It has not to hold.
        #[serde(default, skip_serializing_if = "is_default")]
        negated: bool,
        /// How many steps belong to it.
        skip: usize,
    },
    /// The headers of a block hold from now on.
    Enter {
        /// Position in `Script.blocks`.
        block: usize,
    },
    /// A variable is set.
    Set {
        /// Its name; `args` is the query of the request.
        variable: String,
        /// Its value.
        value: String,
    },
    /// The request is answered.
    Return {
        /// HTTP status, 200 to 599.
        status: u16,
        /// The body, or where a redirect goes to. Absent: a page of nginx, if it has one for the status.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// Content-Type of the body.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        content_type: String,
    },
    /// Path and query change, if the path matches.
    Rewrite {
        /// The expression.
        pattern: String,
        /// The new path, or, of a redirect, a URL.
        path: String,
        /// The new query. Absent: none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        query: Option<String>,
        /// The query of the request is appended.
        #[serde(default, skip_serializing_if = "is_default")]
        keep_query: bool,
        /// `next` (the next step; in the end a rule is chosen anew), `last` (a rule is chosen anew at once), `break`
        /// (the rest of the same rule), `redirect` (302) or `permanent` (301).
        then: String,
    },
    /// The steps are at their end, and nothing else rewrites the path.
    Break {},
}

/// Headers of a [`Script`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ScriptBlock {
    /// Edits to what the client sent, before anything is added to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_headers: Vec<HeaderEdit>,
    /// Edits to what the backend receives, after all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<HeaderEdit>,
    /// Edits to the answer, after all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<AnswerEdit>,
}

/// A change to the headers of some answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AnswerEdit {
    /// The change. One that adds nothing but an empty value is left out.
    pub edit: HeaderEdit,
    /// Statuses of the answers that it is for. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
    /// Media types of the answers that it is for, in lower case. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
}
