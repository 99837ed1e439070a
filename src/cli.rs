//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// What stands below the help and in the manual page.
#[cfg(feature = "demo")]
const AFTER_HELP: &str = "Without a command, tapo2mqtt runs the bridge. Try `tapo2mqtt demo` first: it needs no hardware.\n\n\
                          Exit codes: 0 success, 1 failure, 64 invalid settings or arguments.";
/// What stands below the help and in the manual page.
#[cfg(not(feature = "demo"))]
const AFTER_HELP: &str = "Without a command, tapo2mqtt runs the bridge.\n\n\
                          Exit codes: 0 success, 1 failure, 64 invalid settings or arguments.";

/// Bridges TP-Link Tapo plugs and power strips to MQTT.
#[derive(Debug, Parser)]
#[command(name = "tapo2mqtt", version, about, long_about = None)]
#[command(after_help = AFTER_HELP)]
pub struct Cli {
    /// Command; `run` by default.
    #[command(subcommand)]
    pub command: Option<CliCommand>,
    /// Where the settings are.
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Where the settings are.
#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {
    /// Settings file, TOML or YAML. Default: the first of ./tapo2mqtt.toml, $XDG_CONFIG_HOME/tapo2mqtt/tapo2mqtt.toml and
    /// /etc/tapo2mqtt/tapo2mqtt.toml, or .yaml. TAPO2MQTT__SECTION__KEY from the environment overrides it.
    #[arg(short, long, value_name = "FILE", global = true, env = "TAPO2MQTT_CONFIG")]
    pub config: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Run the bridge until SIGTERM or SIGINT.
    Run,
    /// Validate the settings, then test the broker and every device, and print the results.
    Check,
    /// List Tapo devices on the network, ready to paste as settings.
    Discover(DiscoverArgs),
    /// Ask for the broker and the account, find the devices and write a settings file.
    Setup(DiscoverArgs),
    /// Print when the groups will be switched and why, from the settings alone; assumes all conditions are met.
    Plan(PlanArgs),
    /// Notifications of the settings ([[notify]]).
    #[command(subcommand)]
    Notify(NotifyCommand),
    /// Report by exit code whether the running bridge is connected; for containers.
    Healthcheck,
    /// Write a ZIP file for a maintainer that says what happened, without passwords, names, addresses and places:
    /// `tapo2mqtt diagnostics > tapo2mqtt.zip`.
    Diagnostics,
    /// Take a backup (the response to bridge/request/backup, or a state file) over at the next start of the bridge.
    Restore(RestoreArgs),
    /// Print completions for a shell.
    Completions(CompletionsArgs),
    /// Print the manual page, or that of one command.
    Man(ManArgs),
    /// Convert the settings of another program and list all differences.
    Migrate(MigrateArgs),
    /// Run a broker, a simulated plug, a simulated strip and the bridge between them, in one process.
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Run one simulated device with the real protocol.
    #[cfg(feature = "demo")]
    Simulate(SimulateArgs),
}

/// Arguments of `discover` and `setup`.
#[derive(Debug, Args)]
pub struct DiscoverArgs {
    /// Where to search: a broadcast address or the address of one device. Can be repeated. Default:
    /// discovery.networks and discovery.targets of the settings.
    #[arg(long, value_name = "ADDRESS")]
    pub target: Vec<std::net::IpAddr>,
    /// How long to wait for responses, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub wait: u64,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// How many calendar days to look ahead.
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=366))]
    pub days: u16,
    /// Start of the plan, as RFC 3339 (2027-03-14T00:00:00-05:00). Default: now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<jiff::Timestamp>,
    /// Print JSON, for scripts.
    #[arg(long)]
    pub json: bool,
}

/// The commands below `notify`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum NotifyCommand {
    /// Send a test to each entry and print what it answers.
    Test,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell.
    pub shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// A command; without one, the page of the program.
    pub command: Option<String>,
}

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// The other program.
    pub from: MigrationSource,
    /// Its settings file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Programs whose settings can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MigrationSource {
    /// HeatTrax Tapo M400 Scheduler, all versions of its config.yaml.
    Heattrax,
}

/// Arguments of `demo`.
#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Port of the embedded broker. Default: 1883, or a free one if that is in use.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Address that the embedded broker listens on. 0.0.0.0 accepts other machines, without a password.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub listen: std::net::IpAddr,
    /// Use the broker of the settings instead of the embedded one, below `<base topic>-demo`. A bridge that runs there is
    /// not disturbed, and all topics of the demo are cleared at its end.
    #[arg(long)]
    pub no_broker: bool,
}

/// Arguments of `simulate`.
#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Device model.
    #[arg(long, value_parser = profiles(), ignore_case = true)]
    pub profile: tapo_simulator::Profile,
    /// Address that it listens on.
    #[arg(long, default_value = "127.0.0.1:8081")]
    pub address: std::net::SocketAddr,
    /// E-mail of its account.
    #[arg(long, default_value = tapo_simulator::DEFAULT_USERNAME)]
    pub username: String,
    /// Password of its account.
    #[arg(long, default_value = tapo_simulator::DEFAULT_PASSWORD)]
    pub password: String,
    /// Protocol: klap, tpap, aes or aesv1; klapv1 and xor are those of old Kasa devices.
    #[arg(long, default_value = "klap")]
    pub protocol: tapo_simulator::Protocol,
    /// Number that its ids and its MAC are made from. The same number is the same device. Default: from its address.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Its name in the app.
    #[arg(long)]
    pub name: Option<String>,
    /// HTTP address to set faults, press buttons and read counters; GET / lists what it can do. Default: none.
    #[arg(long, value_name = "ADDRESS")]
    pub control: Option<std::net::SocketAddr>,
    /// Answer discovery on UDP 20002 of the same address.
    #[arg(long)]
    pub discovery: bool,
}

/// Reads the name of a model, in any case. The help and the completions list them all.
#[cfg(feature = "demo")]
fn profiles() -> impl clap::builder::TypedValueParser<Value = tapo_simulator::Profile> {
    use clap::builder::{PossibleValuesParser, TypedValueParser as _};
    let names = tapo_simulator::Profile::every().map(tapo_simulator::Profile::name);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<tapo_simulator::Profile>())
}

#[cfg(all(test, feature = "demo"))]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn simulate_lists_every_model_and_takes_any_case() {
        let mut command = Cli::command();
        let simulate = command.find_subcommand_mut("simulate").unwrap();
        let help = simulate.render_long_help().to_string();
        for profile in tapo_simulator::Profile::every() {
            let name = profile.name();
            assert!(help.contains(name), "{name} is missing in {help}");
            let cli = Cli::try_parse_from(["tapo2mqtt", "simulate", "--profile", &name.to_lowercase()]);
            assert!(
                matches!(cli.unwrap().command, Some(CliCommand::Simulate(args)) if args.profile == profile)
            );
        }
    }
}
