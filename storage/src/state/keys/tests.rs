//! Properties of the keys: order, round trip, tables apart from each other, layouts that must not move.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::*;
use crate::state::KeyRange;

type Rest = BoxedStrategy<Key<'static>>;

fn text() -> impl Strategy<Value = Text<'static>> {
    // Few symbols, so that texts share beginnings and meet the escapes.
    let symbol = prop::sample::select(vec!['\0', '\u{1}', '\u{2}', 'a', 'b', 'é', '\u{10FFFF}']);
    prop::collection::vec(symbol, 0..5).prop_map(|symbols| symbols.into_iter().collect::<String>().into())
}

fn id() -> impl Strategy<Value = Id<'static>> {
    let byte = prop::sample::select(vec![0u8, 1, 0x7F, 0xFF]);
    let uuid =
        prop::collection::vec(byte, 16).prop_map(|bytes| Id::Uuid(bytes.try_into().expect("sixteen were asked for")));
    prop_oneof![uuid, text().prop_map(Id::Other)]
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -3i64..3, Just(i64::MIN), Just(i64::MAX)]
}

fn double() -> impl Strategy<Value = Double> {
    prop_oneof![any::<f64>(), Just(-0.0), Just(0.0), Just(f64::NAN), Just(f64::NEG_INFINITY)].prop_map(Double)
}

fn chain_row() -> impl Strategy<Value = ChainRow<'static>> {
    let receipt = (id(), text(), any::<u64>()).prop_map(|(namespace, workflow, sequence)| ChainRow::Receipt {
        namespace,
        workflow,
        sequence,
    });
    let schedule = [ChainRow::Schedule, ChainRow::ScheduleHead, ChainRow::ScheduleResult];
    prop_oneof![Just(ChainRow::Record), receipt, prop::sample::select(schedule.to_vec())]
}

fn run_row() -> impl Strategy<Value = RunRow<'static>> {
    prop_oneof![
        Just(RunRow::Head),
        Just(RunRow::Fields),
        number().prop_map(|event| RunRow::Activity { event }),
        number().prop_map(|event| RunRow::Timer { event }),
        number().prop_map(|event| RunRow::Child { event }),
        number().prop_map(|event| RunRow::ExternalSignal { event }),
        number().prop_map(|event| RunRow::ExternalCancel { event }),
        number().prop_map(|arrival| RunRow::Buffered { arrival }),
        text().prop_map(|request| RunRow::SignalRequest { request }),
    ]
}

fn attribute() -> impl Strategy<Value = Attribute<'static>> {
    let known = prop::sample::select(vec![Attribute::All, Attribute::WorkflowId, Attribute::RootRunId]);
    prop_oneof![known, text().prop_map(|name| Attribute::Named { name })]
}

fn value() -> impl Strategy<Value = IndexValue<'static>> {
    prop_oneof![
        Just(IndexValue::Absent),
        any::<bool>().prop_map(|value| IndexValue::Bool { value }),
        number().prop_map(|value| IndexValue::Int { value }),
        double().prop_map(|value| IndexValue::Double { value }),
        number().prop_map(|value| IndexValue::Datetime { value }),
        text().prop_map(|value| IndexValue::Keyword { value }),
        text().prop_map(|value| IndexValue::Word { value }),
    ]
}

fn index_key() -> Rest {
    (id(), attribute(), value(), number(), number(), id())
        .prop_map(|(namespace, attribute, value, close, start, run)| Key::Index {
            namespace,
            attribute,
            value,
            close: Reverse(close),
            start: Reverse(start),
            run,
        })
        .boxed()
}

fn task_key() -> Rest {
    (id(), 0u8..3, text(), text(), 0u8..3, number(), id(), number())
        .prop_map(|(namespace, kind, queue, version, priority, scheduled, run, event)| Key::Task {
            namespace,
            kind,
            queue,
            version,
            priority,
            scheduled,
            run,
            event,
        })
        .boxed()
}

fn key() -> impl Strategy<Value = Key<'static>> {
    let queues = (id(), 0u8..3, text(), text());
    let counts = (id(), prop::option::of(text()), 0u8..3, text());
    prop_oneof![
        (id(), text(), chain_row()).prop_map(|(namespace, workflow, row)| Key::Chain { namespace, workflow, row }),
        (id(), run_row()).prop_map(|(run, row)| Key::Run { run, row }),
        (id(), number()).prop_map(|(run, first_event)| Key::History { run, first_event }),
        task_key(),
        queues.prop_map(|(namespace, kind, queue, version)| Key::TaskCount { namespace, kind, queue, version }),
        (number(), id(), text()).prop_map(|(due, namespace, workflow)| Key::Deadline { due, namespace, workflow }),
        (id(), text(), any::<u64>()).prop_map(|(namespace, workflow, sequence)| Key::Outbox {
            namespace,
            workflow,
            sequence
        }),
        (id(), id()).prop_map(|(namespace, run)| Key::Visibility { namespace, run }),
        index_key(),
        counts.prop_map(|(namespace, division, status, workflow_type)| Key::RunCount {
            namespace,
            division,
            status,
            workflow_type
        }),
        id().prop_map(|namespace| Key::Fence { namespace }),
        Just(Key::Cluster),
        any::<u64>().prop_map(|node| Key::Member { node }),
        any::<u64>().prop_map(|group| Key::Shard { group }),
        id().prop_map(|namespace| Key::Namespace { namespace }),
        text().prop_map(|name| Key::NamespaceName { name }),
        text().prop_map(|request| Key::NodeRequest { request }),
        (id(), any::<u8>(), text()).prop_map(|(namespace, kind, queue)| Key::QueueConfig { namespace, kind, queue }),
        (0u64..3, any::<bool>()).prop_map(|(group, state)| Key::Group {
            group,
            row: if state { GroupRow::State } else { GroupRow::Extent }
        }),
        text().prop_map(|name| Key::Node { name }),
    ]
}

