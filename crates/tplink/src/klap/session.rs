//! A session over KLAP.

use std::fmt;

use rand::RngExt as _;
use serde_json::Value;
use tokio::time::Instant;
use tracing::debug;

use super::{Scheme, cipher::KlapCipher, offer::Offer, scheme::SEED};
use crate::{
    Account, Credentials, Error,
    http::{Cookie, HttpLink, HttpReply, NOT_HTTP},
    lifetime::expiry,
};

/// What a login leaves. `Debug` shows no secret.
pub(crate) struct KlapSession {
    cookie: Option<Cookie>,
    cipher: KlapCipher,
    expires: Instant,
}

const OCTETS: &str = "application/octet-stream";

impl KlapSession {
    /// Two requests. A device that does not know the account is found out after the first, which tells it nothing.
    pub(crate) async fn login(
        http: &mut HttpLink,
        user: Option<&Credentials>,
    ) -> Result<(Self, Account, Scheme), Error> {
        let local_seed: [u8; SEED] = rand::rng().random();
        let headers = [("Content-Type", OCTETS)];
        let reply = http.post("/app/handshake1", &headers, &local_seed).await;
        let reply = reply.map_err(|error| match error {
            // A device without HTTP, or with another path for this.
            Error::Unreadable(_) => Error::OtherProtocol,
            error => error,
        })?;
        let offer = read_offer(&reply)?;
        let recognized = offer.recognize(&local_seed, user).ok_or(match user {
            Some(_) => Error::WrongCredentials,
            None => Error::NoCredentials,
        })?;
        let scheme = recognized.scheme;
        let proof = scheme.client_proof(&local_seed, &offer.remote_seed, &recognized.account_hash);
        let cookie = reply.cookie;
        let id = cookie.as_ref().map(Cookie::header);
        let reply = http
            .post("/app/handshake2", &headers_with(id.as_deref()), &proof)
            .await?;
        read_confirmation(&reply)?;
        let session = Self {
            cipher: KlapCipher::new(&local_seed, &offer.remote_seed, &recognized.account_hash),
            expires: expiry(cookie.as_ref().map(Cookie::lifetime)),
            cookie,
        };
        Ok((session, recognized.account, scheme))
    }

    /// One request and its answer, as JSON.
    pub(crate) async fn exchange(&mut self, http: &mut HttpLink, request: &[u8]) -> Result<Value, Error> {
        if Instant::now() >= self.expires {
            return Err(Error::SessionLost);
        }
        let (sequence, body) = self.cipher.seal(request);
        let cookie = self.cookie.as_ref().map(Cookie::header);
        let target = format!("/app/request?seq={sequence}");
        let reply = http.post(&target, &headers_with(cookie.as_deref()), &body).await;
        let reply = reply.map_err(|error| match error {
            // What an HS110 sends on a session that it has ended (python-kasa, pull request 1715).
            NOT_HTTP => Error::SessionLost,
            error => error,
        })?;
        self.read(sequence, &reply)
    }

    fn read(&self, sequence: i32, reply: &HttpReply) -> Result<Value, Error> {
        reply.check_load()?;
        // 403: the session is unknown or over, or the number or the signature is wrong. Other statuses are those of a
        // device that has changed its protocol.
        if reply.status != 200 {
            return Err(Error::SessionLost);
        }
        // An answer for another session cannot be distinguished from a damaged one; by chance its padding may fit.
        let opened = self
            .cipher
            .open(sequence, &reply.body)
            .ok_or(Error::SessionLost)?;
        if !opened.is_signed {
            debug!("the signature of an answer differs from that of requests");
        }
        serde_json::from_slice(&opened.text).map_err(|_| {
            if opened.is_signed {
                Error::Unreadable("it is not JSON")
            } else {
                Error::SessionLost
            }
        })
    }
}

