//! The bytes of the model disk: what files hold now, what of it is durable, and what a power cut leaves.
//!
//! # Contract
//! Everything here is in terms of one open file or one directory and knows no faults but those of power
//! cuts and failed syncs; `model.rs` puts names, limits and switches around it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::SECTOR;

/// A seeded source of choices (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..end`; 0 when `end` is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let end = end as u64;
        self.next().checked_rem(end).map_or(0, |rest| usize::try_from(rest).expect("below a usize"))
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// A change of a file that was not synced.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Len(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => put(to, *offset, bytes),
            // Zeros from the allocator take no memory before they are touched.
            Change::Len(len) if to.is_empty() => *to = vec![0; *len],
            Change::Len(len) => to.resize(*len, 0),
        }
    }
}

fn put(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    if let Some(place) = to.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

/// What one file holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// As reads see it (the page cache).
    now: Vec<u8>,
    /// As the disk has it.
    durable: Vec<u8>,
    /// What happened to `now` since the last sync, in order.
    pending: Vec<Change>,
    /// Bytes that count against the capacity.
    reserved: usize,
    /// Open handles.
    pub(super) handles: usize,
    /// No power cut will come: nothing is kept but `now`.
    volatile: bool,
}

impl Content {
    pub(super) fn new(volatile: bool) -> Self {
        Self { volatile, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let rest = self.now.get(offset..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        count
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        if self.volatile {
            put(&mut self.now, offset, bytes);
        } else {
            self.change(Change::Write { offset, bytes: bytes.to_vec() });
        }
        self.reserved = self.reserved.max(offset + bytes.len());
    }

    /// A write that failed: some of its sectors are there, some are not.
    pub(super) fn write_in_part(&mut self, bytes: &[u8], offset: usize, rng: &mut Rng) {
        for (offset, piece) in sectors(offset, bytes) {
            if rng.coin() {
                self.write(piece, offset);
            }
        }
    }

    pub(super) fn reserve(&mut self, len: usize) {
        self.reserved = self.reserved.max(len);
        if self.now.len() < len {
            self.change(Change::Len(len));
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.reserved = self.reserved.min(len);
        self.change(Change::Len(len));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        if !self.volatile {
            self.pending.push(change);
        }
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that failed: the disk got a part, and nothing remembers which, so that no later sync
    /// writes the rest. Reads go on showing all of it.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        self.settle(rng);
    }

    /// A power cut: what was not synced survives in part, as the seed says.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        self.settle(rng);
        self.now.clone_from(&self.durable);
        self.reserved = self.reserved.max(self.now.len());
    }

    pub(super) fn flip(&mut self, offset: usize, bit: u8) {
        for bytes in [&mut self.now, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 1 << (bit & 7);
            }
        }
    }

    /// Applies a part of the pending changes to the durable bytes and forgets the others.
    fn settle(&mut self, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        match rng.below(4) {
            0 => {}
            1 => pending.iter().for_each(|change| change.apply(&mut self.durable)),
            2 => {
                let whole = rng.below(pending.len());
                for change in pending.iter().take(whole) {
                    change.apply(&mut self.durable);
                }
                if let Some(torn) = pending.get(whole) {
                    self.tear(torn, rng);
                }
            }
            _ => pending.iter().for_each(|change| self.tear(change, rng)),
        }
    }

    /// Applies a prefix, a suffix, or any subset of a change's sectors.
    fn tear(&mut self, change: &Change, rng: &mut Rng) {
        let Change::Write { offset, bytes } = change else {
            if rng.coin() {
                change.apply(&mut self.durable);
            }
            return;
        };
        let pieces: Vec<_> = sectors(*offset, bytes).collect();
        let (how, cut) = (rng.below(3), rng.below(pieces.len() + 1));
        for (number, (offset, piece)) in pieces.into_iter().enumerate() {
            let survives = match how {
                0 => number < cut,
                1 => number >= cut,
                _ => rng.coin(),
            };
            if survives {
                put(&mut self.durable, offset, piece);
            }
        }
    }
}

/// Cuts a write at the boundaries of sectors.
fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let (mut at, mut rest) = (offset, bytes);
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
        let found = (at, piece);
        (at, rest) = (at + piece.len(), after);
        (!piece.is_empty()).then_some(found)
    })
}

/// A change of names that no `sync_dir` made durable.
#[derive(Debug, Clone)]
enum NameChange {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename { from: PathBuf, to: PathBuf },
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Link(path, file) => {
                names.insert(path.clone(), *file);
            }
            NameChange::Unlink(path) => {
                names.remove(path);
            }
            NameChange::Rename { from, to } => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }

    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Link(path, _) | NameChange::Unlink(path) | NameChange::Rename { to: path, .. } => path.parent(),
        }
    }
}

/// Which names lead to which files.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    now: BTreeMap<PathBuf, u64>,
    durable: BTreeMap<PathBuf, u64>,
    pending: Vec<NameChange>,
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<u64> {
        self.now.get(path).copied()
    }

    pub(super) fn now(&self) -> &BTreeMap<PathBuf, u64> {
        &self.now
    }

    pub(super) fn link(&mut self, path: &Path, file: u64) {
        self.change(NameChange::Link(path.to_owned(), file));
    }

    pub(super) fn unlink(&mut self, path: &Path) {
        self.change(NameChange::Unlink(path.to_owned()));
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        self.change(NameChange::Rename { from: from.to_owned(), to: to.to_owned() });
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self, dir: &Path) {
        for change in self.pending.extract_if(.., |change| change.dir() == Some(dir)) {
            change.apply(&mut self.durable);
        }
    }

    /// A power cut: of the changes in each directory the first few survive.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let mut left = BTreeMap::new();
        for change in &self.pending {
            *left.entry(change.dir()).or_insert(0) += 1;
        }
        for count in left.values_mut() {
            *count = rng.below(*count + 1);
        }
        for change in &self.pending {
            match left.get_mut(&change.dir()) {
                Some(0) | None => {}
                Some(count) => {
                    *count -= 1;
                    change.apply(&mut self.durable);
                }
            }
        }
        self.pending.clear();
        self.now.clone_from(&self.durable);
    }

    /// Whether a file may still be reached, now or after a power cut.
    pub(super) fn reach(&self, file: u64) -> bool {
        let linked = |change: &NameChange| matches!(change, NameChange::Link(_, linked) if *linked == file);
        self.now.values().chain(self.durable.values()).any(|known| *known == file) || self.pending.iter().any(linked)
    }
}
