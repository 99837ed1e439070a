//! The way to the HTTP server of one device.

use std::{fmt, fmt::Write as _};

use tokio::{net::TcpStream, time::timeout};

use super::{HttpReply, connection};
use crate::{
    Error, Limits,
    connect::{connect, is_silent},
};

/// Host and port, and the connection that the last request left.
pub(crate) struct HttpLink {
    host: String,
    port: u16,
    limits: Limits,
    kept: Option<TcpStream>,
}

impl HttpLink {
    pub(crate) fn new(host: &str, port: u16, limits: Limits) -> Self {
        Self {
            host: host.to_owned(),
            port,
            limits,
            kept: None,
        }
    }

    /// Goes on at another port.
    pub(crate) fn set_port(&mut self, port: u16) {
        if port != self.port {
            self.kept = None;
            self.port = port;
        }
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Closes the connection.
    pub(crate) fn close(&mut self) {
        self.kept = None;
    }

    /// Sends one request. The connection is kept if the answer was read to its end; a future that is dropped before
    /// leaves none, so that no late answer is taken for that of the next request.
    pub(crate) async fn post(
        &mut self,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<HttpReply, Error> {
        let request = self.request(target, headers, body)?;
        let limit = self.limits.request;
        let exchange = async {
            let stream = match self.kept.take().filter(is_silent) {
                Some(kept) => kept,
                None => self.connect().await?,
            };
            connection::exchange(stream, &request).await
        };
        let (reply, kept) = timeout(limit, exchange).await.map_err(|_| Error::NoAnswer)??;
        self.kept = kept;
        Ok(reply)
    }

    async fn connect(&self) -> Result<TcpStream, Error> {
        let limit = self.limits.connect.min(self.limits.request);
        connect(&self.host, self.port, limit).await
    }

    /// Head and body. A token that the device chose can make the target unfit for a request.
    fn request(&self, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<u8>, Error> {
        if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Unreadable("its token is no part of a path"));
        }
        // Some devices do not know headers in lower case.
        let mut head = format!("POST {target} HTTP/1.1\r\nHost: {}\r\n", self.host_header());
        for (name, value) in headers {
            if value.chars().any(char::is_control) {
                return Err(Error::Unreadable("its cookie is no part of a header"));
            }
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
        Ok([head.as_bytes(), body].concat())
    }

    fn host_header(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match self.port {
            80 => host,
            port => format!("{host}:{port}"),
        }
    }
}

impl fmt::Debug for HttpLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpLink to port {}", self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_cannot_be_two() {
        let link = HttpLink::new("192.0.2.7", 8080, Limits::default());
        let request = link.request("/app?seq=1", &[("Cookie", "TP_SESSIONID=AB")], b"{}");
        assert_eq!(
            String::from_utf8(request.unwrap()).unwrap(),
            "POST /app?seq=1 HTTP/1.1\r\nHost: 192.0.2.7:8080\r\nCookie: TP_SESSIONID=AB\r\nContent-Length: 2\r\n\r\n{}"
        );
        for (target, value) in [("/a b", "c"), ("/a\r\nX: b", "c"), ("/a", "b\r\nX: c")] {
            assert!(
                link.request(target, &[("Cookie", value)], b"").is_err(),
                "{target} {value}"
            );
        }
    }
}
