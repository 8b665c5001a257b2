//! Whatever way a search takes, it finds what looking at every run would find, page by page and in order.

use std::collections::BTreeMap;

use bristlecone_machine::stamp::timestamp;
use bristlecone_storage::state::{BatchBuilder, RocksOptions, RocksStore};
use proptest::prelude::*;

use super::*;
use crate::shard::visibility;

const NAMESPACE: &str = "0192f1a0-0000-7000-8000-000000000001";
const SLOTS: Range<Slot> = 10..14;

fn custom() -> BTreeMap<String, i32> {
    let kinds = [
        ("Color", Kind::Keyword),
        ("Tags", Kind::KeywordList),
        ("Note", Kind::Text),
        ("Size", Kind::Int),
        ("Weight", Kind::Double),
        ("Flag", Kind::Bool),
        ("At", Kind::Datetime),
    ];
    kinds.into_iter().map(|(name, kind)| (name.to_owned(), kind.into())).collect()
}

fn payload(kind: Kind, json: String) -> Payload {
    let metadata = [("encoding", "json/plain".to_owned()), ("type", format!("{kind:?}"))];
    Payload {
        metadata: metadata.into_iter().map(|(key, value)| (key.to_owned(), Bytes::from(value))).collect(),
        data: json.into(),
        ..Payload::default()
    }
}

/// Small ranges, so that filters match.
fn attributes() -> impl Strategy<Value = BTreeMap<String, Payload>> {
    let text = |all: &'static [&'static str]| proptest::option::of(proptest::sample::select(all));
    let some = |kind: Kind, name: &str, json: Option<String>| json.map(|json| (name.to_owned(), payload(kind, json)));
    (
        text(&["red", "rose", "blue", ""]),
        proptest::option::of(proptest::collection::vec(proptest::sample::select(vec!["x", "y", "z"]), 0..3)),
        text(&["Hello there", "hello", "THERE you are", "—"]),
        proptest::option::of(-2..5_i64),
        proptest::option::of(proptest::sample::select(vec![-0.5, 2.0, 2.5])),
        proptest::option::of(any::<bool>()),
        proptest::option::of(proptest::sample::select(vec!["2020-01-01T00:00:05Z", "2020-01-01T01:00:07+01:00"])),
        text(&["TemporalScheduler"]),
    )
        .prop_map(move |(color, tags, note, size, weight, flag, at, division)| {
            [
                some(Kind::Keyword, "Color", color.map(|text| format!("{text:?}"))),
                some(Kind::KeywordList, "Tags", tags.map(|tags| format!("{tags:?}"))),
                some(Kind::Text, "Note", note.map(|text| format!("{text:?}"))),
                some(Kind::Int, "Size", size.map(|size| size.to_string())),
                some(Kind::Double, "Weight", weight.map(|weight: f64| format!("{weight:?}"))),
                some(Kind::Bool, "Flag", flag.map(|flag| flag.to_string())),
                some(Kind::Datetime, "At", at.map(|at| format!("{at:?}"))),
                some(Kind::Keyword, NAMESPACE_DIVISION, division.map(|text| format!("{text:?}"))),
            ]
            .into_iter()
            .flatten()
            .collect()
        })
}

fn run() -> impl Strategy<Value = Visibility> {
    let status = proptest::sample::select(vec![Status::Running, Status::Completed, Status::Failed, Status::Paused]);
    let closed = (0..20_i64, 0..10_i64, status);
    (0..4_u8, 0..3_u8, closed, proptest::option::of(0..4_u8), attributes(), any::<u128>()).prop_map(
        |(id, kind, (start, lasts, status), parent, indexed_fields, run_id)| {
            let open = matches!(status, Status::Running | Status::Paused);
            let run_id = uuid::Uuid::from_u128(run_id).to_string();
            let parent_id = parent.map(|parent| format!("w{parent}")).unwrap_or_default();
            Visibility {
                workflow_id: format!("w{id}"),
                workflow_type: format!("T{kind}"),
                status: status.into(),
                start_time: Some(timestamp(start)),
                close_time: (!open).then(|| timestamp(start + lasts)),
                root_workflow_id: if parent.is_some() { parent_id.clone() } else { format!("w{id}") },
                root_run_id: run_id.clone(),
                parent_workflow_id: parent_id,
                run_id,
                search_attributes: Some(SearchAttributes { indexed_fields }),
                ..Visibility::default()
            }
        },
    )
}

