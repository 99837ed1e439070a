//! The old Kasa protocol: JSON in frames on TCP, each byte hidden by the one before it. There is no login.

use std::{io, sync::Arc};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tracing::debug;

use crate::{
    FaultKind,
    core::Core,
    exchange::{Interruption, Reply, perform},
    iot,
};

/// More than any client sends.
const MAX_BODY: usize = 64 * 1024;
const FIRST_KEY: u8 = 171;

/// Serves a connection until either side ends it.
pub(crate) async fn serve(core: Arc<Core>, stream: TcpStream) {
    let _open = core.tally.connection();
    if let Err(error) = serve_frames(&core, stream).await {
        debug!(%error, "a connection ended");
    }
}

async fn serve_frames(core: &Core, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = stream.read_u32().await?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_BODY {
            return Err(io::Error::other("a frame is too long"));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let work = core.tally.http_request();
        let (text, damage) = match perform(core, &reveal(&body)).await {
            Ok(answer) => answer,
            Err(Interruption::Hang) => {
                // The device has given the request up: it is not in work any more. The client ends the connection.
                drop(work);
                stream.read_u8().await?;
                return Ok(());
            }
            // There is no status to answer with.
            Err(Interruption::Drop | Interruption::Status(_)) => return Ok(()),
        };
        let reply = Reply::octets(frame(text.as_bytes())).damaged(damage);
        stream.write_all(&reply.body).await?;
        let cut = reply.body.len() < text.len();
        if cut || core.faults.is_set(FaultKind::CloseAfterReply) {
            return Ok(());
        }
    }
}

/// The answer to a request in a datagram, which has no length; none if it is no request.
pub(crate) fn answer(core: &Core, datagram: &[u8]) -> Option<Vec<u8>> {
    let request: Value = serde_json::from_slice(&reveal(datagram)).ok()?;
    let text = Value::Object(iot::answer(core, &request)).to_string();
    frame(text.as_bytes()).get(LENGTH..).map(<[u8]>::to_vec)
}

/// Of the length before a body.
const LENGTH: usize = 4;

fn frame(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let hidden = text.iter().scan(FIRST_KEY, |key, byte| {
        *key ^= byte;
        Some(*key)
    });
    length.to_be_bytes().into_iter().chain(hidden).collect()
}

fn reveal(body: &[u8]) -> Vec<u8> {
    let keys = std::iter::once(&FIRST_KEY).chain(body);
    body.iter().zip(keys).map(|(byte, key)| byte ^ key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_that_of_real_devices() {
        let text = br#"{"system":{"get_sysinfo":{}}}"#;
        let frame = frame(text);
        assert_eq!(frame[..6], [0, 0, 0, 0x1d, 0xd0, 0xf2]);
        assert_eq!(reveal(&frame[4..]), text);
    }
}
