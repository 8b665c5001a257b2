//! The tasks of one queue in the order in which they go: strictly by priority, and within a priority fairly
//! among the fairness keys, by their weights.
//!
//! # Contract
//! Each key of a level has a *pass*, which grows by 1/weight with every task of it that goes; the key with the
//! smallest pass is next, and within a key the oldest task. A key that had nothing to do begins where the
//! level is: it neither catches up nor waits for the others. Where all tasks have one key, the oldest goes first.
//! What is not held here is not weighed: shards offer the heads of their backlogs (`shard/backlog.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

/// A task that may go, or how long all of them have to wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<K, V> {
    Task(K, V),
    Held(Duration),
    Nothing,
}

#[derive(Debug)]
pub struct Fair<K, V> {
    /// By priority: the smallest number goes first.
    levels: BTreeMap<u32, Level<K, V>>,
    len: usize,
}

#[derive(Debug)]
struct Level<K, V> {
    /// By fairness key.
    keys: BTreeMap<String, Tasks<K, V>>,
    /// The pass of the key that went last.
    clock: f64,
    len: usize,
}

#[derive(Debug)]
struct Tasks<K, V> {
    tasks: BTreeMap<K, V>,
    pass: f64,
}

impl<K, V> Default for Fair<K, V> {
    fn default() -> Self {
        Self { levels: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord + Clone, V> Fair<K, V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the task is new.
    pub fn insert(&mut self, priority: u32, fairness_key: &str, order: K, task: V) -> bool {
        let level = self.levels.entry(priority).or_insert_with(|| Level { keys: BTreeMap::new(), clock: 0.0, len: 0 });
        let clock = level.clock;
        if !level.keys.contains_key(fairness_key) {
            level.keys.insert(fairness_key.to_owned(), Tasks { tasks: BTreeMap::new(), pass: clock });
        }
        let Some(key) = level.keys.get_mut(fairness_key) else { return false };
        if key.tasks.is_empty() {
            key.pass = key.pass.max(clock);
        }
        let is_new = key.tasks.insert(order, task).is_none();
        level.len += usize::from(is_new);
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes the next task out. `hold` says how long a fairness key has to wait, if it has.
    pub fn next(
        &mut self,
        weight: impl Fn(&str, &V) -> f64,
        mut hold: impl FnMut(&str) -> Option<Duration>,
    ) -> Next<K, V> {
        let mut wait: Option<Duration> = None;
        for level in self.levels.values_mut() {
            let mut candidates: Vec<(&String, f64, &K)> = level
                .keys
                .iter()
                .filter_map(|(name, key)| key.tasks.keys().next().map(|first| (name, key.pass, first)))
                .collect();
            candidates.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.2.cmp(b.2)));
            let mut chosen = None;
            for (name, ..) in candidates {
                match hold(name) {
                    None => {
                        chosen = Some(name.clone());
                        break;
                    }
                    Some(pause) => wait = Some(wait.map_or(pause, |known| known.min(pause))),
                }
            }
            if let Some((order, task)) = chosen.and_then(|name| level.take(&name, &weight)) {
                self.len -= 1;
                self.levels.retain(|_, level| level.len > 0);
                return Next::Task(order, task);
            }
        }
        wait.map_or(Next::Nothing, Next::Held)
    }

    /// Takes out a task of the last priority: the latest of the key that has the most.
    pub fn pop_last(&mut self) {
        let Some(mut level) = self.levels.last_entry() else { return };
        let most = level.get_mut().keys.values_mut().max_by_key(|key| key.tasks.len());
        if most.and_then(|key| key.tasks.pop_last()).is_some() {
            level.get_mut().len -= 1;
            self.len -= 1;
        }
        if level.get().len == 0 {
            level.remove();
        }
    }

    /// Takes all tasks out.
    pub fn take(&mut self) -> Vec<V> {
        let levels = std::mem::take(self).levels;
        let keys = levels.into_values().flat_map(|level| level.keys.into_values());
        keys.flat_map(|key| key.tasks.into_values()).collect()
    }

    /// The first task of each key, in no order.
    pub fn heads(&self) -> impl Iterator<Item = &K> {
        self.levels.values().flat_map(|level| level.keys.values()).filter_map(|key| key.tasks.keys().next())
    }

    /// How many tasks are held of each priority, and their first ones.
    pub fn by_priority(&self) -> impl Iterator<Item = (u32, usize, Vec<&K>)> {
        self.levels.iter().map(|(priority, level)| {
            (*priority, level.len, level.keys.values().filter_map(|key| key.tasks.keys().next()).collect())
        })
    }
}

impl<K: Ord + Clone, V> Level<K, V> {
    fn take(&mut self, name: &str, weight: &impl Fn(&str, &V) -> f64) -> Option<(K, V)> {
        /// Least weight that counts.
        const WEIGHT_MIN: f64 = 0.001;
        let key = self.keys.get_mut(name)?;
        let (order, task) = key.tasks.pop_first()?;
        self.len -= 1;
        self.clock = self.clock.max(key.pass);
        key.pass += 1.0 / weight(name, &task).max(WEIGHT_MIN);
        let clock = self.clock;
        // Keys that owe nothing are forgotten: there may be very many over time.
        self.keys.retain(|_, key| !key.tasks.is_empty() || key.pass > clock);
        Some((order, task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(fair: &mut Fair<u32, f64>, count: usize) -> Vec<u32> {
        let mut order = Vec::new();
        while order.len() < count {
            match fair.next(|_, weight| *weight, |_| None) {
                Next::Task(task, _) => order.push(task),
                _ => break,
            }
        }
        order
    }

    #[test]
    fn one_key_goes_by_age_and_priorities_are_strict() {
        let mut fair = Fair::default();
        for (priority, task) in [(3, 30), (3, 10), (5, 1), (1, 99), (3, 20)] {
            assert!(fair.insert(priority, "", task, 1.0));
        }
        assert!(!fair.insert(3, "", 20, 1.0), "it is known already");
        assert_eq!(fair.len(), 5);
        assert_eq!(served(&mut fair, 9), [99, 10, 20, 30, 1]);
        assert!(fair.is_empty());
    }

    #[test]
    fn keys_take_turns_by_weight() {
        let mut fair = Fair::default();
        for n in 0..90 {
            fair.insert(3, "heavy", n, 2.0);
            fair.insert(3, "light", 1_000 + n, 1.0);
        }
        let first = served(&mut fair, 60);
        let heavy = first.iter().filter(|task| **task < 1_000).count();
        assert!((39..=41).contains(&heavy), "two of three are of the key that weighs twice as much: {heavy}");
    }

    #[test]
    fn a_newcomer_neither_catches_up_nor_waits() {
        let mut fair = Fair::default();
        (0..100).for_each(|n| assert!(fair.insert(3, "old", n, 1.0)));
        served(&mut fair, 50);
        (0..100).for_each(|n| assert!(fair.insert(3, "new", 1_000 + n, 1.0)));
        let next = served(&mut fair, 20);
        let new = next.iter().filter(|task| **task >= 1_000).count();
        assert!((9..=11).contains(&new), "{next:?}");
    }

    #[test]
    fn a_key_that_is_held_back_lets_the_others_go() {
        let mut fair = Fair::default();
        fair.insert(1, "slow", 1, 1.0);
        fair.insert(3, "fast", 2, 1.0);
        let pause = Duration::from_millis(5);
        let hold = |key: &str| (key == "slow").then_some(pause);
        assert_eq!(fair.next(|_, _| 1.0, hold), Next::Task(2, 1.0));
        assert_eq!(fair.next(|_, _| 1.0, hold), Next::Held(pause));
        fair.pop_last();
        assert_eq!(fair.next(|_, _| 1.0, hold), Next::Nothing);
    }
}
