//! Notifications by e-mail: through a mail server on loopback that speaks SMTP, with and without STARTTLS.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tapo_simulator::{Profile, Simulator};
use tapo2mqtt::system::tasks::Tasks;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    bridge::{Setup, fast_forward},
    groups::noon,
    mosquitto::certificates,
    probe::PATIENCE,
    process::{Home, dead_address, own_address, settings},
};

/// What must be nowhere.
const SECRET: &str = "hunter2-hunter2";

/// A mail server for one user.
struct MailServer {
    address: SocketAddr,
    /// The lines of each connection that sent something, as the client sent them.
    seen: Arc<Mutex<Vec<Vec<String>>>>,
    /// Counts the mails that were taken.
    mails: watch::Receiver<usize>,
    task: JoinHandle<()>,
    /// The files of its certificate.
    files: Option<TempDir>,
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MailServer {
    /// In plain text.
    async fn start() -> Self {
        Self::start_with(None, true).await
    }

    /// Says nothing to QUIT.
    async fn start_without_end() -> Self {
        Self::start_with(None, false).await
    }

    /// Wants STARTTLS before everything else.
    async fn start_with_tls() -> Self {
        Self::start_with(Some(tempfile::tempdir().unwrap()), true).await
    }

    async fn start_with(files: Option<TempDir>, quits: bool) -> Self {
        let ip = own_address();
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = files.as_ref().map(|files| {
            certificates(files.path(), ip);
            let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let chain = CertificateDer::from_pem_file(files.path().join("broker.crt")).unwrap();
            let key = PrivateKeyDer::from_pem_file(files.path().join("broker.key")).unwrap();
            let config = ServerConfig::builder().with_no_client_auth();
            TlsAcceptor::from(Arc::new(config.with_single_cert(vec![chain], key).unwrap()))
        });
        let (count, mails) = watch::channel(0);
        let seen = Arc::<Mutex<Vec<Vec<String>>>>::default();
        let kept = seen.clone();
        let knows_late = Arc::<AtomicBool>::default();
        let task = Tasks::default().spawn("mail server", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut conversation = Conversation {
                    lines: Vec::new(),
                    is_logged_in: false,
                    mails: 0,
                    quits,
                    knows_late: knows_late.clone(),
                };
                // A client that goes away in between is its own affair.
                let _end = conversation.begin(stream, tls.as_ref()).await;
                kept.lock().unwrap().push(conversation.lines);
                count.send_modify(|count| *count += conversation.mails);
            }
        });
        Self {
            address,
            seen,
            mails,
            task,
            files,
        }
    }

    /// Waits until so many mails were taken, and returns the connections.
    async fn count(&self, count: usize) -> Vec<Vec<String>> {
        let mut mails = self.mails.clone();
        let waited = timeout(PATIENCE, mails.wait_for(|mails| *mails >= count)).await;
        waited
            .unwrap_or_else(|_| panic!("{count} mails, not {:?}", self.seen()))
            .unwrap();
        self.seen()
    }

    fn seen(&self) -> Vec<Vec<String>> {
        self.seen.lock().unwrap().clone()
    }

    fn authority(&self) -> PathBuf {
        self.files.as_ref().unwrap().path().join("ca.crt")
    }

    /// An entry of the settings.
    fn entry(&self, more: &str) -> String {
        entry(self.address, more)
    }
}

fn entry(address: SocketAddr, more: &str) -> String {
    format!(
        "[[notify]]\nurl = \"smtp://me@{address}\"\npassword = \"{SECRET}\"\nto = [\"you@example.com\"]\n{more}"
    )
}

/// One connection: RFC 5321, 3207 and 4954 as far as mails need them. Nothing is taken without the right login.
struct Conversation {
    lines: Vec<String>,
    is_logged_in: bool,
    mails: usize,
    quits: bool,
    /// Whether it refused `late@` before, as it does once.
    knows_late: Arc<AtomicBool>,
}

impl Conversation {
    async fn begin(&mut self, mut stream: TcpStream, tls: Option<&TlsAcceptor>) -> io::Result<()> {
        stream.write_all(b"220 mail.test ESMTP\r\n").await?;
        let Some(tls) = tls else {
            return self
                .go_on(&mut stream, "250-mail.test\r\n250 AUTH PLAIN LOGIN")
                .await;
        };
        self.go_on(&mut stream, "250-mail.test\r\n250 STARTTLS").await?;
        let mut stream = tls.accept(stream).await?;
        self.go_on(&mut stream, "250-mail.test\r\n250 AUTH PLAIN LOGIN")
            .await
    }