const TESTS: [&str; 38] = [
    "WorkflowId = 'w1'",
    "WorkflowId IN ('w1', 'w2')",
    "WorkflowId STARTS_WITH 'w'",
    "WorkflowId > 'w1'",
    "WorkflowType = 'T0'",
    "WorkflowType BETWEEN 'T1' AND 'T2'",
    "ParentWorkflowId = 'w1'",
    "ParentWorkflowId IS NULL",
    "RootWorkflowId = 'w1'",
    "TaskQueue = 'q'",
    "ExecutionStatus = 'Completed'",
    "ExecutionStatus IN ('Running', 'Failed')",
    "ExecutionStatus != 'Running'",
    "StartTime > 7",
    "StartTime <= 7",
    "StartTime BETWEEN 5 AND 12",
    "CloseTime >= 12",
    "CloseTime < 12",
    "CloseTime IS NULL",
    "Color = 'red'",
    "Color = ''",
    "Color != 'red'",
    "Color STARTS_WITH 'r'",
    "Color > 'blue'",
    "Color IS NOT NULL",
    "Tags = 'x'",
    "Tags IN ('x', 'y')",
    "Tags IS NOT NULL",
    "Note = 'hello'",
    "Note = 'there hello'",
    "Note IS NOT NULL",
    "Size >= 3",
    "Size BETWEEN -1 AND 2",
    "Size = 2.0",
    "Weight = 2",
    "Flag = true",
    "At >= '2020-01-01T00:00:06Z'",
    "TemporalNamespaceDivision = 'TemporalScheduler'",
];

const ORDERS: [&str; 7] = [
    "",
    "ORDER BY StartTime DESC",
    "ORDER BY StartTime",
    "ORDER BY Size DESC, Color",
    "ORDER BY CloseTime ASC",
    "ORDER BY Tags DESC",
    "ORDER BY ExecutionStatus, StartTime DESC",
];

fn query() -> impl Strategy<Value = String> {
    let test = proptest::sample::select(&TESTS[..]).prop_map(str::to_owned);
    test.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            3 => proptest::collection::vec(inner.clone(), 2..4).prop_map(|all| format!("({})", all.join(" AND "))),
            1 => proptest::collection::vec(inner.clone(), 2..4).prop_map(|any| format!("({})", any.join(" OR "))),
            1 => inner.prop_map(|inner| format!("(NOT {inner})")),
        ]
    })
}

fn fill(runs: &[Visibility]) -> RocksStore {
    let store = RocksStore::in_memory(RocksOptions::small()).expect("in memory");
    let mut batch = BatchBuilder::new();
    for (at, run) in runs.iter().enumerate() {
        let slot = SLOTS.start + Slot::try_from(at).expect("few") % 4;
        // As it comes about: first open, then what it is.
        let open = Visibility { status: Status::Running.into(), close_time: None, ..run.clone() };
        visibility::write(slot, NAMESPACE, &run.run_id, None, Some(&open), &mut batch);
        visibility::write(slot, NAMESPACE, &run.run_id, Some(&open), Some(run), &mut batch);
        // Another that is gone again.
        let gone = uuid::Uuid::from_u128(u128::MAX - at as u128).to_string();
        visibility::write(slot, NAMESPACE, &gone, None, Some(run), &mut batch);
        visibility::write(slot, NAMESPACE, &gone, Some(run), None, &mut batch);
    }
    store.write(&[batch.finish().expect("a small batch")]).expect("it is written");
    store
}

fn list(filter: &Filter, page_size: u32, after: Bytes, count_only: bool) -> ListShards {
    let (namespace_id, query) = (NAMESPACE.to_owned(), filter.to_string());
    ListShards { namespace_id, query, page_size, after, count_only, group_id: 1, ..ListShards::default() }
}

