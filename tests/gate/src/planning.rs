//! Groups of schedules, and all that the planner looks at.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;
use planner::{
    OutletPath, Power,
    activity::Conditions,
    energy_limits::EnergyLimits,
    interlock::InterlockOwners,
    overrides::Overrides,
    plan::{Inputs, Memory, Reasons, Vacation},
    readings::Readings,
    safety::Safety,
};
use tapo2mqtt::config::{Settings, Sources, load};

use crate::CommandError;

/// The evening before the clocks go forward.
const NOW: &str = "2026-03-28T23:30:00Z";
const SCHEDULES: usize = 10;

/// Groups without a past.
pub struct Planning {
    settings: Settings,
    overrides: Overrides,
    safety: Safety,
    energy_limits: EnergyLimits,
    readings: Readings,
    memory: Memory,
    observed: BTreeMap<OutletPath, Power>,
    holders: InterlockOwners,
    now: Timestamp,
}

impl Planning {
    /// So many groups of ten schedules each; a third of these begins by the sun.
    ///
    /// # Errors
    /// If the settings, which are made here, are not good.
    pub fn of(groups: usize) -> Result<Self, CommandError> {
        Ok(Self {
            settings: settings(groups)?,
            overrides: Overrides::default(),
            safety: Safety::default(),
            energy_limits: EnergyLimits::default(),
            readings: Readings::default(),
            memory: Memory::default(),
            observed: BTreeMap::new(),
            holders: InterlockOwners::default(),
            now: NOW.parse()?,
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn inputs(&self) -> Inputs<'_> {
        Inputs {
            rules: &self.settings.rules,
            overrides: &self.overrides,
            vacation: Vacation::Off,
            safety: &self.safety,
            energy_limits: &self.energy_limits,
            readings: &self.readings,
            memory: &self.memory,
            observed: &self.observed,
            holders: &self.holders,
            conditions: Conditions::Asked,
            reasons: Reasons::Included,
            booted_at: planner::Steady::at(self.now),
            listening_since: planner::Steady::at(self.now),
            now: planner::Now {
                wall: self.now,
                steady: planner::Steady::at(self.now),
            },
        }
    }
}

fn settings(groups: usize) -> Result<Settings, CommandError> {
    let mut text = String::from(
        "[mqtt]\nhost = \"127.0.0.1\"\n[tapo]\nusername = \"a@example.com\"\npassword = \"b\"\n\
         [location]\nlatitude = 51.5\nlongitude = 0.0\ntimezone = \"Europe/London\"\n",
    );
    for group in 0..groups {
        let port = 1000 + group;
        write!(
            text,
            "[[device]]\nid = \"d{group}\"\naddress = \"127.0.0.1:{port}\"\n\
             [[group]]\nid = \"g{group}\"\nname = \"G\"\noutlets = [\"d{group}\"]\n"
        )?;
        for schedule in 0..SCHEDULES {
            let start = match schedule % 3 {
                0 => "start = \"sunset-00:30\"\nfallback_start = \"17:00\"".to_owned(),
                _ => format!("start = \"{:02}:{:02}\"", schedule * 2, group % 60),
            };
            write!(
                text,
                "[[group.schedule]]\nid = \"s{schedule}\"\n{start}\nfor = \"1h\"\n"
            )?;
        }
    }
    let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
    std::fs::write(file.path(), text)?;
    load(&Sources::from_process(Some(file.path().to_owned()))).map_err(|problems| problems.to_string().into())
}
