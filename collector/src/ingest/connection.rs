//! A connection after its TLS handshake: who is at its other end, and when it is over.
//!
//! Whether it is over is looked at whenever HTTP/2 touches it, in either direction: a peer that reads nothing makes
//! HTTP/2 wait to write and never read again.

use std::borrow::Cow;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use super::hosts::OfHost;
use super::refusal::RefusalLog;
use super::strangers::Stranger;
use super::tls::Secured;

/// A connection without a certificate may enrol, and lives this long.
const STRANGER_LIVES: Duration = Duration::from_secs(60);
/// What every HTTP/2 client says first, and how long it may take to.
const PREFACE: (&[u8], Duration) = (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Duration::from_secs(10));

/// Why a stranger makes room.
pub(super) const CROWD: &str = "too many connections without a certificate, and this one was the oldest";

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate, DER, signed by our CA and valid now; `None` = it showed none.
    pub certificate: Option<Arc<[u8]>>,
}

/// A connection's place, which it may lose.
#[derive(Debug)]
pub(super) enum Place {
    /// Among those that no certificate says a host of.
    Stranger(Stranger),
    /// Among those of its host.
    OfHost(OfHost),
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct PeerIo<S = Secured> {
    stream: S,
    info: PeerInfo,
    /// How many bytes of [`PREFACE`] it has said.
    prefaced: usize,
    preface_until: Option<Pin<Box<Sleep>>>,
    place: Place,
    /// When it ends, whatever it does.
    until: Option<Pin<Box<Sleep>>>,
    /// It was sent away, and is not asked again.
    over: bool,
    refused: Arc<RefusalLog>,
    _permit: OwnedSemaphorePermit,
}

impl<S> PeerIo<S> {
    /// Who it is.
    pub fn info(&self) -> PeerInfo {
        self.info.clone()
    }

    /// Its handshake is just done.
    pub(super) fn new(
        stream: S,
        info: PeerInfo,
        place: Place,
        refused: Arc<RefusalLog>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let sleep = |time| Box::pin(tokio::time::sleep(time));
        let until = matches!(place, Place::Stranger(_)).then(|| sleep(STRANGER_LIVES));
        let preface_until = Some(sleep(PREFACE.1));
        Self { stream, info, prefaced: 0, preface_until, place, until, over: false, refused, _permit: permit }
    }

