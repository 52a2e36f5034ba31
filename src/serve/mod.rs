//! The dashboard, metrics and health checks of a running pipeline. Enabled by `[serve]` in the pipeline file.
//!
//! ```text
//! driver -> observer -> counters, status ------------------------> dashboard -> http, sse, prometheus
//!                `----> queue (bounded, drops when full) -> view ----'
//! ```
//!
//! - `info`        fixed properties: names, grid, model
//! - `status`      partitions, events, samples of refused messages
//! - `counters`    counters and histograms
//! - `view`        each series: its last steps, their forecasts, their errors
//! - `dashboard`   the shared state of the four above, and a sample of the process each second
//! - `observer`    instrumentation of the source and the sink
//! - `http`        listener, routes, security headers, files of the page
//! - `sse`         event streams of the page
//! - `prometheus`  the metrics
//!
//! No result depends on this module. Ids and messages are untrusted text: they leave as JSON, and the page inserts them as
//! text nodes only.

mod counters;
mod dashboard;
mod http;
mod info;
mod observer;
mod prometheus;
mod sse;
mod status;
mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

pub use dashboard::Dashboard;
pub use info::{OutputKind, PipelineInfo};
pub use observer::{Instrumented, Observer};
pub use view::{SeriesRow, ViewQuery};

use crate::config::ServeConfig;
use http::{ConnectionLimits, HostCheck};

const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Binds the address of `config` and serves until the runtime ends. Returns the observer to report to, and the bound address.
///
/// # Errors
/// If the address cannot be bound.
pub async fn start(config: &ServeConfig, info: PipelineInfo) -> Result<(Observer, SocketAddr)> {
    let address = config.address;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot serve on {address}: set another address in [serve]"))?;
    let address = listener.local_addr().context("cannot read the bound address")?;
    let dashboard = Arc::new(Dashboard::new(info));
    // Unbounded in count: the observer bounds the queued bytes.
    let (sender, updates) = mpsc::unbounded_channel();
    tokio::spawn(apply_updates(dashboard.clone(), updates));
    tokio::spawn(refresh(dashboard.clone()));
    let host_check = if address.ip().is_loopback() { HostCheck::LoopbackOnly } else { HostCheck::Any };
    let app = http::router(dashboard.clone(), host_check);
    tokio::spawn(http::serve(listener, app, ConnectionLimits::default()));
    Ok((Observer::new(dashboard, sender), address))
}

async fn apply_updates(dashboard: Arc<Dashboard>, mut updates: mpsc::UnboundedReceiver<view::ViewUpdate>) {
    while let Some(update) = updates.recv().await {
        dashboard.apply(&update);
    }
}

async fn refresh(dashboard: Arc<Dashboard>) {
    let mut ticks = interval(REFRESH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        dashboard.refresh();
    }
}
