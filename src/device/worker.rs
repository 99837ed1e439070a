//! The life of one physical device: connect, serve, wait, connect again.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};
use tracing::info;

use super::{
    DeviceConfig, News, Tempo,
    backoff::{Backoff, LoginBudget, Purpose, jittered},
    exchange::Trip,
    fault::{Fault, Remedy},
    known::Known,
    mailbox::{Mailbox, Standing},
    readings::{DeviceReading, OutletReading, kind},
    session::{Request, Session, discover},
    stats::Recorder,
};
use crate::{
    clock::Clock,
    intent::Failure,
    report::{EventKind, Kind, Phase, Report},
};

/// The first wait after a device could not be reached.
const PROBE_FIRST: Duration = Duration::from_secs(1);
/// The first wait after a refused login: devices take blank credentials for a while after a power cut.
const REFUSED_FIRST: Duration = Duration::from_secs(15);
/// Between probes while a command waits: it lives 10 s by default.
const PROBE_FOR_COMMAND: Duration = Duration::from_secs(1);
/// From a failed exchange to the next one.
const RETRY_SOON: Duration = Duration::from_millis(500);
/// Failed exchanges before the session is given up and one active retry decides.
const FAILURES_TO_RECONNECT: u32 = 2;
/// Failed connects before the device is looked for under another address, and between two searches.
const CONNECTS_TO_SEARCH: u32 = 3;
/// How long a search or a wake-up probe listens. The crate takes whole seconds.
const LISTEN: Duration = Duration::from_secs(1);

/// Owns one device: its session, its queue, and everything known of it.
pub(super) struct Worker {
    pub(super) config: Arc<DeviceConfig>,
    pub(super) tempo: Arc<Tempo>,
    pub(super) clock: Clock,
    pub(super) mailbox: Mailbox,
    pub(super) recorder: Recorder,
    pub(super) logins: LoginBudget,
    pub(super) known: Known,
    pub(super) kind: Kind,
    /// The configured address, until the device was found under another.
    pub(super) address: String,
    pub(super) news: Vec<mpsc::Sender<News>>,
    pub(super) phase: Phase,
    /// Whether the device may have done what the switch in flight asks, in whole or in part.
    pub(super) may_be_done: bool,
    /// Failed exchanges in a row.
    failures: u32,
    /// Failed connects in a row.
    connects: u32,
    probes: Backoff,
    refusals: Backoff,
    pub(super) told: Option<Arc<Report>>,
}

/// What a worker does next.
enum Life {
    /// Log in and read everything.
    Connect,
    /// Serve commands and polls.
    Serve(Session),
    /// Wait until then, or for a command that is worth a probe.
    Wait(Instant),
    /// End.
    Stop,
}

/// What a failed exchange means for the session.
enum Stumble {
    /// Keep it, and ask again soon.
    RetrySoon,
    /// Keep it; the next poll comes when it comes.
    CarryOn,
    /// Give it up.
    Leave(Life),
}

/// A device that let us in.
struct Opened {
    session: Session,
    kind: Kind,
    components: Vec<String>,
    info: Value,
    outlets: Vec<OutletReading>,
}

impl Worker {
    pub(super) fn new(
        config: Arc<DeviceConfig>,
        tempo: Arc<Tempo>,
        clock: Clock,
        mailbox: Mailbox,
        news: Vec<mpsc::Sender<News>>,
        recorder: Recorder,
    ) -> Self {
        Self {
            address: config.address.clone(),
            logins: LoginBudget::new(Instant::now()),
            probes: Backoff::new(PROBE_FIRST, tempo.probe_longest),
            refusals: Backoff::new(REFUSED_FIRST.min(tempo.refused_longest), tempo.refused_longest),
            known: Known::default(),
            kind: Kind::Plug,
            phase: Phase::Connecting,
            may_be_done: false,
            failures: 0,
            connects: 0,
            told: None,
            config,
            tempo,
            clock,
            mailbox,
            recorder,
            news,
        }
    }

    /// Lives until the stop. Commands that still wait then are answered by being dropped.
    pub(super) async fn run(mut self) {
        self.tell().await;
        let mut life = Life::Connect;
        loop {
            life = match life {
                Life::Connect => self.connect().await,
                Life::Serve(session) => self.serve(session).await,
                Life::Wait(until) => self.wait(until).await,
                Life::Stop => return,
            };
        }
    }