    /// Fails once the connection is over; else `cx` is woken when it will be.
    fn live(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.over {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "it was sent away"));
        }
        let sent_away: Option<Cow<'static, str>> = match &mut self.place {
            Place::Stranger(place) => Pin::new(place).poll(cx).is_ready().then_some(CROWD.into()),
            Place::OfHost(place) => Pin::new(&mut *place).poll(cx).is_ready().then(|| {
                let host = place.host();
                format!(
                    "host {host} has too many connections, and this one was the oldest: an agent needs one; if several \
                     machines use this host's certificate, enrol each with a token of its own, else revoke it"
                )
                .into()
            }),
        };
        if let Some(why) = sent_away {
            return Err(self.refuse("crowd", &why));
        }
        if self.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
            return Err(self.refuse("slow", "a connection without certificate lives 60 s: long enough to enrol"));
        }
        Ok(())
    }

    /// Compares what it says first with what every HTTP/2 client says, and waits only so long for it.
    fn hear_preface(&mut self, cx: &mut Context<'_>, said: &[u8]) -> io::Result<()> {
        let Some(until) = &mut self.preface_until else { return Ok(()) };
        let expected = PREFACE.0.get(self.prefaced..).unwrap_or_default();
        if expected.iter().zip(said).any(|(a, b)| a != b) {
            return Err(self.refuse("no_http2", "what came first is no HTTP/2"));
        }
        self.prefaced = self.prefaced.saturating_add(said.len());
        // What is there already is not late, however late this server looks.
        if said.len() >= expected.len() {
            self.preface_until = None;
        } else if until.as_mut().poll(cx).is_ready() {
            return Err(self.refuse("slow", "the first bytes of HTTP/2 took more than 10 s"));
        }
        Ok(())
    }

    fn refuse(&mut self, reason: &'static str, why: &str) -> io::Error {
        self.over = true;
        self.refused.note(self.info.address.ip(), reason, why);
        io::Error::new(io::ErrorKind::ConnectionAborted, why.to_owned())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PeerIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.live(cx)?;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Err(error) = self.hear_preface(cx, buf.filled().get(before..).unwrap_or_default()) {
            buf.set_filled(before);
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PeerIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.live(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.live(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.live(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.live(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::sync::Semaphore;

    use super::super::hosts::Hosts;
    use super::super::strangers::Strangers;
    use super::*;
    use crate::host::HostId;

    /// A connection whose other end reads nothing, and that end.
    fn peer(place: Place) -> (PeerIo<DuplexStream>, DuplexStream) {
        let (stream, far) = tokio::io::duplex(64);
        let info = PeerInfo { address: ([127, 0, 0, 1], 1).into(), certificate: None };
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (PeerIo::new(stream, info, place, Arc::new(RefusalLog::new()), permit), far)
    }

    async fn stranger(strangers: &Arc<Strangers>) -> Place {
        Place::Stranger(strangers.enter(strangers.place().await))
    }

    /// How each way to say something ends that is tried now: `None` = it waits.
    fn says(peer: &mut PeerIo<DuplexStream>) -> [Option<bool>; 4] {
        let mut cx = Context::from_waker(Waker::noop());
        let ends = |poll: Poll<bool>| match poll {
            Poll::Ready(well) => Some(well),
            Poll::Pending => None,
        };
        let bytes = [7; 64];
        [
            ends(Pin::new(&mut *peer).poll_write(&mut cx, &bytes).map(|w| w.is_ok())),
            ends(Pin::new(&mut *peer).poll_write_vectored(&mut cx, &[io::IoSlice::new(&bytes)]).map(|w| w.is_ok())),
            ends(Pin::new(&mut *peer).poll_flush(&mut cx).map(|w| w.is_ok())),
            ends(Pin::new(&mut *peer).poll_shutdown(&mut cx).map(|w| w.is_ok())),
        ]
    }

    /// Only reads looked at the time, and HTTP/2 may wait to write to a peer that reads nothing before it reads again.
    #[tokio::test]
    async fn a_stranger_whose_time_is_over_ends_at_whatever_is_said_to_it_though_nothing_is_read() {
        let strangers = Strangers::new(9, Duration::from_secs(3600));
        for way in 0..4 {
            let (mut one, _far) = peer(stranger(&strangers).await);
            one.until = Some(Box::pin(tokio::time::sleep(Duration::from_secs(3600))));
            assert_eq!(says(&mut one), [Some(true), None, Some(true), Some(true)], "the first 64 bytes have room");
            let (mut one, _far) = peer(stranger(&strangers).await);
            one.until = Some(Box::pin(tokio::time::sleep(Duration::ZERO)));
            let mut flushed = false;
            // Each way is the first one for one of them, and it waits for the time itself.
            let ended = tokio::time::timeout(
                Duration::from_secs(30),
                std::future::poll_fn(|cx| {
                    let mut one = Pin::new(&mut one);
                    let ended = match way {
                        0 => one.as_mut().poll_write(cx, &[7; 64]).map_ok(|_| ()),
                        1 => one.as_mut().poll_write_vectored(cx, &[io::IoSlice::new(&[7; 64])]).map_ok(|_| ()),
                        2 => one.as_mut().poll_flush(cx),
                        _ => one.as_mut().poll_shutdown(cx),
                    };
                    match ended {
                        Poll::Ready(Err(error)) => Poll::Ready(error),
                        Poll::Ready(Ok(())) if flushed => Poll::Pending,
                        Poll::Ready(Ok(())) => {
                            flushed = true;
                            cx.waker().wake_by_ref();
                            Poll::Pending
                        }
                        Poll::Pending => Poll::Pending,
                    }
                }),
            );
            let error = ended.await.unwrap_or_else(|_| panic!("way {way} does not look at the time"));
            assert!(error.to_string().contains("lives 60 s"), "{error}");
            assert_eq!(says(&mut one), [Some(false); 4], "and it stays over");
        }
    }

    #[tokio::test]
    async fn a_stranger_that_must_make_room_and_the_oldest_of_too_many_of_a_host_end_while_they_are_written_to() {
        let strangers = Strangers::new(1, Duration::ZERO);
        let (mut oldest, _far) = peer(stranger(&strangers).await);
        oldest.write_all(&[7; 64]).await.unwrap();
        let next = tokio::spawn(async move { strangers.place().await });
        let ended = tokio::time::timeout(Duration::from_secs(30), oldest.write_all(&[7])).await.unwrap();
        assert_eq!(ended.unwrap_err().to_string(), CROWD);
        drop(oldest);
        let _place = next.await.unwrap();

        let hosts = Hosts::new(1);
        let (mut oldest, _far) = peer(Place::OfHost(hosts.enter(HostId(5))));
        oldest.write_all(&[7; 64]).await.unwrap();
        let (mut newest, _far) = peer(Place::OfHost(hosts.enter(HostId(5))));
        let error = oldest.write_all(&[7]).await.unwrap_err().to_string();
        assert!(error.starts_with("host 0000000000000005 has too many connections"), "{error}");
        newest.write_all(&[7]).await.unwrap();
    }

    #[tokio::test]
    async fn a_host_that_does_not_begin_http2_in_time_ends_and_one_that_has_begun_does_not() {
        let hosts = Hosts::new(9);
        let (mut silent, _far) = peer(Place::OfHost(hosts.enter(HostId(5))));
        let (mut slow, mut far) = peer(Place::OfHost(hosts.enter(HostId(6))));
        far.write_all(&PREFACE.0[..10]).await.unwrap();
        let (mut late, mut said) = peer(Place::OfHost(hosts.enter(HostId(7))));
        said.write_all(PREFACE.0).await.unwrap();
        for one in [&mut silent, &mut slow, &mut late] {
            one.preface_until = Some(Box::pin(tokio::time::sleep(Duration::ZERO)));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        for one in [&mut silent, &mut slow] {
            let read = tokio::time::timeout(Duration::from_secs(30), one.read_to_end(&mut Vec::new())).await;
            assert!(read.unwrap().unwrap_err().to_string().contains("took more than 10 s"));
        }
        // It was there in time, and is looked at late.
        late.read_exact(&mut [0; 24]).await.unwrap();
        said.write_all(b"more").await.unwrap();
        late.read_exact(&mut [0; 4]).await.unwrap();
    }
}
