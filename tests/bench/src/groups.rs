//! Settings of groups, and plugs that only the scheduler knows.

use std::fmt::Write as _;

use tapo2mqtt::config::{Settings, Sources, load};

/// Plugs of one group.
pub const MEMBERS: usize = 10;

/// What the schedules of the groups ask.
#[derive(Clone, Copy)]
pub enum Asks {
    /// The clock.
    Nothing,
    /// The sensor on [`TOPIC`]: below 30 °C.
    Sensor,
}

/// Whether the groups have limits. A limit is armed on the plug too: requests more for each command.
#[derive(Clone, Copy)]
pub enum Limits {
    /// None.
    Without,
    /// `max_on`, and a cooldown.
    With,
}

/// What the sensor publishes on.
pub const TOPIC: &str = "weather/outdoor";

/// Groups of plugs `d0`, `d1`... with a schedule that has no edge while this is measured.
pub fn of(plugs: usize, members: usize, asks: Asks, limits: Limits) -> String {
    let mut text = String::from("[location]\ntimezone = \"Etc/UTC\"\n");
    let when = match asks {
        Asks::Nothing => "",
        Asks::Sensor => {
            let _ = write!(
                text,
                "[[sensor]]\nid = \"outdoor\"\ntopic = \"{TOPIC}\"\nunit = \"°C\"\n"
            );
            "when = [{ sensor = \"outdoor\", at_most = 30.0, hysteresis = 0.5 }]\n"
        }
    };
    let safety = match limits {
        Limits::Without => "max_on = \"none\"\ncooldown = \"none\"",
        Limits::With => "max_on = \"6h\"\ncooldown = \"10m\"",
    };
    for first in (0..plugs).step_by(members) {
        let outlets: Vec<String> = (first..plugs.min(first + members))
            .map(|plug| format!("\"d{plug}\""))
            .collect();
        let _ = write!(
            text,
            "[[group]]\nid = \"g{first}\"\nname = \"G\"\noutlets = [{}]\n\
             [group.safety]\n{safety}\n\
             [[group.schedule]]\nid = \"day\"\nstart = \"00:00\"\nend = \"23:00\"\n{when}",
            outlets.join(", ")
        );
    }
    text
}

/// The settings of so many plugs that are never reached, in groups.
pub fn settings(plugs: usize, members: usize, asks: Asks) -> Settings {
    let mut text = format!(
        "[mqtt]\nhost = \"127.0.0.1\"\n[tapo]\nusername = \"a@example.com\"\npassword = \"b\"\n{}",
        of(plugs, members, asks, Limits::With)
    );
    for plug in 0..plugs {
        let _ = write!(
            text,
            "[[device]]\nid = \"d{plug}\"\naddress = \"127.0.0.1:{}\"\n",
            1000 + plug
        );
    }
    let file = tempfile::Builder::new()
        .suffix(".toml")
        .tempfile()
        .expect("a file");
    std::fs::write(file.path(), text).expect("the settings are written");
    load(&Sources::from_process(Some(file.path().to_owned()))).expect("the settings are good")
}
