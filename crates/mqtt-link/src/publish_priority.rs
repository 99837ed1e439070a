//! The order of retained topics.

/// The order in which retained topics are published after a connect and whenever several wait.
///
/// Home Assistant needs the bridge before the devices that name it in `via_device`, and a device before its first
/// state. `online` comes last of what waits at the connect. What changes later is published after that, in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublishPriority {
    /// The Home Assistant discovery of the bridge itself.
    BridgeDiscovery,
    /// The Home Assistant discovery of devices and groups.
    Discovery,
    /// State and information.
    State,
    /// Availability of a device.
    Availability,
    /// Availability of the bridge: the topic of the last will.
    BridgeState,
}
