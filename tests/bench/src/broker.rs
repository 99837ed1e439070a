//! Mosquitto, a fresh one for each bridge: nothing that an earlier bridge left can be taken for the next one's.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

/// A loopback address that nothing else has.
pub fn own_host() -> Ipv4Addr {
    Ipv4Addr::new(127, 77, rand::random(), rand::random_range(1..=254))
}

pub struct Broker {
    pub address: SocketAddr,
    mosquitto: Child,
    _home: TempDir,
}

impl Broker {
    /// One that sends each packet at once: the clients of the bench acknowledge late.
    pub async fn start() -> Self {
        Self::start_with("set_tcp_nodelay true\n").await
    }

    /// As Debian ships it: it holds a small packet back until the one before is acknowledged.
    pub async fn start_as_shipped() -> Self {
        Self::start_with("").await
    }

    async fn start_with(more: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let host = own_host();
        let address = SocketAddr::from((host, 1883));
        let configuration = home.path().join("mosquitto.conf");
        let text = format!(
            "listener {} {host}\nallow_anonymous true\npersistence false\n\
             max_queued_messages 1000000\nuser root\n{more}",
            address.port()
        );
        fs::write(&configuration, text).expect("the configuration is written");
        let mosquitto = Command::new("mosquitto")
            .arg("-c")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed");
        let broker = Self {
            address,
            mosquitto,
            _home: home,
        };
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
        broker
    }

    /// It keeps its connections and does nothing any more, as on a machine that hangs.
    pub fn freeze(&self) {
        let stopped = Command::new("kill")
            .args(["-STOP", &self.mosquitto.id().to_string()])
            .status();
        assert!(stopped.is_ok_and(|status| status.success()), "mosquitto runs");
    }

    /// It is gone, and nothing listens there.
    pub fn kill(&mut self) {
        self.mosquitto.kill().expect("mosquitto runs");
        self.mosquitto.wait().expect("mosquitto ended");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ended_before = self.mosquitto.kill();
        let _ = self.mosquitto.wait();
    }
}