fn slot() -> impl Strategy<Value = Slot> {
    prop_oneof![0u16..3, Just(255), Just(256), Just(SLOTS - 1), Just(META_SLOT), Just(GROUP_SLOT), Just(NODE_SLOT)]
}

const TABLES: [u8; 20] = [
    0x01, 0x10, 0x11, 0x20, 0x21, 0x22, 0x23, 0x30, 0x31, 0x32, 0x40, 0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x6F, 0x70,
    0x78,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn keys_sort_as_their_values(a in (slot(), key()), b in (slot(), key())) {
        prop_assert_eq!(a.1.encode(a.0).cmp(&b.1.encode(b.0)), a.cmp(&b));
    }

    #[test]
    fn a_key_reads_back(slot in slot(), key in key()) {
        let bytes = key.encode(slot);
        prop_assert_eq!(Key::parse(&bytes), Ok((slot, key)));
        prop_assert!(KeyRange::all().contains(&bytes));
    }

    #[test]
    fn no_key_begins_another(a in key(), b in key()) {
        prop_assume!(a != b);
        prop_assert!(!a.encode(7).starts_with(&b.encode(7)));
    }

    #[test]
    fn bytes_that_read_as_a_key_are_its_encoding(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok((slot, key)) = Key::parse(&bytes) {
            prop_assert_eq!(key.encode(slot), bytes);
        }
    }

    #[test]
    fn damaged_keys_are_refused_or_are_other_keys(
        slot in slot(), key in key(), at in any::<prop::sample::Index>(), bit in 0..8, cut in any::<bool>(),
    ) {
        let mut bytes = key.encode(slot);
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1u8 << bit;
        }
        if let Ok((parsed_slot, parsed)) = Key::parse(&bytes) {
            prop_assert!((parsed_slot, &parsed) != (slot, &key));
            prop_assert_eq!(parsed.encode(parsed_slot), bytes);
        }
    }

    #[test]
    fn a_key_lies_in_its_own_table_and_in_no_other(slot in slot(), other in slot(), key in key()) {
        let bytes = key.encode(slot);
        let holding: Vec<u8> = TABLES.into_iter().filter(|number| table(slot, *number).contains(&bytes)).collect();
        prop_assert_eq!(holding, vec![bytes[2]]);
        prop_assert!(one_slot(slot).contains(&bytes));
        prop_assert!(slot == other || !one_slot(other).contains(&bytes));
        prop_assert_eq!(slot_range(0, SLOTS).contains(&bytes), slot < SLOTS);
    }

    #[test]
    fn rows_of_a_run_are_found_by_its_range_alone(run in id(), other in id(), row in run_row(), event in number()) {
        let name = other.to_string();
        let key = Key::Run { run: run.clone(), row }.encode(3);
        prop_assert_eq!(run_rows(3, &name).contains(&key), run == other);
        let key = Key::History { run: run.clone(), first_event: event }.encode(3);
        prop_assert_eq!(history_rows(3, &name).contains(&key), run == other);
        prop_assert_eq!(history_from(3, &name, 2).contains(&key), run == other && event >= 2);
    }

    #[test]
    fn rows_of_a_chain_are_found_by_its_range_alone(
        a in (id(), text()), b in (id(), text()), row in chain_row(), sequence in any::<u64>(),
    ) {
        let key = Key::Chain { namespace: a.0.clone(), workflow: a.1.clone(), row }.encode(3);
        prop_assert_eq!(chain_rows(3, &b.0.to_string(), &b.1).contains(&key), a == b);
        let key = Key::Outbox { namespace: a.0.clone(), workflow: a.1.clone(), sequence }.encode(3);
        prop_assert_eq!(outbox_of(3, &b.0.to_string(), &b.1).contains(&key), a == b);
        prop_assert!(outbox(3).contains(&key));
    }

    #[test]
    fn backlogs_of_queues_are_apart(key in task_key(), namespace in id(), kind in 0u8..3, queue in text(), version in text()) {
        let Key::Task { namespace: of, kind: k, queue: q, version: v, .. } = &key else { unreachable!() };
        let bytes = key.encode(3);
        let same = *of == namespace && *k == kind && *q == queue;
        let name = namespace.to_string();
        prop_assert_eq!(tasks_of_all_versions(3, &name, kind, &queue).contains(&bytes), same);
        prop_assert_eq!(tasks_of(3, &name, kind, &queue, &version).contains(&bytes), same && *v == version);
        prop_assert!(tasks(3).contains(&bytes));
    }

    #[test]
    fn an_index_is_read_by_value_range_and_beginning(
        key in index_key(), namespace in id(), attribute in attribute(), low in value(), high in value(), start in text(),
    ) {
        let Key::Index { namespace: of, attribute: a, value: v, .. } = &key else { unreachable!() };
        let bytes = key.encode(3);
        let same = *of == namespace && *a == attribute;
        let name = namespace.to_string();
        prop_assert_eq!(index(3, &name, &attribute).contains(&bytes), same);
        prop_assert_eq!(index_of(3, &name, &attribute, &low).contains(&bytes), same && *v == low);
        let between = low <= *v && *v <= high;
        prop_assert_eq!(index_between(3, &name, &attribute, &low, &high).contains(&bytes), same && between);
        let starts = matches!(v, IndexValue::Keyword { value } if value.starts_with(&*start));
        prop_assert_eq!(index_starting(3, &name, &attribute, &start).contains(&bytes), same && starts);
    }

    #[test]
    fn deadlines_are_read_up_to_a_time(due in number(), until in number(), namespace in id(), workflow in text()) {
        let key = Key::Deadline { due, namespace, workflow }.encode(3);
        prop_assert!(deadlines(3).contains(&key));
        prop_assert_eq!(deadlines_until(3, until).contains(&key), due <= until);
    }
}

