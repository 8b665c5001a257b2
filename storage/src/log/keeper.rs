//! Keeps the segment files in order: a spare one ready, surplus ones deleted, sparse old ones emptied.
//!
//! # Contract
//! The oldest segment is emptied by putting what still counts in it to the head of the log, a chunk at a time, so
//! that one idle group cannot hold old segments for ever. An entry keeps its old place until the batch with
//! its new one is synced, and the old segment is free only after a later record says so: dying anywhere in
//! between leaves at least one of the two.

use std::io;

use super::error::LogError;
use super::read;
use super::shared::Shared;
use super::state::Phase;
use super::writer::no_segment;

/// Bytes moved at a time: they share a batch with what callers wait for.
const CHUNK: usize = 256 << 10;

/// The keeper's thread.
pub(super) fn run(shared: &Shared) {
    while shared.wait_for_keeping() {
        let result = prepare(shared).and_then(|()| keep(shared));
        if let Err(error) = result {
            shared.stop(&error, Vec::new());
            return;
        }
    }
}

/// One round, where there is no thread for it. Segment files are then made when they are needed.
pub(super) fn keep(shared: &Shared) -> Result<(), LogError> {
    shared
        .files
        .trim(shared.options.spare_segments, shared.options.segment_bytes)
        .map_err(|error| no_segment(shared, &error))?;
    while move_chunk(shared)? {}
    Ok(())
}

/// Makes a spare segment. A full disk is no error yet: it is one when the segment is needed.
fn prepare(shared: &Shared) -> Result<(), LogError> {
    match shared.files.prepare(shared.options.segment_bytes) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            tracing::warn!(%error, "no space for a spare log segment");
            Ok(())
        }
        other => other.map_err(|error| no_segment(shared, &error)),
    }
}

/// Moves a chunk of the oldest segment when there is need; true when another one may be tried at once.
fn move_chunk(shared: &Shared) -> Result<bool, LogError> {
    let (places, file) = {
        let state = shared.state.lock();
        let places = state.to_move(CHUNK);
        let Some((_, _, first)) = places.first() else { return Ok(false) };
        let Some(file) = state.segments.file(first.segment) else { return Ok(false) };
        (places, file)
    };
    let mut entries = Vec::with_capacity(places.len());
    for (group, index, place) in places {
        entries.push((group, read::read_entry(&file, group, index, place)?, place));
    }
    let mut state = shared.state.lock();
    if !matches!(state.phase, Phase::Open) {
        return Ok(false);
    }
    for (group, entry, place) in &entries {
        state.move_entry(*group, entry, *place);
    }
    let under_way = state.has_work();
    drop(state);
    shared.wake_writer();
    Ok(!under_way)
}
