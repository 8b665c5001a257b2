//! What can happen: operations on a handful of workflow ids, small enough to shrink well.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Workflow ids there are: few, so that they meet.
pub const WORKFLOWS: u8 = 4;

#[derive(Debug, Clone)]
pub enum Op {
    Start {
        workflow: u8,
        request: u8,
        conflict: i32,
        reuse: i32,
        shape: Shape,
    },
    SignalWithStart {
        workflow: u8,
        request: u8,
    },
    Signal {
        workflow: u8,
        request: u8,
    },
    RequestCancel {
        workflow: u8,
    },
    Terminate {
        workflow: u8,
    },
    ResetSticky {
        workflow: u8,
    },
    Update {
        workflow: u8,
        update: u8,
    },
    UpdateWithStart {
        workflow: u8,
        update: u8,
        request: u8,
        conflict: i32,
    },
    /// Resets the current run, or a `former` one, to the `point`-th of its events that may do.
    Reset {
        workflow: u8,
        point: u8,
        request: u8,
        former: bool,
    },
    /// An operator pauses, unpauses or resets every activity of the run, or the run, or changes its options.
    Operate {
        workflow: u8,
        what: u8,
    },
    /// An operator makes or changes the namespace's rule, or removes it.
    Rule {
        what: u8,
    },
    /// Takes the `which`-th waiting workflow task; `again`: with the last poll's request id.
    PollWorkflow {
        which: u8,
        again: bool,
    },
    CompleteWorkflow {
        which: u8,
        commands: Vec<Cmd>,
        force: bool,
        hand_out: bool,
        sticky: bool,
    },
    /// A poll and its answer at once.
    Work {
        which: u8,
        commands: Vec<Cmd>,
        force: bool,
        sticky: bool,
    },
    FailWorkflow {
        which: u8,
    },
    UndoWorkflow {
        workflow: u8,
    },
    StickyUnavailable {
        workflow: u8,
    },
    Harden {
        workflow: u8,
    },
    PollActivity {
        which: u8,
        again: bool,
    },
    UndoActivity {
        which: u8,
    },
    EndActivity {
        which: u8,
        how: End,
        by_id: bool,
    },
    /// A poll and its answer at once.
    WorkActivity {
        which: u8,
        how: End,
    },
    /// Lets time pass, in milliseconds, and wakes what is due.
    Pass {
        ms: u32,
    },
    /// Goes to the next deadline of any chain, and wakes what is due.
    NextDeadline,
    Wake {
        workflow: u8,
    },
    /// Delivers an outbox row; its reply waits for [`Op::Answer`].
    Deliver {
        which: u8,
    },
    Answer {
        which: u8,
    },
    /// The reply never arrives.
    LoseAnswer {
        which: u8,
    },
    RepeatAnswer {
        which: u8,
    },
    /// Delivers every row that may be, and hands the replies to their senders.
    Exchange,
    FailOver,
    Purge {
        workflow: u8,
    },
    Nonsense {
        workflow: u8,
        kind: u8,
        about_current: bool,
    },
}

/// Options of a start.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    pub run_timeout_s: i64,
    pub execution_timeout_s: i64,
    pub retries: bool,
    pub cron: bool,
    pub delay_s: i64,
    pub eager: bool,
    /// A start that finds an open run attaches its request to it.
    pub attach: bool,
}

#[derive(Debug, Clone)]
pub enum Cmd {
    Activity { id: u8, timeouts: [i64; 4], attempts: i32, eager: bool },
    CancelActivity { which: u8 },
    Timer { id: u8, seconds: i64 },
    CancelTimer { id: u8 },
    Child { workflow: u8, policy: i32, reuse: i32, run_timeout_s: i64, retries: bool },
    Signal { workflow: u8, child_only: bool },
    Cancel { workflow: u8, child_only: bool },
    Marker,
    UpsertMemo { key: u8 },
    Complete,
    Fail,
    CancelSelf,
    ContinueAsNew,
}

#[derive(Debug, Clone, Copy)]
pub enum End {
    Complete,
    Fail { retryable: bool, delay_s: i64 },
    Cancel,
    Heartbeat,
}

