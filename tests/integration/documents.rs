//! Every block of commands, settings and JSON in README.md and docs/ is read by what it is written for.
//!
//! What cannot be checked has another language tag than those below, or stands after a line
//! `<!-- unchecked: why -->`.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use clap::Parser as _;
use tapo2mqtt::{
    cli::Cli,
    config::{self, Settings, Sources},
    domain::{
        command::Target,
        topics::{ParsedTopic, Topics},
    },
    mqtt::decode::{DecodeContext, Decoded, decode, decode_request, decode_switch},
};

use crate::mosquitto;

/// What people type beside our own program. A name that is missing here is a typing error, or to be added.
const ORDINARY: [&str; 39] = [
    "apt",
    "apt-get",
    "base64",
    "cat",
    "cd",
    "chmod",
    "chown",
    "cp",
    "curl",
    "dig",
    "docker",
    "docker-compose",
    "dpkg",
    "echo",
    "export",
    "git",
    "grep",
    "head",
    "install",
    "journalctl",
    "jq",
    "just",
    "kill",
    "ls",
    "man",
    "mkdir",
    "mosquitto_passwd",
    "nano",
    "nc",
    "npm",
    "openssl",
    "ping",
    "printf",
    "read",
    "systemctl",
    "systemd-analyze",
    "systemd-sysusers",
    "tee",
    "true",
];

/// Stands for `<` and `>` among the words of a command.
const REDIRECTION: &str = "\0";

struct Block {
    place: String,
    language: String,
    text: String,
}

fn documents() -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).unwrap();
    let pages = pages.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_string_lossy()));
    let mut names: Vec<_> = pages
        .filter(|name| name.rsplit('.').next() == Some("md"))
        .collect();
    names.push("README.md".to_owned());
    names.sort();
    let read = |name: String| {
        let text = fs::read_to_string(root.join(&name)).unwrap();
        (name, text)
    };
    names.into_iter().map(read).collect()
}

/// The fenced blocks of a page that are to be checked.
fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let (mut open, mut unchecked) = (false, false);
    for (number, line) in text.lines().enumerate() {
        match (line.trim().strip_prefix("```"), open) {
            (Some(language), false) => {
                open = true;
                found.push(Block {
                    place: format!("{page}:{}", number + 1),
                    language: if unchecked {
                        String::new()
                    } else {
                        language.trim().to_owned()
                    },
                    text: String::new(),
                });
            }
            (Some(_), true) => (open, unchecked) = (false, false),
            (None, true) => {
                let block = found.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, false) if line.trim().is_empty() => {}
            (None, false) => unchecked = line.trim().starts_with("<!-- unchecked: "),
        }
    }
    assert!(!open, "{page}: a block does not end");
    found.retain(|block| !block.language.is_empty());
    found
}

/// Code within a line that starts like a command of ours.
fn inline_commands(text: &str) -> Vec<String> {
    let mut open = false;
    let outside = text.lines().filter(|line| {
        let fence = line.trim().starts_with("```");
        open ^= fence;
        !open && !fence
    });
    let spans = outside.flat_map(|line| line.split('`').skip(1).step_by(2));
    spans
        .filter(|span| span.starts_with("tapo2mqtt "))
        .map(str::to_owned)
        .collect()
}

fn check(block: &Block) -> Result<(), String> {
    match block.language.as_str() {
        "toml" | "yaml" => settings(&block.text, &block.language).map(drop),
        "json" => serde_json::from_str::<serde_json::Value>(&block.text)
            .map(drop)
            .map_err(|error| error.to_string()),
        "console" | "sh" | "bash" | "shell" => {
            lines(&block.text).iter().try_for_each(|line| command_line(line))
        }
        _ => Ok(()),
    }
}

/// Loads settings alone, or the example they are a part of, or together with an example that lacks them.
fn settings(text: &str, format: &str) -> Result<Settings, String> {
    let alone = load(text, format);
    let Err(problems) = alone else { return alone };
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let mut examples: Vec<_> = fs::read_dir(examples)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().unwrap() != "ics")
        .collect();
    examples.sort();
    let quoted = |path: &&PathBuf| fs::read_to_string(path).unwrap().contains(text.trim());
    if let Some(example) = examples.iter().find(quoted) {
        return load(&fs::read_to_string(example).unwrap(), format);
    }
    let whole = examples
        .iter()
        .filter(|path| path.extension().unwrap() == format && format == "toml")
        .map(|path| fs::read_to_string(path).unwrap() + text)
        .find_map(|whole| load(&whole, format).ok());
    whole.ok_or(problems)
}

/// As written, or with a placeholder filled in.
fn load(text: &str, format: &str) -> Result<Settings, String> {
    let filled_in = || load_exactly(&text.replace("you@example.com", "me@example.org"), format);
    load_exactly(text, format).or_else(|_| filled_in())
}

