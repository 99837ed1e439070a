//! Writing our rules to a plug, one request at a time, so that commands go between.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;
use tracing::{info, warn};

use crate::{
    devices::{
        backoff::LoginPurpose,
        client::fault::Fault,
        client::session::{DeviceRequest, Session},
        exchange::ExchangeError,
        worker::Worker,
    },
    domain::{
        off_rules::{Mirror, Mirrored, OurRules, WeeklyOff},
        report::DeviceRule,
    },
};

/// What a worker has to do to make the rules on its plug what they should be.
#[derive(Debug, Default)]
pub(super) struct OffRulePlan {
    wish: Option<Arc<Mirror>>,
    ours: OurRules,
    /// Whether the rules were read since they may have changed.
    fresh: Freshness,
    /// How many rules the plug holds; `None` until it was asked.
    room: Option<usize>,
    /// What was written last without an answer, and the ids that were there before.
    adding: Option<(WeeklyOff, BTreeSet<String>)>,
    /// What the plug did not take, and why. Asked once for each wish.
    refused: BTreeMap<WeeklyOff, String>,
    pending: Pending,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Freshness {
    #[default]
    Stale,
    Read,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Pending {
    #[default]
    Nothing,
    Steps,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Read,
    AskForRoom,
    Remove(String),
    RelayChange(String, WeeklyOff),
    Add(WeeklyOff),
    Applied,
}

impl OffRulePlan {
    pub(super) fn wish(&mut self, wish: Arc<Mirror>) {
        self.ours.extend(wish.ours.clone());
        self.refused.clear();
        self.fresh = Freshness::Stale;
        self.pending = Pending::Steps;
        self.wish = Some(wish);
    }

    /// The rules on the plug that are ours.
    pub(super) fn ours(&self) -> &OurRules {
        &self.ours
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending == Pending::Steps
    }

    /// Removes what is ours from the plug. What was changed by others is theirs, so the rules are read first.
    pub(super) async fn remove_ours(&mut self, session: &mut Session) -> Result<(), Fault> {
        let list = match session.perform(DeviceRequest::GetRules).await {
            // A request that the stop cut off used up a number of the session.
            Err(Fault::SessionLost | Fault::Closed) => {
                session.refresh().await?;
                session.perform(DeviceRequest::GetRules).await?
            }
            list => list?,
        };
        self.compare(&super::rules(&list));
        while let Some(id) = self.ours.keys().next().cloned() {
            session.perform(DeviceRequest::RemoveRule(&id)).await?;
            self.ours.remove(&id);
        }
        Ok(())
    }

    /// A connection: what was under way may have been done or not.
    pub(super) fn doubt(&mut self) {
        self.fresh = Freshness::Stale;
        self.room = None;
    }

    /// The rules were read. Ours are those whose id and content both are.
    pub(super) fn compare(&mut self, rules: &[DeviceRule]) {
        if let Some((wanted, before)) = self.adding.take() {
            let new = rules
                .iter()
                .find(|rule| wanted.is(rule) && !before.contains(&rule.id));
            self.ours.extend(new.map(|rule| (rule.id.clone(), wanted)));
        }
        self.ours
            .retain(|id, ours| rules.iter().any(|rule| rule.id == *id && ours.is(rule)));
        self.fresh = Freshness::Read;
    }

    /// Somebody removed what shall be there, or made room for it.
    pub(super) fn repair(&mut self, rules: &[DeviceRule]) {
        if self.step(rules) != Step::Applied {
            self.pending = Pending::Steps;
        }
    }

    fn step(&self, rules: &[DeviceRule]) -> Step {
        let Some(wish) = &self.wish else {
            return Step::Applied;
        };
        if self.fresh == Freshness::Stale {
            return Step::Read;
        }
        let foreign = |rule: &&DeviceRule| !self.ours.contains_key(&rule.id);
        let missing = |wanted: &&WeeklyOff| {
            !self.ours.values().any(|ours| ours == *wanted)
                && !self.refused.contains_key(wanted)
                && !rules
                    .iter()
                    .filter(foreign)
                    .any(|rule| wanted.is_covered_by(rule))
        };
        let missing: Vec<WeeklyOff> = wish.wanted.iter().filter(missing).copied().collect();
        let surplus = |ours: &WeeklyOff| !wish.wanted.contains(ours) && !self.refused.contains_key(ours);
        let surplus = self.ours.iter().find(|(_, ours)| surplus(ours));
        if let Some((id, ours)) = surplus {
            // One of the same minute is changed: two of them would clash, and none would be too few.
            let instead = missing.iter().find(|wanted| wanted.minute == ours.minute);
            return match instead {
                Some(wanted) => Step::RelayChange(id.clone(), *wanted),
                None => Step::Remove(id.clone()),
            };
        }
        match (missing.first(), self.room) {
            (None, _) => Step::Applied,
            (Some(_), None) => Step::AskForRoom,
            (Some(_), Some(room)) if rules.len() >= room => Step::Applied,
            (Some(wanted), Some(_)) => Step::Add(*wanted),
        }
    }

    fn outcome(&self, rules: &[DeviceRule]) -> Mirrored {
        let is_full = self.room.is_some_and(|room| rules.len() >= room);
        let wanted = self.wish.as_ref().map(|wish| &wish.wanted);
        let missing = |wanted: &WeeklyOff| {
            let there = self.ours.values().any(|ours| ours == wanted);
            !there && !rules.iter().any(|rule| wanted.is_covered_by(rule))
        };
        let trouble = self.refused.values().next().cloned().or_else(|| {
            let short = is_full && wanted.is_some_and(|wanted| wanted.iter().any(missing));
            short.then(|| format!("all {} places for rules are taken", rules.len()))
        });
        Mirrored {
            wanted: wanted.filter(|_| !self.is_pending()).cloned(),
            ours: self.ours.clone(),
            trouble,
        }
    }
}

impl Worker {
    /// One request towards what shall be there.
    pub(in crate::devices) async fn mirror(&mut self, session: &mut Session) -> Result<(), ExchangeError> {
        let rules = self.known.rules.list.clone().unwrap_or_default();
        match self.rules.task.step(&rules) {
            Step::Read => {
                self.poll_rules(session).await?;
                if self.known.rules.list.is_none() {
                    // It cannot be said what is there, so nothing is written.
                    self.rules.task.pending = Pending::Nothing;
                }
                return Ok(());
            }
            Step::AskForRoom => {
                let answer = self
                    .exchange(session, DeviceRequest::GetRoom, LoginPurpose::Poll)
                    .await;
                let room = own_answer(answer)?.ok().and_then(|room| room.as_u64());
                // Most hold 32; one that does not say is not filled to the brim.
                let room = room.and_then(|room| usize::try_from(room).ok());
                self.rules.task.room = Some(room.unwrap_or(rules.len() + 1));
            }
            Step::Remove(id) => {
                let request = DeviceRequest::RemoveRule(&id);
                let answer = own_answer(self.exchange(session, request, LoginPurpose::Poll).await)?;
                if let (Err(why), Some(ours)) = (answer, self.rules.task.ours.get(&id).copied()) {
                    self.note(Some(why), ours);
                } else {
                    self.rules.task.ours.remove(&id);
                    self.replace_rule(&id, None);
                }
            }
            Step::RelayChange(id, wanted) => {
                let request = DeviceRequest::EditRule(&id, wanted);
                let answer = own_answer(self.exchange(session, request, LoginPurpose::Poll).await)?;
                if answer.is_ok() {
                    self.rules.task.ours.insert(id.clone(), wanted);
                    self.replace_rule(&id, Some(wanted));
                }
                self.note(answer.err(), wanted);
            }
            Step::Add(wanted) => self.add_rule(session, wanted, &rules).await?,
            Step::Applied => self.rules.task.pending = Pending::Nothing,
        }
        self.report_rules().await;
        Ok(())
    }

    async fn add_rule(
        &mut self,
        session: &mut Session,
        wanted: WeeklyOff,
        rules: &[DeviceRule],
    ) -> Result<(), ExchangeError> {
        let before = rules.iter().map(|rule| rule.id.clone()).collect();
        self.rules.task.adding = Some((wanted, before));
        let request = DeviceRequest::AddRule(wanted);
        let answer = own_answer(self.exchange(session, request, LoginPurpose::Poll).await)?;
        let id = answer
            .as_ref()
            .ok()
            .and_then(|added| added.get("id")?.as_str().map(str::to_owned));
        match id {
            Some(id) => {
                self.rules.task.adding = None;
                self.rules.task.ours.insert(id.clone(), wanted);
                self.replace_rule(&id, Some(wanted));
                info!(device = %self.config.id, rule = %id, "an OFF edge is held by the plug");
            }
            // It may be there all the same; the next reading says.
            None => self.note(answer.err().or(Some("its answer has no id".to_owned())), wanted),
        }
        Ok(())
    }

    /// What the plug did not take is not asked again, and what is there is read anew.
    fn note(&mut self, refused: Option<String>, wanted: WeeklyOff) {
        if let Some(why) = refused {
            warn!(device = %self.config.id, reason = %why, "a schedule rule was refused");
            self.rules.task.refused.insert(wanted, why);
            self.rules.task.fresh = Freshness::Stale;
        }
    }

    /// What is known to be on the plug after a write.
    fn replace_rule(&mut self, id: &str, new: Option<WeeklyOff>) {
        let rules = self.known.rules.list.iter().flat_map(|rules| rules.iter());
        let others = rules.filter(|rule| rule.id != id).cloned();
        let new = new.map(|new| new.as_rule(id.to_owned()));
        self.known.rules.list = Some(others.chain(new).collect());
    }

    pub(super) async fn report_rules(&mut self) {
        let rules = self.known.rules.list.clone().unwrap_or_default();
        if self.rules.task.wish.is_some() && self.rules.task.fresh == Freshness::Read {
            self.known.rules.mirrored = Some(Arc::new(self.rules.task.outcome(&rules)));
        }
        self.known.hold_rules();
        self.send_report().await;
    }
}

/// What the device says or refuses is an answer; anything else ends the exchange.
fn own_answer(answer: Result<Value, ExchangeError>) -> Result<Result<Value, String>, ExchangeError> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(ExchangeError::Fault(fault)) if super::is_own_answer(&fault) => Ok(Err(words(&fault))),
        Err(on_exchange_error) => Err(on_exchange_error),
    }
}

fn words(fault: &Fault) -> String {
    format!("the plug did not take a rule: {fault}")
}

#[cfg(test)]
mod tests;
