//! A packed flat index as plain bytes, and back.

use std::borrow::Cow;
use std::sync::Arc;

use synadb_types::{RowId, RowSet};

use super::coder::Coder;
use super::{CHUNK_BLOCKS, Chunk, PackedConfig, PackedFlat, Place};
use crate::quantize::{Anchor, BLOCK_ROWS, Rotation, bit_block_bytes};
use crate::{IndexError, Metric, Section, SharedBytes};

const HEADER: &str = "packed.header";
const ANCHOR: &str = "packed.anchor";
const PLACES: &str = "packed.places";
const CODES: &str = "packed.codes";
const FINE: &str = "packed.fine";

const VERSION: u32 = 1;
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::DotProduct];
/// Dimensions of a vector at most, so that no size runs over.
const DIMENSIONS_MAX: usize = 1 << 20;
const HEADER_BYTES: usize = 40;
const PLACE_BYTES: usize = 8;

impl PackedFlat {
    /// The index as sections of bytes: header, anchor, places and codes. All numbers are
    /// little-endian.
    #[must_use]
    pub fn export(&self) -> Vec<Section<'_>> {
        let coder = &*self.coder;
        let metric = METRICS.iter().position(|&metric| metric == coder.metric).unwrap_or(0);
        let places = self.chunks.iter().flat_map(|chunk| &chunk.places);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend(VERSION.to_le_bytes());
        header.extend((metric as u32).to_le_bytes());
        header.extend((coder.rotation.dimensions() as u64).to_le_bytes());
        header.extend(coder.config.seed.to_le_bytes());
        header.extend((coder.config.candidates as u64).to_le_bytes());
        header.extend(coder.config.epsilon.to_le_bytes());
        header.extend(u32::from(coder.config.refine).to_le_bytes());
        let anchor: Vec<u8> = coder.anchor.vector().iter().flat_map(|x| x.to_le_bytes()).collect();
        let places: Vec<u8> = places
            .flat_map(|place| [place.first.to_le_bytes(), place.mask.to_le_bytes()].concat())
            .collect();
        let joined = |piece: fn(&Chunk) -> &[u8]| match &self.chunks[..] {
            [chunk] => Cow::Borrowed(piece(chunk)),
            chunks => {
                let pieces: Vec<&[u8]> = chunks.iter().map(|chunk| piece(chunk)).collect();
                Cow::Owned(pieces.concat())
            }
        };
        vec![
            (HEADER, Cow::Owned(header)),
            (ANCHOR, Cow::Owned(anchor)),
            (PLACES, Cow::Owned(places)),
            (CODES, joined(|chunk| (*chunk.codes).as_ref())),
            (FINE, joined(|chunk| (*chunk.fine).as_ref())),
        ]
    }

    /// The index of saved sections; the codes stay where they are. Rows lie below `rows_end`.
    ///
    /// # Errors
    ///
    /// [`IndexError::Section`] when a section is missing or is not what `export` gives.
    pub fn import(sections: &[(&str, SharedBytes)], rows_end: u32) -> Result<Self, IndexError> {
        let find = |name: &'static str| {
            let found = sections.iter().find(|(other, _)| *other == name);
            found.map(|(_, bytes)| Arc::clone(bytes)).ok_or(bad(name, "is missing"))
        };
        let (metric, dimensions, config) = read_header((*find(HEADER)?).as_ref())?;
        let rotation = Rotation::new(dimensions, config.seed);
        let anchor = read_anchor((*find(ANCHOR)?).as_ref(), rotation.padded())?;
        let (places, rows) = read_places((*find(PLACES)?).as_ref(), rows_end)?;
        let coder = Arc::new(Coder { metric, config, rotation, anchor });
        if places.len() > (u32::MAX as usize) / BLOCK_ROWS {
            return Err(bad(PLACES, "has too many blocks"));
        }
        let size = bit_block_bytes(coder.rotation.padded());
        let codes = pieces(CODES, find(CODES)?, places.len(), size)?;
        let fine = BLOCK_ROWS * coder.fine_bytes();
        let fine = pieces(FINE, find(FINE)?, places.len(), fine)?;
        let chunk = |((places, codes), fine): ((&[Place], _), _)| {
            Arc::new(Chunk { places: places.to_vec(), codes, fine })
        };
        let chunks = places.chunks(CHUNK_BLOCKS).zip(codes).zip(fine).map(chunk).collect();
        Ok(Self::assemble(coder, rows, chunks))
    }
}

