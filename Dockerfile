# The program on a small base image, with the sample pipelines.
#
#   docker build -t tidecast .
#   docker run --rm -p 127.0.0.1:8080:8080 tidecast demo --address 0.0.0.0:8080

# Pinned: a new compiler is a change to test.
FROM rust:1.95-bookworm AS build
WORKDIR /tidecast
# The dependencies in a layer of their own, built with empty crates: they take most of the time and change rarely.
COPY Cargo.toml Cargo.lock clippy.toml ./
COPY crates/core/Cargo.toml crates/core/
COPY crates/train/Cargo.toml crates/train/
COPY crates/tables/Cargo.toml crates/tables/
COPY crates/stream/Cargo.toml crates/stream/
COPY crates/kafka/Cargo.toml crates/kafka/
COPY crates/study/Cargo.toml crates/study/
RUN for crate in . crates/*; do mkdir -p "$crate/src" && touch "$crate/src/lib.rs"; done \
    && echo 'fn main() {}' > src/main.rs && cp src/main.rs crates/study/src/main.rs \
    && cargo build --release --locked --bin tidecast && rm -r src crates/*/src
COPY pipelines pipelines
COPY crates crates
COPY src src
# cargo compares times, and the copied files are older than the empty crates.
RUN find src crates -name '*.rs' -exec touch {} + && cargo build --release --locked --bin tidecast \
    && strip target/release/tidecast

# Not pinned to a date: the packages of a Debian release change only for security fixes.
FROM debian:bookworm-slim
# Certificate authorities for brokers with TLS.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 tidecast
COPY --from=build /tidecast/target/release/tidecast /usr/local/bin/tidecast
COPY LICENSE /usr/share/doc/tidecast/LICENSE
COPY --chown=tidecast pipelines /home/tidecast/pipelines
# Mount point of the state volume, which inherits the owner of this folder.
RUN install -d -o tidecast /home/tidecast/pipelines/state
USER tidecast
WORKDIR /home/tidecast
EXPOSE 8080
ENTRYPOINT ["tidecast"]
