//! How nodes reach each other: a seam with TCP behind it, or the model of `model.rs`.
//!
//! # Contract
//! A network gives byte streams, nothing more: what travels in them is `frame.rs`, who speaks is
//! `hello.rs`. Streams are boxed, so that TLS can be put around one.
//!
//! # Used by
//! `link.rs` (dials), `serve.rs` (accepts) and whoever starts a node.

use std::fmt::Debug;
use std::io;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// The kernel's own signs of life, for the time when nobody reads: `peer` sends better ones.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);

/// Where a node listens and how it dials. Addresses are `host:port`.
pub trait Network: Debug + Send + Sync + 'static {
    /// Port 0 asks for any free one; see [`Listener::local_address`].
    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;

    /// May take very long when nothing answers: whoever dials sets the limit.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>>;
}

/// Takes connections in. An error concerns one connection, or passes: accepting may go on.
pub trait Listener: Debug + Send + 'static {
    /// The next connection and the address that it comes from. Dropping the future loses nothing.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, String)>>;

    fn local_address(&self) -> String;
}

/// A connection.
pub trait ByteStream: AsyncRead + AsyncWrite + Debug + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Debug + Unpin + Send + 'static> ByteStream for T {}

/// The operating system's TCP.
#[derive(Debug, Default, Clone, Copy)]
pub struct TcpNetwork;

impl Network for TcpNetwork {
    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let address = address.to_owned();
        async move {
            let listener = TcpListener::bind(&address).await?;
            let address = listener.local_addr()?.to_string();
            Ok(Box::new(TcpAcceptor { listener, address }) as Box<dyn Listener>)
        }
        .boxed()
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        let address = address.to_owned();
        async move {
            let stream = TcpStream::connect(&address).await?;
            prepare(&stream)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        }
        .boxed()
    }
}

#[derive(Debug)]
struct TcpAcceptor {
    listener: TcpListener,
    address: String,
}

impl Listener for TcpAcceptor {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, String)>> {
        async move {
            let (stream, from) = self.listener.accept().await?;
            prepare(&stream)?;
            Ok((Box::new(stream) as Box<dyn ByteStream>, from.to_string()))
        }
        .boxed()
    }

    fn local_address(&self) -> String {
        self.address.clone()
    }
}

/// Frames are gathered before they are written, so the kernel need not wait for more.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