    async fn connect(&mut self) -> Life {
        self.mailbox.rescan = false;
        if self.connects > 0
            && self.connects.is_multiple_of(CONNECTS_TO_SEARCH)
            && self.search().await.is_err()
        {
            return Life::Stop;
        }
        self.recorder.logged_in();
        let opening = open(
            self.address.clone(),
            self.config.clone(),
            self.kind,
            self.tempo.request,
        );
        match self.mailbox.attend(opening).await {
            Err(_stopped) => Life::Stop,
            Ok(Ok(opened)) => self.welcome(opened).await,
            Ok(Err(fault)) => self.turned_away(&fault).await,
        }
    }

    /// The device let us in and told everything.
    async fn welcome(&mut self, opened: Opened) -> Life {
        self.kind = opened.kind;
        let reading = DeviceReading::of(&opened.info);
        self.known
            .identify(&self.config, opened.kind, &opened.components, &reading);
        let changes = self
            .known
            .learn(&self.config, opened.kind, &opened.outlets, self.clock.now());
        self.mailbox.standing = Standing::Reached;
        self.refusals.proved();
        self.proved();
        self.enter(Phase::Ready).await;
        for change in changes {
            self.tell_external(change).await;
        }
        Life::Serve(opened.session)
    }

    /// The device could not be reached or did not let us in.
    async fn turned_away(&mut self, fault: &Fault) -> Life {
        self.recorder.failed(fault.kind());
        self.connects += 1;
        self.mailbox.trouble = Some(fault.trouble());
        let phase = fault.phase();
        let wait = match phase {
            Phase::LockedOut => self.tempo.locked,
            Phase::SetupMode | Phase::Forbidden => self.refusals.wait(),
            _ => self.probes.wait(),
        };
        self.enter(phase).await;
        Life::Wait(Instant::now() + wait)
    }

    async fn wait(&mut self, until: Instant) -> Life {
        let waiting_since = Instant::now();
        loop {
            if matches!(self.phase, Phase::SetupMode | Phase::Forbidden | Phase::LockedOut) {
                self.refuse_waiting();
            }
            let urgent = if self.mailbox.queue.is_empty() {
                until
            } else {
                waiting_since + PROBE_FOR_COMMAND
            };
            let wake = urgent.min(until);
            let rescan = self.mailbox.rescan && self.phase != Phase::LockedOut;
            if rescan || Instant::now() >= wake {
                return Life::Connect;
            }
            self.recorder.now(self.phase, self.mailbox.queue.len());
            if self.mailbox.wait_until(wake).await.is_err() {
                return Life::Stop;
            }
        }
    }

    async fn serve(&mut self, mut session: Session) -> Life {
        let mut next_poll = Instant::now() + jittered(self.tempo.poll);
        let mut next_slow = Instant::now() + jittered(self.tempo.slow_poll);
        let mut hold = Instant::now();
        loop {
            let now = Instant::now();
            self.recorder.now(self.phase, self.mailbox.queue.len());
            if self.mailbox.rescan {
                return Life::Connect;
            }
            let trip = if now >= hold
                && let Some(intent) = self.mailbox.queue.pop()
            {
                self.carry_out(&mut session, intent).await
            } else if now >= next_poll {
                next_poll = now + jittered(self.tempo.poll);
                self.read(&mut session, Purpose::Poll).await
            } else if now >= next_slow {
                next_slow = now + jittered(self.tempo.slow_poll);
                self.slow_poll(&mut session).await
            } else {
                let wake = if self.mailbox.queue.is_empty() {
                    next_poll.min(next_slow)
                } else {
                    hold.min(next_poll)
                };
                self.mailbox.wait_until(wake).await.map_err(Trip::from)
            };
            let fault = match trip {
                Ok(()) => continue,
                Err(Trip::Stopped) => return Life::Stop,
                Err(Trip::Fault(fault)) => fault,
            };
            match self.stumble(&fault).await {
                Stumble::RetrySoon => {
                    hold = Instant::now() + jittered(RETRY_SOON);
                    next_poll = next_poll.min(hold);
                }
                Stumble::CarryOn => hold = Instant::now() + jittered(PROBE_FOR_COMMAND),
                Stumble::Leave(life) => return life,
            }
        }
    }

    /// A strip's list of children does not carry the strip's own values; a plug's read does.
    async fn slow_poll(&mut self, session: &mut Session) -> Result<(), Trip> {
        match self.kind {
            Kind::Plug => Ok(()),
            Kind::Strip => self.read_device(session).await,
        }
    }

