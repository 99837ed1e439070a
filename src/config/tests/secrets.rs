//! Secrets: where they may come from, and that no text of ours holds one.

use proptest::prelude::*;

use super::{problem::cut, *};

const SECRET: &str = "hunter2 hunter2";

#[test]
fn a_password_may_be_in_a_file_beside_the_settings() {
    let content = "[mqtt]\nusername = 'u'\npassword_file = 'mqtt-pw'\n[tapo]\nusername = 'me@mail.org'\npassword_file = 'sub/../tapo-pw'";
    let home = Home::toml(content)
        .with_file("mqtt-pw", "\u{feff}one\r\n")
        .with_file("tapo-pw", "two three\n\n");
    fs::create_dir(home.path("sub")).unwrap();
    let settings = home.load().unwrap();
    assert_eq!(settings.mqtt.login.unwrap().password.unwrap().expose(), "one");
    assert_eq!(settings.tapo.credentials.unwrap().password.expose(), "two three");
}

#[test]
fn password_files_are_checked() {
    let file = |content: Option<&[u8]>| {
        let home = Home::toml("[mqtt]\nusername = 'u'\npassword_file = 'pw'");
        if let Some(content) = content {
            fs::write(home.path("pw"), content).unwrap();
        }
        let problem = home.load().unwrap_err().0.remove(0);
        assert_eq!(problem.path, "mqtt.password_file");
        problem.message.replacen("expected ", "", 1)
    };
    assert!(file(None).starts_with("the path of a file that exists"));
    for (content, expected) in [
        (&b"\n"[..], "a file with a password in it"),
        (b"\xef\xbb\xbf", "a file with a password in it"),
        (b"one\ntwo\n", "a file with one line"),
        (b"\none\n", "a file with the password in its first line"),
        (b"one \n", "a password without a blank at its start or end"),
        (b" one", "a password without a blank at its start or end"),
        (b"one\0", "a text file; it has a NUL character"),
    ] {
        assert!(
            file(Some(content)).starts_with(expected),
            "{content:?}: {}",
            file(Some(content))
        );
    }
    assert!(file(Some(b"\xff")).starts_with("a file in UTF-8"));
    assert!(file(Some(&[b'x'; 4097])).starts_with("a file of at most 4 KiB"));
}

#[test]
fn of_password_and_password_file_the_higher_layer_counts() {
    let both =
        Home::toml("[mqtt]\nusername = 'u'\npassword = 'a'\npassword_file = 'pw'").with_file("pw", "b");
    let problem = both.load().unwrap_err().0.remove(0);
    assert_eq!(
        (problem.path.as_str(), problem.value.as_deref()),
        ("mqtt.password", Some("***"))
    );

    let password = |home: Home| home.load().unwrap().mqtt.login.unwrap().password.unwrap();
    let inline = Home::toml("[mqtt]\nusername = 'u'\npassword_file = 'gone'")
        .with_env("TAPO2MQTT__MQTT__PASSWORD", "007");
    assert_eq!(password(inline).expose(), "007");
    let in_file = Home::toml("[mqtt]\nusername = 'u'\npassword = 'a'")
        .with_file("pw", "b")
        .with_env("TAPO2MQTT__MQTT__PASSWORD_FILE", "pw");
    assert_eq!(password(in_file).expose(), "b");
}

const REST: &str = "
[[device]]
id = 'a'
address = 'b'
[[group]]
id = 'g'
outlets = ['a']
[[group.schedule]]
id = 's'
days = [1, 'tue']
start = '06:00'
for = '2h'
";

/// Everything a load shows: the settings by `{:?}` and as a digest, or the problems.
fn shown(home: &Home) -> String {
    match home.load() {
        Ok(settings) => format!("{settings:?} {settings:#?} {}", settings.digest()),
        Err(problems) => format!("{problems} {problems:?}"),
    }
}

#[test]
fn settings_and_their_digest_do_not_hold_secrets() {
    let content = format!(
        "[mqtt]\nusername='u'\npassword='{SECRET}'\n[tapo]\nusername='me@mail.org'\npassword='{SECRET}'\n\
         [[device]]\nid='a'\naddress='10.0.0.1'\nusername='other@mail.org'\npassword='{SECRET}'"
    );
    let home = Home::toml(&content);
    let settings = home.load().unwrap();
    assert!(!shown(&home).contains(SECRET));
    assert!(format!("{settings:?}").contains("***"));
    let digest = settings.digest();
    assert!(
        !digest.to_string().contains("mail.org"),
        "the digest is public: {digest}"
    );
    assert_eq!(digest["devices"][0]["address"], "10.0.0.1");
}