fn load_exactly(text: &str, format: &str) -> Result<Settings, String> {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("file");
    let is_certificate = text.contains("cert_file");
    fs::write(
        &secret,
        if is_certificate {
            certificate()
        } else {
            "content".to_owned()
        },
    )
    .unwrap();
    let calendar = include_str!("../../config/examples/holidays.ics");
    fs::write(directory.path().join("holidays.ics"), calendar).unwrap();
    // Files of the reader's machine are not on this one.
    let file_here = |line: &str| match line.split_once("_file") {
        Some((key, rest)) if !line.trim_start().starts_with('#') && rest.contains('"') => {
            let values: Vec<_> = rest.split('"').collect();
            let here = secret.display().to_string();
            let replaced = values
                .iter()
                .enumerate()
                .map(|(n, part)| if n % 2 == 1 { here.as_str() } else { part });
            format!("{key}_file{}", replaced.collect::<Vec<_>>().join("\""))
        }
        _ => line.to_owned(),
    };
    let file = directory.path().join(format!("settings.{format}"));
    fs::write(&file, text.lines().map(file_here).collect::<Vec<_>>().join("\n")).unwrap();
    let sources = Sources {
        file: Some(file),
        environment: Vec::new(),
    };
    config::load(&sources).map_err(|problems| problems.to_string())
}

/// A certificate and its key, in one file.
fn certificate() -> String {
    let directory = tempfile::tempdir().unwrap();
    mosquitto::certificates(directory.path(), Ipv4Addr::LOCALHOST);
    let part = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    part("client.crt") + &part("client.key")
}

/// The lines of a shell, without prompts and with continued lines joined. Where there are prompts, the other lines
/// are what was printed.
fn lines(text: &str) -> Vec<String> {
    let mut joined = text.replace("\\\n", " ");
    if joined.lines().any(|line| line.starts_with("$ ")) {
        joined = joined
            .lines()
            .filter(|line| line.starts_with("$ "))
            .collect::<Vec<_>>()
            .join("\n");
    }
    let lines = joined
        .lines()
        .map(|line| line.trim().trim_start_matches("$ ").to_owned());
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// The words of a line, one list for each command of a pipe or chain.
fn words(line: &str) -> Result<Vec<Vec<String>>, String> {
    let mut commands = vec![Vec::new()];
    let (mut word, mut quote) = (None::<String>, None);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(mark), _) if letter == mark => quote = None,
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '<' | '>') => {
                letters.next_if_eq(&letter);
                let command = commands.last_mut().unwrap();
                command.extend(word.take());
                command.push(REDIRECTION.to_owned());
            }
            (None, '|' | ';' | '&') => {
                commands.last_mut().unwrap().extend(word.take());
                commands.push(Vec::new());
            }
            (None, _) if letter.is_whitespace() => commands.last_mut().unwrap().extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote does not end: {line}"));
    }
    commands.last_mut().unwrap().extend(word);
    for command in &mut commands {
        while let Some(at) = command.iter().position(|word| word == REDIRECTION) {
            let after_file = (at + 2).min(command.len());
            command.drain(at..after_file);
        }
    }
    commands.retain(|command| !command.is_empty());
    Ok(commands)
}

fn command_line(line: &str) -> Result<(), String> {
    words(line)?.iter().try_for_each(|command| {
        simple_command(command).map_err(|why| format!("{}: {why}", command.join(" ")))
    })
}

fn simple_command(command: &[String]) -> Result<(), String> {
    let is_variable = |word: &&String| word.split_once('=').is_some_and(|(name, _)| !name.contains('/'));
    let skipped = command
        .iter()
        .take_while(|word| is_variable(word) || *word == "sudo")
        .count();
    let command = &command[skipped..];
    let Some(program) = command.first() else {
        return Ok(());
    };
    match program.as_str() {
        "tapo2mqtt" => ours(command),
        "cargo" => match command.iter().position(|word| word == "--") {
            Some(at) if command[1] == "run" => ours(&command[at..]),
            _ => Ok(()),
        },
        "mosquitto_pub" | "mosquitto_rr" => publishes(command),
        "mosquitto_sub" => subscribes(command),
        path if path.contains("scripts/") || path.starts_with("./") => {
            let path = path.trim_start_matches("./");
            let there = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path).is_file();
            there
                .then_some(())
                .ok_or_else(|| "there is no such file".to_owned())
        }
        name if ORDINARY.contains(&name) => Ok(()),
        _ => Err("no program has this command".to_owned()),
    }
}

