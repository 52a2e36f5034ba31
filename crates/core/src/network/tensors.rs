//! Named tensors, and the safetensors bytes they are stored as. Nothing in them is executable.
//!
//! The bytes have exactly one metadata entry: the format writes several in random order, and equal tensors must give equal
//! bytes.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

/// Limit of the header, which holds names, shapes and the metadata: a thousand times an ordinary one, and small enough to
/// parse before anything else about the file is known.
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

/// Removes the numbers of a tensor; `None` if it is missing, or has another shape or a number that is not finite.
pub fn take(tensors: &mut Tensors, name: &str, shape: &[usize]) -> Option<Vec<f32>> {
    let tensor = tensors.remove(name)?;
    let is_valid = tensor.shape == shape
        && tensor.data.len() == shape.iter().product::<usize>()
        && tensor.data.iter().all(|number| number.is_finite());
    is_valid.then_some(tensor.data)
}

/// Bytes that are not tensors of tidecast.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TensorsError {
    #[error("truncated: {found} bytes of at least {needed}; copy the file again")]
    Truncated { found: usize, needed: u64 },
    #[error("{found} bytes, but the header describes {described}; the file has trailing bytes")]
    TrailingBytes { found: usize, described: u64 },
    #[error(
        "not a safetensors file: its first 8 bytes give a header of {found} bytes, more than {HEADER_MAX}"
    )]
    HeaderTooLarge { found: u64 },
    #[error("invalid safetensors header ({reason}); the file is damaged or has another format")]
    Header { reason: String },
    #[error("the metadata has no `{key}`: the file was not written by tidecast")]
    NoMetadata { key: String },
    #[error("the metadata has `{found}` in addition to `{key}`: the file was not written by tidecast")]
    UnexpectedMetadata { key: String, found: String },
    #[error("tensor `{name}` is {found}, but only F32 is supported: convert it, in PyTorch with `.float()`")]
    Dtype { name: String, found: String },
    #[error("tensor `{name}` has {found} at index {index}: every weight must be finite")]
    NotFinite { name: String, index: usize, found: f32 },
}

/// The tensors as safetensors bytes, with the single metadata entry `key: text`. Equal arguments give equal bytes.
///
/// # Panics
/// If `text` is longer than [`HEADER_MAX`], or the numbers of a tensor do not fill its shape.
pub fn write(tensors: &Tensors, key: &str, text: &str) -> Vec<u8> {
    assert!(text.len() < HEADER_MAX, "a metadata text of {} bytes could not be read back", text.len());
    let bytes: Vec<Vec<u8>> = tensors
        .values()
        .map(|tensor| tensor.data.iter().flat_map(|number| number.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
        (name, view.expect("the numbers of a tensor fill its shape"))
    });
    let metadata = HashMap::from([(key.to_owned(), text.to_owned())]);
    safetensors::serialize(views, Some(metadata)).expect("checked tensors are serialisable")
}

/// The tensors in `bytes`, and the text of their single metadata entry `key`.
///
/// # Errors
/// If the bytes are truncated, have trailing bytes, another metadata entry, another type, or a number that is not finite.
pub fn read(bytes: &[u8], key: &str) -> Result<(Tensors, String), TensorsError> {
    let (metadata, data) = read_header(bytes)?;
    let entries = metadata.metadata().as_ref();
    let text = entries.and_then(|entries| entries.get(key));
    let text = text.ok_or_else(|| TensorsError::NoMetadata { key: key.to_owned() })?;
    let unexpected = entries.into_iter().flatten().map(|entry| entry.0).filter(|name| *name != key).min();
    if let Some(found) = unexpected {
        return Err(TensorsError::UnexpectedMetadata { key: key.to_owned(), found: found.clone() });
    }
    Ok((decode(&metadata, data)?, text.clone()))
}

/// The tensors in `bytes` of any writer; their metadata is ignored.
///
/// # Errors
/// As [`read`], except for the metadata.
pub fn read_any(bytes: &[u8]) -> Result<Tensors, TensorsError> {
    let (metadata, data) = read_header(bytes)?;
    decode(&metadata, data)
}

/// The parsed header, and the data after it.
fn read_header(bytes: &[u8]) -> Result<(Metadata, &[u8]), TensorsError> {
    check_length(bytes)?;
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| header_error(error, bytes))?;
    Ok((metadata, &bytes[LENGTH_BYTES + header..]))
}

