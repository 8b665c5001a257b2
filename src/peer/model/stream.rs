//! One end of a connection of the model network.
//!
//! # Used by
//! `model.rs`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::World;
use super::world::{End, wake};

/// Bytes that one direction of a stream holds, as a socket's buffers would.
const STREAM_BYTES_MAX: usize = 256 << 10;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct ModelStream {
    world: Arc<World>,
    read: u64,
    write: u64,
    /// Wakes the reader when the next piece arrives.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl ModelStream {
    /// Reads from one pipe and writes to another.
    pub(super) fn new(world: Arc<World>, read: u64, write: u64) -> Self {
        Self { world, read, write, arrival: None }
    }
}

impl AsyncRead for ModelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let due = {
                let mut state = this.world.state.lock();
                let (_, held) = state.path_of(this.read);
                let pipe = state.pipe(this.read);
                pipe.reader = Some(cx.waker().clone());
                match (pipe.pieces.front_mut(), pipe.end) {
                    // A reset is told by the test, not by a packet.
                    _ if held && pipe.end != Some(End::Reset) => return Poll::Pending,
                    (Some((due, piece)), _) if *due <= Instant::now() => {
                        let taken = piece.len().min(buf.remaining());
                        buf.put_slice(&piece.split_to(taken));
                        if piece.is_empty() {
                            pipe.pieces.pop_front();
                        }
                        pipe.bytes -= taken;
                        wake(&mut pipe.writer);
                        return Poll::Ready(Ok(()));
                    }
                    (Some((due, _)), _) => *due,
                    (None, Some(End::Finished)) => return Poll::Ready(Ok(())),
                    (None, Some(End::Reset)) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                    (None, None) => return Poll::Pending,
                }
            };
            let arrival = this.arrival.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if arrival.deadline() != due {
                arrival.as_mut().reset(due);
            }
            if arrival.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for ModelStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.world.state.lock();
        let (path, held) = state.path_of(self.write);
        let due = Instant::now() + state.latency(&path);
        let piece_bytes = match state.random.below(4) {
            0 => usize::try_from(state.random.below(bytes.len().max(1) as u64) + 1).unwrap_or(1),
            _ => bytes.len(),
        };
        let pipe = state.pipe(self.write);
        match pipe.end {
            Some(End::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(End::Finished) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            // That nobody reads can't be known across a cut.
            None if pipe.reader_gone && !held => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            None => {}
        }
        let room = STREAM_BYTES_MAX - pipe.bytes;
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut rest = bytes;
        let piece = rest.copy_to_bytes(piece_bytes.min(room).min(bytes.len()));
        let taken = piece.len();
        let due = pipe.pieces.back().map_or(due, |(last, _)| due.max(*last));
        pipe.bytes += taken;
        if taken > 0 {
            pipe.pieces.push_back((due, piece));
        }
        wake(&mut pipe.reader);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.world.state.lock();
        let pipe = state.pipe(self.write);
        pipe.end.get_or_insert(End::Finished);
        wake(&mut pipe.reader);
        Poll::Ready(Ok(()))
    }
}

impl Drop for ModelStream {
    fn drop(&mut self) {
        let mut state = self.world.state.lock();
        let out = state.pipe(self.write);
        out.writer_gone = true;
        out.end.get_or_insert(End::Finished);
        wake(&mut out.reader);
        let back = state.pipe(self.read);
        back.reader_gone = true;
        wake(&mut back.writer);
        state.sweep(self.write);
        state.sweep(self.read);
    }
}
