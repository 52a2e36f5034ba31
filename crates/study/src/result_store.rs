//! Results of finished trainings in a JSON lines file, so that a study of hours can be stopped and resumed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Results by the full description of their training.
pub struct ResultStore<K, V> {
    lines: Vec<Line<K, V>>,
    file: Option<(PathBuf, File)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<K, V> {
    training: K,
    result: V,
}

/// Maximum size of the file, far above that of any study: a file of another kind is not read into memory.
const BYTES_MAX: u64 = 256 << 20;

impl<K, V> ResultStore<K, V>
where
    K: Clone + PartialEq + Serialize + DeserializeOwned,
    V: Clone + Serialize + DeserializeOwned,
{
    /// Opens the file `name` in a folder; without a folder, results stay in memory.
    ///
    /// # Errors
    /// If the file is not readable and writable, is in use by another study, or holds something else.
    pub fn open(folder: Option<&Path>, name: &str) -> Result<Self> {
        let Some(folder) = folder else { return Ok(Self { lines: Vec::new(), file: None }) };
        let path = folder.join(name);
        let open = || {
            fs::create_dir_all(folder)?;
            let file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
            // Two studies would write into each other's lines.
            file.try_lock()?;
            Ok::<File, std::io::Error>(file)
        };
        let file = open().with_context(|| format!("cannot write results to {}", path.display()))?;
        let lines = read(&path, &file).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { lines, file: Some((path, file)) })
    }

    pub fn get(&self, training: &K) -> Option<&V> {
        self.lines.iter().find(|line| line.training == *training).map(|line| &line.result)
    }

    /// # Errors
    /// If the file cannot be written.
    pub fn add(&mut self, training: &K, result: &V) -> Result<()> {
        let line = Line { training: training.clone(), result: result.clone() };
        if let Some((path, file)) = &mut self.file {
            let text = format!("{}\n", serde_json::to_string(&line).context("cannot serialize a result")?);
            // One write, so that a crash leaves a whole line or the start of one.
            file.write_all(text.as_bytes()).with_context(|| format!("cannot write to {}", path.display()))?;
        }
        self.lines.push(line);
        Ok(())
    }
}

/// Reads all whole lines; truncates an unfinished last line.
fn read<K: DeserializeOwned, V: DeserializeOwned>(path: &Path, file: &File) -> Result<Vec<Line<K, V>>> {
    let length = file.metadata()?.len();
    ensure!(
        length <= BYTES_MAX,
        "{length} bytes are more than {BYTES_MAX}, so it holds no results of a study; use another --out"
    );
    let text = fs::read_to_string(path)?;
    let end = text.rfind('\n').map_or(0, |end| end + 1);
    let parse = |(i, line): (usize, &str)| {
        let parsed = serde_json::from_str(line);
        parsed.with_context(|| format!("line {} is no result of this study; use another --out", i + 1))
    };
    let lines = text[..end].lines().enumerate().map(parse).collect::<Result<Vec<_>>>()?;
    if end < text.len() {
        file.set_len(end as u64)?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Result<ResultStore<u32, Vec<f64>>> {
        ResultStore::open(Some(folder), "x.jsonl")
    }

    #[test]
    fn results_survive_in_a_file_of_one_study() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path()).unwrap();
        store.add(&1, &vec![0.1, 1e-300]).unwrap();
        store.add(&2, &vec![]).unwrap();
        assert!(open(folder.path()).is_err(), "the file is locked");
        drop(store);
        let store = open(folder.path()).unwrap();
        assert_eq!((store.get(&1), store.get(&3)), (Some(&vec![0.1, 1e-300]), None));
    }

    #[test]
    fn an_unfinished_line_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).unwrap().add(&1, &vec![1.0]).unwrap();
        let path = folder.path().join("x.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{}", &text[..9])).unwrap();
        open(folder.path()).unwrap().add(&2, &vec![2.0]).unwrap();
        let store = open(folder.path()).unwrap();
        assert!(store.get(&1).is_some() && store.get(&2).is_some() && store.lines.len() == 2);
    }

    #[test]
    fn a_foreign_file_is_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        let text = "{\"training\":1,\"result\":[]}\nid,value\n1,2\nrest";
        fs::write(&path, text).unwrap();
        let error = format!("{:#}", open(folder.path()).err().unwrap());
        assert!(error.contains("x.jsonl: line 2 is no result of this study"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
