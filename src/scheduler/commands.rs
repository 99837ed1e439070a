//! PendingCommands that the scheduler carries out outlet by outlet and replies to as one.

use std::collections::{BTreeMap, HashMap};

use planner::{GroupId, OutletPath, Power, Steady, overrides::Override};

use super::{relays::RelayId, timers::Timer};
use crate::domain::{
    command_error::{CommandError, ErrorCode},
    reply::{CommandResult, MemberResult, Reply},
};

/// Tells commands apart. What comes later has the greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(u64);

impl CommandId {
    /// Its number among all decisions.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Tells switches apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwitchId(u64);

impl SwitchId {
    /// Its number among all decisions.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// One command for one or several outlets.
#[derive(Debug)]
pub struct PendingCommand {
    reply: Reply,
    /// The group that it is for; `None` for an outlet or a strip.
    pub group: Option<GroupId>,
    members: Vec<(OutletPath, Option<CommandResult>)>,
    /// The text of the event once the override that it sets is confirmed.
    pub announcement: Option<String>,
    /// Whether a device confirmed it: then its overrides stay, also for members that failed.
    pub confirmed: bool,
    /// The relays on which it changed something that it may have to give back.
    pub changed: Vec<RelayId>,
}

impl PendingCommand {
    /// The outlet it is for, if it is one.
    pub fn single(&self) -> Option<&OutletPath> {
        match self.members.as_slice() {
            [(path, _)] => Some(path),
            _ => None,
        }
    }

    /// Sends the reply. A command to one outlet that is not a group has the result of that outlet.
    pub fn reply(self) {
        let result = |(path, result): (OutletPath, Option<CommandResult>)| Some((path, result?));
        let mut results: Vec<MemberResult> = self.members.into_iter().filter_map(result).collect();
        match (self.group, results.len()) {
            (None, 1) => {
                if let Some((_, result)) = results.pop() {
                    self.reply.send(result);
                }
            }
            _ => self.reply.send_members(results),
        }
    }
}

/// What a command changed on one outlet and may have to give back.
#[derive(Debug, Clone, Copy)]
pub struct Undo {
    /// Which command.
    pub command: CommandId,
    /// The override before.
    pub overridden: Before,
    /// The timer before.
    pub timer: Option<Timer>,
}

/// An override before a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// The command did not touch it.
    Untouched,
    /// There was this one, or none.
    Was(Option<Override>),
}

/// One member of a pending command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingMember {
    /// Which command.
    pub command: CommandId,
    /// Which member of it.
    pub index: usize,
}

/// A member that may not be switched on yet: its turn has not come, another one of an interlocked group is on, or its
/// end is not in the state file.
#[derive(Debug, Clone)]
pub struct WaitingMember {
    /// Its turn.
    pub at: Steady,
    /// Which member of which command.
    pub member: PendingMember,
    /// Which outlet.
    pub relay: RelayId,
    /// To what.
    pub power: Power,
    /// Not carried out after this.
    pub deadline: Steady,
    /// Set if its end must be in the state file first, because only the bridge ends its run.
    pub disk: Option<DiskWait>,
}

/// What waits for the disk.
#[derive(Debug, Clone, Copy)]
pub struct DiskWait {
    /// What was decided with this event must be written.
    pub batch: u64,
    /// Not waited for after this.
    pub until: Steady,
}

/// A switch whose result has not come.
#[derive(Debug, Clone)]
pub struct SentSwitch {
    /// Of which relay.
    pub relay: RelayId,
    /// For which member of a command; `None` makes the outlet what it should be.
    pub member: Option<PendingMember>,
}

/// The commands that wait for their members.
#[derive(Debug, Default)]
pub struct PendingCommands {
    last: u64,
    pending: BTreeMap<CommandId, PendingCommand>,
    waiting: BTreeMap<RelayId, WaitingMember>,
    switches: HashMap<SwitchId, SentSwitch>,
}

impl PendingCommands {
    /// The number of the next decision: one total order of commands, switches and reports.
    pub fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// An id for a switch of a relay.
    pub fn next_switch(&mut self, relay: RelayId, member: Option<PendingMember>) -> SwitchId {
        let id = SwitchId(self.next_number());
        self.switches.insert(id, SentSwitch { relay, member });
        id
    }