#[test]
fn ids_keep_their_text() {
    for id in ["0e3a5b8c-0000-4000-8000-0123456789ab", "", "0E3A5B8C-0000-4000-8000-0123456789AB", "x\0y", "a-b"] {
        assert_eq!(Id::new(id).to_string(), id);
    }
    assert!(matches!(Id::new("0e3a5b8c-0000-4000-8000-0123456789ab"), Id::Uuid(_)));
    for other in
        ["0e3a5b8c0-000-4000-8000-0123456789ab", "0e3a5b8c-0000-4000-8000-0123456789aB", "0e3a5b8c-0000-4000-8000-"]
    {
        assert!(matches!(Id::new(other), Id::Other(_)), "{other}");
    }
    assert_eq!(
        Key::parse(&[&[0, 3, 0x10, 2], &b"0e3a5b8c-0000-4000-8000-0123456789ab"[..], &[0, 1]].concat()),
        Err(UnknownKey),
        "a UUID has one encoding"
    );
}

#[test]
fn slots_never_move() {
    assert_eq!(slot_of("", ""), 260);
    assert_eq!(slot_of("0e3a5b8c-0000-4000-8000-0123456789ab", "order-1"), 369);
    assert_eq!(slot_of("0e3a5b8c-0000-4000-8000-0123456789ab", "order-2"), 561);
    let mut hits = vec![0u32; usize::from(SLOTS)];
    for number in 0..102_400 {
        hits[usize::from(slot_of("default", &format!("workflow-{number}")))] += 1;
    }
    assert!(hits.iter().all(|hits| (50..160).contains(hits)), "a hundred each, more or less: {hits:?}");
}

#[test]
fn layouts_never_move() {
    let run = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    let fixtures: [(Slot, Key<'_>, &str); 8] = [
        (
            0x0102,
            Key::run(run, RunRow::Activity { event: 5 }),
            "010210 01000102030405060708090a0b0c0d0e0f 10 8000000000000005",
        ),
        (0x0102, Key::history(run, 1), "010211 01000102030405060708090a0b0c0d0e0f 8000000000000001"),
        (3, Key::chain("ns", "w\u{1}", ChainRow::Record), "000301 026e7300 77010200 01"),
        (
            3,
            Key::Deadline { due: -1, namespace: Id::new("n"), workflow: "w".into() },
            "000322 7fffffffffffffff 026e00 7700",
        ),
        (
            3,
            Key::Task {
                namespace: Id::new("n"),
                kind: 2,
                queue: "q".into(),
                version: "".into(),
                priority: 3,
                scheduled: 9,
                run: Id::new("r"),
                event: 7,
            },
            "000320 026e00 02 7100 00 03 8000000000000009 027200 8000000000000007",
        ),
        (
            3,
            Key::Index {
                namespace: Id::new("n"),
                attribute: Attribute::Named { name: "A".into() },
                value: IndexValue::Double { value: Double(1.0) },
                close: OPEN,
                start: Reverse(1),
                run: Id::new("r"),
            },
            "000331 026e00 f04100 03bff0000000000000 0000000000000000 7ffffffffffffffe 027200",
        ),
        (META_SLOT, Key::Cluster, "fffd60"),
        (GROUP_SLOT, Key::Group { group: 258, row: GroupRow::Extent }, "fffe70 0000000000000102 02"),
    ];
    for (slot, key, expected) in fixtures {
        let hex: String = key.encode(slot).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.replace(' ', ""), "{key:?}");
    }
    assert!(group_rows(258).contains(&group_state(258)) && group_rows(258).contains(&group_extent(258)));
    assert!(!group_rows(257).contains(&group_state(258)));
}
