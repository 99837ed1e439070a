//! A client of the page, as a browser is one: requests and the stream of changes.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::{probe::PATIENCE, process::own_address};

/// Where a page is, and what is sent with each request.
#[derive(Clone)]
pub struct Page {
    pub address: SocketAddr,
    /// Before each path.
    prefix: &'static str,
    headers: Vec<(String, String)>,
}

/// The response to a request.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }
}

impl Page {
    /// A page to be, at an address of its own, and the section of the settings for it.
    pub fn new(more: &str) -> (Self, String) {
        let address = SocketAddr::from((own_address(), 8080));
        let section = format!("[web]\nenabled = true\nlisten = \"{address}\"\n{more}");
        (Self::at(address, ""), section)
    }

    /// The page at an address, below a prefix.
    pub fn at(address: SocketAddr, prefix: &'static str) -> Self {
        Self {
            address,
            prefix,
            headers: vec![
                ("Host".to_owned(), address.to_string()),
                ("X-Tapo2mqtt".to_owned(), "1".to_owned()),
                ("Content-Type".to_owned(), "application/json".to_owned()),
            ],
        }
    }

    /// The same with another value of a header; without it if that is empty.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.retain(|(known, _)| known != name);
        if !value.is_empty() {
            other.headers.push((name.to_owned(), value.to_owned()));
        }
        other
    }

    /// Sends a request, once the page listens.
    pub async fn open(&self, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
        let connect = async {
            loop {
                match TcpStream::connect(self.address).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let mut stream = timeout(PATIENCE, connect).await.expect("nothing listens");
        // Of version 1.0: the body ends with the connection, and has no chunks.
        let (prefix, length) = (self.prefix, body.len());
        let mut request = format!("{method} {prefix}{path} HTTP/1.0\r\nContent-Length: {length}\r\n");
        for (name, value) in &self.headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        stream
            .write_all(format!("{request}\r\n{body}").as_bytes())
            .await
            .unwrap();
        BufReader::new(stream)
    }

    async fn request(&self, method: &str, path: &str, body: &str) -> Response {
        let mut stream = self.open(method, path, body).await;
        let head = head(&mut stream).await;
        let mut body = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut body))
            .await
            .unwrap()
            .unwrap();
        Response {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body,
        }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path, "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request("POST", path, &body.to_string()).await
    }

    /// Sends a command or request; returns its response.
    pub async fn send(&self, topic: &str, payload: Value) -> Value {
        let message = json!({ "topic": topic, "payload": payload });
        self.post("/api/send", &message).await.json()
    }

    /// Everything that is published, and each change from now on.
    pub async fn stream(&self) -> Changes {
        self.stream_after("").await
    }

    /// The same from a position on.
    pub async fn stream_after(&self, position: &str) -> Changes {
        let mut stream = self
            .open("GET", &format!("/api/events?after={position}"), "")
            .await;
        let head = head(&mut stream).await;
        assert!(
            head.contains(" 200 ") && head.contains("text/event-stream"),
            "{head}"
        );
        Changes {
            stream,
            topics: BTreeMap::new(),
            events: Vec::new(),
            hello: Value::Null,
            position: position.to_owned(),
            is_complete: false,
        }
    }
}

async fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = timeout(PATIENCE, stream.read_line(&mut head)).await.unwrap();
        assert!(
            read.is_ok_and(|bytes| bytes > 0),
            "the connection ended: {head:?}"
        );
    }
    head
}

/// What a page knows.
pub struct Changes {
    stream: BufReader<TcpStream>,
    pub topics: BTreeMap<String, Value>,
    pub events: Vec<Value>,
    /// The last greeting.
    pub hello: Value,
    /// The id of the last message.
    pub position: String,
    /// Whether everything was sent once.
    pub is_complete: bool,
}

impl Changes {
    /// Reads one message. Returns false at the end of the stream.
    pub async fn next(&mut self) -> bool {
        let (mut kind, mut data) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.stream.read_line(&mut line))
                .await
                .expect("nothing comes");
            if !read.is_ok_and(|bytes| bytes > 0) {
                return false;
            }
            match line.trim_end().split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut kind),
                Some(("data", value)) => value.clone_into(&mut data),
                Some(("id", value)) => value.clone_into(&mut self.position),
                Some(_) => {}
                None => break,
            }
        }
        let data: Value = serde_json::from_str(&data).unwrap();
        match (kind.as_str(), data["topic"].as_str()) {
            ("hello", _) => self.hello = data,
            ("beat", _) => {}
            (_, None) => self.is_complete = true,
            (_, Some("bridge/event")) => self.events.push(data["payload"].clone()),
            (_, Some(topic)) if data["payload"].is_null() => {
                self.topics.remove(topic);
            }
            (_, Some(topic)) => {
                self.topics.insert(topic.to_owned(), data["payload"].clone());
            }
        }
        true
    }

    /// Reads until something is known.
    pub async fn until(&mut self, known: impl Fn(&Self) -> bool) {
        while !known(self) {
            assert!(self.next().await, "the stream ended");
        }
    }

    /// Reads until a topic has what is wanted.
    pub async fn expect(&mut self, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let known = |changes: &Self| changes.topics.get(topic).is_some_and(&wanted);
        self.until(known).await;
        self.topics[topic].clone()
    }
}
