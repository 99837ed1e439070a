//! The answer to the first handshake, and what it proves.

use super::{Scheme, scheme::SEED};
use crate::{Account, Credentials};

/// The seed of the device, and its proof that it knows the account.
pub(super) struct Offer {
    pub(super) remote_seed: [u8; SEED],
    proof: [u8; 32],
}

/// The account and the scheme that an offer fits.
pub(super) struct Recognized {
    pub(super) account: Account,
    pub(super) scheme: Scheme,
    pub(super) account_hash: Vec<u8>,
}

impl Offer {
    /// Reads 16 bytes of seed and 32 of proof.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (remote_seed, proof) = body.split_first_chunk()?;
        Some(Self {
            remote_seed: *remote_seed,
            proof: proof.try_into().ok()?,
        })
    }

    /// Compares the proof with those of all accounts and schemes. Nothing is sent for it, so a wrong password is found
    /// before the device counts it.
    pub(super) fn recognize(
        &self,
        local_seed: &[u8; SEED],
        user: Option<&Credentials>,
    ) -> Option<Recognized> {
        Account::candidates(user).find_map(|(account, credentials)| {
            Scheme::ALL.into_iter().find_map(|scheme| {
                let account_hash = scheme.account_hash(&credentials);
                let proof = scheme.device_proof(local_seed, &self.remote_seed, &account_hash);
                (proof == self.proof).then_some(Recognized {
                    account,
                    scheme,
                    account_hash,
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::counting;

    #[test]
    fn the_account_and_the_scheme_are_recognized() {
        let user = Credentials::new("user@example.com", "hunter2");
        let local = counting(0);
        for (account, credentials) in Account::candidates(Some(&user)) {
            for scheme in Scheme::ALL {
                let remote = counting::<16>(16);
                let proof = scheme.device_proof(&local, &remote, &scheme.account_hash(&credentials));
                let offer = Offer::parse(&[&remote[..], &proof].concat()).unwrap();
                let recognized = offer.recognize(&local, Some(&user)).unwrap();
                assert_eq!((recognized.account, recognized.scheme), (account, scheme));
                let without = offer.recognize(&local, None).map(|recognized| recognized.account);
                assert_eq!(without, Some(account).filter(|account| *account != Account::User));
                // Another seed of ours: the proof is not a replayed one.
                assert!(offer.recognize(&counting(1), Some(&user)).is_none());
            }
        }
    }

    #[test]
    fn an_offer_has_48_bytes() {
        for length in [0, 15, 16, 47, 49, 1000] {
            assert!(Offer::parse(&vec![7; length]).is_none(), "{length}");
        }
    }
}