    /// Lets a member have the result of a switch that no other member waits for; whether it has.
    pub fn join(&mut self, id: SwitchId, member: PendingMember) -> bool {
        match self.switches.get_mut(&id) {
            Some(switch) if switch.member.is_none() => {
                switch.member = Some(member);
                true
            }
            _ => false,
        }
    }

    /// Adds to the reply of a command what its result does not show.
    pub fn note(&mut self, id: CommandId, text: String) {
        if let Some(command) = self.pending.get_mut(&id) {
            command.reply.note(text);
        }
    }

    /// A switch ended: what it was for.
    pub fn take_switch(&mut self, id: SwitchId) -> Option<SentSwitch> {
        self.switches.remove(&id)
    }

    /// A relay was identified: what waits for it goes on under its id.
    pub fn rename(&mut self, from: &RelayId, to: &RelayId) {
        if let Some(mut member) = self.waiting.remove(from) {
            member.relay = to.clone();
            self.waiting.insert(to.clone(), member);
        }
        let switches = self.switches.values_mut().map(|switch| &mut switch.relay);
        let changed = self.pending.values_mut().flat_map(|command| &mut command.changed);
        for relay in switches.chain(changed).filter(|relay| *relay == from) {
            relay.clone_from(to);
        }
    }

    /// Takes a command.
    pub fn open(
        &mut self,
        members: Vec<OutletPath>,
        group: Option<GroupId>,
        announcement: Option<String>,
        reply: Reply,
    ) -> CommandId {
        let id = CommandId(self.next_number());
        let members = members.into_iter().map(|path| (path, None)).collect();
        let command = PendingCommand {
            reply,
            group,
            members,
            announcement,
            confirmed: false,
            changed: Vec::new(),
        };
        self.pending.insert(id, command);
        id
    }

    /// A command changed something on a relay that it may have to give back.
    pub fn note_change(&mut self, id: CommandId, relay: RelayId) {
        if let Some(command) = self.pending.get_mut(&id) {
            command.changed.push(relay);
        }
    }

    /// Takes the result of one member. Returns the command when it was the last one.
    pub fn complete(&mut self, member: PendingMember, result: CommandResult) -> Option<PendingCommand> {
        let command = self.pending.get_mut(&member.command)?;
        if let Some((_, slot)) = command.members.get_mut(member.index) {
            *slot = Some(result);
        }
        if command.members.iter().any(|(_, result)| result.is_none()) {
            return None;
        }
        self.pending.remove(&member.command)
    }

    /// A device confirmed a command. Returns it the first time.
    pub fn confirm(&mut self, id: CommandId) -> Option<&mut PendingCommand> {
        let command = self.pending.get_mut(&id)?;
        (!std::mem::replace(&mut command.confirmed, true)).then_some(command)
    }

    /// Whether a device confirmed it.
    pub fn is_confirmed(&self, id: CommandId) -> bool {
        self.pending.get(&id).is_some_and(|command| command.confirmed)
    }

    /// Lets a member wait.
    pub fn wait(&mut self, member: WaitingMember) {
        self.waiting.insert(member.relay.clone(), member);
    }

    /// The member that waits for a relay.
    pub fn waiting(&self, relay: &RelayId) -> Option<&WaitingMember> {
        self.waiting.get(relay)
    }

    /// The members that wait for the disk.
    pub fn waiting_for_disk(&self) -> impl Iterator<Item = (&RelayId, DiskWait)> {
        let waiting = self.waiting.iter();
        waiting.filter_map(|(relay, member)| Some((relay, member.disk?)))
    }

    /// Takes the member that waits for a relay.
    pub fn take_waiting(&mut self, relay: &RelayId) -> Option<WaitingMember> {
        self.waiting.remove(relay)
    }
}

/// Whether a device may have done what it did not confirm.
pub(super) fn may_be_done(error: &CommandError) -> bool {
    error.attempts > 0 || matches!(error.code, ErrorCode::NoAnswer | ErrorCode::NotConfirmed)
}