/// The tensors that `metadata` describes.
fn decode(metadata: &Metadata, data: &[u8]) -> Result<Tensors, TensorsError> {
    let mut tensors = Tensors::new();
    // In the order of names: the reported tensor must not depend on the order in the file.
    let infos: BTreeMap<_, _> = metadata.tensors().into_iter().collect();
    for (name, info) in infos {
        if info.dtype != Dtype::F32 {
            return Err(TensorsError::Dtype { name, found: format!("{:?}", info.dtype) });
        }
        let numbers = data[info.data_offsets.0..info.data_offsets.1].as_chunks::<4>().0;
        let numbers: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
        if let Some(index) = numbers.iter().position(|number| !number.is_finite()) {
            return Err(TensorsError::NotFinite { name, index, found: numbers[index] });
        }
        tensors.insert(name, Tensor { shape: info.shape.clone(), data: numbers });
    }
    Ok(tensors)
}

/// Bytes of the header's length, little-endian, at the start of the file.
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

/// Distinguishes a file that is too short from one that is too long; all other errors are those of the library.
fn header_error(error: SafeTensorError, bytes: &[u8]) -> TensorsError {
    let found = bytes.len();
    if let (SafeTensorError::MetadataIncompleteBuffer, Some(described)) = (&error, described_length(bytes)) {
        return match described > found as u64 {
            true => TensorsError::Truncated { found, needed: described },
            false => TensorsError::TrailingBytes { found, described },
        };
    }
    TensorsError::Header { reason: error.to_string() }
}

/// The length of the file according to its header.
fn described_length(bytes: &[u8]) -> Option<u64> {
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

    /// One tensor with any type and metadata.
    fn one_tensor(dtype: Dtype, data: &[u8], metadata: &[(&str, &str)]) -> Vec<u8> {
        let view = TensorView::new(dtype, vec![data.len() * 8 / dtype.bitsize()], data).unwrap();
        let metadata = metadata.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect();
        safetensors::serialize([("a", view)], Some(metadata)).unwrap()
    }

    const METADATA: (&str, &str) = ("tidecast", "{}");

    #[test]
    fn written_tensors_are_read_back() {
        let bytes = write(&small(), "tidecast", "{\"cell\":\"gru\"}");
        assert_eq!(read(&bytes, "tidecast"), Ok((small(), "{\"cell\":\"gru\"}".into())));
        assert_eq!(bytes, write(&small(), "tidecast", "{\"cell\":\"gru\"}"));
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        let bytes = write(&small(), "tidecast", "text");
        for length in 0..bytes.len() {
            assert!(matches!(error(&bytes[..length]), TensorsError::Truncated { .. }), "{length}");
        }
    }

    #[test]
    fn a_flipped_bit_never_panics() {
        let bytes = write(&small(), "tidecast", "text");
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Damage in a name or a number may give another valid name or number; damage in the length must fail.
            let found = read(&damaged, "tidecast");
            assert!(bit >= 64 || found.is_err(), "{bit}");
        }
    }

    #[test]
    fn files_of_other_writers_are_rejected() {
        let number = 1.0_f32.to_le_bytes();
        assert_eq!(error(&[0xff; 100]), TensorsError::HeaderTooLarge { found: u64::MAX });
        let mut longer = write(&small(), "tidecast", "text");
        let described = longer.len() as u64;
        longer.push(0);
        assert_eq!(error(&longer), TensorsError::TrailingBytes { found: described as usize + 1, described });
        let half = one_tensor(Dtype::F16, &number, &[METADATA]);
        assert_eq!(error(&half), TensorsError::Dtype { name: "a".into(), found: "F16".into() });
        let nan = one_tensor(Dtype::F32, &f32::INFINITY.to_le_bytes(), &[METADATA]);
        assert_eq!(error(&nan), TensorsError::NotFinite { name: "a".into(), index: 0, found: f32::INFINITY });
        let other = one_tensor(Dtype::F32, &number, &[("format", "pt")]);
        assert_eq!(error(&other), TensorsError::NoMetadata { key: "tidecast".into() });
        let both = one_tensor(Dtype::F32, &number, &[("format", "pt"), METADATA]);
        let expected = TensorsError::UnexpectedMetadata { key: "tidecast".into(), found: "format".into() };
        assert_eq!(error(&both), expected);
        let text = error(b"\x10\0\0\0\0\0\0\0{\"a\":     maybe}").to_string();
        assert!(text.starts_with("invalid safetensors header"), "{text}");
    }
}
