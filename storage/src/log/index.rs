//! Where the entries of a group stand: eight bytes an entry.
//!
//! # Contract
//! Entries that are neighbours in the group and stand in one segment make a run. Runs are in the order of
//! their indexes and do not overlap; holes are there only while a log is read at its opening (an entry that
//! was moved comes later in the stream than its successors).

use std::collections::VecDeque;
use std::ops::Range;

use super::group::{Place, Spot};

#[derive(Debug, Default)]
pub(super) struct Index {
    runs: VecDeque<Run>,
}

#[derive(Debug)]
struct Run {
    first: u64,
    segment: u64,
    spots: VecDeque<Spot>,
}

impl Run {
    fn end(&self) -> u64 {
        self.first + self.spots.len() as u64
    }

    fn get(&self, index: u64) -> Option<Place> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.spots.get(at).map(|spot| Place { segment: self.segment, spot: *spot })
    }
}

impl Index {
    /// First index, and one past the last; `None` when it is empty.
    pub(super) fn bounds(&self) -> Option<Range<u64>> {
        Some(self.runs.front()?.first..self.runs.back()?.end())
    }

    /// First index that is missing between the first and the last one.
    pub(super) fn hole(&self) -> Option<u64> {
        let pairs = self.runs.iter().zip(self.runs.iter().skip(1));
        pairs.filter(|(run, next)| run.end() != next.first).map(|(run, _)| run.end()).next()
    }

    pub(super) fn get(&self, index: u64) -> Option<Place> {
        self.runs.get(self.at_or_before(index)?)?.get(index)
    }

    /// Adds the entry behind all others.
    pub(super) fn push(&mut self, index: u64, place: Place) {
        match self.runs.back_mut() {
            Some(run) if run.segment == place.segment && run.end() == index => run.spots.push_back(place.spot),
            _ => self.runs.push_back(Run::one(index, place)),
        }
    }

    /// Puts an entry at another place, or where a hole is; its old place.
    pub(super) fn set(&mut self, index: u64, place: Place) -> Option<Place> {
        let Some(at) = self.at_or_before(index) else {
            self.runs.push_front(Run::one(index, place));
            return None;
        };
        let run = self.runs.get_mut(at).expect("at_or_before gives the number of a run");
        let old = run.get(index);
        let mut next = at + 1;
        if old.is_some() {
            let inside = usize::try_from(index - run.first).expect("below the length");
            if inside == 0 {
                // What is moved goes from the front: no copying of the rest.
                run.spots.pop_front();
                run.first += 1;
                if run.spots.is_empty() {
                    self.runs.remove(at);
                }
                next = at;
            } else {
                let (segment, later) = (run.segment, run.spots.split_off(inside + 1));
                run.spots.pop_back();
                if !later.is_empty() {
                    self.runs.insert(next, Run { first: index + 1, segment, spots: later });
                }
            }
        }
        match next.checked_sub(1).and_then(|before| self.runs.get_mut(before)) {
            Some(run) if run.segment == place.segment && run.end() == index => run.spots.push_back(place.spot),
            _ => self.runs.insert(next, Run::one(index, place)),
        }
        old
    }

    /// Removes the entries up to an index.
    pub(super) fn cut_start(&mut self, up_to: u64, dead: &mut dyn FnMut(Place)) {
        while let Some(run) = self.runs.front_mut().filter(|run| run.first <= up_to) {
            let segment = run.segment;
            while run.first <= up_to {
                let Some(spot) = run.spots.pop_front() else { break };
                run.first += 1;
                dead(Place { segment, spot });
            }
            if !run.spots.is_empty() {
                run.spots.shrink_to(run.spots.len() * 2);
                break;
            }
            self.runs.pop_front();
        }
    }

    /// Removes the entries from an index on.
    pub(super) fn cut_end(&mut self, from: u64, dead: &mut dyn FnMut(Place)) {
        while let Some(run) = self.runs.back_mut().filter(|run| run.end() > from) {
            let segment = run.segment;
            while run.end() > from {
                let Some(spot) = run.spots.pop_back() else { break };
                dead(Place { segment, spot });
            }
            if !run.spots.is_empty() {
                break;
            }
            self.runs.pop_back();
        }
    }

    /// All entries with their places, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Place)> {
        self.runs.iter().flat_map(|run| {
            let places = run.spots.iter().map(|spot| Place { segment: run.segment, spot: *spot });
            (run.first..).zip(places)
        })
    }

    /// Entries that stand in a segment, in order.
    pub(super) fn in_segment(&self, segment: u64) -> impl Iterator<Item = (u64, Place)> {
        self.runs.iter().filter(move |run| run.segment == segment).flat_map(|run| {
            let places = run.spots.iter().map(|spot| Place { segment: run.segment, spot: *spot });
            (run.first..).zip(places)
        })
    }

    fn at_or_before(&self, index: u64) -> Option<usize> {
        self.runs.partition_point(|run| run.first <= index).checked_sub(1)
    }
}

impl Run {
    fn one(index: u64, place: Place) -> Self {
        Self { first: index, segment: place.segment, spots: VecDeque::from([place.spot]) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn place(segment: u64, at: u32) -> Place {
        Place { segment, spot: Spot { at, len: 1 } }
    }

    /// Random pushes, moves and cuts against an ordered map.
    #[test]
    fn it_is_an_ordered_map() {
        let mut seed = 1u64;
        let mut random = move |end: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % end
        };
        let (mut index, mut model) = (Index::default(), BTreeMap::new());
        for step in 0..20_000u32 {
            let bounds = index.bounds();
            assert_eq!(bounds.clone().map(|bounds| bounds.end), model.keys().next_back().map(|last: &u64| last + 1));
            let end = bounds.clone().map_or(10, |bounds| bounds.end);
            let start = bounds.map_or(10, |bounds| bounds.start);
            match random(12) {
                0 => {
                    let mut dead = Vec::new();
                    let up_to = start + random(4);
                    index.cut_start(up_to, &mut |place| dead.push(place));
                    assert_eq!(
                        dead,
                        model.extract_if(..=up_to, |_, _| true).map(|(_, place)| place).collect::<Vec<_>>()
                    );
                }
                1 => {
                    let mut dead = Vec::new();
                    let from = end.saturating_sub(random(4));
                    index.cut_end(from, &mut |place| dead.push(place));
                    dead.reverse();
                    assert_eq!(dead, model.split_off(&from).into_values().collect::<Vec<_>>());
                }
                2..=5 if start < end => {
                    let at = start + random(end - start);
                    let to = place(random(4), step);
                    assert_eq!(index.set(at, to), model.insert(at, to));
                }
                _ => {
                    let to = place(random(2), step);
                    index.push(end, to);
                    model.insert(end, to);
                }
            }
            assert_eq!(index.hole(), None);
            assert!(index.iter().eq(model.iter().map(|(at, place)| (*at, *place))));
            let known = model.keys().nth(usize::try_from(random(8)).unwrap());
            assert_eq!(known.and_then(|at| index.get(*at)), known.and_then(|at| model.get(at)).copied());
            assert_eq!(index.get(end + 9), None);
        }
    }

    #[test]
    fn holes_are_seen_and_filled() {
        let mut index = Index::default();
        index.push(5, place(2, 0));
        index.set(3, place(3, 0));
        assert_eq!((index.bounds(), index.hole()), (Some(3..6), Some(4)));
        index.set(4, place(3, 1));
        assert_eq!((index.hole(), index.get(4)), (None, Some(place(3, 1))));
        assert_eq!(index.in_segment(3).collect::<Vec<_>>(), [(3, place(3, 0)), (4, place(3, 1))]);
    }
}
