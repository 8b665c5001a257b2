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
//! Message types, and how values stand in keys.
//!
//! # Used by
//! `src/grpc` (parses), `src/shard/search.rs` (chooses among [`Filter::plans`], evaluates),
//! `src/shard/visibility.rs` (writes what plans read).

mod attribute;
mod display;
mod evaluate;
mod lex;
mod plan;
mod resolve;
mod syntax;
#[cfg(test)]
mod tests;
mod time;
mod value;

use std::collections::BTreeMap;

use bristlecone_proto::record::Visibility;

pub use attribute::{Attribute, NAMESPACE_DIVISION, PREDEFINED, SYSTEM, is_reserved, type_of};
pub use evaluate::{index_value, words};
pub use plan::{Access, Probe};
pub use resolve::{Check, Condition, Order, Sort};
pub use syntax::{Expr, Literal, Operator, OrderBy, Query, Test};
pub use time::{parse_datetime, parse_duration};
pub use value::{Value, decode_payload, status_name};

/// What a list or count call asks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// `None`: every execution.
    pub condition: Option<Condition>,
    /// Count by status instead of in all.
    pub group_by_status: bool,
    /// The order of a listing, before the order that it has anyway.
    pub order_by: Vec<Sort>,
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
        Self { condition: Some(resolve::without_divisions(condition)), ..Self::default() }
    }

    /// The text of a filter (its `Display`).
    pub fn from_text(text: &str) -> Result<Self, FilterError> {
        let query = Query::parse(text)?;
        resolve::resolve(&query, &attribute::Names::Typed)
    }

    pub fn matches(&self, execution: &Visibility) -> bool {
        self.condition.as_ref().is_none_or(|condition| evaluate::matches(condition, execution))
    }

    /// Ways to find all that match, and perhaps more, without looking at everything. Each is a union of
    /// index ranges.
    pub fn plans(&self) -> Vec<Vec<Access>> {
        self.condition.as_ref().map(plan::plans).unwrap_or_default()
    }

    /// The way that meets what matches in the order that is asked for, when that is the order of start times.
    pub fn plan_in_order(&self) -> Option<Access> {
        let [sort] = self.order_by.as_slice() else { return None };
        let (from, to) = self.condition.as_ref().map_or((i64::MIN, i64::MAX), plan::started);
        let descending = sort.descending;
        (sort.attribute.name == "StartTime").then_some(Access::Started { from, to, descending })
    }

    /// Whether how many match follows from the counters alone, which know status, type and division.
    pub fn is_about_counters(&self) -> bool {
        const COUNTED: [&str; 3] = ["ExecutionStatus", "WorkflowType", NAMESPACE_DIVISION];
        self.condition.as_ref().is_none_or(|condition| condition.is_about(&COUNTED))
    }

    /// The execution's place in the order that the filter asks for; nothing when it asks for none.
    pub fn sort_values(&self, execution: &Visibility) -> Vec<u8> {
        let mut key = Vec::new();
        evaluate::sort_values(&self.order_by, execution, &mut key);
        key
    }
}

impl Condition {
    fn is_about(&self, names: &[&str]) -> bool {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().all(|one| one.is_about(names)),
            Self::Not(inner) => inner.is_about(names),
            Self::Test(attribute, _) => names.contains(&attribute.name.as_str()),
        }
    }
}
