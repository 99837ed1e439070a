//! What a login found out.

use crate::{Account, Scheme, Transport};

/// How a device was logged in to. Keep the transport, and give it to the next login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// What the device speaks.
    pub transport: Transport,
    /// Whose credentials it accepted; none over XOR, which has no login.
    pub account: Option<Account>,
    /// The variant of KLAP.
    pub scheme: Option<Scheme>,
}
