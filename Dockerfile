# The program alone on a small base; its sample pipelines beside it.
FROM rust:1-bookworm AS build
WORKDIR /tidecast
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
# The certificates that brokers with TLS are held against.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home tidecast
COPY --from=build /tidecast/target/release/tidecast /usr/local/bin/tidecast
COPY LICENSE /usr/share/doc/tidecast/LICENSE
COPY --chown=tidecast --from=build /tidecast/pipelines /home/tidecast/pipelines
RUN install -d -o tidecast /home/tidecast/pipelines/state
USER tidecast
WORKDIR /home/tidecast
ENTRYPOINT ["tidecast"]
