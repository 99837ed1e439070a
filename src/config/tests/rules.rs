//! Each rule of each section, broken once.

use mqtt_link::{Authorities, ClientCertificate};

use super::{documentation::CERTIFICATE, *};

const DEVICE: &str = "[[device]]\nid = 'a'\naddress = '10.0.0.1'\n";

/// Every text breaks exactly the rule at the path beside it.
fn broken(cases: &[(&str, &str)]) {
    for (content, path) in cases {
        assert_eq!(paths(content), [*path], "{content}");
    }
}

#[test]
fn mqtt() {
    broken(&[
        ("mqtt = 5", "mqtt"),
        ("[[mqtt]]\nhost = 'a'", "mqtt"),
        ("[mqtt]\nhost = ''", "mqtt.host"),
        ("[mqtt]\nhost = 'mqtt://a'", "mqtt.host"),
        ("[mqtt]\nhost = 1", "mqtt.host"),
        ("[mqtt]\nport = 0", "mqtt.port"),
        ("[mqtt]\nport = 65536", "mqtt.port"),
        ("[mqtt]\nport = '1883'", "mqtt.port"),
        ("[mqtt]\nport = 1.5", "mqtt.port"),
        ("[mqtt]\nhosts = []", "mqtt.hosts"),
        ("[mqtt]\nhosts = 'a'", "mqtt.hosts"),
        ("[mqtt]\nhosts = ['a', 'b:0']", "mqtt.hosts[1]"),
        ("[mqtt]\nhosts = ['a', 'fd00::5:1884']", "mqtt.hosts[1]"),
        ("[mqtt]\nhosts = ['a', 'A:1883']", "mqtt.hosts"),
        ("[mqtt]\nhosts = ['a']\nhost = 'b'", "mqtt.hosts"),
        ("[mqtt]\nhosts = ['a']\nport = 1884", "mqtt.port"),
        ("[mqtt]\nsite = 'the attic'", "mqtt.site"),
        ("[mqtt]\nusername = 5", "mqtt.username"),
        ("[mqtt]\npassword = 'x'", "mqtt.username"),
        ("[mqtt]\npassword = 5", "mqtt.password"),
        ("[mqtt]\nbase_topic = ''", "mqtt.base_topic"),
        ("[mqtt]\nbase_topic = 'a/+'", "mqtt.base_topic"),
        ("[mqtt]\nbase_topic = 'homeassistant'", "mqtt.base_topic"),
        ("[mqtt]\nclient_id = ''", "mqtt.client_id"),
        ("[mqtt]\nkeep_alive = '4s'", "mqtt.keep_alive"),
        ("[mqtt]\nkeep_alive = '61m'", "mqtt.keep_alive"),
        ("[mqtt]\ntls = 'yes'", "mqtt.tls"),
        ("[mqtt]\ntls = { ca = 'x' }", "mqtt.tls.ca"),
        ("[mqtt]\ntls = { ca_file = 'missing.pem' }", "mqtt.tls.ca_file"),
    ]);
}

#[test]
fn mqtt_over_tls() {
    let home =
        Home::toml("[mqtt.tls]\nca_file = 'ca.pem'\nclient_cert_file = 'c.pem'\nclient_key_file = 'c.key'")
            .with_file("ca.pem", CERTIFICATE)
            .with_file("c.pem", CERTIFICATE)
            .with_file("c.key", CERTIFICATE);
    let settings = home.load().unwrap();
    assert_eq!(settings.mqtt.shown_brokers(), "127.0.0.1:8883");
    let tls = settings.mqtt.tls.unwrap();
    assert_eq!(tls.authorities, Authorities::File(home.path("ca.pem")));
    let client = ClientCertificate {
        certificate: home.path("c.pem"),
        key: home.path("c.key"),
    };
    assert_eq!(tls.client, Some(client));

    let half = Home::toml("[mqtt.tls]\nclient_cert_file = 'c.pem'").with_file("c.pem", "");
    assert_eq!(half.load().unwrap_err().0[0].path, "mqtt.tls.client_key_file");
    let half = Home::toml("[mqtt.tls]\nclient_key_file = 'c.key'").with_file("c.key", "");
    assert_eq!(half.load().unwrap_err().0[0].path, "mqtt.tls.client_cert_file");
    let mixed = Home::toml("[mqtt]\ntls = true")
        .with_env("TAPO2MQTT__MQTT__TLS__CA_FILE", "ca.pem")
        .with_file("ca.pem", CERTIFICATE);
    assert_eq!(
        mixed.load().unwrap().mqtt.tls.unwrap().authorities,
        Authorities::File(mixed.path("ca.pem"))
    );
}

