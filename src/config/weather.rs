//! `[weather]`: who is asked for the forecast, which sensors read.

use planner::location::{Coordinates, Location};
use reqwest::Url;
use serde_json::{Value, json};

use super::{
    parse,
    reader::{Expected, Leaf, Read, Table},
};
use crate::domain::weather_provider::WeatherProvider;

/// Where the forecast comes from.
#[derive(Clone, PartialEq)]
pub struct WeatherSettings {
    /// Who is asked.
    pub provider: WeatherProvider,
    /// Where: that of the provider, or another server that answers as it does.
    pub server: Url,
    /// Which place.
    pub place: Coordinates,
}

impl std::fmt::Debug for WeatherSettings {
    /// Without the place, which is private.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeatherSettings")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

impl WeatherSettings {
    pub(super) fn digest(settings: Option<&Self>) -> Value {
        json!({"provider": settings.map(|settings| settings.provider.as_str())})
    }
}

/// Reads the root's `[weather]`; `None` where it has no provider.
pub(super) fn read(root: &mut Table<'_>, location: Option<&Location>) -> Read<Option<WeatherSettings>> {
    root.section("weather", |table| {
        let providers = WeatherProvider::ALL.map(|provider| (provider.as_str(), provider));
        let provider = table.optional("provider", parse::word(&providers));
        let url = table.optional_secret("url", url);
        let (provider, url) = (provider?, url?);
        let Some(provider) = provider else {
            if url.is_some() {
                let names = WeatherProvider::ALL.map(WeatherProvider::as_str).join(", ");
                return Err(table.problem("provider", format!("the provider that answers at url: {names}")));
            }
            return Ok(None);
        };
        let server = match url.map_or_else(|| provider.server().parse(), Ok) {
            Ok(server) => server,
            Err(error) => return Err(table.invalid("provider", format!("its address is invalid: {error}"))),
        };
        let place = location.map(|location| location.coordinates);
        match place {
            Some(Some(place)) => Ok(Some(WeatherSettings {
                provider,
                server,
                place,
            })),
            Some(None) => {
                let expected = "latitude and longitude in [location] beside a weather provider";
                Err(table.problem("provider", expected))
            }
            // Its own mistakes are reported.
            None => Ok(None),
        }
    })
}

fn url(leaf: &Leaf<'_>) -> Result<Url, Expected> {
    let url = leaf.text().and_then(parse::web_address);
    let usable = |url: &Url| {
        url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    url.filter(usable).ok_or_else(|| {
        "the address of a server without a login, such as \"http://192.168.1.10:8080\"".to_owned()
    })
}
