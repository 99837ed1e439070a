//! The variants of the KLAP handshake.

use crate::{
    Credentials,
    hash::{md5, sha1, sha256},
};

/// How a device hashes the account and proves that it knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// SHA-1 and SHA-256, proofs over both seeds: SMART devices and newer IOT devices.
    V2,
    /// MD5, proofs over one seed: IOT devices from before 2024.
    V1,
    /// The hash of version 2 with the proofs of version 1. kasa-core knows it from an HS300.
    Mixed,
}

/// The length of a seed.
pub(super) const SEED: usize = 16;

impl Scheme {
    /// In the order in which they are tried.
    pub(super) const ALL: [Self; 3] = [Self::V2, Self::V1, Self::Mixed];

    /// What stands for the account in proofs and keys: 16 or 32 bytes.
    pub(super) fn account_hash(self, account: &Credentials) -> Vec<u8> {
        let (username, password) = (account.username(), account.password());
        match self {
            Self::V1 => md5(&[md5(username), md5(password)].concat()).to_vec(),
            Self::V2 | Self::Mixed => sha256(&[&sha1(username), &sha1(password)]).to_vec(),
        }
    }

    /// What a device that knows the account answers.
    pub(super) fn device_proof(self, local: &[u8; SEED], remote: &[u8; SEED], account: &[u8]) -> [u8; 32] {
        match self {
            Self::V2 => sha256(&[local, remote, account]),
            Self::V1 | Self::Mixed => sha256(&[local, account]),
        }
    }

    /// What this side answers to that.
    pub(super) fn client_proof(self, local: &[u8; SEED], remote: &[u8; SEED], account: &[u8]) -> [u8; 32] {
        match self {
            Self::V2 => sha256(&[remote, local, account]),
            Self::V1 | Self::Mixed => sha256(&[remote, account]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::hex,
        testing::{counting, unhex},
    };

    fn user() -> Credentials {
        Credentials::new("user@example.com", "hunter2")
    }

    /// Made with python-kasa 0.12; those of `Mixed` by hand, from the two others.
    #[test]
    fn hashes_and_proofs_are_those_of_python_kasa() {
        let v2 = "b49b2da16ee8155335c944a908c08fb4d18ea952ca0f73b60c8f77d08642e781";
        for (scheme, hash, device, client) in [
            (
                Scheme::V2,
                v2,
                "f55f1932e0bebe2e755839cf79f0ac918e136ae7038f9effbe21bf1285b3a1c2",
                "94bdb61c3b7f1fbe093dfc783d8dd91f8fb9141d0f99ccad01f0831c1c3dbcbe",
            ),
            (
                Scheme::V1,
                "c365c2d8159d185d19139d3d3ef3d6db",
                "f38b5a8f75dc99643ed238d557b330563c40e6f4e9381e1ea7c808781e7721e9",
                "896a5d90b80b90f109801e2744a67c5da313fb7e1b124cf991dab8406fe4b960",
            ),
            (
                Scheme::Mixed,
                v2,
                "0fb07d8d03f01aabdd81d6d301966f13e2d0028325daf40727b4a788b1658849",
                "33b306b2185f23ae45cb48a4c689849d055a62a8e5a96125a2290c8e34cd064e",
            ),
        ] {
            let account = scheme.account_hash(&user());
            assert_eq!(hex(&account), hash, "{scheme:?}");
            let (local, remote) = (counting(0), counting(16));
            assert_eq!(
                hex(&scheme.device_proof(&local, &remote, &account)),
                device,
                "{scheme:?}"
            );
            assert_eq!(
                hex(&scheme.client_proof(&local, &remote, &account)),
                client,
                "{scheme:?}"
            );
        }
    }

    #[test]
    fn the_hashes_without_an_account_are_those_of_python_kasa() {
        let expected = [
            (
                "49fc4839a2733ffbf464337648f65dc411778d4c03ec82c5e4cccc682163fa64",
                "74b751bdd208bc155ae2a6d4167cc44d",
            ),
            (
                "7d5ae9ac18f5bb37843a4577867dd4348d8dff26c4b261ebff1b74d88adc063b",
                "a7317ea07dd83e3393fb702d9bf309a7",
            ),
            (
                "b8628ab91c74f531603f6d5b45e730e54c123a7247b8978272c03f1e13560cea",
                "5873dd45edd01f09c1ef2e7819369e8e",
            ),
        ];
        for ((account, credentials), (v2, v1)) in crate::Account::candidates(None).zip(expected) {
            assert_eq!(Scheme::V2.account_hash(&credentials), unhex(v2), "{account:?}");
            assert_eq!(Scheme::V1.account_hash(&credentials), unhex(v1), "{account:?}");
        }
    }
}
