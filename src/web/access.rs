//! Who may do what: the host that a browser believes to be at, the page that a request comes from, the login. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::config::Web;

/// Where Home Assistant's requests come from, see its developer documentation ("Ingress").
const SUPERVISOR: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 32, 2));
/// Home Assistant sends it with each request of a user who is logged in there.
const INGRESS_HEADER: &str = "x-ingress-path";
/// A page of another origin cannot send it without being asked whether it may, and it may not.
pub(super) const OWN_HEADER: &str = "x-tapo2mqtt";
const FETCH_SITE: &str = "sec-fetch-site";
/// The cookie of a login.
pub(super) const COOKIE: &str = "tapo2mqtt_session";

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    /// The name in the address bar is not known: another site may have let it point here.
    Host,
    /// Only Home Assistant may.
    IngressOnly,
    /// Another site sent it.
    Origin,
    /// Neither this page nor a program that knows its headers sent it.
    NoHeaders,
}

impl Denial {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Host => "unknown_host",
            Self::IngressOnly => "ingress_only",
            Self::Origin | Self::NoHeaders => "other_origin",
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Host => {
                "this host name is not known: add it to hosts in [web] or [metrics], or use the IP address"
            }
            Self::IngressOnly => "only Home Assistant may open this page: set a password in [web] for others",
            Self::Origin => {
                "this request comes from another page (Sec-Fetch-Site, or Origin, which is not the Host): a proxy has to pass \
                 Host on"
            }
            Self::NoHeaders => "a POST needs the headers Content-Type: application/json and X-Tapo2mqtt: 1",
        }
    }
}

/// What the settings say about it.
#[derive(Debug)]
pub(super) struct Access {
    hosts: Vec<String>,
    ingress: bool,
    has_password: bool,
}

impl Access {
    pub(super) fn new(settings: &Web) -> Self {
        Self {
            hosts: settings.hosts.clone(),
            ingress: settings.ingress,
            has_password: settings.password.is_some(),
        }
    }

    /// Whether a request comes through Home Assistant, where its user is logged in.
    pub(super) fn is_ingress(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        self.ingress && peer.to_canonical() == SUPERVISOR && headers.contains_key(INGRESS_HEADER)
    }

    /// Whether a request has to show a login.
    pub(super) fn needs_login(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        self.has_password && !self.is_ingress(peer, headers)
    }

    /// Whether any file may be read.
    pub(super) fn check_reader(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), Denial> {
        if self.is_ingress(peer, headers) {
            return Ok(());
        }
        if self.ingress && !self.has_password {
            return Err(Denial::IngressOnly);
        }
        let host = text(headers, header::HOST.as_str()).and_then(host_of);
        if host.is_some_and(|host| self.knows(host)) {
            Ok(())
        } else {
            Err(Denial::Host)
        }
    }

    fn knows(&self, host: &str) -> bool {
        // A name that another site lets point here is no address.
        let is_address = host.parse::<IpAddr>().is_ok();
        let host = host.strip_suffix('.').unwrap_or(host);
        let same = |known: &String| known.eq_ignore_ascii_case(host);
        is_address || host.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(same)
    }
}

/// Whether a page of another origin sent a request that reads. One of this origin or none at all may.
pub(super) fn check_same_site(headers: &HeaderMap) -> Result<(), Denial> {
    match text(headers, FETCH_SITE) {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(Denial::Origin),
    }
}

/// Whether this page sent a request that changes something, or a program that is no browser.
pub(super) fn check_sender(headers: &HeaderMap) -> Result<(), Denial> {
    let is_json = text(headers, header::CONTENT_TYPE.as_str())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    let site = match text(headers, FETCH_SITE) {
        Some(site) => site == "same-origin",
        // Browsers that do not send it send the origin with each POST.
        None => match text(headers, header::ORIGIN.as_str()) {
            Some(origin) => {
                let host = text(headers, header::HOST.as_str());
                origin.split_once("://").map(|(_, host)| host) == host
            }
            None => !headers.contains_key(header::ORIGIN) && !headers.contains_key(FETCH_SITE),
        },
    };
    if !site {
        return Err(Denial::Origin);
    }
    if is_json && text(headers, OWN_HEADER) == Some("1") {
        Ok(())
    } else {
        Err(Denial::NoHeaders)
    }
}

/// The password of a login by header, see RFC 7617.
pub(super) fn basic_password(headers: &HeaderMap) -> Option<String> {
    let (scheme, encoded) = text(headers, header::AUTHORIZATION.as_str())?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let login = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    login.split_once(':').map(|(_, password)| password.to_owned())
}

/// The token in the cookies.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter();
    cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A host without its port, and an IPv6 address without its brackets; `None` for anything else.
