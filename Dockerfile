# The program alone on a small base; its sample pipelines beside it.
FROM rust:1-bookworm AS build
WORKDIR /tidecast
COPY . .
RUN cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --create-home tidecast
COPY --from=build /tidecast/target/release/tidecast /usr/local/bin/tidecast
COPY --chown=tidecast --from=build /tidecast/pipelines /home/tidecast/pipelines
RUN install -d -o tidecast /home/tidecast/pipelines/state
USER tidecast
WORKDIR /home/tidecast
ENTRYPOINT ["tidecast"]
