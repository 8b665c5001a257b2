//! The listener of the API port.
//!
//! # Contract
//! - Connections are limited; one too many is closed at once, so that its client tries another node.
//! - Clients may ping as often as they like, with and without calls under way. A connection that does not
//!   answer the server's own pings is closed.
//! - Stopping: no new connections, long polls end with empty answers, the rest has [`STOP_TIME`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::ApiService;

const CONNECTIONS_MAX: usize = 10_000;
/// Calls under way on one connection. A worker has one connection and as many calls as pollers and
/// running activities.
const STREAMS_MAX: u32 = 4_096;
/// Bytes that a client may send ahead, for one call and for all.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;
/// A silent connection is pinged, and closed when it does not answer.
const PING_AFTER: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the operating system refused to accept (mostly: no file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long calls may go on after `shutdown`.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Serves until `shutdown` completes, and what is under way then for a while longer.
pub async fn serve(
    listener: TcpListener,
    service: ApiService,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let edge = service.edge().clone();
    let (stopped, stopping) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async {
        shutdown.await;
        edge.drain();
        edge.set_serving(false).await;
        // The receiver lives as long as this future.
        let _ = stopped.send(());
    };
    let following = service.edge().clone();
    let readiness = following.cluster().parts().health.watch_ready();
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keepalive_interval(Some(PING_AFTER))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .serve_with_incoming_shutdown(service, connections(listener, CONNECTIONS_MAX), shutdown);
    let too_late = async {
        match stopping.await {
            Ok(()) => tokio::time::sleep(STOP_TIME).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        served = serving => served,
        () = following.follow_readiness(readiness) => Ok(()),
        () = too_late => {
            tracing::warn!("calls that were still under way were given up");
            Ok(())
        }
    }
}

fn connections(listener: TcpListener, limit: usize) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(limit));
    let refused = metrics::counter!("service_connections_refused");
    futures::stream::unfold((listener, places, refused), |(listener, places, refused)| async move {
        loop {
            let (stream, _) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("cannot accept connections: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    // Small answers must not wait for others; a socket that refuses still works.
                    let _ = stream.set_nodelay(true);
                    return Some((Ok(Connection { stream, _place: place }), (listener, places, refused)));
                }
                Err(_) => refused.increment(1),
            }
        }
    })
}

/// A connection, and its place among those that are allowed.
struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn one_connection_too_many_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut incoming = Box::pin(connections(listener, 1));
        let first = TcpStream::connect(address).await.expect("it listens");
        let accepted = incoming.next().await.expect("it goes on").expect("accepted");
        let mut second = TcpStream::connect(address).await.expect("the kernel accepts");
        let waiting = tokio::spawn(async move { incoming.next().await });
        assert_eq!(second.read(&mut [0]).await.expect("closed in order"), 0);
        drop((first, accepted));
        let _third = TcpStream::connect(address).await.expect("it listens");
        assert!(waiting.await.expect("no panic").expect("it goes on").is_ok());
    }
}
