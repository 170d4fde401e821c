//! One error for all kernels; each variant names the item it was found in and carries the reason.

use thiserror::Error;

use crate::rle::Size;

/// Why a kernel refused its input.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A mask size no mask can have.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// A batch whose arrays do not describe `N` items.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A mask whose run lengths are not those of a mask of its size.
    #[error("mask {mask}: {reason}")]
    Rle {
        /// Index of the mask in its batch.
        mask: usize,
        /// What is wrong with it.
        reason: RleError,
    },
    /// A mask whose compressed string cannot be read.
    #[error("mask {mask}: {reason}")]
    String {
        /// Index of the mask in its batch.
        mask: usize,
        /// What is wrong with it.
        reason: StringError,
    },
    /// A packed mask with foreground beyond its width.
    #[error("mask {mask}, row {row}: bits are set beyond the width")]
    Padding {
        /// Index of the mask in its batch.
        mask: usize,
        /// The first row that has some.
        row: usize,
    },
    /// A window that reaches beyond the masks it is cut out of.
    #[error("a window of {size} pixels from row {top} and column {left} does not lie within {of} (height x width)")]
    Window {
        /// Its first row.
        top: i64,
        /// Its first column.
        left: i64,
        /// Its size.
        size: Size,
        /// The size of the masks.
        of: Size,
    },
    /// Masks that do not fit into memory.
    #[error("not enough memory for {count} mask(s) of {size} pixels (height x width)")]
    Memory {
        /// How many masks.
        count: usize,
        /// The size of each.
        size: Size,
    },
    /// A result that does not fit into memory.
    #[error("not enough memory for {count} {of}")]
    Room {
        /// How many.
        count: usize,
        /// Of what.
        of: &'static str,
    },
    /// Logits that are neither above nor below a threshold.
    #[error("mask {mask}: a logit is NaN")]
    NotANumber {
        /// Index of the mask in its batch.
        mask: usize,
    },
    /// A call that was interrupted before it was done.
    #[error("interrupted")]
    Interrupted,
    /// An object whose polygons cannot be rasterised.
    #[error("object {object}, polygon {polygon}: {reason}")]
    Polygon {
        /// Index of the object in its batch.
        object: usize,
        /// Index of the polygon within the object.
        polygon: usize,
        /// What is wrong with it.
        reason: PolygonError,
    },
    /// An object without any polygon.
    #[error("object {object} has no polygons")]
    NoPolygons {
        /// Index of the object in its batch.
        object: usize,
    },
    /// A mask to draw points from that holds no pixel.
    #[error("mask {mask} is empty: there is no point inside to draw")]
    EmptyMask {
        /// Index of the mask in its batch.
        mask: usize,
    },
    /// A logit that is not a number, or infinite.
    #[error("map {map} holds the logit {value}")]
    Logit {
        /// Index of the map in its batch.
        map: usize,
        /// The logit.
        value: f32,
    },
    /// A box that cannot be moved.
    #[error("box {index}: {reason}")]
    Box {
        /// Index of the box in its batch.
        index: usize,
        /// What is wrong with it.
        reason: BoxError,
    },
    /// A row of a shard that cannot be had.
    #[error("item {item}: {reason}")]
    Row {
        /// Index of the row among those asked for.
        item: usize,
        /// Why.
        reason: RowError,
    },
    /// An option outside its range.
    #[error("{name} is {value}, expected {expected}")]
    Option {
        /// Name of the option.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
}

/// Why a height and a width are not the size of a mask.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SizeError {
    /// A side that is zero or negative.
    #[error("a mask of {height} x {width} pixels (height x width) has no pixels")]
    Empty {
        /// In pixels.
        height: i64,
        /// In pixels.
        width: i64,
    },
    /// More pixels than a 32-bit run can count.
    #[error("a mask of {height} x {width} pixels (height x width) has more than 2^32 - 1 pixels")]
    TooLarge {
        /// In pixels.
        height: i64,
        /// In pixels.
        width: i64,
    },
    /// A side longer than the numbers of a result are exact along.
    #[error("a mask of {height} x {width} pixels (height x width) has a side of more than 2^{power} pixels")]
    TooLong {
        /// In pixels.
        height: usize,
        /// In pixels.
        width: usize,
        /// The longest side is 2 to this power.
        power: u32,
    },
    /// Two inputs of one call with masks of different sizes.
    #[error("{name} has masks of {found} pixels, expected {expected} (height x width)")]
    Mismatch {
        /// Name of the input.
        name: &'static str,
        /// The size of its masks.
        found: Size,
        /// The size needed.
        expected: Size,
    },
}

