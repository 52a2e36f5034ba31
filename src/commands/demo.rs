//! `demo`: everything at once in one process, on real data. A broker, a year of weather sensors replayed into it in
//! accelerated time, an ordinary consumer that forecasts them, and a table of what it does.

mod board;
pub mod sample;
mod screen;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;

use super::ends::AnySink;
use super::replay::Pace;
use super::{ends, look, prepare, stop};
use crate::cli::{Demo, Speed};
use crate::config::{Order, Pipeline};
use tidecast_stream::driver::{Options, Progress, drive};
use tidecast_core::forecaster::Setup;
use tidecast_stream::codec::Codec;
use tidecast_kafka::{Cluster, Embedded, KafkaSource, Replay, Until};
use tidecast_tables::{ParquetInput, Range};
use tidecast_stream::{Output, Partition, Positions, Sink};
use crate::serve::{Observer, Watched};
use board::Board;
use screen::Screen;

/// After the last reading, the time its forecasts have to come back.
const SETTLE: Duration = Duration::from_secs(2);

pub async fn demo(arguments: Demo, quiet: bool) -> Result<()> {
    let stop = stop::stop("the broker goes with this process")?;
    let sample = sample::unpack()?;
    let pipeline = &sample.pipeline;
    let setup = prepare::setup(pipeline)?;
    let config = ends::kafka_source(pipeline)?;
    let (observer, page) = look::start_demo(pipeline, &setup, arguments.address).await?;
    let broker = Embedded::start(&config.topic, ends::PARTITIONS)?;
    let cluster = Cluster::new(&config.brokers, Some(&broker), &config.client)?;
    let board = Arc::new(Mutex::new(Board::new(pipeline.rules.grid)));
    let screen =
        Screen::start(board.clone(), page, broker.bootstrap_servers(), pipeline, arguments.speed, quiet)?;

    let feed = feed(pipeline, &cluster, arguments.speed, &board);
    let over = async {
        tokio::select! {
            sent = feed => {
                // The last forecasts are still on their way.
                tokio::time::sleep(SETTLE).await;
                sent
            }
            () = stop => Ok(()),
            () = wait(arguments.duration) => Ok(()),
        }
    };
    let consumed = consume(pipeline, setup, (&broker, &cluster), board.clone(), observer, over).await;
    screen.end().await;
    let progress = consumed?;
    let board = board.lock().expect("nobody panics with the board in hand");
    super::print(&screen::summary(&board, &progress))
}

async fn wait(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// Sends the sample's readings to the broker at their pace, and shows them to the board.
async fn feed(pipeline: &Pipeline, cluster: &Cluster, speed: Speed, board: &Mutex<Board>) -> Result<()> {
    let Pipeline { columns, time_unit, limits, .. } = pipeline;
    let (config, history) = (ends::kafka_source(pipeline)?, sample::history(pipeline)?);
    let input =
        ParquetInput::open(history, columns, *time_unit, Order::File, Range::default(), None, limits)?;
    let mut topic = Replay::open(cluster, &config.topic, columns.clone(), ends::PARTITIONS).await?;
    let mut pace = Pace::new(speed);
    for batch in input.batches() {
        let mut rows = batch?.rows;
        while rows.num_rows() > 0 {
            let due = pace.wait(&rows, columns).await;
            let sent = rows.slice(0, due);
            topic.send(&sent).await?;
            board.lock().expect("nobody panics with the board in hand").readings(&sent, columns);
            rows = rows.slice(due, rows.num_rows() - due);
        }
    }
    topic.flush().await
}

/// An ordinary consumer of the readings, until `over` is.
async fn consume(
    pipeline: &Pipeline,
    setup: Arc<Setup>,
    (broker, cluster): (&Embedded, &Cluster),
    board: Arc<Mutex<Board>>,
    observer: Observer,
    over: impl Future<Output = Result<()>>,
) -> Result<Progress> {
    let config = ends::kafka_source(pipeline)?;
    let codec = Codec::new(config.format, &pipeline.columns, pipeline.time_unit, &pipeline.limits);
    let source = KafkaSource::open(cluster, config, codec, Until::Stopped).await?;
    observer.ends(source.ends());
    let sink = ends::kafka(pipeline, Some(broker), source.partitions(), Some(source.group())).await?;
    let sink = Watched::new(Shown { sink, board }, Some(observer.clone()));
    let mut source = Watched::new(source, Some(observer.clone()));
    let options = Options {
        setup,
        commit: config.commit,
        state: None,
        start: config.start,
        deleted: config.deleted,
        queue_rows: pipeline.limits.queue_rows,
        finish: false,
        rejects: None,
    };
    let mut fed = Ok(());
    let stop = async { fed = over.await };
    let (progress, _) =
        drive(&mut source, sink, options, stop, |progress| observer.progress(progress)).await?;
    fed?;
    Ok(progress)
}

/// A sink whose forecasts the board sees, too.
struct Shown {
    sink: AnySink,
    board: Arc<Mutex<Board>>,
}

impl Sink for Shown {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.board.lock().expect("nobody panics with the board in hand").forecasts(&output.forecasts);
        self.sink.write(output).await
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        self.sink.commit(reached).await
    }

    async fn forget(&mut self, partitions: &[Partition]) -> Result<()> {
        self.sink.forget(partitions).await
    }

    async fn finish(&mut self) -> Result<()> {
        self.sink.finish().await
    }
}
