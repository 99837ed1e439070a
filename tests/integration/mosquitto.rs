//! A real broker for tests: Debian's Mosquitto with a configuration of its own.
//!
//! ```ignore
//! let mut broker = Mosquitto::start().await;
//! let probe = broker.probe().await;
//! probe.subscribe("tapo2mqtt/#").await;
//! probe.publish("tapo2mqtt/heater/set", "ON").await;
//! probe.expect("tapo2mqtt/heater", |payload| payload.contains("ON")).await;
//! broker.kill();
//! broker.restart().await;
//! ```

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{net::TcpStream, time::Instant};

use crate::probe::Probe;

/// The port of the plain listener. Each broker has a loopback address of its own, so that a broker that was
/// stopped finds its port free when it comes back.
pub const PORT: u16 = 1883;
/// The port of the TLS listener, see [`Builder::tls`].
pub const TLS_PORT: u16 = 8883;

const START_TIME: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(2);
/// Where Debian puts what is not on everybody's path.
const BINARIES: [&str; 2] = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
const DYNAMIC_SECURITY: &str = "mosquitto_dynamic_security.so";

/// A running (or stopped) broker. It keeps nothing on disk: a restart forgets the retained messages. Dropped,
/// it is killed.
pub struct Mosquitto {
    address: Ipv4Addr,
    ports: Vec<u16>,
    directory: TempDir,
    child: Child,
    login: Option<(String, String)>,
}

/// What a broker shall be like. See the methods.
#[derive(Default)]
pub struct Builder {
    login: Option<(String, String)>,
    users: Vec<(String, String)>,
    acl: Option<String>,
    denied_subscriptions: Vec<String>,
    tls: Option<ClientCertificates>,
    self_signed: bool,
    nagle: bool,
    logged: bool,
    options: Vec<String>,
    configuration: Option<String>,
}

/// Whether the TLS listener requires one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    Ignored,
    Required,
}

impl Builder {
    /// One more user who gets in. Probes use the one of [`Builder::login`].
    pub fn user(mut self, username: &str, password: &str) -> Self {
        self.users.push((username.to_owned(), password.to_owned()));
        self
    }

    /// Only this user gets in.
    pub fn login(mut self, username: &str, password: &str) -> Self {
        self.login = Some((username.to_owned(), password.to_owned()));
        self
    }

    /// An access list in the format of `mosquitto.conf(5)`, `acl_file`. Note that Mosquitto answers a denied
    /// publish with success, and grants subscriptions to topics that it then does not deliver.
    pub fn acl(mut self, lines: &str) -> Self {
        self.acl = Some(lines.to_owned());
        self
    }

    /// A SUBSCRIBE with exactly this filter is answered with a failure.
    pub fn deny_subscription(mut self, filter: &str) -> Self {
        self.denied_subscriptions.push(filter.to_owned());
        self
    }

    /// A second listener that speaks TLS on [`TLS_PORT`]; see [`Mosquitto::authority`].
    pub fn tls(mut self, clients: ClientCertificates) -> Self {
        self.tls = Some(clients);
        self
    }

    /// The TLS listener shows the certificate of the authority itself.
    pub fn self_signed(mut self) -> Self {
        self.self_signed = true;
        self.tls(ClientCertificates::Ignored)
    }

    /// It holds small packets back, as one without `set_tcp_nodelay` does.
    pub fn nagle(mut self) -> Self {
        self.nagle = true;
        self
    }

    /// It writes each packet to its log.
    pub fn logged(mut self) -> Self {
        self.logged = true;
        self
    }

    /// A further line of its configuration.
    pub fn option(mut self, line: &str) -> Self {
        self.options.push(line.to_owned());
        self
    }