/// Up to so many operations, after a start or two.
pub fn ops(most: usize) -> impl Strategy<Value = Vec<Op>> {
    (vec(start(), 1..3), vec(op(), 1..most)).prop_map(|(starts, ops)| starts.into_iter().chain(ops).collect())
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => start(),
        1 => (id(), 0..4_u8).prop_map(|(workflow, request)| Op::SignalWithStart { workflow, request }),
        8 => (id(), 0..12_u8).prop_map(|(workflow, request)| Op::Signal { workflow, request }),
        1 => id().prop_map(|workflow| Op::RequestCancel { workflow }),
        1 => id().prop_map(|workflow| Op::Terminate { workflow }),
        1 => id().prop_map(|workflow| Op::ResetSticky { workflow }),
        10 => (id(), 0..12_u8).prop_map(|(workflow, update)| Op::Update { workflow, update }),
        2 => (id(), 0..12_u8, 0..6_u8, 0..=3_i32).prop_map(|(workflow, update, request, conflict)| {
            Op::UpdateWithStart { workflow, update, request, conflict }
        }),
        2 => (id(), any::<u8>(), 0..20_u8, prop::bool::weighted(0.3)).prop_map(|(workflow, point, request, former)| {
            Op::Reset { workflow, point, request, former }
        }),
        5 => (id(), 0..17_u8).prop_map(|(workflow, what)| Op::Operate { workflow, what }),
        2 => (0..6_u8).prop_map(|what| Op::Rule { what }),
        8 => (any::<u8>(), prop::bool::weighted(0.1)).prop_map(|(which, again)| Op::PollWorkflow { which, again }),
        10 => complete(),
        30 => work(),
        10 => (any::<u8>(), end()).prop_map(|(which, how)| Op::WorkActivity { which, how }),
        1 => any::<u8>().prop_map(|which| Op::FailWorkflow { which }),
        1 => id().prop_map(|workflow| Op::UndoWorkflow { workflow }),
        1 => id().prop_map(|workflow| Op::StickyUnavailable { workflow }),
        1 => id().prop_map(|workflow| Op::Harden { workflow }),
        8 => (any::<u8>(), prop::bool::weighted(0.1)).prop_map(|(which, again)| Op::PollActivity { which, again }),
        1 => any::<u8>().prop_map(|which| Op::UndoActivity { which }),
        9 => (any::<u8>(), end(), prop::bool::weighted(0.2))
            .prop_map(|(which, how, by_id)| Op::EndActivity { which, how, by_id }),
        3 => select(vec![1, 300, 600, 2_000, 15_000]).prop_map(|ms| Op::Pass { ms }),
        4 => Just(Op::NextDeadline),
        1 => id().prop_map(|workflow| Op::Wake { workflow }),
        10 => any::<u8>().prop_map(|which| Op::Deliver { which }),
        10 => any::<u8>().prop_map(|which| Op::Answer { which }),
        2 => any::<u8>().prop_map(|which| Op::LoseAnswer { which }),
        1 => any::<u8>().prop_map(|which| Op::RepeatAnswer { which }),
        6 => Just(Op::Exchange),
        2 => Just(Op::FailOver),
        1 => id().prop_map(|workflow| Op::Purge { workflow }),
        2 => (id(), 0..50_u8, any::<bool>())
            .prop_map(|(workflow, kind, about_current)| Op::Nonsense { workflow, kind, about_current }),
    ]
}

fn id() -> impl Strategy<Value = u8> {
    0..WORKFLOWS
}

fn start() -> impl Strategy<Value = Op> {
    let shape = (
        select(vec![0_i64, 0, 0, 0, 0, 7, 60]),
        select(vec![0_i64, 0, 0, 0, 0, 20, 90]),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
        select(vec![0_i64, 0, 0, 0, 3]),
        prop::bool::weighted(0.2),
        any::<bool>(),
    );
    let shape = shape.prop_map(|(run_timeout_s, execution_timeout_s, retries, cron, delay_s, eager, attach)| Shape {
        run_timeout_s,
        execution_timeout_s,
        retries,
        cron,
        delay_s: if cron { 0 } else { delay_s },
        eager,
        attach,
    });
    (id(), 0..6_u8, 0..=3_i32, 0..=4_i32, shape).prop_map(|(workflow, request, conflict, reuse, shape)| Op::Start {
        workflow,
        request,
        conflict,
        reuse,
        shape,
    })
}

fn complete() -> impl Strategy<Value = Op> {
    let flags = (any::<bool>(), prop::bool::weighted(0.3), any::<bool>());
    (any::<u8>(), vec(command(), 0..4), flags).prop_map(|(which, commands, (force, hand_out, sticky))| {
        Op::CompleteWorkflow { which, commands, force, hand_out, sticky }
    })
}

fn work() -> impl Strategy<Value = Op> {
    (any::<u8>(), vec(command(), 1..4), prop::bool::weighted(0.3), any::<bool>())
        .prop_map(|(which, commands, force, sticky)| Op::Work { which, commands, force, sticky })
}

fn command() -> impl Strategy<Value = Cmd> {
    let timeout = || select(vec![0_i64, 0, 0, 2, 5, 30]);
    let timeouts = (timeout(), timeout(), timeout(), timeout());
    prop_oneof![
        10 => (0..6_u8, timeouts, select(vec![0, 0, 1, 2]), prop::bool::weighted(0.2)).prop_map(
            |(id, (close, start, work, beat), attempts, eager)| Cmd::Activity {
                id,
                timeouts: [close, start, work, beat],
                attempts,
                eager,
            }
        ),
        3 => any::<u8>().prop_map(|which| Cmd::CancelActivity { which }),
        4 => (0..2_u8, select(vec![0_i64, 1, 60])).prop_map(|(id, seconds)| Cmd::Timer { id, seconds }),
        2 => (0..2_u8).prop_map(|id| Cmd::CancelTimer { id }),
        6 => (id(), 0..=3_i32, 0..=4_i32, select(vec![0_i64, 4]), prop::bool::weighted(0.2)).prop_map(
            |(workflow, policy, reuse, run_timeout_s, retries)| Cmd::Child {
                workflow,
                policy,
                reuse,
                run_timeout_s,
                retries,
            }
        ),
        3 => (id(), any::<bool>()).prop_map(|(workflow, child_only)| Cmd::Signal { workflow, child_only }),
        2 => (id(), any::<bool>()).prop_map(|(workflow, child_only)| Cmd::Cancel { workflow, child_only }),
        1 => Just(Cmd::Marker),
        1 => (0..2_u8).prop_map(|key| Cmd::UpsertMemo { key }),
        1 => Just(Cmd::Complete),
        1 => Just(Cmd::Fail),
        1 => Just(Cmd::CancelSelf),
        1 => Just(Cmd::ContinueAsNew),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => Just(End::Complete),
        3 => (prop::bool::weighted(0.8), select(vec![0_i64, 0, 4]))
            .prop_map(|(retryable, delay_s)| End::Fail { retryable, delay_s }),
        2 => Just(End::Cancel),
        2 => Just(End::Heartbeat),
    ]
}
