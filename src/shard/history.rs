//! Reading events: whole batches, by key, oldest or newest first.
//!
//! # Contract
//! Events below a run's next event id never change, so they are read outside of the actor, from any
//! replica that has applied them. A node cannot know that it is the leader still, and may be behind: whoever has not
//! applied all that is wanted says so, instead of giving a shorter page.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bristlecone_proto::node::EventPage;
use bristlecone_proto::temporal::api::history::v1::History;
use bristlecone_storage::planted::{self, Bug};
use bristlecone_storage::runtime::Tasks;
use bristlecone_storage::state::keys::{Key, Slot};
use bristlecone_storage::state::{Direction, Error, StateStore};
use bytes::Bytes;
use prost::Message;

/// Bytes of events in one page; one larger batch still goes, alone.
const PAGE_BYTES_MAX: usize = 2 << 20;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Store(#[from] Error),
    /// Another replica, or this one later, has them.
    #[error("this node has not applied all of the events")]
    Behind,
}

/// Which events of a run are wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub run_id: String,
    /// Events [first, end).
    pub first: i64,
    pub end: i64,
    pub max_events: i64,
    pub reverse: bool,
}

/// Reads events from a node's rows; clones are cheap.
#[derive(Debug, Clone)]
pub struct EventReader {
    pub store: Arc<dyn StateStore>,
    pub tasks: Tasks,
}

impl EventReader {
    /// A page of whole batches. The batch at either edge may hold events outside of what is wanted.
    pub async fn read(&self, slot: Slot, wanted: Wanted) -> Result<EventPage, ReadError> {
        let store = Arc::clone(&self.store);
        self.tasks.blocking(move || page(&*store, slot, &wanted)).await
    }
}

fn page(store: &dyn StateStore, slot: Slot, wanted: &Wanted) -> Result<EventPage, ReadError> {
    if wanted.first >= wanted.end {
        return Ok(EventPage::default());
    }
    let range = bristlecone_storage::state::KeyRange::new(
        // The batch that holds `first` begins at or before it.
        batch_start(store, slot, wanted)?,
        Key::history(&wanted.run_id, wanted.end).encode(slot),
    );
    let direction = if wanted.reverse { Direction::Reverse } else { Direction::Forward };
    let mut page = EventPage::default();
    let (mut events, mut bytes, mut read_to) = (0, 0, wanted.first);
    store.scan(&range, direction, &mut |key, value| {
        let Ok((_, Key::History { first_event, .. })) = Key::parse(key) else { return ControlFlow::Continue(()) };
        if !page.batches.is_empty() && (events >= wanted.max_events || bytes + value.len() > PAGE_BYTES_MAX) {
            // Forward: the first event that is left. Reverse: the one before is where to go on, downwards.
            page.next_event_id = if wanted.reverse { first_event_after(&page, wanted) } else { first_event };
            return ControlFlow::Break(());
        }
        let batch = Bytes::copy_from_slice(value);
        let count = count_events(&batch);
        events += count;
        read_to = read_to.max(first_event + count);
        bytes += batch.len();
        page.batches.push(batch);
        ControlFlow::Continue(())
    })?;
    // Downwards the first batch is the last one of the run.
    let ends = wanted.reverse || page.next_event_id == 0;
    let behind = ends && read_to < wanted.end && !planted::has(Bug::ShortPages);
    if behind { Err(ReadError::Behind) } else { Ok(page) }
}

/// Key of the batch that holds the first wanted event.
fn batch_start(store: &dyn StateStore, slot: Slot, wanted: &Wanted) -> Result<Vec<u8>, Error> {
    let range = bristlecone_storage::state::KeyRange::new(
        Key::history(&wanted.run_id, i64::MIN).encode(slot),
        Key::history(&wanted.run_id, wanted.first.saturating_add(1)).encode(slot),
    );
    let mut start = Key::history(&wanted.run_id, wanted.first).encode(slot);
    store.scan(&range, Direction::Reverse, &mut |key, _| {
        start = key.to_vec();
        ControlFlow::Break(())
    })?;
    Ok(start)
}

