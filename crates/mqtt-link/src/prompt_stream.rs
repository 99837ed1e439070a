//! The socket to the broker.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rumqttc::NetworkOptions;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A TCP connection that acknowledges at once what it read. A broker that does not set `TCP_NODELAY`, as Mosquitto does not,
/// sends no small packet before the one that went before is acknowledged, and the kernel delays that by up to 40 ms.
pub(crate) struct PromptStream(TcpStream);

impl PromptStream {
    /// Connects to `host:port`.
    pub(crate) async fn connect(address: String, options: NetworkOptions) -> io::Result<Self> {
        rumqttc::default_socket_connect(address, options).await.map(Self)
    }

    fn tcp(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().0)
    }

    /// The kernel drops the option when data goes the other way, so it is set each time. Without it packets are only late.
    fn acknowledge(&self) {
        #[cfg(target_os = "linux")]
        let _late = self.0.set_quickack(true);
    }
}

impl AsyncRead for PromptStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = ready!(self.as_mut().tcp().poll_read(cx, buf));
        self.acknowledge();
        Poll::Ready(result)
    }
}

impl AsyncWrite for PromptStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.tcp().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tcp().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_shutdown(cx)
    }
}
