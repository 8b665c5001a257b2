//! Random operations on a few chains: nothing panics, what must hold holds after each, and in the end
//! everything comes to an end. `PROPTEST_CASES` says how many sequences are tried.

mod shell;
mod world;

use std::collections::BTreeSet;

use bristlecone_proto::temporal::api::enums::v1::EventType;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use world::World;
use world::ops::{Cmd, Op, Shape, ops};

proptest! {
    #![proptest_config(Config { max_shrink_iters: 4_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_comes_to_an_end(ops in ops(80)) {
        let mut world = World::default();
        for op in &ops {
            world.apply(op);
        }
        world.quiesce();
    }
}

/// Found by the test above: a child that was paused before it began, and whose parent closed meanwhile.
#[test]
fn a_paused_child_begins_without_its_parent() {
    let shape = Shape::default();
    let child = Cmd::Child { workflow: 2, policy: 3, reuse: 4, run_timeout_s: 0, retries: false };
    let mut world = World::default();
    for op in [
        Op::Start { workflow: 2, request: 0, conflict: 0, reuse: 0, shape },
        Op::Work { which: 0, commands: vec![child], force: false, sticky: false },
        Op::Exchange,
        Op::Operate { workflow: 2, what: 6 },
    ] {
        world.apply(&op);
    }
    world.quiesce();
}

/// The operations are worth something: together they bring about every kind of event that there is.
#[test]
fn the_operations_reach_every_kind_of_event() {
    use EventType as E;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..150 {
        let ops = ops(120).new_tree(&mut runner).expect("the strategy has no filters").current();
        let mut world = World::default();
        for op in &ops {
            world.apply(op);
        }
        world.quiesce();
        seen.extend(world.event_types());
    }
    let unseen = |first: i32, last: i32| {
        (first..=last).filter_map(|number| E::try_from(number).ok()).filter(|kind| !seen.contains(kind))
    };
    // Up to signals to other workflows every type is in use; later ones mostly are not, as yet.
    let expected = [
        E::WorkflowPropertiesModified,
        E::WorkflowExecutionOptionsUpdated,
        E::WorkflowExecutionUpdateAdmitted,
        E::WorkflowExecutionUpdateAccepted,
        E::WorkflowExecutionUpdateCompleted,
        E::WorkflowExecutionPaused,
        E::WorkflowExecutionUnpaused,
    ];
    let last = E::ExternalWorkflowExecutionSignaled as i32;
    let missing: Vec<E> = unseen(1, last).chain(expected.into_iter().filter(|kind| !seen.contains(kind))).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
}
