//! The way to the HTTP server of one device.

use std::fmt;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request,
    header::{HOST, HeaderName},
};
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
        headers: &[(HeaderName, &str)],
        body: Vec<u8>,
    ) -> Result<HttpReply, Error> {
        let request = self.request(target, headers, body)?;
        let limit = self.limits.request;
        let exchange = async {
            let stream = match self.kept.take().filter(is_silent) {
                Some(kept) => kept,
                None => self.connect().await?,
            };
            connection::exchange(stream, request).await
        };
        let (reply, kept) = timeout(limit, exchange).await.map_err(|_| Error::NoAnswer)??;
        self.kept = kept;
        Ok(reply)
    }

    async fn connect(&self) -> Result<TcpStream, Error> {
        let limit = self.limits.connect.min(self.limits.request);
        connect(&self.host, self.port, limit).await
    }

    /// A token that the device chose can make the target unfit for a request.
    fn request(
        &self,
        target: &str,
        headers: &[(HeaderName, &str)],
        body: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::post(target).header(HOST, self.host_header());
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        request.map_err(|_| Error::Unreadable("its token is no part of a path"))
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
