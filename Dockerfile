FROM rust:1.95-bookworm AS build
# aws-lc-rs is built from C.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --no-default-features

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/tapo2mqtt /usr/bin/tapo2mqtt
ENV TAPO2MQTT_CONFIG=/config/tapo2mqtt.toml STATE_DIRECTORY=/state
HEALTHCHECK --interval=30s --timeout=5s CMD ["/usr/bin/tapo2mqtt", "healthcheck"]
ENTRYPOINT ["/usr/bin/tapo2mqtt"]
