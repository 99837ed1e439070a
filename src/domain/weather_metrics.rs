//! How a provider of forecasts answers, for health.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use super::weather_provider::WeatherProvider;

/// Since the bridge started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeatherHealth {
    /// Who is asked.
    pub provider: &'static str,
    /// Requests that were made.
    pub requests: u64,
    /// Forecasts that did not come, by one of a few words for why.
    pub failures: BTreeMap<&'static str, u64>,
}

/// The counts of the one provider; nothing without `[weather]`. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct WeatherMetrics(Arc<Mutex<Option<WeatherHealth>>>);

impl WeatherMetrics {
    /// Of a provider.
    pub fn of(provider: WeatherProvider) -> Self {
        let health = WeatherHealth {
            provider: provider.as_str(),
            requests: 0,
            failures: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(Some(health))))
    }

    /// A request is made.
    pub fn asked(&self) {
        if let Some(health) = self.lock().as_mut() {
            health.requests += 1;
        }
    }

    /// No forecast came.
    pub fn failed(&self, why: &'static str) {
        if let Some(health) = self.lock().as_mut() {
            *health.failures.entry(why).or_default() += 1;
        }
    }

    /// All counts.
    pub fn health(&self) -> Option<WeatherHealth> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<WeatherHealth>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
