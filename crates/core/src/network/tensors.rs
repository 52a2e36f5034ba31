//! Named tensors, and the safetensors bytes they are stored as. Nothing in them is ever executed.
//!
//! The bytes carry exactly one metadata entry, because the format writes several in random order, and equal
//! tensors must give equal bytes.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

/// The header holds the names, the shapes and the text; this is a thousand times an ordinary one, and small
/// enough to be parsed before anything is known of the file.
pub const HEADER_MAX: usize = 16 << 20;

/// A dense tensor, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    /// As many numbers as the product of `shape`.
    pub data: Vec<f32>,
}

impl Tensor {
    pub fn zeros(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] }
    }
}

/// Tensors by name, in the order of their names.
pub type Tensors = BTreeMap<String, Tensor>;

/// Why bytes are not tensors of ours.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TensorsError {
    #[error("cut short: {found} bytes, but at least {needed} are needed; copy the file again")]
    Truncated { found: usize, needed: u64 },
    #[error("{found} bytes, but the header describes {described}; the file has something else at its end")]
    Trailing { found: usize, described: u64 },
    #[error(
        "not a safetensors file: its first 8 bytes give a header of {found} bytes, more than {HEADER_MAX}"
    )]
    HeaderTooLarge { found: u64 },
    #[error("not a valid safetensors header ({reason}); the file is damaged or of another kind")]
    Header { reason: String },
    #[error("the metadata has no `{key}`: the file was not written by tidecast")]
    NoMetadata { key: String },
    #[error("the metadata has `{found}` besides `{key}`: the file was not written by tidecast")]
    ForeignMetadata { key: String, found: String },
    #[error("tensor `{name}` is {found}, but only F32 is read: convert it, in PyTorch with `.float()`")]
    Dtype { name: String, found: String },
    #[error("tensor `{name}` holds {found} at place {place}: every weight must be a finite number")]
    NotFinite { name: String, place: usize, found: f32 },
}

/// The tensors as safetensors bytes with the single metadata entry `key: text`. Equal arguments give equal
/// bytes.
///
/// Panics when `text` is longer than [`HEADER_MAX`] or a tensor's numbers do not fill its shape.
pub fn write(tensors: &Tensors, key: &str, text: &str) -> Vec<u8> {
    assert!(text.len() < HEADER_MAX, "a text of {} bytes could not be read again", text.len());
    let bytes: Vec<Vec<u8>> = tensors.values().map(bytes_of).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
        (name, view.expect("the numbers of a tensor fill its shape"))
    });
    let metadata = HashMap::from([(key.to_owned(), text.to_owned())]);
    safetensors::serialize(views, Some(metadata)).expect("checked tensors can be written")
}

fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    tensor.data.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The tensors in `bytes` and the text of their single metadata entry `key`.
pub fn read(bytes: &[u8], key: &str) -> Result<(Tensors, String), TensorsError> {
    check_length(bytes)?;
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| error_of(e, bytes))?;
    let entries = metadata.metadata().as_ref();
    let text = entries.and_then(|entries| entries.get(key));
    let text = text.ok_or_else(|| TensorsError::NoMetadata { key: key.to_owned() })?;
    let foreign = entries.into_iter().flatten().map(|entry| entry.0).filter(|name| *name != key).min();
    if let Some(found) = foreign {
        return Err(TensorsError::ForeignMetadata { key: key.to_owned(), found: found.clone() });
    }
    Ok((numbers(&metadata, &bytes[LENGTH_BYTES + header..])?, text.clone()))
}

/// The tensors in `bytes`, whoever wrote them; what the metadata says is passed over.
pub fn read_foreign(bytes: &[u8]) -> Result<Tensors, TensorsError> {
    check_length(bytes)?;
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| error_of(e, bytes))?;
    numbers(&metadata, &bytes[LENGTH_BYTES + header..])
}

/// The tensors that the header describes in the `data` behind it.
fn numbers(metadata: &Metadata, data: &[u8]) -> Result<Tensors, TensorsError> {
    let mut tensors = Tensors::new();
    // Errors name the first offender by name, whatever the order in the file.
    let infos: BTreeMap<_, _> = metadata.tensors().into_iter().collect();
    for (name, info) in infos {
        if info.dtype != Dtype::F32 {
            return Err(TensorsError::Dtype { name, found: format!("{:?}", info.dtype) });
        }
        let numbers = data[info.data_offsets.0..info.data_offsets.1].as_chunks::<4>().0;
        let numbers: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
        if let Some(place) = numbers.iter().position(|number| !number.is_finite()) {
            return Err(TensorsError::NotFinite { name, place, found: numbers[place] });
        }
        tensors.insert(name, Tensor { shape: info.shape.clone(), data: numbers });
    }
    Ok(tensors)
}

/// The header's length stands in the first 8 bytes, little-endian.
const LENGTH_BYTES: usize = 8;