    /// An exchange failed beyond its own remedies.
    async fn stumble(&mut self, fault: &Fault) -> Stumble {
        match fault.remedy() {
            Remedy::DoWithout => Stumble::CarryOn,
            Remedy::WaitForUser | Remedy::KeepAway => Stumble::Leave(self.turned_away(fault).await),
            // The budget for logins is used up: somebody else keeps taking the session. The device is there.
            Remedy::LogInAgain => {
                self.mailbox.trouble = Some(fault.trouble());
                self.enter(Phase::Degraded).await;
                Stumble::CarryOn
            }
            Remedy::RetryNow | Remedy::ReadBack | Remedy::BackOff => {
                self.failures += 1;
                self.mailbox.trouble = Some(fault.trouble());
                self.enter(Phase::Degraded).await;
                if self.failures >= FAILURES_TO_RECONNECT {
                    Stumble::Leave(Life::Connect)
                } else {
                    Stumble::RetrySoon
                }
            }
        }
    }

    /// The device answered: it is well, and the next trouble is a new one.
    pub(super) fn proved(&mut self) {
        self.failures = 0;
        self.connects = 0;
        self.probes.proved();
        self.mailbox.trouble = None;
        self.phase = Phase::Ready;
    }

    /// Commands that waiting would not help.
    fn refuse_waiting(&mut self) {
        if let Some(trouble) = self.mailbox.trouble.clone() {
            self.mailbox
                .queue
                .refuse_all(&Failure::bridge(trouble.code, trouble.message));
        }
    }

    /// The address stays dead: asks the network where the device went, by its MAC.
    async fn search(&mut self) -> Result<(), super::mailbox::Stopped> {
        let Some(mac) = self
            .known
            .identity
            .as_ref()
            .and_then(|identity| identity.mac.clone())
        else {
            return Ok(());
        };
        for target in self.tempo.search.clone() {
            let found = self.mailbox.attend(discover(target, LISTEN)).await?;
            let Some(found) = found.into_iter().find(|found| found.mac.as_deref() == Some(&mac)) else {
                continue;
            };
            let address = found.address();
            if address != self.address {
                let message = format!(
                    "{} answers at {address} instead of {}",
                    self.config.id, self.address
                );
                info!(device = %self.config.id, old = %self.address, new = %address, "address changed");
                self.address = address;
                self.event(EventKind::AddressChanged, None, message).await;
            }
            return Ok(());
        }
        // Nobody knows it elsewhere: back to where it was configured.
        self.address.clone_from(&self.config.address);
        Ok(())
    }
}

/// Logs in and reads what the device is and how it is. The first time, a strip shows itself by its
/// components and is opened again as one.
async fn open(
    address: String,
    config: Arc<DeviceConfig>,
    guess: Kind,
    limit: Duration,
) -> Result<Opened, Fault> {
    let mut session = match Session::open(&address, config.credentials.as_ref(), guess, limit).await {
        Err(Fault::Refused) if wake(&address).await => {
            Session::open(&address, config.credentials.as_ref(), guess, limit).await?
        }
        session => session?,
    };
    let components = session.components().await?;
    let kind = kind(&components);
    if kind != guess {
        session = Session::open(&address, config.credentials.as_ref(), kind, limit).await?;
    }
    let info = session.perform(Request::Info).await?;
    let outlets = match kind {
        Kind::Plug => vec![OutletReading::of(&info)],
        Kind::Strip => OutletReading::children(&session.perform(Request::Children).await?),
    };
    Ok(Opened {
        session,
        kind,
        components,
        info,
        outlets,
    })
}

/// Some plugs open their web server only after a discovery packet (seen on P110 1.4.6). One device is woken
/// at a time, the others do without until their next attempt: each query costs the crate an RSA key pair, and
/// a thousand dead devices must not keep the machine busy with them.
async fn wake(address: &str) -> bool {
    static WAKING: Semaphore = Semaphore::const_new(1);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let (Ok(ip), Ok(_turn)) = (host.parse::<IpAddr>(), WAKING.try_acquire()) else {
        return false;
    };
    // Bounded on our side too: the listener counts whole seconds.
    timeout(LISTEN * 2, discover(ip, LISTEN))
        .await
        .is_ok_and(|answers| !answers.is_empty())
}

/// What a look at a device showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `P110`, `P304M`...
    pub model: String,
    /// Firmware version.
    pub firmware: String,
    /// How many outlets it has.
    pub outlets: usize,
}

/// Logs in once and looks, for a person who checks the settings. No retries.
///
/// # Errors
/// What is wrong with the device, in words.
pub async fn look(config: &DeviceConfig, request: Duration) -> Result<Seen, String> {
    let opening = open(
        config.address.clone(),
        Arc::new(config.clone()),
        Kind::Plug,
        request,
    );
    let opened = opening.await.map_err(|fault| fault.to_string())?;
    let device = DeviceReading::of(&opened.info);
    Ok(Seen {
        model: device.model.unwrap_or_else(|| "unknown model".to_owned()),
        firmware: device.firmware.unwrap_or_else(|| "unknown firmware".to_owned()),
        outlets: opened.outlets.len(),
    })
}
