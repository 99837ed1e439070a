//! The broker of Home Assistant, as its Supervisor describes it.

use serde_json::Value;

use super::Secret;

/// The broker that an app offers to the other apps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttService {
    /// Its name in the network of the apps.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it takes TLS only.
    pub tls: bool,
    /// User name and password, if it requires them.
    pub login: Option<(String, Secret)>,
}

impl MqttService {
    /// Of the Supervisor's answer; `None` if it is another one.
    pub(super) fn of(answer: &Value) -> Option<Self> {
        let data = answer.get("data")?;
        let text = |key: &str| {
            let text = data.get(key).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let port = data.get("port")?;
        // Its documentation has a text.
        let port = port
            .as_str()
            .map_or_else(|| port.as_u64(), |port| port.parse().ok());
        Some(Self {
            host: text("host")?,
            port: port.and_then(|port| u16::try_from(port).ok())?,
            tls: data.get("ssl").and_then(Value::as_bool).unwrap_or_default(),
            login: text("username")
                .map(|username| (username, Secret::new(text("password").unwrap_or_default()))),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_leniently() {
        let full = json!({"result": "ok", "data": {"addon": "core_mosquitto", "host": "core-mosquitto", "port": 1883,
            "ssl": false, "protocol": "3.1.1", "username": "addons", "password": "secret"}});
        let service = MqttService::of(&full).unwrap();
        assert_eq!(
            (service.host.as_str(), service.port, service.tls),
            ("core-mosquitto", 1883, false)
        );
        assert_eq!(service.login, Some(("addons".to_owned(), Secret::new("secret"))));
        let open = json!({"data": {"host": "broker", "port": "8883", "ssl": true}});
        let service = MqttService::of(&open).unwrap();
        assert_eq!((service.port, service.tls, service.login), (8883, true, None));
        for other in [
            json!({"data": {"host": "broker", "port": 70000}}),
            json!({"data": {"port": 1}}),
            json!([]),
        ] {
            assert_eq!(MqttService::of(&other), None);
        }
    }
}
