//! What is installed beside the program: completions, manual pages, the unit, the settings, the broker's files.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use clap::{CommandFactory as _, Parser as _};
use tapo2mqtt::{
    cli::Cli,
    config::{self, Sources},
};

use crate::{mosquitto::Mosquitto, process::Home};

const DEMO_ONLY: [&str; 2] = ["demo", "simulate"];

pub fn repository(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn commands() -> Vec<String> {
    let program = Cli::command();
    let names = program
        .get_subcommands()
        .map(|command| command.get_name().to_owned());
    names.collect()
}

async fn output(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Home::new("").run_bare(arguments).await;
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn completions_know_every_command() {
    for shell in ["bash", "fish", "zsh"] {
        let (code, script) = output(&["completions", shell]).await;
        assert_eq!(code, Some(0));
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
    }
    let (_, script) = output(&["completions", "bash"]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), script).unwrap();
    // A newcomer's `tapo2mqtt ch<tab>`.
    let complete = "source \"$0\"; COMP_WORDS=(tapo2mqtt ch); COMP_CWORD=1; _tapo2mqtt tapo2mqtt ch tapo2mqtt; echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash")
        .args(["-c", complete])
        .arg(file.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(bash.stdout).unwrap().trim(), "check");
}

#[tokio::test]
async fn every_command_has_a_manual_page() {
    let (code, page) = output(&["man"]).await;
    assert_eq!(code, Some(0));
    for command in commands() {
        assert!(
            page.contains(&format!("tapo2mqtt\\-{command}(1)")),
            "{command}: {page}"
        );
        let (code, page) = output(&["man", &command]).await;
        assert_eq!(code, Some(0), "{command}");
        assert!(
            page.contains(&format!(".TH tapo2mqtt-{command} 1")),
            "{command}: {page}"
        );
    }
    // No page refers to one that is not there.
    assert_eq!(page.matches("(1)").count(), commands().len(), "{page}");
    assert_eq!(output(&["man", "dance"]).await, (Some(1), String::new()));
}

#[test]
fn the_package_has_the_page_of_every_command() {
    let script = repository("scripts/package-deb");
    let line = script.lines().find(|line| line.starts_with("for command in "));
    let listed: Vec<_> = line
        .unwrap()
        .trim_end_matches("; do")
        .split(' ')
        .skip(3)
        .collect();
    let expected: Vec<_> = commands()
        .into_iter()
        .filter(|name| !DEMO_ONLY.contains(&name.as_str()))
        .collect();
    assert_eq!(listed, expected);
}

#[test]
fn the_unit_starts_what_is_installed() {
    let unit = repository("packaging/tapo2mqtt.service");
    let value = |key: &str| {
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("no {key}"))
    };
    let start: Vec<_> = value("ExecStart").split(' ').collect();
    let cli = Cli::try_parse_from(&start).unwrap();
    // It finds the file that `setup` writes, in the directory that the package makes.
    assert_eq!(cli.settings.config, None);
    let usual = Sources::default().usual_files();
    let installed = Path::new("/etc/tapo2mqtt/tapo2mqtt.toml");
    assert!(usual.iter().any(|file| file == installed), "{usual:?}");
    assert!(repository("packaging/debian/postinst").contains("-g tapo2mqtt /etc/tapo2mqtt\n"));
    assert_eq!(value("WorkingDirectory"), "/var/lib/tapo2mqtt");
    assert_eq!((value("Type"), value("LimitCORE")), ("notify", "0"));
    let watchdog: u64 = value("WatchdogSec").trim_end_matches('s').parse().unwrap();
    // A ping comes each second.
    assert!(watchdog >= 10);
    assert_eq!(value("RestartPreventExitStatus"), "64");
    // The bridge reads the id of the boot there, without which a restart does not know how much time has passed.
    assert!(!unit.contains("ProcSubset=pid"), "/proc/sys is hidden");
}

#[test]
fn the_installed_settings_wait_in_setup_mode() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/tapo2mqtt.toml");
    let settings = config::load(&Sources {
        file: Some(file),
        environment: Vec::new(),
    });
    assert!(settings.unwrap().needs_setup());
}

/// The variables that docker-compose.with-broker.yml sets, with the secrets where this test has them.
#[test]
fn the_containers_environment_is_made_of_settings() {
    let compose = repository("docker-compose.with-broker.yml");
    let secrets = tempfile::tempdir().unwrap();
    let environment: Vec<_> = compose
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(name, _)| name.starts_with("TAPO2MQTT__"))
        .map(|(name, value)| match value.strip_prefix("/run/secrets/") {
            Some(secret) => {
                let path = secrets.path().join(secret);
                fs::write(&path, format!("{secret}-password\n")).unwrap();
                (name.to_owned(), path.display().to_string())
            }
            None => (name.to_owned(), value.to_owned()),
        })
        .collect();
    assert_eq!(environment.len(), 4, "{environment:?}");
    let file = secrets.path().join("tapo2mqtt.toml");
    fs::write(&file, "[tapo]\nusername = \"me@example.org\"\n").unwrap();
    let settings = config::load(&Sources {
        file: Some(file),
        environment,
    });
    let settings = settings.unwrap_or_else(|problems| panic!("{problems}"));
    let login = settings.mqtt.login.clone().unwrap();
    assert_eq!(
        (settings.mqtt.shown_brokers().as_str(), login.username.as_str()),
        ("mosquitto:1883", "tapo2mqtt")
    );
    assert_eq!(login.password.unwrap().expose(), "mqtt-tapo2mqtt-password");
    assert_eq!(
        settings.tapo.credentials.unwrap().password.expose(),
        "tapo-password"
    );
}

