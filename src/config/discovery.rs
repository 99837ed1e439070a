//! `[discovery]`: where devices are searched, and what becomes of those that are found.

use std::{net::IpAddr, time::Duration};

use serde_json::{Value, json};

use super::{
    parse,
    reader::{Expected, Leaf, Read, Table},
};
use crate::{
    domain::search_area::SearchArea,
    system::network::{ADDRESSES_MAX, Network, NotANetwork},
};

/// Most addresses beside the networks.
const TARGETS_MAX: usize = 16;
/// What stands for the networks of this machine.
const OWN_NETWORKS: &str = "auto";

/// How devices are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Where they are searched.
    pub area: SearchArea,
    /// Between two searches, 10 s to 1 h.
    pub interval: Duration,
    /// What becomes of a device that is found.
    pub add: AddDevices,
}

/// What becomes of a device that is found and is not in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddDevices {
    /// It is listed, and added on request.
    Ask,
    /// It is added, if it accepts the account.
    All,
    /// Nothing: only lost devices are searched.
    None,
}

impl Discovery {
    pub(super) fn digest(&self) -> Value {
        let networks = self.area.networks.as_ref().map_or_else(
            || vec![OWN_NETWORKS.to_owned()],
            |networks| networks.iter().map(ToString::to_string).collect(),
        );
        json!({
            "networks": networks,
            "targets": self.area.targets,
            "interval_s": self.interval.as_secs_f64(),
            "add": match self.add {
                AddDevices::Ask => "ask",
                AddDevices::All => "all",
                AddDevices::None => "none",
            },
        })
    }
}

pub(super) fn discovery(table: &mut Table<'_>) -> Read<Discovery> {
    let add = [
        ("ask", AddDevices::Ask),
        ("all", AddDevices::All),
        ("none", AddDevices::None),
    ];
    let add = table.required("add", parse::word(&add));
    let networks = networks(table);
    let targets = table.values("targets", target);
    let interval = Duration::from_secs(10)..=Duration::from_hours(1);
    let interval = table.required("interval", parse::duration(interval));
    let targets = targets?.unwrap_or_default();
    if targets.len() > TARGETS_MAX {
        return Err(table.problem("targets", format!("at most {TARGETS_MAX} IP addresses")));
    }
    Ok(Discovery {
        area: SearchArea {
            networks: networks?,
            targets,
        },
        interval: interval?,
        add: add?,
    })
}

/// `["auto"]` are those of this machine.
fn networks(table: &mut Table<'_>) -> Read<Option<Vec<Network>>> {
    let named = table.values("networks", |leaf| {
        if leaf.text() == Some(OWN_NETWORKS) {
            return Ok(None);
        }
        let network = leaf.text().ok_or(NotANetwork).and_then(str::parse);
        let network = network.map_err(|error: NotANetwork| format!("\"{OWN_NETWORKS}\", or {error}"))?;
        Ok(Some(network))
    })?;
    let named = named.unwrap_or_default();
    if named == [None] {
        return Ok(None);
    }
    let networks: Option<Vec<Network>> = named.into_iter().collect();
    let Some(networks) = networks else {
        return Err(table.problem("networks", format!("[\"{OWN_NETWORKS}\"] alone, or networks")));
    };
    if networks.iter().map(|network| network.size()).sum::<usize>() > ADDRESSES_MAX {
        let expected = format!("networks of {ADDRESSES_MAX} addresses together, such as four /24");
        return Err(table.problem("networks", expected));
    }
    Ok(Some(networks))
}

fn target(leaf: &Leaf<'_>) -> Result<IpAddr, Expected> {
    let ip = leaf.text().and_then(|text| text.parse::<IpAddr>().ok());
    ip.filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
        .ok_or_else(|| {
            "the IP address of a device or a broadcast address, such as \"192.168.1.255\"".to_owned()
        })
}
