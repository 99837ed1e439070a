//! `docs/scheduling.md` is true: its examples are in the example files, its plan is printed, and the tests of its guarantees
//! exist.

use std::{fs, path::Path, process::Command};

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn guide() -> String {
    read("docs/scheduling.md")
}

/// The guide, and the recipes that are complete examples.
fn with_recipes() -> String {
    guide() + &read("docs/recipes.md")
}

/// The blocks of code: their language, the line before them, and what they hold.
fn blocks(text: &str) -> Vec<(String, String, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    let mut before = "";
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let content: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((language.to_owned(), before.to_owned(), content.join("\n")));
        }
        before = line;
    }
    blocks
}

#[test]
fn the_settings_in_the_guide_are_those_of_the_examples() {
    let mut shown = Vec::new();
    for (language, before, content) in blocks(&with_recipes()) {
        if language == "console" {
            continue;
        }
        let file = before
            .strip_prefix("<!-- ")
            .and_then(|rest| rest.strip_suffix(" -->"));
        let file = file.unwrap_or_else(|| panic!("no file is named before\n{content}"));
        assert!(file.starts_with("config/examples/"), "{file}");
        assert!(read(file).contains(&content), "{file} does not hold\n{content}");
        shown.push(file.to_owned());
    }
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples")).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read_to_string(&path).unwrap();
        if content.contains("[[group]]") || content.contains("group:") {
            let name = path.file_name().unwrap().to_str().unwrap();
            let named = format!("config/examples/{name}");
            assert!(shown.contains(&named), "{named} is not shown");
        }
    }
}

#[test]
fn the_plan_in_the_guide_is_what_is_printed() {
    let blocks = blocks(&guide());
    let (_, _, content) = blocks
        .iter()
        .find(|(language, ..)| language == "console")
        .unwrap();
    let (command, expected) = content.split_once('\n').unwrap();
    let arguments = command.strip_prefix("$ tapo2mqtt ").unwrap().split(' ');
    let output = Command::new(env!("CARGO_BIN_EXE_tapo2mqtt"))
        .env_clear()
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), expected);
}

/// Everything below a directory that ends in `.rs`.
fn sources(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_promise_of_the_guide_has_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for directory in ["src", "crates", "tests"] {
        sources(&root.join(directory), &mut code);
    }
    let guide = read("CONTRIBUTING.md");
    for rule in 1..=15 {
        let start = format!("| {rule} | ");
        let row = guide.lines().find(|line| line.starts_with(&start));
        let tests = row.and_then(|row| row.split(" | ").nth(2)).unwrap_or_default();
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "promise {rule} has no test");
        for name in names {
            assert!(
                code.contains(&format!("fn {name}()")),
                "promise {rule}: no test {name}"
            );
        }
    }
}