    /// Starts the broker and waits until it accepts connections.
    pub async fn start(self) -> Mosquitto {
        // Another program may use the address, however unlikely.
        for _ in 0..5 {
            let address = Ipv4Addr::new(
                127,
                rand::random_range(64..=250),
                rand::random(),
                rand::random_range(1..=254),
            );
            let directory = tempfile::tempdir().expect("a temporary directory");
            self.configure(address, directory.path());
            let child = spawn(directory.path());
            let mut broker = Mosquitto {
                address,
                ports: [PORT].into_iter().chain(self.tls.map(|_| TLS_PORT)).collect(),
                directory,
                child,
                login: self.login.clone(),
            };
            if broker.accepts().await {
                return broker;
            }
            assert!(
                broker.log().contains("Address already in use"),
                "mosquitto does not start:\n{}",
                broker.log()
            );
        }
        panic!("no free loopback address for mosquitto");
    }

    fn configure(&self, address: Ipv4Addr, directory: &Path) {
        let path = |name: &str| directory.join(name).display().to_string();
        if let Some(configuration) = &self.configuration {
            let listener = format!("listener {PORT}");
            assert!(configuration.contains(&listener));
            let here = configuration.replace(&listener, &format!("{listener} {address}"));
            let rest = format!("log_dest file {}\nuser root\n", path("log"));
            return fs::write(path("mosquitto.conf"), here + &rest).unwrap();
        }
        let mut lines = vec![
            format!("listener {PORT} {address}"),
            format!("allow_anonymous {}", self.login.is_none()),
            "persistence false".to_owned(),
            format!("set_tcp_nodelay {}", !self.nagle),
            // For slow subscribers. Not 0: that makes Mosquitto 2.0 hang up on a denied publish.
            "max_queued_messages 1000000".to_owned(),
            format!("log_type {}", if self.logged { "all" } else { "error" }),
            format!("log_dest file {}", path("log")),
            // Without this a broker started by root gives up the right to read its own files.
            "user root".to_owned(),
        ];
        if self.login.is_some() {
            fs::write(path("passwords"), "").unwrap();
            for (username, password) in self.login.iter().chain(&self.users) {
                run(Command::new("mosquitto_passwd").args(["-b", &path("passwords"), username, password]));
            }
            lines.push(format!("password_file {}", path("passwords")));
        }
        if let Some(acl) = &self.acl {
            fs::write(path("acl"), acl).unwrap();
            lines.push(format!("acl_file {}", path("acl")));
        }
        if !self.denied_subscriptions.is_empty() {
            fs::write(path("security.json"), self.security()).unwrap();
            lines.push(format!("plugin {}", plugin(DYNAMIC_SECURITY).display()));
            lines.push(format!("plugin_opt_config_file {}", path("security.json")));
        }
        if let Some(clients) = self.tls {
            certificates(directory, address);
            let name = if self.self_signed { "ca" } else { "broker" };
            lines.extend([
                format!("listener {TLS_PORT} {address}"),
                format!("cafile {}", path("ca.crt")),
                format!("certfile {}", path(&format!("{name}.crt"))),
                format!("keyfile {}", path(&format!("{name}.key"))),
                format!("require_certificate {}", clients == ClientCertificates::Required),
            ]);
        }
        lines.extend(self.options.iter().cloned());
        fs::write(path("mosquitto.conf"), lines.join("\n") + "\n").unwrap();
    }

    /// The access list file cannot refuse a SUBSCRIBE; this plugin can.
    fn security(&self) -> String {
        let deny = |filter: &String| serde_json::json!({"acltype": "subscribeLiteral", "topic": filter, "priority": 1, "allow": false});
        let denials: Vec<_> = self.denied_subscriptions.iter().map(deny).collect();
        serde_json::json!({
            "defaultACLAccess": {
                "publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true,
            },
            "anonymousGroup": "everybody",
            "clients": [],
            "groups": [{"groupname": "everybody", "roles": [{"rolename": "limits"}]}],
            "roles": [{"rolename": "limits", "acls": denials}],
        })
        .to_string()
    }
}

impl Mosquitto {
    /// A broker that lets everybody do everything.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A broker with conditions.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A broker with a configuration as people write it: its `listener 1883` gets an address of its own.
    pub async fn with_configuration(configuration: &str) -> Self {
        Builder {
            configuration: Some(configuration.to_owned()),
            ..Builder::default()
        }
        .start()
        .await
    }

