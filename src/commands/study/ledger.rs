//! Finished trainings in a file of JSON lines, so that a study of hours can be stopped and taken up again.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What was done, by its whole description.
pub struct Ledger<K, V> {
    done: Vec<Line<K, V>>,
    file: Option<(PathBuf, File)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<K, V> {
    training: K,
    result: V,
}

/// Far more than any study writes: a file of another kind is not read into memory.
const BYTES_MAX: u64 = 256 << 20;

impl<K, V> Ledger<K, V>
where
    K: Clone + PartialEq + Serialize + DeserializeOwned,
    V: Clone + Serialize + DeserializeOwned,
{
    /// Without a folder nothing outlives the process.
    ///
    /// # Errors
    /// If the file cannot be read or written, or is not of this study.
    pub fn open(folder: Option<&Path>, name: &str) -> Result<Self> {
        let Some(folder) = folder else { return Ok(Self { done: Vec::new(), file: None }) };
        let path = folder.join(name);
        let open = || {
            fs::create_dir_all(folder)?;
            let file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
            // Two studies in one file would write into each other's lines.
            file.try_lock()?;
            Ok::<File, std::io::Error>(file)
        };
        let file = open().with_context(|| format!("cannot keep results in {}", path.display()))?;
        let done = read(&path, &file).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { done, file: Some((path, file)) })
    }

    pub fn find(&self, training: &K) -> Option<&V> {
        self.done.iter().find(|line| line.training == *training).map(|line| &line.result)
    }

    /// # Errors
    /// If the file cannot be written.
    pub fn add(&mut self, training: &K, result: &V) -> Result<()> {
        let line = Line { training: training.clone(), result: result.clone() };
        if let Some((path, file)) = &mut self.file {
            let text = format!("{}\n", serde_json::to_string(&line).context("a result is no JSON")?);
            // In one piece, so that what a crash leaves is a whole line or the beginning of one.
            file.write_all(text.as_bytes()).with_context(|| format!("cannot write to {}", path.display()))?;
        }
        self.done.push(line);
        Ok(())
    }
}

/// All whole lines; the beginning of one that was never finished is cut off.
fn read<K: DeserializeOwned, V: DeserializeOwned>(path: &Path, file: &File) -> Result<Vec<Line<K, V>>> {
    let length = file.metadata()?.len();
    ensure!(
        length <= BYTES_MAX,
        "it is {length} bytes long, more than {BYTES_MAX}: not the results of a study; say another --out"
    );
    let text = fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let parse = |(i, line): (usize, &str)| {
        let known = serde_json::from_str(line);
        known.with_context(|| format!("line {} is no result of this study; say another --out", i + 1))
    };
    let lines = text[..whole].lines().enumerate().map(parse).collect::<Result<Vec<_>>>()?;
    if whole < text.len() {
        file.set_len(whole as u64)?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Numbers = Ledger<u32, Vec<f64>>;

    #[test]
    fn what_was_done_is_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Numbers::open(Some(folder.path()), "x.jsonl");
        let mut ledger = open().unwrap();
        ledger.add(&1, &vec![0.1, 1e-300]).unwrap();
        ledger.add(&2, &vec![]).unwrap();
        assert!(open().is_err(), "one study a file");
        drop(ledger);
        let ledger = open().unwrap();
        assert_eq!((ledger.find(&1), ledger.find(&3)), (Some(&vec![0.1, 1e-300]), None));
    }

    #[test]
    fn a_line_that_was_cut_off_is_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Numbers::open(Some(folder.path()), "x.jsonl");
        open().unwrap().add(&1, &vec![1.0]).unwrap();
        let path = folder.path().join("x.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{}", &text[..9])).unwrap();
        let mut ledger = open().unwrap();
        ledger.add(&2, &vec![2.0]).unwrap();
        drop(ledger);
        let ledger = open().unwrap();
        assert!(ledger.find(&1).is_some() && ledger.find(&2).is_some() && ledger.done.len() == 2);
    }

    #[test]
    fn a_foreign_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        fs::write(&path, "{\"training\":1,\"result\":[]}\nid,value\n1,2\nrest").unwrap();
        let Err(error) = Numbers::open(Some(folder.path()), "x.jsonl") else { panic!("it was read") };
        let error = format!("{error:#}");
        assert!(error.contains("x.jsonl: line 2 is no result of this study"), "{error}");
        assert!(fs::read_to_string(&path).unwrap().ends_with("rest"));
    }

    #[test]
    fn without_a_folder_nothing_is_written() {
        let mut ledger = Numbers::open(None, "x.jsonl").unwrap();
        ledger.add(&1, &vec![1.0]).unwrap();
        assert_eq!(ledger.find(&1), Some(&vec![1.0]));
    }
}
