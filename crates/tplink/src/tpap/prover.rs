//! The prover of SPAKE2+ (RFC 9383) on P-256 with SHA-256, HKDF and HMAC: both sides prove that they know the password
//! without showing it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use p256::{
    NonZeroScalar, ProjectivePoint, PublicKey, Scalar,
    elliptic_curve::{Generate as _, ff::FromUniformBytes as _, sec1::ToSec1Point as _},
};
use sha2::Sha256;

use crate::hash::sha256;

/// The points M and N of section 4 of the RFC for P-256, compressed.
const M: [u8; 33] = [
    0x02, 0x88, 0x6e, 0x2f, 0x97, 0xac, 0xe4, 0x6e, 0x55, 0xba, 0x9d, 0xd7, 0x24, 0x25, 0x79, 0xf2, 0x99,
    0x3b, 0x64, 0xe1, 0x6e, 0xf3, 0xdc, 0xab, 0x95, 0xaf, 0xd4, 0x97, 0x33, 0x3d, 0x8f, 0xa1, 0x2f,
];
const N: [u8; 33] = [
    0x03, 0xd8, 0xbb, 0xd6, 0xc6, 0x39, 0xc6, 0x29, 0x37, 0xb0, 0x4d, 0x99, 0x7f, 0x38, 0xc3, 0x77, 0x07,
    0x19, 0xc6, 0x29, 0xd7, 0x01, 0x4d, 0x49, 0xa2, 0x4b, 0x4f, 0x98, 0xba, 0xa1, 0x29, 0x2b, 0x49,
];

/// PBKDF2 gives this many bytes for each of the two secrets: 8 more than the order of the group has.
const WIDE: usize = 40;

/// The two secrets that are made of the password.
pub(super) struct Secrets {
    w0: Scalar,
    w1: Scalar,
}

/// What a finished exchange gives.
pub(super) struct Proof {
    /// The share of this side, an uncompressed point.
    pub(super) share: Vec<u8>,
    /// Proves this side to the device.
    pub(super) confirmation: [u8; 32],
    pub(super) shared_key: [u8; 32],
    device_key: [u8; 32],
}

impl Secrets {
    /// PBKDF2: milliseconds for each thousand iterations.
    pub(super) fn derive(credential: &[u8], salt: &[u8], iterations: u32) -> Self {
        let derived = pbkdf2::pbkdf2_hmac_array::<Sha256, { 2 * WIDE }>(credential, salt, iterations);
        let (w0, w1) = derived.split_at(WIDE);
        Self {
            w0: reduce(w0),
            w1: reduce(w1),
        }
    }

    /// Answers the share of the device. None if it is no point, or one chosen to cancel the secrets out.
    pub(super) fn prove(&self, context: &[u8], device_share: &[u8]) -> Option<Proof> {
        let secret = NonZeroScalar::generate_from_rng(&mut rand::rng());
        self.prove_with(*secret, context, [b"", b""], device_share)
    }

    fn prove_with(
        &self,
        secret: Scalar,
        context: &[u8],
        names: [&[u8]; 2],
        device_share: &[u8],
    ) -> Option<Proof> {
        let (m, n) = (point(&M)?, point(&N)?);
        let share = encode(&(ProjectivePoint::GENERATOR * secret + m * self.w0));
        let unmasked = point(device_share)? - n * self.w0;
        let shared = [unmasked * secret, unmasked * self.w1];
        if shared.contains(&ProjectivePoint::IDENTITY) {
            return None;
        }
        let ([client, device], [shared_z, shared_v]) = (names, shared);
        let key = sha256(&[&transcript(&[
            context,
            client,
            device,
            &encode(&m),
            &encode(&n),
            &share,
            device_share,
            &encode(&shared_z),
            &encode(&shared_v),
            &self.w0.to_bytes(),
        ])]);
        let confirmation_keys: [u8; 64] = hkdf_sha256(&key, &[], b"ConfirmationKeys")?;
        let (own_key, device_key) = confirmation_keys.split_first_chunk()?;
        let own_key: &[u8; 32] = own_key;
        Some(Proof {
            confirmation: hmac_sha256(own_key, device_share)?.finalize().into_bytes().into(),
            shared_key: hkdf_sha256(&key, &[], b"SharedKey")?,
            device_key: device_key.try_into().ok()?,
            share,
        })
    }
}

impl Proof {
    /// Whether the device proves that it knows the password too.
    pub(super) fn verify(&self, device_confirmation: &[u8]) -> bool {
        hmac_sha256(&self.device_key, &self.share)
            .is_some_and(|mac| mac.verify_slice(device_confirmation).is_ok())
    }
}

/// HKDF-SHA256 (RFC 5869) to `N` bytes; none above 8160.
pub(super) fn hkdf_sha256<const N: usize>(secret: &[u8], salt: &[u8], info: &[u8]) -> Option<[u8; N]> {
    let mut output = [0; N];
    let derivation = hkdf::Hkdf::<Sha256>::new(Some(salt), secret);
    derivation.expand(info, &mut output).is_ok().then_some(output)
}

/// None for a key that HMAC does not take, which does not exist.
fn hmac_sha256(key: &[u8; 32], data: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(data);
    Some(mac)
}

/// A big-endian number of at most 64 bytes, modulo the order of the group.
fn reduce(number: &[u8]) -> Scalar {
    let mut wide = [0; 64];
    wide.iter_mut()
        .rev()
        .zip(number.iter().rev())
        .for_each(|(to, from)| *to = *from);
    Scalar::from_uniform_bytes(&wide)
}

