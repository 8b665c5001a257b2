//! Queries against one execution, errors in the API's words, and the round trip through text.

use std::collections::BTreeMap;

use bristlecone_proto::record::Visibility;
use bristlecone_proto::temporal::api::common::v1::{Payload, SearchAttributes};
use bristlecone_proto::temporal::api::enums::v1::{IndexedValueType as Kind, WorkflowExecutionStatus as Status};
use proptest::prelude::*;
use prost_types::Timestamp;

use super::*;

fn custom() -> BTreeMap<String, i32> {
    let kinds = [
        ("CustomerId", Kind::Keyword),
        ("Notes", Kind::Text),
        ("Amount", Kind::Int),
        ("Rate", Kind::Double),
        ("Paid", Kind::Bool),
        ("Due", Kind::Datetime),
        ("Tags", Kind::KeywordList),
        ("odd name: x`y", Kind::Keyword),
    ];
    kinds.into_iter().map(|(name, kind)| (name.to_owned(), kind.into())).collect()
}

fn parse(query: &str) -> Result<Filter, FilterError> {
    Filter::parse(query, &custom())
}

fn json(data: &'static str) -> Payload {
    Payload { data: data.into(), ..Payload::default() }
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

/// Closed after 90 seconds, with every custom attribute but `odd name: x`y` and `Due`.
fn execution() -> Visibility {
    let fields = [
        ("CustomerId", json("\"c-7\"")),
        ("Notes", json("\"Paid in Full, by cheque\"")),
        ("Amount", json("42")),
        ("Rate", json("2.5")),
        ("Paid", json("true")),
        ("Tags", json("[\"red\",\"blue\"]")),
        ("BuildIds", json("[\"unversioned\"]")),
    ];
    Visibility {
        workflow_id: "order-1".into(),
        run_id: "run-1".into(),
        workflow_type: "Order".into(),
        task_queue: "orders".into(),
        status: Status::Completed.into(),
        start_time: at(1_700_000_000),
        execution_time: at(1_700_000_010),
        close_time: at(1_700_000_100),
        history_length: 12,
        search_attributes: Some(SearchAttributes {
            indexed_fields: fields.map(|(name, payload)| (name.to_owned(), payload)).into(),
        }),
        ..Visibility::default()
    }
}

#[test]
fn queries_match_as_documented() {
    let cases = [
        ("", true),
        ("WorkflowId = 'order-1'", true),
        ("`WorkflowId`=\"order-1\"", true),
        ("WorkflowId != 'order-1'", false),
        ("WorkflowId <> 'order-2'", true),
        ("workflowtype = 'x'", false),
        ("WorkflowType starts_with 'Ord' and RunId NOT STARTS_WITH 'x'", true),
        ("WorkflowId > 'order-0' AND WorkflowId <= 'order-1'", true),
        ("WorkflowId BETWEEN 'order-0' AND 'order-2'", true),
        ("ExecutionStatus = 'Completed'", true),
        ("ExecutionStatus = 'WORKFLOW_EXECUTION_STATUS_COMPLETED'", true),
        ("ExecutionStatus = 2", true),
        ("ExecutionStatus IN ('Running', 'Failed')", false),
        ("ExecutionStatus NOT IN ('Running', 'Failed')", true),
        ("ExecutionStatus STARTS_WITH 'Comp'", true),
        ("StartTime = '2023-11-14T22:13:20Z'", true),
        ("StartTime = 1700000000000000000", true),
        ("CloseTime BETWEEN '2023-11-14T00:00:00Z' AND '2023-11-15T00:00:00+01:00'", true),
        ("CloseTime NOT BETWEEN '2023-11-14T00:00:00Z' AND '2023-11-15T00:00:00Z'", false),
        ("CloseTime IS NULL", false),
        ("CloseTime is not null", true),
        ("ExecutionDuration = '1m30s'", true),
        ("ExecutionDuration >= '00:01:00' AND ExecutionDuration < 100000000000", true),
        ("HistoryLength > 11.5", true),
        ("RootWorkflowId = 'order-1' AND ParentWorkflowId IS NULL", true),
        ("CustomerId = 'c-7'", true),
        ("CustomerId != 'c-7'", false),
        ("`odd name: x``y` != 'a'", true),
        ("`odd name: x``y` = ''", false),
        ("Due IS NULL", true),
        ("Due > '2020-01-01T00:00:00Z'", false),
        ("NOT Due > '2020-01-01T00:00:00Z'", true),
        ("Amount = 42 AND Amount IN (1, 42) AND Amount != 43", true),
        ("Amount = 42.0", true),
        ("Amount = -42", false),
        ("Rate > 2 AND Rate < 2.6e0", true),
        ("Paid = true", true),
        ("Paid = FALSE", false),
        ("Paid IN (true, false)", true),
        ("Tags = 'red'", true),
        ("Tags != 'red'", false),
        ("Tags IN ('green', 'blue')", true),
        ("Tags NOT IN ('green')", true),
        ("Notes = 'full'", true),
        ("Notes = 'nothing CHEQUE'", true),
        ("Notes = 'chequ'", false),
        ("Notes != 'full'", false),
        ("BuildIds IN ('unversioned')", true),
        ("TemporalReportedProblems IN ('category=WorkflowTaskFailed')", false),
        ("WorkflowId = 'a' OR WorkflowId = 'b' AND WorkflowId = 'order-1'", false),
        ("WorkflowId = 'order-1' OR WorkflowId = 'b' AND WorkflowId = 'c'", true),
        ("(WorkflowId = 'order-1' OR WorkflowId = 'b') AND WorkflowId = 'c'", false),
        ("NOT WorkflowId = 'a' AND WorkflowType = 'Order'", true),
        ("NOT (WorkflowId = 'a' OR WorkflowType = 'Order')", false),
        ("TemporalNamespaceDivision IS NULL OR TemporalNamespaceDivision IS NOT NULL", true),
        ("NamespaceDivision = 'TemporalScheduler'", false),
    ];
    for (query, expected) in cases {
        match parse(query) {
            Ok(filter) => assert_eq!(filter.matches(&execution()), expected, "{query}"),
            Err(error) => assert!(query.starts_with("workflowtype"), "{query}: {error}"),
        }
    }
}

#[test]
fn open_executions_lack_what_is_known_at_the_end() {
    let open = Visibility { close_time: None, status: Status::Running.into(), ..execution() };
    for query in
        ["CloseTime IS NULL", "HistoryLength IS NULL", "ExecutionDuration IS NULL", "StateTransitionCount IS NULL"]
    {
        assert!(parse(query).expect(query).matches(&open), "{query}");
        assert!(!parse(query).expect(query).matches(&execution()), "{query}");
    }
    assert!(!parse("ExecutionStatus = 'Paused'").expect("a status").matches(&open));
}

#[test]
fn executions_of_the_server_are_hidden_unless_asked_for() {
    let mut batch = execution();
    if let Some(attributes) = &mut batch.search_attributes {
        attributes.indexed_fields.insert("TemporalNamespaceDivision".into(), json("\"TemporalBatcher\""));
    }
    assert!(!parse("").expect("empty").matches(&batch));
    assert!(!parse("WorkflowId = 'order-1'").expect("valid").matches(&batch));
    assert!(parse("TemporalNamespaceDivision = 'TemporalBatcher'").expect("valid").matches(&batch));
}

#[test]
fn a_schedule_id_is_the_id_of_its_workflow() {
    let schedule = Visibility { workflow_id: "temporal-sys-scheduler:daily".into(), ..execution() };
    assert!(parse("ScheduleId = 'daily'").expect("valid").matches(&schedule));
    assert!(!parse("ScheduleId = 'daily'").expect("valid").matches(&execution()));
}

#[test]
fn errors_are_in_the_words_of_the_api() {
    let cases = [
        (
            "WorkflowId = pending",
            "operation is not supported: column name on the right side of comparison expression (did you forget to quote \"pending\"?)",
        ),
        ("Nothing = 'x'", "invalid expression: column name 'Nothing' is not a valid search attribute"),
        ("WorkflowId", "invalid expression: incomplete expression"),
        ("WorkflowId =", "malformed SQL query: syntax error at position 13"),
        ("WorkflowId = 'x' AND", "malformed SQL query: syntax error at position 21"),
        ("WorkflowId = 'x' foo", "malformed SQL query: syntax error at position 18 near 'foo'"),
        ("WorkflowId = 'x", "malformed SQL query: unterminated string at position 14 near 'x'"),
        ("(WorkflowId = 'x'", "malformed SQL query: syntax error at position 18"),
        (
            "WorkflowId LIKE 'x%'",
            "operation is not supported: operator 'LIKE' not supported for Keyword type search attribute 'WorkflowId'",
        ),
        (
            "Tags > 'x'",
            "operation is not supported: operator '>' not supported for KeywordList type search attribute 'Tags'",
        ),
        (
            "Notes IN ('x')",
            "operation is not supported: operator 'IN' not supported for Text type search attribute 'Notes'",
        ),
        ("Paid < true", "operation is not supported: operator '<' not supported for Bool type search attribute 'Paid'"),
        (
            "Tags BETWEEN 'a' AND 'b'",
            "invalid expression: cannot do range condition on search attribute 'Tags' of type KeywordList",
        ),
        (
            "Amount STARTS_WITH '4'",
            "operation is not supported: operator 'STARTS_WITH' not supported for Int type search attribute 'Amount'",
        ),
        (
            "Amount = 'x'",
            "invalid expression: invalid value type for search attribute Amount of type Int: \"x\" (type: string)",
        ),
        (
            "CustomerId = 5",
            "invalid expression: invalid value type for search attribute CustomerId of type Keyword: 5 (type: int64)",
        ),
        ("StartTime > 'yesterday'", "invalid expression: unable to parse datetime 'yesterday'"),
        ("ExecutionStatus = 'Done'", "invalid expression: invalid ExecutionStatus value 'Done'"),
        ("ExecutionStatus = 99", "invalid expression: invalid ExecutionStatus value 99"),
        (
            "ExecutionDuration = 'long'",
            "invalid expression: invalid duration value for search attribute ExecutionDuration: long",
        ),
        (
            "ORDER BY StartTime, Notes DESC",
            "invalid expression: unable to sort by field of Text type, use field of type Keyword",
        ),
        ("order by Nothing", "invalid expression: column name 'Nothing' is not a valid search attribute"),
        ("WorkflowId = 'x' LIMIT 5", "operation is not supported: 'LIMIT' clause"),
        (
            "GROUP BY WorkflowType",
            "operation is not supported: 'GROUP BY' clause is only supported for ExecutionStatus",
        ),
        (
            "GROUP BY ExecutionStatus, WorkflowType",
            "operation is not supported: 'GROUP BY' clause supports only a single field",
        ),
        ("lower(WorkflowId) = 'x'", "operation is not supported: function expression"),
        ("WorkflowId = lower('x')", "operation is not supported: nested func"),
        ("Amount + 1 = 2", "operation is not supported: arithmetic"),
        ("'x' = WorkflowId", "invalid expression: must be a column name but was a value"),
        ("WorkflowId IS TRUE", "invalid expression: 'IS' operator can only be used as 'IS NULL' or 'IS NOT NULL'"),
        ("WorkflowId = 'x' ; drop", "malformed SQL query: syntax error at position 18 near ';'"),
    ];
    for (query, error) in cases {
        assert_eq!(parse(query).expect_err(query).to_string(), error, "{query}");
    }
    let deep = format!("{}WorkflowId = 'x'{}", "(".repeat(5000), ")".repeat(5000));
    assert_eq!(
        parse(&deep).expect_err("too deep").to_string(),
        "malformed SQL query: nested too deeply at position 101"
    );
}

#[test]
fn grouping_is_by_status() {
    assert!(parse("GROUP BY ExecutionStatus").expect("valid").group_by_status);
    let filter = parse("WorkflowType = 'Order' group by `ExecutionStatus`").expect("valid");
    assert!(filter.group_by_status && filter.matches(&execution()));
}

#[test]
fn ways_to_find_are_those_that_every_match_satisfies() {
    let plans = |query: &str| parse(query).expect(query).plans();
    let is = |name: &str, value: Value| Access::Index { name: name.into(), probe: Probe::Is(value) };
    let text = |text: &str| Value::Text(text.to_owned());
    assert_eq!(
        plans(
            "WorkflowId IN ('a', 'b') AND (ExecutionStatus = 'Running' AND RunId = 'r') AND WorkflowType != 'x' \
             AND (WorkflowType = 'y' OR CustomerId = 'z') AND NOT WorkflowType = 'w' AND TaskQueue = 'q'"
        ),
        [
            vec![is("WorkflowId", text("a")), is("WorkflowId", text("b"))],
            vec![Access::Open { start_from: i64::MIN }],
            vec![Access::Run("r".into())],
            vec![is("WorkflowType", text("y")), is("CustomerId", text("z"))],
        ]
    );
    assert!(plans("WorkflowId = 'a' OR TaskQueue = 'q'").is_empty());
    assert_eq!(
        plans("StartTime >= 5 AND CloseTime < 9 AND StartTime < 7"),
        [
            vec![Access::Open { start_from: 5 }, Access::Closed { from: 5, to: i64::MAX }],
            vec![Access::Closed { from: i64::MIN, to: 9 }],
        ]
    );
    assert_eq!(plans("RootWorkflowId = 'a'"), [[is("RootWorkflowId", text("a")), is("WorkflowId", text("a"))]]);
    let amount = |from, to| vec![Access::Index { name: "Amount".into(), probe: Probe::Between(Kind::Int, from, to) }];
    assert_eq!(plans("Amount > 3"), [amount(Some(Value::Int(3)), None)]);
    assert_eq!(plans("Amount BETWEEN 1 AND 2"), [amount(Some(Value::Int(1)), Some(Value::Int(2)))]);
    assert!(plans("Amount > 3.5").is_empty(), "whole numbers stand in no order with others");
}

#[test]
fn strings_may_hold_anything() {
    for (query, id) in [
        (r#"WorkflowId = 'it''s'"#, "it's"),
        (r#"WorkflowId = 'it\'s'"#, "it's"),
        (r#"WorkflowId = "say ""hi""""#, "say \"hi\""),
        (r#"WorkflowId = 'a\\b\n'"#, "a\\b\n"),
        ("WorkflowId = 'ünïcödé 🦀'", "ünïcödé 🦀"),
    ] {
        let named = Visibility { workflow_id: id.into(), ..execution() };
        let filter = parse(query).expect(query);
        assert!(filter.matches(&named), "{query}");
        assert_eq!(Filter::from_text(&filter.to_string()), Ok(filter), "{query}");
    }
}

fn attribute() -> impl Strategy<Value = Attribute> {
    let custom: Vec<_> = custom().into_iter().collect();
    let custom = proptest::sample::select(custom)
        .prop_map(|(name, kind)| Attribute { name, kind: Kind::try_from(kind).expect("a type") });
    let own = proptest::sample::select(SYSTEM.to_vec()).prop_map(|(name, kind)| Attribute { name: name.into(), kind });
    prop_oneof![custom, own]
}

fn value(attribute: &Attribute) -> BoxedStrategy<Value> {
    match (attribute.name.as_str(), attribute.kind) {
        ("ExecutionStatus", _) => {
            (0..=8).prop_map(|status| Value::Status(Status::try_from(status).expect("a status"))).boxed()
        }
        (_, Kind::Int | Kind::Double) if attribute.name != "ExecutionDuration" => {
            prop_oneof![any::<i64>().prop_map(Value::Int), (-1e300..1e300).prop_map(Value::Double)].boxed()
        }
        (_, Kind::Int | Kind::Double) => any::<i64>().prop_map(Value::Int).boxed(),
        (_, Kind::Bool) => any::<bool>().prop_map(Value::Bool).boxed(),
        (_, Kind::Datetime) => any::<i64>().prop_map(Value::Time).boxed(),
        _ => any::<String>().prop_map(Value::Text).boxed(),
    }
}

fn check(attribute: &Attribute) -> BoxedStrategy<Check> {
    let one = || value(attribute);
    let equal = one().prop_map(Check::Equal);
    let any_of = proptest::collection::vec(one(), 1..4).prop_map(Check::In);
    let between = (one(), one()).prop_map(|(from, to)| Check::Between(from, to));
    let orders = [Order::Less, Order::LessEqual, Order::Greater, Order::GreaterEqual];
    let order =
        (proptest::sample::select(orders.to_vec()), one()).prop_map(|(order, value)| Check::Order(order, value));
    let present = Just(Check::Present);
    let prefix = any::<String>().prop_map(Check::StartsWith);
    match attribute.kind {
        Kind::Text => prop_oneof![equal, present].boxed(),
        Kind::KeywordList | Kind::Bool => prop_oneof![equal, any_of, present].boxed(),
        Kind::Keyword => prop_oneof![equal, any_of, between, order, present, prefix].boxed(),
        _ => prop_oneof![equal, any_of, between, order, present].boxed(),
    }
}

fn condition() -> impl Strategy<Value = Condition> {
    let test = attribute()
        .prop_flat_map(|attribute| (Just(attribute.clone()), check(&attribute)))
        .prop_map(|(attribute, check)| Condition::Test(attribute, check));
    test.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Condition::And),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Condition::Or),
            inner.prop_map(|inner| Condition::Not(Box::new(inner))),
        ]
    })
}

