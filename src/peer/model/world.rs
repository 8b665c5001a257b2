//! The state of the model network: what is on its way, and what stands in its way.
//!
//! # Used by
//! `model.rs` (changes the conditions), `stream.rs` (moves bytes).

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::network::ByteStream;

/// Longest time after a cut until TCP repeats what was lost.
const REPEAT_TIME_MAX: Duration = Duration::from_secs(60);

/// What a listener is handed: a connection, and the address that it comes from.
pub(super) type Incoming = (Box<dyn ByteStream>, String);

#[derive(Debug)]
pub(super) struct State {
    pub(super) random: Random,
    latency: RangeInclusive<Duration>,
    pub(super) listeners: BTreeMap<(Arc<str>, u16), mpsc::Sender<Incoming>>,
    paths: BTreeMap<Path, Condition>,
    /// One per direction of each stream.
    pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    next_port: u16,
}

/// A direction between two hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path {
    pub(super) from: Arc<str>,
    pub(super) to: Arc<str>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Condition {
    pub(super) latency: Option<RangeInclusive<Duration>>,
    pub(super) cut_since: Option<Instant>,
    pub(super) clogged: bool,
}

#[derive(Debug)]
pub(super) struct Pipe {
    path: Path,
    /// Bytes on their way, and when they arrive.
    pub(super) pieces: VecDeque<(Instant, Bytes)>,
    pub(super) bytes: usize,
    pub(super) end: Option<End>,
    pub(super) reader_gone: bool,
    pub(super) writer_gone: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Reset,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            latency: Duration::from_micros(100)..=Duration::from_micros(300),
            listeners: BTreeMap::new(),
            paths: BTreeMap::new(),
            pipes: BTreeMap::new(),
            next_pipe: 0,
            next_port: 40_000,
        }
    }

    pub(super) fn condition(&mut self, from: &str, to: &str) -> &mut Condition {
        self.paths.entry(Path { from: from.into(), to: to.into() }).or_default()
    }

    pub(super) fn holds(&self, path: &Path) -> bool {
        self.paths.get(path).is_some_and(|condition| condition.clogged || condition.cut_since.is_some())
    }

    pub(super) fn latency(&mut self, path: &Path) -> Duration {
        let range = self.paths.get(path).and_then(|condition| condition.latency.clone());
        let range = range.unwrap_or_else(|| self.latency.clone());
        self.random.between(*range.start(), *range.end())
    }

    pub(super) fn heal(&mut self, from: &str, to: &str) {
        let condition = self.condition(from, to);
        condition.clogged = false;
        let lasted = condition.cut_since.take().map(|since| since.elapsed().min(REPEAT_TIME_MAX));
        let Self { random, pipes, .. } = self;
        for pipe in pipes.values_mut().filter(|pipe| &*pipe.path.from == from && &*pipe.path.to == to) {
            if let Some(lasted) = lasted {
                pipe.delay_until(Instant::now() + random.between(Duration::ZERO, lasted));
            }
            wake(&mut pipe.reader);
            wake(&mut pipe.writer);
        }
    }

    pub(super) fn reset(&mut self, one: &str, other: &str) {
        let Self { random, pipes, .. } = self;
        let between = |path: &Path| [(one, other), (other, one)].contains(&(&*path.from, &*path.to));
        for pipe in pipes.values_mut().filter(|pipe| between(&pipe.path)) {
            pipe.reset(random);
        }
    }

    pub(super) fn add_pipe(&mut self, path: Path) -> u64 {
        let id = self.next_pipe;
        self.next_pipe += 1;
        let pipe = Pipe {
            path,
            pieces: VecDeque::new(),
            bytes: 0,
            end: None,
            reader_gone: false,
            writer_gone: false,
            reader: None,
            writer: None,
        };
        self.pipes.insert(id, pipe);
        id
    }

    pub(super) fn free_port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(40_000);
        self.next_port
    }

    /// Where a pipe leads, and whether anything passes there.
    pub(super) fn path_of(&mut self, pipe: u64) -> (Path, bool) {
        let path = self.pipe(pipe).path.clone();
        let held = self.holds(&path);
        (path, held)
    }

    pub(super) fn pipe(&mut self, id: u64) -> &mut Pipe {
        self.pipes.get_mut(&id).expect("a pipe lives until both of its ends are dropped")
    }

    /// Forgets a pipe of which nobody holds an end.
    pub(super) fn sweep(&mut self, id: u64) {
        let pipe = self.pipe(id);
        if pipe.reader_gone && pipe.writer_gone {
            self.pipes.remove(&id);
        }
    }
}

impl Pipe {
    fn reset(&mut self, random: &mut Random) {
        let mut kept = usize::try_from(random.below(self.bytes as u64 + 1)).unwrap_or(0);
        self.bytes = kept;
        self.pieces.retain_mut(|(_, piece)| {
            piece.truncate(kept);
            kept -= piece.len();
            !piece.is_empty()
        });
        self.end = Some(End::Reset);
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    fn delay_until(&mut self, time: Instant) {
        for (due, _) in &mut self.pieces {
            *due = (*due).max(time);
        }
    }
}

pub(super) fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// SplitMix64: enough randomness for a model.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn between(&mut self, start: Duration, end: Duration) -> Duration {
        let span = u64::try_from(end.saturating_sub(start).as_nanos()).unwrap_or(u64::MAX - 1);
        start + Duration::from_nanos(self.below(span + 1))
    }
}
