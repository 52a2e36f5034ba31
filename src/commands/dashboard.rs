//! The dashboard of `run` and `demo`.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::Result;

use tidecast_core::forecaster::Setup;

use crate::cli::Destination;
use crate::config::{Pipeline, ServeConfig};
use crate::report::model::summary;
use crate::serve::{self, Observer, OutputKind, PipelineInfo};
use crate::user_info;

/// Starts the dashboard of a run with this destination, if the pipeline has `[serve]`, and prints its address.
pub async fn start(pipeline: &Pipeline, setup: &Setup, to: &Destination) -> Result<Option<Observer>> {
    let Some(config) = &pipeline.serve else { return Ok(None) };
    let output = match to {
        Destination::Kafka => OutputKind::Topics,
        Destination::Parquet | Destination::Path(_) => OutputKind::Files,
        Destination::Stdout => OutputKind::Stdout,
    };
    let (observer, address) = serve::start(config, info(pipeline, setup, config, output)).await?;
    user_info!("dashboard: http://{address}");
    Ok(Some(observer))
}

/// Starts the dashboard of the demo: at `requested`, or else at the default address or a free port.
pub async fn start_demo(
    pipeline: &Pipeline,
    setup: &Setup,
    requested: Option<SocketAddr>,
) -> Result<(Observer, SocketAddr)> {
    let mut config = pipeline.serve.clone().unwrap_or_default();
    config.address = requested.unwrap_or(ServeConfig::default().address);
    let info = |config: &ServeConfig| info(pipeline, setup, config, OutputKind::Topics);
    match serve::start(&config, info(&config)).await {
        Err(error) if requested.is_none() && is_address_in_use(&error) => {
            config.address.set_port(0);
            serve::start(&config, info(&config)).await
        }
        started => started,
    }
}

fn is_address_in_use(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn info(pipeline: &Pipeline, setup: &Setup, config: &ServeConfig, output: OutputKind) -> PipelineInfo {
    PipelineInfo::new(pipeline, setup, config, summary(&setup.model), output)
}
