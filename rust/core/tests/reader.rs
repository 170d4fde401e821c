//! Rows come back as they were written, or with the reason why not.

#![allow(clippy::unwrap_used, reason = "a test may stop at what is not as it should be")]

use std::fs;
use std::path::PathBuf;

use samfast_core::{Error, Feature, Output, Reader, Rng, Row, RowError, crc32c};

const HEAD: u64 = 100;
const ROWS: usize = 5;
/// Of two features: one beyond a chunk, one small.
const ROW_BYTES: [usize; 2] = [300_000, 34];

/// Shards on disk, gone when this is dropped.
struct Shards {
    folder: PathBuf,
    content: Vec<Vec<u8>>,
}

impl Shards {
    fn new(name: &str, count: usize) -> Self {
        let folder = std::env::temp_dir().join(format!("samfast-reader-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut rng = Rng::new(count as u64, *b"testing ");
        let size = HEAD as usize + ROWS * ROW_BYTES.iter().sum::<usize>();
        // The high byte of a half stays below that of infinity and NaN, which are not equal to themselves.
        let content: Vec<Vec<u8>> = (0..count)
            .map(|_| (0..size).map(|i| if i % 2 == 1 { rng.below(0x7c) as u8 } else { rng.bits() as u8 }).collect())
            .collect();
        let shards = Self { folder, content };
        for (path, content) in shards.paths().iter().zip(&shards.content) {
            fs::write(path, content).unwrap();
        }
        shards
    }

    fn paths(&self) -> Vec<PathBuf> {
        (0..self.content.len()).map(|i| self.folder.join(i.to_string())).collect()
    }

    fn reader(&self) -> Reader {
        let offsets = [HEAD, HEAD + (ROWS * ROW_BYTES[0]) as u64];
        let features =
            [0, 1].map(|i| Feature { row_bytes: ROW_BYTES[i], offsets: vec![offsets[i]; self.content.len()] });
        Reader::new(self.paths(), features.into(), 2).unwrap()
    }

    fn bytes(&self, shard: usize, row: usize, feature: usize) -> &[u8] {
        let begin = HEAD as usize + if feature == 0 { 0 } else { ROWS * ROW_BYTES[0] } + row * ROW_BYTES[feature];
        &self.content[shard][begin..begin + ROW_BYTES[feature]]
    }

    fn row(&self, shard: usize, row: usize) -> Row {
        let crc = crc32c(self.bytes(shard, row, 1), crc32c(self.bytes(shard, row, 0), 0));
        Row { shard, row: row as u64, crc: Some(crc) }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const ORDER: [(usize, usize); 9] = [(2, 4), (0, 0), (1, 3), (2, 4), (3, 1), (0, 1), (3, 0), (1, 1), (2, 0)];

#[test]
fn any_order_with_and_without_check_as_stored_and_widened() {
    let shards = Shards::new("order", 4);
    let reader = shards.reader();
    for checked in [true, false] {
        let rows: Vec<Row> = ORDER.iter().map(|&(s, r)| shards.row(s, r)).collect();
        let rows: Vec<Row> = rows.into_iter().map(|row| Row { crc: row.crc.filter(|_| checked), ..row }).collect();
        let mut stored = vec![0; ORDER.len() * ROW_BYTES[0]];
        let mut small = vec![0.0; ORDER.len() * ROW_BYTES[1] / 2];
        reader.read_into(&rows, vec![Output::Stored(&mut stored), Output::Widened(&mut small)]).unwrap();
        let mut wide = vec![0.0; ORDER.len() * ROW_BYTES[0] / 2];
        let mut raw = vec![0; ORDER.len() * ROW_BYTES[1]];
        reader.read_into(&rows, vec![Output::Widened(&mut wide), Output::Stored(&mut raw)]).unwrap();
        for (i, &(shard, row)) in ORDER.iter().enumerate() {
            for (feature, bytes, values) in [(0, &stored, &wide), (1, &raw, &small)] {
                let size = ROW_BYTES[feature];
                let expected = shards.bytes(shard, row, feature);
                assert_eq!(&bytes[i * size..(i + 1) * size], expected);
                let values = &values[i * size / 2..(i + 1) * size / 2];
                assert!(values.iter().zip(expected.as_chunks().0).all(|(&v, &h)| v == half(u16::from_le_bytes(h))));
            }
        }
    }
}

/// Positive and finite, from the definition.
fn half(bits: u16) -> f32 {
    let fraction = f32::from(bits & 0x3ff) / 1024.0;
    if bits < 0x400 { fraction * 2f32.powi(-14) } else { (1.0 + fraction) * 2f32.powi(i32::from(bits >> 10) - 15) }
}

#[test]
fn what_is_damaged_cut_short_or_gone_is_told_apart() {
    let shards = Shards::new("damage", 4);
    let reader = shards.reader();
    let rows: Vec<Row> = ORDER.iter().map(|&(s, r)| shards.row(s, r)).collect();
    let read = |rows: &[Row]| {
        let mut large = vec![0; rows.len() * ROW_BYTES[0]];
        let mut small = vec![0; rows.len() * ROW_BYTES[1]];
        reader.read_into(rows, vec![Output::Stored(&mut large), Output::Stored(&mut small)])
    };
    assert_eq!(reader.damaged(&rows).unwrap(), [false; 9]);

    let path = &shards.paths()[1];
    let mut content = shards.content[1].clone();
    let last_of_row_1 = HEAD as usize + ROWS * ROW_BYTES[0] + 2 * ROW_BYTES[1] - 1;
    content[last_of_row_1] ^= 0x80;
    fs::write(path, &content).unwrap();
    assert_eq!(read(&rows).unwrap_err(), Error::Row { item: 7, reason: RowError::Damaged });
    assert_eq!(read(&[Row { crc: None, ..rows[7] }]), Ok(()));
    assert_eq!(reader.damaged(&rows).unwrap(), [false, false, false, false, false, false, false, true, false]);

    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(last_of_row_1 as u64).unwrap();
    assert_eq!(read(&rows).unwrap_err(), Error::Row { item: 7, reason: RowError::Short });
    assert_eq!(reader.damaged(&rows).unwrap(), [false, false, true, false, false, false, false, true, false]);

    fs::remove_file(path).unwrap();
    reader.close();
    assert!(matches!(read(&rows).unwrap_err(), Error::Row { item: 7, reason: RowError::System(_) }));
    let stranger = Row { shard: 4, ..rows[0] };
    assert_eq!(read(&[stranger]).unwrap_err(), Error::Row { item: 0, reason: RowError::Shard { shard: 4 } });
}

#[test]
fn outputs_of_another_size_are_refused() {
    let shards = Shards::new("sizes", 1);
    let reader = shards.reader();
    let rows = [shards.row(0, 0)];
    let (mut large, mut small) = (vec![0; ROW_BYTES[0]], vec![0; ROW_BYTES[1] - 2]);
    assert!(reader.read_into(&rows, vec![Output::Stored(&mut large)]).is_err());
    assert!(reader.read_into(&rows, vec![Output::Stored(&mut large), Output::Stored(&mut small)]).is_err());
    let mut wide = vec![0.0; ROW_BYTES[1]];
    assert!(reader.read_into(&rows, vec![Output::Stored(&mut large), Output::Widened(&mut wide)]).is_err());
    assert!(Reader::new(shards.paths(), vec![Feature { row_bytes: 2, offsets: vec![] }], 1).is_err());
    assert_eq!(reader.damaged(&[]), Ok(vec![]));
}
