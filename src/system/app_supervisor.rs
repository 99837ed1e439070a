//! The Supervisor of Home Assistant, if the bridge is one of its apps.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use serde_json::Value;
use tokio::{task::spawn_blocking, time::sleep};
use tracing::{info, warn};

use super::{MqttService, Secret};

/// Where it answers.
const ADDRESS: &str = "supervisor:80";
/// Another address of it.
const ADDRESS_VARIABLE: &str = "TAPO2MQTT_SUPERVISOR";
/// What it expects to be shown. Its apps get another one at each start.
const TOKEN_VARIABLE: &str = "SUPERVISOR_TOKEN";
/// How long it may take to connect, and for each part of its answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// More than any answer has, in bytes.
const ANSWER_MAX: u64 = 64 * 1024;
/// Between two questions for a broker that is not there yet: at each boot it comes a while after the apps.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Between two questions for one that is in use: its password changes when it is installed again.
const USUAL_WAIT: Duration = Duration::from_mins(1);

/// How to reach the Supervisor.
#[derive(Debug, Clone)]
pub struct AppSupervisor {
    address: String,
    token: Secret,
}

impl AppSupervisor {
    /// Of the variables that it sets for its apps; `None` elsewhere.
    pub fn of<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(Self {
            token: Secret::new(variable(TOKEN_VARIABLE)?),
            address: variable(ADDRESS_VARIABLE).unwrap_or(ADDRESS).to_owned(),
        })
    }

    /// The broker of Home Assistant. Blocks for a few seconds at most.
    ///
    /// # Errors
    /// Why there is none yet.
    pub fn broker(&self) -> Result<MqttService, String> {
        let (status, body) = self
            .get("/services/mqtt")
            .map_err(|error| format!("the Supervisor at {} cannot be asked: {error}", self.address))?;
        let answer = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        if status == 200
            && let Some(service) = MqttService::of(&answer)
        {
            return Ok(service);
        }
        let message = answer
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or("no reason");
        Err(format!(
            "the Supervisor offers no MQTT broker ({status}: {}); install and start the Mosquitto app, or set a broker \
             in the options",
            message.escape_debug()
        ))
    }

    /// Ends when the broker is another one than `known`. Asks for ever.
    pub async fn broker_changed(self, known: Option<MqttService>) {
        let ask = || {
            let supervisor = self.clone();
            async move {
                let asked = spawn_blocking(move || supervisor.broker()).await;
                asked.unwrap_or_else(|error| Err(error.to_string()))
            }
        };
        changed(ask, known).await;
    }

    fn get(&self, path: &str) -> io::Result<(u16, Vec<u8>)> {
        let address = self.address.to_socket_addrs()?.next();
        let address = address.ok_or(io::ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        // HTTP/1.0: the answer comes in one piece. It ends with the connection, which some servers keep open unless asked.
        let token = self.token.expose();
        let request = format!(
            "GET {path} HTTP/1.0\r\nHost: supervisor\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|end| end == b"\r\n\r\n");
        let (head, body) = answer
            .split_at_checked(end.map_or(0, |end| end + 4))
            .unwrap_or_default();
        let status = String::from_utf8_lossy(head);
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("not an answer over HTTP"))?;
        Ok((status, body.to_vec()))
    }
}

async fn changed<A>(ask: impl Fn() -> A, known: Option<MqttService>)
where
    A: Future<Output = Result<MqttService, String>>,
{
    let mut wait = if known.is_some() { USUAL_WAIT } else { FIRST_WAIT };
    let mut reported = None;
    loop {
        sleep(wait).await;
        match ask().await {
            Ok(broker) if known.as_ref() == Some(&broker) => reported = None,
            Ok(broker) => {
                info!(
                    broker = format!("{}:{}", broker.host, broker.port),
                    "Home Assistant has another MQTT broker now"
                );
                return;
            }
            Err(why) => {
                if reported.as_ref() != Some(&why) {
                    warn!("{why}");
                }
                reported = Some(why);
            }
        }
        wait = if known.is_some() {
            USUAL_WAIT
        } else {
            (wait * 2).min(LONGEST_WAIT)
        };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::Instant;

    use super::*;

    fn broker(password: &str) -> MqttService {
        MqttService {
            host: "core-mosquitto".to_owned(),
            port: 1883,
            tls: false,
            login: Some(("addons".to_owned(), Secret::new(password))),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_is_asked_for_until_it_is_another_one() {
        let answers = RefCell::new(vec![Ok(broker("new")), Err("gone".to_owned()), Ok(broker("old"))]);
        let ask = || {
            let answer = answers.borrow_mut().pop().unwrap();
            async { answer }
        };
        let start = Instant::now();
        changed(ask, Some(broker("old"))).await;
        assert_eq!(start.elapsed(), 3 * USUAL_WAIT);

        let missing = RefCell::new(0);
        let ask = || {
            *missing.borrow_mut() += 1;
            let answer = if *missing.borrow() < 20 {
                Err("none".to_owned())
            } else {
                Ok(broker("new"))
            };
            async { answer }
        };
        let start = Instant::now();
        changed(ask, None).await;
        assert!(start.elapsed() > 15 * LONGEST_WAIT, "{:?}", start.elapsed());
    }

    #[test]
    fn it_exists_only_for_an_app() {
        assert!(AppSupervisor::of(|_| None).is_none());
        let app = AppSupervisor::of(|name| (name == TOKEN_VARIABLE).then_some("token")).unwrap();
        assert_eq!(app.address, ADDRESS);
        assert!(!format!("{app:?}").contains("token\""));
    }
}
