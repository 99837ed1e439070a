//! What a page sends to the bridge.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Messages of pages on their way to the MQTT task.
const ROOM: usize = 64;

/// A message to a command or request topic, as over MQTT, and the way of its response.
#[derive(Debug)]
pub struct PageMsg {
    /// Below the base topic.
    pub topic: String,
    /// As over MQTT.
    pub payload: Bytes,
    /// Gets the response. Dropped, it says that the bridge is shutting down.
    pub reply: oneshot::Sender<String>,
}

/// The way of those messages.
pub fn page_messages() -> (mpsc::Sender<PageMsg>, mpsc::Receiver<PageMsg>) {
    mpsc::channel(ROOM)
}
