# syntax=docker/dockerfile:1
# Two images: `image` (default) for any container engine, and `app` for Home Assistant, whose Supervisor writes options that
# only root can read. Both have a static program and the root certificates for TLS, and nothing else: no shell.
# scripts/release replaces the stage `binary` by a directory with a program that was built before.
FROM rust:1.95-alpine AS build
# aws-lc-rs is built from C.
RUN apk add --no-cache build-base
WORKDIR /src
COPY . .
RUN cargo build --release --locked --no-default-features
RUN mkdir -p /binary/usr/bin /binary/etc/ssl/certs /binary/data \
    && cp target/release/tapo2mqtt /binary/usr/bin/ \
    && cp /etc/ssl/certs/ca-certificates.crt /binary/etc/ssl/certs/

FROM scratch AS binary
COPY --from=build /binary /

FROM scratch AS app
LABEL org.opencontainers.image.title="tapo2mqtt, app of Home Assistant" \
      org.opencontainers.image.source="https://github.com/tapo2mqtt/tapo2mqtt" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      io.hass.type="app"
COPY --from=binary / /
ENV STATE_DIRECTORY=/data
WORKDIR /data
# No health check: a broker that is down must not restart the bridge, which runs schedules without one.
ENTRYPOINT ["/usr/bin/tapo2mqtt"]

FROM scratch AS image
LABEL org.opencontainers.image.title="tapo2mqtt" \
      org.opencontainers.image.source="https://github.com/tapo2mqtt/tapo2mqtt" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=binary /etc /etc
COPY --from=binary /usr /usr
# Settings and state; a new volume gets its owner.
COPY --from=binary --chown=65532:65532 /data /data
WORKDIR /data
ENV STATE_DIRECTORY=/data
USER 65532:65532
VOLUME /data
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/bin/tapo2mqtt", "healthcheck"]
ENTRYPOINT ["/usr/bin/tapo2mqtt"]
