//! What packages make of the distances between two outlines.

use crate::surface::Convention;

/// The pixels or corners of one outline: how far each is from the other outline, and what it weighs.
#[derive(Default)]
pub(crate) struct Outline {
    pub(crate) distances: Vec<f64>,
    /// Lengths of outline; empty where pixels are counted.
    pub(crate) lengths: Vec<f64>,
}

impl Outline {
    pub(crate) fn clear(&mut self) {
        self.distances.clear();
        self.lengths.clear();
    }
}

/// HD, HD95 and ASSD, and NSD at each tolerance.
pub(crate) struct Score {
    pub(crate) distances: [f64; 3],
    pub(crate) overlaps: Vec<f64>,
}

const QUANTILE: f64 = 0.95;

/// The scores of two outlines, which are put into another order.
pub(crate) fn scores(convention: Convention, outlines: &mut [Outline; 2], tolerances: &[f64]) -> Score {
    let [first, second] = outlines;
    match (first.distances.is_empty(), second.distances.is_empty()) {
        (true, true) => Score { distances: [f64::NAN; 3], overlaps: vec![f64::NAN; tolerances.len()] },
        (false, false) => match convention {
            Convention::MedPy => medpy(&mut first.distances, &second.distances, tolerances),
            Convention::Monai => monai(&mut first.distances, &mut second.distances, tolerances),
            Convention::DeepMind => deepmind(first, second, tolerances),
        },
        _ => Score { distances: [f64::INFINITY; 3], overlaps: vec![0.0; tolerances.len()] },
    }
}

fn medpy(first: &mut Vec<f64>, second: &[f64], tolerances: &[f64]) -> Score {
    let assd = f64::midpoint(mean(first), mean(second));
    let overlaps = tolerances.iter().map(|&tolerance| share_within(first, second, tolerance)).collect();
    first.extend_from_slice(second);
    let hd = largest(first);
    // numpy.percentile: 0.95 (n - 1) lies between two of the sorted values.
    let rank = QUANTILE * (first.len() - 1) as f64;
    let (below, above) = neighbours(first, rank.floor() as usize);
    let weight = rank - rank.floor();
    let step = above - below;
    let hd95 = if weight < 0.5 { below + step * weight } else { above - step * (1.0 - weight) };
    Score { distances: [hd, hd95, assd], overlaps }
}

fn monai(first: &mut [f64], second: &mut [f64], tolerances: &[f64]) -> Score {
    for distance in first.iter_mut().chain(&mut *second) {
        *distance = f64::from(*distance as f32);
    }
    let tolerances = tolerances.iter().map(|&tolerance| f64::from(tolerance as f32));
    let overlaps = tolerances.map(|tolerance| share_within(first, second, tolerance)).collect();
    let assd = (sum(first) + sum(second)) / (first.len() + second.len()) as f64;
    let hd = largest(first).max(largest(second));
    let hd95 = single_quantile(first).max(single_quantile(second));
    Score { distances: [hd, hd95, assd], overlaps }
}

/// `torch.quantile` of single-precision values: the rank and the step between two of them are in single precision, too.
fn single_quantile(values: &mut [f64]) -> f64 {
    let rank = QUANTILE as f32 * (values.len() - 1) as f32;
    let (below, above) = neighbours(values, rank.floor() as usize);
    let (below, above, weight) = (below as f32, above as f32, rank - rank.floor());
    let step = above - below;
    f64::from(if weight < 0.5 { below + weight * step } else { above - step * (1.0 - weight) })
}

fn deepmind(first: &mut Outline, second: &mut Outline, tolerances: &[f64]) -> Score {
    let mut scratch = Vec::new();
    let mut sorted = |outline: &mut Outline| {
        // By distance, then by length, as the package sorts them: its sums depend on the order.
        let key = |(distance, length): (&f64, &f64)| (distance.to_bits(), length.to_bits());
        let mut surfels: Vec<_> = outline.distances.iter().zip(&outline.lengths).map(key).collect();
        surfels.sort_unstable();
        outline.clear();
        for (distance, length) in surfels {
            outline.distances.push(f64::from_bits(distance));
            outline.lengths.push(f64::from_bits(length));
        }
        let total = sum(&outline.lengths);
        scratch.clear();
        scratch.extend(outline.distances.iter().zip(&outline.lengths).map(|(distance, length)| distance * length));
        let mean = sum(&scratch) / total;
        let mut reached = 0.0;
        scratch.clear();
        scratch.extend(outline.lengths.iter().map(|length| {
            reached += length;
            reached / total
        }));
        let quantile =
            |q: f64| outline.distances[scratch.partition_point(|&share| share < q).min(outline.distances.len() - 1)];
        [quantile(1.0), quantile(QUANTILE), mean, total]
    };
    let [hd, hd95, mean, total] = sorted(first);
    let [other_hd, other_hd95, other_mean, other_total] = sorted(second);
    let within = |outline: &Outline, tolerance: f64| {
        sum(&outline.lengths[..outline.distances.partition_point(|&distance| distance <= tolerance)])
    };
    let overlap = |&tolerance: &f64| (within(first, tolerance) + within(second, tolerance)) / (total + other_total);
    Score {
        distances: [hd.max(other_hd), hd95.max(other_hd95), f64::midpoint(mean, other_mean)],
        overlaps: tolerances.iter().map(overlap).collect(),
    }
}

fn share_within(first: &[f64], second: &[f64], tolerance: f64) -> f64 {
    let within = |values: &[f64]| values.iter().filter(|&&distance| distance <= tolerance).count();
    (within(first) + within(second)) as f64 / (first.len() + second.len()) as f64
}

fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// The value of this rank, from 0, and the next, which is the last one's own.
fn neighbours(values: &mut [f64], rank: usize) -> (f64, f64) {
    let rank = rank.min(values.len() - 1);
    let (_, &mut below, above) = values.select_nth_unstable_by(rank, f64::total_cmp);
    let above = above.iter().copied().fold(f64::INFINITY, f64::min);
    (below, if above.is_finite() { above } else { below })
}

fn mean(values: &[f64]) -> f64 {
    sum(values) / values.len() as f64
}

/// `numpy.sum`, which halves until 128 values are left, and adds these in eight lanes.
fn sum(values: &[f64]) -> f64 {
    if values.len() > 128 {
        let half = values.len() / 2 / 8 * 8;
        return sum(&values[..half]) + sum(&values[half..]);
    }
    let (eights, rest) = values.as_chunks::<8>();
    let Some((first, eights)) = eights.split_first() else { return rest.iter().sum() };
    let mut lanes = *first;
    for eight in eights {
        lanes.iter_mut().zip(eight).for_each(|(lane, value)| *lane += value);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, value| sum + value)
}