/// Exclusive end of what is left when reading downwards: the first event of the last batch of the page.
fn first_event_after(page: &EventPage, wanted: &Wanted) -> i64 {
    let last = page.batches.last().and_then(|batch| History::decode(batch.clone()).ok());
    last.and_then(|history| history.events.first().map(|event| event.event_id)).unwrap_or(wanted.first)
}

/// Number of events in an encoded batch, without decoding them.
fn count_events(batch: &Bytes) -> i64 {
    let mut rest = &batch[..];
    let mut count = 0;
    while !rest.is_empty() {
        let Ok((_, _)) = prost::encoding::decode_key(&mut rest) else { break };
        let Ok(len) = prost::encoding::decode_varint(&mut rest) else { break };
        let Some(after) = usize::try_from(len).ok().and_then(|len| rest.get(len..)) else { break };
        rest = after;
        count += 1;
    }
    count
}

/// Picks the batches with events [first, end) out of those that are at hand, when they are complete.
pub fn covered(
    batches: &BTreeMap<i64, (i64, Bytes)>,
    first: i64,
    end: i64,
    max_events: i64,
) -> Option<(Vec<Bytes>, i64)> {
    let (start, _) = batches.range(..=first).next_back()?;
    let mut page = Vec::new();
    let mut expected = *start;
    for (batch_first, (batch_end, bytes)) in batches.range(*start..) {
        if expected >= end {
            break;
        }
        if *batch_first != expected {
            return None;
        }
        if !page.is_empty() && expected - start >= max_events {
            return Some((page, expected));
        }
        page.push(bytes.clone());
        expected = *batch_end;
    }
    (expected >= end).then_some((page, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_at_hand_are_used_only_when_nothing_is_missing() {
        let batch = |text: &'static str| Bytes::from_static(text.as_bytes());
        let batches = BTreeMap::from([(1, (3, batch("a"))), (3, (4, batch("b"))), (4, (8, batch("c")))]);
        assert_eq!(covered(&batches, 1, 8, 256), Some((vec![batch("a"), batch("b"), batch("c")], 0)));
        // The batch that holds event 5 begins at 4.
        assert_eq!(covered(&batches, 5, 8, 256), Some((vec![batch("c")], 0)));
        assert_eq!(covered(&batches, 1, 9, 256), None);
        assert_eq!(covered(&batches, 1, 8, 2), Some((vec![batch("a")], 3)));
        let gap = BTreeMap::from([(1, (3, batch("a"))), (4, (8, batch("c")))]);
        assert_eq!(covered(&gap, 1, 8, 256), None);
        assert_eq!(covered(&gap, 0, 3, 256), None);
    }

    #[test]
    fn a_replica_that_lacks_events_says_so() {
        use bristlecone_storage::state::{BatchBuilder, ModelOptions, ModelStore};
        use bristlecone_storage::vfs::ModelVfs;
        let store = ModelStore::new(Arc::new(ModelVfs::new(1)), ModelOptions::default());
        let mut rows = BatchBuilder::new();
        for (first, events) in [(1, 2), (3, 1), (4, 3)] {
            let event = |event_id| bristlecone_proto::temporal::api::history::v1::HistoryEvent {
                event_id,
                ..Default::default()
            };
            let history = History { events: (first..first + events).map(event).collect() };
            rows.put(&Key::history("run", first).encode(7), &history.encode_to_vec());
        }
        store.write(&[rows.finish().expect("small")]).expect("written");
        let read = |first, end, max_events, reverse| {
            page(&store, 7, &Wanted { run_id: "run".to_string(), first, end, max_events, reverse })
        };
        for reverse in [false, true] {
            assert_eq!(read(1, 7, 256, reverse).expect("all are there").batches.len(), 3);
            assert!(matches!(read(1, 8, 256, reverse), Err(ReadError::Behind)));
        }
        let short = read(1, 8, 2, false).expect("the end is not in this page");
        assert_eq!((short.batches.len(), short.next_event_id), (1, 3));
    }

    #[test]
    fn events_are_counted_without_being_decoded() {
        let history = History { events: vec![Default::default(); 3] };
        assert_eq!(count_events(&Bytes::from(history.encode_to_vec())), 3);
    }
}
