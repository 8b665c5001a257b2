//! Workflow rules of a namespace: how they come and go, and what they say, read for the state machine.
//!
//! # Contract
//! A rule is kept as it was given, whether it makes sense or not: one that cannot be read never applies. Its conditions
//! are written in the language of listings, without `IN`, `NOT`, `IS` and functions, on the fields of [`field`].
//!
//! # Used by
//! `decide.rs` (changes), `view.rs` (reading).

use std::collections::BTreeMap;

use bristlecone_machine::reply;
use bristlecone_machine::rules::{Compare, Condition, Field, Is, Rule};
use bristlecone_machine::stamp::{nanos, timestamp};
use bristlecone_proto::chain::Rejection;
use bristlecone_proto::node::{CreateRule, DeleteRule};
use bristlecone_proto::record;
use bristlecone_proto::temporal::api::rules::v1::workflow_rule_action::Variant;
use bristlecone_proto::temporal::api::rules::v1::workflow_rule_spec::Trigger;
use bristlecone_storage::runtime::UnixNanos;
use bristlecone_storage::state::BatchBuilder;
use prost::Message;

use super::decide::put_next;
use super::view::MetaView;
use crate::filter::{Expr, Literal, Operator, Query, Test, parse_datetime};

/// Bytes of one rule: all rules of a namespace stand in one row.
const RULE_BYTES_MAX: usize = 64 << 10;

/// The namespace with one rule more; as it is, when the same call has created the rule already.
pub fn create(
    view: &MetaView,
    rows: &mut BatchBuilder,
    create: CreateRule,
    now: UnixNanos,
) -> Result<record::Namespace, Rejection> {
    let mut namespace = namespace(view, &create.namespace_id)?;
    let mut created = create.rule.unwrap_or_default();
    let rule = created.rule.get_or_insert_default();
    rule.create_time = Some(timestamp(now));
    let id = rule.spec.as_ref().map(|spec| spec.id.clone()).unwrap_or_default();
    if id.is_empty() {
        return Err(reply::invalid_argument("Workflow Rule ID is not set."));
    }
    if created.encoded_len() > RULE_BYTES_MAX {
        let text = format!("Workflow Rule is longer than {RULE_BYTES_MAX} bytes.");
        return Err(reply::invalid_argument(text));
    }
    let rules = &mut namespace.workflow_rules;
    let known = rules.get(&id);
    if known.is_some_and(|known| !created.request_id.is_empty() && known.request_id == created.request_id) {
        return Ok(namespace);
    }
    let most = usize::try_from(create.rules_max).unwrap_or(usize::MAX);
    if rules.len() >= most {
        forget_expired(rules, now);
    }
    if rules.len() >= most {
        return Err(reply::invalid_argument(format!("Workflow Rule limit exceeded. Max: {most}")));
    }
    if rules.contains_key(&id) {
        return Err(reply::invalid_argument("Workflow Rule with this ID already exists."));
    }
    rules.insert(id, created);
    Ok(put_next(rows, namespace))
}

/// The namespace without the rule.
pub fn delete(view: &MetaView, rows: &mut BatchBuilder, delete: &DeleteRule) -> Result<record::Namespace, Rejection> {
    let mut namespace = namespace(view, &delete.namespace_id)?;
    namespace.workflow_rules.remove(&delete.rule_id).ok_or_else(not_found)?;
    Ok(put_next(rows, namespace))
}

pub fn not_found() -> Rejection {
    reply::invalid_argument("Workflow Rule with this ID not Found.")
}

fn namespace(view: &MetaView, id: &str) -> Result<record::Namespace, Rejection> {
    let known = view.namespace_by_id(id).ok_or_else(|| reply::not_found("Namespace not found."))?;
    Ok(known.record.clone())
}

/// The rule that expired first makes room.
fn forget_expired(rules: &mut BTreeMap<String, record::WorkflowRule>, now: UnixNanos) {
    let expired = rules.iter().filter_map(|(id, rule)| Some((expires(rule).filter(|at| *at < now)?, id.clone())));
    if let Some((_, id)) = expired.min() {
        rules.remove(&id);
    }
}

