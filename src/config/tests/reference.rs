//! `docs/settings.md` is `config/default.toml` for reading.

use super::outline::{Key, Section, is_up_to_date, outline, preface};

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn row(key: &Key) -> String {
    let (default, example) = if key.in_effect {
        (format!("`{}`", cell(&key.value)), String::new())
    } else {
        (String::new(), format!(" Example: `{}`.", cell(&key.value)))
    };
    format!(
        "| `{}` | {default} | {}{example} |\n",
        key.name,
        cell(&key.comment)
    )
}

fn section(section: &Section) -> String {
    let Section {
        header,
        comment,
        keys,
    } = section;
    let intro = if comment.is_empty() {
        String::new()
    } else {
        format!("\n{comment}\n")
    };
    let rows: String = keys.iter().map(row).collect();
    let table = if rows.is_empty() {
        rows
    } else {
        format!("\n| key | default | meaning |\n|---|---|---|\n{rows}")
    };
    format!("\n## `{header}`\n{intro}{table}")
}

/// What most people want to know first.
const START: &str = "\
A file with one plug:

```toml
[mqtt]
host = \"192.168.1.10\"

[tapo]
username = \"you@example.com\"
password = \"...\"

[[device]]
id = \"heater\"
address = \"192.168.1.50\"
```

| to | set |
|---|---|
| log in at the broker | `username` and `password` in `[mqtt]` |
| add a device | `[[device]]`; `tapo2mqtt discover` prints it |
| name the outlets of a strip | `[[device.outlet]]` |
| schedule, or limit how long it is on | `[[group]]`, see [schedules](scheduling.md) |
| let outlets of a strip be devices of Home Assistant | `child_devices` in `[homeassistant]` |
| publish less, or more | `[report]` and `[polling]` |
| test the file | `tapo2mqtt --config FILE check` |

";

#[test]
fn the_settings_page_is_made_from_the_defaults() {
    let sections: String = outline().iter().map(section).collect();
    let page = format!(
        "# Settings\n\n<!-- Generated from config/default.toml by a test: TAPO2MQTT_REGENERATE=1 cargo test --lib config \
         -->\n\n{START}This page describes all keys of [config/default.toml](../config/default.toml). \
         [config/schema.json](../config/schema.json) is a JSON schema for editors.\n\n{}\n{sections}",
        preface()
    );
    is_up_to_date("docs/settings.md", &page);
}

#[test]
fn the_outline_is_complete() {
    let sections = outline();
    let find = |header: &str| sections.iter().find(|section| section.header == header).unwrap();
    assert_eq!(find("[mqtt]").keys[0].name, "enabled");
    assert!(find("[mqtt]").keys[0].in_effect && !find("[mqtt]").keys[2].in_effect);
    assert_eq!(find("[[group.schedule]]").path(), "group[].schedule[]");
    assert!(find("[group.schedule.when.black_ice]").comment.contains("Ice"));
    for section in &sections {
        for key in &section.keys {
            assert!(!key.comment.is_empty(), "{} {}", section.header, key.name);
        }
    }
}
