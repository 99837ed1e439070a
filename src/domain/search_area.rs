//! Where devices are searched.

use std::net::IpAddr;

use crate::system::network::Network;

/// Where devices are searched. Nothing outside is ever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchArea {
    /// Asked by broadcast, and address by address where that has no answer; `None` are the private networks that this
    /// machine is in.
    pub networks: Option<Vec<Network>>,
    /// Asked besides: broadcast addresses, or those of single devices.
    pub targets: Vec<IpAddr>,
}

/// Nothing at all.
impl Default for SearchArea {
    fn default() -> Self {
        Self {
            networks: Some(Vec::new()),
            targets: Vec::new(),
        }
    }
}
