//! Reads the settings again while the bridge runs.

use std::{fmt, sync::Arc};

use super::{Problems, Settings};

type Load = dyn Fn() -> Result<Settings, Problems> + Send + Sync;

/// Reads the settings again, from where they came from. Clones share it.
#[derive(Clone)]
pub struct Loader(Arc<Load>);

impl Loader {
    /// A loader that calls `load`, which may block.
    pub fn new(load: impl Fn() -> Result<Settings, Problems> + Send + Sync + 'static) -> Self {
        Self(Arc::new(load))
    }

    /// The settings as they are now. Blocks.
    ///
    /// # Errors
    /// Every problem of them.
    pub fn load(&self) -> Result<Settings, Problems> {
        (self.0)()
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loader")
    }
}
