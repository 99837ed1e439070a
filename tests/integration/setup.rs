//! `setup` as a person uses it: on a terminal, with a broker and devices that answer.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Instant,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, Profile, RunningDevice, Simulator};
use tapo2mqtt::config::{Settings, Sources, load};
use tempfile::TempDir;

use crate::{
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::{PROGRAM, dead_address, own_address},
};

const FILE: &str = "tapo2mqtt.toml";

/// A program on a terminal of its own, in an empty directory.
pub struct Dialog {
    directory: TempDir,
    child: Running,
    keyboard: fs::File,
    screen: Receiver<Vec<u8>>,
    shown: String,
    /// How much of what is shown was expected.
    seen: usize,
}

/// A program that a test that fails does not leave behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, if the test is good.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Dialog {
    pub fn start(arguments: &[&str], directory: TempDir) -> Self {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&main).unwrap();
        unlockpt(&main).unwrap();
        let name = ptsname(&main, Vec::new()).unwrap().into_string().unwrap();
        let side = || {
            Stdio::from(OwnedFd::from(
                fs::File::options().read(true).write(true).open(&name).unwrap(),
            ))
        };
        // With the terminal as its own, so that Ctrl-C reaches it.
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", PROGRAM])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .current_dir(directory.path())
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .unwrap();
        let child = Running(child);
        let keyboard = fs::File::from(main);
        let mut output = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        // Ends with the terminal.
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            directory,
            child,
            keyboard,
            screen,
            shown: String::new(),
            seen: 0,
        }
    }

    /// Waits until a text is shown, behind the last one.
    pub fn expect(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            match self
                .screen
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(bytes) => self.shown += &String::from_utf8_lossy(&bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{text:?} is not shown:\n{}", self.shown)
                }
            }
        }
    }

    fn answer(&mut self, question: &str, line: &str) {
        self.expect(question);
        self.press(&format!("{line}\n"));
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Everything that was shown, and the end of the program.
    fn end(mut self) -> (String, ExitStatus, TempDir) {
        let status = self.child.0.wait().unwrap();
        while let Ok(bytes) = self.screen.recv_timeout(PATIENCE) {
            self.shown += &String::from_utf8_lossy(&bytes);
        }
        (self.shown, status, self.directory)
    }
}

async fn device(profile: Profile, name: &str) -> RunningDevice {
    let simulator = match profile {
        Profile::P304M => Simulator::strip(profile),
        _ => Simulator::plug(profile),
    };
    simulator
        .address((own_address(), 0).into())
        .discovery(true)
        .nickname(name)
        .start()
        .await
        .unwrap()
}

fn target(device: &RunningDevice) -> String {
    device.address().ip().to_string()
}

fn settings(directory: &Path) -> Settings {
    let sources = Sources {
        file: Some(directory.join(FILE)),
        environment: Vec::new(),
    };
    load(&sources).unwrap()
}

/// The bridge asks no other address than those of this test.
async fn run(dialog: impl FnOnce() -> Dialog + Send + 'static) -> Dialog {
    tokio::task::spawn_blocking(dialog).await.unwrap()
}

