//! The commands beside `run`: what they print, where, and how they end.

use std::{
    fs,
    io::pipe,
    process::{Output, Stdio},
};

use tokio::{process::Command, time::timeout};

use crate::{
    mosquitto::Mosquitto,
    probe::PATIENCE,
    process::{Home, SETTINGS_FILE, settings},
};

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

async fn finish(mut command: Command, stdout: impl Into<Stdio>) -> Output {
    // `Command::output` would take standard output for itself.
    let child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap()
}

#[tokio::test]
async fn output_that_cannot_be_written_is_no_panic() {
    let broker = Mosquitto::start().await;
    let home = Home::new(&settings(broker.address(), &[]));
    let heattrax = home.file().with_file_name("config.yaml");
    fs::write(heattrax, "vacation_mode: false\n").unwrap();
    let commands: [&[&str]; 7] = [
        &["check"],
        &["discover", "--target", "127.0.0.1", "--wait", "1"],
        &["plan"],
        &["plan", "--json"],
        &["man"],
        &["completions", "bash"],
        &["migrate", "heattrax", "config.yaml"],
    ];
    for command in commands {
        let arguments = [&["--config", SETTINGS_FILE], command].concat();
        // As before `| head`, which has ended.
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = finish(home.program(&arguments), writer).await;
        assert_eq!(output.status.code(), Some(0), "{command:?}: {}", errors(&output));
        assert_eq!(errors(&output), "", "{command:?}");

        let full = fs::File::create("/dev/full").unwrap();
        let output = finish(home.program(&arguments), full).await;
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let message = errors(&output);
        assert!(
            message.starts_with("tapo2mqtt: cannot write the output: ") && message.lines().count() == 1,
            "{command:?}: {message}"
        );
    }
}

#[tokio::test]
async fn a_migration_that_loses_something_fails() {
    let home = Home::new("");
    let heattrax = home.file().with_file_name("config.yaml");
    let yaml = |off: &str| {
        format!(
            "devices:\n  groups:\n    mats:\n      items: [{{ name: Mat, ip_address: 192.168.1.100 }}]\n      schedules:\n        \
             - {{ name: Night, on: {{ type: time, value: \"22:00\" }}, off: {{ type: time, value: \"{off}\" }} }}\n"
        )
    };
    for (off, code) in [("06:00", 0), ("24:00", 1)] {
        fs::write(&heattrax, yaml(off)).unwrap();
        let output = home.run_bare(&["migrate", "heattrax", "config.yaml"]).await;
        assert_eq!(output.status.code(), Some(code), "{}", errors(&output));
        // What could be converted is there all the same.
        assert!(
            String::from_utf8(output.stdout.clone())
                .unwrap()
                .contains("[[group.schedule]]")
        );
        let named = errors(&output).contains("\"Night\" of the group mats is disabled");
        assert_eq!(named, code == 1, "{}", errors(&output));
    }
}
