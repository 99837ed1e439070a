//! Other programs' libraries on the same simulated plug, for who wonders what a command costs there.

use std::{path::Path, process::Stdio, time::Duration};

use tapo_simulator::{DEFAULT_PASSWORD, DEFAULT_USERNAME, Profile};
use tokio::process::Command;

use crate::{
    Bench,
    figures::{Book, Samples},
    fleet,
};

const SECTION: &str = "Peers";
/// Each switches the plug so often and prints the milliseconds of each time, after those of the login.
const PEERS: [(&str, &str); 2] = [
    ("python-kasa", include_str!("../peers/python_kasa.py")),
    ("plugp100", include_str!("../peers/plugp100.py")),
];

pub async fn measure(bench: &Bench, book: &mut Book) {
    let Some(python) = &bench.python else { return };
    for (name, script) in PEERS {
        let (login, switches) = run(python, script, bench.extent.commands).await;
        book.note(SECTION, format!("{name}: login and first look"), "ms", login);
        for (rank, word) in [(0.5, "p50"), (0.99, "p99")] {
            let figure = format!("{name}: switched and answered, {word}");
            book.note(SECTION, figure, "ms", switches.rank(rank));
        }
    }
}

async fn run(python: &Path, script: &str, commands: usize) -> (f64, Samples) {
    let plugs = fleet::devices(Profile::P110, 1).await;
    let plug = plugs.first().expect("a plug");
    let output = Command::new(python)
        .args(["-c", script])
        .args([
            &plug.address().ip().to_string(),
            &plug.address().port().to_string(),
        ])
        .args([DEFAULT_USERNAME, DEFAULT_PASSWORD, &commands.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .expect("Python runs");
    assert!(output.status.success(), "the peer failed");
    assert_eq!(
        plug.counters().relay_changes.len(),
        commands,
        "the peer switched the plug"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let mut times = text
        .lines()
        .map(|line| line.parse::<f64>().expect("milliseconds"));
    let login = times.next().expect("a login");
    let mut switches = Samples::default();
    for time in times {
        switches.push(Duration::from_secs_f64(time / 1e3));
    }
    (login, switches)
}
