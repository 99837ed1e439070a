//! Typed payloads for Home Assistant MQTT device discovery.
