//! Spans for a collector, by OpenTelemetry over HTTP: batches, commits and snapshots. Where they go is said by the variables that
//! OpenTelemetry has for it; without an address there are none.

use anyhow::{Context, Result};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// The variables that name a collector.
const ADDRESSES: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// Sends what it has when it is dropped.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Those that the environment asks for.
    pub fn start() -> Result<Option<Self>> {
        if ADDRESSES.iter().all(|name| std::env::var_os(name).is_none()) {
            return Ok(None);
        }
        let exporter =
            SpanExporter::builder().with_http().build().context("cannot open the collector of traces")?;
        // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go over this.
        let name = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| env!("CARGO_PKG_NAME").to_owned());
        let resource = Resource::builder().with_service_name(name).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Some(Self(provider)))
    }

    /// Hands spans, and nothing else, to the exporter.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let tracer: SdkTracer = self.0.tracer(env!("CARGO_PKG_NAME"));
        let only = Targets::new().with_target(super::log::SPANS, tracing::Level::TRACE);
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(only)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!("the last traces were not sent: {error}");
        }
    }
}
