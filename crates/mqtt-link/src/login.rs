//! Credentials for the broker.

use std::fmt;

/// User name and password. `Debug` prints the password as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// The password. Empty if the broker needs none.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .field("password", &format_args!("***"))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_password() {
        let login = Login {
            username: "user".into(),
            password: "hunter2".into(),
        };
        assert_eq!(
            format!("{login:?}"),
            r#"Login { username: "user", password: *** }"#
        );
    }
}