#[test]
fn a_file_of_tls_that_is_none_is_named_by_its_key() {
    let text = "[mqtt.tls]\nca_file = 'ca.pem'\nclient_cert_file = 'c.pem'\nclient_key_file = 'c.key'";
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (certificate, key) = CERTIFICATE.split_at(CERTIFICATE.find("-----BEGIN PRIVATE").unwrap());
    for (files, expected) in [
        ([key, certificate, key], "mqtt.tls.ca_file (line 2)"),
        ([broken, certificate, key], "mqtt.tls.ca_file (line 2)"),
        ([certificate, "", key], "mqtt.tls.client_cert_file (line 3)"),
        ([certificate, broken, key], "mqtt.tls.client_cert_file (line 3)"),
        (
            [certificate, certificate, "hunter2"],
            "mqtt.tls.client_key_file (line 4)",
        ),
    ] {
        let home = ["ca.pem", "c.pem", "c.key"].iter().zip(files);
        let home = home.fold(Home::toml(text), |home, (name, content)| {
            home.with_file(name, content)
        });
        let problems = home.load().unwrap_err();
        let [problem] = problems.0.as_slice() else {
            panic!("{problems}")
        };
        assert_eq!(problem.place, expected, "{problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn the_client_id_is_stable_and_follows_the_base_topic() {
    let id = |content: &str| load_toml(content).mqtt.client_id;
    assert_eq!(id("[mqtt]\nbase_topic = 'Home/Tapo'"), "tapo2mqtt-home-tapo");
    assert_eq!(id("[mqtt]\nclient_id = 'Mine 1'"), "Mine 1");
}

#[test]
fn several_brokers_have_ports_of_their_own() {
    let brokers = |content: &str| load_toml(content).mqtt.shown_brokers();
    let several = "[mqtt]\nhosts = ['a', 'B:1884', '[fd00::1]:1885', '::1']";
    assert_eq!(brokers(several), "a:1883, b:1884, [fd00::1]:1885, [::1]:1883");
    assert_eq!(
        brokers(&format!("{several}\ntls = true")),
        "a:8883, b:1884, [fd00::1]:1885, [::1]:8883"
    );
    assert_eq!(brokers("[mqtt]\nhosts = ['a']"), "a:1883");
}

#[test]
fn one_host_and_several_replace_those_of_a_lower_layer() {
    let brokers = |file: &str, name: &str, value: &str| {
        let home = Home::toml(&format!("[mqtt]\n{file}")).with_env(name, value);
        home.load().map(|settings| settings.mqtt.shown_brokers())
    };
    let (host, hosts) = ("TAPO2MQTT__MQTT__HOST", "TAPO2MQTT__MQTT__HOSTS");
    assert_eq!(brokers("hosts = ['a', 'b']", host, "c").unwrap(), "c:1883");
    assert_eq!(
        brokers("host = 'a'\nport = 1", hosts, "b, c:2").unwrap(),
        "b:1883, c:2"
    );
    let port = brokers("hosts = ['a', 'b']", "TAPO2MQTT__MQTT__PORT", "1884");
    assert_eq!(port.unwrap_err().0[0].path, "mqtt.port");
}

#[test]
fn a_site_is_in_all_that_bridges_share() {
    let names = |content: &str| {
        let mqtt = load_toml(content).mqtt;
        (mqtt.base_topic.to_string(), mqtt.client_id)
    };
    let expected = |base: &str, id: &str| (base.to_owned(), id.to_owned());
    assert_eq!(names(""), expected("tapo2mqtt", "tapo2mqtt-tapo2mqtt"));
    let north = "[mqtt]\nsite = 'north'";
    assert_eq!(
        names(north),
        expected("tapo2mqtt-north", "tapo2mqtt-tapo2mqtt-north")
    );
    let own = format!("{north}\nbase_topic = 'plugs'");
    assert_eq!(names(&own), expected("plugs", "tapo2mqtt-plugs-north"));
}

#[test]
fn the_account_is_whole_or_absent() {
    let account = |username: &str, password: &str| {
        let text = format!("[tapo]\nusername = '{username}'\npassword = '{password}'");
        Home::toml(&text)
            .load()
            .map(|settings| settings.tapo.credentials.is_some())
    };
    assert!(account("me@mail.org", "pw").unwrap());
    for (username, password) in [
        ("", ""),
        ("you@example.com", "..."),
        ("You@Example.com", "changeme"),
        ("changeme", ""),
    ] {
        assert!(!account(username, password).unwrap(), "{username} {password}");
    }
    for (username, password, path) in [
        ("me@mail.org", "", "tapo.password"),
        ("me@mail.org", "...", "tapo.password"),
        ("", "pw", "tapo.username"),
        ("you@example.com", "pw", "tapo.username"),
    ] {
        assert_eq!(account(username, password).unwrap_err().0[0].path, path);
    }
    broken(&[
        ("[tapo]\npassword = 'pw'", "tapo.username"),
        ("[tapo]\nemail = 'a'", "tapo.email"),
        ("tapo = 'me'", "tapo"),
    ]);
}

#[test]
fn setup_is_needed_until_every_device_has_an_account() {
    let own = "username = 'a@b.c'\npassword = 'pw'\n";
    assert!(load_toml(DEVICE).needs_setup());
    assert!(!load_toml(&format!("{DEVICE}{own}")).needs_setup());
    assert!(!load_toml(&format!("{DEVICE}[tapo]\n{own}")).needs_setup());
    assert!(load_toml(&format!("{DEVICE}{own}[[device]]\nid = 'b'\naddress = 'b'")).needs_setup());

    let settings = load_toml(&format!(
        "{DEVICE}[tapo]\n{own}[[device]]\nid='b'\naddress='b'\nusername='x@y.z'\npassword='p'"
    ));
    let names = settings
        .devices
        .iter()
        .map(|device| settings.credentials_of(device).unwrap().username.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["a@b.c", "x@y.z"]);
}

#[test]
fn devices() {
    let after = |more: &str| format!("{DEVICE}{more}");
    broken(&[
        ("device = 5", "device"),
        ("[device]\nid = 'a'", "device"),
        ("device = ['a']", "device[0]"),
        ("[[device]]\naddress = 'x'", "device[0].id"),
        ("[[device]]\nid = 'x'", "device[0].address"),
        ("[[device]]\nid = 'bridge'\naddress = 'x'", "device[0].id"),
        ("[[device]]\nid = 'group'\naddress = 'x'", "device[0].id"),
        ("[[device]]\nid = 'a/b'\naddress = 'x'", "device[0].id"),
        ("[[device]]\nid = 'a'\naddress = 'x:0'", "device[0].address"),
        ("[[device]]\nid = 'a'\nip = 'x'\naddress = 'x'", "device[0].ip"),
        (&after("mac = 'AA:BB:CC:DD:EE'"), "device[0].mac"),
        (&after("mac = 'plug AA:BB:CC:DD:EE:FF'"), "device[0].mac"),
        (&after("name = ''"), "device[0].name"),
        (&after("device_settings = 'yes'"), "device[0].device_settings"),
        (
            &after("client = 'tapo'\ndevice_settings = true"),
            "device[0].device_settings",
        ),
        (&after("username = 'me'"), "device[0].password"),
        (&after("password = 'me'"), "device[0].username"),
        (
            &after("[[device]]\nid = 'a'\naddress = '10.0.0.2'"),
            "device[1].id",
        ),
        (
            &after("[[device]]\nid = 'a_o1'\naddress = '10.0.0.2'"),
            "device[1].id",
        ),
        (
            &after("[[device]]\nid = 'b'\naddress = '10.0.0.1:80'"),
            "device[1].address",
        ),
    ]);
    assert_eq!(
        paths("[[device]]\nid = 'a_o2'\naddress = 'x'\n[[device]]\nid = 'a'\naddress = 'y'"),
        ["device[1].id"]
    );
    let near = "[[device]]\nid = 'a_o'\naddress = 'x'\n[[device]]\nid = 'a_ox'\naddress = 'x:81'";
    assert_eq!(load_toml(&after(near)).devices.len(), 3);
}

#[test]
fn outlets() {
    let strip = |outlets: &str| format!("{DEVICE}outlet = [{outlets}]");
    let settings = load_toml(&strip(
        "{position = 2, id = 'left', name = 'Left mat'}, {position = 1}, {position = 3, id = '3'}",
    ));
    let device = &settings.devices[0];
    let outlets = device
        .outlets
        .iter()
        .map(|outlet| (outlet.position, outlet.key.as_str()));
    assert_eq!(outlets.collect::<Vec<_>>(), [(2, "left"), (1, "1"), (3, "3")]);
    assert_eq!(device.outlet_at(2).unwrap().name.as_deref(), Some("Left mat"));
    assert_eq!(device.outlet_at(4), None);

    broken(&[
        (&strip("5"), "device[0].outlet[0]"),
        (&strip("{id = 'left'}"), "device[0].outlet[0].position"),
        (&strip("{position = 0}"), "device[0].outlet[0].position"),
        (
            &strip("{position = 1}, {position = 1}"),
            "device[0].outlet[1].position",
        ),
        (
            &strip("{position = 1, id = 'x'}, {position = 2, id = 'x'}"),
            "device[0].outlet[1].id",
        ),
        (&strip("{position = 1, id = '2'}"), "device[0].outlet[0].id"),
        (&strip("{position = 1, id = '01'}"), "device[0].outlet[0].id"),
        (&strip("{position = 1, id = 'set'}"), "device[0].outlet[0].id"),
        (&strip("{position = 1, slug = 'x'}"), "device[0].outlet[0].slug"),
        (&strip("{position = 1, name = 5}"), "device[0].outlet[0].name"),
    ]);
}

#[test]
fn small_sections() {
    broken(&[
        ("[homeassistant]\nenabled = 1", "homeassistant.enabled"),
        (
            "[homeassistant]\ndiscovery_prefix = 'a/#'",
            "homeassistant.discovery_prefix",
        ),
        (
            "[homeassistant]\nchild_devices = 'no'",
            "homeassistant.child_devices",
        ),
        ("[homeassistant]\nstatus_topic = ''", "homeassistant.status_topic"),
        ("[polling]\nstate = '900ms'", "polling.state"),
        ("[polling]\nstate = '61m'", "polling.state"),
        ("[polling]\nenergy = '9s'", "polling.energy"),
        ("[polling]\nenergy = '25h'", "polling.energy"),
        ("[report]\npower_change = -1", "report.power_change"),
        ("[report]\npower_change = 1001", "report.power_change"),
        ("[report]\nenergy_change = 11", "report.energy_change"),
        ("[report]\nmax_interval = '9s'", "report.max_interval"),
        ("[polling]\nrequest_timeout = '1m'", "polling.request_timeout"),
        ("[retry]\nunreachable = '0.9'", "retry.unreachable"),
        ("[retry]\nrefused = '25h'", "retry.refused"),
        ("[retry]\nlocked = '59s'", "retry.locked"),
        ("[discovery]\ntargets = '255.255.255.255'", "discovery.targets"),
        ("[discovery]\nadd = 'some'", "discovery.add"),
        ("[discovery]\ninterval = '9s'", "discovery.interval"),
        ("[discovery]\nnetworks = ['10.0.0.0/16']", "discovery.networks[0]"),
        ("[discovery]\nnetworks = ['fd00::/64']", "discovery.networks[0]"),
        (
            "[discovery]\nnetworks = ['auto', '10.0.0.0/24']",
            "discovery.networks",
        ),
        (
            "[discovery]\nnetworks = ['10.0.0.0/22', '10.1.0.0/24']",
            "discovery.networks",
        ),
        ("[discovery]\ntargets = ['plug.lan']", "discovery.targets[0]"),
        (
            "[discovery]\ntargets = ['10.0.0.255', '0.0.0.0']",
            "discovery.targets[1]",
        ),
        ("[log]\nlevel = 'verbose'", "log.level"),
        ("[log]\nformat = 'xml'", "log.format"),
        ("[state]\nfile = ''", "state.file"),
        ("[zigbee]\nx = 1", "zigbee"),
        ("'a.b' = 1", "a.b"),
        ("'device[4000000000]' = 1", "device[4000000000]"),
    ]);
    let long = "x".repeat(199);
    broken(&[(
        &format!("[homeassistant]\ndiscovery_prefix = '{long}'"),
        "homeassistant.discovery_prefix",
    )]);
    let other = load_toml("[homeassistant]\ndiscovery_prefix = 'ha'");
    assert_eq!(other.homeassistant.status_topic.as_str(), "ha/status");
}
