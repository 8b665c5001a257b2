//! What a seed draws before a run begins: the size of the cluster, the mix of faults, the load.

use std::fmt;
use std::time::Duration;

use super::rng::Rng;

/// A kind of fault; see `nemesis.rs` for what each does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    PowerCut,
    PowerCutAll,
    CrashInWrite,
    Kill,
    Restart,
    CutOff,
    OneWayCut,
    PairCut,
    Clog,
    Reset,
    Latency,
    SlowDisk,
    SyncFails,
    WriteFails,
    DiskFull,
    ClockStep,
    ClockDrift,
    FlushSome,
    Transfer,
    Join,
    Leave,
    Replace,
    Pause,
    BitFlip,
}

impl Fault {
    /// Drawn from a stream of their own.
    const MORE: [Self; 2] = [Self::Pause, Self::BitFlip];

    const MOST: [Self; 22] = [
        Self::PowerCut,
        Self::PowerCutAll,
        Self::CrashInWrite,
        Self::Kill,
        Self::Restart,
        Self::CutOff,
        Self::OneWayCut,
        Self::PairCut,
        Self::Clog,
        Self::Reset,
        Self::Latency,
        Self::SlowDisk,
        Self::SyncFails,
        Self::WriteFails,
        Self::DiskFull,
        Self::ClockStep,
        Self::ClockDrift,
        Self::FlushSome,
        Self::Transfer,
        Self::Join,
        Self::Leave,
        Self::Replace,
    ];
}

/// Everything that is drawn before a run.
#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub nodes: u64,
    pub shards: u32,
    /// How long faults last.
    pub safety: Duration,
    pub faults: Vec<Fault>,
    /// Pause between two faults, at most.
    pub fault_pause_ms: u64,
    pub workers: u64,
    pub workflows: u64,
    pub sticky: bool,
    /// Of a thousand calls of clients, how many are lost, or their answers, or come twice, or are given up midway.
    pub lost: u64,
    pub answers_lost: u64,
    pub doubled: u64,
    pub given_up: u64,
    /// Longest way of a client's call, one way.
    pub call_ms_max: u64,
    /// Of a thousand workflows, how many are updated; of a thousand runs, in how many workflows are reset.
    pub updated: u64,
    pub reset: u64,
    pub schedules: u64,
    /// Nodes differ in what they are told to limit, as versions do.
    pub mixed: bool,
    pub segment_kib: u64,
    pub flush_interval: Duration,
    pub flush_log_kib: u64,
    pub keep_log_kib: u64,
}

impl Options {
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::of(seed, "options");
        let nodes = if rng.per_mille(700) { 3 } else { rng.between(4..=5) };
        let mut more = Rng::of(seed, "more options");
        let mut scheduled = Rng::of(seed, "schedules");
        let mut faults: Vec<Fault> = Fault::MOST.into_iter().filter(|_| rng.per_mille(400)).collect();
        if faults.is_empty() {
            faults.push(Fault::PowerCut);
        }
        faults.extend(Fault::MORE.into_iter().filter(|_| more.per_mille(400)));
        let rough = rng.per_mille(600);
        let mut share = |most: u64| if rough { rng.below(most) } else { 0 };
        let (lost, answers_lost, doubled, given_up) = (share(40), share(40), share(60), share(40));
        Self {
            seed,
            nodes,
            shards: u32::try_from(rng.between(1..=3)).unwrap_or(1),
            safety: Duration::from_secs(rng.between(25..=45)),
            faults,
            fault_pause_ms: rng.between(800..=6_000),
            workers: rng.between(2..=3),
            workflows: rng.between(8..=24),
            sticky: rng.per_mille(500),
            lost,
            answers_lost,
            doubled,
            given_up,
            call_ms_max: if rng.per_mille(300) { rng.between(10..=60) } else { 3 },
            updated: if more.per_mille(500) { more.between(200..=1_000) } else { 0 },
            reset: 400,
            schedules: if scheduled.per_mille(350) { scheduled.between(1..=2) } else { 0 },
            mixed: more.per_mille(300),
            segment_kib: if rng.per_mille(500) { 256 } else { 1024 },
            flush_interval: Duration::from_millis(rng.between(500..=15_000)),
            flush_log_kib: rng.between(16..=256),
            keep_log_kib: if rng.per_mille(500) { 0 } else { rng.between(16..=512) },
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
