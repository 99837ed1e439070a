//! The head of an HTTP answer. Pure.

use httparse::{EMPTY_HEADER, Header, Response, Status};

use super::{Cookie, NOT_HTTP};
use crate::Error;

/// Devices send five or six headers.
const MOST_HEADERS: usize = 64;

/// What the head of an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReplyHead {
    pub(super) status: u16,
    pub(super) cookie: Option<Cookie>,
    pub(super) body: BodyLength,
    /// Whether the device keeps the connection.
    pub(super) is_kept: bool,
}

/// Where the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// After so many bytes.
    Bytes(usize),
    /// After a chunk without any.
    Chunks,
    /// With the connection.
    UntilClosed,
}

impl ReplyHead {
    /// Reads the head, and how many bytes it has. `None` while it is not there as a whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let mut headers = [EMPTY_HEADER; MOST_HEADERS];
        let mut response = Response::new(&mut headers);
        let length = match response.parse(bytes).map_err(|_| NOT_HTTP)? {
            Status::Complete(length) => length,
            Status::Partial => return Ok(None),
        };
        let status = response.code.ok_or(NOT_HTTP)?;
        let values = |name: &'static str| {
            let headers = response.headers.iter();
            headers
                .filter(move |header: &&Header<'_>| header.name.eq_ignore_ascii_case(name))
                .map(|header| header.value)
        };
        let has_word = |name, word: &str| {
            let words = values(name).flat_map(|value| value.split(|byte| *byte == b','));
            words
                .map(<[u8]>::trim_ascii)
                .any(|value| value.eq_ignore_ascii_case(word.as_bytes()))
        };
        let body = if matches!(status, 100..=199 | 204 | 304) {
            BodyLength::Bytes(0)
        } else if has_word("transfer-encoding", "chunked") {
            BodyLength::Chunks
        } else {
            let mut lengths = values("content-length").map(length_in);
            match lengths.next().transpose()? {
                Some(length) if lengths.all(|other| other == Ok(length)) => BodyLength::Bytes(length),
                Some(_) => return Err(NOT_HTTP),
                None => BodyLength::UntilClosed,
            }
        };
        let is_kept = body != BodyLength::UntilClosed
            && !has_word("connection", "close")
            && (response.version == Some(1) || has_word("connection", "keep-alive"));
        let head = Self {
            status,
            cookie: values("set-cookie").find_map(Cookie::parse),
            body,
            is_kept,
        };
        Ok(Some((head, length)))
    }

    /// Whether another head follows, of the answer itself.
    pub(super) fn is_provisional(&self) -> bool {
        (100..200).contains(&self.status)
    }
}

/// One that does not fit is too long anyway.
fn length_in(value: &[u8]) -> Result<usize, Error> {
    let digits = std::str::from_utf8(value.trim_ascii()).map_err(|_| NOT_HTTP)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NOT_HTTP);
    }
    Ok(digits.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(ReplyHead, usize)>, Error> {
        ReplyHead::parse(text.as_bytes())
    }

    #[test]
    fn a_head_says_where_its_body_ends_and_what_stays_open() {
        for (headers, body, is_kept) in [
            ("Content-Length: 5", BodyLength::Bytes(5), true),
            (
                "content-length: 5\r\nConnection: close",
                BodyLength::Bytes(5),
                false,
            ),
            (
                "Content-Length: 5\r\nContent-Length: 5",
                BodyLength::Bytes(5),
                true,
            ),
            (
                "Transfer-Encoding: gzip, Chunked\r\nContent-Length: 5",
                BodyLength::Chunks,
                true,
            ),
            ("Server: SHIP 2.0", BodyLength::UntilClosed, false),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\nhello");
            let (head, length) = parse(&text).unwrap().unwrap();
            assert_eq!(
                (head.status, head.body, head.is_kept),
                (200, body, is_kept),
                "{headers}"
            );
            assert_eq!(text.get(length..), Some("hello"));
        }
        let old = |headers: &str| parse(&format!("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n{headers}\r\n"));
        assert!(!old("").unwrap().unwrap().0.is_kept);
        assert!(old("Connection: Keep-Alive\r\n").unwrap().unwrap().0.is_kept);
        let cookie = parse("HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: TP_SESSIONID=AB\r\n\r\n");
        assert_eq!(
            cookie.unwrap().unwrap().0.cookie.unwrap().header(),
            "TP_SESSIONID=AB"
        );
        assert!(
            parse("HTTP/1.1 100 Continue\r\n\r\n")
                .unwrap()
                .unwrap()
                .0
                .is_provisional()
        );
    }

    #[test]
    fn what_is_no_head_is_told_from_a_part_of_one() {
        for part in [
            "",
            "HTT",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 200 OK\r\nA: b\r\n",
        ] {
            assert_eq!(parse(part), Ok(None), "{part}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MOST_HEADERS + 1));
        for bad in [
            "\u{1}\u{2}",
            "<html>",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            &many,
        ] {
            assert_eq!(parse(bad), Err(NOT_HTTP), "{bad}");
        }
        let endless = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n";
        assert_eq!(
            parse(endless).unwrap().unwrap().0.body,
            BodyLength::Bytes(usize::MAX)
        );
    }
}
