//! `scripts/gate`: how many instructions the hot paths take, held against a stored baseline.
//!
//! Each path runs under callgrind twice, a few times and many times over; the difference leaves out what it takes to
//! start. Counts depend on the compiler and the processor, so a baseline of others is shown, and decides nothing.

mod baseline;
mod paths;

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

use baseline::{Baseline, Verdict};
use paths::PATHS;
use tapo2mqtt_gate::CommandError;

/// How often a path runs in the two runs whose difference counts.
const FEW: u64 = 2;
const MANY: u64 = 12;

const USAGE: &str = "tapo2mqtt-gate --baseline FILE [--write]";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["run", path, times] => run(path, times),
        ["--baseline", file] => hold_against(&PathBuf::from(file)),
        ["--baseline", file, "--write"] => write(&PathBuf::from(file)),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What runs under callgrind.
fn run(path: &str, times: &str) -> Result<ExitCode, CommandError> {
    let path = PATHS.iter().find(|known| known.name == path).ok_or(USAGE)?;
    (path.run)(times.parse()?)?;
    Ok(ExitCode::SUCCESS)
}

fn write(file: &PathBuf) -> Result<ExitCode, CommandError> {
    let measured = measure()?;
    std::fs::write(file, serde_json::to_string_pretty(&measured)? + "\n")?;
    for (name, count) in &measured.instructions {
        println!("gate: {name}: {count} instructions");
    }
    Ok(ExitCode::SUCCESS)
}

fn hold_against(file: &PathBuf) -> Result<ExitCode, CommandError> {
    let stored: Baseline = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let measured = measure()?;
    let comparable = stored.is_of_the_same_machine(&measured);
    if !comparable {
        println!(
            "gate: the baseline is of {} on {}, this is {} on {}: nothing is decided",
            stored.rustc, stored.arch, measured.rustc, measured.arch
        );
    }
    let mut code = ExitCode::SUCCESS;
    for (name, verdict) in stored.compare(&measured) {
        println!("gate: {name}: {verdict}");
        if comparable && verdict.is_failure() {
            code = ExitCode::FAILURE;
        }
        if comparable && matches!(verdict, Verdict::Less { .. }) {
            println!("gate: well done; scripts/gate --write keeps it");
        }
    }
    Ok(code)
}

fn measure() -> Result<Baseline, CommandError> {
    let mut instructions = BTreeMap::new();
    for path in PATHS {
        let (few, many) = (count(path.name, FEW)?, count(path.name, MANY)?);
        let each = many.checked_sub(few).ok_or("more runs took less")? / (MANY - FEW);
        instructions.insert(path.name.to_owned(), each);
    }
    let rustc = Command::new("rustc").arg("--version").output()?;
    Ok(Baseline {
        rustc: String::from_utf8(rustc.stdout)?.trim().to_owned(),
        arch: env::consts::ARCH.to_owned(),
        instructions,
    })
}

/// All instructions of a process that runs a path so often.
fn count(path: &str, times: u64) -> Result<u64, CommandError> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["run", path, &times.to_string()])
        .output()?;
    let output_text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{path} failed:\n{output_text}").into());
    }
    let collected = output_text
        .lines()
        .find_map(|line| line.split("Collected :").nth(1));
    Ok(collected
        .ok_or_else(|| format!("callgrind counted nothing:\n{output_text}"))?
        .trim()
        .parse()?)
}
