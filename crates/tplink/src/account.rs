//! Whose credentials a device accepts.

use crate::Credentials;

/// The account that a device turned out to belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Account {
    /// The configured one.
    User,
    /// None: a device that was set up locally with the Kasa app.
    KasaDefault,
    /// None: a device that was set up locally with the Tapo app.
    TapoDefault,
    /// None: a device in the state in which it left the factory.
    Blank,
}

impl Account {
    /// The accounts to try, in order, with their credentials. Those of devices without an account are public:
    /// python-kasa has them in `kasa/credentials.py`.
    pub(crate) fn candidates(user: Option<&Credentials>) -> impl Iterator<Item = (Self, Credentials)> {
        let user = user.cloned().map(|user| (Self::User, user));
        let defaults = [
            (
                Self::KasaDefault,
                Credentials::new("kasa@tp-link.net", "kasaSetup"),
            ),
            (Self::TapoDefault, Self::tapo_default()),
            (Self::Blank, Credentials::default()),
        ];
        user.into_iter().chain(defaults)
    }

    /// The credentials of a device that was set up locally with the Tapo app.
    pub(crate) fn tapo_default() -> Credentials {
        Credentials::new("test@tp-link.net", "test")
    }
}
