//! Graceful shutdown at Ctrl-C and SIGTERM.

use anyhow::{Context, Result};
use tokio::signal::ctrl_c;
use tokio_util::sync::CancellationToken;

use crate::user_info;

/// A token that the first Ctrl-C or SIGTERM cancels; `cleanup` is logged as what happens then. The second signal ends the
/// process at once.
///
/// # Errors
/// If the system does not deliver signals.
pub fn on_signal(cleanup: &'static str) -> Result<CancellationToken> {
    let mut sigterm = sigterm()?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        next_signal(&mut sigterm).await;
        user_info!("stopping: {cleanup}; a second signal stops at once");
        cancelled.cancel();
        next_signal(&mut sigterm).await;
        std::process::exit(130);
    });
    Ok(token)
}

#[cfg(unix)]
type Sigterm = tokio::signal::unix::Signal;
#[cfg(not(unix))]
type Sigterm = ();

#[cfg(unix)]
fn sigterm() -> Result<Sigterm> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::terminate()).context("cannot listen for SIGTERM")
}

#[cfg(not(unix))]
fn sigterm() -> Result<Sigterm> {
    Ok(())
}

#[cfg(unix)]
async fn next_signal(sigterm: &mut Sigterm) {
    tokio::select! {
        _ = ctrl_c() => {}
        _ = sigterm.recv() => {}
    }
}

#[cfg(not(unix))]
async fn next_signal(_sigterm: &mut Sigterm) {
    let _ = ctrl_c().await;
}
