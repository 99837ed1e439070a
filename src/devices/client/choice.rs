//! Which client serves a device. Pure.

use super::fault::Fault;
use crate::domain::{
    devices::{ClientChoice, DeviceConfig},
    report::Kind,
};

/// A client that can serve a device. A device never has sessions of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::devices) enum ServingClient {
    /// The `tapo` crate.
    Crate,
    /// Our own, `tplink`.
    Own,
}

impl ServingClient {
    /// Its name in the settings.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crate => "tapo",
            Self::Own => "own",
        }
    }
}

/// What a client has to do for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::devices) struct Needs {
    /// What it is, as far as that is known.
    pub(in crate::devices) kind: Kind,
    /// A relay of it has an end to arm, or is to hold OFF rules.
    pub(in crate::devices) arms: bool,
    /// It sends what the crate cannot read: odd values of its meter, or the answers of an old Kasa device.
    pub(in crate::devices) reads_odd_answers: bool,
    /// The settings that it keeps itself are managed, or it can be dimmed: the crate knows neither.
    pub(in crate::devices) changes_settings: bool,
}

impl Needs {
    /// Whether only our client does all of it.
    fn need_own(self) -> bool {
        self.kind == Kind::Strip || self.arms || self.reads_odd_answers || self.changes_settings
    }

    /// Before the first login. Only the outlets of a strip, and what is connected to a hub, have names in the settings.
    pub(in crate::devices) fn of(config: &DeviceConfig) -> Self {
        let kind = match (config.outlets.as_slice(), config.children.as_slice()) {
            ([], []) => Kind::Plug,
            ([], _) => Kind::Hub,
            _ => Kind::Strip,
        };
        Self {
            kind,
            arms: false,
            reads_odd_answers: false,
            changes_settings: config.device_settings,
        }
    }
}

/// What is known of a device that is about to be logged in to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// The setting.
    pub(super) setting: ClientChoice,
    /// What the client is for.
    pub(super) needs: Needs,
    /// Its last login was one that the crate does not have, as the old one (AES).
    pub(super) is_old: bool,
    /// Our client could not log in, and the crate could.
    pub(super) own_failed: bool,
}

impl Known {
    /// The client that serves it. A hub is always served by ours: the calls of the crate fail at the first child with a field
    /// that they do not know. The crate reaches no countdown and no rules of a strip's outlets, reads meters strictly,
    /// and replaces the countdown of a plug by clearing and adding it: killed between, it leaves none.
    pub(super) fn client(self) -> ServingClient {
        let needs_own = self.is_old || !self.own_failed && self.needs.need_own();
        match self.setting {
            _ if self.needs.kind == Kind::Hub => ServingClient::Own,
            ClientChoice::Own => ServingClient::Own,
            ClientChoice::Auto if needs_own => ServingClient::Own,
            ClientChoice::Auto | ClientChoice::Tapo => ServingClient::Crate,
        }
    }
}

/// Whether the crate may be able to log in where our client was not. It sends the same password to the same address.
pub(super) fn may_help(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::SessionLost
            | Fault::Closed
            | Fault::UnsupportedProtocol(_)
            | Fault::Unreadable(_)
            | Fault::UnknownRequest(_)
            | Fault::Device { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_chosen_by_what_the_device_needs() {
        let needs = Needs {
            kind: Kind::Plug,
            arms: false,
            reads_odd_answers: false,
            changes_settings: false,
        };
        let plug = Known {
            setting: ClientChoice::Auto,
            needs,
            is_old: false,
            own_failed: false,
        };
        let with = |needs| Known { needs, ..plug };
        let strip = with(Needs {
            kind: Kind::Strip,
            ..needs
        });
        let limited = with(Needs { arms: true, ..needs });
        let metered = with(Needs {
            reads_odd_answers: true,
            ..needs
        });
        let managed = with(Needs {
            changes_settings: true,
            ..needs
        });
        let old = Known { is_old: true, ..plug };
        let failed = |known| Known {
            own_failed: true,
            ..known
        };
        for (known, expected) in [
            (plug, ServingClient::Crate),
            (strip, ServingClient::Own),
            (limited, ServingClient::Own),
            (old, ServingClient::Own),
            (metered, ServingClient::Own),
            (managed, ServingClient::Own),
            (failed(metered), ServingClient::Crate),
            (failed(strip), ServingClient::Crate),
            (failed(limited), ServingClient::Crate),
            (failed(old), ServingClient::Own),
        ] {
            assert_eq!(known.client(), expected, "{known:?}");
            for (setting, expected) in [
                (ClientChoice::Tapo, ServingClient::Crate),
                (ClientChoice::Own, ServingClient::Own),
            ] {
                assert_eq!(Known { setting, ..known }.client(), expected, "{known:?}");
            }
        }
    }

    #[test]
    fn the_crate_does_not_repeat_a_wrong_password() {
        for fault in [
            Fault::WrongCredentials,
            Fault::CountedCredentials,
            Fault::LockedOut,
            Fault::Forbidden,
            Fault::NoAnswer,
            Fault::Refused,
        ] {
            assert!(!may_help(&fault), "{fault}");
        }
        assert!(may_help(&Fault::SessionLost) && may_help(&Fault::UnsupportedProtocol(String::new())));
    }
}
