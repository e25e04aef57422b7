//! One TLS connection, on rustls' unbuffered interface: records are opened where they were read and sealed where they
//! are sent from, both in scratch buffers of the thread. An idle connection holds no buffer at all; the usual interface
//! holds four KiB, and reads no more at a time.

use super::codec::{Codec, Session};
use bytes::{Buf, BytesMut};
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use std::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Room for what is read at a time; the largest handshake message (64 KiB) fits.
const SCRATCH: usize = 128 * 1024;
/// Most octets that are sealed at a time: four records.
const MOST: usize = 64 * 1024;

thread_local! {
    static SCRATCH_IN: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// TLS over a TCP connection, whichever side we are.
pub struct Tls {
    tcp: TcpStream,
    codec: Codec,
    /// Read, and not yet opened: the beginning of a record, or more than was asked for.
    sealed: BytesMut,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("tcp", &self.tcp)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// As a server, to who has sent these octets already.
    ///
    /// # Errors
    /// That of a handshake that failed.
    pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>, first: &[u8]) -> io::Result<Box<Tls>> {
        Tls::shake(tcp, Session::server(config)?, first).await
    }

    /// As a client, of a server of this name, that may choose one of these protocols (ALPN).
    ///
    /// # Errors
    /// That of a handshake that failed.
    pub async fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        offered: &[&[u8]],
    ) -> io::Result<Box<Tls>> {
        Tls::shake(tcp, Session::client(config, name, offered)?, &[]).await
    }

    async fn shake(tcp: TcpStream, session: Session, first: &[u8]) -> io::Result<Box<Tls>> {
        let mut tls = Box::new(Tls {
            tcp,
            codec: Codec::new(session),
            sealed: BytesMut::from(first),
        });
        poll_fn(|cx| tls.poll_handshake(cx)).await?;
        Ok(tls)
    }

    /// The TCP connection underneath.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// What was agreed on.
    pub fn session(&self) -> &Session {
        &self.codec.session
    }

    /// Says that no more will be sent, if that can be said at once.
    pub fn farewell(&mut self) {
        if self.close().is_ok() {
            self.push();
        }
    }

    /// Whether nothing has come that a request's user would see: a session ticket is no such thing.
    pub fn is_quiet(&mut self) -> bool {
        let mut one = [0];
        let mut buf = ReadBuf::new(&mut one);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(self).poll_read(&mut cx, &mut buf).is_pending()
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.open(&mut ReadBuf::new(&mut []))?;
            ready!(self.poll_drain(cx))?;
            if !self.codec.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_fill(&mut ReadBuf::new(&mut []), cx))?;
        }
    }

    /// Opens what was read before.
    fn open(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let opened = self.codec.open(&mut self.sealed, buf);
        match opened {
            Ok(used) => self.sealed.advance(used),
            Err(e) => return Err(self.give_up(e)),
        }
        release(&mut self.sealed);
        Ok(())
    }

    /// Reads once, behind what is there, and opens it.
    fn poll_fill(&mut self, buf: &mut ReadBuf<'_>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let opened = SCRATCH_IN.with_borrow_mut(|scratch| {
            let kept = self.sealed.len();
            let Some((before, room)) = scratch.split_at_mut_checked(kept).filter(|s| !s.1.is_empty()) else {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            };
            let mut room = ReadBuf::new(room);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut room))?;
            let read = room.filled().len();
            if read == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            before.copy_from_slice(&self.sealed);
            let all = scratch.get_mut(..kept + read).unwrap_or_default();
            let used = self.codec.open(all, buf)?;
            self.sealed.clear();
            self.sealed.extend_from_slice(all.get(used..).unwrap_or_default());
            release(&mut self.sealed);
            Poll::Ready(Ok(()))
        });
        match ready!(opened) {
            Ok(()) => {
                // Answers of the protocol itself: they must not wait for the next answer of ours.
                self.push();
                Poll::Ready(Ok(()))
            }
            Err(e) => Poll::Ready(Err(self.give_up(e))),
        }
    }

    fn close(&mut self) -> io::Result<()> {
        let used = self.codec.close(&mut self.sealed)?;
        self.sealed.advance(used);
        Ok(())
    }

    /// Tells the other side why, if that can be said at once.
    fn give_up(&mut self, error: io::Error) -> io::Error {
        self.push();
        error
    }

    /// Sends what can be sent at once.
    fn push(&mut self) {
        // Not even a system call when there is nothing, as after most reads.
        while !self.codec.out.is_empty() {
            match self.tcp.try_write(&self.codec.out) {
                Ok(n @ 1..) => self.codec.out.advance(n),
                _ => break,
            }
        }
        release(&mut self.codec.out);
    }

    /// Sends all that is sealed.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.codec.out.is_empty() {
            let n = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.codec.out))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.codec.out.advance(n);
        }
        release(&mut self.codec.out);
        Poll::Ready(Ok(()))
    }
}

/// Gives an empty buffer back: most connections are idle most of the time.
fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}

impl AsyncRead for Tls {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            this.codec.deliver(buf);
            if buf.filled().len() == before && !this.sealed.is_empty() {
                this.open(buf)?;
            }
            if buf.filled().len() > before || this.codec.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_fill(buf, cx))?;
        }
    }
}

impl AsyncWrite for Tls {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        let part = buf.get(..MOST).unwrap_or(buf);
        if part.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let used = this.codec.seal(part, &mut this.sealed)?;
        this.sealed.advance(used);
        // What the kernel does not take now goes before what is written next.
        if let Poll::Ready(Err(e)) = this.poll_drain(cx) {
            return Poll::Ready(Err(e));
        }
        Poll::Ready(Ok(part.len()))
    }

    /// One record for a head and its body.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut parts = bufs.iter().filter(|b| !b.is_empty());
        let (Some(first), second) = (parts.next(), parts.next()) else {
            return Poll::Ready(Ok(0));
        };
        if second.is_none() || first.len() >= MOST {
            return self.poll_write(cx, first);
        }
        GATHERED.with_borrow_mut(|all| {
            all.clear();
            for part in bufs {
                let room = MOST - all.len();
                all.extend_from_slice(part.get(..room).unwrap_or(part));
            }
            self.poll_write(cx, all)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drain(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close()?;
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