fn sort() -> impl Strategy<Value = Sort> {
    let sortable = attribute().prop_filter("texts have no order", |attribute| attribute.kind != Kind::Text);
    (sortable, any::<bool>()).prop_map(|(attribute, descending)| Sort { attribute, descending })
}

proptest! {
    #[test]
    fn a_filter_comes_back_from_its_text(
        condition in proptest::option::of(condition()),
        group_by_status: bool,
        order_by in proptest::collection::vec(sort(), 0..3),
    ) {
        let filter = Filter { condition, group_by_status, order_by };
        prop_assert_eq!(Filter::from_text(&filter.to_string()), Ok(filter.clone()));
        filter.matches(&execution());
    }

    #[test]
    fn no_text_breaks_the_parser(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn no_row_of_words_breaks_the_parser(words in proptest::collection::vec(proptest::sample::select(vec![
        "WorkflowId", "`x", "Amount", "ASC", "DESC", "=", "!=", "<", "AND", "OR", "NOT", "IN", "(", ")", ",", "'a'", "\"", "1", "-2.5",
        "BETWEEN", "IS", "NULL", "STARTS_WITH", "LIKE", "GROUP BY", "ORDER BY", "LIMIT", "true", "\\", "-", "ExecutionStatus",
    ]), 0..30)) {
        let text = words.join(" ");
        if let Ok(filter) = parse(&text) {
            prop_assert_eq!(Filter::from_text(&filter.to_string()), Ok(filter));
        }
    }
}
