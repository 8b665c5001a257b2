//! Sends a snapshot of a group to a replica: open, chunk after chunk, done.
//!
//! # Used by
//! `network.rs`, on behalf of openraft's snapshot tasks.

use std::sync::Arc;
use std::time::Duration;

use bristlecone_storage::state::SnapshotFile;
use bristlecone_storage::vfs::read_exact_at;
use bytes::Bytes;

use crate::NodeId;
use crate::error::Error;
use crate::frame::{self, Kind, SnapshotAnswer, SnapshotChunk, SnapshotDone, SnapshotFileHead, SnapshotOpen};
use crate::network::Link;
use crate::shared::Shared;
use crate::snapshot::Files;
use crate::transport::Lane;
use crate::types::{self, Vote};

/// Pause after a transfer that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Sends the rows of the group as they are now and returns the vote that the receiver knows, once it has
/// installed them. Dropping the future ends the transfer; what the receiver has of it is worth nothing.
pub(crate) async fn send(link: &Link, to: NodeId, vote: Vote, shared: &Arc<Shared>) -> Result<Vote, Error> {
    let sent = try_send(link, to, vote, shared).await;
    if sent.is_err() {
        // The next attempt begins anew, and cutting is work: not more often than this.
        tokio::time::sleep(RETRY).await;
    }
    sent
}

async fn try_send(link: &Link, to: NodeId, vote: Vote, shared: &Arc<Shared>) -> Result<Vote, Error> {
    let busy = |_| Error::Busy("the node is stopping".to_string());
    let _permit = link.snapshots.sends.acquire().await.map_err(busy)?;
    let _kept = shared.keep_log_after(shared.with_applied(super::shared::AppliedState::index));
    let snapshot = link.snapshots.cut(shared).await?;
    let transfer = link.snapshots.draw_transfer();
    let open = open_message(transfer, &vote, &snapshot);
    let chunk_timeout = link.config.snapshot_chunk_timeout;
    step(link, to, frame::request(Kind::SnapshotOpen, shared.group, &open), chunk_timeout).await?;
    for (number, file) in (0u32..).zip(&snapshot.files) {
        send_file(link, to, shared.group, transfer, number, file).await?;
    }
    let done = frame::request(Kind::SnapshotDone, shared.group, &SnapshotDone { transfer });
    let answer = step(link, to, done, link.config.snapshot_install_timeout).await?;
    let vote = answer.vote.as_ref().ok_or_else(|| Error::Refused("an answer without a vote".to_string()))?;
    Ok(types::vote_from(vote))
}

async fn send_file(
    link: &Link,
    to: NodeId,
    group: crate::GroupId,
    transfer: u64,
    number: u32,
    file: &SnapshotFile,
) -> Result<(), Error> {
    let open = link.snapshots.open_file(file)?;
    let mut offset = 0;
    while offset < file.bytes {
        let len = (file.bytes - offset).min(link.config.snapshot_chunk_bytes as u64);
        let (source, at) = (open.clone(), offset);
        let read = move || {
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            read_exact_at(&*source, &mut bytes, at).map(|()| bytes)
        };
        let bytes = link.snapshots.blocking(read).await.map_err(|error| Error::Storage(error.to_string()))?;
        let head = SnapshotChunk { transfer, file: number, offset, crc: crc32c::crc32c(&bytes) };
        let request = frame::request_with(Kind::SnapshotChunk, group, &head, &bytes);
        step(link, to, request, link.config.snapshot_chunk_timeout).await?;
        offset += len;
    }
    Ok(())
}

fn open_message(transfer: u64, vote: &Vote, snapshot: &Files) -> SnapshotOpen {
    let head = |file: &SnapshotFile| SnapshotFileHead { bytes: file.bytes, crc: file.crc };
    SnapshotOpen {
        transfer,
        vote: Some(types::vote_to(vote)),
        state: Some(snapshot.applied.to_record()),
        extent: snapshot.applied.extent,
        files: snapshot.files.iter().map(head).collect(),
    }
}

async fn step(link: &Link, to: NodeId, request: Bytes, timeout: Duration) -> Result<SnapshotAnswer, Error> {
    let answer = link.transport.call(to, Lane::Snapshot, request, timeout).await;
    let raw = answer.map_err(|error| Error::Busy(error.to_string()))?;
    let answer: SnapshotAnswer =
        frame::decode_answer(raw).map_err(|status| Error::Busy(format!("node {to} answered {status:?}")))?;
    if answer.refused.is_empty() { Ok(answer) } else { Err(Error::Refused(answer.refused)) }
}