    /// Until QUIT or STARTTLS.
    async fn go_on(
        &mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        hello: &str,
    ) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut is_data = false;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.strip_suffix("\r\n").unwrap_or(&line).to_owned();
            self.lines.push(line.clone());
            let answer = match line.split(' ').next().unwrap_or_default() {
                "." if is_data => {
                    is_data = false;
                    self.mails += 1;
                    // Its text is Latin-1.
                    stream.write_all(b"250-\xfcbernommen\r\n").await?;
                    "250 taken"
                }
                _ if is_data => continue,
                "EHLO" => hello,
                "STARTTLS" => "220 go on",
                "AUTH" => {
                    let login = format!("AUTH PLAIN {}", STANDARD.encode(format!("\0me\0{SECRET}")));
                    self.is_logged_in = line == login;
                    if self.is_logged_in {
                        "235 welcome"
                    } else {
                        "535 hunter2-hunter2 is no password of me"
                    }
                }
                "QUIT" if !self.quits => continue,
                "QUIT" => "221 bye",
                _ if !self.is_logged_in => "530 log in first",
                "RCPT" if line.contains("late@") && !self.knows_late.swap(true, Ordering::Relaxed) => {
                    "451 greylisted, later"
                }
                "RCPT" if line.contains("nobody@") => "550 nobody@example.com does not exist",
                "DATA" => {
                    is_data = true;
                    "354 go on"
                }
                _ => "250 OK",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
            if matches!(line.as_str(), "STARTTLS" | "QUIT") {
                return Ok(());
            }
        }
    }
}

/// The text of the mail of a connection.
fn text(lines: &[String]) -> String {
    lines.join("\n")
}

#[tokio::test]
async fn a_reached_limit_is_an_e_mail_within_5_s_and_once() {
    let server = MailServer::start().await;
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let group =
        "[[group]]\nid = \"all\"\noutlets = [\"heater\"]\nsafety = { max_on = \"1s\", cooldown = \"1s\" }\n";
    let entry = server.entry("events = [\"limit_reached\"]\nfrom = \"bridge@example.com\"\n");
    // One that the server refuses costs the other nothing.
    let entry = entry.replace("[\"you@", "[\"nobody@example.com\", \"you@");
    let setup = Setup::new()
        .device("heater", plug.address())
        .clock(&noon())
        .rules(group)
        .section(&entry);
    let mut bridge = setup.start().await;
    bridge.available("heater").await;
    bridge.set("heater", "on", json!({ "state": "ON" })).await;
    let trip = bridge
        .expect("bridge/event", |event| event["type"] == "safety_trip")
        .await;
    let began = text(&server.count(1).await[0]);
    for line in [
        "MAIL FROM:<bridge@example.com>",
        "RCPT TO:<you@example.com>",
        "From: tapo2mqtt <bridge@example.com>",
        "Subject: tapo2mqtt: heater reached a limit",
    ] {
        assert!(began.lines().any(|seen| seen == line), "{line}: {began}");
    }
    assert!(
        began
            .replace("=\n", "")
            .contains(trip["message"].as_str().unwrap()),
        "{began}"
    );
    let date = began
        .lines()
        .find_map(|line| line.strip_prefix("Date: "))
        .unwrap();
    let sent = jiff::fmt::rfc2822::parse(date).unwrap().timestamp();
    let trip: Timestamp = trip["at"].as_str().unwrap().parse().unwrap();
    assert!(sent.duration_since(trip).as_secs() < 5, "{date} {trip}");

    let health = loop {
        bridge.probe.forget();
        bridge.publish("bridge/request/health", "").await;
        let health = bridge.expect("bridge/response/health", |_| true).await;
        let health = health["data"]["notify"]["notify-1"].clone();
        if health["failing_since"].is_string() {
            break health;
        }
    };
    assert_eq!((&health["sent"], &health["failed"]), (&json!(1), &json!(0)));

    // It is over, has to stay so for 10 s, and is not notified again within the hour.
    fast_forward(Duration::from_secs(12)).await;
    let over = server.count(2).await;
    let expected = "Subject: tapo2mqtt: no limit keeps heater off any more";
    assert!(over[1].iter().any(|line| line == expected), "{:?}", over[1]);
    bridge
        .set_until_ok("heater", "again", json!({ "state": "ON" }))
        .await;
    bridge
        .expect("bridge/event", |event| event["type"] == "safety_trip")
        .await;
    bridge.stop().await;
    assert_eq!(server.seen().len(), 2, "{:?}", server.seen());
    for seen in bridge.probe.history() {
        assert!(
            !seen.text().contains(SECRET) && !seen.text().contains("@example.com"),
            "{}: {}",
            seen.topic,
            seen.text()
        );
    }
}

