//! Finding one of many ascending addresses in constant time: what lies at, before and after an address is asked several
//! times for each reference of each function, and binary search over a large table misses the cache at every step.
//!
//! Buckets of equal width, about as many as there are addresses, each knowing how many addresses lie below it; those in the
//! bucket, a few, are looked through. [`Ranges`] also knows for most buckets what lies in all of one.

/// Addresses, ascending, and the buckets over them.
#[derive(Debug, Default)]
pub struct Places {
    addresses: Vec<u64>,
    /// How many addresses lie below the start of each bucket; one more than there are buckets.
    below: Vec<u32>,
    /// Buckets are `1 << shift` wide, from the first address on.
    shift: u32,
}

impl Places {
    pub fn new(ascending: impl Iterator<Item = u64>) -> Places {
        Places::of(ascending.collect())
    }

    /// Of addresses that ascend.
    pub fn of(addresses: Vec<u64>) -> Places {
        let buckets = addresses.len();
        Places::with(addresses, buckets)
    }

    /// With about so many buckets.
    fn with(addresses: Vec<u64>, buckets: usize) -> Places {
        let (Some(first), Some(last)) = (addresses.first(), addresses.last()) else { return Places::default() };
        let width = (last - first) / buckets as u64;
        let shift = 64 - width.leading_zeros();
        let buckets = ((last - first) >> shift) as usize + 1;
        let mut below = Vec::with_capacity(buckets + 1);
        for (index, address) in addresses.iter().enumerate() {
            let bucket = ((address - first) >> shift) as usize;
            while below.len() <= bucket {
                below.push(index as u32);
            }
        }
        below.push(addresses.len() as u32);
        Places { addresses, below, shift }
    }

    pub fn all(&self) -> &[u64] {
        &self.addresses
    }

    /// How many addresses are lower than this one; so the index of the first that is not.
    pub fn below(&self, address: u64) -> usize {
        let Some(distance) = self.addresses.first().and_then(|first| address.checked_sub(*first)) else { return 0 };
        let bucket = (distance >> self.shift) as usize;
        let Some([start, end]) = self.below.get(bucket..).and_then(<[u32]>::first_chunk) else {
            return self.addresses.len();
        };
        let (start, end) = (*start as usize, *end as usize);
        let here = &self.addresses[start..end];
        // Most hold one or two.
        if here.len() > 4 {
            return start + here.partition_point(|known| *known < address);
        }
        let mut below = start;
        for known in here {
            if *known >= address {
                break;
            }
            below += 1;
        }
        below
    }

    /// How many addresses are this one or lower.
    pub fn up_to(&self, address: u64) -> usize {
        address.checked_add(1).map_or(self.addresses.len(), |next| self.below(next))
    }
}

/// Addresses in their order, each once.
pub fn ascending(mut addresses: Vec<u64>) -> Vec<u64> {
    /// Bytes for each address, where marking all of them takes less time than sorting.
    const CLOSE: u64 = 256;
    let (Some(first), Some(last)) = (addresses.iter().copied().min(), addresses.iter().copied().max()) else {
        return addresses;
    };
    let span = last - first;
    if span / CLOSE >= addresses.len() as u64 {
        addresses.sort_unstable();
        addresses.dedup();
        return addresses;
    }
    // A bit for each byte.
    let mut marks = vec![0_u64; (span / 64) as usize + 1];
    for address in &addresses {
        let place = address - first;
        marks[(place / 64) as usize] |= 1 << (place % 64);
    }
    addresses.clear();
    for (index, mut marks) in marks.into_iter().enumerate() {
        while marks != 0 {
            addresses.push(first + 64 * index as u64 + u64::from(marks.trailing_zeros()));
            marks &= marks - 1;
        }
    }
    addresses
}

/// Which of several ranges holds an address, where they may overlap: what the answer is between two bounds is found out once.
#[derive(Debug, Default)]
pub struct Ranges {
    bounds: Places,
    /// By bound, the range that holds what lies from there to the next.
    holders: Vec<u32>,
    /// The first bound, and for each bucket from there on the range that holds all of it, if that can be said.
    first: u64,
    buckets: Vec<u32>,
}

impl Ranges {
    /// Stands for no range.
    const NONE: u32 = u32::MAX;
    /// A bound lies inside of the bucket.
    const DIVIDED: u32 = u32::MAX - 1;
    /// A few ranges of very different lengths, each of which is asked for often.
    const BUCKETS: usize = 1024;

