//! The networks that this machine is in.

use std::{fs, net::Ipv4Addr, path::Path};

use super::network::Network;

/// What the kernel lists of its routes.
const ROUTES: &str = "/proc/self/net/route";
/// What it tells of each interface.
const INTERFACES: &str = "/sys/class/net";
/// Ethernet, and Wi-Fi too, as if_arp.h numbers it. Tunnels have other numbers.
const ETHERNET: &str = "1";
/// How the names of interfaces begin that lead to containers, virtual machines or through a VPN. Some of them look like
/// Ethernet.
const VIRTUAL: [&str; 22] = [
    "docker",
    "br-",
    "veth",
    "virbr",
    "vnet",
    "lxc",
    "lxd",
    "podman",
    "cni",
    "flannel",
    "cali",
    "kube",
    "vmnet",
    "vboxnet",
    "tun",
    "tap",
    "wg",
    "tailscale",
    "zt",
    "ppp",
    "utun",
    "hassio",
];

/// The private networks that this machine is in over an interface of its own, the small ones first. None where the system
/// does not list its routes as Linux does.
pub(crate) fn private_networks() -> Vec<Network> {
    let routes = fs::read_to_string(ROUTES).unwrap_or_default();
    networks(&routes, |interface| {
        let directory = Path::new(INTERFACES).join(interface);
        let kind = fs::read_to_string(directory.join("type")).unwrap_or_default();
        kind.trim() == ETHERNET
    })
}

fn networks(routes: &str, is_ethernet: impl Fn(&str) -> bool) -> Vec<Network> {
    let mut networks: Vec<Network> = Vec::new();
    for route in routes.lines().filter_map(DirectRoute::parse) {
        let known = networks.contains(&route.network);
        if !known && !route.is_virtual() && is_ethernet(route.interface) {
            networks.push(route.network);
        }
    }
    networks.sort_by_key(|network| network.size());
    networks
}

/// A network that is reached without a gateway.
struct DirectRoute<'a> {
    interface: &'a str,
    network: Network,
}

impl<'a> DirectRoute<'a> {
    /// A line of `/proc/net/route`; `None` for one with a gateway, to a single machine, or outside private networks.
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let interface = fields.next()?;
        let destination = address(fields.next()?)?;
        let gateway = address(fields.next()?)?;
        let mask = address(fields.nth(4)?)?;
        let prefix = u8::try_from(mask.to_bits().leading_ones()).ok()?;
        let is_network = gateway.is_unspecified() && destination.is_private() && prefix < 31;
        is_network.then_some(Self {
            interface,
            network: Network::of(destination, prefix),
        })
    }

    fn is_virtual(&self) -> bool {
        VIRTUAL.iter().any(|name| self.interface.starts_with(name))
    }
}

/// An address in hexadecimal digits, in the byte order of the machine.
fn address(hexadecimal: &str) -> Option<Ipv4Addr> {
    let bits = u32::from_str_radix(hexadecimal, 16).ok()?;
    Some(Ipv4Addr::from(bits.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(interface: &str, destination: [u8; 4], gateway: [u8; 4], mask: [u8; 4]) -> String {
        let hexadecimal = |bytes| format!("{:08X}", u32::from_ne_bytes(bytes));
        let [destination, gateway, mask] = [destination, gateway, mask].map(hexadecimal);
        format!("{interface}\t{destination}\t{gateway}\t0001\t0\t0\t100\t{mask}\t0\t0\t0\n")
    }

    fn listed(routes: &str) -> Vec<String> {
        let networks = networks(routes, |interface| interface != "vpn0");
        networks.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_private_networks_of_real_interfaces_are_asked() {
        let direct = [0; 4];
        let class_c = [255, 255, 255, 0];
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
            .to_owned()
            + &line("eth0", [0; 4], [192, 168, 1, 1], [0; 4])
            + &line("eth0", [192, 168, 1, 0], direct, class_c)
            + &line("wlan0", [192, 168, 1, 0], direct, class_c)
            + &line("eth1", [192, 168, 7, 0], [192, 168, 1, 9], class_c)
            + &line("eth2", [203, 0, 113, 0], direct, class_c)
            + &line("docker0", [172, 17, 0, 0], direct, class_c)
            + &line("wg0", [10, 9, 0, 0], direct, class_c)
            + &line("vpn0", [10, 8, 0, 0], direct, class_c)
            + &line("eth3", [10, 7, 0, 5], direct, [255; 4]);
        assert_eq!(listed(&routes), ["192.168.1.0/24"]);
        assert!(listed("nonsense\n\nlo x y").is_empty());
    }

    #[test]
    fn small_networks_come_first() {
        let of = |interface, destination, mask| line(interface, destination, [0; 4], mask);
        let routes = of("eth0", [10, 0, 0, 0], [255, 255, 0, 0])
            + &of("eth1", [192, 168, 3, 0], [255, 255, 255, 0])
            + &of("eth2", [192, 168, 4, 0], [255, 255, 255, 128]);
        assert_eq!(
            listed(&routes),
            ["192.168.4.0/25", "192.168.3.0/24", "10.0.0.0/16"]
        );
    }
}
