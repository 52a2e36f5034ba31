//! Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tokio::signal::ctrl_c;
use tokio::sync::oneshot;

use super::log::say;

/// A future that is ready at the first Ctrl-C or SIGTERM; `meanwhile` says what is still done then. The second one ends the process at once: whoever asks twice
/// does not want to wait for the commit.
///
/// # Errors
/// If the system gives no signals.
pub fn stop(meanwhile: &'static str) -> Result<impl Future<Output = ()>> {
    let mut terminate = terminate()?;
    let (say, heard) = oneshot::channel();
    tokio::spawn(async move {
        wait(&mut terminate).await;
        say!("stopping: {meanwhile}; once more to stop at once");
        let _ = say.send(());
        wait(&mut terminate).await;
        std::process::exit(130);
    });
    Ok(async {
        if heard.await.is_err() {
            // The runtime is going down; nobody waits for a signal any more.
            std::future::pending().await
        }
    })
}

/// Set at the first Ctrl-C or SIGTERM: for work that looks at it now and then.
///
/// # Errors
/// As those of [`stop`].
pub fn flag(meanwhile: &'static str) -> Result<Arc<AtomicBool>> {
    let stop = stop(meanwhile)?;
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    tokio::spawn(async move {
        stop.await;
        set.store(true, Ordering::Relaxed);
    });
    Ok(flag)
}

#[cfg(unix)]
type Terminate = tokio::signal::unix::Signal;
#[cfg(not(unix))]
type Terminate = ();

#[cfg(unix)]
fn terminate() -> Result<Terminate> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::terminate()).context("cannot listen for SIGTERM")
}

#[cfg(not(unix))]
fn terminate() -> Result<Terminate> {
    Ok(())
}

#[cfg(unix)]
async fn wait(terminate: &mut Terminate) {
    tokio::select! {
        _ = ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn wait(_terminate: &mut Terminate) {
    let _ = ctrl_c().await;
}