/// The recipients of each attempt to send a notification, whether it was sent, and health once it is as wanted.
async fn recipients(to: &str, is_done: impl Fn(&Value) -> bool) -> (Vec<String>, Value) {
    let server = MailServer::start().await;
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let group =
        "[[group]]\nid = \"all\"\noutlets = [\"heater\"]\nsafety = { max_on = \"1s\", cooldown = \"1h\" }\n";
    let entry = server.entry("events = [\"limit_reached\"]\n");
    let setup = Setup::new()
        .device("heater", plug.address())
        .rules(group)
        .section(&entry.replace("[\"you@example.com\"]", to));
    let mut bridge = setup.start().await;
    bridge.available("heater").await;
    bridge.set("heater", "on", json!({ "state": "ON" })).await;
    let done = async {
        loop {
            bridge.probe.forget();
            bridge.publish("bridge/request/health", "").await;
            let health = bridge.expect("bridge/response/health", |_| true).await;
            let health = health["data"]["notify"]["notify-1"].clone();
            if is_done(&health) {
                return health;
            }
            if health["sent"] == 1 {
                fast_forward(Duration::from_secs(1)).await;
            }
        }
    };
    let health = timeout(PATIENCE, done).await.unwrap();
    bridge.stop().await;
    let seen = server.seen();
    let mails = seen.iter().map(|lines| {
        let to = lines.iter().filter_map(|line| line.strip_prefix("RCPT TO:"));
        let taken = lines.iter().any(|line| line == "DATA");
        format!("{} {taken}", to.collect::<Vec<_>>().join(" "))
    });
    (mails.collect(), health)
}

#[tokio::test]
async fn a_recipient_that_is_refused_for_now_gets_it_later() {
    let to = "[\"late@example.com\", \"you@example.com\", \"nobody@example.com\"]";
    let (mails, health) = recipients(to, |health| health["sent"] == 2).await;
    let all = "<late@example.com> <you@example.com> <nobody@example.com> true";
    assert_eq!(mails, [all, "<late@example.com> true"]);
    assert_eq!((&health["waiting"], &health["left_out"]), (&json!(0), &json!(0)));
    assert!(health["failing_since"].is_string(), "nobody: {health}");
}

#[tokio::test]
async fn recipients_that_do_not_exist_are_not_tried_again() {
    let (mails, health) = recipients("[\"nobody@example.com\"]", |health| health["failed"] == 1).await;
    assert_eq!(mails, ["<nobody@example.com> false"]);
    let counts = ["sent", "waiting", "left_out"].map(|key| &health[key]);
    assert_eq!(counts, [&json!(0), &json!(0), &json!(1)]);
}

#[tokio::test]
async fn mail_servers_that_fail_cost_no_command() {
    // It takes connections, and never says anything.
    let silent = TcpListener::bind((own_address(), 0)).await.unwrap();
    let plug = Simulator::plug(Profile::P110).start().await.unwrap();
    let group = "[[group]]\nid = \"all\"\noutlets = [\"heater\"]\nsafety = { max_on = \"1s\", cooldown = \"none\" }\n";
    let setup = Setup::new().device("heater", plug.address()).rules(group);
    let setup = setup
        .section(&entry(silent.local_addr().unwrap(), ""))
        .section(&entry(dead_address(), ""));
    let mut bridge = setup.start().await;
    bridge.available("heater").await;
    bridge.set("heater", "on", json!({ "state": "ON" })).await;
    let _hangs = timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
    let failed = async {
        loop {
            bridge.probe.forget();
            bridge.publish("bridge/request/health", "").await;
            let health = bridge.expect("bridge/response/health", |_| true).await;
            if health["data"]["notify"]["notify-2"]["failed"].as_u64() > Some(0) {
                return;
            }
        }
    };
    timeout(PATIENCE, failed).await.unwrap();
    for number in 0..10 {
        let state = if number % 2 == 0 { "OFF" } else { "ON" };
        let answer = bridge
            .set("heater", &number.to_string(), json!({ "state": state }))
            .await;
        assert_eq!(answer["status"], "ok", "{answer}");
    }
    timeout(Duration::from_secs(10), bridge.stop()).await.unwrap();
}