fn ours(command: &[String]) -> Result<(), String> {
    let words = std::iter::once("tapo2mqtt").chain(command.iter().skip(1).map(String::as_str));
    match Cli::try_parse_from(words) {
        Ok(_) => Ok(()),
        Err(error) if !error.use_stderr() => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn topics() -> Topics {
    config::load(&Sources::default()).unwrap().topics()
}

/// The values of an option that may be given several times.
fn values<'a>(command: &'a [String], option: &str) -> Vec<&'a str> {
    let pairs = command.windows(2);
    pairs
        .filter(|pair| pair[0] == option)
        .map(|pair| pair[1].as_str())
        .collect()
}

fn is_ours(topic: &str) -> bool {
    ["tapo2mqtt/", "homeassistant/"]
        .iter()
        .any(|prefix| topic.starts_with(prefix))
}

/// What is published below our topics is a command, and one that makes sense.
fn publishes(command: &[String]) -> Result<(), String> {
    let topic = *values(command, "-t").first().ok_or("no topic")?;
    let flag = |name: &str| command.iter().any(|word| word == name);
    // An empty retained message clears a topic.
    if !is_ours(topic) || (flag("-n") && flag("-r")) {
        return Ok(());
    }
    if flag("-r") {
        return Err("retained commands are refused".to_owned());
    }
    let payload = values(command, "-m").first().copied().unwrap_or_default();
    let refused = |error: String| Err(format!("{topic} {payload}: {error}"));
    let context = DecodeContext {
        zone: &jiff::tz::TimeZone::UTC,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let decoded = match topics().parse(topic).map_err(|error| error.to_string())? {
        ParsedTopic::Outlet { path, verb } => {
            decode(&Target::Outlet(path), &verb, payload.as_bytes(), context)
        }
        ParsedTopic::Group { group, verb } => {
            decode(&Target::Group(group), &verb, payload.as_bytes(), context)
        }
        ParsedTopic::Request(_) => {
            return match decode_request(payload.as_bytes(), |_| Ok(())) {
                Decoded::Refused { error, .. } if error.code() != "unknown_key" => refused(error.to_string()),
                _ => Ok(()),
            };
        }
        ParsedTopic::Schedule { .. } => {
            return match decode_switch(payload.as_bytes()) {
                Decoded::Refused { error, .. } => refused(error.to_string()),
                _ => Ok(()),
            };
        }
        ParsedTopic::HomeAssistantStatus | ParsedTopic::DiscoveryConfig(_) => return Ok(()),
    };
    match decoded {
        Decoded::Refused { error, .. } => refused(error.to_string()),
        _ => Ok(()),
    }
}

/// A filter below our topics matches something that is published.
fn subscribes(command: &[String]) -> Result<(), String> {
    let filters = values(command, "-t");
    let none = filters
        .iter()
        .find(|filter| is_ours(filter) && !published().iter().any(|topic| matches(filter, topic)));
    none.map_or(Ok(()), |filter| Err(format!("nothing is published on {filter}")))
}

/// A topic of each kind; `?` is any name.
fn published() -> Vec<String> {
    let bridge = [
        "state",
        "info",
        "devices",
        "health",
        "event",
        "last_error",
        "response/?",
        "response/?/?",
    ];
    let bridge = bridge.map(|level| format!("tapo2mqtt/bridge/{level}"));
    let others = [
        "tapo2mqtt/?",
        "tapo2mqtt/?/availability",
        "tapo2mqtt/?/response",
        "tapo2mqtt/?/set",
        "tapo2mqtt/?/?",
        "tapo2mqtt/group/?",
        "tapo2mqtt/group/?/response",
        "tapo2mqtt/group/?/set",
        "tapo2mqtt/?/?/response",
        "tapo2mqtt/?/?/set",
        "homeassistant/device/?/config",
        "homeassistant/status",
    ];
    bridge.into_iter().chain(others.map(str::to_owned)).collect()
}

fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("bridge" | "group"), Some("?")) => return false,
            (Some(one), Some(other)) if one == "+" || other == "?" || one == other => {}
            _ => return false,
        }
    }
}

