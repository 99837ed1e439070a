//! `setup`: asks for broker and account, finds the devices, and writes a settings file.

mod answers;
mod found_device;
mod terminal;

use std::{
    fs::{OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
    time::Duration,
};

use self::{answers::SetupAnswers, found_device::FoundDevice, terminal::Terminal};
use super::{ExitError, check::check, output, permissions::permissions, sources};
use crate::{
    app::bridge::StartError,
    cli::{DiscoverArgs, SettingsArgs},
    config::{self, Problems, Settings, Sources},
    devices::{Seen, find_devices, look},
    domain::devices::Credentials,
    migrate::free_slug,
    mqtt::{
        link::{LinkFault, RetainedProbe, probe_retained},
        link_options,
    },
    store::folder_of,
    system::{Secret, tasks::Tasks},
};

const HOW_TO_START: &str = "
Start the bridge:
  tapo2mqtt
  sudo systemctl enable --now tapo2mqtt   with the Debian package
  docker compose up -d                    with Docker
";

const WITHOUT_ACCOUNT: &str = "
Enter username and password of the account in its section [tapo], or on the page, then test it:
  tapo2mqtt check
";

/// How long the broker may take to let us in.
const BROKER_BUDGET: Duration = Duration::from_secs(5);
/// Where the package keeps the settings.
const SYSTEM_DIRECTORY: &str = "/etc/tapo2mqtt";
/// The settings file, unless another one is named.
const FILE: &str = "tapo2mqtt.toml";

pub(super) async fn setup(args: &DiscoverArgs, settings: &SettingsArgs) -> Result<(), ExitError> {
    let file = free_file(settings)?;
    let mut terminal = Terminal::open()?;
    output::print(&format!(
        "This writes {}. Empty answers take what is in brackets; Ctrl-C ends without a file.\n",
        file.display()
    ))?;
    let mut answers = SetupAnswers::new(&args.target);
    ask_broker(&mut terminal, &mut answers).await?;
    loop {
        ask_account(&mut terminal, &mut answers).await?;
        answers.devices = search_devices(&answers, args).await?;
        let usable = || answers.devices.iter().filter(|device| device.obstacle.is_none());
        let refused =
            answers.account.is_some() && usable().count() > 0 && usable().all(|device| device.seen.is_err());
        if !refused
            || !terminal
                .confirm("No device accepted the account. Enter it again?", true)
                .await?
        {
            break;
        }
    }
    write(&file, &answers.text())?;
    output::print(&format!("\nWritten: {}\n", file.display()))?;
    // Without an account no device lets us in, and the broker was tried.
    if answers.account.is_none() {
        output::print(WITHOUT_ACCOUNT)?;
    } else {
        check(&SettingsArgs { config: Some(file) }).await?;
    }
    output::print(HOW_TO_START)
}

/// The file to write. One that exists is never changed, nor is one made that would be used instead of it.
fn free_file(settings: &SettingsArgs) -> Result<PathBuf, ExitError> {
    let system = Path::new(SYSTEM_DIRECTORY);
    let usual = || {
        // Installed, and we may write there.
        let writable = rustix::fs::access(system, rustix::fs::Access::WRITE_OK).is_ok();
        if writable { system.join(FILE) } else { FILE.into() }
    };
    let file = settings.config.clone().unwrap_or_else(usual);
    let existing = match &settings.config {
        Some(file) => file.symlink_metadata().is_ok().then(|| file.clone()),
        None => sources(settings).file,
    };
    match existing {
        Some(existing) => Err(ExitError::Unwell(format!(
            "{} exists and is not changed; edit it, or name another file with --config",
            existing.display()
        ))),
        None => Ok(file),
    }
}

/// The settings so far, as the bridge reads them.
fn read(answers: &SetupAnswers) -> Result<Settings, Problems> {
    config::load_or(&Sources::default(), &answers.text())
}

async fn ask_broker(terminal: &mut Terminal, answers: &mut SetupAnswers) -> Result<(), ExitError> {
    output::print("MQTT broker\n")?;
    let first = (answers.host.clone(), answers.port.clone());
    // In brackets stands no answer that did not work.
    let (mut host, mut port) = first.clone();
    loop {
        let question = "  host name or address, or none for the page alone";
        answers.host = terminal.ask(question, &host).await?;
        if answers.is_without_broker() {
            return Ok(());
        }
        answers.port = terminal.ask("  port", &port).await?;
        answers.login = match terminal.ask("  username, if it requires one", "").await? {
            username if username.is_empty() => None,
            username => Some((username, terminal.ask_secret("  password").await?)),
        };
        let settings = match read(answers) {
            Ok(settings) => settings,
            Err(problems) => {
                output::print(&format!("  {problems}\n"))?;
                let is_refused = |path| problems.0.iter().any(|problem| problem.path == path);
                let offered = |path, answer: &String, first: &String| {
                    if is_refused(path) { first } else { answer }.clone()
                };
                host = offered("mqtt.host", &answers.host, &first.0);
                port = offered("mqtt.port", &answers.port, &first.1);
                continue;
            }
        };
        let Err((why, is_reached)) = try_broker(&settings).await? else {
            return output::print("  connected\n");
        };
        output::print(&format!("  The broker cannot be used: {why}\n"))?;
        if !terminal.confirm("  Enter it again?", true).await? {
            return Ok(());
        }
        (host, port) = if is_reached {
            (answers.host.clone(), answers.port.clone())
        } else {
            first.clone()
        };
    }
}

/// Whether the broker lets the bridge do what it needs to. The error is why not, and whether it is the right broker.
async fn try_broker(settings: &Settings) -> Result<Result<(), (String, bool)>, ExitError> {
    let options = link_options(settings, &settings.topics()).map_err(StartError::from)?;
    let will = options.will.clone();
    let probe = probe_retained(options.clone(), &will.topic, BROKER_BUDGET).await;
    let state = match probe.map_err(StartError::from)? {
        RetainedProbe::Payload(state) => state,
        RetainedProbe::Empty => will.payload,
        RetainedProbe::Failed(fault) => {
            let is_reached = matches!(
                fault,
                LinkFault::BadCredentials | LinkFault::NotAuthorized | LinkFault::SubscriptionDenied(_)
            );
            return Ok(Err((fault.to_string(), is_reached)));
        }
    };
    let allowed = permissions(settings, &options, &state, BROKER_BUDGET).await?;
    Ok(allowed.map(drop).map_err(|why| (why, true)))
}

async fn ask_account(terminal: &mut Terminal, answers: &mut SetupAnswers) -> Result<(), ExitError> {
    output::print("\nAccount of the Tapo app, which the devices require. Both values are case-sensitive.\n")?;
    loop {
        answers.account = match terminal.ask("  e-mail, or empty to enter it later", "").await? {
            username if username.is_empty() => None,
            username => Some((username, terminal.ask_secret("  password").await?)),
        };
        match read(answers) {
            Ok(settings) if settings.tapo.credentials.is_some() == answers.account.is_some() => return Ok(()),
            Ok(_) => output::print("  That is the account of an example.\n")?,
            Err(problems) => output::print(&format!("  {problems}\n"))?,
        }
    }
}

/// Searches the network, and logs in to what was found: the names in the app are behind the login.
async fn search_devices(answers: &SetupAnswers, args: &DiscoverArgs) -> Result<Vec<FoundDevice>, ExitError> {
    let settings = read(answers)?;
    output::print(&format!("\nSearching for devices ({} s)\n", args.wait))?;
    let mut found = find_devices(&settings.discovery.area, Duration::from_secs(args.wait)).await;
    found.sort_by_key(|device| device.ip);
    let account = answers.account.clone().map(|(username, password)| Credentials {
        username,
        password: Secret::new(password),
    });
    let tasks = Tasks::default();
    let looks: Vec<_> = found
        .into_iter()
        .map(|device| {
            let looking = account
                .as_ref()
                .and_then(|account| device.with_account(account))
                .map(|config| {
                    let limit = settings.polling.request_timeout;
                    tasks.spawn("setup", async move { look(&config, limit).await })
                });
            (device, looking)
        })
        .collect();
    let mut devices = Vec::new();
    let mut ids = Vec::new();
    for (device, looking) in looks {
        let seen: Result<Seen, String> = match looking {
            Some(looking) => looking.await.unwrap_or_else(|error| Err(error.to_string())),
            None => Err(device
                .obstacle()
                .unwrap_or("not logged in to, without an account")
                .to_owned()),
        };
        let found = FoundDevice::new(&device, seen, |name| free_slug(name, &ids));
        output::print(&format!("  {}\n", found.line()))?;
        ids.push(found.id.clone());
        devices.push(found);
    }
    if devices.is_empty() {
        output::print(
            "  No device answered. Devices answer broadcasts on their own network only; try --target with a device's \
             address, or add [[device]] blocks to the file.\n",
        )?;
    }
    Ok(devices)
}

/// Writes a new file that only its owner can read. In a directory of another group, such as that of the service, root makes
/// one that this group can read too.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    let group = folder_of(file).metadata()?.gid();
    if rustix::process::geteuid().is_root() && group != rustix::process::getegid().as_raw() {
        fchown(&new, None, Some(group))?;
        new.set_permissions(Permissions::from_mode(0o640))?;
    }
    new.write_all(text.as_bytes())?;
    new.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_readable_by_its_owner_and_the_group_of_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |file: &Path| file.metadata().unwrap().mode() & 0o777;
        let file = folder.path().join("own.toml");
        write(&file, "secret").unwrap();
        assert_eq!(mode(&file), 0o600);
        assert_eq!(
            write(&file, "again").unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), None, Some(65532)).unwrap();
            // As the package makes it: new files have its group from the start.
            std::fs::set_permissions(folder.path(), Permissions::from_mode(0o2750)).unwrap();
            let file = folder.path().join("group.toml");
            write(&file, "secret").unwrap();
            assert_eq!((mode(&file), file.metadata().unwrap().gid()), (0o640, 65532));
        }
    }
}
