//! One device.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    Account, Credentials, Endpoint, Error, Limits, Login, Transport,
    aes::{AesSession, PasswordForm},
    http::HttpLink,
    iot,
    klap::KlapSession,
    session_use::SessionUse,
    smart,
    tpap::{Announcement, TpapSession},
    xor::XorLink,
};

/// The connection to one device and the session on it. Nothing is sent before a call asks for it.
///
/// A call that is dropped before it ends leaves a client that can be used: it has lost its connection, and perhaps its
/// session, which the next call finds out.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    credentials: Option<Credentials>,
    http: HttpLink,
    xor: XorLink,
    session: Option<Session>,
    session_use: SessionUse,
    /// The form in which the device takes the password over AES; it changes at each refusal until it is known.
    password_form: PasswordForm,
    is_form_known: bool,
    /// After a refusal that the device counts.
    no_login_before: Option<Instant>,
}

#[derive(Debug)]
enum Session {
    Klap(KlapSession),
    Tpap(Box<TpapSession>),
    Aes(AesSession),
    Xor,
}

/// How long the password is not tried again with a device that counts refusals. A few in a row lock it.
const COUNTED_PAUSE: Duration = Duration::from_mins(30);

impl Client {
    /// A client that has not connected. Without credentials only devices without an account, and those that speak XOR,
    /// can be reached.
    pub fn new(endpoint: Endpoint, credentials: Option<Credentials>, limits: Limits) -> Self {
        Self {
            http: HttpLink::new(endpoint.host(), endpoint.http_port(), limits),
            xor: XorLink::new(endpoint.host(), endpoint.xor_port(), limits),
            endpoint,
            credentials,
            session: None,
            session_use: SessionUse::default(),
            password_form: PasswordForm::Hashed,
            is_form_known: false,
            no_login_before: None,
        }
    }