/// The pieces of a section for each chunk, of `size` bytes a block.
fn pieces(
    name: &'static str,
    whole: SharedBytes,
    blocks: usize,
    size: usize,
) -> Result<Vec<SharedBytes>, IndexError> {
    if blocks.checked_mul(size) != Some((*whole).as_ref().len()) {
        return Err(bad(name, "has not the size that its rows need"));
    }
    let piece = |first: usize| -> SharedBytes {
        let len = CHUNK_BLOCKS.min(blocks - first) * size;
        Arc::new(Slice { whole: Arc::clone(&whole), start: first * size, len })
    };
    Ok((0..blocks).step_by(CHUNK_BLOCKS).map(piece).collect())
}

/// A piece of a section.
struct Slice {
    whole: SharedBytes,
    start: usize,
    len: usize,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // Bytes that shrank since would be a programmer error of who gave them; none are made up.
        (*self.whole).as_ref().get(self.start..self.start + self.len).unwrap_or_default()
    }
}

fn bad(name: &'static str, problem: &'static str) -> IndexError {
    IndexError::Section { name, problem }
}

fn read_header(bytes: &[u8]) -> Result<(Metric, usize, PackedConfig), IndexError> {
    let bytes: &[u8; HEADER_BYTES] =
        bytes.try_into().map_err(|_| bad(HEADER, "has another size"))?;
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    if word(0) != VERSION || word(36) > 1 {
        return Err(bad(HEADER, "is of another version"));
    }
    let metric = *METRICS.get(word(4) as usize).ok_or(bad(HEADER, "names no metric"))?;
    let dimensions = usize::try_from(long(8)).unwrap_or(usize::MAX);
    if dimensions > DIMENSIONS_MAX {
        return Err(bad(HEADER, "has too many dimensions"));
    }
    let candidates = usize::try_from(long(24)).unwrap_or(usize::MAX);
    let epsilon = f32::from_bits(word(32));
    if !(epsilon.is_finite() && epsilon >= 0.0) {
        return Err(bad(HEADER, "has a bound that is no number"));
    }
    Ok((
        metric,
        dimensions,
        PackedConfig { seed: long(16), epsilon, candidates, refine: word(36) == 1 },
    ))
}

fn read_anchor(bytes: &[u8], padded: usize) -> Result<Anchor, IndexError> {
    let (values, rest) = bytes.as_chunks::<4>();
    if values.len() != padded || !rest.is_empty() {
        return Err(bad(ANCHOR, "has another size"));
    }
    let values: Vec<f32> = values.iter().map(|&value| f32::from_le_bytes(value)).collect();
    let anchor = Anchor::common(values);
    let sound = anchor.squared_norm().is_finite();
    if sound { Ok(anchor) } else { Err(bad(ANCHOR, "is not finite")) }
}

fn read_places(bytes: &[u8], rows_end: u32) -> Result<(Vec<Place>, RowSet), IndexError> {
    let (pairs, rest) = bytes.as_chunks::<PLACE_BYTES>();
    if !rest.is_empty() {
        return Err(bad(PLACES, "has another size"));
    }
    let mut rows = RowSet::with_rows(rows_end);
    let mut places = Vec::with_capacity(pairs.len());
    for &[a, b, c, d, e, f, g, h] in pairs {
        let first = u32::from_le_bytes([a, b, c, d]);
        let mask = u32::from_le_bytes([e, f, g, h]);
        if mask == 0 || !(first as usize).is_multiple_of(BLOCK_ROWS) {
            return Err(bad(PLACES, "has a block without rows or off its place"));
        }
        if first.checked_add(mask.ilog2()).is_none_or(|last| last >= rows_end) {
            return Err(bad(PLACES, "has a row past the end"));
        }
        for slot in (0..BLOCK_ROWS as u32).filter(|slot| mask >> slot & 1 == 1) {
            if !rows.insert(RowId(first + slot)) {
                return Err(bad(PLACES, "has a row twice"));
            }
        }
        places.push(Place { first, mask });
    }
    Ok((places, rows))
}