#[test]
fn every_block_is_read_by_what_it_is_for() {
    let mut checked = 0;
    let mut faults = Vec::new();
    for (page, text) in documents() {
        for block in blocks(&page, &text) {
            checked += 1;
            faults.extend(check(&block).err().map(|why| format!("{}: {why}", block.place)));
        }
        for span in inline_commands(&text) {
            checked += 1;
            faults.extend(command_line(&span).err().map(|why| format!("{page}: {why}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(checked > 20, "only {checked} blocks");
}

/// All of our sources, with texts that go over several lines put together.
fn sources(directory: &Path) -> String {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| {
        if path.is_dir() {
            return sources(&path);
        }
        let lines = fs::read_to_string(path).unwrap();
        let parts: Vec<_> = lines.split("\\\n").collect();
        let (first, rest) = parts.split_first().unwrap();
        rest.iter()
            .fold((*first).to_owned(), |whole, part| whole + part.trim_start())
    };
    entries.map(text).collect()
}

/// The first cells of the tables, in which the program speaks.
fn quoted(page: &str) -> Vec<String> {
    let cells = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let spans = cells.flat_map(|cell| cell.split('`').step_by(2));
    let pieces = spans.flat_map(|span| span.split("..."));
    pieces
        .map(str::trim)
        .filter(|piece| !piece.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn troubleshooting_quotes_the_messages_of_the_program() {
    assert_eq!(
        quoted("| `a ... b c` (`d`), e | `f` |\n|---|\n| g | h |"),
        ["a", "b c", "d"]
    );
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(&root.join("src")) + &sources(&root.join("crates"));
    let (_, page) = documents()
        .into_iter()
        .find(|(name, _)| name.ends_with("troubleshooting.md"))
        .unwrap();
    let quoted = quoted(&page);
    assert!(quoted.len() > 30, "{quoted:?}");
    // A code of an answer or a fault is the name of its variant in small letters.
    let variant = |code: &str| {
        code.split('_')
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect::<String>()
    };
    for words in quoted {
        let is_code = words.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let known = sources.contains(&words) || (is_code && sources.contains(&variant(&words)));
        assert!(known, "the program never prints {words:?}");
    }
}

#[test]
fn faults_in_blocks_are_found() {
    let wrong = [
        ("toml", "[mqtt]\nprot = 1\n"),
        ("toml", "[[group]]\nid = \"x\"\noutlets = [\"nobody\"]\n"),
        ("yaml", "mqtt: {port: 99999}\n"),
        ("json", "{\"state\": ON}"),
        ("console", "tapo2mqtt chekc\n"),
        ("console", "tapo2mqtt \\\n  --nope\n"),
        ("console", "cargo run --release -- demo --prot 1\n"),
        ("console", "mosquitto_pub -t tapo2mqtt/heater/sett -m ON\n"),
        ("console", "mosquitto_pub -t tapo2mqtt/heater/set -m PERHAPS\n"),
        ("console", "mosquitto_pub -r -t tapo2mqtt/heater/set -m ON\n"),
        (
            "console",
            "mosquitto_pub -t tapo2mqtt/bridge/request/health -m '{'\n",
        ),
        ("console", "mosquitto_sub -t tapo2mqtt/bridge/stat\n"),
        ("console", "true | ./scripts/nothing\n"),
        ("console", "mosquito_sub -t '#'\n"),
        ("console", "echo 'a\n"),
    ];
    for (language, text) in wrong {
        let page = format!("Text.\n\n```{language}\n{text}\n```\n");
        let found = blocks("page", &page);
        assert_eq!(found.len(), 1, "{page}");
        assert!(check(&found[0]).is_err(), "{page}");
        let unchecked = page.replace("Text.", "<!-- unchecked: an example of a mistake -->");
        assert!(blocks("page", &unchecked).is_empty());
    }
    assert!(command_line("tapo2mqtt chekc").is_err());
    assert_eq!(
        inline_commands("a `tapo2mqtt check` b `x`\n```\n`tapo2mqtt no`\n```\n"),
        ["tapo2mqtt check"]
    );
}

#[test]
fn sound_blocks_pass() {
    let right = [
        (
            "toml",
            "[tapo]\nusername = \"me@example.org\"\npassword_file = \"/nowhere/secret\"\n",
        ),
        ("toml", "[[group]]\nid = \"x\"\noutlets = [\"heater\"]\n"),
        (
            "console",
            "tapo2mqtt migrate heattrax 'a>b.yaml' >> x.toml && tapo2mqtt check < /dev/null\n",
        ),
        ("console", "$ sudo systemctl restart tapo2mqtt # after a change\n"),
        (
            "console",
            "TZ=UTC tapo2mqtt --config x.toml check && echo \"it's well\"\n",
        ),
        (
            "console",
            "mosquitto_pub -h host -t tapo2mqtt/strip/1/set -m '{\"state\":\"ON\",\"ttl\":5}'\n",
        ),
        (
            "console",
            "mosquitto_pub -t tapo2mqtt/bridge/request/log_level -m '{\"level\":\"debug\"}'\n",
        ),
        ("console", "mosquitto_pub -t tapo2mqtt/heater/set -r -n\n"),
        (
            "console",
            "mosquitto_sub -v -t 'tapo2mqtt/+/response' -t weather/outdoor\n",
        ),
        ("conf", "anything\n"),
    ];
    for (language, text) in right {
        let found = blocks("page", &format!("```{language}\n{text}```\n"));
        assert_eq!(check(&found[0]), Ok(()), "{text}");
    }
}
