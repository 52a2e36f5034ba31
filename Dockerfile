# The program alone on a small base; its sample pipelines beside it.
#
#   docker build -t tidecast .
#   docker run --rm -p 127.0.0.1:8080:8080 tidecast demo --address 0.0.0.0:8080
# The compiler that the tests pass with: a newer one is a change to be tried, not to come by itself.
FROM rust:1.95-bookworm AS build
WORKDIR /tidecast
# What it stands on takes most of the time and changes seldom: a layer of its own, built around an empty program.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked --bin tidecast && rm -r src
COPY pipelines pipelines
COPY src src
# Cargo goes by times, and the copied files are older than what was built.
RUN find src -name '*.rs' -exec touch {} + && cargo build --release --locked --bin tidecast \
    && strip target/release/tidecast

# Not a day's tag: what moves in a Debian release are its security fixes, and the next line takes today's packages anyway.
FROM debian:bookworm-slim
# The certificates that brokers with TLS are held against.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 tidecast
COPY --from=build /tidecast/target/release/tidecast /usr/local/bin/tidecast
COPY LICENSE /usr/share/doc/tidecast/LICENSE
COPY --chown=tidecast pipelines /home/tidecast/pipelines
# Where a volume for the state goes: it takes over whose folder it is.
RUN install -d -o tidecast /home/tidecast/pipelines/state
USER tidecast
WORKDIR /home/tidecast
EXPOSE 8080
ENTRYPOINT ["tidecast"]
