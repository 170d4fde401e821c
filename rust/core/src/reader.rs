//! Rows of features, read from shards by a few threads straight into the caller's buffers.

use std::io;
use std::path::PathBuf;

use crate::checksum::crc32c;
use crate::error::{BatchError, Error, Result, RowError};
use crate::files::{Files, read_at};
use crate::parallel::take_items;
use crate::widen::widen;

/// Reading waits for memory or a disk: more threads than this gain nothing, even where there are more CPUs.
const MAX_THREADS: usize = 4;
/// What a thread must have to read to be worth starting.
const BYTES_PER_THREAD: usize = 1 << 18;
/// Bytes that are still in the cache of the CPU when they are checked or converted.
const CHUNK: usize = 1 << 17;
/// The system copies to addresses that are no multiple of this at half the speed (`rep movsb` on Zen 3 and 4).
const ALIGNMENT: usize = 64;

/// Where a feature lies in the shards: rows of `row_bytes`, one after the other from `offsets[shard]`.
#[derive(Clone, Debug)]
pub struct Feature {
    /// Bytes of one row.
    pub row_bytes: usize,
    /// Of the first row, in bytes from the beginning of each shard.
    pub offsets: Vec<u64>,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Number of its shard.
    pub shard: usize,
    /// Its place in the shard.
    pub row: u64,
    /// CRC-32C of all its features, one after the other; None if it needs no check.
    pub crc: Option<u32>,
}

/// Where the rows of a feature go. Many systems copy twice as fast to where each row begins at a multiple of 64 bytes.
#[derive(Debug)]
pub enum Output<'a> {
    /// As they are stored.
    Stored(&'a mut [u8]),
    /// Stored as half-precision floats, wanted as single-precision ones.
    Widened(&'a mut [f32]),
}

impl<'a> Output<'a> {
    /// Row by row.
    fn split(self, rows: usize, row_bytes: usize) -> Result<Vec<Place<'a>>> {
        match self {
            Self::Stored(bytes) => {
                fits(bytes.len(), rows, row_bytes)?;
                Ok(bytes.chunks_mut(row_bytes.max(1)).map(Place::Stored).collect())
            }
            Self::Widened(values) => {
                fits(values.len(), rows, row_bytes / 2)?;
                Ok(values.chunks_mut((row_bytes / 2).max(1)).map(Place::Widened).collect())
            }
        }
    }
}