/// What is published is of one version, and says which.
#[test]
fn the_version_is_the_same_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(repository("CHANGELOG.md").contains(&format!("\n## [{version}]")));
    let manifest = repository("Cargo.toml");
    let own = ["ha-discovery", "mqtt-link", "planner", "tapo-simulator", "tplink"];
    for name in own {
        let line = manifest
            .lines()
            .find(|line| line.starts_with(&format!("{name} = {{")));
        assert!(
            line.unwrap().contains(&format!("version = \"{version}\"")),
            "{name}"
        );
    }
    let bridge_alone = repository("docker-compose.yml");
    assert!(bridge_alone.lines().count() <= 12, "{bridge_alone}");
    for file in [
        "docker-compose.yml",
        "docker-compose.with-broker.yml",
        ".github/workflows/release.yml",
    ] {
        assert!(repository(file).contains("ghcr.io/tapo2mqtt/tapo2mqtt"), "{file}");
    }
}

/// The shipped broker with its shipped script, elsewhere.
#[tokio::test]
async fn the_shipped_broker_accepts_only_clients_with_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("secrets")).unwrap();
    fs::write(path("secrets/mqtt-home"), "with: blanks and:colons\n").unwrap();
    fs::write(path("secrets/mqtt-tapo2mqtt"), "no line end").unwrap();
    fs::write(path("secrets/tapo"), "not for the broker").unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/mosquitto");
    let made = Command::new("sh")
        .arg(shipped.join("make-passwords"))
        .args([path("secrets"), path("passwords")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let passwords = fs::read_to_string(path("passwords")).unwrap();
    let users: Vec<_> = passwords
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(users, ["home", "tapo2mqtt"]);
    assert!(
        !passwords.contains("blanks") && !passwords.contains("line end"),
        "{passwords}"
    );
    let permissions = fs::metadata(path("passwords")).unwrap().permissions().mode() & 0o777;
    assert_eq!(permissions, 0o600);

    let configuration = repository("config/mosquitto/mosquitto.conf")
        .replace("/mosquitto/data", &directory.path().display().to_string())
        .replace("/mosquitto/config", &shipped.display().to_string());
    let broker = Mosquitto::with_configuration(&configuration).await;
    let logins = [
        (Some(("home", "with: blanks and:colons")), true),
        (Some(("tapo2mqtt", "no line end")), true),
        (Some(("home", "with")), false),
        (None, false),
    ];
    for (login, let_in) in logins {
        let mut command = tokio::process::Command::new("mosquitto_pub");
        command.args([
            "-h",
            &broker.address().ip().to_string(),
            "-t",
            "test",
            "-n",
            "-q",
            "1",
        ]);
        if let Some((user, password)) = login {
            command.args(["-u", user, "-P", password]);
        }
        let output = command.output().await.unwrap();
        assert_eq!(output.status.success(), let_in, "{login:?}: {output:?}");
    }
}

/// Settings that a bridge of a script, a bench or an opt-in suite is started with.
#[test]
fn no_script_starts_a_bridge_that_asks_the_network() {
    for file in [
        "scripts/broker-matrix",
        "tests/bench/src/bridge.rs",
        "tests/home-assistant/conftest.py",
    ] {
        let text = repository(file).replace('\\', "");
        assert!(text.contains("networks = []"), "{file}");
    }
}

#[test]
fn offline_leaves_the_loopback_interface_alone() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/offline");
    let output = Command::new(&script)
        .args(["sh", "-c", "cat /proc/net/dev /proc/net/fib_trie; exit 7"])
        .output()
        .unwrap();
    let (printed, complaint) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{complaint}");
    if complaint.is_empty() {
        let interfaces: Vec<_> = printed.lines().filter_map(|line| line.split_once(": ")).collect();
        assert_eq!(interfaces.len(), 1, "{printed}");
        assert_eq!(interfaces[0].0.trim(), "lo", "{printed}");
        assert!(
            printed.contains("127.0.0.0/8"),
            "the interface is down: {printed}"
        );
    } else {
        assert!(complaint.contains("permits no network namespace"), "{complaint}");
    }

    // Where the system has no `unshare`, the command runs all the same.
    let tools = tempfile::tempdir().unwrap();
    for tool in ["bash", "env", "id"] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output()
            .unwrap();
        symlink(text(&found.stdout).trim(), tools.path().join(tool)).unwrap();
    }
    let output = Command::new("/bin/bash")
        .arg(&script)
        .args(["bash", "-c", "echo ran"])
        .env("PATH", tools.path())
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "ran\n");
    assert_eq!(
        text(&output.stderr).lines().count(),
        1,
        "{}",
        text(&output.stderr)
    );
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