fn check_length(bytes: &[u8]) -> Result<(), TensorsError> {
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        return Err(TensorsError::Truncated { found: bytes.len(), needed: LENGTH_BYTES as u64 });
    };
    let header = u64::from_le_bytes(*length);
    if header > HEADER_MAX as u64 {
        return Err(TensorsError::HeaderTooLarge { found: header });
    }
    let needed = LENGTH_BYTES as u64 + header;
    if (bytes.len() as u64) < needed {
        return Err(TensorsError::Truncated { found: bytes.len(), needed });
    }
    Ok(())
}

/// Says which way the length is wrong; every other reason is the library's own.
fn error_of(error: SafeTensorError, bytes: &[u8]) -> TensorsError {
    let found = bytes.len();
    if let (SafeTensorError::MetadataIncompleteBuffer, Some(described)) = (&error, described(bytes)) {
        return match described > found as u64 {
            true => TensorsError::Truncated { found, needed: described },
            false => TensorsError::Trailing { found, described },
        };
    }
    TensorsError::Header { reason: error.to_string() }
}

/// How long the header says the file is.
fn described(bytes: &[u8]) -> Option<u64> {
    let header = u64::from_le_bytes(*bytes.first_chunk::<LENGTH_BYTES>()?);
    let end = LENGTH_BYTES.checked_add(usize::try_from(header).ok()?)?;
    let entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(bytes.get(LENGTH_BYTES..end)?).ok()?;
    let ends = entries.values().filter_map(|entry| entry["data_offsets"][1].as_u64());
    (end as u64).checked_add(ends.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Tensors {
        let tensor = |shape: &[usize], data: &[f32]| Tensor { shape: shape.to_vec(), data: data.to_vec() };
        Tensors::from([
            ("weight".into(), tensor(&[2, 3], &[1.0, -2.5, 0.0, 4.0, 1e-30, f32::MIN])),
            ("bias".into(), tensor(&[2], &[0.5, 7.0])),
        ])
    }

    fn error(bytes: &[u8]) -> TensorsError {
        read(bytes, "tidecast").unwrap_err()
    }

    /// The bytes of tensors that are not ours, as the library writes them.
    fn foreign(dtype: Dtype, data: &[u8], metadata: &[(&str, &str)]) -> Vec<u8> {
        let view = TensorView::new(dtype, vec![data.len() * 8 / dtype.bitsize()], data).unwrap();
        let metadata = metadata.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect();
        safetensors::serialize([("a", view)], Some(metadata)).unwrap()
    }

    const OURS: (&str, &str) = ("tidecast", "{}");

    #[test]
    fn what_is_written_is_read() {
        let bytes = write(&small(), "tidecast", "{\"cell\":\"gru\"}");
        assert_eq!(read(&bytes, "tidecast"), Ok((small(), "{\"cell\":\"gru\"}".into())));
        assert_eq!(bytes, write(&small(), "tidecast", "{\"cell\":\"gru\"}"));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = write(&small(), "tidecast", "text");
        for length in 0..bytes.len() {
            assert!(matches!(error(&bytes[..length]), TensorsError::Truncated { .. }), "{length}");
        }
    }

    #[test]
    fn no_flipped_bit_panics() {
        let bytes = write(&small(), "tidecast", "text");
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Damage in a name or a number may well read as another name or number; that in the length may
            // not.
            let found = read(&damaged, "tidecast");
            assert!(bit >= 64 || found.is_err(), "{bit}");
        }
    }

    #[test]
    fn foreign_files_are_told_apart() {
        let number = 1.0_f32.to_le_bytes();
        assert_eq!(error(&[0xff; 100]), TensorsError::HeaderTooLarge { found: u64::MAX });
        let mut longer = write(&small(), "tidecast", "text");
        let described = longer.len() as u64;
        longer.push(0);
        assert_eq!(error(&longer), TensorsError::Trailing { found: described as usize + 1, described });
        let half = foreign(Dtype::F16, &number, &[OURS]);
        assert_eq!(error(&half), TensorsError::Dtype { name: "a".into(), found: "F16".into() });
        let nan = foreign(Dtype::F32, &f32::INFINITY.to_le_bytes(), &[OURS]);
        assert_eq!(error(&nan), TensorsError::NotFinite { name: "a".into(), place: 0, found: f32::INFINITY });
        let other = foreign(Dtype::F32, &number, &[("format", "pt")]);
        assert_eq!(error(&other), TensorsError::NoMetadata { key: "tidecast".into() });
        let both = foreign(Dtype::F32, &number, &[("format", "pt"), OURS]);
        let expected = TensorsError::ForeignMetadata { key: "tidecast".into(), found: "format".into() };
        assert_eq!(error(&both), expected);
        let text = error(b"\x10\0\0\0\0\0\0\0{\"a\":     maybe}").to_string();
        assert!(text.starts_with("not a valid safetensors header"), "{text}");
    }
}