fn expires(rule: &record::WorkflowRule) -> Option<UnixNanos> {
    rule.rule.as_ref()?.spec.as_ref()?.expiration_time.as_ref().map(nanos)
}

/// The rule as the state machine goes by it.
pub fn read(kept: &record::WorkflowRule) -> Option<Rule> {
    let rule = kept.rule.as_ref()?;
    let spec = rule.spec.as_ref()?;
    let activity = match &spec.trigger {
        Some(Trigger::ActivityStart(start)) => condition(&start.predicate, About::Activity),
        None => Condition::Senseless,
    };
    Some(Rule {
        id: spec.id.clone(),
        identity: rule.created_by_identity.clone(),
        description: rule.description.clone(),
        expires: expires(kept),
        pauses: spec.actions.iter().any(|action| matches!(action.variant, Some(Variant::ActivityPause(_)))),
        workflow: (!spec.visibility_query.is_empty()).then(|| condition(&spec.visibility_query, About::Workflow)),
        activity,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Workflow,
    Activity,
}

fn condition(text: &str, about: About) -> Condition {
    match Query::parse(text).map(|query| query.condition) {
        Ok(Some(condition)) => expression(&condition, about),
        Ok(None) | Err(_) => Condition::Senseless,
    }
}

fn expression(expression: &Expr, about: About) -> Condition {
    let each = |parts: &[Expr]| parts.iter().map(|part| self::expression(part, about)).collect();
    match expression {
        Expr::And(all) => Condition::And(each(all)),
        Expr::Or(any) => Condition::Or(each(any)),
        Expr::Not(_) => Condition::Senseless,
        Expr::Test(test) => tested(test, about).unwrap_or(Condition::Senseless),
    }
}

/// Names are written in their case. Those of the API's description stand beside those of its original server.
fn field(name: &str, about: About) -> Option<Field> {
    Some(match (about, name) {
        (About::Workflow, "WorkflowId") => Field::WorkflowId,
        (About::Workflow, "WorkflowType") => Field::WorkflowType,
        (About::Workflow, "ExecutionStatus") => Field::ExecutionStatus,
        (About::Workflow, "StartTime") => Field::StartTime,
        (About::Activity, "ActivityId") => Field::ActivityId,
        (About::Activity, "ActivityType") => Field::ActivityType,
        (About::Activity, "ActivityState" | "ActivityStatus") => Field::ActivityState,
        (About::Activity, "Attempts" | "ActivityAttempt") => Field::Attempts,
        (About::Activity, "BackoffInterval") => Field::BackoffInterval,
        (About::Activity, "TaskQueue") => Field::TaskQueue,
        (About::Activity, "StartedTime") => Field::StartedTime,
        _ => return None,
    })
}

fn tested(test: &Test, about: About) -> Option<Condition> {
    let field = field(&test.name, about)?;
    let compare = match test.operator {
        Operator::Equal => Compare::Equal,
        Operator::NotEqual => Compare::NotEqual,
        Operator::Less => Compare::Less,
        Operator::LessEqual => Compare::LessEqual,
        Operator::Greater => Compare::Greater,
        Operator::GreaterEqual => Compare::GreaterEqual,
        Operator::StartsWith => Compare::StartsWith,
        Operator::NotStartsWith => Compare::NotStartsWith,
        Operator::Between | Operator::NotBetween => return between(field, test),
        Operator::In
        | Operator::NotIn
        | Operator::Like
        | Operator::NotLike
        | Operator::IsNull
        | Operator::IsNotNull => return None,
    };
    let [literal] = test.literals.as_slice() else { return None };
    let prefix = matches!(compare, Compare::StartsWith | Compare::NotStartsWith);
    let equality = matches!(compare, Compare::Equal | Compare::NotEqual);
    let is = match field {
        Field::StartTime | Field::StartedTime if !prefix => Is::Number(compare, time(literal)?),
        Field::Attempts | Field::BackoffInterval if !prefix => Is::Number(compare, whole(literal)?),
        Field::ExecutionStatus if equality => Is::Text(compare, text(literal)?),
        Field::WorkflowId
        | Field::WorkflowType
        | Field::ActivityId
        | Field::ActivityType
        | Field::ActivityState
        | Field::TaskQueue
            if prefix || equality =>
        {
            Is::Text(compare, text(literal)?)
        }
        _ => return None,
    };
    Some(Condition::Test(field, is))
}

/// Only times lie between others.
fn between(field: Field, test: &Test) -> Option<Condition> {
    let [from, to] = test.literals.as_slice() else { return None };
    let is = Is::Between { from: time(from)?, to: time(to)?, not: test.operator == Operator::NotBetween };
    matches!(field, Field::StartTime | Field::StartedTime).then_some(Condition::Test(field, is))
}

/// RFC 3339, or nanoseconds.
fn time(literal: &Literal) -> Option<i64> {
    match literal {
        Literal::Text(text) => parse_datetime(text),
        Literal::Int(nanos) => Some(*nanos),
        Literal::Float(_) | Literal::Bool(_) => None,
    }
}

fn whole(literal: &Literal) -> Option<i64> {
    match literal {
        Literal::Int(int) => Some(*int),
        Literal::Text(_) | Literal::Float(_) | Literal::Bool(_) => None,
    }
}

/// Nothing is compared with the empty text.
fn text(literal: &Literal) -> Option<String> {
    match literal {
        Literal::Text(text) if !text.is_empty() => Some(text.clone()),
        Literal::Text(_) | Literal::Int(_) | Literal::Float(_) | Literal::Bool(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bristlecone_proto::temporal::api::rules::v1::workflow_rule_action::ActionActivityPause;
    use bristlecone_proto::temporal::api::rules::v1::workflow_rule_spec::ActivityStartingTrigger;
    use bristlecone_proto::temporal::api::rules::v1::{WorkflowRule, WorkflowRuleAction, WorkflowRuleSpec};
    use bristlecone_storage::state::keys::{Id, Key, META_SLOT};

    const SECOND: i64 = 1_000_000_000;

    fn rule(id: &str, predicate: &str, expires: Option<i64>) -> record::WorkflowRule {
        let spec = WorkflowRuleSpec {
            id: id.into(),
            trigger: Some(Trigger::ActivityStart(ActivityStartingTrigger { predicate: predicate.into() })),
            actions: vec![WorkflowRuleAction { variant: Some(Variant::ActivityPause(ActionActivityPause {})) }],
            expiration_time: expires.map(timestamp),
            ..WorkflowRuleSpec::default()
        };
        let rule = WorkflowRule { spec: Some(spec), description: "why".into(), ..WorkflowRule::default() };
        record::WorkflowRule { rule: Some(rule), request_id: format!("request-{id}") }
    }

    fn view(rules: &[record::WorkflowRule]) -> MetaView {
        let id = |rule: &record::WorkflowRule| rule.rule.as_ref().and_then(|r| Some(r.spec.as_ref()?.id.clone()));
        let namespace = record::Namespace {
            id: "1".into(),
            name: "shop".into(),
            workflow_rules: rules.iter().map(|rule| (id(rule).expect("a rule"), rule.clone())).collect(),
            ..record::Namespace::default()
        };
        let mut rows = BatchBuilder::new();
        rows.put_row(META_SLOT, &Key::Namespace { namespace: Id::new("1") }, &namespace);
        MetaView::default().after(1, &rows.finish().expect("small")).expect("a namespace")
    }

    /// The ids of the rules afterwards, and how many rows are written.
    fn create_in(view: &MetaView, rule: record::WorkflowRule, now: i64) -> Result<(Vec<String>, usize), String> {
        let asked = CreateRule { namespace_id: "1".into(), rule: Some(rule), rules_max: 2 };
        let mut rows = BatchBuilder::new();
        match create(view, &mut rows, asked, now) {
            Ok(namespace) => Ok((namespace.workflow_rules.into_keys().collect(), rows.len())),
            Err(rejection) => Err(rejection.message),
        }
    }

    #[test]
    fn the_limit_counts_what_has_not_expired() {
        let rules = [rule("a", "Attempts > 1", None), rule("b", "Attempts > 1", Some(5 * SECOND))];
        let create = |id: &str, now: i64| create_in(&view(&rules), rule(id, "Attempts > 1", None), now);
        assert_eq!(create("c", 5 * SECOND), Err("Workflow Rule limit exceeded. Max: 2".into()));
        assert_eq!(create("c", 6 * SECOND), Ok((vec!["a".into(), "c".into()], 1)));
        assert_eq!(create("", 0), Err("Workflow Rule ID is not set.".into()));
        let one = view(&rules[..1]);
        let other = record::WorkflowRule { request_id: "other".into(), ..rule("a", "Attempts > 2", None) };
        assert_eq!(create_in(&one, other, 0), Err("Workflow Rule with this ID already exists.".into()));
        assert_eq!(create_in(&one, rule("a", "Attempts > 1", None), 0), Ok((vec!["a".into()], 0)));
        let long = rule("long", &"x".repeat(RULE_BYTES_MAX), None);
        assert!(create_in(&one, long, 0).is_err_and(|text| text.contains("65536")));
    }

    #[test]
    fn a_rule_that_is_deleted_is_gone() {
        let rules = view(&[rule("a", "Attempts > 1", None)]);
        let delete = |id: &str| {
            let wanted = DeleteRule { namespace_id: "1".into(), rule_id: id.into() };
            delete(&rules, &mut BatchBuilder::new(), &wanted)
        };
        assert_eq!(delete("a").map(|namespace| (namespace.workflow_rules.len(), namespace.version)), Ok((0, 1)));
        assert_eq!(delete("b"), Err(not_found()));
    }

    #[test]
    fn conditions_are_read() {
        use Condition::{And, Or, Senseless, Test};
        let number = |field, compare, number| Test(field, Is::Number(compare, number));
        let text = |field, compare, text: &str| Test(field, Is::Text(compare, text.into()));
        let of_activity = |text: &str| condition(text, About::Activity);
        assert_eq!(
            of_activity("ActivityType = 'Pay' AND (Attempts >= 3 OR TaskQueue starts_with \"slow\")"),
            And(vec![
                text(Field::ActivityType, Compare::Equal, "Pay"),
                Or(vec![
                    number(Field::Attempts, Compare::GreaterEqual, 3),
                    text(Field::TaskQueue, Compare::StartsWith, "slow"),
                ]),
            ])
        );
        assert_eq!(
            of_activity("StartedTime not between '1970-01-01T00:00:01Z' and 2000000000"),
            Test(Field::StartedTime, Is::Between { from: SECOND, to: 2 * SECOND, not: true })
        );
        assert_eq!(
            condition("ExecutionStatus != 'Paused'", About::Workflow),
            text(Field::ExecutionStatus, Compare::NotEqual, "Paused")
        );
        assert_eq!(
            of_activity("ActivityAttempt < 2 and Foo = 1"),
            And(vec![number(Field::Attempts, Compare::Less, 2), Senseless])
        );
        for senseless in [
            "",
            "  ",
            "nonsense",
            "where Attempts > 1",
            "NOT Attempts > 1",
            "Attempts > '1'",
            "Attempts starts_with 1",
            "Attempts > 1 limit 2",
            "ActivityType = ''",
            "ActivityType > 'a'",
            "ActivityType in ('a')",
            "activityType = 'a'",
            "WorkflowId = 'a'",
            "TaskQueue between 'a' and 'b'",
            "BackoffInterval is null",
        ] {
            assert_eq!(of_activity(senseless), Senseless, "{senseless}");
        }
    }

    #[test]
    fn a_rule_without_a_trigger_never_applies() {
        let mut kept = rule("a", "Attempts > 1", None);
        assert!(read(&kept).is_some_and(|rule| rule.pauses && rule.workflow.is_none()));
        if let Some(spec) = kept.rule.as_mut().and_then(|rule| rule.spec.as_mut()) {
            spec.trigger = None;
            spec.actions.clear();
            spec.visibility_query = "x".into();
        }
        let read = read(&kept).expect("it is told of");
        assert_eq!(
            (read.activity, read.workflow, read.pauses),
            (Condition::Senseless, Some(Condition::Senseless), false)
        );
    }
}
