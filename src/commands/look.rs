//! What a running pipeline shows of itself, wired to it where the pipeline file asks for it.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::Result;

use super::log::say;
use crate::cli::Destination;
use crate::config::{Pipeline, Serve, duration_text};
use tidecast_core::forecaster::Setup;
use tidecast_core::model::{CellsPart, Model};
use tidecast_core::network::StateKind;
use crate::serve::{self, Facts, Observer, Writes};

/// Serves what `[serve]` says, if it is there, of a run that writes `to`; where it serves, is said on standard error.
pub async fn start(pipeline: &Pipeline, setup: &Setup, to: &Destination) -> Result<Option<Observer>> {
    let Some(config) = &pipeline.serve else { return Ok(None) };
    let writes = match to {
        Destination::Kafka => Writes::Topics,
        Destination::Parquet | Destination::Path(_) => Writes::Files,
        Destination::Stdout => Writes::Lines,
    };
    let (observer, address) = serve::start(config, facts(pipeline, setup, config, writes)).await?;
    say!("dashboard: http://{address}");
    Ok(Some(observer))
}

/// Serves the demo: on another port, where its own is taken and none was asked for.
pub async fn start_demo(
    pipeline: &Pipeline,
    setup: &Setup,
    asked: Option<SocketAddr>,
) -> Result<(Observer, SocketAddr)> {
    let mut config = pipeline.serve.clone().unwrap_or_default();
    config.address = asked.unwrap_or(Serve::default().address);
    let facts = |config: &Serve| facts(pipeline, setup, config, Writes::Topics);
    let started = serve::start(&config, facts(&config)).await;
    match started {
        Err(error) if asked.is_none() && is_taken(&error) => {
            config.address.set_port(0);
            serve::start(&config, facts(&config)).await
        }
        started => started,
    }
}

fn is_taken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn facts(pipeline: &Pipeline, setup: &Setup, config: &Serve, writes: Writes) -> Facts {
    Facts::of(pipeline, setup, config, model(&setup.model), writes)
}

/// The model in words, for a page; its hash first.
fn model(model: &Model) -> Vec<(String, String)> {
    let description = &model.description;
    let (rules, data) = (&description.rules, &description.data);
    let mut lines =
        vec![("hash".to_owned(), model.hash.clone()), ("parameters".to_owned(), grouped(model.parameters()))];
    let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
    if let Some(memory) = &model.memory {
        line("memory", format!("{} poles", memory.poles.len()));
    }
    if let Some(CellsPart { network, state, .. }) = &description.cells {
        let state = match state {
            StateKind::Window => format!("window of {} steps", description.lookback),
            StateKind::Carried => "carried state".to_owned(),
        };
        line("cells", format!("{} x {}, {} layer(s), {state}", network.cell, network.hidden, network.layers));
    }
    line("forecasts", format!("{} steps of {}", description.horizon, duration_text(rules.grid.every)));
    line("trained on", format!("{} rows of {} series", grouped(data.rows), data.series));
    line("history", format!("{} to {}", data.from, data.until));
    line("learned until", data.trained_until.clone());
    for score in &description.scores {
        let seasonal =
            score.seasonal_naive.map_or(String::new(), |error| format!(", seasonal naive {error:.3}"));
        let text = format!("{:.3}, repeat last {:.3}{seasonal}", score.mae, score.repeat_last);
        line(&format!("error on the {} part", score.part), text);
    }
    lines
}

/// A count with its thousands apart.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group));
    groups.collect::<Vec<_>>().join(",")
}