/// Where one row of a feature goes.
enum Place<'a> {
    Stored(&'a mut [u8]),
    Widened(&'a mut [f32]),
    /// Read to be checked, and not kept.
    Nowhere,
}

/// The shards of a cache, read row by row. May be shared by threads; not across a fork.
#[derive(Debug)]
pub struct Reader {
    files: Files,
    features: Vec<Feature>,
}

impl Reader {
    /// A reader of the shards at `paths`, that keeps at most `max_open` files open.
    ///
    /// # Errors
    /// A feature that does not have an offset for each shard.
    pub fn new(paths: Vec<PathBuf>, features: Vec<Feature>, max_open: usize) -> Result<Self> {
        for feature in &features {
            require("offsets", feature.offsets.len(), paths.len())?;
        }
        Ok(Self { files: Files::new(paths, max_open), features })
    }

    /// Read `rows` into `out`, one output a feature, row after row. Rows with a CRC are checked.
    ///
    /// # Errors
    /// The first row, in the order of the shards, that cannot be read or is damaged; outputs of another size; an
    /// interrupt. The outputs then hold anything.
    pub fn read_into(&self, rows: &[Row], out: Vec<Output<'_>>) -> Result<()> {
        require("out", out.len(), self.features.len())?;
        let mut places: Vec<Vec<Place<'_>>> = rows.iter().map(|_| Vec::with_capacity(out.len())).collect();
        for (feature, output) in self.features.iter().zip(out) {
            for (places, part) in places.iter_mut().zip(output.split(rows.len(), feature.row_bytes)?) {
                places.push(part);
            }
        }
        self.in_order(rows, places, |row, places, scratch| self.read_row(row, places, scratch))
    }

    /// Which of `rows` cannot be read in full, or are damaged.
    ///
    /// # Errors
    /// An interrupt.
    pub fn damaged(&self, rows: &[Row]) -> Result<Vec<bool>> {
        let mut damaged = vec![false; rows.len()];
        self.in_order(rows, damaged.iter_mut().collect(), |row, damaged, scratch| {
            let places = self.features.iter().map(|_| Place::Nowhere).collect();
            *damaged = self.read_row(row, places, scratch).is_err();
            Ok(())
        })?;
        Ok(damaged)
    }

    /// Close all files; they open again when they are read.
    pub fn close(&self) {
        self.files.close();
    }

    /// Read rows in the order in which they lie on the disk.
    fn in_order<T: Send>(
        &self,
        rows: &[Row],
        targets: Vec<T>,
        read: impl Fn(&Row, T, &mut Vec<u8>) -> std::result::Result<(), RowError> + Sync,
    ) -> Result<()> {
        let mut work: Vec<(usize, T)> = targets.into_iter().enumerate().collect();
        work.sort_by_key(|(item, _)| (rows[*item].shard, rows[*item].row));
        let bytes = rows.len() * self.features.iter().map(|feature| feature.row_bytes).sum::<usize>();
        let threads = (bytes / BYTES_PER_THREAD).clamp(1, MAX_THREADS);
        take_items(work, threads, |_, scratch, (item, target)| {
            read(&rows[item], target, scratch).map_err(|reason| Error::Row { item, reason })
        })
    }

    fn read_row(&self, row: &Row, places: Vec<Place<'_>>, scratch: &mut Vec<u8>) -> std::result::Result<(), RowError> {
        if row.shard >= self.files.len() {
            return Err(RowError::Shard { shard: row.shard });
        }
        let file = self.files.get(row.shard).map_err(|error| system(&error))?;
        scratch.resize(CHUNK + ALIGNMENT, 0);
        let skip = scratch.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let scratch = &mut scratch[skip..skip + CHUNK];
        let mut crc = 0;
        for (feature, place) in self.features.iter().zip(places) {
            let mut at = feature.offsets[row.shard] + row.row * feature.row_bytes as u64;
            let mut read = |bytes: &mut [u8]| {
                read_at(&file, bytes, at).map_err(|error| system(&error))?;
                at += bytes.len() as u64;
                if row.crc.is_some() {
                    crc = crc32c(bytes, crc);
                }
                Ok(())
            };
            match place {
                Place::Stored(bytes) => {
                    let chunk = if row.crc.is_some() { CHUNK } else { bytes.len().max(1) };
                    bytes.chunks_mut(chunk).try_for_each(&mut read)?;
                }
                Place::Widened(values) => {
                    for part in values.chunks_mut(CHUNK / 2) {
                        let halves = &mut scratch[..2 * part.len()];
                        read(halves)?;
                        widen(halves, part);
                    }
                }
                Place::Nowhere => {
                    for begin in (0..feature.row_bytes).step_by(CHUNK) {
                        read(&mut scratch[..CHUNK.min(feature.row_bytes - begin)])?;
                    }
                }
            }
        }
        if row.crc.is_some_and(|expected| expected != crc) { Err(RowError::Damaged) } else { Ok(()) }
    }
}

fn system(error: &io::Error) -> RowError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => RowError::Short,
        _ => RowError::System(error.to_string()),
    }
}

fn require(name: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(BatchError::Length { name, found, expected: expected.to_string() }.into())
    }
}

fn fits(found: usize, rows: usize, row_values: usize) -> Result<()> {
    let expected = rows * row_values;
    if found == expected { Ok(()) } else { Err(BatchError::Output { found, expected }.into()) }
}
