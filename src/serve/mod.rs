//! A running pipeline to look at: its dashboard, its metrics, its health. Off unless the pipeline file says `[serve]`.
//!
//! - `watched`   the source and the sink as the driver has them, and somebody watching
//! - `observer`  what is noted of the line: a few additions a batch, and a channel that drops when it is full
//! - `line`      where each partition stands, what happened, samples of what was refused
//! - `histogram` durations and sizes, counted
//! - `scored`    what the stream scored of its own forecasts, counted
//! - `stamps`    when what is written and not durable was stamped
//! - `door`      who may come in, and how many at a time
//! - `pulse`     a sample each second: rates, lag, latency, memory
//! - `board`     every series: its last steps, what was forecast for them, how far off that was
//! - `facts`     what does not change: names, grid, model
//! - `metrics`   all of it for Prometheus
//! - `routes`, `streams`, `files`   the pages, and what flows to them
//!
//! Nothing that the line computes depends on what is here. Whoever watches may miss batches and never holds one up; the
//! counts are exact all the same. Ids and messages are other people's text: they leave as JSON, and the page shows them as
//! text only.

mod board;
mod door;
mod facts;
mod files;
mod histogram;
mod line;
mod metrics;
mod observer;
mod pulse;
mod routes;
mod scored;
mod stamps;
mod streams;
mod watched;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use door::Door;
pub use facts::{Facts, Writes};
pub use observer::Observer;
pub use watched::Watched;

use crate::config::Serve;

/// From one sample to the next.
const SECOND: Duration = Duration::from_secs(1);

/// Opens the address, and answers there from now on until the runtime ends. What it answers from is told to the observer.
///
/// # Errors
/// If the address cannot be had.
pub async fn start(config: &Serve, facts: Facts) -> Result<(Observer, std::net::SocketAddr)> {
    let address = config.address;
    let listener = TcpListener::bind(address).await;
    let listener =
        listener.with_context(|| format!("cannot serve on {address}: set another address in [serve]"))?;
    let address = listener.local_addr().context("the address that is served on")?;
    let (observer, seen) = Observer::new(Arc::new(facts));
    let shared = observer.shared();
    tokio::spawn(board::keep(shared.clone(), seen));
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(SECOND);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            shared.tick();
        }
    });
    let app = routes::routes(observer.shared(), address.ip().is_loopback());
    tokio::spawn(async move {
        if let Err(error) = axum::serve(Door::new(listener), app).await {
            tracing::warn!("the dashboard has ended: {error}");
        }
    });
    Ok((observer, address))
}