/// Why arrays do not describe a batch.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum BatchError {
    /// Offsets that do not start at 0, decrease, or do not end at the length of what they index.
    #[error("{name} must rise from 0 to {length}, the length of {of}")]
    Offsets {
        /// Name of the offsets.
        name: &'static str,
        /// Name of what they index.
        of: &'static str,
        /// Length of what they index.
        length: usize,
    },
    /// Two inputs of one call with different numbers of items.
    #[error("{name} has {found} items, expected {expected}")]
    Length {
        /// Name of the input.
        name: &'static str,
        /// How many items it has.
        found: usize,
        /// How many are needed.
        expected: String,
    },
    /// An output buffer of the wrong length.
    #[error("the output holds {found} values, expected {expected}")]
    Output {
        /// How many values it holds.
        found: usize,
        /// How many are needed.
        expected: usize,
    },
}

/// Why run lengths are not a mask.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum RleError {
    /// Runs that do not cover the mask exactly.
    #[error("runs add up to {sum} pixels, a mask of {height} x {width} has {expected}")]
    Sum {
        /// What the runs add up to.
        sum: u64,
        /// Height x width.
        expected: u64,
        /// In pixels.
        height: usize,
        /// In pixels.
        width: usize,
    },
}

/// Why a compressed string is not run lengths.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum StringError {
    /// A byte the format does not use.
    #[error("byte {byte:#04x} at {position} is outside the alphabet of compressed run lengths")]
    Byte {
        /// The byte.
        byte: u8,
        /// Where it was found.
        position: usize,
    },
    /// A string that ends in the middle of a number.
    #[error("the compressed run lengths end in the middle of a number")]
    Truncated,
    /// A number too long for a run, or a run below 0 or above 2^32 - 1.
    #[error("run {run} of the compressed run lengths does not fit 32 bits")]
    Range {
        /// Index of the run.
        run: usize,
    },
}

/// Why a polygon cannot be rasterised.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum PolygonError {
    /// An odd number of numbers.
    #[error("{numbers} numbers are not (x, y) pairs")]
    Odd {
        /// How many numbers it has.
        numbers: usize,
    },
    /// Four numbers: no polygon, but what a box looks like.
    #[error("4 numbers look like a box, a polygon needs at least 3 points (6 numbers)")]
    LooksLikeBox,
    /// Fewer than three points.
    #[error("{points} point(s), a polygon needs at least 3")]
    TooFewPoints {
        /// How many points it has.
        points: usize,
    },
    /// A coordinate that is not a number, infinite, or absurdly far away.
    #[error("coordinate {number} is {value:e}, outside +-{limit:e}")]
    Coordinate {
        /// Index of the coordinate within the polygon.
        number: usize,
        /// The coordinate.
        value: f64,
        /// The largest magnitude accepted.
        limit: f64,
    },
}

/// Why a box cannot be moved.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum BoxError {
    /// A coordinate that is not finite.
    #[error("a coordinate is not finite: {0:?}")]
    NotFinite([f64; 4]),
    /// Corners in the wrong order.
    #[error("[xmin, ymin, xmax, ymax] is out of order: {0:?}")]
    OutOfOrder([f64; 4]),
}

/// Why a row of a shard cannot be had.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum RowError {
    /// There is no such shard.
    #[error("there is no shard {shard}")]
    Shard {
        /// Its number.
        shard: usize,
    },
    /// The file cannot be opened or read.
    #[error("{0}")]
    System(String),
    /// The file ends before the row does.
    #[error("cut short")]
    Short,
    /// The bytes are not those that were written.
    #[error("damaged: its CRC is wrong")]
    Damaged,
}

/// What every fallible kernel returns.
pub(crate) type Result<T> = std::result::Result<T, Error>;