#[test]
fn problems_do_not_hold_secrets() {
    let mistakes = [
        "[mqtt]\npassword = 'SECRET'",
        "[mqtt]\npasswrod = 'SECRET'",
        "[mqtt]\npassword = ['SECRET']",
        "[mqtt]\npassword = { value = 'SECRET' }",
        "[mqtt]\nhost = 'mqtt://me:SECRET@broker'",
        "[mqtt]\nhost = 'me:SECRET@broker'",
        "[tapo]\npassword = 'SECRET'",
        "[tapo]\nusername = 'a'\npassword = 'SECRET'\npassword_file = 'x'",
        "tapo = 'SECRET'",
        "tapo = ['SECRET']",
        "SECRET",
        "password = SECRET",
        "password = 'SECRET",
        "password = \"SECRET",
        "password = 'SECRET' 'SECRET'",
        "password = 'SECRET'\npassword = 'SECRET'",
        "[tapo\npassword = 'SECRET'",
        "[[device]]\nid = 'a'\naddress = 'SECRET@x:1:2'\npassword = 'SECRET'",
        // In the place of the name of its file, or of a key.
        "[tapo]\nusername = 'a'\npassword_file = 'SECRET'",
        "[mqtt]\nusername = 'a'\npassword_file = 'SECRET'",
        "[[device]]\nid = 'a'\naddress = 'b'\nusername = 'a'\npassword_file = 'SECRET'",
        "[mqtt.tls]\nclient_cert_file = 'bridge.toml'\nclient_key_file = 'SECRET'",
        "[mqtt.tls]\nclient_key_file = ['SECRET']",
        "[tapo]\n'SECRET' = ''",
    ];
    for mistake in mistakes {
        let home = Home::toml(&mistake.replace("SECRET", SECRET));
        assert!(home.load().is_err(), "{mistake}");
        let text = shown(&home).replace(&format!("{SECRET}@x"), "");
        assert!(!text.contains(SECRET), "{mistake}: {text}");
    }
    for section in ["[tapo]", "[mqtt]", "[[device]]"] {
        let home = Home::toml(&format!("{section}\nhunter2hunter2 = ''"));
        let complaints = home.complaints().join("\n");
        assert!(complaints.contains("hun… (line 2): unknown key"), "{complaints}");
        assert!(!complaints.contains("hunter"), "{complaints}");
    }
    let mistakes = [
        "tapo:\n  username: a\n  password: !SECRET",
        "SECRET",
        "- SECRET",
        "tapo: {password: SECRET",
        "tapo:\n  password: \"SECRET",
        "tapo:\n  password: 'SECRET' x",
        "tapo:\n password: @SECRET",
        "tapo:\n password: *SECRET",
        "tapo:\n password: |1\nSECRET",
        "tapo: { password: SECRET, password: SECRET }",
        "? [SECRET]\n: 1",
        "tapo: { password: !x SECRET, username: 'a' }\n---\nb: SECRET",
    ];
    for mistake in mistakes {
        let home = Home::new("bridge.yaml", mistake.replace("SECRET", SECRET));
        assert!(home.load().is_err(), "{mistake}");
        assert!(!shown(&home).contains(SECRET), "{mistake}: {}", shown(&home));
    }
}

#[test]
fn deep_nesting_is_a_problem_not_a_crash() {
    let deep = 100_000;
    for (name, content) in [
        ("bridge.toml", format!("a = {}", "[".repeat(deep))),
        ("bridge.toml", format!("a = {}", "{a=".repeat(deep))),
        ("bridge.toml", format!("[{}a]", "a.".repeat(deep))),
        ("bridge.yaml", format!("a: {}", "[".repeat(deep))),
        ("bridge.yaml", format!("a: {}", "{a: ".repeat(deep))),
        ("bridge.yaml", format!("a:\n  {}1", "- ".repeat(deep))),
        ("bridge.yaml", format!("? {}", "? ".repeat(deep))),
        (
            "bridge.yaml",
            format!(
                "a:
{}a: 1",
                " ".repeat(1000)
            ),
        ),
    ] {
        assert!(
            Home::new(name, &content).load().is_err(),
            "{name}: {}",
            cut(&content)
        );
    }
}

proptest! {
    #![proptest_config(test_inputs::cases(100))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), yaml: bool) {
        let name = if yaml { "bridge.yaml" } else { "bridge.toml" };
        drop(Home::new(name, bytes).load());
    }

    /// The defaults with some bytes changed get past the parser more often than noise does.
    #[test]
    fn damaged_settings_never_panic_nor_leak(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
        yaml: bool,
    ) {
        let (name, text) = if yaml {
            ("bridge.yaml", format!("mqtt:\n  username: u\n  password: \"{SECRET}\"\ndevice:\n  - {{ id: a, address: b }}\n"))
        } else {
            ("bridge.toml", format!("[mqtt]\nusername = 'u'\npassword = '{SECRET}'\n{REST}"))
        };
        let signs = b"\n\"'[]{}=:#,.-0a \\&*!|>%@";
        let mut bytes = text.clone().into_bytes();
        let secret = text.find(SECRET).unwrap();
        for (place, sign) in &changes {
            let place = place.index(bytes.len());
            if !(secret..secret + SECRET.len()).contains(&place) {
                bytes[place] = *sign.get(signs);
            }
        }
        if let Err(problems) = Home::new(name, bytes).load() {
            prop_assert!(!problems.to_string().contains(SECRET), "{problems}");
        }
    }

    #[test]
    fn arbitrary_variables_never_panic(name in "[A-Za-z_0-9.\\[\\]]{0,12}", key in "\\PC{0,8}", value in "\\PC{0,12}") {
        let environment = vec![(format!("{ENVIRONMENT_PREFIX}{name}__{key}"), value)];
        drop(load(&Sources { file: None, environment }));
    }
}
