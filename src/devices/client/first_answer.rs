//! The first request to a device, before the client of the `tapo` crate logs in.
//!
//! That client follows redirects, also to services that only this machine can reach, and reads answers of any length. Here
//! nothing is followed, and one answer of at most 1 MiB is read. It is the request with which that client begins too.

use std::{io, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tplink::Transport;

use super::fault::Fault;

/// The largest answer that is read.
const LARGEST: usize = 1024 * 1024;
/// The largest announcement that is understood.
const ANNOUNCEMENT: usize = 4 * 1024;
/// What is read at once. Most answers are shorter.
const PIECE: usize = 2 * 1024;
/// The largest head of an answer.
const LARGEST_HEAD: usize = 16 * 1024;
const DEFAULT_PORT: u16 = 80;
const BODY: &str = r#"{"method":"login","params":{"sub_method":"discover"}}"#;

/// Asks a device how it wants to be logged in to. Returns what newer devices announce.
///
/// # Errors
/// The fault if it cannot be connected, does not answer, redirects, or sends too much. Whatever else it does, the client
/// of the `tapo` crate decides about it: firmware that does not know this request closes the connection.
pub(super) async fn check(address: &str, limit: Duration) -> Result<Transport, Fault> {
    let mut answer = ReceivedAnswer::default();
    match timeout(limit, exchange(address, &mut answer)).await {
        Ok(result) => result?,
        // Without a length it ends with its connection, which some devices keep open.
        Err(_) if answer.is_body => {}
        Err(_) => return Err(Fault::NoAnswer),
    }
    Ok(answer.transport())
}

async fn exchange(address: &str, answer: &mut ReceivedAnswer) -> Result<(), Fault> {
    let mut stream = TcpStream::connect(with_port(address))
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => Fault::Refused,
            _ => Fault::Unreachable(error.to_string()),
        })?;
    let length = BODY.len();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: \
         close\r\n\r\n{BODY}"
    );
    // A connection that ends early is no fault yet.
    if stream.write_all(request.as_bytes()).await.is_err() {
        return Ok(());
    }
    let mut buffer = vec![0; PIECE];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if answer.take(buffer.get(..read).unwrap_or_default())? {
            break;
        }
    }
    Ok(())
}

fn with_port(address: &str) -> String {
    let host_only = !address.contains(':') || address.ends_with(']');
    if host_only {
        format!("{address}:{DEFAULT_PORT}")
    } else {
        address.to_owned()
    }
}

/// An answer as far as it was read.
#[derive(Debug, Default)]
struct ReceivedAnswer {
    head: Vec<u8>,
    /// How many bytes of the body are still to come, where the head shows it; else until the connection closes.
    rest: Option<usize>,
    read: usize,
    is_body: bool,
    /// The beginning of the body: an announcement is short.
    body: Vec<u8>,
    /// The end of what was read: a body in chunks ends with an empty one.
    tail: [u8; LAST_CHUNK.len()],
}

const HEAD_END: &[u8] = b"\r\n\r\n";
const LAST_CHUNK: &[u8; 5] = b"0\r\n\r\n";

impl ReceivedAnswer {
    /// What the `tapo` crate logs in over.
    fn transport(&self) -> Transport {
        let announced: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        if announced.pointer("/result/tpap").is_some() {
            Transport::Tpap
        } else {
            Transport::Klap
        }
    }

