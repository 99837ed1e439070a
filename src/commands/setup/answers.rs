//! The settings file as it is asked for.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::json;

use super::found_device::FoundDevice;

/// Behind the devices: what a person may want next.
const OUTLOOK: &str = r#"# Names for the outlets of a strip go below its [[device]]:
#[[device.outlet]]
#position = 1
#id = "left"
#name = "Left mat"

# A schedule with a limit; docs/scheduling.md describes them.
#[[group]]
#id = "heaters"
#outlets = ["heater"]
#safety = { max_on = "6h" }
#[[group.schedule]]
#id = "morning"
#start = "06:00"
#end = "08:30"
"#;

/// In place of a broker.
const NO_BROKER: &str = "none";

/// What was answered and found so far.
#[derive(Debug)]
pub(super) struct SetupAnswers {
    /// [`NO_BROKER`] is none.
    pub(super) host: String,
    pub(super) port: String,
    /// Username and password at the broker.
    pub(super) login: Option<(String, String)>,
    /// E-mail and password of the account.
    pub(super) account: Option<(String, String)>,
    pub(super) devices: Vec<FoundDevice>,
    targets: Vec<IpAddr>,
}

impl SetupAnswers {
    /// `targets` are those of the arguments.
    pub(super) fn new(targets: &[IpAddr]) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: "1883".to_owned(),
            login: None,
            account: None,
            devices: Vec::new(),
            targets: targets.to_vec(),
        }
    }

    /// Whether the page is used alone.
    pub(super) fn is_without_broker(&self) -> bool {
        self.host.eq_ignore_ascii_case(NO_BROKER)
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        let mut text = String::from(
            "# Settings of tapo2mqtt, written by `tapo2mqtt setup`. It contains passwords.\n\
             # docs/settings.md describes every key. After a change: tapo2mqtt check, then reload the bridge.\n\n",
        );
        text += &self.broker();
        text += "\n# Account of the Tapo app, which the devices require. Both values are case-sensitive.\n[tapo]\n";
        text += &self.account.as_ref().map_or_else(
            || "#username = \"you@example.com\"\n#password = \"...\"\n".to_owned(),
            |(username, password)| key("username", username) + &key("password", password),
        );
        if !self.targets.is_empty() {
            text += "\n# Where devices are searched for: nowhere else.\n[discovery]\nnetworks = []\n";
            text += &key("targets", &self.targets);
        }
        text += "\n# One block for each device. The id is its topic: tapo2mqtt/<id>\n\n";
        text.extend(self.devices.iter().map(FoundDevice::block));
        text + OUTLOOK
    }

    fn broker(&self) -> String {
        if self.is_without_broker() {
            return "# No broker: the page at http://127.0.0.1:8099/ shows and switches; docs/web.md has more.\n\
                    [mqtt]\nenabled = false\n\n[web]\nenabled = true\n"
                .to_owned();
        }
        let mut text = String::from("[mqtt]\n");
        text += &key("host", &self.host);
        // A number, unless it is not one: then its problem is reported.
        let port = self.port.parse::<i64>();
        text += &port.map_or_else(|_| key("port", &self.port), |port| format!("port = {port}\n"));
        let login = self.login.as_ref();
        text += &login.map_or_else(
            || "# The broker accepts anonymous clients. Else:\n#username = \"tapo2mqtt\"\n#password = \"...\"\n".to_owned(),
            |(username, password)| key("username", username) + &key("password", password),
        );
        text
    }
}

/// TOML writes texts and lists of texts as JSON does, but for one character.
pub(super) fn key(key: &str, value: impl Serialize) -> String {
    let value = json!(value).to_string().replace('\u{7f}', "\\u007f");
    format!("{key} = {value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load_or};

    #[test]
    fn every_text_arrives_as_it_was_typed() {
        let odd = "a\"b\\c'd #=[]{}\u{7f}\té";
        let mut answers = SetupAnswers::new(&[]);
        answers.login = Some(("user".to_owned(), odd.to_owned()));
        answers.account = Some((format!("{odd}@example.org"), odd.to_owned()));
        let settings = load_or(&Sources::default(), &answers.text()).unwrap();
        assert_eq!(settings.mqtt.login.unwrap().password.unwrap().expose(), odd);
        let account = settings.tapo.credentials.unwrap();
        assert_eq!(
            (account.username, account.password.expose()),
            (format!("{odd}@example.org"), odd)
        );
    }
}
