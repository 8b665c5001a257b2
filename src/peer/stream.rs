//! Frames over the two halves of a byte stream.
//!
//! # Contract
//! All frames that wait are one write. A connection stays silent for at most [`PING_AFTER`]: a Ping is
//! sent when there is nothing else. One on which nothing arrives for [`SILENCE_MAX`] is dead, whatever
//! TCP thinks of it; so a cut is noticed in time and healed by a new connection.
//!
//! # Used by
//! `hello.rs`, `link.rs`, `serve.rs`.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};

use super::facts::Facts;
use super::frame::{self, Decoder, Frame, FrameError, HEADER_BYTES, Kind};
use super::network::ByteStream;
use super::outbox::{Item, Outbox, Payload};

pub(super) const PING_AFTER: Duration = Duration::from_millis(500);
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Longest wait for a peer that is alive but takes no byte.
const STALL_MAX: Duration = Duration::from_secs(10);
/// Payloads from this size on are written from where they lie.
const LOOSE_BYTES_MIN: usize = 8 << 10;
/// Slices of one write.
const SLICES: usize = 32;
/// A write buffer that had to grow beyond this is not kept.
const BUFFER_BYTES_MAX: usize = 2 << 20;

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the other node closed the connection")]
    Closed,
    #[error("{0}")]
    Io(String),
    #[error("no sign of life for {} s", SILENCE_MAX.as_secs())]
    Silent,
    #[error("the other node takes no bytes")]
    Stalled,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a {0:?} frame has no place on this connection")]
    Misplaced(Kind),
    #[error("{0}")]
    Superseded(&'static str),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// Splits a stream for one reader and one writer.
pub(super) fn halves(stream: Box<dyn ByteStream>) -> (FrameReader, FrameWriter) {
    let (read, write) = tokio::io::split(stream);
    let now = Instant::now();
    let reader = FrameReader {
        half: read,
        decoder: Decoder::default(),
        facts: None,
        heard: now,
        silence: Box::pin(sleep(SILENCE_MAX)),
    };
    (reader, FrameWriter { half: write, buffer: BytesMut::new(), chunks: VecDeque::new(), written: now })
}

#[derive(Debug)]
pub(super) struct FrameReader {
    half: ReadHalf<Box<dyn ByteStream>>,
    decoder: Decoder,
    /// Whom to note as heard.
    pub(super) facts: Option<Arc<Facts>>,
    heard: Instant,
    silence: Pin<Box<Sleep>>,
}

impl FrameReader {
    /// The next frame that says something. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Frame, Broken> {
        loop {
            match self.decoder.next()? {
                Some(frame) if frame.kind == Kind::Ping => {}
                Some(frame) => return Ok(frame),
                None => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Broken> {
        loop {
            tokio::select! {
                biased;
                read = self.half.read_buf(self.decoder.room()) => {
                    if read? == 0 {
                        let whole = self.decoder.is_between_frames();
                        return Err(if whole { Broken::Closed } else { Broken::Io("the stream ends within a frame".into()) });
                    }
                    self.heard = Instant::now();
                    if let Some(facts) = &self.facts {
                        facts.hear();
                    }
                    return Ok(());
                }
                () = &mut self.silence => {
                    // Armed once per silence, not once per read.
                    let now = Instant::now();
                    let until = match now - self.silence.deadline() {
                        // It was this node that slept: the other's bytes may be at the door.
                        late if late > PING_AFTER => now + PING_AFTER,
                        _ => self.heard + SILENCE_MAX,
                    };
                    if until <= now {
                        return Err(Broken::Silent);
                    }
                    self.silence.as_mut().reset(until);
                }
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct FrameWriter {
    half: WriteHalf<Box<dyn ByteStream>>,
    /// Small frames, one behind the other.
    buffer: BytesMut,
    /// What is written before `buffer`.
    chunks: VecDeque<Bytes>,
    written: Instant,
}

impl FrameWriter {
    /// Writes what comes out of `outbox`, until the connection breaks.
    pub(super) async fn drain(&mut self, outbox: &Outbox) -> Broken {
        let mut batch = Vec::new();
        loop {
            match timeout_at(self.written + PING_AFTER, outbox.due()).await {
                Ok(()) => {
                    outbox.take(&mut batch);
                    for item in batch.drain(..) {
                        self.put(item);
                    }
                }
                Err(_) => frame::append(&mut self.buffer, Kind::Ping, 0, |_| {}),
            }
            if let Err(broken) = self.flush().await {
                return broken;
            }
        }
    }

    /// Adds a frame to the next write.
    pub(super) fn put(&mut self, item: Item) {
        let (kind, call, bytes) = (item.kind, item.call(), item.bytes);
        match item.payload {
            Payload::Raw(payload) if bytes >= LOOSE_BYTES_MIN => {
                frame::append_header(&mut self.buffer, kind, call, &payload);
                self.chunks.push_back(self.buffer.split().freeze());
                self.chunks.push_back(payload);
            }
            Payload::Raw(payload) => frame::append(&mut self.buffer, kind, call, |buffer| buffer.put_slice(&payload)),
            Payload::Request(mut request, deadline) => {
                let left = deadline.saturating_duration_since(Instant::now()).as_millis();
                // 0 would say that nothing is known.
                request.timeout_ms = u64::try_from(left).unwrap_or(u64::MAX).max(1);
                self.encode(kind, call, &*request, bytes);
            }
            Payload::Response(response) => self.encode(kind, call, &*response, bytes),
            Payload::Notice(notice) => self.encode(kind, call, &*notice, bytes),
        }
    }

    /// Writes everything that was put in.
    pub(super) async fn flush(&mut self) -> Result<(), Broken> {
        let mut bytes = self.buffer.len();
        if !self.buffer.is_empty() {
            self.chunks.push_back(self.buffer.split().freeze());
        }
        bytes = bytes.max(self.chunks.iter().map(Bytes::len).sum());
        while !self.chunks.is_empty() {
            let written = timeout(STALL_MAX, write_some(&mut self.half, &self.chunks));
            match written.await.map_err(|_| Broken::Stalled)?? {
                0 => return Err(Broken::Closed),
                written => advance(&mut self.chunks, written),
            }
        }
        self.half.flush().await?;
        self.written = Instant::now();
        if bytes > BUFFER_BYTES_MAX {
            self.buffer = BytesMut::new();
        }
        Ok(())
    }

    /// Says that nothing more will come.
    pub(super) async fn close(&mut self) {
        // The connection is over either way.
        let _ = timeout(PING_AFTER, self.half.shutdown()).await;
    }

    fn encode(&mut self, kind: Kind, call: u64, message: &impl Message, bytes: usize) {
        self.buffer.reserve(HEADER_BYTES + bytes);
        frame::append(&mut self.buffer, kind, call, |buffer| {
            message.encode(buffer).expect("the buffer grows as needed");
        });
    }
}

async fn write_some(half: &mut WriteHalf<Box<dyn ByteStream>>, chunks: &VecDeque<Bytes>) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let mut used = 0;
    for (slice, chunk) in slices.iter_mut().zip(chunks) {
        *slice = IoSlice::new(chunk);
        used += 1;
    }
    let (slices, _) = slices.split_at(used);
    half.write_vectored(slices).await
}

fn advance(chunks: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(chunk) = chunks.front_mut() {
        if chunk.len() > written {
            chunk.advance(written);
            return;
        }
        written -= chunk.len();
        chunks.pop_front();
    }
}
