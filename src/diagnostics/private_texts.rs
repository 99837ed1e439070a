//! What the settings know to be private.

use super::redactor::{Redactor, host_and_port};
use crate::{
    config::{Account, Delivery, Device, Settings},
    system::Secret,
};
use planner::Slug;

/// Has it replaced wherever it is.
pub(super) fn learn_from(settings: &Settings, redactor: &mut Redactor) {
    let mqtt = &settings.mqtt;
    if let Some(login) = &mqtt.login {
        redactor.learn("login", [login.username.as_str()]);
        redactor.learn("secret", login.password.as_ref().map(Secret::expose));
    }
    redactor.learn_hosts(mqtt.brokers.iter().map(|broker| broker.host.as_str()));
    redactor.learn_words("site", mqtt.site.as_ref().map(Slug::as_str));
    learn_accounts(redactor, settings.tapo.credentials.as_ref());
    for device in &settings.devices {
        learn_device(redactor, device);
    }
    for group in &settings.rules.groups {
        redactor.learn_words("group", [group.id.as_str(), &group.name]);
    }
    for listener in [&settings.web, &settings.metrics] {
        redactor.learn("secret", listener.password.as_ref().map(Secret::expose));
        redactor.learn_hosts(listener.hosts.iter().map(String::as_str));
    }
    for target in &settings.notify {
        redactor.learn_hosts([target.host()]);
        learn_delivery(redactor, &target.delivery);
    }
    let calendar = settings.calendar.url.as_ref().map(ToString::to_string);
    redactor.learn_hosts(calendar.as_deref());
    let forecast = settings.weather.as_ref();
    redactor.learn_hosts(forecast.and_then(|weather| weather.server.host_str()));
    let places = forecast.map(|weather| weather.place);
    for place in places.into_iter().chain(settings.rules.location.coordinates) {
        let texts = [place.latitude(), place.longitude()].map(|degrees| degrees.to_string());
        redactor.learn("place", texts.iter().map(String::as_str));
    }
    if let Ok(home) = std::env::var("HOME") {
        redactor.learn("folder", [home.as_str()]);
    }
}

fn learn_accounts<'a>(redactor: &mut Redactor, accounts: impl IntoIterator<Item = &'a Account>) {
    for account in accounts {
        redactor.learn("login", [account.username.as_str()]);
        redactor.learn("secret", [account.password.expose()]);
    }
}

fn learn_device(redactor: &mut Redactor, device: &Device) {
    learn_accounts(redactor, device.credentials.as_ref());
    let address = device.address.to_string();
    redactor.learn_hosts([host_and_port(&address).0]);
    redactor.learn("mac", device.mac.as_deref());
    redactor.learn("name", device.name.as_deref());
    // The id is made of the name, where the device was added.
    redactor.learn_words("device", [device.id.as_str()]);
    for outlet in &device.outlets {
        redactor.learn("name", outlet.name.as_deref());
    }
    for child in &device.children {
        redactor.learn("id", child.device_id.as_deref());
        redactor.learn("name", child.name.as_deref());
        redactor.learn_words("child", [child.key.as_str()]);
    }
}

fn learn_delivery(redactor: &mut Redactor, delivery: &Delivery) {
    match delivery {
        Delivery::Http { url, token, .. } => {
            redactor.learn("secret", [url.expose()]);
            redactor.learn("secret", token.as_ref().map(Secret::expose));
        }
        Delivery::Mail(server) => {
            if let Some(login) = &server.login {
                redactor.learn("login", [login.username.expose()]);
                redactor.learn("secret", [login.password.expose()]);
            }
            let addresses = server.to.iter().chain([&server.from]);
            redactor.learn("login", addresses.map(AsRef::<str>::as_ref));
        }
    }
}
