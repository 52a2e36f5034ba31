//! Who comes in: so many connections at a time, and none that says nothing. Each costs a file that the pipeline may need, and
//! whoever holds all of them keeps out pages, not rows.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at a time: a browser opens six, and there are 64 pages at most.
const MOST: usize = 400;
/// How long one may take to ask its first question, and how long one may be still: who has left without a word keeps no place.
const SILENT_MOST: Duration = Duration::from_secs(10);
const STILL_MOST: Duration = Duration::from_secs(60);

pub struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Door {
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(MOST)), patience: SILENT_MOST }
    }
}

impl Listener for Door {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        // The others wait with the system, which turns away what is too many.
        let place = self.places.clone().acquire_owned().await.expect("nobody closes it");
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let patience = Box::pin(tokio::time::sleep(self.patience));
        (Guest { stream, patience, _place: place }, address)
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection.
pub struct Guest {
    stream: TcpStream,
    /// For so long it may be still.
    patience: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Guest {
    /// Begins to wait anew where something has gone one way or the other.
    fn moved<T>(&mut self, done: Poll<Result<T>>) -> Poll<Result<T>> {
        if done.is_ready() {
            self.patience.as_mut().reset(Instant::now() + STILL_MOST);
        }
        done
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let guest = self.get_mut();
        let read = Pin::new(&mut guest.stream).poll_read(context, into);
        if read.is_ready() {
            return guest.moved(read);
        }
        let is_over = guest.patience.as_mut().poll(context);
        is_over.map(|()| Err(Error::new(ErrorKind::TimedOut, "it is still")))
    }
}

impl AsyncWrite for Guest {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let guest = self.get_mut();
        let written = Pin::new(&mut guest.stream).poll_write(context, bytes);
        guest.moved(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let guest = self.get_mut();
        let written = Pin::new(&mut guest.stream).poll_write_vectored(context, bytes);
        guest.moved(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn who_says_nothing_is_turned_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut door = Door { patience: Duration::from_millis(1), ..Door::new(listener) };
        let silent = TcpStream::connect(door.local_addr().unwrap()).await.unwrap();
        let (mut guest, _) = Listener::accept(&mut door).await;
        assert_eq!(door.places.available_permits(), MOST - 1);
        assert_eq!(guest.read_u8().await.unwrap_err().kind(), ErrorKind::TimedOut);
        drop((guest, silent));
        assert_eq!(door.places.available_permits(), MOST);
    }
}
