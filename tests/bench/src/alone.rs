//! A client without a bridge, logged in to one plug.

use serde_json::{Value, json};
use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, RunningDevice};
use tplink::{Credentials, Endpoint, Limits, Transport};

use crate::{fleet, latency};

/// Which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The `tapo` crate.
    Crate,
    /// `crates/tplink`.
    Own,
}

impl Which {
    /// As the setting `client` has it.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Crate => "auto",
            Self::Own => "own",
        }
    }

    /// As the figures have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crate => "the crate",
            Self::Own => "tplink",
        }
    }

    pub async fn log_in(self, device: &RunningDevice) -> Alone {
        match self {
            Self::Crate => Alone::Crate(fleet::handler(device).await),
            Self::Own => {
                let address = device.address();
                let endpoint = Endpoint::new(address.ip().to_string()).with_http_port(address.port());
                let account = Credentials::new(DEFAULT_USERNAME, DEFAULT_PASSWORD);
                let mut client = tplink::Client::new(endpoint, Some(account), Limits::default());
                client.login(Some(Transport::Klap)).await.expect("a login");
                Alone::Own(Box::new(client))
            }
        }
    }
}

/// A client that is logged in.
pub enum Alone {
    Crate(tapo::PlugEnergyMonitoringHandler),
    Own(Box<tplink::Client>),
}

impl Alone {
    /// ON in even rounds, OFF in odd ones.
    pub async fn switch(&mut self, round: usize) {
        match self {
            Self::Crate(handler) => latency::switch(handler, round).await,
            Self::Own(client) => {
                let relay = json!({ "device_on": round.is_multiple_of(2) });
                let done = client.call("set_device_info", relay).await;
                done.expect("the plug answers");
            }
        }
    }

    /// All values of the plug.
    pub async fn read(&mut self) -> Value {
        match self {
            Self::Crate(handler) => handler.get_device_info_json().await.expect("the plug answers"),
            Self::Own(client) => {
                let info = client.call("get_device_info", Value::Null).await;
                info.expect("the plug answers")
            }
        }
    }
}
