"""Home Assistant's own ingress, and a panel that shows through it, where there is no Supervisor to set them up."""

from homeassistant.components import frontend
from homeassistant.components.hassio.ingress import HassIOIngress
from homeassistant.helpers.aiohttp_client import async_get_clientsession

DOMAIN = "ingress_stand_in"


async def async_setup(hass, config):
    """`host` is the stand-in for the Supervisor, `token` names the app to it."""
    settings = config[DOMAIN]
    hass.http.register_view(HassIOIngress(settings["host"], async_get_clientsession(hass)))
    frontend.async_register_built_in_panel(
        hass,
        "iframe",
        "Plugs",
        "mdi:power-socket",
        frontend_url_path="plugs",
        config={"url": f"/api/hassio_ingress/{settings['token']}/"},
    )
    return True