/// A server whose first line does not end.
async fn endless() -> (SocketAddr, Tasks) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, tasks) = (listener.local_addr().unwrap(), Tasks::default());
    tasks.spawn("endless", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            while stream.write_all(&[b'y'; 4096]).await.is_ok() {}
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn notify_test_says_what_a_mail_server_answers() {
    let server = MailServer::start().await;
    let wrong = server.entry("id = \"wrong\"\n").replace(SECRET, "hunter2-wrong");
    let nobody = server.entry("id = \"nobody\"\n").replace("you@", "nobody@");
    let some = nobody
        .replace("\"nobody\"", "\"some\"")
        .replace("[\"nobody@", "[\"you@example.com\", \"nobody@");
    // A login is not sent to a server that offers no STARTTLS, where it is wanted.
    let plain = server.entry("id = \"plain\"\ntls = true\n");
    let dead = entry(dead_address(), "id = \"dead\"\n");
    let closed = Tasks::default();
    let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
    let closing = entry(listener.local_addr().unwrap(), "id = \"closing\"\n");
    closed.spawn("closing", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _gone = stream.shutdown().await;
        }
    });
    let (endless, _tasks) = endless().await;
    let endless = entry(endless, "id = \"endless\"\n");
    let home = Home::new(
        &(settings(dead_address(), &[])
            + &server.entry("")
            + &wrong
            + &nobody
            + &some
            + &plain
            + &dead
            + &closing
            + &endless),
    );
    let output = home.run(&["notify", "test"]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    let ip = server.address.ip();
    for answer in [
        format!("mail to {ip}: SMTP 250"),
        format!("mail to {ip}: it answers 535; check the user and the password"),
        format!("mail to {ip}: it refuses to[0] (550); check from and to"),
        format!("mail to {ip}: it refuses to[1] (550), and sent to the others; check to"),
        format!("mail to {ip}: STARTTLS is not supported on this server"),
        "Connection refused".to_owned(),
        "it sends more than any mail server".to_owned(),
        ": it closed the connection".to_owned(),
    ] {
        assert!(text.contains(&answer), "{answer}: {text}");
    }
    assert!(
        !text.contains("hunter2") && !text.contains("@example.com"),
        "{text}"
    );
    let seen = server.seen();
    let plain = seen
        .iter()
        .find(|lines| !lines.iter().any(|line| line.starts_with("AUTH")))
        .unwrap();
    assert!(
        plain
            .iter()
            .all(|line| line.starts_with("EHLO") || line == "QUIT"),
        "{plain:?}"
    );
}

#[tokio::test]
async fn an_e_mail_that_was_taken_is_sent_whatever_follows() {
    let server = MailServer::start_without_end().await;
    let home = Home::new(&(settings(dead_address(), &[]) + &server.entry("")));
    let output = home.run(&["notify", "test"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("SMTP 250"), "{text}");
    assert_eq!(server.count(1).await.len(), 1);
}

#[tokio::test]
async fn an_e_mail_is_encrypted_before_the_login() {
    let server = MailServer::start_with_tls().await;
    let home = Home::new(&(settings(dead_address(), &[]) + &server.entry("tls = true\n")));
    let run = async |authority: Option<PathBuf>| {
        let mut command = home.program(&["--config", "bridge.toml", "notify", "test"]);
        command.envs(authority.map(|file| ("SSL_CERT_FILE", file)));
        let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let known = run(Some(server.authority())).await;
    assert!(known.contains("SMTP 250"), "{known}");
    let lines = server.count(1).await.remove(0);
    let place = |start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap();
    assert!(
        place("STARTTLS") < place("AUTH") && place("AUTH") < place("DATA"),
        "{lines:?}"
    );

    let unknown = run(None).await;
    assert!(
        unknown.contains("UnknownIssuer") || unknown.contains("certificate"),
        "{unknown}"
    );
    let last = server.seen().pop().unwrap();
    assert!(!text(&last).contains("AUTH"), "{last:?}");
}
