//! `[web]`: the page. `[metrics]`: figures for monitors, on a listener of their own.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    credentials::{Files, password},
    parse,
    reader::{Expected, Leaf, Read, Table},
};
use crate::system::Secret;

/// Where the page is, or where the figures are, and who may read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// Whether there is one.
    pub enabled: bool,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What a browser logs in with; `None` asks for nothing.
    pub password: Option<Secret>,
    /// Host names that it is opened by, in lower case, beside `localhost` and IP addresses.
    pub hosts: Vec<String>,
    /// Whether Home Assistant shows the page, and logs in whoever sees it.
    pub ingress: bool,
}

impl Web {
    /// Whether nothing else can listen there.
    fn takes(&self, listen: SocketAddr) -> bool {
        let (own, other) = (self.listen.ip(), listen.ip());
        self.listen.port() == listen.port()
            && (own == other || own.is_unspecified() || other.is_unspecified())
    }

    pub(super) fn digest(&self) -> Value {
        json!({
            "enabled": self.enabled,
            "listen": self.listen,
            "login": self.password.is_some(),
            "hosts": self.hosts,
            "ingress": self.ingress,
        })
    }
}

/// `[web]`
pub(super) fn web(table: &mut Table<'_>, files: Files<'_>) -> Read<Web> {
    let ingress = table.required("ingress", parse::boolean);
    let web = Web {
        ingress: ingress?,
        ..listener(table, files)?
    };
    check(table, web, "and who opens the page may switch everything")
}

/// `[metrics]`, beside the page.
pub(super) fn metrics(table: &mut Table<'_>, files: Files<'_>, page: Option<&Web>) -> Read<Web> {
    let metrics = listener(table, files)?;
    if metrics.enabled && page.is_some_and(|page| page.enabled && page.takes(metrics.listen)) {
        let expected =
            "another port than web.listen, or no [metrics]: the page has the figures too, at /metrics";
        return Err(table.problem("listen", expected));
    }
    check(table, metrics, "and the figures show when you are at home")
}

fn listener(table: &mut Table<'_>, files: Files<'_>) -> Read<Web> {
    let enabled = table.required("enabled", parse::boolean);
    let listen = table.required("listen", socket);
    let password = password(table, files);
    let hosts = table.values("hosts", parse::host);
    Ok(Web {
        enabled: enabled?,
        listen: listen?,
        password: password?,
        hosts: hosts?.unwrap_or_default(),
        ingress: false,
    })
}

fn check(table: &mut Table<'_>, web: Web, why: &str) -> Read<Web> {
    if web.enabled && web.password.is_none() && !web.ingress && !web.listen.ip().is_loopback() {
        let expected = format!(
            "a password, or password_file: other machines can reach {}, {why}",
            web.listen
        );
        return Err(table.secret_problem("password", expected));
    }
    Ok(web)
}

fn socket(leaf: &Leaf<'_>) -> Result<SocketAddr, Expected> {
    let address = leaf.text().and_then(|text| text.parse::<SocketAddr>().ok());
    let address = address.filter(|address| address.port() > 0);
    address.ok_or_else(|| "an IP address with a port, such as \"127.0.0.1:8099\" or \"[::]:8099\"".to_owned())
}

#[cfg(test)]
mod tests {
    use crate::config::{Problems, Settings, Sources, load_or};

    fn load(web: &str) -> Result<Settings, Problems> {
        load_or(&Sources::default(), &format!("[web]\nenabled = true\n{web}"))
    }

    #[test]
    fn what_other_machines_reach_needs_a_password() {
        assert!(load("").unwrap().web.password.is_none());
        assert!(load("listen = \"[::1]:8099\"").is_ok());
        let open = load("listen = \"0.0.0.0:8099\"").unwrap_err().to_string();
        assert!(
            open.contains("web.password") && open.contains("0.0.0.0:8099"),
            "{open}"
        );
        for more in ["password = \"correct horse\"", "ingress = true"] {
            assert!(
                load(&format!("listen = \"0.0.0.0:8099\"\n{more}")).is_ok(),
                "{more}"
            );
        }
        for listen in ["127.0.0.1", "127.0.0.1:0", "localhost:8099"] {
            assert!(load(&format!("listen = \"{listen}\"")).is_err(), "{listen}");
        }
        let digest = load("password = \"correct horse\"")
            .unwrap()
            .web
            .digest()
            .to_string();
        assert!(
            digest.contains("\"login\":true") && !digest.contains("horse"),
            "{digest}"
        );
    }

    #[test]
    fn the_page_and_the_figures_have_a_port_each() {
        let load = |port: u16| {
            load(&format!(
                "[metrics]\nenabled = true\nlisten = \"127.0.0.1:{port}\""
            ))
        };
        let taken = load(8099).unwrap_err().to_string();
        assert!(
            taken.contains("metrics.listen") && taken.contains("another port"),
            "{taken}"
        );
        assert!(load(9108).is_ok());
    }

    #[test]
    fn figures_for_other_machines_need_a_password_too() {
        let load = |more: &str| {
            let text = format!("[metrics]\nenabled = true\nlisten = \"0.0.0.0:9108\"\n{more}");
            load_or(&Sources::default(), &text)
        };
        let open = load("").unwrap_err().to_string();
        assert!(open.contains("metrics.password"), "{open}");
        assert!(load("password = \"correct horse\"").unwrap().metrics.enabled);
        assert!(load("ingress = true").is_err());
    }
}