/// Each item after its length in 8 little-endian bytes.
fn transcript(items: &[&[u8]]) -> Vec<u8> {
    let item = |item: &&[u8]| [&(item.len() as u64).to_le_bytes()[..], item].concat();
    items.iter().flat_map(item).collect()
}

fn point(encoded: &[u8]) -> Option<ProjectivePoint> {
    PublicKey::from_sec1_bytes(encoded)
        .ok()
        .map(|key| key.to_projective())
}

fn encode(point: &ProjectivePoint) -> Vec<u8> {
    point.to_sec1_point(false).as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hash::{hex, sha1},
        testing::{counting, unhex},
    };

    fn secrets() -> Secrets {
        let credential = hex(&sha1(b"hunter2"));
        assert_eq!(credential, "f3bbbd66a63d4bf1747940578ec3d0103530e21d");
        Secrets::derive(credential.as_bytes(), b"0123456789abcdef", 3000)
    }

    const DEVICE_SHARE: &str = "04ab100b02a18ab3b5d8464869be394f98163f8ed432e5f84f8f6c91426aa8364e\
                                7644b40a423f0ae2ad0f454a3a271a80ceed11b4c84f02f72f9672f49d677d14";

    /// Made with a client in Python whose core passes the vector of the RFC.
    #[test]
    fn a_login_is_that_of_another_client() {
        let secrets = secrets();
        let w0 = "f01588c03f935783a7c530a83ab1ade1a3261b13005521b6946dc5c7ad259f2c";
        let w1 = "de9bd4a17ba3b23e2a26fbf5ae94010c68f5e0e34388fe6ec227fcb45bd0b42e";
        assert_eq!(
            (hex(&secrets.w0.to_bytes()), hex(&secrets.w1.to_bytes())),
            (w0.to_owned(), w1.to_owned())
        );
        let context = sha256(&[b"PAKE V1", &counting::<32>(0), &counting::<32>(32)]);
        assert_eq!(
            hex(&context),
            "5b2a9a4124d0c3da88f8de08252b62cbfbb514891b888aa3d90d68f34a8594a2"
        );
        let x = reduce(&[0x11; 32]);
        let proof = secrets
            .prove_with(x, &context, [b"", b""], &unhex(DEVICE_SHARE))
            .unwrap();
        let share = "04d2921b04757c8b8488ce88e26af3f4edf8a3b3de909ee525be8b8d96e8b907ac\
                     104817edd7d8fcb9e3cd45ddc4ef703f6de761a1fda1c82d9a58fe4726c2661b";
        assert_eq!(hex(&proof.share), share);
        let confirmation = "81ce1159b816f4464865244dc30c46b4470f2780dafb8c6db29c7ae58ba44903";
        assert_eq!(hex(&proof.confirmation), confirmation);
        let shared_key = "67f5a8c516705185d89fbb57c09baf0f7b4e4a70f7f5b38ba79047fba4c4b513";
        assert_eq!(hex(&proof.shared_key), shared_key);
        let of_device = unhex("a8b22b93ac808d18a234898bfe0a5d76e2022818dce5c40289f9401ecbed0097");
        assert!(proof.verify(&of_device));
        assert!(!proof.verify(&of_device[..31]) && !proof.verify(&[0; 32]) && !proof.verify(&[]));
    }

    /// Appendix C of RFC 9383, first vector.
    #[test]
    fn the_vector_of_the_rfc_holds() {
        let scalar = |text: &str| reduce(&unhex(text));
        let secrets = Secrets {
            w0: scalar("bb8e1bbcf3c48f62c08db243652ae55d3e5586053fca77102994f23ad95491b3"),
            w1: scalar("7e945f34d78785b8a3ef44d0df5a1a97d6b3b460409a345ca7830387a74b1dba"),
        };
        let x = scalar("d1232c8e8693d02368976c174e2088851b8365d0d79a9eee709c6a05a2fad539");
        let device_share = unhex(
            "04c0f65da0d11927bdf5d560c69e1d7d939a05b0e88291887d679fcadea75810fb\
             5cc1ca7494db39e82ff2f50665255d76173e09986ab46742c798a9a68437b048",
        );
        let context = b"SPAKE2+-P256-SHA256-HKDF-SHA256-HMAC-SHA256 Test Vectors";
        let proof = secrets
            .prove_with(x, context, [b"client", b"server"], &device_share)
            .unwrap();
        let share = "04ef3bd051bf78a2234ec0df197f7828060fe9856503579bb1733009042c15c0c1\
                     de127727f418b5966afadfdd95a6e4591d171056b333dab97a79c7193e341727";
        assert_eq!(hex(&proof.share), share);
        let confirmation = "926cc713504b9b4d76c9162ded04b5493e89109f6d89462cd33adc46fda27527";
        assert_eq!(hex(&proof.confirmation), confirmation);
        assert!(proof.verify(&unhex(
            "9747bcc4f8fe9f63defee53ac9b07876d907d55047e6ff2def2e7529089d3e68"
        )));
    }

    #[test]
    fn a_share_that_is_no_point_or_cancels_out_is_refused() {
        let secrets = secrets();
        // `w0 * N` would leave the identity once the password is taken out.
        let cancelling = encode(&(point(&N).unwrap() * secrets.w0));
        for share in [&[][..], &[0], &[4; 65], &cancelling, &unhex(DEVICE_SHARE)[..64]] {
            assert!(secrets.prove(&[0; 32], share).is_none(), "{}", hex(share));
        }
    }
}
