//! Forecasts as JSON lines on any writer: standard output for `--to -`, or a pipe into another program. Rejects are only
//! counted.

use std::io::{ErrorKind, Write};

use anyhow::{Result, anyhow};

use crate::codec::RowWriter;
use crate::{Output, Partition, Positions, Sink};

/// Writes one JSON object per line. A commit is a flush: the reader owns a line once it is written.
pub struct NdjsonSink<W> {
    out: W,
    /// The lines of one output, written in one call so that a reader never waits for the rest of a line.
    lines: Vec<u8>,
}

impl<W: Write + Send> NdjsonSink<W> {
    pub fn new(out: W) -> Self {
        Self { out, lines: Vec::new() }
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(write_error)
    }
}

impl<W: Write + Send> Sink for NdjsonSink<W> {
    async fn write(&mut self, output: Output) -> Result<()> {
        let writer = RowWriter::new(&output.forecasts)?;
        self.lines.clear();
        for row in 0..output.forecasts.num_rows() {
            writer.write(row, &mut self.lines)?;
            self.lines.push(b'\n');
        }
        self.out.write_all(&self.lines).map_err(write_error)
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        self.flush()?;
        Ok(reached.clone())
    }

    /// Does nothing: a written line cannot be taken back.
    async fn discard(&mut self, _partitions: &[Partition]) -> Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        self.flush()
    }
}

fn write_error(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::BrokenPipe => {
            anyhow!(error).context("cannot write forecasts: the reading program has exited")
        }
        _ => anyhow!(error).context("cannot write forecasts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Partition, SourceRecords};
    use tidecast_core::schema::{ForecastBuilder, OutputLabels, ScoreBuilder};

    fn output() -> Output {
        let labels = || OutputLabels { every: "1h".into(), model: "abc".into() };
        let mut builder = ForecastBuilder::new(&[0.8], labels());
        let lists = [[0.1, f32::NAN], [1e-7, -2.0], [3.5, 1e20]];
        builder.push(41, "s\"1", "value", 3_600_000_000, lists.iter().map(|list| &list[..]));
        builder.push(42, "b", "value", 1, [&[0.0; 2][..]; 3]);
        Output {
            partition: Partition { topic: "t".into(), number: 0 },
            forecasts: builder.finish(),
            scores: ScoreBuilder::new(&[], labels()).finish(),
            rejects: Vec::new(),
            source: SourceRecords::default(),
        }
    }

    #[tokio::test]
    async fn each_forecast_is_one_line() {
        let mut bytes = Vec::new();
        let mut sink = NdjsonSink::new(&mut bytes);
        sink.write(output()).await.unwrap();
        sink.commit(&Positions::new()).await.unwrap();
        drop(sink);
        let expected = concat!(
            r#"{"series":"s\"1","target":"value","origin":"1970-01-01T01:00:00Z","every":"1h","forecast":[0.1,null],"#,
            r#""lower_80":[1e-7,-2.0],"upper_80":[3.5,1e+20],"model":"abc"}"#,
            "\n",
            r#"{"series":"b","target":"value","origin":"1970-01-01T00:00:00.000001Z","every":"1h","forecast":[0.0,0.0],"#,
            r#""lower_80":[0.0,0.0],"upper_80":[0.0,0.0],"model":"abc"}"#,
            "\n",
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_closed_pipe_is_reported_clearly() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let error = NdjsonSink::new(writer).write(output()).await.unwrap_err();
        assert!(error.to_string().contains("has exited"), "{error:#}");
    }
}