#[tokio::test]
async fn setup_writes_a_file_that_passes_check() {
    let broker = Mosquitto::builder()
        .login("setup-user", "broker secret")
        .start()
        .await;
    let plug = device(Profile::P110, "Terrace Heater").await;
    let strip = device(Profile::P304M, "Mats").await;
    let (host, port) = (
        broker.address().ip().to_string(),
        broker.address().port().to_string(),
    );
    let (plug_at, strip_at) = (target(&plug), target(&strip));
    let dialog = run(move || {
        let arguments = [
            "setup", "--wait", "2", "--target", &plug_at, "--target", &strip_at,
        ];
        let mut dialog = Dialog::start(&arguments, tempfile::tempdir().unwrap());
        dialog.answer(
            "host name or address, or none for the page alone [127.0.0.1]: ",
            "mqtt://nowhere",
        );
        dialog.answer("port [1883]: ", "x");
        dialog.answer("username, if it requires one: ", "");
        dialog.expect("mqtt.host");
        dialog.answer("alone [127.0.0.1]: ", &host);
        dialog.answer("port [1883]: ", &port);
        dialog.answer("username, if it requires one: ", "");
        dialog.answer("Enter it again? [Y/n]: ", "");
        dialog.answer(&format!("alone [{host}]: "), "");
        dialog.answer(&format!("port [{port}]: "), "");
        dialog.answer("username, if it requires one: ", "setup-user");
        dialog.answer("password: ", "broker secret");
        dialog.expect("connected");
        dialog.answer("e-mail, or empty to enter it later: ", DEFAULT_USERNAME);
        dialog.answer("password: ", "wrong");
        dialog.answer("No device accepted the account. Enter it again? [Y/n]: ", "y");
        dialog.answer("e-mail, or empty to enter it later: ", DEFAULT_USERNAME);
        dialog.answer("password: ", DEFAULT_PASSWORD);
        dialog.expect("Written: tapo2mqtt.toml");
        dialog
    })
    .await;
    let (shown, status, directory) = run_end(dialog).await;
    assert!(status.success(), "{shown}");
    for secret in ["broker secret", DEFAULT_PASSWORD] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(
        shown.contains("\"Terrace Heater\" -> id terrace-heater"),
        "{shown}"
    );
    let found = settings(directory.path());
    let ids: Vec<_> = found.devices.iter().map(|device| device.id.as_str()).collect();
    assert!(
        ids.contains(&"terrace-heater") && ids.contains(&"mats"),
        "{ids:?}"
    );
    assert!(found.devices.iter().all(|device| device.mac.is_some()));
    let file = directory.path().join(FILE);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // The second time it asks nothing.
    let before = fs::read(&file).unwrap();
    let again = run(move || Dialog::start(&["setup"], directory)).await;
    let (shown, status, directory) = run_end(again).await;
    assert_eq!(status.code(), Some(1), "{shown}");
    assert!(
        shown.contains("tapo2mqtt.toml exists and is not changed"),
        "{shown}"
    );
    assert_eq!(fs::read(directory.path().join(FILE)).unwrap(), before);
}

pub async fn run_end(dialog: Dialog) -> (String, ExitStatus, TempDir) {
    tokio::task::spawn_blocking(|| dialog.end()).await.unwrap()
}

#[tokio::test]
async fn setup_writes_a_file_without_broker_and_account() {
    let dialog = run(|| {
        let target = own_address().to_string();
        let arguments = ["setup", "--wait", "1", "--target", &target];
        let mut dialog = Dialog::start(&arguments, tempfile::tempdir().unwrap());
        dialog.answer("host name or address", "none");
        dialog.answer("e-mail, or empty to enter it later: ", "");
        dialog.expect("Written: tapo2mqtt.toml");
        dialog
    })
    .await;
    let (shown, status, directory) = run_end(dialog).await;
    // Nothing is tested that needs the account.
    assert!(status.success() && !shown.contains("failed"), "{shown}");
    let left = "Enter username and password of the account";
    assert!(shown.contains(left), "{shown}");
    let found = settings(directory.path());
    assert!(!found.mqtt.enabled && found.web.enabled);
}

