//! Filters of listings: the query language of list and count calls, parsed, resolved and evaluated.
//!
//! # Contract
//! [`Filter::parse`] takes what a user wrote, [`Filter::matches`] decides about one execution.
//! A filter prints as text that [`Filter::from_text`] reads back to the same filter on any node,
//! whatever that node knows of the namespace's search attributes: names in it carry their types.
//!
//! An attribute that an execution lacks matches no test; `!=`, `NOT IN` and the like are the opposite
//! of the positive test, so they include the executions without it.
//!
//! # Depends on
//! Message types only.
//!
//! # Used by
//! `src/grpc` (parses), the shards (choose an index by [`Filter::equalities`], evaluate).

mod attribute;
mod display;
mod evaluate;
mod lex;
mod resolve;
mod syntax;
#[cfg(test)]
mod tests;
mod time;
mod value;

use std::collections::BTreeMap;

use bristlecone_proto::record::Visibility;

pub use attribute::{Attribute, NAMESPACE_DIVISION, PREDEFINED, SYSTEM, is_reserved, type_of};
pub use resolve::{Check, Condition, Order};
pub use syntax::{Expr, Literal, Operator, Query, Test};
pub use time::{parse_datetime, parse_duration};
pub use value::{Value, decode_payload, status_name};

/// What a list or count call asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// `None`: every execution.
    pub condition: Option<Condition>,
    /// Count by status instead of in all.
    pub group_by_status: bool,
}

/// Why a query is refused, in the words of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not a sentence of the language. Positions count characters from 1.
    #[error("malformed SQL query: {reason} at position {position}{near}")]
    Malformed { reason: &'static str, position: usize, near: String },
    #[error("operation is not supported: {0}")]
    NotSupported(String),
    #[error("invalid expression: {0}")]
    Invalid(String),
}

/// The attributes by which executions can be found without looking at all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Indexed {
    WorkflowId,
    RunId,
    WorkflowType,
    ExecutionStatus,
}

impl Filter {
    /// A user's query. `custom` holds the namespace's own search attributes, name to `IndexedValueType`.
    /// Executions of the server's own (a namespace division) are left out unless the query mentions them.
    pub fn parse(query: &str, custom: &BTreeMap<String, i32>) -> Result<Self, FilterError> {
        let query = Query::parse(query)?;
        resolve::resolve(&query, &attribute::Names::Namespace(custom))
    }

    /// A user's query for standalone activities, which have names of their own for some attributes.
    pub fn parse_for_activities(query: &str, custom: &BTreeMap<String, i32>) -> Result<Self, FilterError> {
        let query = Query::parse(query)?;
        resolve::resolve(&query, &attribute::Names::Activities(custom))
    }

    /// Executions that satisfy all the conditions, without the server's own.
    pub fn all_of(conditions: Vec<Condition>) -> Self {
        let condition = match conditions.len() {
            0 | 1 => conditions.into_iter().next(),
            _ => Some(Condition::And(conditions)),
        };
        Self { condition: Some(resolve::without_divisions(condition)), group_by_status: false }
    }

    /// The text of a filter (its `Display`).
    pub fn from_text(text: &str) -> Result<Self, FilterError> {
        let query = Query::parse(text)?;
        resolve::resolve(&query, &attribute::Names::Typed)
    }

    pub fn matches(&self, execution: &Visibility) -> bool {
        self.condition.as_ref().is_none_or(|condition| evaluate::matches(condition, execution))
    }

    /// Tests that every matching execution passes: each names an indexed attribute and the values of
    /// which it must have one. Any of them may be used to find candidates.
    pub fn equalities(&self) -> Vec<(Indexed, &[Value])> {
        let mut found = Vec::new();
        if let Some(condition) = &self.condition {
            collect_equalities(condition, &mut found);
        }
        found
    }
}

fn collect_equalities<'a>(condition: &'a Condition, found: &mut Vec<(Indexed, &'a [Value])>) {
    match condition {
        Condition::And(all) => all.iter().for_each(|one| collect_equalities(one, found)),
        Condition::Or(_) | Condition::Not(_) => {}
        Condition::Test(attribute, check) => {
            let values = match check {
                Check::Equal(value) => std::slice::from_ref(value),
                Check::In(values) => values.as_slice(),
                Check::Order(..) | Check::Between(..) | Check::StartsWith(_) | Check::Present => return,
            };
            let indexed = match attribute.name.as_str() {
                "WorkflowId" => Indexed::WorkflowId,
                "RunId" => Indexed::RunId,
                "WorkflowType" => Indexed::WorkflowType,
                "ExecutionStatus" => Indexed::ExecutionStatus,
                _ => return,
            };
            found.push((indexed, values));
        }
    }
}
