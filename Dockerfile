# Builds on amd64 and arm64: docker buildx build --platform linux/amd64,linux/arm64 .
FROM rust:1.95-bookworm AS build
# aws-lc-rs is built from C.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --no-default-features
# A new named volume gets the owner of the directory on which it is mounted.
RUN mkdir -p /image/usr/bin /image/state && cp target/release/tapo2mqtt /image/usr/bin/

# No shell, no package manager; user 65532. Contains the root certificates for TLS.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="tapo2mqtt" \
      org.opencontainers.image.source="https://github.com/tapo2mqtt/tapo2mqtt" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build --chown=65532:65532 /image/state /state
COPY --from=build /image/usr/bin/tapo2mqtt /usr/bin/tapo2mqtt
ENV TAPO2MQTT_CONFIG=/config/tapo2mqtt.toml STATE_DIRECTORY=/state
USER 65532:65532
VOLUME /state
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/bin/tapo2mqtt", "healthcheck"]
ENTRYPOINT ["/usr/bin/tapo2mqtt"]