    /// Takes the next bytes; returns whether the answer is complete.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        self.read += bytes.len();
        if self.read > LARGEST {
            return Err(Fault::Oversized);
        }
        if self.is_body {
            return Ok(self.take_body(bytes));
        }
        self.head.extend_from_slice(bytes);
        let end = self
            .head
            .windows(HEAD_END.len())
            .position(|window| window == HEAD_END);
        let Some(end) = end else {
            return if self.head.len() > LARGEST_HEAD {
                Err(Fault::Oversized)
            } else {
                Ok(false)
            };
        };
        let body = self.head.split_off(end + HEAD_END.len());
        self.is_body = true;
        let head = String::from_utf8_lossy(&self.head);
        let status = head.split(' ').nth(1);
        if status.is_some_and(|status| status.starts_with('3')) {
            return Err(Fault::Redirects);
        }
        let mut lines = head.split("\r\n").skip(1);
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().unwrap_or(usize::MAX))
        });
        if length.is_some_and(|length| length > LARGEST) {
            return Err(Fault::Oversized);
        }
        self.rest = length;
        Ok(self.take_body(&body))
    }

    fn take_body(&mut self, bytes: &[u8]) -> bool {
        let room = ANNOUNCEMENT - self.body.len();
        self.body.extend(bytes.iter().take(room));
        if let Some(rest) = &mut self.rest {
            *rest = rest.saturating_sub(bytes.len());
            return *rest == 0;
        }
        let mut tail: Vec<u8> = self.tail.iter().chain(bytes).copied().collect();
        let last = tail.split_off(tail.len() - self.tail.len());
        self.tail.copy_from_slice(&last);
        self.tail == *LAST_CHUNK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result after each piece, until the answer is complete.
    fn take(pieces: &[&str]) -> Result<bool, Fault> {
        let mut answer = ReceivedAnswer::default();
        for piece in pieces {
            if answer.take(piece.as_bytes())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    #[test]
    fn an_answer_ends_by_its_length_or_its_last_chunk() {
        assert_eq!(
            take(&["HTTP/1.1 200 OK\r\nContent-Le", "ngth: 4\r\n\r\nab", "cd"]),
            Ok(true)
        );
        assert_eq!(
            take(&["HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n"]),
            Ok(true)
        );
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(take(&[chunked, "2\r\nab\r\n0\r", "\n\r\n"]), Ok(true));
        assert_eq!(take(&[chunked, "2\r\nab\r\n"]), Ok(false));
        assert_eq!(take(&["no HTTP"]), Ok(false));
    }

    #[test]
    fn an_announcement_tells_the_transport() {
        let of = |body: &str| {
            let mut answer = ReceivedAnswer::default();
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _complete = answer.take(text.as_bytes()).unwrap();
            answer.transport()
        };
        assert_eq!(
            of(r#"{"error_code":0,"result":{"tpap":{"pake":[2]}}}"#),
            Transport::Tpap
        );
        assert_eq!(
            of(r#"{"error_code":0,"result":{"tpap_preferred":false}}"#),
            Transport::Klap
        );
        assert_eq!(of(r#"{"error_code":1003}"#), Transport::Klap);
        assert_eq!(of(&"x".repeat(ANNOUNCEMENT * 2)), Transport::Klap);
    }

    #[test]
    fn a_redirect_and_an_endless_answer_are_faults() {
        for status in ["301", "302", "307", "308"] {
            let head = format!("HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:1/\r\n\r\n");
            assert_eq!(take(&[&head]), Err(Fault::Redirects));
        }
        let long = "x".repeat(LARGEST_HEAD);
        assert_eq!(take(&[&long, "x"]), Err(Fault::Oversized));
        assert_eq!(
            take(&["HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n"]),
            Err(Fault::Oversized)
        );
        let mut endless = vec!["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"];
        endless.extend(vec![long.as_str(); LARGEST / LARGEST_HEAD]);
        assert_eq!(take(&endless), Err(Fault::Oversized));
    }

    #[test]
    fn an_address_without_a_port_has_port_80() {
        let addresses = ["plug.lan", "192.0.2.1", "[fd00::5]"].map(with_port);
        assert_eq!(addresses, ["plug.lan:80", "192.0.2.1:80", "[fd00::5]:80"]);
        assert_eq!(
            ["plug:81", "[fd00::5]:81"].map(with_port),
            ["plug:81", "[fd00::5]:81"]
        );
    }
}
