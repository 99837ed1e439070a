//! Reads the settings again while the bridge runs.

use std::{fmt, sync::Arc};

use super::{Problems, Settings};

type Load = dyn Fn() -> Result<Settings, Problems> + Send + Sync;
type Trial = dyn Fn(&Settings) -> Result<(), String> + Send + Sync;

/// Reads the settings again, from where they came from. Clones share it.
#[derive(Clone)]
pub struct Loader {
    load: Arc<Load>,
    trial: Arc<Trial>,
}

impl Loader {
    /// A loader that calls `load`, which may block.
    pub fn new(load: impl Fn() -> Result<Settings, Problems> + Send + Sync + 'static) -> Self {
        Self {
            load: Arc::new(load),
            trial: Arc::new(|_| Ok(())),
        }
    }

    /// With what else a new process needs, which may block.
    #[must_use]
    pub fn with_trial(self, trial: impl Fn(&Settings) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self {
            trial: Arc::new(trial),
            ..self
        }
    }

    /// The settings as they are now. Blocks.
    ///
    /// # Errors
    /// Every problem of them.
    pub fn load(&self) -> Result<Settings, Problems> {
        (self.load)()
    }

    /// Whether a new process would start with the settings as they are now. Blocks.
    ///
    /// # Errors
    /// Every reason why not.
    pub fn try_restart(&self) -> Result<(), Vec<String>> {
        let settings = self.load().map_err(Problems::into_reasons)?;
        (self.trial)(&settings).map_err(|why| vec![why])
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loader")
    }
}
