//! The verifier of SPAKE2+ (RFC 9383) on P-256 with SHA-256, HKDF and HMAC: both sides prove that they
//! know the password without showing it.

use p256::{
    NonZeroScalar, ProjectivePoint, PublicKey, Scalar,
    elliptic_curve::{Generate as _, ff::FromUniformBytes as _, sec1::ToSec1Point as _},
};

use crate::crypto::{hkdf_sha256, hmac_sha256, pbkdf2_sha256, sha256};

/// The points M and N that section 4 of the RFC gives for P-256, compressed.
const M: [u8; 33] = *b"\x02\x88\x6e\x2f\x97\xac\xe4\x6e\x55\xba\x9d\xd7\x24\x25\x79\xf2\x99\
    \x3b\x64\xe1\x6e\xf3\xdc\xab\x95\xaf\xd4\x97\x33\x3d\x8f\xa1\x2f";
const N: [u8; 33] = *b"\x03\xd8\xbb\xd6\xc6\x39\xc6\x29\x37\xb0\x4d\x99\x7f\x38\xc3\x77\x07\
    \x19\xc6\x29\xd7\x01\x4d\x49\xa2\x4b\x4f\x98\xba\xa1\x29\x2b\x49";

/// Half of what PBKDF2 yields: 40 bytes are reduced to each scalar.
const HALF: usize = 40;

/// What a device keeps of the password. `Debug` shows nothing of it.
#[derive(Clone, Copy)]
pub(super) struct Registration {
    w0: Scalar,
    /// `w1` times the generator.
    l: ProjectivePoint,
}

/// One log-in under way.
pub(super) struct Verifier {
    registration: Registration,
    context: [u8; 32],
    y: Scalar,
    share: Vec<u8>,
}

/// What a client that proved itself shares with the device.
pub(super) struct Agreement {
    /// Proves the device to the client.
    pub(super) confirmation: [u8; 32],
    pub(super) shared_key: [u8; 32],
}

impl Registration {
    pub(super) fn new(credential: &str, salt: &[u8], iterations: u32) -> Self {
        let derived: [u8; 2 * HALF] = pbkdf2_sha256(credential.as_bytes(), salt, iterations);
        let (w0, w1) = derived.split_at(HALF);
        Self {
            w0: reduce(w0),
            l: ProjectivePoint::GENERATOR * reduce(w1),
        }
    }
}

impl Verifier {
    /// None only if a constant of this module were wrong.
    pub(super) fn new(registration: Registration, context: [u8; 32]) -> Option<Self> {
        let y = NonZeroScalar::generate_from_rng(&mut rand::rng());
        Self::with_secret(registration, context, *y)
    }

    fn with_secret(registration: Registration, context: [u8; 32], y: Scalar) -> Option<Self> {
        let share = ProjectivePoint::GENERATOR * y + point(&N)? * registration.w0;
        Some(Self {
            registration,
            context,
            y,
            share: encode(&share),
        })
    }

    pub(super) fn share(&self) -> &[u8] {
        &self.share
    }

    /// None if the client does not know the password.
    pub(super) fn agree(&self, client_share: &[u8], client_confirmation: &[u8]) -> Option<Agreement> {
        self.agree_as(&self.context, [b"", b""], client_share, client_confirmation)
    }

    fn agree_as(
        &self,
        context: &[u8],
        [client, device]: [&[u8]; 2],
        client_share: &[u8],
        client_confirmation: &[u8],
    ) -> Option<Agreement> {
        let w0 = self.registration.w0;
        let unmasked = point(client_share)? - point(&M)? * w0;
        let z = unmasked * self.y;
        let v = self.registration.l * self.y;
        if z == ProjectivePoint::IDENTITY || v == ProjectivePoint::IDENTITY {
            return None;
        }
        let key = sha256(&[&transcript(&[
            context,
            client,
            device,
            &encode(&point(&M)?),
            &encode(&point(&N)?),
            client_share,
            &self.share,
            &encode(&z),
            &encode(&v),
            &w0.to_bytes(),
        ])]);
        let confirmation_keys: [u8; 64] = hkdf_sha256(&key, &[], b"ConfirmationKeys")?;
        let (of_client, of_device) = confirmation_keys.split_at(32);
        if hmac_sha256(of_client, &self.share)? != client_confirmation {
            return None;
        }
        Some(Agreement {
            confirmation: hmac_sha256(of_device, client_share)?,
            shared_key: hkdf_sha256(&key, &[], b"SharedKey")?,
        })
    }
}

