//! Export of spans by OpenTelemetry over HTTP: batches, commits and snapshots. OpenTelemetry's own environment variables
//! configure the collector; without one, nothing is exported.

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
const ENDPOINT_VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// Target of the exported spans. No log shows them.
const SPAN_TARGET: &str = "spans";

/// The exporter; sends the remaining spans when dropped.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts the exporter, if the environment names a collector.
    pub fn start() -> Result<Option<Self>> {
        if ENDPOINT_VARIABLES.iter().all(|name| std::env::var_os(name).is_none()) {
            return Ok(None);
        }
        let exporter =
            SpanExporter::builder().with_http().build().context("cannot connect to the trace collector")?;
        // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have precedence.
        let name = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| env!("CARGO_PKG_NAME").to_owned());
        let resource = Resource::builder().with_service_name(name).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Some(Self(provider)))
    }

    /// The layer that passes the spans, and nothing else, to the exporter.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let tracer: SdkTracer = self.0.tracer(env!("CARGO_PKG_NAME"));
        let spans = Targets::new().with_target(SPAN_TARGET, tracing::Level::TRACE);
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(spans)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!("the last traces were not exported: {error}");
        }
    }
}