    /// `holder` tells the index of the range that holds an address, which only changes at `bounds`.
    pub fn new(bounds: impl Iterator<Item = u64>, holder: impl Fn(u64) -> Option<usize>) -> Ranges {
        let mut bounds: Vec<u64> = bounds.collect();
        bounds.sort_unstable();
        bounds.dedup();
        let holders: Vec<u32> =
            bounds.iter().map(|bound| holder(*bound).map_or(Ranges::NONE, |index| index as u32)).collect();
        let buckets = bounds.len().max(Ranges::BUCKETS);
        let first = bounds.first().copied().unwrap_or(0);
        let bounds = Places::with(bounds, buckets);
        // What lies below a bucket's end but not below its start.
        let of_bucket = |below: &[u32]| match below {
            [start, end] if start == end && *start > 0 => holders[*start as usize - 1],
            _ => Ranges::DIVIDED,
        };
        let buckets = bounds.below.windows(2).map(of_bucket).collect();
        Ranges { bounds, holders, first, buckets }
    }

    /// Index of the range that holds the address; of none there is in a list where it holds none.
    #[inline]
    pub fn holding(&self, address: u64) -> usize {
        let bucket = address.wrapping_sub(self.first) >> self.bounds.shift;
        match self.buckets.get(bucket as usize) {
            Some(holder) if *holder != Ranges::DIVIDED => *holder as usize,
            _ => self.looked_up(address),
        }
    }

    fn looked_up(&self, address: u64) -> usize {
        let after = self.bounds.up_to(address);
        self.holders[..after].last().map_or(Ranges::NONE as usize, |holder| *holder as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::{Places, Ranges, ascending};

    fn check(addresses: &[u64]) {
        let places = Places::new(addresses.iter().copied());
        let around = addresses.iter().flat_map(|at| [at.wrapping_sub(1), *at, at.wrapping_add(1)]);
        for address in around.chain([0, 1, 0x5555, u64::MAX]) {
            let below = addresses.iter().filter(|known| **known < address).count();
            let up_to = addresses.iter().filter(|known| **known <= address).count();
            assert_eq!(
                (places.below(address), places.up_to(address)),
                (below, up_to),
                "{address:#x} in {addresses:x?}"
            );
        }
    }

    #[test]
    fn places_are_found_as_by_counting() {
        check(&[]);
        check(&[7]);
        check(&[7, 7, 7]);
        check(&[0, 1, 2, 3, 4, 5, 6, 7]);
        check(&[0x1000, 0x1010, 0x1010, 0x1018, 0x2000, 0x7fff_0000]);
        check(&[0, u64::MAX]);
        // One far away: all others share a bucket.
        let mut crowded: Vec<u64> = (0..1000).map(|index| 0x40_0000 + index * index % 911).collect();
        crowded.sort_unstable();
        crowded.push(1 << 46);
        check(&crowded);
    }

    #[test]
    fn close_or_far_addresses_come_in_their_order() {
        let check = |addresses: &[u64]| {
            let mut expected = addresses.to_vec();
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(ascending(addresses.to_vec()), expected, "{addresses:x?}");
        };
        check(&[]);
        check(&[7]);
        check(&[7, 7]);
        check(&[0x1040, 0x1000, 0x103f, 0x1041, 0x1000, 0x107f, 0x1080]);
        check(&[u64::MAX]);
        check(&[u64::MAX, 0, u64::MAX - 64]);
        check(&[u64::MAX, u64::MAX - 1, u64::MAX - 64, u64::MAX - 127]);
        check(&(0..1000).map(|index: u64| 0x40_0000 + index * 7919 % 5003).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_of_overlapping_ranges_holds_what_several_do() {
        let ranges = [0x1000..0x2000_u64, 0x1800..0x1900, 0x1800..0x1800, 0x1fff..0x3000, 0x5000..0x7fff_ffff];
        let holder = |address: u64| ranges.iter().rposition(|range| range.contains(&address));
        let found = Ranges::new(ranges.iter().flat_map(|range| [range.start, range.end]), holder);
        for address in ranges.iter().flat_map(|range| [range.start, range.end]).flat_map(|at| [at - 1, at, at + 1]) {
            let expected = holder(address);
            assert_eq!(ranges.get(found.holding(address)), expected.map(|index| &ranges[index]), "{address:#x}");
        }
        assert_eq!(ranges.get(Ranges::default().holding(0)), None);
        assert_eq!(ranges.get(found.holding(u64::MAX)), None);
    }
}