/// A big-endian number modulo the order of the group.
fn reduce(number: &[u8]) -> Scalar {
    let mut wide = [0; 64];
    for (to, from) in wide.iter_mut().rev().zip(number.iter().rev()) {
        *to = *from;
    }
    Scalar::from_uniform_bytes(&wide)
}

/// Each item behind its length in 8 little-endian bytes.
fn transcript(items: &[&[u8]]) -> Vec<u8> {
    let mut transcript = Vec::new();
    for item in items {
        transcript.extend((item.len() as u64).to_le_bytes());
        transcript.extend(*item);
    }
    transcript
}

fn point(encoded: &[u8]) -> Option<ProjectivePoint> {
    let key = PublicKey::from_sec1_bytes(encoded).ok()?;
    Some(key.to_projective())
}

fn encode(point: &ProjectivePoint) -> Vec<u8> {
    point.to_sec1_point(false).as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        base16ct::lower::decode_vec(text).unwrap()
    }

    /// Appendix C of RFC 9383, first vector.
    fn vector() -> Verifier {
        let l = hex(
            "04eb7c9db3d9a9eb1f8adab81b5794c1f13ae3e225efbe91ea487425854c7fc00f\
                     00bfedcbd09b2400142d40a14f2064ef31dfaa903b91d1faea7093d835966efd",
        );
        let registration = Registration {
            w0: reduce(&hex(
                "bb8e1bbcf3c48f62c08db243652ae55d3e5586053fca77102994f23ad95491b3",
            )),
            l: point(&l).unwrap(),
        };
        let y = reduce(&hex(
            "717a72348a182085109c8d3917d6c43d59b224dc6a7fc4f0483232fa6516d8b3",
        ));
        Verifier::with_secret(registration, [0; 32], y).unwrap()
    }

    const CLIENT_SHARE: &str = "04ef3bd051bf78a2234ec0df197f7828060fe9856503579bb1733009042c15c0c1\
                                de127727f418b5966afadfdd95a6e4591d171056b333dab97a79c7193e341727";
    const CLIENT_CONFIRMATION: &str = "926cc713504b9b4d76c9162ded04b5493e89109f6d89462cd33adc46fda27527";
    const CONTEXT: &[u8] = b"SPAKE2+-P256-SHA256-HKDF-SHA256-HMAC-SHA256 Test Vectors";

    fn agree(share: &[u8], confirmation: &[u8]) -> Option<Agreement> {
        vector().agree_as(CONTEXT, [b"client", b"server"], share, confirmation)
    }

    #[test]
    fn the_vector_of_the_rfc_holds() {
        let share = hex(
            "04c0f65da0d11927bdf5d560c69e1d7d939a05b0e88291887d679fcadea75810fb\
                         5cc1ca7494db39e82ff2f50665255d76173e09986ab46742c798a9a68437b048",
        );
        assert_eq!(vector().share(), share);
        let agreement = agree(&hex(CLIENT_SHARE), &hex(CLIENT_CONFIRMATION)).unwrap();
        let confirmation = hex("9747bcc4f8fe9f63defee53ac9b07876d907d55047e6ff2def2e7529089d3e68");
        assert_eq!(agreement.confirmation[..], confirmation);
        let shared_key = hex("0c5f8ccd1413423a54f6c1fb26ff01534a87f893779c6e68666d772bfd91f3e7");
        assert_eq!(agreement.shared_key[..], shared_key);
    }

    #[test]
    fn a_wrong_proof_or_a_share_that_is_no_point_is_refused() {
        assert!(agree(&hex(CLIENT_SHARE), &[0; 32]).is_none());
        assert!(agree(&[4; 65], &hex(CLIENT_CONFIRMATION)).is_none());
        assert!(agree(&[], &[]).is_none());
        // `w0 * M` would leave the identity once the password is taken out.
        let cancelling = encode(&(point(&M).unwrap() * vector().registration.w0));
        assert!(agree(&cancelling, &hex(CLIENT_CONFIRMATION)).is_none());
    }
}