#[tokio::test]
async fn setup_says_what_a_broker_denies() {
    let denying = Mosquitto::builder().deny_subscription("tapo2mqtt/bridge/state");
    let dropping = Mosquitto::builder().acl("topic read tapo2mqtt/#\n");
    let brokers = [denying.start().await, dropping.start().await];
    let addresses = brokers.each_ref().map(Mosquitto::address);
    let dialog = run(move || {
        let target = own_address().to_string();
        let arguments = ["setup", "--wait", "1", "--target", &target];
        let mut dialog = Dialog::start(&arguments, tempfile::tempdir().unwrap());
        for (address, why) in addresses
            .iter()
            .zip(["denies the subscription", "is not received"])
        {
            dialog.answer("alone [", &address.ip().to_string());
            dialog.answer("port [", &address.port().to_string());
            dialog.answer("username, if it requires one: ", "");
            dialog.expect("The broker cannot be used: ");
            dialog.expect(why);
            dialog.answer("Enter it again? [Y/n]: ", "");
            // It is the right one, and is offered again.
            dialog.expect(&format!("alone [{}", address.ip()));
            dialog.answer("]: ", "");
            dialog.answer("port [", "");
            dialog.answer("username, if it requires one: ", "");
            dialog.expect(why);
            dialog.answer("Enter it again? [Y/n]: ", "");
        }
        dialog.answer("alone [", "none");
        dialog.answer("e-mail, or empty to enter it later: ", "");
        dialog.expect("Written: tapo2mqtt.toml");
        dialog
    })
    .await;
    let (shown, status, _directory) = run_end(dialog).await;
    assert!(status.success() && !shown.contains("  connected"), "{shown}");
}

#[tokio::test]
async fn ctrl_c_at_a_password_writes_nothing_and_shows_typing() {
    let dead = dead_address();
    let dialog = run(move || {
        let mut dialog = Dialog::start(&["setup", "--target", "127.0.0.1"], tempfile::tempdir().unwrap());
        dialog.answer("host name or address", &dead.ip().to_string());
        dialog.answer("port", "9");
        dialog.answer("username", "");
        dialog.expect("The broker cannot be used");
        dialog.answer("Enter it again?", "y");
        // What did not work is not offered.
        dialog.answer(
            "host name or address, or none for the page alone [127.0.0.1]: ",
            &dead.ip().to_string(),
        );
        dialog.answer("port [1883]: ", "9");
        dialog.answer("username", "");
        dialog.expect("The broker cannot be used");
        dialog.answer("Enter it again?", "n");
        dialog.answer("e-mail", "me@example.org");
        dialog.expect("password: ");
        dialog.press("half a sec\u{3}");
        dialog.expect("ended; nothing was written");
        dialog
    })
    .await;
    let modes = rustix::termios::tcgetattr(&dialog.keyboard).unwrap().local_modes;
    assert!(modes.contains(rustix::termios::LocalModes::ECHO));
    let (shown, status, directory) = run_end(dialog).await;
    assert_eq!(status.code(), Some(1), "{shown}");
    assert!(!shown.contains("half a sec"), "{shown}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// The settings file that the program says it uses.
async fn used(directory: &Path, environment: &[(&str, PathBuf)]) -> String {
    let output = tokio::process::Command::new(PROGRAM)
        .arg("check")
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("TAPO2MQTT__MQTT__HOST", "127.0.0.1")
        .env("TAPO2MQTT__MQTT__PORT", "9")
        .current_dir(directory)
        .output()
        .await
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_settings_file_is_found_where_it_usually_is() {
    let (here, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let personal = home.path().join(".config/tapo2mqtt/tapo2mqtt.yaml");
    fs::create_dir_all(personal.parent().unwrap()).unwrap();
    fs::write(&personal, "mqtt:\n  host: broker.lan\n").unwrap();
    let environment = [("HOME", home.path().to_owned())];
    let table = used(here.path(), &environment).await;
    assert!(table.contains(&personal.display().to_string()), "{table}");
    let variable = format!(
        "TAPO2MQTT__MQTT__HOST overrides mqtt.host of {}",
        personal.display()
    );
    assert!(table.contains(&variable), "{table}");
    assert!(!table.contains("TAPO2MQTT__MQTT__PORT overrides"), "{table}");

    let elsewhere = tempfile::tempdir().unwrap();
    let xdg = [
        ("HOME", home.path().to_owned()),
        ("XDG_CONFIG_HOME", elsewhere.path().to_owned()),
    ];
    let table = used(here.path(), &xdg).await;
    assert!(!table.contains(&personal.display().to_string()), "{table}");

    let local = here.path().join(FILE);
    fs::write(&local, "").unwrap();
    let table = used(here.path(), &environment).await;
    assert!(table.contains(&local.display().to_string()), "{table}");
}