fn headers_with(cookie: Option<&str>) -> Vec<(&'static str, &str)> {
    // An empty cookie is answered with an HTML page by some plugs, so there is none.
    let cookie = cookie.map(|cookie| ("Cookie", cookie));
    [("Content-Type", OCTETS)].into_iter().chain(cookie).collect()
}

fn read_offer(reply: &HttpReply) -> Result<Offer, Error> {
    reply.check_load()?;
    match reply.status {
        200 => Offer::parse(&reply.body).ok_or(Error::OtherProtocol),
        401 | 403 => Err(Error::Forbidden),
        _ => Err(Error::OtherProtocol),
    }
}

/// The device has proved that it knows the account, so a refusal means that it has forgotten its offer: another client
/// took the place.
fn read_confirmation(reply: &HttpReply) -> Result<(), Error> {
    reply.check_load()?;
    if reply.status == 200 {
        Ok(())
    } else {
        Err(Error::SessionLost)
    }
}

impl fmt::Debug for KlapSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KlapSession").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::{
        Scheme,
        testing::{counting, damage, fuzz_count, reply},
    };

    fn session() -> KlapSession {
        let cipher = KlapCipher::new(&counting(0), &counting(16), &[7; 32]);
        KlapSession {
            cookie: None,
            cipher,
            expires: expiry(None),
        }
    }

    #[test]
    fn the_status_of_each_step_has_its_meaning() {
        let offer = |status| read_offer(&reply(status, [0; 48])).err();
        assert_eq!(offer(200), None);
        assert_eq!(offer(403), Some(Error::Forbidden));
        assert_eq!(offer(404), Some(Error::OtherProtocol));
        assert_eq!(offer(503), Some(Error::Overloaded(503)));
        let html = read_offer(&reply(200, b"<html></html>")).err();
        assert_eq!(html, Some(Error::OtherProtocol));
        let confirmation = |status| read_confirmation(&reply(status, b""));
        assert_eq!(confirmation(200), Ok(()));
        assert_eq!(confirmation(403), Err(Error::SessionLost));
        assert_eq!(confirmation(429), Err(Error::Overloaded(429)));
        for (status, expected) in [
            (400, Error::SessionLost),
            (403, Error::SessionLost),
            (500, Error::Overloaded(500)),
            (200, Error::SessionLost),
        ] {
            assert_eq!(
                session().read(1, &reply(status, b"short")),
                Err(expected),
                "{status}"
            );
        }
        let mut session = session();
        let (sequence, sealed) = session.cipher.seal(b"<html>");
        assert_eq!(
            session.read(sequence, &reply(200, &sealed)),
            Err(Error::Unreadable("it is not JSON"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_session_sends_nothing() {
        // Nothing listens there: a request would be refused.
        let mut http = HttpLink::new("127.0.0.1", 1, crate::Limits::default());
        let mut session = session();
        tokio::time::advance(std::time::Duration::from_hours(24)).await;
        assert_eq!(session.exchange(&mut http, b"{}").await, Err(Error::SessionLost));
    }

    #[test]
    fn damaged_replies_are_no_harm() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut session = session();
        let (sequence, sealed) = session
            .cipher
            .seal(br#"{"error_code":0,"result":{"device_on":true}}"#);
        let local = counting(0);
        let proof = Scheme::V2.device_proof(&local, &counting(16), &[7; 32]);
        let offer = [&counting::<16>(16)[..], &proof].concat();
        for _ in 0..fuzz_count() {
            let (mut body, mut damaged_offer) = (sealed.clone(), offer.clone());
            damage(&mut body, &mut rng);
            damage(&mut damaged_offer, &mut rng);
            let _ = session.read(sequence, &reply(rng.random_range(100..600), &body));
            let _ = session.read(sequence, &reply(200, &body));
            if let Ok(offer) = read_offer(&reply(200, &damaged_offer)) {
                assert!(offer.recognize(&local, None).is_none());
            }
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", session()), "KlapSession { .. }");
    }
}