    /// Where the device is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Changes how long the device gets, from the next request on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.http.set_limits(limits);
        self.xor.set_limits(limits);
    }

    /// Takes what discovery announces as `lv`: absent, or 2. Without it a right password may be refused once over AES, and
    /// is then sent in the other form at the next login: no login is more than one attempt.
    pub fn set_login_version(&mut self, lv: Option<u64>) {
        self.password_form = PasswordForm::of_version(lv);
        self.is_form_known = true;
    }

    /// What the session speaks; none without a session.
    pub fn transport(&self) -> Option<Transport> {
        self.session.as_ref().map(|session| match session {
            Session::Klap(_) => Transport::Klap,
            Session::Tpap(_) => Transport::Tpap,
            Session::Aes(_) => Transport::Aes,
            Session::Xor => Transport::Xor,
        })
    }

    /// Starts a session, in place of one there is. Without a transport the device is asked what it speaks: one request
    /// more for TPAP and KLAP, up to four more for others.
    ///
    /// # Errors
    /// [`Error::OtherProtocol`] if the device speaks none of those asked for. After [`Error::CountedCredentials`] and
    /// [`Error::Locked`] no login over TPAP, and none without a transport, is sent for half an hour or an hour.
    pub async fn login(&mut self, transport: Option<Transport>) -> Result<Login, Error> {
        (self.session, self.session_use) = (None, SessionUse::default());
        if matches!(transport, None | Some(Transport::Tpap)) {
            self.check_lock()?;
        }
        self.http.set_port(self.endpoint.http_port());
        let login = match transport {
            Some(transport) => self.login_over(transport).await,
            None => self.login_over_any().await,
        };
        self.note_lock(login.as_ref().err());
        login
    }

    async fn login_over_any(&mut self) -> Result<Login, Error> {
        let announcement = match self.announcement().await {
            // Old devices serve no HTTP at all.
            Err(Error::Refused) => return self.login_over_xor().await.map_err(|_| Error::Refused),
            announcement => announcement?,
        };
        if let Announcement::Tpap { port } = announcement {
            return self.login_over_tpap(port).await;
        }
        for transport in [Transport::Klap, Transport::Aes] {
            match self.login_over(transport).await {
                Err(Error::OtherProtocol) => {}
                login => return login,
            }
        }
        self.login_over_xor().await.map_err(|_| Error::OtherProtocol)
    }

    async fn login_over(&mut self, transport: Transport) -> Result<Login, Error> {
        match transport {
            Transport::Klap => self.login_over_klap().await,
            Transport::Tpap => match self.announcement().await? {
                Announcement::Tpap { port } => self.login_over_tpap(port).await,
                Announcement::Other => Err(Error::OtherProtocol),
            },
            Transport::Aes => self.login_over_aes().await,
            Transport::Xor => self.login_over_xor().await,
        }
    }

    async fn announcement(&mut self) -> Result<Announcement, Error> {
        let body = Announcement::request().to_string().into_bytes();
        let json = [("Content-Type", "application/json")];
        match self.http.post("/", &json, &body).await {
            // Firmware without this path may do anything but answer.
            Err(Error::Closed | Error::Unreadable(_)) => Ok(Announcement::Other),
            reply => Announcement::read(&reply?),
        }
    }

    async fn login_over_klap(&mut self) -> Result<Login, Error> {
        let (session, account, scheme) =
            KlapSession::login(&mut self.http, self.credentials.as_ref()).await?;
        self.session = Some(Session::Klap(session));
        self.session_use = SessionUse::of(scheme);
        Ok(Login {
            transport: Transport::Klap,
            account: Some(account),
            scheme: Some(scheme),
        })
    }

    async fn login_over_tpap(&mut self, announced: Option<u16>) -> Result<Login, Error> {
        // A port that was configured may lead through a forwarding that the device knows nothing of.
        if let (80, Some(announced)) = (self.endpoint.http_port(), announced) {
            self.http.set_port(announced);
        }
        let session = TpapSession::login(&mut self.http, self.credentials.as_ref()).await?;
        self.session = Some(Session::Tpap(Box::new(session)));
        Ok(Login {
            transport: Transport::Tpap,
            account: Some(Account::User),
            scheme: None,
        })
    }

    async fn login_over_aes(&mut self) -> Result<Login, Error> {
        let login = AesSession::login(&mut self.http, self.credentials.as_ref(), self.password_form).await;
        if let (Err(Error::WrongCredentials), false) = (&login, self.is_form_known) {
            self.password_form = self.password_form.other();
        }
        let (session, account) = login?;
        self.is_form_known = true;
        self.session = Some(Session::Aes(session));
        Ok(Login {
            transport: Transport::Aes,
            account: Some(account),
            scheme: None,
        })
    }

    /// There is no login, so the smallest request shows that an old Kasa device is there.
    async fn login_over_xor(&mut self) -> Result<Login, Error> {
        let request = iot::request("system", "get_sysinfo", &Value::Null, None);
        let answer = self.xor.exchange(request.to_string().as_bytes()).await;
        let answer = answer.and_then(|answer| iot::result(answer, "system", "get_sysinfo"));
        answer.map_err(|error| match error {
            Error::Unreadable(_) => Error::OtherProtocol,
            error => error,
        })?;
        self.session = Some(Session::Xor);
        Ok(Login {
            transport: Transport::Xor,
            account: None,
            scheme: None,
        })
    }

    /// A new session in the place of one that the device ended with its first request.
    async fn renew(&mut self) -> Result<(), Error> {
        let (session, ..) = KlapSession::login(&mut self.http, self.credentials.as_ref()).await?;
        self.session = Some(Session::Klap(session));
        self.session_use.on_renewed();
        Ok(())
    }

    /// Ends the session and closes the connection. The device is not informed: it has no request for that.
    pub fn close(&mut self) {
        (self.session, self.session_use) = (None, SessionUse::default());
        self.http.close();
        self.xor.close();
    }

    /// Sends any JSON and returns the whole answer. [`Error::SessionLost`] ends the session. A device that ends each session
    /// with its first request gets a new one for each.
    ///
    /// # Errors
    /// Those of the transport. Error codes in the answer are not looked at.
    pub async fn exchange(&mut self, request: &Value) -> Result<Value, Error> {
        let request = request.to_string().into_bytes();
        if self.session_use.is_over() {
            Box::pin(self.renew()).await?;
        }
        let mut answer = self.exchange_in_session(&request).await;
        if answer == Err(Error::SessionLost) && self.session_use.on_lost(Instant::now()) {
            Box::pin(self.renew()).await?;
            answer = Box::pin(self.exchange_in_session(&request)).await;
        }
        if answer.is_ok() {
            self.session_use.on_answer(Instant::now());
        }
        self.note_lost(answer)
    }

    async fn exchange_in_session(&mut self, request: &[u8]) -> Result<Value, Error> {
        match &mut self.session {
            Some(Session::Klap(session)) => session.exchange(&mut self.http, request).await,
            Some(Session::Tpap(session)) => session.exchange(&mut self.http, request).await,
            Some(Session::Aes(session)) => session.exchange(&mut self.http, request).await,
            Some(Session::Xor) => self.xor.exchange(request).await,
            None => Err(Error::SessionLost),
        }
    }

    /// A SMART request; `Null` where it has no result.
    ///
    /// # Errors
    /// Those of the transport, and the error code of the device.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Error> {
        let answer = self.exchange(&smart::request(method, &params)).await?;
        self.note_lost(smart::result(answer))
    }

    /// A SMART request to a child of a strip or hub.
    ///
    /// # Errors
    /// Those of the transport, and the error code of the device or of the child.
    pub async fn call_child(&mut self, child_id: &str, method: &str, params: Value) -> Result<Value, Error> {
        let request = smart::for_child(child_id, &smart::request(method, &params));
        let answer = self.exchange(&request).await?;
        self.note_lost(smart::result(answer).and_then(smart::child_result))
    }

    /// Up to [`BATCH`](crate::BATCH) SMART requests in one, in order. The device stops at the first that fails: there
    /// are then fewer results than requests, and those without one were not carried out.
    ///
    /// # Errors
    /// Those of the transport, and the error code of the batch as a whole.
    pub async fn batch(&mut self, requests: &[(&str, Value)]) -> Result<Vec<Result<Value, Error>>, Error> {
        let answer = self.exchange(&smart::batch(requests)).await?;
        let results = smart::result(answer).and_then(|result| smart::batch_results(result, requests));
        self.note_lost(results)
    }

    /// The same for a child of a strip or hub.
    ///
    /// # Errors
    /// Those of the transport, and the error code of the device, the child or the batch as a whole.
    pub async fn batch_child(
        &mut self,
        child_id: &str,
        requests: &[(&str, Value)],
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let answer = self
            .exchange(&smart::for_child(child_id, &smart::batch(requests)))
            .await?;
        let results = smart::result(answer)
            .and_then(smart::child_result)
            .and_then(|result| smart::batch_results(result, requests));
        self.note_lost(results)
    }

    /// An IOT request, to the device or to one child of a strip.
    ///
    /// # Errors
    /// Those of the transport, and the error code of the device.
    pub async fn call_iot(
        &mut self,
        module: &str,
        method: &str,
        params: Value,
        child_id: Option<&str>,
    ) -> Result<Value, Error> {
        let answer = self
            .exchange(&iot::request(module, method, &params, child_id))
            .await?;
        iot::result(answer, module, method)
    }

    fn check_lock(&mut self) -> Result<(), Error> {
        let left = self
            .no_login_before
            .map(|end| end.saturating_duration_since(Instant::now()));
        match left {
            Some(left) if !left.is_zero() => Err(Error::Locked { left }),
            _ => {
                self.no_login_before = None;
                Ok(())
            }
        }
    }

    fn note_lock(&mut self, error: Option<&Error>) {
        let pause = match error {
            Some(Error::CountedCredentials) => COUNTED_PAUSE,
            Some(Error::Locked { left }) => *left,
            _ => return,
        };
        self.no_login_before = Some(Instant::now() + pause);
    }

    fn note_lost<T>(&mut self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::SessionLost | Error::Locked { .. }) = answer {
            self.session = None;
        }
        self.note_lock(answer.as_ref().err());
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_session_nothing_is_sent() {
        // Nothing listens there: a request would be refused.
        let endpoint = Endpoint::new("127.0.0.1").with_http_port(1).with_xor_port(1);
        let mut client = Client::new(endpoint, None, Limits::default());
        assert_eq!(
            client.call("get_device_info", Value::Null).await,
            Err(Error::SessionLost)
        );
        assert_eq!(client.login(None).await, Err(Error::Refused));
        assert_eq!(client.transport(), None);
    }

    /// A task that may run on any thread has to hold the client and await its calls.
    #[test]
    fn calls_can_be_awaited_on_any_thread() {
        fn sent<T: Send>(value: T) -> T {
            value
        }
        let mut client = sent(Client::new(Endpoint::new("192.0.2.7"), None, Limits::default()));
        drop(sent(client.login(None)));
        drop(sent(client.batch(&[("get_device_info", Value::Null)])));
        drop(sent(client.call_iot("system", "get_sysinfo", Value::Null, None)));
    }

    #[test]
    fn debug_shows_no_secret() {
        let user = Credentials::new("user@example.com", "hunter2");
        let client = Client::new(Endpoint::new("192.0.2.7"), Some(user), Limits::default());
        let shown = format!("{client:?}");
        assert!(
            shown.contains("192.0.2.7") && !shown.contains("user@") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_counted_refusal_is_not_repeated() {
        let endpoint = Endpoint::new("127.0.0.1").with_http_port(1).with_xor_port(1);
        let mut client = Client::new(endpoint, None, Limits::default());
        client.note_lock(Some(&Error::CountedCredentials));
        for transport in [None, Some(Transport::Tpap)] {
            assert_eq!(
                client.login(transport).await,
                Err(Error::Locked { left: COUNTED_PAUSE })
            );
        }
        // KLAP has another login, which counts nothing.
        assert_eq!(client.login(Some(Transport::Klap)).await, Err(Error::Refused));
        tokio::time::advance(COUNTED_PAUSE).await;
        assert_eq!(client.login(None).await, Err(Error::Refused));
    }
}