fn sort_key(filter: &Filter, run: &Visibility) -> Vec<u8> {
    let mut key = filter.sort_values(run);
    let (close, start) = order_of(run);
    listing_key(close.0, start.0, &Id::new(&run.run_id), &mut key);
    key
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_search_finds_what_looking_at_all_finds(
        runs in proptest::collection::vec(run(), 0..60),
        queries in proptest::collection::vec((query(), proptest::sample::select(&ORDERS[..]), 1..9_u32), 12),
    ) {
        let store = fill(&runs);
        for (query, order, page_size) in queries {
            let filter = Filter::parse(&format!("{query} {order}"), &custom()).expect("a valid query");
            let mut expected: Vec<&Visibility> = runs.iter().filter(|run| filter.matches(run)).collect();
            expected.sort_by_key(|run| sort_key(&filter, run));

            let counted = search(&store, SLOTS, &filter, &list(&filter, 0, Bytes::new(), true)).expect("it answers");
            prop_assert_eq!(counted.count, i64::try_from(expected.len()).expect("few"), "count of {}", query);
            let mut groups = BTreeMap::new();
            for run in &expected {
                *groups.entry(filter::status_name(run.status())).or_insert(0) += 1;
            }
            prop_assert_eq!(counted.groups, groups, "groups of {}", query);

            let mut found = Vec::new();
            let mut after = Bytes::new();
            loop {
                let page = search(&store, SLOTS, &filter, &list(&filter, page_size, after, false)).expect("it answers");
                prop_assert!(page.rows.len() <= page_size as usize);
                let Some(last) = page.rows.last() else { break };
                after = last.sort_key.clone();
                found.extend(page.rows.into_iter().filter_map(|row| row.visibility).map(|run| run.run_id));
            }
            let expected: Vec<&String> = expected.iter().map(|run| &run.run_id).collect();
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{} {}", query, order);
        }
    }
}

#[test]
fn what_is_sorted_by_is_in_order_and_the_missing_come_last() {
    let run = |id: u8, size: Option<i64>| Visibility {
        workflow_id: format!("w{id}"),
        run_id: uuid::Uuid::from_u128(id.into()).to_string(),
        start_time: Some(timestamp(id.into())),
        search_attributes: size.map(|size| SearchAttributes {
            indexed_fields: [("Size".to_owned(), payload(Kind::Int, size.to_string()))].into(),
        }),
        ..Visibility::default()
    };
    let store = fill(&[run(1, Some(5)), run(2, None), run(3, Some(-7)), run(4, Some(12)), run(5, None)]);
    let ids = |order: &str| {
        let filter = Filter::parse(order, &custom()).expect("a valid query");
        let page = search(&store, SLOTS, &filter, &list(&filter, 10, Bytes::new(), false)).expect("it answers");
        page.rows.into_iter().filter_map(|row| row.visibility).map(|run| run.workflow_id).collect::<Vec<_>>()
    };
    assert_eq!(ids("ORDER BY Size"), ["w3", "w1", "w4", "w5", "w2"]);
    assert_eq!(ids("ORDER BY Size DESC"), ["w4", "w1", "w3", "w5", "w2"]);
    assert_eq!(ids("ORDER BY StartTime"), ["w1", "w2", "w3", "w4", "w5"]);
    assert_eq!(ids("ORDER BY WorkflowId DESC"), ["w5", "w4", "w3", "w2", "w1"]);
}

#[test]
fn the_cheapest_way_is_taken() {
    let run = |at: u32, color: &str| Visibility {
        workflow_id: format!("w{at}"),
        workflow_type: "T".into(),
        run_id: uuid::Uuid::from_u128(at.into()).to_string(),
        status: Status::Completed.into(),
        start_time: Some(timestamp(i64::from(at))),
        close_time: Some(timestamp(i64::from(at) + 1)),
        search_attributes: Some(SearchAttributes {
            indexed_fields: [("Color".to_owned(), payload(Kind::Keyword, format!("{color:?}")))].into(),
        }),
        ..Visibility::default()
    };
    let runs: Vec<Visibility> = (0..200).map(|at| run(at, if at % 50 == 0 { "rare" } else { "common" })).collect();
    let store = fill(&runs);
    let chosen = |query: &str| {
        let filter = Filter::parse(query, &custom()).expect("a valid query");
        choose(&*store.view(), &SLOTS, &filter, &list(&filter, 10, Bytes::new(), false)).expect("it answers")
    };
    let index = |name: &str, value| Access::Index { name: name.into(), probe: Probe::Is(value) };
    let rare = index("Color", Value::Text("rare".into()));
    assert_eq!(chosen("WorkflowType = 'T' AND ExecutionStatus = 'Completed' AND Color = 'rare'"), [rare]);
    let workflow = index("WorkflowId", Value::Text("w7".into()));
    assert_eq!(chosen("Color = 'common' AND WorkflowId = 'w7'"), [workflow]);
    assert_eq!(chosen("Color = 'common' AND CloseTime > 190"), [Access::Closed { from: 190, to: i64::MAX }]);
    assert_eq!(chosen("Color != 'common'").len(), 2, "everything");
}