fn host_of(text: &str) -> Option<&str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 9));

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn access(ingress: bool, has_password: bool) -> Access {
        Access {
            hosts: vec!["tapo.lan".to_owned()],
            ingress,
            has_password,
        }
    }

    #[test]
    fn a_password_in_a_header_is_read() {
        let password = |value: &str| basic_password(&headers(&[("authorization", value)]));
        // "prometheus:correct: horse"
        let right = password("Basic cHJvbWV0aGV1czpjb3JyZWN0OiBob3JzZQ==");
        assert_eq!(right.as_deref(), Some("correct: horse"));
        for wrong in ["Bearer cHJvbWV0aGV1cw==", "Basic !", "Basic cHJvbWV0aGV1cw=="] {
            assert_eq!(password(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_that_another_site_lets_point_here_is_refused() {
        let access = access(false, false);
        for (host, allowed) in [
            ("127.0.0.1:8099", true),
            ("192.168.1.5", true),
            ("[::1]:8099", true),
            ("localhost:8099", true),
            ("LOCALHOST", true),
            ("tapo.lan", true),
            ("Tapo.LAN.:8099", true),
            ("evil.example", false),
            ("tapo.lan.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("tapo.lan:8099.evil.example", false),
            ("127.0.0.1:8099@evil.example", false),
            ("[::1]evil.example", false),
            ("[tapo.lan]", false),
            ("::1", false),
            ("", false),
        ] {
            let found = access.check_reader(LAN, &headers(&[("host", host)]));
            assert_eq!(found.is_ok(), allowed, "{host}");
        }
        assert_eq!(access.check_reader(LAN, &HeaderMap::new()), Err(Denial::Host));
    }

    #[test]
    fn only_home_assistant_itself_needs_no_login() {
        let through = headers(&[
            ("x-ingress-path", "/api/hassio_ingress/x"),
            ("host", "ha.example"),
        ]);
        let mapped: IpAddr = "::ffff:172.30.32.2".parse().unwrap();
        for (ingress, has_password, peer, reads, needs_login) in [
            (true, false, SUPERVISOR, true, false),
            (true, true, SUPERVISOR, true, false),
            (true, true, mapped, true, false),
            (true, false, LAN, false, false),
            (true, true, LAN, false, true),
            (false, true, SUPERVISOR, false, true),
        ] {
            let access = access(ingress, has_password);
            assert_eq!(
                access.check_reader(peer, &through).is_ok(),
                reads,
                "{ingress} {has_password} {peer}"
            );
            assert_eq!(
                access.needs_login(peer, &through),
                needs_login,
                "{ingress} {has_password} {peer}"
            );
        }
        let host = headers(&[("host", "tapo.lan")]);
        assert_eq!(
            access(true, false).check_reader(LAN, &host),
            Err(Denial::IngressOnly)
        );
        assert_eq!(
            access(true, false).check_reader(SUPERVISOR, &host),
            Err(Denial::IngressOnly)
        );
        assert_eq!(access(true, true).check_reader(LAN, &host), Ok(()));
    }

    #[test]
    fn what_another_site_sends_changes_nothing() {
        let own: &[_] = &[
            ("content-type", "application/json"),
            (OWN_HEADER, "1"),
            ("host", "tapo.lan:1"),
        ];
        let with = |more: &[(&'static str, &'static str)]| check_sender(&headers(&[own, more].concat()));
        assert_eq!(with(&[]), Ok(()), "no browser");
        assert_eq!(with(&[(FETCH_SITE, "same-origin")]), Ok(()));
        assert_eq!(with(&[("origin", "http://tapo.lan:1")]), Ok(()));
        for refused in [
            &[(FETCH_SITE, "cross-site")][..],
            &[(FETCH_SITE, "same-site")],
            &[(FETCH_SITE, "none")],
            &[("origin", "http://evil.example")],
            &[("origin", "http://tapo.lan:2")],
            &[("origin", "null")],
            &[(FETCH_SITE, "cross-site"), ("origin", "http://tapo.lan:1")],
        ] {
            assert_eq!(with(refused), Err(Denial::Origin), "{refused:?}");
        }
        let form = headers(&[("content-type", "text/plain"), (OWN_HEADER, "1")]);
        assert_eq!(check_sender(&form), Err(Denial::NoHeaders));
        let plain = headers(&[("content-type", "application/json")]);
        assert_eq!(check_sender(&plain), Err(Denial::NoHeaders));
        assert_eq!(
            check_same_site(&headers(&[(FETCH_SITE, "cross-site")])),
            Err(Denial::Origin)
        );
        assert_eq!(check_same_site(&headers(&[(FETCH_SITE, "none")])), Ok(()));
    }

    #[test]
    fn the_token_is_one_cookie_of_several() {
        let cookies = |text: &str| token(&headers(&[("cookie", text)])).map(str::to_owned);
        assert_eq!(cookies("a=1; tapo2mqtt_session=abc"), Some("abc".to_owned()));
        assert_eq!(cookies("tapo2mqtt_session_x=abc"), None);
        assert_eq!(cookies(""), None);
    }
}