    /// Address and port of the plain listener. The TLS listener has the same address, and [`TLS_PORT`].
    pub fn address(&self) -> SocketAddr {
        (self.address, PORT).into()
    }

    /// The authority that signed the certificate of the TLS listener (PEM).
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A certificate that the TLS listener accepts, and its key (PEM).
    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        let path = |name| self.directory.path().join(name);
        (path("client.crt"), path("client.key"))
    }

    /// A client of its own, that watches and pokes.
    pub async fn probe(&self) -> Probe {
        Probe::connect(self.address(), self.login.as_ref()).await
    }

    /// What a new subscriber to this topic gets at once.
    pub async fn retained(&self, topic: &str) -> Option<String> {
        self.retained_under(topic).await.remove(topic)
    }

    /// The retained messages that a new subscriber to this filter gets at once, by topic.
    pub async fn retained_under(&self, filter: &str) -> BTreeMap<String, String> {
        self.probe().await.retained(filter).await
    }

    /// Kills the broker as `kill -9` does: no disconnect, nothing kept.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends the broker in order, as a package upgrade does.
    pub fn stop(&mut self) {
        run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        self.child.wait().expect("mosquitto ends");
    }

    /// Starts the broker again, killing it first if it runs, and waits until it accepts connections.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.directory.path());
        assert!(
            self.accepts().await,
            "mosquitto does not start again:\n{}",
            self.log()
        );
    }

    /// What the broker wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Waits until the broker accepts connections on all its listeners; `false` if it ended instead.
    async fn accepts(&mut self) -> bool {
        let give_up = Instant::now() + START_TIME;
        for port in self.ports.clone() {
            while TcpStream::connect((self.address, port)).await.is_err() {
                if self.child.try_wait().expect("the state of mosquitto").is_some() {
                    return false;
                }
                assert!(
                    Instant::now() < give_up,
                    "mosquitto does not listen:\n{}",
                    self.log()
                );
                tokio::time::sleep(RETRY).await;
            }
        }
        true
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(directory: &Path) -> Child {
    let known = BINARIES.iter().find(|path| Path::new(path).exists());
    Command::new(known.unwrap_or(&"mosquitto"))
        .arg("-c")
        .arg(directory.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|why| {
            panic!("cannot start mosquitto ({why}); install the package: apt install mosquitto")
        })
}

fn plugin(name: &str) -> PathBuf {
    let architectures = fs::read_dir("/usr/lib").expect("/usr/lib");
    let mut candidates = architectures.flatten().map(|entry| entry.path().join(name));
    candidates
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is missing; install the package: apt install mosquitto"))
}

/// An authority, and two certificates that it signed: `broker` for the address, `client`.
pub fn certificates(directory: &Path, address: Ipv4Addr) {
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ];
    let openssl = |args: &[&str]| run(Command::new("openssl").current_dir(directory).args(args));
    let authority_name = format!("/CN=test authority {address}");
    let authority = [
        "req",
        "-x509",
        "-subj",
        &authority_name,
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
    ];
    openssl(&[&authority[..], &key].concat());
    let names = format!("subjectAltName=IP:{address}");
    for (name, extension) in [
        ("broker", names.as_str()),
        ("client", "extendedKeyUsage=clientAuth"),
    ] {
        let file = |ending| format!("{name}.{ending}");
        let (subject, secret, request, signed) =
            (format!("/CN={name}"), file("key"), file("csr"), file("crt"));
        fs::write(directory.join("extension"), extension).unwrap();
        openssl(
            &[
                &["req", "-subj", &subject, "-keyout", &secret, "-out", &request][..],
                &key,
            ]
            .concat(),
        );
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-out",
            &signed,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "extension",
        ]);
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|why| {
        let program = command.get_program().to_string_lossy().into_owned();
        let package = if program == "mosquitto_passwd" {
            "mosquitto"
        } else {
            &program
        };
        panic!("cannot run {program} ({why}); install the package: apt install {package}")
    });
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
